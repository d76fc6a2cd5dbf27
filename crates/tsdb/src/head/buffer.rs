//! The samples of one series in a head.
//!
//! A few samples lie as they came ([`Tail`]); when there are [`TAIL`] of them they become a chunk behind those before, all in one
//! allocation. The price of small chunks is a byte or so a sample more than in a block, the gain is that a million series with a few samples each
//! stay small and that an append is a comparison and a store. Where many come at once, as when a day is loaded, they become a chunk without lying there first.

use model::{Columns, HistogramSample, Mark, Sample, TimeRange, is_stale};

use super::side::Side;
use super::tail::{TAIL, Tail};
use crate::Error;
use crate::chunk::{self, Scratch};
use crate::columns::merge_newer;

/// So many floats at once are not put beside those that wait one by one, if with these they are enough for a chunk.
const MANY: usize = TAIL / 2;

/// Samples of one series.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// Chunks one after the other; times ascend over them and the tail.
    sealed: Vec<u8>,
    tail: Tail,
    /// What most series do not have.
    side: Option<Box<Side>>,
    first_t: i64,
    last_t: i64,
}

/// Series have to be read to be counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uncounted;

/// What a buffer held at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    sealed: Box<[u8]>,
    tail: Box<[Sample]>,
    side: Option<Box<Side>>,
}

/// Memory that sealing needs, kept by the shard.
#[derive(Debug, Default)]
pub(crate) struct SealScratch {
    pub(super) columns: Columns,
    pub(super) chunk: Scratch,
    bytes: Vec<u8>,
}

impl Default for Buffer {
    fn default() -> Self {
        Buffer { sealed: Vec::new(), tail: Tail::default(), side: None, first_t: i64::MAX, last_t: i64::MIN }
    }
}

impl Buffer {
    /// Appends a float without a start; whether it was in order.
    #[inline]
    pub(crate) fn push(&mut self, sample: Sample, scratch: &mut SealScratch) -> bool {
        if self.side.is_some() {
            return self.push_with_start(sample, 0, scratch);
        }
        if sample.t <= self.last_t {
            self.side.get_or_insert_default().late.push(sample);
            return false;
        }
        self.make_room(sample.t, scratch);
        self.add_to_tail(sample);
        true
    }

    /// Appends floats without a start, where they are many, in order and later than all before; whether it did.
    pub(crate) fn push_many(&mut self, samples: &[Sample], scratch: &mut SealScratch) -> bool {
        let [first, .., last] = samples else { return false };
        let are_enough = samples.len() >= MANY && samples.len() + self.tail.len() >= TAIL;
        if !are_enough || self.side.is_some() || first.t <= self.last_t {
            return false;
        }
        if !samples.is_sorted_by(|a, b| a.t < b.t) {
            return false;
        }
        self.seal_with(samples, scratch);
        self.last_t = last.t;
        self.first_t = self.first_t.min(first.t);
        true
    }

    /// Has what the next append needs fetched.
    #[inline]
    pub(super) fn fetch(&self) {
        self.tail.fetch();
    }

    /// Seals what there is where the tail takes no sample of a time that is later.
    #[inline]
    fn make_room(&mut self, t: i64, scratch: &mut SealScratch) {
        if !self.tail.takes(t) {
            self.seal(scratch);
        }
    }

    #[inline]
    fn add_to_tail(&mut self, sample: Sample) {
        self.tail.push(sample);
        self.last_t = sample.t;
        self.first_t = self.first_t.min(sample.t);
    }

    /// Appends a float with its start, or 0; whether it was in order.
    pub(crate) fn push_with_start(&mut self, sample: Sample, start: i64, scratch: &mut SealScratch) -> bool {
        let side = self.side.get_or_insert_default();
        if sample.t <= self.last_t {
            match start {
                0 => side.late.push(sample),
                start => side.late.push_with_start(sample, start, &mut scratch.chunk),
            }
            return false;
        }
        self.make_room(sample.t, scratch);
        if let Some(side) = &mut self.side {
            side.push_start(self.tail.len(), start);
        }
        self.add_to_tail(sample);
        true
    }

    /// Appends a histogram; whether it was in order.
    pub(crate) fn push_histogram(&mut self, sample: &HistogramSample, scratch: &mut SealScratch) -> bool {
        let side = self.side.get_or_insert_default();
        if sample.t <= self.last_t {
            side.late.push_histogram(sample, &mut scratch.chunk);
            return false;
        }
        if side.histograms() == TAIL {
            self.seal(scratch);
        }
        self.side.get_or_insert_default().push_histogram(sample, &mut scratch.chunk);
        self.last_t = sample.t;
        self.first_t = self.first_t.min(sample.t);
        true
    }

    /// Time of the newest sample that was in order; the smallest number where there is none.
    pub(super) fn last_t(&self) -> i64 {
        self.last_t
    }

    /// Makes chunks of what came since the last time.
    fn seal(&mut self, scratch: &mut SealScratch) {
        self.seal_with(&[], scratch);
    }

    /// As [`Buffer::seal`], with floats that come behind it.
    fn seal_with(&mut self, more: &[Sample], scratch: &mut SealScratch) {
        scratch.columns.clear();
        scratch.columns.t.extend(self.tail.iter().map(|s| s.t).chain(more.iter().map(|s| s.t)));
        scratch.columns.v.extend(self.tail.iter().map(|s| s.v).chain(more.iter().map(|s| s.v)));
        self.tail.clear();
        if let Some(side) = &mut self.side {
            side.take_open(&mut scratch.columns);
        }
        scratch.bytes.clear();
        chunk::pieces(&scratch.columns).for_each(|piece| piece.encode(&mut scratch.chunk, &mut scratch.bytes));
        // Exactly what is needed: doubling would cost as much again as it holds.
        if self.sealed.capacity() - self.sealed.len() < scratch.bytes.len() {
            self.sealed.reserve_exact(scratch.bytes.len() + self.sealed.len() / 4);
        }
        self.sealed.extend_from_slice(&scratch.bytes);
    }

    /// Memory taken beside the struct itself.
    #[inline]
    pub(crate) fn heap_bytes(&self) -> usize {
        let side = self.side.as_ref().map_or(0, |side| side.heap_bytes());
        self.sealed.capacity() + self.tail.heap_bytes() + side
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.tail.is_empty() && self.side.as_ref().is_none_or(|side| side.is_empty())
    }

    /// Whether there may be a sample in the range.
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        let own = TimeRange { start_ms: self.first_t, end_ms: self.last_t };
        (own.start_ms <= own.end_ms && own.overlaps(&range))
            || self.side.as_ref().is_some_and(|side| side.late.overlaps(range))
    }

    /// The time of the newest sample in the range, and whether it is no stale marker; the error is of a histogram, which nobody can count yet.
    pub(crate) fn newest(&self, range: TimeRange, scratch: &mut Columns) -> Result<Option<(i64, bool)>, Uncounted> {
        if let (None, Some(last)) = (&self.side, self.tail.last())
            && last.t <= range.end_ms
        {
            return Ok((last.t >= range.start_ms).then(|| (last.t, !is_stale(last.v))));
        }
        if !self.overlaps(range) {
            return Ok(None);
        }
        scratch.clear();
        self.read_into(range, scratch).map_err(|_| Uncounted)?;
        if !scratch.histograms.is_empty() {
            return Err(Uncounted);
        }
        Ok(scratch.t.last().zip(scratch.v.last()).map(|(t, v)| (*t, !is_stale(*v))))
    }

    /// Copies what is needed to read the range.
    pub(crate) fn snapshot(&self, range: TimeRange) -> Snapshot {
        let sealed_ends = self.tail.first_t().unwrap_or(self.last_t);
        let side = self.side.as_ref().filter(|side| !side.is_empty());
        let tail = match side {
            // With their starts beside them.
            Some(_) => self.tail.iter().collect(),
            None => self.tail.iter().filter(|s| range.contains(s.t)).collect(),
        };
        Snapshot {
            sealed: if range.start_ms <= sealed_ends { self.sealed.as_slice().into() } else { Box::default() },
            tail,
            side: side.map(|side| Box::new(side.within(range))),
        }
    }

    /// Appends the samples in the range to `out`, ascending, each time once, the one written last.
    pub(crate) fn read_into(&self, range: TimeRange, out: &mut Columns) -> Result<(), Error> {
        read(&self.sealed, self.tail.iter(), self.side.as_deref(), range, out)
    }

    /// Forgets samples before a time, of the sealed ones whole chunks; returns how many.
    pub(crate) fn truncate_before(&mut self, start_ms: i64) -> usize {
        let mut gone = 0;
        if self.first_t < start_ms && self.first_t <= self.last_t {
            gone += self.truncate_sealed(start_ms);
            let old = self.tail.iter().take_while(|s| s.t < start_ms).count();
            if old > 0 {
                self.tail.forget(old);
            }
            gone += old;
            let mut first_open = None;
            if let Some(side) = &mut self.side {
                side.forget_starts(old);
                gone += side.truncate_open(start_ms, &mut first_open);
            }
            if self.sealed.is_empty() {
                let first = self.tail.first_t().into_iter().chain(first_open).min();
                self.first_t = first.unwrap_or(i64::MAX);
            }
        }
        if let Some(side) = &mut self.side {
            gone += side.late.truncate_before(start_ms);
            if side.is_empty() {
                self.side = None;
            }
        }
        gone
    }

    fn truncate_sealed(&mut self, start_ms: i64) -> usize {
        let (mut cut, mut gone, mut columns) = (0, 0, Columns::default());
        while cut < self.sealed.len() {
            columns.clear();
            let Ok(size) = chunk::decode(&self.sealed[cut..], &mut columns) else { break };
            if let Some(range) = columns.range(Mark::default()).filter(|range| range.end_ms >= start_ms) {
                self.first_t = range.start_ms;
                break;
            }
            cut += size;
            gone += columns.samples();
        }
        self.sealed.drain(..cut);
        gone
    }
}

impl Snapshot {
    /// Memory that it takes beside itself, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let side = self.side.as_ref().map_or(0, |side| side.heap_bytes());
        self.sealed.len() + size_of_val(&*self.tail) + side
    }

    /// Appends the samples in the range to `out`, ascending, each time once, the one written last.
    pub(crate) fn read_into(&self, range: TimeRange, out: &mut Columns) -> Result<(), Error> {
        read(&self.sealed, self.tail.iter().copied(), self.side.as_deref(), range, out)
    }
}

fn read(
    sealed: &[u8],
    tail: impl Iterator<Item = Sample>,
    side: Option<&Side>,
    range: TimeRange,
    out: &mut Columns,
) -> Result<(), Error> {
    let start = out.mark();
    decode_all(sealed, out)?;
    if let Some(side) = side {
        side.read_open(out)?;
    }
    out.clip(start, range);
    for (at, sample) in tail.enumerate().filter(|(_, s)| range.contains(s.t)) {
        out.push_with_start(sample.t, sample.v, side.map_or(0, |side| side.start(at)));
    }
    if let Some(side) = side {
        merge_newer(out, start, &side.late.sorted(range)?);
    }
    Ok(())
}

/// Appends what chunks that follow each other hold.
pub(super) fn decode_all(chunks: &[u8], out: &mut Columns) -> Result<(), Error> {
    let mut at = 0;
    while at < chunks.len() {
        at += chunk::decode(&chunks[at..], out).map_err(|reason| Error::corrupt("a chunk in memory", at, reason))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::Family;

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
    fn many_samples_at_once_are_those_that_come_one_by_one() {
        let mut at_once = 0;
        for seed in 0..300 {
            let random = &mut fastrand::Rng::with_seed(seed);
            let (mut many, mut single, mut scratch) = (Buffer::default(), Buffer::default(), SealScratch::default());
            let mut now = 0;
            for _ in 0..random.usize(1..12) {
                let step = [15_000, 1, 5_000_000_000][random.usize(..3)];
                let mut samples: Vec<Sample> = (0..random.i64(1..60))
                    .map(|_| {
                        now += random.i64(1..=step);
                        Sample { t: now, v: f64::from(random.u8(..)) / 4.0 }
                    })
                    .collect();
                match random.u8(..12) {
                    0 => samples.reverse(),
                    1 => samples.iter_mut().for_each(|sample| sample.t -= 20_000),
                    2 => samples.insert(1, Sample { t: samples[0].t, v: 9.0 }),
                    _ => {}
                }
                let are_in = many.push_many(&samples, &mut scratch);
                at_once += if are_in { samples.len() } else { 0 };
                for sample in samples {
                    single.push(sample, &mut scratch);
                    if !are_in {
                        many.push(sample, &mut scratch);
                    }
                }
            }
            let start_ms = random.i64(0..=now.max(1));
            for range in [TimeRange::ALL, TimeRange { start_ms, end_ms: start_ms + now / 3 }] {
                let (mut found, mut expect) = (Columns::default(), Columns::default());
                many.read_into(range, &mut found).expect("reads");
                single.read_into(range, &mut expect).expect("reads");
                assert_eq!(found, expect, "seed {seed}");
                assert_eq!(many.overlaps(range), single.overlaps(range), "seed {seed}");
            }
        }
        assert!(at_once > 10_000, "{at_once}");
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

    #[test]
    fn samples_of_all_kinds_are_read_in_order_and_truncated() {
        let (mut random, mut scratch) = (fastrand::Rng::with_seed(7), SealScratch::default());
        for (count, late) in [(5, false), (16, false), (17, true), (60, true), (200, true)] {
            let (mut buffer, mut family) = (Buffer::default(), Family::new(&mut random));
            let mut expect = BTreeMap::new();
            for n in 0..count {
                // In order, and then some that are late, of which some replace others.
                let times = [n * 10].into_iter().chain((late && n % 3 == 2).then(|| random.i64(0..n * 10)));
                for t in times {
                    // Stretches of each kind, and neighbours that differ.
                    let kind = if n % 50 < 30 { n / 10 % 3 } else { random.i64(0..3) };
                    let (sample, in_order) = (Sample { t, v: random.f64() }, t == n * 10);
                    let histogram = family.sample(t, &mut random);
                    let start = if kind == 1 { random.i64(0..3) } else { 0 };
                    let pushed = match kind {
                        0 => buffer.push(sample, &mut scratch),
                        1 => buffer.push_with_start(sample, start, &mut scratch),
                        _ => buffer.push_histogram(&histogram, &mut scratch),
                    };
                    assert_eq!(pushed, in_order);
                    let any = if kind == 2 { Err(histogram) } else { Ok((sample.v.to_bits(), start)) };
                    expect.insert(t, any);
                }
            }
            check(&buffer, TimeRange::ALL, &expect);
            let truncated = count * 10 / 2;
            buffer.truncate_before(truncated);
            expect.retain(|t, _| *t >= truncated);
            check(&buffer, TimeRange { start_ms: truncated, end_ms: i64::MAX }, &expect);
            buffer.truncate_before(count * 10);
            assert!(buffer.is_empty() && !buffer.overlaps(TimeRange::ALL));
        }
    }

    #[test]
    fn histograms_that_are_forgotten_are_not_looked_for() {
        let (mut random, mut scratch) = (fastrand::Rng::with_seed(7), SealScratch::default());
        let (mut buffer, mut family) = (Buffer::default(), Family::new(&mut random));
        for t in [10, 20, 30] {
            assert!(buffer.push_histogram(&family.sample(t, &mut random), &mut scratch));
        }
        buffer.push(Sample { t: 40, v: 1.0 }, &mut scratch);
        assert_eq!(buffer.truncate_before(20), 1);
        let overlaps = |start_ms, end_ms| buffer.overlaps(TimeRange { start_ms, end_ms });
        assert!(!overlaps(0, 19) && overlaps(0, 20));
    }

    type Any = Result<(u64, i64), HistogramSample>;

    fn check(buffer: &Buffer, range: TimeRange, expect: &BTreeMap<i64, Any>) {
        let (mut whole, mut copy) = (Columns::default(), Columns::default());
        buffer.read_into(range, &mut whole).expect("reads");
        buffer.snapshot(range).read_into(range, &mut copy).expect("reads");
        assert_eq!(whole, copy);
        let floats = (0..whole.len()).map(|at| (whole.t[at], Ok((whole.v[at].to_bits(), whole.start(at)))));
        let all: BTreeMap<i64, Any> = floats.chain(whole.histograms.iter().map(|h| (h.t, Err(h.clone())))).collect();
        assert_eq!(&all, expect);
        assert_eq!(whole.samples(), expect.len());
    }
}
