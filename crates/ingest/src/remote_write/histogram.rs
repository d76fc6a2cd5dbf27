//! Reads a native histogram, which is the same message in both versions but for the start, which only the second has.

use model::histogram::BUCKETS_MAX;
use model::{Buckets, Counts, Histogram, HistogramSample, Layout, ResetHint, Span};

use super::protobuf::{Fields, Malformed, Value};

/// The fields as they come.
#[derive(Default)]
struct Raw {
    count: Option<Number>,
    zero: Option<Number>,
    sum: f64,
    layout: Layout,
    /// Counts of integer buckets, positive and negative, each as its difference to the one before.
    deltas: [Vec<i64>; 2],
    /// Counts of float buckets.
    floats: [Vec<f64>; 2],
    hint: u64,
    t: i64,
    start: i64,
}

/// The last one of those that exclude each other.
enum Number {
    Integer(u64),
    Float(f64),
}

/// Reads the histogram that begins at `base` of the body. Fails where it is not protobuf; what is inside says why it cannot be a histogram.
pub(super) fn read(message: &[u8], base: usize) -> Result<Result<HistogramSample, String>, Malformed> {
    let mut fields = Fields::new(message, base);
    let mut raw = Raw::default();
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Varint(count)) => raw.count = Some(Number::Integer(count)),
            (2, Value::Fixed64(bits)) => raw.count = Some(Number::Float(f64::from_bits(bits))),
            (3, Value::Fixed64(bits)) => raw.sum = f64::from_bits(bits),
            (4, Value::Varint(schema)) => raw.layout.schema = unzigzag32(schema),
            (5, Value::Fixed64(bits)) => raw.layout.zero_threshold = f64::from_bits(bits),
            (6, Value::Varint(count)) => raw.zero = Some(Number::Integer(count)),
            (7, Value::Fixed64(bits)) => raw.zero = Some(Number::Float(f64::from_bits(bits))),
            (8, Value::Bytes(span)) => push(&mut raw.layout.negative, read_span(span)?),
            (9, value) => varints(&fields, value, |n| push(&mut raw.deltas[1], unzigzag(n)))?,
            (10, value) => doubles(&fields, value, |v| push(&mut raw.floats[1], v))?,
            (11, Value::Bytes(span)) => push(&mut raw.layout.positive, read_span(span)?),
            (12, value) => varints(&fields, value, |n| push(&mut raw.deltas[0], unzigzag(n)))?,
            (13, value) => doubles(&fields, value, |v| push(&mut raw.floats[0], v))?,
            (14, Value::Varint(hint)) => raw.hint = hint,
            (15, Value::Varint(t)) => raw.t = t as i64,
            (16, value) => doubles(&fields, value, |v| push(&mut raw.layout.custom_values, v))?,
            (17, Value::Varint(start)) => raw.start = start as i64,
            (1..=17, _) => return Err(fields.malformed("wrong wire type of a field of a histogram")),
            _ => {}
        }
    }
    Ok(raw.finish())
}

/// Adds one, of which there may be one too many, which the check of the whole then refuses.
fn push<T>(to: &mut Vec<T>, one: T) {
    if to.len() <= BUCKETS_MAX {
        to.push(one);
    }
}

impl Raw {
    fn finish(self) -> Result<HistogramSample, String> {
        let hint =
            ResetHint::from_number(self.hint).ok_or_else(|| format!("has the unknown reset hint {}", self.hint))?;
        let [positive, negative] = self.deltas;
        let [positive_floats, negative_floats] = self.floats;
        let is_float = matches!(self.count, Some(Number::Float(_)));
        let mixed = match is_float {
            true => !positive.is_empty() || !negative.is_empty() || matches!(self.zero, Some(Number::Integer(1..))),
            false => {
                let zero = matches!(self.zero, Some(Number::Float(zero)) if zero != 0.0);
                !positive_floats.is_empty() || !negative_floats.is_empty() || zero
            }
        };
        if mixed {
            return Err("has counts of both kinds, integers and floats".to_owned());
        }
        let counts = if is_float {
            let number = |number: Option<Number>| if let Some(Number::Float(v)) = number { v } else { 0.0 };
            Counts::Float(Buckets {
                count: number(self.count),
                zero: number(self.zero),
                positive: positive_floats,
                negative: negative_floats,
            })
        } else {
            let number = |number: Option<Number>| if let Some(Number::Integer(n)) = number { n } else { 0 };
            Counts::Integer(Buckets {
                count: number(self.count),
                zero: number(self.zero),
                positive: sums(&positive).ok_or("is not valid: a positive bucket's count is negative")?,
                negative: sums(&negative).ok_or("is not valid: a negative bucket's count is negative")?,
            })
        };
        let histogram = Histogram { layout: self.layout.into(), hint, sum: self.sum, counts };
        let histogram = histogram.accepted().map_err(|invalid| format!("is not valid: {invalid}"))?;
        Ok(HistogramSample { t: self.t, start: self.start, histogram })
    }
}

/// Counts of their differences; `None` where one is negative.
fn sums(deltas: &[i64]) -> Option<Vec<u64>> {
    let mut sum = 0i64;
    let one = |delta: &i64| {
        sum = sum.checked_add(*delta)?;
        u64::try_from(sum).ok()
    };
    deltas.iter().map(one).collect()
}

fn read_span(mut fields: Fields<'_>) -> Result<Span, Malformed> {
    let mut span = Span::default();
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Varint(offset)) => span.offset = unzigzag32(offset),
            // Protobuf cuts a number to the width of its field.
            (2, Value::Varint(length)) => span.length = length as u32,
            (1 | 2, _) => return Err(fields.malformed("wrong wire type of a field of a span")),
            _ => {}
        }
    }
    Ok(span)
}

/// A repeated number: packed, or one of those that stand alone.
pub(super) fn varints(fields: &Fields<'_>, value: Value<'_>, mut see: impl FnMut(u64)) -> Result<(), Malformed> {
    match value {
        Value::Varint(n) => see(n),
        Value::Bytes(mut packed) => {
            while !packed.is_at_end() {
                see(packed.varint()?);
            }
        }
        _ => return Err(fields.malformed("wrong wire type of a repeated number")),
    }
    Ok(())
}

fn doubles(fields: &Fields<'_>, value: Value<'_>, mut see: impl FnMut(f64)) -> Result<(), Malformed> {
    match value {
        Value::Fixed64(bits) => see(f64::from_bits(bits)),
        Value::Bytes(packed) => {
            let (doubles, []) = packed.bytes.as_chunks::<8>() else {
                return Err(packed.malformed("packed floats are not of eight bytes each"));
            };
            doubles.iter().for_each(|bytes| see(f64::from_le_bytes(*bytes)));
        }
        _ => return Err(fields.malformed("wrong wire type of a repeated float")),
    }
    Ok(())
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

fn unzigzag32(n: u64) -> i32 {
    let n = n as u32;
    (n >> 1) as i32 ^ -((n & 1) as i32)
}
