//! What a function needs of its windows, asked of the source as an outline where that is less than all samples.
//!
//! Every function yields the same bits from an outline as from the samples. A sum does so only where all it adds up are whole numbers and stay exact; where an
//! outline is not enough the samples are read after all.

use model::{Aspect, Columns, Edges, Held, Outline, OutlineRequest, Series, TimeRange, Want, is_stale};

use super::{RangeFn, Windows};
use crate::ast::RangeMode;
use crate::eval::select::{drop_stale, read, read_outline};
use crate::eval::{Context, EvalError, Params};

/// The samples of a series, or some that stand for them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Samples<'a> {
    pub(super) columns: &'a Columns,
    /// For each place how many samples are before it, and at the end how many there are. Empty where none stands for others.
    pub(super) before: &'a [u64],
}

impl<'a> Samples<'a> {
    /// All of them.
    pub(super) fn all(columns: &'a Columns) -> Self {
        Samples { columns, before: &[] }
    }

    /// The sums of what is left out of windows, of a range of places.
    #[inline]
    pub(super) fn sums(&self, from: usize, to: usize) -> impl Iterator<Item = f64> + 'a {
        let own = self.columns.aggregates.get(from..to).unwrap_or_default();
        own.iter().filter(|aggregate| aggregate.count > 0).map(|aggregate| aggregate.sum)
    }

    /// How many samples are in a range of places.
    #[inline]
    pub(super) fn count(&self, from: usize, to: usize) -> f64 {
        if self.before.is_empty() { (to - from) as f64 } else { (self.before[to] - self.before[from]) as f64 }
    }
}

/// Reads what a function needs of one series after the other.
pub(super) struct Reader<'a> {
    context: &'a Context<'a>,
    range: TimeRange,
    /// What is enough, and where windows begin and end; `None` where all samples are needed.
    less: Option<(Aspect, Vec<Edges>)>,
}

/// Memory that is used again for the next series.
#[derive(Debug, Default)]
pub(super) struct Memory {
    outline: Outline,
    before: Vec<u64>,
}

impl<'a> Reader<'a> {
    /// Where `less` is enough, that is asked for.
    pub(super) fn new(context: &'a Context<'a>, less: Option<(Aspect, Vec<Edges>)>, range: TimeRange) -> Self {
        Reader { context, range, less }
    }

    /// What will be read of each series.
    pub(super) fn want(&self) -> Want {
        let outline = |(aspect, edges): &(Aspect, Vec<Edges>)| Want::Outline { aspect: *aspect, edges: edges.clone() };
        self.less.as_ref().map_or(Want::Samples, outline)
    }

    /// Reads a series, without staleness markers.
    pub(super) fn read<'m>(
        &self,
        series: &Series,
        memory: &'m mut Memory,
        held: &mut Held,
    ) -> Result<Samples<'m>, EvalError> {
        let Memory { outline, before } = memory;
        outline.clear();
        before.clear();
        match &self.less {
            None => read(self.context, series, self.range, &mut outline.columns, held)?,
            Some((aspect, edges)) => {
                let request = OutlineRequest { range: self.range, aspect: *aspect, edges };
                read_outline(self.context, series, &request, outline, held)?;
                if !outline.is_enough(*aspect) {
                    outline.clear();
                    read(self.context, series, self.range, &mut outline.columns, held)?;
                }
            }
        }
        if !outline.left_out.is_empty() {
            self.context.count_outlined();
        }
        let mut is_stale = outline.columns.v.iter().map(|v| is_stale(*v));
        outline.left_out.retain(|_| !is_stale.next().unwrap_or(false));
        drop_stale(&mut outline.columns);
        let columns = &outline.columns;
        if outline.left_out.is_empty() && columns.aggregates.is_empty() {
            return Ok(Samples::all(columns));
        }
        let mut all = 0;
        before.push(all);
        before.extend((0..columns.len()).map(|at| {
            let left_out = outline.left_out.get(at).copied().unwrap_or(0);
            all += 1 + left_out + u64::from(columns.aggregate(at).count);
            all
        }));
        Ok(Samples { columns, before })
    }
}

/// What is enough, and where windows begin and end; `None` where all samples are needed.
pub(in crate::eval) fn enough(
    params: &Params,
    function: RangeFn,
    windows: &Windows,
    mode: RangeMode,
) -> Option<(Aspect, [Edges; 2])> {
    // What stands for others says nothing of when their counting began, nor of what is beyond the windows.
    let needs_all = params.reads_all_samples || windows.starts || mode != RangeMode::Normal;
    aspect(function).filter(|_| !needs_all).zip(edges(windows))
}

/// What is enough for a function.
fn aspect(function: RangeFn) -> Option<Aspect> {
    match function {
        RangeFn::Count | RangeFn::Present | RangeFn::Absent => Some(Aspect::Ends),
        RangeFn::First | RangeFn::Last | RangeFn::TimeOfFirst | RangeFn::TimeOfLast => Some(Aspect::Ends),
        RangeFn::Delta => Some(Aspect::Ends),
        RangeFn::Rate | RangeFn::Increase | RangeFn::Resets => Some(Aspect::Falls),
        RangeFn::Changes => Some(Aspect::Changes),
        RangeFn::Min => Some(Aspect::Min),
        RangeFn::Max => Some(Aspect::Max),
        RangeFn::Sum | RangeFn::Avg => Some(Aspect::Sum),
        _ => None,
    }
}

/// Where windows end and where they begin; `None` at the ends of time, where they are cut.
fn edges(windows: &Windows) -> Option<[Edges; 2]> {
    let (grid, when) = (windows.grid, windows.when);
    let (first, last) = (when.of(grid.start), when.of(grid.end()));
    let number = if when.is_fixed() { 1 } else { grid.n };
    if grid.step.checked_mul(number as i64 - 1).and_then(|all| first.checked_add(all)) != Some(last) {
        return None;
    }
    let edges = |first_ms| Edges { first_ms, step_ms: grid.step, number };
    Some([edges(first), edges(first.checked_sub(windows.range)?)])
}
