//! A part of a head's series, with the index over their labels and the samples since the last flush.

use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use model::{Columns, Labels, LabelsRef, Samples, TimeRange};
use roaring::RoaringBitmap;

use super::Appended;
use super::buffer::{Buffer, SealScratch, Uncounted};
use super::generation::Generation;
use super::ids::Ids;
use crate::Error;
use crate::postings::{Accept, LabelIndex};

/// What a series costs beside its samples and the text of its labels: its entries in the table and the list, and its numbers in the postings.
const SERIES_BYTES: usize = 120;
/// What the postings of one value of a label cost beside its text. A label of which each series has another value costs more than all else.
const VALUE_BYTES: usize = 120;

/// What is known of a series as long as it is written.
#[derive(Debug)]
struct Entry {
    /// `None` where the number is free.
    labels: Option<Labels>,
    hash: u64,
    /// Time of its last sample that was flushed.
    flushed_ms: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Shard {
    by_hash: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Label name to value to place in `ids`.
    postings: HashMap<Box<str>, HashMap<Box<str>, u32>>,
    ids: Vec<Ids>,
    free_ids: Vec<u32>,
    /// The series that was created last, and where its labels are in `ids`: the next one shares most of them.
    before: Option<Labels>,
    before_ids: Vec<u32>,
    scratch_ids: Vec<u32>,
    pub(super) current: Generation,
    /// The series that is likely written next: senders repeat their order, and numbers were given in it.
    likely: u32,
    registry_bytes: usize,
    scratch: SealScratch,
}

impl Shard {
    pub(super) fn append(&mut self, labels: LabelsRef<'_>, hash: u64, samples: Samples<'_>) -> Appended {
        let found = self.lookup(labels.canonical(), hash);
        let created = found.is_none();
        let id = found.unwrap_or_else(|| self.create(labels, hash));
        self.likely = id + 1;
        let buffer = self.current.buffer(id, self.entries.len());
        let before = buffer.heap_bytes();
        let mut out_of_order = 0;
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        for (at, sample) in samples.floats.iter().enumerate() {
            let in_order = match samples.start(at) {
                0 => buffer.push(*sample, &mut self.scratch),
                start => buffer.push_with_start(*sample, start, &mut self.scratch),
            };
            out_of_order += usize::from(!in_order);
            (first, last) = (first.min(sample.t), last.max(sample.t));
        }
        for sample in samples.histograms {
            out_of_order += usize::from(!buffer.push_histogram(sample, &mut self.scratch));
            (first, last) = (first.min(sample.t), last.max(sample.t));
        }
        let grown = buffer.heap_bytes() - before;
        let generation = &mut self.current;
        generation.bytes += grown;
        generation.samples += samples.len() as u64;
        generation.range.start_ms = generation.range.start_ms.min(first);
        generation.range.end_ms = generation.range.end_ms.max(last);
        Appended { created, out_of_order }
    }

    #[inline]
    fn lookup(&self, text: &str, hash: u64) -> Option<u32> {
        let is = |entry: &Entry| entry.hash == hash && entry.labels.as_ref().is_some_and(|l| l.canonical() == text);
        if self.entries.get(self.likely as usize).is_some_and(is) {
            return Some(self.likely);
        }
        self.by_hash.find(table_hash(hash), |id| is(&self.entries[*id as usize])).copied()
    }

    #[cold]
    fn create(&mut self, labels: LabelsRef<'_>, hash: u64) -> u32 {
        let entry = Entry { labels: Some(labels.to_labels()), hash, flushed_ms: i64::MIN };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        let entries = &self.entries;
        self.by_hash.insert_unique(table_hash(hash), id, |id| table_hash(entries[*id as usize].hash));
        self.post(labels, id);
        self.registry_bytes += SERIES_BYTES + labels.canonical().len();
        id
    }

    /// Adds a series to the postings of its labels.
    fn post(&mut self, labels: LabelsRef<'_>, id: u32) {
        let before = self.before.take();
        let known = before.as_ref().map(|before| before.as_ref().iter().zip(&self.before_ids));
        let mut known = known.into_iter().flatten().peekable();
        let mut places = std::mem::take(&mut self.scratch_ids);
        places.clear();
        for label in labels.iter() {
            // Both ascend by name.
            while known.next_if(|((name, _), _)| *name < label.0).is_some() {}
            let place = match known.peek() {
                Some((same, place)) if *same == label => **place,
                _ => {
                    let values = self.postings.entry_ref(label.0).or_default();
                    *values.entry_ref(label.1).or_insert_with(|| {
                        self.registry_bytes += VALUE_BYTES + label.1.len();
                        self.free_ids.pop().unwrap_or_else(|| {
                            self.ids.push(Ids::default());
                            (self.ids.len() - 1) as u32
                        })
                    })
                }
            };
            self.ids[place as usize].insert(id);
            places.push(place);
        }
        drop(known);
        self.scratch_ids = std::mem::replace(&mut self.before_ids, places);
        self.before = self.entries[id as usize].labels.clone();
    }

    fn remove(&mut self, id: u32) {
        // Its places may be given anew below.
        self.before = None;
        let entry = &mut self.entries[id as usize];
        let Some(labels) = entry.labels.take() else { return };
        if let Ok(found) = self.by_hash.find_entry(table_hash(entry.hash), |other| *other == id) {
            found.remove();
        }
        for (name, value) in labels.iter() {
            let Some(values) = self.postings.get_mut(name) else { continue };
            let Some(place) = values.get(value).copied() else { continue };
            if self.ids[place as usize].remove(id) {
                self.ids[place as usize] = Ids::default();
                self.free_ids.push(place);
                values.remove(value);
                self.registry_bytes -= VALUE_BYTES + value.len();
            }
            if values.is_empty() {
                self.postings.remove(name);
            }
        }
        self.registry_bytes -= SERIES_BYTES + labels.canonical().len();
        self.free.push(id);
    }

    /// Takes the samples away and begins a new generation of the same series.
    pub(super) fn freeze(&mut self) -> Arc<Generation> {
        Arc::new(std::mem::take(&mut self.current))
    }

    /// Forgets series that have no sample left, nor had one since a time; where memory is short, all that have none now. `flushed` is what the last flush
    /// wrote; nobody may look for series by their numbers in it any more, since these are given anew.
    pub(super) fn forget(&mut self, flushed: &Generation, since_ms: i64, all: bool) {
        if all && self.current.active.is_empty() {
            // Nothing is left, so the tables go too, which removing one after the other would keep.
            *self = Shard::default();
            return;
        }
        for id in 0..self.entries.len() as u32 {
            let entry = &mut self.entries[id as usize];
            if let Some(buffer) = flushed.get(id) {
                entry.flushed_ms = entry.flushed_ms.max(buffer.last_t());
            }
            if (all || entry.flushed_ms < since_ms) && !self.current.active.contains(id) {
                self.remove(id);
            }
        }
        // The lowest are given first, one after the other: a sender's series are then found by the number after the one before, as they were.
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        if all {
            let entries = &self.entries;
            self.by_hash.shrink_to_fit(|id| table_hash(entries[*id as usize].hash));
            self.postings.values_mut().for_each(HashMap::shrink_to_fit);
        }
    }

    /// Forgets samples before a time, and series that have none left.
    pub(super) fn truncate_before(&mut self, start_ms: i64) {
        let generation = &mut self.current;
        let (mut gone, mut empty) = (0, Vec::new());
        generation.bytes = generation.buffers.len() * size_of::<Buffer>();
        for id in &generation.active.bitmap() {
            let buffer = &mut generation.buffers[id as usize];
            gone += buffer.truncate_before(start_ms) as u64;
            if buffer.is_empty() {
                *buffer = Buffer::default();
                empty.push(id);
            } else {
                generation.bytes += buffer.heap_bytes();
            }
        }
        generation.samples -= gone;
        generation.range.start_ms = generation.range.start_ms.max(start_ms);
        for id in empty {
            self.current.active.remove(id);
            self.remove(id);
        }
    }

    /// Number of series that are known.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Memory of what is known of series, about.
    pub(super) fn registry_bytes(&self) -> usize {
        self.registry_bytes
    }

    /// The labels of a series that is known.
    pub(super) fn labels(&self, id: u32) -> Option<&Labels> {
        self.entries.get(id as usize)?.labels.as_ref()
    }

    /// The newest sample of a series in a range: its time, and whether it is no stale marker.
    pub(super) fn newest(
        &self,
        frozen: Option<&Generation>,
        id: u32,
        range: TimeRange,
        scratch: &mut Columns,
    ) -> Result<Option<(i64, bool)>, Uncounted> {
        let mut of = |generation: &Generation| match generation.get(id) {
            Some(buffer) => buffer.newest(range, scratch),
            None => Ok(None),
        };
        let (current, older) = (of(&self.current)?, frozen.map_or(Ok(None), &mut of)?);
        // Of samples at the same time that of the current generation is the one written last.
        Ok(match (older, current) {
            (Some((t, live)), Some((newer, _))) if t > newer => Some((t, live)),
            (older, None) => older,
            (_, current) => current,
        })
    }

    /// The index over those series that have samples, in the current generation or in the frozen one.
    pub(super) fn index(&self, frozen: Option<&Generation>) -> Index<'_> {
        let mut active = self.current.active.bitmap();
        if let Some(frozen) = frozen {
            frozen.active.add_to(&mut active);
        }
        Index { shard: self, active }
    }
}

/// The table tells entries apart by the highest bits, which chose the shard and are the same in all of it.
fn table_hash(hash: u64) -> u64 {
    hash.rotate_left(super::SHARD_BITS)
}

/// The label index of a shard, of the series that have samples.
#[derive(Debug)]
pub(super) struct Index<'a> {
    shard: &'a Shard,
    active: RoaringBitmap,
}

impl Index<'_> {
    fn values_of(&self, name: &str) -> impl Iterator<Item = (&str, &Ids)> {
        let values = self.shard.postings.get(name).into_iter().flatten();
        values.map(|(value, place)| (&**value, &self.shard.ids[*place as usize]))
    }

    fn get(&self, name: &str, value: &str) -> Option<&Ids> {
        let place = *self.shard.postings.get(name)?.get(value)?;
        self.shard.ids.get(place as usize)
    }
}

impl LabelIndex for Index<'_> {
    fn all(&self) -> RoaringBitmap {
        self.active.clone()
    }

    fn equal(&self, name: &str, value: &str) -> Result<RoaringBitmap, Error> {
        Ok(self.get(name, value).map_or_else(RoaringBitmap::new, |ids| ids.among(&self.active)))
    }

    fn accepted(
        &self,
        name: &str,
        _prefix: &str,
        accept: &mut Accept<'_>,
        _among: Option<&RoaringBitmap>,
    ) -> Result<RoaringBitmap, Error> {
        let mut found = RoaringBitmap::new();
        for (_, ids) in self.values_of(name).filter(|(value, _)| accept.accepts(value, 0)) {
            ids.add_to(&mut found);
        }
        Ok(found & &self.active)
    }

    fn names(&self, see: &mut dyn FnMut(&str) -> Result<(), Error>) -> Result<(), Error> {
        for (name, values) in &self.shard.postings {
            if values.values().any(|place| self.shard.ids[*place as usize].meets(&self.active)) {
                see(name)?;
            }
        }
        Ok(())
    }

    fn counts(&self, name: &str, of: &RoaringBitmap, see: &mut dyn FnMut(&str, u64)) -> Result<(), Error> {
        self.values_of(name).for_each(|(value, ids)| see(value, ids.count_among(of)));
        Ok(())
    }

    fn values(
        &self,
        name: &str,
        among: Option<&RoaringBitmap>,
        wanted: &mut dyn FnMut(&str) -> bool,
        see: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), Error> {
        let among = among.unwrap_or(&self.active);
        for (value, _) in self.values_of(name).filter(|(value, ids)| wanted(value) && ids.meets(among)) {
            if !see(value) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use model::Sample;

    use super::*;

    fn append(shard: &mut Shard, series: u64, t: i64) -> Option<u32> {
        let labels = Labels::new(&[("n", series.to_string())]).expect("valid");
        shard.append(labels.as_ref(), series, Samples::from(&[Sample { t, v: 1.0 }][..]));
        shard.lookup(labels.canonical(), series)
    }

    #[test]
    fn numbers_of_series_that_ended_are_given_anew_from_the_lowest_on() {
        let mut shard = Shard::default();
        for series in 0..10 {
            append(&mut shard, series, if series % 3 == 0 { 1000 } else { 1 });
        }
        let flushed = shard.freeze();
        shard.forget(&flushed, 500, false);
        assert_eq!(shard.len(), 4);
        let anew: Vec<_> = (10..17).map(|series| append(&mut shard, series, 2000)).collect();
        assert_eq!(anew, [1, 2, 4, 5, 7, 8, 10].map(Some));
        assert_eq!(append(&mut shard, 3, 2000), Some(3), "one that goes on keeps its own");
    }
}
