//! The flavour of samples: a message `prometheus.ReadResponse`, packed by Snappy.

use bytes::Bytes;
use model::{Columns, Counts, Held, HistogramSample, Labels, Mark, Span};

use super::Selected;
use crate::error::Error;
use crate::execute::Context;
use crate::protobuf::{put_bytes, put_double, put_labels, put_message, put_number, put_signed, put_varint};
use crate::respond::sent;

/// The message while it is written.
pub(super) struct Message {
    out: Vec<u8>,
    held: Held,
    samples_max: usize,
    samples: u64,
}

impl Message {
    /// With so many samples of each query at most.
    pub(super) fn new(context: &Context, samples_max: usize) -> Self {
        Message { out: Vec::new(), held: context.cancel.claim().hold(), samples_max, samples: 0 }
    }

    /// Samples that were written.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// Adds the result of a query.
    pub(super) fn push(&mut self, context: &Context, found: Selected) -> Result<(), Error> {
        let (mut result, mut columns, mut number) = (Vec::new(), Columns::default(), 0);
        let mut own = context.cancel.claim().hold();
        let (range, has_samples) = (found.query.range, found.has_samples());
        for series in found.series {
            if context.cancel.is_cancelled() {
                return Err(Error::Canceled("nobody waits for it"));
            }
            columns.clear();
            if has_samples {
                series.data.read(range, &mut columns)?;
            }
            own.grow_to(result.capacity() + columns.memory())?;
            number += columns.samples();
            if number > self.samples_max {
                return Err(Error::Request(format!("exceeded sample limit ({})", self.samples_max)));
            }
            // A series of which the index knows only that it may have samples then.
            if has_samples && columns.range(Mark::default()).is_none() {
                continue;
            }
            make_room(&mut result, size(&series.labels, &columns), columns.memory(), &mut own)?;
            put_message(&mut result, 1, |out| {
                put_labels(out, 1, &series.labels);
                put_points(out, &columns);
            });
            // Where labels or histograms are longer than they mostly are.
            own.grow_to(result.capacity() + columns.memory())?;
        }
        self.samples += number as u64;
        drop(columns);
        make_room(&mut self.out, result.len() + FIELD, 0, &mut self.held)?;
        put_bytes(&mut self.out, 1, &result);
        Ok(())
    }

    /// Ends it, and packs it.
    pub(super) fn finish(mut self, context: &Context) -> Result<Bytes, Error> {
        self.held.grow(snap::raw::max_compress_len(self.out.len()))?;
        let packed = snap::raw::Encoder::new().compress_vec(&self.out);
        let packed = packed.map_err(|e| {
            let reason =
                format!("an answer of {} bytes cannot be packed ({e}); ask for less, or for chunks", self.out.len());
            Error::Request(reason)
        })?;
        drop(self);
        Ok(sent(&context.memory, packed))
    }
}

/// Bytes of a tag with a length.
const FIELD: usize = 11;
/// Most bytes of a float with its time.
const FLOAT: usize = 2 + 9 + 11;

/// How many bytes a series takes, and rather more; with histograms about.
fn size(labels: &Labels, columns: &Columns) -> usize {
    let names = 2 * FIELD * labels.iter().count() + labels.canonical().len();
    // A bucket is a number of up to ten bytes; a span, two of them.
    let histograms = columns.histograms.iter().map(|one| {
        let layout = &one.histogram.layout;
        let (positive, negative) = layout.buckets();
        let spans = layout.positive.len() + layout.negative.len();
        128 + 10 * (positive + negative + 2 * spans + layout.custom_values.len())
    });
    FIELD + names + columns.len() * FLOAT + histograms.sum::<usize>()
}

/// Room for so many bytes more, where what it takes can be held beside so many others.
fn make_room(out: &mut Vec<u8>, more: usize, others: usize, held: &mut Held) -> Result<(), Error> {
    let needed = out.len() + more;
    if needed > out.capacity() {
        let room = needed.max(2 * out.capacity());
        // While it is moved both are there.
        held.grow_to(out.capacity() + room + others)?;
        out.reserve_exact(room - out.len());
    }
    Ok(())
}

/// Samples and histograms of a series.
fn put_points(out: &mut Vec<u8>, columns: &Columns) {
    for (t, v) in columns.t.iter().zip(&columns.v) {
        put_message(out, 2, |out| {
            put_double(out, 1, *v);
            put_number(out, 2, *t as u64);
        });
    }
    columns.histograms.iter().for_each(|one| put_message(out, 4, |out| put_histogram(out, one)));
}

fn put_histogram(out: &mut Vec<u8>, one: &HistogramSample) {
    let (layout, hint) = (&one.histogram.layout, one.histogram.hint);
    // Which of the two a count is, is told by its being there, even if it is zero.
    let whole = |out: &mut Vec<u8>, field: u64, n: u64| {
        put_varint(out, field << 3);
        put_varint(out, n);
    };
    let float = |out: &mut Vec<u8>, field: u64, v: f64| {
        put_varint(out, field << 3 | 1);
        out.extend_from_slice(&v.to_le_bytes());
    };
    match &one.histogram.counts {
        Counts::Integer(counts) => whole(out, 1, counts.count),
        Counts::Float(counts) => float(out, 2, counts.count),
    }
    put_double(out, 3, one.histogram.sum);
    put_signed(out, 4, i64::from(layout.schema));
    put_double(out, 5, layout.zero_threshold);
    match &one.histogram.counts {
        Counts::Integer(counts) => whole(out, 6, counts.zero),
        Counts::Float(counts) => float(out, 7, counts.zero),
    }
    put_spans(out, 8, &layout.negative);
    match &one.histogram.counts {
        Counts::Integer(counts) => put_deltas(out, 9, &counts.negative),
        Counts::Float(counts) => put_doubles(out, 10, &counts.negative),
    }
    put_spans(out, 11, &layout.positive);
    match &one.histogram.counts {
        Counts::Integer(counts) => put_deltas(out, 12, &counts.positive),
        Counts::Float(counts) => put_doubles(out, 13, &counts.positive),
    }
    put_number(out, 14, hint as u64);
    put_number(out, 15, one.t as u64);
    put_doubles(out, 16, &layout.custom_values);
}

fn put_spans(out: &mut Vec<u8>, field: u64, spans: &[Span]) {
    for span in spans {
        put_message(out, field, |out| {
            put_signed(out, 1, i64::from(span.offset));
            put_number(out, 2, u64::from(span.length));
        });
    }
}

/// What each count exceeds the one before it by.
fn put_deltas(out: &mut Vec<u8>, field: u64, counts: &[u64]) {
    if counts.is_empty() {
        return;
    }
    put_message(out, field, |out| {
        let mut before = 0;
        for count in counts {
            let delta = count.wrapping_sub(before) as i64;
            put_varint(out, ((delta << 1) ^ (delta >> 63)) as u64);
            before = *count;
        }
    });
}

fn put_doubles(out: &mut Vec<u8>, field: u64, values: &[f64]) {
    if values.is_empty() {
        return;
    }
    put_message(out, field, |out| values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes())));
}

#[cfg(test)]
mod tests {
    use model::Budget;

    use super::*;

    #[test]
    fn room_that_is_refused_is_not_taken() {
        let budget = Budget::new("queries", 1 << 20);
        let mut held = budget.claim().hold();
        let mut out = Vec::new();
        make_room(&mut out, 100 << 10, 0, &mut held).expect("fits");
        let room = out.capacity();
        assert!(room >= 100 << 10 && held.bytes() >= room);
        out.resize(room, 0);
        make_room(&mut out, 1, 0, &mut held).expect("fits");
        let room = out.capacity();
        assert!(room >= 200 << 10, "it doubles, so that what is moved is a small part of what is written");
        make_room(&mut out, 2 << 20, 0, &mut held).expect_err("there is not so much");
        make_room(&mut out, 300 << 10, 800 << 10, &mut held)
            .expect_err("with what is held beside there is not so much");
        assert_eq!(out.capacity(), room);
        drop((out, held));
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn what_floats_take_is_known_before_they_are_written() {
        let labels = Labels::new(&[("a", "b"), ("long", &"x".repeat(300))]).expect("valid");
        let columns = Columns::floats(vec![i64::MIN, -1, 0, i64::MAX], vec![f64::NAN, 0.0, 1.0, f64::MAX]);
        let mut out = Vec::new();
        put_message(&mut out, 1, |out| {
            put_labels(out, 1, &labels);
            put_points(out, &columns);
        });
        assert!(out.len() <= size(&labels, &columns) && size(&labels, &columns) < out.len() + 100);
    }
}
