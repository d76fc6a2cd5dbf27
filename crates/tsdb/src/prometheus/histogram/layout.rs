//! The layout of the histograms of a chunk, which stands once at its beginning.

use model::histogram::{BUCKETS_MAX, CUSTOM_BUCKETS_SCHEMA};
use model::{Layout, Span};

use crate::prometheus::Reason;
use crate::prometheus::bits::{BitReader, BitWriter};
use crate::prometheus::varbit::{put_int, put_uint, take_int, take_uint};

/// The largest custom bound that is written as a number of thousandths, in thousandths.
const THOUSANDTHS_MAX: f64 = 33_554_430.0;

pub(super) fn put_layout(writer: &mut BitWriter<'_>, layout: &Layout) {
    put_threshold(writer, layout.zero_threshold);
    put_int(writer, i64::from(layout.schema));
    for spans in [&layout.positive, &layout.negative] {
        put_uint(writer, spans.len() as u64);
        for span in spans {
            put_uint(writer, u64::from(span.length));
            put_int(writer, i64::from(span.offset));
        }
    }
    if layout.schema == CUSTOM_BUCKETS_SCHEMA {
        put_uint(writer, layout.custom_values.len() as u64);
        layout.custom_values.iter().for_each(|bound| put_bound(writer, *bound));
    }
}

pub(super) fn take_layout(reader: &mut BitReader<'_>) -> Result<Layout, Reason> {
    let zero_threshold = take_threshold(reader)?;
    let schema = i32::try_from(take_int(reader)?).map_err(|_| "a schema is not known")?;
    let (positive, negative) = (take_spans(reader)?, take_spans(reader)?);
    let mut custom_values = Vec::new();
    if schema == CUSTOM_BUCKETS_SCHEMA {
        let length = take_length(reader)?;
        custom_values = (0..length).map(|_| take_bound(reader)).collect::<Result<_, _>>()?;
    }
    Ok(Layout { schema, zero_threshold, positive, negative, custom_values })
}

fn take_spans(reader: &mut BitReader<'_>) -> Result<Vec<Span>, Reason> {
    let length = take_length(reader)?;
    let one = |_| {
        let length = u32::try_from(take_uint(reader)?).map_err(|_| "the length of a span")?;
        let offset = i32::try_from(take_int(reader)?).map_err(|_| "the offset of a span")?;
        Ok(Span { offset, length })
    };
    (0..length).map(one).collect()
}

/// A number of things of which there are not more than a histogram has.
fn take_length(reader: &mut BitReader<'_>) -> Result<usize, Reason> {
    let n = take_uint(reader)?;
    usize::try_from(n).ok().filter(|n| *n <= BUCKETS_MAX).ok_or("more spans or bounds than are taken")
}

/// A threshold: one byte for none and for powers of two from 2^-243 to 2^10, by their exponents; nine for others.
fn put_threshold(writer: &mut BitWriter<'_>, threshold: f64) {
    match (1..=254).find(|byte| power(*byte).to_bits() == threshold.to_bits()) {
        Some(byte) => writer.put(u64::from(byte), 8),
        None if threshold.to_bits() == 0 => writer.put(0, 8),
        None => {
            writer.put(255, 8);
            writer.put(threshold.to_bits(), 64);
        }
    }
}

fn take_threshold(reader: &mut BitReader<'_>) -> Result<f64, Reason> {
    Ok(match reader.take(8)? as u8 {
        0 => 0.0,
        255 => f64::from_bits(reader.take(64)?),
        byte => power(byte),
    })
}

fn power(byte: u8) -> f64 {
    2f64.powi(i32::from(byte) - 244)
}

/// A custom bound: as thousandths if it is a whole number of them and not too large, one added; else a zero and all its bits.
fn put_bound(writer: &mut BitWriter<'_>, bound: f64) {
    let thousandths = (bound * 1000.0).round();
    let whole = thousandths as u64; // 0 of what is negative or no number
    if thousandths <= THOUSANDTHS_MAX && (whole as f64 / 1000.0).to_bits() == bound.to_bits() {
        put_uint(writer, whole + 1);
    } else {
        put_uint(writer, 0);
        writer.put(bound.to_bits(), 64);
    }
}

fn take_bound(reader: &mut BitReader<'_>) -> Result<f64, Reason> {
    match take_uint(reader)? {
        0 => Ok(f64::from_bits(reader.take(64)?)),
        n => Ok((n - 1) as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_and_bounds_survive_bit_for_bit() {
        for v in [
            0.0,
            -0.0,
            0.001,
            2f64.powi(-243),
            2f64.powi(-244),
            1024.0,
            2048.0,
            33_554.43,
            33_554.431,
            0.0005,
            -1.0,
            f64::MAX,
        ] {
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            put_threshold(&mut writer, v);
            put_bound(&mut writer, v);
            let mut reader = BitReader::new(&bytes);
            let read = (take_threshold(&mut reader).expect("reads"), take_bound(&mut reader).expect("reads"));
            assert_eq!((read.0.to_bits(), read.1.to_bits()), (v.to_bits(), v.to_bits()), "{v}");
        }
    }
}
