//! Operators on values of which some are native histograms.

use std::sync::Arc;

use model::ResetHint;

use super::told::{Note, Told};
use super::{element, is_comparison};
use crate::FloatHistogram;
use crate::ast::{BinaryOp, Span};
use crate::eval::matrix::{ABSENT, Cell, Matrix, is_present};
use crate::eval::notes::{self, Operation};
use crate::eval::plan::Join;
use crate::eval::{Context, EvalError};
use crate::histogram::{Incompatible, Noted};

/// Whether an operator is of histograms alone.
pub(super) fn trims(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower)
}

/// A vector that has histograms and a number; `swapped` where the number is on the left.
pub(super) fn with_numbers(
    context: &Context,
    join: &Join,
    span: Span,
    mut matrix: Matrix,
    (numbers, swapped): (&[f64], bool),
) -> Result<Matrix, EvalError> {
    let mut told = Told::default();
    // That of the operands of `or`, and of each that of labels.
    let order = |matrix: &Matrix, a: usize, b: usize| {
        (matrix.operand(a), matrix.labels(a)).cmp(&(matrix.operand(b), matrix.labels(b)))
    };
    for row in 0..matrix.len() {
        context.check_cancelled()?;
        for (step, number) in numbers.iter().enumerate() {
            let Some(value) = matrix.cell(row, step) else { continue };
            let number = Cell::Float(*number);
            let (left, right) = if swapped { (&number, &value) } else { (&value, &number) };
            let mut noted = None;
            let result = of(join, left, right, &mut |note| noted = Some(note)).unwrap_or(None);
            if let Some(note) = noted {
                told.tell(step, row, note, |other| order(&matrix, other, row).is_le());
            }
            let result = match result {
                // A comparison lets the value of the vector through, on whichever side it stands.
                Some(_) if is_comparison(join.op) && !join.return_bool => Some(value),
                other => other,
            };
            matrix.set(row, step, result.unwrap_or(Cell::Float(ABSENT)))?;
        }
    }
    told.finish(context, span);
    Ok(matrix)
}

/// Two values do not go together, which was told.
#[derive(Debug)]
pub(super) struct Mismatched;

/// The operator on two elements of vectors: nothing where a comparison does not hold.
pub(super) fn of(
    join: &Join,
    left: &Cell,
    right: &Cell,
    tell: &mut dyn FnMut(Note),
) -> Result<Option<Cell>, Mismatched> {
    let kind = |cell: &Cell| if matches!(cell, Cell::Float(_)) { "float" } else { "histogram" };
    let new = |change: &dyn Fn(&mut FloatHistogram), of: &Arc<FloatHistogram>| {
        let mut histogram = FloatHistogram::clone(of);
        change(&mut histogram);
        Ok(Some(Cell::Histogram(Arc::new(histogram))))
    };
    match (left, join.op, right) {
        (Cell::Float(a), op, Cell::Float(b)) if !trims(op) => {
            let v = element(op, join.return_bool)(*a, *b);
            return Ok(is_present(v).then_some(Cell::Float(v)));
        }
        (Cell::Histogram(histogram), BinaryOp::Mul, Cell::Float(factor))
        | (Cell::Float(factor), BinaryOp::Mul, Cell::Histogram(histogram)) => {
            return new(&|histogram| (histogram.multiply(*factor), histogram.compact()).1, histogram);
        }
        (Cell::Histogram(histogram), BinaryOp::Div, Cell::Float(by)) => {
            return new(&|histogram| (histogram.divide(*by), histogram.compact()).1, histogram);
        }
        (Cell::Histogram(histogram), op, Cell::Float(at)) if trims(op) => {
            return new(&|histogram| histogram.trim(*at, op == BinaryOp::TrimUpper), histogram);
        }
        (Cell::Histogram(a), op @ (BinaryOp::Equal | BinaryOp::NotEqual), Cell::Histogram(b)) => {
            let holds = a.equals(b) == (op == BinaryOp::Equal);
            return Ok(match join.return_bool {
                true => Some(Cell::Float(f64::from(holds))),
                false => holds.then(|| left.clone()),
            });
        }
        (Cell::Histogram(a), op @ (BinaryOp::Add | BinaryOp::Sub), Cell::Histogram(b)) => {
            return joined(op, a, b, tell);
        }
        _ => {}
    }
    tell(Note::Info(notes::mismatched_kinds(kind(left), join.op.as_str(), kind(right))));
    Err(Mismatched)
}

fn joined(
    op: BinaryOp,
    a: &FloatHistogram,
    b: &FloatHistogram,
    tell: &mut dyn FnMut(Note),
) -> Result<Option<Cell>, Mismatched> {
    let mut histogram = a.clone();
    let (operation, done) = match op {
        BinaryOp::Add => (Operation::Addition, histogram.add(b)),
        _ => (Operation::Subtraction, histogram.subtract(b)),
    };
    let Noted { collision, reconciled } = match done {
        Ok(noted) => noted,
        Err(Incompatible) => {
            tell(Note::Warning(notes::mismatched_layouts(op.as_str())));
            return Err(Mismatched);
        }
    };
    if op == BinaryOp::Sub {
        histogram.hint = ResetHint::Gauge;
    }
    if collision {
        // As in Prometheus, which takes the warning for a failure.
        tell(Note::Warning(notes::collision(operation)));
        return Err(Mismatched);
    }
    if reconciled {
        tell(Note::Info(notes::reconciled(operation)));
    }
    histogram.compact();
    Ok(Some(Cell::Histogram(Arc::new(histogram))))
}
