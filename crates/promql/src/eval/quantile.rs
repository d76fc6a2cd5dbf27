//! Quantiles of values.

use std::cmp::Ordering;

/// Ascending, NaN before everything.
pub(super) fn ascending(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// The quantile `q` of the values, which are sorted; linear between two of them.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    values.sort_unstable_by(|a, b| ascending(*a, *b));
    quantile_of_sorted(q, values.len(), |at| values[at])
}

/// As [`quantile`], of so many values that are sorted.
pub(super) fn quantile_of_sorted(q: f64, n: usize, value: impl Fn(usize) -> f64) -> f64 {
    if n == 0 || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let last = n as f64 - 1.0;
    let rank = q * last;
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(last);
    let weight = rank - rank.floor();
    if weight == 0.0 {
        // Not the sum below: nothing of an infinity is NaN.
        return value(lower as usize);
    }
    value(lower as usize) * (1.0 - weight) + value(upper as usize) * weight
}

/// The median of the distances to the median; NaN where a value is.
pub(super) fn median_deviation(values: &mut [f64]) -> f64 {
    if values.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    let median = quantile(0.5, values);
    values.iter_mut().for_each(|v| *v = (*v - median).abs());
    quantile(0.5, values)
}

/// As [`median_deviation`], of so many values that are sorted; `None` where the median is infinite, to which some have no distance.
///
/// Distances grow from the median to both sides, so the middle one is found by halving, and none but those looked at is worked out.
pub(super) fn median_deviation_of_sorted(n: usize, value: impl Fn(usize) -> f64) -> Option<f64> {
    if n == 0 || value(0).is_nan() {
        return Some(f64::NAN);
    }
    let median = quantile_of_sorted(0.5, n, &value);
    if !median.is_finite() {
        return None;
    }
    let below = first(0, n, |at| value(at) >= median);
    let above = n - below;
    let distance = |at: usize| (value(at) - median).abs();
    let nearest = |k: usize| {
        // How many of the `k` nearest are below.
        let taken = first(k.saturating_sub(above), k.min(below), |taken| {
            distance(below - 1 - taken) >= distance(below + (k - taken - 1))
        });
        let next_below = (taken < below).then(|| distance(below - 1 - taken));
        let next_above = (k - taken < above).then(|| distance(below + (k - taken)));
        match (next_below, next_above) {
            (Some(a), Some(b)) => a.min(b),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => f64::NAN,
        }
    };
    Some(quantile_of_sorted(0.5, n, nearest))
}

/// The first of some numbers for which something holds, as for all after it; `high` if for none.
fn first(mut low: usize, mut high: usize, holds: impl Fn(usize) -> bool) -> usize {
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}
