//! Counting the series of an index by their labels.
//!
//! Each value of a label is hashed once, and of each series only numbers are looked at, which lie together for a group of them; texts are looked at again where
//! the counts are told. Of few series among many that would be the work for all values, so these are looked at with their labels.

use model::LabelsRef;
use roaring::RoaringBitmap;

use super::group::{Chunks, GROUP, each_column};
use super::{Index, Memo, Near};
use crate::Error;
use crate::tally::{Counting, pair_hash};

/// Of as many series of the index, or more, one is counted by numbers.
const BY_NUMBERS: u64 = 8;

/// What is known of a label: the hash of each of its values, and how many series that are new have it.
#[derive(Debug, Default)]
struct Values {
    hashes: Vec<u64>,
    counts: Vec<u32>,
}

impl Index {
    /// Counts these series.
    pub(crate) fn tally(&self, ids: &RoaringBitmap, counting: &mut Counting<'_>) -> Result<(), Error> {
        if counting.has_classes() || ids.len() * BY_NUMBERS < self.series() as u64 {
            return self.tally_by_labels(ids, counting);
        }
        let (mut all, mut held) = (Vec::with_capacity(self.top.names.len()), counting.request.cancel.claim().hold());
        for name in &self.top.names {
            held.grow(name.values as usize * (size_of::<u64>() + size_of::<u32>()))?;
            let mut own = Values { hashes: Vec::with_capacity(name.values as usize), counts: Vec::new() };
            let mut walk = self.walk(&name.name);
            while let Some(value) = walk.next()? {
                own.hashes.push(pair_hash(&name.name, value));
            }
            own.counts.resize(own.hashes.len(), 0);
            all.push(own);
        }
        let mut near = None;
        let mut ids = ids.iter().peekable();
        while let Some(first) = ids.peek().copied() {
            let Near { group, labels, chunks } = self.group(first, &mut near)?;
            let places = &self.top.groups[*group];
            let series = self.group_series(first);
            let mut columns = Vec::new();
            let read = each_column(labels, series, |name, column| columns.push((name, column)));
            read.map_err(|reason| self.file.corrupt(places.labels.at, reason))?;
            let chunks = Chunks::read(chunks, series).map_err(|reason| self.file.corrupt(places.chunks.at, reason))?;
            while let Some(id) = ids.next_if(|id| *id as usize / GROUP == *group) {
                let at = id as usize % GROUP;
                let values = columns.iter().filter_map(|(name, column)| Some((*name, column.get(at).checked_sub(1)?)));
                let mut hash = 0u64;
                for (name, value) in values.clone() {
                    let own = all.get(name).and_then(|own| own.hashes.get(value as usize));
                    let own = own.ok_or_else(|| self.file.corrupt(places.labels.at, "number of a label value"))?;
                    hash = hash.wrapping_add(*own);
                }
                if counting.series(hash, chunks.count(at))? {
                    values.for_each(|(name, value)| all[name].counts[value as usize] += 1);
                }
            }
        }
        for (name, own) in self.top.names.iter().zip(&all) {
            let (mut walk, mut counts) = (self.walk(&name.name), own.counts.iter());
            while let (Some(value), Some(count)) = (walk.next()?, counts.next()) {
                counting.pair(&name.name, value, u64::from(*count))?;
            }
        }
        Ok(())
    }

    fn tally_by_labels(&self, ids: &RoaringBitmap, counting: &mut Counting<'_>) -> Result<(), Error> {
        // Of few series that lie apart most of what is looked up ahead would be of others.
        let mut memo = if ids.len() * 2 > self.series() as u64 { Memo::ahead() } else { Memo::default() };
        for id in ids {
            self.put_labels(id, &mut memo)?;
            let Near { group, chunks, .. } = self.group(id, &mut memo.group)?;
            let count = Chunks::read(chunks, self.group_series(id)).map(|page| page.count(id as usize % GROUP));
            let count = count.map_err(|reason| self.file.corrupt(self.top.groups[*group].chunks.at, reason))?;
            counting.labels(LabelsRef::from_canonical(&memo.text), count, false)?;
        }
        Ok(())
    }
}
