use std::collections::BTreeMap;

use model::{Cancel, Columns, LabelsRequest, MatchOp, Sample, SelectRequest, SeriesSource, Want};

use super::*;
use crate::{Options, RetentionRule};

const HOUR: i64 = 3_600_000;

/// Series and time to value.
type Known = BTreeMap<(String, i64), f64>;

fn options() -> Options {
    Options { block_span_ms: HOUR, ..Options::default() }
}

fn append(db: &Db, env: &str, series: u32, t: i64, v: f64) {
    let pairs = [("__name__", "m".to_owned()), ("env", env.to_owned()), ("series", series.to_string())];
    let labels = model::Labels::new(&pairs).expect("valid");
    let mut batch = db.begin();
    batch.append(labels.as_ref(), &[Sample { t, v }]);
    batch.finish(0, 1);
}

fn read(db: &Db, range: TimeRange) -> Known {
    let matchers = vec![Matcher::equal("__name__", "m")];
    let (want, cancel) = (Want::Samples, Cancel::default());
    let request = SelectRequest { matchers, range, want, series_max: usize::MAX, cancel };
    let mut found = Known::new();
    for series in db.select(&request).expect("selects").series {
        let mut samples = Columns::default();
        series.data.read(range, &mut samples).expect("reads");
        let name = format!("{}{}", series.labels.get("env").unwrap_or(""), series.labels.get("series").unwrap_or(""));
        for (t, v) in samples.t.iter().zip(&samples.v) {
            assert_eq!(found.insert((name.clone(), *t), *v), None, "each sample once");
        }
    }
    found
}

fn compact(db: &Db) {
    while db.compact(&Cancel::default()).expect("merges") {}
}

fn known(samples: &[(&str, i64, f64)]) -> Known {
    samples.iter().map(|(series, t, v)| (((*series).to_owned(), *t), *v)).collect()
}

fn regex(name: &str, pattern: &str) -> Matcher {
    Matcher::new(MatchOp::Regex, name, pattern).expect("compiles")
}

#[test]
fn a_deletion_takes_what_was_written_before_it_and_survives_a_restart() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    for t in 0..4 {
        append(&db, "a", 1, t * 10, 1.0);
        append(&db, "b", 1, t * 10, 2.0);
    }
    db.delete(&[Matcher::equal("env", "a")], TimeRange { start_ms: 5, end_ms: 20 }).expect("deletes");
    append(&db, "a", 1, 20, 9.0);
    let expect = known(&[
        ("a1", 0, 1.0),
        ("a1", 20, 9.0),
        ("a1", 30, 1.0),
        ("b1", 0, 2.0),
        ("b1", 10, 2.0),
        ("b1", 20, 2.0),
        ("b1", 30, 2.0),
    ]);
    assert_eq!(read(&db, TimeRange::ALL), expect);
    db.flush().expect("flushes");
    drop(db);
    let db = Db::open(dir.path(), options()).expect("opens again");
    assert_eq!(read(&db, TimeRange::ALL), expect);
    assert_eq!(db.view().deletes.len(), 1);
    compact(&db);
    assert_eq!(read(&db, TimeRange::ALL), expect);
    assert_eq!(db.view().deletes.len(), 0, "forgotten when the blocks are free of it");
    drop(db);
    assert_eq!(read(&Db::open(dir.path(), options()).expect("opens"), TimeRange::ALL), expect);
}

#[test]
fn a_series_that_is_deleted_as_a_whole_is_not_found_and_frees_its_block() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    append(&db, "a", 1, 0, 1.0);
    append(&db, "b", 1, 2 * HOUR, 1.0);
    db.delete(&[Matcher::equal("env", "a")], TimeRange::ALL).expect("deletes");
    let labels = SelectRequest {
        matchers: vec![regex("env", ".+")],
        range: TimeRange::ALL,
        want: Want::LabelsOnly,
        series_max: 10,
        cancel: Cancel::default(),
    };
    assert_eq!(db.select(&labels).expect("selects").series.len(), 1);
    assert_eq!(db.stats().blocks, 2);
    compact(&db);
    assert_eq!(db.stats().blocks, 1);
    let any = LabelsRequest { matcher_sets: Vec::new(), range: TimeRange::ALL, cancel: Cancel::default() };
    assert_eq!(db.label_values("env", &any).expect("lists").items, ["b"]);
    // What matches nothing leaves no trace.
    db.delete(&[Matcher::equal("env", "x")], TimeRange::ALL).expect("deletes");
    assert_eq!(db.view().deletes.len(), 0);
}

#[test]
fn deletions_that_wait_have_a_bound() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    append(&db, "a", 1, 0, 1.0);
    let delete = || db.delete(&[Matcher::equal("env", "a")], TimeRange { start_ms: 0, end_ms: 0 });
    for _ in 0..DELETES_MAX {
        delete().expect("deletes");
    }
    assert!(matches!(delete(), Err(Error::Limit(_))));
    compact(&db);
    delete().expect("deletes again");
}

#[test]
fn the_first_rule_that_a_series_meets_says_how_long_it_is_kept() {
    let dir = tempfile::tempdir().expect("directory");
    let rule = |matcher, age_ms| RetentionRule { matchers: vec![matcher], age_ms };
    let retention_rules = vec![rule(Matcher::equal("env", "dev"), Some(2 * HOUR)), rule(regex("env", "dev|slo"), None)];
    let options = Options { retention_ms: Some(5 * HOUR), retention_rules, ..options() };
    let db = Db::open(dir.path(), options).expect("opens");
    for env in ["dev", "slo", "prod"] {
        for hour in 0..8 {
            append(&db, env, 1, hour * HOUR, 1.0);
        }
    }
    db.flush().expect("flushes");
    let hours = |env: &str| {
        let all = read(&db, TimeRange::ALL);
        all.keys().filter(|(series, _)| series.starts_with(env)).map(|(_, t)| t / HOUR).collect::<Vec<_>>()
    };
    assert_eq!(hours("dev").len(), 8, "nothing expires before the time is known");
    assert_eq!(db.expire(7 * HOUR).expect("expires"), 0, "a rule keeps each block");
    let check = || {
        assert_eq!(hours("dev"), [5, 6, 7]);
        assert_eq!(hours("prod"), [2, 3, 4, 5, 6, 7]);
        assert_eq!(hours("slo"), [0, 1, 2, 3, 4, 5, 6, 7]);
    };
    check();
    let before = db.stats().block_samples;
    compact(&db);
    check();
    assert_eq!((before, db.stats().block_samples), (24, 3 + 6 + 8), "what is expired takes no room");
    assert_eq!(db.expire(0).expect("expires"), 0, "time does not go back");
    check();
}

#[test]
fn the_oldest_spans_go_when_all_are_too_large() {
    let dir = tempfile::tempdir().expect("directory");
    let size = {
        let db = Db::open(dir.path(), options()).expect("opens");
        for hour in 0..4 {
            append(&db, "a", 1, hour * HOUR, 1.0);
            append(&db, "a", 1, hour * HOUR + 1, 1.0);
        }
        db.flush().expect("flushes");
        append(&db, "late", 1, 0, 1.0);
        db.flush().expect("flushes");
        db.stats().block_bytes
    };
    let left = |bytes: u64, expect: &[i64]| {
        let db = Db::open(dir.path(), Options { retention_bytes: Some(bytes), ..options() }).expect("opens");
        db.expire(0).expect("expires");
        let mut hours: Vec<i64> = read(&db, TimeRange::ALL).keys().map(|(_, t)| t / HOUR).collect();
        hours.sort_unstable();
        hours.dedup();
        assert_eq!(hours, expect, "{bytes} bytes");
    };
    left(size, &[0, 1, 2, 3]);
    left(size - 1, &[1, 2, 3]); // both blocks of the span
    left(1, &[3]);
}

/// The records that the blocks name.
fn records(db: &Db) -> Vec<String> {
    lock(&db.committed).manifest.blocks.iter().map(|entry| entry.from.to_string()).collect()
}

#[test]
fn a_block_of_which_something_was_taken_names_no_records() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), Options { retention_ms: Some(HOUR), ..options() }).expect("opens");
    let flush = |offset: i64| {
        let mut batch = db.begin();
        for (series, t) in [("a", 2 * HOUR + 1), ("b", 3 * HOUR)] {
            let labels = model::Labels::new(&[("__name__", "m"), ("env", series)]).expect("valid");
            batch.append(labels.as_ref(), &[Sample { t, v: 1.0 }, Sample { t: t + 30, v: 1.0 }]);
        }
        batch.finish(7, offset + 1);
        db.flush().expect("flushes");
    };
    (0..4).for_each(flush);
    compact(&db);
    assert_eq!(records(&db), [" 7:0..4", " 7:0..4"], "a merge takes nothing");
    db.delete(&[Matcher::equal("env", "b")], TimeRange { start_ms: 0, end_ms: 3 * HOUR }).expect("deletes");
    compact(&db);
    assert_eq!(records(&db), [" 7:0..4", ""], "deleted");
    (4..8).for_each(flush);
    db.expire(3 * HOUR + 15).expect("expires");
    compact(&db);
    assert_eq!(records(&db), ["", ""], "of the one something is expired, and the other was cut before");
}

/// An engine that keeps so many hours in spans of so many, after as many days as are simulated: what blocks have beside what is live, at most, after every hour.
fn most_space(retention_hours: i64, span_hours: i64) -> f64 {
    const SERIES: u32 = 4;
    const STEP: i64 = HOUR / 30;
    let dir = tempfile::tempdir().expect("directory");
    let retention_ms = Some(retention_hours * HOUR);
    let options = || Options { retention_ms, block_span_ms: span_hours * HOUR, ..Options::default() };
    let db = Db::open(dir.path(), options()).expect("opens");
    let (mut random, mut most) = (fastrand::Rng::with_seed(1), 0f64);
    let (mut live, mut written) = (std::collections::VecDeque::new(), 0);
    for hour in 0..24 * 6 {
        let mut batch = db.begin();
        let times: Vec<i64> = (0..HOUR / STEP).map(|n| hour * HOUR + n * STEP).collect();
        for series in 0..SERIES {
            // Of all digits, so that their bytes are those of the samples.
            let samples: Vec<Sample> = times.iter().map(|t| Sample { t: *t, v: random.f64() }).collect();
            let labels = model::Labels::new(&[("__name__", "m"), ("series", &series.to_string())]).expect("valid");
            batch.append(labels.as_ref(), &samples);
            live.extend(samples.into_iter().map(|sample| (labels.clone(), sample)));
        }
        batch.finish(0, hour + 1);
        db.flush().expect("flushes");
        let now_ms = (hour + 1) * HOUR;
        db.expire(now_ms).expect("expires");
        let merges = db.stats().merges;
        compact(&db);
        written += db.stats().merges - merges;
        live.retain(|(_, sample): &(_, Sample)| sample.t >= now_ms - retention_hours * HOUR);
        let found = read(&db, TimeRange::ALL).len();
        assert_eq!(found, live.len(), "what is live is there, and nothing else, at hour {hour}");
        if hour < retention_hours {
            continue;
        }
        most = most.max(db.stats().block_samples as f64 / live.len() as f64);
        if hour % 7 == 0 {
            // In bytes, beside an engine that has nothing else.
            let alone = tempfile::tempdir().expect("directory");
            let other = Db::open(alone.path(), options()).expect("opens");
            let mut batch = other.begin();
            for (labels, sample) in &live {
                batch.append(labels.as_ref(), &[*sample]);
            }
            batch.finish(0, 1);
            other.flush().expect("flushes");
            most = most.max(db.stats().block_bytes as f64 / other.stats().block_bytes as f64);
        }
    }
    assert!(written < 24 * 6, "blocks are not written again and again: {written}");
    most
}

#[test]
fn what_is_expired_takes_no_more_than_half_of_what_is_live() {
    for (retention_hours, span_hours) in [(24, 24), (48, 24), (6, 24)] {
        let most = most_space(retention_hours, span_hours);
        println!("{retention_hours} h in spans of {span_hours} h: {most:.2} times what is live");
        assert!(most <= 1.5, "{retention_hours} h in spans of {span_hours} h: {most:.2} times what is live");
    }
}

/// Random operations against a map. A failure names its seed.
fn model_run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().expect("directory");
    let mut db = Db::open(dir.path(), options()).expect("opens");
    let mut all = Known::new();
    for step in 0..random.usize(5..80) {
        match random.u8(0..16) {
            0..=8 => {
                let (env, series) = (["a", "b", "c"][random.usize(..3)], random.u32(..3));
                for _ in 0..random.u8(1..20) {
                    let t = random.i64(0..5 * HOUR) / 60_000 * 60_000;
                    append(&db, env, series, t, step as f64);
                    all.insert((format!("{env}{series}"), t), step as f64);
                }
            }
            9..=10 => drop(db.flush().expect("flushes")),
            11..=12 => drop(db.compact(&Cancel::default()).expect("merges")),
            13 => {
                db.flush().expect("flushes");
                drop(db);
                db = Db::open(dir.path(), options()).expect("opens again");
            }
            _ => {
                let start_ms = random.i64(-HOUR..5 * HOUR);
                let range = TimeRange { start_ms, end_ms: start_ms + random.i64(0..6 * HOUR) };
                let (env, series) = (["a", "b|c", ".*"][random.usize(..3)], random.u32(..3).to_string());
                let matchers = [regex("env", env), Matcher::equal("series", series.clone())];
                db.delete(&matchers, range).expect("deletes");
                let meets = |of: &str| matchers[0].matches(&of[..1]) && of[1..] == series;
                all.retain(|(of, t), _| !(meets(of) && range.contains(*t)));
            }
        }
        assert_eq!(read(&db, TimeRange::ALL), all, "seed {seed}");
    }
    compact(&db);
    assert_eq!(read(&db, TimeRange::ALL), all, "seed {seed}");
    assert_eq!(db.view().deletes.len(), 0, "seed {seed}");
}

#[test]
fn deletions_equal_those_of_a_map_under_random_operations() {
    let first = fastrand::u64(..1 << 40);
    for seed in first..first + 60 {
        model_run(seed);
    }
}

#[test]
fn what_is_deleted_is_not_in_a_snapshot_whose_blocks_still_have_it() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    append(&db, "a", 1, 0, 1.0);
    append(&db, "b", 1, 0, 1.0);
    db.delete(&[Matcher::equal("env", "a")], TimeRange::ALL).expect("deletes");
    let to = dir.path().join("snapshot");
    db.snapshot(&to).expect("is taken");
    let copy = Db::open(&to, options()).expect("opens");
    assert_eq!(copy.stats().block_samples, 2, "its bytes are there");
    assert_eq!(read(&copy, TimeRange::ALL), known(&[("b1", 0, 1.0)]));
    drop(copy);
    // Laid out from there once more.
    let again = dir.path().join("again");
    crate::offline::layout::copy(&to, &again).expect("copies");
    let copy = Db::open(&again, options()).expect("opens");
    assert_eq!(read(&copy, TimeRange::ALL), known(&[("b1", 0, 1.0)]));
    // Each is rid of it by itself.
    compact(&copy);
    assert_eq!((copy.stats().block_samples, copy.view().deletes.len()), (1, 0));
    assert_eq!((db.stats().block_samples, db.view().deletes.len()), (2, 1));
}
