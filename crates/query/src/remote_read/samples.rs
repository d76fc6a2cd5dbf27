//! The flavour of samples: a message `prometheus.ReadResponse`, packed by Snappy.

use bytes::Bytes;
use model::{Columns, Counts, Held, HistogramSample, Mark, Span};

use super::Selected;
use super::message::{put_bytes, put_double, put_labels, put_message, put_number, put_signed, put_varint};
use crate::error::Error;
use crate::execute::Context;
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
            number += columns.samples();
            if number > self.samples_max {
                return Err(Error::Request(format!("exceeded sample limit ({})", self.samples_max)));
            }
            // A series of which the index knows only that it may have samples then.
            if has_samples && columns.range(Mark::default()).is_none() {
                continue;
            }
            put_message(&mut result, 1, |out| {
                put_labels(out, 1, &series.labels);
                put_points(out, &columns);
            });
            own.grow_to(result.capacity() + columns.memory())?;
        }
        self.samples += number as u64;
        drop(columns);
        put_bytes(&mut self.out, 1, &result);
        Ok(self.held.grow_to(self.out.capacity())?)
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
