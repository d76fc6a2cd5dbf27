//! The samples of one series in a head.
//!
//! A few samples lie as they came; when there are [`TAIL`] of them they become a chunk behind those before, all in one
//! allocation. The price of small chunks is a byte or so a sample more than in a block, the gain is that a million series with a few samples each
//! stay small and that an append is a comparison and a store.

use model::{Columns, Sample, TimeRange};

use crate::Error;
use crate::chunk::{self, Scratch};
use crate::columns::{clip, merge_newer, sorted_last_wins};

/// Samples that are kept as they came before they are sealed: 256 bytes at most, and enough for a chunk to be a sixth of that.
const TAIL: usize = 16;

/// Samples of one series.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// Chunks one after the other; times ascend over them and the tail.
    sealed: Vec<u8>,
    tail: Vec<Sample>,
    late: Option<Box<Late>>,
    first_t: i64,
    last_t: i64,
}

/// Samples that were not later than the last one when they came, in the order in which they came.
#[derive(Debug)]
struct Late {
    samples: Vec<Sample>,
    range: TimeRange,
}

/// What a buffer held at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    sealed: Box<[u8]>,
    tail: Box<[Sample]>,
    late: Box<[Sample]>,
}

/// Memory that sealing needs, kept by the shard.
#[derive(Debug, Default)]
pub(crate) struct SealScratch {
    columns: Columns,
    chunk: Scratch,
    bytes: Vec<u8>,
}

impl Default for Buffer {
    fn default() -> Self {
        Buffer { sealed: Vec::new(), tail: Vec::new(), late: None, first_t: i64::MAX, last_t: i64::MIN }
    }
}

impl Buffer {
    /// Appends a sample; whether it was in order.
    #[inline]
    pub(crate) fn push(&mut self, sample: Sample, scratch: &mut SealScratch) -> bool {
        if sample.t <= self.last_t {
            self.push_late(sample);
            return false;
        }
        if self.tail.len() == TAIL {
            self.seal(scratch);
        }
        self.tail.push(sample);
        self.last_t = sample.t;
        self.first_t = self.first_t.min(sample.t);
        true
    }

    #[cold]
    fn push_late(&mut self, sample: Sample) {
        let range = TimeRange { start_ms: sample.t, end_ms: sample.t };
        let late = self.late.get_or_insert_with(|| Box::new(Late { samples: Vec::new(), range }));
        late.range.start_ms = late.range.start_ms.min(sample.t);
        late.range.end_ms = late.range.end_ms.max(sample.t);
        late.samples.push(sample);
    }

    fn seal(&mut self, scratch: &mut SealScratch) {
        scratch.columns.clear();
        scratch.columns.t.extend(self.tail.iter().map(|s| s.t));
        scratch.columns.v.extend(self.tail.iter().map(|s| s.v));
        self.tail.clear();
        scratch.bytes.clear();
        chunk::encode(&scratch.columns.t, &scratch.columns.v, &mut scratch.chunk, &mut scratch.bytes);
        // Exactly what is needed: doubling would cost as much again as it holds.
        if self.sealed.capacity() - self.sealed.len() < scratch.bytes.len() {
            self.sealed.reserve_exact(scratch.bytes.len() + self.sealed.len() / 4);
        }
        self.sealed.extend_from_slice(&scratch.bytes);
    }

    /// Memory taken beside the struct itself.
    #[inline]
    pub(crate) fn heap_bytes(&self) -> usize {
        let late = self.late.as_ref().map_or(0, |late| late.samples.capacity() * size_of::<Sample>());
        self.sealed.capacity() + self.tail.capacity() * size_of::<Sample>() + late
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.tail.is_empty() && self.late.is_none()
    }

    /// Whether there may be a sample in the range.
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        let own = TimeRange { start_ms: self.first_t, end_ms: self.last_t };
        (own.start_ms <= own.end_ms && own.overlaps(&range))
            || self.late.as_ref().is_some_and(|late| late.range.overlaps(&range))
    }

    /// Copies what is needed to read the range.
    pub(crate) fn snapshot(&self, range: TimeRange) -> Snapshot {
        let within = |samples: &[Sample]| samples.iter().filter(|s| range.contains(s.t)).copied().collect();
        let sealed_ends = self.tail.first().map_or(self.last_t, |s| s.t);
        Snapshot {
            sealed: if range.start_ms <= sealed_ends { self.sealed.as_slice().into() } else { Box::default() },
            tail: within(&self.tail),
            late: within(self.late_samples()),
        }
    }

    /// Appends the samples in the range to `out`, ascending, each time once, the one written last.
    pub(crate) fn read_into(&self, range: TimeRange, out: &mut Columns) -> Result<(), Error> {
        read(&self.sealed, &self.tail, self.late_samples(), range, out)
    }

    /// Forgets samples before a time, of the sealed ones whole chunks; returns how many.
    pub(crate) fn truncate_before(&mut self, start_ms: i64) -> usize {
        let mut gone = 0;
        if self.first_t < start_ms && self.first_t <= self.last_t {
            gone += self.truncate_sealed(start_ms);
            let before = self.tail.len();
            self.tail.retain(|s| s.t >= start_ms);
            gone += before - self.tail.len();
            if self.sealed.is_empty() {
                self.first_t = self.tail.first().map_or(i64::MAX, |s| s.t);
            }
        }
        if let Some(late) = self.late.as_mut().filter(|late| late.range.start_ms < start_ms) {
            let before = late.samples.len();
            late.samples.retain(|s| s.t >= start_ms);
            late.range.start_ms = start_ms;
            gone += before - late.samples.len();
            if late.samples.is_empty() {
                self.late = None;
            }
        }
        gone
    }

    fn truncate_sealed(&mut self, start_ms: i64) -> usize {
        let (mut cut, mut gone, mut columns) = (0, 0, Columns::default());
        while cut < self.sealed.len() {
            columns.clear();
            let Ok(size) = chunk::decode(&self.sealed[cut..], &mut columns) else { break };
            if columns.t.last().is_some_and(|last| *last >= start_ms) {
                self.first_t = columns.t[0];
                break;
            }
            cut += size;
            gone += columns.len();
        }
        self.sealed.drain(..cut);
        gone
    }

    fn late_samples(&self) -> &[Sample] {
        self.late.as_ref().map_or(&[], |late| &late.samples)
    }
}

impl Snapshot {
    /// Appends the samples in the range to `out`, ascending, each time once, the one written last.
    pub(crate) fn read_into(&self, range: TimeRange, out: &mut Columns) -> Result<(), Error> {
        read(&self.sealed, &self.tail, &self.late, range, out)
    }
}

fn read(sealed: &[u8], tail: &[Sample], late: &[Sample], range: TimeRange, out: &mut Columns) -> Result<(), Error> {
    let (start, mut at) = (out.len(), 0);
    while at < sealed.len() {
        let size =
            chunk::decode(&sealed[at..], out).map_err(|reason| Error::corrupt("a chunk in memory", at, reason))?;
        at += size;
    }
    clip(out, start, range);
    for sample in tail.iter().filter(|s| range.contains(s.t)) {
        out.push(sample.t, sample.v);
    }
    if !late.is_empty() {
        let late = late.iter().filter(|s| range.contains(s.t)).copied().collect();
        merge_newer(out, start, &sorted_last_wins(late));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Buffer {
        let (mut buffer, mut scratch) = (Buffer::default(), SealScratch::default());
        for t in 0..100 {
            assert!(buffer.push(Sample { t: t * 10, v: 0.0 }, &mut scratch));
        }
        for (t, v) in [(55, 1.0), (50, 2.0), (50, 3.0), (990, 4.0), (-5, 5.0)] {
            assert!(!buffer.push(Sample { t, v }, &mut scratch));
        }
        buffer
    }

    #[test]
    fn late_samples_are_merged_and_the_last_one_written_wins() {
        let buffer = filled();
        let expect = [-5, 0, 10, 20, 30, 40, 50, 55, 60, 70];
        for range in [TimeRange { start_ms: -5, end_ms: 70 }, TimeRange { start_ms: i64::MIN, end_ms: 70 }] {
            let mut out = Columns::default();
            buffer.snapshot(range).read_into(range, &mut out).expect("reads");
            assert_eq!(out.t, expect);
            assert_eq!(out.v, [5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 1.0, 0.0, 0.0]);
        }
        let mut all = Columns::default();
        buffer.read_into(TimeRange::ALL, &mut all).expect("reads");
        assert_eq!((all.len(), all.v[101]), (102, 4.0));
    }

    #[test]
    fn truncation_forgets_whole_chunks_and_single_samples_elsewhere() {
        let mut buffer = filled();
        assert_eq!(buffer.truncate_before(500), 48 + 4);
        let mut out = Columns::default();
        buffer.read_into(TimeRange { start_ms: 500, end_ms: 2000 }, &mut out).expect("reads");
        assert_eq!((out.len(), out.t[0], out.v[49]), (50, 500, 4.0));
        assert!(!buffer.overlaps(TimeRange { start_ms: 0, end_ms: 400 }));
        buffer.truncate_before(991);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_sample_at_the_first_time_there_is_is_kept() {
        let (mut buffer, mut scratch) = (Buffer::default(), SealScratch::default());
        buffer.push(Sample { t: i64::MIN, v: 1.0 }, &mut scratch);
        buffer.push(Sample { t: i64::MAX, v: 2.0 }, &mut scratch);
        let mut out = Columns::default();
        assert!(buffer.overlaps(TimeRange { start_ms: i64::MIN, end_ms: i64::MIN }));
        buffer.read_into(TimeRange::ALL, &mut out).expect("reads");
        assert_eq!(out, Columns::floats(vec![i64::MIN, i64::MAX], vec![1.0, 2.0]));
    }
}
