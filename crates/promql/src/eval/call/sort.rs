//! The order of an instant vector. Over a range it means nothing, since the series of a matrix are ordered by labels.

use std::cmp::Ordering;

use crate::ast::Span;
use crate::eval::grid::Grid;
use crate::eval::matrix::{Matrix, is_present};
use crate::eval::node::text;
use crate::eval::plan::Plan;
use crate::eval::{Context, EvalError};

/// `sort` and `sort_desc`; NaN is last in both.
pub(super) fn by_value(context: &Context, matrix: Matrix, descending: bool) -> Result<Matrix, EvalError> {
    let matrix = matrix.floats();
    if matrix.steps() > 1 {
        return Ok(matrix);
    }
    let value = |row: &usize| matrix.row(*row)[0];
    let mut order: Vec<usize> = (0..matrix.len()).filter(|row| is_present(value(row))).collect();
    order.sort_by(|a, b| {
        let (a, b) = (value(a), value(b));
        let (first, second) = if descending { (b, a) } else { (a, b) };
        first.partial_cmp(&second).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
    });
    matrix.pick(context, &order)
}

/// `sort_by_label` and `sort_by_label_desc`: digits in values count as numbers.
pub(super) fn by_label(
    context: &Context,
    matrix: Matrix,
    names: &[Plan],
    descending: bool,
) -> Result<Matrix, EvalError> {
    if matrix.steps() > 1 {
        return Ok(matrix);
    }
    let names = names.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let mut order: Vec<usize> = (0..matrix.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (matrix.labels(*a), matrix.labels(*b));
        let by_names = names.iter().map(|name| natural(a.get(name).unwrap_or(""), b.get(name).unwrap_or("")));
        let ordering = by_names.fold(Ordering::Equal, Ordering::then).then_with(|| a.cmp(b));
        if descending { ordering.reverse() } else { ordering }
    });
    matrix.pick(context, &order)
}

/// Tells that a sort over a range means nothing, also where the range, as that of a subquery, has one step.
pub(super) fn tell(context: &Context, grid: Grid, span: Span) {
    if grid.is_range() {
        let text = "sort is ineffective for range queries since results are always ordered by labels";
        context.notes.warn(text.to_owned(), span);
    }
}

/// Compares runs of digits as numbers and everything else as text.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let (left, after_left) = run(a);
        let (right, after_right) = run(b);
        let numbers = [left, right].iter().all(|run| run.as_bytes()[0].is_ascii_digit());
        let ordering = if numbers {
            let (x, y) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y)).then_with(|| right.len().cmp(&left.len()))
        } else {
            left.cmp(right)
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
        (a, b) = (after_left, after_right);
    }
    a.len().cmp(&b.len())
}

/// The longest start that is all digits, or has none.
fn run(text: &str) -> (&str, &str) {
    let digit = text.as_bytes()[0].is_ascii_digit();
    let end = text.bytes().position(|b| b.is_ascii_digit() != digit).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_count_as_numbers() {
        assert_eq!(natural("cpu2", "cpu10"), Ordering::Less);
        assert_eq!(natural("a", "b"), Ordering::Less);
        assert_eq!(natural("4m600", "4m1000"), Ordering::Less);
        assert_eq!(natural("", "a"), Ordering::Less);
        assert_eq!(natural("x1", "x1"), Ordering::Equal);
    }
}
