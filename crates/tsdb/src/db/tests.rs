use std::collections::BTreeMap;
use std::fs;

use std::path::Path;

use model::{
    Cancel, Columns, Exemplar, HistogramSample, Labels, LabelsRequest, MatchOp, Matcher, Metadata, MetricType, Sample,
    SelectRequest, SeriesSource, TimeRange, Want,
};

use super::*;
use crate::testing::Family;

mod background;
mod cardinality;
mod changed;
mod counting;
mod downsampling;
mod every_call;
mod exemplars;
mod faults;
mod histories;
mod memory;
mod quiet;
mod rebuilding;
mod world;

const HOUR: i64 = 3_600_000;

fn options() -> Options {
    Options { head_bytes_max: 1 << 20, block_span_ms: HOUR, ..Options::default() }
}

fn labels(n: u64) -> Labels {
    let (series, half) = (n.to_string(), if n.is_multiple_of(2) { "even" } else { "odd" });
    Labels::new(&[("__name__", "m"), ("series", &series), ("half", half)]).expect("valid")
}

fn request(matchers: Vec<Matcher>, range: TimeRange) -> SelectRequest {
    SelectRequest { matchers, range, want: Want::Samples, series_max: usize::MAX, cancel: Cancel::default() }
}

/// What a sample is beside its time: the bits of a float with its start, or a histogram.
#[derive(Debug, Clone, PartialEq)]
enum Any {
    Float(u64, i64),
    Histogram(HistogramSample),
}

fn read(db: &Db, range: TimeRange) -> BTreeMap<(Labels, i64), Any> {
    let matchers = vec![Matcher::equal("__name__", "m")];
    let mut out = BTreeMap::new();
    for series in db.select(&request(matchers, range)).expect("selects").series {
        let mut samples = Columns::default();
        series.data.read(range, &mut samples).expect("reads");
        assert!(samples.t.is_sorted_by(|a, b| a < b), "ascending, each time once");
        let floats = samples.t.iter().zip(&samples.v).enumerate();
        let floats = floats.map(|(at, (t, v))| (*t, Any::Float(v.to_bits(), samples.start(at))));
        for (t, any) in floats.chain(samples.histograms.iter().map(|h| (h.t, Any::Histogram(h.clone())))) {
            assert_eq!(out.insert((series.labels.clone(), t), any), None, "each label set and each time once");
        }
    }
    out
}

fn append<'s>(db: &Db, series: u64, samples: impl Into<Samples<'s>>, offset: i64) {
    let mut batch = db.begin();
    batch.append(labels(series).as_ref(), samples);
    batch.finish(0, offset);
}

fn copied(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("directory");
    for entry in fs::read_dir(from).expect("readable") {
        let path = entry.expect("entry").path();
        fs::write(to.path().join(path.file_name().expect("file")), fs::read(&path).expect("read")).expect("written");
    }
    to
}

/// Appends some samples, and returns them in the order in which they are written.
fn append_random(db: &Db, series: u64, base: i64, offset: i64, random: &mut fastrand::Rng) -> Vec<(i64, Any)> {
    let times = |n: std::ops::Range<i64>, random: &mut fastrand::Rng| -> Vec<i64> {
        let n = random.i64(n);
        let one = |i| if random.u8(0..8) == 0 { random.i64(0..5 * HOUR) } else { base + i * 15_000 };
        (0..n).map(one).collect()
    };
    let value = |random: &mut fastrand::Rng| if random.bool() { random.f64() } else { f64::from(random.u8(..)) };
    // Some series have floats only, some have starts too, and some are mixed.
    let floats = times(if series == 5 { 0..9 } else { 1..50 }, random);
    let floats: Vec<Sample> = floats.into_iter().map(|t| Sample { t, v: value(random) }).collect();
    let start = |random: &mut fastrand::Rng| random.i64(0..3);
    let starts: Vec<i64> = floats.iter().filter(|_| series >= 4).map(|_| start(random)).collect();
    let mut family = Family::new(random);
    let histograms = if series == 5 { times(0..40, random) } else { Vec::new() };
    let histograms: Vec<HistogramSample> = histograms.into_iter().map(|t| family.sample(t, random)).collect();
    let samples = Samples { floats: &floats, starts: &starts, histograms: &histograms };
    append(db, series, samples, offset);
    let mut out: Vec<(i64, Any)> =
        floats.iter().enumerate().map(|(at, s)| (s.t, Any::Float(s.v.to_bits(), samples.start(at)))).collect();
    out.extend(histograms.into_iter().map(|sample| (sample.t, Any::Histogram(sample))));
    out
}

/// Random operations against a map. A failure names its seed.
fn model_run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut dir = tempfile::tempdir().expect("directory");
    let mut db = Db::open(dir.path(), options()).expect("opens");
    // What is in the engine, and what of it a restart would bring back, with the offset to read on from.
    let (mut all, mut flushed) = (BTreeMap::new(), BTreeMap::new());
    let (mut offset, mut flushed_offset) = (0i64, 0i64);
    for _ in 0..random.usize(5..60) {
        match random.u8(0..20) {
            0..=13 => {
                let series = random.u64(0..6);
                let base = random.i64(0..5 * HOUR);
                offset += 1;
                for (t, any) in append_random(&db, series, base, offset, &mut random) {
                    all.insert((labels(series), t), any);
                }
            }
            14..=15 => {
                let positions = db.flush().expect("flushes");
                assert_eq!(positions.get(&0).copied().unwrap_or(0), offset);
                (flushed, flushed_offset) = (all.clone(), offset);
            }
            16..=17 => while db.compact(&Cancel::default()).expect("merges") {},
            18 => {
                // A crash, by a copy of the directory as it is now; what a flush or a merge left half done is in it.
                fs::write(dir.path().join("9999999999.block"), b"torn").expect("written");
                let copy = copied(dir.path());
                drop(std::mem::replace(&mut db, Db::open(copy.path(), options()).expect("opens the copy")));
                dir = copy;
                assert_eq!(db.positions().get(&0).copied().unwrap_or(0), flushed_offset, "seed {seed}");
                (all, offset) = (flushed.clone(), flushed_offset);
            }
            _ => {
                drop(db);
                db = Db::open(dir.path(), options()).expect("opens again");
                assert_eq!(db.positions().get(&0).copied().unwrap_or(0), flushed_offset, "seed {seed}");
                (all, offset) = (flushed.clone(), flushed_offset);
            }
        }
        let start_ms = random.i64(-HOUR..5 * HOUR);
        let range = TimeRange { start_ms, end_ms: start_ms + random.i64(0..6 * HOUR) };
        let expect: BTreeMap<_, _> = all.clone().into_iter().filter(|((_, t), _)| range.contains(*t)).collect();
        assert_eq!(read(&db, range), expect, "seed {seed}");
    }
}

#[test]
fn engine_equals_a_map_under_random_operations() {
    let first = fastrand::u64(..1 << 40);
    for seed in first..first + 40 {
        model_run(seed);
    }
}

#[test]
fn writers_flushes_merges_and_readers_at_once_lose_nothing_and_see_nothing_twice() {
    const RECORDS: i64 = 150;
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    let done = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for partition in 0..2 {
            let (db, done) = (&db, &done);
            scope.spawn(move || {
                for record in 0..RECORDS {
                    let mut batch = db.begin();
                    // Both write all shards, in opposite order.
                    for n in 0..40 {
                        let series = if partition == 0 { n } else { 139 - n };
                        batch.append(labels(series).as_ref(), &[Sample { t: record * 1000, v: record as f64 }]);
                    }
                    batch.finish(partition, record + 1);
                }
                done.fetch_add(1, Ordering::Release);
            });
        }
        let mut seen = 0;
        while done.load(Ordering::Acquire) < 2 {
            db.flush().expect("flushes");
            while db.compact(&Cancel::default()).expect("merges") {}
            let now = read(&db, TimeRange::ALL).len();
            assert!(now >= seen, "{now} after {seen}");
            seen = now;
        }
    });
    assert_eq!(read(&db, TimeRange::ALL).len() as i64, 2 * 40 * RECORDS);
    assert_eq!(db.flush().expect("flushes"), BTreeMap::from([(0, RECORDS), (1, RECORDS)]));
    drop(db);
    let db = Db::open(dir.path(), options()).expect("opens");
    assert_eq!(read(&db, TimeRange::ALL).len() as i64, 2 * 40 * RECORDS);
}

#[test]
fn matchers_select_over_head_and_blocks() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    for n in 0..10 {
        append(&db, n, &[Sample { t: 1000, v: 1.0 }], 1);
    }
    let check = |matchers: &[(MatchOp, &str, &str)], expect: &[u64]| {
        let matchers = matchers.iter().map(|(op, n, v)| Matcher::new(*op, *n, *v).expect("valid")).collect();
        let found = db.select(&request(matchers, TimeRange::ALL)).expect("selects").series;
        let mut found: Vec<u64> =
            found.iter().map(|s| s.labels.get("series").expect("label").parse().expect("number")).collect();
        found.sort_unstable();
        assert_eq!(found, expect);
    };
    for _ in 0..2 {
        check(&[(MatchOp::Equal, "series", "3")], &[3]);
        check(&[(MatchOp::Equal, "half", "even"), (MatchOp::Regex, "series", "[0-4]")], &[0, 2, 4]);
        check(&[(MatchOp::Equal, "__name__", "m"), (MatchOp::NotEqual, "half", "even")], &[1, 3, 5, 7, 9]);
        check(&[(MatchOp::NotRegex, "series", "[0-7]"), (MatchOp::Equal, "absent", "")], &[8, 9]);
        check(&[(MatchOp::Regex, "series", "1|.*8")], &[1, 8]);
        check(&[(MatchOp::Equal, "series", "x")], &[]);
        check(&[(MatchOp::NotEqual, "absent", "")], &[]);
        let all = LabelsRequest { matcher_sets: vec![], range: TimeRange::ALL, cancel: Cancel::default() };
        assert_eq!(db.label_names(&all).expect("names").items, ["__name__", "half", "series"]);
        assert_eq!(db.label_values("half", &all).expect("values").items, ["even", "odd"]);
        let three = LabelsRequest { matcher_sets: vec![vec![Matcher::equal("series", "3")]], ..all };
        assert_eq!(db.label_values("half", &three).expect("values").items, ["odd"]);
        let mut limited = request(vec![Matcher::equal("__name__", "m")], TimeRange::ALL);
        limited.series_max = 8;
        let told = "the selector finds more than 8 series: 10 meet its matchers";
        assert_eq!(db.select(&limited).expect_err("limited").message, told);
        db.flush().expect("flushes");
    }
}

#[test]
fn retention_hides_and_drops_what_is_old() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), Options { retention_ms: Some(2 * HOUR), ..options() }).expect("opens");
    append(&db, 1, &[Sample { t: 0, v: 1.0 }, Sample { t: 3 * HOUR, v: 2.0 }, Sample { t: 5 * HOUR, v: 3.0 }], 1);
    db.flush().expect("flushes");
    assert_eq!(db.stats().blocks, 3);
    assert_eq!(db.expire(5 * HOUR).expect("expires"), 1);
    assert_eq!(db.stats().blocks, 2);
    assert_eq!(read(&db, TimeRange::ALL).len(), 2);
    db.expire(5 * HOUR + 1).expect("expires");
    assert_eq!(read(&db, TimeRange::ALL).len(), 1, "hidden before its block goes");
}

#[test]
fn samples_over_decades_do_not_become_thousands_of_files() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    for n in 0..3 {
        append(&db, 1, &[Sample { t: n, v: 1.0 }, Sample { t: i64::MAX / 2 + n, v: 2.0 }], n);
        db.flush().expect("flushes");
    }
    assert_eq!(db.stats().blocks, 3);
    assert_eq!(read(&db, TimeRange::ALL).len(), 6);
}

#[test]
fn the_first_and_the_last_time_there_are_can_be_flushed() {
    for times in [[i64::MAX - 1, i64::MAX], [i64::MIN, i64::MIN + 1], [i64::MIN, i64::MAX]] {
        let dir = tempfile::tempdir().expect("directory");
        let db = Db::open(dir.path(), options()).expect("opens");
        append(&db, 1, &times.map(|t| Sample { t, v: 1.0 }), 1);
        db.flush().expect("flushes");
        assert_eq!(read(&db, TimeRange::ALL).len(), 2);
        assert_eq!(read(&db, TimeRange { start_ms: times[1], end_ms: times[1] }).len(), 1);
    }
}

#[test]
fn series_that_are_no_longer_written_are_forgotten_and_stay_readable() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    for round in 0..6 {
        // Two new series each time, one that stays.
        for n in [0, 2 * round + 1, 2 * round + 2] {
            append(&db, n as u64, &[Sample { t: round * 200_000, v: n as f64 }], round);
        }
        db.flush().expect("flushes");
    }
    // Those of the last five minutes are known.
    assert_eq!(db.stats().head_series, 1 + 2 * 2);
    assert_eq!(read(&db, TimeRange::ALL).len(), 6 * 3);
    append(&db, 1, &[Sample { t: 1_100_000, v: 1.0 }], 7);
    assert_eq!(read(&db, TimeRange { start_ms: 1_100_000, end_ms: 1_100_000 }).len(), 1);
    assert_eq!(read(&db, TimeRange::ALL).len(), 6 * 3 + 1);
}

#[test]
fn a_directory_is_used_by_one_and_blocks_without_a_manifest_are_not_touched() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    assert!(Db::open(dir.path(), options()).expect_err("locked").to_string().contains("another process"));
    append(&db, 1, &[Sample { t: 1, v: 1.0 }], 1);
    db.flush().expect("flushes");
    drop(db);
    fs::remove_file(dir.path().join("manifest")).expect("removed");
    let error = Db::open(dir.path(), options()).expect_err("refused");
    assert_eq!(error.kind(), model::Kind::Corrupt);
    assert!(dir.path().join("0000000000.block").exists());
}

#[test]
fn a_damaged_block_is_named_and_the_rest_is_answered() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    for n in 0..2 {
        append(&db, n, &[Sample { t: 1000, v: 1.0 }], 1);
        db.flush().expect("flushes");
    }
    drop(db);
    let path = dir.path().join("0000000000.block");
    let mut bytes = fs::read(&path).expect("read");
    let at = bytes.len() - 80;
    bytes[at] ^= 1;
    fs::write(&path, bytes).expect("written");
    let db = Db::open(dir.path(), options()).expect("opens");
    let answer = db.select(&request(vec![Matcher::equal("__name__", "m")], TimeRange::ALL)).expect("selects");
    assert_eq!(answer.series.len(), 1);
    assert!(answer.warnings[0].contains("0000000000.block is in quarantine"), "{:?}", answer.warnings);
    db.flush().expect("flushes");
    drop(db);
    assert!(path.exists(), "kept for a repair");
    assert_eq!(Db::open(dir.path(), options()).expect("opens").stats().quarantined, 1);
}

#[test]
fn a_page_of_an_index_that_is_damaged_costs_its_block_and_answers_say_so_at_once() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    for n in 0..2 {
        append(&db, n, &[Sample { t: 1000, v: 1.0 }], n as i64 + 1);
        db.flush().expect("flushes");
    }
    let pages = db.view().blocks[0].1.index.pages();
    drop(db);
    let path = dir.path().join("0000000000.block");
    let sound = fs::read(&path).expect("read");
    // Labels and chunks of the series, values and postings of the last label.
    for (page, of) in [(0, "labels"), (1, "chunks"), (pages.len() - 2, "values"), (pages.len() - 1, "postings")] {
        let mut bytes = sound.clone();
        bytes[pages[page].at as usize + 1] ^= 1;
        fs::write(&path, &bytes).expect("written");
        let db = Db::open(dir.path(), options()).expect("opens");
        assert!(db.warnings().is_empty(), "a start does not read it");
        let any = Matcher::new(MatchOp::Regex, "series", ".+").expect("compiles");
        let answer = db.select(&request(vec![any.clone()], TimeRange::ALL)).expect("selects");
        assert_eq!((answer.series.len(), answer.warnings.len()), (1, 1), "{of}");
        assert!(answer.warnings[0].contains("0000000000.block is damaged"), "{:?}", answer.warnings);
        let asked = LabelsRequest { matcher_sets: vec![vec![any]], range: TimeRange::ALL, cancel: Cancel::default() };
        let values = db.label_values("series", &asked).expect("lists");
        assert_eq!((values.items, values.warnings.len()), (vec!["1".to_owned()], 1), "{of}");
        assert_eq!(db.lost().len(), 1, "it can be written again");
    }
}

#[test]
fn a_block_damaged_while_it_is_open_fails_one_read_and_is_left_out_with_a_warning_after() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    for n in 0..2 {
        append(&db, n, &[Sample { t: 1000, v: 1.0 }], 1);
        db.flush().expect("flushes");
    }
    let path = dir.path().join("0000000000.block");
    let mut bytes = fs::read(&path).expect("read");
    bytes[10] ^= 1;
    fs::write(&path, bytes).expect("written");
    let select = || db.select(&request(vec![Matcher::equal("__name__", "m")], TimeRange::ALL)).expect("selects");
    let answer = select();
    let failed = answer.series.iter().filter_map(|s| s.data.read(TimeRange::ALL, &mut Columns::default()).err());
    let failed: Vec<_> = failed.collect();
    assert!(failed.len() == 1 && failed[0].kind == model::Kind::Corrupt, "{failed:?}");
    let answer = select();
    assert_eq!(answer.series.len(), 1);
    assert!(answer.warnings[0].contains("0000000000.block is damaged"), "{:?}", answer.warnings);
}

#[test]
fn files_that_a_crash_left_are_removed() {
    let dir = tempfile::tempdir().expect("directory");
    drop(Db::open(dir.path(), options()).expect("opens"));
    fs::write(dir.path().join("0000000009.block"), b"half").expect("written");
    fs::write(dir.path().join("manifest.new"), b"half").expect("written");
    drop(Db::open(dir.path(), options()).expect("opens"));
    let mut left: Vec<_> = fs::read_dir(dir.path()).expect("readable").map(|e| e.expect("entry").file_name()).collect();
    left.sort();
    assert_eq!(left, ["lock", "manifest"]);
}

#[test]
fn metadata_survives_a_restart() {
    let dir = tempfile::tempdir().expect("directory");
    let metadata =
        Metadata { family: "m".into(), kind: model::MetricType::Counter, help: "a b".into(), unit: String::new() };
    let db = Db::open(dir.path(), options()).expect("opens");
    let mut batch = db.begin();
    batch.metadata(&metadata, 1000);
    batch.finish(0, 1);
    db.flush().expect("flushes");
    drop(db);
    let db = Db::open(dir.path(), options()).expect("opens");
    assert_eq!(db.metadata(Some("m")).expect("answers").items, [metadata]);
    assert_eq!(db.metadata(Some("x")).expect("answers").items, []);
}

#[test]
fn snapshots_while_everything_goes_on_are_whole() {
    let dir = tempfile::tempdir().expect("directory");
    let snapshots = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    let done = std::sync::atomic::AtomicBool::new(false);
    let taken = std::thread::scope(|scope| {
        scope.spawn(|| {
            for record in 0..60 {
                append(&db, record as u64 % 5, &[Sample { t: record * 1000, v: record as f64 }], record + 1);
                db.flush().expect("flushes");
                while db.compact(&Cancel::default()).expect("merges") {}
            }
            done.store(true, Ordering::Release);
        });
        let mut taken = Vec::new();
        let mut is_last = false;
        while !is_last {
            is_last = done.load(Ordering::Acquire);
            let to = snapshots.path().join(taken.len().to_string());
            let before = db.stats().block_samples;
            db.snapshot(&to).expect("is taken");
            taken.push((to, before));
        }
        taken
    });
    assert!(db.snapshot(&taken[0].0).expect_err("refused").to_string().ends_with("is there already"));
    for (to, before) in taken {
        assert_eq!(crate::offline::verify::verify(&to, &mut |_| {}).expect("verifies").faults(), 0);
        let copy = Db::open(&to, options()).expect("opens");
        let samples = read(&copy, TimeRange::ALL).len() as u64;
        assert!(samples >= before, "{samples} of {before}");
        assert_eq!(copy.positions(), BTreeMap::new());
    }
}

#[test]
fn a_snapshot_is_made_though_a_block_was_lost() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    for n in 0..2 {
        append(&db, n, &[Sample { t: 1000, v: 1.0 }], 1);
        db.flush().expect("flushes");
    }
    drop(db);
    fs::remove_file(dir.path().join("0000000000.block")).expect("removed");
    let db = Db::open(dir.path(), options()).expect("opens");
    let to = dir.path().join("snapshot");
    assert_eq!(db.snapshot(&to).expect("is taken"), 2);
    let copy = Db::open(&to, options()).expect("opens");
    assert_eq!((copy.stats().blocks, copy.stats().quarantined), (1, 1));
    // One that goes missing while the engine runs is no quarantine that anybody was told of.
    fs::remove_file(dir.path().join("0000000001.block")).expect("removed");
    assert!(db.snapshot(&dir.path().join("second")).is_err());
}

#[test]
fn figures_are_told_while_records_with_everything_in_them_are_applied() {
    let dir = tempfile::tempdir().expect("directory");
    let db = std::sync::Arc::new(Db::open(dir.path(), options()).expect("opens"));
    let (done, wait) = std::sync::mpsc::sync_channel(2);
    let (applied, asked) = (db.clone(), db);
    let applying = done.clone();
    std::thread::spawn(move || {
        for n in 0..2000u64 {
            let mut batch = applied.begin();
            for series in 0..40 {
                batch.append(labels(series).as_ref(), &[Sample { t: n as i64, v: 1.0 }]);
            }
            let exemplar = Exemplar::new(n as i64, 1.0, &[("trace", "x")]).expect("valid");
            batch.exemplars(labels(1).as_ref(), &[exemplar]);
            let family = format!("m{}", n % 10);
            let told = Metadata { family, kind: MetricType::Gauge, help: String::new(), unit: String::new() };
            batch.metadata(&told, n as i64);
            batch.finish(0, n as i64 + 1);
        }
        applying.send(()).expect("waited for");
    });
    std::thread::spawn(move || {
        for _ in 0..5000 {
            asked.stats();
        }
        done.send(()).expect("waited for");
    });
    for _ in 0..2 {
        // Only for two that wait for each other: they would for ever.
        wait.recv_timeout(std::time::Duration::from_secs(120)).expect("both end");
    }
}
