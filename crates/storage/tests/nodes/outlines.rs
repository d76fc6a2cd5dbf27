//! What is known of chunks travels to readers: functions over windows yield the bits of all samples, wherever these are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use axum::routing::post;
use model::{
    Aspect, Cancel, Columns, Edges, Kind, Matcher, Outline, OutlineRequest, Sample, SeriesSource, TimeRange, Want,
};
use storage::Replica;
use storage::reader::FanOut;
use storage::serve::Node;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tsdb::{Db, Options};

use crate::engine::{Engine, node};
use crate::support::{Served, fan_out, remote, request, serve, serve_as};
use crate::walks::{FUNCTIONS, STEP, evaluate, evaluate_of, fill, labels, rule};

const SENT: &str = "weir_storage_sent_samples_total";

/// An engine over a directory, and where its samples end.
fn random_engine(first: usize, random: &mut fastrand::Rng) -> (TempDir, Arc<Engine>, i64) {
    let dir = tempfile::tempdir().expect("directory");
    let downsample = if random.u8(..3) == 0 { vec![rule(random)] } else { Vec::new() };
    let block_span_ms = random.i64(500..5000) * STEP;
    let db = Db::open(dir.path(), Options { block_span_ms, downsample, ..Options::default() }).expect("opens");
    let end = fill(&db, first, random);
    db.expire(end).expect("expires");
    while db.downsample(&Cancel::default()).expect("downsamples") {}
    (dir, Arc::new(Engine(db)), end)
}

/// A function over windows of what ends here, and the times at which it is evaluated.
fn question(function: &str, end: i64, random: &mut fastrand::Rng) -> (String, [i64; 3]) {
    let times = match random.u8(..3) {
        0 => [random.i64(0..=end), 0, 0],
        _ => [random.i64(0..=end / 2), end, end / random.i64(1..20) + 1],
    };
    let at = if random.u8(..6) == 0 { "@ end() offset 7s" } else { "" };
    (format!("{function}(m_total[{}ms] {at})", random.i64(1..=end.max(2) * 2)), times)
}

#[test]
fn every_function_yields_the_same_bits_of_an_engine_that_is_far_away() {
    let runtime = Runtime::new().expect("a runtime");
    let (mut spared, mut values) = (0, 0);
    for seed in 0..25 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let (_dir, engine, end) = random_engine(0, random);
        let served = runtime.block_on(serve(node(&engine, Replica::ALONE), None));
        let far = runtime.block_on(async { remote(&served.url, None) });
        let mut sent = 0.0;
        for function in FUNCTIONS {
            let (text, times) = question(function, end, random);
            let (known, notes, looked_at) = evaluate(&text, times, &far);
            let all_sent = served.metric(SENT);
            // What is sent is looked at: nothing was asked for twice.
            assert!(all_sent - sent <= looked_at as f64, "seed {seed}: {text} {times:?}");
            sent = all_sent;
            let (expect, all_notes, all) = evaluate_of(&text, times, true, &engine.0);
            let (_, _, looked_at_near) = evaluate(&text, times, &engine.0);
            assert_eq!(known, expect, "seed {seed}: {text} {times:?}");
            assert_eq!(notes, all_notes, "seed {seed}: {text} {times:?}");
            // An outline that is not enough is not looked at.
            assert!(looked_at <= looked_at_near, "seed {seed}: {text} {times:?}");
            spared += all.saturating_sub(looked_at);
            values += known.len();
        }
        runtime.block_on(served.stop());
    }
    assert!(spared > 200_000 && values > 1_500, "{spared} {values}");
}

/// Nodes of these engines, each partition on so many, and a reader of all.
fn cluster(runtime: &Runtime, engines: &[Arc<Engine>], copies: u32) -> (Vec<Served>, FanOut) {
    runtime.block_on(async {
        let of = engines.len() as u32;
        let mut served = Vec::new();
        for (number, engine) in (0..).zip(engines) {
            served.push(serve(node(engine, Replica { number, of, copies }), None).await);
        }
        let urls: Vec<String> = served.iter().map(|one| one.url.clone()).collect();
        (served, fan_out(&urls, copies))
    })
}

#[test]
fn series_of_which_two_nodes_have_parts_yield_the_bits_of_all_their_samples() {
    let runtime = Runtime::new().expect("a runtime");
    let (mut spared, mut values) = (0, 0);
    for seed in 0..15 {
        let random = &mut fastrand::Rng::with_seed(seed);
        // Series 3 to 5 are on both nodes, with other samples, the others on one.
        let (_one, first, end) = random_engine(0, random);
        let (_other, second, other_end) = random_engine(3, random);
        let (_served, reader) = cluster(&runtime, &[first, second], 1);
        for function in FUNCTIONS {
            let (text, times) = question(function, end.max(other_end), random);
            let (known, notes, looked_at) = evaluate(&text, times, &reader);
            let (expect, all_notes, all) = evaluate_of(&text, times, true, &reader);
            assert_eq!(known, expect, "seed {seed}: {text} {times:?}");
            assert_eq!(notes, all_notes, "seed {seed}: {text} {times:?}");
            spared += all.saturating_sub(looked_at);
            values += known.len();
        }
    }
    assert!(spared > 100_000 && values > 1_000, "{spared} {values}");
}

/// An engine with a block of two series of `m_total` with 5,760 whole numbers each, and the end of these.
fn long_engine() -> (TempDir, Arc<Engine>, i64) {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), Options { block_span_ms: 10_000 * STEP, ..Options::default() }).expect("opens");
    let samples: Vec<Sample> = (0..5760).map(|i| Sample { t: i * STEP, v: (i * 3) as f64 }).collect();
    let mut batch = db.begin();
    for n in 0..2 {
        batch.append(labels(n).as_ref(), &samples);
    }
    batch.finish(0, 1);
    db.flush().expect("flushes");
    (dir, Arc::new(Engine(db)), 5760 * STEP)
}

#[test]
fn copies_are_counted_once_and_send_outlines_where_one_of_them_answers_for_all() {
    let runtime = Runtime::new().expect("a runtime");
    let (_dir, engine, end) = long_engine();
    let check = |of: usize, copies: u32, expect: u64| {
        let (_served, reader) = cluster(&runtime, &vec![engine.clone(); of], copies);
        for function in ["count_over_time", "sum_over_time", "max_over_time"] {
            let text = format!("{function}(m_total[2d])");
            let (known, _, looked_at) = evaluate(&text, [end, 0, 0], &reader);
            assert_eq!(known, evaluate(&text, [end, 0, 0], &engine.0).0, "{text}");
            let each = if function == "count_over_time" { 2 } else { 1 };
            assert_eq!(looked_at, if expect < 100 { expect * each } else { expect }, "{text}");
        }
    };
    check(2, 2, 2);
    // Two of three nodes answer, of which both have a third of the partitions.
    check(3, 2, 11_520);
    // Here both have all, which they should not.
    check(2, 1, 11_520);
}

#[test]
fn what_an_outline_is_not_enough_for_is_asked_for_once_more_for_all_series_at_once() {
    let runtime = Runtime::new().expect("a runtime");
    let (_dir, engine, end) = long_engine();
    let served = runtime.block_on(serve(node(&engine, Replica::ALONE), None));
    let far = runtime.block_on(async { remote(&served.url, None) });
    let edges = [end, -STEP].map(|first_ms| Edges { first_ms, step_ms: 1, number: 1 });
    let range = TimeRange { start_ms: 0, end_ms: end };
    let want = Want::Outline { aspect: Aspect::Max, edges: edges.to_vec() };
    let wanted = request(vec![Matcher::equal("__name__", "m_total")], range, want);
    let set = far.select(&wanted).expect("selects");
    let outline = |aspect, range, edges: &[Edges]| {
        let mut out = Outline::default();
        let request = OutlineRequest { range, aspect, edges };
        set.series.iter().for_each(|one| one.data.outline(&request, &mut out).expect("reads"));
        (out.columns.len(), out.left_out.iter().sum::<u64>())
    };
    assert_eq!(outline(Aspect::Max, range, &edges), (2, 11_518));
    assert_eq!(outline(Aspect::Max, range, &edges[..1]), (2, 11_518), "some of the edges");
    assert_eq!(served.metric(SENT), 2.0);
    assert_eq!(outline(Aspect::Min, range, &edges), (11_520, 0));
    assert_eq!(served.metric(SENT), 11_522.0);
    let part = TimeRange { start_ms: STEP, end_ms: 2 * STEP };
    assert_eq!(outline(Aspect::Max, part, &edges), (4, 0));
    let other = Edges { first_ms: 7, step_ms: 1, number: 1 };
    assert_eq!(outline(Aspect::Max, range, &[other]), (11_520, 0));
    for one in &set.series {
        let mut columns = Columns::default();
        one.data.read(part, &mut columns).expect("reads");
        assert_eq!((columns.t, columns.v), (vec![STEP, 2 * STEP], vec![3.0, 6.0]));
    }
    assert_eq!(served.metric(SENT), 11_522.0, "all were there");
    let set = far.select(&wanted).expect("selects");
    wanted.cancel.cancel();
    let error = set.series[0].data.read(range, &mut Columns::default()).expect_err("cancelled");
    assert_eq!(error.kind, Kind::Unavailable);
}

#[test]
fn a_sum_that_is_not_exact_is_sent_as_samples_at_once() {
    let runtime = Runtime::new().expect("a runtime");
    let (_dir, engine, end) = long_engine();
    let mut batch = engine.0.begin();
    batch.append(labels(0).as_ref(), &[Sample { t: end, v: 0.1 }]);
    batch.finish(0, 2);
    let served = runtime.block_on(serve(node(&engine, Replica::ALONE), None));
    let far = runtime.block_on(async { remote(&served.url, None) });
    let (known, _, looked_at) = evaluate("sum_over_time(m_total[3d])", [end, 0, 0], &far);
    assert_eq!(known, evaluate_of("sum_over_time(m_total[3d])", [end, 0, 0], true, &engine.0).0);
    // All of the one, one for all of the other.
    assert_eq!((looked_at, served.metric(SENT)), (5_761 + 1, 5_762.0));
}

/// A node that knows nothing of outlines, and counts how often it is asked for them.
fn serve_old(runtime: &Runtime, node: Node) -> (Served, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let unknown = post(move || async move {
        counted.fetch_add(1, Ordering::SeqCst);
        StatusCode::NOT_FOUND
    });
    let change = |routes| axum::Router::new().route("/storage/v2/outlines", unknown).fallback_service(routes);
    (runtime.block_on(serve_as("127.0.0.1:0", node, None, change)), asked)
}

#[test]
fn a_node_that_knows_nothing_of_outlines_is_asked_for_samples() {
    let runtime = Runtime::new().expect("a runtime");
    let (_dir, engine, end) = long_engine();
    let text = "max_over_time(m_total[2d])";
    let expect = evaluate(text, [end, 0, 0], &engine.0).0;
    let (served, asked) = serve_old(&runtime, node(&engine, Replica::ALONE));
    let far = runtime.block_on(async { remote(&served.url, None) });
    assert_eq!(evaluate(text, [end, 0, 0], &far), (expect.clone(), Vec::new(), 11_520));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // Two that have different series, one of them old.
    let other_dir = tempfile::tempdir().expect("directory");
    let other = Db::open(other_dir.path(), Options::default()).expect("opens");
    let mut batch = other.begin();
    batch.append(labels(7).as_ref(), &[Sample { t: 0, v: 1.0 }]);
    batch.finish(0, 1);
    let (old, _) = serve_old(&runtime, node(&Arc::new(Engine(other)), Replica { number: 0, of: 2, copies: 1 }));
    let new = runtime.block_on(serve(node(&engine, Replica { number: 1, of: 2, copies: 1 }), None));
    let both = runtime.block_on(async { fan_out(&[old.url.clone(), new.url.clone()], 1) });
    let (known, notes, looked_at) = evaluate(text, [end, 0, 0], &both);
    assert_eq!((known.len(), notes.len(), looked_at), (3, 0, 3), "only the old one sends samples");
}

#[test]
fn nodes_of_which_each_shares_partitions_with_several_are_not_asked_for_outlines() {
    let runtime = Runtime::new().expect("a runtime");
    let (_dir, engine, end) = long_engine();
    let check = |of: u32, copies: u32, is_asked: bool| {
        let nodes = (0..of).map(|number| serve_old(&runtime, node(&engine, Replica { number, of, copies })));
        let nodes: Vec<_> = nodes.collect();
        let urls: Vec<String> = nodes.iter().map(|(served, _)| served.url.clone()).collect();
        let reader = runtime.block_on(async { fan_out(&urls, copies) });
        assert_eq!(evaluate("max_over_time(m_total[2d])", [end, 0, 0], &reader).0.len(), 2);
        let asked = nodes.iter().any(|(_, asked)| asked.load(Ordering::SeqCst) > 0);
        assert_eq!(asked, is_asked, "{copies} of {of}");
    };
    check(2, 1, true);
    check(2, 2, true);
    check(3, 2, false);
}

#[test]
fn a_node_that_is_gone_when_all_samples_are_needed_is_an_error() {
    let runtime = Runtime::new().expect("a runtime");
    let (_dir, engine, end) = long_engine();
    let (mut served, reader) = cluster(&runtime, &[engine.clone(), engine], 1);
    let edges = vec![Edges { first_ms: end, step_ms: 1, number: 1 }];
    let wanted = Want::Outline { aspect: Aspect::Max, edges };
    let wanted = request(vec![Matcher::equal("__name__", "m_total")], TimeRange::ALL, wanted);
    let set = reader.select(&wanted).expect("selects");
    assert_eq!((set.series.len(), set.warnings), (2, vec![]));
    let url = served[1].url.clone();
    runtime.block_on(served.remove(1).stop());
    for one in &set.series {
        let error = one.data.read(TimeRange::ALL, &mut Columns::default()).expect_err("half is missing");
        let expect = format!("storage node {url} is unreachable: partitions 1, 3 are missing from this answer");
        assert_eq!((error.kind, error.message), (Kind::Unavailable, expect));
    }
}
