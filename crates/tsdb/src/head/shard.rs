//! A part of a head's series, with the index over their labels.

use hashbrown::{HashMap, HashTable};
use model::{Labels, LabelsRef, Sample};
use roaring::RoaringBitmap;

use super::Appended;
use super::buffer::{Buffer, SealScratch};
use crate::postings::LabelIndex;

/// What a series costs beside its samples and its labels: its entries in the table, the list and the postings.
const SERIES_BYTES: usize = 200;

#[derive(Debug)]
pub(crate) struct HeadSeries {
    pub(crate) labels: Labels,
    pub(crate) buffer: Buffer,
    hash: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Shard {
    by_hash: HashTable<u32>,
    series: Vec<HeadSeries>,
    /// Label name to value to series, ascending.
    postings: HashMap<Box<str>, HashMap<Box<str>, Vec<u32>>>,
    scratch: SealScratch,
}

impl Shard {
    pub(crate) fn append(&mut self, labels: LabelsRef<'_>, hash: u64, samples: &[Sample]) -> (Appended, usize) {
        let text = labels.canonical();
        let found = self.by_hash.find(hash, |id| {
            let series = &self.series[*id as usize];
            series.hash == hash && series.labels.canonical() == text
        });
        let mut appended = Appended::default();
        let mut grown = 0;
        let id = match found {
            Some(id) => *id,
            None => {
                appended.created = true;
                grown += SERIES_BYTES + text.len();
                self.create(labels, hash)
            }
        };
        let buffer = &mut self.series[id as usize].buffer;
        // Most appends change nothing but the length of the tail: its growth is what is counted, sealed chunks about as they pack.
        for sample in samples {
            appended.out_of_order += usize::from(!buffer.push(*sample, &mut self.scratch));
        }
        grown += samples.len() * size_of::<Sample>() / 4;
        (appended, grown)
    }

    fn create(&mut self, labels: LabelsRef<'_>, hash: u64) -> u32 {
        let id = self.series.len() as u32;
        self.series.push(HeadSeries { labels: labels.to_labels(), buffer: Buffer::default(), hash });
        let series = &self.series;
        self.by_hash.insert_unique(hash, id, |id| series[*id as usize].hash);
        for (name, value) in labels.iter() {
            let values = self.postings.entry_ref(name).or_default();
            values.entry_ref(value).or_default().push(id);
        }
        id
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    pub(crate) fn series(&self, id: u32) -> &HeadSeries {
        &self.series[id as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &HeadSeries> {
        self.series.iter()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.series.iter().map(|s| s.buffer.bytes() + SERIES_BYTES + s.labels.canonical().len()).sum()
    }

    pub(crate) fn samples(&self) -> u64 {
        self.series.iter().map(|s| s.buffer.samples() as u64).sum()
    }

    pub(crate) fn truncate_before(&mut self, start_ms: i64) {
        let before = self.series.len();
        let mut kept = std::mem::take(&mut self.series);
        kept.retain_mut(|series| {
            series.buffer.truncate_before(start_ms);
            !series.buffer.is_empty()
        });
        if kept.len() == before {
            self.series = kept;
            return;
        }
        self.by_hash.clear();
        self.postings.clear();
        for series in kept {
            let id = self.create(series.labels.as_ref(), series.hash);
            self.series[id as usize] = series;
        }
    }
}

impl LabelIndex for Shard {
    fn all(&self) -> RoaringBitmap {
        (0..self.series.len() as u32).collect()
    }

    fn equal(&self, name: &str, value: &str) -> RoaringBitmap {
        let ids = self.postings.get(name).and_then(|values| values.get(value));
        ids.map_or_else(RoaringBitmap::new, |ids| bitmap(ids))
    }

    fn accepted(&self, name: &str, accept: &mut dyn FnMut(&str) -> bool) -> RoaringBitmap {
        let mut found = RoaringBitmap::new();
        for (_, ids) in self.postings.get(name).into_iter().flatten().filter(|(value, _)| accept(value)) {
            found.extend(ids);
        }
        found
    }

    fn names(&self, see: &mut dyn FnMut(&str)) {
        self.postings.keys().for_each(|name| see(name));
    }

    fn values(&self, name: &str, see: &mut dyn FnMut(&str)) {
        self.postings.get(name).into_iter().flatten().for_each(|(value, _)| see(value));
    }

    fn has_any(&self, name: &str, value: &str, of: &RoaringBitmap) -> bool {
        let ids = self.postings.get(name).and_then(|values| values.get(value));
        ids.is_some_and(|ids| ids.iter().any(|id| of.contains(*id)))
    }
}

fn bitmap(ascending: &[u32]) -> RoaringBitmap {
    // Ids are given in the order in which series are created, so the lists ascend; `collect` is right for any order.
    ascending.iter().copied().collect()
}
