//! Chunks of float samples: differences of differences of times, and values each XORed with the one before.

use model::Columns;

use super::Reason;
use super::bits::{BitReader, BitWriter};
use crate::chunk::bits::{unzigzag, zigzag};

/// Samples in a chunk that is written, as Prometheus has it.
pub(super) const SAMPLES_MAX: usize = 120;

/// Widths in which the difference of two differences of times is written, after as many ones and a zero. A larger one has four ones and 64 bits.
const WIDTHS: [u32; 3] = [14, 17, 20];

/// Appends the data of a chunk. Times ascend; there are from one to [`SAMPLES_MAX`].
pub(super) fn encode(t: &[i64], v: &[f64], out: &mut Vec<u8>) {
    debug_assert!(t.len() == v.len() && (1..=SAMPLES_MAX).contains(&t.len()));
    out.extend_from_slice(&(t.len() as u16).to_be_bytes());
    let mut writer = BitWriter::new(out);
    let mut delta = 0u64;
    let mut values = Xored::default();
    for (at, (time, value)) in t.iter().zip(v).enumerate() {
        match at {
            0 => writer.uvarint(zigzag(*time)),
            1 => {
                delta = time.wrapping_sub(t[0]) as u64;
                writer.uvarint(delta);
            }
            _ => {
                let now = time.wrapping_sub(t[at - 1]) as u64;
                put_time(&mut writer, now.wrapping_sub(delta) as i64);
                delta = now;
            }
        }
        if at == 0 {
            values.put_first(&mut writer, *value);
        } else {
            values.put(&mut writer, *value);
        }
    }
}

fn put_time(writer: &mut BitWriter<'_>, n: i64) {
    if n == 0 {
        writer.put(0, 1);
        return;
    }
    for (ones, width) in (1..).zip(WIDTHS) {
        let half = 1i64 << (width - 1);
        if (1 - half..=half).contains(&n) {
            writer.put((1 << (ones + 1)) - 2, ones + 1);
            writer.put(n as u64, width);
            return;
        }
    }
    writer.put(0b1111, 4);
    writer.put(n as u64, 64);
}

/// Values each XORed with the one before: of what differs, the bits between the zeros at both ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Xored {
    /// The last value.
    pub(super) bits: u64,
    /// Zeros before the bits that are written, and how many these are. None are yet where that is zero.
    leading: u32,
    width: u32,
}

impl Xored {
    /// Appends the first value, whole.
    pub(super) fn put_first(&mut self, writer: &mut BitWriter<'_>, value: f64) {
        self.bits = value.to_bits();
        writer.put(self.bits, 64);
    }

    /// Appends a further value.
    pub(super) fn put(&mut self, writer: &mut BitWriter<'_>, value: f64) {
        if value.to_bits() == self.bits {
            writer.put(0, 1);
        } else {
            self.put_differing(writer, value.to_bits(), [(0b10, 2), (0b11, 2)]);
        }
    }

    /// Appends a value that differs: after the first prefix, given with its width, where it does so as the one before, after the second where that is told.
    pub(super) fn put_differing(&mut self, writer: &mut BitWriter<'_>, bits: u64, prefixes: [(u64, u32); 2]) {
        let [within, elsewhere] = prefixes;
        let xor = bits ^ self.bits;
        self.bits = bits;
        // Five bits have room for 31.
        let (leading, trailing) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        if self.width > 0 && leading >= self.leading && trailing >= 64 - self.leading - self.width {
            writer.put(within.0, within.1);
            writer.put(xor >> (64 - self.leading - self.width), self.width);
            return;
        }
        (self.leading, self.width) = (leading, 64 - leading - trailing);
        writer.put(elsewhere.0, elsewhere.1);
        writer.put(u64::from(leading), 5);
        // Six bits have no room for 64, which is written as 0.
        writer.put(u64::from(self.width), 6);
        writer.put(xor >> trailing, self.width);
    }

    /// What [`Xored::put_first`] appended.
    pub(super) fn take_first(&mut self, reader: &mut BitReader<'_>) -> Result<f64, Reason> {
        self.bits = reader.take(64)?;
        Ok(f64::from_bits(self.bits))
    }

    /// What [`Xored::put`] appended.
    pub(super) fn take(&mut self, reader: &mut BitReader<'_>) -> Result<f64, Reason> {
        let bits = match reader.ones(2)? {
            0 => self.bits,
            1 => self.take_within(reader)?,
            _ => self.take_elsewhere(reader)?,
        };
        Ok(f64::from_bits(bits))
    }

    /// The bits of a value of which it is told where they differ.
    pub(super) fn take_elsewhere(&mut self, reader: &mut BitReader<'_>) -> Result<u64, Reason> {
        self.leading = reader.take(5)? as u32;
        self.width = match reader.take(6)? as u32 {
            0 => 64,
            width => width,
        };
        if self.leading + self.width > 64 {
            return Err("the bits of a value do not fit");
        }
        self.take_within(reader)
    }

    /// The bits of a value that differs where the one before did.
    pub(super) fn take_within(&mut self, reader: &mut BitReader<'_>) -> Result<u64, Reason> {
        // Where nothing was told yet, all of them.
        let width = if self.width == 0 { 64 } else { self.width };
        self.bits ^= reader.take(width)? << (64 - self.leading - width);
        Ok(self.bits)
    }
}

/// Appends the samples of a chunk's data to `out`.
pub(super) fn decode(bytes: &[u8], out: &mut Columns) -> Result<(), Reason> {
    let (count, stream) = bytes.split_first_chunk::<2>().ok_or("the chunk ends too early")?;
    let mut reader = BitReader::new(stream);
    let (mut time, mut delta) = (0i64, 0u64);
    let mut values = Xored::default();
    for at in 0..u16::from_be_bytes(*count) {
        match at {
            0 => time = unzigzag(reader.uvarint()?),
            1 => delta = reader.uvarint()?,
            _ => delta = delta.wrapping_add(take_time(&mut reader)? as u64),
        }
        time = time.wrapping_add(delta as i64);
        let value = if at == 0 { values.take_first(&mut reader)? } else { values.take(&mut reader)? };
        out.push(time, value);
    }
    out.pad();
    Ok(())
}

fn take_time(reader: &mut BitReader<'_>) -> Result<i64, Reason> {
    if !reader.bit()? {
        return Ok(0);
    }
    for width in WIDTHS {
        if !reader.bit()? {
            let n = reader.take(width)? as i64;
            return Ok(if n > 1 << (width - 1) { n - (1 << width) } else { n });
        }
    }
    Ok(reader.take(64)? as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(t: &[i64], v: &[f64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(t, v, &mut bytes);
        let mut out = Columns::default();
        decode(&bytes, &mut out).expect("decodes");
        assert_eq!(out.t, t);
        let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&out.v), bits(v));
        bytes
    }

    #[test]
    fn chunk_is_golden() {
        // Two samples at 1000 and 2000: count, varint, 64 bits, uvarint, then a one and a zero bit for what changed and a new window.
        let bytes = check(&[1000, 2000, 3000], &[1.0, 1.0, 1.0]);
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        // 0003, 1000 as zigzag varint, 1.0, 1000 as varint, then the bits 0 (same value), 0 (same distance), 0 (same value).
        assert_eq!(hex, "0003d00f3ff0000000000000e80700");
    }

    #[test]
    fn times_at_the_ends_of_each_width_survive() {
        for n in [8191, 8192, 65_535, 65_536, 524_287, 524_288, 1 << 40] {
            for n in [-n - 1, -n, n, n + 1] {
                check(&[0, 1 << 41, (2 << 41) + n], &[0.0, -0.0, f64::NAN]);
            }
        }
        check(&[i64::MIN, i64::MAX], &[f64::INFINITY, model::stale_nan()]);
    }

    proptest! {
        #[test]
        fn any_samples_survive(samples in prop::collection::btree_map(any::<i64>(), any::<u64>(), 1..SAMPLES_MAX)) {
            let t: Vec<i64> = samples.keys().copied().collect();
            let v: Vec<f64> = samples.values().map(|bits| f64::from_bits(*bits)).collect();
            check(&t, &v);
        }

        #[test]
        fn arbitrary_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, &mut Columns::default());
        }
    }
}
