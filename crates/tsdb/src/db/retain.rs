//! What does not stay: samples that are too old, blocks that are too many, and what somebody deletes.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{Matcher, TimeRange};

use super::{Db, Named, View, WIDE, lock};
use crate::Error;
use crate::deletes::{DELETES_MAX, Delete};
use crate::manifest::BlockEntry;
use crate::retention::Floors;

impl Db {
    /// Deletes the samples in a range of the series that meet all matchers, as many as were appended before. Writes the head to blocks first;
    /// durable when this returns. [`Db::compact`] frees their room.
    ///
    /// Label names and values may be listed until then though no series has them any more.
    pub fn delete(&self, matchers: &[Matcher], range: TimeRange) -> Result<(), Error> {
        self.flush()?;
        // Blocks that are merged meanwhile would be newer than this and not cut by it.
        let _one = lock(&self.merging);
        let _no_flush = lock(&self.flushing);
        let before = self.next_block.load(Ordering::Relaxed);
        let delete = Arc::new(Delete { before, range, matchers: matchers.to_vec() });
        let view = self.view();
        // What is in a block that cannot be read is not known, but its span is; it may be repaired or written again.
        let is_unread = |(entry, _): &(BlockEntry, String)| entry.span.overlaps(&range);
        let touches_blocks = view.quarantined.iter().any(is_unread)
            || view.blocks.iter().any(|(entry, block)| delete.touches(entry.number(), block));
        if touches_blocks && view.deletes.len() >= DELETES_MAX {
            return Err(Error::Limit(format!("{DELETES_MAX} deletions wait for their blocks to be written anew")));
        }
        let exemplars = self.file_without(&delete)?;
        if !touches_blocks && exemplars.is_none() {
            return Ok(());
        }
        self.commit(|manifest, view| {
            exemplars.iter().for_each(|(filed, _)| filed.commit_to(manifest));
            if touches_blocks {
                manifest.deletes.push(delete.clone());
                view.deletes.push(delete);
            }
        })?;
        exemplars.iter().for_each(|(_, gone)| self.removed(gone));
        Ok(())
    }

    pub(super) fn floors(&self) -> Floors<'_> {
        let now_ms = Some(self.now_ms.load(Ordering::Relaxed)).filter(|now| *now != i64::MIN);
        Floors::new(now_ms, self.options.retention_ms, &self.options.retention_rules)
    }

    /// A block that holds what is deleted, or series that are expired as a whole, and is written anew to be rid of them.
    pub(super) fn choose_rewrite(&self) -> Option<Vec<Named>> {
        let (view, floors) = (self.view(), self.floors());
        let is_worth_it = |(entry, block): &&Named| {
            !block.is_damaged()
                && (floors.leave_behind(block) || view.deletes.iter().any(|d| d.touches(entry.number(), block)))
        };
        view.blocks.iter().find(is_worth_it).map(|named| vec![named.clone()])
    }

    /// Forgets deletions of which every block is free. A block that cannot be read may come back, and is waited for.
    pub(super) fn forget_deletes(&self) -> Result<(), Error> {
        let view = self.view();
        let is_needed = |delete: &Arc<Delete>| {
            let older = |number: u64| number < delete.before;
            view.quarantined.iter().any(|(entry, _)| older(entry.number()))
                || view.blocks.iter().any(|(entry, block)| {
                    (block.is_damaged() && older(entry.number())) || delete.touches(entry.number(), block)
                })
        };
        if view.deletes.iter().all(is_needed) {
            return Ok(());
        }
        let needed: Vec<_> = view.deletes.iter().filter(|delete| is_needed(delete)).cloned().collect();
        self.commit(|manifest, view| {
            manifest.deletes.clone_from(&needed);
            view.deletes = needed;
        })
    }

    /// Adds the names of the oldest blocks, span by span, until the others are small enough; the newest span stays.
    pub(super) fn add_oldest_beyond_size(&self, view: &View, old: &mut BTreeSet<String>) {
        let Some(max) = self.options.retention_bytes else { return };
        let mut spans: BTreeMap<i64, (u64, Vec<&str>)> = BTreeMap::new();
        for (entry, block) in view.blocks.iter().filter(|(entry, _)| !old.contains(&entry.name)) {
            // A wide one is as old as its last sample.
            let of = if entry.span == WIDE { self.span(block.range().end_ms, block.range()) } else { entry.span };
            let (bytes, names) = spans.entry(of.end_ms).or_default();
            *bytes += block.bytes();
            names.push(&entry.name);
        }
        let mut bytes: u64 = spans.values().map(|(bytes, _)| bytes).sum();
        while bytes > max && spans.len() > 1 {
            let Some((_, (freed, names))) = spans.pop_first() else { break };
            bytes -= freed;
            old.extend(names.into_iter().map(str::to_owned));
        }
    }
}
