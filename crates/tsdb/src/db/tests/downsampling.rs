//! Samples that are left out of what is old, beside others, late ones, deletions and restarts.

use super::*;
use crate::downsample::tests::{drawn, windows};
use crate::{DownsampleRule, Level};

const MINUTE: i64 = 60_000;

/// Of odd series samples are left out: of windows of five minutes from an hour on, and of an hour from twenty on.
fn downsampling() -> Options {
    let level = |age_ms, minutes: i64| Level { age_ms, resolution_ms: (minutes * MINUTE) as u32 };
    let levels = vec![level(HOUR, 5), level(20 * HOUR, 60)];
    let rule = DownsampleRule { matchers: vec![Matcher::equal("half", "odd")], levels };
    Options { downsample: vec![rule], block_span_ms: 2 * HOUR, ..options() }
}

fn columns(db: &Db, series: u64) -> Columns {
    let found = db.select(&request(vec![Matcher::equal("series", series.to_string())], TimeRange::ALL));
    let mut out = Columns::default();
    for series in found.expect("selects").series {
        series.data.read(TimeRange::ALL, &mut out).expect("reads");
    }
    out
}

fn count(samples: &Columns) -> u64 {
    (0..samples.len()).map(|at| 1 + u64::from(samples.aggregate(at).count)).sum()
}

fn downsample(db: &Db, now_ms: i64) -> u64 {
    db.expire(now_ms).expect("expires");
    (0..).take_while(|_| db.downsample(&Cancel::default()).expect("downsamples")).count() as u64
}

fn rising(times: impl Iterator<Item = i64>) -> Vec<Sample> {
    times.map(|t| Sample { t, v: value(t) }).collect()
}

/// Grows by irregular steps from 15 s to 15 s, so that blocks are more than their indexes.
fn value(t: i64) -> f64 {
    (t + ((t as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 51) as i64) as f64
}

/// Out of order, in several flushes and blocks; then samples are left out, and once more when they are older.
fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().expect("directory");
    let mut db = Db::open(dir.path(), downsampling()).expect("opens");
    let all: Vec<Columns> = (0..4).map(|n| drawn(n / 2, &mut random)).collect();
    let mut pieces: Vec<(u64, Vec<Sample>)> = Vec::new();
    for (series, columns) in (0..).zip(&all) {
        let samples: Vec<Sample> = columns.t.iter().zip(&columns.v).map(|(t, v)| Sample { t: *t, v: *v }).collect();
        pieces.extend(samples.chunks(random.usize(20..400)).map(|some| (series, some.to_vec())));
    }
    random.shuffle(&mut pieces);
    for (offset, (series, samples)) in (0..).zip(pieces) {
        append(&db, series, &samples, offset);
        if random.u8(..4) == 0 {
            db.flush().expect("flushes");
        }
        if random.u8(..4) == 0 {
            while db.compact(&Cancel::default()).expect("merges") {}
        }
    }
    db.flush().expect("flushes");
    for (now_ms, length_ms) in [(7 * HOUR, 5 * MINUTE), (12 * HOUR, 5 * MINUTE), (30 * HOUR, HOUR)] {
        downsample(&db, now_ms);
        if random.bool() {
            drop(db);
            db = Db::open(dir.path(), downsampling()).expect("opens");
            assert_eq!(downsample(&db, now_ms), 0, "seed {seed}: what was done is known");
        }
        for (series, expect) in (0..).zip(&all) {
            let found = columns(&db, series);
            if series % 2 == 0 {
                assert_eq!((found.t.as_slice(), found.aggregates.len()), (expect.t.as_slice(), 0), "seed {seed}");
                continue;
            }
            let (found, mut expect) = (windows(&found, length_ms), windows(expect, length_ms));
            if series == 1 {
                // Of counters changes are not kept.
                let changes = |number: &i64| found[number].as_ref().map(|worth| worth.changes);
                let of = |(number, worth): (&i64, &mut Option<_>)| {
                    *worth = worth.take().map(|mut worth: crate::downsample::tests::Worth| {
                        worth.changes = changes(number).unwrap_or(0);
                        worth
                    })
                };
                expect.iter_mut().for_each(of);
            }
            assert_eq!(found, expect, "seed {seed}, series {series}");
        }
    }
    assert_eq!(crate::offline::verify::verify(copied(dir.path()).path(), &mut |_| {}).expect("verifies").faults(), 0);
}

#[test]
fn whole_windows_are_worth_what_all_samples_were_however_they_came() {
    let first = fastrand::u64(..1 << 40);
    (first..first + 15).for_each(run);
}

#[test]
fn only_what_is_old_enough_is_left_out_and_the_rest_is_as_it_was() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), downsampling()).expect("opens");
    let samples = rising((0..960).map(|n| n * 15_000));
    (0..2).for_each(|series| append(&db, series, &samples, series as i64));
    db.flush().expect("flushes");
    let bytes = db.stats().block_bytes;
    assert_eq!(downsample(&db, 3 * HOUR - 1), 0, "a block is as old as the last time of its span");
    assert_eq!(downsample(&db, 3 * HOUR), 1);
    let found = columns(&db, 1);
    assert_eq!(found.t.iter().filter(|t| **t >= 2 * HOUR).count(), 480);
    // A window begins after the block, which has the first sample of the window before; each of 24 has two.
    assert_eq!(found.t.iter().filter(|t| **t < 2 * HOUR).count(), 49);
    assert_eq!((count(&found), columns(&db, 0).len()), (960, 960));
    let resolution_ms = |range| db.select(&request(Vec::new(), range)).expect("selects").resolution_ms;
    let at = |t| resolution_ms(TimeRange { start_ms: t, end_ms: t });
    assert_eq!((at(-1), at(0), at(2 * HOUR), at(2 * HOUR + 5 * MINUTE)), (0, 5 * MINUTE, 5 * MINUTE, 0));
    let stats = db.stats();
    let done = stats.downsampled;
    assert_eq!((done.blocks, done.samples_before, done.samples_after), (1, 960, 480 + 49));
    assert_eq!(stats.block_bytes + done.bytes_before - done.bytes_after, bytes);
    assert!(done.bytes_after < done.bytes_before, "{done:?}");
    assert_eq!(downsample(&db, 3 * HOUR), 0);
    assert_eq!(downsample(&db, 5 * HOUR), 1, "the other block");
    assert_eq!(downsample(&db, 22 * HOUR), 1, "and the first one in longer windows");
    assert_eq!((count(&columns(&db, 1)), columns(&db, 1).t.iter().filter(|t| **t < 2 * HOUR).count()), (960, 5));
}

#[test]
fn late_samples_are_there_beside_what_was_left_out_and_those_that_come_again_take_its_place() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), downsampling()).expect("opens");
    let samples = rising((1..480).map(|n| n * 15_000));
    // So many others that what comes late is little beside them.
    (0..40).for_each(|n| append(&db, 2 * n + 1, &samples, n as i64));
    db.flush().expect("flushes");
    assert_eq!(downsample(&db, 3 * HOUR), 1);
    append(&db, 1, &rising([1, 40_000, 40_001].into_iter()), 2);
    assert_eq!(count(&columns(&db, 1)), 479 + 3, "in the head");
    db.flush().expect("flushes");
    assert_eq!(downsample(&db, 3 * HOUR), 0, "too little for another block");
    let late = columns(&db, 1);
    assert_eq!((count(&late), late.t.contains(&40_001)), (479 + 3, true));
    // The whole log once more, as after a restore.
    (0..40).for_each(|n| append(&db, 2 * n + 1, &samples, n as i64));
    let all = |found: &Columns| (found.len(), count(found), found.aggregates.iter().any(|a| a.count > 0));
    assert_eq!(all(&columns(&db, 1)), (479 + 3, 479 + 3, false), "raw samples win while they are there");
    db.flush().expect("flushes");
    assert_eq!(all(&columns(&db, 1)), (479 + 3, 479 + 3, false));
    assert_eq!(downsample(&db, 3 * HOUR), 1);
    let found = columns(&db, 1);
    assert_eq!(count(&found), 479 + 3);
    assert!(found.len() < 60, "{}", found.len());
    // What comes in small parts is merged with others, and then it is worth it.
    for n in 0..100 {
        append(&db, 1, &rising((0..9).map(|i| n * 60_000 + i)), 4 + n);
        db.flush().expect("flushes");
        while db.compact(&Cancel::default()).expect("merges") || db.downsample(&Cancel::default()).expect("thins") {}
    }
    assert!(db.stats().blocks < 9 && db.stats().downsampled.blocks < 20, "{:?}", db.stats());
}

#[test]
fn what_is_deleted_is_in_no_sum() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), downsampling()).expect("opens");
    let samples = rising((1..480).map(|n| n * 15_000));
    (0..2).for_each(|series| append(&db, series, &samples, series as i64));
    db.flush().expect("flushes");
    assert_eq!(downsample(&db, 3 * HOUR), 1);
    let all = columns(&db, 1);
    // From within a window to the end of another.
    let range = TimeRange { start_ms: 12 * MINUTE, end_ms: 25 * MINUTE };
    db.delete(&[Matcher::equal("series", "1")], range).expect("deletes");
    let check = || {
        let (found, expect) = (windows(&columns(&db, 1), 5 * MINUTE), windows(&all, 5 * MINUTE));
        for (number, expect) in expect.iter().filter(|(number, _)| !(3..=5).contains(*number)) {
            assert_eq!(found.get(number), Some(expect), "window {number}");
        }
        let left = found[&3].as_ref().expect("its first sample");
        assert_eq!((left.count, left.sum), (1, value(10 * MINUTE + 15_000)), "what may be deleted is");
        assert_eq!((found.get(&4), found.get(&5)), (None, None));
    };
    check();
    assert!(db.compact(&Cancel::default()).expect("writes anew"));
    check();
    assert_eq!(downsample(&db, 3 * HOUR), 0, "a block that is written anew for a deletion is still known to be done");
    assert_eq!(db.stats().downsampled.blocks, 1);
}

#[test]
fn a_series_that_another_block_has_at_the_time_stays_whole() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), downsampling()).expect("opens");
    let samples = rising((1..240).map(|n| n * 15_000));
    [1, 3].into_iter().for_each(|series| append(&db, series, &samples, series as i64));
    db.flush().expect("flushes");
    // A wide block, which has the same samples of one of the series.
    append(&db, 1, &[&samples[..], &rising([1000 * HOUR].into_iter())].concat(), 4);
    db.flush().expect("flushes");
    assert_eq!(downsample(&db, 5 * HOUR), 1);
    assert_eq!((columns(&db, 1).len(), columns(&db, 3).len() < 30), (240, true));
    assert_eq!((count(&columns(&db, 1)), count(&columns(&db, 3))), (240, 239));
    assert_eq!(
        downsample(&db, 2000 * HOUR),
        2,
        "the one in longer windows, and the wide one when its last sample is old"
    );
    assert_eq!((count(&columns(&db, 1)), count(&columns(&db, 3))), (240, 239));
}

#[test]
fn nothing_is_written_where_no_series_meets_a_rule_or_a_block_cannot_be_read() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), downsampling()).expect("opens");
    append(&db, 2, &rising((1..240).map(|n| n * 15_000)), 1);
    db.flush().expect("flushes");
    assert_eq!(downsample(&db, 5 * HOUR), 0);
    append(&db, 1, &rising((1..240).map(|n| n * 15_000)), 2);
    db.flush().expect("flushes");
    drop(db);
    let path = dir.path().join("0000000000.block");
    let whole = fs::read(&path).expect("read");
    fs::write(&path, &whole[1..]).expect("written");
    let db = Db::open(dir.path(), downsampling()).expect("opens");
    assert_eq!((downsample(&db, 5 * HOUR), db.stats().quarantined), (0, 1), "it may be repaired");
    drop(db);
    fs::write(&path, &whole).expect("written");
    let db = Db::open(dir.path(), downsampling()).expect("opens");
    assert_eq!(downsample(&db, 5 * HOUR), 1);
}

#[test]
fn series_are_counted_by_the_index_as_by_reading_them() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), downsampling()).expect("opens");
    let samples = |last: i64| rising((1..=last).map(|n| n * 15_000));
    for (series, last) in [(1, 240), (3, 100), (5, 2), (2, 240)] {
        append(&db, series, &samples(last), 1);
    }
    append(&db, 7, &[samples(100), vec![Sample { t: 101 * 15_000, v: model::stale_nan() }]].concat(), 2);
    db.flush().expect("flushes");
    assert_eq!(downsample(&db, 5 * HOUR), 1);
    let mut seen = std::collections::BTreeSet::new();
    for end_ms in (0..70).map(|n| n * MINUTE) {
        let range = TimeRange { start_ms: end_ms - 5 * MINUTE, end_ms };
        let (matchers, cancel) = (vec![Matcher::equal("__name__", "m")], Cancel::default());
        let of_index = model::CountRequest { matchers: matchers.clone(), range, by: None, cancel };
        let counted = db.count(&of_index).expect("counts").expect("of one block it can be told").groups;
        let short = TimeRange { start_ms: end_ms - 5 * MINUTE + 1, end_ms };
        let short = db.count(&model::CountRequest { range: short, ..of_index }).expect("counts");
        assert_eq!(short.is_none(), end_ms > 0, "what was left out may be newer");
        let found = db.select(&request(matchers, range)).expect("selects").series;
        let is_live = |series: &model::Series| {
            let mut samples = Columns::default();
            series.data.read(range, &mut samples).expect("reads");
            samples.v.last().is_some_and(|v| !model::is_stale(*v))
        };
        let expect = found.iter().filter(|series| is_live(series)).count() as u64;
        assert_eq!(counted.first().map_or(0, |(_, count)| *count), expect, "{end_ms}");
        seen.insert(expect);
    }
    assert!(seen.len() > 3, "{seen:?}");
}

#[test]
fn one_that_is_cancelled_changes_nothing_and_leaves_no_file() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), downsampling()).expect("opens");
    append(&db, 1, &rising((1..240).map(|n| n * 15_000)), 1);
    db.flush().expect("flushes");
    db.expire(5 * HOUR).expect("expires");
    let cancel = Cancel::default();
    cancel.cancel();
    assert!(matches!(db.downsample(&cancel), Err(Error::Cancelled)));
    assert_eq!(columns(&db, 1).len(), 239);
    assert!(!dir.path().join("0000000001.block").exists());
}

#[test]
fn what_takes_too_much_memory_stays_whole_and_is_tried_again_once_there_is_another_block() {
    let (dir, writing) = (tempfile::tempdir().expect("directory"), model::Budget::new("writing blocks", 1 << 20));
    let memory = Memory { writing: writing.clone(), ..Memory::default() };
    let db = Db::open(dir.path(), Options { memory, ..downsampling() }).expect("opens");
    let flush = |offset| {
        append(&db, 1, &rising((0..480).map(|n| n * 15_000)), offset);
        db.flush().expect("flushes whatever it takes");
    };
    flush(0);
    for tried in [1, 1] {
        assert_eq!(downsample(&db, 3 * HOUR), 0);
        assert_eq!((db.stats().merges_too_large, columns(&db, 1).len()), (tried, 480));
    }
    flush(1);
    assert_eq!(downsample(&db, 3 * HOUR), 0);
    assert_eq!((db.stats().merges_too_large, columns(&db, 1).len(), writing.held()), (2, 480, 0));
    drop(db);
    let db = Db::open(dir.path(), downsampling()).expect("opens with more");
    assert_eq!(downsample(&db, 3 * HOUR), 1);
}
