//! How far a consumer is behind its log: in records, and in time, as the age of the oldest record that it has not applied.
//!
//! The time is a bound from above and nearly exact. Where the next record is not in hand, the time of the one before it stands for it; while the log
//! cannot be read, what is not known of is as old as the first failure. It is only as right as the clocks of those who append are the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Log, Record};

/// What a consumer has read and applied of each of its partitions.
pub struct Lag {
    log: Arc<dyn Log>,
    partitions: BTreeMap<u32, Mutex<State>>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// The offset before which everything is applied.
    next: i64,
    /// Not later than the append of the oldest record that is not applied; `None` where there is none.
    unread_ms: Option<i64>,
}

impl Lag {
    /// Of a consumer that reads these partitions from these offsets on.
    pub fn new(log: Arc<dyn Log>, positions: impl IntoIterator<Item = (u32, i64)>) -> Self {
        let state = |next| Mutex::new(State { next, unread_ms: None });
        Lag { log, partitions: positions.into_iter().map(|(partition, next)| (partition, state(next))).collect() }
    }

    /// Notes what a fetch gave, before it is applied.
    pub fn fetched(&self, partition: u32, records: &[Record]) {
        let Some(mut state) = self.state(partition) else { return };
        match records.first() {
            // Somebody may have asked before it was fetched, and have let it age from then on.
            Some(first) => {
                let unread_ms = state.unread_ms.map_or(first.timestamp_ms, |known| known.min(first.timestamp_ms));
                state.unread_ms = Some(unread_ms);
            }
            None if state.next >= self.log.known_end(partition) => state.unread_ms = None,
            None => {}
        }
    }

    /// Notes that this record and all before it are applied.
    pub fn applied(&self, partition: u32, record: &Record) {
        let Some(mut state) = self.state(partition) else { return };
        state.next = record.offset + 1;
        // Looked at while the state is held, so that a fetch that gives more comes either before this look or after this change.
        let ends = state.next >= self.log.known_end(partition);
        state.unread_ms = (!ends).then_some(record.timestamp_ms);
    }

    /// Notes that the consumer goes on at another offset.
    pub fn moved(&self, partition: u32, next: i64) {
        let Some(mut state) = self.state(partition) else { return };
        *state = State { next, unread_ms: None };
    }

    /// Notes that the log could not be read at this time: what was appended since is not known.
    pub fn failed(&self, partition: u32, now_ms: i64) {
        let Some(mut state) = self.state(partition) else { return };
        state.unread_ms = state.unread_ms.or(Some(now_ms));
    }

    /// Records that are known of and not applied, of all partitions.
    pub fn records(&self) -> u64 {
        let behind = |(partition, state): (&u32, &Mutex<State>)| {
            (self.log.known_end(*partition) - lock(state).next).max(0).unsigned_abs()
        };
        self.partitions.iter().map(behind).sum()
    }

    /// Milliseconds since the append of the oldest record that is not applied, the largest of all partitions; 0 where everything is.
    pub fn ms(&self, now_ms: i64) -> i64 {
        let behind = |(partition, state): (&u32, &Mutex<State>)| {
            let mut state = lock(state);
            if state.unread_ms.is_none() && state.next < self.log.known_end(*partition) {
                // Nobody has fetched it yet; if nobody ever does, it ages from now on.
                state.unread_ms = Some(now_ms);
            }
            state.unread_ms.map_or(0, |unread_ms| (now_ms - unread_ms).max(0))
        };
        self.partitions.iter().map(behind).max().unwrap_or(0)
    }

    fn state(&self, partition: u32) -> Option<MutexGuard<'_, State>> {
        self.partitions.get(&partition).map(lock)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Each change is one step, so that a thread that panicked left it whole.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
