//! Aggregations. A group is found once a series; then each group is worked out by itself, on any thread of the pool,
//! its series always in the same order, since sums depend on it.

pub(super) mod count;
mod histograms;
mod pick;
mod sums;

use model::Labels;
use rayon::prelude::*;

use super::format::{general, plain};
use super::grid::Grid;
use super::kahan::{Mean, Sum};
use super::labels::{Key, Numbering};
use super::matrix::{ABSENT, Matrix, is_present};
use super::node::{scalar, text, vector};
use super::notes::bad_quantile;
use super::plan::{Group, Plan};
use super::quantile::quantile;
use super::{Context, EvalError};
use crate::ast::{AggregateOp, Span};
use crate::printer::quote;
use crate::raw;

/// Evaluates an aggregation.
pub(super) fn eval(context: &Context, group: &Group, span: Span, grid: Grid) -> Result<Matrix, EvalError> {
    if group.op == AggregateOp::CountValues {
        return count_values(context, group, grid);
    }
    if let Some(counted) = count::by_index(context, group, grid)? {
        return Ok(counted);
    }
    let param = match &group.param {
        Some(param) => scalar(context, param, grid)?,
        None => Vec::new(),
    };
    let matrix = vector(context, &group.inner, grid)?;
    let key = if group.without { Key::without(&group.grouping) } else { Key::of(&group.grouping) };
    let members = members(&matrix, &key);
    match group.op {
        AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK => {
            pick::k(context, group.op, &matrix, &members, &param, span)
        }
        AggregateOp::LimitRatio => pick::ratio(context, &matrix, &param, param_span(group)),
        _ => {
            if group.op == AggregateOp::Quantile {
                warn_of_bad_quantile(context, group, &param);
            }
            reduce(context, group, &matrix, &members, &key, &param)
        }
    }
}

fn param_span(group: &Group) -> Span {
    group.param.as_deref().map_or_else(Span::default, |param: &Plan| param.span)
}

/// The series of each group, in order.
fn members(matrix: &Matrix, key: &Key) -> Vec<Vec<usize>> {
    let mut numbers = Numbering::default();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for row in 0..matrix.len() {
        let number = numbers.number(key, matrix.labels(row).as_ref());
        if number == members.len() {
            members.push(Vec::new());
        }
        members[number].push(row);
    }
    members
}

fn warn_of_bad_quantile(context: &Context, group: &Group, param: &[f64]) {
    let (low, high) = bounds(param);
    let span = param_span(group);
    if param.iter().any(|q| q.is_nan()) {
        context.notes.warn(bad_quantile(f64::NAN), span);
    }
    if high > 1.0 {
        context.notes.warn(bad_quantile(high), span);
    }
    if low < 0.0 {
        context.notes.warn(bad_quantile(low), span);
    }
}

/// The least and the greatest number.
fn bounds(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| {
        (if *v < low { *v } else { low }, if *v > high { *v } else { high })
    })
}

/// The aggregations that make one series of each group.
fn reduce(
    context: &Context,
    group: &Group,
    matrix: &Matrix,
    members: &[Vec<usize>],
    key: &Key,
    param: &[f64],
) -> Result<Matrix, EvalError> {
    context.count_tasks(members.len());
    let parts = members
        .par_iter()
        .map(|rows| {
            context.check_cancelled()?;
            let mut out = Matrix::new(context, matrix.steps());
            let drop_name = rows.iter().any(|row| matrix.drop_name(*row));
            let cells = out.add(key.labels(matrix.labels(rows[0]).as_ref()), drop_name)?;
            if matrix.has_histograms() {
                histograms::reduce(context, group, matrix, rows, param, &mut out)?;
            } else {
                reduce_group(group.op, matrix, rows, param, cells);
            }
            if !out.row(0).iter().any(|v| is_present(*v)) {
                out.pop();
            }
            Ok(out)
        })
        .collect::<Result<Vec<_>, EvalError>>()?;
    Matrix::concat(context, matrix.steps(), parts)
}

fn reduce_group(op: AggregateOp, matrix: &Matrix, rows: &[usize], param: &[f64], cells: &mut [f64]) {
    let all = || rows.iter().map(|row| matrix.row(*row));
    match op {
        // Few steps are too few to be worked on together.
        AggregateOp::Sum if cells.len() < sums::STEPS_MIN => fold(matrix, rows, cells, Sum::at, Sum::add, Sum::total),
        AggregateOp::Sum => sums::sum(all(), cells),
        AggregateOp::Avg if cells.len() >= sums::STEPS_MIN && sums::mean(all(), cells) => {}
        AggregateOp::Avg => {
            let add = |mut mean: Mean, v| {
                mean.add(v);
                mean
            };
            fold(matrix, rows, cells, Mean::at, add, Mean::value);
        }
        AggregateOp::Min => {
            fold(matrix, rows, cells, |v| v, |min, v| if min > v || min.is_nan() { v } else { min }, |v| v);
        }
        AggregateOp::Max => {
            fold(matrix, rows, cells, |v| v, |max, v| if max < v || max.is_nan() { v } else { max }, |v| v);
        }
        AggregateOp::Count => fold(matrix, rows, cells, |_| 1.0, |count, _| count + 1.0, |v| v),
        AggregateOp::Stdvar => fold(matrix, rows, cells, Variance::at, Variance::add, Variance::value),
        AggregateOp::Stddev => fold(matrix, rows, cells, Variance::at, Variance::add, |v| v.value().sqrt()),
        AggregateOp::Quantile => {
            let mut values = Vec::with_capacity(rows.len());
            for (k, cell) in cells.iter_mut().enumerate() {
                values.clear();
                values.extend(rows.iter().map(|row| matrix.row(*row)[k]).filter(|v| is_present(*v)));
                if !values.is_empty() {
                    *cell = quantile(param[k], &mut values);
                }
            }
        }
        // `group`; the others make more than one series.
        _ => fold(matrix, rows, cells, |_| 1.0, |one, _| one, |v| v),
    }
}

/// Runs over the series of a group one after the other, all steps of each.
fn fold<S: Copy>(
    matrix: &Matrix,
    rows: &[usize],
    cells: &mut [f64],
    first: impl Fn(f64) -> S,
    add: impl Fn(S, f64) -> S,
    value: impl Fn(S) -> f64,
) {
    let mut states: Vec<Option<S>> = vec![None; cells.len()];
    for row in rows {
        for (state, v) in states.iter_mut().zip(matrix.row(*row)).filter(|(_, v)| is_present(**v)) {
            *state = Some(match *state {
                Some(state) => add(state, *v),
                None => first(*v),
            });
        }
    }
    for (cell, state) in cells.iter_mut().zip(states) {
        *cell = state.map_or(ABSENT, &value);
    }
}

/// Welford's running variance, without compensation, as Prometheus has it over series.
#[derive(Debug, Clone, Copy)]
struct Variance {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Variance {
    fn at(v: f64) -> Self {
        Variance { count: 1.0, mean: v, squares: if v.is_finite() { 0.0 } else { f64::NAN } }
    }

    fn add(self, v: f64) -> Self {
        let count = self.count + 1.0;
        let delta = v - self.mean;
        let mean = self.mean + delta / count;
        Variance { count, mean, squares: self.squares + delta * (v - mean) }
    }

    fn value(self) -> f64 {
        self.squares / self.count
    }
}

/// `count_values("label", v)`: one series for each value of each group.
fn count_values(context: &Context, group: &Group, grid: Grid) -> Result<Matrix, EvalError> {
    let label = match &group.param {
        Some(param) => text(param)?,
        None => "",
    };
    if label.is_empty() || raw::is_in(label) {
        return Err(EvalError::Execution(format!("invalid label name {}", quote(label))));
    }
    let matrix = vector(context, &group.inner, grid)?;
    let key = if group.without {
        Key::without(&group.grouping)
    } else {
        Key::of(&[group.grouping.as_slice(), &[label.to_owned()]].concat())
    };
    let mut out = Matrix::new(context, grid.n);
    let mut numbers = Numbering::default();
    for row in 0..matrix.len() {
        context.check_cancelled()?;
        let mut before: Option<(u64, usize)> = None;
        for (k, v) in matrix.row(row).iter().enumerate().filter(|(_, v)| is_present(**v)) {
            let histogram = matrix.histogram(row, k);
            let number = match before {
                Some((bits, number)) if bits == v.to_bits() && histogram.is_none() => number,
                _ => {
                    let text = histogram.map_or_else(|| plain(*v), ToString::to_string);
                    let labels: Labels = matrix.labels(row).with(label, &text);
                    let number = numbers.number(&key, labels.as_ref());
                    if number == out.len() {
                        out.add(key.labels(labels.as_ref()), false)?.fill(ABSENT);
                    }
                    number
                }
            };
            before = Some((v.to_bits(), number));
            let cell = &mut out.cells_mut()[number * grid.n + k];
            *cell = if is_present(*cell) { *cell + 1.0 } else { 1.0 };
        }
    }
    // Values with the same text, such as the NaNs, are one; grouping may make series of different groups the same.
    out.merge_of_steps(context, grid)
}

/// The error of a parameter that does not fit into 64 bits.
fn out_of_int64(v: f64) -> EvalError {
    let how = if v < 0.0 { "underflows" } else { "overflows" };
    EvalError::Execution(format!("Scalar value {} {how} int64", general(v)))
}
