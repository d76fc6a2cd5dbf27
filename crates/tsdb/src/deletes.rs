//! Deletions: samples of some series over some time that were written before a moment.
//!
//! A deletion is a line of the manifest that names the first block which it does not concern. What is read of older blocks is cut by it at once;
//! the blocks that it touches are then written anew, and when none is left the line goes. So what is written after a deletion stays, whatever its time,
//! and nothing has to be rewritten before the answer. The price is that the head is flushed first.

use std::sync::Arc;

use model::{Columns, LabelsRef, Mark, Matcher, TimeRange};
use roaring::RoaringBitmap;

use crate::Error;
use crate::block::{Block, ChunkRef};
use crate::postings;

/// Deletions that wait for their blocks to be written anew. Each costs a look at the index of every block that is read.
pub(crate) const DELETES_MAX: usize = 1000;

/// What is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delete {
    /// Number of the first block that was written after it.
    pub(crate) before: u64,
    pub(crate) range: TimeRange,
    pub(crate) matchers: Vec<Matcher>,
}

/// What deletions take from one block: ranges, each with the series that it is taken from.
#[derive(Debug, Default)]
pub(crate) struct Cuts(Vec<(RoaringBitmap, TimeRange)>);

impl Delete {
    /// Whether it takes anything from a block, given with its number.
    pub(crate) fn touches(&self, number: u64, block: &Block) -> Result<bool, Error> {
        Ok(self.may_touch(number, block.range()) && !postings::select(&block.index, &self.matchers)?.is_empty())
    }

    /// Whether it is of the series with these labels.
    pub(crate) fn meets(&self, labels: LabelsRef<'_>) -> bool {
        self.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
    }

    fn may_touch(&self, number: u64, range: TimeRange) -> bool {
        number < self.before && self.range.overlaps(&range)
    }
}

impl Cuts {
    /// What these take from a block, given with its number.
    pub(crate) fn new(deletes: &[Arc<Delete>], number: u64, block: &Block) -> Result<Cuts, Error> {
        let own = deletes.iter().filter(|delete| delete.may_touch(number, block.range()));
        let own = own.map(|delete| Ok((postings::select(&block.index, &delete.matchers)?, delete.range)));
        let mut own = own.collect::<Result<Vec<_>, Error>>()?;
        own.retain(|(series, _)| !series.is_empty());
        Ok(Cuts(own))
    }

    /// Whether nothing is taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The series of which nothing is left in a block of this range.
    pub(crate) fn whole(&self, block: TimeRange) -> RoaringBitmap {
        let whole = self.0.iter().filter(|(_, cut)| cut.start_ms <= block.start_ms && block.end_ms <= cut.end_ms);
        whole.fold(RoaringBitmap::new(), |all, (ids, _)| all | ids)
    }

    /// The ranges that are taken from a series.
    pub(crate) fn of(&self, series: u32) -> Vec<TimeRange> {
        let own = self.0.iter().filter(|(ids, _)| ids.contains(series));
        own.map(|(_, range)| *range).collect()
    }
}

/// The ranges that these take from a series of a block, given with its number. It is for a block of which not all of the index can be read.
pub(crate) fn ranges_of(deletes: &[Arc<Delete>], number: u64, labels: LabelsRef<'_>) -> Vec<TimeRange> {
    deletes.iter().filter(|delete| number < delete.before && delete.meets(labels)).map(|delete| delete.range).collect()
}

/// Whether nothing is left of a chunk.
pub(crate) fn is_cut(cuts: &[TimeRange], chunk: &ChunkRef) -> bool {
    cuts.iter().any(|cut| cut.start_ms <= chunk.range.start_ms && chunk.range.end_ms <= cut.end_ms)
}

/// Takes the ranges away from samples since `from`.
pub(crate) fn apply(cuts: &[TimeRange], from: Mark, samples: &mut Columns) {
    cuts.iter().for_each(|range| samples.cut(from, *range));
}
