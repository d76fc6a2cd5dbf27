//! Functions of instant vectors and numbers.

pub(super) mod dates;
mod histogram;
pub(super) mod info;
mod relabel;
mod sort;

use model::{Labels, METRIC_NAME, MatchOp, Matcher};

use super::grid::Grid;
use super::matrix::{ABSENT, Matrix, is_float, is_present};
use super::node::{Val, eval as eval_node, scalar, vector};
use super::plan::{Kind, Plan, go_max, go_min};
use super::{Context, EvalError, select};
use crate::FloatHistogram;
use crate::ast::Span;

/// The functions of instant vectors and numbers that are more than a function of each value.
#[derive(Debug, Clone, Copy)]
pub(super) enum InstantFn {
    Clamp,
    ClampMin,
    ClampMax,
    Round,
    Scalar,
    Vector,
    Time,
    Timestamp,
    StartTimestamp,
    Info,
    MaxOf,
    MinOf,
    Date(dates::Part),
    Absent,
    Sort {
        descending: bool,
    },
    SortByLabel {
        descending: bool,
    },
    LabelReplace,
    LabelJoin,
    HistogramQuantile,
    HistogramQuantiles,
    HistogramFraction,
    /// A number of a native histogram.
    OfHistogram(fn(&FloatHistogram) -> f64),
}

/// Applies a function to every value that is a float; the others go.
pub(super) fn map(context: &Context, matrix: Matrix, f: impl Fn(f64) -> f64) -> Result<Matrix, EvalError> {
    let mut matrix = matrix.floats();
    matrix.cells_mut().iter_mut().filter(|v| is_present(**v)).for_each(|v| *v = f(*v));
    matrix.drop_names(context, false)
}

/// Changes the sign of every value.
pub(super) fn negate(context: &Context, matrix: Matrix) -> Result<Matrix, EvalError> {
    let mut matrix = matrix;
    matrix.cells_mut().iter_mut().filter(|v| is_float(**v)).for_each(|v| *v = -*v);
    matrix.change_histograms(|histogram| histogram.multiply(-1.0));
    matrix.drop_names(context, false)
}

/// As [`map`], with the number of its step; absent results are allowed.
fn map_steps(context: &Context, matrix: Matrix, f: impl Fn(usize, f64) -> f64) -> Result<Matrix, EvalError> {
    let mut matrix = matrix.floats();
    let n = matrix.steps();
    for row in matrix.cells_mut().chunks_exact_mut(n) {
        row.iter_mut().enumerate().filter(|(_, v)| is_present(**v)).for_each(|(k, v)| *v = f(k, *v));
    }
    matrix.drop_names(context, false)
}

/// Evaluates a call.
pub(super) fn eval(
    context: &Context,
    function: InstantFn,
    args: &[Plan],
    span: Span,
    grid: Grid,
) -> Result<Val, EvalError> {
    let number = |at: usize| scalar(context, &args[at], grid);
    let series = |at: usize| vector(context, &args[at], grid);
    Ok(match function {
        InstantFn::Time => Val::Scalar(grid.times().map(|t| t as f64 / 1000.0).collect()),
        InstantFn::MaxOf => Val::Scalar(number(0)?.into_iter().zip(number(1)?).map(|(a, b)| go_max(a, b)).collect()),
        InstantFn::MinOf => Val::Scalar(number(0)?.into_iter().zip(number(1)?).map(|(a, b)| go_min(a, b)).collect()),
        InstantFn::Scalar => Val::Scalar(only(&series(0)?)),
        InstantFn::Vector => {
            let mut out = Matrix::new(context, grid.n);
            out.add(Labels::empty(), false)?.copy_from_slice(&number(0)?);
            Val::Vector(out)
        }
        InstantFn::Clamp => clamp(context, series(0)?, &number(1)?, &number(2)?)?,
        InstantFn::ClampMin => clamp(context, series(0)?, &number(1)?, &vec![f64::INFINITY; grid.n])?,
        InstantFn::ClampMax => clamp(context, series(0)?, &vec![f64::NEG_INFINITY; grid.n], &number(1)?)?,
        InstantFn::Round => {
            let to = if args.len() > 1 { number(1)? } else { vec![1.0; grid.n] };
            // Divided by and multiplied with the inverse, as that is nearer to the decimal numbers people mean.
            let inverse: Vec<f64> = to.into_iter().map(|to| 1.0 / to).collect();
            Val::Vector(map_steps(context, series(0)?, |k, v| (v * inverse[k] + 0.5).floor() / inverse[k])?)
        }
        InstantFn::Timestamp => Val::Vector(timestamp(context, &args[0], grid)?),
        InstantFn::StartTimestamp => Val::Vector(start_timestamp(context, &args[0], grid)?),
        InstantFn::Info => Val::Vector(info::eval(context, args, grid)?),
        InstantFn::Date(part) if args.is_empty() => {
            let mut out = Matrix::new(context, grid.n);
            let cells = out.add(Labels::empty(), false)?;
            cells.iter_mut().zip(grid.times()).for_each(|(cell, t)| *cell = part.of(t / 1000));
            Val::Vector(out)
        }
        InstantFn::Date(part) => Val::Vector(map(context, series(0)?, |v| part.of(v as i64))?),
        InstantFn::Absent => Val::Vector(absent(context, &args[0], grid)?),
        InstantFn::Sort { descending } => {
            let matrix = series(0)?;
            sort::tell(context, grid, span);
            Val::Vector(sort::by_value(context, matrix, descending)?)
        }
        InstantFn::SortByLabel { descending } => {
            let matrix = series(0)?;
            sort::tell(context, grid, span);
            Val::Vector(sort::by_label(context, matrix, &args[1..], descending)?)
        }
        InstantFn::LabelReplace => Val::Vector(relabel::replace(context, args, grid)?),
        InstantFn::LabelJoin => Val::Vector(relabel::join(context, args, grid)?),
        InstantFn::HistogramQuantile => Val::Vector(histogram::quantile(context, args, grid)?),
        InstantFn::HistogramQuantiles => Val::Vector(histogram::quantiles(context, args, grid)?),
        InstantFn::HistogramFraction => Val::Vector(histogram::fraction(context, args, grid)?),
        InstantFn::OfHistogram(f) => Val::Vector(series(0)?.map_histograms(f).drop_names(context, false)?),
    })
}

fn clamp(context: &Context, matrix: Matrix, min: &[f64], max: &[f64]) -> Result<Val, EvalError> {
    let clamp = |k: usize, v: f64| if max[k] < min[k] { ABSENT } else { go_max(min[k], go_min(max[k], v)) };
    Ok(Val::Vector(map_steps(context, matrix, clamp)?))
}

/// The value of the only series at each step, NaN where there is none or are several.
fn only(matrix: &Matrix) -> Vec<f64> {
    let mut values = vec![f64::NAN; matrix.steps()];
    let mut seen = vec![false; matrix.steps()];
    for row in matrix.rows() {
        for (k, v) in row.iter().enumerate().filter(|(_, v)| is_float(**v)) {
            values[k] = if seen[k] { f64::NAN } else { *v };
            seen[k] = true;
        }
    }
    values
}

/// The times of the samples of a selector; of any other vector, the times of evaluation.
fn timestamp(context: &Context, arg: &Plan, grid: Grid) -> Result<Matrix, EvalError> {
    if let Kind::Select(selector) = &arg.kind {
        let times = context.measured(arg, || select::times(context, selector, grid))?;
        return times.drop_names(context, false);
    }
    // Of histograms as of floats.
    let matrix = vector(context, arg, grid)?.all_as_floats();
    map_steps(context, matrix, |k, _| grid.at(k) as f64 / 1000.0)
}

/// When the counting of the samples of a selector began; of any other vector that is not known.
fn start_timestamp(context: &Context, arg: &Plan, grid: Grid) -> Result<Matrix, EvalError> {
    match &arg.kind {
        Kind::Select(selector) if context.params.features.use_start_timestamps => {
            let starts = context.measured(arg, || select::starts(context, selector, grid))?;
            starts.drop_names(context, false)
        }
        _ => {
            // For what it has to tell.
            eval_node(context, arg, grid)?;
            Ok(Matrix::new(context, grid.n))
        }
    }
}

/// One series with 1 at each step at which there is no value.
fn absent(context: &Context, arg: &Plan, grid: Grid) -> Result<Matrix, EvalError> {
    let Val::Vector(matrix) = eval_node(context, arg, grid)? else {
        return Err(EvalError::Execution("absent is of an instant vector".to_owned()));
    };
    let mut cells = vec![1.0; grid.n];
    for row in matrix.rows() {
        cells.iter_mut().zip(row).filter(|(_, v)| is_present(**v)).for_each(|(cell, _)| *cell = ABSENT);
    }
    let mut out = Matrix::new(context, grid.n);
    if cells.iter().any(|v| is_present(*v)) {
        let matchers = match &arg.kind {
            Kind::Select(selector) => selector.matchers.as_slice(),
            _ => &[],
        };
        out.add(absent_labels(matchers), false)?.copy_from_slice(&cells);
    }
    Ok(out)
}

/// The labels that matchers fix, but for the metric's name. A second matcher of a label unfixes it, except an equality
/// that comes after others.
pub(super) fn absent_labels(matchers: &[Matcher]) -> Labels {
    let (mut labels, mut seen) = (Labels::empty(), Vec::new());
    for matcher in matchers.iter().filter(|m| m.name != METRIC_NAME) {
        let first = matcher.op == MatchOp::Equal && !seen.contains(&matcher.name.as_str());
        if first {
            seen.push(&matcher.name);
        }
        labels = labels.with(&matcher.name, if first { &matcher.value } else { "" });
    }
    labels
}
