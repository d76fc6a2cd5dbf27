//! The encoded samples of one series over some time.
//!
//! A chunk is a column of times and a column of values, each encoded by itself; FORMAT.md draws the bytes. Everything is lossless, bit for
//! bit. Integers (times, and values that are decimals) become deltas of the order that packs best, divided by their common
//! divisor, in blocks of 128 of one bit width. Values that are no short decimals are XORed with the one before, as in
//! Gorilla (Pelkonen et al., VLDB 2015). Metrics are mostly decimals: on such data the integers take a fifth of the bytes of XOR
//! and decode several times faster; the price is two passes over the values when encoding.
//!
//! Floats with start times, floats that stand for others, and native histograms have chunks of kinds of their own ([`Piece`]), so that a chunk of floats is what it would be without them.
//!
//! The times of a chunk may lie outside of it ([`Times`]), where others have the same. A chunk does not say so itself: whoever keeps it knows where they are.

pub(crate) mod aggregates;
pub(crate) mod bits;
mod decimals;
mod facts;
mod histogram;
mod ints;
mod pieces;
mod starts;
#[cfg(test)]
mod tests;
mod times;
mod unpack;
mod xor;

use model::Columns;

pub(crate) use facts::Facts;
pub use pieces::{Piece, Pieces, pieces};
pub(crate) use times::{Column, Times, decode_times, encode_times, is_column};

use bits::{put_varint, varint};

/// Largest number of samples in a chunk: about four hours at a sample every 15 s. Longer ones cost a query that wants a part of it.
pub const SAMPLES_MAX: usize = 1024;

/// What a chunk begins with that is not of floats alone, in place of the number of samples, which is not zero; its kind follows.
const RICH: u8 = 0;
const WITH_STARTS: u8 = 1;
const HISTOGRAMS: u8 = 2;
const AGGREGATES: u8 = 3;

const CONSTANT: u8 = 0;
const DECIMAL: u8 = 1;
const XOR: u8 = 2;

/// Values beyond the decimals that a decimal column may hold, as a share: one in so many.
const EXCEPTIONS_SHARE: usize = 8;
/// Largest power of ten by which a decimal is scaled. Ten to this is exact in a float, so that the division is correctly rounded.
const EXPONENT_MAX: u8 = 15;
/// Decimals with a fraction are whole numbers of at most 53 bits after scaling.
const MANTISSA_MAX: f64 = 9_007_199_254_740_992.0;

const POWERS: [f64; EXPONENT_MAX as usize + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Memory that encoding needs, kept from one chunk to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    ints: ints::Scratch,
    mantissas: Vec<i64>,
    exceptions: Vec<(u32, f64)>,
    /// One bucket of all histograms.
    wholes: Vec<i64>,
    parts: Vec<f64>,
}

/// Appends the chunk of these floats to `out`. Times must ascend; there must be from one to [`SAMPLES_MAX`].
pub fn encode(t: &[i64], v: &[f64], scratch: &mut Scratch, out: &mut Vec<u8>) {
    encode_floats(t, v, Column::New, scratch, out);
}

fn encode_floats(t: &[i64], v: &[f64], times: Column<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) {
    debug_assert!(t.len() == v.len() && !t.is_empty() && t.len() <= SAMPLES_MAX && t.is_sorted());
    put_varint(out, t.len() as u64);
    times.encode(t, &mut scratch.ints, out);
    encode_values(v, scratch, out);
}

/// Appends a column of at least one value.
fn encode_values(v: &[f64], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let first = v[0].to_bits();
    if v.iter().all(|v| v.to_bits() == first) {
        out.push(CONSTANT);
        out.extend_from_slice(&first.to_le_bytes());
        return;
    }
    if let Some(exponent) = decimals(v, scratch) {
        out.push(DECIMAL);
        out.push(exponent);
        ints::encode(&scratch.mantissas, &mut scratch.ints, out);
        put_varint(out, scratch.exceptions.len() as u64);
        for (at, value) in &scratch.exceptions {
            put_varint(out, u64::from(*at));
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        return;
    }
    out.push(XOR);
    xor::encode(v, out);
}

/// Appends the samples of a chunk of any kind to `out`, and returns how many bytes it took. The error says what is wrong; `out` is then of no use.
pub fn decode(bytes: &[u8], out: &mut Columns) -> Result<usize, &'static str> {
    decode_beside(bytes, Times::Within, out)
}

/// As [`decode`], of a chunk whose times may be elsewhere.
pub(crate) fn decode_beside(bytes: &[u8], times: Times<'_>, out: &mut Columns) -> Result<usize, &'static str> {
    let mut at = 0;
    if bytes.first() == Some(&RICH) {
        at = 2;
        match *bytes.get(1).ok_or("ends too early")? {
            WITH_STARTS => starts::decode(bytes, &mut at, times, out)?,
            HISTOGRAMS => histogram::decode(bytes, &mut at, times, out)?,
            AGGREGATES => aggregates::decode(bytes, &mut at, times, out)?,
            _ => return Err("unknown kind of chunk"),
        }
    } else {
        decode_floats(bytes, &mut at, times, out)?;
    }
    out.pad();
    Ok(at)
}

fn decode_floats(bytes: &[u8], at: &mut usize, times: Times<'_>, out: &mut Columns) -> Result<(), &'static str> {
    let count = samples(bytes, at)?;
    times.decode(bytes, at, count, &mut out.t)?;
    decode_values(bytes, at, count, &mut out.v)
}

/// The number of samples that a chunk begins with.
fn samples(bytes: &[u8], at: &mut usize) -> Result<usize, &'static str> {
    let count = varint(bytes, at)?;
    usize::try_from(count).ok().filter(|n| (1..=SAMPLES_MAX).contains(n)).ok_or("number of samples")
}

/// Appends `count` values, at least one, to `out`.
fn decode_values(bytes: &[u8], at: &mut usize, count: usize, out: &mut Vec<f64>) -> Result<(), &'static str> {
    let start = out.len();
    match *bytes.get(*at).ok_or("ends too early")? {
        CONSTANT => {
            let value = bytes.get(*at + 1..*at + 9).ok_or("ends too early")?;
            *at += 9;
            let value = f64::from_bits(u64::from_le_bytes(value.try_into().expect("eight bytes")));
            out.resize(start + count, value);
        }
        DECIMAL => {
            let exponent = *bytes.get(*at + 1).ok_or("ends too early")?;
            *at += 2;
            decimals::decode(bytes, at, count, exponent, out)?;
        }
        XOR => {
            *at += 1;
            xor::decode(bytes, at, count, out)?;
        }
        _ => return Err("unknown encoding of values"),
    }
    Ok(())
}

/// How the bytes of a chunk are spent: the name of the encoding of its values, and how many bytes are before them; of a chunk that is not of
/// floats alone, its kind and none.
pub(crate) fn anatomy(bytes: &[u8], times: Times<'_>) -> Result<(&'static str, usize), &'static str> {
    match bytes {
        [RICH, WITH_STARTS, ..] => return Ok(("with starts", 0)),
        [RICH, HISTOGRAMS, ..] => return Ok(("histograms", 0)),
        [RICH, AGGREGATES, ..] => return Ok(("aggregates", 0)),
        _ => {}
    }
    let mut at = 0;
    let count = samples(bytes, &mut at)?;
    if let Times::Within = times {
        ints::decode_to(bytes, &mut at, count, |_| {})?;
    }
    let name = match *bytes.get(at).ok_or("ends too early")? {
        CONSTANT => "constant",
        DECIMAL => "decimal",
        XOR => "xor",
        _ => return Err("unknown encoding of values"),
    };
    Ok((name, at))
}

/// Finds the smallest power of ten that makes all values whole numbers, but for a few exceptions, and leaves the numbers in
/// `scratch`. `None` where there is none.
fn decimals(v: &[f64], scratch: &mut Scratch) -> Option<u8> {
    let exceptions_max = v.len() / EXCEPTIONS_SHARE + 1;
    let mut exponent = 0u8;
    'exponent: loop {
        scratch.exceptions.clear();
        scratch.mantissas.clear();
        let mut before = 0;
        for (at, value) in v.iter().enumerate() {
            if let Some(m) = mantissa(*value, exponent) {
                before = m;
            } else if let Some(higher) = (exponent + 1..=EXPONENT_MAX).find(|e| mantissa(*value, *e).is_some()) {
                // Columns change their number of digits seldom and early, so beginning anew costs little.
                exponent = higher;
                continue 'exponent;
            } else {
                // No decimal, or whole and too large once scaled. It repeats the number before, which costs least.
                scratch.exceptions.push((at as u32, *value));
                if scratch.exceptions.len() > exceptions_max {
                    return None;
                }
            }
            scratch.mantissas.push(before);
        }
        return Some(exponent);
    }
}

/// The whole number that, divided by ten to the exponent, is the value bit for bit.
#[inline]
fn mantissa(value: f64, exponent: u8) -> Option<i64> {
    if exponent == 0 {
        // Every whole number that fits; not-a-number becomes zero, and negative zero a positive one: both differ in their bits.
        let whole = value as i64;
        return (whole as f64).to_bits().eq(&value.to_bits()).then_some(whole);
    }
    let power = POWERS[usize::from(exponent)];
    let scaled = value * power;
    // Rounded by truncation, which needs no call; where that is off by one the comparison fails.
    let whole = (scaled + 0.5f64.copysign(scaled)) as i64;
    (scaled.abs() < MANTISSA_MAX && (whole as f64 / power).to_bits() == value.to_bits()).then_some(whole)
}
