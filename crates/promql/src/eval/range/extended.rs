//! Windows of selectors that are `anchored` or `smoothed`: they reach to the sample before their beginning, and smoothed ones to the sample after their end,
//! so that nothing has to be extrapolated. Of smoothed ones the values at both ends are interpolated.

mod native;

use std::sync::Arc;

use model::{Columns, Labels, ResetHint};

use super::histograms::Sliding;
use super::starts::{Since, is_reset, is_reset_after};
use super::{RangeFn, Windows};
use crate::FloatHistogram;
use crate::ast::{RangeMode, Span};
use crate::eval::matrix::{Cell, Matrix, float_cell};
use crate::eval::notes;
use crate::eval::{Context, EvalError};
use native::Native;

/// How far such windows reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::eval) struct Reach {
    pub(in crate::eval) mode: RangeMode,
    /// In milliseconds, beyond the window.
    pub(in crate::eval) lookback: i64,
}

impl Reach {
    /// How far before the beginning, and after the end, samples are looked at.
    pub(super) fn beyond(self) -> (i64, i64) {
        match self.mode {
            RangeMode::Normal => (0, 0),
            RangeMode::Anchored => (self.lookback, 0),
            RangeMode::Smoothed => (self.lookback, self.lookback),
        }
    }

    pub(super) fn smoothed(self) -> bool {
        self.mode == RangeMode::Smoothed
    }
}

/// Whether a function can look at samples beyond its window; the error names those that can.
pub(in crate::eval) fn check(mode: RangeMode, function: RangeFn, name: &str) -> Result<(), EvalError> {
    let (word, allowed, names): (_, &[RangeFn], _) = match mode {
        RangeMode::Normal => return Ok(()),
        RangeMode::Anchored => (
            "anchored",
            &[RangeFn::Resets, RangeFn::Changes, RangeFn::Rate, RangeFn::Increase, RangeFn::Delta],
            "changes, delta, increase, rate, resets",
        ),
        RangeMode::Smoothed => {
            ("smoothed", &[RangeFn::Rate, RangeFn::Increase, RangeFn::Delta], "delta, increase, rate")
        }
    };
    if allowed.contains(&function) {
        return Ok(());
    }
    Err(EvalError::Execution(format!("{word} modifier can only be used with: {names} - not with {name}")))
}

/// Evaluates a function over such windows of the samples of one series, for the last series of a matrix.
pub(super) fn reduce(
    context: &Context,
    function: RangeFn,
    reach: Reach,
    windows: &Windows,
    columns: &Columns,
    (labels, span): (&Labels, Span),
    out: &mut Matrix,
) -> Result<(), EvalError> {
    let histograms =
        super::histograms::floats(columns, windows.stats, windows.first_start().saturating_sub(reach.beyond().0));
    let times: Vec<i64> = columns.histograms.iter().map(|sample| sample.t).collect();
    let row = out.len() - 1;
    let [mut floats, mut own] = [Sliding::default(); 2];
    let (before, after) = reach.beyond();
    for step in 0..windows.grid.n {
        let end = windows.when.of(windows.grid.at(step));
        let start = end.saturating_sub(windows.range);
        floats.to(&columns.t, start.saturating_sub(before), end.saturating_add(after));
        own.to(&times, start.saturating_sub(before), end.saturating_add(after));
        let (start, seconds) = (windows.extrapolated_from(end), windows.seconds);
        let window = Window { start, end, reach, function, seconds };
        let f = Floats {
            t: &columns.t[floats.from..floats.until],
            v: &columns.v[floats.from..floats.until],
            starts: columns.starts.get(floats.from..floats.until).unwrap_or(&[]),
        };
        let h = Native {
            context,
            metric: labels.metric_name(),
            span,
            t: &times[own.from..own.until],
            h: &histograms[own.from..own.until],
        };
        let value = match (function, f.t.is_empty(), h.t.is_empty()) {
            (_, true, true) => None,
            (RangeFn::Resets | RangeFn::Changes, ..) => window.count(&f, &h).map(Cell::Float),
            (_, false, false) => {
                context.notes.warn(notes::mixed_floats(labels.metric_name()), span);
                None
            }
            (_, false, true) => window.difference(&f).map(|v| Cell::Float(float_cell(v))),
            (_, true, false) => window.histogram(&h).map(|histogram| Cell::Histogram(Arc::new(histogram))),
        };
        if let Some(value) = value {
            out.set(row, step, value)?;
        }
    }
    Ok(())
}

/// The floats of a range vector, with values at both ends of it; without any where none is within.
pub(super) fn samples(columns: &Columns, reach: Reach, start: i64, end: i64) -> Columns {
    let f = Floats { t: &columns.t, v: &columns.v, starts: &columns.starts };
    let window = Window { start, end, reach, function: RangeFn::Delta, seconds: f64::NAN };
    let mut out = Columns::default();
    if f.t.is_empty() {
        return out;
    }
    let (first, last) = window.ends(f.t);
    if f.t[last] <= start {
        return out;
    }
    let (left, right) = (window.left(&f, first).0, window.right(&f, last).0);
    let within = f.t.iter().zip(f.v).filter(|(t, _)| start < **t && **t < end);
    out.push(start, left);
    within.for_each(|(t, v)| out.push(*t, *v));
    out.push(end, right);
    out
}

/// Floats from the last one before a window on.
struct Floats<'a> {
    t: &'a [i64],
    v: &'a [f64],
    /// As many as there are times, or none.
    starts: &'a [i64],
}

impl Floats<'_> {
    fn since(&self, at: usize) -> Since {
        Since { t: self.t[at], start: self.starts.get(at).copied().unwrap_or(0) }
    }
}

struct Window {
    start: i64,
    end: i64,
    reach: Reach,
    function: RangeFn,
    /// How long it is.
    seconds: f64,
}

/// A time with a sample of either kind.
type Sample<'a> = (i64, Since, Option<f64>, Option<&'a Arc<FloatHistogram>>);

/// A value at an end of the window, and the start that goes with it; 0 where that is not known.
type At = (f64, i64);

impl Window {
    fn counter(&self) -> bool {
        self.function != RangeFn::Delta
    }

    /// The samples that the window begins and ends with: the last one that is not after its beginning, and the last one, or of smoothed ones the first that is not
    /// before its end.
    fn ends(&self, t: &[i64]) -> (usize, usize) {
        let last = t.len() - 1;
        let first = t[..last].partition_point(|t| *t <= self.start).saturating_sub(1);
        let last = if self.reach.smoothed() { t[..last].partition_point(|t| *t < self.end) } else { last };
        (first, last)
    }

    fn lookback_start(&self) -> i64 {
        self.start.saturating_sub(self.reach.lookback)
    }

    /// Rate, increase or delta.
    fn difference(&self, f: &Floats<'_>) -> Option<f64> {
        let (mut first, last) = self.ends(f.t);
        if f.t[last] <= self.start {
            return None;
        }
        let began = f.since(first);
        if self.reach.smoothed()
            && began.t > self.end
            && (!self.counter() || !is_reset_after(self.lookback_start(), began) || is_reset_after(self.end, began))
        {
            return None;
        }
        let (left, left_start) = self.left(f, first);
        let (right, right_start) = self.right(f, last);
        let (difference, mut resets) = (right - left, 0.0);
        if self.counter() {
            // What is at the ends is in the values there already.
            first += usize::from(f.t[first] <= self.start);
            let end = if f.t[last] >= self.end { last } else { last + 1 };
            let (mut before, mut since) = (left, Since { t: self.start, start: left_start });
            for at in first..end {
                let now = f.since(at);
                if f.v[at] < before || is_reset(since, now) {
                    resets += before;
                }
                (before, since) = (f.v[at], now);
            }
            if right < before || is_reset(since, Since { t: self.end, start: right_start }) {
                resets += before;
            }
        }
        let difference = difference + resets;
        Some(if self.function == RangeFn::Rate { difference / self.seconds } else { difference })
    }

    /// The value at the beginning.
    fn left(&self, f: &Floats<'_>, first: usize) -> At {
        let (mut v, mut since) = (f.v[first], f.since(first));
        let mut start = if since.start > self.start { 0 } else { since.start };
        if since.t == self.start {
            return (v, since.start);
        }
        if since.t > self.start {
            if !self.counter() || !is_reset_after(self.lookback_start(), since) {
                return (v, start);
            }
            if is_reset_after(self.start, since) || !self.reach.smoothed() {
                return (0.0, start);
            }
            return (interpolated((since.start, 0.0), (since.t, v), self.start, true), start);
        }
        let (mut next, next_since) = ((f.t[first + 1], f.v[first + 1]), f.since(first + 1));
        if self.counter() {
            if is_reset_after(self.start, next_since) {
                next = (next_since.start, 0.0);
            } else if is_reset(since, next_since) {
                (v, since.t) = (0.0, next_since.start);
                start = next_since.start;
            }
        }
        if self.reach.smoothed() {
            return (interpolated((since.t, v), next, self.start, self.counter()), start);
        }
        (v, start)
    }

    /// The value at the end.
    fn right(&self, f: &Floats<'_>, last: usize) -> At {
        let (mut v, mut since) = (f.v[last], f.since(last));
        let mut start = if since.start > self.end { 0 } else { since.start };
        if since.t <= self.end {
            return (v, start);
        }
        let Some(before) = last.checked_sub(1) else {
            if !self.counter() || !is_reset_after(self.lookback_start(), since) {
                return (v, start);
            }
            if is_reset_after(self.end, since) || !self.reach.smoothed() {
                return (0.0, start);
            }
            return (interpolated((since.start, 0.0), (since.t, v), self.end, true), start);
        };
        let (mut before_v, mut before_since) = (f.v[before], f.since(before));
        if self.counter() {
            if is_reset_after(self.end, since) {
                start = before_since.start;
                (v, since.t) = (0.0, since.start);
            } else if is_reset(before_since, since) {
                (before_v, before_since.t) = (0.0, since.start);
            }
        }
        if self.reach.smoothed() {
            return (interpolated((before_since.t, before_v), (since.t, v), self.end, self.counter()), start);
        }
        (before_v, start)
    }

    /// `resets` or `changes`, from the last sample on that is not after the beginning.
    fn count(&self, f: &Floats<'_>, h: &Native<'_>) -> Option<f64> {
        let float = f.t.partition_point(|t| *t <= self.start).checked_sub(1);
        let own = h.t.partition_point(|t| *t <= self.start).checked_sub(1);
        let after = |at: Option<usize>| at.map_or(0, |at| at + 1);
        if after(float) >= f.t.len() && after(own) >= h.t.len() {
            return None;
        }
        let (from_float, from_own) = match (float, own) {
            (None, None) => (0, 0),
            (Some(float), None) => (float, 0),
            (Some(float), Some(own)) if f.t[float] >= h.t[own] => (float, own + 1),
            (float, Some(own)) => (after(float), own),
        };
        let floats = (from_float..f.t.len()).map(|at| (f.t[at], f.since(at), Some(f.v[at]), None));
        let own = (from_own..h.t.len()).map(|at| (h.t[at], Since { t: h.t[at], start: 0 }, None, Some(&h.h[at])));
        let mut all: Vec<Sample<'_>> = floats.chain(own).collect();
        all.sort_by_key(|(t, ..)| *t);
        let differs = |pair: &&[Sample<'_>]| {
            let ((_, since, v, histogram), (_, now, next_v, next)) = (pair[0], pair[1]);
            let resets = self.function == RangeFn::Resets;
            match (v, next_v, histogram, next) {
                (Some(v), Some(next), ..) if resets => next < v || is_reset(since, now),
                (Some(v), Some(next), ..) => next != v && !(next.is_nan() && v.is_nan()),
                (_, _, Some(before), Some(next)) if resets => next.is_reset_since(before),
                (_, _, Some(before), Some(next)) => !next.equals(before),
                _ => true,
            }
        };
        Some(all.windows(2).filter(differs).count() as f64)
    }
}

/// Between two samples; a counter that fell began at zero.
fn interpolated((t, v): (i64, f64), (next_t, next_v): (i64, f64), at: i64, counter: bool) -> f64 {
    let v = if counter && next_v < v { 0.0 } else { v };
    v + (next_v - v) * (at - t) as f64 / (next_t - t) as f64
}

/// The value of an instant selector that is smoothed, at a time.
pub(in crate::eval) fn smoothed(
    context: &Context,
    columns: &Columns,
    histograms: &[Arc<FloatHistogram>],
    (labels, span): (&Labels, Span),
    (from, at, until): (i64, i64, i64),
) -> Option<Cell> {
    let within = |t: i64| from < t && t <= until;
    let floats = columns.t.partition_point(|t| *t <= from)..columns.t.partition_point(|t| *t <= until);
    let own: Vec<usize> = (0..histograms.len()).filter(|at| within(columns.histograms[*at].t)).collect();
    let metric = labels.metric_name();
    if !floats.is_empty() && !own.is_empty() {
        context.notes.warn(notes::mixed_floats(metric), span);
        return None;
    }
    if own.is_empty() {
        let (t, v) = (&columns.t[floats.clone()], &columns.v[floats]);
        let next = t.partition_point(|t| *t < at);
        return match (next.checked_sub(1), t.get(next)) {
            (_, Some(exact)) if *exact == at => Some(Cell::Float(v[next])),
            (Some(before), Some(_)) => {
                Some(Cell::Float(interpolated((t[before], v[before]), (t[next], v[next]), at, false)))
            }
            (Some(before), None) => Some(Cell::Float(v[before])),
            (None, _) => None,
        };
    }
    let t: Vec<i64> = own.iter().map(|at| columns.histograms[*at].t).collect();
    let h: Vec<Arc<FloatHistogram>> = own.iter().map(|at| histograms[*at].clone()).collect();
    let native = Native { context, metric, span, t: &t, h: &h };
    let next = t.partition_point(|t| *t < at);
    let value = match (next.checked_sub(1), t.get(next)) {
        (_, Some(exact)) if *exact == at => FloatHistogram::clone(&h[next]),
        (Some(before), Some(_)) => {
            if h[before].is_custom() != h[next].is_custom() {
                return native.incompatible();
            }
            native.interpolated(before, at, !(h[before].is_gauge() && h[next].is_gauge()))?
        }
        (Some(before), None) => {
            let mut last = FloatHistogram::clone(&h[before]);
            last.hint = ResetHint::Unknown;
            last
        }
        (None, _) => return None,
    };
    Some(Cell::Histogram(Arc::new(value)))
}
