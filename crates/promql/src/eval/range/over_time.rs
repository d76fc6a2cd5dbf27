//! Aggregation over the samples of a window.

use super::outline::Samples;
use super::slide::{self, Best};
use super::{RangeFn, Windows};
use crate::eval::kahan::{Mean, Prefixes, Sum};

/// Evaluates a function whose name ends in `_over_time`.
pub(super) fn reduce(
    function: RangeFn,
    windows: &Windows,
    samples: Samples<'_>,
    cells: &mut [f64],
    prefixes: &mut Prefixes,
) {
    let (t, v) = (samples.columns.t.as_slice(), samples.columns.v.as_slice());
    let seconds = |at: usize| Some(t[at] as f64 / 1000.0);
    match function {
        RangeFn::Count => windows.slide(t, cells, |w| Some(samples.count(w.from, w.to))),
        RangeFn::Present | RangeFn::Absent => windows.slide(t, cells, |_| Some(1.0)),
        RangeFn::Last => windows.slide(t, cells, |w| Some(v[w.to - 1])),
        RangeFn::First => windows.slide(t, cells, |w| Some(v[w.from])),
        RangeFn::TimeOfFirst => windows.slide(t, cells, |w| seconds(w.from)),
        RangeFn::TimeOfLast => windows.slide(t, cells, |w| seconds(w.to - 1)),
        RangeFn::Sum if samples.columns.aggregates.is_empty() => slide::sums(windows, t, v, cells, prefixes),
        RangeFn::Sum => windows.slide(t, cells, |w| Some(sum(samples, w.from, w.to))),
        RangeFn::Avg if samples.before.is_empty() => slide::means(windows, t, v, cells, prefixes),
        RangeFn::Avg => windows.slide(t, cells, |w| Some(mean(samples, w.from, w.to))),
        RangeFn::Min => {
            let mut best = Best::new(|v, best| v < best);
            windows.slide(t, cells, |w| Some(v[best.of(v, w.from, w.to)]));
        }
        RangeFn::Max => {
            let mut best = Best::new(|v, best| v > best);
            windows.slide(t, cells, |w| Some(v[best.of(v, w.from, w.to)]));
        }
        RangeFn::TimeOfMin => {
            let mut best = Best::new(|v, best| v <= best);
            windows.slide(t, cells, |w| seconds(best.of(v, w.from, w.to)));
        }
        RangeFn::TimeOfMax => {
            let mut best = Best::new(|v, best| v >= best);
            windows.slide(t, cells, |w| seconds(best.of(v, w.from, w.to)));
        }
        RangeFn::Stdvar => windows.slide(t, cells, |w| Some(variance(&v[w.from..w.to]))),
        RangeFn::Stddev => windows.slide(t, cells, |w| Some(variance(&v[w.from..w.to]).sqrt())),
        RangeFn::Mad => slide::median_deviations(windows, t, v, cells),
        RangeFn::Quantile => slide::quantiles(windows, t, v, cells),
        RangeFn::Integral => windows.slide(t, cells, |w| {
            let strategy = windows.args.first().map_or(2.0, |strategy| strategy[w.step]);
            Some(integral(strategy, &t[w.from..w.to], &v[w.from..w.to]))
        }),
        // The others are reduced by their own modules.
        _ => {}
    }
}

/// The area below the values: each holds until the next (0), or since the one before (1), or both are joined by a line (2). What is no number counts as
/// zero.
fn integral(strategy: f64, t: &[i64], v: &[f64]) -> f64 {
    let number = |v: f64| if v.is_nan() { 0.0 } else { v };
    let mut sum = Sum::default();
    for at in 1..t.len() {
        let (before, now) = (number(v[at - 1]), number(v[at]));
        let mut height = Sum::default();
        if strategy == 0.0 {
            height.sum = before;
        } else if strategy == 1.0 {
            height.sum = now;
        } else if before != 0.0 || now != 0.0 {
            let whole = Sum::at(before).add(now);
            height = match whole.sum.is_infinite() && before.is_finite() && now.is_finite() {
                true => Sum::at(before / 2.0).add(now / 2.0),
                false => Sum { sum: whole.sum / 2.0, c: whole.c / 2.0 },
            };
        }
        if height.sum != 0.0 || height.c != 0.0 {
            let seconds = (t[at] - t[at - 1]) as f64 / 1000.0;
            sum = Sum { sum: sum.sum, c: sum.c + height.c * seconds }.add(height.sum * seconds);
        }
    }
    if sum.sum.is_infinite() { sum.sum } else { sum.total() }
}

/// The sum, of those that were left out of windows too.
fn sum(samples: Samples<'_>, from: usize, to: usize) -> f64 {
    let sum = samples.columns.v[from..to].iter().fold(Sum::default(), |sum, v| sum.add(*v));
    let sum = samples.sums(from, to).fold(sum, Sum::add);
    if sum.sum.is_infinite() { sum.sum } else { sum.total() }
}

/// The mean. There are more samples than values only where the sum is exact, or they were left out of windows.
fn mean(samples: Samples<'_>, from: usize, to: usize) -> f64 {
    let (v, count) = (&samples.columns.v[from..to], samples.count(from, to));
    if samples.sums(from, to).next().is_some() {
        return sum(samples, from, to) / count;
    }
    let mut mean = Mean::at(v[0]);
    v[1..].iter().for_each(|v| mean.add(*v));
    mean.value_of(count)
}

fn variance(v: &[f64]) -> f64 {
    let (mut count, mut mean, mut aux) = (0.0, Sum::default(), Sum::default());
    for v in v {
        count += 1.0;
        let delta = v - mean.total();
        mean = mean.add(delta / count);
        aux = aux.add(delta * (v - mean.total()));
    }
    aux.total() / count
}
