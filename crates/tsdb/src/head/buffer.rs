//! The samples of one series in a head.

use std::sync::Arc;

use model::{Columns, Sample, TimeRange};

use crate::Error;
use crate::chunk::{self, Scratch};

/// Samples that are kept as they came before they are sealed: few enough to copy, enough for a chunk to be smaller than they are.
const TAIL: usize = 32;

/// A chunk in memory.
#[derive(Debug, Clone)]
struct Sealed {
    range: TimeRange,
    samples: u32,
    bytes: Arc<[u8]>,
}

/// Samples of one series; times ascend over the chunks and the tail.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    sealed: Vec<Sealed>,
    tail: Vec<Sample>,
    /// Those that were not later than the last one when they came, in the order in which they came.
    late: Vec<Sample>,
}

/// What a buffer held at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    sealed: Vec<Sealed>,
    tail: Vec<Sample>,
    late: Vec<Sample>,
}

impl Buffer {
    /// Appends a sample; whether it was in order.
    #[inline]
    pub(crate) fn push(&mut self, sample: Sample, scratch: &mut SealScratch) -> bool {
        let last = self.tail.last().map(|s| s.t).or_else(|| self.sealed.last().map(|c| c.range.end_ms));
        if last.is_some_and(|last| sample.t <= last) {
            self.late.push(sample);
            return false;
        }
        if self.tail.len() == TAIL {
            self.seal(scratch);
        }
        self.tail.push(sample);
        true
    }

    fn seal(&mut self, scratch: &mut SealScratch) {
        let (Some(first), Some(last)) = (self.tail.first(), self.tail.last()) else { return };
        let range = TimeRange { start_ms: first.t, end_ms: last.t };
        scratch.columns.clear();
        for sample in self.tail.drain(..) {
            scratch.columns.push(sample.t, sample.v);
        }
        scratch.bytes.clear();
        chunk::encode(&scratch.columns.t, &scratch.columns.v, &mut scratch.chunk, &mut scratch.bytes);
        let (samples, bytes) = (scratch.columns.len() as u32, Arc::from(scratch.bytes.as_slice()));
        self.sealed.push(Sealed { range, samples, bytes });
    }

    /// Memory taken, about.
    pub(crate) fn bytes(&self) -> usize {
        let sealed: usize = self.sealed.iter().map(|c| c.bytes.len() + size_of::<Sealed>() + 16).sum();
        sealed + (self.tail.capacity() + self.late.capacity()) * size_of::<Sample>()
    }

    pub(crate) fn samples(&self) -> usize {
        self.sealed.iter().map(|c| c.samples as usize).sum::<usize>() + self.tail.len() + self.late.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.tail.is_empty() && self.late.is_empty()
    }

    /// Whether there is a sample in the range. Chunks are not looked into: one that spans the range counts.
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        self.sealed.iter().any(|c| c.range.overlaps(&range))
            || self.tail.iter().chain(&self.late).any(|s| range.contains(s.t))
    }

    pub(crate) fn snapshot(&self, range: TimeRange) -> Snapshot {
        let within = |samples: &[Sample]| samples.iter().filter(|s| range.contains(s.t)).copied().collect();
        Snapshot {
            sealed: self.sealed.iter().filter(|c| c.range.overlaps(&range)).cloned().collect(),
            tail: within(&self.tail),
            late: within(&self.late),
        }
    }

    pub(crate) fn truncate_before(&mut self, start_ms: i64) {
        self.sealed.retain(|c| c.range.end_ms >= start_ms);
        self.tail.retain(|s| s.t >= start_ms);
        self.late.retain(|s| s.t >= start_ms);
    }
}

/// Memory that sealing needs, kept by the shard.
#[derive(Debug, Default)]
pub(crate) struct SealScratch {
    columns: Columns,
    chunk: Scratch,
    bytes: Vec<u8>,
}

impl Snapshot {
    /// Appends the samples in the range to `out`, ascending, each time once, the one written last.
    pub(crate) fn read_into(&self, range: TimeRange, out: &mut Columns) -> Result<(), Error> {
        let start = out.len();
        for sealed in self.sealed.iter().filter(|c| c.range.overlaps(&range)) {
            let before = out.len();
            chunk::decode(&sealed.bytes, out).map_err(|reason| Error::corrupt("chunk in memory", 0, reason))?;
            clip(out, before, range);
        }
        for sample in self.tail.iter().filter(|s| range.contains(s.t)) {
            out.push(sample.t, sample.v);
        }
        if !self.late.is_empty() {
            let mut late: Vec<Sample> = self.late.iter().filter(|s| range.contains(s.t)).copied().collect();
            late.sort_by_key(|s| s.t); // stable: of equal times the last one came last
            let mut newer = Columns::default();
            for sample in late {
                if newer.t.last() == Some(&sample.t) {
                    newer.v.pop();
                    newer.t.pop();
                }
                newer.push(sample.t, sample.v);
            }
            merge_newer(out, start, &newer);
        }
        Ok(())
    }
}

/// Takes away samples from `from` on that are not in the range.
pub(crate) fn clip(out: &mut Columns, from: usize, range: TimeRange) {
    let own = &out.t[from..];
    let (first, end) = (own.partition_point(|t| *t < range.start_ms), own.partition_point(|t| *t <= range.end_ms));
    out.t.truncate(from + end);
    out.v.truncate(from + end);
    if first > 0 {
        out.t.drain(from..from + first);
        out.v.drain(from..from + first);
    }
}

/// Merges samples that were written later into those from `from` on; of equal times the newer one stays.
pub(crate) fn merge_newer(out: &mut Columns, from: usize, newer: &Columns) {
    let Some(first) = newer.t.first() else { return };
    if out.t[from..].last().is_none_or(|last| last < first) {
        out.t.extend_from_slice(&newer.t);
        out.v.extend_from_slice(&newer.v);
        return;
    }
    let older = Columns { t: out.t.split_off(from), v: out.v.split_off(from) };
    let (mut i, mut j) = (0, 0);
    while i < older.len() || j < newer.len() {
        let take_newer = match (older.t.get(i), newer.t.get(j)) {
            (Some(a), Some(b)) => {
                i += usize::from(a == b);
                b <= a
            }
            (None, _) => true,
            _ => false,
        };
        if take_newer {
            out.push(newer.t[j], newer.v[j]);
            j += 1;
        } else {
            out.push(older.t[i], older.v[i]);
            i += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(samples: &[(i64, f64)]) -> Columns {
        Columns { t: samples.iter().map(|s| s.0).collect(), v: samples.iter().map(|s| s.1).collect() }
    }

    #[test]
    fn newer_samples_win_and_order_is_kept() {
        let mut out = columns(&[(9, 0.0), (1, 1.0), (3, 3.0), (5, 5.0)]);
        merge_newer(&mut out, 1, &columns(&[(2, 20.0), (3, 30.0), (7, 70.0)]));
        assert_eq!(out, columns(&[(9, 0.0), (1, 1.0), (2, 20.0), (3, 30.0), (5, 5.0), (7, 70.0)]));
    }

    #[test]
    fn late_samples_are_merged_and_the_last_one_written_wins() {
        let (mut buffer, mut scratch) = (Buffer::default(), SealScratch::default());
        for t in 0..100 {
            assert!(buffer.push(Sample { t: t * 10, v: 0.0 }, &mut scratch));
        }
        for (t, v) in [(55, 1.0), (50, 2.0), (50, 3.0), (990, 4.0), (-5, 5.0)] {
            assert!(!buffer.push(Sample { t, v }, &mut scratch));
        }
        let mut out = Columns::default();
        buffer.snapshot(TimeRange::ALL).read_into(TimeRange { start_ms: -5, end_ms: 70 }, &mut out).expect("reads");
        let expect = [
            (-5, 5.0),
            (0, 0.0),
            (10, 0.0),
            (20, 0.0),
            (30, 0.0),
            (40, 0.0),
            (50, 3.0),
            (55, 1.0),
            (60, 0.0),
            (70, 0.0),
        ];
        assert_eq!(out, columns(&expect));
        let mut all = Columns::default();
        buffer.snapshot(TimeRange::ALL).read_into(TimeRange::ALL, &mut all).expect("reads");
        assert_eq!((all.len(), all.v[101]), (102, 4.0));
        assert_eq!(buffer.samples(), 105);
    }
}
