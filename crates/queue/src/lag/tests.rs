use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::{Bounds, BoxFuture, Error};

/// A log of which only the end is asked for.
struct End(AtomicI64);

impl Log for End {
    fn partitions(&self) -> u32 {
        2
    }

    fn id(&self) -> Option<u128> {
        None
    }

    fn append(&self, _: u32, _: Bytes, _: i64) -> BoxFuture<'_, Result<i64, Error>> {
        unreachable!("only its end is asked for")
    }

    fn fetch(&self, _: u32, _: i64, _: usize, _: Duration) -> BoxFuture<'_, Result<Vec<Record>, Error>> {
        unreachable!("only its end is asked for")
    }

    fn bounds(&self, _: u32) -> BoxFuture<'_, Result<Bounds, Error>> {
        unreachable!("only its end is asked for")
    }

    fn known_end(&self, partition: u32) -> i64 {
        if partition == 0 { self.0.load(Ordering::Relaxed) } else { 0 }
    }

    fn commit(&self, _: &str, _: u32, _: i64) -> BoxFuture<'_, Result<(), Error>> {
        unreachable!("only its end is asked for")
    }

    fn committed(&self, _: &str, _: u32) -> BoxFuture<'_, Result<Option<i64>, Error>> {
        unreachable!("only its end is asked for")
    }
}

struct Rig {
    log: Arc<End>,
    lag: Lag,
}

impl Rig {
    /// A consumer of two partitions, the second of them without records.
    fn new() -> Self {
        let log = Arc::new(End(0.into()));
        Rig { lag: Lag::new(log.clone(), [(0, 0), (1, 0)]), log }
    }

    fn appended(&self, end: i64) {
        self.log.0.store(end, Ordering::Relaxed);
    }

    #[track_caller]
    fn check(&self, now_ms: i64, records: u64, ms: i64) {
        assert_eq!((self.lag.records(), self.lag.ms(now_ms)), (records, ms));
    }
}

fn record(offset: i64, timestamp_ms: i64) -> Record {
    Record { offset, timestamp_ms, payload: Bytes::new() }
}

#[test]
fn a_consumer_that_is_paused_falls_behind_and_catches_up() {
    let rig = Rig::new();
    rig.check(1_000, 0, 0);
    rig.appended(3);
    let records = [record(0, 1_000), record(1, 1_500), record(2, 1_700)];
    rig.lag.fetched(0, &records);
    rig.check(1_010, 3, 10);
    rig.check(61_000, 3, 60_000);
    rig.lag.applied(0, &records[0]);
    rig.check(61_000, 2, 60_000);
    rig.lag.applied(0, &records[1]);
    rig.check(61_000, 1, 59_500);
    rig.lag.applied(0, &records[2]);
    rig.check(61_000, 0, 0);
    rig.check(99_000, 0, 0);
}

#[test]
fn a_backlog_that_is_not_in_hand_is_as_old_as_what_was_applied_last() {
    let rig = Rig::new();
    rig.appended(100);
    rig.lag.fetched(0, &[record(0, 1_000)]);
    rig.lag.applied(0, &record(0, 1_000));
    // Between two fetches of a long backlog it is behind as before.
    rig.check(50_000, 99, 49_000);
    rig.lag.fetched(0, &[]);
    rig.check(50_000, 99, 49_000);
}

#[test]
fn what_comes_after_a_silence_is_as_old_as_it_is() {
    let rig = Rig::new();
    rig.appended(1);
    rig.lag.fetched(0, &[record(0, 1_000)]);
    rig.lag.applied(0, &record(0, 1_000));
    rig.appended(2);
    rig.lag.fetched(0, &[record(1, 3_600_000)]);
    rig.check(3_600_005, 1, 5);
}

#[test]
fn records_that_nobody_fetches_age_from_when_they_are_seen() {
    let rig = Rig::new();
    rig.appended(7);
    rig.check(1_000, 7, 0);
    rig.check(31_000, 7, 30_000);
}

#[test]
fn a_record_that_was_asked_for_before_it_was_fetched_is_as_old_as_it_is() {
    let rig = Rig::new();
    rig.appended(1);
    rig.check(3_600_500, 1, 0);
    rig.lag.fetched(0, &[record(0, 1_000)]);
    rig.check(3_601_000, 1, 3_600_000);
}

#[test]
fn a_log_that_cannot_be_read_is_behind_since_the_first_failure() {
    let rig = Rig::new();
    rig.lag.failed(0, 1_000);
    rig.lag.failed(0, 4_000);
    rig.check(9_000, 0, 8_000);
    rig.lag.fetched(0, &[]);
    rig.check(9_000, 0, 0);
}

#[test]
fn a_consumer_that_goes_on_elsewhere_begins_anew() {
    let rig = Rig::new();
    rig.appended(10);
    rig.lag.fetched(0, &[record(0, 1_000)]);
    rig.lag.moved(0, 10);
    rig.check(5_000, 0, 0);
}
