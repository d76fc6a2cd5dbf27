//! Integers in few bits where they are small, as chunks of histograms have them: as many ones as there are shorter forms, a zero, and the number.

use super::Reason;
use super::bits::{BitReader, BitWriter};

/// Widths of the number, by the ones before it; after all but eight there is a zero.
const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];
/// Ones after which there is no zero.
const ONES_MAX: u32 = 8;

/// Appends a number that may be negative. Of a width's numbers the largest is a power of two, so that there is one more of them above zero than below.
pub(super) fn put_int(writer: &mut BitWriter<'_>, n: i64) {
    let fits = |width: u32| width == 64 || (width > 0 && (1 - (1i64 << (width - 1))..=1 << (width - 1)).contains(&n));
    let ones = if n == 0 { 0 } else { (1..=ONES_MAX).find(|ones| fits(WIDTHS[*ones as usize])).unwrap_or(ONES_MAX) };
    put(writer, ones, n as u64);
}

/// Appends a number.
pub(super) fn put_uint(writer: &mut BitWriter<'_>, n: u64) {
    let needed = 64 - n.leading_zeros();
    let ones = (0..=ONES_MAX).find(|ones| needed <= WIDTHS[*ones as usize]).unwrap_or(ONES_MAX);
    put(writer, ones, n);
}

fn put(writer: &mut BitWriter<'_>, ones: u32, n: u64) {
    if ones == ONES_MAX {
        writer.put(0xff, 8);
    } else {
        writer.put((1 << (ones + 1)) - 2, ones + 1);
    }
    writer.put(n, WIDTHS[ones as usize]);
}

/// What [`put_int`] appended.
pub(super) fn take_int(reader: &mut BitReader<'_>) -> Result<i64, Reason> {
    let (n, width) = take(reader)?;
    Ok(if (1..64).contains(&width) && n > 1 << (width - 1) { n as i64 - (1 << width) } else { n as i64 })
}

/// What [`put_uint`] appended.
pub(super) fn take_uint(reader: &mut BitReader<'_>) -> Result<u64, Reason> {
    Ok(take(reader)?.0)
}

fn take(reader: &mut BitReader<'_>) -> Result<(u64, u32), Reason> {
    let width = WIDTHS[reader.ones(ONES_MAX)? as usize];
    Ok((reader.take(width)?, width))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(put: impl FnOnce(&mut BitWriter<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut BitWriter::new(&mut bytes));
        bytes
    }

    #[test]
    fn the_ends_of_each_width_are_golden() {
        let bits = |n: i64| bytes(|w| put_int(w, n));
        assert_eq!(bits(0), [0]);
        assert_eq!((bits(4), bits(-3)), (vec![0b1010_0000], vec![0b1010_1000]));
        assert_eq!((bits(5), bits(-4)), (vec![0b1100_0010, 0b1000_0000], vec![0b1101_1110, 0]));
        assert_eq!(bits(1 << 55), [0xfe, 0x80, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bits((1 << 55) + 1), [0xff, 0, 0x80, 0, 0, 0, 0, 0, 1]);
        let bits = |n: u64| bytes(|w| put_uint(w, n));
        assert_eq!((bits(0), bits(7), bits(8)), (vec![0], vec![0b1011_1000], vec![0b1100_0100, 0]));
    }

    proptest! {
        #[test]
        fn any_numbers_survive(numbers in prop::collection::vec((any::<i64>(), 0u32..64), 0..50)) {
            let numbers: Vec<i64> = numbers.into_iter().map(|(n, shift)| n >> shift).collect();
            let written = bytes(|w| numbers.iter().for_each(|n| {
                put_int(w, *n);
                put_uint(w, n.unsigned_abs());
            }));
            let mut reader = BitReader::new(&written);
            for n in numbers {
                prop_assert_eq!(take_int(&mut reader), Ok(n));
                prop_assert_eq!(take_uint(&mut reader), Ok(n.unsigned_abs()));
            }
        }
    }
}
