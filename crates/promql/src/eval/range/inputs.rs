//! What windows are over: the samples of a selector, or an inner expression at times of its own.

use model::{Columns, Labels, TimeRange};

use super::extended::{self, Reach};
use crate::ast::RangeMode;
use crate::eval::grid::Grid;
use crate::eval::matrix::Matrix;
use crate::eval::node::{Val, eval as eval_node};
use crate::eval::plan::{Plan, Range, RangeOf};
use crate::eval::select::{drop_stale, reach, read, select};
use crate::eval::{Context, EvalError};

/// A range with what is looked at beyond it.
pub(in crate::eval) fn wider(mut range: TimeRange, beyond: Reach) -> TimeRange {
    let (before, after) = beyond.beyond();
    range.start_ms = range.start_ms.saturating_sub(before);
    range.end_ms = range.end_ms.saturating_add(after);
    range
}

/// The samples of a range vector at one time.
pub(in crate::eval) fn samples(
    context: &Context,
    range: &Range,
    grid: Grid,
) -> Result<Vec<(Labels, Columns)>, EvalError> {
    let mut all = Vec::new();
    match &range.of {
        RangeOf::Matchers { matchers, mode, .. } => {
            let beyond = Reach { mode: *mode, lookback: context.params.lookback_ms };
            let when = range.when.on(grid);
            let (end, reach) = (when.of(grid.start), wider(reach(when, grid, range.ms()), beyond));
            for series in select(context, matchers, reach)? {
                let mut columns = Columns::default();
                let mut held = context.hold();
                read(context, &series, reach, &mut columns, &mut held)?;
                drop_stale(&mut columns);
                if *mode != RangeMode::Normal {
                    if !columns.histograms.is_empty() {
                        let word = if *mode == RangeMode::Anchored { "anchored" } else { "smoothed" };
                        let reason = format!("{word} modifier is not supported with histograms");
                        return Err(EvalError::Execution(reason));
                    }
                    columns = extended::samples(&columns, beyond, end.saturating_sub(range.ms()), end);
                }
                context.budget.take(columns.len())?;
                context.keep(held.bytes() + size_of::<(Labels, Columns)>())?;
                all.push((series.labels, columns));
            }
        }
        RangeOf::Subquery { inner, step } => {
            if let Some((inner, inner_grid)) = subquery(context, range, inner, *step, grid)? {
                let inner = inner.drop_delayed_names(context, inner_grid)?;
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

/// The times at which the inner expression of a subquery is evaluated; nothing where no multiple of its step falls into the range.
pub(in crate::eval) fn subquery_grid(range: &Range, step: i64, grid: Grid) -> Option<Grid> {
    let when = range.when.on(grid);
    let (before, end) = (when.of(grid.start).saturating_sub(range.ms()), when.of(grid.end()));
    let mut start = before / step * step;
    if start <= before {
        start = start.saturating_add(step);
    }
    (start <= end).then(|| Grid::between(start, end, step))
}

/// The inner expression of a subquery at multiples of its step; nothing where no multiple falls into the range.
pub(super) fn subquery(
    context: &Context,
    range: &Range,
    inner: &Plan,
    step: i64,
    grid: Grid,
) -> Result<Option<(Matrix, Grid)>, EvalError> {
    let Some(inner_grid) = subquery_grid(range, step, grid) else { return Ok(None) };
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
