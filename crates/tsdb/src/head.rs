//! The newest samples, in memory.
//!
//! Series are spread over shards by the hash of their labels, each behind a lock of its own. What is known of a series (labels,
//! postings) stays over flushes as long as it is written, so that a flush costs no new allocation for a series; its samples are in a
//! *generation*, of which a flush takes one away and begins the next; then series go that have ended. Reading copies the little that is
//! needed of the current generation and shares the frozen one, so that a lock is held for an instant.

mod buffer;
mod generation;
mod ids;
mod ordered;
mod shard;
mod side;
mod symbols;
mod tail;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use hashbrown::{HashMap, HashSet};
use model::{
    Columns, CountRequest, Labels, LabelsRef, LabelsRequest, Listing, Metadata, Samples, SelectRequest, Series,
    SeriesData, SeriesSet, SeriesSource, SourceError, TimeRange, Want,
};

use crate::Error;
use crate::changes;
use crate::postings::{self, LabelIndex as _, add_names, each_value};
use crate::tally::Counting;
pub(crate) use buffer::Snapshot;
pub(crate) use generation::{Frozen, Generation};
pub(crate) use ordered::Ordered;
use shard::Shard;

/// The shard of a series is in the highest bits of its hash, as its partition is: so two partitions that are consumed at once meet in no shard,
/// and each shard sees series in the order in which one sender sends them.
const SHARD_BITS: u32 = 4;
/// Locks: a few for each core.
const SHARDS: usize = 1 << SHARD_BITS;

/// A series is forgotten at a flush when its last sample is older than the newest of all by more than this: that is as far as queries look back, so to them it
/// has ended. One that comes again is made anew, which costs a microsecond.
const ENDED_MS: i64 = 300_000;

/// A set of series with their samples, in memory.
#[derive(Debug)]
pub struct Head {
    shards: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    shard: Mutex<Shard>,
    /// Memory of the current samples, and of what is known of series; written under the lock, read without it.
    bytes: AtomicUsize,
    registry_bytes: AtomicUsize,
}

impl Slot {
    fn tell(&self, shard: &Shard) {
        self.bytes.store(shard.current.bytes, Ordering::Relaxed);
        self.registry_bytes.store(shard.registry_bytes(), Ordering::Relaxed);
    }
}

/// Appends many series: the locks that it meets stay held until it is dropped, since taking one for each series would wait for memory
/// each time. Drop it after a record, and ask nothing else of the head meanwhile.
#[derive(Debug)]
pub struct Appender<'a> {
    head: &'a Head,
    held: [Option<MutexGuard<'a, Shard>>; SHARDS],
}

/// What became of samples that were appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Appended {
    /// Whether the series was not there before.
    pub created: bool,
    /// How many samples were not later than those before them.
    pub out_of_order: usize,
}

/// A series that meets a request, with what the generations hold of it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) labels: Labels,
    pub(crate) frozen: Option<(Arc<Generation>, u32)>,
    pub(crate) current: Option<Snapshot>,
}

impl Default for Head {
    fn default() -> Self {
        Head { shards: (0..SHARDS).map(|_| Slot::default()).collect() }
    }
}

impl Head {
    /// An empty head.
    pub fn new() -> Self {
        Head::default()
    }

    /// Appends samples of one series, in any order. Of samples at the same time the one appended last counts.
    pub fn append<'s>(&self, labels: LabelsRef<'_>, samples: impl Into<Samples<'s>>) -> Appended {
        let samples = samples.into();
        if samples.is_empty() {
            return Appended::default();
        }
        let hash = labels.hash64();
        let slot = &self.shards[shard_of(hash)];
        let mut shard = lock(&slot.shard);
        let (appended, _) = shard.append(labels, hash, samples);
        slot.tell(&shard);
        appended
    }

    /// For appending many series one after the other.
    pub fn appender(&self) -> Appender<'_> {
        Appender { head: self, held: Default::default() }
    }

    /// Number of samples appended since the last flush and not forgotten.
    pub fn samples(&self) -> u64 {
        self.shards().map(|shard| shard.current.samples).sum()
    }

    /// Memory that samples take since the last flush, about. What is known of the series is not in it: see
    /// [`Head::registry_bytes`].
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|slot| slot.bytes.load(Ordering::Relaxed)).sum()
    }

    /// Memory that labels and postings take, about; it stays over flushes.
    pub fn registry_bytes(&self) -> usize {
        self.shards.iter().map(|slot| slot.registry_bytes.load(Ordering::Relaxed)).sum()
    }

    /// Number of series that are known.
    pub fn series(&self) -> usize {
        self.shards().map(|shard| shard.len()).sum()
    }

    /// Forgets samples before a time, as far as whole chunks allow, and series that have none left.
    pub fn truncate_before(&self, start_ms: i64) {
        for slot in &self.shards {
            let mut shard = lock(&slot.shard);
            shard.truncate_before(start_ms);
            slot.tell(&shard);
        }
    }

    /// Takes the samples away and begins a new generation. The caller sees to it that no record is half appended.
    pub(crate) fn freeze(&self) -> Frozen {
        let freeze = |slot: &Slot| {
            slot.bytes.store(0, Ordering::Relaxed);
            lock(&slot.shard).freeze()
        };
        Frozen { shards: self.shards.iter().map(freeze).collect() }
    }

    /// Forgets, in one of the shards, series that have ended, or all that are not written now; see [`Shard::forget`]. Whether there is a shard after it.
    pub(crate) fn forget(&self, shard: usize, flushed: &Frozen, all: bool) -> bool {
        if let Some(range) = flushed.range() {
            let slot = &self.shards[shard];
            let mut own = lock(&slot.shard);
            own.forget(&flushed.shards[shard], range.end_ms.saturating_sub(ENDED_MS), all);
            slot.tell(&own);
        }
        shard + 1 < SHARDS
    }

    /// The series of a frozen generation, in the order of their labels.
    pub(crate) fn ordered(&self, frozen: &Frozen) -> Ordered {
        let parts = self.shards.iter().zip(&frozen.shards);
        Ordered::new(parts.map(|(slot, generation)| lock(&slot.shard).part(generation)))
    }

    /// Calls `add` with every series that meets the request, of the current generation and of the frozen one.
    pub(crate) fn find(
        &self,
        all_frozen: Option<&Frozen>,
        request: &SelectRequest,
        add: &mut dyn FnMut(Found) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut text = String::new();
        for (at, shard) in self.shards().enumerate() {
            if request.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let frozen = all_frozen.map(|frozen| &frozen.shards[at]).filter(|frozen| frozen.overlaps(request.range));
            if frozen.is_none() && !shard.current.overlaps(request.range) {
                continue;
            }
            let index = shard.index(frozen.map(|f| &**f));
            for id in postings::select(&index, &request.matchers)? {
                let frozen = frozen.filter(|g| g.get(id).is_some_and(|buffer| buffer.overlaps(request.range)));
                let current = shard.current.get(id).filter(|buffer| buffer.overlaps(request.range));
                if frozen.is_none() && current.is_none() {
                    continue;
                }
                let Some(labels) = shard.labels(id, &mut text) else { continue };
                let current = current.map(|buffer| match request.want {
                    Want::Samples | Want::Outline { .. } => buffer.snapshot(request.range),
                    Want::LabelsOnly => Snapshot::default(),
                });
                if !add(Found { labels, frozen: frozen.map(|g| (g.clone(), id)), current })? {
                    drop(index);
                    drop(shard);
                    return Err(self.too_many(all_frozen, request));
                }
            }
        }
        Ok(())
    }

    /// The error of a selector that finds too many. Their number is that of those which match: they are counted, and not looked at one by one.
    fn too_many(&self, frozen: Option<&Frozen>, request: &SelectRequest) -> Error {
        let mut all = 0;
        for (at, shard) in self.shards().enumerate() {
            let frozen = frozen.map(|frozen| &*frozen.shards[at]).filter(|frozen| frozen.overlaps(request.range));
            if frozen.is_none() && !shard.current.overlaps(request.range) {
                continue;
            }
            match postings::select(&shard.index(frozen), &request.matchers) {
                Ok(ids) => all += ids.len(),
                Err(error) => return error,
            }
        }
        too_many_meet(request.series_max, all)
    }

    /// Adds how many series have a newest sample in the range that is no stale marker; see [`SeriesSource::count`]. Whether there are any, or
    /// `None` where they have to be read.
    pub(crate) fn count(
        &self,
        frozen: Option<&Frozen>,
        request: &CountRequest,
        into: &mut HashMap<String, u64>,
    ) -> Result<Option<bool>, Error> {
        let (mut scratch, mut any) = (Columns::default(), false);
        for (at, shard) in self.shards().enumerate() {
            let frozen = frozen.map(|frozen| &*frozen.shards[at]).filter(|frozen| frozen.overlaps(request.range));
            if frozen.is_none() && !shard.current.overlaps(request.range) {
                continue;
            }
            let index = shard.index(frozen);
            let mut live = postings::select(&index, &request.matchers)?;
            any |= !live.is_empty();
            for id in live.clone() {
                let Ok(newest) = shard.newest(frozen, id, request.range, &mut scratch) else { return Ok(None) };
                let is_live = newest.is_some_and(|(_, is_live)| is_live);
                if !is_live {
                    live.remove(id);
                }
            }
            postings::add_counts(&index, request.by.as_deref(), &live, into)?;
        }
        Ok(Some(any))
    }

    /// The series that meet the request, each once, for whoever counts them when the locks are free again. Their labels are counted by the postings, unless each series
    /// has to be seen with them.
    pub(crate) fn tally(&self, frozen: Option<&Frozen>, counting: &mut Counting<'_>) -> Result<Vec<Labels>, Error> {
        let (mut found, mut text) = (Vec::new(), String::new());
        let (range, by_labels) = (counting.request.range, counting.has_classes());
        for (at, shard) in self.shards().enumerate() {
            let frozen = frozen.map(|frozen| &*frozen.shards[at]).filter(|frozen| frozen.overlaps(range));
            let current = Some(&shard.current).filter(|current| current.overlaps(range));
            if frozen.is_none() && current.is_none() {
                continue;
            }
            let index = shard.index(frozen);
            let mut ids = postings::select_any(&index, &counting.request.matcher_sets)?.unwrap_or_else(|| index.all());
            let generations = [frozen, current].into_iter().flatten();
            if generations.clone().any(|own| !range.contains(own.range.start_ms) || !range.contains(own.range.end_ms)) {
                let overlaps = |own: &Generation, id| own.get(id).is_some_and(|buffer| buffer.overlaps(range));
                ids = ids.iter().filter(|id| generations.clone().any(|own| overlaps(own, *id))).collect();
            }
            for id in &ids {
                let Some(labels) = shard.labels(id, &mut text) else { continue };
                counting.take(size_of::<Labels>() + labels.canonical().len())?;
                found.push(labels);
            }
            if !by_labels && !ids.is_empty() {
                index.names(&mut |name| {
                    let mut counted = Ok(());
                    index.counts(name, &ids, &mut |value, count| {
                        if counted.is_ok() {
                            counted = counting.pair(name, value, count);
                        }
                    })?;
                    counted
                })?;
            }
            if !ids.is_empty() {
                generations.for_each(|own| counting.counted.widen(own.range));
            }
        }
        Ok(found)
    }

    /// Calls `see` with each series that has a newest sample in the range, with its time and whether it is no stale marker. Whether that is all of them; else
    /// there are some that have to be read.
    pub(crate) fn newest(
        &self,
        frozen: Option<&Frozen>,
        request: &CountRequest,
        see: &mut dyn FnMut(LabelsRef<'_>, i64, bool) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let (mut scratch, mut text) = (Columns::default(), String::new());
        for (at, shard) in self.shards().enumerate() {
            let frozen = frozen.map(|frozen| &*frozen.shards[at]).filter(|frozen| frozen.overlaps(request.range));
            if frozen.is_none() && !shard.current.overlaps(request.range) {
                continue;
            }
            for id in postings::select(&shard.index(frozen), &request.matchers)? {
                let Ok(newest) = shard.newest(frozen, id, request.range, &mut scratch) else { return Ok(false) };
                if let (Some((t, is_live)), Some(labels)) = (newest, shard.labels_in(id, &mut text)) {
                    see(labels, t, is_live)?;
                }
            }
        }
        Ok(true)
    }

    pub(crate) fn add_label_names(
        &self,
        frozen: Option<&Frozen>,
        request: &LabelsRequest,
        into: &mut BTreeSet<String>,
    ) -> Result<(), Error> {
        self.each_index(frozen, request.range, |index| add_names(index, &request.matcher_sets, into))
    }

    /// The values of a label, each once and in no order: many shards have the same ones.
    pub(crate) fn label_values_of(
        &self,
        name: &str,
        frozen: Option<&Frozen>,
        request: &LabelsRequest,
    ) -> Result<HashSet<String>, Error> {
        let (mut values, mut enough) = (HashSet::new(), Ok(()));
        let mut see = |value: &str| {
            if enough.is_ok() && !values.contains(value) {
                enough = request.cancel.claim().take(value.len() + size_of::<String>());
                values.insert(value.to_owned());
            }
        };
        self.each_index(frozen, request.range, |index| {
            each_value(index, name, &request.matcher_sets, &mut |_| true, &mut see)
        })?;
        enough?;
        Ok(values)
    }

    fn each_index(
        &self,
        frozen: Option<&Frozen>,
        range: TimeRange,
        mut see: impl FnMut(&shard::Index<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for (at, shard) in self.shards().enumerate() {
            let frozen = frozen.map(|frozen| &*frozen.shards[at]).filter(|frozen| frozen.overlaps(range));
            if frozen.is_some() || shard.current.overlaps(range) {
                see(&shard.index(frozen))?;
            }
        }
        Ok(())
    }

    /// Each shard in turn, locked.
    fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shards.iter().map(|slot| lock(&slot.shard))
    }
}

impl Appender<'_> {
    /// Appends samples of one series, in any order. Of samples at the same time the one appended last counts.
    pub fn append<'s>(&mut self, labels: LabelsRef<'_>, samples: impl Into<Samples<'s>>) -> Appended {
        self.append_named(labels, samples.into()).0
    }

    /// As [`Appender::append`], with the slot of the series' name where there is a sample: it is known of a series that is.
    pub(crate) fn append_named(
        &mut self,
        labels: LabelsRef<'_>,
        samples: Samples<'_>,
    ) -> (Appended, Option<changes::Slot>) {
        if samples.is_empty() {
            return (Appended::default(), None);
        }
        let hash = labels.hash64();
        let at = shard_of(hash);
        if self.held[at].is_none() {
            self.hold(at);
        }
        let Some(shard) = &mut self.held[at] else { return (Appended::default(), None) };
        let (appended, name) = shard.append(labels, hash, samples);
        self.head.shards[at].tell(shard);
        (appended, Some(name))
    }

    /// Takes a lock. It never waits while it holds another one, so that two of these cannot wait for each other.
    #[cold]
    fn hold(&mut self, at: usize) {
        let mutex = &self.head.shards[at].shard;
        let guard = match mutex.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.held.fill_with(|| None);
                lock(mutex)
            }
        };
        self.held[at] = Some(guard);
    }
}

fn shard_of(hash: u64) -> usize {
    (hash >> (64 - SHARD_BITS)) as usize
}

/// The error of a selector that finds so many series at the least: what is too much is not looked for to its end.
pub(crate) fn too_many(max: usize, found: u64) -> Error {
    Error::Limit(format!("the selector finds more than {max} series: {found} at the least"))
}

/// The same of one source, of which it is known how many meet the matchers, at whatever times.
pub(crate) fn too_many_meet(max: usize, all: u64) -> Error {
    Error::Limit(format!("the selector finds more than {max} series: {all} meet its matchers"))
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
        let mut series = Vec::new();
        self.find(None, request, &mut |found| {
            series.push(Series { labels: found.labels, data: Box::new(found.current.unwrap_or_default()) });
            Ok(series.len() <= request.series_max)
        })?;
        Ok(SeriesSet { series, ..SeriesSet::default() })
    }

    fn label_names(&self, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        let mut names = BTreeSet::new();
        self.add_label_names(None, request, &mut names)?;
        Ok(names.into_iter().collect::<Vec<_>>().into())
    }

    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        let mut values: Vec<String> = self.label_values_of(name, None, request)?.into_iter().collect();
        values.sort_unstable();
        Ok(values.into())
    }

    /// A head keeps none.
    fn metadata(&self, _family: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        Ok(Vec::new().into())
    }
}
