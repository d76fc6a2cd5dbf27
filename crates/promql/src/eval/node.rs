//! From a plan and a grid to values: the walk over the expression.

use model::{Columns, Labels, Sample};

use super::grid::Grid;
use super::matrix::{Cell, Matrix};
use super::plan::{Kind, Plan};
use super::{Context, Element, EvalError, Point, Text, Value, aggregate, binary, call, range, select, shared};
use crate::ast::ValueType;

/// The value of a part of the expression over a grid.
#[derive(Debug)]
pub(super) enum Val {
    /// One number a step.
    Scalar(Vec<f64>),
    /// Series.
    Vector(Matrix),
    /// A text.
    Text(String),
}

/// Evaluates the whole expression to what the caller sees.
pub(super) fn finish(context: &Context, plan: &Plan, grid: Grid, instant: bool) -> Result<Value, EvalError> {
    if let Kind::Range(range) = &plan.kind {
        if !instant {
            return Err(not_over_range("range vector"));
        }
        let samples = context.measured(plan, || range::samples(context, range, grid))?;
        return Ok(Value::Matrix(sorted(samples)));
    }
    let matrix = match eval(context, plan, grid)? {
        Val::Text(_) if !instant => return Err(not_over_range("string")),
        Val::Text(text) => return Ok(Value::String(Text { t: grid.start, text })),
        Val::Scalar(values) if instant => return Ok(Value::Scalar(Sample { t: grid.start, v: values[0] })),
        Val::Scalar(values) => {
            let mut matrix = Matrix::new(context, grid.n);
            matrix.add(Labels::empty(), false)?.copy_from_slice(&values);
            matrix
        }
        Val::Vector(matrix) => matrix.drop_delayed_names(context, grid)?,
    };
    if instant {
        context.keep(matrix.len() * size_of::<(Labels, Point)>())?;
        let row = |row: usize| {
            let v = match matrix.cell(row, 0)? {
                Cell::Float(v) => Element::Float(v),
                Cell::Histogram(histogram) => Element::Histogram(histogram),
            };
            Some((matrix.labels(row).clone(), Point { t: grid.start, v }))
        };
        return Ok(Value::Vector((0..matrix.len()).filter_map(row).collect()));
    }
    let mut series = Vec::new();
    for (labels, _, columns) in matrix.columns(grid).filter(|(_, _, columns)| !columns.is_empty()) {
        context.keep(columns.memory() + size_of::<(Labels, Columns)>())?;
        series.push((labels.clone(), columns));
    }
    Ok(Value::Matrix(sorted(series)))
}

fn sorted<T>(mut series: Vec<(Labels, T)>) -> Vec<(Labels, T)> {
    series.sort_by(|a, b| a.0.cmp(&b.0));
    series
}

fn not_over_range(name: &str) -> EvalError {
    let reason = format!("invalid expression type {name:?} for range query, must be Scalar or instant Vector");
    EvalError::Execution(reason)
}

/// Evaluates a part of the expression; one that is the same at every step, at the first of them.
pub(super) fn eval(context: &Context, plan: &Plan, grid: Grid) -> Result<Val, EvalError> {
    context.check_cancelled()?;
    context.budget.allows(grid.n)?;
    context.measured(plan, || shared::eval(context, plan, grid))
}

/// As [`eval`], whether or not the same part was evaluated before.
pub(super) fn at_steps(context: &Context, plan: &Plan, grid: Grid) -> Result<Val, EvalError> {
    let steps = steps_of(plan, grid);
    if steps.n == grid.n {
        return step_by_step(context, plan, steps);
    }
    Ok(match step_by_step(context, plan, steps)? {
        Val::Scalar(values) => Val::Scalar(vec![values[0]; grid.n]),
        Val::Vector(matrix) => Val::Vector(matrix.spread(context, grid.n)?),
        Val::Text(text) => Val::Text(text),
    })
}

/// The times at which a part is evaluated: the first alone where its value is the same at all of them, and then as one that was not asked for as a range.
pub(super) fn steps_of(plan: &Plan, grid: Grid) -> Grid {
    let constant = matches!(plan.kind, Kind::Number(_) | Kind::Text(_));
    if !plan.invariant || constant { grid } else { grid.first() }
}

fn step_by_step(context: &Context, plan: &Plan, grid: Grid) -> Result<Val, EvalError> {
    match &plan.kind {
        Kind::Number(v) => Ok(Val::Scalar(vec![*v; grid.n])),
        Kind::Text(text) => Ok(Val::Text(text.clone())),
        Kind::Select(selector) => Ok(Val::Vector(select::values(context, selector, grid)?)),
        Kind::Range(_) => Err(EvalError::Execution("a range vector is only an argument of a function".to_owned())),
        Kind::Plus(inner) => eval(context, inner, grid),
        Kind::Negate(inner) => match eval(context, inner, grid)? {
            Val::Vector(matrix) => Ok(Val::Vector(call::negate(context, matrix)?)),
            Val::Scalar(values) => Ok(Val::Scalar(values.into_iter().map(|v| -v).collect())),
            Val::Text(text) => Ok(Val::Text(text)),
        },
        Kind::Map(function, inner) => Ok(Val::Vector(call::map(context, vector(context, inner, grid)?, function)?)),
        Kind::Join(join) => binary::eval(context, join, plan.span, grid),
        Kind::Group(group) => Ok(Val::Vector(aggregate::eval(context, group, plan.span, grid)?)),
        Kind::Instant(function, args) => call::eval(context, *function, args, plan.span, grid),
        Kind::Window { .. } => {
            let job = range::Job::of(plan).ok_or_else(|| EvalError::Execution("expected a range vector".to_owned()))?;
            Ok(Val::Vector(range::eval(context, job, grid)?))
        }
    }
}

/// Evaluates a part that is an instant vector.
pub(super) fn vector(context: &Context, plan: &Plan, grid: Grid) -> Result<Matrix, EvalError> {
    match eval(context, plan, grid)? {
        Val::Vector(matrix) => Ok(matrix),
        Val::Scalar(_) | Val::Text(_) => Err(mistyped(plan, ValueType::InstantVector)),
    }
}

/// Evaluates a part that is a number.
pub(super) fn scalar(context: &Context, plan: &Plan, grid: Grid) -> Result<Vec<f64>, EvalError> {
    match eval(context, plan, grid)? {
        Val::Scalar(values) => Ok(values),
        Val::Vector(_) | Val::Text(_) => Err(mistyped(plan, ValueType::Scalar)),
    }
}

/// The text of a part that is one.
pub(super) fn text(plan: &Plan) -> Result<&str, EvalError> {
    match &plan.kind {
        Kind::Text(text) => Ok(text),
        _ => Err(mistyped(plan, ValueType::String)),
    }
}

// The parser checks types, so this is not reached by what it yields.
fn mistyped(plan: &Plan, expected: ValueType) -> EvalError {
    EvalError::Execution(format!("expected {expected:?} at byte {}, got {:?}", plan.span.start, plan.value))
}
