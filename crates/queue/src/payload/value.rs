//! One value of a sample: most are whole numbers or decimals with few digits, which take as many bytes as they have digits
//! to show; the rest are kept as their eight bytes.
//!
//! A varint whose lowest two bits say how to read the rest: a whole number, hundredths, ten-thousandths (each as zigzag), or
//! that eight bytes follow. A value is written as a decimal only where that reads back bit for bit, so that NaN payloads, the
//! stale marker and the negative zero are kept.

use super::{put_varint, unzigzag, zigzag};

const SCALES: [f64; 3] = [1.0, 100.0, 10_000.0];
/// The code of a value of which the eight bytes follow.
const RAW: u64 = 3;
/// Up to here a half can be added to a whole number without a loss, and it fits a varint with sign and code.
const WHOLE_MAX: f64 = (1i64 << 52) as f64;

pub(super) fn put(out: &mut Vec<u8>, v: f64) {
    for (code, scale) in SCALES.iter().enumerate() {
        let scaled = v * scale;
        // The nearest whole number; what is not finite or too large is found out below.
        let whole = (scaled + 0.5f64.copysign(scaled)) as i64;
        if scaled.abs() < WHOLE_MAX && (whole as f64 / scale).to_bits() == v.to_bits() {
            return put_varint(out, zigzag(whole) << 2 | code as u64);
        }
    }
    out.push(RAW as u8);
    out.extend_from_slice(&v.to_le_bytes());
}

/// Reads the value that a varint begins; `raw` gives eight more bytes.
pub(super) fn read<E>(n: u64, raw: impl FnOnce() -> Result<[u8; 8], E>) -> Result<f64, E> {
    match SCALES.get((n & 3) as usize) {
        Some(scale) => Ok(unzigzag(n >> 2) as f64 / scale),
        None => raw().map(f64::from_le_bytes),
    }
}
