//! What does not stay: samples that are too old, blocks that are too many, and what somebody deletes.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{Matcher, TimeRange};

use super::{Db, Named, View, WIDE, lock};
use crate::Error;
use crate::block::Block;
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
        let mut touches_blocks = view.quarantined.iter().any(is_unread);
        for (entry, block) in &view.blocks {
            touches_blocks |= may_touch(&delete, entry, block)?;
        }
        if touches_blocks && view.deletes.len() >= DELETES_MAX {
            return Err(Error::Limit(format!("{DELETES_MAX} deletions wait for their blocks to be written anew")));
        }
        let exemplars = self.file_without(&delete)?;
        if !touches_blocks && exemplars.is_none() {
            return Ok(());
        }
        let committed = self.commit(|manifest, view| {
            exemplars.iter().for_each(|(filed, _)| filed.commit_to(manifest));
            if touches_blocks {
                manifest.deletes.push(delete.clone());
                view.deletes.push(delete);
            }
        });
        // Where it fails it may be seen already.
        self.changes.touch_all(range);
        committed?;
        exemplars.iter().for_each(|(_, gone)| self.removed(gone));
        Ok(())
    }

    pub(super) fn floors(&self) -> Floors<'_> {
        Floors::new(self.now_ms(), self.options.retention_ms, &self.options.retention_rules)
    }

    /// A block that holds what is deleted, series that are expired as a whole, or much of which is expired, and is written anew to be rid of it.
    pub(super) fn choose_rewrite(&self) -> Result<Option<Vec<Named>>, Error> {
        let (view, floors) = (self.view(), self.floors());
        let is_worth_it = |(entry, block): &Named| -> Result<bool, Error> {
            for delete in &view.deletes {
                if delete.touches(entry.number(), block)? {
                    return Ok(true);
                }
            }
            floors.leave_behind(block)
        };
        let is_put_off = |(entry, _): &Named| lock(&self.put_off).has(&entry.name);
        for named in view.blocks.iter().filter(|named| !named.1.is_damaged() && !is_put_off(named)) {
            match is_worth_it(named) {
                Ok(true) => return Ok(Some(vec![named.clone()])),
                // It was found damaged just now, and is left out from now on.
                Err(Error::Corrupt { .. }) | Ok(false) => {}
                Err(error) => return Err(error),
            }
        }
        let named = view.blocks.iter().filter(|named| !named.1.is_damaged());
        Ok(most_expired(named, floors.lowest(), is_put_off).map(|named| vec![named.clone()]))
    }

    /// Forgets deletions of which every block is free. A block that cannot be read may come back, and is waited for.
    pub(super) fn forget_deletes(&self) -> Result<(), Error> {
        let view = self.view();
        let mut needed = Vec::new();
        for delete in &view.deletes {
            let mut is_needed = view.quarantined.iter().any(|(entry, _)| entry.number() < delete.before);
            for (entry, block) in view.blocks.iter().filter(|(entry, _)| entry.number() < delete.before) {
                is_needed = is_needed || block.is_damaged() || may_touch(delete, entry, block)?;
            }
            needed.extend(is_needed.then(|| delete.clone()));
        }
        if needed.len() == view.deletes.len() {
            return Ok(());
        }
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

/// Of all that is not expired, the part in expired samples that is left until their blocks are expired as a whole.
const EXPIRED_SHARE: u64 = 4;
/// Of a block, the part that has to be expired before it is written anew: what is left of it is written again, twice at most until it is gone.
const EXPIRED_OF_BLOCK: u64 = 3;

/// The block of which most is expired for all series, if that is worth to write the rest of it anew: where spans are nearly as long as samples are kept, the
/// oldest block would else hold as much of what is expired. How much it is follows from how much of its time is; once it was written anew nothing is, so no
/// block is written twice for the same. One that is put off counts, and is not it.
fn most_expired<'a>(
    blocks: impl Iterator<Item = &'a Named>,
    floor_ms: i64,
    is_put_off: impl Fn(&Named) -> bool,
) -> Option<&'a Named> {
    let expired_of = |block: &Block| {
        let TimeRange { start_ms, end_ms } = block.range();
        let (before, all) =
            (floor_ms.min(end_ms).saturating_sub(start_ms).max(0), end_ms.saturating_sub(start_ms).max(1));
        (u128::from(block.bytes()) * before as u128 / all as u128) as u64
    };
    let (mut all, mut expired, mut most) = (0u64, 0u64, None);
    for named in blocks {
        let own = expired_of(&named.1);
        (all, expired) = (all + named.1.bytes(), expired + own);
        if own > most.map_or(0, |(most, _)| most) && !is_put_off(named) {
            most = Some((own, named));
        }
    }
    let (own, named) = most?;
    let is_worth_it = own.saturating_mul(EXPIRED_OF_BLOCK) >= named.1.bytes()
        && expired.saturating_mul(EXPIRED_SHARE) >= all.saturating_sub(expired);
    is_worth_it.then_some(named)
}

/// Whether a deletion takes anything from a block, as far as is known of one that is damaged.
fn may_touch(delete: &Delete, entry: &BlockEntry, block: &Block) -> Result<bool, Error> {
    match delete.touches(entry.number(), block) {
        Err(Error::Corrupt { .. }) => Ok(delete.range.overlaps(&entry.span)),
        told => told,
    }
}
