//! Aggregations of groups that have native histograms: sums and means of these alone, and what the others make of them.

use std::sync::Arc;

use model::ResetHint;

use super::{Group, reduce_group};
use crate::FloatHistogram;
use crate::ast::AggregateOp;
use crate::eval::matrix::{ABSENT, Cell, Matrix, is_histogram, is_present};
use crate::eval::notes::{self, Operation};
use crate::eval::{Context, EvalError};
use crate::histogram::{Incompatible, Mean, Noted, Total};

/// Reduces the series of a group to the last series of `out`.
pub(super) fn reduce(
    context: &Context,
    group: &Group,
    matrix: &Matrix,
    rows: &[usize],
    param: &[f64],
    out: &mut Matrix,
) -> Result<(), EvalError> {
    let to = out.len() - 1;
    match group.op {
        AggregateOp::Sum | AggregateOp::Avg => {
            // Floats first; what is at steps with histograms is then put right.
            let floats = floats(context, matrix, rows)?;
            reduce_group(group.op, &floats, &(0..rows.len()).collect::<Vec<_>>(), param, out.row_mut(to));
            for step in 0..matrix.steps() {
                if rows.iter().any(|row| is_histogram(matrix.row(*row)[step])) {
                    let value = at_step(context, group, matrix, rows, step);
                    out.set(to, step, value.map_or(Cell::Float(ABSENT), Cell::Histogram))?;
                }
            }
        }
        AggregateOp::Count | AggregateOp::Group => reduce_group(group.op, matrix, rows, param, out.row_mut(to)),
        op => {
            if rows.iter().any(|row| matrix.row(*row).iter().any(|v| is_histogram(*v))) {
                context.notes.inform(notes::ignored_in(op.as_str()), group.inner.span);
            }
            let floats = floats(context, matrix, rows)?;
            reduce_group(op, &floats, &(0..rows.len()).collect::<Vec<_>>(), param, out.row_mut(to));
        }
    }
    Ok(())
}

/// The series of a group without their histograms.
fn floats(context: &Context, matrix: &Matrix, rows: &[usize]) -> Result<Matrix, EvalError> {
    Ok(matrix.pick(context, rows)?.floats())
}

/// The sum or the mean of histograms at a step that has some. As in Prometheus what cannot be added is told of in the order of the series: where a float comes
/// first no histogram is added, and after two histograms that cannot be added nothing is looked at any more.
fn at_step(
    context: &Context,
    group: &Group,
    matrix: &Matrix,
    rows: &[usize],
    step: usize,
) -> Option<Arc<FloatHistogram>> {
    let span = group.inner.span;
    let (mut sum, mut noted, mut hints) = (None, Noted::default(), Vec::new());
    let (mut has_float, mut is_incompatible) = (false, false);
    for row in rows.iter().filter(|row| is_present(matrix.row(**row)[step])) {
        let Some(histogram) = matrix.histogram(*row, step) else {
            has_float = true;
            continue;
        };
        let Some(sum) = &mut sum else {
            if has_float {
                break;
            }
            hints.push(histogram.hint);
            sum = Some(match group.op {
                AggregateOp::Avg => Running::Mean(Box::new(Mean::at(histogram.as_ref().clone()))),
                _ => Running::Sum(Box::new(Total::at(histogram.as_ref().clone()))),
            });
            continue;
        };
        hints.push(histogram.hint);
        match sum.add(histogram) {
            Ok(one) => noted.join(one),
            Err(Incompatible) => {
                context.notes.warn(notes::mixed_schemas(matrix.labels(*row).metric_name()), span);
                is_incompatible = true;
                break;
            }
        }
    }
    if noted.reconciled {
        context.notes.inform(notes::reconciled(Operation::Aggregation), span);
    }
    if has_float {
        context.notes.warn(notes::mixed_in_group(), span);
    }
    if has_float || is_incompatible {
        return None;
    }
    if hints.contains(&ResetHint::Reset) && hints.contains(&ResetHint::NotReset) {
        context.notes.warn(notes::collision(Operation::Aggregation), span);
    }
    let mut value = sum?.finish();
    value.compact();
    Some(Arc::new(value))
}

enum Running {
    Sum(Box<Total>),
    Mean(Box<Mean>),
}

impl Running {
    fn add(&mut self, histogram: &FloatHistogram) -> Result<Noted, Incompatible> {
        match self {
            Running::Sum(sum) => sum.add(histogram),
            Running::Mean(mean) => mean.add(histogram),
        }
    }

    fn finish(self) -> FloatHistogram {
        match self {
            Running::Sum(sum) => sum.finish().0,
            Running::Mean(mean) => mean.finish(),
        }
    }
}
