//! From the head to blocks: one generation of samples, one commit.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use model::{Columns, LabelsRef, TimeRange};

use super::{Background, Db, Named, Reached, Source, WIDE, lock};
use crate::Error;
use crate::block::{Block, Writer};
use crate::columns::View;
use crate::disk;
use crate::head::{Frozen, Head};
use crate::manifest::{BlockEntry, span};
use crate::offsets::Offsets;

/// A head that spans more than this many spans goes to one wide block, so that samples strewn over decades do not become thousands of files.
const SPANS_MAX: i64 = 64;
/// Series after which it is looked how much memory writing them takes: some hundred kilobytes.
const LOOK_EVERY: usize = 256;

/// Blocks that are being written, by their span.
pub(super) struct Writers<'a> {
    db: &'a Db,
    /// By where it begins; of those that are open at once all are wide or none is.
    of: BTreeMap<i64, (TimeRange, String, Writer)>,
    /// The records that they are of.
    from: Offsets,
}

impl<'a> Writers<'a> {
    pub(super) fn new(db: &'a Db, from: Offsets) -> Self {
        Writers { db, of: BTreeMap::new(), from }
    }

    /// Writes samples of a series to the blocks of their spans.
    pub(super) fn push(
        &mut self,
        labels: LabelsRef<'_>,
        samples: &Columns,
        span_of: &dyn Fn(i64) -> TimeRange,
    ) -> Result<(), Error> {
        let mut rest = View::of(samples);
        while let Some(first_ms) = rest.first_t() {
            let span = span_of(first_ms);
            debug_assert!(span.contains(first_ms), "{span:?} {first_ms}");
            let (own, later) = rest.split_after(span.end_ms);
            let open = self.of.len();
            let (_, _, writer) = match self.of.entry(span.start_ms) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let name = self.db.new_name();
                    let writer = self.db.writer(&name, open + 1)?;
                    entry.insert((span, name, writer))
                }
            };
            writer.push(labels, own)?;
            rest = later;
        }
        Ok(())
    }

    /// Memory that it holds until the blocks are ended, about.
    fn memory(&self) -> usize {
        self.of.values().map(|(_, _, writer)| writer.memory()).sum()
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
        while let Some((_, (span, name, writer))) = self.of.pop_first() {
            let finished = writer.finish().and_then(|forgotten| {
                self.db.times_forgotten.fetch_add(forgotten, Ordering::Relaxed);
                Block::open(&*self.db.disk, &name, &self.db.cache)
            });
            let block = finished.inspect_err(|_| self.db.discard([name.clone()]))?;
            written.push((BlockEntry::new(name, span, self.from.clone()), Arc::new(block)));
        }
        Ok(())
    }
}

impl Drop for Writers<'_> {
    /// What was not finished is of no use; a disk that is full has that room again.
    fn drop(&mut self) {
        self.db.discard(std::mem::take(&mut self.of).into_values().map(|(_, name, _)| name));
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
        let (frozen, source) = self.freeze();
        let range = frozen.range().unwrap_or(TimeRange::ALL);
        let written = self.write_blocks(&self.head, &frozen, &source.from, &|t| self.span(t, range))?;
        let exemplars =
            self.file_exemplars().inspect_err(|_| self.discard(written.iter().map(|(e, _)| e.name.clone())))?;
        let metadata = self.prune_families();
        let forget = |entry: &mut BlockEntry| {
            if entry.from.has_any(&source.of_other_logs) {
                entry.from = Offsets::default();
            }
        };
        let spans: Vec<TimeRange> = written.iter().map(|(entry, _)| entry.span).collect();
        self.commit(|manifest, view| {
            manifest.blocks.iter_mut().for_each(forget);
            view.blocks.iter_mut().for_each(|(entry, _)| forget(entry));
            manifest.positions = source.positions.clone();
            manifest.metadata = metadata;
            exemplars.iter().for_each(|filed| filed.commit_to(manifest));
            manifest.blocks.extend(written.iter().map(|(entry, _)| entry.clone()));
            view.blocks.extend(written);
            view.frozen = None;
        })?;
        lock(&self.paces).wrote(self.now_ms(), spans.into_iter());
        exemplars.iter().for_each(|filed| self.filed(filed));
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.forget_series(&frozen);
        Ok(source.positions)
    }

    /// Takes the samples of the head away, or those that an earlier flush could not write.
    fn freeze(&self) -> (Arc<Frozen>, Source) {
        let mut committed = lock(&self.committed);
        if let Some(frozen) = &self.view().frozen {
            return (frozen.clone(), committed.frozen.clone());
        }
        let _no_record_is_open = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let frozen = Arc::new(self.head.freeze());
        let mut source = Source::default();
        for (partition, reached) in lock(&self.reached).iter_mut() {
            source.positions.insert(*partition, reached.next);
            if reached.is_other_log {
                source.of_other_logs.insert(*partition);
            } else if reached.first < reached.next {
                source.from.add(*partition, reached.first..reached.next);
            }
            *reached = Reached::at(reached.next);
        }
        if !source.of_other_logs.is_empty() {
            source.from = Offsets::default();
        }
        committed.frozen = source.clone();
        self.change_view(|view| view.frozen = Some(frozen.clone()));
        (frozen, source)
    }

    /// Writes what is frozen to a block for each span of time; durable when this returns.
    pub(super) fn write_blocks(
        &self,
        head: &Head,
        frozen: &Frozen,
        from: &Offsets,
        span_of: &(dyn Fn(i64) -> TimeRange + Sync),
    ) -> Result<Vec<Named>, Error> {
        if frozen.range().is_none() {
            return Ok(Vec::new());
        }
        self.in_background(Background::Flush, move || {
            let mut series = head.ordered(frozen);
            let mut writers = Writers::new(self, from.clone());
            let (mut samples, claim) = (Columns::default(), self.options.memory.writing.claim());
            let (series_bytes, mut n) = (series.bytes(), 0usize);
            let mut write = |labels: LabelsRef<'_>, shard, id| {
                if n.is_multiple_of(LOOK_EVERY) {
                    claim.set(series_bytes + writers.memory());
                }
                n += 1;
                let Some(buffer) = frozen.buffer(shard, id) else { return Ok(()) };
                samples.clear();
                buffer.read_into(TimeRange::ALL, &mut samples)?;
                writers.push(labels, &samples, span_of)
            };
            while let Some(written) = series.next(&mut write) {
                written?;
            }
            drop(series);
            claim.set(writers.memory());
            writers.finish()
        })
    }

    /// The span of a time, among samples of this range.
    pub(super) fn span(&self, t: i64, of: TimeRange) -> TimeRange {
        let length = self.options.block_span_ms.max(1);
        let (first, last) = (of.start_ms.div_euclid(length), of.end_ms.div_euclid(length));
        if last.saturating_sub(first) >= SPANS_MAX { WIDE } else { span(t.div_euclid(length), length) }
    }
}
