//! Sums and means of groups: all steps of one series after the other, many at once.
//!
//! Each step does what [`crate::eval::kahan::Sum`] does, with choices in the place of branches.

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, f64x4, mask64x4, u64x4};
use model::STALE_NAN_BITS;

use crate::eval::matrix::{ABSENT, is_present};

/// Steps below which this is slower than one after the other.
pub(super) const STEPS_MIN: usize = 4;

/// What was added up at each step.
struct Sums {
    /// The rounded sum, [`ABSENT`] where there was no value.
    sum: Vec<f64>,
    /// What rounding lost.
    lost: Vec<f64>,
    /// How many values.
    count: Vec<f64>,
    /// A sum became infinite.
    overflows: bool,
}

impl Sums {
    fn of<'a>(rows: impl Iterator<Item = &'a [f64]>, steps: usize) -> Self {
        let none = || vec![0.0; steps];
        let mut sums = Sums { sum: vec![ABSENT; steps], lost: none(), count: none(), overflows: false };
        dispatch!(Level::new(), simd => sums.add_all(simd, rows));
        sums
    }

    #[inline(always)]
    fn add_all<'a, S: Simd>(&mut self, simd: S, rows: impl Iterator<Item = &'a [f64]>) {
        rows.for_each(|row| self.add(simd, row));
    }

    /// Adds the values of a series.
    #[inline(always)]
    fn add<S: Simd>(&mut self, simd: S, row: &[f64]) {
        let (sums, sum_rest) = self.sum.as_chunks_mut::<4>();
        let (losts, lost_rest) = self.lost.as_chunks_mut::<4>();
        let (counts, count_rest) = self.count.as_chunks_mut::<4>();
        let (values, rest) = row.as_chunks::<4>();
        let mut overflows = mask64x4::splat(simd, false);
        for (((sum, lost), count), v) in sums.iter_mut().zip(losts).zip(counts).zip(values) {
            overflows |= add(simd, (sum, lost, count), v);
        }
        if !rest.is_empty() {
            // The last steps, with others that have no value.
            let (mut sum, mut lost, mut count) = (whole(sum_rest), whole(lost_rest), whole(count_rest));
            overflows |= add(simd, (&mut sum, &mut lost, &mut count), &whole(rest));
            for (to, from) in [(sum_rest, sum), (lost_rest, lost), (count_rest, count)] {
                let own = to.len();
                to.copy_from_slice(&from[..own]);
            }
        }
        self.overflows |= overflows.any_true();
    }
}

/// Less than four values, and none in the other places.
#[inline(always)]
fn whole(column: &[f64]) -> [f64; 4] {
    let mut whole = [ABSENT; 4];
    whole[..column.len()].copy_from_slice(column);
    whole
}

/// Adds the values at four steps; says which sums became infinite.
#[inline(always)]
fn add<S: Simd>(
    simd: S,
    (sum, lost, count): (&mut [f64; 4], &mut [f64; 4], &mut [f64; 4]),
    v: &[f64; 4],
) -> mask64x4<S> {
    let absent = u64x4::splat(simd, STALE_NAN_BITS);
    let (zero, one) = (f64x4::splat(simd, 0.0), f64x4::splat(simd, 1.0));
    let (before, v) = (f64x4::load_array_ref(simd, sum), f64x4::load_array_ref(simd, v));
    let lost_before = f64x4::load_array_ref(simd, lost);
    let is_value = v.to_bits().simd_ne(absent);
    let is_next = is_value & before.to_bits().simd_ne(absent);
    let next = before + v;
    let sum_is_larger = before.abs().simd_ge(v.abs());
    let (large, small) = (sum_is_larger.select(before, v), sum_is_larger.select(v, before));
    let is_infinite = next.is_infinite();
    let now = is_infinite.select(zero, lost_before + ((large - next) + small));
    // The first value is the sum, and nothing is lost.
    is_value.select(is_next.select(next, v), before).store_array(sum);
    is_next.select(now, lost_before).store_array(lost);
    (f64x4::load_array_ref(simd, count) + is_value.select(one, zero)).store_array(count);
    is_infinite & is_next
}

/// Writes the sum of the rows at each step.
pub(super) fn sum<'a>(rows: impl Iterator<Item = &'a [f64]>, cells: &mut [f64]) {
    let sums = Sums::of(rows, cells.len());
    for ((cell, sum), lost) in cells.iter_mut().zip(&sums.sum).zip(&sums.lost) {
        *cell = if is_present(*sum) { sum + lost } else { ABSENT };
    }
}

/// Writes the mean of the rows at each step; `false` if that of some step is none of a sum, which overflows, and nothing is written.
pub(super) fn mean<'a>(rows: impl Iterator<Item = &'a [f64]>, cells: &mut [f64]) -> bool {
    let sums = Sums::of(rows, cells.len());
    if sums.overflows {
        return false;
    }
    for (((cell, sum), lost), count) in cells.iter_mut().zip(&sums.sum).zip(&sums.lost).zip(&sums.count) {
        *cell = if is_present(*sum) { sum / count + lost / count } else { ABSENT };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::kahan::{Mean, Sum};
    use crate::eval::testing::draws;

    #[test]
    fn sums_and_means_are_to_the_last_bit_those_of_one_value_after_the_other() {
        let mut draw = draws();
        let (mut absent, mut overflown, mut lost) = (0, 0, 0);
        for turn in 0..4000 {
            let (steps, series) = (1 + draw(11) as usize, draw(9));
            let mut value = || match draw(40 + turn % 40) {
                0 => f64::INFINITY,
                1 => f64::NAN,
                2 => f64::MAX,
                3 => -0.0,
                4 => 1e100,
                5 => -1e100,
                6..20 => ABSENT,
                n => n as f64 / 10.0 - 3.0,
            };
            let rows: Vec<Vec<f64>> = (0..series).map(|_| (0..steps).map(|_| value()).collect()).collect();
            let rows = || rows.iter().map(Vec::as_slice);
            let of_step = |k: usize| rows().map(move |row| row[k]).filter(|v| is_present(*v));
            let same = |a: f64, b: f64| {
                a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() && is_present(a) == is_present(b)
            };
            let (mut sums, mut means) = (vec![0.5; steps], vec![0.5; steps]);
            sum(rows(), &mut sums);
            let is_mean = mean(rows(), &mut means);
            let mut overflows = false;
            for k in 0..steps {
                let added = of_step(k).map(Sum::at).reduce(|sum, one| sum.add(one.sum));
                let expect = added.map_or(ABSENT, Sum::total);
                assert!(same(sums[k], expect), "{turn}: {} instead of {expect} at {k}", sums[k]);
                absent += usize::from(added.is_none());
                lost += usize::from(added.is_some_and(|sum| sum.c != 0.0 && sum.c.is_finite()));
                let mut partial: Option<Sum> = None;
                for v in of_step(k) {
                    let next = partial.map(|sum| sum.add(v));
                    overflows |= next.is_some_and(|sum| sum.sum.is_infinite());
                    partial = Some(next.unwrap_or(Sum::at(v)));
                }
                let averaged = of_step(k).fold(None, |mean: Option<Mean>, v| match mean {
                    Some(mut mean) => {
                        mean.add(v);
                        Some(mean)
                    }
                    None => Some(Mean::at(v)),
                });
                let expect = averaged.map_or(ABSENT, Mean::value);
                assert!(!is_mean || same(means[k], expect), "{turn}: {} instead of {expect} at {k}", means[k]);
            }
            assert!(is_mean || means.iter().all(|v| *v == 0.5), "nothing is written");
            assert_eq!(!is_mean, overflows, "{turn}");
            overflown += usize::from(overflows);
        }
        assert!(absent > 100 && overflown > 100 && lost > 100, "{absent} {overflown} {lost}");
    }
}
