use std::collections::BTreeMap;

use model::{Labels, Mark, TimeRange, stale_nan};

use super::*;

const MINUTE: i64 = 60_000;

/// What functions over one window are worth.
#[derive(Debug, PartialEq)]
pub(crate) struct Worth {
    pub(crate) count: u64,
    /// Of whole numbers, which add up to the same in any order.
    pub(crate) sum: f64,
    extremes: [u64; 2],
    ends: [(i64, u64); 2],
    falls: usize,
    /// What a counter lost in falls.
    lost: f64,
    pub(crate) changes: usize,
}

fn worth(samples: &Columns) -> Option<Worth> {
    let live: Vec<usize> = (0..samples.len()).filter(|at| !is_stale(samples.v[*at])).collect();
    let v = |at: usize| samples.v[at];
    let best = |better: fn(f64, f64) -> bool| {
        let better = |best: usize, at: usize| if better(v(at), v(best)) || v(best).is_nan() { at } else { best };
        live.iter().copied().reduce(better).map(|at| v(at).to_bits())
    };
    let end = |at: &usize| (samples.t[*at], v(*at).to_bits());
    let pairs = || live.windows(2).map(|pair| (v(pair[0]), v(pair[1])));
    Some(Worth {
        count: live.iter().map(|at| 1 + u64::from(samples.aggregate(*at).count)).sum(),
        sum: live.iter().map(|at| v(*at) + samples.aggregate(*at).sum).sum(),
        extremes: [best(|v, best| v < best)?, best(|v, best| v > best)?],
        ends: [end(live.first()?), end(live.last()?)],
        falls: pairs().filter(|(a, b)| b < a).count(),
        lost: pairs().filter(|(a, b)| b < a).map(|(a, _)| a).sum(),
        changes: pairs().filter(|(a, b)| a != b && !(a.is_nan() && b.is_nan())).count(),
    })
}

pub(crate) fn windows(samples: &Columns, length_ms: i64) -> BTreeMap<i64, Option<Worth>> {
    let end = |t: &i64| t.div_euclid(length_ms) + i64::from(t.rem_euclid(length_ms) > 0);
    let numbers: std::collections::BTreeSet<i64> = samples.t.iter().map(end).collect();
    let of = |number: i64| {
        let mut own = samples.clone();
        let range = TimeRange { start_ms: (number - 1) * length_ms + 1, end_ms: number * length_ms };
        own.clip(Mark::default(), range);
        worth(&own)
    };
    numbers.into_iter().map(|number| (number, of(number))).collect()
}

/// Samples some 15 s apart over hours, of one kind of values.
pub(crate) fn drawn(kind: u8, random: &mut fastrand::Rng) -> Columns {
    let (mut out, mut t, mut v) = (Columns::default(), -20 * MINUTE, 0.0);
    for n in 0..random.usize(1..900) {
        t += random.i64(1..30_000);
        let turns = n % 12 == 0 && random.bool();
        v = match kind {
            // Counters that begin anew now and then.
            0 if turns => 0.0,
            0 => v + f64::from(random.u8(..)),
            // States.
            1 if turns => f64::from(random.u8(..4)),
            1 => v,
            _ => f64::from(random.i8(..)),
        };
        let odd = kind > 2 && random.u8(..8) == 0;
        out.push_with_start(t, if odd { f64::NAN } else { v }, if kind == 0 { 7 } else { 0 });
        if random.u8(..100) == 0 {
            t += 1;
            out.push(t, stale_nan());
        }
    }
    out
}

#[test]
fn whole_windows_are_worth_what_all_samples_are() {
    let first = fastrand::u64(..1 << 40);
    for seed in first..first + 300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let kind = random.u8(..4);
        let all = drawn(kind, &mut random);
        let mut thinned = all.clone();
        for minutes in [5, 60] {
            let Some(next) = leave_out(&thinned, minutes as u32 * MINUTE as u32) else { continue };
            assert!(next.len() < thinned.len(), "seed {seed}");
            thinned = next;
            for length in [1, 3] {
                let (found, expect) =
                    (windows(&thinned, length * minutes * MINUTE), windows(&all, length * minutes * MINUTE));
                assert_eq!(found.len(), expect.len(), "seed {seed}");
                for ((_, found), (number, expect)) in found.into_iter().zip(expect) {
                    let (Some(mut found), Some(mut expect)) = (found, expect) else { continue };
                    // Of what turns often they are not kept.
                    if kind != 1 {
                        (found.changes, expect.changes) = (0, 0);
                    }
                    if kind > 1 {
                        (found.falls, expect.falls, found.lost, expect.lost) = (0, 0, 0.0, 0.0);
                    }
                    if kind > 2 {
                        assert_eq!(found.sum.is_nan(), expect.sum.is_nan(), "seed {seed}");
                        (found.sum, expect.sum) = (0.0, 0.0);
                    }
                    assert_eq!(found, expect, "seed {seed}, kind {kind}, window {number} of {minutes}m");
                }
            }
            // Where a NaN is left out, what is before it and what is after may be a fall.
            let again = leave_out(&thinned, minutes as u32 * MINUTE as u32);
            assert!(kind > 2 || again.is_none(), "seed {seed}, kind {kind}");
        }
    }
}

fn check(values: &[f64], stays: &[i64], stands_for: &[(u32, f64)]) {
    let times: Vec<i64> = (1..=values.len() as i64).collect();
    let out = leave_out(&Columns::floats(times, values.to_vec()), 1000).expect("something is left out");
    assert_eq!(out.t, stays, "{values:?}");
    let bits = |(count, sum): &(u32, f64)| (*count, sum.to_bits());
    let found: Vec<_> = out.aggregates.iter().map(|a| bits(&(a.count, a.sum))).collect();
    assert_eq!(found, stands_for.iter().map(bits).collect::<Vec<_>>(), "{values:?}");
}

#[test]
fn ends_extremes_and_the_few_turns_stay() {
    // A rising counter: the ends.
    check(&[1.0, 2.0, 4.0, 7.0], &[1, 4], &[(2, 6.0), (0, 0.0)]);
    // A reset: what was before and after it.
    check(&[1.0, 2.0, 3.0, 4.0, 0.5, 0.75, 0.875, 0.9], &[1, 4, 5, 8], &[(2, 5.0), (0, 0.0), (2, 1.625), (0, 0.0)]);
    // A state.
    check(&[1.0, 1.0, 1.0, 0.0, 0.0, 0.0], &[1, 3, 4, 6], &[(1, 1.0), (0, 0.0), (1, 0.0), (0, 0.0)]);
    // A gauge, which turns often: the lowest and the highest, of equal ones the first.
    check(&[2.0, 1.0, 3.0, 1.0, 3.0, 2.0], &[1, 2, 3, 6], &[(0, 0.0), (0, 0.0), (2, 4.0), (0, 0.0)]);
    check(&[f64::NAN, f64::NAN, f64::NAN], &[1, 3], &[(1, f64::NAN), (0, 0.0)]);
}

#[test]
fn a_series_that_ends_says_so_and_one_that_goes_on_does_not() {
    let stale = stale_nan();
    check(&[1.0, 2.0, stale, 3.0], &[1, 4], &[(1, 2.0), (0, 0.0)]);
    check(&[1.0, 2.0, 3.0, stale], &[1, 3, 4], &[(1, 2.0), (0, 0.0), (0, 0.0)]);
    check(&[stale, stale], &[2], &[]);
}

#[test]
fn windows_are_closed_at_their_end_and_histograms_and_starts_stay() {
    let mut all = Columns::default();
    (998..=1003).for_each(|t| all.push_with_start(t, t as f64, 5));
    let counts = model::Counts::Integer(Default::default());
    let histogram = model::Histogram { layout: Default::default(), hint: Default::default(), sum: 0.0, counts };
    all.histograms.push(model::HistogramSample { t: 5, start: 0, histogram });
    let out = leave_out(&all, 1000).expect("something is left out");
    assert_eq!((out.t, out.starts), (vec![998, 1000, 1001, 1003], vec![5; 4]));
    assert_eq!(out.histograms, all.histograms);
    assert_eq!(out.aggregates.iter().map(|a| a.count).collect::<Vec<_>>(), [1, 0, 1, 0]);
}

#[test]
fn windows_that_are_longer_already_stay_so() {
    let mut all = Columns::floats((1..=30).collect(), (1..=30).map(|n| n as f64).collect());
    all = leave_out(&all, 30).expect("something is left out");
    assert_eq!(leave_out(&all, 10), None);
    all.push(31, 31.0);
    all.push(32, 32.0);
    all.push(33, 33.0);
    let out = leave_out(&all, 10).expect("something is left out");
    assert_eq!(out.t, [1, 30, 31, 33]);
    assert!(out.aggregates.iter().all(|a| a.resolution_ms == 30));
}

#[test]
fn a_series_that_takes_no_less_room_stays_whole() {
    let mut random = fastrand::Rng::with_seed(1);
    let times = || (0..960).map(|n| n * 15_000);
    let columns = |v: Vec<f64>| Columns::floats(times().collect(), v);
    let mut rising = 0.0;
    let mut next = || {
        rising += f64::from(random.u16(..));
        rising
    };
    let counter = columns(times().map(|_| next()).collect());
    assert_eq!(thin(&counter, 300_000).map(|thinned| thinned.len()), Some(97));
    assert_eq!(thin(&columns(vec![1.0; 960]), 300_000), None);
    let gauge = columns(times().map(|_| f64::from(random.u8(..4))).collect());
    assert_eq!(thin(&gauge, 300_000), None);
    assert!(thin(&gauge, 3_600_000).is_some_and(|thinned| thinned.len() < 30));
}

fn rule(matchers: &[(&str, &str)], levels: &[(i64, u32)]) -> DownsampleRule {
    let matchers = matchers.iter().map(|(name, value)| Matcher::equal(*name, *value)).collect();
    let levels = levels.iter().map(|(age_ms, resolution_ms)| Level { age_ms: *age_ms, resolution_ms: *resolution_ms });
    DownsampleRule { matchers, levels: levels.collect() }
}

#[test]
fn the_first_rule_that_a_series_meets_says_how_long_its_windows_are() {
    let rules = [
        rule(&[("env", "dev"), ("job", "a")], &[]),
        rule(&[("env", "dev")], &[(100, 5_000), (1000, 60_000)]),
        rule(&[], &[(500, 1_000)]),
    ];
    let check = |now_ms: i64, text: &str, expect: [Option<u32>; 3]| {
        let plan = Plan::new(&rules, now_ms, 0);
        assert_eq!(plan.to_string(), text, "{now_ms}");
        assert_eq!(plan.is_nothing(), text.is_empty());
        let series = [vec![("env", "dev"), ("job", "a")], vec![("env", "dev")], vec![("env", "prod")]];
        let found = series.map(|labels| plan.of(Labels::new(&labels).expect("valid").as_ref()));
        assert_eq!(found, expect, "{now_ms}");
    };
    check(100, "", [None; 3]);
    check(101, "{env=\"dev\",job=\"a\"}: 0s, {env=\"dev\"}: 5s", [None, Some(5_000), None]);
    check(501, "{env=\"dev\",job=\"a\"}: 0s, {env=\"dev\"}: 5s, {}: 1s", [None, Some(5_000), Some(1_000)]);
    check(1001, "{env=\"dev\",job=\"a\"}: 0s, {env=\"dev\"}: 1m, {}: 1s", [None, Some(60_000), Some(1_000)]);
}
