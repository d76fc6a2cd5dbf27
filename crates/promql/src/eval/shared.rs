//! Parts that stand in the text more than once, and are evaluated once.
//!
//! Two parts are the same where their text is, where as much of histograms is asked of the one as of the other, and where they are evaluated at the same times: those of
//! the query, or those of subqueries of the same range and step. The value of the first that is evaluated is kept until the others have taken it. The price is a copy of it, so large ones are not kept, nor those that raised a note: notes tell places, and each
//! part has its own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::aggregate::count::question;
use super::call::InstantFn;
use super::grid::Grid;
use super::matrix::Matrix;
use super::node::{self, Val};
use super::plan::{Kind, Plan, Range, RangeOf};
use super::range::subquery_grid;
use super::{Context, EvalError};
use crate::ast::ValueType;

/// Longer texts are not looked at: that would take the square of their length.
const TEXT_BYTES_MAX: usize = 4096;
/// All that is kept of one kind, of parts that are the same or of functions that are evaluated together, has at most this part of the samples that a query may hold.
pub(super) const SHARE: usize = 16;

/// Which parts are the same, and the values that are kept.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// By the number of the part: of which class it is.
    classes: HashMap<usize, usize>,
    kept: Mutex<AllKept>,
}

/// The values that are kept, by class.
#[derive(Debug, Default)]
struct AllKept {
    classes: Vec<Kept>,
    /// What they count as together, in samples.
    samples: usize,
}

#[derive(Debug)]
struct Kept {
    /// How many parts have not asked yet.
    left: usize,
    value: Option<(Grid, Matrix)>,
}

/// A part with its text, what is asked of histograms in it, and when it is evaluated.
type Key<'a> = (&'a str, Vec<bool>, Grid);

impl Shared {
    /// The parts of an expression over a grid that are the same; `text` is what it was parsed from.
    pub(super) fn of(plan: &Plan, text: &str, grid: Grid) -> Shared {
        if text.len() > TEXT_BYTES_MAX {
            return Shared::default();
        }
        let mut times: HashMap<Key<'_>, usize> = HashMap::new();
        each(plan, grid, &mut |part, grid| {
            if let Some(key) = key(part, text, grid) {
                *times.entry(key).or_default() += 1;
            }
            true
        });
        times.retain(|_, times| *times > 1);
        let mut classes_of: HashMap<Key<'_>, usize> = HashMap::new();
        let (mut classes, mut kept) = (HashMap::new(), Vec::new());
        if times.is_empty() {
            return Shared::default();
        }
        each(plan, grid, &mut |part, grid| {
            let Some(key) = key(part, text, grid).filter(|key| times.contains_key(key)) else { return true };
            let class = *classes_of.entry(key).or_insert(kept.len());
            if class == kept.len() {
                kept.push(Kept { left: 0, value: None });
            }
            kept[class].left += 1;
            classes.insert(part.id, class);
            // What is in it is evaluated with it.
            false
        });
        // One may stand alone, where the others are in larger parts that are the same.
        classes.retain(|_, class| kept[*class].left > 1);
        Shared { classes, kept: Mutex::new(AllKept { classes: kept, samples: 0 }) }
    }

    /// Whether a part is one of several that are the same.
    pub(super) fn has(&self, plan: &Plan) -> bool {
        self.class_of(plan).is_some()
    }

    /// Of which of those parts one is, if it is one.
    pub(super) fn class_of(&self, plan: &Plan) -> Option<usize> {
        self.classes.get(&plan.id).copied()
    }
}

/// Goes through the parts that are evaluated, with the times at which they are, a part before those in it; `see` says whether to go on to these.
pub(super) fn each<'a>(plan: &'a Plan, grid: Grid, see: &mut dyn FnMut(&'a Plan, Grid) -> bool) {
    if !see(plan, grid) {
        return;
    }
    let grid = node::steps_of(plan, grid);
    let grid = match &plan.kind {
        Kind::Range(range) => match &range.of {
            RangeOf::Subquery { step, .. } => subquery_grid(range, *step, grid),
            RangeOf::Matchers { .. } => None,
        },
        // Of a selector its own samples are looked at, for their times.
        Kind::Instant(InstantFn::Timestamp, args) if matches!(args[0].kind, Kind::Select(_)) => None,
        Kind::Instant(InstantFn::StartTimestamp, _) => None,
        // An index is asked; only where that cannot tell is the selector read, and then by itself.
        Kind::Group(group) if question(group, grid).is_some() => None,
        _ => Some(grid),
    };
    if let Some(grid) = grid {
        plan.parts().into_iter().for_each(|part| each(part, grid, see));
    }
}

/// `None` for a part that is not worth it: one that reads no series, or is no vector.
fn key<'a>(plan: &Plan, text: &'a str, grid: Grid) -> Option<Key<'a>> {
    if plan.value != ValueType::InstantVector {
        return None;
    }
    let mut stats = Vec::new();
    histograms(plan, &mut stats);
    let own = text.get(plan.span.start..plan.span.end)?;
    (!stats.is_empty()).then_some((own, stats, grid))
}

/// Of every selector whether only numbers and sums of histograms are asked for.
fn histograms(plan: &Plan, stats: &mut Vec<bool>) {
    match &plan.kind {
        Kind::Select(selector) => stats.push(selector.stats),
        Kind::Range(Range { of: RangeOf::Matchers { stats: own, .. }, .. }) => stats.push(*own),
        _ => {}
    }
    plan.parts().into_iter().for_each(|part| histograms(part, stats));
}

/// Evaluates a part, or takes the value that the same one had.
pub(super) fn eval(context: &Context, plan: &Plan, grid: Grid) -> Result<Val, EvalError> {
    let Some(class) = context.shared.class_of(plan) else { return node::at_steps(context, plan, grid) };
    if let Some(matrix) = take(context, class, grid) {
        return Ok(Val::Vector(matrix));
    }
    let raised = context.notes.raised();
    let value = node::at_steps(context, plan, grid)?;
    if let Val::Vector(matrix) = &value
        && context.notes.raised() == raised
    {
        keep(context, class, grid, matrix);
    }
    Ok(value)
}

/// The value that is kept: a copy, or itself for the last that asks, and for who has no room for a copy.
fn take(context: &Context, class: usize, grid: Grid) -> Option<Matrix> {
    let mut all = context.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
    let AllKept { classes, samples } = &mut *all;
    let kept = &mut classes[class];
    kept.left = kept.left.saturating_sub(1);
    let (_, matrix) = kept.value.as_ref().filter(|(of, _)| *of == grid)?;
    if kept.left > 0
        && let Ok(matrix) = copy(context, matrix)
    {
        return Some(matrix);
    }
    let (_, matrix) = kept.value.take()?;
    *samples -= matrix.samples();
    Some(matrix)
}

/// Keeps a copy, where there is room for it and somebody who will ask for it.
fn keep(context: &Context, class: usize, grid: Grid, matrix: &Matrix) {
    let mut all = context.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
    let AllKept { classes, samples } = &mut *all;
    let kept = &mut classes[class];
    let room = context.params.samples_max / SHARE;
    if kept.left > 0 && kept.value.is_none() && *samples + matrix.samples() <= room {
        // Who has no room for it does without.
        kept.value = copy(context, matrix).ok().map(|matrix| (grid, matrix));
        *samples += kept.value.as_ref().map_or(0, |(_, matrix)| matrix.samples());
    }
}

fn copy(context: &Context, matrix: &Matrix) -> Result<Matrix, EvalError> {
    matrix.pick(context, &(0..matrix.len()).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{params, plan};

    /// The texts of the parts that are the same as another one, in their order.
    fn same(text: &str) -> Vec<String> {
        same_up_to(text, 60_000)
    }

    /// As [`same`], at the steps up to a time.
    fn same_up_to(text: &str, end_ms: i64) -> Vec<String> {
        let (plan, grid) = plan(text, &params(end_ms, 1000));
        let shared = Shared::of(&plan, text, grid);
        let mut found = Vec::new();
        each(&plan, grid, &mut |part, _| {
            if shared.has(part) {
                found.push(text[part.span.start..part.span.end].to_owned());
            }
            true
        });
        found
    }

    #[test]
    fn the_largest_parts_that_are_the_same_are_found() {
        assert_eq!(same("a / (a + b)"), ["a", "a"]);
        assert_eq!(same("sum(rate(a[5m])) / (sum(rate(a[5m])) + b)"), ["sum(rate(a[5m]))", "sum(rate(a[5m]))"]);
        assert_eq!(same("rate(a[5m]) > 1 and rate(a[5m]) < 2"), ["rate(a[5m])", "rate(a[5m])"]);
        assert_eq!(same("a + rate(a[5m])"), Vec::<String>::new());
        assert_eq!(same("a + a offset 5m"), Vec::<String>::new());
        assert_eq!(same("time() + time()"), Vec::<String>::new());
        assert_eq!(same("sum(a) + sum(a) + a"), ["sum(a)", "sum(a)"], "the third is of another part");
    }

    #[test]
    fn what_is_evaluated_at_other_times_or_needs_other_parts_of_histograms_is_another_part() {
        assert_eq!(same("max_over_time(sum(a)[5m:1m]) + sum(a)"), Vec::<String>::new());
        assert_eq!(same("histogram_count(a) + histogram_quantile(0.9, a)"), Vec::<String>::new());
        assert_eq!(same("histogram_count(a) + histogram_sum(a)"), ["a", "a"]);
    }

    #[test]
    fn parts_within_subqueries_are_the_same_at_the_same_times() {
        assert_eq!(
            same("max_over_time(rate(a[5m])[1h:1m]) - min_over_time(rate(a[5m])[1h:1m])"),
            ["rate(a[5m])", "rate(a[5m])"]
        );
        assert_eq!(same("max_over_time((a / (a + b))[1h:1m])"), ["a", "a"]);
        assert_eq!(same("max_over_time(rate(a[5m])[1h:1m]) - min_over_time(rate(a[5m])[2h:1m])"), Vec::<String>::new());
        assert_eq!(same("max_over_time(rate(a[5m])[1h:1m]) - min_over_time(rate(a[5m])[1h:2m])"), Vec::<String>::new());
        assert_eq!(same("max_over_time(sum(a)[5m:1m]) + max_over_time(sum(a)[5m:1m] offset 5m)"), Vec::<String>::new());
        let fixed = "max_over_time(sum(a)[5m:1m] @ 60) - min_over_time(sum(a)[5m:1m] @ 60)";
        assert_eq!(same(fixed), ["sum(a)", "sum(a)"]);
    }

    #[test]
    fn parts_that_are_never_asked_for_their_values_are_not_counted() {
        assert_eq!(same("timestamp(a) + a"), Vec::<String>::new());
        assert_eq!(same("start_timestamp(a) + a"), Vec::<String>::new());
        assert_eq!(same("timestamp(a) + a - a"), ["a", "a"]);
        // At one time an index counts.
        assert_eq!(same_up_to("count(a) + a", 0), Vec::<String>::new());
        assert_eq!(same_up_to("count by (x) (a) + on (x) a", 0), Vec::<String>::new());
        assert_eq!(same_up_to("sum(a) + on () a", 0), ["a", "a"]);
        assert_eq!(same("count(a) + on () a"), ["a", "a"], "at several times it is read");
    }

    #[test]
    fn very_long_texts_are_not_looked_at() {
        let text = |bytes: usize| format!("a +{}a", " ".repeat(bytes - 4));
        assert_eq!(same(&text(TEXT_BYTES_MAX)), ["a", "a"]);
        assert_eq!(same(&text(TEXT_BYTES_MAX + 1)), Vec::<String>::new());
    }
}
