//! The expression made ready: names are functions, durations are milliseconds, `start()` and `@ end()` are times, and
//! every part knows whether its value is the same at all steps, so that it is worked out once.
//!
//! What is not evaluated yet is refused here, by name, before any series is read.

mod durations;
mod functions;

use std::cell::Cell;

use model::Matcher;

use durations::{NANOSECONDS, nanoseconds};
pub(super) use functions::{go_max, go_min};

use super::call::{self, InstantFn};
use super::grid::Grid;
use super::range::{self, RangeFn};
use super::{EvalError, Params};
use crate::ast::{
    self, Aggregate, AggregateOp, At, Binary, BinaryOp, Call, DurationExpr, Expr, Node, RangeMode, Span, ValueType,
    VectorMatching, VectorSelector,
};

/// A part of the expression.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) span: Span,
    pub(super) value: ValueType,
    /// Whether the value is the same at every step.
    pub(super) invariant: bool,
    /// Its number among all parts of the expression.
    pub(super) id: usize,
    /// What it is in the expression, in Prometheus' words.
    pub(super) word: &'static str,
}

impl Plan {
    /// The parts of this part, in the order of the text.
    pub(super) fn parts(&self) -> Vec<&Plan> {
        let mut parts: Vec<&Plan> = match &self.kind {
            Kind::Number(_) | Kind::Text(_) | Kind::Select(_) => Vec::new(),
            Kind::Range(range) => match &range.of {
                RangeOf::Matchers { .. } => Vec::new(),
                RangeOf::Subquery { inner, .. } => vec![inner],
            },
            Kind::Negate(inner) | Kind::Plus(inner) | Kind::Map(_, inner) => vec![inner],
            Kind::Join(join) => vec![&join.left, &join.right],
            Kind::Group(group) => group.param.as_deref().into_iter().chain([&*group.inner]).collect(),
            Kind::Instant(_, args) => args.iter().collect(),
            Kind::Window { range, args, .. } => args.iter().chain([&**range]).collect(),
        };
        parts.sort_by_key(|part| part.span.start);
        parts
    }
}

impl Plan {
    /// Whether the order of series shows in the value.
    pub(super) fn depends_on_order(&self) -> bool {
        use AggregateOp::{BottomK, LimitK, Stddev, Stdvar, TopK};
        let own = match &self.kind {
            Kind::Group(group) => matches!(group.op, TopK | BottomK | LimitK | Stddev | Stdvar),
            Kind::Instant(function, _) => matches!(function, InstantFn::Info),
            _ => false,
        };
        own || self.parts().into_iter().any(Plan::depends_on_order)
    }
}

/// What a part does.
#[derive(Debug)]
pub(super) enum Kind {
    Number(f64),
    Text(String),
    Select(Selector),
    Range(Range),
    Negate(Box<Plan>),
    Plus(Box<Plan>),
    Join(Join),
    Group(Group),
    /// A function of a number, over every value of a vector.
    Map(fn(f64) -> f64, Box<Plan>),
    Instant(InstantFn, Vec<Plan>),
    /// A function over windows; the other arguments are numbers, in their order.
    Window {
        function: RangeFn,
        range: Box<Plan>,
        args: Vec<Plan>,
    },
}

/// A binary operation.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) op: BinaryOp,
    pub(super) return_bool: bool,
    pub(super) matching: VectorMatching,
    pub(super) left: Box<Plan>,
    pub(super) right: Box<Plan>,
}

/// An aggregation.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) op: AggregateOp,
    pub(super) without: bool,
    pub(super) grouping: Vec<String>,
    pub(super) inner: Box<Plan>,
    pub(super) param: Option<Box<Plan>>,
}

/// Which series, and how far from the time of evaluation.
#[derive(Debug)]
pub(super) struct Selector {
    pub(super) matchers: Vec<Matcher>,
    pub(super) when: Moved,
    /// Whether values between samples are interpolated.
    pub(super) smoothed: bool,
    /// Whether of histograms only numbers and sums are asked for.
    pub(super) stats: bool,
    pub(super) span: Span,
}

/// Moves the time of evaluation, by what is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    /// Nanoseconds.
    offset: i64,
    /// Milliseconds.
    at: Option<i64>,
}

/// Where that leads on a grid, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    offset: i64,
    at: Option<i64>,
}

impl When {
    /// The time that is looked at when `t` is evaluated.
    pub(super) fn of(self, t: i64) -> i64 {
        self.at.unwrap_or(t).saturating_sub(self.offset)
    }

    /// Whether it is always the same.
    pub(super) fn is_fixed(self) -> bool {
        self.at.is_some()
    }

    /// The time of evaluation itself.
    #[cfg(test)]
    pub(super) fn now() -> When {
        When { offset: 0, at: None }
    }
}

impl Moved {
    /// Nanoseconds from what is looked at to the evaluation at `start`, the first step, as Prometheus has them in 64 bits; what is fixed is looked at from there.
    fn nanoseconds(self, start: i64) -> i64 {
        let fixed = self.at.map_or(0, |at| start.wrapping_sub(at).wrapping_mul(NANOSECONDS));
        self.offset.wrapping_add(fixed)
    }

    /// On the grid of an evaluation.
    pub(super) fn on(self, grid: Grid) -> When {
        When { offset: self.nanoseconds(grid.start) / NANOSECONDS, at: self.at.map(|_| grid.start) }
    }

    /// Of a selector within a subquery: where that has a time of its own, and how far both are moved.
    pub(super) fn within(self, outer: Moved) -> Moved {
        if self.at.is_some() { self } else { Moved { offset: self.offset.saturating_add(outer.offset), at: outer.at } }
    }

    /// Whether two always look at the same time.
    pub(super) fn is_as(self, other: Moved) -> bool {
        let fixed = |of: Moved| of.at.map(|at| i128::from(at) * i128::from(NANOSECONDS) - i128::from(of.offset));
        fixed(self) == fixed(other) && (self.at.is_some() || self.offset == other.offset)
    }

    /// The time of evaluation itself.
    pub(super) fn not() -> Moved {
        Moved { offset: 0, at: None }
    }

    /// Whether it is always the same.
    pub(super) fn is_fixed(self) -> bool {
        self.at.is_some()
    }
}

/// Where the samples of a window come from.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) of: RangeOf,
    pub(super) when: Moved,
    /// How long.
    nanoseconds: i64,
}

impl Range {
    /// How long in whole milliseconds, which samples have.
    pub(super) fn ms(&self) -> i64 {
        self.nanoseconds / NANOSECONDS
    }

    /// How far before its end a window begins for who extrapolates, in milliseconds. Prometheus cuts the time to the evaluation, which is negative where `@` moves it
    /// that far.
    pub(super) fn extrapolated_ms(&self, grid: Grid) -> i64 {
        let end = self.when.nanoseconds(grid.start);
        self.nanoseconds.wrapping_add(end) / NANOSECONDS - end / NANOSECONDS
    }

    /// The range in seconds, added up as Go does it.
    pub(super) fn seconds(&self) -> f64 {
        let second = 1000 * NANOSECONDS;
        (self.nanoseconds / second) as f64 + (self.nanoseconds % second) as f64 / 1e9
    }
}

/// A selector, or an expression over a grid of its own.
#[derive(Debug)]
pub(super) enum RangeOf {
    Matchers { matchers: Vec<Matcher>, mode: RangeMode, stats: bool },
    Subquery { inner: Box<Plan>, step: i64 },
}

/// Makes plans for one query.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    params: &'a Params,
    /// Of the part that is planned.
    histograms: Cell<Histograms>,
    /// How many parts there are.
    made: Cell<usize>,
}

/// What the parts around one need of native histograms.
#[derive(Debug, Clone, Copy, Default)]
struct Histograms {
    /// One needs no more than numbers and sums.
    stats: bool,
    /// One needs whole ones.
    whole: bool,
}

impl Histograms {
    /// What the arguments of a function are needed for, beside what it is needed for itself.
    fn of_function(mut self, name: &str) -> Self {
        match name {
            "histogram_count" | "histogram_sum" | "histogram_avg" | "timestamp" | "start_timestamp" | "absent" => {
                self.stats = true;
            }
            "histogram_quantile"
            | "histogram_quantiles"
            | "histogram_fraction"
            | "histogram_stddev"
            | "histogram_stdvar"
            | "changes" => self.whole = true,
            _ => {}
        }
        self
    }

    fn of_operator(mut self, op: BinaryOp) -> Self {
        use BinaryOp::{Equal, NotEqual, TrimLower, TrimUpper};
        self.whole |= matches!(op, Equal | NotEqual | TrimLower | TrimUpper);
        self
    }

    fn whole(mut self, whole: bool) -> Self {
        self.whole |= whole;
        self
    }
}

impl<'a> Planner<'a> {
    pub(super) fn new(params: &'a Params) -> Self {
        Planner { params, histograms: Cell::default(), made: Cell::default() }
    }

    /// How many parts there are.
    pub(super) fn made(&self) -> usize {
        self.made.get()
    }

    fn end_ms(&self) -> i64 {
        if self.params.step_ms == 0 { self.params.start_ms } else { self.params.end_ms }
    }

    /// Makes an expression ready.
    pub(super) fn plan(&self, expr: &Expr) -> Result<Plan, EvalError> {
        let around = self.histograms.get();
        self.histograms.set(match &expr.node {
            Node::Subquery(_) => around.whole(true),
            Node::Binary(binary) => around.of_operator(binary.op),
            Node::Aggregate(aggregate) => around.whole(aggregate.op == AggregateOp::CountValues),
            Node::Call(call) => around.of_function(call.function.name),
            _ => around,
        });
        let plan = self.part(expr);
        self.histograms.set(around);
        plan
    }

    fn part(&self, expr: &Expr) -> Result<Plan, EvalError> {
        let Histograms { stats, whole } = self.histograms.get();
        let stats = stats && !whole;
        let (kind, value, invariant) = match &expr.node {
            Node::Number(n) => (Kind::Number(n.value), ValueType::Scalar, true),
            Node::String(text) => (Kind::Text(text.clone()), ValueType::String, true),
            Node::VectorSelector(selector) => {
                let when = self.when(&selector.offset, selector.at)?;
                let smoothed = selector.mode == RangeMode::Smoothed;
                let kind = Kind::Select(Selector {
                    matchers: selector.matchers.clone(),
                    when,
                    smoothed,
                    stats,
                    span: expr.span,
                });
                (kind, ValueType::InstantVector, when.is_fixed())
            }
            Node::MatrixSelector(matrix) => {
                let nanoseconds = nanoseconds(&matrix.range, self.positive(&matrix.range)?);
                let when = self.when(&matrix.selector.offset, matrix.selector.at)?;
                let VectorSelector { matchers, mode, .. } = &matrix.selector;
                let of = RangeOf::Matchers { matchers: matchers.clone(), mode: *mode, stats };
                (Kind::Range(Range { of, when, nanoseconds }), ValueType::RangeVector, when.is_fixed())
            }
            Node::Subquery(subquery) => self.subquery(subquery)?,
            Node::Unary(unary) => {
                let inner = self.plan(&unary.expr)?;
                let (value, invariant) = (inner.value, inner.invariant);
                let inner = Box::new(inner);
                (if unary.negative { Kind::Negate(inner) } else { Kind::Plus(inner) }, value, invariant)
            }
            Node::Binary(binary) => self.binary(binary)?,
            Node::Aggregate(aggregate) => self.aggregate(aggregate)?,
            Node::Call(call) => self.call(call)?,
            Node::Paren(inner) => return self.plan(inner),
        };
        let id = self.made.replace(self.made.get() + 1);
        Ok(Plan { kind, span: expr.span, value, invariant, id, word: word(&expr.node) })
    }

    fn subquery(&self, subquery: &ast::Subquery) -> Result<(Kind, ValueType, bool), EvalError> {
        let when = self.when(&subquery.offset, subquery.at)?;
        // The step before the range, as Prometheus looks at them.
        let step = match &subquery.step {
            Some(step) => self.positive(step)?,
            None => 0,
        };
        let nanoseconds = nanoseconds(&subquery.range, self.positive(&subquery.range)?);
        let step = match (step, &subquery.step) {
            (0, Some(DurationExpr::Literal(_))) => {
                return Err(EvalError::Execution("a step of a subquery is less than a millisecond".to_owned()));
            }
            // Of an expression it counts as none.
            (0, _) => self.params.default_subquery_step_ms,
            (step, _) => step,
        };
        let inner = Box::new(self.plan(&subquery.expr)?);
        let of = RangeOf::Subquery { inner, step };
        Ok((Kind::Range(Range { of, when, nanoseconds }), ValueType::RangeVector, when.is_fixed()))
    }

    fn binary(&self, binary: &Binary) -> Result<(Kind, ValueType, bool), EvalError> {
        let (left, right) = (self.plan(&binary.left)?, self.plan(&binary.right)?);
        let scalars = left.value == ValueType::Scalar && right.value == ValueType::Scalar;
        let value = if scalars { ValueType::Scalar } else { ValueType::InstantVector };
        let invariant = left.invariant && right.invariant;
        let join = Join {
            op: binary.op,
            return_bool: binary.return_bool,
            matching: binary.matching.clone(),
            left: Box::new(left),
            right: Box::new(right),
        };
        Ok((Kind::Join(join), value, invariant))
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Result<(Kind, ValueType, bool), EvalError> {
        let inner = self.plan(&aggregate.expr)?;
        let param = aggregate.param.as_deref().map(|param| self.plan(param)).transpose()?;
        let invariant = inner.invariant;
        let group = Group {
            op: aggregate.op,
            without: aggregate.without,
            grouping: aggregate.grouping.clone(),
            inner: Box::new(inner),
            param: param.map(Box::new),
        };
        Ok((Kind::Group(group), ValueType::InstantVector, invariant))
    }

    fn call(&self, call: &Call) -> Result<(Kind, ValueType, bool), EvalError> {
        let name = call.function.name;
        let (start, end) = (self.params.start_ms, self.end_ms());
        let constant = match name {
            "pi" => Some(std::f64::consts::PI),
            "start" => Some(start as f64 / 1000.0),
            "end" => Some(end as f64 / 1000.0),
            "range" => Some((end - start) as f64 / 1000.0),
            "step" => Some(if start == end { 0.0 } else { self.params.step_ms as f64 / 1000.0 }),
            _ => None,
        };
        if let Some(v) = constant {
            return Ok((Kind::Number(v), ValueType::Scalar, true));
        }
        let Some(function) = functions::find(name) else {
            return Err(EvalError::NotEvaluated(format!("function {name}")));
        };
        let args = call.args.iter().map(|arg| self.plan(arg)).collect::<Result<Vec<_>, _>>()?;
        let mut invariant = !functions::depends_on_time(name) && args.iter().all(|arg| arg.invariant);
        // Its selector names labels, and looks at the time that all of the series do, or at that of the step.
        if name == "info" {
            invariant = args[0].invariant && call::info::has_one_time(&args[0]);
        }
        if matches!(name, "timestamp" | "start_timestamp") {
            invariant = args.iter().all(|arg| arg.invariant && matches!(arg.kind, Kind::Select(_)));
        }
        let kind = function(name, args)?;
        if let Kind::Window { function, range, .. } = &kind
            && let Kind::Range(Range { of: RangeOf::Matchers { mode, .. }, .. }) = &range.kind
        {
            range::extended::check(*mode, *function, name)?;
        }
        Ok((kind, call.function.returns, invariant))
    }

    fn when(&self, offset: &ast::DurationExpr, at: Option<At>) -> Result<Moved, EvalError> {
        let at = at.map(|at| match at {
            At::Time(t) => t,
            At::Start => self.params.start_ms,
            At::End => self.end_ms(),
        });
        Ok(Moved { offset: nanoseconds(offset, self.duration(offset, true)?), at })
    }
}

fn word(node: &Node) -> &'static str {
    match node {
        Node::Number(_) => "numberLiteral",
        Node::String(_) => "stringLiteral",
        Node::VectorSelector(_) => "vectorSelector",
        Node::MatrixSelector(_) => "matrixSelector",
        Node::Subquery(_) => "subquery",
        Node::Unary(_) => "unaryExpr",
        Node::Paren(_) => "parenExpr",
        Node::Binary(_) => "binaryExpr",
        Node::Aggregate(_) => "aggregation",
        Node::Call(_) => "call",
    }
}
