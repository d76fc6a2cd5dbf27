//! The later encoding of float samples, XOR2, which a Prometheus writes where it is told to. It is read, and not written.
//!
//! One prefix says of a sample both how its time and how its value differ. Values are XORed with the last one that was no marker of staleness; such
//! a marker has a code of its own. Start times, which samples may have there, are passed over.

use model::{Columns, STALE_NAN_BITS};

use super::Reason;
use super::bits::BitReader;
use crate::chunk::bits::unzigzag;

/// Widths of the difference of two differences of times, after two, three and four ones.
const TIME_WIDTHS: [u32; 3] = [13, 20, 64];
/// Widths of what differs between two start times, by the ones before it; after all but eight there is a zero.
const START_WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

/// Appends the samples of a chunk's data to `out`.
pub(super) fn decode(bytes: &[u8], out: &mut Columns) -> Result<(), Reason> {
    let (head, stream) = bytes.split_first_chunk::<3>().ok_or("the chunk ends too early")?;
    let [high, low, starts] = *head;
    // Whether the first sample has a start time, and from which sample on each has one that differs; never where that is 0.
    let (has_start, starts_from) = (starts & 0x80 != 0, u16::from(starts & 0x7f));
    let mut reader = BitReader::new(stream);
    let (mut time, mut delta) = (0i64, 0u64);
    let mut values = Values { before: 0, leading: 0, width: 64 };
    for at in 0..u16::from_be_bytes([high, low]) {
        let bits = match at {
            0 => {
                time = unzigzag(reader.uvarint()?);
                let bits = reader.take(64)?;
                if bits != STALE_NAN_BITS {
                    values.before = bits;
                }
                if has_start {
                    reader.uvarint()?;
                }
                bits
            }
            1 => {
                delta = reader.uvarint()?;
                values.any(&mut reader)?
            }
            _ => match ones(&mut reader, 5)? {
                0 => values.before,
                1 => values.differing(&mut reader)?,
                5 => STALE_NAN_BITS,
                n => {
                    let width = TIME_WIDTHS[n as usize - 2];
                    let unused = 64 - width;
                    delta = delta.wrapping_add(((reader.take(width)? << unused) as i64 >> unused) as u64);
                    values.any(&mut reader)?
                }
            },
        };
        time = time.wrapping_add(delta as i64);
        if starts_from > 0 && at >= starts_from {
            let width = START_WIDTHS[ones(&mut reader, 8)? as usize];
            reader.take(width)?;
        }
        out.push(time, f64::from_bits(bits));
    }
    Ok(())
}

/// How many ones come, with the zero after them where there are fewer than `most`.
fn ones(reader: &mut BitReader<'_>, most: u32) -> Result<u32, Reason> {
    let mut n = 0;
    while n < most && reader.bit()? {
        n += 1;
    }
    Ok(n)
}

/// The value before, and where the bits lie that differ from it.
struct Values {
    before: u64,
    leading: u32,
    width: u32,
}

impl Values {
    /// A value of which nothing is known yet.
    fn any(&mut self, reader: &mut BitReader<'_>) -> Result<u64, Reason> {
        match ones(reader, 3)? {
            0 => Ok(self.before),
            1 => self.within(reader),
            2 => self.elsewhere(reader),
            _ => Ok(STALE_NAN_BITS),
        }
    }

    /// A value that is known to differ, and to be no marker of staleness.
    fn differing(&mut self, reader: &mut BitReader<'_>) -> Result<u64, Reason> {
        if reader.bit()? { self.elsewhere(reader) } else { self.within(reader) }
    }

    fn elsewhere(&mut self, reader: &mut BitReader<'_>) -> Result<u64, Reason> {
        self.leading = reader.take(5)? as u32;
        self.width = match reader.take(6)? as u32 {
            0 => 64,
            width => width,
        };
        if self.leading + self.width > 64 {
            return Err("the bits of a value do not fit");
        }
        self.within(reader)
    }

    fn within(&mut self, reader: &mut BitReader<'_>) -> Result<u64, Reason> {
        self.before ^= reader.take(self.width)? << (64 - self.leading - self.width);
        Ok(self.before)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::bits::zigzag;
    use crate::prometheus::bits::BitWriter;

    /// What a chunk holds whose header says this of start times and whose stream is these numbers, each with its width.
    fn check(starts: u8, stream: &[(u64, u32)], expect: &[(i64, f64)]) {
        let mut bytes = (expect.len() as u16).to_be_bytes().to_vec();
        bytes.push(starts);
        let mut writer = BitWriter::new(&mut bytes);
        stream.iter().for_each(|(n, width)| writer.put(*n, *width));
        let mut out = Columns::default();
        decode(&bytes, &mut out).expect("decodes");
        let bits = |v: f64| v.to_bits();
        let found: Vec<(i64, u64)> = out.t.iter().zip(&out.v).map(|(t, v)| (*t, bits(*v))).collect();
        assert_eq!(found, expect.iter().map(|(t, v)| (*t, bits(*v))).collect::<Vec<_>>());
    }

    #[test]
    fn every_prefix_is_read() {
        let (one, two) = (1f64.to_bits(), 2f64.to_bits());
        let differ = one ^ two;
        let (leading, trailing) = (differ.leading_zeros(), differ.trailing_zeros());
        let width = 64 - leading - trailing;
        let window = [(u64::from(leading), 5), (u64::from(width), 6), (differ >> trailing, width)];
        let stale = model::stale_nan();
        let mut stream = vec![
            (zigzag(10), 8),
            (one, 64),
            // 10 later; the same value.
            (10, 8),
            (0, 1),
            // As far away again, the same value.
            (0, 1),
            // As far away again, a value in a new window.
            (0b101, 3),
        ];
        stream.extend(window);
        stream.extend([
            // 5 less far away, the window of before.
            (0b110, 3),
            ((1 << 13) - 5, 13),
            (0b10, 2),
            (differ >> trailing, width),
            // As far away again, stale.
            (0b11111, 5),
            // 5000 further away, the same value as before that.
            (0b1110, 4),
            (5000, 20),
            (0, 1),
            // Further away than 20 bits can tell, stale.
            (0b11110, 5),
            (1 << 40, 64),
            (0b111, 3),
        ]);
        let far = 5005 + (1 << 40);
        let expect = [
            (10, 1.0),
            (20, 1.0),
            (30, 1.0),
            (40, 2.0),
            (45, 1.0),
            (50, stale),
            (50 + 5005, 1.0),
            (50 + 5005 + far, stale),
        ];
        check(0, &stream, &expect);
    }

    #[test]
    fn start_times_are_passed_over() {
        let one = (1f64.to_bits(), 64);
        // Of the first sample, and of each from the third on, in a short and in the longest form.
        let stream =
            [(20, 8), one, (9, 8), (10, 8), (0, 1), (0, 1), (0b10101, 5), (0, 1), (0xff, 8), (7, 64), (0, 1), (0, 1)];
        check(0x80 | 2, &stream, &[(10, 1.0), (20, 1.0), (30, 1.0), (40, 1.0), (50, 1.0)]);
        check(0, &[(20, 8), one, (10, 8), (0, 1)], &[(10, 1.0), (20, 1.0)]);
        // A first value that is stale is none that others differ from.
        check(0, &[(20, 8), (STALE_NAN_BITS, 64), (10, 8), (0, 1)], &[(10, model::stale_nan()), (20, 0.0)]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, &mut Columns::default());
        }
    }
}
