//! How the parts of an expression are evaluated, in words, with what they took where that was measured.
//!
//! It says what the evaluator does, part by part, as the plan has it: parentheses are gone, a function without arguments that is the same for a query is a number,
//! and a part that stands in the text more than once is evaluated once, of which the others say that they may have its value.

use std::time::Duration;

use model::Aspect;

use super::call::InstantFn;
use super::grid::Grid;
use super::measure::{Counters, Part};
use super::plan::{Group, Join, Kind, Plan, Range, RangeOf, Selector};
use super::range::{Job, Together, enough_for, subquery_grid};
use super::shared::Shared;
use super::{Params, aggregate};
use crate::ast::{AggregateOp, BinaryOp, RangeMode, ValueType};

/// Bytes of the text of a part. Without a bound a deep expression would be told once for each level.
const TEXT_BYTES_MAX: usize = 160;

/// A part of an expression, and how it is evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Its text as it was asked, of a bounded length.
    pub node: String,
    /// What it is, in the words of Prometheus' tree of an expression.
    pub kind: &'static str,
    /// What it yields.
    pub value: ValueType,
    /// What the evaluator does for it.
    pub strategy: String,
    /// At how many times it is evaluated; 0 where it is not.
    pub steps: usize,
    /// What it took. Nothing where that was not asked for, or the part was not evaluated, because it was not needed or another answered for it.
    pub measured: Option<Measured>,
    /// Its parts, in the order of the text.
    pub children: Vec<Explanation>,
}

/// What a part took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// From its beginning to its end, its parts included. A thread that waits for others may work for another query in the meantime.
    pub wall: Duration,
    /// Of that, what its parts did not take.
    pub own_wall: Duration,
    /// Series of its value; a number is one, and of a range vector it is those that were found.
    pub series: u64,
    /// Series that selectors found for it and its parts.
    pub series_found: u64,
    /// Samples that were read for it and its parts.
    pub samples_read: u64,
    /// Bytes that its value held.
    pub memory_bytes: u64,
    /// Series of which its selector read what is known of chunks in place of some of their samples.
    pub series_outlined: u64,
    /// Pieces of work that it gave to the threads of the pool.
    pub parallel_tasks: u64,
}

/// The tree of an expression. `measured` has what was measured of each part, by its number.
pub(super) fn tree(
    text: &str,
    params: &Params,
    plan: &Plan,
    grid: Grid,
    measured: Option<&[Option<Part>]>,
) -> Explanation {
    let shared = Shared::of(plan, text, grid);
    let together = Together::of(plan, &shared, grid, params);
    Explainer { text, params, measured, shared, together }.part(plan, Some(grid), None)
}

struct Explainer<'a> {
    text: &'a str,
    params: &'a Params,
    measured: Option<&'a [Option<Part>]>,
    shared: Shared,
    together: Together<'a>,
}

impl Explainer<'_> {
    fn part(&self, plan: &Plan, outer: Option<Grid>, parent: Option<&Plan>) -> Explanation {
        let grid = outer.map(|outer| if plan.invariant { outer.first() } else { outer });
        let inner = match (&plan.kind, grid) {
            (Kind::Range(range), Some(grid)) => match &range.of {
                RangeOf::Subquery { step, .. } => subquery_grid(range, *step, grid),
                RangeOf::Matchers { .. } => Some(grid),
            },
            _ => grid,
        };
        let parts = plan.parts();
        let measured = self.measured_of(plan).map(|all| {
            let of_parts = parts.iter().filter_map(|part| self.measured_of(part));
            let (wall, counters) = of_parts.fold((Duration::ZERO, Counters::default()), |(wall, counters), part| {
                (wall + part.wall, counters.plus(part.counters))
            });
            let own = all.counters.since(counters);
            Measured {
                wall: all.wall,
                own_wall: all.wall.saturating_sub(wall),
                series: all.series as u64,
                series_found: all.counters.found,
                samples_read: all.counters.samples,
                memory_bytes: all.memory_bytes as u64,
                series_outlined: own.outlined,
                parallel_tasks: own.tasks,
            }
        });
        let how = grid.map_or_else(|| "not evaluated".to_owned(), |grid| self.strategy(plan, grid, parent));
        let once = plan.invariant && outer.is_some_and(|grid| grid.n > 1) && !is_constant(plan);
        Explanation {
            node: self.text_of(plan),
            kind: plan.word,
            value: plan.value,
            strategy: [
                if self.shared.has(plan) { "once for all parts of this text: " } else { "" },
                if once { "once for all steps: " } else { "" },
                &how,
            ]
            .concat(),
            steps: grid.map_or(0, |grid| grid.n),
            measured,
            children: parts.into_iter().map(|part| self.part(part, inner, Some(plan))).collect(),
        }
    }

    fn measured_of(&self, plan: &Plan) -> Option<Part> {
        self.measured?.get(plan.id).copied().flatten()
    }

    /// The text of a part, on one line.
    fn text_of(&self, plan: &Plan) -> String {
        let text = self.text.get(plan.span.start..plan.span.end).unwrap_or_default();
        if text.len() <= TEXT_BYTES_MAX {
            return text.trim().to_owned();
        }
        format!("{}…", &text[..text.floor_char_boundary(TEXT_BYTES_MAX)])
    }

    fn strategy(&self, plan: &Plan, grid: Grid, parent: Option<&Plan>) -> String {
        match &plan.kind {
            Kind::Number(_) | Kind::Text(_) => "constant",
            Kind::Select(selector) => return self.selector(selector, grid, parent),
            Kind::Range(range) => return self.range(range, grid, parent),
            Kind::Plus(_) => "as it is",
            Kind::Negate(_) | Kind::Map(..) => "in place",
            Kind::Join(join) => of_join(join),
            Kind::Group(group) => self.group(group, grid),
            Kind::Instant(function, args) => of_function(*function, args, grid),
            Kind::Window { range, .. } => match &range.kind {
                Kind::Range(Range { of: RangeOf::Subquery { .. }, .. }) => {
                    "windows slide over the values of the subquery, series after series"
                }
                _ => "windows slide over each series as it is read, series in parallel",
            },
        }
        .to_owned()
    }

    fn selector(&self, selector: &Selector, grid: Grid, parent: Option<&Plan>) -> String {
        let what = match parent.map(|parent| &parent.kind) {
            Some(Kind::Instant(InstantFn::Timestamp, _)) => "times of the newest samples at each step",
            Some(Kind::Instant(InstantFn::StartTimestamp, _)) if self.params.features.use_start_timestamps => {
                "when the counting of the newest samples began, at each step"
            }
            Some(Kind::Instant(InstantFn::StartTimestamp, _)) => {
                return "not read: start timestamps are not used".to_owned();
            }
            Some(Kind::Instant(InstantFn::Info, args)) if args.get(1).is_some_and(|arg| is_of(&arg.kind, selector)) => {
                return "not read by itself: says which labels are joined".to_owned();
            }
            _ if selector.smoothed => {
                return "one request for the whole range; values between samples at each step, series after series"
                    .to_owned();
            }
            _ => "newest sample at each step",
        };
        let all = format!("one request for the whole range; {what}, series in parallel");
        let all = if selector.stats { format!("{all}; of histograms counts and sums only") } else { all };
        match parent.map(|parent| &parent.kind) {
            Some(Kind::Group(group)) if aggregate::count::question(group, grid).is_some() => match self.measured {
                None => format!("read only where the index cannot count it: {all}"),
                Some(_) if self.measured_of(&group.inner).is_none() => "not read: the index counted it".to_owned(),
                Some(_) => all,
            },
            _ => all,
        }
    }

    fn range(&self, range: &Range, grid: Grid, parent: Option<&Plan>) -> String {
        let (mode, stats) = match &range.of {
            RangeOf::Subquery { step, .. } => {
                let every = model::time::format_duration_ms(*step);
                return match subquery_grid(range, *step, grid) {
                    Some(_) => format!("inner expression at multiples of {every}"),
                    None => format!("no multiple of {every} is in the range"),
                };
            }
            RangeOf::Matchers { mode, stats, .. } => (*mode, *stats),
        };
        let Some(job) = parent.and_then(Job::of) else {
            return "one request; all samples, series after series".to_owned();
        };
        let jobs = self.together.all_with(job);
        let what = match enough_for(self.params, &jobs, grid) {
            Some((aspect, _)) => {
                format!("what is known of chunks where it is enough ({}), else their samples", of_aspect(aspect))
            }
            None if mode != RangeMode::Normal => "all samples, and those around the range".to_owned(),
            None => "all samples".to_owned(),
        };
        let what = if stats { format!("{what}; of histograms counts and sums only") } else { what };
        match jobs.len() - 1 {
            0 => format!("one request for the whole range; {what}"),
            1 => format!("one request for the whole range, for another function too; {what}"),
            others => format!("one request for the whole range, for {others} other functions too; {what}"),
        }
    }

    fn group(&self, group: &Group, grid: Grid) -> &'static str {
        const IN_PARALLEL: &str = "groups in parallel, each series after series";
        if aggregate::count::question(group, grid).is_some() {
            return match self.measured {
                None => "counted by the index where it can tell, else groups in parallel",
                Some(_) if self.measured_of(&group.inner).is_none() => "counted by the index, no series is read",
                Some(_) => "the index could not tell: groups in parallel, each series after series",
            };
        }
        match group.op {
            AggregateOp::TopK | AggregateOp::BottomK => {
                "series of a group ranked at each step, groups one after the other"
            }
            AggregateOp::LimitK => "first series of a group at each step, groups one after the other",
            AggregateOp::LimitRatio => "series chosen by a hash of their labels",
            AggregateOp::CountValues => "series after series",
            _ => IN_PARALLEL,
        }
    }
}

fn is_constant(plan: &Plan) -> bool {
    matches!(plan.kind, Kind::Number(_) | Kind::Text(_))
}

fn is_of(kind: &Kind, selector: &Selector) -> bool {
    matches!(kind, Kind::Select(own) if std::ptr::eq(own, selector))
}

fn of_join(join: &Join) -> &'static str {
    match (join.left.value, join.right.value) {
        (ValueType::Scalar, ValueType::Scalar) => "number by number",
        (ValueType::InstantVector, ValueType::InstantVector) => match join.op {
            BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => {
                "series matched once by a hash of their labels; kept at the steps at which the other side has, or lacks, a value"
            }
            _ => "series matched once by a hash of their labels; then step by step",
        },
        _ => "in place",
    }
}

fn of_function(function: InstantFn, args: &[Plan], grid: Grid) -> &'static str {
    match function {
        InstantFn::Clamp | InstantFn::ClampMin | InstantFn::ClampMax | InstantFn::Round => "in place",
        InstantFn::OfHistogram(_) => "in place",
        InstantFn::Date(_) if !args.is_empty() => "in place",
        InstantFn::Timestamp | InstantFn::StartTimestamp
            if args.first().is_some_and(|arg| matches!(arg.kind, Kind::Select(_))) =>
        {
            "what its selector reads in place of values"
        }
        InstantFn::Info => {
            "a request for what describes the series of the first argument; joined to these by a hash of job and instance"
        }
        InstantFn::Sort { .. } | InstantFn::SortByLabel { .. } if grid.n > 1 => "as it is: a range has no order",
        InstantFn::Sort { .. } | InstantFn::SortByLabel { .. } => "series sorted",
        InstantFn::LabelReplace | InstantFn::LabelJoin => "labels rewritten, series after series",
        InstantFn::HistogramQuantile | InstantFn::HistogramQuantiles | InstantFn::HistogramFraction => {
            "buckets brought together once by a hash of their labels; then step by step"
        }
        InstantFn::Scalar
        | InstantFn::Vector
        | InstantFn::Time
        | InstantFn::Timestamp
        | InstantFn::StartTimestamp
        | InstantFn::MaxOf
        | InstantFn::MinOf
        | InstantFn::Date(_)
        | InstantFn::Absent => "step by step",
    }
}

fn of_aspect(aspect: Aspect) -> &'static str {
    match aspect {
        Aspect::Ends => "first, last and number of samples",
        Aspect::Falls => "falls of a counter",
        Aspect::Changes => "changes",
        Aspect::Min => "minimum",
        Aspect::Max => "maximum",
        Aspect::Sum => "sum",
    }
}
