//! What is known of a chunk's floats without decoding it: the first and the last, the lowest and the highest, whether they ever fall, and the sum where all
//! are whole numbers.
//!
//! Each is such that whoever needs it and nothing else gets the same bits as from the samples. So there are none of a chunk that has a NaN, staleness
//! markers included: which of several NaN an extreme is depends on what comes before. There is a sum only where adding up is exact in any order.

use super::bits::{put_varint, unzigzag, varint, zigzag};
use super::{EXPONENT_MAX, POWERS, mantissa};

/// What is known of the floats of a chunk, of which none is NaN.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// The first value.
    pub(crate) first: f64,
    /// The last value.
    pub(crate) last: f64,
    /// The lowest value; of several that are equal the first.
    pub(crate) min: f64,
    /// The highest value; of several that are equal the first.
    pub(crate) max: f64,
    /// Whether a value is lower than the one before it.
    pub(crate) falls: bool,
    /// The sum, where all are whole numbers that are not on both sides of zero, and it is less than 2^53 from there.
    pub(crate) sum: Option<f64>,
}

/// Facts may take one byte for so many samples: a counter's some ten, those of floats of all digits 34.
const SAMPLES_A_BYTE: usize = 24;
/// Below this whole numbers are exact, and so are their sums; a sum that is not exact is not below it.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// In the first byte: the power of ten by which the values are scaled, or this, of values that are floats of eight bytes.
const RAW: u8 = 1 << 4;
const POWER: u8 = RAW - 1;
const FALLS: u8 = 1 << 5;
/// They are not all the same.
const VARIED: u8 = 1 << 6;
const SUM: u8 = 1 << 7;
/// In the byte of raw extremes: which other value it is, in the lower two bits the lowest, above them the highest.
const OTHER: u8 = 0;
const FIRST: u8 = 1;
const LAST: u8 = 2;

/// Two are equal if all bits are.
impl PartialEq for Facts {
    fn eq(&self, other: &Self) -> bool {
        let bits = |f: &Facts| ([f.first, f.last, f.min, f.max].map(f64::to_bits), f.falls, f.sum.map(f64::to_bits));
        bits(self) == bits(other)
    }
}

impl Facts {
    /// The facts of at least one value; `None` where one is NaN.
    pub(crate) fn of(v: &[f64]) -> Option<Facts> {
        let (first, last) = (v[0], v[v.len() - 1]);
        let (mut min, mut max, mut before, mut falls, mut nan) = (first, first, first, false, false);
        for v in v {
            nan |= v.is_nan();
            falls |= *v < before;
            before = *v;
            if *v < min {
                min = *v;
            }
            if *v > max {
                max = *v;
            }
        }
        (!nan).then(|| Facts { first, last, min, max, falls, sum: sum(v, min, max) })
    }

    /// Appends these, of a chunk of so many samples, if they are worth their bytes. Whether they are.
    pub(crate) fn encode(&self, samples: usize, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        self.encode_all(samples, out);
        if out.len() - before > samples / SAMPLES_A_BYTE && self.sum.is_some() {
            out.truncate(before);
            Facts { sum: None, ..*self }.encode_all(samples, out);
        }
        let worth = out.len() - before <= samples / SAMPLES_A_BYTE;
        if !worth {
            out.truncate(before);
        }
        worth
    }

    /// Whether these, as they are kept, are of such values; the sum may have been left out.
    pub(crate) fn is_of(&self, v: &[f64]) -> bool {
        let of = Facts::of(v).map(|of| Facts { sum: self.sum.and(of.sum), ..of });
        of == Some(*self)
    }

    fn encode_all(&self, samples: usize, out: &mut Vec<u8>) {
        let all = [self.first, self.last, self.min, self.max];
        let varied = all.iter().any(|v| v.to_bits() != self.first.to_bits());
        let form = (if self.falls { FALLS } else { 0 }) | (if varied { VARIED } else { 0 });
        let scaled = |power: u8| Some(all.map(|v| mantissa(v, power))).filter(|all| all.iter().all(Option::is_some));
        let found = (0..=EXPONENT_MAX).find_map(|power| Some((power, scaled(power)?.map(Option::unwrap_or_default))));
        let Some((power, [first, last, min, max])) = found else {
            out.push(RAW | form);
            self.encode_raw(varied, out);
            return;
        };
        out.push(power | form | if self.sum.is_some() { SUM } else { 0 });
        put_varint(out, zigzag(first));
        if varied {
            put_varint(out, zigzag(last.wrapping_sub(first)));
            put_varint(out, first.min(last).wrapping_sub(min) as u64);
            put_varint(out, max.wrapping_sub(first.max(last)) as u64);
        }
        if let Some(sum) = self.sum.filter(|_| varied) {
            put_varint(out, zigzag((sum as i64).wrapping_sub(min.wrapping_mul(samples as i64))));
        }
    }

    fn encode_raw(&self, varied: bool, out: &mut Vec<u8>) {
        let mut put = |v: f64| out.extend_from_slice(&v.to_bits().to_le_bytes());
        put(self.first);
        if !varied {
            return;
        }
        put(self.last);
        let which = |v: f64| match v.to_bits() {
            bits if bits == self.first.to_bits() => FIRST,
            bits if bits == self.last.to_bits() => LAST,
            _ => OTHER,
        };
        let (min, max) = (which(self.min), which(self.max));
        out.push(min | max << 2);
        for (which, v) in [(min, self.min), (max, self.max)] {
            if which == OTHER {
                out.extend_from_slice(&v.to_bits().to_le_bytes());
            }
        }
    }

    /// Reads the facts of a chunk of so many samples.
    pub(crate) fn decode(samples: usize, bytes: &[u8], at: &mut usize) -> Result<Facts, &'static str> {
        let form = *bytes.get(*at).ok_or("ends too early")?;
        *at += 1;
        let (falls, varied) = (form & FALLS != 0, form & VARIED != 0);
        if form & RAW != 0 {
            return Facts::decode_raw(falls, varied, bytes, at);
        }
        let power = POWERS[usize::from(form & POWER)];
        let value = |whole: i64| whole as f64 / power;
        let first = unzigzag(varint(bytes, at)?);
        let (mut last, mut min, mut max) = (first, first, first);
        if varied {
            last = first.wrapping_add(unzigzag(varint(bytes, at)?));
            min = first.min(last).wrapping_sub(varint(bytes, at)? as i64);
            max = first.max(last).wrapping_add(varint(bytes, at)? as i64);
        }
        let all = min.wrapping_mul(samples as i64);
        let sum = match form & SUM != 0 {
            true if varied => Some(all.wrapping_add(unzigzag(varint(bytes, at)?)) as f64),
            true => Some(all as f64),
            false => None,
        };
        let [first, last, min, max] = [first, last, min, max].map(value);
        Ok(Facts { first, last, min, max, falls, sum })
    }

    fn decode_raw(falls: bool, varied: bool, bytes: &[u8], at: &mut usize) -> Result<Facts, &'static str> {
        let value = |at: &mut usize| {
            let bits = bytes.get(*at..*at + 8).ok_or("ends too early")?;
            *at += 8;
            Ok::<f64, &'static str>(f64::from_bits(u64::from_le_bytes(bits.try_into().expect("eight bytes"))))
        };
        let first = value(at)?;
        if !varied {
            return Ok(Facts { first, last: first, min: first, max: first, falls, sum: None });
        }
        let last = value(at)?;
        let which = *bytes.get(*at).ok_or("ends too early")?;
        *at += 1;
        let mut extreme = |which: u8| match which {
            OTHER => value(at),
            FIRST => Ok(first),
            LAST => Ok(last),
            _ => Err("an extreme that is not known"),
        };
        let (min, max) = (extreme(which & 3)?, extreme(which >> 2)?);
        Ok(Facts { first, last, min, max, falls, sum: None })
    }
}

/// The sum of values whose extremes are known, where it is exact in any order.
fn sum(v: &[f64], min: f64, max: f64) -> Option<f64> {
    let is_one_sided = min >= 0.0 || max <= 0.0;
    if !is_one_sided || v.iter().any(|v| mantissa(*v, 0).is_none()) {
        return None;
    }
    let mut sum = 0.0;
    for v in v {
        sum += v;
        if sum.abs() >= EXACT_MAX {
            return None;
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(v: &[f64]) -> Option<Facts> {
        let facts = Facts::of(v);
        assert_eq!(facts.is_none(), v.iter().any(|v| v.is_nan()));
        let facts = facts?;
        let best = |better: fn(f64, f64) -> bool| v.iter().copied().reduce(|a, b| if better(b, a) { b } else { a });
        let expect =
            [Some(v[0]), v.last().copied(), best(|a, b| a < b), best(|a, b| a > b)].map(Option::unwrap_or_default);
        assert_eq!([facts.first, facts.last, facts.min, facts.max].map(f64::to_bits), expect.map(f64::to_bits));
        assert_eq!(facts.falls, v.windows(2).any(|pair| pair[1] < pair[0]));
        if let Some(sum) = facts.sum {
            assert!(v.iter().all(|v| v.trunc() == *v));
            assert_eq!(v.iter().map(|v| *v as i128).sum::<i128>(), sum as i128);
            assert_eq!(v.iter().map(|v| v.abs() as i128).sum::<i128>(), sum.abs() as i128);
        }
        let mut bytes = Vec::new();
        facts.encode_all(v.len(), &mut bytes);
        let mut at = 0;
        assert_eq!(Facts::decode(v.len(), &bytes, &mut at), Ok(facts));
        assert_eq!(at, bytes.len());
        assert!(facts.is_of(v) && Facts { sum: None, ..facts }.is_of(v));
        Some(facts)
    }

    fn size(v: &[f64]) -> usize {
        let mut bytes = Vec::new();
        let worth = check(v).is_some_and(|facts| facts.encode(v.len(), &mut bytes));
        assert_eq!(worth, !bytes.is_empty());
        bytes.len()
    }

    #[test]
    fn facts_take_little_and_less_than_their_bound() {
        let column = |n: usize, of: fn(usize) -> f64| (0..n).map(of).collect::<Vec<f64>>();
        assert_eq!(size(&column(960, |_| 1.0)), 2);
        assert_eq!(size(&column(20, |_| 1.0)), 0);
        assert_eq!(size(&column(960, |i| (i * i) as f64)), 12);
        assert_eq!(size(&column(960, |i| (1_000_000 + i * 25) as f64 / 100.0)), 9);
        // Without the sum, for which there is no room.
        assert_eq!(size(&column(200, |i| (i * i) as f64)), 7);
        assert_eq!(size(&column(100, |i| (i * i) as f64)), 0);
        assert_eq!(size(&column(960, |i| (i as f64).sin())), 34);
        assert_eq!(size(&column(800, |i| (i as f64).sin())), 0);
    }

    #[test]
    fn facts_are_golden() {
        let hex = |v: &[f64]| {
            let mut bytes = Vec::new();
            Facts::of(v).expect("no NaN").encode_all(v.len(), &mut bytes);
            bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()
        };
        // Whole, all the same, the sum known: 3.
        assert_eq!(hex(&[3.0; 4]), "8006");
        // Hundredths that fall and vary: 1.5, then 0.25 more; 0.5 below the first, 1 above the last.
        assert_eq!(hex(&[1.5, 1.0, 2.75, 1.75]), "62ac02323264");
        // Floats as they are; both extremes are the first of two that are equal.
        assert_eq!(hex(&[0.0, -0.0]), "500000000000000000000000000000008005");
    }

    #[test]
    fn odd_values_are_told_bit_for_bit() {
        check(&[0.0, -0.0]);
        check(&[-0.0, 0.0, -0.0]);
        check(&[-0.0; 3]);
        check(&[f64::INFINITY, f64::NEG_INFINITY, 1.5]);
        check(&[1e300, 5e-324, f64::MAX, f64::MIN]);
        check(&[i64::MAX as f64, i64::MIN as f64, 3.0]);
        check(&[f64::NAN, 1.0]);
        assert_eq!(check(&[EXACT_MAX - 3.0, 2.0]).and_then(|facts| facts.sum), Some(EXACT_MAX - 1.0));
        assert_eq!(check(&[EXACT_MAX, 1.0]).and_then(|facts| facts.sum), None);
        assert_eq!(check(&[-3.0, -4.0]).and_then(|facts| facts.sum), Some(-7.0));
        assert_eq!(check(&[-3.0, 4.0]).and_then(|facts| facts.sum), None);
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (-50i32..50).prop_map(f64::from),
            2 => (-5000i32..5000).prop_map(|n| f64::from(n) / 100.0),
            1 => any::<f64>(),
            1 => prop::sample::select(vec![0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY]),
        ]
    }

    proptest! {
        #[test]
        fn facts_are_those_of_the_values(v in prop::collection::vec(value(), 1..40)) {
            check(&v);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), samples in any::<usize>()) {
            let _ = Facts::decode(samples, &bytes, &mut 0);
        }
    }
}
