//! What the engine does when the disk fails: one scene each.

use std::io::ErrorKind;

use super::*;
use crate::disk::simulated::{Fault, Loss, Simulated};

fn open(disk: &Simulated) -> Db {
    Db::open_on(Arc::new(disk.clone()), options()).expect("opens")
}

fn offsets(db: &Db) -> Option<i64> {
    db.positions().get(&0).copied()
}

#[test]
fn a_flush_after_one_that_failed_writes_what_came_since_too() {
    let disk = Simulated::new(1);
    let db = open(&disk);
    append(&db, 1, &[Sample { t: 1, v: 1.0 }], 1);
    disk.set_capacity(disk.used());
    db.flush().expect_err("the disk is full");
    append(&db, 2, &[Sample { t: 2, v: 2.0 }], 2);
    assert_eq!(read(&db, TimeRange::ALL).len(), 2, "what could not be written is read from memory");
    disk.set_capacity(usize::MAX);
    assert_eq!(db.flush().expect("there is room"), BTreeMap::from([(0, 2)]));
    let db = open(&disk.restart(Loss::Unsynced));
    assert_eq!((offsets(&db), read(&db, TimeRange::ALL).len()), (Some(2), 2));
}

#[test]
fn the_head_is_bounded_while_flushes_fail_even_if_the_first_had_nothing_to_write() {
    let disk = Simulated::new(1);
    let db = Db::open_on(Arc::new(disk.clone()), Options { head_bytes_max: 2000, ..options() }).expect("opens");
    disk.set_capacity(disk.used());
    db.flush().expect_err("the disk is full");
    let mut offset = 0;
    while !db.is_over_budget() {
        offset += 1;
        append(&db, offset as u64, &[Sample { t: 1, v: 1.0 }], offset);
        assert!(offset < 100, "{:?}", db.stats());
    }
    disk.set_capacity(usize::MAX);
    db.flush().expect("there is room");
    assert!(!db.is_over_budget());
    assert_eq!(read(&db, TimeRange::ALL).len() as i64, offset);
}

/// The names of the blocks on the disk.
fn blocks(disk: &Simulated) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.ends_with(".block")).collect()
}

#[test]
fn a_commit_that_fails_leaves_no_files() {
    let disk = Simulated::new(1);
    let db = open(&disk);
    append(&db, 1, &[Sample { t: 1, v: 1.0 }, Sample { t: 2 * HOUR, v: 1.0 }], 1);
    let mut calls = 0;
    for call in 0.. {
        disk.fail_at(disk.calls() + call, Fault::Error(ErrorKind::StorageFull));
        if db.flush().is_ok() {
            break;
        }
        calls = call;
        let named = lock(&db.committed).manifest.names();
        assert!(blocks(&disk).iter().eq(&named), "call {call}: {:?} and not {named:?}", blocks(&disk));
        assert!(!disk.names().contains("manifest.new"), "call {call}");
    }
    assert!(calls > 8, "{calls}");
    assert_eq!((blocks(&disk).len(), read(&db, TimeRange::ALL).len()), (2, 2));
}

#[test]
fn a_restart_finds_either_state_of_a_commit_that_was_not_synced() {
    let disk = Simulated::new(1);
    let db = open(&disk);
    append(&db, 1, &[Sample { t: 1, v: 1.0 }], 1);
    // The last call of a flush makes durable which manifest there is.
    let before = disk.calls();
    db.flush().expect("flushes");
    let calls = disk.calls() - before;
    append(&db, 1, &[Sample { t: 2, v: 2.0 }], 2);
    disk.fail_at(disk.calls() + calls - 1, Fault::Error(ErrorKind::Other));
    db.flush().expect_err("fails");
    assert_eq!(read(&db, TimeRange::ALL).len(), 2);
    for (loss, offset) in [(Loss::Unsynced, 1), (Loss::Nothing, 2)] {
        let db = open(&disk.restart(loss));
        assert_eq!((offsets(&db), read(&db, TimeRange::ALL).len()), (Some(offset), offset as usize));
    }
}

#[test]
fn merged_blocks_stay_until_the_merge_is_durable() {
    let disk = Simulated::new(1);
    let db = open(&disk);
    for n in 0..4 {
        append(&db, n, &[Sample { t: 1, v: 1.0 }], n as i64 + 1);
        db.flush().expect("flushes");
    }
    // A sync of names that fails: that of the merged block, then that of the manifest.
    let mut uncertain = false;
    for call in 0.. {
        assert!(call < 100, "no call of a merge makes the manifest durable");
        let now = disk.restart(Loss::Nothing);
        let db = open(&now);
        now.fail_at(now.calls() + call, Fault::Error(ErrorKind::Other));
        if db.compact(&Cancel::default()).is_ok() {
            break;
        }
        if lock(&db.committed).waiting.is_empty() {
            continue;
        }
        uncertain = true;
        assert_eq!((db.stats().blocks, blocks(&now).len()), (1, 5));
        let before = open(&now.restart(Loss::Unsynced));
        assert_eq!((before.stats().blocks, read(&before, TimeRange::ALL).len()), (4, 4));
        let now = now.restart(Loss::Nothing);
        assert_eq!((open(&now).stats().blocks, blocks(&now).len()), (1, 1));
    }
    assert!(uncertain);
}

#[test]
fn a_file_that_cannot_be_removed_is_removed_later() {
    let disk = Simulated::new(1);
    let db = open(&disk);
    for n in 0..4 {
        append(&db, n, &[Sample { t: 1, v: 1.0 }], n as i64);
        db.flush().expect("flushes");
    }
    // Find the call that removes the first of the blocks that a merge has replaced.
    let names = disk.names();
    for call in 0.. {
        let world = disk.restart(Loss::Nothing);
        let db = open(&world);
        world.fail_at(world.calls() + call, Fault::Error(ErrorKind::PermissionDenied));
        if db.compact(&Cancel::default()).is_ok_and(|merged| merged) && blocks(&world).len() == 2 {
            db.expire(0).expect("tries again");
            assert_eq!(blocks(&world).len(), 1, "{names:?}");
            return;
        }
        assert!(call < 100, "no call of a merge removes a file");
    }
}

#[test]
fn a_block_that_was_repaired_counts_in_its_old_place_whatever_was_merged_meanwhile() {
    let disk = Simulated::new(1);
    let db = open(&disk);
    for n in 0..6 {
        // The second one corrects the first.
        append(&db, n / 2, &[Sample { t: 1, v: n as f64 }], n as i64 + 1);
        db.flush().expect("flushes");
    }
    disk.flip("0000000001.block", 10);
    let found = db.select(&request(vec![Matcher::equal("series", "0")], TimeRange::ALL)).expect("selects").series;
    found[0].data.read(TimeRange::ALL, &mut Columns::default()).expect_err("damaged");
    while db.compact(&Cancel::default()).expect("merges") {}
    assert_eq!(blocks(&disk).len(), 3, "one before the damaged one, and one after");
    disk.flip("0000000001.block", 10);
    let db = open(&disk.restart(Loss::Unsynced));
    assert_eq!(read(&db, TimeRange::ALL)[&(labels(0), 1)], Any::Float(1.0f64.to_bits(), 0));
}

#[test]
fn retention_makes_room_on_a_disk_that_has_none_left_for_a_manifest() {
    let disk = Simulated::new(1);
    let options = Options { retention_ms: Some(2 * HOUR), ..options() };
    let db = Db::open_on(Arc::new(disk.clone()), options.clone()).expect("opens");
    append(&db, 1, &[Sample { t: 0, v: 1.0 }, Sample { t: 4 * HOUR, v: 2.0 }], 1);
    db.flush().expect("flushes");
    disk.set_capacity(disk.used());
    db.flush().expect_err("the disk is full");
    assert_eq!(db.expire(4 * HOUR).expect("expires"), 1);
    db.flush().expect("there is room");
    // Where the process ends before the manifest is written, the next one finds that a block is missing which has expired.
    let calls = disk.calls();
    disk.set_capacity(usize::MAX);
    append(&db, 1, &[Sample { t: 9 * HOUR, v: 3.0 }], 2);
    db.flush().expect("flushes");
    disk.set_capacity(disk.used());
    let (mut missing, mut call) = (0, 0);
    while missing == 0 {
        let now = disk.restart(Loss::Nothing);
        let db = Db::open_on(Arc::new(now.clone()), options.clone()).expect("opens");
        now.fail_at(now.calls() + call, Fault::Crash);
        db.expire(9 * HOUR).expect_err("the process ends");
        let db = Db::open_on(Arc::new(now.restart(Loss::Nothing)), options.clone()).expect("opens");
        missing = db.warnings().len();
        db.expire(9 * HOUR).expect("expires");
        assert_eq!((db.warnings().len(), db.stats().blocks, read(&db, TimeRange::ALL).len()), (0, 1, 1));
        call += 1;
        assert!(call < calls);
    }
}

#[test]
fn a_block_of_another_block_span_keeps_its_place_among_those_that_it_overlaps() {
    let disk = Simulated::new(1);
    let open = |span| {
        let options = Options { block_span_ms: span, ..options() };
        Db::open_on(Arc::new(disk.clone()), options).expect("opens")
    };
    let at = HOUR + 1;
    for (offset, (span, series)) in
        [(HOUR, 0), (2 * HOUR, 0), (HOUR, 1), (HOUR, 2), (HOUR, 3), (HOUR, 4)].iter().enumerate()
    {
        let db = open(*span);
        append(&db, *series, &[Sample { t: at, v: offset as f64 }], offset as i64 + 1);
        db.flush().expect("flushes");
    }
    let db = open(HOUR);
    assert!(db.compact(&Cancel::default()).expect("merges"));
    assert_eq!(blocks(&disk).len(), 3);
    assert_eq!(read(&db, TimeRange::ALL)[&(labels(0), at)], Any::Float(1.0f64.to_bits(), 0));
}
