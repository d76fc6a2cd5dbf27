//! Blocks are merged until few are left once nothing is written any more.

use super::*;

const MINUTE: i64 = 60_000;

/// A block of so many series, all at one time.
fn block(db: &Db, series: u64, t: i64, offset: i64) {
    let mut batch = db.begin();
    for n in 0..series {
        batch.append(labels(n).as_ref(), &[Sample { t: t + offset, v: (n * offset as u64) as f64 }]);
    }
    batch.finish(0, offset);
    db.flush().expect("flushes");
}

fn compact(db: &Db) -> usize {
    while db.compact(&Cancel::default()).expect("merges") {}
    db.stats().blocks
}

#[test]
fn blocks_of_a_span_are_one_a_minute_after_the_last_was_written() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    let now = 7 * HOUR;
    db.expire(now).expect("nothing is old");
    for (n, series) in [500, 500, 200].into_iter().enumerate() {
        block(&db, series, now, n as i64 + 1);
    }
    let all = read(&db, TimeRange::ALL);
    assert_eq!((compact(&db), all.len()), (3, 1200), "more may come");
    db.expire(now + MINUTE - 1).expect("nothing is old");
    assert_eq!(compact(&db), 3);
    db.expire(now + MINUTE).expect("nothing is old");
    assert_eq!(compact(&db), 1);
    assert_eq!(read(&db, TimeRange::ALL), all);
    // Little that comes is not written with much, as long as the hour is not over.
    block(&db, 20, now, 4);
    let all = read(&db, TimeRange::ALL);
    db.expire(now + 4 * MINUTE).expect("nothing is old");
    assert_eq!((compact(&db), db.stats().merges), (2, 1));
    drop(db);
    let db = Db::open(dir.path(), options()).expect("opens");
    db.expire(now + 50 * MINUTE).expect("nothing is old");
    assert_eq!(compact(&db), 2, "a minute after the start at the soonest");
    assert_eq!(read(&db, TimeRange::ALL), all);
}

#[test]
fn an_hour_that_is_over_becomes_one_block_while_the_next_is_written() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    let mut now = 7 * HOUR;
    db.expire(now).expect("nothing is old");
    for n in 1..=6 {
        // A flush every twenty minutes, after which an hour has three blocks.
        now += 20 * MINUTE;
        db.expire(now).expect("nothing is old");
        block(&db, 300, now - 10 * MINUTE, n);
        compact(&db);
    }
    assert_eq!(db.stats().blocks, 4, "the first hour is one block, the other one has three");
    assert_eq!((db.stats().merges, db.stats().block_samples), (1, 1800));
}
