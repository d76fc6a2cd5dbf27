//! Which batches the numbered producers of a partition have written last, so that one that is sent again is stored once.
//!
//! It is a memory of what stands in the headers of stored batches and nothing else, so that it cannot disagree with the log: it is
//! read back from them when the log is opened. Of the stored log only the last two segments are read for that. A batch is sent again
//! because its answer did not come, so its first copy was written within the time that a client waits, and if the log was
//! stopped in between, among the last things before the stop; the last two segments hold at least a whole segment (64 MiB). The price:
//! a producer that is silent for longer than that, and sends its last batch again across a restart, is not known any more.

use std::collections::VecDeque;

use hashbrown::HashMap;
use prometheus::IntCounter;

use crate::batch::{Header, Producer};

/// Batches of a producer that are remembered: as many as Kafka lets a producer have in flight.
const BATCHES: usize = 5;
/// Producers that are remembered, a partition; beyond that the one that has been silent for longest is forgotten. Each ingest
/// is one, and some 250 bytes.
pub(crate) const PRODUCERS_MAX: usize = 1024;

/// The producers of a partition.
#[derive(Debug)]
pub(crate) struct Producers {
    known: HashMap<i64, Known>,
    forgotten: IntCounter,
}

#[derive(Debug)]
struct Known {
    epoch: i16,
    /// The last ones, oldest first; at least one.
    batches: VecDeque<Written>,
}

#[derive(Debug, Clone, Copy)]
struct Written {
    sequence: i32,
    records: i64,
    offset: i64,
}

/// Why a batch of a producer does not follow those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misfit {
    /// Its producer was told to begin anew since.
    #[error("producer epoch {given} is older than {current}")]
    OldEpoch {
        /// Of the batch.
        given: i16,
        /// Newest that was written.
        current: i16,
    },
    /// Batches before it are missing, or it is older than those that are remembered.
    #[error("sequence {given} does not follow; the next one is {next}")]
    OutOfOrder {
        /// Of the batch.
        given: i32,
        /// What would follow.
        next: i32,
    },
}

impl Producers {
    pub(crate) fn new(forgotten: IntCounter) -> Self {
        Producers { known: HashMap::new(), forgotten }
    }

    /// The offset at which a batch stands already, or `None` if it is new and may be written.
    ///
    /// Of a producer that is not known, any batch may be the next: what came before it may have been removed or forgotten.
    pub(crate) fn check(&self, header: &Header) -> Result<Option<i64>, Misfit> {
        let Some((producer, known)) = header.producer.and_then(|p| Some((p, self.known.get(&p.id)?))) else {
            return Ok(None);
        };
        let Producer { epoch, sequence, .. } = producer;
        if epoch < known.epoch {
            return Err(Misfit::OldEpoch { given: epoch, current: known.epoch });
        }
        if epoch > known.epoch {
            return if sequence == 0 { Ok(None) } else { Err(Misfit::OutOfOrder { given: sequence, next: 0 }) };
        }
        let same = |w: &&Written| w.sequence == sequence && w.records == header.records;
        if let Some(written) = known.batches.iter().find(same) {
            return Ok(Some(written.offset));
        }
        match known.batches.back().map(|last| after(last.sequence, last.records)) {
            Some(next) if next != sequence => Err(Misfit::OutOfOrder { given: sequence, next }),
            _ => Ok(None),
        }
    }

    /// Takes a batch that is stored into account. Batches come in the order of their offsets.
    pub(crate) fn wrote(&mut self, header: &Header) {
        let Some(Producer { id, epoch, sequence }) = header.producer else { return };
        if !self.known.contains_key(&id) && self.known.len() >= PRODUCERS_MAX {
            self.forget_one();
        }
        let known = self.known.entry(id).or_insert_with(|| Known { epoch, batches: VecDeque::new() });
        if epoch != known.epoch {
            *known = Known { epoch, batches: VecDeque::new() };
        }
        if known.batches.len() >= BATCHES {
            known.batches.pop_front();
        }
        known.batches.push_back(Written { sequence, records: header.records, offset: header.base_offset });
    }

    /// Forgets the one that has been silent for longest. Walks over all, which is some microseconds beside a sync of the disk.
    fn forget_one(&mut self) {
        let last = |known: &Known| known.batches.back().map_or(0, |w| w.offset);
        let silent = self.known.iter().min_by_key(|(_, known)| last(known)).map(|(id, _)| *id);
        if let Some(id) = silent {
            self.known.remove(&id);
            self.forgotten.inc();
        }
    }
}

/// The sequence that follows a batch; the number after the largest is 0.
pub(crate) fn after(sequence: i32, records: i64) -> i32 {
    ((i64::from(sequence) + records) % (i64::from(i32::MAX) + 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(id: i64, epoch: i16, sequence: i32, records: i64, offset: i64) -> Header {
        let producer = Some(Producer { id, epoch, sequence });
        Header { base_offset: offset, records, max_timestamp: 0, bytes: 100, producer }
    }

    fn producers(written: &[Header]) -> Producers {
        let mut producers = Producers::new(IntCounter::new("forgotten", "test").expect("valid"));
        written.iter().for_each(|h| producers.wrote(h));
        producers
    }

    #[test]
    fn a_batch_that_is_sent_again_is_found_at_its_first_offset() {
        let producers = producers(&[header(7, 0, 0, 10, 100), header(7, 0, 10, 5, 200), header(8, 0, 0, 1, 300)]);
        assert_eq!(producers.check(&header(7, 0, 0, 10, 0)), Ok(Some(100)));
        assert_eq!(producers.check(&header(7, 0, 10, 5, 0)), Ok(Some(200)));
        assert_eq!(producers.check(&header(7, 0, 15, 2, 0)), Ok(None), "the next one");
        assert_eq!(producers.check(&header(9, 0, 3, 2, 0)), Ok(None), "nothing is known of it");
        let unnumbered = Header { producer: None, ..header(7, 0, 0, 10, 0) };
        assert_eq!(producers.check(&unnumbered), Ok(None));
    }

    #[test]
    fn sequences_that_do_not_follow_are_refused() {
        let producers = producers(&[header(7, 1, 0, 10, 100)]);
        let out_of_order = |given, next| Err(Misfit::OutOfOrder { given, next });
        assert_eq!(producers.check(&header(7, 1, 11, 1, 0)), out_of_order(11, 10));
        assert_eq!(producers.check(&header(7, 1, 0, 9, 0)), out_of_order(0, 10), "same number, other batch");
        assert_eq!(producers.check(&header(7, 0, 10, 1, 0)), Err(Misfit::OldEpoch { given: 0, current: 1 }));
        assert_eq!(producers.check(&header(7, 2, 0, 1, 0)), Ok(None), "a new epoch begins at 0");
        assert_eq!(producers.check(&header(7, 2, 1, 1, 0)), out_of_order(1, 0));
    }

    #[test]
    fn a_new_epoch_forgets_the_batches_of_the_one_before() {
        let producers = producers(&[header(7, 0, 0, 10, 100), header(7, 1, 0, 10, 200)]);
        assert_eq!(producers.check(&header(7, 1, 0, 10, 0)), Ok(Some(200)));
    }

    #[test]
    fn only_the_last_batches_are_remembered() {
        let written: Vec<Header> = (0..6).map(|n| header(7, 0, n, 1, i64::from(n))).collect();
        let producers = producers(&written);
        assert_eq!(producers.check(&header(7, 0, 1, 1, 0)), Ok(Some(1)));
        assert_eq!(producers.check(&header(7, 0, 0, 1, 0)), Err(Misfit::OutOfOrder { given: 0, next: 6 }));
    }

    #[test]
    fn after_the_largest_sequence_comes_zero() {
        assert_eq!(after(i32::MAX, 1), 0);
        assert_eq!(after(i32::MAX - 1, 3), 1);
        let producers = producers(&[header(7, 0, i32::MAX - 1, 3, 0)]);
        assert_eq!(producers.check(&header(7, 0, 1, 1, 0)), Ok(None));
    }

    #[test]
    fn the_producer_that_is_silent_for_longest_is_forgotten_first() {
        let all: Vec<Header> = (0..=PRODUCERS_MAX as i64).map(|n| header(n, 0, 0, 1, n)).collect();
        let mut producers = producers(&all[..PRODUCERS_MAX]);
        producers.wrote(&header(0, 0, 1, 1, 5000));
        producers.wrote(&all[PRODUCERS_MAX]);
        assert_eq!((producers.known.len(), producers.forgotten.get()), (PRODUCERS_MAX, 1));
        assert!(producers.known.contains_key(&0) && !producers.known.contains_key(&1));
    }
}
