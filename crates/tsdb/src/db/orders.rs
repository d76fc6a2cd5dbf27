//! What is known of the order in which the series of several blocks are, as long as there are these blocks.
//!
//! Making an order reads the labels of all series of the blocks once, which pays where many of them are asked for, or some again and again. So it is made once
//! what was asked for together is a part of what they have. Orders are kept within a share of the memory for pages of indexes; the one that was asked
//! for longest ago makes room.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use model::Cancel;

use super::lock;
use crate::Error;
use crate::block::{Block, Order, Places};

/// An order is made once one of so many series of the blocks was asked for.
const ASKED: u64 = 16;
/// Sets of blocks of which it is known how much was asked for.
const SETS_MAX: usize = 64;
/// One of so many parts of the memory for pages of indexes may be orders.
const SHARE: usize = 8;

/// As many were asked for where an order turned out to be too large.
const TOO_MANY: u64 = u64::MAX;

/// Numbers of blocks, in the order of the manifest.
type Numbers = Vec<u64>;

/// The orders that are kept.
#[derive(Debug)]
pub(super) struct Orders {
    bytes_max: usize,
    state: Mutex<State>,
    /// Held by whoever makes one, so that two who need the same do not both.
    making: Mutex<()>,
    made: AtomicU64,
    too_large: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// From the one that was asked for longest ago to the last one.
    kept: Vec<Arc<Kept>>,
    /// How many series were asked for of sets of blocks that have none, the newest last.
    asked: Vec<(Numbers, u64)>,
}

#[derive(Debug)]
struct Kept {
    blocks: Numbers,
    order: Order,
}

/// An order that has some blocks, perhaps among others.
#[derive(Debug)]
pub(super) struct Ordered {
    kept: Arc<Kept>,
    at: Vec<usize>,
}

/// Figures of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) bytes: usize,
    pub(super) made: u64,
    pub(super) too_large: u64,
}

impl Ordered {
    /// Where the series of a block are, given by its place among those that were asked for.
    pub(super) fn places(&self, block: usize) -> &Places {
        &self.kept.order.places()[self.at[block]]
    }
}

impl State {
    fn find(&mut self, blocks: &[u64]) -> Option<Ordered> {
        let place = |kept: &Kept, number: &u64| kept.blocks.iter().position(|own| own == number);
        let (n, at) = self.kept.iter().enumerate().find_map(|(n, kept)| {
            let at: Option<Vec<usize>> = blocks.iter().map(|number| place(kept, number)).collect();
            Some((n, at?))
        })?;
        let kept = self.kept.remove(n);
        self.kept.push(kept.clone());
        Some(Ordered { kept, at })
    }

    /// Notes that so many series were asked for; how many were, together.
    fn ask(&mut self, blocks: &[u64], series: u64) -> u64 {
        let known = self.asked.iter().position(|(own, _)| own == blocks).map(|at| self.asked.remove(at));
        let asked = known.map_or(0, |(_, asked)| asked).saturating_add(series);
        if self.asked.len() >= SETS_MAX {
            self.asked.remove(0);
        }
        self.asked.push((blocks.to_vec(), asked));
        asked
    }

    fn bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.order.bytes()).sum()
    }
}

impl Orders {
    /// None yet, for an engine with so many bytes for pages of indexes.
    pub(super) fn new(index_cache_bytes: usize) -> Self {
        let (made, too_large) = (AtomicU64::new(0), AtomicU64::new(0));
        Orders {
            bytes_max: index_cache_bytes / SHARE,
            state: Mutex::default(),
            making: Mutex::default(),
            made,
            too_large,
        }
    }

    /// An order of these blocks, given with their numbers, of which so many series are asked for; `None` where it is not worth to make one, or there is too
    /// little memory for it.
    pub(super) fn of(&self, blocks: &[(u64, &Block)], series: u64, cancel: &Cancel) -> Result<Option<Ordered>, Error> {
        let numbers: Numbers = blocks.iter().map(|(number, _)| *number).collect();
        let find = || lock(&self.state).find(&numbers);
        if let Some(ordered) = find() {
            return Ok(Some(ordered));
        }
        let all: u64 = blocks.iter().map(|(_, block)| block.series() as u64).sum();
        let asked = lock(&self.state).ask(&numbers, series);
        if asked.saturating_mul(ASKED) < all {
            return Ok(None);
        }
        let largest = blocks.iter().map(|(_, block)| block.series()).max().unwrap_or(0);
        if asked == TOO_MANY || Order::bytes_min(blocks.len(), largest) > self.bytes_max {
            self.too_large.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        // Whoever comes while another one is made does without, as before there was any.
        let _one = match self.making.try_lock() {
            Ok(one) => one,
            Err(TryLockError::Poisoned(one)) => one.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        if let Some(ordered) = find() {
            return Ok(Some(ordered));
        }
        let indexes: Vec<_> = blocks.iter().map(|(_, block)| &block.index).collect();
        let order = Order::of(&indexes, cancel, &mut cancel.claim().hold());
        let is_too_large = order.as_ref().is_ok_and(|order| order.bytes() > self.bytes_max);
        if is_too_large || matches!(order, Err(Error::Memory(_))) {
            // Others tell series apart without one. That the query has too little memory now is no reason not to try again.
            self.too_large.fetch_add(1, Ordering::Relaxed);
            if is_too_large {
                lock(&self.state).ask(&numbers, TOO_MANY);
            }
            return Ok(None);
        }
        let order = order?;
        self.made.fetch_add(1, Ordering::Relaxed);
        let mut state = lock(&self.state);
        state.asked.retain(|(own, _)| *own != numbers);
        state.kept.push(Arc::new(Kept { blocks: numbers, order }));
        while state.bytes() > self.bytes_max {
            state.kept.remove(0);
        }
        let at = (0..blocks.len()).collect();
        Ok(state.kept.last().map(|kept| Ordered { kept: kept.clone(), at }))
    }

    /// Forgets those of which a block is not there any more.
    pub(super) fn keep(&self, is_there: impl Fn(u64) -> bool) {
        let mut state = lock(&self.state);
        let all_there = |blocks: &Numbers| blocks.iter().all(|number| is_there(*number));
        state.kept.retain(|kept| all_there(&kept.blocks));
        state.asked.retain(|(blocks, _)| all_there(blocks));
    }

    pub(super) fn figures(&self) -> Figures {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Figures { bytes: lock(&self.state).bytes(), made: count(&self.made), too_large: count(&self.too_large) }
    }
}
