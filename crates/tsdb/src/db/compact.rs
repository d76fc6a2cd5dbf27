//! Merging and retention: which blocks there are, without new samples.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use model::Cancel;

use super::{Db, Named, WIDE, lock};
use crate::block::{Block, Writer};
use crate::deletes::Cuts;
use crate::disk;
use crate::manifest::BlockEntry;
use crate::{Error, merge};

impl Db {
    /// Merges some blocks, or writes one anew to be rid of what is deleted or expired, if that is worth it. Says whether it did.
    pub fn compact(&self, cancel: &Cancel) -> Result<bool, Error> {
        let _one = lock(&self.merging);
        let Some(run) = self.choose_merge().or_else(|| self.choose_rewrite()) else {
            self.forget_deletes()?;
            return Ok(false);
        };
        let merged = self.write_merged(&run, cancel)?;
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
        self.merges.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Drops blocks in which every sample is expired, and the oldest ones where they are too large together; hides what is expired of the others.
    /// Returns how many were dropped. Removes files that earlier calls could not remove. `now_ms` never goes back: an earlier one changes nothing.
    pub fn expire(&self, now_ms: i64) -> Result<usize, Error> {
        // Every commit tries that; where it fails, this is asked again and again, and says so.
        self.remove_left()?;
        self.now_ms.fetch_max(now_ms, Ordering::Relaxed);
        let floor = self.floors().lowest();
        let _one = lock(&self.merging);
        let old: BTreeSet<String> = {
            let view = self.view();
            let old = view.blocks.iter().filter(|(_, block)| block.range().end_ms < floor).map(|(entry, _)| entry);
            // What is in a block that cannot be read is not known, but its span is.
            let unread = view.quarantined.iter().map(|(entry, _)| entry).filter(|entry| self.is_before(entry, floor));
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
        self.commit(|manifest, view| {
            manifest.blocks.retain(|entry| !names.contains(&entry.name));
            view.blocks.retain(|(entry, _)| !names.contains(&entry.name));
            view.quarantined.retain(|(entry, _)| !names.contains(&entry.name));
        })
    }

    /// Removes expired blocks while the manifest still names them, since there is no room for the one that does not. After a crash they are
    /// missing, until they are looked for by their age, which is the first thing that is done.
    fn make_room(&self, expired: &BTreeSet<String>, floor_ms: i64) -> Result<(), Error> {
        let named = lock(&self.committed).manifest.blocks.clone();
        for entry in named.iter().filter(|e| expired.contains(&e.name) && self.is_before(e, floor_ms)) {
            disk::remove(&*self.disk, &entry.name)?;
        }
        Ok(())
    }

    /// Whether all that may be in a block is of before a time.
    fn is_before(&self, entry: &BlockEntry, time_ms: i64) -> bool {
        entry.span != WIDE && self.span_end_ms(entry.span) < time_ms
    }

    /// The blocks that are best merged now.
    fn choose_merge(&self) -> Option<Vec<Named>> {
        self.runs().into_iter().find_map(|blocks| {
            let sizes: Vec<u64> = blocks.iter().map(|(_, b)| b.bytes()).collect();
            merge::choose(&sizes).map(|run| blocks[run].to_vec())
        })
    }

    /// Blocks of one span between which nothing was written that they may overlap: no wide block, and none that cannot be read now
    /// and may be repaired.
    fn runs(&self) -> Vec<Vec<Named>> {
        let committed = lock(&self.committed);
        let view = self.view();
        let readable: HashMap<&str, &Named> = view.blocks.iter().map(|named| (named.0.name.as_str(), named)).collect();
        let (mut over, mut open) = (Vec::new(), BTreeMap::<i64, Vec<Named>>::new());
        for entry in &committed.manifest.blocks {
            let block = readable.get(entry.name.as_str()).filter(|(_, block)| !block.is_damaged());
            let ends = |span: i64| (span == WIDE) != (entry.span == WIDE) || (block.is_none() && span == entry.span);
            over.extend(open.extract_if(.., |span, _| ends(*span)).map(|(_, run)| run));
            if let Some(named) = block {
                open.entry(entry.span).or_default().push((*named).clone());
            }
        }
        over.extend(open.into_values());
        over
    }

    /// Writes what these blocks hold to one, durable when this returns; `None` where nothing of them is left.
    fn write_merged(&self, run: &[Named], cancel: &Cancel) -> Result<Option<Named>, Error> {
        let name = self.new_name();
        let (view, floors) = (self.view(), self.floors());
        let cuts = |(entry, block): &Named| (block.clone(), Cuts::new(&view.deletes, entry.number(), block));
        let sources: Vec<(Arc<Block>, Cuts)> = run.iter().map(cuts).collect();
        let written = Writer::create(&*self.disk, &name).and_then(|writer| {
            let any = merge::merge(&sources, &floors, writer, cancel)?;
            let block = if any { Some(Block::open(&*self.disk, &name)?) } else { None };
            disk::sync(&*self.disk)?;
            Ok(block)
        });
        if !matches!(written, Ok(Some(_))) {
            self.discard([name.clone()]);
        }
        Ok(written?.map(|block| (BlockEntry { name, span: run[0].0.span }, Arc::new(block))))
    }
}
