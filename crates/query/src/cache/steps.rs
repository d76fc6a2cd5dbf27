//! Runs of steps: which are known, which still hold, which have to be evaluated.

use model::TimeRange;

use super::key::Reads;
use crate::evaluate::Times;

/// The times of a range query, or some of them in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps {
    /// Milliseconds since the Unix epoch.
    pub(super) first_ms: i64,
    /// As many steps after it as there are.
    pub(super) last_ms: i64,
    pub(super) step_ms: i64,
}

impl Steps {
    /// `None` where there is no step.
    pub(super) fn of(times: Times) -> Option<Steps> {
        let step_ms = times.step_ms;
        if step_ms <= 0 || times.end_ms < times.start_ms {
            return None;
        }
        let last_ms = times.start_ms + (times.end_ms - times.start_ms) / step_ms * step_ms;
        Some(Steps { first_ms: times.start_ms, last_ms, step_ms })
    }

    /// Those that both have, which are of the same phase.
    pub(super) fn common(self, other: Steps) -> Option<Steps> {
        self.between(other.first_ms, other.last_ms)
    }

    /// Those that are not before or after these times.
    fn between(self, from_ms: i64, to_ms: i64) -> Option<Steps> {
        let after = (from_ms.saturating_sub(self.first_ms)).max(0);
        let skipped = after / self.step_ms + i64::from(after % self.step_ms != 0);
        let first_ms = self.first_ms.saturating_add(skipped.saturating_mul(self.step_ms));
        let last_ms = self.last_ms.min(to_ms);
        if last_ms < first_ms {
            return None;
        }
        Some(Steps { first_ms, last_ms: first_ms + (last_ms - first_ms) / self.step_ms * self.step_ms, ..self })
    }
}

/// The steps that read nothing of what changed, which is ascending.
pub(super) fn fresh(steps: Steps, changed: &[TimeRange], reads: &Reads) -> Vec<Steps> {
    let mut out = Vec::new();
    let mut from_ms = steps.first_ms;
    for range in changed {
        // A step reads from `back` before it to `until` before it.
        let stale = (range.start_ms.saturating_add(reads.until_ms), range.end_ms.saturating_add(reads.back_ms));
        out.extend(steps.between(from_ms, stale.0.saturating_sub(1)));
        from_ms = from_ms.max(stale.1.saturating_add(1));
    }
    out.extend(steps.between(from_ms, steps.last_ms));
    out
}

/// The steps that are in none of these runs, which ascend.
pub(super) fn missing(steps: Steps, known: &[Steps]) -> Vec<Steps> {
    let mut out = Vec::new();
    let mut from_ms = steps.first_ms;
    for run in known {
        out.extend(steps.between(from_ms, run.first_ms.saturating_sub(1)));
        from_ms = from_ms.max(run.last_ms.saturating_add(1));
    }
    out.extend(steps.between(from_ms, steps.last_ms));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(first_ms: i64, last_ms: i64) -> Steps {
        Steps { first_ms, last_ms, step_ms: 10 }
    }

    fn reads(back_ms: i64, until_ms: i64) -> Reads {
        Reads { names: Vec::new(), back_ms, until_ms }
    }

    #[test]
    fn steps_of_a_query_end_at_the_last_that_is_not_after_its_end() {
        let times = |end_ms, step_ms| Times { start_ms: 5, end_ms, step_ms, lookback_ms: 1 };
        assert_eq!(Steps::of(times(29, 10)), Some(steps(5, 25)));
        assert_eq!(Steps::of(times(5, 10)), Some(steps(5, 5)));
        assert_eq!(Steps::of(times(5, 0)), None);
        assert_eq!(steps(5, 95).common(steps(45, 205)), Some(steps(45, 95)));
        assert_eq!(steps(5, 95).common(steps(105, 205)), None);
        assert_eq!(steps(45, 205).common(steps(5, 95)), Some(steps(45, 95)));
    }

    #[test]
    fn a_step_holds_where_nothing_changed_of_what_it_reads() {
        let range = |start_ms, end_ms| TimeRange { start_ms, end_ms };
        let all = steps(0, 100);
        assert_eq!(fresh(all, &[], &reads(30, 0)), [all]);
        // The step at 50 reads 20 to 50.
        assert_eq!(fresh(all, &[range(50, 50)], &reads(30, 0)), [steps(0, 40), steps(90, 100)]);
        assert_eq!(fresh(all, &[range(51, 59)], &reads(30, 0)), [steps(0, 50), steps(90, 100)]);
        assert_eq!(fresh(all, &[range(0, 5), range(90, 95)], &reads(30, 0)), [steps(40, 80)]);
        assert_eq!(fresh(all, &[range(50, 50)], &reads(30, 20)), [steps(0, 60), steps(90, 100)]);
        assert_eq!(fresh(all, &[range(50, 50)], &reads(30, -20)), [steps(0, 20), steps(90, 100)]);
        assert_eq!(fresh(all, &[range(i64::MIN, i64::MAX)], &reads(30, 0)), []);
        assert_eq!(fresh(all, &[range(10, 12), range(15, 90)], &reads(5, 0)), [steps(0, 0), steps(100, 100)]);
    }

    #[test]
    fn what_is_not_known_has_to_be_evaluated() {
        let all = steps(0, 100);
        assert_eq!(missing(all, &[]), [all]);
        assert_eq!(missing(all, &[all]), []);
        assert_eq!(missing(all, &[steps(0, 40), steps(90, 100)]), [steps(50, 80)]);
        assert_eq!(missing(all, &[steps(20, 40)]), [steps(0, 10), steps(50, 100)]);
    }

    #[test]
    fn what_holds_and_what_is_missing_are_all_steps_each_once() {
        let mut seed = 7u64;
        let mut draw = |n: i64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as i64 % n
        };
        for _ in 0..2000 {
            let all = steps(draw(50) - 25, 0);
            let all = Steps { last_ms: all.first_ms + 10 * draw(30), ..all };
            let reads = reads(draw(60) + 20, draw(40) - 20);
            let mut changed: Vec<TimeRange> = (0..draw(4))
                .map(|_| {
                    let start_ms = draw(400) - 100;
                    TimeRange { start_ms, end_ms: start_ms + draw(40) }
                })
                .collect();
            changed.sort_unstable_by_key(|range| range.start_ms);
            let each = |runs: &[Steps]| -> Vec<i64> {
                runs.iter().flat_map(|run| (run.first_ms..=run.last_ms).step_by(10)).collect()
            };
            let holds =
                |t: &i64| !changed.iter().any(|c| c.start_ms <= t - reads.until_ms && t - reads.back_ms <= c.end_ms);
            let expect: Vec<i64> = each(&[all]).into_iter().filter(holds).collect();
            let known = fresh(all, &changed, &reads);
            assert_eq!(each(&known), expect, "{all:?} {reads:?} {changed:?}");
            let mut both = [each(&known), each(&missing(all, &known))].concat();
            both.sort_unstable();
            assert_eq!(both, each(&[all]));
        }
    }
}
