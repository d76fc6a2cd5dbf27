//! The newest samples, in memory.
//!
//! Series are spread over shards by the hash of their labels, each behind a lock of its own. A series keeps its last few samples as they
//! came and seals them into chunks; samples that are not later than those before go to a list beside, and win over those where the times are
//! equal, since they were written later. Reading copies the little that is not sealed and shares the rest, so that a lock is held for
//! an instant.

mod buffer;
mod shard;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{
    Columns, LabelsRef, LabelsRequest, Metadata, Sample, SelectRequest, Series, SeriesData, SeriesSet, SeriesSource,
    SourceError, TimeRange, Want,
};

use crate::Error;
use crate::postings::{self, add_names, add_values};
pub(crate) use buffer::{Snapshot, clip, merge_newer};
use shard::Shard;

/// Locks: a few for each core, so that writers of two partitions and a query seldom meet.
const SHARDS: usize = 16;

/// A set of series with their samples, in memory.
#[derive(Debug)]
pub struct Head {
    shards: Vec<Mutex<Shard>>,
    samples: AtomicU64,
    bytes: AtomicUsize,
    min_t: AtomicI64,
    max_t: AtomicI64,
}

/// What became of samples that were appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Appended {
    /// Whether the series was not there before.
    pub created: bool,
    /// How many samples were not later than those before them.
    pub out_of_order: usize,
}

impl Default for Head {
    fn default() -> Self {
        Head {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            samples: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            min_t: AtomicI64::new(i64::MAX),
            max_t: AtomicI64::new(i64::MIN),
        }
    }
}

impl Head {
    /// Appends samples of one series, in any order.
    pub fn append(&self, labels: LabelsRef<'_>, samples: &[Sample]) -> Appended {
        let hash = labels.hash64();
        let (appended, grown) = self.shard(hash).append(labels, hash, samples);
        self.samples.fetch_add(samples.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(grown, Ordering::Relaxed);
        let (min, max) = samples.iter().fold((i64::MAX, i64::MIN), |(a, b), s| (a.min(s.t), b.max(s.t)));
        if min < self.min_t.load(Ordering::Relaxed) {
            self.min_t.fetch_min(min, Ordering::Relaxed);
        }
        if max > self.max_t.load(Ordering::Relaxed) {
            self.max_t.fetch_max(max, Ordering::Relaxed);
        }
        appended
    }

    /// Number of samples appended.
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Memory taken, about.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Number of series.
    pub fn series(&self) -> usize {
        self.shards.iter().map(|s| lock(s).len()).sum()
    }

    /// The range of times in it; `None` where it is empty.
    pub fn range(&self) -> Option<TimeRange> {
        let range =
            TimeRange { start_ms: self.min_t.load(Ordering::Relaxed), end_ms: self.max_t.load(Ordering::Relaxed) };
        (range.start_ms <= range.end_ms).then_some(range)
    }

    /// Forgets samples before a time, as far as whole chunks allow, and series that have none left.
    pub fn truncate_before(&self, start_ms: i64) {
        let (mut bytes, mut samples) = (0, 0);
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.truncate_before(start_ms);
            bytes += shard.bytes();
            samples += shard.samples();
        }
        self.bytes.store(bytes, Ordering::Relaxed);
        self.samples.store(samples, Ordering::Relaxed);
        self.min_t.fetch_max(start_ms, Ordering::Relaxed);
    }

    /// The series that meet the request, each with a snapshot of its samples.
    pub(crate) fn snapshots(&self, request: &SelectRequest) -> Result<Vec<(model::Labels, Snapshot)>, Error> {
        let mut out = Vec::new();
        if self.range().is_none_or(|range| !range.overlaps(&request.range)) {
            return Ok(out);
        }
        for shard in &self.shards {
            if request.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let shard = lock(shard);
            for id in postings::select(&*shard, &request.matchers) {
                let series = shard.series(id);
                if !series.buffer.overlaps(request.range) {
                    continue;
                }
                let snapshot = match request.want {
                    Want::Samples => series.buffer.snapshot(request.range),
                    Want::LabelsOnly => Snapshot::default(),
                };
                out.push((series.labels.clone(), snapshot));
            }
            if out.len() > request.series_max {
                return Err(too_many(request.series_max));
            }
        }
        Ok(out)
    }

    /// Every series with all its samples, in the order of their labels.
    pub(crate) fn all_sorted(&self) -> Vec<(model::Labels, Snapshot)> {
        let mut all = Vec::with_capacity(self.series());
        for shard in &self.shards {
            let shard = lock(shard);
            all.extend(shard.iter().map(|s| (s.labels.clone(), s.buffer.snapshot(TimeRange::ALL))));
        }
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }

    pub(crate) fn add_label_names(&self, request: &LabelsRequest, into: &mut BTreeSet<String>) {
        self.each_shard(request.range, |shard| add_names(shard, &request.matcher_sets, into));
    }

    pub(crate) fn add_label_values(&self, name: &str, request: &LabelsRequest, into: &mut BTreeSet<String>) {
        self.each_shard(request.range, |shard| add_values(shard, name, &request.matcher_sets, into));
    }

    fn each_shard(&self, range: TimeRange, mut see: impl FnMut(&Shard)) {
        if self.range().is_some_and(|own| own.overlaps(&range)) {
            self.shards.iter().for_each(|shard| see(&lock(shard)));
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[hash as usize % SHARDS])
    }
}

pub(crate) fn too_many(max: usize) -> Error {
    Error::Limit(format!("the selector finds more than {max} series"))
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SeriesData for Snapshot {
    fn read(&self, range: TimeRange, out: &mut Columns) -> Result<(), SourceError> {
        Ok(self.read_into(range, out)?)
    }
}

impl SeriesSource for Head {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        let found = self.snapshots(request)?;
        let series = found.into_iter().map(|(labels, data)| Series { labels, data: Box::new(data) });
        Ok(SeriesSet { series: series.collect(), warnings: Vec::new() })
    }

    fn label_names(&self, request: &LabelsRequest) -> Result<Vec<String>, SourceError> {
        let mut names = BTreeSet::new();
        self.add_label_names(request, &mut names);
        Ok(names.into_iter().collect())
    }

    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Vec<String>, SourceError> {
        let mut values = BTreeSet::new();
        self.add_label_values(name, request, &mut values);
        Ok(values.into_iter().collect())
    }

    fn metadata(&self, _family: Option<&str>) -> Result<Vec<Metadata>, SourceError> {
        Ok(Vec::new())
    }
}
