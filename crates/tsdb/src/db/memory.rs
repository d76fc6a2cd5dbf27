//! What the engine holds in memory, and what it does where that is too much.
//!
//! The head is bounded by who appends: it is told to flush at [`Options::head_bytes_max`](super::Options::head_bytes_max) and to wait at twice as much, so
//! that one half is filled while the other is written. Both count the samples, those that a flush writes, and what is known of the series. Where that last part
//! is the larger one, a flush forgets all series that have no sample since: the price is that their next samples find them unknown, the gain that
//! churn cannot fill the memory. Writing takes what it takes where samples of the head are saved, since else nothing is ever freed; a merge is given up
//! where it takes too much.

use std::sync::PoisonError;

use model::{Budget, Claim};

use super::orders::Orders;
use super::{Db, View};
use crate::block::Cache;
use crate::head::Frozen;

/// What memory the parts of an engine may hold.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// For the newest samples and what is known of their series. Bounded by [`Options::head_bytes_max`](super::Options::head_bytes_max), and
    /// told here to others.
    pub head: Budget,
    /// For writing blocks. Merges stop at its bound, flushes do not.
    pub writing: Budget,
    /// For the index of blocks, which is told here to others.
    pub index: Budget,
}

/// What the engine holds of each.
#[derive(Debug, Default)]
pub(super) struct Account {
    head: Claim,
    index: Claim,
}

impl Account {
    pub(super) fn new(memory: &Memory) -> Self {
        Account { head: memory.head.claim(), index: memory.index.claim() }
    }

    /// Tells what the indexes of these blocks take, their pages in memory, and what is known of their orders.
    pub(super) fn tell_index(&self, view: &View, cache: &Cache, orders: &Orders) {
        let tops: usize = view.blocks.iter().map(|(_, block)| block.index.bytes()).sum();
        self.index.set(tops + cache.figures().bytes + orders.figures().bytes);
    }
}

impl Db {
    /// Whether the head has reached its bound.
    pub fn should_flush(&self) -> bool {
        self.view().frozen.is_some() || self.head.bytes() + self.head.registry_bytes() >= self.options.head_bytes_max
    }

    /// Whether flushes do not keep up, so that whoever appends has to wait.
    pub fn is_over_budget(&self) -> bool {
        self.head_held() >= self.options.head_bytes_max.saturating_mul(2)
    }

    /// Memory of the head, what is being written included, in bytes.
    pub(super) fn head_held(&self) -> usize {
        let frozen = self.view().frozen.as_ref().map_or(0, |frozen| frozen.bytes());
        self.head.bytes() + self.head.registry_bytes() + frozen
    }

    /// Tells others what the head holds.
    pub(super) fn tell_head(&self) {
        self.account.head.set(self.head_held());
    }

    /// Forgets series that are not written any more, and where they take too much all those that are not written now.
    pub(super) fn forget_series(&self, flushed: &Frozen) {
        let all = self.head.registry_bytes() > self.options.head_bytes_max / 2;
        for shard in 0.. {
            let _nobody_looks = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            if !self.head.forget(shard, flushed, all) {
                break;
            }
        }
        self.tell_head();
    }
}
