//! A part of a head's series, with the index over their labels and the samples since the last flush.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use model::{Columns, Labels, LabelsRef, Samples, TimeRange};
use roaring::RoaringBitmap;

use super::Appended;
use super::buffer::{Buffer, SealScratch, Uncounted};
use super::generation::Generation;
use super::ordered::Part;
use super::symbols::Symbols;
use crate::Error;
use crate::changes::Slot;
use crate::postings::{Accept, LabelIndex};
use crate::prefetch::prefetch;

/// What a series costs beside its samples and its labels: its entries in the table and the list, and its numbers in the postings.
const SERIES_BYTES: usize = 80;

/// The bits of [`Entry::check`] that are the slot of the name.
const SLOT: u64 = (1 << Slot::BITS) - 1;

/// What is known of a series as long as it is written.
#[derive(Debug)]
struct Entry {
    /// Where its labels are among the symbols; `None` where the number is free.
    labels: Option<Box<[u32]>>,
    hash: u64,
    /// Another hash of its labels, see [`Shard::lookup`]; in its lowest bits the slot of its name.
    check: u64,
    /// Time of its last sample that was flushed.
    flushed_ms: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Shard {
    by_hash: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    symbols: Symbols,
    /// Of a key that this shard drew for itself.
    hasher: DefaultHashBuilder,
    pub(super) current: Generation,
    /// The series that is likely written next: senders repeat their order, and numbers were given in it.
    likely: u32,
    /// Memory of the entries, about.
    entries_bytes: usize,
    scratch: SealScratch,
}

impl Shard {
    pub(super) fn append(&mut self, labels: LabelsRef<'_>, hash: u64, samples: Samples<'_>) -> (Appended, Slot) {
        let check = self.hasher.hash_one(labels.canonical()) & !SLOT;
        let found = self.lookup(hash, check);
        let created = found.is_none();
        let id = found.unwrap_or_else(|| self.create(labels, hash, check));
        self.likely = id + 1;
        let slot = Slot::numbered(self.entries[id as usize].check & SLOT);
        let buffer = self.current.buffer(id, self.entries.len());
        let before = buffer.heap_bytes();
        let mut out_of_order = 0;
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        let mut floats = samples.floats;
        if samples.starts.is_empty() && buffer.push_many(floats, &mut self.scratch) {
            (first, last) = (floats[0].t, floats[floats.len() - 1].t);
            floats = &[];
        }
        for (at, sample) in floats.iter().enumerate() {
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
        self.fetch_after(id as usize);
        (Appended { created, out_of_order }, slot)
    }

    /// Has what the next series need on its way while others are appended to: of a scrape as large as a cache most of an append is waiting for memory.
    #[inline]
    fn fetch_after(&self, id: usize) {
        // Where the samples of the next one are is told by what was fetched of it the last time.
        if let Some(next) = self.current.buffers.get(id + 1) {
            next.fetch();
        }
        if let (Some(entry), Some(buffer)) = (self.entries.get(id + 2), self.current.buffers.get(id + 2)) {
            prefetch(entry);
            prefetch(buffer);
        }
    }

    /// The series whose labels have these two hashes of 64 and 57 bits, of different kinds and the second with a key that nobody knows. Those of two series are the same
    /// once in 10^18 times among a thousand million of them, which is less than what memory and disks do to their bytes; and comparing texts instead would be what
    /// most of an append waits for.
    #[inline]
    fn lookup(&self, hash: u64, check: u64) -> Option<u32> {
        let is = |entry: &Entry| entry.hash == hash && entry.check & !SLOT == check && entry.labels.is_some();
        if self.entries.get(self.likely as usize).is_some_and(is) {
            return Some(self.likely);
        }
        self.by_hash.find(table_hash(hash), |id| is(&self.entries[*id as usize])).copied()
    }

    #[cold]
    fn create(&mut self, labels: LabelsRef<'_>, hash: u64, check: u64) -> u32 {
        let id = self.free.pop().unwrap_or(self.entries.len() as u32);
        let places = self.symbols.add(labels, id);
        self.entries_bytes += SERIES_BYTES + size_of_val(&*places);
        let check = check | Slot::of(labels).number();
        let entry = Entry { labels: Some(places), hash, check, flushed_ms: i64::MIN };
        match self.entries.get_mut(id as usize) {
            Some(free) => *free = entry,
            None => self.entries.push(entry),
        }
        let entries = &self.entries;
        self.by_hash.insert_unique(table_hash(hash), id, |id| table_hash(entries[*id as usize].hash));
        id
    }

    fn remove(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        let Some(places) = entry.labels.take() else { return };
        if let Ok(found) = self.by_hash.find_entry(table_hash(entry.hash), |other| *other == id) {
            found.remove();
        }
        self.symbols.remove(&places, id);
        self.entries_bytes -= SERIES_BYTES + size_of_val(&*places);
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
            self.symbols.shrink();
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
        self.entries_bytes + self.symbols.bytes()
    }

    /// The labels of a series that is known. `text` is memory that is used again.
    pub(super) fn labels(&self, id: u32, text: &mut String) -> Option<Labels> {
        Some(self.labels_in(id, text)?.to_labels())
    }

    /// As [`Shard::labels`], of which the text is lent.
    pub(super) fn labels_in<'t>(&self, id: u32, text: &'t mut String) -> Option<LabelsRef<'t>> {
        let places = self.entries.get(id as usize)?.labels.as_ref()?;
        text.clear();
        self.symbols.put_text(places, text);
        Some(LabelsRef::from_canonical(text))
    }

    /// The series of a generation, with what it takes to put them in order.
    pub(super) fn part(&self, generation: &Generation) -> Part {
        let mut part = Part { texts: self.symbols.texts(), ..Part::default() };
        for id in generation.active.bitmap() {
            let Some(places) = self.entries.get(id as usize).and_then(|entry| entry.labels.as_ref()) else { continue };
            part.ids.push(id);
            part.places.extend_from_slice(places);
            part.ends.push(part.places.len() as u32);
        }
        part
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

impl LabelIndex for Index<'_> {
    fn all(&self) -> RoaringBitmap {
        self.active.clone()
    }

    fn equal(&self, name: &str, value: &str) -> Result<RoaringBitmap, Error> {
        Ok(self.shard.symbols.get(name, value).map_or_else(RoaringBitmap::new, |ids| ids.among(&self.active)))
    }

    fn accepted(
        &self,
        name: &str,
        _prefix: &str,
        accept: &mut Accept<'_>,
        _among: Option<&RoaringBitmap>,
    ) -> Result<RoaringBitmap, Error> {
        let mut found = RoaringBitmap::new();
        for (_, ids) in self.shard.symbols.values_of(name).filter(|(value, _)| accept.accepts(value, 0)) {
            ids.add_to(&mut found);
        }
        Ok(found & &self.active)
    }

    fn names(&self, see: &mut dyn FnMut(&str) -> Result<(), Error>) -> Result<(), Error> {
        for (name, mut values) in self.shard.symbols.names() {
            if values.any(|(_, ids)| ids.meets(&self.active)) {
                see(name)?;
            }
        }
        Ok(())
    }

    fn counts(&self, name: &str, of: &RoaringBitmap, see: &mut dyn FnMut(&str, u64)) -> Result<(), Error> {
        self.shard.symbols.values_of(name).for_each(|(value, ids)| see(value, ids.count_among(of)));
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
        let values = self.shard.symbols.values_of(name);
        for (value, _) in values.filter(|(value, ids)| wanted(value) && ids.meets(among)) {
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
        shard.lookup(series, shard.hasher.hash_one(labels.canonical()) & !SLOT)
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
