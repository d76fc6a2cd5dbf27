//! Columns of floats that are no decimals: each XORed with the one before, its zeros at both ends left out.

use super::bits::{BitReader, BitWriter};

pub(crate) fn encode(v: &[f64], out: &mut Vec<u8>) {
    let mut writer = BitWriter::new(out);
    let mut before = v[0].to_bits();
    writer.put(before, 64);
    // The window of bits that are written; none yet.
    let (mut leading, mut width) = (0u32, 0u32);
    for value in &v[1..] {
        let bits = value.to_bits();
        let xor = bits ^ before;
        before = bits;
        if xor == 0 {
            writer.put(0, 1);
            continue;
        }
        let (lead, trail) = (xor.leading_zeros(), xor.trailing_zeros());
        let own = 64 - lead - trail;
        if width > 0 && lead >= leading && 64 - leading - width <= trail && width < own + 12 {
            writer.put(0b01, 2);
        } else {
            (leading, width) = (lead, own);
            writer.put(0b11, 2);
            writer.put(u64::from(leading), 6);
            writer.put(u64::from(width - 1), 6);
        }
        writer.put(xor >> (64 - leading - width), width);
    }
    writer.finish();
}

pub(crate) fn decode(bytes: &[u8], at: &mut usize, count: usize, out: &mut Vec<f64>) -> Result<(), &'static str> {
    let mut reader = BitReader::new(bytes.get(*at..).ok_or("ends too early")?);
    let mut bits = reader.take(64);
    out.reserve(count);
    out.push(f64::from_bits(bits));
    let (mut leading, mut width) = (0u32, 0u32);
    for _ in 1..count {
        if reader.take(1) == 1 {
            if reader.take(1) == 1 {
                leading = reader.take(6) as u32;
                width = reader.take(6) as u32 + 1;
            }
            if width == 0 || leading + width > 64 {
                return Err("window of bits");
            }
            bits ^= reader.take(width) << (64 - leading - width);
        }
        if reader.is_beyond_end() {
            return Err("ends too early");
        }
        out.push(f64::from_bits(bits));
    }
    *at += reader.bytes_read();
    if *at > bytes.len() { Err("ends too early") } else { Ok(()) }
}
