//! Floats with start times: a chunk of floats, and the starts as a column of integers.
//!
//! A start stays the same until its counter is reset, so the column takes some ten bytes.

use model::Columns;

use super::{Column, RICH, Scratch, Times, WITH_STARTS, decode_floats, encode_floats, ints};

pub(super) fn encode(
    (t, v, starts): (&[i64], &[f64], &[i64]),
    times: Column<'_>,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&[RICH, WITH_STARTS]);
    encode_floats(t, v, times, scratch, out);
    ints::encode(starts, &mut scratch.ints, out);
}

/// Reads what follows the kind.
pub(super) fn decode(bytes: &[u8], at: &mut usize, times: Times<'_>, out: &mut Columns) -> Result<(), &'static str> {
    let before = out.len();
    decode_floats(bytes, at, times, out)?;
    out.starts.resize(before, 0);
    ints::decode(bytes, at, out.len() - before, &mut out.starts)
}
