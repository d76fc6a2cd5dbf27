//! Merging and retention: which blocks there are, without new samples.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use model::{Cancel, Kind, TimeRange};

use super::{Background, Db, Named, Pace, lock};
use crate::block::{Block, Writer};
use crate::deletes::Cuts;
use crate::disk;
use crate::downsample::Plan;
use crate::manifest::BlockEntry;
use crate::offsets::Offsets;
use crate::{Error, merge};

/// How long a block is left that takes more memory to be written anew than there is. More of it may be deleted or expired then, so that less is written;
/// each try reads it once.
const AGAIN_MS: i64 = 3_600_000;

/// Blocks, and the one that was written of them, if anything is left.
type Written = (Vec<Named>, Option<Named>);

/// What did not fit into the memory for writing, and is not tried now.
#[derive(Debug, Default)]
pub(super) struct PutOff {
    /// Merges, since others have the memory, until nothing else is left to be done.
    merges: bool,
    /// Names of blocks that were to be written anew, each with the time until which it is left, in any case until nothing else is left to be done.
    blocks: BTreeMap<String, i64>,
}

impl PutOff {
    /// Whether a block is not written anew now.
    pub(super) fn has(&self, name: &str) -> bool {
        self.blocks.contains_key(name)
    }

    /// How many blocks are not written anew now.
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }
}

impl Db {
    /// Merges some blocks, or writes one anew to be rid of what is deleted or expired, if that is worth it. Says whether it did.
    pub fn compact(&self, cancel: &Cancel) -> Result<bool, Error> {
        let _one = lock(&self.merging);
        let (run, merged) = loop {
            let are_merges_put_off = lock(&self.put_off).merges;
            let run = match self.choose_merge().filter(|_| !are_merges_put_off) {
                Some(run) => Some(run),
                None => self.choose_rewrite()?,
            };
            let Some(run) = run else {
                self.end_of_pass();
                self.forget_deletes()?;
                return Ok(false);
            };
            if let Some(written) = self.write_what_fits(run, cancel)? {
                break written;
            }
        };
        self.put_in_place(&run, merged)?;
        self.merges.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Puts one block with what these hold into their place, and leaves samples out where there is a plan for it. Returns the block, if anything is left.
    pub(super) fn replace(&self, run: &[Named], plan: &Plan<'_>, cancel: &Cancel) -> Result<Option<Arc<Block>>, Error> {
        let merged = self.write_merged(run, Some(plan), cancel)?;
        let placed = self.put_in_place(run, merged);
        // Where it fails it may be seen already. A sample that stays stands for those of its window that do not, so it is found for longer.
        for (_, block) in run {
            let TimeRange { start_ms, end_ms } = block.range();
            let end_ms = end_ms.saturating_add(i64::from(plan.longest()));
            self.changes.touch_all(TimeRange { start_ms, end_ms });
        }
        placed
    }

    /// Puts a block that was written of others into their place, if anything of them is left.
    fn put_in_place(&self, run: &[Named], merged: Option<Named>) -> Result<Option<Arc<Block>>, Error> {
        let block = merged.as_ref().map(|(_, block)| block.clone());
        let old: BTreeSet<&str> = run.iter().map(|(entry, _)| entry.name.as_str()).collect();
        let is_old = |entry: &BlockEntry| old.contains(entry.name.as_str());
        self.commit(|manifest, view| {
            // In the place of the newest of them, so that what was written later stays later.
            let newest = run.last().map(|(entry, _)| &entry.name);
            if let Some(merged) = merged {
                let at = manifest.blocks.iter().position(|entry| Some(&entry.name) == newest);
                manifest.blocks.insert(at.map_or(0, |at| at + 1), merged.0.clone());
                let at = view.blocks.iter().position(|(entry, _)| Some(&entry.name) == newest);
                view.blocks.insert(at.map_or(0, |at| at + 1), merged);
            }
            manifest.blocks.retain(|entry| !is_old(entry));
            view.blocks.retain(|(entry, _)| !is_old(entry));
        })?;
        Ok(block)
    }

    /// Writes what these blocks hold to one; where that takes too much memory, what the newer half of them holds, and so on: sizes grow with age. `None` where
    /// not even two fit, or not the one: that is left for later then, so that the next can be chosen.
    fn write_what_fits(&self, mut run: Vec<Named>, cancel: &Cancel) -> Result<Option<Written>, Error> {
        loop {
            let exceeded = match self.write_merged(&run, None, cancel) {
                Err(Error::Memory(exceeded)) => exceeded,
                written => return Ok(Some((run, written?))),
            };
            self.merges_too_large.fetch_add(1, Ordering::Relaxed);
            // Else others have the memory now.
            let is_alone = exceeded.kind() == Kind::Invalid;
            match run.as_slice() {
                [one] => {
                    let until_ms =
                        if is_alone { self.now_ms().map_or(i64::MAX, |now| now + AGAIN_MS) } else { i64::MIN };
                    lock(&self.put_off).blocks.insert(one.0.name.clone(), until_ms);
                    return Ok(None);
                }
                [older, newer] => {
                    if is_alone {
                        self.leave(older, newer);
                    } else {
                        lock(&self.put_off).merges = true;
                    }
                    return Ok(None);
                }
                _ => drop(run.drain(..run.len() / 2)),
            }
        }
    }

    /// Nothing is left to be done now: what was put off may be tried from now on, but for blocks that are left for longer.
    fn end_of_pass(&self) {
        let (view, now_ms, mut put_off) = (self.view(), self.now_ms(), lock(&self.put_off));
        put_off.merges = false;
        let is_there = |name: &str| view.blocks.iter().any(|(entry, _)| entry.name == name);
        put_off.blocks.retain(|name, until_ms| *until_ms > now_ms.unwrap_or(i64::MIN) && is_there(name));
    }

    /// Notes that these and what is between them take too much memory together.
    pub(super) fn leave(&self, oldest: &Named, newest: &Named) {
        let (view, mut too_large) = (self.view(), lock(&self.too_large));
        let is_there = |name: &str| view.blocks.iter().any(|(entry, _)| entry.name == name);
        too_large.retain(|(oldest, newest)| is_there(oldest) && is_there(newest));
        too_large.insert((oldest.0.name.clone(), newest.0.name.clone()));
    }

    /// Whether it was found that these and what is between them take too much memory together.
    pub(super) fn is_left(&self, oldest: &Named, newest: &Named) -> bool {
        let too_large = lock(&self.too_large);
        !too_large.is_empty() && too_large.contains(&(oldest.0.name.clone(), newest.0.name.clone()))
    }

    /// Drops blocks in which every sample is expired, and the oldest ones where they are too large together; hides what is expired of the others.
    /// Returns how many were dropped. Removes files that earlier calls could not remove. `now_ms` never goes back: an earlier one changes nothing.
    pub fn expire(&self, now_ms: i64) -> Result<usize, Error> {
        // Every commit tries that; where it fails, this is asked again and again, and says so.
        self.remove_left()?;
        self.now_ms.fetch_max(now_ms, Ordering::Relaxed);
        lock(&self.paces).tell(now_ms);
        lock(&self.exemplars).all.expire(&self.floors());
        let floor = self.floors().lowest();
        self.changes.expire(self.floors().highest());
        let _one = lock(&self.merging);
        let old: BTreeSet<String> = {
            let view = self.view();
            let old = view.blocks.iter().filter(|(_, block)| block.range().end_ms < floor).map(|(entry, _)| entry);
            // What is in a block that cannot be read is not known, but its span is.
            let unread = view.quarantined.iter().map(|(entry, _)| entry).filter(|entry| entry.span.end_ms < floor);
            let mut old = old.chain(unread).map(|entry| entry.name.clone()).collect();
            self.add_oldest_beyond_size(&view, &mut old);
            old
        };
        if old.is_empty() {
            return Ok(0);
        }
        match self.forget(&old) {
            Err(error) if error.is_disk_full() => {
                self.make_room(&old, floor)?;
                self.forget(&old)?;
            }
            done => done?,
        }
        self.remove_left()?;
        Ok(old.len())
    }

    /// Takes blocks out of the manifest.
    fn forget(&self, names: &BTreeSet<String>) -> Result<(), Error> {
        let mut ranges = Vec::new();
        let committed = self.commit(|manifest, view| {
            manifest.blocks.retain(|entry| !names.contains(&entry.name));
            let gone = view.blocks.extract_if(.., |(entry, _)| names.contains(&entry.name));
            ranges.extend(gone.map(|(_, block)| block.range()));
            view.quarantined.retain(|(entry, _)| !names.contains(&entry.name));
        });
        // Where it fails it may be seen already.
        ranges.into_iter().for_each(|range| self.changes.touch_all(range));
        committed
    }

    /// Removes expired blocks while the manifest still names them, since there is no room for the one that does not. After a crash they are
    /// missing, until they are looked for by their age, which is the first thing that is done.
    fn make_room(&self, expired: &BTreeSet<String>, floor_ms: i64) -> Result<(), Error> {
        let named = lock(&self.committed).manifest.blocks.clone();
        for entry in named.iter().filter(|e| expired.contains(&e.name) && e.span.end_ms < floor_ms) {
            disk::remove(&*self.disk, &entry.name)?;
        }
        Ok(())
    }

    /// The blocks that are best merged now.
    pub(super) fn choose_merge(&self) -> Option<Vec<Named>> {
        let (runs, now_ms) = (self.runs(), self.now_ms());
        let mut paces = lock(&self.paces);
        paces.keep(|span| runs.iter().flatten().any(|(entry, _)| entry.span == span));
        runs.iter().flat_map(|run| run.chunk_by(|a, b| !self.is_left(a, b))).find_map(|blocks| {
            let pace = paces.of(blocks.first()?.0.span, now_ms);
            // Those that differ in what was left out of them would have to be written once more.
            let is_alike = |a: &Named, b: &Named| pace == Pace::Written || a.0.downsampled == b.0.downsampled;
            blocks.chunk_by(is_alike).find_map(|blocks| {
                let sizes: Vec<u64> = blocks.iter().map(|(_, b)| b.bytes()).collect();
                merge::choose(&sizes, pace).map(|run| blocks[run].to_vec())
            })
        })
    }

    /// Blocks of one span between which nothing was written that they may overlap: none of another span, and none that cannot be read now
    /// and may be repaired.
    pub(super) fn runs(&self) -> Vec<Vec<Named>> {
        let committed = lock(&self.committed);
        let view = self.view();
        let readable: HashMap<&str, &Named> = view.blocks.iter().map(|named| (named.0.name.as_str(), named)).collect();
        let (mut over, mut open) = (Vec::new(), BTreeMap::<(i64, i64), Vec<Named>>::new());
        for entry in &committed.manifest.blocks {
            let block = readable.get(entry.name.as_str()).filter(|(_, block)| !block.is_damaged());
            let ends = |start_ms, end_ms| {
                let span = TimeRange { start_ms, end_ms };
                span.overlaps(&entry.span) && (span != entry.span || block.is_none())
            };
            over.extend(open.extract_if(.., |(start_ms, end_ms), _| ends(*start_ms, *end_ms)).map(|(_, run)| run));
            if let Some(named) = block {
                open.entry((entry.span.start_ms, entry.span.end_ms)).or_default().push((*named).clone());
            }
        }
        over.extend(open.into_values());
        over
    }

    /// Begins a block, one of so many.
    pub(super) fn writer(&self, name: &str, of: usize) -> Result<Writer, Error> {
        Ok(Writer::create(&*self.disk, name)?.within(self.options.memory.writing.bytes_max() / of))
    }

    /// Writes what these blocks hold to one, durable when this returns; `None` where nothing of them is left.
    fn write_merged(&self, run: &[Named], plan: Option<&Plan<'_>>, cancel: &Cancel) -> Result<Option<Named>, Error> {
        let name = self.new_name();
        let (view, floors) = (self.view(), self.floors());
        let cuts = |(entry, block): &Named| Ok((block.clone(), Cuts::new(&view.deletes, entry.number(), block)?));
        let sources: Vec<(Arc<Block>, Cuts)> = run.iter().map(cuts).collect::<Result<_, Error>>()?;
        let mut leave_out = self.leave_out(run, plan);
        let mut held = self.options.memory.writing.claim().hold();
        let written = self.in_background(Background::Merge, || {
            let merged = merge::merge(&sources, &floors, &mut leave_out, self.writer(&name, 1)?, &mut held, cancel)?;
            self.times_forgotten.fetch_add(merged.times_forgotten, Ordering::Relaxed);
            let block = if merged.is_empty { None } else { Some(Block::open(&*self.disk, &name, &self.cache)?) };
            disk::sync(&*self.disk)?;
            Ok(block.map(|block| (block, merged.is_whole)))
        });
        if !matches!(written, Ok(Some(_))) {
            self.discard([name.clone()]);
        }
        let Some((block, is_whole)) = written? else { return Ok(None) };
        let (first, rest) = run.split_first().expect("a run is not empty");
        let all = rest.iter().fold(first.0.from.clone(), |from, (entry, _)| from.union(&entry.from));
        // Written again from its records it would have what was taken away, and no deletion of a younger number to take it away once more.
        let from = if is_whole { all } else { Offsets::default() };
        let is_same = rest.iter().all(|(entry, _)| entry.downsampled == first.0.downsampled);
        let before = if is_same { first.0.downsampled.clone() } else { String::new() };
        let downsampled = plan.map_or(before, ToString::to_string);
        let longest = run.iter().map(|(entry, _)| entry.resolution_ms).chain(plan.map(Plan::longest)).max();
        let resolution_ms = longest.unwrap_or(0);
        Ok(Some((BlockEntry { name, span: first.0.span, from, downsampled, resolution_ms }, Arc::new(block))))
    }
}
