//! Functions over windows of the same selector, whose samples are read once for all of them.
//!
//! Reading is most of what a function over windows costs. So the first that is evaluated takes the others with it, and their values are kept until they are asked for; the windows need not be
//! as long as each other. The price is that these values are held at the same time, so large ones are not made before they are needed. Where steps are so
//! far apart that what is known of chunks answers in place of their samples, only functions that ask the same of it are evaluated together: all samples are more than twice a little.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use model::{Aspect, Edges, TimeRange};

use super::outline::enough;
use super::{RangeFn, Windows, looks_at_starts};
use crate::Params;
use crate::ast::{RangeMode, Span};
use crate::eval::Context;
use crate::eval::grid::Grid;
use crate::eval::matrix::Matrix;
use crate::eval::node::steps_of;
use crate::eval::notes::Early;
use crate::eval::plan::{Kind, Plan, Range, RangeOf};
use crate::eval::select::reach;
use crate::eval::shared::{SHARE, Shared, each};

/// Steps that are no further apart, in milliseconds, leave next to no chunk whole.
const FINE_STEP_MS: i64 = 15 * 60 * 1000;
/// So many are evaluated together at most.
const TOGETHER_MAX: usize = 16;
/// So many selectors are told apart: each is compared with those before.
const GROUPS_MAX: usize = 64;

/// A function over windows, as it stands in the expression.
#[derive(Debug, Clone, Copy)]
pub(in crate::eval) struct Job<'p> {
    /// The number of the part, and its place.
    pub(super) id: usize,
    pub(super) span: Span,
    pub(super) function: RangeFn,
    /// The part that is its range vector, which that is.
    pub(super) plan: &'p Plan,
    pub(super) range: &'p Range,
    /// Its numbers.
    pub(super) args: &'p [Plan],
}

impl<'p> Job<'p> {
    /// Of a part that is one.
    pub(in crate::eval) fn of(part: &'p Plan) -> Option<Self> {
        let Kind::Window { function, range: plan, args } = &part.kind else { return None };
        let Kind::Range(range) = &plan.kind else { return None };
        Some(Job { id: part.id, span: part.span, function: *function, plan, range, args })
    }

    /// Its windows at the steps of a grid; `numbers` are the values of its arguments there.
    pub(super) fn windows<'w>(&self, params: &'w Params, grid: Grid, numbers: &'w [Vec<f64>]) -> Windows<'w> {
        let Range { of, when, .. } = self.range;
        let stats = matches!(of, RangeOf::Matchers { stats: true, .. });
        let starts = params.features.use_start_timestamps && looks_at_starts(self.function);
        Windows {
            grid,
            when: when.on(grid),
            range: self.range.ms(),
            extrapolated: self.range.extrapolated_ms(grid),
            seconds: self.range.seconds(),
            args: numbers,
            starts,
            stats,
            cancel: &params.cancel,
        }
    }

    /// How its selector is widened.
    pub(super) fn mode(&self) -> RangeMode {
        match &self.range.of {
            RangeOf::Matchers { mode, .. } => *mode,
            RangeOf::Subquery { .. } => RangeMode::Normal,
        }
    }

    /// What is enough for it of its samples, where that is not all.
    pub(super) fn enough(&self, params: &Params, grid: Grid) -> Option<(Aspect, [Edges; 2])> {
        enough(params, self.function, &self.windows(params, grid, &[]), self.mode())
    }

    /// Whether both can be evaluated over the samples that are read for one of them.
    fn goes_with(&self, other: &Job<'_>, params: &Params, grid: Grid) -> bool {
        let same = self.range.when.is_as(other.range.when)
            && match (&self.range.of, &other.range.of) {
                (
                    RangeOf::Matchers { matchers, mode: RangeMode::Normal, stats },
                    RangeOf::Matchers { matchers: others, mode: RangeMode::Normal, stats: other_stats },
                ) => matchers == others && stats == other_stats,
                _ => false,
            };
        let aspect = |job: &Job<'_>| job.enough(params, grid).map(|(aspect, _)| aspect);
        same && (grid.n > 1 && grid.step <= FINE_STEP_MS || aspect(self) == aspect(other))
    }
}

/// What is enough of their samples for all of some: where windows begin and end, if the same is asked for. `None` where all samples are needed.
pub(in crate::eval) fn enough_for(params: &Params, jobs: &[Job<'_>], grid: Grid) -> Option<(Aspect, Vec<Edges>)> {
    let mut all: Option<(Aspect, Vec<Edges>)> = None;
    for job in jobs {
        let (aspect, edges) = job.enough(params, grid)?;
        let (of_all, all_edges) = all.get_or_insert((aspect, Vec::new()));
        if *of_all != aspect {
            return None;
        }
        all_edges.extend(edges.iter().filter(|edge| !all_edges.contains(edge)).copied().collect::<Vec<_>>());
    }
    all
}

/// The samples that the windows of all of some look at.
pub(super) fn reach_of(jobs: &[Job<'_>], grid: Grid) -> TimeRange {
    let all = jobs.iter().map(|job| reach(job.range.when.on(grid), grid, job.range.ms()));
    all.reduce(|a, b| TimeRange { start_ms: a.start_ms.min(b.start_ms), end_ms: a.end_ms.max(b.end_ms) })
        .unwrap_or(TimeRange::ALL)
}

/// Which functions are evaluated together, and the values that are kept.
#[derive(Debug, Default)]
pub(in crate::eval) struct Together<'p> {
    /// By the number of the part: of which group it is.
    groups_of: HashMap<usize, usize>,
    /// The steps of each, and its functions.
    groups: Vec<(Grid, Vec<Job<'p>>)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Groups of which the first was evaluated.
    begun: HashSet<usize>,
    /// By the number of the part, with the notes that it raised.
    kept: HashMap<usize, (Matrix, Vec<Early>)>,
    /// What these count as together, in samples.
    samples: usize,
}

impl<'p> Together<'p> {
    /// Of an expression over a grid, in which some parts are evaluated once.
    pub(in crate::eval) fn of(plan: &'p Plan, shared: &Shared, grid: Grid, params: &Params) -> Self {
        let mut groups: Vec<(Grid, Vec<Job<'p>>)> = Vec::new();
        let mut seen = HashSet::new();
        each(plan, grid, &mut |part, grid| {
            if shared.class_of(part).is_some_and(|class| !seen.insert(class)) {
                // It has the value of one that came before.
                return false;
            }
            let grid = steps_of(part, grid);
            // One whose numbers may be wrong is evaluated where it stands.
            if let Some(job) = Job::of(part).filter(|job| job.function != RangeFn::Smooth) {
                let fits = |(of, jobs): &&mut (Grid, Vec<Job<'p>>)| {
                    *of == grid && jobs.len() < TOGETHER_MAX && jobs[0].goes_with(&job, params, grid)
                };
                let is_full = groups.len() == GROUPS_MAX;
                match groups.iter_mut().find(fits) {
                    Some((_, jobs)) => jobs.push(job),
                    None if is_full => {}
                    None => groups.push((grid, vec![job])),
                }
            }
            true
        });
        groups.retain(|(_, jobs)| jobs.len() > 1);
        let groups_of = groups.iter().enumerate().flat_map(|(n, (_, jobs))| jobs.iter().map(move |job| (job.id, n)));
        Together { groups_of: groups_of.collect(), groups, state: Mutex::default() }
    }

    /// Those that a part is evaluated together with, itself included.
    pub(in crate::eval) fn all_with(&self, job: Job<'p>) -> Vec<Job<'p>> {
        self.groups_of.get(&job.id).map_or_else(|| vec![job], |group| self.groups[*group].1.clone())
    }

    /// The value of a part that was evaluated with another one.
    pub(super) fn take(&self, context: &Context, job: &Job<'_>, grid: Grid) -> Option<Matrix> {
        self.groups_of.get(&job.id).filter(|group| self.groups[**group].0 == grid)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (matrix, early) = state.kept.remove(&job.id)?;
        state.samples -= matrix.samples();
        early.into_iter().for_each(|note| context.notes.raise_again(note));
        Some(matrix)
    }

    /// Those that are to be evaluated with one, which no other was evaluated with; that one is the first.
    pub(super) fn begin(&self, job: Job<'p>, grid: Grid) -> Vec<Job<'p>> {
        let mut all = vec![job];
        let Some(group) = self.groups_of.get(&job.id).copied() else { return all };
        let (of, jobs) = &self.groups[group];
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *of == grid && state.begun.insert(group) {
            all.extend(jobs.iter().copied().filter(|other| other.id != job.id));
        }
        all
    }

    /// Whether there is room for what so many series yield for so many of a group beside the first.
    pub(super) fn has_room(&self, context: &Context, series: usize, steps: usize, others: usize) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let one = series.saturating_mul(steps);
        let new = one.saturating_mul(others);
        let is_small = state.samples.saturating_add(new) <= context.params.samples_max / SHARE;
        // A query that has room for them one after the other is not refused.
        others == 0 || is_small && context.budget.has_room(new.saturating_add(one))
    }

    /// Keeps a value until it is asked for.
    pub(super) fn keep(&self, job: &Job<'_>, matrix: Matrix, early: Vec<Early>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.samples += matrix.samples();
        state.kept.insert(job.id, (matrix, early));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{params, plan};

    /// The groups of an expression at 61 steps, as the texts of their parts.
    fn groups(text: &str, step_ms: i64) -> Vec<Vec<String>> {
        let params = params(60 * step_ms, step_ms);
        let (plan, grid) = plan(text, &params);
        let together = Together::of(&plan, &Shared::of(&plan, text, grid), grid, &params);
        let mut spans = HashMap::new();
        each(&plan, grid, &mut |part, _| {
            spans.insert(part.id, part.span);
            true
        });
        let text_of = |job: &Job<'_>| text[spans[&job.id].start..spans[&job.id].end].to_owned();
        together.groups.iter().map(|(_, jobs)| jobs.iter().map(text_of).collect()).collect()
    }

    #[test]
    fn functions_of_the_same_selector_are_evaluated_together() {
        let check = |text: &str, expect: &[&[&str]]| assert_eq!(groups(text, 60_000), expect, "{text}");
        check("max_over_time(x[5m]) - min_over_time(x[5m])", &[&["max_over_time(x[5m])", "min_over_time(x[5m])"]]);
        check("rate(x[5m]) > 2 * rate(x[1h])", &[&["rate(x[5m])", "rate(x[1h])"]]);
        check(
            "sum(rate(x[5m])) / quantile_over_time(0.5, x[5m])",
            &[&["rate(x[5m])", "quantile_over_time(0.5, x[5m])"]],
        );
        check("rate(x[5m]) / rate(y[5m]) / rate(x{a=\"b\"}[5m]) / rate(x[5m] offset 1m)", &[]);
        check("rate(x[5m]) / increase(x[5m] anchored)", &[]);
        check("histogram_count(rate(x[5m])) + histogram_quantile(0.9, increase(x[5m]))", &[]);
        // What is evaluated once already is not counted again.
        check("rate(x[5m]) + rate(x[5m])", &[]);
        check("(rate(x[5m]) + idelta(x[5m])) / (rate(x[5m]) + idelta(x[5m]))", &[&["rate(x[5m])", "idelta(x[5m])"]]);
        // Its numbers may be refused, in the order of the text.
        check("double_exponential_smoothing(x[5m], 0.5, 0.5) + rate(x[5m])", &[]);
    }

    #[test]
    fn many_selectors_are_not_compared_with_each_other() {
        let many: Vec<String> = (0..200).map(|n| format!("rate(x{n}[5m]) + rate(x{}[5m])", (n + 100) % 200)).collect();
        assert_eq!(groups(&many.join(" or "), 60_000).len(), 64);
    }

    #[test]
    fn those_of_a_subquery_are_evaluated_at_its_times() {
        let within = "max_over_time((rate(x[5m]) - idelta(x[5m]))[1h:1m])";
        assert_eq!(groups(within, 60_000), [["rate(x[5m])", "idelta(x[5m])"]]);
        assert_eq!(groups("max_over_time(rate(x[5m])[1h:1m]) + idelta(x[5m])", 60_000), Vec::<Vec<String>>::new());
        let fixed = "rate(x[5m] @ 60) + idelta(x[5m] @ 60) + delta(x[5m])";
        assert_eq!(groups(fixed, 60_000), [["rate(x[5m] @ 60)", "idelta(x[5m] @ 60)"]]);
    }

    #[test]
    fn where_chunks_may_answer_only_those_that_ask_them_the_same() {
        let text = "max_over_time(x[1h]) - min_over_time(x[1h]) + max_over_time(x[2h])";
        assert_eq!(groups(text, FINE_STEP_MS).concat().len(), 3);
        assert_eq!(groups(text, FINE_STEP_MS + 1), [["max_over_time(x[1h])", "max_over_time(x[2h])"]]);
        let both = "stddev_over_time(x[1h]) - quantile_over_time(0.5, x[1h])";
        assert_eq!(groups(both, FINE_STEP_MS + 1).concat().len(), 2, "both need all samples");
    }
}
