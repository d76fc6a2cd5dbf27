//! `info`: labels of series that describe others, such as `target_info`, joined to these by `job` and `instance`.

use std::collections::{BTreeMap, HashMap};

use model::{Labels, METRIC_NAME, MatchOp, Matcher};

use crate::eval::grid::Grid;
use crate::eval::labels::is_metadata;
use crate::eval::matrix::{Matrix, is_present};
use crate::eval::node::vector;
use crate::eval::plan::{Kind, Plan, RangeOf, Selector, When};
use crate::eval::{Context, EvalError, select};

/// The labels by which a series and what describes it belong together.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
const TARGET_INFO: &str = "target_info";

/// `info(series[, {labels}])`.
pub(super) fn eval(context: &Context, args: &[Plan], grid: Grid) -> Result<Matrix, EvalError> {
    let base = vector(context, &args[0], grid)?;
    let asked = match args.get(1).map(|arg| &arg.kind) {
        Some(Kind::Select(selector)) => selector.matchers.as_slice(),
        _ => &[],
    };
    let (names, data): (Vec<Matcher>, Vec<Matcher>) = asked.iter().cloned().partition(|m| m.name == METRIC_NAME);
    let names = of_names(names)?;
    let is_info = |row: usize| names.iter().all(|m| m.matches(base.labels(row).metric_name()));
    let described: Vec<usize> = (0..base.len()).filter(|row| !is_info(*row)).collect();
    let mut found = Vec::new();
    for identifying in identifying(&base, &described)? {
        let matchers = [identifying.as_slice(), &data, &names].concat();
        let when = Reference::of(&args[0]).when();
        let selector = Selector { matchers, when, smoothed: false, stats: false, span: args[0].span };
        found.push(select::times_of_floats(context, &selector, grid)?);
    }
    let found = Matrix::concat(context, grid.n, found)?;
    let join = Join { context, base: &base, info: &found, data: &data };
    join.all(&is_info)
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
fn identifying(base: &Matrix, described: &[usize]) -> Result<Vec<Vec<Matcher>>, EvalError> {
    let mut groups: BTreeMap<[bool; 2], [Vec<&str>; 2]> = BTreeMap::new();
    for row in described {
        let values = IDENTIFYING.map(|name| base.labels(*row).get(name).unwrap_or(""));
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

/// The time that the selectors of an expression look at, if it is the same for all.
#[derive(Debug, Clone, Copy)]
enum Reference {
    /// There is no selector.
    None,
    All(When),
    /// They differ, or a part has none.
    Mixed,
}

impl Reference {
    fn when(self) -> When {
        match self {
            Reference::All(when) => when,
            Reference::None | Reference::Mixed => When::now(),
        }
    }

    fn join(self, other: Reference) -> Reference {
        match (self, other) {
            (Reference::All(a), Reference::All(b)) if a.is_as(b) => self,
            _ => Reference::Mixed,
        }
    }

    fn of(plan: &Plan) -> Reference {
        Reference::within(plan, When::now())
    }

    fn within(plan: &Plan, outer: When) -> Reference {
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

struct Join<'a> {
    context: &'a Context<'a>,
    base: &'a Matrix,
    /// What describes; its values are the times of its samples.
    info: &'a Matrix,
    data: &'a [Matcher],
}

/// A name with the values of the identifying labels.
type Key<'a> = (&'a str, [&'a str; 2]);

impl Join<'_> {
    fn all(&self, is_info: &dyn Fn(usize) -> bool) -> Result<Matrix, EvalError> {
        let mut out = Matrix::new(self.context, self.base.steps());
        let mut rows: HashMap<Labels, usize> = HashMap::new();
        for step in 0..self.base.steps() {
            self.context.check_cancelled()?;
            let newest = self.newest(step)?;
            for row in (0..self.base.len()).filter(|row| is_present(self.base.row(*row)[step])) {
                let labels = match is_info(row) {
                    true => Some(self.base.labels(row).clone()),
                    false => self.labels(row, &newest)?,
                };
                let Some(labels) = labels else { continue };
                let to = match rows.get(&labels) {
                    Some(to) => *to,
                    None => {
                        out.add(labels.clone(), self.base.drop_name(row))?;
                        rows.insert(labels, out.len() - 1);
                        out.len() - 1
                    }
                };
                if is_present(out.row(to)[step]) {
                    return Err(EvalError::same_labelset());
                }
                out.copy(to, self.base, row, |at| at == step)?;
            }
        }
        Ok(out)
    }

    /// Of what describes the same at a step, the one with the newest sample.
    fn newest(&self, step: usize) -> Result<BTreeMap<Key<'_>, usize>, EvalError> {
        let mut newest: BTreeMap<Key<'_>, usize> = BTreeMap::new();
        for row in 0..self.info.len() {
            let t = self.info.row(row)[step];
            if !is_present(t) {
                continue;
            }
            let labels = self.info.labels(row);
            let key = (labels.metric_name(), IDENTIFYING.map(|name| labels.get(name).unwrap_or("")));
            let before = newest.get(&key).map(|before| (*before, self.info.row(*before)[step]));
            match before {
                Some((_, before_t)) if before_t > t => continue,
                Some((before, before_t)) if before_t == t => {
                    let ms = (t * 1000.0).round() as i64;
                    return Err(EvalError::Execution(format!(
                        "found duplicate series for info metric: existing {} @ {ms}, new {labels} @ {ms}",
                        self.info.labels(before)
                    )));
                }
                _ => {}
            }
            newest.insert(key, row);
        }
        Ok(newest)
    }

    /// The labels of a series with those that describe it; `None` where there are none, and some were asked for.
    fn labels(&self, row: usize, newest: &BTreeMap<Key<'_>, usize>) -> Result<Option<Labels>, EvalError> {
        let base = self.base.labels(row);
        let identity = IDENTIFYING.map(|name| base.get(name).unwrap_or(""));
        let mut labels = base.clone();
        let (mut added, mut any): (BTreeMap<&str, &str>, bool) = (BTreeMap::new(), false);
        for ((_, of), info) in newest {
            if *of != identity {
                continue;
            }
            any = true;
            for (name, value) in self.info.labels(*info).iter() {
                let is_asked = self.data.is_empty() || self.data.iter().any(|m| m.name == name);
                if is_metadata(name) || !is_asked {
                    continue;
                }
                if added.get(name).is_some_and(|before| *before != value) {
                    return Err(EvalError::Execution(format!("conflicting label: {name}")));
                }
                if base.get(name).is_none() {
                    added.insert(name, value);
                    labels = labels.with(name, value);
                }
            }
        }
        let needs_none = self.data.iter().all(|m| m.matches(""));
        Ok((any || needs_none).then_some(labels))
    }
}
