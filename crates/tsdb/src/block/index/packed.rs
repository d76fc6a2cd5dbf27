//! Columns of numbers of which each is read where it lies: all in as many bits as the largest needs above the lowest.
//!
//! What is repeated in such bits, packing finds, so that they take on the disk what their differences would.

use bytes::Bytes;

use crate::chunk::bits::{BitReader, BitWriter, Cursor, put_varint};

/// Numbers between places whose sum is kept.
const ANCHOR: usize = 32;

/// A column of numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed<B> {
    low: u64,
    width: u32,
    bits: B,
}

/// A column of numbers that is asked for the sum of the first of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums<B> {
    of: Packed<B>,
    /// The sums of the first 32, 64, …; `None` where all are the same, or they are few.
    anchors: Option<Packed<B>>,
}

/// Appends a column.
pub(super) fn put(values: &[u64], out: &mut Vec<u8>) {
    let low = values.iter().copied().min().unwrap_or(0);
    let width = values.iter().map(|v| u64::BITS - (v - low).leading_zeros()).max().unwrap_or(0);
    put_varint(out, low);
    out.push(width as u8);
    let mut bits = BitWriter::new(out);
    values.iter().for_each(|v| bits.put(v - low, width));
    bits.finish();
}

/// Appends a column that is read as [`Sums`].
pub(super) fn put_sums(values: &[u64], out: &mut Vec<u8>) {
    put(values, out);
    if values.len() < ANCHOR || values.iter().all(|v| *v == values[0]) {
        return;
    }
    let mut sum = 0u64;
    let anchors = values.chunks_exact(ANCHOR).map(|some| {
        sum += some.iter().sum::<u64>();
        sum
    });
    put(&anchors.collect::<Vec<u64>>(), out);
}

impl<'a> Packed<&'a [u8]> {
    /// Reads a column of so many numbers.
    pub(super) fn read(cursor: &mut Cursor<'a>, count: usize) -> Result<Self, &'static str> {
        let low = cursor.number()?;
        let width = u32::from(cursor.take(1)?[0]);
        if width > u64::BITS {
            return Err("bits of a column");
        }
        let bits = count.checked_mul(width as usize).ok_or("numbers of a column")?;
        Ok(Packed { low, width, bits: cursor.take(bits.div_ceil(8))? })
    }

    /// The same for longer than it is lent; it is a part of `page`.
    pub(super) fn own(self, page: &Bytes) -> Packed<Bytes> {
        Packed { low: self.low, width: self.width, bits: page.slice_ref(self.bits) }
    }
}

impl<B: AsRef<[u8]>> Packed<B> {
    /// One of the numbers; of a place beyond the last it is any.
    #[inline]
    pub(super) fn get(&self, at: usize) -> u64 {
        self.low.wrapping_add(BitReader::at(self.bits.as_ref(), at * self.width as usize).take(self.width))
    }

    /// The first of the numbers, as many as there is room for; each has 32 bits at most.
    pub(super) fn unpack(&self, out: &mut [u32]) {
        let (width, mask) = (self.width as usize, (1u64 << self.width.min(32)) - 1);
        let whole = |bytes: &[u8], bit: usize| {
            let word = bytes.get(bit / 8..bit / 8 + 8)?;
            Some(u64::from_le_bytes(word.try_into().ok()?) >> (bit % 8) & mask)
        };
        for (at, slot) in out.iter_mut().enumerate() {
            *slot = match whole(self.bits.as_ref(), at * width) {
                Some(number) => self.low.wrapping_add(number) as u32,
                // What is left at the end.
                None => self.get(at) as u32,
            };
        }
    }
}

impl<'a> Sums<&'a [u8]> {
    /// Reads a column of so many numbers.
    pub(super) fn read(cursor: &mut Cursor<'a>, count: usize) -> Result<Self, &'static str> {
        let of = Packed::read(cursor, count)?;
        let has_anchors = of.width > 0 && count >= ANCHOR;
        let anchors = if has_anchors { Some(Packed::read(cursor, count / ANCHOR)?) } else { None };
        Ok(Sums { of, anchors })
    }

    /// The same for longer than it is lent; it is a part of `page`.
    pub(super) fn own(self, page: &Bytes) -> Sums<Bytes> {
        Sums { of: self.of.own(page), anchors: self.anchors.map(|anchors| anchors.own(page)) }
    }
}

impl<B: AsRef<[u8]>> Sums<B> {
    /// One of the numbers.
    pub(super) fn get(&self, at: usize) -> u64 {
        self.of.get(at)
    }

    /// The sum of so many of the first numbers.
    pub(super) fn before(&self, at: usize) -> u64 {
        if self.of.width == 0 {
            return self.of.low.wrapping_mul(at as u64);
        }
        let anchor = at / ANCHOR;
        let sum = self.anchors.as_ref().filter(|_| anchor > 0).map_or(0, |anchors| anchors.get(anchor - 1));
        (anchor * ANCHOR..at).fold(sum, |sum, at| sum.wrapping_add(self.of.get(at)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(values: &[u64]) {
        let (mut plain, mut sums) = (Vec::new(), Vec::new());
        put(values, &mut plain);
        let mut cursor = Cursor { bytes: &plain, at: 0 };
        let column = Packed::read(&mut cursor, values.len()).expect("reads");
        assert_eq!(cursor.at, plain.len());
        assert!(values.iter().enumerate().all(|(at, v)| column.get(at) == *v), "{values:?}");
        let small: Vec<u64> = values.iter().map(|v| v >> 32).collect();
        put_sums(&small, &mut sums);
        let mut cursor = Cursor { bytes: &sums, at: 0 };
        let column = Sums::read(&mut cursor, small.len()).expect("reads");
        assert_eq!(cursor.at, sums.len());
        for at in 0..=small.len() {
            assert_eq!(column.before(at), small[..at].iter().sum::<u64>(), "{at} of {small:?}");
        }
    }

    #[test]
    fn columns_of_any_length_and_width_are_read_by_place() {
        check(&[]);
        check(&[u64::MAX]);
        check(&[0, u64::MAX]);
        for n in [31, 32, 33, 64, 65] {
            check(&vec![7 << 40; n]);
            check(&(0..n as u64).map(|i| i << 33).collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn what_was_put_is_read(values in prop::collection::vec(any::<u64>(), 0..100), shift in 0u32..64) {
            check(&values.iter().map(|v| v >> shift).collect::<Vec<_>>());
        }
    }
}
