//! Sums and means of groups: all steps of one series after the other, many at once.
//!
//! Each step does what [`crate::eval::kahan::Sum`] does, with choices in the place of branches.

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, f64x4, mask64x4, u64x4};
use model::STALE_NAN_BITS;

use crate::eval::matrix::{ABSENT, Matrix, is_present};

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
    fn of(matrix: &Matrix, rows: &[usize], steps: usize) -> Self {
        let none = || vec![0.0; steps];
        let mut sums = Sums { sum: vec![ABSENT; steps], lost: none(), count: none(), overflows: false };
        let level = Level::new();
        for row in rows {
            dispatch!(level, simd => sums.add(simd, matrix.row(*row)));
        }
        sums
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
pub(super) fn sum(matrix: &Matrix, rows: &[usize], cells: &mut [f64]) {
    let sums = Sums::of(matrix, rows, cells.len());
    for ((cell, sum), lost) in cells.iter_mut().zip(&sums.sum).zip(&sums.lost) {
        *cell = if is_present(*sum) { sum + lost } else { ABSENT };
    }
}

/// Writes the mean of the rows at each step; `false` if that of some step is none of a sum, which overflows, and nothing is written.
pub(super) fn mean(matrix: &Matrix, rows: &[usize], cells: &mut [f64]) -> bool {
    let sums = Sums::of(matrix, rows, cells.len());
    if sums.overflows {
        return false;
    }
    for (((cell, sum), lost), count) in cells.iter_mut().zip(&sums.sum).zip(&sums.lost).zip(&sums.count) {
        *cell = if is_present(*sum) { sum / count + lost / count } else { ABSENT };
    }
    true
}
