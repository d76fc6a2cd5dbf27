//! Less than all samples of a series, where what is asked of them needs no more: a part of the samples, some of which stand for others.
//!
//! Functions over long windows ask for little: an extreme, an end, a number. A source that knows such things of many samples at once answers without decoding
//! them. It hands out samples all the same, so that whoever evaluates does the same with them as with all; each stands for samples
//! between which no window begins or ends. The price is that a number of samples is no longer that of what is in the columns.

use crate::{Columns, TimeRange, is_stale};

/// What is asked of the floats of windows, where the samples themselves are not needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// The first and the last.
    Ends,
    /// Where a value is lower than the one before it, with both, beside the ends.
    Falls,
    /// Where a value is not that of the one before it, beside the ends.
    Changes,
    /// The lowest; of several that are equal the first.
    Min,
    /// The highest; of several that are equal the first.
    Max,
    /// The sum. What stands for others is a sum of whole numbers of one sign, less than 2^53 from zero; whoever adds up sees whether all is exact.
    Sum,
}

/// Moments at equal distance at which windows begin or end: a sample at one of them is before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edges {
    /// The first, in Unix milliseconds.
    pub first_ms: i64,
    /// From one to the next, at least 1.
    pub step_ms: i64,
    /// How many there are.
    pub number: usize,
}

impl Edges {
    /// Whether one of them is between samples of this first and last time.
    pub fn part(&self, range: TimeRange) -> bool {
        let (first, start) = (i128::from(self.first_ms), i128::from(range.start_ms));
        let before = ((start - first + i128::from(self.step_ms) - 1) / i128::from(self.step_ms)).max(0);
        before < self.number as i128 && first + before * i128::from(self.step_ms) < i128::from(range.end_ms)
    }
}

/// Asks for an outline of samples.
#[derive(Debug, Clone, Copy)]
pub struct OutlineRequest<'a> {
    /// Of the samples.
    pub range: TimeRange,
    /// What has to be the same as of the samples.
    pub aspect: Aspect,
    /// Samples between which one of these is have no sample that stands for both.
    pub edges: &'a [Edges],
}

/// Samples of a series, of which some stand for others that are left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outline {
    /// The samples.
    pub columns: Columns,
    /// For each float the number of floats behind it that are left out, none of them a staleness marker. Empty where none is left out.
    pub left_out: Vec<u64>,
}

impl Outline {
    /// Forgets the samples and keeps the memory.
    pub fn clear(&mut self) {
        self.columns.clear();
        self.left_out.clear();
    }

    /// Appends a float, later than all before, that stands for so many behind it.
    pub fn push(&mut self, t: i64, v: f64, left_out: u64) {
        if left_out > 0 || !self.left_out.is_empty() {
            self.left_out.resize(self.columns.len(), 0);
            self.left_out.push(left_out);
        }
        self.columns.push(t, v);
    }

    /// Whether evaluation yields the same bits from it as from all samples: a sum does so only where all that is added up are whole numbers and stay exact, and
    /// beside histograms it matters between which of them each sample lies.
    pub fn is_enough(&self, aspect: Aspect) -> bool {
        let is_exact = || aspect != Aspect::Sum || adds_up(&self.columns);
        self.left_out.is_empty() || self.columns.histograms.is_empty() && is_exact()
    }

    /// Makes the numbers of those left out as many as floats, where there are any; for who appended floats to the columns themselves.
    pub fn pad(&mut self) {
        if !self.left_out.is_empty() {
            self.left_out.resize(self.columns.len(), 0);
        }
    }
}

/// Below this whole numbers are exact, and so are their sums; a sum that is not exact is not below it.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Whether the sum of these, and of what whole numbers of one sign they stand for, is exact in any order.
fn adds_up(columns: &Columns) -> bool {
    let of_windows = columns.aggregates.iter().map(|aggregate| aggregate.sum);
    let all = || columns.v.iter().copied().filter(|v| !is_stale(*v)).chain(of_windows.clone());
    all().all(|v| v.trunc() == v) && all().map(f64::abs).sum::<f64>() < EXACT_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_parts_what_is_up_to_it_from_what_is_after() {
        let check = |number: usize, start_ms: i64, end_ms: i64, expect: bool| {
            let edges = Edges { first_ms: 100, step_ms: 10, number };
            let parts = (0..number as i64).any(|n| start_ms <= 100 + 10 * n && 100 + 10 * n < end_ms);
            assert_eq!(parts, expect);
            assert_eq!(edges.part(TimeRange { start_ms, end_ms }), expect, "{number} {start_ms}..={end_ms}");
        };
        check(0, 0, 1000, false);
        check(1, 0, 99, false);
        check(1, 0, 100, false);
        check(1, 0, 101, true);
        check(1, 100, 101, true);
        check(1, 101, 200, false);
        check(3, 101, 110, false);
        check(3, 101, 111, true);
        check(3, 111, 120, false);
        check(3, 120, 121, true);
        check(3, 121, 500, false);
        let all = Edges { first_ms: i64::MAX - 1, step_ms: i64::MAX, number: usize::MAX };
        assert!(all.part(TimeRange::ALL));
    }

    #[test]
    fn an_outline_is_enough_unless_something_left_out_could_be_told_from_it() {
        let check = |samples: &[(f64, u64)], of_sums: bool, of_others: bool| {
            let mut outline = Outline::default();
            samples.iter().zip(0..).for_each(|((v, left_out), t)| outline.push(t, *v, *left_out));
            assert_eq!(outline.is_enough(Aspect::Sum), of_sums, "{samples:?}");
            assert_eq!(outline.is_enough(Aspect::Max), of_others, "{samples:?}");
            let counts = crate::Counts::Integer(crate::Buckets::default());
            let histogram = crate::Histogram { layout: Default::default(), hint: Default::default(), sum: 0.0, counts };
            outline.columns.histograms.push(crate::HistogramSample { t: 9, start: 0, histogram });
            let is_all = samples.iter().all(|(_, left_out)| *left_out == 0);
            assert_eq!(
                (outline.is_enough(Aspect::Sum), outline.is_enough(Aspect::Max)),
                (is_all, is_all),
                "{samples:?}"
            );
        };
        check(&[(1.0, 5), (2.0, 0)], true, true);
        check(&[(1.0, 5), (crate::stale_nan(), 0)], true, true);
        check(&[(1.0, 5), (0.5, 0)], false, true);
        check(&[(1.0, 5), (-EXACT_MAX, 0)], false, true);
        check(&[(1.0, 5), (f64::NAN, 0)], false, true);
        check(&[(0.5, 0), (EXACT_MAX, 0)], true, true);
        check(&[], true, true);
        let mut windows = Outline::default();
        windows.push(0, 1.0, 3);
        windows.columns.set_last_aggregate(crate::Aggregate { count: 2, resolution_ms: 10, sum: 0.5 });
        assert!(!windows.is_enough(Aspect::Sum) && windows.is_enough(Aspect::Min));
    }

    #[test]
    fn numbers_of_those_left_out_are_as_many_as_floats_or_none() {
        let mut outline = Outline::default();
        outline.columns.push(1, 1.0);
        outline.push(2, 2.0, 0);
        outline.pad();
        assert_eq!(outline.left_out, [0; 0]);
        outline.push(3, 3.0, 7);
        outline.columns.push(4, 4.0);
        outline.pad();
        outline.push(5, 5.0, 0);
        assert_eq!(outline.left_out, [0, 0, 7, 0, 0]);
        outline.clear();
        assert!(outline.columns.is_empty() && outline.left_out.is_empty());
    }
}
