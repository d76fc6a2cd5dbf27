//! When the groups of all partitions begin.
//!
//! Who comes after a pause is written at once. Under load groups keep a distance, so that appends that come one after the other share a sync, which costs more CPU than
//! all else that is done for a record. All partitions begin together: a request has records for each, and is answered when the last of them is durable, so it waits
//! for one beat and not for the latest of several; and the disk gets what it has to flush at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// From one beat to the next, at least. A client with several requests on their way gets no fewer answers: less work is done for each.
const EVERY: Duration = Duration::from_micros(1500);
/// So much after a beat a group still begins with it: as long as it takes to wake the writers of the other partitions.
const JOINS: Duration = Duration::from_micros(200);

/// The beat of one log.
#[derive(Debug)]
pub(crate) struct Beat {
    origin: Instant,
    /// When the last one was: nanoseconds since the origin, and one; 0 before the first.
    last: AtomicU64,
}

impl Beat {
    pub(crate) fn new() -> Beat {
        Beat { origin: now(), last: AtomicU64::new(0) }
    }

    /// Returns at a beat.
    pub(crate) fn wait(&self) {
        while let Some(left) = self.left(self.origin.elapsed()) {
            std::thread::sleep(left);
        }
    }

    /// How long it is to the next beat, so long after the origin; nothing where a group may begin.
    fn left(&self, now: Duration) -> Option<Duration> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let since = Duration::from_nanos(now.saturating_sub(last));
            if last != 0 && since < EVERY {
                return (since >= JOINS).then(|| EVERY - since);
            }
            match self.last.compare_exchange_weak(last, now, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return None,
                Err(other) => last = other,
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "groups of the log keep a distance in time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_begin_together_and_apart_from_those_before() {
        let beat = Beat::new();
        let at = |micros: u64| beat.left(Duration::from_micros(micros)).map(|left| left.as_micros());
        assert_eq!(at(0), None, "the first waits for nothing");
        assert_eq!([at(0), at(199)], [None, None], "others begin with it");
        assert_eq!([at(200), at(1000), at(1499)], [Some(1300), Some(500), Some(1)]);
        assert_eq!(at(1500), None, "the next beat, which is that of whoever comes first");
        assert_eq!([at(1600), at(1800), at(2999)], [None, Some(1200), Some(1)]);
        assert_eq!(at(50_000), None, "after a pause at once");
        assert_eq!([at(50_100), at(50_300)], [None, Some(1200)]);
        // Clocks of threads may be read in another order than they are looked at here.
        assert_eq!(at(49_900), None);
    }
}
