//! Columns of integers: a first value, a common divisor, and deltas of order 0, 1 or 2 in blocks of one bit width.
//!
//! A block of which most numbers are zero, such as the deltas of a counter that seldom moves, is kept as a bitmap and the others;
//! a column whose deltas are all the same, such as the times of regular scrapes, as that one delta.

use fearless_simd::{Level, dispatch};

use super::bits::{BitReader, BitWriter, put_varint, unzigzag, varint, zigzag};
use super::unpack;

/// Numbers that share a bit width. Fewer adapt better to outliers, more cost less for their headers.
pub(super) const BLOCK: usize = 128;

/// In the byte that says what a column is: the order of the differences, whether a divisor follows, and whether they are all the same.
const ORDER: u8 = 0b0011;
const DIVIDED: u8 = 0b0100;
const UNIFORM: u8 = 0b1000;
/// In the byte with a block's bit width: only the numbers that are not zero follow, behind a bitmap that says which they are.
const SPARSE: u8 = 0x80;

/// Memory kept from one column to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    deltas: [Vec<i64>; 3],
}

/// How a block is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    /// The lowest of the numbers that are kept.
    low: i64,
    /// Bits that each of them needs above the lowest.
    width: u32,
    /// Zeros are left out.
    sparse: bool,
    /// Size of all that, in bytes.
    bytes: usize,
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
    put_varint(out, zigzag(first));
    let divided = if divisor == 1 { 0 } else { DIVIDED };
    let header = |out: &mut Vec<u8>, kind: u8| {
        out.push(kind | divided);
        if divisor != 1 {
            put_varint(out, divisor as u64);
        }
    };
    if let Some(same) = uniform(delta) {
        header(out, 1 | UNIFORM);
        put_varint(out, zigzag(same));
        return;
    }
    differences(delta, delta2);
    let sizes = [packed_size(plain), packed_size(delta), packed_size(delta2)];
    let order = (0..3).min_by_key(|o| sizes[*o]).unwrap_or(0);
    header(out, order as u8);
    for block in scratch.deltas[order].chunks(BLOCK) {
        encode_block(block, out);
    }
}

fn encode_block(block: &[i64], out: &mut Vec<u8>) {
    let Frame { low, width, sparse, .. } = frame(block);
    put_varint(out, zigzag(low));
    out.push(width as u8 | if sparse { SPARSE } else { 0 });
    let mut writer = BitWriter::new(out);
    if sparse {
        block.iter().for_each(|v| writer.put(u64::from(*v != 0), 1));
        writer.finish();
        writer = BitWriter::new(out);
    }
    for v in block.iter().filter(|v| !sparse || **v != 0) {
        writer.put(v.wrapping_sub(low) as u64, width);
    }
    writer.finish();
}

/// Appends `count` numbers, at least one, to `out`.
pub(crate) fn decode(bytes: &[u8], at: &mut usize, count: usize, out: &mut Vec<i64>) -> Result<(), &'static str> {
    out.reserve(count);
    let mut behind = *at;
    let Head { first, kind, divisor } = Head::read(bytes, &mut behind)?;
    if kind & UNIFORM == 0 {
        return decode_to(bytes, at, count, |numbers| out.extend_from_slice(numbers));
    }
    // Most columns of times.
    let step = unzigzag(varint(bytes, &mut behind)?).wrapping_mul(divisor);
    *at = behind;
    dispatch!(Level::new(), _simd => uniform_numbers(first, step, count, out));
    Ok(())
}

/// Appends numbers of which each is by `step` more than the one before: the compiler makes additions of many at a time of the products.
#[inline(always)]
fn uniform_numbers(first: i64, step: i64, count: usize, out: &mut Vec<i64>) {
    out.extend((0..count).map(|place| first.wrapping_add(step.wrapping_mul(place as i64))));
}

/// What a column begins with.
struct Head {
    first: i64,
    kind: u8,
    divisor: i64,
}

impl Head {
    fn read(bytes: &[u8], at: &mut usize) -> Result<Head, &'static str> {
        let first = unzigzag(varint(bytes, at)?);
        let kind = *bytes.get(*at).ok_or("ends too early")?;
        *at += 1;
        if kind & ORDER > 2 || kind > (ORDER | DIVIDED | UNIFORM) {
            return Err("order of the differences");
        }
        let divisor = if kind & DIVIDED != 0 { varint(bytes, at)? as i64 } else { 1 };
        Ok(Head { first, kind, divisor })
    }
}

/// Hands on `count` numbers, at least one, at most [`BLOCK`] at a time.
pub(crate) fn decode_to(
    bytes: &[u8],
    at: &mut usize,
    count: usize,
    mut each: impl FnMut(&[i64]),
) -> Result<(), &'static str> {
    let Head { first, kind, divisor } = Head::read(bytes, at)?;
    let order = kind & ORDER;
    let mut numbers = [0i64; BLOCK];
    if kind & UNIFORM != 0 {
        let step = unzigzag(varint(bytes, at)?).wrapping_mul(divisor);
        // A block is the one before it plus the same, which is an addition.
        let numbers = &mut numbers[..BLOCK.min(count)];
        numbers.iter_mut().zip(0i64..).for_each(|(n, place)| *n = first.wrapping_add(step.wrapping_mul(place)));
        let by = step.wrapping_mul(BLOCK as i64);
        for from in (0..count).step_by(BLOCK) {
            each(&numbers[..BLOCK.min(count - from)]);
            numbers.iter_mut().for_each(|n| *n = n.wrapping_add(by));
        }
        return Ok(());
    }
    each(&[first]);
    let mut running = Running { first, sum: first, rate: 0 };
    let mut left = count - 1;
    while left > 0 {
        let n = left.min(BLOCK);
        left -= n;
        let numbers = &mut numbers[..n];
        decode_block(bytes, at, numbers)?;
        match divisor {
            1 => running.integrate(numbers, order, |d| d),
            _ => running.integrate(numbers, order, |d| d.wrapping_mul(divisor)),
        }
        each(numbers);
    }
    Ok(())
}

fn decode_block(bytes: &[u8], at: &mut usize, out: &mut [i64]) -> Result<(), &'static str> {
    let low = unzigzag(varint(bytes, at)?);
    let width = *bytes.get(*at).ok_or("ends too early")?;
    *at += 1;
    let (sparse, width) = (width & SPARSE != 0, u32::from(width & !SPARSE));
    if width > 64 {
        return Err("bit width");
    }
    if !sparse {
        return decode_numbers(bytes, at, width, low, out);
    }
    let bitmap = bytes.get(*at..*at + out.len().div_ceil(8)).ok_or("ends too early")?;
    *at += bitmap.len();
    let mut is_there = [0u64; BLOCK / 64];
    for (n, byte) in bitmap.iter().enumerate() {
        is_there[n / 8] |= u64::from(*byte) << (n % 8 * 8);
    }
    let kept = is_there.iter().map(|word| word.count_ones() as usize).sum();
    let mut numbers = [0i64; BLOCK];
    let numbers = numbers.get_mut(..kept).ok_or("bitmap of a block")?;
    decode_numbers(bytes, at, width, low, numbers)?;
    out.fill(0);
    let mut next = 0;
    for (n, word) in is_there.iter().enumerate() {
        let mut word = *word;
        while word != 0 {
            let place = n * 64 + word.trailing_zeros() as usize;
            *out.get_mut(place).ok_or("bitmap of a block")? = numbers[next];
            next += 1;
            word &= word - 1;
        }
    }
    Ok(())
}

/// Reads packed numbers.
fn decode_numbers(bytes: &[u8], at: &mut usize, width: u32, low: i64, out: &mut [i64]) -> Result<(), &'static str> {
    let size = (out.len() * width as usize).div_ceil(8);
    let packed = bytes.get(*at..*at + size).ok_or("ends too early")?;
    // The bytes behind the block too, if there are any: whole words can then be read up to its end.
    let readable = &bytes[*at..(*at + size + 8).min(bytes.len())];
    *at += size;
    if width == 0 {
        out.fill(low);
    } else if width <= unpack::WIDTH_MAX && readable.len() >= size + 8 {
        unpack::words(readable, width, low, out);
    } else if width <= unpack::WIDTH_MAX {
        // The last block of a chunk.
        let mut padded = [0; BLOCK * unpack::WIDTH_MAX as usize / 8 + 8];
        padded[..size].copy_from_slice(packed);
        unpack::words(&padded, width, low, out);
    } else {
        let mut reader = BitReader::new(packed);
        out.fill_with(|| low.wrapping_add(reader.take(width) as i64));
    }
    Ok(())
}

/// Where the numbers are from one block to the next.
struct Running {
    first: i64,
    sum: i64,
    rate: i64,
}

impl Running {
    /// Makes numbers of their differences, each of which `times` multiplies by the divisor.
    #[inline]
    fn integrate(&mut self, deltas: &mut [i64], order: u8, times: impl Fn(i64) -> i64) {
        let (first, mut sum, mut rate) = (self.first, self.sum, self.rate);
        match order {
            0 => deltas.iter_mut().for_each(|d| *d = first.wrapping_add(times(*d))),
            1 => deltas.iter_mut().for_each(|d| {
                sum = sum.wrapping_add(times(*d));
                *d = sum;
            }),
            _ => deltas.iter_mut().for_each(|d| {
                rate = rate.wrapping_add(times(*d));
                sum = sum.wrapping_add(rate);
                *d = sum;
            }),
        }
        (self.sum, self.rate) = (sum, rate);
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

/// The number that all of these are. A column of one number has no differences, and needs no word on them.
fn uniform(deltas: &[i64]) -> Option<i64> {
    let same = *deltas.first()?;
    deltas.iter().all(|d| *d == same).then_some(same)
}

/// The smaller of the two ways to keep a block.
fn frame(block: &[i64]) -> Frame {
    let (low, high) = block.iter().fold((i64::MAX, i64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let dense = Frame::new(low, high, block.len(), 0);
    let kept = block.iter().filter(|v| **v != 0).count();
    // What is saved on zeros has to pay for the bitmap.
    if kept == 0 || (block.len() - kept) * dense.width as usize <= block.len() {
        return dense;
    }
    let others = block.iter().filter(|v| **v != 0);
    let (low, high) = others.fold((i64::MAX, i64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let sparse = Frame { sparse: true, ..Frame::new(low, high, kept, block.len().div_ceil(8)) };
    if sparse.bytes < dense.bytes { sparse } else { dense }
}

impl Frame {
    fn new(low: i64, high: i64, kept: usize, bitmap: usize) -> Frame {
        let width = 64 - (high.wrapping_sub(low) as u64).leading_zeros();
        // The lowest as a varint of seven bits a byte, and the byte of the width.
        let varint = (70 - (zigzag(low) | 1).leading_zeros() as usize) / 7;
        Frame { low, width, sparse: false, bytes: varint + 1 + bitmap + (kept * width as usize).div_ceil(8) }
    }
}

fn packed_size(column: &[i64]) -> usize {
    column.chunks(BLOCK).map(|block| frame(block).bytes).sum()
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
