//! Pages of indexes that were read and unpacked, and columns of times that were decoded, of all blocks of an engine, in bounded memory.
//!
//! A page that is asked for gets a second chance: when room is needed a hand goes round over all pages, takes the mark of a use away where there is one, and
//! the page where there is none. Two who need a page at once both read it. A page of more than an eighth of the memory is not kept, so that none drives out
//! all others. Columns of times have a quarter of the memory to themselves: queries over long ranges go through many of them, and would drive out the pages.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use super::index::Values;
use crate::Error;

/// What a page takes beside its content: its entries in the table and the list.
const PAGE_BYTES: usize = 128;
/// The largest share of the memory that one page may have.
const SHARE: usize = 8;

/// The share of the memory that columns of times have.
const TIMES_SHARE: usize = 4;

/// A page of an index, or times that chunks share.
#[derive(Debug, Clone)]
pub(super) enum Page {
    /// Columns, of which each number is read where it lies.
    Columns(Arc<Vec<u8>>),
    /// Values of a label.
    Values(Arc<Values>),
    /// A column of times.
    Times(Arc<Vec<i64>>),
}

/// Which block, by the number that it has here, and where in its file.
type Key = (u64, u64);

/// The pages in memory.
#[derive(Debug)]
pub(crate) struct Cache {
    pages: Mutex<State>,
    times: Mutex<State>,
    next_block: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Places in the list.
    by_key: HashMap<Key, usize>,
    pages: Vec<Kept>,
    hand: usize,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Kept {
    key: Key,
    page: Page,
    bytes: usize,
    used: bool,
}

/// Figures of a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) bytes: usize,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) evictions: u64,
}

impl Page {
    fn bytes(&self) -> usize {
        let content = match self {
            Page::Columns(columns) => columns.capacity(),
            Page::Values(values) => values.heap_bytes(),
            Page::Times(times) => times.capacity() * size_of::<i64>(),
        };
        content + PAGE_BYTES
    }
}

impl Cache {
    /// For what reads directories without their engine.
    pub(crate) const OFFLINE_BYTES: usize = 64 << 20;

    /// An empty one, for so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Arc<Cache> {
        let of = |bytes_max| Mutex::new(State { bytes_max, ..State::default() });
        let times = bytes_max / TIMES_SHARE;
        Arc::new(Cache {
            pages: of(bytes_max - times),
            times: of(times),
            next_block: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        })
    }

    /// A number for a block, which no other has.
    pub(super) fn number(&self) -> u64 {
        self.next_block.fetch_add(1, Ordering::Relaxed)
    }

    /// The page at a place of a block, which is read if it is not here.
    pub(super) fn get(&self, block: u64, at: u64, read: impl FnOnce() -> Result<Page, Error>) -> Result<Page, Error> {
        self.get_of(&self.pages, (block, at), read)
    }

    /// As [`Cache::get`], of a column of times.
    pub(super) fn times(
        &self,
        block: u64,
        at: u64,
        read: impl FnOnce() -> Result<Vec<i64>, Error>,
    ) -> Result<Arc<Vec<i64>>, Error> {
        let read = || Ok(Page::Times(Arc::new(read()?)));
        match self.get_of(&self.times, (block, at), read)? {
            Page::Times(times) => Ok(times),
            // Nothing else is kept there.
            Page::Columns(_) | Page::Values(_) => Ok(Arc::default()),
        }
    }

    fn get_of(
        &self,
        state: &Mutex<State>,
        key: Key,
        read: impl FnOnce() -> Result<Page, Error>,
    ) -> Result<Page, Error> {
        if let Some(page) = lock(state).get(key) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(page);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let page = read()?;
        let bytes = page.bytes();
        let mut state = lock(state);
        if bytes <= state.bytes_max / SHARE {
            state.keep(Kept { key, page: page.clone(), bytes, used: false });
            while state.bytes > state.bytes_max && state.evict() {
                self.evictions.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(page)
    }

    /// Forgets what there is of a block.
    pub(super) fn forget(&self, block: u64) {
        for state in [&self.pages, &self.times] {
            let mut state = lock(state);
            let mut at = 0;
            while at < state.pages.len() {
                if state.pages[at].key.0 == block { state.remove(at) } else { at += 1 }
            }
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Figures {
            bytes: lock(&self.pages).bytes + lock(&self.times).bytes,
            hits: count(&self.hits),
            misses: count(&self.misses),
            evictions: count(&self.evictions),
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn get(&mut self, key: Key) -> Option<Page> {
        let kept = &mut self.pages[*self.by_key.get(&key)?];
        kept.used = true;
        Some(kept.page.clone())
    }

    fn keep(&mut self, kept: Kept) {
        // Another one may have read it meanwhile.
        if let Some(at) = self.by_key.get(&kept.key) {
            return self.pages[*at].used = true;
        }
        self.bytes += kept.bytes;
        self.by_key.insert(kept.key, self.pages.len());
        self.pages.push(kept);
    }

    /// Lets the next page go that was not used since the hand came by; whether there was one.
    fn evict(&mut self) -> bool {
        while !self.pages.is_empty() {
            let at = if self.hand < self.pages.len() { self.hand } else { 0 };
            if std::mem::take(&mut self.pages[at].used) {
                self.hand = at + 1;
                continue;
            }
            self.remove(at);
            // Past the one that took its place, which is the newest.
            self.hand = at + 1;
            return true;
        }
        false
    }

    fn remove(&mut self, at: usize) {
        let gone = self.pages.swap_remove(at);
        self.bytes -= gone.bytes;
        self.by_key.remove(&gone.key);
        if let Some(moved) = self.pages.get(at) {
            self.by_key.insert(moved.key, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(bytes: usize) -> Page {
        Page::Columns(Arc::new(vec![7; bytes]))
    }

    /// Asks for a page of 872 bytes, with 128 beside them; whether it was there.
    fn ask(cache: &Cache, block: u64, at: u64) -> bool {
        let mut was_there = true;
        let read = || {
            was_there = false;
            Ok(page(872))
        };
        cache.get(block, at, read).expect("reads");
        was_there
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_again_stays() {
        let cache = Cache::new(10_000 * 4 / 3 + 1);
        for at in 0..100 {
            assert!(!ask(&cache, 1, at));
            assert!(ask(&cache, 1, 0), "{at}");
            assert!(cache.figures().bytes <= 10_000);
        }
        assert_eq!(cache.figures(), Figures { bytes: 10_000, hits: 100, misses: 100, evictions: 90 });
        cache.get(1, 1000, || Ok(page(2000))).expect("reads");
        assert!(ask(&cache, 1, 0), "a page that is too large is not kept");
        assert_eq!(cache.figures().evictions, 90);
    }

    #[test]
    fn times_have_memory_of_their_own() {
        let cache = Cache::new(40_000);
        assert!(!ask(&cache, 1, 0));
        let decoded = |at: u64| {
            let mut was_there = true;
            let read = || {
                was_there = false;
                Ok(vec![at as i64; 109])
            };
            assert_eq!(*cache.times(1, at, read).expect("reads"), [at as i64; 109]);
            !was_there
        };
        // Of a place at which there is a page as well; ten have room, of which the first is asked for each time.
        for at in 0..100 {
            assert!(decoded(at) && !decoded(0) || at == 0, "{at}");
        }
        assert!(ask(&cache, 1, 0), "no page went for times");
        assert_eq!(cache.figures().bytes, 11_000);
        cache.times(2, 0, || Err(Error::Cancelled)).expect_err("fails");
        cache.forget(1);
        assert_eq!(cache.figures().bytes, 0);
    }

    #[test]
    fn what_cannot_be_read_is_not_kept_and_a_block_that_goes_takes_its_pages_along() {
        let cache = Cache::new(100_000);
        cache.get(1, 0, || Err(Error::Cancelled)).expect_err("fails");
        assert!(!ask(&cache, 1, 0));
        (0..20).for_each(|at| {
            ask(&cache, at % 2, at);
        });
        cache.forget(0);
        assert_eq!(cache.figures().bytes, 11_000);
        assert!((0..20).all(|at| ask(&cache, at % 2, at) == (at % 2 == 1)));
    }
}
