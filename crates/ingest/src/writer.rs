//! Appends what a request holds to the log, under the bounds of what may be in flight.
//!
//! Partitions are appended to at the same time, and the write is done when all are durable. Where some fail and others do not, the
//! answer is the failure: the client sends all again, and the engine keeps each series and time once. The price is a second record
//! on the partitions that had it already; the alternative is a transaction over partitions, for a case that a full disk makes.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::join_all;
use model::{Labels, Metadata, Positions, Sample};
use queue::Log;
use runtime::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::admission::Budget;
use crate::metrics::Metrics;
use crate::staging::Staging;
use crate::{Args, Error};

/// Writes at the same time. Four for each connection that the listener takes; a write waits for one fsync at most twice.
pub(crate) const WRITES_MAX: u32 = 16 << 10;
/// Sets of buffers kept for later requests; more than parse at the same time on any machine of this class.
const STAGINGS_MAX: usize = 16;
/// A set of buffers that grew larger is given back to the allocator.
const STAGING_BYTES_MAX: usize = 8 << 20;

/// Samples and metadata to write from within the process.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The samples of each series, at any times, in any order. A series needs a metric name.
    pub series: Vec<(Labels, Vec<Sample>)>,
    /// What is known of metric families.
    pub metadata: Vec<Metadata>,
}

/// Writes series to the log.
pub struct Writer {
    pub(crate) args: Args,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) now_ms: fn() -> i64,
    log: Arc<dyn Log>,
    shutdown: Shutdown,
    writes: Arc<Semaphore>,
    stagings: Mutex<Vec<Staging>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("args", &self.args).finish_non_exhaustive()
    }
}

impl Writer {
    pub(crate) fn new(
        args: Args,
        log: Arc<dyn Log>,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
        now_ms: fn() -> i64,
    ) -> Self {
        let (gauge, refused) = (metrics.inflight_bytes.clone(), metrics.overloaded.clone());
        let budget = Budget::new(args.inflight_bytes_max(), args.memory.clone(), gauge, refused);
        Writer {
            args,
            metrics,
            budget: Arc::new(budget),
            now_ms,
            log,
            shutdown,
            writes: Arc::new(Semaphore::new(WRITES_MAX as usize)),
            stagings: Mutex::default(),
        }
    }

    /// Writes a batch, and resolves when it is durable. The limits of a sample's age do not hold here.
    ///
    /// Fails with [`Error::Invalid`] before anything is written when a series has no name or too long labels, with
    /// [`Error::Stopping`] once the shutdown was asked for, and with [`Error::Log`] when a partition did not take its record; then
    /// others may have, and writing the same batch again is harmless. When the future is dropped the batch may still be written.
    pub async fn write(&self, batch: &Batch) -> Result<(), Error> {
        let _admitted = self.admit()?;
        let records = {
            let mut staging = self.staging();
            let staged = stage(&mut staging, batch);
            let records = staging.finish();
            self.give_back(staging);
            staged.map(|()| records)
        }?;
        self.append(records).await?;
        self.metrics.internal.samples.inc_by(batch.series.iter().map(|(_, samples)| samples.len() as u64).sum());
        Ok(())
    }

    /// Lets a write begin; it ends when the answer is dropped.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, Error> {
        if self.shutdown.is_asked() {
            return Err(Error::Stopping);
        }
        self.writes.clone().try_acquire_owned().map_err(|_| {
            if self.shutdown.is_asked() {
                return Error::Stopping;
            }
            self.metrics.overloaded.inc();
            Error::Overloaded(format!("{WRITES_MAX} writes are in flight"))
        })
    }

    /// Resolves when no write is in flight. None begins afterwards.
    pub(crate) async fn idle(&self) {
        // An error would mean that the semaphore is closed, which nobody does.
        if let Ok(all) = self.writes.acquire_many(WRITES_MAX).await {
            all.forget();
        }
    }

    /// Buffers for one request.
    pub(crate) fn staging(&self) -> Staging {
        let kept = self.stagings.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| Staging::new(self.log.partitions()))
    }

    /// Takes buffers back; nothing may be staged in them.
    pub(crate) fn give_back(&self, staging: Staging) {
        let mut kept = self.stagings.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < STAGINGS_MAX && staging.bytes() <= STAGING_BYTES_MAX {
            kept.push(staging);
        }
    }

    /// Appends the records and resolves when all are durable, to where they are, or when each has been taken or refused and one was refused.
    pub(crate) async fn append(&self, mut records: Vec<(u32, Bytes)>) -> Result<Positions, Error> {
        let now_ms = (self.now_ms)();
        let mut positions = Positions::default();
        if records.len() <= 1 {
            if let Some((partition, payload)) = records.pop() {
                positions.add(partition, self.log.append(partition, payload, now_ms).await?);
            }
            return Ok(positions);
        }
        // Polled in this order, so that records of one partition stay in theirs.
        let appends = records
            .into_iter()
            .map(async |(partition, payload)| Ok((partition, self.log.append(partition, payload, now_ms).await?)));
        for appended in join_all(appends).await {
            let (partition, offset) = appended.map_err(|error: queue::Error| error)?;
            positions.add(partition, offset);
        }
        Ok(positions)
    }
}

fn stage(staging: &mut Staging, batch: &Batch) -> Result<(), Error> {
    for (labels, samples) in &batch.series {
        staging
            .push_labels(labels.as_ref(), samples, &[])
            .map_err(|refused| Error::Invalid(format!("series {labels}: {refused}")))?;
    }
    for metadata in &batch.metadata {
        staging.push_metadata(metadata.clone());
    }
    Ok(())
}
