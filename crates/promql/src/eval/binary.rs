//! Binary operators. Which series meet is found once, by the key of their matching labels; a step only asks which of
//! them have a value.

mod earliest;
mod histograms;
mod join;
mod sets;
mod told;

use super::grid::Grid;
use super::matrix::{ABSENT, Matrix, is_present};
use super::node::{Val, scalar, vector};
use super::plan::Join;
use super::{Context, EvalError};
use crate::ast::{BinaryOp, Span, ValueType};

/// Evaluates a binary operation.
pub(super) fn eval(context: &Context, join: &Join, span: Span, grid: Grid) -> Result<Val, EvalError> {
    match (join.left.value, join.right.value) {
        (ValueType::Scalar, ValueType::Scalar) => {
            let (left, right) = (scalar(context, &join.left, grid)?, scalar(context, &join.right, grid)?);
            let f = number(join.op);
            Ok(Val::Scalar(left.into_iter().zip(right).map(|(a, b)| f(a, b)).collect()))
        }
        (ValueType::InstantVector, ValueType::InstantVector) => {
            let (left, right) = (vector(context, &join.left, grid)?, vector(context, &join.right, grid)?);
            Ok(Val::Vector(match join.op {
                BinaryOp::And | BinaryOp::Unless => sets::eval(context, join, &left, &right)?,
                BinaryOp::Or => sets::eval(context, join, &left, &right)?.merge_of_steps(context, grid)?,
                _ => join::eval(context, join, span, &left, &right)?.merge_of_steps(context, grid)?,
            }))
        }
        (ValueType::InstantVector, _) => {
            let (left, right) = (vector(context, &join.left, grid)?, scalar(context, &join.right, grid)?);
            Ok(Val::Vector(with_numbers(context, join, span, left, (&right, false))?))
        }
        (_, ValueType::InstantVector) => {
            let (left, right) = (scalar(context, &join.left, grid)?, vector(context, &join.right, grid)?);
            Ok(Val::Vector(with_numbers(context, join, span, right, (&left, true))?))
        }
        _ => Err(EvalError::Execution("binary operators take numbers and instant vectors".to_owned())),
    }
}

/// A vector and a number; `swapped` where the number is on the left.
fn with_numbers(
    context: &Context,
    join: &Join,
    span: Span,
    matrix: Matrix,
    (numbers, swapped): (&[f64], bool),
) -> Result<Matrix, EvalError> {
    let mut matrix = matrix;
    let n = matrix.steps();
    if matrix.has_histograms() || histograms::trims(join.op) {
        matrix = histograms::with_numbers(context, join, span, matrix, (numbers, swapped))?;
        let renamed = join.return_bool || changes_metric(join.op);
        return if renamed { matrix.drop_names(context, false) } else { Ok(matrix) };
    }
    let f = element(join.op, join.return_bool);
    let compares = is_comparison(join.op) && !join.return_bool;
    for row in matrix.cells_mut().chunks_exact_mut(n) {
        for (v, number) in row.iter_mut().zip(numbers).filter(|(v, _)| is_present(**v)) {
            let value = if swapped { f(*number, *v) } else { f(*v, *number) };
            // A comparison lets the value of the vector through, on whichever side it stands.
            *v = if compares && is_present(value) { *v } else { value };
        }
    }
    if join.return_bool || changes_metric(join.op) { matrix.drop_names(context, false) } else { Ok(matrix) }
}

/// Whether an operator yields a part of its operands, or nothing.
fn is_comparison(op: BinaryOp) -> bool {
    use BinaryOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
    matches!(op, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
}

/// Whether the result is another metric than the operands.
fn changes_metric(op: BinaryOp) -> bool {
    use BinaryOp::{Add, Atan2, Div, Mod, Mul, Pow, Sub};
    matches!(op, Add | Sub | Mul | Div | Mod | Pow | Atan2)
}

/// The operator on two numbers; comparisons yield 1 and 0.
fn number(op: BinaryOp) -> fn(f64, f64) -> f64 {
    match op {
        BinaryOp::Add => |a, b| a + b,
        BinaryOp::Sub => |a, b| a - b,
        BinaryOp::Mul => |a, b| a * b,
        BinaryOp::Div => |a, b| a / b,
        BinaryOp::Mod => |a, b| a % b,
        BinaryOp::Pow => f64::powf,
        BinaryOp::Atan2 => f64::atan2,
        BinaryOp::Equal => |a, b| f64::from(a == b),
        BinaryOp::NotEqual => |a, b| f64::from(a != b),
        BinaryOp::Less => |a, b| f64::from(a < b),
        BinaryOp::LessEqual => |a, b| f64::from(a <= b),
        BinaryOp::Greater => |a, b| f64::from(a > b),
        BinaryOp::GreaterEqual => |a, b| f64::from(a >= b),
        // Set operators are between vectors, and trimming is of histograms.
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::TrimUpper | BinaryOp::TrimLower => |_, _| ABSENT,
    }
}

/// The operator on two elements of vectors: comparisons without `bool` yield the left one or nothing.
fn element(op: BinaryOp, return_bool: bool) -> fn(f64, f64) -> f64 {
    if return_bool {
        return number(op);
    }
    match op {
        BinaryOp::Equal => |a, b| if a == b { a } else { ABSENT },
        BinaryOp::NotEqual => |a, b| if a != b { a } else { ABSENT },
        BinaryOp::Less => |a, b| if a < b { a } else { ABSENT },
        BinaryOp::LessEqual => |a, b| if a <= b { a } else { ABSENT },
        BinaryOp::Greater => |a, b| if a > b { a } else { ABSENT },
        BinaryOp::GreaterEqual => |a, b| if a >= b { a } else { ABSENT },
        _ => number(op),
    }
}
