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
    match step(values) {
        Some(step) => encode_uniform(first, step, out),
        None => encode_any(values, scratch, out),
    }
}

/// As [`encode`], whatever the numbers are.
fn encode_any(values: &[i64], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let first = values[0];
    let divisor = common_divisor(values);
    let Scratch { deltas } = scratch;
    let kind = dispatch!(Level::new(), _simd => arrange(values, divisor, deltas));
    put_varint(out, zigzag(first));
    out.push(kind | if divisor == 1 { 0 } else { DIVIDED });
    if divisor != 1 {
        put_varint(out, divisor as u64);
    }
    if kind & UNIFORM != 0 {
        return put_varint(out, zigzag(deltas[1][0]));
    }
    for block in deltas[usize::from(kind)].chunks(BLOCK) {
        encode_block(block, out);
    }
}

/// Makes the differences of all orders and says which are to be kept: what is 0, 1 or 2, or that those of order 1 are all the same. Only what that says is there
/// for certain.
#[inline(always)]
fn arrange(values: &[i64], divisor: i64, [plain, delta, delta2]: &mut [Vec<i64>; 3]) -> u8 {
    let first = values[0];
    plain.clear();
    if divisor == 1 {
        plain.extend(values[1..].iter().map(|v| v.wrapping_sub(first)));
    } else {
        plain.extend(values[1..].iter().map(|v| (v - first) / divisor));
    }
    differences(plain, delta);
    if is_uniform(delta) {
        return 1 | UNIFORM;
    }
    differences(delta, delta2);
    let sizes = [packed_size(plain), packed_size(delta), packed_size(delta2)];
    (0..3u8).min_by_key(|order| sizes[usize::from(*order)]).unwrap_or(0)
}

/// The distance from each number to the next, where it is the same for all and what they would be divided by.
fn step(values: &[i64]) -> Option<i64> {
    let [first, second, ..] = values else { return None };
    let step = second.checked_sub(*first).filter(|step| *step != 0 && *step != i64::MIN)?;
    let last = step.checked_mul(values.len() as i64 - 1).and_then(|whole| first.checked_add(whole))?;
    // Nothing wraps between the first and the last of an arithmetic progression.
    let is_uniform = values.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == step);
    (is_uniform && values.last() == Some(&last)).then_some(step)
}

/// The column of numbers of which each is by `step` more than the one before: most columns of times.
fn encode_uniform(first: i64, step: i64, out: &mut Vec<u8>) {
    put_varint(out, zigzag(first));
    let divisor = step.unsigned_abs();
    if divisor == 1 {
        out.push(1 | UNIFORM);
    } else {
        out.push(1 | UNIFORM | DIVIDED);
        put_varint(out, divisor);
    }
    put_varint(out, zigzag(step.signum()));
}

fn encode_block(block: &[i64], out: &mut Vec<u8>) {
    let Frame { low, width, sparse, .. } = dispatch!(Level::new(), _simd => frame(block));
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

#[inline(always)]
fn differences(of: &[i64], into: &mut Vec<i64>) {
    into.clear();
    into.extend(of.first());
    into.extend(of.iter().zip(of.iter().skip(1)).map(|(before, v)| v.wrapping_sub(*before)));
}

/// Whether all of these are the same. A column of one number has no differences, and needs no word on them.
#[inline(always)]
fn is_uniform(deltas: &[i64]) -> bool {
    deltas.first().is_some_and(|same| deltas.iter().all(|d| d == same))
}

/// The smaller of the two ways to keep a block.
#[inline(always)]
fn frame(block: &[i64]) -> Frame {
    // Of the numbers that are not zero. Without a branch, so that the compiler takes several at a time.
    let (mut low, mut high, mut zeros) = (i64::MAX, i64::MIN, 0u64);
    for v in block {
        let is_zero = *v == 0;
        low = low.min(if is_zero { i64::MAX } else { *v });
        high = high.max(if is_zero { i64::MIN } else { *v });
        zeros += u64::from(is_zero);
    }
    let zeros = zeros as usize;
    let kept = block.len() - zeros;
    let dense = match (zeros, kept) {
        (_, 0) => Frame::new(0, 0, block.len(), 0),
        (0, _) => Frame::new(low, high, block.len(), 0),
        _ => Frame::new(low.min(0), high.max(0), block.len(), 0),
    };
    // What is saved on zeros has to pay for the bitmap.
    if kept == 0 || zeros * dense.width as usize <= block.len() {
        return dense;
    }
    let sparse = Frame { sparse: true, ..Frame::new(low, high, kept, block.len().div_ceil(8)) };
    if sparse.bytes < dense.bytes { sparse } else { dense }
}

impl Frame {
    #[inline(always)]
    fn new(low: i64, high: i64, kept: usize, bitmap: usize) -> Frame {
        let width = 64 - (high.wrapping_sub(low) as u64).leading_zeros();
        // The lowest as a varint of seven bits a byte, and the byte of the width.
        let varint = (70 - (zigzag(low) | 1).leading_zeros() as usize) / 7;
        Frame { low, width, sparse: false, bytes: varint + 1 + bitmap + (kept * width as usize).div_ceil(8) }
    }
}

#[inline(always)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_the_same_apart_are_encoded_as_all_others_are() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut uniform = 0;
        for _ in 0..20_000 {
            let bits = random.u32(0..64);
            let mut draw = || random.i64(..) >> bits;
            let (first, step) = (draw(), draw());
            let mut values: Vec<i64> =
                (0..random.i64(1..30)).map(|n| first.wrapping_add(step.wrapping_mul(n))).collect();
            if random.u8(..4) == 0 {
                let at = random.usize(..values.len());
                values[at] = values[at].wrapping_add(random.i64(-1..2));
            }
            let (mut found, mut expect) = (Vec::new(), Vec::new());
            encode(&values, &mut Scratch::default(), &mut found);
            encode_any(&values, &mut Scratch::default(), &mut expect);
            assert_eq!(found, expect, "{values:?}");
            uniform += usize::from(values.len() > 1 && self::step(&values).is_some());
        }
        assert!(uniform > 5_000, "{uniform}");
    }

    #[test]
    fn a_block_is_framed_by_its_lowest_and_highest_with_or_without_zeros() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut dense, mut sparse) = (0, 0);
        for _ in 0..20_000 {
            let (bits, zeros) = (random.u32(0..64), random.u8(0..=20));
            let mut draw = || if random.u8(..20) < zeros { 0 } else { random.i64(..) >> bits };
            let block: Vec<i64> = (0..BLOCK).map(|_| draw()).take(1 + bits as usize * 2).collect();
            let of = |numbers: &[i64], bitmap: usize| {
                let (low, high) = (numbers.iter().min()?, numbers.iter().max()?);
                Some(Frame { sparse: bitmap > 0, ..Frame::new(*low, *high, numbers.len(), bitmap) })
            };
            let others: Vec<i64> = block.iter().copied().filter(|v| *v != 0).collect();
            let all = of(&block, 0).expect("not empty");
            let less = of(&others, block.len().div_ceil(8)).filter(|less| less.bytes < all.bytes);
            let found = frame(&block);
            // What would save no more on zeros than the bitmap takes is not looked at.
            let saves = (block.len() - others.len()) * all.width as usize > block.len();
            assert_eq!(found, less.filter(|_| saves).unwrap_or(all), "{block:?}");
            *(if found.sparse { &mut sparse } else { &mut dense }) += 1;
        }
        assert!(dense > 2_000 && sparse > 2_000, "{dense} {sparse}");
    }
}
