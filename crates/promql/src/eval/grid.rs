//! The times at which something is evaluated.

use super::{EvalError, Params};

/// Times at equal distance; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Grid {
    /// The first.
    pub(super) start: i64,
    /// Milliseconds from one to the next, at least 1.
    pub(super) step: i64,
    /// How many.
    pub(super) n: usize,
    /// The time up to which it was asked for, at which there need be no step.
    asked_end: i64,
}

impl Grid {
    /// The grid of a query.
    pub(super) fn of(params: &Params) -> Result<Self, EvalError> {
        if params.step_ms == 0 {
            return Ok(Grid { start: params.start_ms, step: 1, n: 1, asked_end: params.start_ms });
        }
        if params.step_ms < 0 || params.end_ms < params.start_ms {
            return Err(EvalError::Execution(
                "end timestamp must not be before start time, nor step negative".to_owned(),
            ));
        }
        Ok(Grid::between(params.start_ms, params.end_ms, params.step_ms))
    }

    /// From `start` to at most `end`, which is not before `start`.
    pub(super) fn between(start: i64, end: i64, step: i64) -> Self {
        let n = (end.saturating_sub(start) / step.max(1)).max(0) as usize + 1;
        Grid { start, step: step.max(1), n, asked_end: end }
    }

    /// Only the first time.
    pub(super) fn first(self) -> Self {
        Grid { n: 1, asked_end: self.start, ..self }
    }

    /// Whether it was asked for as a range, be there one step or many.
    pub(super) fn is_range(self) -> bool {
        self.start != self.asked_end
    }

    /// The time at an index.
    pub(super) fn at(self, k: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(k as i64))
    }

    /// The last time.
    pub(super) fn end(self) -> i64 {
        self.at(self.n - 1)
    }

    /// All times.
    pub(super) fn times(self) -> impl Iterator<Item = i64> {
        (0..self.n).map(move |k| self.at(k))
    }
}
