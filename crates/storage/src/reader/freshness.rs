//! Which nodes are known to have all that a query must see.
//!
//! A query waits until each partition is caught up in one copy, and then reads. If the copy that was caught up goes away in between, the other
//! one answers for it and may be behind. So each wait has a number: a node that a wait had to do without is not fresh until it has met a
//! later one.

use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers of the waits, by node.
pub(super) struct Freshness {
    next: AtomicU64,
    nodes: Vec<Waits>,
}

#[derive(Default)]
struct Waits {
    /// The last that the node met.
    met: AtomicU64,
    /// The last that went on without it.
    missed: AtomicU64,
}

impl Freshness {
    pub(super) fn new(nodes: usize) -> Self {
        Freshness { next: AtomicU64::new(1), nodes: (0..nodes).map(|_| Waits::default()).collect() }
    }

    /// The number of a wait that begins now.
    pub(super) fn begin(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// A wait has ended: which nodes met it.
    pub(super) fn end(&self, wait: u64, met: impl Fn(usize) -> bool) {
        for (at, node) in self.nodes.iter().enumerate() {
            let noted = if met(at) { &node.met } else { &node.missed };
            noted.fetch_max(wait, Ordering::SeqCst);
        }
    }

    /// A node met a wait for it alone.
    pub(super) fn meet(&self, wait: u64, node: usize) {
        self.nodes[node].met.fetch_max(wait, Ordering::SeqCst);
    }

    /// Whether the node met the last wait that had to do with it.
    pub(super) fn is_fresh(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        node.met.load(Ordering::SeqCst) >= node.missed.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_missed_a_wait_is_fresh_again_after_a_later_one() {
        let freshness = Freshness::new(2);
        assert!(freshness.is_fresh(0) && freshness.is_fresh(1), "nobody has waited yet");
        let (first, second, third) = (freshness.begin(), freshness.begin(), freshness.begin());
        freshness.end(second, |node| node == 0);
        assert!(freshness.is_fresh(0) && !freshness.is_fresh(1));
        freshness.end(first, |_| true);
        assert!(!freshness.is_fresh(1), "the wait that it met began before the one that it missed");
        freshness.end(third, |_| true);
        assert!(freshness.is_fresh(1));
    }
}
