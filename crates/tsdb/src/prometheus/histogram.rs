//! Chunks of native histograms: the layout once, then each histogram by what it differs from the one before.
//!
//! Of integer counts, times and counts are differences of differences, and a bucket is told by what it exceeds its neighbour by. Of float counts each
//! number is XORed with the one before. A marker of staleness has no buckets and is the last in its chunk, so that nothing differs from it.
//!
//! A chunk has one hint of a reset, which tells of its first histogram; those that follow in it are known not to be reset.

mod layout;

use std::sync::Arc;

use model::histogram::BUCKETS_MAX;
use model::{Buckets, Columns, Counts, Histogram, HistogramSample, Layout, ResetHint};

use self::layout::{put_layout, take_layout};
use super::Reason;
use super::bits::{BitReader, BitWriter};
use super::starts::{Starts, StartsWriter};
use super::varbit::{put_int, put_uint, take_int, take_uint};
use super::xor::Xored;

/// Histograms in a chunk that is written. Prometheus ends one at some kilobyte; larger ones are read as well.
pub(super) const SAMPLES_MAX: usize = 120;

/// The numbers of a reset's hint in the first two bits of a header.
const UNKNOWN: u8 = 0b00;
const NOT_RESET: u8 = 0b01;
const RESET: u8 = 0b10;
const GAUGE: u8 = 0b11;

/// What a chunk holds, by its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// Counts are floats.
    pub(super) float: bool,
    /// There may be start times.
    pub(super) starts: bool,
}

/// Whether a histogram goes on in the chunk whose last one is `last`.
pub(super) fn continues(last: &Histogram, next: &Histogram) -> bool {
    let gauge = |histogram: &Histogram| histogram.hint == ResetHint::Gauge;
    if last.is_stale() || next.is_stale() || !last.is_like(next) || gauge(last) != gauge(next) {
        return false;
    }
    gauge(next) || !(next.hint == ResetHint::Reset || next.hint == ResetHint::Unknown && is_reset(last, next))
}

/// Whether a count is less than it was, of histograms that are alike.
fn is_reset(last: &Histogram, next: &Histogram) -> bool {
    fn less<N: PartialOrd>(last: &Buckets<N>, next: &Buckets<N>) -> bool {
        let pairs = |last: &[N], next: &[N]| last.iter().zip(next).any(|(last, next)| next < last);
        next.count < last.count
            || next.zero < last.zero
            || pairs(&last.positive, &next.positive)
            || pairs(&last.negative, &next.negative)
    }
    match (&last.counts, &next.counts) {
        (Counts::Integer(last), Counts::Integer(next)) => less(last, next),
        (Counts::Float(last), Counts::Float(next)) => less(last, next),
        _ => true,
    }
}

/// Appends the data of a chunk of histograms each of which [`continues`] the one before, from one to [`SAMPLES_MAX`]. Start times are written where the kind
/// says that there are any.
pub(super) fn encode(histograms: &[HistogramSample], kind: Kind, out: &mut Vec<u8>) {
    let first = &histograms[0].histogram;
    let hint = match first.hint {
        ResetHint::Unknown => UNKNOWN,
        ResetHint::NotReset => NOT_RESET,
        ResetHint::Reset => RESET,
        ResetHint::Gauge => GAUGE,
    };
    let [high, low] = (histograms.len() as u16).to_be_bytes();
    let starts = histograms.iter().map(|sample| if kind.starts { sample.start } else { 0 });
    let (mut starts, told) = StartsWriter::new(starts);
    out.extend_from_slice(&if kind.starts { [high | hint << 6, low, told] } else { [high, low, hint << 6] });
    let mut writer = BitWriter::new(out);
    let none = Layout::default();
    put_layout(&mut writer, if first.is_stale() { &none } else { &first.layout });
    match &first.counts {
        Counts::Integer(_) => encode_with(&mut Integers::default(), histograms, kind, &mut starts, &mut writer),
        Counts::Float(_) => encode_with(&mut Floats::default(), histograms, kind, &mut starts, &mut writer),
    }
}

fn encode_with(
    columns: &mut impl Deltas,
    histograms: &[HistogramSample],
    kind: Kind,
    starts: &mut StartsWriter,
    writer: &mut BitWriter<'_>,
) {
    let (mut time, mut sums) = (Second::default(), Xored::default());
    for (at, HistogramSample { t, start, histogram }) in histograms.iter().enumerate() {
        let before = time.last;
        let buckets = if histogram.is_stale() { &Counts::Integer(Buckets::default()) } else { &histogram.counts };
        time.put(writer, *t);
        columns.put_counts(writer, buckets, at == 0);
        if at == 0 {
            sums.put_first(writer, histogram.sum);
        } else {
            sums.put(writer, histogram.sum);
        }
        columns.put_buckets(writer, buckets, at == 0);
        if kind.starts {
            starts.put(writer, at, *start, *t, before);
        }
    }
}

/// Appends the histograms of a chunk's data to `out`.
pub(super) fn decode(bytes: &[u8], kind: Kind, out: &mut Columns) -> Result<(), Reason> {
    let (&[high, low, third], stream) = bytes.split_first_chunk::<3>().ok_or("the chunk ends too early")?;
    // With start times the third byte tells of these, and the hint stands before the number of samples.
    let (count, hint, starts) = match kind.starts {
        true => (u16::from_be_bytes([high & 0x3f, low]), high >> 6, Starts::new(third)),
        false => (u16::from_be_bytes([high, low]), third >> 6, Starts::none()),
    };
    if count == 0 {
        return Ok(());
    }
    let mut reader = BitReader::new(stream);
    let layout = take_layout(&mut reader)?;
    let (positive, negative) = layout.buckets();
    if positive.max(negative) > BUCKETS_MAX {
        return Err("more buckets than are taken");
    }
    let chunk = Chunk { count, hint, layout: Arc::new(layout) };
    match kind.float {
        true => chunk.decode(Floats::of(positive, negative), starts, &mut reader, out),
        false => chunk.decode(Integers::of(positive, negative), starts, &mut reader, out),
    }
}

/// What the head of a chunk says.
struct Chunk {
    count: u16,
    hint: u8,
    layout: Arc<Layout>,
}

impl Chunk {
    fn decode(
        &self,
        mut columns: impl Deltas,
        mut starts: Starts,
        reader: &mut BitReader<'_>,
        out: &mut Columns,
    ) -> Result<(), Reason> {
        let (mut time, mut sums) = (Second::default(), Xored::default());
        for at in 0..self.count {
            let before = time.last;
            let t = time.take(reader)?;
            columns.take_counts(reader, at == 0)?;
            let sum = if at == 0 { sums.take_first(reader)? } else { sums.take(reader)? };
            let stale = model::is_stale(sum);
            // The first one has buckets all the same, of which there are none in a layout of a marker alone.
            if at == 0 || !stale {
                columns.take_buckets(reader, at == 0)?;
            }
            let hint = match (self.hint, at) {
                (GAUGE, _) => ResetHint::Gauge,
                (RESET, 0) => ResetHint::Reset,
                // What was before may have come later, or be gone: that there was no reset since is not known.
                (_, 0) => ResetHint::Unknown,
                _ => ResetHint::NotReset,
            };
            let (layout, counts) = match stale {
                true => (Arc::default(), Counts::Integer(Buckets::default())),
                false => (self.layout.clone(), columns.counts().ok_or("a bucket's count is negative")?),
            };
            let histogram =
                Histogram { layout, hint, sum, counts }.accepted().map_err(|_| "a histogram is not valid")?;
            let start = starts.next(reader, at, t, before)?;
            out.histograms.push(HistogramSample { t, start, histogram });
        }
        Ok(())
    }
}

/// A number told by the difference of its difference to the one before.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    last: i64,
    delta: i64,
    /// The first number is told whole, and the difference to it is none that a later one differs from.
    any: bool,
}

impl Second {
    fn put(&mut self, writer: &mut BitWriter<'_>, n: i64) {
        put_int(writer, self.step(n));
    }

    /// What is to be told of a number.
    fn step(&mut self, n: i64) -> i64 {
        let delta = n.wrapping_sub(self.last);
        let told = delta.wrapping_sub(self.delta);
        (self.last, self.delta, self.any) = (n, if self.any { delta } else { 0 }, true);
        told
    }

    fn take(&mut self, reader: &mut BitReader<'_>) -> Result<i64, Reason> {
        let told = take_int(reader)?;
        Ok(self.add(told))
    }

    /// The number of which this was told.
    fn add(&mut self, told: i64) -> i64 {
        let delta = self.delta.wrapping_add(told);
        self.last = self.last.wrapping_add(delta);
        (self.delta, self.any) = (if self.any { delta } else { 0 }, true);
        self.last
    }
}

/// The counts of a chunk's histograms, one after the other.
trait Deltas {
    fn put_counts(&mut self, writer: &mut BitWriter<'_>, counts: &Counts, first: bool);
    fn put_buckets(&mut self, writer: &mut BitWriter<'_>, counts: &Counts, first: bool);
    fn take_counts(&mut self, reader: &mut BitReader<'_>, first: bool) -> Result<(), Reason>;
    fn take_buckets(&mut self, reader: &mut BitReader<'_>, first: bool) -> Result<(), Reason>;
    /// Of the last one; `None` where a bucket has less than nothing.
    fn counts(&self) -> Option<Counts>;
}

/// Whole numbers. A bucket is told by what it exceeds the one before it in the same histogram by.
#[derive(Debug, Default)]
struct Integers {
    count: Second,
    zero: Second,
    buckets: [Vec<Second>; 2],
}

impl Integers {
    fn of(positive: usize, negative: usize) -> Self {
        let buckets = [vec![Second::default(); positive], vec![Second::default(); negative]];
        Integers { buckets, ..Integers::default() }
    }
}

impl Deltas for Integers {
    fn put_counts(&mut self, writer: &mut BitWriter<'_>, counts: &Counts, first: bool) {
        let Counts::Integer(counts) = counts else { return };
        let (count, zero) = (self.count.step(counts.count as i64), self.zero.step(counts.zero as i64));
        if first {
            put_uint(writer, count as u64);
            put_uint(writer, zero as u64);
        } else {
            put_int(writer, count);
            put_int(writer, zero);
        }
    }

    fn put_buckets(&mut self, writer: &mut BitWriter<'_>, counts: &Counts, _: bool) {
        let Counts::Integer(counts) = counts else { return };
        for (columns, counts) in self.buckets.iter_mut().zip([&counts.positive, &counts.negative]) {
            columns.resize(counts.len(), Second::default());
            let mut before = 0;
            for (column, count) in columns.iter_mut().zip(counts) {
                column.put(writer, count.wrapping_sub(before) as i64);
                before = *count;
            }
        }
    }

    fn take_counts(&mut self, reader: &mut BitReader<'_>, first: bool) -> Result<(), Reason> {
        let (count, zero) = if first {
            (take_uint(reader)? as i64, take_uint(reader)? as i64)
        } else {
            (take_int(reader)?, take_int(reader)?)
        };
        self.count.add(count);
        self.zero.add(zero);
        Ok(())
    }

    fn take_buckets(&mut self, reader: &mut BitReader<'_>, _: bool) -> Result<(), Reason> {
        self.buckets.iter_mut().flatten().try_for_each(|column| column.take(reader).map(|_| ()))
    }

    fn counts(&self) -> Option<Counts> {
        let sums = |columns: &[Second]| {
            let mut sum = 0i64;
            let one = |column: &Second| {
                sum = sum.checked_add(column.last)?;
                u64::try_from(sum).ok()
            };
            columns.iter().map(one).collect::<Option<Vec<u64>>>()
        };
        let [positive, negative] = &self.buckets;
        let (count, zero) = (self.count.last as u64, self.zero.last as u64);
        Some(Counts::Integer(Buckets { count, zero, positive: sums(positive)?, negative: sums(negative)? }))
    }
}

/// Fractions.
#[derive(Debug, Default)]
struct Floats {
    count: Xored,
    zero: Xored,
    buckets: [Vec<Xored>; 2],
}

impl Floats {
    fn of(positive: usize, negative: usize) -> Self {
        let buckets = [vec![Xored::default(); positive], vec![Xored::default(); negative]];
        Floats { buckets, ..Floats::default() }
    }
}

fn put_float(column: &mut Xored, writer: &mut BitWriter<'_>, value: f64, first: bool) {
    if first { column.put_first(writer, value) } else { column.put(writer, value) }
}

fn take_float(column: &mut Xored, reader: &mut BitReader<'_>, first: bool) -> Result<(), Reason> {
    if first {
        column.take_first(reader)?
    } else {
        column.take(reader)?
    };
    Ok(())
}

impl Deltas for Floats {
    fn put_counts(&mut self, writer: &mut BitWriter<'_>, counts: &Counts, first: bool) {
        // A marker of staleness has none of them.
        let (count, zero) = if let Counts::Float(counts) = counts { (counts.count, counts.zero) } else { (0.0, 0.0) };
        put_float(&mut self.count, writer, count, first);
        put_float(&mut self.zero, writer, zero, first);
    }

    fn put_buckets(&mut self, writer: &mut BitWriter<'_>, counts: &Counts, first: bool) {
        let Counts::Float(counts) = counts else { return };
        for (columns, counts) in self.buckets.iter_mut().zip([&counts.positive, &counts.negative]) {
            columns.resize(counts.len(), Xored::default());
            columns.iter_mut().zip(counts).for_each(|(column, count)| put_float(column, writer, *count, first));
        }
    }

    fn take_counts(&mut self, reader: &mut BitReader<'_>, first: bool) -> Result<(), Reason> {
        take_float(&mut self.count, reader, first)?;
        take_float(&mut self.zero, reader, first)
    }

    fn take_buckets(&mut self, reader: &mut BitReader<'_>, first: bool) -> Result<(), Reason> {
        self.buckets.iter_mut().flatten().try_for_each(|column| take_float(column, reader, first))
    }

    fn counts(&self) -> Option<Counts> {
        let floats = |columns: &[Xored]| columns.iter().map(|column| f64::from_bits(column.bits)).collect();
        let [positive, negative] = &self.buckets;
        let (count, zero) = (f64::from_bits(self.count.bits), f64::from_bits(self.zero.bits));
        Some(Counts::Float(Buckets { count, zero, positive: floats(positive), negative: floats(negative) }))
    }
}

#[cfg(test)]
mod tests {
    use model::Span;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Family;

    /// What a chunk gives back of histograms of which each continues the one before.
    fn check(histograms: &[HistogramSample]) -> Vec<u8> {
        check_kind(histograms, true);
        check_kind(histograms, false)
    }

    fn check_kind(histograms: &[HistogramSample], starts: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let kind = Kind { float: matches!(histograms[0].histogram.counts, Counts::Float(_)), starts };
        encode(histograms, kind, &mut bytes);
        let mut out = Columns::default();
        decode(&bytes, kind, &mut out).expect("decodes");
        let expect = histograms.iter().enumerate().map(|(at, sample)| {
            let mut sample = HistogramSample { start: if starts { sample.start } else { 0 }, ..sample.clone() };
            let known = match sample.histogram.hint {
                ResetHint::Gauge => ResetHint::Gauge,
                ResetHint::Reset => ResetHint::Reset,
                _ if at == 0 => ResetHint::Unknown,
                _ => ResetHint::NotReset,
            };
            sample.histogram.hint = known;
            sample
        });
        assert_eq!(out.histograms, expect.collect::<Vec<_>>());
        bytes
    }

    #[test]
    fn any_histograms_survive() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..400 {
            let mut family = Family::new(&mut random);
            let mut chunk: Vec<HistogramSample> = Vec::new();
            for n in 0..random.usize(1..SAMPLES_MAX) {
                let next = family.sample(n as i64 * 15_000 + random.i64(0..10_000), &mut random);
                if !next.histogram.is_stale()
                    && chunk.last().is_none_or(|last| continues(&last.histogram, &next.histogram))
                {
                    chunk.push(next);
                }
            }
            if !chunk.is_empty() {
                println!("seed {seed}, round {round}");
                check(&chunk);
            }
        }
    }

    #[test]
    fn a_chunk_is_golden() {
        let layout = Layout {
            schema: 1,
            zero_threshold: 2f64.powi(-128),
            positive: vec![Span { offset: -1, length: 2 }],
            ..Layout::default()
        };
        let layout = Arc::new(layout);
        let one = |t: i64, counts: [u64; 2], sum: f64| {
            let counts = Buckets { count: counts[0] + counts[1], zero: 0, positive: counts.to_vec(), negative: vec![] };
            let histogram =
                Histogram { layout: layout.clone(), hint: ResetHint::Reset, sum, counts: Counts::Integer(counts) };
            HistogramSample { t, start: 0, histogram }
        };
        let mut second = one(15, [2, 5], 1.0);
        second.histogram.hint = ResetHint::NotReset;
        let bytes = check(&[one(10, [1, 4], 1.0), second]);
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        // 0002, a reset, the byte 116; then in bits: schema 10 001, one span 10 001 of length 10 010 and offset 10 111, no spans; the time 110 001010,
        // count 10 101, zero 0, the sum 1.0, buckets 10 001 and 10 011; then 110 000101, 10 010, 0, 0, 10 001, 0.
        let text = "10001 10001 10010 10111 0 110001010 10101 0 0011111111110000000000000000000000000000000000000000000000000000 10001 10011 \
                    110000101 10010 0 0 10001 0";
        let mut bits: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
        bits.resize(bits.len().next_multiple_of(8), b'0');
        let expect: String = bits
            .chunks(8)
            .map(|byte| format!("{:02x}", byte.iter().fold(0u8, |n, bit| n << 1 | (bit - b'0'))))
            .collect();
        assert_eq!(hex, format!("00028074{expect}"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300), float in any::<bool>(), starts in any::<bool>(),
        ) {
            let _ = decode(&bytes, Kind { float, starts }, &mut Columns::default());
        }
    }
}
