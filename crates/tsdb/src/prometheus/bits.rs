//! Streams of bits, the most significant bit of a byte first.

use super::Reason;

/// Reads numbers of some bits each.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    bit: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, bit: 0 }
    }

    /// The next `width` bits, at most 64.
    pub(super) fn take(&mut self, width: u32) -> Result<u64, Reason> {
        if width == 0 {
            return Ok(0);
        }
        let (byte, shift) = (self.bit / 8, (self.bit % 8) as u32);
        self.bit += width as usize;
        if self.bit > self.bytes.len() * 8 {
            return Err("the chunk ends too early");
        }
        let mut word = self.load(byte) << shift;
        if width + shift > 64 {
            word |= u64::from(self.bytes[byte + 8]) >> (8 - shift);
        }
        Ok(word >> (64 - width))
    }

    /// The next bit.
    pub(super) fn bit(&mut self) -> Result<bool, Reason> {
        Ok(self.take(1)? == 1)
    }

    /// How many ones come, with the zero after them where there are fewer than `most`.
    pub(super) fn ones(&mut self, most: u32) -> Result<u32, Reason> {
        let mut n = 0;
        while n < most && self.bit()? {
            n += 1;
        }
        Ok(n)
    }

    /// A varint, whose bytes need not begin at a byte.
    pub(super) fn uvarint(&mut self) -> Result<u64, Reason> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(8)?;
            n |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err("a number is too long")
    }

    /// Eight bytes, those beyond the end as zeros.
    fn load(&self, at: usize) -> u64 {
        if let Some(word) = self.bytes.get(at..at + 8) {
            return u64::from_be_bytes(word.try_into().expect("eight bytes"));
        }
        let rest = self.bytes.get(at..).unwrap_or(&[]);
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        u64::from_be_bytes(word)
    }
}

/// Writes what [`BitReader`] reads.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bits of the last byte that are not used.
    free: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        BitWriter { out, free: 0 }
    }

    /// Appends the low `width` bits of `n`, at most 64.
    pub(super) fn put(&mut self, n: u64, width: u32) {
        let mut left = width;
        while left > 0 {
            if self.free == 0 {
                self.out.push(0);
                self.free = 8;
            }
            let now = left.min(self.free);
            let bits = (n >> (left - now)) as u8 & (0xff >> (8 - now));
            *self.out.last_mut().expect("one was pushed") |= bits << (self.free - now);
            self.free -= now;
            left -= now;
        }
    }

    /// Appends a varint.
    pub(super) fn uvarint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.put(n & 0x7f | 0x80, 8);
            n >>= 7;
        }
        self.put(n, 8);
    }
}
