//! Reading in process.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use model::{
    Cardinality, CardinalityRequest, CountRequest, ExemplarsRequest, Kind, LabelsRequest, Listing, Metadata, Positions,
    SelectRequest, SeriesCounts, SeriesExemplars, SeriesSet, SeriesSource, SourceError,
};
use queue::{BoxFuture, Lag, Log};
use runtime::Shutdown;
use tokio::sync::watch;
use tsdb::{Db, NewestSamples};

use crate::apply::Applied;
use crate::{Changes, ChangesRequest, Error, Mark, Reader};

/// The engine of this process, and how far it has read the log.
pub(crate) struct LocalReader {
    pub(crate) db: Arc<Db>,
    /// Tells this engine from those that others have, and from what it was before a restart.
    pub(crate) engine: u64,
    pub(crate) log: Arc<dyn Log>,
    /// Of each partition that is read here.
    pub(crate) applied: Vec<(u32, Arc<Applied>)>,
    pub(crate) lag: Arc<Lag>,
}

impl LocalReader {
    /// Waits until these offsets are visible.
    pub(crate) async fn wait_until(
        &self,
        ends: &[i64],
        shutdown: &Shutdown,
        failure: &watch::Receiver<Option<String>>,
    ) -> Result<(), Error> {
        let (mut shutdown, mut failure) = (shutdown.clone(), failure.clone());
        tokio::select! {
            () = self.reach(ends) => Ok(()),
            () = shutdown.asked() => Err(Error::Start("asked to stop while reading the log".to_owned())),
            Ok(failed) = failure.wait_for(Option::is_some) => Err(Error::Start(failed.clone().unwrap_or_default())),
        }
    }

    async fn reach(&self, ends: &[i64]) {
        for ((_, applied), end) in self.applied.iter().zip(ends) {
            let mut applied = applied.subscribe();
            // The sender lives as long as this.
            let _ = applied.wait_for(|applied| applied >= end).await;
        }
    }

    /// Waits until everything that was acknowledged is visible, and the records at these offsets.
    async fn reach_within(&self, timeout: Duration, positions: &Positions) -> Result<(), SourceError> {
        if let Some((partition, _)) = positions.iter().find(|(partition, _)| *partition >= self.log.partitions()) {
            let message = format!("there is no partition {partition}: the log has {}", self.log.partitions());
            return Err(SourceError { kind: Kind::Invalid, message });
        }
        let mut ends = self.ends().await.map_err(|e| SourceError { kind: e.kind(), message: e.to_string() })?;
        for ((partition, _), end) in self.applied.iter().zip(&mut ends) {
            if let Some((_, offset)) = positions.iter().find(|(named, _)| named == partition) {
                *end = offset.saturating_add(1).max(*end);
            }
        }
        if tokio::time::timeout(timeout, self.reach(&ends)).await.is_ok() {
            return Ok(());
        }
        let at = |partition: u32| self.applied.iter().find(|(own, _)| *own == partition).map(|(_, at)| *at.borrow());
        let late = positions.iter().find_map(|(partition, offset)| {
            let next = at(partition).filter(|next| *next <= offset)?;
            Some(format!(
                "storage has read partition {partition} up to offset {next}, not {offset}, within {timeout:?}"
            ))
        });
        let message = late.unwrap_or_else(|| {
            let behind = self.backlog();
            format!("storage is {behind} records behind the log and did not catch up within {timeout:?}")
        });
        Err(SourceError { kind: Kind::Unavailable, message })
    }

    async fn ends(&self) -> Result<Vec<i64>, queue::Error> {
        // At once, since each may be a question over the network.
        try_join_all(self.applied.iter().map(async |(partition, _)| Ok(self.log.bounds(*partition).await?.end))).await
    }
}

impl Reader for LocalReader {
    fn caught_up(&self, timeout: Duration) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move { self.reach_within(timeout, &Positions::default()).await })
    }

    fn reached<'a>(&'a self, positions: &'a Positions, timeout: Duration) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(self.reach_within(timeout, positions))
    }

    fn backlog(&self) -> u64 {
        self.lag.records()
    }

    fn cardinality(&self, request: &CardinalityRequest) -> Result<Cardinality, SourceError> {
        self.db.cardinality(request)
    }

    fn exemplars(&self, request: &ExemplarsRequest) -> Result<Listing<SeriesExemplars>, SourceError> {
        self.db.exemplars(request)
    }

    fn newest(&self, request: &CountRequest) -> Result<Option<NewestSamples>, SourceError> {
        self.db.newest(request)
    }

    fn select_marked(&self, request: &SelectRequest) -> Result<(SeriesSet, Option<Mark>), SourceError> {
        // Of a version that never was all has changed, so this looks for nothing.
        let version = self.db.changed_since(u64::MAX, None, request.range).version;
        Ok((self.db.select(request)?, Some(Mark(vec![(self.engine, version)]))))
    }

    fn marks_reads(&self) -> bool {
        true
    }

    fn changes(&self, request: &ChangesRequest) -> Changes {
        let since = match request.since.as_ref().map(|Mark(all)| all.as_slice()) {
            // Nothing changed after what never was.
            None => Some(u64::MAX),
            Some([(engine, version)]) if *engine == self.engine => Some(*version),
            Some(_) => None,
        };
        let changed = self.db.changed_since(since.unwrap_or(0), request.names.as_deref(), request.range);
        let ranges = match since {
            Some(u64::MAX) => Vec::new(),
            Some(_) => changed.ranges,
            None => vec![request.range],
        };
        Changes { mark: Some(Mark(vec![(self.engine, changed.version)])), ranges }
    }
}

impl SeriesSource for LocalReader {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        self.db.select(request)
    }

    fn count(&self, request: &CountRequest) -> Result<Option<SeriesCounts>, SourceError> {
        self.db.count(request)
    }

    fn label_names(&self, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.db.label_names(request)
    }

    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.db.label_values(name, request)
    }

    fn metadata(&self, family: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        self.db.metadata(family)
    }
}
