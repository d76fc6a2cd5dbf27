//! Columns of integers: a first value, a common divisor, and deltas of order 0, 1 or 2 in blocks of one bit width.

use super::bits::{BitReader, BitWriter, put_varint, unzigzag, varint, zigzag};

/// Numbers that share a bit width. Fewer adapt better to outliers, more cost less for their headers.
const BLOCK: usize = 128;

/// Memory kept from one column to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    deltas: [Vec<i64>; 3],
}

/// Appends a column of at least one number. All arithmetic wraps, so that every column is encoded.
pub(crate) fn encode(values: &[i64], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let first = values[0];
    let divisor = common_divisor(values);
    let [plain, delta, delta2] = &mut scratch.deltas;
    plain.clear();
    if divisor == 1 {
        plain.extend(values[1..].iter().map(|v| v.wrapping_sub(first)));
    } else {
        plain.extend(values[1..].iter().map(|v| (v - first) / divisor));
    }
    differences(plain, delta);
    differences(delta, delta2);
    let sizes = [packed_size(plain), packed_size(delta), packed_size(delta2)];
    let order = (0..3).min_by_key(|o| sizes[*o]).unwrap_or(0);
    put_varint(out, zigzag(first));
    // The order in the low bits, and whether a divisor follows.
    out.push(order as u8 | u8::from(divisor != 1) << 2);
    if divisor != 1 {
        put_varint(out, divisor as u64);
    }
    for block in scratch.deltas[order].chunks(BLOCK) {
        let (low, width) = frame(block);
        put_varint(out, zigzag(low));
        out.push(width as u8);
        let mut writer = BitWriter::new(out);
        for v in block {
            writer.put(v.wrapping_sub(low) as u64, width);
        }
        writer.finish();
    }
}

/// Appends `count` numbers, at least one, to `out`.
pub(crate) fn decode(bytes: &[u8], at: &mut usize, count: usize, out: &mut Vec<i64>) -> Result<(), &'static str> {
    let first = unzigzag(varint(bytes, at)?);
    let kind = *bytes.get(*at).ok_or("ends too early")?;
    *at += 1;
    let (order, divided) = (kind & 3, kind & 4 != 0);
    if order > 2 || kind > 6 {
        return Err("order of the differences");
    }
    let divisor = if divided { varint(bytes, at)? as i64 } else { 1 };
    out.reserve(count);
    out.push(first);
    let (mut sum, mut rate) = (0i64, 0i64);
    let mut deltas = [0i64; BLOCK];
    let mut left = count - 1;
    while left > 0 {
        let n = left.min(BLOCK);
        left -= n;
        let low = unzigzag(varint(bytes, at)?);
        let width = u32::from(*bytes.get(*at).ok_or("ends too early")?);
        *at += 1;
        if width > 64 {
            return Err("bit width");
        }
        let size = (n * width as usize).div_ceil(8);
        let packed = bytes.get(*at..*at + size).ok_or("ends too early")?;
        // The bytes behind the block too, if there are any: whole words can then be read up to its end.
        let readable = &bytes[*at..(*at + size + 8).min(bytes.len())];
        *at += size;
        let deltas = &mut deltas[..n];
        unpack(packed, readable, width, low, deltas);
        integrate(deltas, order, &mut sum, &mut rate);
        if divisor == 1 {
            out.extend(deltas.iter().map(|d| first.wrapping_add(*d)));
        } else {
            out.extend(deltas.iter().map(|d| first.wrapping_add(d.wrapping_mul(divisor))));
        }
    }
    Ok(())
}

/// Reads the numbers of a block of one bit width.
fn unpack(packed: &[u8], readable: &[u8], width: u32, low: i64, out: &mut [i64]) {
    if width == 0 {
        out.fill(low);
        return;
    }
    if width <= 56 && readable.len() >= packed.len() + 8 {
        let mask = (1u64 << width) - 1;
        let mut bit = 0usize;
        for slot in out {
            let word: [u8; 8] = readable[bit / 8..bit / 8 + 8].try_into().expect("eight bytes");
            *slot = low.wrapping_add(((u64::from_le_bytes(word) >> (bit % 8)) & mask) as i64);
            bit += width as usize;
        }
        return;
    }
    let mut reader = BitReader::new(packed);
    out.fill_with(|| low.wrapping_add(reader.take(width) as i64));
}

/// Makes numbers of their differences.
fn integrate(deltas: &mut [i64], order: u8, sum: &mut i64, rate: &mut i64) {
    match order {
        0 => {}
        1 => deltas.iter_mut().for_each(|d| {
            *sum = sum.wrapping_add(*d);
            *d = *sum;
        }),
        _ => deltas.iter_mut().for_each(|d| {
            *rate = rate.wrapping_add(*d);
            *sum = sum.wrapping_add(*rate);
            *d = *sum;
        }),
    }
}

fn differences(of: &[i64], into: &mut Vec<i64>) {
    into.clear();
    let mut before = 0i64;
    into.extend(of.iter().map(|v| {
        let d = v.wrapping_sub(before);
        before = *v;
        d
    }));
}

/// The lowest number, and the bits that the others need above it.
fn frame(block: &[i64]) -> (i64, u32) {
    let (low, high) = block.iter().fold((i64::MAX, i64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    (low, 64 - (high.wrapping_sub(low) as u64).leading_zeros())
}

fn packed_size(column: &[i64]) -> usize {
    column
        .chunks(BLOCK)
        .map(|block| {
            let (low, width) = frame(block);
            // Bits of the first number as a varint, the width, the numbers.
            let varint = (70 - (zigzag(low) | 1).leading_zeros() as usize) / 7;
            varint + 1 + (block.len() * width as usize).div_ceil(8)
        })
        .sum()
}

/// The greatest common divisor of the distances from the first number; 1 where they do not fit.
fn common_divisor(values: &[i64]) -> i64 {
    let mut divisor = 0u64;
    for v in &values[1..] {
        let Some(distance) = v.checked_sub(values[0]) else { return 1 };
        divisor = gcd(distance.unsigned_abs(), divisor);
        if divisor == 1 {
            return 1;
        }
    }
    i64::try_from(divisor).ok().filter(|d| *d > 0).unwrap_or(1)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
