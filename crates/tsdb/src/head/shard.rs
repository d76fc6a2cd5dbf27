//! A part of a head's series, with the index over their labels and the samples since the last flush.

use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use model::{Labels, LabelsRef, Samples};
use roaring::RoaringBitmap;

use super::Appended;
use super::buffer::{Buffer, SealScratch};
use super::generation::Generation;
use super::ids::Ids;
use crate::postings::LabelIndex;

/// What a series costs beside its samples and the text of its labels: its entries in the table and the list, and its numbers in the postings.
const SERIES_BYTES: usize = 120;
/// What the postings of one value of a label cost beside its text. A label of which each series has another value costs more than all else.
const VALUE_BYTES: usize = 120;
/// A series that had no sample in so many flushes in a row is forgotten.
const IDLE_FLUSHES_MAX: u8 = 2;

/// What is known of a series as long as it is written.
#[derive(Debug)]
struct Entry {
    /// `None` where the number is free.
    labels: Option<Labels>,
    hash: u64,
    idle_flushes: u8,
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
        let entry = Entry { labels: Some(labels.to_labels()), hash, idle_flushes: 0 };
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

    /// Forgets series that had no sample for some flushes; where memory is short, all that have none now. `flushed` is what the last one wrote; nobody
    /// may look for series by their numbers in it any more, since these are given anew.
    pub(super) fn forget_idle(&mut self, flushed: &Generation, all: bool) {
        if all && self.current.active.is_empty() {
            // Nothing is left, so the tables go too, which removing one after the other would keep.
            *self = Shard::default();
            return;
        }
        for id in 0..self.entries.len() as u32 {
            let entry = &mut self.entries[id as usize];
            if self.current.active.contains(id) || (!all && flushed.active.contains(id)) {
                entry.idle_flushes = 0;
                continue;
            }
            entry.idle_flushes = entry.idle_flushes.saturating_add(1);
            if all || entry.idle_flushes > IDLE_FLUSHES_MAX {
                self.remove(id);
            }
        }
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
        for id in &generation.active {
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

    /// The index over those series that have samples, in the current generation or in the frozen one.
    pub(super) fn index(&self, frozen: Option<&Generation>) -> Index<'_> {
        let active = frozen.map_or_else(|| self.current.active.clone(), |frozen| &frozen.active | &self.current.active);
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

    fn equal(&self, name: &str, value: &str) -> RoaringBitmap {
        self.get(name, value).map_or_else(RoaringBitmap::new, |ids| ids.among(&self.active))
    }

    fn accepted(&self, name: &str, _prefix: &str, accept: &mut dyn FnMut(&str) -> bool) -> RoaringBitmap {
        let mut found = RoaringBitmap::new();
        for (_, ids) in self.values_of(name).filter(|(value, _)| accept(value)) {
            ids.add_to(&mut found);
        }
        found & &self.active
    }

    fn names(&self, see: &mut dyn FnMut(&str)) {
        for (name, values) in &self.shard.postings {
            if values.values().any(|place| self.shard.ids[*place as usize].meets(&self.active)) {
                see(name);
            }
        }
    }

    fn counts(&self, name: &str, of: &RoaringBitmap, see: &mut dyn FnMut(&str, u64)) {
        self.values_of(name).for_each(|(value, ids)| see(value, ids.count_among(of)));
    }

    fn values(&self, name: &str, among: Option<&RoaringBitmap>, see: &mut dyn FnMut(&str) -> bool) {
        let among = among.unwrap_or(&self.active);
        for (value, _) in self.values_of(name).filter(|(_, ids)| ids.meets(among)) {
            if !see(value) {
                return;
            }
        }
    }
}
