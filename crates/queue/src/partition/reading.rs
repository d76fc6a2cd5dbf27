//! The reading side of a partition: records for those in the same process, whole batches for those behind the network.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Partition;
use crate::segment::Segment;
use crate::{Bounds, Error, Record};

impl Partition {
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        from: i64,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, Error> {
        self.check_offset(from)?;
        let mut end = self.end.subscribe();
        if tokio::time::timeout(wait, end.wait_for(|end| *end > from)).await.is_err() {
            return Ok(Vec::new());
        }
        if let Some(cached) = self.fetch_cached(from, bytes_max) {
            return Ok(cached);
        }
        let own = self.clone();
        tokio::task::spawn_blocking(move || own.segment_of(from)?.read(from, bytes_max))
            .await
            .unwrap_or_else(|_| Err(Error::Poisoned("reading was cancelled".to_owned())))
    }

    fn fetch_cached(&self, from: i64, bytes_max: usize) -> Option<Vec<Record>> {
        let state = self.state();
        let skip = usize::try_from(from - state.cache.front()?.offset).ok()?;
        let mut size = 0;
        let taken = state.cache.iter().skip(skip).take_while(|record| {
            let take = size < bytes_max;
            size += record.payload.len().max(1);
            take
        });
        Some(taken.cloned().collect())
    }

    /// Whole batches as they lie on disk, the first of them the one with `from`, of `bytes_max` bytes at most; where `progress` is
    /// asked for, the first one even if it is larger. Nothing at the end of the partition. Blocks.
    pub(crate) fn read_batches(&self, from: i64, bytes_max: usize, progress: bool) -> Result<Vec<u8>, Error> {
        if self.check_offset(from)?.end == from {
            return Ok(Vec::new());
        }
        self.segment_of(from)?.read_batches(from, bytes_max, progress)
    }

    /// The first record that is at least as new as `timestamp_ms`, as offset and time; `None` if there is none. Blocks.
    pub(crate) fn find_time(&self, timestamp_ms: i64) -> Result<Option<(i64, i64)>, Error> {
        // Behind a segment that has one, the search ends; those before it are known not to by their largest time.
        let segment = {
            let state = self.state();
            state.segments.iter().find(|s| s.bytes > 0 && s.max_timestamp >= timestamp_ms).cloned()
        };
        segment.map_or(Ok(None), |segment| segment.find_time(timestamp_ms))
    }

    /// The newest time of a record; `None` where there is no record.
    pub(crate) fn newest_time(&self) -> Option<i64> {
        self.state().segments.iter().filter(|s| s.bytes > 0).map(|s| s.max_timestamp).max()
    }

    /// Tells each change of the end.
    pub(crate) fn ends(&self) -> watch::Receiver<i64> {
        self.end.subscribe()
    }

    /// Fails where the offset is outside of the partition.
    pub(crate) fn check_offset(&self, from: i64) -> Result<Bounds, Error> {
        let bounds = self.bounds();
        if from < bounds.start || from > bounds.end {
            let Bounds { start, end } = bounds;
            return Err(Error::OutOfRange { partition: self.number, offset: from, start, end });
        }
        Ok(bounds)
    }

    fn segment_of(&self, from: i64) -> Result<Segment, Error> {
        let segment = {
            let state = self.state();
            let after = state.segments.partition_point(|s| s.base <= from);
            after.checked_sub(1).map(|at| state.segments[at].clone())
        };
        // Retention may have taken it since the bounds were looked at.
        let Bounds { start, end } = self.bounds();
        let gone = Error::OutOfRange { partition: self.number, offset: from, start, end };
        segment.filter(|s| from < s.next).ok_or(gone)
    }
}
