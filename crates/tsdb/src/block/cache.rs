//! Pages of indexes that were read and unpacked, and columns of times that were decoded, of all blocks of an engine, in bounded memory.
//!
//! A page that is asked for gets a second chance: when room is needed a hand goes round over all pages, takes the mark of a use away where there is one, and
//! the page where there is none. Two who need a page at once both read it. A page of more than an eighth of the memory is not kept, so that none drives out
//! all others. Columns of times have a quarter of the memory to themselves: queries over long ranges go through many of them, and would drive out the pages.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hashbrown::HashMap;

use super::index::Values;
use crate::Error;

/// What a page takes beside its content: its entries in the table and the list.
const PAGE_BYTES: usize = 128;
/// The largest share of the memory that one page may have.
const SHARE: usize = 8;
/// The share of the memory that columns of times have.
const TIMES_SHARE: usize = 4;

/// A page of an index.
#[derive(Debug, Clone)]
pub(super) enum Page {
    /// Columns, of which each number is read where it lies.
    Columns(Bytes),
    /// Values of a label.
    Values(Arc<Values>),
}

/// Times that chunks share.
type Times = Arc<Vec<i64>>;

/// Which file, by its number, and where in it.
type Key = (u64, u64);

/// The pages in memory.
#[derive(Debug)]
pub(crate) struct Cache {
    pages: Mutex<State<Page>>,
    times: Mutex<State<Times>>,
}

#[derive(Debug)]
struct State<T> {
    /// Places in the list.
    by_key: HashMap<Key, usize>,
    pages: Vec<Kept<T>>,
    hand: usize,
    bytes: usize,
    bytes_max: usize,
    hits: u64,
    misses: u64,
    evictions: u64,
}

#[derive(Debug)]
struct Kept<T> {
    key: Key,
    page: T,
    bytes: usize,
    used: bool,
}

/// Figures of a cache; but for the bytes they are of pages alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) bytes: usize,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) evictions: u64,
}

/// What is kept has a size.
trait Weighed {
    /// Memory of its content.
    fn heap_bytes(&self) -> usize;
}

impl Weighed for Page {
    fn heap_bytes(&self) -> usize {
        match self {
            Page::Columns(columns) => columns.len(),
            Page::Values(values) => values.heap_bytes(),
        }
    }
}

impl Weighed for Times {
    fn heap_bytes(&self) -> usize {
        self.capacity() * size_of::<i64>()
    }
}

impl Cache {
    /// For what reads directories without their engine.
    pub(crate) const OFFLINE_BYTES: usize = 64 << 20;

    /// An empty one, for so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Arc<Cache> {
        let times = bytes_max / TIMES_SHARE;
        Arc::new(Cache { pages: Mutex::new(State::new(bytes_max - times)), times: Mutex::new(State::new(times)) })
    }

    /// The page at a place of a file, which is read if it is not here.
    pub(super) fn get(&self, file: u64, at: u64, read: impl FnOnce() -> Result<Page, Error>) -> Result<Page, Error> {
        get(&self.pages, (file, at), read)
    }

    /// Whether the page at a place of a file is here, which is no use of it.
    pub(super) fn has(&self, file: u64, at: u64) -> bool {
        lock(&self.pages).by_key.contains_key(&(file, at))
    }

    /// As [`Cache::get`], of a column of times.
    pub(super) fn times(
        &self,
        file: u64,
        at: u64,
        read: impl FnOnce() -> Result<Vec<i64>, Error>,
    ) -> Result<Times, Error> {
        get(&self.times, (file, at), || read().map(Arc::new))
    }

    /// Forgets what there is of a file.
    pub(super) fn forget(&self, file: u64) {
        lock(&self.pages).forget(file);
        lock(&self.times).forget(file);
    }

    pub(crate) fn figures(&self) -> Figures {
        let times = lock(&self.times).bytes;
        let pages = lock(&self.pages);
        let State { bytes, hits, misses, evictions, .. } = *pages;
        Figures { bytes: bytes + times, hits, misses, evictions }
    }
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn get<T: Clone + Weighed>(
    state: &Mutex<State<T>>,
    key: Key,
    read: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    if let Some(page) = lock(state).get(key) {
        return Ok(page);
    }
    let page = read()?;
    let bytes = page.heap_bytes() + PAGE_BYTES;
    let mut state = lock(state);
    if bytes <= state.bytes_max / SHARE {
        state.keep(Kept { key, page: page.clone(), bytes, used: false });
        while state.bytes > state.bytes_max && state.evict() {
            state.evictions += 1;
        }
    }
    Ok(page)
}

impl<T: Clone> State<T> {
    fn new(bytes_max: usize) -> Self {
        let (by_key, pages) = (HashMap::new(), Vec::new());
        State { by_key, pages, hand: 0, bytes: 0, bytes_max, hits: 0, misses: 0, evictions: 0 }
    }

    fn get(&mut self, key: Key) -> Option<T> {
        let Some(at) = self.by_key.get(&key) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        let kept = &mut self.pages[*at];
        kept.used = true;
        Some(kept.page.clone())
    }

    fn keep(&mut self, kept: Kept<T>) {
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

    fn forget(&mut self, file: u64) {
        let mut at = 0;
        while at < self.pages.len() {
            if self.pages[at].key.0 == file { self.remove(at) } else { at += 1 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(bytes: usize) -> Page {
        Page::Columns(vec![7; bytes].into())
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
