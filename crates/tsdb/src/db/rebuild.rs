//! Blocks that are damaged, written again from the records that they were written from.
//!
//! Whoever has the log asks which blocks are lost and reads their records; this keeps of them what is in the block's span and not deleted since. The price is
//! that the records of all spans are read for the sake of one.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, MutexGuard};

use hashbrown::HashMap;
use model::{Held, HistogramSample, LabelsRef, Sample, Samples, TimeRange};

use super::{Db, Named, lock};
use crate::Error;
use crate::deletes::Delete;
use crate::head::Head;
use crate::manifest::BlockEntry;
use crate::offsets::Offsets;

/// Memory of a rebuild, as a share of the head's bound: what goes beyond is written to blocks of its own, which are merged later.
const HEAD_SHARE: usize = 4;

/// A block that is damaged or could not be opened, and of which it is known what it was written from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Name of its file.
    pub block: String,
    /// Partitions and offsets of the records, in the order in which they are to be appended.
    pub records: Vec<(u32, Range<i64>)>,
}

/// A block that is being written again. As long as it is open nothing is merged, deleted or expired.
#[derive(Debug)]
pub struct Rebuild<'a> {
    db: &'a Db,
    entry: BlockEntry,
    /// Deletions that concern the block. What is written now has a number that they do not concern, so they are done here.
    deletes: Vec<Arc<Delete>>,
    /// Whether they took something.
    is_cut: bool,
    pub(super) head: Head,
    /// The records that are in the head.
    records: Offsets,
    written: Vec<Named>,
    kept: Kept,
    /// What the head takes, of the memory for writing. It is bounded, and not refused: a block of a few records each time that others have the memory would
    /// be worse.
    held: Held,
    _alone: MutexGuard<'a, ()>,
}

/// Samples of a series that are kept of a record.
#[derive(Debug, Default)]
struct Kept {
    floats: Vec<Sample>,
    starts: Vec<i64>,
    histograms: Vec<HistogramSample>,
}

impl Kept {
    /// Keeps those of some times and nothing else.
    fn fill(&mut self, samples: Samples<'_>, is_kept: impl Fn(i64) -> bool) {
        self.floats.clear();
        self.starts.clear();
        self.histograms.clear();
        for (at, sample) in samples.floats.iter().enumerate().filter(|(_, sample)| is_kept(sample.t)) {
            self.floats.push(*sample);
            if !samples.starts.is_empty() {
                self.starts.push(samples.start(at));
            }
        }
        self.histograms.extend(samples.histograms.iter().filter(|h| is_kept(h.t)).cloned());
    }

    fn samples(&self) -> Samples<'_> {
        Samples { floats: &self.floats, starts: &self.starts, histograms: &self.histograms }
    }
}

impl Db {
    /// The blocks that are not read and could be written again, if the log still has all of their records.
    pub fn lost(&self) -> Vec<Lost> {
        let other_logs = self.other_logs();
        let committed = lock(&self.committed);
        let view = self.view();
        let damaged = view.blocks.iter().filter(|(_, block)| block.is_damaged()).map(|(entry, _)| &entry.name);
        let unread: Vec<&String> = damaged.chain(view.quarantined.iter().map(|(entry, _)| &entry.name)).collect();
        let lost = committed.manifest.blocks.iter().filter(|e| e.from.is_known() && unread.contains(&&e.name));
        let lost = lost.filter(|entry| !entry.from.has_any(&other_logs));
        lost.map(|entry| Lost { block: entry.name.clone(), records: entry.from.iter().collect() }).collect()
    }

    /// Begins to write a block again; `None` if there is none of that name any more.
    pub fn rebuild(&self, block: &str) -> Option<Rebuild<'_>> {
        let alone = lock(&self.merging);
        let entry = lock(&self.committed).manifest.blocks.iter().find(|entry| entry.name == block)?.clone();
        let is_concerned = |delete: &&Arc<Delete>| entry.number() < delete.before && delete.range.overlaps(&entry.span);
        let deletes = self.view().deletes.iter().filter(is_concerned).cloned().collect();
        Some(Rebuild {
            db: self,
            entry,
            deletes,
            is_cut: false,
            head: Head::new(),
            records: Offsets::default(),
            written: Vec::new(),
            kept: Kept::default(),
            held: self.options.memory.writing.claim().hold(),
            _alone: alone,
        })
    }

    /// Partitions whose log was replaced, as the head knows already; the manifest learns it with the next flush.
    fn other_logs(&self) -> BTreeSet<u32> {
        let committed = lock(&self.committed);
        let reached = lock(&self.reached);
        let mut out: BTreeSet<u32> = reached.iter().filter(|(_, r)| r.is_other_log).map(|(p, _)| *p).collect();
        if self.view().frozen.is_some() {
            out.extend(&committed.frozen.of_other_logs);
        }
        out
    }
}

impl Rebuild<'_> {
    /// Appends what a record holds of one series.
    pub fn append<'s>(&mut self, labels: LabelsRef<'_>, samples: impl Into<Samples<'s>>) {
        let (samples, span) = (samples.into(), self.entry.span);
        self.kept.fill(samples, |t| span.contains(t));
        let cuts: Vec<TimeRange> = self.deletes.iter().filter(|d| d.meets(labels)).map(|d| d.range).collect();
        if !cuts.is_empty() {
            let before = self.kept.samples().len();
            self.kept.fill(samples, |t| span.contains(t) && !cuts.iter().any(|cut| cut.contains(t)));
            self.is_cut |= self.kept.samples().len() < before;
        }
        self.head.append(labels, self.kept.samples());
    }

    /// Ends a record, given with its partition and offset.
    pub fn end_record(&mut self, partition: u32, offset: i64) -> Result<(), Error> {
        self.records.add(partition, offset..offset + 1);
        let bytes = self.head.bytes() + self.head.registry_bytes();
        self.held.grow_to_anyway(bytes);
        let is_full = bytes >= self.db.options.head_bytes_max / HEAD_SHARE;
        if is_full { self.write() } else { Ok(()) }
    }

    /// Puts what was appended in the place of the block, which is removed. If this fails the block is still the damaged one, as it is where this returns
    /// `false`: it turned out meanwhile that its records are those of another log.
    pub fn finish(mut self) -> Result<bool, Error> {
        self.write()?;
        if self.is_cut {
            // Their records have what is deleted, and the deletions may be forgotten when they are needed again.
            self.written.iter_mut().for_each(|(entry, _)| entry.from = Offsets::default());
        }
        let (old, written) = (&self.entry, &mut self.written);
        if old.from.has_any(&self.db.other_logs()) {
            return Ok(false);
        }
        let mut is_placed = false;
        let committed = self.db.commit(|manifest, view| {
            let Some(at) = manifest.blocks.iter().position(|entry| entry == old) else { return };
            is_placed = true;
            let written = std::mem::take(written);
            manifest.blocks.splice(at..=at, written.iter().map(|(entry, _)| entry.clone()));
            view.quarantined.retain(|(entry, _)| entry.name != old.name);
            view.blocks.retain(|(entry, _)| entry.name != old.name);
            view.blocks.extend(written);
            let order: HashMap<&str, usize> = manifest.blocks.iter().map(|e| e.name.as_str()).zip(0..).collect();
            view.blocks.sort_by_key(|(entry, _)| order.get(entry.name.as_str()).copied());
        });
        // Where it fails it may be seen already.
        self.db.changes.touch_all(self.entry.span);
        committed?;
        Ok(is_placed)
    }

    /// Writes what is in the head to a block, which names the records of it and no others: they may be all that is whole one day.
    fn write(&mut self) -> Result<(), Error> {
        let (head, records) = (std::mem::take(&mut self.head), std::mem::take(&mut self.records));
        let frozen = head.freeze();
        let span = self.entry.span;
        self.written.extend(self.db.write_blocks(&head, &frozen, &records, &|_| span)?);
        drop((frozen, head));
        self.held.shrink_to(0);
        Ok(())
    }
}

impl Drop for Rebuild<'_> {
    /// What was not put in the place is of no use.
    fn drop(&mut self) {
        self.db.discard(std::mem::take(&mut self.written).into_iter().map(|(entry, _)| entry.name));
    }
}
