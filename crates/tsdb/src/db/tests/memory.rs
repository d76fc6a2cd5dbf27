//! The engine within the memory that it may hold.

use model::{Budget, ExemplarsRequest};

use super::*;

/// A record of so many series from a number on, each with one sample and a label of its own.
fn record(db: &Db, series: std::ops::Range<u64>, t: i64, offset: i64) {
    let mut batch = db.begin();
    for n in series {
        batch.append(labels(n).as_ref(), &[Sample { t, v: n as f64 }]);
    }
    batch.finish(0, offset);
}

fn limited(writing: Budget) -> Options {
    Options { memory: Memory { writing, ..Memory::default() }, ..options() }
}

#[test]
fn churn_does_not_fill_memory_and_a_head_is_never_twice_its_bound_and_a_record() {
    let (dir, head) = (tempfile::tempdir().expect("directory"), Budget::new("the head", usize::MAX));
    let memory = Memory { head: head.clone(), ..Memory::default() };
    let db = Db::open(dir.path(), Options { memory, head_bytes_max: 400_000, ..options() }).expect("opens");
    const SERIES: u64 = 100;
    let (mut flushes, mut record_bytes) = (0, 0);
    for n in 0..200 {
        let before = head.held();
        record(&db, n * SERIES..(n + 1) * SERIES, n as i64, n as i64 + 1);
        record_bytes = record_bytes.max(head.held().saturating_sub(before));
        // As a consumer does, that is only told to wait once the head is twice as large.
        if db.is_over_budget() {
            assert!(db.should_flush());
            db.flush().expect("flushes");
            flushes += 1;
            assert!(
                head.held() < 200_000,
                "what is known of series that are not written is forgotten: {}",
                head.held()
            );
        }
    }
    assert!(flushes >= 8, "{flushes}");
    assert!(head.peak() >= 800_000 && head.peak() <= 800_000 + record_bytes, "{} {record_bytes}", head.peak());
    db.flush().expect("flushes");
    assert_eq!(read(&db, TimeRange::ALL).len() as u64, 200 * SERIES);
}

#[test]
fn a_head_that_is_read_again_holds_no_more_than_before() {
    const RECORDS: i64 = 300;
    const BYTES_MAX: usize = 60_000;
    let dir = tempfile::tempdir().expect("directory");
    // What is in the log is several times what the head may hold. It is read while it comes; after a restart what is in no block is, and then all of it.
    let read_on = |records: std::ops::Range<i64>| {
        let head = Budget::new("the head", usize::MAX);
        let memory = Memory { head: head.clone(), ..Memory::default() };
        let db = Db::open(dir.path(), Options { memory, head_bytes_max: BYTES_MAX, ..options() }).expect("opens");
        let position = db.positions().get(&0).copied().unwrap_or(0);
        for n in position.max(records.start)..records.end {
            let mut batch = db.begin();
            for series in 0..100 {
                // Of all digits, so that many of them take much.
                batch
                    .append(labels(series).as_ref(), &[Sample { t: n, v: ((n as u64 + 7919 * series) as f64).sqrt() }]);
            }
            batch.finish(0, n + 1);
            if db.is_over_budget() {
                db.flush().expect("flushes");
            }
        }
        (position, read(&db, TimeRange::ALL).len(), head.peak())
    };
    let (begun, found, running) = read_on(0..RECORDS);
    assert_eq!((begun, found), (0, 100 * RECORDS as usize));
    let (position, found, restarted) = read_on(0..RECORDS);
    assert!((1..RECORDS).contains(&position), "some is in blocks and some in the log alone: {position}");
    assert_eq!(found, 100 * RECORDS as usize);
    assert!(restarted <= running, "{restarted} {running}");
    std::fs::remove_dir_all(dir.path()).expect("removed");
    std::fs::create_dir(dir.path()).expect("made");
    let (begun, found, from_the_beginning) = read_on(0..RECORDS);
    assert_eq!((begun, found), (0, 100 * RECORDS as usize));
    assert_eq!(from_the_beginning, running);
    assert!(running < 3 * BYTES_MAX, "{running}");
}

/// Eight blocks of a thousand series each, all of one span.
fn blocks(db: &Db) {
    for n in 0..8 {
        record(db, n * 1000..(n + 1) * 1000, n as i64, n as i64 + 1);
        db.flush().expect("flushes");
    }
}

#[test]
fn a_merge_that_takes_too_much_memory_takes_fewer_blocks_and_two_too_large_ones_are_left() {
    let all = {
        let (dir, writing) = (tempfile::tempdir().expect("directory"), Budget::new("writing blocks", usize::MAX));
        let db = Db::open(dir.path(), limited(writing.clone())).expect("opens");
        blocks(&db);
        assert!(db.compact(&Cancel::default()).expect("merges"));
        assert_eq!((db.stats().blocks, db.stats().merges_too_large), (1, 0));
        writing.peak()
    };
    let of_buffers = 1 << 20;
    for (parts_of_eight, blocks_left) in [(5, 2..=5), (1, 8..=8)] {
        let bytes_max = of_buffers + (all - of_buffers) / 8 * parts_of_eight;
        let (dir, writing) = (tempfile::tempdir().expect("directory"), Budget::new("writing blocks", bytes_max));
        let db = Db::open(dir.path(), limited(writing.clone())).expect("opens");
        blocks(&db);
        while db.compact(&Cancel::default()).expect("goes on with less") {}
        let stats = db.stats();
        assert!(blocks_left.contains(&stats.blocks), "{stats:?}");
        assert!(stats.merges_too_large > 0 && writing.refused() > 0);
        assert_eq!((read(&db, TimeRange::ALL).len(), writing.held()), (8000, 0));
        let tried = stats.merges_too_large;
        assert!(!db.compact(&Cancel::default()).expect("nothing to do"));
        if parts_of_eight == 1 {
            assert_eq!(db.stats().merges_too_large, tried, "what was too large is not tried again");
        }
    }
}

#[test]
fn a_merge_waits_for_memory_that_others_hold() {
    let (dir, writing) = (tempfile::tempdir().expect("directory"), Budget::new("writing blocks", 16 << 20));
    let db = Db::open(dir.path(), limited(writing.clone())).expect("opens");
    blocks(&db);
    let others = writing.claim();
    others.take(15 << 20).expect("there is so much");
    assert!(!db.compact(&Cancel::default()).expect("puts it off"));
    assert_eq!(db.stats().blocks, 8);
    drop(others);
    assert!(db.compact(&Cancel::default()).expect("merges"));
    assert_eq!(db.stats().blocks, 1);
}

/// One block of so many series in each of three spans, the second of which is much larger, of which one series each is deleted; with the offset that is next.
fn with_a_large_one_deleted_from(db: &Db) {
    for (n, series) in [10, 8000, 10].into_iter().enumerate() {
        record(db, 0..series, n as i64 * HOUR, n as i64 + 1);
    }
    db.flush().expect("flushes");
    db.delete(&[Matcher::equal("series", "3")], TimeRange::ALL).expect("deletes");
}

/// The names of the blocks, in the order of time.
fn names(db: &Db) -> Vec<String> {
    let view = db.view();
    let mut all: Vec<_> = view.blocks.iter().map(|(entry, _)| (entry.span.start_ms, entry.name.clone())).collect();
    all.sort();
    all.into_iter().map(|(_, name)| name).collect()
}

#[test]
fn a_block_that_takes_too_much_memory_to_be_written_anew_holds_no_other_up_and_is_tried_again_later() {
    // Its buffers alone take a megabyte.
    let (dir, writing) = (tempfile::tempdir().expect("directory"), Budget::new("writing blocks", 5 << 18));
    let db = Db::open(dir.path(), limited(writing.clone())).expect("opens");
    with_a_large_one_deleted_from(&db);
    db.expire(0).expect("tells the time");
    let before = names(&db);
    while db.compact(&Cancel::default()).expect("goes on with the others") {}
    let after = names(&db);
    let is_new = |n: usize| before[n] != after[n];
    assert_eq!([0, 1, 2].map(is_new), [true, false, true], "the large one alone is left: {before:?} {after:?}");
    assert_eq!((db.stats().rewrites_put_off, db.view().deletes.len(), writing.held()), (1, 1, 0));
    assert_eq!(read(&db, TimeRange::ALL).len(), 9 + 7999 + 9, "what is deleted is not answered all the same");
    let tried = db.stats().merges_too_large;
    assert!(!db.compact(&Cancel::default()).expect("nothing to do"));
    db.expire(HOUR - 1).expect("tells the time");
    assert!(!db.compact(&Cancel::default()).expect("nothing to do"));
    assert_eq!(db.stats().merges_too_large, tried, "it is not tried again soon");
    // What is deleted later is cleaned from the others, and the large one has its turn when its time has come.
    db.delete(&[Matcher::equal("series", "4")], TimeRange::ALL).expect("deletes");
    db.expire(HOUR).expect("tells the time");
    while db.compact(&Cancel::default()).expect("goes on with the others") {}
    assert!([0, 2].into_iter().all(|n| names(&db)[n] != after[n]));
    assert!(!db.compact(&Cancel::default()).expect("nothing to do"));
    assert_eq!((db.stats().merges_too_large, db.stats().rewrites_put_off), (tried + 1, 1));
    // Once little enough of it is left.
    db.delete(&[Matcher::equal("half", "odd")], TimeRange::ALL).expect("deletes");
    db.delete(&[Matcher::equal("half", "even")], TimeRange::ALL).expect("deletes");
    db.expire(2 * HOUR).expect("tells the time");
    while db.compact(&Cancel::default()).expect("goes on") {}
    while db.compact(&Cancel::default()).expect("goes on") {}
    assert_eq!((db.stats().blocks, db.stats().rewrites_put_off, db.view().deletes.len()), (0, 0, 0));
}

#[test]
fn a_block_is_written_anew_once_others_give_the_memory_back() {
    let (dir, writing) = (tempfile::tempdir().expect("directory"), Budget::new("writing blocks", 16 << 20));
    let db = Db::open(dir.path(), limited(writing.clone())).expect("opens");
    with_a_large_one_deleted_from(&db);
    let others = writing.claim();
    others.take(15 << 20).expect("there is so much");
    while db.compact(&Cancel::default()).expect("goes on with the others") {}
    assert_eq!(db.view().deletes.len(), 1);
    let tried = db.stats().merges_too_large;
    assert!(tried > 0 && tried <= 3, "each block once: {tried}");
    drop(others);
    while db.compact(&Cancel::default()).expect("goes on") {}
    assert_eq!((db.view().deletes.len(), db.stats().rewrites_put_off), (0, 0));
}

#[test]
fn what_is_copied_of_the_head_to_be_answered_is_held_and_refused_where_it_is_too_much() {
    let db = Db::open(tempfile::tempdir().expect("directory").path(), options()).expect("opens");
    record(&db, 0..1000, 0, 1);
    let mut batch = db.begin();
    let exemplars: Vec<Exemplar> =
        (0..1000).map(|t| Exemplar::new(t, 0.5, &[("trace", "a")]).expect("valid")).collect();
    batch.exemplars(labels(1).as_ref(), &exemplars);
    batch.finish(0, 2);
    for (bytes_max, fits) in [(1 << 20, true), (20_000, false)] {
        let budget = Budget::new("queries", bytes_max);
        let values = {
            let cancel = Cancel::with(budget.claim());
            let asked = LabelsRequest { matcher_sets: Vec::new(), range: TimeRange::ALL, cancel: cancel.clone() };
            db.label_values("series", &asked).map(|found| (found.items.len(), cancel.claim().held()))
        };
        assert_eq!(values.is_ok(), fits, "{values:?}");
        assert!(values.is_err() || values.is_ok_and(|(found, held)| found == 1000 && held > 24_000));
        let matcher_sets = vec![vec![Matcher::equal("__name__", "m")]];
        let cancel = Cancel::with(budget.claim());
        let asked =
            ExemplarsRequest { matcher_sets, range: TimeRange::ALL, exemplars_max: 5000, cancel: cancel.clone() };
        let found = db.exemplars(&asked).map(|found| (found.items[0].exemplars.len(), cancel.claim().held()));
        assert_eq!(found.is_ok(), fits, "{found:?}");
        assert!(found.is_err() || found.is_ok_and(|(found, held)| found == 1000 && held > 40_000));
        drop((asked, cancel));
        assert_eq!(budget.held(), 0);
    }
}

#[test]
fn a_flush_takes_what_it_needs_and_the_index_of_blocks_is_told() {
    let (dir, writing) = (tempfile::tempdir().expect("directory"), Budget::new("writing blocks", 1000));
    let index = Budget::new("the index", 1000);
    let memory = Memory { writing: writing.clone(), index: index.clone(), ..Memory::default() };
    let db = Db::open(dir.path(), Options { memory: memory.clone(), ..options() }).expect("opens");
    blocks(&db);
    assert!(writing.peak() > 1000 && writing.held() == 0);
    let held = index.held();
    assert!(0 < held && held < 8000 * 20, "{held}: only where its pages are is in memory");
    drop(db);
    assert_eq!(index.held(), 0);
    let db = Db::open(dir.path(), Options { memory, ..options() }).expect("opens");
    assert_eq!((index.held(), read(&db, TimeRange::ALL).len()), (held, 8000));
    let stats = db.stats();
    assert!(stats.index_cache_bytes > 0);
    assert_eq!(index.held(), stats.index_bytes + stats.index_cache_bytes, "pages that were read are told as well");
}
