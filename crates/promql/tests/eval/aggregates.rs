//! Samples that stand for others which were left out.

use model::{Aggregate, Columns, Labels, stale_nan};

use promql::Params;

use super::run;
use super::source::Memory;

/// Five windows of ten seconds with a sample a second, of which the second to the ninth are left out of all but the last.
fn sources() -> [Memory; 2] {
    let labels = Labels::new(&[("__name__", "m_total")]).expect("valid");
    let (mut raw, mut thinned) = (Columns::default(), Columns::default());
    for t in 1..=50i64 {
        let v = (t * t) as f64;
        raw.push(t * 1000, v);
        let is_left_out = t <= 40 && (2..=9).contains(&(t % 10));
        if !is_left_out {
            thinned.push(t * 1000, v);
            let between: Vec<f64> = (t + 1..t + 9).map(|t| (t * t) as f64).collect();
            let left_out = t <= 40 && t % 10 == 1;
            let (count, sum) = if left_out { (8, between.iter().sum()) } else { (0, 0.0) };
            thinned.set_last_aggregate(Aggregate { count, sum, resolution_ms: if t <= 40 { 10_000 } else { 0 } });
        }
    }
    for columns in [&mut raw, &mut thinned] {
        columns.push(51_000, stale_nan());
    }
    [(raw, 0), (thinned, 10_000)]
        .map(|(columns, resolution_ms)| Memory { series: [(labels.clone(), columns)].into(), resolution_ms })
}

#[test]
fn windows_that_hold_whole_aggregates_are_worth_what_the_samples_are() {
    let [raw, thinned] = sources();
    for function in [
        "count_over_time",
        "sum_over_time",
        "avg_over_time",
        "min_over_time",
        "max_over_time",
        "first_over_time",
        "last_over_time",
        "rate",
        "increase",
        "delta",
        "present_over_time",
        "ts_of_first_over_time",
        "ts_of_last_over_time",
    ] {
        for range in ["10s", "20s", "50s"] {
            let (query, params) = (format!("{function}(m_total[{range}])"), run::params(10_000, 60_000, 10_000));
            let evaluate = |source| run::evaluate(source, &query, &params).expect(&query);
            let (found, expect) = (evaluate(&thinned), evaluate(&raw));
            assert_eq!(format!("{:?}", found.value), format!("{:?}", expect.value), "{query}");
            let info = "PromQL info: aggregates of 10s were used for samples up to 1970-01-01T00:00:40Z (1:1)";
            assert_eq!((found.infos, expect.infos), (vec![info.to_owned()], vec![]), "{query}");
            assert_eq!(found.warnings, [""; 0]);
        }
    }
}

#[test]
fn a_selector_finds_what_a_sample_stands_for_though_it_is_further_back_than_the_lookback() {
    let [raw, thinned] = sources();
    let evaluate = |source: &Memory, query: &str| {
        let params = Params { lookback_ms: 2_000, ..run::params(0, 60_000, 1_000) };
        let promql::Value::Matrix(all) = run::evaluate(source, query, &params).expect(query).value else { panic!() };
        all.into_iter().next().map(|(_, columns)| columns).unwrap_or_default()
    };
    let (found, expect) = (evaluate(&thinned, "m_total"), evaluate(&raw, "m_total"));
    assert_eq!(found.t, expect.t, "at the same times as of all samples, and after the stale marker at none");
    // The value is the one before what is left out.
    let of = |t: i64| if t <= 40 && (2..=9).contains(&(t % 10)) { t / 10 * 10 + 1 } else { t };
    assert_eq!(found.v, (1..=50).map(|t| (of(t) * of(t)) as f64).collect::<Vec<_>>());
    let times = evaluate(&thinned, "timestamp(m_total)");
    assert_eq!(times.v, (1..=50).map(|t| of(t) as f64).collect::<Vec<_>>());
}

#[test]
fn nothing_is_said_where_nothing_that_was_read_stands_for_others() {
    let [_, thinned] = sources();
    for (query, t, expect) in [
        ("sum_over_time(m_total[10s])", 50_000, 0),
        ("m_total", 50_000, 1),
        ("m_total[1s]", 10_000, 0),
        ("m_total[10s]", 10_000, 1),
        ("sum_over_time(m_total[10s]) + count_over_time(m_total[20s])", 40_000, 1),
    ] {
        let found = run::evaluate(&thinned, query, &run::params(t, t, 0)).expect(query);
        assert_eq!(found.infos.len(), expect, "{query}: {:?}", found.infos);
    }
}
