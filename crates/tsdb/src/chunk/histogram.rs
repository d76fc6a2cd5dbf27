//! Native histograms that are laid out alike: the layout once, then a column for each thing that changes.
//!
//! Each bucket is a column over time, as a counter of its own would be: a histogram's buckets grow by about as much from scrape to scrape, so
//! that integers of their differences are short. The number of all observations is kept as what it exceeds that of the buckets by, which is
//! nothing but for observations that are no numbers. The price is that a chunk is decoded as a whole, and that a layout that changes often makes many chunks.

use std::sync::Arc;

use model::histogram::BUCKETS_MAX;
use model::{Buckets, Columns, Counts, Histogram, HistogramSample, Layout, ResetHint, Span};

use super::bits::{put_varint, unzigzag, varint, zigzag};
use super::{Column, HISTOGRAMS, RICH, SAMPLES_MAX, Scratch, Times, decode_values, encode_values, ints, samples};

/// Numbers of observations in a chunk, some half a megabyte at most: 400 histograms of 160 buckets, and one of the largest.
const COUNTS_MAX: usize = 1 << 16;
const _: () = assert!(2 * BUCKETS_MAX + 2 <= COUNTS_MAX);

/// The counts are floats.
const FLOAT: u8 = 1;
/// A column of starts follows.
const STARTS: u8 = 1 << 1;
/// The hints differ: two bits each, and not one byte for all.
const HINTS: u8 = 1 << 2;

/// Samples that a chunk of histograms like this one may have.
pub(super) fn samples_max(like: &Histogram) -> usize {
    let (positive, negative) = like.layout.buckets();
    (COUNTS_MAX / (positive + negative + 2)).clamp(1, SAMPLES_MAX)
}

/// Appends the chunk of histograms that are laid out alike, at least one and no more than [`samples_max`].
pub(super) fn encode(histograms: &[HistogramSample], times: Column<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) {
    let first = &histograms[0].histogram;
    let float = matches!(first.counts, Counts::Float(_));
    let starts = histograms.iter().any(|sample| sample.start != 0);
    let hints = histograms.iter().any(|sample| sample.histogram.hint != first.hint);
    out.extend_from_slice(&[RICH, HISTOGRAMS]);
    put_varint(out, histograms.len() as u64);
    out.push((if float { FLOAT } else { 0 }) | (if starts { STARTS } else { 0 }) | (if hints { HINTS } else { 0 }));
    encode_layout(&first.layout, out);
    scratch.wholes.clear();
    scratch.wholes.extend(histograms.iter().map(|sample| sample.t));
    times.encode(&scratch.wholes, &mut scratch.ints, out);
    if starts {
        whole(histograms, scratch, out, |sample| sample.start);
    }
    if hints {
        let four = |four: &[HistogramSample]| {
            four.iter().enumerate().fold(0, |byte, (n, sample)| byte | (sample.histogram.hint as u8) << (2 * n))
        };
        out.extend(histograms.chunks(4).map(four));
    } else {
        out.push(first.hint as u8);
    }
    part(histograms, scratch, out, |sample| sample.histogram.sum);
    let (positive, negative) = first.layout.buckets();
    if float {
        let counts = |sample: &HistogramSample, of: &dyn Fn(&Buckets<f64>) -> f64| match &sample.histogram.counts {
            Counts::Float(counts) => of(counts),
            // Alike as they are, none has other counts.
            Counts::Integer(_) => 0.0,
        };
        part(histograms, scratch, out, |sample| counts(sample, &|c| c.count));
        part(histograms, scratch, out, |sample| counts(sample, &|c| c.zero));
        (0..positive).for_each(|n| part(histograms, scratch, out, |sample| counts(sample, &|c| c.positive[n])));
        (0..negative).for_each(|n| part(histograms, scratch, out, |sample| counts(sample, &|c| c.negative[n])));
        return;
    }
    let counts = |sample: &HistogramSample, of: &dyn Fn(&Buckets<u64>) -> u64| match &sample.histogram.counts {
        Counts::Integer(counts) => of(counts) as i64,
        Counts::Float(_) => 0,
    };
    whole(histograms, scratch, out, |sample| counts(sample, &|c| c.count.wrapping_sub(in_buckets(c))));
    whole(histograms, scratch, out, |sample| counts(sample, &|c| c.zero));
    (0..positive).for_each(|n| whole(histograms, scratch, out, |sample| counts(sample, &|c| c.positive[n])));
    (0..negative).for_each(|n| whole(histograms, scratch, out, |sample| counts(sample, &|c| c.negative[n])));
}

fn in_buckets(counts: &Buckets<u64>) -> u64 {
    counts.positive.iter().chain(&counts.negative).fold(counts.zero, |sum, count| sum.wrapping_add(*count))
}

fn whole(of: &[HistogramSample], scratch: &mut Scratch, out: &mut Vec<u8>, what: impl Fn(&HistogramSample) -> i64) {
    scratch.wholes.clear();
    scratch.wholes.extend(of.iter().map(what));
    ints::encode(&scratch.wholes, &mut scratch.ints, out);
}

fn part(of: &[HistogramSample], scratch: &mut Scratch, out: &mut Vec<u8>, what: impl Fn(&HistogramSample) -> f64) {
    let mut column = std::mem::take(&mut scratch.parts);
    column.clear();
    column.extend(of.iter().map(what));
    encode_values(&column, scratch, out);
    scratch.parts = column;
}

fn encode_layout(layout: &Layout, out: &mut Vec<u8>) {
    put_varint(out, zigzag(i64::from(layout.schema)));
    out.extend_from_slice(&layout.zero_threshold.to_bits().to_le_bytes());
    for spans in [&layout.positive, &layout.negative] {
        put_varint(out, spans.len() as u64);
        for span in spans {
            put_varint(out, zigzag(i64::from(span.offset)));
            put_varint(out, u64::from(span.length));
        }
    }
    put_varint(out, layout.custom_values.len() as u64);
    layout.custom_values.iter().for_each(|bound| out.extend_from_slice(&bound.to_bits().to_le_bytes()));
}

/// Reads what follows the kind.
pub(super) fn decode(bytes: &[u8], at: &mut usize, times: Times<'_>, out: &mut Columns) -> Result<(), &'static str> {
    let count = samples(bytes, at)?;
    let form = byte(bytes, at)?;
    if form > (FLOAT | STARTS | HINTS) {
        return Err("unknown form of histograms");
    }
    let layout = Arc::new(decode_layout(bytes, at)?);
    let (positive, negative) = layout.buckets();
    // Checked before memory is taken, which a few bytes could ask much of.
    if count.saturating_mul(positive.saturating_add(negative).saturating_add(2)) > COUNTS_MAX && count > 1
        || positive.max(negative) > BUCKETS_MAX
    {
        return Err("more buckets than a chunk has");
    }
    let (mut t, mut starts, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    times.decode(bytes, at, count, &mut t)?;
    if form & STARTS != 0 {
        ints::decode(bytes, at, count, &mut starts)?;
    }
    let hints = decode_hints(bytes, at, count, form & HINTS != 0)?;
    decode_values(bytes, at, count, &mut sums)?;
    let counts = Columnar { count, positive, negative };
    let counts: Vec<Counts> = if form & FLOAT != 0 {
        let columns = counts.read(|out| decode_values(bytes, at, count, out))?;
        (0..count).map(|n| Counts::Float(counts.buckets(&columns, n, |v| v))).collect()
    } else {
        let columns = counts.read(|out| ints::decode(bytes, at, count, out))?;
        let one = |n| {
            let mut counts = counts.buckets(&columns, n, |v| v as u64);
            counts.count = counts.count.wrapping_add(in_buckets(&counts));
            Counts::Integer(counts)
        };
        (0..count).map(one).collect()
    };
    out.histograms.extend(counts.into_iter().enumerate().map(|(n, counts)| HistogramSample {
        t: t[n],
        start: starts.get(n).copied().unwrap_or(0),
        histogram: Histogram { layout: layout.clone(), hint: hints[n], sum: sums[n], counts },
    }));
    Ok(())
}

/// How many columns of counts there are, and how long each is.
#[derive(Clone, Copy)]
struct Columnar {
    count: usize,
    positive: usize,
    negative: usize,
}

impl Columnar {
    /// All columns, one after the other.
    fn read<C>(self, mut read: impl FnMut(&mut Vec<C>) -> Result<(), &'static str>) -> Result<Vec<C>, &'static str> {
        let mut columns = Vec::new();
        (0..self.positive + self.negative + 2).try_for_each(|_| read(&mut columns))?;
        Ok(columns)
    }

    /// The counts of one histogram.
    fn buckets<C: Copy, N>(self, columns: &[C], n: usize, of: impl Fn(C) -> N) -> Buckets<N> {
        let at = |column: usize| of(columns[column * self.count + n]);
        Buckets {
            count: at(0),
            zero: at(1),
            positive: (2..2 + self.positive).map(at).collect(),
            negative: (2 + self.positive..2 + self.positive + self.negative).map(at).collect(),
        }
    }
}

fn decode_hints(bytes: &[u8], at: &mut usize, count: usize, differ: bool) -> Result<Vec<ResetHint>, &'static str> {
    if !differ {
        let hint = ResetHint::from_number(u64::from(byte(bytes, at)?)).ok_or("hint of a reset")?;
        return Ok(vec![hint; count]);
    }
    let packed = bytes.get(*at..*at + count.div_ceil(4)).ok_or("ends too early")?;
    *at += packed.len();
    Ok((0..count).map(|n| ResetHint::ALL[usize::from(packed[n / 4] >> (2 * (n % 4)) & 3)]).collect())
}

fn decode_layout(bytes: &[u8], at: &mut usize) -> Result<Layout, &'static str> {
    let schema = i32::try_from(unzigzag(varint(bytes, at)?)).map_err(|_| "schema")?;
    let zero_threshold = float(bytes, at)?;
    let mut spans = || {
        let count = length(bytes, at)?;
        let one = |_| {
            let offset = i32::try_from(unzigzag(varint(bytes, at)?)).map_err(|_| "offset of a span")?;
            let length = u32::try_from(varint(bytes, at)?).map_err(|_| "length of a span")?;
            Ok(Span { offset, length })
        };
        (0..count).map(one).collect::<Result<Vec<Span>, &'static str>>()
    };
    let (positive, negative) = (spans()?, spans()?);
    let custom_values = (0..length(bytes, at)?).map(|_| float(bytes, at)).collect::<Result<_, _>>()?;
    Ok(Layout { schema, zero_threshold, positive, negative, custom_values })
}

/// A number of things of which each takes at least a byte.
fn length(bytes: &[u8], at: &mut usize) -> Result<usize, &'static str> {
    let n = varint(bytes, at)?;
    usize::try_from(n).ok().filter(|n| *n <= bytes.len() - *at).ok_or("length is beyond the end")
}

fn byte(bytes: &[u8], at: &mut usize) -> Result<u8, &'static str> {
    let byte = *bytes.get(*at).ok_or("ends too early")?;
    *at += 1;
    Ok(byte)
}

fn float(bytes: &[u8], at: &mut usize) -> Result<f64, &'static str> {
    let value = bytes.get(*at..*at + 8).ok_or("ends too early")?;
    *at += 8;
    Ok(f64::from_bits(u64::from_le_bytes(value.try_into().expect("eight bytes"))))
}
