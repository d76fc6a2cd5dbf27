//! Native histograms: groups, each of one series, in the order of the series.
//!
//! Every histogram tells its layout, unless it is that of the one before. Counts of neighbouring buckets are alike, so each is told by its
//! difference to the one before.

use std::sync::Arc;

use model::{Buckets, Counts, Histogram, HistogramSample, Layout, ResetHint, Span};

use super::cursor::Cursor;
use super::groups::{Faults, Groups, Heads};
use super::{put_varint, unzigzag, value, zigzag};
use crate::Error;

/// Histograms of a payload. Writers keep to a megabyte or two of them, which is less than half as many; each takes a hundred bytes and more
/// when it is read, and its few bytes may have been compressed to nothing.
const HISTOGRAMS_MAX: usize = 1 << 20;

const FAULTS: Faults = Faults {
    no_series: "histograms of a series that is not there",
    empty: "group without histograms",
    too_many: "more histograms than a record has",
};

/// The counts are floats.
const FLOAT: u8 = 1;
/// Place of the hint's two bits.
const HINT: u32 = 1;
/// The layout is that of the histogram before.
const SAME_LAYOUT: u8 = 1 << 3;
/// A start follows.
const START: u8 = 1 << 4;

/// Gathers histograms.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    heads: Heads,
    last_t: i64,
    layout: Option<Arc<Layout>>,
    pub(super) count: usize,
}

impl Writer {
    /// Adds the histograms of series number `series`, later than all before.
    pub(super) fn push(&mut self, series: u64, histograms: &[HistogramSample]) {
        if histograms.is_empty() {
            return;
        }
        self.heads.push(&mut self.bytes, series, histograms.len());
        self.count += histograms.len();
        for sample in histograms {
            self.put(sample);
        }
    }

    fn put(&mut self, sample: &HistogramSample) {
        let HistogramSample { t, start, histogram } = sample;
        let same = self.layout.as_ref().is_some_and(|l| Arc::ptr_eq(l, &histogram.layout) || *l == histogram.layout);
        let out = &mut self.bytes;
        let float = matches!(histogram.counts, Counts::Float(_));
        out.push(
            (if float { FLOAT } else { 0 })
                | (histogram.hint as u8) << HINT
                | (if same { SAME_LAYOUT } else { 0 })
                | (if *start != 0 { START } else { 0 }),
        );
        put_varint(out, zigzag(t.wrapping_sub(self.last_t)));
        self.last_t = *t;
        if *start != 0 {
            put_varint(out, zigzag(start.wrapping_sub(*t)));
        }
        if !same {
            put_layout(out, &histogram.layout);
            self.layout = Some(histogram.layout.clone());
        }
        value::put(out, histogram.sum);
        match &histogram.counts {
            Counts::Integer(counts) => {
                put_varint(out, counts.count);
                put_varint(out, counts.zero);
                let mut before = 0u64;
                for count in counts.positive.iter().chain(&counts.negative) {
                    put_varint(out, zigzag(count.wrapping_sub(before) as i64));
                    before = *count;
                }
            }
            Counts::Float(counts) => {
                value::put(out, counts.count);
                value::put(out, counts.zero);
                counts.positive.iter().chain(&counts.negative).for_each(|count| value::put(out, *count));
            }
        }
    }

    /// Size of the groups, without their number.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.heads.count());
        out.extend_from_slice(&self.bytes);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        (self.heads, self.last_t, self.count) = (Heads::default(), 0, 0);
        self.layout = None;
    }
}

fn put_layout(out: &mut Vec<u8>, layout: &Layout) {
    put_varint(out, zigzag(i64::from(layout.schema)));
    value::put(out, layout.zero_threshold);
    for spans in [&layout.positive, &layout.negative] {
        put_varint(out, spans.len() as u64);
        for span in spans {
            put_varint(out, zigzag(i64::from(span.offset)));
            put_varint(out, u64::from(span.length));
        }
    }
    put_varint(out, layout.custom_values.len() as u64);
    layout.custom_values.iter().for_each(|bound| value::put(out, *bound));
}

/// Reads the groups of a payload with so many series.
pub(super) fn read(groups: &mut Groups<HistogramSample>, cursor: &mut Cursor<'_>, series: usize) -> Result<(), Error> {
    let (mut t, mut layout) = (0i64, None);
    groups.read(cursor, series, HISTOGRAMS_MAX, &FAULTS, |cursor| read_one(cursor, &mut t, &mut layout))
}

fn read_one(cursor: &mut Cursor<'_>, t: &mut i64, known: &mut Option<Arc<Layout>>) -> Result<HistogramSample, Error> {
    let head = cursor.take(1)?[0];
    if head > (START | SAME_LAYOUT | 3 << HINT | FLOAT) {
        return Err(cursor.error("unknown form of a histogram"));
    }
    *t = t.wrapping_add(unzigzag(cursor.varint()?));
    let start = if head & START != 0 { t.wrapping_add(unzigzag(cursor.varint()?)) } else { 0 };
    if head & START != 0 && start == 0 {
        return Err(cursor.error("start that is none"));
    }
    if head & SAME_LAYOUT == 0 {
        *known = Some(Arc::new(read_layout(cursor)?));
    }
    let layout = known.clone().ok_or_else(|| cursor.error("no layout before to repeat"))?;
    let sum = read_value(cursor)?;
    let (positive, negative) = layout.buckets();
    // Each count takes at least a byte: checked before memory is taken.
    if positive.saturating_add(negative) > cursor.left() {
        return Err(cursor.error("more buckets than bytes"));
    }
    let counts = if head & FLOAT != 0 {
        let (count, zero) = (read_value(cursor)?, read_value(cursor)?);
        let mut read = |n: usize| (0..n).map(|_| read_value(cursor)).collect::<Result<Vec<f64>, Error>>();
        Counts::Float(Buckets { count, zero, positive: read(positive)?, negative: read(negative)? })
    } else {
        let (count, zero, mut before) = (cursor.varint()?, cursor.varint()?, 0u64);
        let mut next = || {
            before = before.wrapping_add(unzigzag(cursor.varint()?) as u64);
            Ok(before)
        };
        let mut read = |n: usize| (0..n).map(|_| next()).collect::<Result<Vec<u64>, Error>>();
        Counts::Integer(Buckets { count, zero, positive: read(positive)?, negative: read(negative)? })
    };
    let hint = ResetHint::ALL[usize::from(head >> HINT & 3)];
    let histogram = Histogram { layout, hint, sum, counts };
    // Whoever wrote it, readers rely on its parts to agree.
    histogram.validate().map_err(|_| cursor.error("histogram that is not valid"))?;
    Ok(HistogramSample { t: *t, start, histogram })
}

fn read_layout(cursor: &mut Cursor<'_>) -> Result<Layout, Error> {
    let schema = i32::try_from(unzigzag(cursor.varint()?)).map_err(|_| cursor.error("schema"))?;
    let zero_threshold = read_value(cursor)?;
    let mut spans = || {
        let count = cursor.length()?;
        let one = |_| {
            let offset = i32::try_from(unzigzag(cursor.varint()?)).map_err(|_| cursor.error("offset of a span"))?;
            let length = u32::try_from(cursor.varint()?).map_err(|_| cursor.error("length of a span"))?;
            Ok(Span { offset, length })
        };
        (0..count).map(one).collect::<Result<Vec<Span>, Error>>()
    };
    let (positive, negative) = (spans()?, spans()?);
    let count = cursor.length()?;
    let custom_values = (0..count).map(|_| read_value(cursor)).collect::<Result<Vec<f64>, Error>>()?;
    Ok(Layout { schema, zero_threshold, positive, negative, custom_values })
}

fn read_value(cursor: &mut Cursor<'_>) -> Result<f64, Error> {
    let n = cursor.varint()?;
    value::read(n, || Ok(cursor.take(8)?.try_into().expect("eight bytes")))
}
