//! From the text of a query to its value: the one place that calls the evaluator.

use model::{Cancel, Kind, SeriesSource};
use promql::ast::{Expr, ValueType};
use promql::{Consumed, EvalError, Evaluation, Explanation, Features, Params};

use crate::args::Args;
use crate::error::Error;
use crate::execute::{Context, Stopwatch};

/// At which times a query is evaluated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// First.
    pub(crate) start_ms: i64,
    /// Last that may be.
    pub(crate) end_ms: i64,
    /// Zero for an instant query, whose start and end are the same.
    pub(crate) step_ms: i64,
    /// How far an instant selector looks back.
    pub(crate) lookback_ms: i64,
}

/// Step of a subquery that names none; Prometheus' default for its evaluation interval.
const SUBQUERY_STEP_MS: i64 = 60_000;

/// Parses a query, and refuses what cannot be evaluated over a range.
pub(crate) fn parse(query: &str, args: &Args, range: bool) -> Result<Expr, Error> {
    let expr = promql::parse(query, &args.features).map_err(|e| Error::parameter("query", e))?;
    let name = match expr.value_type() {
        ValueType::RangeVector => "range vector",
        ValueType::String => "string",
        ValueType::Scalar | ValueType::InstantVector => return Ok(expr),
    };
    if range {
        let reason = format!("invalid expression type {name:?} for range query, must be Scalar or instant Vector");
        return Err(Error::parameter("query", reason));
    }
    Ok(expr)
}

/// What of a query is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Beside its value what each part of it took.
    pub(crate) analysis: bool,
    /// Worked out from every sample.
    pub(crate) all_samples: bool,
    /// Whether it is looked at when the counting of samples began; `None` where the server says.
    pub(crate) starts: Option<bool>,
}

/// How a query would be evaluated.
pub(crate) fn explain(
    text: &str,
    expr: &Expr,
    (times, wanted): (Times, Wanted),
    args: &Args,
) -> Result<Explanation, Error> {
    promql::explain(text, expr, &params(times, wanted, args, Cancel::default()))
        .map_err(|e| failed(&e, &Cancel::default()))
}

/// Evaluates; `text` is what `expr` was parsed from, for the places in warnings.
pub(crate) fn evaluate(
    text: &str,
    expr: &Expr,
    (times, wanted): (Times, Wanted),
    args: &Args,
    context: &Context,
    source: &dyn SeriesSource,
) -> Result<(Evaluation, Option<Explanation>), Error> {
    let params = params(times, wanted, args, context.cancel.clone());
    let evaluated = if wanted.analysis {
        let clock = Stopwatch::start();
        promql::analyze(text, expr, &params, source, &|| clock.elapsed())
            .map(|(evaluation, analysis)| (evaluation, Some(analysis)))
    } else {
        promql::evaluate_text(text, expr, &params, source).map(|evaluation| (evaluation, None))
    };
    evaluated.map_err(|e| failed(&e, &context.cancel))
}

/// Counts what a query consumes, as Prometheus does. Reads the samples once more.
pub(crate) fn consumed(
    expr: &Expr,
    (times, wanted): (Times, Wanted),
    args: &Args,
    context: &Context,
    source: &dyn SeriesSource,
) -> Result<Consumed, Error> {
    let counted = promql::consumed(expr, &params(times, wanted, args, context.cancel.clone()), source);
    counted.map_err(|e| failed(&e, &context.cancel))
}

fn failed(error: &EvalError, cancel: &Cancel) -> Error {
    match error.kind() {
        _ if matches!(error, EvalError::Duration(_)) => Error::parameter("query", error),
        Kind::Unavailable if cancel.is_cancelled() => Error::Canceled("nobody waits for it"),
        kind => Error::Execution { kind, message: error.to_string() },
    }
}

fn params(times: Times, wanted: Wanted, args: &Args, cancel: Cancel) -> Params {
    Params {
        start_ms: times.start_ms,
        end_ms: times.end_ms,
        step_ms: times.step_ms,
        lookback_ms: times.lookback_ms,
        samples_max: args.query_samples_max,
        series_max: args.query_series_max,
        cancel,
        features: Features {
            use_start_timestamps: wanted.starts.unwrap_or(args.features.use_start_timestamps),
            ..args.features
        },
        default_subquery_step_ms: SUBQUERY_STEP_MS,
        reads_all_samples: wanted.all_samples,
    }
}
