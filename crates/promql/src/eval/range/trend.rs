//! Lines laid through the samples of a window.

use model::Columns;

use super::Windows;
use crate::eval::EvalError;
use crate::eval::format::general;
use crate::eval::kahan::Sum;

/// `deriv`: the slope, a second.
pub(super) fn deriv(windows: &Windows, columns: &Columns, cells: &mut [f64]) {
    let (t, v) = (columns.t.as_slice(), columns.v.as_slice());
    // Times are taken from the first sample on, since large numbers would lose digits.
    windows.slide(t, cells, |w| Some(line(&t[w.from..w.to], &v[w.from..w.to], t[w.from])?.0));
}

/// `predict_linear`: where the line is some seconds after the time of evaluation.
pub(super) fn predict_linear(windows: &Windows, columns: &Columns, cells: &mut [f64]) {
    let (t, v) = (columns.t.as_slice(), columns.v.as_slice());
    windows.slide(t, cells, |w| {
        let now = windows.grid.at(w.step);
        let (slope, intercept) = line(&t[w.from..w.to], &v[w.from..w.to], now)?;
        Some(slope * windows.args[0][w.step] + intercept)
    });
}

/// Least squares: slope, and the value at a time.
fn line(t: &[i64], v: &[f64], at: i64) -> Option<(f64, f64)> {
    if t.len() < 2 {
        return None;
    }
    if v[1..].iter().all(|y| *y == v[0]) {
        return Some(if v[0].is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, v[0]) });
    }
    let (mut sum_x, mut sum_y, mut sum_xy, mut sum_x2) =
        (Sum::default(), Sum::default(), Sum::default(), Sum::default());
    for (t, y) in t.iter().zip(v) {
        let x = (t - at) as f64 / 1e3;
        sum_x = sum_x.add(x);
        sum_y = sum_y.add(*y);
        sum_xy = sum_xy.add(x * y);
        sum_x2 = sum_x2.add(x * x);
    }
    let n = t.len() as f64;
    let (x, y, xy, x2) = (sum_x.total(), sum_y.total(), sum_xy.total(), sum_x2.total());
    let slope = (xy - x * y / n) / (x2 - x * x / n);
    Some((slope, y / n - slope * x / n))
}

/// Refuses factors of `double_exponential_smoothing` that are none, at the first step at which a series has a sample: also where these are too few or histograms.
pub(super) fn check_factors(windows: &Windows, columns: &Columns) -> Result<(), EvalError> {
    let [smoothing, trend] = windows.args else { return Ok(()) };
    let is_wrong = |v: f64| v <= 0.0 || v >= 1.0;
    if !smoothing.iter().chain(trend).any(|v| is_wrong(*v)) {
        return Ok(());
    }
    let mut first = None;
    let times = columns.histograms.iter().map(|sample| sample.t).collect::<Vec<_>>();
    for t in [&columns.t, &times] {
        windows.each(t, smoothing.len(), |w| {
            if is_wrong(smoothing[w.step]) || is_wrong(trend[w.step]) {
                first = Some(first.map_or(w.step, |first: usize| first.min(w.step)));
            }
        });
    }
    let Some(step) = first else { return Ok(()) };
    let (what, short, v) = match is_wrong(smoothing[step]) {
        true => ("smoothing", "sf", smoothing[step]),
        false => ("trend", "tf", trend[step]),
    };
    let v = if v.is_finite() { format!("{v:.6}") } else { general(v) };
    let reason = format!("invalid {what} factor. Expected: 0 < {short} < 1, got: {v}");
    Err(EvalError::Execution(reason))
}

/// `double_exponential_smoothing`.
pub(super) fn smooth(windows: &Windows, columns: &Columns, cells: &mut [f64]) {
    let v = columns.v.as_slice();
    windows.slide(&columns.t, cells, |w| {
        let v = &v[w.from..w.to];
        if v.len() < 2 {
            return None;
        }
        let (smoothing, factor) = (windows.args[0][w.step], windows.args[1][w.step]);
        let (mut before, mut level, mut trend) = (0.0, v[0], v[1] - v[0]);
        for (at, value) in v.iter().enumerate().skip(1) {
            if at > 1 {
                trend = factor * (level - before) + (1.0 - factor) * trend;
            }
            let next = smoothing * value + (1.0 - smoothing) * (level + trend);
            (before, level) = (level, next);
        }
        Some(level)
    });
}
