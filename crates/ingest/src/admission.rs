//! Bounds of what is in flight: bytes of bodies, and writes as such. The second also tells when a drain is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::Claim;
use prometheus::{IntCounter, IntGauge};

use crate::Error;

/// Bytes that all requests together may hold.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    bytes_max: usize,
    /// What other parts of the process hold leaves less.
    memory: model::Budget,
    gauge: IntGauge,
    refused: IntCounter,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize, memory: model::Budget, gauge: IntGauge, refused: IntCounter) -> Self {
        Budget { used: AtomicUsize::new(0), bytes_max, memory, gauge, refused }
    }

    /// A holder of no bytes yet.
    pub(crate) fn hold(self: &Arc<Self>) -> Hold {
        Hold { budget: self.clone(), claim: self.memory.claim(), bytes: 0 }
    }
}

/// Bytes held by one request; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    budget: Arc<Budget>,
    claim: Claim,
    bytes: usize,
}

impl Hold {
    /// Holds so many bytes more, or none more where they do not fit.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        let budget = &*self.budget;
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= budget.bytes_max);
        if let Err(used) = budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            budget.refused.inc();
            let max = budget.bytes_max;
            return Err(Error::Overloaded(format!(
                "requests in flight hold {used} of {max} bytes and {bytes} more are needed (--ingest-inflight-bytes-max)"
            )));
        }
        if let Err(exceeded) = self.claim.take(bytes) {
            budget.used.fetch_sub(bytes, Ordering::Relaxed);
            budget.refused.inc();
            return Err(Error::Overloaded(exceeded.to_string()));
        }
        self.bytes += bytes;
        budget.gauge.add(bytes as i64);
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.gauge.sub(self.bytes as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_refused_at_the_bound_and_given_back() {
        let gauge = IntGauge::new("g", "g").unwrap();
        let refused = IntCounter::new("r", "r").unwrap();
        let budget = Arc::new(Budget::new(10, model::Budget::new("requests", 9), gauge.clone(), refused.clone()));
        let (mut a, mut b) = (budget.hold(), budget.hold());
        a.grow(6).unwrap();
        assert!(matches!(b.grow(5), Err(Error::Overloaded(_))));
        assert!(matches!(b.grow(4), Err(Error::Overloaded(_))), "others of the process have the last one");
        b.grow(3).unwrap();
        assert_eq!((gauge.get(), refused.get()), (9, 2));
        drop(a);
        b.grow(6).unwrap();
        assert!(b.grow(usize::MAX).is_err());
        drop(b);
        assert_eq!(gauge.get(), 0);
    }
}
