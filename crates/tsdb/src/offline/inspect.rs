//! What is in a directory: its blocks, what they take, and which names and labels make it large.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::Path;
use std::sync::Arc;

use model::{Columns, Mark};
use serde::Serialize;

use super::raw::{Raw, reason_of};
use super::verify::check_exemplars;
use super::{Directory, Faults};
use crate::Error;
use crate::block::Memo;
use crate::chunk::{self, Times};
use crate::db::WIDE;
use crate::deletes::{self, Delete, ranges_of};

/// What is in a directory. Its field names are what `--json` shows, and stay.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// The blocks that count, in the order of the manifest.
    pub blocks: Vec<BlockInfo>,
    /// Distinct series over all blocks.
    pub series: u64,
    /// Samples; one that is in several blocks counts in each.
    pub samples: u64,
    /// Those of them that are deleted and go when their block is written anew.
    pub deleted_samples: u64,
    /// Size of the block files.
    pub bytes: u64,
    /// Where those bytes go, by the part of the format.
    pub parts: Parts,
    /// Chunks by the encoding of their values.
    pub encodings: BTreeMap<&'static str, Encoding>,
    /// Metric names with their distinct series, most first.
    pub metrics: Vec<Cardinality>,
    /// Label names with their distinct values, most first.
    pub labels: Vec<LabelInfo>,
    /// How many metric names there are.
    pub metric_names: u64,
    /// How many label names there are.
    pub label_names: u64,
    /// Metric families of which metadata is kept.
    pub families: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Distinct series that have any.
    pub exemplar_series: u64,
    /// Size of their file.
    pub exemplar_bytes: u64,
    /// Deletions of which not every block is free yet.
    pub deletions: Vec<Deletion>,
    /// Partition of the log to the offset from which it is read next.
    pub positions: BTreeMap<u32, i64>,
    /// What is damaged and left out of all this.
    pub damaged: Vec<String>,
}

/// One block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlockInfo {
    /// Its file.
    pub name: String,
    /// First and last time of its span; `None` for a block that may overlap all.
    pub span: Option<[i64; 2]>,
    /// First time of a sample, in Unix milliseconds.
    pub start_ms: i64,
    /// Last time of a sample.
    pub end_ms: i64,
    /// Series.
    pub series: u64,
    /// Samples.
    pub samples: u64,
    /// Chunks.
    pub chunks: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Size of its index.
    pub index_bytes: u64,
}

/// Bytes by the part of the format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Parts {
    /// The times in chunks.
    pub times: u64,
    /// The values in chunks.
    pub values: u64,
    /// The indexes.
    pub index: u64,
    /// Checksums, and the first and last bytes of files.
    pub frames: u64,
}

/// Chunks of one encoding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Encoding {
    /// How many there are.
    pub chunks: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes of the values.
    pub bytes: u64,
}

/// A metric name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cardinality {
    /// The name.
    pub name: String,
    /// Distinct series.
    pub series: u64,
    /// Bytes of their chunks.
    pub bytes: u64,
}

/// What somebody deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deletion {
    /// The series, as a selector.
    pub selector: String,
    /// First time, in Unix milliseconds; the lowest number for no bound.
    pub start_ms: i64,
    /// Last time; the highest number for no bound.
    pub end_ms: i64,
}

impl Deletion {
    fn new(delete: &Delete) -> Self {
        let matchers: Vec<String> = delete.matchers.iter().map(ToString::to_string).collect();
        let selector = format!("{{{}}}", matchers.join(","));
        Deletion { selector, start_ms: delete.range.start_ms, end_ms: delete.range.end_ms }
    }
}

/// A label name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelInfo {
    /// The name.
    pub name: String,
    /// Distinct values.
    pub values: u64,
    /// What finding series by it takes, in the indexes.
    pub index_bytes: u64,
}

/// Reads all of a directory. At most `top` metric names and labels are listed. Changes nothing.
pub fn inspect(dir: &Path, top: usize) -> Result<Report, Error> {
    let directory = Directory::open(dir)?;
    let manifest = directory.manifest.clone().ok_or_else(|| {
        Error::Invalid(format!("the manifest of {} is damaged; `weir tsdb verify` says how", dir.display()))
    })?;
    let mut report = Report {
        positions: manifest.positions.clone(),
        families: manifest.metadata.len() as u64,
        deletions: manifest.deletes.iter().map(|delete| Deletion::new(delete)).collect(),
        ..Report::default()
    };
    let mut blocks = Vec::new();
    for entry in &manifest.blocks {
        let mut faults = Faults::default();
        let raw = Raw::open(&directory.disk, &entry.name, &mut faults);
        report.damaged.extend(faults.listed.iter().map(ToString::to_string));
        let Some(raw) = raw else { continue };
        report.blocks.push(BlockInfo {
            name: entry.name.clone(),
            span: (entry.span != WIDE).then_some([entry.span.start_ms, entry.span.end_ms]),
            start_ms: i64::MAX,
            end_ms: i64::MIN,
            series: raw.index.series() as u64,
            bytes: raw.bytes,
            index_bytes: raw.index_bytes,
            ..BlockInfo::default()
        });
        report.bytes += raw.bytes;
        report.parts.index += raw.index_bytes;
        blocks.push(Source { number: entry.number(), raw });
    }
    if let Some(name) = &manifest.exemplars {
        let checked = check_exemplars(&directory.disk, name);
        report.damaged.extend(checked.faults.listed.iter().map(ToString::to_string));
        (report.exemplars, report.exemplar_series) = (checked.exemplars, checked.series);
        report.exemplar_bytes = checked.bytes;
    }
    let metrics = read_series(&blocks, &manifest.deletes, &mut report);
    report.samples = report.blocks.iter().map(|block| block.samples).sum();
    report.parts.frames = report.bytes - report.parts.index - report.parts.times - report.parts.values;
    report.metric_names = metrics.len() as u64;
    let mut metrics: Vec<_> =
        metrics.into_iter().map(|(name, (series, bytes))| Cardinality { name, series, bytes }).collect();
    metrics.sort_by_key(|m| Reverse(m.series));
    metrics.truncate(top);
    report.metrics = metrics;
    report.labels = labels(&blocks, &mut report.damaged);
    report.label_names = report.labels.len() as u64;
    report.labels.truncate(top);
    Ok(report)
}

/// Goes through the series of all blocks in the order of their labels, each chunk once. Metric name to distinct series and bytes of chunks.
fn read_series(blocks: &[Source], deletes: &[Arc<Delete>], report: &mut Report) -> BTreeMap<String, (u64, u64)> {
    let mut metrics: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut next = Next { heap: BinaryHeap::new(), memos: blocks.iter().map(|_| Memo::default()).collect() };
    for at in 0..blocks.len() {
        next.push(blocks, at, 0, report);
    }
    let (mut before, mut bytes, mut samples) = (String::new(), Vec::new(), Columns::default());
    // Columns of times that chunks share, each of which is counted once.
    let mut shared = BTreeSet::new();
    while let Some(Reverse((text, at, id))) = next.heap.pop() {
        let Source { number, raw } = &blocks[at];
        let entry = raw.index.entry(id, &mut next.memos[at]);
        next.push(blocks, at, id + 1, report);
        let Ok(entry) = entry else { continue };
        let is_new = text != before;
        report.series += u64::from(is_new);
        let metric = metrics.entry(entry.labels.metric_name().to_owned()).or_default();
        metric.0 += u64::from(is_new);
        before = text;
        let (name, cuts) = (report.blocks[at].name.clone(), ranges_of(deletes, *number, entry.labels.as_ref()));
        for chunk in &entry.chunks {
            let read = raw.chunk(chunk, &mut bytes, &mut samples);
            let times = if chunk.times.is_some() { Times::Beside(&samples.t) } else { Times::Within };
            let anatomy = read.and_then(|()| chunk::anatomy(&bytes, times).map_err(str::to_owned));
            let (encoding, before_values) = match anatomy {
                Ok(anatomy) => anatomy,
                Err(reason) => {
                    report.damaged.push(format!("{name}: byte {}: {reason}", chunk.at));
                    continue;
                }
            };
            let values = (bytes.len() - before_values) as u64;
            report.parts.times += before_values as u64;
            if let Some(place) = chunk.times.filter(|place| shared.insert((at, place.at))) {
                report.parts.times += u64::from(place.bytes);
            }
            report.parts.values += values;
            metric.1 += bytes.len() as u64;
            let of = report.encodings.entry(encoding).or_default();
            let all = samples.samples() as u64;
            (of.chunks, of.samples, of.bytes) = (of.chunks + 1, of.samples + all, of.bytes + values);
            let block = &mut report.blocks[at];
            (block.chunks, block.samples) = (block.chunks + 1, block.samples + all);
            block.start_ms = block.start_ms.min(chunk.range.start_ms);
            block.end_ms = block.end_ms.max(chunk.range.end_ms);
            deletes::apply(&cuts, Mark::default(), &mut samples);
            report.deleted_samples += all - samples.samples() as u64;
        }
    }
    metrics
}

/// A block with its number.
struct Source {
    number: u64,
    raw: Raw,
}

/// The series that come next, one of each block.
struct Next {
    heap: BinaryHeap<Reverse<(String, usize, u32)>>,
    memos: Vec<Memo>,
}

impl Next {
    /// Puts a series of a block among those that come next, where there is one.
    fn push(&mut self, blocks: &[Source], at: usize, id: u32, report: &mut Report) {
        let index = &blocks[at].raw.index;
        for id in id..index.series() as u32 {
            match index.entry(id, &mut self.memos[at]) {
                Ok(entry) => {
                    self.heap.push(Reverse((entry.labels.canonical().to_owned(), at, id)));
                    return;
                }
                Err(error) => {
                    let reason = reason_of(error).1;
                    report.damaged.push(format!("{}: series {id} of the index: {reason}", report.blocks[at].name));
                }
            }
        }
    }
}

/// The label names of all blocks, with most values first.
fn labels(blocks: &[Source], damaged: &mut Vec<String>) -> Vec<LabelInfo> {
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for source in blocks {
        for (name, _, of) in source.raw.index.label_names() {
            *bytes.entry(name).or_default() += of;
        }
    }
    let of = |(name, index_bytes): (&str, u64)| LabelInfo {
        name: name.to_owned(),
        values: distinct_values(blocks, name, damaged),
        index_bytes,
    };
    let mut labels: Vec<_> = bytes.into_iter().map(of).collect();
    labels.sort_by_key(|label| Reverse(label.values));
    labels
}

/// How many values a label has in all blocks together, as far as they can be read.
fn distinct_values(blocks: &[Source], name: &str, damaged: &mut Vec<String>) -> u64 {
    let mut walks: Vec<_> = blocks.iter().map(|source| source.raw.index.walk(name)).collect();
    let mut next = |at: usize| match walks[at].next() {
        Ok(value) => value.map(|value| Reverse((value.to_owned(), at))),
        Err(error) => {
            damaged.push(error.to_string());
            None
        }
    };
    let mut heap: BinaryHeap<_> = (0..blocks.len()).filter_map(&mut next).collect();
    let (mut values, mut before) = (0, None);
    while let Some(Reverse((value, at))) = heap.pop() {
        heap.extend(next(at));
        if before.as_ref() != Some(&value) {
            values += 1;
            before = Some(value);
        }
    }
    values
}
