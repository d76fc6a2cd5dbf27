//! Damaged blocks that are written again from the log: one scene each. The model does it over and over.

use super::*;
use crate::disk::simulated::{FAULTS, Loss, Simulated};
use crate::manifest::number;
use crate::{Lost, Rebuild};

/// Appends records from the first offset on, each of one series, and flushes them.
fn flush(db: &Db, first: i64, records: &[(u64, &[i64])]) {
    for (offset, (series, times)) in (first..).zip(records) {
        let samples: Vec<Sample> = times.iter().map(|t| Sample { t: *t, v: offset as f64 }).collect();
        append(db, *series, &samples, offset + 1);
    }
    db.flush().expect("flushes");
}

/// The engine after a block was found damaged.
fn damage(disk: &Simulated, block: &str, options: Options) -> Db {
    disk.flip(block, disk.bytes(block) - 1);
    Db::open_on(Arc::new(disk.clone()), options).expect("opens")
}

/// Writes a block again from records that begin at offset 0.
fn rebuild<'a>(db: &'a Db, block: &str, records: &[(u64, &[i64])]) -> Rebuild<'a> {
    let mut rebuild = db.rebuild(block).expect("it is there");
    for (offset, (series, times)) in (0i64..).zip(records) {
        let samples: Vec<Sample> = times.iter().map(|t| Sample { t: *t, v: offset as f64 }).collect();
        rebuild.append(labels(*series).as_ref(), &samples);
        rebuild.end_record(0, offset).expect("has room");
        assert!(rebuild.head.bytes() < db.options.head_bytes_max);
    }
    rebuild
}

/// Partitions and offsets.
type Records = Vec<(u32, std::ops::Range<i64>)>;

/// The blocks that are not read and can be written again, by their numbers, with what they were written from.
fn lost(db: &Db) -> Vec<(u64, Records)> {
    db.lost().into_iter().map(|lost| (number(&lost.block), lost.records)).collect()
}

fn compact(db: &Db) {
    while db.compact(&Cancel::default()).expect("merges") {}
}

/// The times that there are of a series.
fn times(db: &Db, series: u64) -> Vec<i64> {
    read(db, TimeRange::ALL).into_keys().filter(|(of, _)| *of == labels(series)).map(|(_, t)| t).collect()
}

fn delete(db: &Db, series: u64, start_ms: i64, end_ms: i64) {
    let matchers = [Matcher::equal("series", series.to_string())];
    db.delete(&matchers, TimeRange { start_ms, end_ms }).expect("deletes");
}

/// Writes the first block again from its records, as far as the disk lets it.
fn try_rebuild(db: &Db) -> Result<bool, Error> {
    let Some(mut rebuild) = db.rebuild(FIRST) else { return Ok(false) };
    for (offset, (series, times)) in (0i64..).zip(&RECORDS) {
        let samples: Vec<Sample> = times.iter().map(|t| Sample { t: *t, v: offset as f64 }).collect();
        rebuild.append(labels(*series).as_ref(), &samples);
        rebuild.end_record(0, offset)?;
    }
    rebuild.finish()
}

/// A disk with a damaged block and a sound one, the engine that found it, and what was read before.
fn damaged(seed: u64) -> (Simulated, Db, BTreeMap<(Labels, i64), Any>) {
    let disk = Simulated::new(seed);
    let db = Db::open_on(Arc::new(disk.clone()), options()).expect("opens");
    flush(&db, 0, &RECORDS);
    flush(&db, 3, &[(3, &[5, HOUR])]);
    let before = read(&db, TimeRange::ALL);
    let db = damage(&disk, FIRST, options());
    (disk, db, before)
}

#[test]
fn after_a_fault_at_any_call_of_a_rebuild_it_is_done_again_and_everything_is_there_once() {
    let (disk, db, _) = damaged(0);
    let begun = disk.calls();
    assert!(try_rebuild(&db).expect("written"));
    let calls = disk.calls() - begun;
    assert!(calls > 10, "{calls}");
    for (call, (fault, loss)) in (0..calls).flat_map(|call| FAULTS.map(|fault| (call, fault))) {
        let (mut disk, mut db, before) = damaged(call);
        let (failures, positions) = (disk.failures(), db.positions());
        disk.fail_at(disk.calls() + call, fault);
        let done = try_rebuild(&db);
        let is_met = disk.failures() > failures;
        assert!(is_met || done.as_ref().is_ok_and(|done| *done), "call {call}, {fault:?}: {done:?}");
        disk.mend();
        if disk.has_crashed() {
            disk = disk.restart(loss);
            db = Db::open_on(Arc::new(disk.clone()), options()).expect("opens again");
        }
        let mut is_durable = done.is_ok();
        for restarts in 0..3 {
            // What failed may be seen until a restart, which finds the damaged block then.
            let is_lost = !db.lost().is_empty();
            assert!(!(is_lost && is_durable), "call {call}, {fault:?}, {loss:?}: it was written");
            if is_lost {
                assert!(try_rebuild(&db).expect("written"), "call {call}, {fault:?}, {loss:?}");
                is_durable = true;
            }
            assert_eq!(read(&db, TimeRange::ALL), before, "call {call}, {fault:?}, {loss:?}, {restarts}");
            assert_eq!((db.positions(), db.lost(), db.warnings()), (positions.clone(), vec![], vec![]));
            let mut needed = lock(&db.committed).manifest.names();
            needed.extend(lock(&db.committed).waiting.iter().cloned());
            needed.extend(["manifest".to_owned(), "manifest.new".to_owned()]);
            assert!(disk.names().is_subset(&needed), "call {call}, {fault:?}: {:?}", disk.names());
            disk = disk.restart(loss);
            db = Db::open_on(Arc::new(disk.clone()), options()).expect("opens again");
        }
    }
}

#[test]
fn what_a_rebuild_has_in_memory_is_told() {
    let (disk, writing) = (Simulated::new(1), model::Budget::new("writing blocks", 1 << 20));
    let memory = Memory { writing: writing.clone(), ..Memory::default() };
    let options = Options { memory, head_bytes_max: 64 << 20, ..options() };
    let db = Db::open_on(Arc::new(disk.clone()), options.clone()).expect("opens");
    let records: Vec<(u64, &[i64])> = (0..20_000).map(|series| (series, &[1i64][..])).collect();
    flush(&db, 0, &records);
    let before = read(&db, TimeRange::ALL);
    let db = damage(&disk, FIRST, options);
    let rebuild = rebuild(&db, FIRST, &records);
    let taken = rebuild.head.bytes() + rebuild.head.registry_bytes();
    assert!(taken > 2 << 20, "{taken}");
    assert_eq!(writing.held(), taken, "all of it, though there is less");
    assert!(rebuild.finish().expect("written"));
    assert_eq!((writing.held(), read(&db, TimeRange::ALL)), (0, before));
}

const RECORDS: [(u64, &[i64]); 3] = [(1, &[1, HOUR]), (2, &[2, HOUR]), (1, &[1, 3])];
const FIRST: &str = "0000000000.block";

#[test]
fn a_damaged_block_is_written_again_with_what_is_of_its_span() {
    let disk = Simulated::new(1);
    let db = Db::open_on(Arc::new(disk.clone()), options()).expect("opens");
    flush(&db, 0, &RECORDS);
    flush(&db, 3, &[(3, &[5, HOUR])]);
    let (before, stats) = (read(&db, TimeRange::ALL), db.stats());
    let db = damage(&disk, FIRST, options());
    assert_eq!(read(&db, TimeRange::ALL).len(), before.len() - 3);
    assert_eq!(db.lost(), [Lost { block: FIRST.to_owned(), records: vec![(0, 0..3)] }]);
    drop(rebuild(&db, FIRST, &RECORDS));
    assert_eq!((db.lost().len(), disk.names().len()), (1, 5), "given up without a trace");
    assert!(rebuild(&db, FIRST, &RECORDS).finish().expect("written"));
    assert_eq!((db.lost(), db.warnings()), (vec![], vec![]));
    assert!(!disk.names().contains(FIRST));
    assert!(db.rebuild(FIRST).is_none());
    let check = |db: &Db| {
        assert_eq!(read(db, TimeRange::ALL), before);
        assert_eq!(db.stats().block_samples, stats.block_samples);
    };
    check(&db);
    let disk = disk.restart(Loss::Unsynced);
    check(&Db::open_on(Arc::new(disk.clone()), options()).expect("opens"));
    // What was written again can be written again.
    assert_eq!(lost(&damage(&disk, "0000000004.block", options())), [(4, vec![(0, 0..3)])]);
}

#[test]
fn positions_and_records_of_another_log_are_forgotten() {
    let disk = Simulated::new(1);
    let open = || Db::open_on(Arc::new(disk.clone()), options()).expect("opens");
    let db = open();
    flush(&db, 0, &RECORDS);
    let before = read(&db, TimeRange::ALL);
    // What was written before it was known which log it came from is of the one that is there.
    assert_eq!(db.follow("a").expect("is noted"), 0);
    assert_eq!(db.positions(), BTreeMap::from([(0, 3)]));
    drop(db);
    let db = open();
    assert_eq!((db.follow("a").expect("is noted"), db.positions()), (0, BTreeMap::from([(0, 3)])));
    drop(damage(&disk, FIRST, options()));
    let db = open();
    assert_eq!(lost(&db), [(0, vec![(0, 0..3)])]);
    assert_eq!((db.follow("b").expect("is noted"), db.positions(), lost(&db)), (1, BTreeMap::new(), vec![]));
    // More of the other log than the former one had.
    disk.flip(FIRST, disk.bytes(FIRST) - 1);
    drop(db);
    let db = open();
    assert_eq!((db.follow("b").expect("is noted"), db.positions(), lost(&db)), (0, BTreeMap::new(), vec![]));
    flush(&db, 0, &[(7, &[1]), (7, &[2]), (7, &[3]), (7, &[4])]);
    assert_eq!((db.positions(), read(&db, TimeRange::ALL).len()), (BTreeMap::from([(0, 4)]), before.len() + 4));
    drop(damage(&disk, FIRST, options()));
    let db = damage(&disk, "0000000002.block", options());
    assert_eq!(lost(&db), [(2, vec![(0, 0..4)])], "what was read of it can be written again from it");
}

#[test]
fn starts_and_histograms_are_written_again_too() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut family = Family::new(&mut random);
    let floats: Vec<Sample> = [HOUR, 1, 3].map(|t| Sample { t, v: t as f64 }).to_vec();
    let histograms: Vec<HistogramSample> = [2, 4, HOUR].map(|t| family.sample(t, &mut random)).to_vec();
    let samples = Samples { floats: &floats, starts: &[7, 8, 0], histograms: &histograms };
    let disk = Simulated::new(1);
    let db = Db::open_on(Arc::new(disk.clone()), options()).expect("opens");
    append(&db, 1, samples, 1);
    db.flush().expect("flushes");
    delete(&db, 1, 2, 3);
    let before = read(&db, TimeRange::ALL);
    assert_eq!((before.len(), &before[&(labels(1), 1)]), (4 - 1, &Any::Float(1.0f64.to_bits(), 8)));
    let db = damage(&disk, FIRST, options());
    let mut rebuild = db.rebuild(FIRST).expect("it is there");
    rebuild.append(labels(1).as_ref(), samples);
    rebuild.end_record(0, 0).expect("has room");
    assert!(rebuild.finish().expect("written"));
    assert_eq!(read(&db, TimeRange::ALL), before);
}

#[test]
fn what_was_deleted_does_not_come_back_with_a_rebuild() {
    let disk = Simulated::new(1);
    let db = Db::open_on(Arc::new(disk.clone()), options()).expect("opens");
    flush(&db, 0, &RECORDS);
    delete(&db, 1, 1, 3);
    // A time of it once more, after the deletion.
    flush(&db, 3, &[(1, &[1, 2])]);
    let expect = read(&db, TimeRange::ALL);
    drop(damage(&disk, FIRST, options()));
    let db = damage(&disk, "0000000002.block", options());
    compact(&db);
    assert_eq!(db.view().deletes.len(), 1, "waits for the block that cannot be read");
    assert_eq!(lost(&db), [(0, vec![(0, 0..3)]), (2, vec![(0, 3..4)])]);
    let mut later = db.rebuild("0000000002.block").expect("it is there");
    later.append(labels(1).as_ref(), &[Sample { t: 1, v: 3.0 }, Sample { t: 2, v: 3.0 }]);
    later.end_record(0, 3).expect("has room");
    assert!(later.finish().expect("written"));
    assert!(rebuild(&db, FIRST, &RECORDS).finish().expect("written"));
    assert_eq!(read(&db, TimeRange::ALL), expect);
    compact(&db);
    assert_eq!((db.view().deletes.len(), times(&db, 1)), (0, vec![1, 2, HOUR]));
    // The one of which something is deleted cannot be written again once more.
    drop(damage(&disk, "0000000003.block", options()));
    let db = damage(&disk, "0000000004.block", options());
    assert_eq!((lost(&db), db.warnings().len()), (vec![(3, vec![(0, 3..4)])], 2));
}

#[test]
fn a_block_that_was_written_anew_without_what_is_deleted_is_not_written_again() {
    let disk = Simulated::new(1);
    let db = Db::open_on(Arc::new(disk.clone()), options()).expect("opens");
    flush(&db, 0, &RECORDS);
    delete(&db, 1, 1, 1);
    compact(&db);
    assert_eq!((db.view().deletes.len(), db.stats().blocks), (0, 2));
    let db = damage(&disk, "0000000002.block", options());
    assert_eq!((lost(&db), db.warnings().len()), (vec![], 1));
}

#[test]
fn a_deletion_while_a_block_cannot_be_read_is_of_that_block_too() {
    let disk = Simulated::new(1);
    let db = Db::open_on(Arc::new(disk.clone()), options()).expect("opens");
    flush(&db, 0, &RECORDS);
    let db = damage(&disk, FIRST, options());
    delete(&db, 2, 0, 9);
    delete(&db, 2, -9, -1);
    compact(&db);
    assert_eq!(db.view().deletes.len(), 1, "the other one is not of its span");
    drop(db);
    let db = Db::open_on(Arc::new(disk.clone()), options()).expect("opens");
    assert!(rebuild(&db, FIRST, &RECORDS).finish().expect("written"));
    assert_eq!((times(&db, 1), times(&db, 2)), (vec![1, 3, HOUR], vec![HOUR]));
    compact(&db);
    assert_eq!(db.view().deletes.len(), 0);
}

#[test]
fn a_block_that_does_not_fit_into_memory_is_written_again_in_parts_of_their_own_records() {
    let disk = Simulated::new(1);
    let small = Options { head_bytes_max: 8000, ..options() };
    let db = Db::open_on(Arc::new(disk.clone()), small.clone()).expect("opens");
    let records: Vec<(u64, &[i64])> = (0..20).map(|n| (n, [1i64, 2].as_slice())).collect();
    flush(&db, 0, &records);
    let before = read(&db, TimeRange::ALL);
    let db = damage(&disk, FIRST, small.clone());
    assert!(rebuild(&db, FIRST, &records).finish().expect("written"));
    assert!(db.stats().blocks > 2, "{:?}", db.stats());
    assert_eq!(read(&db, TimeRange::ALL), before);
    // What is deleted of the first part is not in the records of the last one.
    delete(&db, 0, 0, 9);
    let last = lock(&db.committed).manifest.blocks.last().expect("some").clone();
    let records = last.from.iter().collect::<Vec<_>>();
    assert!(records[0].1.start > 0 && records[0].1.end == 20, "{records:?}");
}

#[test]
fn offsets_of_a_log_that_was_replaced_are_forgotten() {
    let disk = Simulated::new(1);
    let db = Db::open_on(Arc::new(disk.clone()), options()).expect("opens");
    flush(&db, 0, &RECORDS);
    let db = damage(&disk, FIRST, options());
    assert_eq!(db.lost().len(), 1);
    append(&db, 9, &[Sample { t: 1, v: 0.0 }], 1);
    assert_eq!(db.lost(), [], "before the manifest tells it");
    db.flush().expect("flushes");
    flush(&db, 1, &[(9, &[2])]);
    assert_eq!(db.lost(), []);
    let db = damage(&disk, "0000000003.block", options());
    let block = "0000000003.block".to_owned();
    assert_eq!(db.lost(), [Lost { block, records: vec![(0, 1..2)] }], "it is of the new one");
}
