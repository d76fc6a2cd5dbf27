//! What tests of the evaluator share.

use super::Params;
use super::grid::Grid;
use super::plan::{Plan, Planner};
use crate::{Features, parse};

/// From 0 on, with everything switched on.
pub(super) fn params(end_ms: i64, step_ms: i64) -> Params {
    Params {
        start_ms: 0,
        end_ms,
        step_ms,
        lookback_ms: 300_000,
        samples_max: 1_000_000,
        series_max: 1000,
        cancel: Default::default(),
        features: Features::all(),
        default_subquery_step_ms: 60_000,
        reads_all_samples: false,
    }
}

/// The plan of a text, and the steps of the query.
pub(super) fn plan(text: &str, params: &Params) -> (Plan, Grid) {
    let expr = parse(text, &params.features).expect("valid");
    (Planner::new(params).plan(&expr).expect("a plan"), Grid::of(params).expect("a grid"))
}

/// Numbers that look drawn, each below a bound.
pub(super) fn draws() -> impl FnMut(u64) -> u64 {
    let mut state = 1u64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}
