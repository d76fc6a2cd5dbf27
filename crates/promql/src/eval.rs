//! The evaluator: an expression, a grid of times, a source of series; out come numbers, exactly as Prometheus has them.
//!
//! An instant query is a range query of one step. Everything is a column over the steps: a selector is read once for
//! the whole range, windows slide over its columns with two indices, labels are looked at once a series and never once
//! a step. A step at which a series has no value holds the bits of the staleness marker ([`matrix::ABSENT`]), which no
//! selector lets through and no operation yields. The price of dense columns is memory where series are sparse; the
//! budget of samples counts cells, so it stays bounded.
//!
//! What each part is and took can be told beside the value ([`analyze`]); nobody pays for it who does not ask.
//!
//! Deliberately not here: clocks (who asks what parts take brings one), timeouts (the caller cancels), threads of its own (the caller's rayon pool is used).
//! What is not evaluated yet is refused by name before any series is read.

mod aggregate;
mod binary;
mod budget;
mod call;
mod consumed;
mod error;
mod explain;
pub(crate) mod format;
mod grid;
pub(crate) mod kahan;
mod labels;
mod matrix;
mod measure;
mod node;
mod notes;
mod plan;
mod quantile;
mod range;
mod select;
mod shared;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::{Cancel, Columns, Held, Labels, Sample, SeriesSource};

use crate::ast::Expr;
use crate::{Features, FloatHistogram, raw};

pub use error::EvalError;
pub use explain::{Explanation, Measured};

/// When and within which bounds an expression is evaluated.
#[derive(Debug, Clone)]
pub struct Params {
    /// First time, in Unix milliseconds.
    pub start_ms: i64,
    /// Last time that may be; the last step is the last that is not after it.
    pub end_ms: i64,
    /// Milliseconds between steps; zero evaluates at `start_ms` alone and keeps the type of the expression.
    pub step_ms: i64,
    /// How far an instant selector looks back, in milliseconds.
    pub lookback_ms: i64,
    /// Samples held at once; a cell of a column counts as one, whether it has a value or not.
    pub samples_max: usize,
    /// Series that one selector may yield.
    pub series_max: usize,
    /// Looked at once a series and once a few thousand samples, and told of the samples that were read. Its claim holds what is decoded and what comes out, which stays held: who gives the claim
    /// drops it with the value.
    pub cancel: Cancel,
    /// What was switched on.
    pub features: Features,
    /// The step of a subquery that names none, in milliseconds.
    pub default_subquery_step_ms: i64,
    /// Whether every sample is read, also where what is known of chunks is enough: the values are the same bits. For comparing.
    pub reads_all_samples: bool,
}

/// A text with the time at which it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Unix milliseconds.
    pub t: i64,
    /// The text.
    pub text: String,
}

/// The value of a series at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Unix milliseconds.
    pub t: i64,
    /// The value.
    pub v: Element,
}

/// A float or a native histogram.
#[derive(Debug, Clone, PartialEq)]
pub enum Element {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// What an expression is worth.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of an instant query for a number.
    Scalar(Sample),
    /// Of an instant query for a text.
    String(Text),
    /// Of an instant query for an instant vector; the order means something after `sort` and `topk` only.
    Vector(Vec<(Labels, Point)>),
    /// Of every range query, and of an instant query for a range vector; ascending by labels. Histograms have float counts, but in the latter case.
    Matrix(Vec<(Labels, Columns)>),
}

/// What an evaluation took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples that were looked at: those that stand for others count once.
    pub samples_read: u64,
    /// Series that selectors yielded; one that two selectors yield counts twice.
    pub series: u64,
    /// The most samples that were held at once.
    pub samples_peak: u64,
}

/// A value with what should be known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The value.
    pub value: Value,
    /// What may be wrong with it.
    pub warnings: Vec<String>,
    /// What may be wrong with the question.
    pub infos: Vec<String>,
    /// What it took.
    pub stats: Stats,
}

/// Evaluates a parsed expression. Blocks, and uses the rayon pool of the caller.
///
/// Places in warnings are told as in a query of one line; [`evaluate_text`] tells line and column.
pub fn evaluate(expr: &Expr, params: &Params, source: &dyn SeriesSource) -> Result<Evaluation, EvalError> {
    evaluate_text("", expr, params, source)
}

/// As [`evaluate`], with the text that the expression was parsed from, so that places in warnings have their line.
pub fn evaluate_text(
    text: &str,
    expr: &Expr,
    params: &Params,
    source: &dyn SeriesSource,
) -> Result<Evaluation, EvalError> {
    Ok(run(text, expr, params, source, None)?.0)
}

/// How an expression would be evaluated, without evaluating it.
pub fn explain(text: &str, expr: &Expr, params: &Params) -> Result<Explanation, EvalError> {
    let grid = grid::Grid::of(params)?;
    let plan = plan::Planner::new(params).plan(expr)?;
    Ok(explain::tree(text, params, &plan, grid, None))
}

/// As [`evaluate_text`], with what each part took. The clock tells the time since some moment.
pub fn analyze(
    text: &str,
    expr: &Expr,
    params: &Params,
    source: &dyn SeriesSource,
    clock: &(dyn Fn() -> Duration + Sync),
) -> Result<(Evaluation, Explanation), EvalError> {
    let (evaluation, plan, measured) = run(text, expr, params, source, Some(clock))?;
    let explanation = explain::tree(text, params, &plan, grid::Grid::of(params)?, Some(&measured));
    Ok((evaluation, explanation))
}

/// What a query consumes as Prometheus counts it: a sample for each time that it is looked at, so that windows which overlap count theirs again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consumed {
    /// The times of the steps, in Unix milliseconds.
    pub times: Vec<i64>,
    /// What each step looks at.
    pub total: Vec<u64>,
    /// The same without what the step before had looked at.
    pub read: Vec<u64>,
    /// Series that selectors find: one that two selectors find counts twice, also where they are the same.
    pub series: u64,
}

/// Counts what a query consumes. Reads the samples, beside an evaluation.
pub fn consumed(expr: &Expr, params: &Params, source: &dyn SeriesSource) -> Result<Consumed, EvalError> {
    let grid = grid::Grid::of(params)?;
    let plan = plan::Planner::new(params).plan(expr)?;
    let context = Context::new(params, source, None);
    let consumed::Counts { total, read } = consumed::count(&context, &plan, grid)?;
    Ok(Consumed { times: grid.times().collect(), total, read, series: context.series.into_inner() })
}

type Run = (Evaluation, plan::Plan, Vec<Option<measure::Part>>);

fn run<'a>(
    text: &str,
    expr: &Expr,
    params: &'a Params,
    source: &'a dyn SeriesSource,
    clock: Option<&'a (dyn Fn() -> Duration + Sync)>,
) -> Result<Run, EvalError> {
    let grid = grid::Grid::of(params)?;
    let planner = plan::Planner::new(params);
    let plan = planner.plan(expr)?;
    let meter = clock.map(|clock| measure::Meter::new(clock, planner.made()));
    let mut context = Context::new(params, source, meter);
    context.shared = shared::Shared::of(&plan, text, grid);
    context.together = range::Together::of(&plan, &context.shared, grid, params);
    context.by_labels = plan.depends_on_order();
    let value = node::finish(&context, &plan, grid, params.step_ms == 0).map_err(raw::readable_error)?;
    let value = if raw::has_bytes(expr) { raw::readable_value(value) } else { value };
    let stats = Stats {
        samples_read: context.samples_read.load(Ordering::Relaxed),
        series: context.series.load(Ordering::Relaxed),
        samples_peak: context.budget.peak() as u64,
    };
    let (warnings, infos) = context.notes.texts(text);
    let measured = context.meter.map(measure::Meter::parts).unwrap_or_default();
    Ok((Evaluation { value, warnings, infos, stats }, plan, measured))
}

/// What every part of one evaluation shares.
struct Context<'a> {
    params: &'a Params,
    source: &'a dyn SeriesSource,
    budget: Arc<budget::Budget>,
    notes: notes::Notes,
    samples_read: AtomicU64,
    series: AtomicU64,
    /// The parts that are evaluated once.
    shared: shared::Shared,
    /// The functions over windows that are evaluated together.
    together: range::Together<'a>,
    /// Whether selectors yield their series by labels, as Prometheus does where it reads them from blocks, and not in the order that the source has them in.
    /// That is wanted where the order shows: of equals the first is picked, and what a deviation rounds depends on it. The price is another sorting.
    by_labels: bool,
    /// Of each part, where that is asked for.
    meter: Option<measure::Meter<'a>>,
}

impl<'a> Context<'a> {
    fn new(params: &'a Params, source: &'a dyn SeriesSource, meter: Option<measure::Meter<'a>>) -> Self {
        Context {
            params,
            source,
            budget: Arc::new(budget::Budget::new(params.samples_max)),
            notes: notes::Notes::default(),
            samples_read: AtomicU64::new(0),
            series: AtomicU64::new(0),
            shared: shared::Shared::default(),
            together: range::Together::default(),
            by_labels: false,
            meter,
        }
    }

    /// Memory that is held as long as what is returned is.
    fn hold(&self) -> Held {
        self.params.cancel.claim().hold()
    }

    /// Holds memory until the caller is done with the value.
    fn keep(&self, bytes: usize) -> Result<(), EvalError> {
        Ok(self.params.cancel.claim().take(bytes)?)
    }

    fn check_cancelled(&self) -> Result<(), EvalError> {
        if self.params.cancel.is_cancelled() { Err(EvalError::Cancelled) } else { Ok(()) }
    }
}
