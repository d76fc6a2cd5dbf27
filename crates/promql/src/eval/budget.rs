//! How many samples one evaluation holds at once: counted when columns are made, given back when they are dropped.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::EvalError;

/// The count of one evaluation.
#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
}

impl Budget {
    pub(super) fn new(max: usize) -> Self {
        Budget { max, used: AtomicUsize::new(0), peak: AtomicUsize::new(0) }
    }

    /// Counts samples that are about to be held. After an error the evaluation ends, so they stay counted.
    pub(super) fn take(&self, samples: usize) -> Result<(), EvalError> {
        let used = self.used.fetch_add(samples, Ordering::Relaxed).saturating_add(samples);
        self.peak.fetch_max(used, Ordering::Relaxed);
        self.check(used)
    }

    /// Gives samples back.
    pub(super) fn release(&self, samples: usize) {
        self.used.fetch_sub(samples, Ordering::Relaxed);
    }

    /// Whether so many samples could be held if there were nothing else; a column in the making asks this.
    pub(super) fn allows(&self, samples: usize) -> Result<(), EvalError> {
        self.check(samples)
    }

    /// Whether so many samples can be held beside what is.
    pub(super) fn has_room(&self, samples: usize) -> bool {
        self.used.load(Ordering::Relaxed).saturating_add(samples) <= self.max
    }

    fn check(&self, found: usize) -> Result<(), EvalError> {
        let max = self.max;
        if found > max { Err(EvalError::TooManySamples { found, max }) } else { Ok(()) }
    }

    /// The most that was held at once.
    pub(super) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
}
