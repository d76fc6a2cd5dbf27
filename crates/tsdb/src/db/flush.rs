//! From the head to blocks: one generation of samples, one commit.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use model::{Columns, Labels, TimeRange};

use super::{Db, Named, WIDE, lock};
use crate::Error;
use crate::block::{Block, Writer};
use crate::columns::View;
use crate::disk;
use crate::head::Frozen;
use crate::manifest::BlockEntry;

/// A head that spans more than this many spans goes to one wide block, so that samples strewn over decades do not become thousands of files.
const SPANS_MAX: i64 = 64;

/// Blocks that are being written, by their span.
pub(super) struct Writers<'a> {
    db: &'a Db,
    of: BTreeMap<i64, (String, Writer)>,
}

impl<'a> Writers<'a> {
    pub(super) fn new(db: &'a Db) -> Self {
        Writers { db, of: BTreeMap::new() }
    }

    /// Writes samples of a series to the blocks of their spans. `of` is the range of all samples that these writers get.
    pub(super) fn push(&mut self, labels: &Labels, samples: &Columns, of: TimeRange) -> Result<(), Error> {
        let mut rest = View::of(samples);
        while let Some(first_ms) = rest.first_t() {
            let (span, last_ms) = self.db.span(first_ms, of);
            let (own, later) = rest.split_after(last_ms);
            let (_, writer) = match self.of.entry(span) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let name = self.db.new_name();
                    let writer = Writer::create(&*self.db.disk, &name)?;
                    entry.insert((name, writer))
                }
            };
            writer.push(labels, own)?;
            rest = later;
        }
        Ok(())
    }

    /// Ends the blocks; durable when this returns.
    pub(super) fn finish(mut self) -> Result<Vec<Named>, Error> {
        let mut written = Vec::new();
        let finished = self.finish_each(&mut written).and_then(|()| disk::sync(&*self.db.disk));
        if let Err(error) = finished {
            self.db.discard(written.into_iter().map(|(entry, _)| entry.name));
            return Err(error);
        }
        Ok(written)
    }

    /// Ends the blocks one after the other; what is not durable yet is their names.
    fn finish_each(&mut self, written: &mut Vec<Named>) -> Result<(), Error> {
        while let Some((span, (name, writer))) = self.of.pop_first() {
            let finished = writer.finish().and_then(|()| Block::open(&*self.db.disk, &name));
            let block = finished.inspect_err(|_| self.db.discard([name.clone()]))?;
            written.push((BlockEntry { name, span }, Arc::new(block)));
        }
        Ok(())
    }
}

impl Drop for Writers<'_> {
    /// What was not finished is of no use; a disk that is full has that room again.
    fn drop(&mut self) {
        self.db.discard(std::mem::take(&mut self.of).into_values().map(|(name, _)| name));
    }
}

impl Db {
    /// Writes all that was appended to blocks and commits them with the positions that they reach. Returns these positions.
    ///
    /// When it fails nothing is lost: what was to be written stays readable, and the next flush makes it durable.
    pub fn flush(&self) -> Result<BTreeMap<u32, i64>, Error> {
        let _one = lock(&self.flushing);
        if self.view().frozen.is_some() {
            // What an earlier flush could not write; the head has gone on since.
            self.flush_generation()?;
        }
        self.flush_generation()
    }

    fn flush_generation(&self) -> Result<BTreeMap<u32, i64>, Error> {
        let (frozen, positions) = self.freeze();
        let written = self.write_blocks(&frozen)?;
        let metadata = lock(&self.metadata).clone();
        self.commit(|manifest, view| {
            manifest.positions = positions.clone();
            manifest.metadata = metadata;
            manifest.blocks.extend(written.iter().map(|(entry, _)| entry.clone()));
            view.blocks.extend(written);
            view.frozen = None;
        })?;
        self.flushes.fetch_add(1, Ordering::Relaxed);
        for shard in 0.. {
            let _nobody_looks = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            if !self.head.forget_idle(shard, &frozen) {
                break;
            }
        }
        Ok(positions)
    }

    /// Takes the samples of the head away, or those that an earlier flush could not write.
    fn freeze(&self) -> (Arc<Frozen>, BTreeMap<u32, i64>) {
        let mut committed = lock(&self.committed);
        if let Some(frozen) = &self.view().frozen {
            return (frozen.clone(), committed.frozen.clone());
        }
        let _no_record_is_open = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let frozen = Arc::new(self.head.freeze());
        committed.frozen = lock(&self.positions).clone();
        self.change_view(|view| view.frozen = Some(frozen.clone()));
        (frozen, committed.frozen.clone())
    }

    /// Writes what is frozen to a block for each span of time; durable when this returns.
    fn write_blocks(&self, frozen: &Frozen) -> Result<Vec<Named>, Error> {
        let Some(range) = frozen.range() else { return Ok(Vec::new()) };
        let mut writers = Writers::new(self);
        let mut samples = Columns::default();
        for (labels, shard, id) in self.head.sorted(frozen) {
            let Some(buffer) = frozen.buffer(shard, id) else { continue };
            samples.clear();
            buffer.read_into(TimeRange::ALL, &mut samples)?;
            writers.push(&labels, &samples, range)?;
        }
        writers.finish()
    }

    /// The span of a time, and the last time in it.
    fn span(&self, t: i64, of: TimeRange) -> (i64, i64) {
        let length = self.options.block_span_ms.max(1);
        let (first, last) = (of.start_ms.div_euclid(length), of.end_ms.div_euclid(length));
        if last.saturating_sub(first) >= SPANS_MAX {
            return (WIDE, i64::MAX);
        }
        let span = t.div_euclid(length);
        (span, self.span_end_ms(span))
    }

    /// The last time of a span.
    pub(super) fn span_end_ms(&self, span: i64) -> i64 {
        let next = span.checked_add(1).and_then(|next| next.checked_mul(self.options.block_span_ms.max(1)));
        next.map_or(i64::MAX, |next| next.saturating_sub(1))
    }
}
