//! What the engine does when the disk fails: one scene each.

use super::*;
use crate::disk::simulated::{Loss, Simulated};

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
