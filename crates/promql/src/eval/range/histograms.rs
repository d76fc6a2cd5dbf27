//! Functions over windows that have native histograms. Floats are reduced first, as if there were nothing else; here the steps are gone over whose windows
//! have histograms, and what they make of the result is told.

use std::sync::Arc;

use model::{Columns, Labels, ResetHint};

use super::counters::{Extrapolated, Of};
use super::starts::{Since, is_reset, overlaps};
use super::{RangeFn, Windows};
use crate::FloatHistogram;
use crate::ast::Span;
use crate::eval::matrix::{ABSENT, Cell, Matrix};
use crate::eval::notes::{self, Operation};
use crate::eval::{Context, EvalError};
use crate::histogram::{Incompatible, Layouts, Mean, Noted, Total};

/// Evaluates a function over the windows of the last series of a matrix, whose floats are reduced already.
pub(super) fn reduce(
    context: &Context,
    function: RangeFn,
    windows: &Windows,
    columns: &Columns,
    (labels, span): (&Labels, Span),
    out: &mut Matrix,
) -> Result<(), EvalError> {
    let histograms = floats(columns, windows.stats, windows.first_start());
    let times = columns.histograms.iter().map(|sample| sample.t).collect();
    let starts = match windows.starts {
        true => columns.histograms.iter().map(|sample| sample.start).collect(),
        false => Vec::new(),
    };
    let series = Series { context, columns, times, starts, histograms, metric: labels.metric_name(), span };
    let row = out.len() - 1;
    let [mut floats, mut own] = [Sliding::default(); 2];
    for step in 0..windows.grid.n {
        let end = windows.when.of(windows.grid.at(step));
        let start = end.saturating_sub(windows.range);
        floats.to(&columns.t, start, end);
        own.to(&series.times, start, end);
        if own.from < own.until {
            let window = Mixed { series: &series, floats, own, end };
            let value = window.value(function, windows, out.cell(row, step))?;
            out.set(row, step, value.unwrap_or(Cell::Float(ABSENT)))?;
        }
    }
    Ok(())
}

/// The histograms of a series as the language has them. Where only their numbers and sums are asked for, their hints say what is found out by
/// comparing, as in Prometheus, which then does not keep buckets. The first one later than `read_after` is the first that it reads: its chunk says of it that it is
/// not reset, and where it is, another one begins, which says nothing.
pub(in crate::eval) fn floats(columns: &Columns, stats: bool, read_after: i64) -> Vec<Arc<FloatHistogram>> {
    let mut layouts = Layouts::default();
    let mut all: Vec<Arc<FloatHistogram>> =
        columns.histograms.iter().map(|sample| Arc::new(layouts.float(&sample.histogram))).collect();
    if stats {
        let first = columns.histograms.iter().position(|sample| sample.t > read_after);
        let hints: Vec<ResetHint> = (0..all.len())
            .map(|at| match (at.checked_sub(1), all[at].hint) {
                (Some(before), ResetHint::Unknown) if all[at].is_reset_since(&all[before]) => {
                    if first == Some(at) {
                        ResetHint::Unknown
                    } else {
                        ResetHint::Reset
                    }
                }
                (Some(_), ResetHint::Unknown) => ResetHint::NotReset,
                (_, hint) => hint,
            })
            .collect();
        all.iter_mut().zip(hints).for_each(|(histogram, hint)| *histogram = Arc::new(histogram.numbers(hint)));
    }
    all
}

/// A window that only moves on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sliding {
    pub(super) from: usize,
    pub(super) until: usize,
}

impl Sliding {
    pub(super) fn to(&mut self, t: &[i64], start: i64, end: i64) {
        while self.until < t.len() && t[self.until] <= end {
            self.until += 1;
        }
        while self.from < self.until && t[self.from] <= start {
            self.from += 1;
        }
    }

    fn len(self) -> usize {
        self.until - self.from
    }
}

/// The samples of one series.
struct Series<'a> {
    context: &'a Context<'a>,
    columns: &'a Columns,
    times: Vec<i64>,
    /// When the counting of each began, where that is asked for; else empty.
    starts: Vec<i64>,
    histograms: Vec<Arc<FloatHistogram>>,
    metric: &'a str,
    span: Span,
}

/// A sample of either kind.
enum One<'a> {
    Float(f64),
    Histogram(&'a Arc<FloatHistogram>),
}

impl Series<'_> {
    fn since(&self, at: usize) -> Since {
        Since { t: self.times[at], start: self.starts.get(at).copied().unwrap_or(0) }
    }

    fn warn(&self, text: String) {
        self.context.notes.warn(text, self.span);
    }

    fn inform(&self, text: String) {
        self.context.notes.inform(text, self.span);
    }

    fn told(&self, noted: Noted, operation: Operation) {
        if noted.reconciled {
            self.inform(notes::reconciled(operation));
        }
    }
}

/// A window with at least one histogram.
struct Mixed<'a> {
    series: &'a Series<'a>,
    floats: Sliding,
    own: Sliding,
    end: i64,
}

impl Mixed<'_> {
    /// The value at a step at which the floats alone have `alone`.
    fn value(&self, function: RangeFn, windows: &Windows, alone: Option<Cell>) -> Result<Option<Cell>, EvalError> {
        let series = self.series;
        let (t, times) = (&series.columns.t, &series.times);
        let seconds = |ms: i64| Some(Cell::Float(ms as f64 / 1000.0));
        let no_floats = self.floats.len() == 0;
        Ok(match function {
            RangeFn::Rate => self.extrapolated(windows, Of::Rate),
            RangeFn::Increase => self.extrapolated(windows, Of::Increase),
            RangeFn::Delta => self.extrapolated(windows, Of::Delta),
            RangeFn::Irate => self.last_two(true),
            RangeFn::Idelta => self.last_two(false),
            RangeFn::Sum => self.sum(),
            RangeFn::Avg => self.mean(),
            RangeFn::Resets => Some(self.count(|(since, before), (now, one)| match (before, one) {
                (One::Float(before), One::Float(v)) => v < before || is_reset(*since, *now),
                (One::Histogram(before), One::Histogram(histogram)) => {
                    is_reset(*since, *now) || histogram.is_reset_since(before)
                }
                _ => true,
            })),
            RangeFn::Changes => Some(self.count(|(_, before), (_, one)| match (before, one) {
                (One::Float(before), One::Float(v)) => v != before && !(v.is_nan() && before.is_nan()),
                (One::Histogram(before), One::Histogram(histogram)) => !histogram.equals(before),
                _ => true,
            })),
            RangeFn::Count => Some(match alone {
                Some(Cell::Float(count)) => Cell::Float(count + self.own.len() as f64),
                _ => Cell::Float(self.own.len() as f64),
            }),
            RangeFn::Present | RangeFn::Absent => Some(Cell::Float(1.0)),
            RangeFn::First if no_floats || t[self.floats.from] >= times[self.own.from] => {
                Some(Cell::Histogram(series.histograms[self.own.from].clone()))
            }
            RangeFn::Last if no_floats || t[self.floats.until - 1] <= times[self.own.until - 1] => {
                Some(Cell::Histogram(series.histograms[self.own.until - 1].clone()))
            }
            RangeFn::TimeOfFirst if no_floats || t[self.floats.from] >= times[self.own.from] => {
                seconds(times[self.own.from])
            }
            RangeFn::TimeOfLast if no_floats || t[self.floats.until - 1] <= times[self.own.until - 1] => {
                seconds(times[self.own.until - 1])
            }
            RangeFn::First | RangeFn::Last | RangeFn::TimeOfFirst | RangeFn::TimeOfLast => alone,
            // The others are of floats alone.
            _ => {
                if !no_floats {
                    series.inform(notes::ignored_in_range(series.metric));
                }
                alone
            }
        })
    }

    fn histograms(&self) -> &[Arc<FloatHistogram>] {
        &self.series.histograms[self.own.from..self.own.until]
    }

    /// Whether there are floats as well, which is told.
    fn is_mixed(&self) -> bool {
        let mixed = self.floats.len() > 0;
        if mixed {
            self.series.warn(notes::mixed_floats(self.series.metric));
        }
        mixed
    }

    fn extrapolated(&self, windows: &Windows, of: Of) -> Option<Cell> {
        if self.is_mixed() {
            return None;
        }
        let all = self.histograms();
        let counter = of != Of::Delta;
        let mut increase = if all.len() > 1 { self.increase(all, counter)? } else { all[0].emptied() };
        let times = &self.series.times[self.own.from..self.own.until];
        let mut extrapolated = Extrapolated {
            of,
            start: windows.extrapolated_from(self.end),
            end: self.end,
            seconds: windows.seconds,
            first: times[0],
            last: times[times.len() - 1],
            samples: times.len() as f64 - 1.0,
            began: None,
        };
        if counter && extrapolated.begins(self.series.since(self.own.from).start) {
            if all.len() == 1 {
                increase = FloatHistogram::clone(&all[0]);
            } else if increase.add(&all[0]).is_err() {
                self.series.warn(notes::mixed_schemas(self.series.metric));
                return None;
            }
        } else if all.len() == 1 {
            return None;
        }
        let zero = (increase.count() > 0.0 && all[0].count() >= 0.0).then(|| all[0].count() / increase.count());
        increase.multiply(extrapolated.factor(zero));
        Some(Cell::Histogram(Arc::new(increase)))
    }

    /// The last less the first, with what was counted before each reset.
    fn increase(&self, all: &[Arc<FloatHistogram>], counter: bool) -> Option<FloatHistogram> {
        let series = self.series;
        let incompatible = || {
            series.warn(notes::mixed_schemas(series.metric));
            None
        };
        let (first, last) = (&all[0], &all[all.len() - 1]);
        let mut before = first.clone();
        let is_reset_at = |at: usize, before: &FloatHistogram| {
            let since = |at: usize| series.since(self.own.from + at);
            is_reset(since(at - 1), since(at)) || all[at].is_reset_since(before)
        };
        if counter && is_reset_at(1, first) {
            // Of what was before the reset nothing is needed, not even that it has the same buckets.
            before = Arc::new(all[1].emptied());
        }
        let custom = before.is_custom();
        if last.is_custom() != custom {
            return incompatible();
        }
        let mut schema = last.schema.min(before.schema);
        if counter {
            if all[1..].iter().any(|histogram| histogram.is_custom() != custom) {
                return incompatible();
            }
            if all.iter().any(|histogram| histogram.is_gauge()) {
                series.warn(notes::not_counter(series.metric));
            }
            schema = all[1..].iter().fold(schema, |schema, histogram| schema.min(histogram.schema));
        } else if !first.is_gauge() || !last.is_gauge() {
            series.warn(notes::not_gauge(series.metric));
        }
        let mut sum = FloatHistogram::clone(last);
        if schema < sum.schema {
            sum.reduce(schema);
        }
        match sum.subtract(&before) {
            Ok(noted) => series.told(noted, Operation::Subtraction),
            Err(Incompatible) => return incompatible(),
        }
        if counter {
            let since = |at: usize| series.since(self.own.from + at);
            if (1..all.len()).any(|at| overlaps(since(at - 1), since(at))) {
                series.context.notes.overlap(series.metric, series.span);
            }
            for (at, histogram) in all.iter().enumerate().skip(1) {
                if is_reset_at(at, &before) {
                    match sum.add(&before) {
                        Ok(noted) => series.told(noted, Operation::Addition),
                        Err(Incompatible) => return incompatible(),
                    }
                }
                before = histogram.clone();
            }
        }
        sum.hint = ResetHint::Gauge;
        sum.compact();
        Some(sum)
    }

    /// The samples of both kinds in the order of their times.
    fn samples(&self) -> impl DoubleEndedIterator<Item = (Since, One<'_>)> {
        let (series, columns) = (self.series, self.series.columns);
        let float = |at: usize| (Since { t: columns.t[at], start: columns.start(at) }, One::Float(columns.v[at]));
        let floats = (self.floats.from..self.floats.until).map(float);
        let own = (self.own.from..self.own.until).map(|at| (series.since(at), One::Histogram(&series.histograms[at])));
        let mut all: Vec<(Since, One<'_>)> = floats.chain(own).collect();
        all.sort_by_key(|(since, _)| since.t);
        all.into_iter()
    }

    /// `irate` and `idelta`.
    fn last_two(&self, counter: bool) -> Option<Cell> {
        let series = self.series;
        let mut samples = self.samples().rev();
        let ((now, last), (since, before)) = (samples.next()?, samples.next()?);
        let seconds = (now.t - since.t) as f64 / 1000.0;
        let began = is_reset(since, now);
        let (last, before) = match (last, before) {
            (One::Histogram(last), One::Histogram(before)) => (last, before),
            // The floats alone may not be the last two samples.
            (One::Float(last), One::Float(before)) => {
                let difference = if counter && (began || last < before) { last } else { last - before };
                return Some(Cell::Float(if counter { difference / seconds } else { difference }));
            }
            _ => {
                series.warn(notes::mixed_floats(series.metric));
                return None;
            }
        };
        if counter && (last.is_gauge() || before.is_gauge()) {
            series.warn(notes::not_counter(series.metric));
        }
        if !counter && (!last.is_gauge() || !before.is_gauge()) {
            series.warn(notes::not_gauge(series.metric));
        }
        let mut difference = FloatHistogram::clone(last);
        if !counter || !(began || last.is_reset_since(before)) {
            match difference.subtract(before) {
                Ok(noted) => series.told(noted, Operation::Subtraction),
                Err(Incompatible) => {
                    series.warn(notes::mixed_schemas(series.metric));
                    return None;
                }
            }
        }
        difference.hint = ResetHint::Gauge;
        difference.compact();
        if counter {
            difference.divide(seconds);
        }
        Some(Cell::Histogram(Arc::new(difference)))
    }

    /// How often something holds of a sample and the one before.
    fn count(&self, what: impl Fn(&(Since, One<'_>), &(Since, One<'_>)) -> bool) -> Cell {
        let mut samples = self.samples();
        let Some(mut before) = samples.next() else { return Cell::Float(0.0) };
        let mut count = 0.0;
        for one in samples {
            if what(&before, &one) {
                count += 1.0;
            }
            before = one;
        }
        Cell::Float(count)
    }

    fn sum(&self) -> Option<Cell> {
        if self.is_mixed() {
            return None;
        }
        let all = self.histograms();
        let mut total = Total::at(FloatHistogram::clone(&all[0]));
        let noted = self.gather(&all[1..], |histogram| total.add(histogram))?;
        let (sum, last) = total.finish();
        self.tell(all, noted, last);
        Some(Cell::Histogram(Arc::new(sum)))
    }

    fn mean(&self) -> Option<Cell> {
        if self.is_mixed() {
            return None;
        }
        let all = self.histograms();
        let mut mean = Mean::at(FloatHistogram::clone(&all[0]));
        let noted = self.gather(&all[1..], |histogram| mean.add(histogram))?;
        self.tell(all, noted, Noted::default());
        Some(Cell::Histogram(Arc::new(mean.finish())))
    }

    fn gather(
        &self,
        all: &[Arc<FloatHistogram>],
        mut add: impl FnMut(&FloatHistogram) -> Result<Noted, Incompatible>,
    ) -> Option<Noted> {
        let mut noted = Noted::default();
        for histogram in all {
            match add(histogram) {
                Ok(one) => noted.join(one),
                Err(Incompatible) => {
                    self.series.warn(notes::mixed_schemas(self.series.metric));
                    return None;
                }
            }
        }
        Some(noted)
    }

    fn tell(&self, all: &[Arc<FloatHistogram>], mut noted: Noted, last: Noted) {
        noted.join(last);
        self.series.told(noted, Operation::Aggregation);
        let any = |hint: ResetHint| all.iter().any(|histogram| histogram.hint == hint);
        if any(ResetHint::Reset) && any(ResetHint::NotReset) {
            self.series.warn(notes::collision(Operation::Aggregation));
        }
    }
}
