//! What every reader must do, run on each: in process, one node, several nodes, several copies.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{
    Cancel, CardinalityRequest, Classes, CountRequest, Exemplar, ExemplarsRequest, Kind, LabelsRequest, MatchOp,
    Matcher, Metadata, MetricType, Sample, Tally, TimeRange, Want, is_stale, stale_nan,
};
use storage::{ChangesRequest, Mark, Reader, Replica};

use crate::support::{Bed, Cluster, PATIENCE, Samples, blocking, everything, labels, read, remote, request, serve};

fn metadata(family: &str, help: &str) -> Metadata {
    Metadata { family: family.into(), kind: MetricType::Counter, help: help.into(), unit: String::new() }
}

/// Series of every kind, in all partitions.
fn samples() -> Samples {
    let mut all = Samples::new();
    let odd = [0.5, -0.0, f64::NAN, stale_nan(), f64::NEG_INFINITY, f64::from_bits(0x7ff8_0000_0000_beef), 1e300];
    for n in 0..60usize {
        let labels =
            labels(&[("__name__", "m"), ("n", &n.to_string()), ("even", ["yes", "no"][n % 2]), ("ü", "ö\n\"")]);
        let values = (0..=n).map(|i| (i as i64 * 1000, odd[(n + i) % odd.len()].to_bits()));
        all.insert(labels, values.collect());
    }
    // More than a chunk, and more than a frame.
    let long = (0..5_000).map(|i| (i, f64::from(i as u32).sqrt().to_bits()));
    all.insert(labels(&[("__name__", "m"), ("n", "long")]), long.collect());
    all
}

async fn fill(bed: &Bed) -> Samples {
    let all = samples();
    for (labels, samples) in &all {
        let samples: Vec<Sample> = samples.iter().map(|(t, v)| Sample { t: *t, v: f64::from_bits(*v) }).collect();
        bed.write(labels, &samples).await;
    }
    for (partition, family) in [(0, "a"), (1, "b"), (2, "a")] {
        bed.write_metadata(partition, &metadata(family, "help")).await;
    }
    bed.write_metadata(3, &metadata("a", "other help")).await;
    for labels in all.keys() {
        // Twice, as a client that got no answer sends them.
        for _ in 0..2 {
            bed.write_exemplars(labels, &exemplars(labels)).await;
        }
    }
    all
}

/// Exemplars of a series; many of one of them.
fn exemplars(labels: &model::Labels) -> Vec<Exemplar> {
    let many = if labels.get("n") == Some("long") { 1_500 } else { 2 };
    let of = |t| Exemplar::new(t, 0.5, &[("trace_id", &format!("{t}é{}", "x".repeat(100)))]).expect("valid");
    (0..many).map(of).collect()
}

/// The suite.
async fn conforms<R: Reader + ?Sized>(bed: &Bed, reader: Arc<R>) {
    let all = fill(bed).await;
    reader.caught_up(PATIENCE).await.expect("catches up");
    blocking(&reader, move |reader| {
        selects(reader, &all);
        lists(reader);
        counts(reader, &all);
        counts_newest(reader, &all);
        finds_exemplars(reader, &all);
    })
    .await;
    refuses(&reader).await;
    tells_what_changed(bed, &reader).await;
    is_fresh(bed, &reader).await;
}

fn selects<R: Reader + ?Sized>(reader: &R, all: &Samples) {
    let name = || Matcher::equal("__name__", "m");
    let check = |matchers: Vec<Matcher>, range: TimeRange, keep: &dyn Fn(&model::Labels) -> bool| {
        let mut expect = all.clone();
        expect.retain(|labels, samples| {
            samples.retain(|(t, _)| range.contains(*t));
            keep(labels) && !samples.is_empty()
        });
        let set = reader.select(&request(matchers, range, Want::Samples)).expect("selects");
        assert_eq!(set.warnings, [""; 0]);
        let mut got = read(set, range).expect("reads");
        // A series may be there without a sample in the range.
        got.retain(|_, samples| !samples.is_empty());
        assert!(got == expect, "{} series where {} are right", got.len(), expect.len());
    };
    let regex = |op, pattern: &str| Matcher::new(op, "n", pattern).expect("compiles");
    check(vec![name()], TimeRange::ALL, &|_| true);
    check(vec![name()], TimeRange { start_ms: 1500, end_ms: 20_000 }, &|_| true);
    check(vec![name(), Matcher::equal("n", "7")], TimeRange::ALL, &|l| l.get("n") == Some("7"));
    check(vec![name(), Matcher::equal("even", "")], TimeRange::ALL, &|l| l.get("even").is_none());
    check(vec![regex(MatchOp::Regex, "1|2."), name()], TimeRange::ALL, &|l| {
        l.get("n").is_some_and(|n| n == "1" || n.len() == 2 && n.starts_with('2'))
    });
    check(vec![name(), regex(MatchOp::NotRegex, "[0-9]+")], TimeRange::ALL, &|l| l.get("n") == Some("long"));
    check(vec![Matcher::equal("__name__", "absent")], TimeRange::ALL, &|_| false);
    // A part of what was asked for.
    let part = TimeRange { start_ms: 100, end_ms: 102 };
    let long = request(vec![Matcher::equal("n", "long")], TimeRange { start_ms: 50, end_ms: 4_000 }, Want::Samples);
    let got = read(reader.select(&long).expect("selects"), part).expect("reads");
    assert_eq!(got.values().next().map(|samples| samples.iter().map(|s| s.0).collect()), Some(vec![100, 101, 102]));
    let only = reader.select(&request(vec![name()], TimeRange::ALL, Want::LabelsOnly)).expect("selects");
    let mut only: Vec<_> = only.series.into_iter().map(|series| series.labels).collect();
    only.sort();
    assert!(only.iter().eq(all.keys()), "labels only");
}

fn lists<R: Reader + ?Sized>(reader: &R) {
    let ask = |matcher_sets| LabelsRequest { matcher_sets, range: TimeRange::ALL, cancel: Cancel::default() };
    let names = reader.label_names(&ask(vec![])).expect("answers");
    assert_eq!((names.items, names.warnings), (["__name__", "even", "n", "ü"].map(String::from).to_vec(), vec![]));
    let sets = vec![vec![Matcher::equal("n", "long")], vec![Matcher::equal("n", "absent")]];
    assert_eq!(reader.label_names(&ask(sets.clone())).expect("answers").items, ["__name__", "n"]);
    assert_eq!(reader.label_values("even", &ask(vec![])).expect("answers").items, ["no", "yes"]);
    assert_eq!(reader.label_values("ü", &ask(vec![])).expect("answers").items, ["ö\n\""]);
    assert_eq!(reader.label_values("n", &ask(sets)).expect("answers").items, ["long"]);
    assert_eq!(reader.label_values("absent", &ask(vec![])).expect("answers").items, [""; 0]);
    let (a, b) = ([metadata("a", "help"), metadata("a", "other help")], metadata("b", "help"));
    assert_eq!(reader.metadata(None).expect("answers").items, [&a[..], &[b]].concat());
    assert_eq!(reader.metadata(Some("a")).expect("answers").items, a);
    assert_eq!(reader.metadata(Some("c")).expect("answers").items, []);
}

fn counts<R: Reader + ?Sized>(reader: &R, all: &Samples) {
    let ask = |matcher_sets| CardinalityRequest {
        matcher_sets,
        range: TimeRange::ALL,
        classes: Classes::ONE,
        series_max: 61,
        cancel: Cancel::default(),
    };
    let check = |matcher_sets: Vec<Vec<Matcher>>, keep: &dyn Fn(&model::Labels) -> bool| {
        let mut counted = reader.cardinality(&ask(matcher_sets)).expect("answers");
        assert_eq!(
            (counted.warnings.as_slice(), counted.range),
            (&[][..], Some(TimeRange { start_ms: 0, end_ms: 59_000 }))
        );
        let tally = counted.tallies.remove(&0).expect("a tally");
        let mut expect = Tally { chunks: tally.series, ..Tally::default() };
        for labels in all.keys().filter(|labels| keep(labels)) {
            expect.add(labels.as_ref());
        }
        assert_eq!((tally, counted.tallies.len()), (expect, 0));
    };
    check(vec![], &|_| true);
    check(vec![vec![Matcher::equal("even", "no")]], &|l| l.get("even") == Some("no"));
    let sets = vec![vec![Matcher::equal("even", "no")], vec![Matcher::equal("n", "long")]];
    check(sets, &|l| l.get("even") == Some("no") || l.get("n") == Some("long"));
    let none = reader.cardinality(&ask(vec![vec![Matcher::equal("n", "absent")]])).expect("answers");
    assert_eq!((none.tallies.values().map(|tally| tally.series).sum::<u64>(), none.range), (0, None));
    let few = CardinalityRequest { series_max: 60, ..ask(vec![]) };
    let error = reader.cardinality(&few).expect_err("too many");
    assert_eq!(error.kind, Kind::Invalid);
    assert!(error.message.contains("the selector finds more than 60 series: 61 at the least"), "{error}");
}

/// How many series have a newest sample, which indexes know wherever the storage is.
fn counts_newest<R: Reader + ?Sized>(reader: &R, all: &Samples) {
    let check = |matchers: Vec<Matcher>, range: TimeRange, by: Option<&str>| {
        let mut expect = BTreeMap::<String, u64>::new();
        for (labels, samples) in
            all.iter().filter(|(l, _)| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or(""))))
        {
            let newest = samples.iter().rfind(|(t, _)| range.contains(*t));
            if newest.is_some_and(|(_, bits)| !is_stale(f64::from_bits(*bits))) {
                let value = by.and_then(|name| labels.get(name)).unwrap_or("");
                *expect.entry(value.to_owned()).or_default() += 1;
            }
        }
        let by = by.map(str::to_owned);
        let counted = reader.count(&CountRequest { matchers, range, by, cancel: Cancel::default() });
        let counted = counted.expect("answers").expect("the index can tell");
        assert_eq!(counted.warnings, [""; 0]);
        let number = counted.groups.len();
        let groups: BTreeMap<String, u64> = counted.groups.into_iter().collect();
        assert_eq!((groups.len(), groups), (number, expect), "{range:?}");
    };
    let name = || Matcher::equal("__name__", "m");
    for (start_ms, end_ms) in [(0, 100_000), (0, 0), (7_500, 8_500), (30_000, 45_000), (70_000, 80_000)] {
        let range = TimeRange { start_ms, end_ms };
        check(vec![name()], range, None);
        check(vec![name()], range, Some("even"));
        check(vec![name(), Matcher::equal("even", "no")], range, Some("n"));
        check(vec![Matcher::equal("__name__", "absent")], range, Some("n"));
    }
    let request = CountRequest { matchers: vec![name()], range: TimeRange::ALL, by: None, cancel: Cancel::default() };
    request.cancel.cancel();
    assert_eq!(reader.count(&request).expect_err("cancelled").kind, Kind::Unavailable);
}

fn finds_exemplars<R: Reader + ?Sized>(reader: &R, all: &Samples) {
    let ask =
        |matcher_sets, range| ExemplarsRequest { matcher_sets, range, exemplars_max: 2_000, cancel: Cancel::default() };
    let check = |matcher_sets: Vec<Vec<Matcher>>, range: TimeRange, keep: &dyn Fn(&model::Labels) -> bool| {
        let got = reader.exemplars(&ask(matcher_sets, range)).expect("answers");
        assert_eq!(got.warnings, [""; 0]);
        let found: Vec<_> = got.items.into_iter().map(|one| (one.series, one.exemplars)).collect();
        let expect = all.keys().filter(|labels| keep(labels)).map(|labels| {
            let own = exemplars(labels).into_iter().filter(|exemplar| range.contains(exemplar.t)).collect();
            (labels.clone(), own)
        });
        assert!(found == expect.collect::<Vec<_>>(), "{} series", found.len());
    };
    let of = |n: &str| vec![Matcher::equal("n", n)];
    check(vec![vec![Matcher::equal("__name__", "m")]], TimeRange::ALL, &|_| true);
    check(vec![of("7"), of("long"), of("7")], TimeRange::ALL, &|l| matches!(l.get("n"), Some("7" | "long")));
    check(vec![of("long")], TimeRange { start_ms: 3, end_ms: 1_200 }, &|l| l.get("n") == Some("long"));
    check(vec![of("absent")], TimeRange::ALL, &|_| false);
    check(vec![], TimeRange::ALL, &|_| false);
    let few = ExemplarsRequest { exemplars_max: 100, ..ask(vec![of("long")], TimeRange::ALL) };
    let error = reader.exemplars(&few).expect_err("too many");
    assert_eq!(error.kind, Kind::Invalid);
    assert!(error.message.ends_with("the query finds more than 100 exemplars"), "{error}");
    // Each node has fewer, where there are some.
    let few =
        ExemplarsRequest { exemplars_max: 1_610, ..ask(vec![vec![Matcher::equal("__name__", "m")]], TimeRange::ALL) };
    assert_eq!(reader.exemplars(&few).expect_err("too many").kind, Kind::Invalid);
    few.cancel.cancel();
    assert_eq!(reader.exemplars(&few).expect_err("cancelled").kind, Kind::Unavailable);
}

async fn refuses<R: Reader + ?Sized>(reader: &Arc<R>) {
    blocking(reader, |reader| {
        let all = || request(vec![Matcher::equal("__name__", "m")], TimeRange::ALL, Want::Samples);
        let mut few = all();
        few.series_max = 10;
        let error = reader.select(&few).expect_err("too many");
        assert_eq!(error.kind, Kind::Invalid);
        assert!(error.message.contains("the selector finds more than 10 series: "), "{error}");
        let mut enough = all();
        enough.series_max = 61;
        assert_eq!(reader.select(&enough).expect("selects").series.len(), 61);
        enough.cancel.cancel();
        assert_eq!(reader.select(&enough).expect_err("cancelled").kind, Kind::Unavailable);
    })
    .await;
}

/// What changed since a mark, and since a read where that tells a mark.
async fn tells_what_changed<R: Reader + ?Sized>(bed: &Bed, reader: &Arc<R>) {
    let ask = |since: Option<Mark>, name: &str| ChangesRequest {
        since,
        names: Some(vec![name.to_owned()]),
        range: TimeRange { start_ms: 0, end_ms: 600_000 },
        cancel: Cancel::default(),
    };
    let first = ask(None, "m");
    let (of_changes, of_read) = blocking(reader, move |reader| {
        let mark = reader.changes(&first).mark.expect("it keeps account");
        let (set, of_read) = reader.select_marked(&everything()).expect("selects");
        assert_eq!((set.series.len(), of_read.is_some()), (61, reader.marks_reads()));
        (mark, of_read)
    })
    .await;
    assert!(of_read.is_none() || of_read.as_ref() == Some(&of_changes), "nothing was written in between");
    let changed = async |name: &str| {
        let request = ask(Some(of_read.clone().unwrap_or(of_changes.clone())), name);
        blocking(reader, move |reader| reader.changes(&request).ranges).await
    };
    // A copy that nobody waited for may still read what was written before.
    assert!(of_read.is_none() || changed("m").await.is_empty());
    bed.write(&labels(&[("__name__", "changed")]), &[Sample { t: 300_000, v: 1.0 }]).await;
    reader.caught_up(PATIENCE).await.expect("catches up");
    let ranges = changed("changed").await;
    assert!(ranges.len() == 1 && ranges[0].contains(300_000), "{ranges:?}");
}

async fn is_fresh<R: Reader + ?Sized>(bed: &Bed, reader: &Arc<R>) {
    for t in 0..20i64 {
        // A value that takes the place of another, and a series that is new.
        let places = [("same", 7), (&*t.to_string(), t)];
        for (place, at) in places {
            bed.write(&labels(&[("__name__", "fresh"), ("place", place)]), &[Sample { t: at, v: t as f64 }]).await;
        }
        reader.caught_up(PATIENCE).await.expect("catches up");
        let got = blocking(reader, |reader| {
            let fresh = request(vec![Matcher::equal("__name__", "fresh")], TimeRange::ALL, Want::Samples);
            read(reader.select(&fresh).expect("selects"), TimeRange::ALL).expect("reads")
        });
        let got = got.await;
        assert_eq!(got.len() as i64, t + 2);
        assert_eq!(got[&labels(&[("__name__", "fresh"), ("place", "same")])], [(7, (t as f64).to_bits())]);
    }
    let drained = async {
        while reader.backlog() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, drained).await.expect("nothing is left to read");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_in_process_conforms() {
    let bed = Bed::new().await;
    let storage = bed.storage(Replica::ALONE).await.expect("starts");
    conforms(&bed, storage.reader.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_reader_conforms() {
    let bed = Bed::new().await;
    let storage = bed.storage(Replica::ALONE).await.expect("starts");
    let served = serve(storage.node, None).await;
    conforms(&bed, Arc::new(remote(&served.url, None))).await;
}

async fn cluster_conforms(of: u32, copies: u32) {
    let bed = Bed::new().await;
    let cluster = Cluster::start(&bed, of, copies).await;
    conforms(&bed, cluster.reader.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_with_one_copy_conforms() {
    cluster_conforms(1, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_with_one_copy_conform() {
    cluster_conforms(3, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_with_two_copies_conform() {
    cluster_conforms(3, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_with_two_copies_conform() {
    cluster_conforms(2, 2).await;
}
