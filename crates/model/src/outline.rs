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
        self.next(range.start_ms).is_some_and(|edge| edge < range.end_ms)
    }

    /// The first that no sample of this time is after; `None` behind the last.
    fn next(&self, t: i64) -> Option<i64> {
        let before = self.before(t);
        let edge = i128::from(self.first_ms) + before * i128::from(self.step_ms);
        if before < self.number as i128 { i64::try_from(edge).ok() } else { None }
    }

    /// How many samples of this time are after.
    fn before(&self, t: i64) -> i128 {
        let (first, step) = (i128::from(self.first_ms), i128::from(self.step_ms));
        ((i128::from(t) - first + step - 1) / step).clamp(0, self.number as i128)
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

    /// Lets samples stand for all that need not be told apart for this aspect, wherever they came from: for who sends them far away, which costs more than to look
    /// at each. Nothing is done beside histograms, beside floats that stand for others of longer windows, for sums that are not exact, and where edges part
    /// nearly all samples. Starts may be left out.
    pub fn condense(&mut self, aspect: Aspect, edges: &[Edges]) {
        let Outline { columns, left_out } = self;
        let (Some(first), Some(last)) = (columns.t.first(), columns.t.last()) else { return };
        let is_plain = columns.histograms.is_empty() && columns.aggregates.is_empty();
        let parted: i128 = edges.iter().map(|edges| edges.before(*last) - edges.before(*first)).sum();
        let is_parted = parted * 2 >= columns.len() as i128;
        if !is_plain || is_parted || aspect == Aspect::Sum && !adds_up(columns) {
            return;
        }
        columns.starts.clear();
        left_out.resize(columns.len(), 0);
        let (mut at, mut to, mut until) = (0, 0, None);
        while at < columns.len() {
            if until.is_none_or(|until| until < columns.t[at]) {
                until = Some(edges.iter().filter_map(|edges| edges.next(columns.t[at])).min().unwrap_or(i64::MAX));
            }
            let end = at + run(&columns.t[at..], &columns.v[at..], aspect, until);
            let stands: u64 = left_out[at..end].iter().map(|left_out| left_out + 1).sum();
            let (last, one) = ((columns.t[end - 1], columns.v[end - 1]), one(&columns.v[at..end], aspect));
            let is_one = one.is_some() || end - at == 1;
            // What is kept is never more than what it is kept of.
            (columns.t[to], columns.v[to]) = (columns.t[at], one.unwrap_or(columns.v[at]));
            left_out[to] = stands - if is_one { 1 } else { 2 };
            to += 1;
            if !is_one {
                (columns.t[to], columns.v[to], left_out[to]) = (last.0, last.1, 0);
                to += 1;
            }
            at = end;
        }
        columns.truncate(crate::Mark { floats: to, histograms: 0 });
        left_out.truncate(to);
        if left_out.iter().all(|left_out| *left_out == 0) {
            left_out.clear();
        }
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

/// How many of these samples, at least one, need not be told apart, up to a time.
fn run(t: &[i64], v: &[f64], aspect: Aspect, until: Option<i64>) -> usize {
    let is_within = |t: &i64| until.is_none_or(|until| *t <= until);
    let is_alike = |before: f64, v: f64| match aspect {
        Aspect::Ends | Aspect::Min | Aspect::Max => true,
        Aspect::Falls => v >= before,
        Aspect::Changes => v == before,
        Aspect::Sum => (v < 0.0) == (before < 0.0),
    };
    let pairs = v.windows(2).zip(&t[1..]);
    let goes_on = |(pair, t): &(&[f64], &i64)| {
        is_within(t) && !pair[0].is_nan() && !pair[1].is_nan() && is_alike(pair[0], pair[1])
    };
    1 + pairs.take_while(goes_on).count()
}

/// The one value that stands for these, of which none is a NaN or which is the only one; `None` where the first and the last do.
fn one(v: &[f64], aspect: Aspect) -> Option<f64> {
    match aspect {
        Aspect::Ends | Aspect::Falls | Aspect::Changes => None,
        Aspect::Min => v.iter().copied().reduce(|min, v| if v < min { v } else { min }),
        Aspect::Max => v.iter().copied().reduce(|max, v| if v > max { v } else { max }),
        Aspect::Sum => v.iter().copied().reduce(|sum, v| sum + v),
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
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn what_is_condensed_tells_the_same_between_edges(
            samples in prop::collection::vec((1..4i64, prop_oneof![20 => 0..4i32, 1 => 4..7i32], 0..3u64), 0..60),
            steps in prop::collection::vec((-20..80i64, 1..60i64, 0..20usize), 0..3),
        ) {
            let edges: Vec<Edges> =
                steps.into_iter().map(|(first_ms, step_ms, number)| Edges { first_ms, step_ms, number }).collect();
            let place = |t: i64| -> usize {
                let all = edges.iter().flat_map(|e| (0..e.number as i64).map(move |n| e.first_ms + n * e.step_ms));
                all.filter(|edge| *edge < t).count()
            };
            for aspect in [Aspect::Ends, Aspect::Falls, Aspect::Changes, Aspect::Min, Aspect::Max, Aspect::Sum] {
                let (mut outline, mut now) = (Outline::default(), 0);
                for (gap, v, left_out) in &samples {
                    now += gap;
                    let v = [0.0, 1.0, -2.0, 3.0, f64::NAN, 0.5, -0.0][*v as usize];
                    outline.push(now, v, if v.is_nan() { 0 } else { *left_out });
                }
                // For each part between edges: how many there are, and what is asked of them.
                let told = |outline: &Outline| {
                    let mut parts: std::collections::BTreeMap<usize, (u64, Vec<f64>)> = Default::default();
                    for (at, (t, v)) in outline.columns.t.iter().zip(&outline.columns.v).enumerate() {
                        let part = parts.entry(place(*t)).or_default();
                        part.0 += 1 + outline.left_out.get(at).copied().unwrap_or(0);
                        part.1.push(*v);
                    }
                    let tell = |(place, (count, v)): (usize, (u64, Vec<f64>))| {
                        let real = || v.iter().copied().filter(|v| !v.is_nan());
                        let pairs = || v.windows(2).filter(|pair| pair[0] != pair[1]);
                        let told: Vec<f64> = match aspect {
                            Aspect::Ends => vec![v[0], v[v.len() - 1]],
                            Aspect::Falls => pairs().filter(|pair| pair[1] < pair[0]).flatten().copied().collect(),
                            Aspect::Changes => pairs().flatten().copied().collect(),
                            Aspect::Min => real().reduce(|a, b| if b < a { b } else { a }).into_iter().collect(),
                            Aspect::Max => real().reduce(|a, b| if b > a { b } else { a }).into_iter().collect(),
                            Aspect::Sum => vec![real().sum()],
                        };
                        (place, count, v.iter().filter(|v| v.is_nan()).count(), told.into_iter().map(f64::to_bits).collect::<Vec<_>>())
                    };
                    parts.into_iter().map(tell).collect::<Vec<_>>()
                };
                let (expect, all) = (told(&outline), outline.columns.len());
                outline.condense(aspect, &edges);
                prop_assert_eq!(told(&outline), expect);
                prop_assert!(outline.columns.len() <= all && outline.columns.t.is_sorted_by(|a, b| a < b));
                prop_assert!(outline.left_out.is_empty() || outline.left_out.len() == outline.columns.len());
            }
        }
    }

    #[test]
    fn what_need_not_be_told_apart_is_condensed() {
        let check = |aspect, v: &[f64], expect: &[(i64, f64, u64)]| {
            let mut outline = Outline::default();
            v.iter().zip(1..).for_each(|(v, t)| outline.push(t, *v, 0));
            outline.condense(aspect, &[Edges { first_ms: 4, step_ms: 100, number: 9 }]);
            let left_out = outline.left_out.iter().copied().chain(std::iter::repeat(0));
            let found = outline.columns.t.iter().zip(&outline.columns.v).zip(left_out);
            assert_eq!(found.map(|((t, v), left_out)| (*t, *v, left_out)).collect::<Vec<_>>(), expect, "{aspect:?}");
        };
        let v = [1.0, 2.0, 2.0, 0.0, -1.0, -1.0, 4.0, 5.0];
        check(Aspect::Max, &v, &[(1, 2.0, 3), (5, 5.0, 3)]);
        check(Aspect::Min, &v, &[(1, 0.0, 3), (5, -1.0, 3)]);
        check(Aspect::Ends, &v, &[(1, 1.0, 2), (4, 0.0, 0), (5, -1.0, 2), (8, 5.0, 0)]);
        check(Aspect::Falls, &v, &[(1, 1.0, 1), (3, 2.0, 0), (4, 0.0, 0), (5, -1.0, 2), (8, 5.0, 0)]);
        let expect =
            [(1, 1.0, 0), (2, 2.0, 0), (3, 2.0, 0), (4, 0.0, 0), (5, -1.0, 0), (6, -1.0, 0), (7, 4.0, 0), (8, 5.0, 0)];
        check(Aspect::Changes, &v, &expect);
        check(Aspect::Sum, &v, &[(1, 5.0, 3), (5, -2.0, 1), (7, 9.0, 1)]);
        check(Aspect::Sum, &[1.0, 0.5, 2.0], &[(1, 1.0, 0), (2, 0.5, 0), (3, 2.0, 0)]);
        check(Aspect::Max, &[], &[]);
        let mut outline = Outline::default();
        (0..20).for_each(|t| outline.push(t, 1.0, 0));
        let before = outline.clone();
        outline.condense(Aspect::Max, &[Edges { first_ms: 0, step_ms: 2, number: 10 }]);
        assert_eq!(outline, before, "edges part nearly all");
        outline.columns.set_last_aggregate(crate::Aggregate { count: 2, resolution_ms: 10, sum: 0.5 });
        let before = outline.clone();
        outline.condense(Aspect::Max, &[]);
        assert_eq!(outline, before, "some stand for longer windows");
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
