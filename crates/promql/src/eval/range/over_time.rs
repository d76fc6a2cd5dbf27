//! Aggregation over the samples of a window.

use super::outline::Samples;
use super::{RangeFn, Windows};
use crate::eval::kahan::{Mean, Sum};
use crate::eval::quantile::{median_deviation, quantile};

/// Evaluates a function whose name ends in `_over_time`.
pub(super) fn reduce(function: RangeFn, windows: &Windows, samples: Samples<'_>, cells: &mut [f64]) {
    let (t, v) = (samples.columns.t.as_slice(), samples.columns.v.as_slice());
    let seconds = |at: usize| Some(t[at] as f64 / 1000.0);
    let mut scratch = Vec::new();
    match function {
        RangeFn::Count => windows.slide(t, cells, |w| Some(samples.count(w.from, w.to))),
        RangeFn::Present | RangeFn::Absent => windows.slide(t, cells, |_| Some(1.0)),
        RangeFn::Last => windows.slide(t, cells, |w| Some(v[w.to - 1])),
        RangeFn::First => windows.slide(t, cells, |w| Some(v[w.from])),
        RangeFn::TimeOfFirst => windows.slide(t, cells, |w| seconds(w.from)),
        RangeFn::TimeOfLast => windows.slide(t, cells, |w| seconds(w.to - 1)),
        RangeFn::Sum => windows.slide(t, cells, |w| Some(sum(samples, w.from, w.to))),
        RangeFn::Avg => windows.slide(t, cells, |w| Some(mean(samples, w.from, w.to))),
        RangeFn::Min => windows.slide(t, cells, |w| Some(v[best(v, w.from, w.to, |v, best| v < best)])),
        RangeFn::Max => windows.slide(t, cells, |w| Some(v[best(v, w.from, w.to, |v, best| v > best)])),
        RangeFn::TimeOfMin => windows.slide(t, cells, |w| seconds(best(v, w.from, w.to, |v, best| v <= best))),
        RangeFn::TimeOfMax => windows.slide(t, cells, |w| seconds(best(v, w.from, w.to, |v, best| v >= best))),
        RangeFn::Stdvar => windows.slide(t, cells, |w| Some(variance(&v[w.from..w.to]))),
        RangeFn::Stddev => windows.slide(t, cells, |w| Some(variance(&v[w.from..w.to]).sqrt())),
        RangeFn::Mad => windows.slide(t, cells, |w| {
            scratch.clear();
            scratch.extend_from_slice(&v[w.from..w.to]);
            Some(median_deviation(&mut scratch))
        }),
        RangeFn::Quantile => windows.slide(t, cells, |w| {
            scratch.clear();
            scratch.extend_from_slice(&v[w.from..w.to]);
            Some(quantile(windows.args[0][w.step], &mut scratch))
        }),
        // The others are reduced by their own modules.
        _ => {}
    }
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

/// The index of the sample that is better than those before; anything is better than NaN.
fn best(v: &[f64], from: usize, to: usize, better: impl Fn(f64, f64) -> bool) -> usize {
    let mut best = from;
    for at in from..to {
        if better(v[at], v[best]) || v[best].is_nan() {
            best = at;
        }
    }
    best
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
