//! Counting series without reading them: `count` and `group` of a selector at one time are questions for the source's index.
//!
//! The answer is the same as that of reading them, since a count does not depend on values: a source that cannot tell says so, and they are read.

use std::sync::atomic::Ordering;

use model::{CountRequest, Labels};

use super::super::grid::Grid;
use super::super::matrix::Matrix;
use super::super::plan::{Group, Kind, Selector};
use super::super::select::{fault, reach};
use super::super::{Context, EvalError};
use crate::ast::AggregateOp;

/// The selector and the label by which the index may count, where it is one of those aggregations.
pub(in crate::eval) fn question(group: &Group, grid: Grid) -> Option<(&Selector, Option<&String>)> {
    let by = match group.grouping.as_slice() {
        [] => None,
        [label] => Some(label),
        _ => return None,
    };
    let Kind::Select(selector) = &group.inner.kind else { return None };
    let counts = matches!(group.op, AggregateOp::Count | AggregateOp::Group);
    (counts && !group.without && grid.n == 1 && !selector.smoothed).then_some((selector, by))
}

/// The aggregation as the index answers it; `None` where it is none of those, or the source cannot tell.
pub(super) fn by_index(context: &Context, group: &Group, grid: Grid) -> Result<Option<Matrix>, EvalError> {
    let Some((selector, by)) = question(group, grid) else { return Ok(None) };
    let request = CountRequest {
        matchers: selector.matchers.clone(),
        range: reach(selector.when.on(grid), grid, context.params.lookback_ms.max(1)),
        by: by.cloned(),
        cancel: context.params.cancel.clone(),
    };
    let Some(mut counts) = context.source.count(&request).map_err(|error| fault(context, error))? else {
        return Ok(None);
    };
    context.notes.source(counts.warnings);
    context.series.fetch_add(counts.groups.iter().map(|(_, count)| count).sum(), Ordering::Relaxed);
    counts.groups.sort_unstable();
    let mut out = Matrix::new(context, 1);
    for (value, count) in counts.groups {
        let labels = match request.by.as_deref().filter(|_| !value.is_empty()) {
            Some(name) => Labels::new(&[(name, &value)]).map_err(|error| EvalError::Execution(error.to_string()))?,
            None => Labels::empty(),
        };
        out.add(labels, false)?[0] = if group.op == AggregateOp::Group { 1.0 } else { count as f64 };
    }
    Ok(Some(out))
}
