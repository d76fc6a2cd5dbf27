//! Functions over windows. A window is a half-open range of indices into the columns of one series, and slides over
//! them with two indices that only grow; nothing is searched, and a series is dropped as soon as it is reduced.

mod counters;
mod outline;
mod over_time;
mod trend;

use model::{Columns, Labels};

use super::grid::Grid;
use super::matrix::{ABSENT, Matrix, is_present};
use super::node::{eval as eval_node, scalar};
use super::plan::{Kind, Plan, Range, RangeOf, When};
use super::select::{drop_stale, each, reach, read, select};
use super::{Context, EvalError, notes};
use crate::ast::Span;
use crate::eval::call::absent_labels;
use crate::eval::node::Val;
use outline::{Memory, Reader, Samples};

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
}

/// The windows of one grid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows<'a> {
    pub(super) grid: Grid,
    pub(super) when: When,
    pub(super) range: i64,
    /// The numbers that the function takes beside the window, one column each.
    pub(super) args: &'a [Vec<f64>],
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
        let (mut from, mut to) = (0, 0);
        for (step, cell) in cells.iter_mut().enumerate() {
            let end = self.when.of(self.grid.at(step));
            let start = end.saturating_sub(self.range);
            while to < t.len() && t[to] <= end {
                to += 1;
            }
            while from < to && t[from] <= start {
                from += 1;
            }
            if from < to {
                *cell = reduce(Window { step, from, to, end }).unwrap_or(ABSENT);
            }
        }
    }
}

/// Evaluates a function over windows.
pub(super) fn eval(
    context: &Context,
    function: RangeFn,
    plan: &Plan,
    args: &[Plan],
    grid: Grid,
) -> Result<Matrix, EvalError> {
    let Kind::Range(range) = &plan.kind else {
        return Err(EvalError::Execution("expected a range vector".to_owned()));
    };
    let numbers = args.iter().map(|arg| scalar(context, arg, grid)).collect::<Result<Vec<_>, _>>()?;
    let windows = Windows { grid, when: range.when, range: range.range, args: &numbers };
    let one = |labels: &Labels, drop_name: bool, samples: Samples<'_>, out: &mut Matrix| -> Result<(), EvalError> {
        let cells = out.add(labels.clone(), drop_name)?;
        reduce(function, &windows, samples, cells);
        if !cells.iter().any(|v| is_present(*v)) {
            out.pop();
        } else if matches!(function, RangeFn::Rate | RangeFn::Increase) {
            // Of a subquery Prometheus tells no place, which it writes as the first.
            let span = if matches!(range.of, RangeOf::Matchers(_)) { plan.span } else { Span { start: 0, end: 0 } };
            tell_non_counter(context, labels, span);
        }
        Ok(())
    };
    let matrix = match &range.of {
        RangeOf::Matchers(matchers) => {
            let reach = reach(range.when, grid, range.range);
            let series = select(context, matchers, reach)?;
            let reader = Reader::new(context, function, &windows, reach);
            let parts = each(
                context,
                &series,
                |chunk, out, memory: &mut Memory, held| {
                    for series in chunk {
                        one(&series.labels, false, reader.read(series, memory, held)?, out)?;
                    }
                    Ok(())
                },
                grid.n,
            )?;
            Matrix::concat(context, grid.n, parts)?
        }
        RangeOf::Subquery { inner, step } => {
            let mut out = Matrix::new(context, grid.n);
            if let Some((inner, inner_grid)) = subquery(context, range, inner, *step, grid)? {
                for (labels, drop_name, columns) in inner.columns(inner_grid) {
                    context.check_cancelled()?;
                    one(labels, drop_name, Samples::all(&columns), &mut out)?;
                }
            }
            out
        }
    };
    if matrix.len() > 0 {
        check_args(context, function, args, &numbers)?;
    }
    match function {
        RangeFn::Absent => absent(context, plan, matrix, grid),
        // These yield samples as they are, so they keep the name.
        RangeFn::Last | RangeFn::First => unique(context, matrix),
        _ => matrix.drop_names(context, true),
    }
}

fn unique(context: &Context, matrix: Matrix) -> Result<Matrix, EvalError> {
    if context.params.features.delayed_name_removal { Ok(matrix) } else { matrix.merge_same_labels(context) }
}

/// The samples of a range vector at one time.
pub(super) fn samples(context: &Context, range: &Range, grid: Grid) -> Result<Vec<(Labels, Columns)>, EvalError> {
    let mut all = Vec::new();
    match &range.of {
        RangeOf::Matchers(matchers) => {
            let reach = reach(range.when, grid, range.range);
            for series in select(context, matchers, reach)? {
                let mut columns = Columns::default();
                let mut held = context.hold();
                read(context, &series, reach, &mut columns, &mut held)?;
                drop_stale(&mut columns);
                context.budget.take(columns.len())?;
                context.keep(held.bytes() + size_of::<(Labels, Columns)>())?;
                all.push((series.labels, columns));
            }
        }
        RangeOf::Subquery { inner, step } => {
            if let Some((inner, inner_grid)) = subquery(context, range, inner, *step, grid)? {
                let inner = inner.drop_delayed_names(context)?;
                for (labels, _, columns) in inner.columns(inner_grid) {
                    context.keep(columns.memory() + size_of::<(Labels, Columns)>())?;
                    all.push((labels.clone(), columns));
                }
            }
        }
    }
    all.retain(|(_, columns)| !columns.is_empty());
    Ok(all)
}

/// The inner expression of a subquery at multiples of its step; nothing where no multiple falls into the range.
fn subquery(
    context: &Context,
    range: &Range,
    inner: &Plan,
    step: i64,
    grid: Grid,
) -> Result<Option<(Matrix, Grid)>, EvalError> {
    let before = range.when.of(grid.start).saturating_sub(range.range);
    let end = range.when.of(grid.end());
    let mut start = before / step * step;
    if start <= before {
        start = start.saturating_add(step);
    }
    if start > end {
        return Ok(None);
    }
    let inner_grid = Grid::between(start, end, step);
    let matrix = match eval_node(context, inner, inner_grid)? {
        Val::Vector(matrix) => matrix,
        Val::Scalar(values) => {
            let mut matrix = Matrix::new(context, inner_grid.n);
            matrix.add(Labels::empty(), false)?.copy_from_slice(&values);
            matrix
        }
        Val::Text(_) => return Err(EvalError::Execution("a subquery is over an instant vector".to_owned())),
    };
    Ok(Some((matrix, inner_grid)))
}

fn reduce(function: RangeFn, windows: &Windows, samples: Samples<'_>, cells: &mut [f64]) {
    let columns = samples.columns;
    match function {
        RangeFn::Rate => counters::extrapolated(windows, samples, cells, counters::Of::Rate),
        RangeFn::Increase => counters::extrapolated(windows, samples, cells, counters::Of::Increase),
        RangeFn::Delta => counters::extrapolated(windows, samples, cells, counters::Of::Delta),
        RangeFn::Irate => counters::last_two(windows, columns, cells, true),
        RangeFn::Idelta => counters::last_two(windows, columns, cells, false),
        RangeFn::Resets => counters::resets(windows, columns, cells),
        RangeFn::Changes => counters::changes(windows, columns, cells),
        RangeFn::Deriv => trend::deriv(windows, columns, cells),
        RangeFn::PredictLinear => trend::predict_linear(windows, columns, cells),
        RangeFn::Smooth => trend::smooth(windows, columns, cells),
        _ => over_time::reduce(function, windows, samples, cells),
    }
}

fn check_args(context: &Context, function: RangeFn, args: &[Plan], numbers: &[Vec<f64>]) -> Result<(), EvalError> {
    match (function, numbers) {
        (RangeFn::Quantile, [q]) => {
            for q in q.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
                context.notes.warn(notes::bad_quantile(*q), args[0].span);
            }
            Ok(())
        }
        (RangeFn::Smooth, [smoothing, trend]) => {
            let outside = |values: &[f64]| values.iter().copied().find(|v| *v <= 0.0 || *v >= 1.0);
            let refuse = |what: &str, short: &str, v: f64| {
                let reason = format!("invalid {what} factor. Expected: 0 < {short} < 1, got: {v:.6}");
                Err(EvalError::Execution(reason))
            };
            match (outside(smoothing), outside(trend)) {
                (Some(v), _) => refuse("smoothing", "sf", v),
                (None, Some(v)) => refuse("trend", "tf", v),
                (None, None) => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn tell_non_counter(context: &Context, labels: &Labels, span: Span) {
    let name = labels.metric_name();
    let counter = ["_total", "_sum", "_count", "_bucket"].iter().any(|end| name.ends_with(end));
    if !name.is_empty() && !counter {
        let text = format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name:?}");
        context.notes.inform(text, span);
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
            Kind::Range(Range { of: RangeOf::Matchers(matchers), .. }) => matchers.as_slice(),
            _ => &[],
        };
        out.add(absent_labels(matchers), false)?.copy_from_slice(&cells);
    }
    Ok(out)
}
