//! `and`, `or` and `unless`: series of one side, at the steps at which the other side has some or none of their key.

use crate::ast::BinaryOp;
use crate::eval::labels::{Key, Numbering};
use crate::eval::matrix::{Matrix, is_present};
use crate::eval::plan::Join;
use crate::eval::{Context, EvalError};

/// Evaluates a set operator.
pub(super) fn eval(context: &Context, join: &Join, left: &Matrix, right: &Matrix) -> Result<Matrix, EvalError> {
    let matching = &join.matching;
    let key = if matching.on { Key::of(&matching.labels) } else { Key::without(&matching.labels) };
    let mut numbers = Numbering::default();
    let mut number = |matrix: &Matrix| -> Vec<usize> {
        (0..matrix.len()).map(|row| numbers.number(&key, matrix.labels(row).as_ref())).collect()
    };
    let (left_keys, right_keys) = (number(left), number(right));
    let mut out = Matrix::new(context, left.steps());
    match join.op {
        BinaryOp::Or => {
            let present = Present::of(left, &left_keys, numbers.len());
            copy(context, left, &mut out, |_, _| true)?;
            out.begin_operand();
            copy(context, right, &mut out, |row, step| !present.at(right_keys[row], step))?;
        }
        op => {
            let present = Present::of(right, &right_keys, numbers.len());
            let wanted = op == BinaryOp::And;
            copy(context, left, &mut out, |row, step| present.at(left_keys[row], step) == wanted)?;
        }
    }
    Ok(out)
}

/// At which steps a key has a value.
struct Present {
    steps: usize,
    bits: Vec<bool>,
}

impl Present {
    fn of(matrix: &Matrix, keys: &[usize], count: usize) -> Self {
        let steps = matrix.steps();
        let mut bits = vec![false; count * steps];
        for (row, key) in matrix.rows().zip(keys) {
            for (bit, v) in bits[key * steps..].iter_mut().zip(row) {
                *bit |= is_present(*v);
            }
        }
        Present { steps, bits }
    }

    fn at(&self, key: usize, step: usize) -> bool {
        self.bits[key * self.steps + step]
    }
}

fn copy(
    context: &Context,
    from: &Matrix,
    out: &mut Matrix,
    wanted: impl Fn(usize, usize) -> bool,
) -> Result<(), EvalError> {
    for row in 0..from.len() {
        context.check_cancelled()?;
        if row > 0 && from.operand(row) != from.operand(row - 1) {
            out.begin_operand();
        }
        out.add(from.labels(row).clone(), from.drop_name(row))?;
        let any = out.copy(out.len() - 1, from, row, |step| wanted(row, step))?;
        if !any {
            out.pop();
        }
    }
    Ok(())
}
