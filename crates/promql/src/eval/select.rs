//! Selectors: from a source to columns. Each selector is one request for the whole range of the query; its series are
//! decoded by the threads of the pool, each into memory of its own that is used for one series after the other.

use std::sync::atomic::Ordering;

use model::{Columns, Held, Outline, OutlineRequest, SelectRequest, Series, TimeRange, Want, is_stale};
use rayon::prelude::*;

use super::grid::Grid;
use super::matrix::{Matrix, is_present};
use super::plan::{Selector, When};
use super::{Context, EvalError};
use model::Matcher;

/// Series that one task of the pool takes: enough to make up for starting it, few enough to share evenly.
const SERIES_A_TASK: usize = 64;

/// The value of each series at each step: the newest sample in the time looked back to, if it is not a stale marker.
pub(super) fn values(context: &Context, selector: &Selector, grid: Grid) -> Result<Matrix, EvalError> {
    instants(context, selector, grid, |columns, at| columns.v[at])
}

/// As [`values`], but the times of those samples, in seconds.
pub(super) fn times(context: &Context, selector: &Selector, grid: Grid) -> Result<Matrix, EvalError> {
    instants(context, selector, grid, |columns, at| columns.t[at] as f64 / 1000.0)
}

fn instants(
    context: &Context,
    selector: &Selector,
    grid: Grid,
    what: impl Fn(&Columns, usize) -> f64 + Sync,
) -> Result<Matrix, EvalError> {
    let lookback = context.params.lookback_ms.max(1);
    let range = reach(selector.when, grid, lookback);
    let series = select(context, &selector.matchers, range)?;
    let parts = each(
        context,
        &series,
        |chunk, out, columns: &mut Columns, held| {
            for series in chunk {
                read(context, series, range, columns, held)?;
                let cells = out.add(series.labels.clone(), false)?;
                if !newest(columns, selector.when, grid, lookback, &what, cells) {
                    out.pop();
                }
            }
            Ok(())
        },
        grid.n,
    )?;
    Matrix::concat(context, grid.n, parts)
}

/// Fills the cells of one series; whether there is a value at all.
fn newest(
    columns: &Columns,
    when: When,
    grid: Grid,
    lookback: i64,
    what: impl Fn(&Columns, usize) -> f64,
    cells: &mut [f64],
) -> bool {
    let (mut after, mut any) = (0, false);
    for (t, cell) in grid.times().zip(cells) {
        let t = when.of(t);
        while after < columns.len() && columns.t[after] <= t {
            after += 1;
        }
        let Some(at) = after.checked_sub(1) else { continue };
        if columns.t[at] > t.saturating_sub(lookback) && !is_stale(columns.v[at]) {
            *cell = what(columns, at);
            any |= is_present(*cell);
        }
    }
    any
}

/// The times of the samples that a grid looks at: left-open in the language, inclusive for the source.
pub(super) fn reach(when: When, grid: Grid, range: i64) -> TimeRange {
    let (first, last) = (when.of(grid.start), when.of(grid.end()));
    TimeRange { start_ms: first.saturating_sub(range).saturating_add(1), end_ms: last }
}

/// Asks the source, and puts the series into an order that does not depend on it.
pub(super) fn select(context: &Context, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Series>, EvalError> {
    context.check_cancelled()?;
    let request = SelectRequest {
        matchers: matchers.to_vec(),
        range,
        want: Want::Samples,
        series_max: context.params.series_max,
        cancel: context.params.cancel.clone(),
    };
    let mut set = context.source.select(&request).map_err(|error| fault(context, error))?;
    context.notes.source(set.warnings);
    context.series.fetch_add(set.series.len() as u64, Ordering::Relaxed);
    // Sums depend on their order, and the same query has the same answer.
    if !set.series.is_sorted_by(|a, b| a.labels.canonical() <= b.labels.canonical()) {
        set.series.par_sort_unstable_by(|a, b| a.labels.canonical().cmp(b.labels.canonical()));
    }
    Ok(set.series)
}

/// Runs over all series in parallel, each task with memory that it uses again and holds; the parts come back in order.
pub(super) fn each<M: Default>(
    context: &Context,
    series: &[Series],
    work: impl Fn(&[Series], &mut Matrix, &mut M, &mut Held) -> Result<(), EvalError> + Sync,
    n: usize,
) -> Result<Vec<Matrix>, EvalError> {
    series
        .par_chunks(SERIES_A_TASK)
        .map(|chunk| {
            let mut out = Matrix::new(context, n);
            work(chunk, &mut out, &mut M::default(), &mut context.hold())?;
            Ok(out)
        })
        .collect()
}

/// Reads the samples of one series into memory that is used again.
pub(super) fn read(
    context: &Context,
    series: &Series,
    range: TimeRange,
    columns: &mut Columns,
    held: &mut Held,
) -> Result<(), EvalError> {
    context.check_cancelled()?;
    columns.clear();
    series.data.read(range, columns).map_err(|error| fault(context, error))?;
    use_floats(context, series, columns, held)
}

/// As [`read`], of less than all samples.
pub(super) fn read_outline(
    context: &Context,
    series: &Series,
    request: &OutlineRequest<'_>,
    outline: &mut Outline,
    held: &mut Held,
) -> Result<(), EvalError> {
    context.check_cancelled()?;
    outline.clear();
    series.data.outline(request, outline).map_err(|error| fault(context, error))?;
    use_floats(context, series, &mut outline.columns, held)
}

/// Leaves nothing but floats, and counts them. The memory they are in is used for the next series too, so it is held by the task.
fn use_floats(context: &Context, series: &Series, columns: &mut Columns, held: &mut Held) -> Result<(), EvalError> {
    held.grow_to(columns.memory())?;
    // Native histograms and start times are not of the language yet: selectors pass them over. Nobody misses a start.
    if !columns.histograms.is_empty() {
        let name = series.labels.metric_name();
        context.notes.source(vec![format!("native histograms of {name} are left out: they are not evaluated yet")]);
    }
    columns.histograms.clear();
    columns.starts.clear();
    context.budget.allows(columns.len())?;
    context.samples_read.fetch_add(columns.len() as u64, Ordering::Relaxed);
    Ok(())
}

/// Takes stale markers out, which no window contains.
pub(super) fn drop_stale(columns: &mut Columns) {
    if !columns.v.iter().any(|v| is_stale(*v)) {
        return;
    }
    let mut to = 0;
    for from in 0..columns.len() {
        if !is_stale(columns.v[from]) {
            columns.t[to] = columns.t[from];
            columns.v[to] = columns.v[from];
            to += 1;
        }
    }
    columns.t.truncate(to);
    columns.v.truncate(to);
}

pub(super) fn fault(context: &Context, error: model::SourceError) -> EvalError {
    if context.params.cancel.is_cancelled() { EvalError::Cancelled } else { EvalError::Source(error) }
}
