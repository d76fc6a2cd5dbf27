//! Varints and packed bits.

pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

pub(crate) fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, &'static str> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or("ends too early")?;
        *at += 1;
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(n);
        }
    }
    Err("number is too long")
}

/// Reads bytes one after the other.
pub(crate) struct Cursor<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn number(&mut self) -> Result<u64, &'static str> {
        varint(self.bytes, &mut self.at)
    }

    /// A number of things of which each takes at least a byte.
    pub(crate) fn length(&mut self) -> Result<usize, &'static str> {
        let n = self.number()?;
        let left = self.bytes.len() - self.at;
        usize::try_from(n).ok().filter(|n| *n <= left).ok_or("length is beyond the end")
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], &'static str> {
        let end = self.at.checked_add(n).ok_or("ends too early")?;
        let taken = self.bytes.get(self.at..end).ok_or("ends too early")?;
        self.at = end;
        Ok(taken)
    }
}

pub(crate) fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

pub(crate) fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

/// Writes numbers of some bits each, least significant bit first.
#[derive(Debug)]
pub(crate) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    held: u64,
    /// Fewer than 64.
    bits: u32,
}

impl<'a> BitWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        BitWriter { out, held: 0, bits: 0 }
    }

    /// Appends the low `width` bits of `n`, at most 64.
    pub(crate) fn put(&mut self, n: u64, width: u32) {
        self.held |= n << self.bits;
        self.bits += width;
        if self.bits >= 64 {
            self.out.extend_from_slice(&self.held.to_le_bytes());
            self.bits -= 64;
            // What was not among the 64; nothing where it just fitted.
            self.held = n.checked_shr(width - self.bits).unwrap_or(0);
        }
    }

    /// Fills the last byte with zeros.
    pub(crate) fn finish(self) {
        let bytes = self.bits.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.held.to_le_bytes()[..bytes]);
    }
}

/// Reads what [`BitWriter`] wrote. Beyond the end there are zeros; the caller checks the length.
#[derive(Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    bit: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, bit: 0 }
    }

    /// From a bit on.
    #[inline]
    pub(crate) fn at(bytes: &'a [u8], bit: usize) -> Self {
        BitReader { bytes, bit }
    }

    /// The next `width` bits, at most 64.
    #[inline]
    pub(crate) fn take(&mut self, width: u32) -> u64 {
        let (byte, shift) = (self.bit / 8, (self.bit % 8) as u32);
        self.bit += width as usize;
        let low = self.load(byte) >> shift;
        let word = if shift + width > 64 { low | self.load(byte + 8) << (64 - shift) } else { low };
        if width == 64 { word } else { word & ((1 << width) - 1) }
    }

    /// Number of bytes that were begun.
    pub(crate) fn bytes_read(&self) -> usize {
        self.bit.div_ceil(8)
    }

    pub(crate) fn is_beyond_end(&self) -> bool {
        self.bytes_read() > self.bytes.len()
    }

    #[inline]
    fn load(&self, at: usize) -> u64 {
        if let Some(word) = self.bytes.get(at..at + 8) {
            return u64::from_le_bytes(word.try_into().expect("eight bytes"));
        }
        let rest = self.bytes.get(at..).unwrap_or(&[]);
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        u64::from_le_bytes(word)
    }
}
