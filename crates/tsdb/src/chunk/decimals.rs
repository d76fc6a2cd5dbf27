//! Columns of decimals: whole numbers that share a power of ten, and a few values that are none.

use fearless_simd::{Level, dispatch};

use super::bits::varint;
use super::{EXPONENT_MAX, POWERS, ints};

/// Below this a whole number can be added to the bits of a float that is large enough, see [`float`].
const SHIFTED_MAX: i64 = 1 << 51;

/// What a power of ten is multiplied with instead of being divided by: one over it, rounded to the nearest float.
const INVERSE: [f64; EXPONENT_MAX as usize + 1] = {
    let mut inverse = POWERS;
    let mut exponent = 0;
    while exponent < POWERS.len() {
        inverse[exponent] = 1.0 / POWERS[exponent];
        exponent += 1;
    }
    inverse
};

/// Appends `count` values, at least one, to `out`.
pub(super) fn decode(
    bytes: &[u8],
    at: &mut usize,
    count: usize,
    exponent: u8,
    out: &mut Vec<f64>,
) -> Result<(), &'static str> {
    let exponent = usize::from(exponent);
    if exponent >= POWERS.len() {
        return Err("exponent");
    }
    let (start, level) = (out.len(), Level::new());
    out.reserve(count);
    ints::decode_to(bytes, at, count, |mantissas| divide(level, mantissas, exponent, out))?;
    for _ in 0..varint(bytes, at)? {
        let index = varint(bytes, at)?;
        let value = bytes.get(*at..*at + 8).ok_or("ends too early")?;
        *at += 8;
        let slot = usize::try_from(index).ok().and_then(|i| out[start..].get_mut(i)).ok_or("place of an exception")?;
        *slot = f64::from_bits(u64::from_le_bytes(value.try_into().expect("eight bytes")));
    }
    Ok(())
}

/// Divides whole numbers by a power of ten, rounded to the nearest float, and appends them.
fn divide(level: Level, mantissas: &[i64], exponent: usize, out: &mut Vec<f64>) {
    let multiplies = can_multiply_and_add(level);
    dispatch!(level, _simd => divide_all(mantissas, exponent, multiplies, out));
}

/// Whether a product and a sum are one instruction with one rounding. Where they are not, a call does it, which takes longer than a division.
#[cfg(target_arch = "x86_64")]
fn can_multiply_and_add(level: Level) -> bool {
    level.as_avx2().is_some()
}

/// As above: all 64-bit processors of Arm have it.
#[cfg(not(target_arch = "x86_64"))]
fn can_multiply_and_add(_level: Level) -> bool {
    cfg!(target_arch = "aarch64")
}

#[inline(always)]
fn divide_all(mantissas: &[i64], exponent: usize, multiplies: bool, out: &mut Vec<f64>) {
    let magnitudes = mantissas.iter().fold(0, |all, m| all | (m ^ (m >> 63)));
    let (power, inverse) = (POWERS[exponent], INVERSE[exponent]);
    if magnitudes >= SHIFTED_MAX {
        out.extend(mantissas.iter().map(|m| *m as f64 / power));
    } else if exponent == 0 {
        out.extend(mantissas.iter().map(|m| float(*m)));
    } else if multiplies {
        out.extend(mantissas.iter().map(|m| quotient(float(*m), power, inverse)));
    } else {
        out.extend(mantissas.iter().map(|m| float(*m) / power));
    }
}

/// A whole number below 2^51. Added to the bits of 1.5 * 2^52 it is the float that is so much more: additions, which every processor does for many
/// numbers at once, where most convert one by one.
#[inline(always)]
fn float(m: i64) -> f64 {
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    f64::from_bits(m.wrapping_add(SHIFT.to_bits() as i64) as u64) - SHIFT
}

/// `m / power`, correctly rounded, without dividing: the product with `1 / power` is off by little, and what it lacks is added with one rounding (Markstein,
/// IBM J. Res. Dev. 34, 1990). What it lacks is exact, since a power of ten up to 10^15 has no more than 35 bits that are not trailing zeros; and what it is
/// multiplied with is off by 2^-53 of it, while no quotient of these is nearer to the middle of two floats than 2^-37 of their distance.
#[inline(always)]
fn quotient(m: f64, power: f64, inverse: f64) -> f64 {
    let near = m * inverse;
    (-near).mul_add(power, m).mul_add(inverse, near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_and_what_it_lacks_is_the_quotient_to_the_last_bit() {
        let mut random = fastrand::Rng::with_seed(1);
        for (power, inverse) in POWERS.into_iter().zip(INVERSE).skip(1) {
            let near_power = (-300..300).map(|by| power as i64 + by);
            let drawn = (0..20_000).map(|_| random.i64(..) >> random.u32(13..63));
            for m in near_power.chain(drawn).filter(|m| m.abs() < SHIFTED_MAX) {
                let m = m as f64;
                assert_eq!(quotient(m, power, inverse).to_bits(), (m / power).to_bits(), "{m} / {power}");
            }
        }
    }

    #[test]
    fn every_way_to_divide_yields_the_same() {
        let mut random = fastrand::Rng::with_seed(2);
        for bits in [1, 7, 20, 50, 51, 52, 63] {
            let mantissas: Vec<i64> = (0..131).map(|_| random.i64(..) >> (64 - bits)).collect();
            for (exponent, power) in POWERS.iter().enumerate() {
                let expected: Vec<u64> = mantissas.iter().map(|m| (*m as f64 / power).to_bits()).collect();
                for multiplies in [false, true] {
                    let mut out = Vec::new();
                    dispatch!(Level::new(), _simd => divide_all(&mantissas, exponent, multiplies, &mut out));
                    let bits: Vec<u64> = out.iter().map(|v| v.to_bits()).collect();
                    assert_eq!(bits, expected, "{exponent} {multiplies}");
                }
            }
        }
    }
}
