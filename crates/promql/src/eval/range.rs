//! Functions over windows. A window is a half-open range of indices into the columns of one series, and slides over
//! them with two indices that only grow; nothing is searched, and a series is dropped as soon as it is reduced.

mod counters;
pub(super) mod extended;
pub(super) mod histograms;
mod inputs;
pub(super) mod outline;
mod over_time;
mod rates;
mod slide;
mod starts;
mod together;
mod trend;

pub(super) use inputs::{samples, subquery_grid, wider};
pub(super) use together::{Job, Together, enough_for};

use model::{Cancel, Labels};

use super::grid::Grid;
use super::kahan::Prefixes;
use super::matrix::{ABSENT, Matrix, float_cell, is_float, is_present};
use super::node::scalar;
use super::plan::{Kind, Plan, Range, RangeOf, When};
use super::select::{each_of, select_as};
use super::{Context, EvalError, notes};
use crate::ast::{RangeMode, Span};
use crate::eval::call::absent_labels;
use crate::printer::quote;
use counters::Of;
use extended::Reach;
use inputs::subquery;
use outline::{Memory, Reader, Samples};
use together::reach_of;

/// The functions over windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeFn {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Deriv,
    PredictLinear,
    Smooth,
    Resets,
    Changes,
    Avg,
    Min,
    Max,
    Sum,
    Count,
    Quantile,
    Stddev,
    Stdvar,
    Last,
    First,
    Present,
    Absent,
    Mad,
    TimeOfFirst,
    TimeOfLast,
    TimeOfMax,
    TimeOfMin,
    Integral,
}

/// Windows between looks at whether anybody waits.
const LOOK_EVERY: usize = 64;

/// The windows of one grid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows<'a> {
    pub(super) grid: Grid,
    pub(super) when: When,
    /// In milliseconds.
    pub(super) range: i64,
    /// The same for who extrapolates, which knows of parts of a millisecond, and in seconds.
    pub(super) extrapolated: i64,
    pub(super) seconds: f64,
    /// The numbers that the function takes beside the window, one column each.
    pub(super) args: &'a [Vec<f64>],
    /// Whether it matters when the counting of samples began.
    pub(super) starts: bool,
    /// Whether of histograms only numbers and sums are asked for.
    pub(super) stats: bool,
    /// Ends the windows early, which whoever goes on with them has to look at.
    pub(super) cancel: &'a Cancel,
}

impl Windows<'_> {
    /// The time after which the first of them begins.
    fn first_start(&self) -> i64 {
        self.when.of(self.grid.start).saturating_sub(self.range)
    }

    /// From when on one is extrapolated that ends at a time.
    fn extrapolated_from(&self, end: i64) -> i64 {
        end.saturating_sub(self.extrapolated)
    }
}

#[cfg(test)]
impl<'a> Windows<'a> {
    /// Of so many milliseconds, which end at the steps.
    fn plain(grid: Grid, range: i64, cancel: &'a Cancel) -> Self {
        let seconds = range as f64 / 1000.0;
        Windows {
            grid,
            when: When::now(),
            range,
            extrapolated: range,
            seconds,
            args: &[],
            starts: false,
            stats: false,
            cancel,
        }
    }
}

/// Memory that is used again for the next series.
#[derive(Debug, Default)]
struct Scratch {
    rates: rates::Columns,
    prefixes: Prefixes,
}

impl Scratch {
    /// How much it is, in bytes.
    fn bytes(&self) -> usize {
        self.rates.bytes() + self.prefixes.bytes()
    }
}

/// One window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Number of the step.
    pub(super) step: usize,
    /// First sample.
    pub(super) from: usize,
    /// One past the last sample.
    pub(super) to: usize,
    /// Its last time.
    pub(super) end: i64,
}

impl Windows<'_> {
    /// Calls `reduce` for each window that has a sample, and writes what it yields.
    #[inline]
    pub(super) fn slide(&self, t: &[i64], cells: &mut [f64], mut reduce: impl FnMut(Window) -> Option<f64>) {
        self.each(t, cells.len(), |window| cells[window.step] = reduce(window).unwrap_or(ABSENT));
    }

    /// Calls `see` for each of the first `number` windows that has a sample.
    #[inline]
    pub(super) fn each(&self, t: &[i64], number: usize, mut see: impl FnMut(Window)) {
        let (mut from, mut to) = (Edge::default(), Edge::default());
        for step in 0..number {
            // All windows of one series may take minutes.
            if step.is_multiple_of(LOOK_EVERY) && self.cancel.is_cancelled() {
                return;
            }
            let end = self.when.of(self.grid.at(step));
            let (from, to) = (from.after(t, end.saturating_sub(self.range)), to.after(t, end));
            if from < to {
                see(Window { step, from, to, end });
            }
        }
    }
}

/// An edge of windows, as a place among times that only grows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Edge {
    at: usize,
    /// How far it went the last time, which is mostly how far it goes.
    stride: usize,
}

impl Edge {
    /// The first place with a later time.
    #[inline]
    pub(super) fn after(&mut self, t: &[i64], end: i64) -> usize {
        let guess = self.at + self.stride;
        let is_before = |at: usize| t.get(at).is_some_and(|t| *t <= end);
        let fits = (guess == self.at || is_before(guess - 1)) && !is_before(guess);
        if !fits {
            let mut step = 1;
            let mut low = self.at;
            // Twice as far each time, then the half of what is left.
            while is_before(low + step - 1) {
                low += step;
                step *= 2;
            }
            let high = (low + step - 1).min(t.len());
            let found = low + t.get(low..high).unwrap_or_default().partition_point(|t| *t <= end);
            self.stride = found - self.at;
            self.at = found;
        } else {
            self.at = guess;
        }
        self.at
    }
}

/// Evaluates a function over windows, and with it those that look at the same samples.
pub(super) fn eval<'p>(context: &Context<'p>, job: Job<'p>, grid: Grid) -> Result<Matrix, EvalError> {
    if let Some(matrix) = context.together.take(context, &job, grid) {
        return Ok(matrix);
    }
    if let RangeOf::Subquery { inner, step } = &job.range.of {
        let numbers = numbers(context, &job, grid)?;
        let reduction = Reduction::new(context, &job, grid, &numbers);
        let (mut out, mut scratch) = (Matrix::new(context, grid.n), Scratch::default());
        let inner = context.measured(job.plan, || subquery(context, job.range, inner, *step, grid))?;
        if let Some((inner, inner_grid)) = inner {
            for (labels, drop_name, columns) in inner.columns(inner_grid) {
                context.check_cancelled()?;
                reduction.series(labels, drop_name, Samples::all(&columns), &mut out, &mut scratch)?;
            }
        }
        return finish(context, &job, out, &numbers, grid);
    }
    let jobs = context.together.begin(job, grid);
    if let [_] = jobs[..] {
        return of_selector(context, &jobs, grid)?.pop().unwrap_or_else(|| Ok(Matrix::new(context, grid.n)));
    }
    context.notes.begin_together();
    let values = of_selector(context, &jobs, grid);
    let early = context.notes.end_together();
    let mut values = values?.into_iter();
    let own = values.next().unwrap_or_else(|| Ok(Matrix::new(context, grid.n)))?;
    for (job, value) in jobs[1..].iter().zip(values) {
        // What is wrong with another one is told where that stands.
        if let Ok(value) = value {
            context.together.keep(job, value, early.iter().filter(|note| note.is_of(job.span)).cloned().collect());
        }
    }
    Ok(own)
}

/// The values of functions over windows of one selector, in their order; of the first alone, where there is no room for more.
fn of_selector(context: &Context, jobs: &[Job<'_>], grid: Grid) -> Result<Vec<Result<Matrix, EvalError>>, EvalError> {
    let (job, params) = (&jobs[0], context.params);
    let RangeOf::Matchers { matchers, stats, mode } = &job.range.of else { return Ok(Vec::new()) };
    let mut reach = wider(reach_of(jobs, grid), Reach { mode: *mode, lookback: params.lookback_ms });
    if *stats {
        // Whether the first histogram of a window is reset is found out by comparing it with the one before.
        reach.start_ms = reach.start_ms.saturating_sub(params.lookback_ms);
    }
    let reader = Reader::new(context, enough_for(params, jobs, grid), reach);
    let series = context.measured(job.plan, || select_as(context, matchers, reach, reader.want()))?;
    let has_room = context.together.has_room(context, series.len(), grid.n, jobs.len() - 1);
    let jobs = if has_room { jobs } else { &jobs[..1] };
    let numbers = jobs.iter().map(|job| numbers(context, job, grid)).collect::<Result<Vec<_>, _>>()?;
    let reductions = jobs.iter().zip(&numbers).map(|(job, numbers)| Reduction::new(context, job, grid, numbers));
    let reductions: Vec<Reduction<'_>> = reductions.collect();
    let before = context.counters();
    let parts = each_of(
        context,
        &series,
        |chunk, outs, (memory, scratch): &mut (Memory, Vec<Scratch>), held| {
            scratch.resize_with(outs.len(), Scratch::default);
            for series in chunk {
                let samples = reader.read(series, memory, held)?;
                let own = samples.columns.memory();
                for ((reduction, out), scratch) in reductions.iter().zip(&mut *outs).zip(&mut *scratch) {
                    reduction.series(&series.labels, false, samples, out, scratch)?;
                }
                held.grow_to(own + scratch.iter().map(Scratch::bytes).sum::<usize>())?;
            }
            Ok(())
        },
        grid.n,
        jobs.len(),
    )?;
    context.credit(job.plan, before);
    let values = jobs.iter().zip(&numbers).zip(parts);
    let finished = values
        .map(|((job, numbers), parts)| finish(context, job, Matrix::concat(context, grid.n, parts)?, numbers, grid));
    Ok(finished.collect())
}

/// The values of the arguments that are numbers, a column each.
fn numbers(context: &Context, job: &Job<'_>, grid: Grid) -> Result<Vec<Vec<f64>>, EvalError> {
    job.args.iter().map(|arg| scalar(context, arg, grid)).collect()
}

/// From the values of all series to that of the function.
fn finish(
    context: &Context,
    job: &Job<'_>,
    matrix: Matrix,
    numbers: &[Vec<f64>],
    grid: Grid,
) -> Result<Matrix, EvalError> {
    if matrix.len() > 0 {
        check_args(context, job, numbers, &matrix);
    }
    match job.function {
        RangeFn::Absent => absent(context, job.plan, matrix, grid),
        // These yield samples as they are, so they keep the name.
        RangeFn::Last | RangeFn::First => unique(context, matrix),
        _ => matrix.drop_names(context, true),
    }
}

/// Reduces one series after the other.
struct Reduction<'a> {
    context: &'a Context<'a>,
    function: RangeFn,
    windows: Windows<'a>,
    beyond: Reach,
    span: Span,
}

impl<'a> Reduction<'a> {
    fn new(context: &'a Context<'a>, job: &Job<'_>, grid: Grid, numbers: &'a [Vec<f64>]) -> Self {
        let span = match (&job.range.of, job.function, job.args) {
            // Of a subquery Prometheus tells no place, which it writes as the first; of a quantile, that of the number.
            (_, RangeFn::Quantile, [number]) => number.span,
            (RangeOf::Subquery { .. }, ..) => Span { start: 0, end: 0 },
            _ => job.plan.span,
        };
        Reduction {
            context,
            function: job.function,
            windows: job.windows(context.params, grid, numbers),
            beyond: Reach { mode: job.mode(), lookback: context.params.lookback_ms },
            span,
        }
    }

    /// Appends the values of a series, if there are any.
    fn series(
        &self,
        labels: &Labels,
        drop_name: bool,
        samples: Samples<'_>,
        out: &mut Matrix,
        scratch: &mut Scratch,
    ) -> Result<(), EvalError> {
        let Reduction { context, function, windows, beyond, span } = self;
        if *function == RangeFn::Smooth {
            trend::check_factors(windows, samples.columns)?;
        }
        let cells = out.add(labels.clone(), drop_name)?;
        let named = (labels, *span);
        if beyond.mode != RangeMode::Normal {
            extended::reduce(context, *function, *beyond, windows, samples.columns, named, out)?;
        } else {
            let overlap = || context.notes.overlap(labels.metric_name(), *span);
            reduce(*function, windows, samples, cells, (overlap, scratch));
            if yields_samples(*function) {
                cells.iter_mut().for_each(|v| *v = float_cell(*v));
            }
            if !samples.columns.histograms.is_empty() {
                histograms::reduce(context, *function, windows, samples.columns, named, out)?;
            }
        }
        context.check_cancelled()?;
        let cells = out.row(out.len() - 1);
        if !cells.iter().any(|v| is_present(*v)) {
            out.pop();
        } else if matches!(function, RangeFn::Rate | RangeFn::Increase) && cells.iter().any(|v| is_float(*v)) {
            tell_non_counter(context, labels, *span);
        }
        Ok(())
    }
}

/// Whether it matters to a function when the counting of samples began.
pub(super) fn looks_at_starts(function: RangeFn) -> bool {
    matches!(function, RangeFn::Rate | RangeFn::Irate | RangeFn::Increase | RangeFn::Resets)
}

/// Whether a value may be that of a sample, as it is.
fn yields_samples(function: RangeFn) -> bool {
    matches!(
        function,
        RangeFn::Last | RangeFn::First | RangeFn::Min | RangeFn::Max | RangeFn::Sum | RangeFn::Avg | RangeFn::Quantile
    )
}

fn unique(context: &Context, matrix: Matrix) -> Result<Matrix, EvalError> {
    if context.params.features.delayed_name_removal { Ok(matrix) } else { matrix.merge_same_labels(context) }
}

fn reduce(
    function: RangeFn,
    windows: &Windows,
    samples: Samples<'_>,
    cells: &mut [f64],
    (overlap, scratch): (impl FnMut(), &mut Scratch),
) {
    let columns = samples.columns;
    let since = windows.starts && !columns.starts.is_empty();
    match function {
        RangeFn::Rate if since => counters::extrapolated_since(windows, columns, cells, Of::Rate, overlap),
        RangeFn::Increase if since => {
            counters::extrapolated_since(windows, columns, cells, Of::Increase, overlap);
        }
        RangeFn::Rate => rates::extrapolated(windows, samples, cells, Of::Rate, &mut scratch.rates),
        RangeFn::Increase => rates::extrapolated(windows, samples, cells, Of::Increase, &mut scratch.rates),
        RangeFn::Delta => rates::extrapolated(windows, samples, cells, Of::Delta, &mut scratch.rates),
        RangeFn::Irate => counters::last_two(windows, columns, cells, true),
        RangeFn::Idelta => counters::last_two(windows, columns, cells, false),
        RangeFn::Resets => counters::resets(windows, columns, cells),
        RangeFn::Changes => counters::changes(windows, columns, cells),
        RangeFn::Deriv => trend::deriv(windows, columns, cells),
        RangeFn::PredictLinear => trend::predict_linear(windows, columns, cells),
        RangeFn::Smooth => trend::smooth(windows, columns, cells),
        _ => over_time::reduce(function, windows, samples, cells, &mut scratch.prefixes),
    }
}

/// Warns of numbers that are none of those which the function takes.
fn check_args(context: &Context, job: &Job<'_>, numbers: &[Vec<f64>], matrix: &Matrix) {
    // At a step without a sample nobody asks for the number.
    let asked = |column: &[f64], is_right: &dyn Fn(f64) -> bool| -> Vec<f64> {
        let wrong = column.iter().enumerate().filter(|(_, v)| !is_right(**v));
        wrong.filter(|(step, _)| matrix.rows().any(|row| is_present(row[*step]))).map(|(_, v)| *v).collect()
    };
    match (job.function, numbers) {
        (RangeFn::Quantile, [q]) => {
            for q in asked(q, &|q| (0.0..=1.0).contains(&q)) {
                context.notes.warn(notes::bad_quantile(q), job.args[0].span);
            }
        }
        (RangeFn::Integral, [strategy]) => {
            for v in asked(strategy, &|v| [0.0, 1.0, 2.0].contains(&v)) {
                context.notes.warn(notes::bad_strategy(v), job.args[0].span);
            }
        }
        _ => {}
    }
}

fn tell_non_counter(context: &Context, labels: &Labels, span: Span) {
    let name = labels.metric_name();
    if context.params.features.type_and_unit_labels {
        let kind = labels.get("__type__").unwrap_or("");
        if !name.is_empty() && !matches!(kind, "counter" | "histogram") {
            let text = "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\"";
            context.notes.inform(format!("{text}, got {}: {}", quote(kind), quote(name)), span);
        }
        return;
    }
    let counter = ["_total", "_sum", "_count", "_bucket"].iter().any(|end| name.ends_with(end));
    if !name.is_empty() && !counter {
        let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket";
        context.notes.inform(format!("{text}: {}", quote(name)), span);
    }
}

/// One series with 1 at each step at which no series has a sample.
fn absent(context: &Context, plan: &Plan, matrix: Matrix, grid: Grid) -> Result<Matrix, EvalError> {
    let mut cells = vec![1.0; grid.n];
    for row in matrix.rows() {
        for (cell, v) in cells.iter_mut().zip(row) {
            if is_present(*v) {
                *cell = ABSENT;
            }
        }
    }
    let mut out = Matrix::new(context, grid.n);
    if cells.iter().any(|v| is_present(*v)) {
        let matchers = match &plan.kind {
            Kind::Range(Range { of: RangeOf::Matchers { matchers, .. }, .. }) => matchers.as_slice(),
            _ => &[],
        };
        out.add(absent_labels(matchers), false)?.copy_from_slice(&cells);
    }
    Ok(out)
}
