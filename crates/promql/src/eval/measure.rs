//! What the parts of an evaluation take, where that is asked for.
//!
//! Parts are evaluated one after the other, and only the inside of one is spread over threads. So what is counted from the beginning of a part to its end is
//! its own and that of its parts, and no counter has to know for whom it counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::{Columns, Labels, Series};

use super::grid::Grid;
use super::matrix::Matrix;
use super::node::Val;
use super::plan::Plan;
use super::{Context, EvalError};

/// What is counted over a whole evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Samples that were read.
    pub(super) samples: u64,
    /// Series that selectors found.
    pub(super) found: u64,
    /// Series of which something stood for samples that were not decoded.
    pub(super) outlined: u64,
    /// Pieces of work that any thread of the pool could take.
    pub(super) tasks: u64,
}

impl Counters {
    /// What was counted since.
    pub(super) fn since(self, before: Counters) -> Counters {
        self.each(before, u64::saturating_sub)
    }

    /// Both together.
    pub(super) fn plus(self, other: Counters) -> Counters {
        self.each(other, u64::saturating_add)
    }

    fn each(self, other: Counters, f: fn(u64, u64) -> u64) -> Counters {
        Counters {
            samples: f(self.samples, other.samples),
            found: f(self.found, other.found),
            outlined: f(self.outlined, other.outlined),
            tasks: f(self.tasks, other.tasks),
        }
    }
}

/// What one part took, the parts of it included.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    pub(super) wall: Duration,
    /// Series of its value.
    pub(super) series: usize,
    /// Bytes that its value holds.
    pub(super) memory_bytes: usize,
    pub(super) counters: Counters,
}

/// Measures an evaluation.
pub(super) struct Meter<'a> {
    clock: &'a (dyn Fn() -> Duration + Sync),
    outlined: AtomicU64,
    tasks: AtomicU64,
    /// By the number of the part; nothing of those that were not evaluated.
    parts: Mutex<Vec<Option<Part>>>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(clock: &'a (dyn Fn() -> Duration + Sync), parts: usize) -> Self {
        let (outlined, tasks) = (AtomicU64::new(0), AtomicU64::new(0));
        Meter { clock, outlined, tasks, parts: Mutex::new(vec![None; parts]) }
    }

    pub(super) fn parts(self) -> Vec<Option<Part>> {
        self.parts.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, plan: &Plan, change: impl FnOnce(&mut Part)) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.get_mut(plan.id) {
            change(part.get_or_insert_default());
        }
    }
}

/// A value that a part may have.
pub(super) trait Yield {
    /// How many series it has; a number is one.
    fn series(&self) -> usize;
}

impl Yield for Val {
    fn series(&self) -> usize {
        match self {
            Val::Vector(matrix) => matrix.len(),
            Val::Scalar(_) => 1,
            Val::Text(_) => 0,
        }
    }
}

impl Yield for Matrix {
    fn series(&self) -> usize {
        self.len()
    }
}

impl Yield for Vec<Series> {
    fn series(&self) -> usize {
        self.len()
    }
}

impl Yield for Vec<(Labels, Columns)> {
    fn series(&self) -> usize {
        self.len()
    }
}

impl Yield for Option<(Matrix, Grid)> {
    fn series(&self) -> usize {
        self.as_ref().map_or(0, |(matrix, _)| matrix.len())
    }
}

impl Context<'_> {
    /// Evaluates a part, and measures it where that is asked for.
    #[inline]
    pub(super) fn measured<T: Yield>(
        &self,
        plan: &Plan,
        work: impl FnOnce() -> Result<T, EvalError>,
    ) -> Result<T, EvalError> {
        let Some(meter) = &self.meter else { return work() };
        let (began, before, held) = ((meter.clock)(), self.counters(), self.params.cancel.claim().held());
        let value = work()?;
        let (wall, counters) = ((meter.clock)().saturating_sub(began), self.counters().since(before));
        let memory_bytes = self.params.cancel.claim().held().saturating_sub(held);
        meter.change(plan, |part| {
            *part = Part { wall, series: value.series(), memory_bytes, counters };
        });
        Ok(value)
    }

    /// What was counted so far; nothing where it is not asked for.
    pub(super) fn counters(&self) -> Counters {
        let Some(meter) = &self.meter else { return Counters::default() };
        Counters {
            samples: self.samples_read.load(Ordering::Relaxed),
            found: self.series.load(Ordering::Relaxed),
            outlined: meter.outlined.load(Ordering::Relaxed),
            tasks: meter.tasks.load(Ordering::Relaxed),
        }
    }

    /// What was counted since belongs to a part that its parent reads while it is evaluated itself.
    pub(super) fn credit(&self, plan: &Plan, before: Counters) {
        if let Some(meter) = &self.meter {
            let since = self.counters().since(before);
            meter.change(plan, |part| part.counters = part.counters.plus(since));
        }
    }

    /// There are so many pieces of work for the threads of the pool.
    pub(super) fn count_tasks(&self, tasks: usize) {
        if let Some(meter) = &self.meter {
            meter.tasks.fetch_add(tasks as u64, Ordering::Relaxed);
        }
    }

    /// Something stands for samples of a series.
    pub(super) fn count_outlined(&self) {
        if let Some(meter) = &self.meter {
            meter.outlined.fetch_add(1, Ordering::Relaxed);
        }
    }
}
