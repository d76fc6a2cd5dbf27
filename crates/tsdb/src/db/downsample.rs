//! Leaving samples out of blocks that are old enough: a merge of all blocks of a span into one that has less of some series.
//!
//! All of a span are read together, so that a window is looked at once with all that is there of it; a block that comes late is left as it is until it is
//! worth to write the others again. So late samples are beside what was left out before, which readers merge, and no sample is counted twice. The price is that
//! the bytes of what comes late stay until more has come.

use std::sync::atomic::Ordering;

use model::{Cancel, Columns, Kind, Labels, Mark, TimeRange};

use super::load::Follower;
use super::{Db, Named, WIDE, lock};
use crate::Error;
use crate::block::Block;
use crate::deletes::Cuts;
use crate::downsample::{Plan, thin};

/// Blocks out of which samples are to be left are written anew if they are of all blocks of their span one part in so many, in bytes.
const SHARE: u64 = 8;

impl Db {
    /// Leaves samples out of the blocks of one span, if there are some that are old enough for it. Says whether it did.
    ///
    /// When it fails the blocks are what they were; those that take more memory together than writing may have stay whole.
    pub fn downsample(&self, cancel: &Cancel) -> Result<bool, Error> {
        let _one = lock(&self.merging);
        let (run, block) = loop {
            let Some((run, plan)) = self.choose_downsample() else { return Ok(false) };
            match self.replace(&run, &plan, cancel) {
                Err(Error::Memory(exceeded)) => {
                    self.merges_too_large.fetch_add(1, Ordering::Relaxed);
                    let ([oldest, ..], [.., newest], Kind::Invalid) = (&*run, &*run, exceeded.kind()) else {
                        // Others have the memory now.
                        return Ok(false);
                    };
                    self.leave(oldest, newest);
                }
                written => break (run, written?),
            }
        };
        let sum = |of: fn(&Block) -> u64| run.iter().map(|(_, block)| of(block)).sum::<u64>();
        let mut all = lock(&self.downsampled);
        all.blocks += 1;
        all.samples_before += sum(Block::samples);
        all.bytes_before += sum(Block::bytes);
        all.samples_after += block.as_ref().map_or(0, |block| block.samples());
        all.bytes_after += block.as_ref().map_or(0, |block| block.bytes());
        Ok(true)
    }

    /// Blocks of one span that are old enough, and what is to be left out of them.
    fn choose_downsample(&self) -> Option<(Vec<Named>, Plan<'_>)> {
        let (rules, now_ms) = (&self.options.downsample, self.now_ms.load(Ordering::Relaxed));
        if rules.is_empty() || now_ms == i64::MIN {
            return None;
        }
        let view = self.view();
        self.runs().into_iter().find_map(|run| {
            let span = run.first()?.0.span;
            if self.is_left(run.first()?, run.last()?) {
                return None;
            }
            // A wide one is as old as its last sample.
            let newest = run.iter().map(|(_, block)| block.range().end_ms).max()?;
            let plan = Plan::new(rules, now_ms, if span == WIDE { newest } else { span.end_ms });
            if plan.is_nothing() || view.is_unread(span) {
                return None;
            }
            let (text, all) = (plan.to_string(), run.iter().map(|(_, block)| block.bytes()).sum::<u64>());
            // What of a block cannot be read is told by the merge.
            let concerns = |block: &Block| plan.concerns(block).unwrap_or(true);
            let is_due = |(entry, block): &&Named| entry.downsampled != text && concerns(block);
            let due: u64 = run.iter().filter(is_due).map(|(_, block)| block.bytes()).sum();
            (due > 0 && due.saturating_mul(SHARE) >= all).then_some((run, plan))
        })
    }

    /// What is left out of the series of blocks that are written anew. A series of which another block may have samples at the same time stays whole:
    /// they could be the same, or of the same window.
    pub(super) fn leave_out(
        &self,
        run: &[Named],
        plan: Option<&Plan<'_>>,
    ) -> impl FnMut(&Labels, &Columns) -> Result<Option<Columns>, Error> {
        let range = |all: TimeRange, (_, block): &Named| TimeRange {
            start_ms: all.start_ms.min(block.range().start_ms),
            end_ms: all.end_ms.max(block.range().end_ms),
        };
        let range = run.iter().fold(TimeRange { start_ms: i64::MAX, end_ms: i64::MIN }, range);
        let is_of_run = |named: &Named| run.iter().any(|(entry, _)| entry.name == named.0.name);
        let view = self.view();
        let others = view.readable(range).filter(|named| plan.is_some() && !is_of_run(named));
        let mut others: Vec<Follower> =
            others.map(|(_, block)| Follower::new(block.clone(), Cuts::default())).collect();
        move |labels, samples| {
            let Some(resolution_ms) = plan.and_then(|plan| plan.of(labels.as_ref())) else { return Ok(None) };
            let Some(range) = samples.range(Mark::default()) else { return Ok(None) };
            for other in &mut others {
                let chunks = other.chunks_of(labels)?.unwrap_or_default();
                if chunks.iter().any(|chunk| chunk.range.overlaps(&range)) {
                    return Ok(None);
                }
            }
            Ok(thin(samples, resolution_ms))
        }
    }
}

impl super::View {
    /// Whether there may be samples in a span that cannot be read now, and may be once they are repaired or written again.
    fn is_unread(&self, span: TimeRange) -> bool {
        let damaged = self.blocks.iter().filter(|(_, block)| block.is_damaged()).map(|(entry, _)| entry);
        self.quarantined.iter().map(|(entry, _)| entry).chain(damaged).any(|entry| entry.span.overlaps(&span))
    }
}
