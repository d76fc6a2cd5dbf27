//! Counting the series of an index by their labels.

use model::LabelsRef;
use roaring::RoaringBitmap;

use super::group::GROUP;
use super::{Index, Memo, Near};
use crate::Error;
use crate::tally::Counting;

impl Index {
    /// Counts these series.
    pub(crate) fn tally(&self, ids: &RoaringBitmap, counting: &mut Counting<'_>) -> Result<(), Error> {
        if counting.has_classes() || !self.is_by_numbers(ids) {
            return self.tally_by_labels(ids, counting);
        }
        let mut held = counting.request.cancel.claim().hold();
        held.grow(self.value_hash_bytes() / size_of::<u64>() * (size_of::<u64>() + size_of::<u32>()))?;
        let hashes = self.value_hashes()?;
        // How many series that are new have each value.
        let mut counts: Vec<Vec<u32>> = hashes.iter().map(|own| vec![0; own.len()]).collect();
        self.each_row(ids, &hashes, |row| {
            if counting.series(row.hash, row.chunk_count())? {
                row.values().for_each(|(name, value)| counts[name][value as usize] += 1);
            }
            Ok(())
        })?;
        for (name, counts) in self.top.names.iter().zip(&counts) {
            let (mut walk, mut counts) = (self.walk(&name.name), counts.iter());
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
            let Near { chunks, .. } = self.group(id, &mut memo.group)?;
            let count = chunks.count(id as usize % GROUP);
            counting.labels(LabelsRef::from_canonical(&memo.text), count, false)?;
        }
        Ok(())
    }
}
