//! The engine within the memory that it may hold.

use model::Budget;

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
    let (dir, peaks) = (tempfile::tempdir().expect("directory"), [(); 2].map(|()| Budget::new("the head", usize::MAX)));
    // What is in the log is ten times what the head may hold, and none of it is in blocks.
    for head in &peaks {
        let memory = Memory { head: head.clone(), ..Memory::default() };
        let db = Db::open(dir.path(), Options { memory, head_bytes_max: 100_000, ..options() }).expect("opens");
        for n in 0..100 {
            record(&db, 0..100, n, n + 1);
            if db.is_over_budget() {
                db.flush().expect("flushes");
            }
        }
        drop(db);
        std::fs::remove_dir_all(dir.path()).expect("removed");
        std::fs::create_dir(dir.path()).expect("made");
    }
    assert_eq!(peaks[0].peak(), peaks[1].peak());
    assert!(peaks[0].peak() < 300_000, "{}", peaks[0].peak());
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
