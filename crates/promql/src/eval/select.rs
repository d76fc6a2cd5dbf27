//! Selectors: from a source to columns. Each selector is one request for the whole range of the query; its series are
//! decoded by the threads of the pool, each into memory of its own that is used for one series after the other.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use fearless_simd::{Level, dispatch};
use model::{
    Columns, Held, HistogramSample, Labels, Matcher, Outline, OutlineRequest, SelectRequest, Series, SeriesSet,
    TimeRange, Want, is_stale,
};
use rayon::prelude::*;

use super::grid::Grid;
use super::labels::shown;
use super::matrix::{ABSENT, Cell, Matrix, float_cell};
use super::plan::{Selector, When};
use super::range::{Edge, extended, histograms};
use super::{Context, EvalError};
use crate::FloatHistogram;
use crate::histogram::Layouts;

/// Series that one task of the pool takes: enough to make up for starting it, few enough to share evenly.
const SERIES_A_TASK: usize = 64;

/// The value of each series at each step: the newest sample in the time looked back to, if it is not a stale marker.
pub(super) fn values(context: &Context, selector: &Selector, grid: Grid) -> Result<Matrix, EvalError> {
    instants(context, selector, grid, Of::Value)
}

/// As [`values`], but the times of those samples, in seconds.
pub(super) fn times(context: &Context, selector: &Selector, grid: Grid) -> Result<Matrix, EvalError> {
    instants(context, selector, grid, Of::Time)
}

/// As [`times`], of series that must be floats.
pub(super) fn times_of_floats(context: &Context, selector: &Selector, grid: Grid) -> Result<Matrix, EvalError> {
    instants(context, selector, grid, Of::FloatTime)
}

/// As [`values`], but when the counting of those samples began, in seconds; 0 where that is not known.
pub(super) fn starts(context: &Context, selector: &Selector, grid: Grid) -> Result<Matrix, EvalError> {
    instants(context, selector, grid, Of::Start)
}

/// What of a sample is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Value,
    Time,
    /// As `Time`, of floats alone.
    FloatTime,
    Start,
}

fn instants(context: &Context, selector: &Selector, grid: Grid, of: Of) -> Result<Matrix, EvalError> {
    let lookback = context.params.lookback_ms.max(1);
    if selector.smoothed && of == Of::Value {
        let mut range = reach(selector.when.on(grid), grid, lookback);
        range.end_ms = range.end_ms.saturating_add(lookback);
        return smoothed(context, selector, grid, (range, lookback));
    }
    let (series, range) = select_newest(context, selector, grid, lookback)?;
    let newest = Newest { when: selector.when.on(grid), grid, lookback, of, stats: selector.stats };
    // Of several the first is told, whichever thread finds one first.
    let no_float: Mutex<Option<Labels>> = Mutex::new(None);
    let parts = each(
        context,
        &series,
        |chunk, out, columns: &mut Columns, held| {
            for series in chunk {
                read(context, series, range, columns, held)?;
                let cells = out.add(series.labels.clone(), false)?;
                let mut any = newest.floats(columns, cells);
                if !columns.histograms.is_empty() {
                    let some = newest.histograms(columns, out)?;
                    if some && of == Of::FloatTime {
                        let mut first = no_float.lock().unwrap_or_else(PoisonError::into_inner);
                        if first.as_ref().is_none_or(|first| series.labels < *first) {
                            *first = Some(series.labels.clone());
                        }
                    }
                    any |= some;
                }
                if !any {
                    out.pop();
                }
            }
            Ok(())
        },
        grid.n,
    )?;
    if let Some(labels) = no_float.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let reason = format!("this should be an info metric, with float samples: {}", shown(&labels));
        return Err(EvalError::Execution(reason));
    }
    Matrix::concat(context, grid.n, parts)
}

/// Finds the newest sample at each step.
struct Newest {
    when: When,
    grid: Grid,
    lookback: i64,
    of: Of,
    stats: bool,
}

impl Newest {
    /// Fills the cells of one series with its floats; whether there is a value at all.
    fn floats(&self, columns: &Columns, cells: &mut [f64]) -> bool {
        let (mut after, mut any) = (Edge::default(), false);
        for (t, cell) in self.grid.times().zip(cells) {
            let t = self.when.of(t);
            let Some(at) = after.after(&columns.t, t).checked_sub(1) else { continue };
            let is_seen = columns.t[at] > t.saturating_sub(self.lookback) || stands_for_later(columns, at, t);
            if is_seen && !is_stale(columns.v[at]) {
                *cell = match self.of {
                    Of::Value => float_cell(columns.v[at]),
                    Of::Time | Of::FloatTime => columns.t[at] as f64 / 1000.0,
                    Of::Start => columns.start(at) as f64 / 1000.0,
                };
                any = true;
            }
        }
        any
    }

    /// Puts histograms where they are newer than the floats, into the cells of the last series; whether one is.
    fn histograms(&self, columns: &Columns, out: &mut Matrix) -> Result<bool, EvalError> {
        let row = out.len() - 1;
        let (mut floats, mut after, mut any) = (0, 0, false);
        let all = if self.stats { histograms::floats(columns, true, i64::MIN) } else { Vec::new() };
        let mut layouts = Layouts::default();
        let mut last: Option<(usize, Arc<FloatHistogram>)> = None;
        for step in 0..self.grid.n {
            let t = self.when.of(self.grid.at(step));
            while floats < columns.len() && columns.t[floats] <= t {
                floats += 1;
            }
            while after < columns.histograms.len() && columns.histograms[after].t <= t {
                after += 1;
            }
            let Some(at) = after.checked_sub(1) else { continue };
            let sample = &columns.histograms[at];
            let is_newer = floats.checked_sub(1).is_none_or(|float| columns.t[float] < sample.t);
            if !is_newer || sample.t <= t.saturating_sub(self.lookback) {
                continue;
            }
            if sample.histogram.is_stale() {
                out.set(row, step, Cell::Float(ABSENT))?;
                continue;
            }
            any = true;
            if self.of != Of::Value {
                let ms = if self.of == Of::Start { sample.start } else { sample.t };
                out.set(row, step, Cell::Float(ms as f64 / 1000.0))?;
                continue;
            }
            let histogram = match &last {
                Some((before, histogram)) if *before == at => histogram.clone(),
                _ if self.stats => all[at].clone(),
                _ => Arc::new(layouts.float(&sample.histogram)),
            };
            out.put(row, step, histogram.clone())?;
            last = Some((at, histogram));
        }
        Ok(any)
    }
}

/// The values of a smoothed selector.
fn smoothed(
    context: &Context,
    selector: &Selector,
    grid: Grid,
    (range, lookback): (TimeRange, i64),
) -> Result<Matrix, EvalError> {
    let (series, when) = (select(context, &selector.matchers, range)?, selector.when.on(grid));
    let mut out = Matrix::new(context, grid.n);
    let (mut columns, mut held) = (Columns::default(), context.hold());
    for series in &series {
        read(context, series, range, &mut columns, &mut held)?;
        drop_stale(&mut columns);
        let histograms = histograms::floats(&columns, selector.stats, i64::MIN);
        out.add(series.labels.clone(), false)?;
        let (row, mut any) = (out.len() - 1, false);
        for step in 0..grid.n {
            let at = when.of(grid.at(step));
            let window = (at.saturating_sub(lookback), at, at.saturating_add(lookback));
            let named = (&series.labels, selector.span);
            if let Some(value) = extended::smoothed(context, &columns, &histograms, named, window) {
                out.set(row, step, value)?;
                any = true;
            }
        }
        if !any {
            out.pop();
        }
    }
    Ok(out)
}

/// Whether a sample, the newest there is up to a time, stands for others that were left out after it, among which the newest was.
fn stands_for_later(columns: &Columns, at: usize, t: i64) -> bool {
    let aggregate = columns.aggregate(at);
    aggregate.count > 0 && t <= aggregate.window_end(columns.t[at])
}

/// The times of the samples that a grid looks at: left-open in the language, inclusive for the source.
pub(super) fn reach(when: When, grid: Grid, range: i64) -> TimeRange {
    let (first, last) = (when.of(grid.start), when.of(grid.end()));
    TimeRange { start_ms: first.saturating_sub(range).saturating_add(1), end_ms: last }
}

/// Asks the source, and puts the series into an order that does not depend on it.
pub(super) fn select(context: &Context, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Series>, EvalError> {
    select_as(context, matchers, range, Want::Samples)
}

/// As [`select`], where this will be read of each series.
pub(super) fn select_as(
    context: &Context,
    matchers: &[Matcher],
    range: TimeRange,
    want: Want,
) -> Result<Vec<Series>, EvalError> {
    let set = select_set(context, matchers, range, want)?;
    context.series.fetch_add(set.series.len() as u64, Ordering::Relaxed);
    Ok(set.series)
}

/// As [`select`], of the newest samples of a selector; and the range in which these are, which is longer where samples were left out of longer windows.
fn select_newest(
    context: &Context,
    selector: &Selector,
    grid: Grid,
    lookback: i64,
) -> Result<(Vec<Series>, TimeRange), EvalError> {
    let range = reach(selector.when.on(grid), grid, lookback);
    let set = select_set(context, &selector.matchers, range, Want::Samples)?;
    if set.resolution_ms > lookback {
        // What was left out stands with a sample that may be so far back.
        let range = reach(selector.when.on(grid), grid, set.resolution_ms);
        return Ok((select(context, &selector.matchers, range)?, range));
    }
    context.series.fetch_add(set.series.len() as u64, Ordering::Relaxed);
    Ok((set.series, range))
}

fn select_set(context: &Context, matchers: &[Matcher], range: TimeRange, want: Want) -> Result<SeriesSet, EvalError> {
    context.check_cancelled()?;
    let request = SelectRequest {
        matchers: matchers.to_vec(),
        range,
        want,
        series_max: context.params.series_max,
        cancel: context.params.cancel.clone(),
    };
    let mut set = context.source.select(&request).map_err(|error| fault(context, error))?;
    context.notes.source(std::mem::take(&mut set.warnings));
    if context.by_labels {
        if !set.series.is_sorted_by(|a, b| a.labels <= b.labels) {
            set.series.par_sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        }
        return Ok(set);
    }
    // Sums depend on their order, and the same query has the same answer.
    if !set.series.is_sorted_by(|a, b| a.labels.canonical() <= b.labels.canonical()) {
        set.series.par_sort_unstable_by(|a, b| a.labels.canonical().cmp(b.labels.canonical()));
    }
    Ok(set)
}

/// Runs over all series in parallel, each task with memory that it uses again and holds; the parts come back in order.
pub(super) fn each<M: Default>(
    context: &Context,
    series: &[Series],
    work: impl Fn(&[Series], &mut Matrix, &mut M, &mut Held) -> Result<(), EvalError> + Sync,
    n: usize,
) -> Result<Vec<Matrix>, EvalError> {
    let one = |chunk: &[Series], outs: &mut [Matrix], memory: &mut M, held: &mut Held| {
        work(chunk, &mut outs[0], memory, held)
    };
    Ok(each_of(context, series, one, n, 1)?.pop().unwrap_or_default())
}

/// As [`each`], with several values, of each of which the parts come back.
pub(super) fn each_of<M: Default>(
    context: &Context,
    series: &[Series],
    work: impl Fn(&[Series], &mut [Matrix], &mut M, &mut Held) -> Result<(), EvalError> + Sync,
    n: usize,
    values: usize,
) -> Result<Vec<Vec<Matrix>>, EvalError> {
    context.count_tasks(series.len().div_ceil(SERIES_A_TASK));
    let parts = series.par_chunks(SERIES_A_TASK).map(|chunk| {
        let outs = (0..values).map(|_| Matrix::with_room(context, n, chunk.len()));
        let mut outs = outs.collect::<Result<Vec<Matrix>, _>>()?;
        work(chunk, &mut outs, &mut M::default(), &mut context.hold())?;
        outs.iter_mut().for_each(Matrix::give_room_back);
        Ok(outs)
    });
    let parts = parts.collect::<Result<Vec<Vec<Matrix>>, EvalError>>()?;
    let mut all: Vec<Vec<Matrix>> = (0..values).map(|_| Vec::with_capacity(parts.len())).collect();
    for part in parts {
        all.iter_mut().zip(part).for_each(|(all, one)| all.push(one));
    }
    Ok(all)
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
    count(context, columns, held)
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
    count(context, &mut outline.columns, held)
}

/// Counts the samples that were read. The memory they are in is used for the next series too, so it is held by the task. When their counting began is kept
/// where it is asked for.
fn count(context: &Context, columns: &mut Columns, held: &mut Held) -> Result<(), EvalError> {
    held.grow_to(columns.memory())?;
    if !context.params.features.use_start_timestamps {
        columns.starts.clear();
    }
    tell_aggregates(context, columns);
    let held = |sample: &HistogramSample| {
        let (positive, negative) = sample.histogram.layout.buckets();
        FloatHistogram::samples_of(positive + negative)
    };
    let samples = columns.len() + columns.histograms.iter().map(held).sum::<usize>();
    context.budget.allows(samples)?;
    context.samples_read.fetch_add(samples as u64, Ordering::Relaxed);
    context.params.cancel.count_read(samples as u64);
    Ok(())
}

/// Notes that some of the samples stand for others that were left out.
fn tell_aggregates(context: &Context, columns: &Columns) {
    let standing = || columns.t.iter().zip(&columns.aggregates).filter(|(_, aggregate)| aggregate.count > 0);
    if let Some((t, newest)) = standing().next_back() {
        let resolution_ms = standing().map(|(_, aggregate)| aggregate.resolution_ms).max().unwrap_or_default();
        context.notes.aggregates(resolution_ms, newest.window_end(*t));
    }
}

/// Whether there is a stale marker. Of some at a time all are looked at: for many there is one instruction.
#[inline(always)]
fn any_stale(v: &[f64]) -> bool {
    v.chunks(64).any(|some| some.iter().fold(false, |any, v| any | is_stale(*v)))
}

/// Takes stale markers out, which no window contains.
pub(super) fn drop_stale(columns: &mut Columns) {
    if !columns.histograms.is_empty() {
        columns.histograms.retain(|sample| !sample.histogram.is_stale());
    }
    if !dispatch!(Level::new(), _simd => any_stale(&columns.v)) {
        return;
    }
    let mut to = 0;
    for from in 0..columns.len() {
        if !is_stale(columns.v[from]) {
            columns.t[to] = columns.t[from];
            columns.v[to] = columns.v[from];
            if !columns.starts.is_empty() {
                columns.starts[to] = columns.starts[from];
            }
            if !columns.aggregates.is_empty() {
                columns.aggregates[to] = columns.aggregates[from];
            }
            to += 1;
        }
    }
    columns.t.truncate(to);
    columns.v.truncate(to);
    columns.starts.truncate(to);
    columns.aggregates.truncate(to);
}

pub(super) fn fault(context: &Context, error: model::SourceError) -> EvalError {
    if context.params.cancel.is_cancelled() { EvalError::Cancelled } else { EvalError::Source(error) }
}
