//! Adding samples that come from elsewhere than the log straight to blocks.
//!
//! Positions in the log do not change, and the head is passed by: it is for a directory that nobody else writes to at the time. A sample that
//! is in a block already, with the same bits, is not written again, so the same load twice is the same as once. The price is that the blocks
//! of that time are read along.

use std::sync::Arc;

use model::{Columns, Labels, Mark, TimeRange};

use super::flush::Writers;
use super::{Db, lock};
use crate::Error;
use crate::block::{Block, ChunkRef, Memo, Recent};
use crate::columns::merge_newer;
use crate::deletes::{self, Cuts};
use crate::offsets::Offsets;

/// Takes series in the order of their canonical texts, each once, and makes blocks of them.
pub struct Loader<'a> {
    db: &'a Db,
    /// Of all samples that will come.
    range: TimeRange,
    writers: Writers<'a>,
    /// The blocks that there are, from the oldest written to the newest.
    known: Vec<(Follower, Recent)>,
    /// What is known of a series, what of it a block has, and what is new.
    scratch: [Columns; 3],
}

impl std::fmt::Debug for Loader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("range", &self.range).finish_non_exhaustive()
    }
}

/// Follows the series of a block.
pub(super) struct Follower {
    block: Arc<Block>,
    /// What is deleted of it, which is not there.
    cuts: Cuts,
    next: u32,
    memo: Memo,
    current: Option<(Labels, Vec<ChunkRef>)>,
}

impl Follower {
    pub(super) fn new(block: Arc<Block>, cuts: Cuts) -> Self {
        Follower { block, cuts, next: 0, memo: Memo::ahead(), current: None }
    }

    /// Goes on to a series, and returns where its chunks are if the block has it.
    pub(super) fn chunks_of(&mut self, labels: &Labels) -> Result<Option<&[ChunkRef]>, Error> {
        while self.current.as_ref().is_none_or(|(current, _)| current.canonical() < labels.canonical()) {
            if self.next as usize >= self.block.series() {
                return Ok(None);
            }
            let entry = self.block.index.entry(self.next, &mut self.memo)?;
            self.next += 1;
            self.current = Some((entry.labels, entry.chunks));
        }
        Ok(self.current.as_ref().filter(|(current, _)| current == labels).map(|(_, chunks)| chunks.as_slice()))
    }

    /// The ranges that are deleted of the series that it is at.
    fn deleted(&self) -> Vec<TimeRange> {
        self.next.checked_sub(1).map_or_else(Vec::new, |series| self.cuts.of(series))
    }
}

impl Db {
    /// Begins to add series whose samples are in a range.
    pub fn load(&self, range: TimeRange) -> Result<Loader<'_>, Error> {
        let view = self.view();
        let known = view.readable(range).map(|(entry, block)| {
            let cuts = Cuts::new(&view.deletes, entry.number(), block)?;
            Ok((Follower::new(block.clone(), cuts), Recent::default()))
        });
        let known = known.collect::<Result<_, Error>>()?;
        let writers = Writers::new(self, Offsets::default());
        Ok(Loader { db: self, range, writers, known, scratch: Default::default() })
    }
}

impl Loader<'_> {
    /// Adds a series; its times ascend. Returns how many of its samples were not there yet.
    pub fn push(&mut self, labels: &Labels, samples: &Columns) -> Result<u64, Error> {
        let Some(range) = samples.range(Mark::default()) else { return Ok(0) };
        let [known, piece, new] = &mut self.scratch;
        known.clear();
        new.clear();
        for (follower, recent) in &mut self.known {
            let block = follower.block.clone();
            let Some(chunks) = follower.chunks_of(labels)? else { continue };
            let from = chunks.partition_point(|chunk| chunk.range.end_ms < range.start_ms);
            let to = chunks.partition_point(|chunk| chunk.range.start_ms <= range.end_ms);
            piece.clear();
            block.read_once(chunks.get(from..to).unwrap_or(&[]), range, recent, piece)?;
            deletes::apply(&follower.deleted(), Mark::default(), piece);
            merge_newer(known, Mark::default(), piece);
        }
        let mut before = 0;
        for (at, (t, v)) in samples.t.iter().zip(&samples.v).enumerate() {
            before += known.t[before..].partition_point(|known| known < t);
            let same = known.t.get(before) == Some(t)
                && known.v[before].to_bits() == v.to_bits()
                && known.start(before) == samples.start(at);
            if !same {
                new.push_with_start(*t, *v, samples.start(at));
            }
        }
        let mut before = 0;
        for sample in &samples.histograms {
            before += known.histograms[before..].partition_point(|known| known.t < sample.t);
            if known.histograms.get(before) != Some(sample) {
                new.histograms.push(sample.clone());
            }
        }
        let (db, range) = (self.db, self.range);
        self.writers.push(labels.as_ref(), new, &|t| db.span(t, range))?;
        Ok((new.len() + new.histograms.len()) as u64)
    }

    /// Makes what was added part of the engine; durable when this returns.
    pub fn commit(self) -> Result<(), Error> {
        let written = self.writers.finish()?;
        if written.is_empty() {
            return Ok(());
        }
        lock(&self.db.paces).wrote(self.db.now_ms(), written.iter().map(|(entry, _)| entry.span));
        let committed = self.db.commit(|manifest, view| {
            manifest.blocks.extend(written.iter().map(|(entry, _)| entry.clone()));
            view.blocks.extend(written);
        });
        // Where it fails it may be seen already.
        self.db.changes.touch_all(self.range);
        committed
    }
}
