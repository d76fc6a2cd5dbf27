use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{
    Buckets, Cancel, Columns, Counts, Histogram, HistogramSample, Labels, Layout, MatchOp, Matcher, ResetHint, Sample,
    Samples, Span, TimeRange,
};

use super::chunks::StartTimes;
use super::export::{self, export};
use super::import::{self, Progress, Skipped, import};
use super::index::{ChunkMeta, IndexWriter};
use super::meta::Meta;
use super::segments::SegmentWriter;
use super::tombstones;
use crate::disk::simulated::{Fault, Loss, Simulated};
use crate::testing::{Family, Floats, everything, floats};
use crate::{Db, Options};

const HOUR: i64 = 3_600_000;

fn open(dir: &Path) -> Db {
    Db::open(dir, Options { block_span_ms: 24 * HOUR, ..Options::default() }).expect("opens")
}

fn read(db: &Db) -> Floats {
    floats(db, &[])
}

fn labels(n: usize) -> Labels {
    // Canonical texts begin with a length, so these are in another order there than as labels.
    let long = if n.is_multiple_of(2) { "b".repeat(n) } else { "a".repeat(n * 7) };
    Labels::new(&[("__name__", "m"), ("é.b", &n.to_string()), ("a", &long)]).expect("valid")
}

/// An engine's directory with samples of all kinds over two days, some written twice, and what is in it.
fn filled(dir: &Path, seed: u64) -> Floats {
    let mut random = fastrand::Rng::with_seed(seed);
    let db = open(dir);
    for round in 0..3 {
        let mut batch = db.begin();
        for n in 0..random.usize(1..12) {
            let start = random.i64(-HOUR..30 * HOUR);
            let kind = random.u8(0..3);
            let samples: Vec<Sample> = (0..random.i64(1..500))
                .map(|i| {
                    let t = start + i * 60_000 + if kind == 0 { random.i64(0..60_000) } else { 0 };
                    let v = match kind {
                        0 => f64::from_bits(random.u64(..)),
                        1 => i as f64,
                        _ => 1.5,
                    };
                    Sample { t, v }
                })
                .collect();
            batch.append(labels(n).as_ref(), &samples);
        }
        batch.finish(0, round);
        db.flush().expect("flushes");
    }
    read(&db)
}

fn options() -> export::Options {
    export::Options {
        range: TimeRange::ALL,
        matcher_sets: Vec::new(),
        start_times: StartTimes::Written,
        span_ms: 6 * HOUR,
        now_ms: 1_790_000_000_000,
        chance: 7,
    }
}

fn exported(from: &Path, to: &Path, options: &export::Options) -> export::Summary {
    let mut told = Vec::new();
    let summary = export(from, to, options, &Cancel::default(), &mut |one| told.push(one.clone())).expect("exports");
    assert_eq!(summary.blocks, told);
    summary
}

fn imported(from: &Path, db: &Db) -> import::Summary {
    import(from, db, &Cancel::default(), &mut |_| {}).expect("imports")
}

#[test]
fn what_is_exported_and_imported_again_is_the_same() {
    let first = fastrand::u64(..1 << 40);
    for seed in first..first + 3 {
        let (from, blocks, to) = (tempfile::tempdir(), tempfile::tempdir(), tempfile::tempdir());
        let (from, blocks, to) = (from.expect("directory"), blocks.expect("directory"), to.expect("directory"));
        let expect = filled(from.path(), seed);
        let summary = exported(from.path(), blocks.path(), &options());
        assert_eq!(summary.problems, [""; 0]);
        assert_eq!(summary.blocks.iter().map(|b| b.samples).sum::<u64>(), expect.len() as u64, "seed {seed}");
        for block in &summary.blocks {
            let span = |t: i64| t.div_euclid(6 * HOUR);
            assert_eq!(span(block.range.start_ms), span(block.range.end_ms), "seed {seed}");
        }
        let db = open(to.path());
        let mut reports: Vec<Progress> = Vec::new();
        let summary = import(blocks.path(), &db, &Cancel::default(), &mut |p| reports.push(*p)).expect("imports");
        assert_eq!(read(&db), expect, "seed {seed}");
        assert_eq!((summary.samples, summary.new), (expect.len() as u64, expect.len() as u64));
        assert_eq!((summary.problems, summary.skipped), (Vec::new(), BTreeMap::new()));
        let last = reports.last().expect("told at the end");
        assert_eq!((last.blocks, last.bytes), (last.blocks_all, last.bytes_all));
        assert!(reports.is_sorted_by_key(|p| p.bytes), "{reports:?}");
        // Again, and from a directory that was opened again: nothing is added.
        drop(db);
        let db = open(to.path());
        let before = db.stats().blocks;
        assert_eq!(imported(blocks.path(), &db).new, 0);
        assert_eq!((read(&db), db.stats().blocks), (expect, before));
        drop(db);
        assert_eq!(crate::offline::verify::verify(to.path(), &mut |_| {}).expect("verifies").faults(), 0);
    }
}

/// What a block of a Prometheus keeps of the samples of a series: start times where it shall, and of hints what can be known there.
fn kept(samples: &Columns, start_times: StartTimes) -> Columns {
    let mut kept = Columns::floats(samples.t.clone(), samples.v.clone());
    if start_times == StartTimes::Written {
        kept.starts = samples.starts.clone();
    }
    for (n, sample) in samples.histograms.iter().enumerate() {
        let before = n.checked_sub(1).map(|before| &samples.histograms[before]);
        let float_between = before.is_some_and(|before| samples.t.iter().any(|t| (before.t..sample.t).contains(t)));
        let goes_on =
            before.filter(|before| !float_between && super::histogram::continues(&before.histogram, &sample.histogram));
        let mut histogram = sample.histogram.clone();
        histogram.hint = match (histogram.hint, goes_on) {
            (ResetHint::Gauge, _) => ResetHint::Gauge,
            (ResetHint::Reset, _) => ResetHint::Reset,
            (_, None) => ResetHint::Unknown,
            (_, Some(_)) => ResetHint::NotReset,
        };
        if histogram.is_stale() {
            let counts = Counts::Integer(model::Buckets::default());
            histogram = Histogram { layout: Default::default(), counts, ..histogram };
        }
        let start = if start_times == StartTimes::Written { sample.start } else { 0 };
        kept.histograms.push(HistogramSample { t: sample.t, start, histogram });
    }
    kept
}

#[test]
fn histograms_are_exported_and_imported_beside_floats() {
    let seed = fastrand::u64(..1 << 40);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let from = tempfile::tempdir().expect("directory");
    let db = open(from.path());
    let mut batch = db.begin();
    for n in 0..12 {
        let mut families = [Family::new(&mut random), Family::new(&mut random)];
        // So few that none ends a chunk by their number.
        for i in 0..100 {
            let t = i * 60_000 + random.i64(0..60_000);
            if random.u8(..8) == 0 {
                let starts = if n % 2 == 0 { vec![random.i64(0..3)] } else { Vec::new() };
                let floats = &[Sample { t, v: i as f64 }];
                batch.append(labels(n).as_ref(), Samples { floats, starts: &starts, ..Samples::default() });
            } else {
                let sample = families[usize::from(random.u8(..8) == 0)].sample(t, &mut random);
                batch.append(labels(n).as_ref(), Samples { histograms: &[sample], ..Samples::default() });
            }
        }
    }
    batch.finish(0, 1);
    db.flush().expect("flushes");
    let all = everything(&db);
    drop(db);
    for start_times in [StartTimes::Written, StartTimes::LeftOut] {
        comes_back(from.path(), &all, start_times);
    }
}

/// Exports, and imports it to another engine, which then has what a block keeps.
fn comes_back(from: &Path, all: &BTreeMap<Labels, Columns>, start_times: StartTimes) {
    let [blocks, to] = std::array::from_fn(|_| tempfile::tempdir().expect("directory"));
    let options = export::Options { span_ms: 48 * HOUR, start_times, ..options() };
    let summary = exported(from, blocks.path(), &options);
    let count = |columns: &Columns| (columns.len() + columns.histograms.len()) as u64;
    let samples: u64 = all.values().map(count).sum();
    assert_eq!((summary.problems, summary.blocks[0].samples), (Vec::new(), samples));
    let db = open(to.path());
    let summary = imported(blocks.path(), &db);
    assert_eq!((summary.samples, summary.new, summary.problems), (samples, samples, Vec::new()));
    let expect: BTreeMap<Labels, Columns> =
        all.iter().map(|(labels, samples)| (labels.clone(), kept(samples, start_times))).collect();
    assert_eq!(everything(&db), expect);
    assert_eq!(imported(blocks.path(), &db).new, 0);
}

#[test]
fn time_and_matchers_say_what_is_exported() {
    let (from, blocks, to) = (tempfile::tempdir(), tempfile::tempdir(), tempfile::tempdir());
    let (from, blocks, to) = (from.expect("directory"), blocks.expect("directory"), to.expect("directory"));
    let mut expect = filled(from.path(), 1);
    let range = TimeRange { start_ms: HOUR, end_ms: 9 * HOUR };
    let sets = ["0|1", "1|2"].map(|p| vec![Matcher::new(MatchOp::Regex, "é.b", p).expect("valid")]).to_vec();
    exported(from.path(), blocks.path(), &export::Options { range, matcher_sets: sets, ..options() });
    let db = open(to.path());
    imported(blocks.path(), &db);
    expect.retain(|(labels, t), _| range.contains(*t) && ["0", "1", "2"].contains(&labels.get("é.b").expect("label")));
    assert!(!expect.is_empty());
    assert_eq!(read(&db), expect);
}

#[test]
fn what_was_there_and_differs_is_replaced_by_what_is_imported() {
    let (from, blocks, to) = (tempfile::tempdir(), tempfile::tempdir(), tempfile::tempdir());
    let (from, blocks, to) = (from.expect("directory"), blocks.expect("directory"), to.expect("directory"));
    let expect = filled(from.path(), 2);
    exported(from.path(), blocks.path(), &options());
    let db = open(to.path());
    let mut all = expect.clone();
    let mut batch = db.begin();
    for (n, ((labels, t), v)) in expect.iter().enumerate() {
        // A third is there, a third is there with another value.
        let v = if n % 3 == 0 { v ^ 1 } else { *v };
        if n % 3 < 2 {
            batch.append(labels.as_ref(), &[Sample { t: *t, v: f64::from_bits(v) }]);
        }
    }
    batch.append(labels(1).as_ref(), &[Sample { t: 99 * HOUR, v: 1.0 }]);
    all.insert((labels(1), 99 * HOUR), 1f64.to_bits());
    batch.finish(0, 1);
    db.flush().expect("flushes");
    let summary = imported(blocks.path(), &db);
    assert_eq!(summary.new, (0..expect.len()).filter(|n| n % 3 != 1).count() as u64);
    assert_eq!(read(&db), all);
    assert_eq!(db.positions(), BTreeMap::from([(0, 1)]), "the log goes on where it was");
}

/// Metric names, each with its chunks: encoding, times.
type Series<'a> = &'a [(&'a str, &'a [(u8, &'a [i64])])];

/// A block of a Prometheus that has these.
fn block(dir: &Path, name: &str, series: Series<'_>) -> PathBuf {
    let chunk = |(encoding, t): &(u8, &[i64])| {
        let mut data = Vec::new();
        super::xor::encode(t, &vec![1.0; t.len()], &mut data);
        (*encoding, (t[0], t[t.len() - 1]), data)
    };
    let series = series.iter().map(|(name, chunks)| (*name, chunks.iter().map(chunk).collect()));
    block_of(dir, name, &series.collect::<Vec<_>>())
}

/// An encoding, first and last time, and data.
type Encoded = (u8, (i64, i64), Vec<u8>);

/// A block of a Prometheus that has these chunks.
fn block_of(dir: &Path, name: &str, series: &[(&str, Vec<Encoded>)]) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir(&path).expect("created");
    let labels: Vec<Labels> =
        series.iter().map(|(name, _)| Labels::new(&[("__name__", *name)]).expect("valid")).collect();
    let symbols = labels.iter().flat_map(Labels::iter).flat_map(|(n, v)| [n, v]).collect();
    let mut index = IndexWriter::create(&path, &symbols).expect("begins");
    let mut segments = SegmentWriter::create(&path).expect("begins");
    for (labels, (_, chunks)) in labels.iter().zip(series) {
        let chunks = chunks.iter().map(|(encoding, (start_ms, end_ms), data)| {
            let reference = segments.push(*encoding, data).expect("written");
            ChunkMeta { start_ms: *start_ms, end_ms: *end_ms, reference }
        });
        index.push(labels, &chunks.collect::<Vec<_>>()).expect("written");
    }
    segments.finish().expect("written");
    index.finish().expect("written");
    let meta = Meta { ulid: name.to_owned(), min_time: 0, max_time: 1, version: 1, ..Meta::default() };
    fs::write(path.join("meta.json"), meta.print()).expect("written");
    path
}

const FIRST: &str = "01ARZ3NDEKTSV4RRFFQ69G5FA0";
const SECOND: &str = "01ARZ3NDEKTSV4RRFFQ69G5FA1";

#[test]
fn histograms_that_are_too_fine_are_imported_as_coarse_as_the_finest_that_are_kept() {
    let mut random = fastrand::Rng::with_seed(1);
    for schema in [9, 10, 52] {
        let (from, to) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
        let fine = |t: i64, counts: [u64; 3], random: &mut fastrand::Rng| {
            let positive = vec![Span { offset: -1, length: 1 }, Span { offset: 0, length: 2 }];
            let layout = Layout { schema, zero_threshold: 0.001, positive, ..Layout::default() };
            let counts = Buckets { count: counts.iter().sum(), zero: 0, positive: counts.to_vec(), negative: vec![] };
            let (hint, sum) = (ResetHint::NotReset, random.f64());
            let histogram = Histogram { layout: Arc::new(layout), hint, sum, counts: Counts::Integer(counts) };
            HistogramSample { t, start: t - 5, histogram }
        };
        let samples = [fine(10, [1, 2, 4], &mut random), fine(20, [2, 2, 9], &mut random)];
        let mut data = Vec::new();
        super::histogram::encode(&samples, super::histogram::Kind { float: false, starts: true }, &mut data);
        block_of(from.path(), FIRST, &[("a", vec![(super::HISTOGRAM_STARTS, (10, 20), data)])]);
        let db = open(to.path());
        assert_eq!(imported(from.path(), &db).new, 2);
        let known = everything(&db);
        let Some(found) = known.values().next().map(|columns| &columns.histograms) else {
            panic!("nothing at {schema}")
        };
        assert_eq!(found.iter().map(|one| (one.t, one.start)).collect::<Vec<_>>(), [(10, 5), (20, 15)]);
        for (found, sample) in found.iter().zip(&samples) {
            let accepted = sample.histogram.clone().accepted().expect("is brought down");
            assert_eq!((found.histogram.layout.schema, accepted.layout.schema), (8, 8));
            assert_eq!((&found.histogram.layout, &found.histogram.counts), (&accepted.layout, &accepted.counts));
            let Counts::Integer(counts) = &found.histogram.counts else { panic!("{found:?}") };
            assert_eq!((counts.count, counts.positive.iter().sum::<u64>()), (counts.count, counts.count));
            assert!(counts.positive.len() < 3, "buckets are put together: {counts:?}");
        }
    }
}

#[test]
fn after_a_fault_at_any_call_of_an_import_it_is_done_again_and_everything_is_there_once() {
    let from = tempfile::tempdir().expect("directory");
    block(from.path(), FIRST, &[("a", &[(1, &[1, 2, 3]), (1, &[4, 5])]), ("b", &[(1, &[1, 30 * HOUR])])]);
    block(from.path(), SECOND, &[("a", &[(1, &[5, 6])]), ("c", &[(1, &[7])])]);
    let open = |disk: &Simulated| {
        let options = Options { block_span_ms: 24 * HOUR, ..Options::default() };
        Db::open_on(Arc::new(disk.clone()), options).expect("opens")
    };
    let (expect, calls) = {
        let disk = Simulated::new(0);
        let db = open(&disk);
        let before = disk.calls();
        assert_eq!(imported(from.path(), &db).new, 9);
        let calls = disk.calls() - before;
        (read(&db), calls)
    };
    assert!(calls > 10, "{calls}");
    let crash = |loss| (Fault::Crash, loss);
    let fails = |kind| (Fault::Error(kind), Loss::Torn);
    for (fault, loss) in [
        crash(Loss::Nothing),
        crash(Loss::Unsynced),
        crash(Loss::AllButNewest),
        crash(Loss::Torn),
        fails(ErrorKind::Other),
        fails(ErrorKind::StorageFull),
        (Fault::ShortWrite, Loss::Unsynced),
    ] {
        for call in 0..calls {
            let disk = Simulated::new(call);
            let db = open(&disk);
            let failures = disk.failures();
            disk.fail_at(disk.calls() + call, fault);
            let done = import(from.path(), &db, &Cancel::default(), &mut |_| {});
            let met = disk.failures() > failures;
            assert!(met || done.is_ok(), "call {call}, {fault:?}: {done:?}");
            let (disk, db) = if disk.has_crashed() {
                let disk = disk.restart(loss);
                (disk.clone(), open(&disk))
            } else {
                disk.mend();
                (disk, db)
            };
            let again = imported(from.path(), &db);
            assert!(again.problems.is_empty() && (met || again.new == 0), "call {call}, {fault:?}: {again:?}");
            assert_eq!(read(&db), expect, "call {call}, {fault:?}, {loss:?}");
            drop(db);
            let db = open(&disk.restart(loss));
            assert_eq!(read(&db), expect, "call {call}, {fault:?}, {loss:?}, after another start");
        }
    }
}

#[test]
fn chunks_of_unknown_encodings_are_counted_by_number() {
    let (from, to) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
    block(from.path(), FIRST, &[("a", &[(8, &[1, 2]), (8, &[3])]), ("b", &[(1, &[1]), (9, &[7])])]);
    let db = open(to.path());
    let summary = imported(from.path(), &db);
    let skipped = |chunks, samples, metric: &str| Skipped { chunks, samples, metrics: [metric.to_owned()].into() };
    let expect =
        BTreeMap::from([("encoding 8".to_owned(), skipped(2, 3, "a")), ("encoding 9".to_owned(), skipped(1, 1, "b"))]);
    assert_eq!((summary.skipped, summary.samples, summary.new), (expect, 1, 1));
    assert_eq!(read(&db).len(), 1);
}

#[test]
fn deleted_samples_and_replaced_blocks_are_left_out() {
    let (from, to) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
    let series: Series<'_> = &[("a", &[(1, &[1, 2, 3]), (1, &[4, 5])]), ("b", &[(1, &[1, 2])])];
    let path = block(from.path(), FIRST, series);
    // Of the first series, which begins at the first multiple of 16 after the symbols.
    let symbols = u32::from_be_bytes(fs::read(path.join("index")).expect("read")[5..9].try_into().expect("four bytes"));
    let reference = (5 + 4 + symbols + 4).div_ceil(16);
    let stones = [reference as u8, 4, 8]; // 2 to 4
    let mut file = tombstones::none();
    file.truncate(5);
    file.extend_from_slice(&stones);
    file.extend_from_slice(&crc32c::crc32c(&stones).to_be_bytes());
    fs::write(path.join("tombstones"), &file).expect("written");
    let db = open(to.path());
    let summary = imported(from.path(), &db);
    assert_eq!((summary.samples, summary.deleted), (4, 3));
    let times: Vec<i64> = read(&db).keys().map(|(_, t)| *t).collect();
    assert_eq!(times, [1, 5, 1, 2]);
    let second = block(from.path(), SECOND, &[("a", &[(1, &[9])])]);
    let meta = r#"{"ulid":"01ARZ3NDEKTSV4RRFFQ69G5FA1","minTime":9,"maxTime":10,"version":1,"unknown":[{}],
        "compaction":{"level":2,"parents":[{"ulid":"01ARZ3NDEKTSV4RRFFQ69G5FA0","minTime":0}]}}"#;
    fs::write(second.join("meta.json"), meta).expect("written");
    let to = tempfile::tempdir().expect("directory");
    let db = open(to.path());
    let summary = imported(from.path(), &db);
    assert_eq!((summary.replaced.as_slice(), summary.samples), (&[FIRST.to_owned()][..], 1));
}

#[test]
fn every_flipped_byte_of_a_source_is_told_and_never_another_sample() {
    let from = tempfile::tempdir().expect("directory");
    let series: Series<'_> = &[("a", &[(1, &[1, 2, 3]), (1, &[4, 5])]), ("b", &[(1, &[1, 2])])];
    let path = block(from.path(), FIRST, series);
    let to = tempfile::tempdir().expect("directory");
    let db = open(to.path());
    imported(from.path(), &db);
    let expect = read(&db);
    // Postings are not read: those of all series only where they are, and what they lead to has its own checksum.
    let postings = fs::read(path.join("index")).expect("read").len() - 100;
    for (file, end) in [("index", postings), ("chunks/000001", usize::MAX)] {
        let file = path.join(file);
        let sound = fs::read(&file).expect("read");
        for at in 0..sound.len().min(end) {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x41;
            fs::write(&file, bytes).expect("written");
            let summary = imported(from.path(), &db);
            assert_eq!((read(&db), summary.new), (expect.clone(), 0), "byte {at} of {}", file.display());
            // Between the parts are bytes that nobody reads.
            let all = summary.samples == expect.len() as u64;
            assert_eq!(all, summary.problems.is_empty(), "byte {at} of {}", file.display());
        }
        fs::write(&file, sound).expect("written");
    }
}

#[test]
fn a_source_that_is_none_is_refused_and_a_log_is_seen() {
    let (from, to) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
    let db = open(to.path());
    let error = import(from.path(), &db, &Cancel::default(), &mut |_| {}).expect_err("refused").to_string();
    assert!(error.contains("has no blocks of a Prometheus"), "{error}");
    let path = block(from.path(), FIRST, &[("a", &[(1, &[1])])]);
    assert!(!imported(from.path(), &db).has_wal);
    fs::create_dir(from.path().join("wal")).expect("created");
    fs::write(from.path().join("wal/00000000"), b"x").expect("written");
    assert!(imported(from.path(), &db).has_wal);
    let mut index = fs::read(path.join("index")).expect("read");
    index[4] = 1;
    fs::write(path.join("index"), index).expect("written");
    let problems = imported(from.path(), &db).problems;
    assert!(problems.len() == 1 && problems[0].contains("version 1 of the index is not known"), "{problems:?}");
}

#[test]
fn a_span_that_would_be_too_many_blocks_is_refused_and_damage_is_told() {
    let (from, out) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
    filled(from.path(), 3);
    let options = export::Options { span_ms: 1, ..options() };
    let error = export(from.path(), out.path(), &options, &Cancel::default(), &mut |_| {}).expect_err("refused");
    assert!(error.to_string().contains("span more than 100000 blocks"), "{error}");
    let block = from.path().join("0000000000.block");
    let mut bytes = fs::read(&block).expect("read");
    bytes[20] ^= 1;
    fs::write(&block, bytes).expect("written");
    let summary = exported(from.path(), out.path(), &export::Options { span_ms: 24 * HOUR, ..options });
    assert!(
        summary.problems.iter().any(|p| p.contains("0000000000.block is corrupt at byte")),
        "{:?}",
        summary.problems
    );
    let left: Vec<_> = fs::read_dir(out.path()).expect("read").map(|e| e.expect("entry").file_name()).collect();
    assert!(left.iter().all(|name| name.len() == 26 || name == "wal"), "{left:?}");
}

#[test]
fn what_is_deleted_is_not_exported_and_an_import_brings_it_back() {
    let [from, before, after, to] = std::array::from_fn(|_| tempfile::tempdir().expect("directory"));
    let all = filled(from.path(), 3);
    exported(from.path(), before.path(), &options());
    let db = open(from.path());
    let range = TimeRange { start_ms: 0, end_ms: 20 * HOUR };
    db.delete(&[Matcher::equal("__name__", "m")], range).expect("deletes");
    drop(db);
    let mut left = all.clone();
    left.retain(|(_, t), _| !range.contains(*t));
    assert!(!left.is_empty() && left.len() < all.len());
    let summary = exported(from.path(), after.path(), &options());
    assert_eq!(summary.blocks.iter().map(|b| b.samples).sum::<u64>(), left.len() as u64);
    let db = open(to.path());
    imported(after.path(), &db);
    assert_eq!(read(&db), left);
    // What is deleted is not there, though its bytes still are.
    let db = open(from.path());
    assert_eq!(imported(before.path(), &db).new, (all.len() - left.len()) as u64);
    assert_eq!(read(&db), all);
}
