//! From the blocks of a Prometheus into an engine.
//!
//! Series by series, some at a time: Weir's blocks have another order of series, so a bounded number of them is put in order, and makes one
//! block for each span of time. What is damaged is named and left out, and the rest is read: the import can be done again, since what
//! is there already is not added twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use model::{Cancel, Columns, Mark, Sample, TimeRange};

use super::index::{ChunkMeta, Entry, Index};
use super::meta::{self, Meta};
use super::segments::Segments;
use super::tombstones::{self, Tombstones};
use super::ulid::is_ulid;
use super::{FLOAT_HISTOGRAM, FLOAT_HISTOGRAM_STARTS, HISTOGRAM, HISTOGRAM_STARTS, XOR, XOR2, histogram, xor, xor2};
use crate::columns::{One, View, sorted_last_wins_of_any};
use crate::disk::io;
use crate::{Db, Error};

/// Series that are put in order at once: some 50 MiB of labels.
const SERIES_MAX: usize = 100_000;
/// Chunks of them: 48 MiB of places.
const CHUNKS_MAX: usize = 2_000_000;
/// Reasons that are kept one by one.
const PROBLEMS_MAX: usize = 100;
/// Metric names that are kept of what is skipped.
const NAMES_MAX: usize = 20;
/// Series between two reports.
const REPORT_EVERY: usize = 1000;

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Blocks that are done.
    pub blocks: usize,
    /// Blocks that there are.
    pub blocks_all: usize,
    /// Bytes of the chunks that were gone over.
    pub bytes: u64,
    /// Bytes of all chunks.
    pub bytes_all: u64,
    /// Samples that were read.
    pub samples: u64,
}

/// What became of an import.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Blocks that were read.
    pub blocks: usize,
    /// Blocks that others have replaced; they are about to be deleted there and were passed over.
    pub replaced: Vec<String>,
    /// Series, counted once in each block.
    pub series: u64,
    /// Samples that were read.
    pub samples: u64,
    /// Of these, samples that were not there yet.
    pub new: u64,
    /// Samples that tombstones delete.
    pub deleted: u64,
    /// Range of the samples that were read.
    pub range: Option<TimeRange>,
    /// Chunks that the engine does not store, by what they are.
    pub skipped: BTreeMap<String, Skipped>,
    /// What could not be read.
    pub problems: Vec<String>,
    /// How many there are beyond those.
    pub problems_further: u64,
    /// There is a write-ahead log, whose samples are in no block.
    pub has_wal: bool,
}

/// Chunks of one kind that were passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub chunks: u64,
    /// Samples in them.
    pub samples: u64,
    /// Metric names, the first of them.
    pub metrics: BTreeSet<String>,
}

impl Summary {
    fn problem(&mut self, what: impl ToString) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what.to_string());
        } else {
            self.problems_further += 1;
        }
    }

    /// Notes what is damaged, and passes on what is not about the source.
    fn note(&mut self, error: Error) -> Result<(), Error> {
        match error {
            Error::Cancelled | Error::Limit(_) => Err(error),
            other => {
                self.problem(other);
                Ok(())
            }
        }
    }
}

/// A block of the source.
struct Source {
    path: PathBuf,
    index: Index,
    segments: Segments,
    stones: Tombstones,
}

/// Reads the blocks in the data directory of a Prometheus, or in a snapshot of one, into an engine that nobody else writes to.
///
/// `each` is called now and then. An error is about the engine, or says that there is nothing to import; what is damaged in the source is in the
/// summary. What was read before an error or a cancellation stays.
pub fn import(from: &Path, db: &Db, cancel: &Cancel, each: &mut dyn FnMut(&Progress)) -> Result<Summary, Error> {
    let mut summary = Summary { has_wal: has_wal(from), ..Summary::default() };
    let sources = open(from, &mut summary)?;
    let bytes_all = sources.iter().map(|source| source.segments.bytes()).sum();
    let progress = Progress { blocks: 0, blocks_all: sources.len(), bytes: 0, bytes_all, samples: 0 };
    let mut import = Import { db, cancel, each, summary, progress, buffer: Vec::new(), done: 0 };
    for source in &sources {
        import.block(source)?;
        import.summary.blocks += 1;
        import.progress.blocks += 1;
        import.done += source.segments.bytes();
        import.progress.bytes = import.done;
        (import.each)(&import.progress);
    }
    Ok(import.summary)
}

fn has_wal(from: &Path) -> bool {
    fs::read_dir(from.join("wal")).is_ok_and(|mut entries| entries.next().is_some())
}

/// Opens the blocks, from the oldest to the newest.
fn open(from: &Path, summary: &mut Summary) -> Result<Vec<Source>, Error> {
    let context = || format!("reading {}", from.display());
    let mut metas = Vec::new();
    for entry in fs::read_dir(from).map_err(io(context()))? {
        let path = entry.map_err(io(context()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if is_ulid(name) && path.is_dir() {
            match Meta::read(&path) {
                Ok(meta) => metas.push((meta, path)),
                Err(error) => summary.note(error)?,
            }
        }
    }
    if metas.is_empty() && summary.problems.is_empty() {
        let reason = format!("{} has no blocks of a Prometheus: no folder with a {}", from.display(), meta::FILE);
        return Err(Error::Invalid(reason));
    }
    metas.sort_by(|(a, _), (b, _)| (a.min_time, &a.ulid).cmp(&(b.min_time, &b.ulid)));
    let parents: BTreeSet<String> =
        metas.iter().flat_map(|(meta, _)| &meta.compaction.parents).map(|parent| parent.ulid.clone()).collect();
    let mut sources = Vec::new();
    for (meta, path) in metas {
        if parents.contains(&meta.ulid) {
            summary.replaced.push(meta.ulid);
            continue;
        }
        match Source::open(path) {
            Ok(source) => sources.push(source),
            Err(error) => summary.note(error)?,
        }
    }
    Ok(sources)
}

impl Source {
    fn open(path: PathBuf) -> Result<Source, Error> {
        let (index, segments) = (Index::open(&path)?, Segments::open(&path)?);
        let stones = tombstones::read(&path)?;
        Ok(Source { path, index, segments, stones })
    }
}

/// What is held from one block to the next.
struct Import<'a> {
    db: &'a Db,
    cancel: &'a Cancel,
    each: &'a mut dyn FnMut(&Progress),
    summary: Summary,
    progress: Progress,
    /// Of the chunk that is read.
    buffer: Vec<u8>,
    /// Bytes of the blocks before.
    done: u64,
}

impl Import<'_> {
    fn block(&mut self, source: &Source) -> Result<(), Error> {
        let mut entries = source.index.entries();
        let mut gone_over = 0;
        loop {
            let (mut group, mut chunks) = (Vec::new(), 0);
            while group.len() < SERIES_MAX && chunks < CHUNKS_MAX {
                match entries.next() {
                    None => break,
                    Some(Ok(entry)) => {
                        chunks += entry.chunks.len();
                        group.push(entry);
                    }
                    Some(Err(error)) => {
                        self.summary.note(error)?;
                        gone_over += 1;
                    }
                }
            }
            if group.is_empty() {
                return Ok(());
            }
            self.group(source, group, &mut gone_over)?;
        }
    }

    /// Adds some series, which become blocks of their own.
    fn group(&mut self, source: &Source, mut group: Vec<Entry>, gone_over: &mut u64) -> Result<(), Error> {
        group.sort_unstable_by(|a, b| a.labels.canonical().cmp(b.labels.canonical()));
        let chunks = group.iter().flat_map(|entry| &entry.chunks);
        let range = chunks.fold(TimeRange { start_ms: i64::MAX, end_ms: i64::MIN }, |range, chunk| TimeRange {
            start_ms: range.start_ms.min(chunk.start_ms),
            end_ms: range.end_ms.max(chunk.end_ms),
        });
        let mut loader = self.db.load(range)?;
        let mut samples = Columns::default();
        for (n, entry) in group.iter().enumerate() {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            self.read(source, entry, &mut samples)?;
            self.summary.series += 1;
            self.summary.samples += View::of(&samples).samples() as u64;
            self.summary.new += loader.push(&entry.labels, &samples)?;
            if let Some(read) = samples.range(Mark::default()) {
                let range = self.summary.range.get_or_insert(read);
                range.start_ms = range.start_ms.min(read.start_ms);
                range.end_ms = range.end_ms.max(read.end_ms);
            }
            *gone_over += 1;
            // The end is told by the caller.
            if n % REPORT_EVERY == REPORT_EVERY - 1 && *gone_over < u64::from(source.index.series()) {
                // Series are the only thing of which both the whole and the part are known.
                let share = *gone_over as f64 / f64::from(source.index.series().max(1));
                self.progress.bytes = self.done + (source.segments.bytes() as f64 * share) as u64;
                self.progress.samples = self.summary.samples;
                (self.each)(&self.progress);
            }
        }
        loader.commit()?;
        self.progress.samples = self.summary.samples;
        Ok(())
    }

    /// Reads the samples of a series that are not deleted; what is damaged is noted.
    fn read(&mut self, source: &Source, entry: &Entry, samples: &mut Columns) -> Result<(), Error> {
        samples.clear();
        for chunk in &entry.chunks {
            let before = samples.mark();
            if let Err(error) = self.chunk(source, entry, chunk, samples) {
                samples.truncate(before);
                self.summary.note(error)?;
            }
        }
        // Chunks that overlap come from samples out of order.
        if !entry.chunks.is_sorted_by(|a, b| a.end_ms < b.start_ms) {
            let all = std::mem::take(samples);
            let float = |at: usize| One::Float(Sample { t: all.t[at], v: all.v[at] }, all.start(at));
            let histograms = all.histograms.iter().cloned().map(One::Histogram);
            *samples = sorted_last_wins_of_any((0..all.len()).map(float).chain(histograms).collect());
        }
        let all = View::of(samples).samples();
        source
            .stones
            .get(&entry.reference)
            .into_iter()
            .flatten()
            .for_each(|range| samples.cut(Mark::default(), *range));
        self.summary.deleted += (all - View::of(samples).samples()) as u64;
        Ok(())
    }

    fn chunk(&mut self, source: &Source, entry: &Entry, chunk: &ChunkMeta, out: &mut Columns) -> Result<(), Error> {
        let damaged = |reason: &str| {
            let (path, labels) = (source.path.display(), &entry.labels);
            Error::Invalid(format!("{path}: chunk {:#x} of {labels}: {reason}", chunk.reference))
        };
        let (encoding, data) = source.segments.read(chunk.reference, &mut self.buffer)?;
        let from = out.mark();
        let histograms = |float, starts| histogram::Kind { float, starts };
        let read = match encoding {
            XOR => xor::decode(data, out),
            XOR2 => xor2::decode(data, out),
            HISTOGRAM => histogram::decode(data, histograms(false, false), out),
            FLOAT_HISTOGRAM => histogram::decode(data, histograms(true, false), out),
            HISTOGRAM_STARTS => histogram::decode(data, histograms(false, true), out),
            FLOAT_HISTOGRAM_STARTS => histogram::decode(data, histograms(true, true), out),
            other => {
                let skipped = self.summary.skipped.entry(format!("encoding {other}")).or_default();
                skipped.chunks += 1;
                // Every encoding that there is begins with the number of samples.
                skipped.samples += data.first_chunk().map_or(0, |count| u64::from(u16::from_be_bytes(*count)));
                if skipped.metrics.len() < NAMES_MAX {
                    skipped.metrics.insert(entry.labels.metric_name().to_owned());
                }
                return Ok(());
            }
        };
        read.map_err(&damaged)?;
        let sorted = out.t[from.floats..].is_sorted() && out.histograms[from.histograms..].is_sorted_by_key(|h| h.t);
        // Also what bounds the spans of time that are written to at once.
        if out.range(from) != Some(TimeRange { start_ms: chunk.start_ms, end_ms: chunk.end_ms }) || !sorted {
            return Err(damaged("its times are not those that the index has"));
        }
        Ok(())
    }
}
