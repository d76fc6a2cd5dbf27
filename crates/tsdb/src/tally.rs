//! Counts series by their labels, each once, whether it is in the head, in one block or in all of them.
//!
//! Series have no number that is the same everywhere, so they are told apart by a hash, the sum of those of their labels, which is kept of each while they are
//! counted: a block's index knows the labels of a series by the numbers of their values, so it hashes each value once and adds up. Two of ten million series
//! have the same hash once in some hundred thousand answers.

use hashbrown::HashSet;
use model::{Cardinality, CardinalityRequest, LabelsRef, Tally};

use crate::Error;
use crate::head::too_many;

/// What is kept of a series that was counted.
const SERIES_BYTES: usize = 2 * size_of::<u64>();
/// Series between looks at whether anybody waits for the answer.
const LOOK_EVERY: u32 = 1024;

/// A count on the way.
pub(crate) struct Counting<'a> {
    pub(crate) request: &'a CardinalityRequest,
    pub(crate) counted: Cardinality,
    seen: HashSet<u64>,
    /// Bytes that are not claimed yet.
    bytes: usize,
    looked_at: u32,
}

/// The part of a label in the hash of a series.
pub(crate) fn pair_hash(name: &str, value: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(value.as_bytes(), xxhash_rust::xxh3::xxh3_64(name.as_bytes()))
}

/// The hash of a series.
pub(crate) fn labels_hash(labels: LabelsRef<'_>) -> u64 {
    labels.iter().fold(0u64, |sum, (name, value)| sum.wrapping_add(pair_hash(name, value)))
}

impl<'a> Counting<'a> {
    pub(crate) fn new(request: &'a CardinalityRequest) -> Self {
        Counting { request, counted: Cardinality::default(), seen: HashSet::new(), bytes: 0, looked_at: 0 }
    }

    /// Whether each series has to be seen with its labels, by which its class is told.
    pub(crate) fn has_classes(&self) -> bool {
        self.request.classes.modulus > 1
    }

    /// Counts a series of this hash, its labels not; whether it is the first time that it is seen.
    pub(crate) fn series(&mut self, hash: u64, chunks: u64) -> Result<bool, Error> {
        self.count(0, hash, chunks)
    }

    /// Counts a series; its labels too, unless `but_labels`.
    pub(crate) fn labels(&mut self, labels: LabelsRef<'_>, chunks: u64, but_labels: bool) -> Result<(), Error> {
        let hash = labels_hash(labels);
        let class = self.request.classes.of(labels);
        if self.count(class, hash, chunks)? && !but_labels {
            let tally = self.counted.tallies.entry(class).or_default();
            self.bytes += labels.iter().map(|(name, value)| tally.add_pair(name, value, 1)).sum::<usize>();
        }
        Ok(())
    }

    /// Counts series that have a label with a value; they are of the only class.
    pub(crate) fn pair(&mut self, name: &str, value: &str, series: u64) -> Result<(), Error> {
        if series > 0 {
            self.bytes += self.tally(0).add_pair(name, value, series);
        }
        self.look()
    }

    /// Holds so many bytes, which are not given back before the answer is done with.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), Error> {
        Ok(self.request.cancel.claim().take(bytes)?)
    }

    /// Holds what was counted.
    pub(crate) fn claim(&mut self) -> Result<(), Error> {
        Ok(self.request.cancel.claim().take(std::mem::take(&mut self.bytes))?)
    }

    fn tally(&mut self, class: u32) -> &mut Tally {
        self.counted.tallies.entry(class).or_default()
    }

    fn count(&mut self, class: u32, hash: u64, chunks: u64) -> Result<bool, Error> {
        self.look()?;
        let is_new = self.seen.insert(hash);
        let tally = self.tally(class);
        tally.chunks += chunks;
        tally.series += u64::from(is_new);
        self.bytes += SERIES_BYTES * usize::from(is_new);
        if self.seen.len() > self.request.series_max {
            return Err(too_many(self.request.series_max, self.seen.len() as u64));
        }
        Ok(is_new)
    }

    fn look(&mut self) -> Result<(), Error> {
        self.looked_at += 1;
        if self.looked_at >= LOOK_EVERY {
            self.looked_at = 0;
            self.claim()?;
            if self.request.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }
}
