//! The later encoding of float samples, XOR2, which a Prometheus writes where it is told to, and an export where there are start times.
//!
//! One prefix says of a sample both how its time and how its value differ. Values are XORed with the last one that was no marker of staleness; such
//! a marker has a code of its own. Samples may have start times there.

use model::{Columns, STALE_NAN_BITS};

use super::Reason;
use super::bits::{BitReader, BitWriter};
use super::starts::{Starts, StartsWriter};
use super::xor::{SAMPLES_MAX, Xored};
use crate::chunk::bits::{unzigzag, zigzag};

/// Widths of the difference of two differences of times, after two, three and four ones.
const TIME_WIDTHS: [u32; 3] = [13, 20, 64];

/// Appends the data of a chunk. Times ascend; there are from one to [`SAMPLES_MAX`], and as many starts.
pub(super) fn encode(t: &[i64], v: &[f64], starts: &[i64], out: &mut Vec<u8>) {
    debug_assert!(t.len() == v.len() && t.len() == starts.len() && (1..=SAMPLES_MAX).contains(&t.len()));
    out.extend_from_slice(&(t.len() as u16).to_be_bytes());
    let (mut told, header) = StartsWriter::new(starts.iter().copied());
    out.push(header);
    let mut writer = BitWriter::new(out);
    let (mut before, mut delta) = (0i64, 0u64);
    let mut values = Xored::default();
    for (at, ((time, value), start)) in t.iter().zip(v).zip(starts).enumerate() {
        let (bits, now) = (value.to_bits(), time.wrapping_sub(before) as u64);
        match at {
            0 => {
                writer.uvarint(zigzag(*time));
                writer.put(bits, 64);
                if bits != STALE_NAN_BITS {
                    values.bits = bits;
                }
            }
            1 => {
                writer.uvarint(now);
                put_unknown(&mut values, bits, &mut writer);
            }
            _ => put_next(&mut values, bits, now.wrapping_sub(delta) as i64, &mut writer),
        }
        told.put(&mut writer, at, *start, *time, before);
        (before, delta) = (*time, if at == 0 { 0 } else { now });
    }
}

/// Appends a value, and by what the distance of its time to the one before differs from the distance before that.
fn put_next(values: &mut Xored, bits: u64, n: i64, writer: &mut BitWriter<'_>) {
    if n != 0 {
        let fits = |width: u32| width == 64 || (-(1i64 << (width - 1))..1i64 << (width - 1)).contains(&n);
        let ones = (2..).zip(TIME_WIDTHS).find(|(_, width)| fits(*width));
        let (ones, width) = ones.expect("the last one is wide enough for all");
        writer.put((1 << (ones + 1)) - 2, ones + 1);
        writer.put(n as u64, width);
        put_unknown(values, bits, writer);
    } else if bits == STALE_NAN_BITS {
        writer.put(0b11111, 5);
    } else if bits == values.bits {
        writer.put(0, 1);
    } else {
        values.put_differing(writer, bits, [(0b100, 3), (0b101, 3)]);
    }
}

/// Appends a value of which nothing is told yet.
fn put_unknown(values: &mut Xored, bits: u64, writer: &mut BitWriter<'_>) {
    if bits == STALE_NAN_BITS {
        writer.put(0b111, 3);
    } else if bits == values.bits {
        writer.put(0, 1);
    } else {
        values.put_differing(writer, bits, [(0b10, 2), (0b110, 3)]);
    }
}

/// Appends the samples of a chunk's data to `out`.
pub(super) fn decode(bytes: &[u8], out: &mut Columns) -> Result<(), Reason> {
    let (head, stream) = bytes.split_first_chunk::<3>().ok_or("the chunk ends too early")?;
    let [high, low, starts] = *head;
    let mut starts = Starts::new(starts);
    let mut reader = BitReader::new(stream);
    let (mut time, mut delta) = (0i64, 0u64);
    let mut values = Xored::default();
    for at in 0..u16::from_be_bytes([high, low]) {
        let bits = match at {
            0 => {
                time = unzigzag(reader.uvarint()?);
                let bits = reader.take(64)?;
                if bits != STALE_NAN_BITS {
                    values.bits = bits;
                }
                bits
            }
            1 => {
                delta = reader.uvarint()?;
                unknown(&mut values, &mut reader)?
            }
            _ => match reader.ones(5)? {
                0 => values.bits,
                // A value that is known to differ, and to be no marker of staleness.
                1 if reader.bit()? => values.take_elsewhere(&mut reader)?,
                1 => values.take_within(&mut reader)?,
                5 => STALE_NAN_BITS,
                n => {
                    let width = TIME_WIDTHS[n as usize - 2];
                    let unused = 64 - width;
                    delta = delta.wrapping_add(((reader.take(width)? << unused) as i64 >> unused) as u64);
                    unknown(&mut values, &mut reader)?
                }
            },
        };
        let before = time;
        time = time.wrapping_add(delta as i64);
        let start = starts.next(&mut reader, at, time, before)?;
        out.push_with_start(time, f64::from_bits(bits), start);
    }
    out.pad();
    Ok(())
}

/// A value of which nothing is known yet.
fn unknown(values: &mut Xored, reader: &mut BitReader<'_>) -> Result<u64, Reason> {
    match reader.ones(3)? {
        0 => Ok(values.bits),
        1 => values.take_within(reader),
        2 => values.take_elsewhere(reader),
        _ => Ok(STALE_NAN_BITS),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a chunk holds whose header says this of start times and whose stream is these numbers, each with its width.
    fn check(starts: u8, stream: &[(u64, u32)], expect: &[(i64, f64)]) {
        let mut bytes = (expect.len() as u16).to_be_bytes().to_vec();
        bytes.push(starts);
        let mut writer = BitWriter::new(&mut bytes);
        stream.iter().for_each(|(n, width)| writer.put(*n, *width));
        let mut out = Columns::default();
        decode(&bytes, &mut out).expect("decodes");
        out.starts.resize(out.t.len(), 0);
        let mut again = Vec::new();
        encode(&out.t, &out.v, &out.starts, &mut again);
        if starts == 0 {
            assert_eq!(again, bytes, "it is written the same");
        }
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
    fn start_times_are_those_of_their_samples() {
        let one = (1f64.to_bits(), 64);
        // Of the first sample 5 before it, and of each from the third on: 6 before the second, as much before the third (so 10 later), and far before the fourth.
        let stream = [
            (20, 8),
            one,
            (10, 8),
            (10, 8),
            (0, 1),
            (0, 1),
            (0b110_000110, 9),
            (0, 1),
            (0, 1),
            (0, 1),
            (0xff, 8),
            (1 << 40, 64),
        ];
        check(0x80 | 2, &stream, &[(10, 1.0), (20, 1.0), (30, 1.0), (40, 1.0), (50, 1.0)]);
        let mut bytes = vec![0, 5, 0x82];
        let mut writer = BitWriter::new(&mut bytes);
        stream.iter().for_each(|(n, width)| writer.put(*n, *width));
        let mut out = Columns::default();
        decode(&bytes, &mut out).expect("decodes");
        assert_eq!(out.starts, [5, 5, 14, 24, 40 - 6 - (1 << 40)]);
        check(0, &[(20, 8), one, (10, 8), (0, 1)], &[(10, 1.0), (20, 1.0)]);
        // A first value that is stale is none that others differ from.
        check(0, &[(20, 8), (STALE_NAN_BITS, 64), (10, 8), (0, 1)], &[(10, model::stale_nan()), (20, 0.0)]);
    }

    /// A value that is stale, the same again, or any.
    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![Just(STALE_NAN_BITS), Just(1f64.to_bits()), any::<u64>()]
    }

    proptest! {
        #[test]
        fn any_samples_survive(
            samples in prop::collection::btree_map(any::<i64>(), (value(), prop_oneof![Just(0i64), 5..7i64, any::<i64>()]), 1..SAMPLES_MAX),
        ) {
            let t: Vec<i64> = samples.keys().copied().collect();
            let v: Vec<f64> = samples.values().map(|(bits, _)| f64::from_bits(*bits)).collect();
            let starts: Vec<i64> = samples.values().map(|(_, start)| *start).collect();
            let (mut bytes, mut out) = (Vec::new(), Columns::default());
            encode(&t, &v, &starts, &mut bytes);
            decode(&bytes, &mut out).expect("decodes");
            out.starts.resize(t.len(), 0);
            let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!((out.t, bits(&out.v), out.starts), (t, bits(&v), starts));
        }

        #[test]
        fn times_at_the_ends_of_each_width_survive(n in prop::sample::select(vec![-4097i64, -4096, 4095, 4096, -524_289, -524_288, 524_287, 524_288]), v in value()) {
            let (t, v) = ([0, 1 << 41, (2 << 41) + n, (3 << 41) + 2 * n], [1.0, f64::from_bits(v), 2.0, f64::from_bits(v)]);
            let (mut bytes, mut out) = (Vec::new(), Columns::default());
            encode(&t, &v, &[0; 4], &mut bytes);
            decode(&bytes, &mut out).expect("decodes");
            prop_assert_eq!(&out.t, &t);
            prop_assert!(out.v.iter().zip(&v).all(|(a, b)| a.to_bits() == b.to_bits()));
        }

        #[test]
        fn arbitrary_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, &mut Columns::default());
        }
    }
}
