//! What a query consumes, as Prometheus counts it for its statistics: each sample of each window at each step, a histogram as so many as it has 16 bytes.
//!
//! It is a walk of its own, which reads the samples once more, beside an evaluation that skips most of them where it can. So who does not ask pays nothing;
//! who asks pays as much again as for reading all samples.

use std::sync::atomic::Ordering;

use model::{Columns, HistogramSample, Series};
use rayon::prelude::*;

use super::call::{self, InstantFn};
use super::grid::Grid;
use super::node::vector;
use super::plan::{Kind, Plan, Range, RangeOf, Selector};
use super::range::{self, Edge, extended::Reach, wider};
use super::select::{drop_stale, reach, read, select};
use super::{Context, EvalError};
use crate::FloatHistogram;
use crate::ast::RangeMode;

/// Series that one task of the pool takes.
const SERIES_A_TASK: usize = 64;

/// What is consumed at each step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counts {
    /// All that is looked at.
    pub(super) total: Vec<u64>,
    /// Without what the step before had looked at already.
    pub(super) read: Vec<u64>,
}

impl Counts {
    fn zero(n: usize) -> Self {
        Counts { total: vec![0; n], read: vec![0; n] }
    }

    fn plus(mut self, other: &Counts) -> Self {
        self.total.iter_mut().zip(&other.total).for_each(|(own, other)| *own += other);
        self.read.iter_mut().zip(&other.read).for_each(|(own, other)| *own += other);
        self
    }

    fn add(&mut self, step: usize, samples: u64) {
        self.total[step] += samples;
        self.read[step] += samples;
    }
}

/// What a part of the expression consumes over a grid. What is the same at all steps is read at the first.
pub(super) fn count(context: &Context, plan: &Plan, grid: Grid) -> Result<Counts, EvalError> {
    context.check_cancelled()?;
    if !plan.invariant || grid.n == 1 {
        return at_steps(context, plan, grid);
    }
    let once = at_steps(context, plan, grid.first())?;
    let mut counts = Counts::zero(grid.n);
    counts.total.fill(once.total[0]);
    counts.read[0] = once.read[0];
    Ok(counts)
}

fn at_steps(context: &Context, plan: &Plan, grid: Grid) -> Result<Counts, EvalError> {
    match &plan.kind {
        Kind::Select(selector) => instants(context, selector, grid, false),
        Kind::Range(range) => match &range.of {
            RangeOf::Matchers { .. } => samples(context, range, grid),
            RangeOf::Subquery { inner, step } => subquery(context, range, (inner, *step), grid),
        },
        Kind::Window { range: plan, args, .. } => {
            let mut counts = match &plan.kind {
                Kind::Range(range) if matches!(range.of, RangeOf::Matchers { .. }) => windows(context, range, grid)?,
                _ => at_steps(context, plan, grid)?,
            };
            for arg in args {
                counts = counts.plus(&count(context, arg, grid)?);
            }
            Ok(counts)
        }
        Kind::Instant(InstantFn::Timestamp | InstantFn::StartTimestamp, args) => match &args[0].kind {
            Kind::Select(selector) => instants(context, selector, grid, true),
            _ => count(context, &args[0], grid),
        },
        Kind::Instant(InstantFn::Info, args) => {
            let mut counts = count(context, &args[0], grid)?;
            // What is evaluated to know what is looked for has been counted.
            let series = context.series.load(Ordering::Relaxed);
            let described = vector(context, &args[0], grid)?;
            context.series.store(series, Ordering::Relaxed);
            for selector in call::info::selectors(&described, args)?.0 {
                counts = counts.plus(&instants(context, &selector, grid, true)?);
            }
            Ok(counts)
        }
        _ => plan
            .parts()
            .into_iter()
            .try_fold(Counts::zero(grid.n), |counts, part| Ok(counts.plus(&count(context, part, grid)?))),
    }
}

/// The newest samples of a selector; `as_one` counts a histogram as one, where none of it is looked at.
fn instants(context: &Context, selector: &Selector, grid: Grid, as_one: bool) -> Result<Counts, EvalError> {
    let lookback = context.params.lookback_ms.max(1);
    let when = selector.when.on(grid);
    let range = reach(when, grid, lookback);
    let series = select(context, &selector.matchers, range)?;
    if selector.smoothed {
        // Prometheus counts none of these.
        return Ok(Counts::zero(grid.n));
    }
    each(context, &series, grid, |series, columns, held, counts| {
        read(context, series, range, columns, held)?;
        let (mut floats, mut after) = (Edge::default(), Edge::default());
        let times: Vec<i64> = columns.histograms.iter().map(|sample| sample.t).collect();
        for step in 0..grid.n {
            let t = when.of(grid.at(step));
            let float = floats.after(&columns.t, t).checked_sub(1);
            let histogram = after.after(&times, t).checked_sub(1);
            let float = float.filter(|at| columns.t[*at] > t.saturating_sub(lookback));
            let histogram = histogram.filter(|at| times[*at] > t.saturating_sub(lookback));
            let samples = match (float, histogram) {
                (Some(float), Some(at)) if columns.t[float] < times[at] => {
                    of_histogram(&columns.histograms[at], selector.stats)
                }
                (Some(float), _) => u64::from(!model::is_stale(columns.v[float])),
                (None, Some(at)) => of_histogram(&columns.histograms[at], selector.stats),
                (None, None) => 0,
            };
            counts.add(step, if as_one { samples.min(1) } else { samples });
        }
        Ok(())
    })
}

/// The samples of a range vector that is not in a function.
fn samples(context: &Context, range: &Range, grid: Grid) -> Result<Counts, EvalError> {
    let mut counts = Counts::zero(grid.n);
    for (_, columns) in range::samples(context, range, grid.first())? {
        let histograms: u64 = columns.histograms.iter().map(|sample| of_histogram(sample, false)).sum();
        counts.add(0, columns.len() as u64 + histograms);
    }
    Ok(counts)
}

/// The windows of a selector.
fn windows(context: &Context, range: &Range, grid: Grid) -> Result<Counts, EvalError> {
    let RangeOf::Matchers { matchers, mode, stats } = &range.of else { return Ok(Counts::zero(grid.n)) };
    let lookback = context.params.lookback_ms;
    let before = if *mode == RangeMode::Normal { 0 } else { lookback };
    let after = if *mode == RangeMode::Smoothed { lookback } else { 0 };
    let when = range.when.on(grid);
    let all = wider(reach(when, grid, range.ms()), Reach { mode: *mode, lookback });
    let series = select(context, matchers, all)?;
    each(context, &series, grid, |series, columns, held, counts| {
        read(context, series, all, columns, held)?;
        drop_stale(columns);
        let times: Vec<i64> = columns.histograms.iter().map(|sample| sample.t).collect();
        let mut sizes = vec![0];
        let mut sum = 0;
        sizes.extend(columns.histograms.iter().map(|sample| {
            sum += of_histogram(sample, *stats);
            sum
        }));
        // Samples until a time.
        let mut edges = [[Edge::default(); 2]; 3];
        let mut until = |edge: usize, t: i64| {
            let [floats, histograms] = &mut edges[edge];
            floats.after(&columns.t, t) as u64 + sizes[histograms.after(&times, t)]
        };
        for step in 0..grid.n {
            let end = when.of(grid.at(step));
            let first = end.saturating_sub(range.ms()).saturating_sub(before);
            let last = end.saturating_add(after);
            let (from, to) = (until(0, first), until(1, last));
            counts.total[step] += to - from;
            counts.read[step] += match step {
                0 => to - from,
                // The same window once more.
                _ if when.is_fixed() => 0,
                _ => to - from.max(until(2, last.saturating_sub(grid.step))),
            };
        }
        Ok(())
    })
}

/// What the inner expression of a subquery consumes, at each step for the windows of that step.
fn subquery(context: &Context, range: &Range, (inner, step): (&Plan, i64), grid: Grid) -> Result<Counts, EvalError> {
    let mut counts = Counts::zero(grid.n);
    let Some(inner_grid) = range::subquery_grid(range, step, grid) else { return Ok(counts) };
    let mut held = context.hold();
    held.grow(2 * size_of::<u64>() * inner_grid.n)?;
    let Counts { total, read } = count(context, inner, inner_grid)?;
    let (total, read) = (sums(total), sums(read));
    // Inner steps until a time.
    let until = |t: i64| match t.checked_sub(inner_grid.start) {
        Some(since @ 0..) => ((since / inner_grid.step) as usize).saturating_add(1).min(inner_grid.n),
        Some(_) => 0,
        None => {
            if t < inner_grid.start {
                0
            } else {
                inner_grid.n
            }
        }
    };
    // Of the first so many steps.
    let first = |sums: &[u64], steps: usize| steps.checked_sub(1).map_or(0, |last| sums[last]);
    let (mut seen, when) = (0, range.when.on(grid));
    for step in 0..grid.n {
        let end = when.of(grid.at(step));
        let to = until(end);
        let from = until(end.saturating_sub(range.ms())).min(to);
        counts.total[step] = first(&total, to) - first(&total, from);
        counts.read[step] = first(&read, to) - first(&read, from.max(seen).min(to));
        seen = seen.max(to);
    }
    Ok(counts)
}

/// Each with all before it.
fn sums(mut counts: Vec<u64>) -> Vec<u64> {
    let mut sum = 0;
    for count in &mut counts {
        sum += *count;
        *count = sum;
    }
    counts
}

/// Counts all series, each task of the pool some of them.
fn each(
    context: &Context,
    series: &[Series],
    grid: Grid,
    one: impl Fn(&Series, &mut Columns, &mut model::Held, &mut Counts) -> Result<(), EvalError> + Sync,
) -> Result<Counts, EvalError> {
    let task = |some: &[Series]| {
        let (mut counts, mut columns, mut held) = (Counts::zero(grid.n), Columns::default(), context.hold());
        some.iter().try_for_each(|series| one(series, &mut columns, &mut held, &mut counts))?;
        Ok(counts)
    };
    let tasks = series.par_chunks(SERIES_A_TASK).map(task);
    tasks.try_reduce(|| Counts::zero(grid.n), |a, b| Ok(a.plus(&b)))
}

/// What a histogram counts as; without its buckets where only its numbers are asked for.
fn of_histogram(sample: &HistogramSample, stats: bool) -> u64 {
    if sample.histogram.is_stale() {
        return 0;
    }
    let layout = &sample.histogram.layout;
    let (positive, negative) = layout.buckets();
    let spans = layout.positive.len() + layout.negative.len();
    let numbers = if stats { 0 } else { positive + negative + spans + layout.custom_values.len() };
    // What is left of 16 bytes counts from a half on.
    FloatHistogram::samples_of(numbers + 1) as u64
}
