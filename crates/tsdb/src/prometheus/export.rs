//! From a directory of the engine to blocks of a Prometheus.
//!
//! One block for each aligned span of time that has samples. A block's labels are in memory while it is written, its samples series by series.
//! A block appears under its name when it is whole and durable.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use model::{Cancel, Columns, Held, Labels, Mark, Matcher, SelectRequest, TimeRange, Want};

use super::chunks::StartTimes;
use super::index::{ChunkMeta, IndexWriter};
use super::meta::{self, Compaction, Meta, Stats};
use super::segments::SegmentWriter;
use super::tombstones;
use super::ulid::ulid;
use crate::Error;
use crate::block::{Block, Cache, Piece};
use crate::columns::merge_newer;
use crate::deletes::Cuts;
use crate::disk::{create_dir, io, sync_dir};
use crate::manifest::number;
use crate::offline::Directory;

/// Spans that are gone through: 22 years of two hours each.
const SPANS_MAX: i64 = 100_000;

/// What is exported, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Samples of this time.
    pub range: TimeRange,
    /// A series counts if it meets all matchers of one of these sets; none at all means every series.
    pub matcher_sets: Vec<Vec<Matcher>>,
    /// Whether start times are written, which only a newer Prometheus reads.
    pub start_times: StartTimes,
    /// Length of a block in milliseconds. Blocks begin at multiples of it.
    pub span_ms: i64,
    /// The time now, which is in the names of the blocks.
    pub now_ms: i64,
    /// Makes the names of the blocks differ from those of another export.
    pub chance: u64,
}

/// A block that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its folder.
    pub name: String,
    /// First and last time of a sample.
    pub range: TimeRange,
    /// Series in it.
    pub series: u64,
    /// Samples in it.
    pub samples: u64,
}

/// What became of an export.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The blocks, in the order of their times.
    pub blocks: Vec<Written>,
    /// What is damaged and therefore missing.
    pub problems: Vec<String>,
}

/// Writes the samples of a directory on which no engine runs to a folder, which is created if it is absent. `each` is called after each block.
///
/// What is damaged is left out and in the summary; an error is about what is asked for, or about the folder.
pub fn export(
    dir: &Path,
    out: &Path,
    options: &Options,
    cancel: &Cancel,
    each: &mut dyn FnMut(&Written),
) -> Result<Summary, Error> {
    let (directory, cache) = (Directory::open(dir)?, Cache::new(Cache::OFFLINE_BYTES));
    let mut summary = Summary::default();
    let mut blocks = Vec::new();
    summary.problems.extend(directory.faults.listed.iter().map(ToString::to_string));
    for name in directory.blocks() {
        let opened = Block::open(&directory.disk, &name, &cache);
        match opened.and_then(|block| Ok((Cuts::new(directory.deletes(), number(&name), &block)?, Arc::new(block)))) {
            Ok(source) => blocks.push(source),
            Err(error) => summary.problems.push(error.to_string()),
        }
    }
    create_dir(out)?;
    // `promtool tsdb dump` wants a folder for the log beside the blocks, if an empty one.
    create_dir(&out.join("wal"))?;
    let spans = spans(&blocks, options)?;
    for span in spans.into_iter().flatten() {
        let range = TimeRange {
            start_ms: span.saturating_mul(options.span_ms).max(options.range.start_ms),
            end_ms: span.saturating_add(1).saturating_mul(options.span_ms).saturating_sub(1).min(options.range.end_ms),
        };
        let chance = u128::from(options.chance) << 16 | summary.blocks.len() as u128;
        let series = find(&blocks, range, options, cancel, &mut summary.problems)?;
        let (name, start_times) = (ulid(options.now_ms, chance), options.start_times);
        let export = Export { out, name, start_times, cancel, problems: &mut summary.problems };
        if let Some(written) = export.block(&series, range)? {
            each(&written);
            summary.blocks.push(written);
        }
    }
    Ok(summary)
}

/// A block, and what is deleted of it.
type Source = (Cuts, Arc<Block>);

/// The numbers of the spans in which there may be samples.
fn spans(blocks: &[Source], options: &Options) -> Result<Option<std::ops::RangeInclusive<i64>>, Error> {
    let ranges = blocks.iter().map(|(_, block)| block.range()).filter(|range| range.overlaps(&options.range));
    let all = ranges.reduce(|a, b| TimeRange { start_ms: a.start_ms.min(b.start_ms), end_ms: a.end_ms.max(b.end_ms) });
    let Some(all) = all else { return Ok(None) };
    let first = all.start_ms.max(options.range.start_ms).div_euclid(options.span_ms);
    let last = all.end_ms.min(options.range.end_ms).div_euclid(options.span_ms);
    if last.saturating_sub(first) >= SPANS_MAX {
        let reason =
            format!("the samples span more than {SPANS_MAX} blocks; say from when to when, or take a longer span");
        return Err(Error::Limit(reason));
    }
    Ok(Some(first..=last))
}

/// Series in the order in which Prometheus has them, with their parts from the oldest written to the newest.
type Found = BTreeMap<Labels, Vec<Piece>>;

fn find(
    blocks: &[Source],
    range: TimeRange,
    options: &Options,
    cancel: &Cancel,
    problems: &mut Vec<String>,
) -> Result<Found, Error> {
    let mut found = Found::new();
    let everything = vec![Vec::new()];
    let sets = if options.matcher_sets.is_empty() { &everything } else { &options.matcher_sets };
    for (cuts, block) in blocks.iter().filter(|(_, block)| block.range().overlaps(&range)) {
        for matchers in sets {
            let request = SelectRequest {
                matchers: matchers.clone(),
                range,
                want: Want::Samples,
                series_max: usize::MAX,
                cancel: cancel.clone(),
            };
            let pieces = match block.pieces(&request, cuts, &mut Held::default()) {
                Ok(pieces) => pieces,
                Err(error @ Error::Corrupt { .. }) => {
                    problems.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (labels, piece) in pieces {
                // Two sets of matchers may find the same, which is read twice and then once the same.
                found.entry(labels).or_default().push(piece);
            }
        }
    }
    Ok(found)
}

/// Writes a file; its content is durable when this returns, its directory entry is not.
fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.map_err(io(format!("writing {}", path.display())))
}

/// One block on its way.
struct Export<'a> {
    out: &'a Path,
    name: String,
    start_times: StartTimes,
    cancel: &'a Cancel,
    problems: &'a mut Vec<String>,
}

impl Export<'_> {
    /// Writes a block, if there are samples.
    fn block(mut self, series: &Found, range: TimeRange) -> Result<Option<Written>, Error> {
        if series.is_empty() {
            return Ok(None);
        }
        // A Prometheus removes what has this name.
        let temporary = self.out.join(format!("{}.tmp-for-creation", self.name));
        fs::create_dir(&temporary).map_err(io(format!("creating {}", temporary.display())))?;
        let written = self.content(&temporary, series, range);
        if !matches!(written, Ok(Some(_))) {
            let _ = fs::remove_dir_all(&temporary);
            return written;
        }
        let path = self.out.join(&self.name);
        fs::rename(&temporary, &path).map_err(io(format!("renaming to {}", path.display())))?;
        sync_dir(self.out)?;
        written
    }

    fn content(&mut self, dir: &Path, series: &Found, range: TimeRange) -> Result<Option<Written>, Error> {
        let symbols: BTreeSet<&str> = series.keys().flat_map(Labels::iter).flat_map(|(n, v)| [n, v]).collect();
        let mut index = IndexWriter::create(dir, &symbols)?;
        let mut segments = SegmentWriter::create(dir)?;
        let (mut stats, start_times) = (Stats::default(), self.start_times);
        let mut times = TimeRange { start_ms: i64::MAX, end_ms: i64::MIN };
        let (mut samples, mut chunks) = (Columns::default(), Vec::new());
        for (labels, pieces) in series {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            self.read(pieces, range, &mut samples);
            let Some(read) = samples.range(Mark::default()) else { continue };
            times = TimeRange { start_ms: times.start_ms.min(read.start_ms), end_ms: times.end_ms.max(read.end_ms) };
            chunks.clear();
            super::chunks::encode(&samples, start_times, &mut |chunk| {
                let reference = segments.push(chunk.encoding as u8, chunk.data)?;
                let TimeRange { start_ms, end_ms } = chunk.range;
                chunks.push(ChunkMeta { start_ms, end_ms, reference });
                Ok::<(), Error>(())
            })?;
            index.push(labels, &chunks)?;
            stats.series += 1;
            stats.chunks += chunks.len() as u64;
            stats.float_samples += samples.len() as u64;
            stats.histogram_samples += samples.histograms.len() as u64;
        }
        if stats.series == 0 {
            return Ok(None);
        }
        segments.finish()?;
        index.finish()?;
        stats.samples = stats.float_samples + stats.histogram_samples;
        let meta = Meta {
            ulid: self.name.clone(),
            min_time: times.start_ms,
            // A Prometheus takes no sample before the end of its newest block, so it ends with its last sample and not with its span.
            max_time: times.end_ms.saturating_add(1),
            stats,
            compaction: Compaction { level: 1, sources: vec![self.name.clone()], parents: Vec::new() },
            version: 1,
        };
        write(&dir.join(tombstones::FILE), &tombstones::none())?;
        write(&dir.join(meta::FILE), &meta.print())?;
        sync_dir(dir)?;
        let Stats { series, samples, .. } = stats;
        Ok(Some(Written { name: self.name.clone(), range: times, series, samples }))
    }

    /// Reads a series; a part of it that is damaged is left out and noted.
    fn read(&mut self, pieces: &[Piece], range: TimeRange, samples: &mut Columns) {
        samples.clear();
        for piece in pieces {
            let mut newer = Columns::default();
            match piece.read_into(range, &mut newer) {
                Ok(()) => merge_newer(samples, Mark::default(), &newer),
                Err(error) => self.problems.push(error.to_string()),
            }
        }
    }
}
