//! Floats that stand for others beside themselves: a chunk of floats, the length of the windows, and a column each of how many are left out and of their sums.
//!
//! Half of the floats stand for none, so sums are there only where some are left out. The sum of decimals is a decimal; what is kept of it is by how much it
//! differs from that of as many values like the one before them, which takes half of the bits.

use model::{Aggregate, Columns};

use super::bits::{put_varint, varint};
use super::{
    AGGREGATES, Column, EXPONENT_MAX, POWERS, RICH, Scratch, Times, decode_floats, decode_values, encode_floats,
    encode_values, ints, mantissa,
};
use crate::View;

/// A column of starts follows the floats.
const STARTS: u8 = 1;
/// Sums are whole numbers, scaled as values are, less as often the value before as samples are left out.
const DIFFERENCES: u8 = 1 << 1;

/// Appends the chunk of floats of windows of one length.
pub(super) fn encode(floats: View<'_>, times: Column<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) {
    let starts = floats.starts.iter().any(|start| *start != 0);
    out.extend_from_slice(&[RICH, AGGREGATES]);
    put_varint(out, u64::from(floats.aggregates[0].resolution_ms));
    let differences = (0..=EXPONENT_MAX).find_map(|exponent| Some((exponent, differences(floats, exponent)?)));
    out.push((if starts { STARTS } else { 0 }) | (if differences.is_some() { DIFFERENCES } else { 0 }));
    encode_floats(floats.t, floats.v, times, scratch, out);
    if starts {
        ints::encode(floats.starts, &mut scratch.ints, out);
    }
    scratch.wholes.clear();
    scratch.wholes.extend(floats.aggregates.iter().map(|aggregate| i64::from(aggregate.count)));
    ints::encode(&scratch.wholes, &mut scratch.ints, out);
    if let Some((exponent, differences)) = differences {
        if !differences.is_empty() {
            out.push(exponent);
            ints::encode(&differences, &mut scratch.ints, out);
        }
        return;
    }
    let mut sums = std::mem::take(&mut scratch.parts);
    sums.clear();
    sums.extend(floats.aggregates.iter().filter(|aggregate| aggregate.count > 0).map(|aggregate| aggregate.sum));
    if !sums.is_empty() {
        encode_values(&sums, scratch, out);
    }
    scratch.parts = sums;
}

/// The sums as differences, if all of them and the values before them are decimals of so many digits.
fn differences(floats: View<'_>, exponent: u8) -> Option<Vec<i64>> {
    let leaving_out = floats.v.iter().zip(floats.aggregates).filter(|(_, aggregate)| aggregate.count > 0);
    let difference = |(v, aggregate): (&f64, &Aggregate)| {
        let like = mantissa(*v, exponent)?.checked_mul(i64::from(aggregate.count))?;
        mantissa(aggregate.sum, exponent)?.checked_sub(like)
    };
    leaving_out.map(difference).collect()
}

/// The sum of which a difference is kept.
fn sum_of(difference: i64, v: f64, count: u32, exponent: u8) -> Result<f64, &'static str> {
    let power = POWERS.get(usize::from(exponent)).ok_or("exponent of sums")?;
    let like = mantissa(v, exponent).ok_or("a value that is no decimal before a difference")?;
    Ok(difference.wrapping_add(like.wrapping_mul(i64::from(count))) as f64 / power)
}

/// Reads what follows the kind.
pub(super) fn decode(bytes: &[u8], at: &mut usize, times: Times<'_>, out: &mut Columns) -> Result<(), &'static str> {
    let resolution = u32::try_from(varint(bytes, at)?).ok().filter(|resolution| *resolution > 0);
    let resolution_ms = resolution.ok_or("length of windows")?;
    let form = *bytes.get(*at).ok_or("ends too early")?;
    *at += 1;
    let before = out.len();
    decode_floats(bytes, at, times, out)?;
    let number = out.len() - before;
    if form & STARTS != 0 {
        out.starts.resize(before, 0);
        ints::decode(bytes, at, number, &mut out.starts)?;
    }
    let mut counts = Vec::with_capacity(number);
    ints::decode(bytes, at, number, &mut counts)?;
    out.aggregates.resize(before, Aggregate::RAW);
    for count in counts {
        let count = u32::try_from(count).map_err(|_| "number of those left out")?;
        out.aggregates.push(Aggregate { count, resolution_ms, sum: 0.0 });
    }
    let all = out.v[before..].iter().zip(&mut out.aggregates[before..]);
    let leaving_out: Vec<(&f64, &mut Aggregate)> = all.filter(|(_, aggregate)| aggregate.count > 0).collect();
    if leaving_out.is_empty() {
        return Ok(());
    }
    if form & DIFFERENCES == 0 {
        let mut sums = Vec::new();
        decode_values(bytes, at, leaving_out.len(), &mut sums)?;
        leaving_out.into_iter().zip(sums).for_each(|((_, aggregate), sum)| aggregate.sum = sum);
        return Ok(());
    }
    let exponent = *bytes.get(*at).ok_or("ends too early")?;
    *at += 1;
    let mut differences = Vec::new();
    ints::decode(bytes, at, leaving_out.len(), &mut differences)?;
    for ((v, aggregate), difference) in leaving_out.into_iter().zip(differences) {
        aggregate.sum = sum_of(difference, *v, aggregate.count, exponent)?;
    }
    Ok(())
}

/// The sum of values: of decimals the decimal that is the sum of them, which no order of adding up changes; of others what adding up yields, with what
/// rounding loses carried along.
pub(crate) fn sum(values: &[f64]) -> f64 {
    (0..=EXPONENT_MAX).find_map(|exponent| decimal_sum(values, exponent)).unwrap_or_else(|| carried_sum(values))
}

fn decimal_sum(values: &[f64], exponent: u8) -> Option<f64> {
    let mut sum = 0i64;
    for value in values {
        sum = sum.checked_add(mantissa(*value, exponent)?)?;
    }
    let total = sum as f64 / POWERS[usize::from(exponent)];
    (mantissa(total, exponent) == Some(sum)).then_some(total)
}

/// As Neumaier improved it on Kahan.
fn carried_sum(values: &[f64]) -> f64 {
    let (mut sum, mut lost) = (0.0f64, 0.0f64);
    for value in values {
        let next = sum + value;
        lost += match sum.abs() >= value.abs() {
            true => (sum - next) + value,
            false => (value - next) + sum,
        };
        sum = next;
    }
    if sum.is_finite() && lost.is_finite() { sum + lost } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{Piece, SAMPLES_MAX, decode, pieces};

    fn aggregate(count: u32, sum: f64) -> Aggregate {
        Aggregate { count, resolution_ms: 300_000, sum }
    }

    fn columns(samples: &[(i64, f64, Aggregate, i64)]) -> Columns {
        let mut out = Columns::default();
        for (t, v, aggregate, start) in samples {
            out.push_with_start(*t, *v, *start);
            out.set_last_aggregate(*aggregate);
        }
        out
    }

    fn encode(columns: &Columns) -> (Vec<u8>, usize) {
        let (mut bytes, mut number) = (Vec::new(), 0);
        for piece in pieces(columns) {
            piece.encode(&mut Scratch::default(), &mut bytes);
            number += 1;
        }
        (bytes, number)
    }

    fn round_trip(columns: &Columns) -> usize {
        let (bytes, number) = encode(columns);
        let (mut out, mut at) = (Columns::default(), 0);
        while at < bytes.len() {
            at += decode(&bytes[at..], &mut out).expect("decodes");
        }
        assert_eq!(out, *columns);
        number
    }

    #[test]
    fn a_chunk_of_aggregates_is_golden() {
        let all = [(1000, 1.0, aggregate(3, 7.5), 0), (2000, 5.0, aggregate(0, 0.0), 0)];
        let expect = [
            // Kind, windows of 300,000 ms, differences.
            &[0, 3, 0xe0, 0xa7, 0x12, 2][..],
            // A chunk of two floats.
            &[2, 0xd0, 0x0f, 13, 0xe8, 7, 2, 1, 0, 2, 13, 4, 2, 0],
            // How many are left out, and that the sum of those that are is 4.5 more than three times 1.
            &[6, 13, 3, 1],
            &[1, 90, 0],
        ];
        let (bytes, _) = encode(&columns(&all));
        assert_eq!(bytes, expect.concat(), "{bytes:x?}");
    }

    #[test]
    fn aggregates_come_back_beside_raw_samples_and_starts() {
        let raw = Aggregate::RAW;
        let coarse = Aggregate { resolution_ms: 3_600_000, ..aggregate(9, f64::INFINITY) };
        let one = |all: &[(i64, f64, Aggregate, i64)], chunks: usize| assert_eq!(round_trip(&columns(all)), chunks);
        one(&[(1, 1.5, aggregate(0, 0.0), 0)], 1);
        one(&[(1, 1.5, aggregate(u32::MAX, -0.1), 0), (2, 0.1, aggregate(1, 0.2), 0)], 1);
        one(&[(1, 1.5, aggregate(2, 3.0), 7), (2, 0.1, aggregate(1, 0.2), 7)], 1);
        one(&[(1, 1.0, raw, 0), (2, 2.0, aggregate(2, 3.0), 0), (3, 3.0, raw, 5), (4, 4.0, coarse, 0)], 4);
        one(&[(1, 1.0, aggregate(2, 3.0), 0), (2, 2.0, raw, 5), (3, 3.0, raw, 5)], 2);
        let many = (0..3000).map(|n| (n * 7, (n % 11) as f64, aggregate((n % 3) as u32, n as f64), 0));
        let mut many: Vec<_> = many.collect();
        many.iter_mut().filter(|one| one.2.count == 0).for_each(|one| one.2.sum = 0.0);
        one(&many, 3000usize.div_ceil(SAMPLES_MAX));
    }

    #[test]
    fn bytes_that_are_cut_or_changed_are_refused_or_read_without_a_panic() {
        let (bytes, _) = encode(&columns(&[(1, 1.0, aggregate(3, 7.5), 2), (2, 5.0, aggregate(1, 0.5), 2)]));
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end], &mut Columns::default()).is_err(), "{end}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let _ = decode(&changed, &mut Columns::default());
            }
        }
        let mut without = bytes.clone();
        without.splice(2..5, [0]);
        assert_eq!(decode(&without, &mut Columns::default()), Err("length of windows"));
    }

    #[test]
    fn sums_of_decimals_are_decimals() {
        for (values, expect) in [
            (&[0.1, 0.2, 0.3][..], 0.6),
            (&[1e15, 0.5], 1e15 + 0.5),
            (&[0.7; 10], 7.0),
            (&[1e16, 1.0, -1e16], 1.0),
            (&[1.0 / 3.0, 2.0 / 3.0], 1.0),
            (&[f64::INFINITY, 1.0], f64::INFINITY),
            (&[-0.0, -0.0], 0.0),
            (&[i64::MAX as f64, 1e19, 2.0], i64::MAX as f64 + 1e19),
            (&[], 0.0),
        ] {
            assert_eq!(sum(values), expect, "{values:?}");
        }
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan() && sum(&[1.0, f64::NAN]).is_nan());
    }

    #[test]
    fn what_is_left_out_is_not_told_of_as_facts() {
        let all = columns(&[(1, 1.0, aggregate(3, 7.5), 0), (2, 5.0, aggregate(0, 0.0), 0)]);
        assert_eq!(pieces(&all).next().and_then(|piece: Piece<'_>| piece.facts()), None);
    }
}
