//! What is known of the order in which the series of several blocks are, as long as there are these blocks.
//!
//! Making an order reads the labels of all series of the blocks once, which pays where many of them are asked for, or some again and again. A query that asks for a
//! good part of them makes it; for others it is made in the background, once what was asked for together is a part of what there is. Orders are kept within a
//! share of the memory for pages of indexes; the one that was asked for longest ago makes room.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};

use model::{Cancel, Held};

use super::{Background, Db, lock};
use crate::Error;
use crate::block::{Block, Order, Places};

/// An order is wanted once one of so many series of the blocks was asked for: what telling those apart took is a tenth of what making it does.
const ASKED: u64 = 64;
/// A query that asks for one of so many makes it.
const ASKED_AT_ONCE: u64 = 4;
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
    /// Told of [`State::wanted`] and [`State::is_ended`].
    wants: Condvar,
    made: AtomicU64,
    too_large: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Blocks of which an order is to be made.
    wanted: Option<Numbers>,
    /// None is made in the background any more.
    is_ended: bool,
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
            wants: Condvar::new(),
            made,
            too_large,
        }
    }

    /// An order of these blocks, given with their numbers, of which so many series are asked for; `None` where it is not worth to make one at once, or there is
    /// too little memory for it.
    pub(super) fn of(&self, blocks: &[(u64, &Block)], series: u64, cancel: &Cancel) -> Result<Option<Ordered>, Error> {
        let numbers: Numbers = blocks.iter().map(|(number, _)| *number).collect();
        let find = || lock(&self.state).find(&numbers);
        if let Some(ordered) = find() {
            return Ok(Some(ordered));
        }
        let all: u64 = blocks.iter().map(|(_, block)| block.series() as u64).sum();
        let mut state = lock(&self.state);
        let asked = state.ask(&numbers, series);
        if asked != TOO_MANY && series.saturating_mul(ASKED_AT_ONCE) < all {
            if asked.saturating_mul(ASKED) >= all {
                state.wanted = Some(numbers);
                self.wants.notify_one();
            }
            return Ok(None);
        }
        drop(state);
        if asked == TOO_MANY {
            self.too_large.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        self.make(blocks, cancel, cancel.claim().hold())
    }

    /// Makes an order of blocks, unless there is one. `None` where another one is being made, or there is too little memory for it.
    fn make(&self, blocks: &[(u64, &Block)], cancel: &Cancel, mut held: Held) -> Result<Option<Ordered>, Error> {
        let numbers: Numbers = blocks.iter().map(|(number, _)| *number).collect();
        let find = || lock(&self.state).find(&numbers);
        let largest = blocks.iter().map(|(_, block)| block.series()).max().unwrap_or(0);
        if Order::bytes_min(blocks.len(), largest) > self.bytes_max {
            self.too_large.fetch_add(1, Ordering::Relaxed);
            lock(&self.state).ask(&numbers, TOO_MANY);
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
        let order = Order::of(&indexes, cancel, &mut held);
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

    /// Waits until an order is wanted, and takes that; `None` once no more are to be made.
    fn wanted(&self) -> Option<Numbers> {
        let is_idle = |state: &mut State| state.wanted.is_none() && !state.is_ended;
        let mut state = self.wants.wait_while(lock(&self.state), is_idle).unwrap_or_else(PoisonError::into_inner);
        state.wanted.take().filter(|_| !state.is_ended)
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

impl Db {
    /// Waits until queries want an order of the series of some blocks, and makes it on a thread that stands back. Whether there will be more: not after
    /// [`Db::end_orders`].
    pub fn make_wanted_order(&self, cancel: &Cancel) -> Result<bool, Error> {
        let Some(numbers) = self.orders.wanted() else { return Ok(false) };
        let view = self.view();
        let of = |number: &u64| view.blocks.iter().find(|(entry, _)| entry.number() == *number);
        let blocks: Option<Vec<(u64, &Block)>> =
            numbers.iter().map(|number| of(number).map(|(_, block)| (*number, &**block))).collect();
        // Those that were merged meanwhile need none.
        if let Some(blocks) = blocks {
            let held = self.options.memory.writing.claim().hold();
            self.in_background(Background::Merge, || self.orders.make(&blocks, cancel, held))?;
        }
        Ok(true)
    }

    /// Ends the waiting of [`Db::make_wanted_order`].
    pub fn end_orders(&self) {
        lock(&self.orders.state).is_ended = true;
        self.orders.wants.notify_all();
    }
}
