//! `info`: labels of series that describe others, such as `target_info`, joined to these by `job` and `instance`.

mod join;

use std::collections::BTreeMap;

use model::{Labels, METRIC_NAME, MatchOp, Matcher};

use crate::eval::grid::Grid;
use crate::eval::matrix::{Matrix, is_present};
use crate::eval::node::vector;
use crate::eval::plan::{Kind, Moved, Plan, RangeOf, Selector};
use crate::eval::{Context, EvalError, select};

/// The labels by which a series and what describes it belong together.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
const TARGET_INFO: &str = "target_info";

/// `info(series[, {labels}])`.
pub(super) fn eval(context: &Context, args: &[Plan], grid: Grid) -> Result<Matrix, EvalError> {
    let base = vector(context, &args[0], grid)?;
    let (selectors, data, described) = selectors(&base, args)?;
    let found = selectors.iter().map(|selector| select::times_of_floats(context, selector, grid));
    let found = Matrix::concat(context, grid.n, found.collect::<Result<_, _>>()?)?;
    join::Join::new(context, &base, &found, described, &data).all()
}

/// Selectors, the matchers of labels that are asked for, and which series of the base are described by others.
type Asked = (Vec<Selector>, Vec<Matcher>, Vec<bool>);

/// The selectors of what describes the base, with what else is known from the arguments.
pub(in crate::eval) fn selectors(base: &Matrix, args: &[Plan]) -> Result<Asked, EvalError> {
    let asked = match args.get(1).map(|arg| &arg.kind) {
        Some(Kind::Select(selector)) => selector.matchers.as_slice(),
        _ => &[],
    };
    let (names, data): (Vec<Matcher>, Vec<Matcher>) = asked.iter().cloned().partition(|m| m.name == METRIC_NAME);
    let names = of_names(names)?;
    let is_info = |row: usize| names.iter().all(|m| m.matches(base.labels(row).metric_name()));
    // What has no value is not asked for.
    let is_there = |row: usize| base.row(row).iter().any(|v| is_present(*v));
    let described: Vec<bool> = (0..base.len()).map(|row| is_there(row) && !is_info(row)).collect();
    let when = Reference::of(&args[0]).when();
    let selector = |identifying: Vec<Matcher>| {
        let matchers = [identifying.as_slice(), &data, &names].concat();
        Selector { matchers, when, smoothed: false, stats: false, span: args[0].span }
    };
    let selectors = identifying(base, &described)?.into_iter().map(selector).collect();
    Ok((selectors, data, described))
}

/// The values of the labels by which a series and what describes it belong together.
fn identity(labels: &Labels) -> [&str; 2] {
    IDENTIFYING.map(|name| labels.get(name).unwrap_or(""))
}

/// The matchers of names that count: where none says which ones, those that end in `_info`, or `target_info` where there is no matcher at all.
fn of_names(mut names: Vec<Matcher>) -> Result<Vec<Matcher>, EvalError> {
    if names.iter().any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex)) {
        return Ok(names);
    }
    if names.is_empty() {
        return Ok(vec![Matcher::equal(METRIC_NAME, TARGET_INFO)]);
    }
    names.insert(0, matcher(MatchOp::Regex, METRIC_NAME, ".+_info")?);
    Ok(names)
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Result<Matcher, EvalError> {
    Matcher::new(op, name, value).map_err(|error| EvalError::Execution(error.to_string()))
}

/// Matchers of what may describe the series: one set for those that have both labels, and one for those that have either.
fn identifying(base: &Matrix, described: &[bool]) -> Result<Vec<Vec<Matcher>>, EvalError> {
    let mut groups: BTreeMap<[bool; 2], [Vec<&str>; 2]> = BTreeMap::new();
    for row in (0..base.len()).filter(|row| described[*row]) {
        let values = identity(base.labels(row));
        let present = values.map(|value| !value.is_empty());
        if present == [false; 2] {
            continue;
        }
        let group = groups.entry(present).or_default();
        group.iter_mut().zip(values).for_each(|(all, value)| all.push(value));
    }
    let set = |(present, mut values): ([bool; 2], [Vec<&str>; 2])| {
        let one = |at: usize, values: &mut Vec<&str>| {
            if !present[at] {
                return Ok(Matcher::equal(IDENTIFYING[at], ""));
            }
            values.sort_unstable();
            values.dedup();
            let pattern: Vec<String> = values.iter().map(|value| regex::escape(value)).collect();
            matcher(MatchOp::Regex, IDENTIFYING[at], &pattern.join("|"))
        };
        let [first, second] = &mut values;
        Ok(vec![one(0, first)?, one(1, second)?])
    };
    groups.into_iter().map(set).collect()
}

/// Whether all selectors of an expression look at the same time, so that what describes its series is looked for at that time too.
pub(in crate::eval) fn has_one_time(plan: &Plan) -> bool {
    matches!(Reference::of(plan), Reference::All(_))
}

/// The time that the selectors of an expression look at, if it is the same for all.
#[derive(Debug, Clone, Copy)]
enum Reference {
    /// There is no selector.
    None,
    All(Moved),
    /// They differ, or a part has none.
    Mixed,
}

impl Reference {
    fn when(self) -> Moved {
        match self {
            Reference::All(when) => when,
            Reference::None | Reference::Mixed => Moved::not(),
        }
    }

    fn join(self, other: Reference) -> Reference {
        match (self, other) {
            (Reference::All(a), Reference::All(b)) if a.is_as(b) => self,
            _ => Reference::Mixed,
        }
    }

    fn of(plan: &Plan) -> Reference {
        Reference::within(plan, Moved::not())
    }

    fn within(plan: &Plan, outer: Moved) -> Reference {
        let all = |plans: &[&Plan]| {
            // Numbers and texts look at nothing, and do not count.
            let series = plans.iter().filter(|plan| plan.value.is_series());
            let parts = series.map(|plan| match Reference::within(plan, outer) {
                Reference::None => Reference::Mixed,
                reference => reference,
            });
            parts.reduce(Reference::join).unwrap_or(Reference::None)
        };
        match &plan.kind {
            Kind::Number(_) | Kind::Text(_) => Reference::None,
            Kind::Select(selector) => Reference::All(selector.when.within(outer)),
            Kind::Range(range) => match &range.of {
                RangeOf::Matchers { .. } => Reference::All(range.when.within(outer)),
                RangeOf::Subquery { inner, .. } => Reference::within(inner, range.when.within(outer)),
            },
            Kind::Negate(inner) | Kind::Plus(inner) | Kind::Map(_, inner) => Reference::within(inner, outer),
            Kind::Join(join) => all(&[&join.left, &join.right]),
            Kind::Group(group) => all(&[&group.inner]),
            Kind::Instant(super::InstantFn::Info, args) => Reference::within(&args[0], outer),
            Kind::Instant(_, args) => all(&args.iter().collect::<Vec<_>>()),
            Kind::Window { range, .. } => Reference::within(range, outer),
        }
    }
}
