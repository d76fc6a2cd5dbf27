//! Summation that carries what rounding loses, as Neumaier improved it on Kahan. Where Prometheus sums this way its
//! results depend on it to the last bit, so the order of operations is part of the contract.

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, f64x4};

/// Values that are added up side by side: enough that an addition need not wait for the one before.
const LANES: usize = 8;
/// Values that one instruction takes.
const TOGETHER: usize = 4;
const PARTS: usize = LANES / TOGETHER;
/// Fewer are added one after the other, which is as fast.
const MANY: usize = 32;

/// Below this whole numbers are floats.
const TWO_TO_53: f64 = 9_007_199_254_740_992.0;

/// A sum and what it lost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    /// The rounded sum.
    pub(crate) sum: f64,
    /// The compensation.
    pub(crate) c: f64,
}

impl Sum {
    /// Starts at a value.
    pub(crate) fn at(value: f64) -> Self {
        Sum { sum: value, c: 0.0 }
    }

    /// Adds a value.
    #[inline]
    pub(crate) fn add(self, value: f64) -> Self {
        let sum = self.sum + value;
        let c = if sum.is_infinite() {
            0.0
        } else if self.sum.abs() >= value.abs() {
            self.c + ((self.sum - sum) + value)
        } else {
            self.c + ((value - sum) + self.sum)
        };
        Sum { sum, c }
    }

    /// The sum with the compensation.
    #[inline]
    pub(crate) fn total(self) -> f64 {
        self.sum + self.c
    }
}

/// What [`Sum`] yields of values that are added one after the other, to the last bit. An infinite sum has no compensation.
pub(crate) fn total(values: &[f64]) -> f64 {
    if values.len() >= MANY
        && let Some(total) = dispatch!(Level::new(), simd => side_by_side(simd, values))
    {
        return total;
    }
    let sum = values.iter().fold(Sum::default(), |sum, v| sum.add(*v));
    if sum.sum.is_infinite() { sum.sum } else { sum.total() }
}

/// As [`total`], in an order that suits the processor; `None` where the order may matter.
#[inline(always)]
fn side_by_side<S: Simd>(simd: S, values: &[f64]) -> Option<f64> {
    let (zero, infinity) = (f64x4::splat(simd, 0.0), f64x4::splat(simd, f64::INFINITY));
    let (mut sums, mut lost) = ([zero; PARTS], [zero; PARTS]);
    let (mut low, mut high) = ([infinity; PARTS], [zero; PARTS]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (n, part) in chunk.as_chunks::<TOGETHER>().0.iter().enumerate() {
            let v = f64x4::load_array_ref(simd, part);
            let sum = sums[n] + v;
            // As in `rounding`.
            let v_seen = sum - sums[n];
            lost[n] += (sums[n] - (sum - v_seen)) + (v - v_seen);
            sums[n] = sum;
            let size = v.abs();
            low[n] = size.min(low[n]);
            high[n] = size.max(high[n]);
        }
    }
    let mut spread = rest.iter().fold(Spread::default(), |spread, v| spread.with(*v));
    if low.iter().any(|low| low.to_array().contains(&0.0)) {
        low = apart(simd, chunks);
    }
    spread.low = low.iter().flat_map(|low| low.to_array()).fold(spread.low, f64::min);
    spread.high = high.iter().flat_map(|high| high.to_array()).fold(spread.high, f64::max);
    if !spread.is_exact(values.len() + LANES) {
        return None;
    }
    let sums = sums.iter().flat_map(|sums| sums.to_array());
    let sum = sums.chain(rest.iter().copied()).fold(Sum::default(), Sum::add);
    let lost = lost.iter().flat_map(|lost| lost.to_array());
    let total = lost.fold(sum, |sum, lost| Sum { c: sum.c + lost, ..sum }).total();
    (!total.is_nan()).then_some(total)
}

/// The least distances from zero that are not zero: looked for where there are zeros only, since most columns have none.
#[inline(always)]
fn apart<S: Simd>(simd: S, chunks: &[[f64; LANES]]) -> [f64x4<S>; PARTS] {
    let (zero, infinity) = (f64x4::splat(simd, 0.0), f64x4::splat(simd, f64::INFINITY));
    let mut low = [infinity; PARTS];
    for chunk in chunks {
        for (low, part) in low.iter_mut().zip(chunk.as_chunks::<TOGETHER>().0) {
            let size = f64x4::load_array_ref(simd, part).abs();
            *low = size.simd_eq(zero).select(infinity, size).min(*low);
        }
    }
    low
}

/// The exact sums of the first values of a column, as a float and what it lacks, in memory that is used again.
#[derive(Debug, Default)]
pub(crate) struct Prefixes(Vec<Sum>);

impl Prefixes {
    /// Takes the values of another column; `false` where their sums are not known to be exact.
    pub(crate) fn take(&mut self, values: &[f64]) -> bool {
        self.0.clear();
        let spread = values.iter().fold(Spread::default(), |spread, v| spread.with(*v));
        // Twice as many, since the difference of two is looked at.
        if !spread.is_exact(2 * values.len() + LANES) {
            return false;
        }
        let mut sum = Sum::default();
        self.0.push(sum);
        self.0.extend(values.iter().map(|v| {
            sum = sum.add(*v);
            sum
        }));
        !sum.total().is_nan()
    }

    /// As [`Prefixes::take`], of whole numbers whose sums lose nothing, in any order; `false` for others.
    pub(crate) fn take_whole(&mut self, values: &[f64]) -> bool {
        self.0.clear();
        let (mut sum, mut size) = (0.0, 0.0);
        self.0.push(Sum::at(sum));
        for v in values {
            (sum, size) = (sum + v, size + v.abs());
            // Nor is it below where the value is no number.
            let is_below = size < TWO_TO_53;
            if v.trunc() != *v || !is_below {
                return false;
            }
            self.0.push(Sum::at(sum));
        }
        true
    }

    /// Memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Sum>()
    }

    /// What [`total`] is of the values in a range.
    pub(crate) fn total(&self, from: usize, to: usize) -> f64 {
        let (before, all) = (self.0[from], self.0[to]);
        let sum = all.sum - before.sum;
        let lost = rounding(all.sum, -before.sum, sum);
        sum + (lost + (all.c - before.c))
    }
}

/// What is lost when `a + b` is rounded to `sum`; exact (Knuth, The Art of Computer Programming, volume 2, 4.2.2, theorem B).
fn rounding(a: f64, b: f64, sum: f64) -> f64 {
    let b_seen = sum - a;
    (a - (sum - b_seen)) + (b - b_seen)
}

/// How far values that are numbers are from zero.
#[derive(Debug, Clone, Copy)]
struct Spread {
    /// The least distance that is not zero, and the largest.
    low: f64,
    high: f64,
}

impl Default for Spread {
    fn default() -> Self {
        Spread { low: f64::INFINITY, high: 0.0 }
    }
}

impl Spread {
    /// With one more value.
    fn with(self, value: f64) -> Self {
        let size = value.abs();
        let apart = if size == 0.0 { f64::INFINITY } else { size };
        Spread { low: self.low.min(apart), high: self.high.max(size) }
    }

    /// Whether what so many additions of such values lose is added up without loss, in any order: then sum and compensation are the exact sum, of which the
    /// total is the nearest float, and the order does not matter.
    ///
    /// All sums are multiples of the last place of the least value, `u`. An addition loses at most 2^-53 of a sum, so all of them lose at most
    /// `number² * high * 2^-53`, and a multiple of `u` is a float if it is below `2^53 * u`, which is above `low`.
    fn is_exact(self, number: usize) -> bool {
        let number = number as f64;
        self.high < 1e290 && number * number * self.high <= TWO_TO_53 * self.low
    }
}

/// A mean that is a sum over a count until the sum overflows, and a running mean from there on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    sum: Sum,
    count: f64,
    running: bool,
}

impl Mean {
    /// Starts with the first value.
    pub(crate) fn at(value: f64) -> Self {
        Mean { sum: Sum::at(value), count: 1.0, running: false }
    }

    /// Takes one more value in.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.running {
            let next = self.sum.add(value);
            if !next.sum.is_infinite() {
                self.sum = next;
                return;
            }
            self.running = true;
            let before = self.count - 1.0;
            self.sum = Sum { sum: self.sum.sum / before, c: self.sum.c / before };
        }
        let q = (self.count - 1.0) / self.count;
        self.sum = Sum { sum: q * self.sum.sum, c: q * self.sum.c }.add(value / self.count);
    }

    /// The mean.
    pub(crate) fn value(self) -> f64 {
        self.value_of(self.count)
    }

    /// The mean of so many values, of which some were added as their sum. There are more than were added only where no sum overflows.
    pub(crate) fn value_of(self, count: f64) -> f64 {
        if self.running { self.sum.total() } else { self.sum.sum / count + self.sum.c / count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_keeps_what_rounding_loses() {
        let sum = [1.0, 1e100, 1.0, -1e100].into_iter().fold(Sum::default(), Sum::add);
        assert_eq!(sum.total(), 2.0);
        let overflow = [f64::MAX, f64::MAX].into_iter().fold(Sum::default(), Sum::add);
        assert_eq!(overflow.total(), f64::INFINITY);
    }

    /// One after the other.
    fn in_order(values: &[f64]) -> f64 {
        let sum = values.iter().fold(Sum::default(), |sum, v| sum.add(*v));
        if sum.sum.is_infinite() { sum.sum } else { sum.total() }
    }

    fn is_beside(values: &[f64]) -> bool {
        dispatch!(Level::new(), simd => side_by_side(simd, values)).is_some()
    }

    /// Drawn values: so many, of a size, of a kind.
    fn drawn(seed: u64, number: usize, kind: u64) -> Vec<f64> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut walk = 0.0;
        let value = |_| {
            let (a, b) = (next(), next());
            match kind {
                0 => (a % 1_000_000) as f64 / 100.0,
                1 => (a >> 11) as f64 / (b % 1000 + 1) as f64,
                2 => f64::from_bits(0x3ff0_0000_0000_0000 | a >> 12) - 1.5,
                3 => ((a % 2000) as f64 - 1000.0) * 10f64.powi((b % 40) as i32 - 20),
                4 => f64::from_bits(a),
                5 => [0.0, -0.0, 0.1, -0.1][(a % 4) as usize],
                _ => {
                    walk += (a % 1000) as f64 / 1000.0;
                    walk
                }
            }
        };
        (0..number).map(value).collect()
    }

    #[test]
    fn a_total_is_that_of_adding_one_after_the_other() {
        let mut beside = [0; 7];
        for seed in 0..400 {
            for kind in 0..7 {
                for number in [1, 31, 32, 33, 100, 2880] {
                    let values = drawn(seed * 7 + kind, number, kind);
                    let expected = in_order(&values);
                    let total = total(&values);
                    let same = total.to_bits() == expected.to_bits() || total.is_nan() && expected.is_nan();
                    assert!(same, "{seed} {kind} {number}: {total:e} {expected:e}");
                    beside[kind as usize] += usize::from(number == 2880 && is_beside(&values));
                }
            }
        }
        // What metrics look like is added side by side, what cannot be is not.
        assert_eq!((beside[0] > 300, beside[6] > 300, beside[3], beside[4]), (true, true, 0, 0), "{beside:?}");
    }

    #[test]
    fn a_difference_of_prefixes_is_the_total_of_what_is_between() {
        let (mut known, mut prefixes) = (0, Prefixes::default());
        for seed in 0..60 {
            for kind in 0..7 {
                let values = drawn(seed * 7 + kind, 300, kind);
                if !prefixes.take(&values) {
                    continue;
                }
                known += 1;
                for from in (0..300).step_by(7) {
                    for to in (from..=300).step_by(11) {
                        let (expected, total) = (in_order(&values[from..to]), prefixes.total(from, to));
                        assert_eq!(total.to_bits(), expected.to_bits(), "{seed} {kind} {from}..{to}");
                    }
                }
            }
        }
        assert!(known > 200, "{known}");
    }

    #[test]
    fn a_total_of_what_is_no_number_is_that_of_adding() {
        let mut values = drawn(1, 100, 0);
        values[50] = f64::INFINITY;
        assert_eq!(total(&values), f64::INFINITY);
        values[70] = f64::NEG_INFINITY;
        assert!(total(&values).is_nan());
        values[70] = f64::NAN;
        assert!(total(&values).is_nan());
        assert_eq!(total(&[f64::MAX; 64]), f64::INFINITY);
        assert_eq!(total(&[-0.0; 64]).to_bits(), 0);
        assert_eq!(total(&[5e-324; 64]), 64.0 * 5e-324);
    }

    #[test]
    fn a_mean_survives_the_overflow_of_its_sum() {
        let mut mean = Mean::at(f64::MAX);
        mean.add(f64::MAX);
        mean.add(f64::MAX);
        // To the bit what Prometheus 3.16 answers to avg() of these three: a third of each is rounded before it is added.
        assert_eq!(mean.value(), 1.797_693_134_862_315_5e308);
    }
}
