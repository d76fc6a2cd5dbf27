//! Pages of blocks that were read from object storage, in memory, with a bound.
//!
//! A read takes whole pages: the series of one metric lie together in a block, so what the next of them needs is there already. Pages that lie together and are
//! missing are one request; who needs a page that another one is fetching waits for it. Reads that go on where an earlier request ended take twice as many pages each
//! time, as long as there is memory for it, so a query over much of a block is a few requests; the threads of a query read at a place of their own each, so some of such ends are known of a block.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use model::{Budget, Claim};

use super::metrics::Metrics;

/// Size of a page. A request takes some 20 ms before its first byte, in which half a megabyte comes over a fast network.
const PAGE_BYTES: u64 = 512 << 10;
/// Pages of one request: 16 MiB come well within the time-out of a request over a slow network.
const RUN_MAX: u64 = 32;
/// Memory of all pages, and of requests for them, where the share of the process is not less: two of each of the sixteen blocks that one merge reads at once,
/// and as many for four queries beside.
const BYTES_MAX: usize = 64 << 20;
/// One request takes no more than one part in so many of the memory, so that as many at once find room in it.
const REQUEST_SHARE: u64 = 4;

/// Objects of which it is known where requests ended. One that is not known begins with a page again.
const LAST_MAX: usize = 1024;
/// Requests of an object of which it is known: as many as threads read it at once, on most machines.
const ENDS_MAX: usize = 8;

/// An object and the number of a page of it.
type Key = (String, u64);

#[derive(Debug)]
enum Page {
    /// Somebody fetches it.
    Coming,
    /// With the time of its last use.
    There(Bytes, u64),
}

#[derive(Debug, Default)]
struct State {
    pages: HashMap<Key, Page>,
    bytes: usize,
    /// Bytes that are being fetched.
    coming: usize,
    /// Counts uses.
    now: u64,
    /// Of each object the pages after the last requests for it, and how many pages each had, the newest at the end.
    last: HashMap<String, VecDeque<(u64, u64)>>,
}

impl State {
    /// Places of other objects that are read on from.
    fn going_on_beside(&self, key: &str) -> usize {
        let others = self.last.iter().filter(|(of, _)| *of != key);
        let is_read = |of: &String, next: u64| self.pages.contains_key(&(of.clone(), next - 1));
        others.map(|(of, ends)| ends.iter().filter(|(next, pages)| *pages > 1 && is_read(of, *next)).count()).sum()
    }
}

/// The pages in memory.
#[derive(Debug)]
pub(super) struct Pages {
    state: Mutex<State>,
    arrived: Condvar,
    bytes_max: usize,
    /// Pages that one request takes.
    run_max: u64,
    /// What is in memory, of the share for it.
    held: Claim,
    metrics: Metrics,
}

/// Pages that are being fetched; those that did not come are left to others.
struct Fetching<'a> {
    pages: &'a Pages,
    key: &'a str,
    numbers: Range<u64>,
}

impl Pages {
    /// Pages that keep to the share of memory for them: those used longest ago go before others are fetched. Where all of it is being fetched at once, more is
    /// fetched all the same, and others have less.
    pub(super) fn new(memory: &Budget, metrics: Metrics) -> Self {
        let bytes_max = memory.bytes_max().min(BYTES_MAX);
        let run_max = (bytes_max as u64 / PAGE_BYTES / REQUEST_SHARE).clamp(1, RUN_MAX);
        Pages { state: Mutex::default(), arrived: Condvar::new(), bytes_max, run_max, held: memory.claim(), metrics }
    }

    /// The most that one request reads.
    pub(super) fn request_bytes_max(&self) -> u64 {
        self.run_max * PAGE_BYTES
    }

    /// Fills a buffer with the bytes of an object of a size from a place on; `fetch` reads a range of it.
    pub(super) fn read<E>(
        &self,
        (key, size): (&str, u64),
        at: u64,
        buffer: &mut [u8],
        fetch: impl Fn(Range<u64>) -> Result<Bytes, E>,
    ) -> Result<(), E> {
        let end = at + buffer.len() as u64;
        let mut number = at / PAGE_BYTES;
        let mut fill = |number: u64, page: &[u8]| {
            let start = number * PAGE_BYTES;
            let (from, to) = (at.max(start), end.min(start + page.len() as u64));
            buffer[(from - at) as usize..(to - at) as usize]
                .copy_from_slice(&page[(from - start) as usize..(to - start) as usize]);
        };
        while number * PAGE_BYTES < end {
            if let Some(page) = self.get(key, number) {
                fill(number, &page);
                number += 1;
                continue;
            }
            let missing = self.claim(key, number..end.div_ceil(PAGE_BYTES), size.div_ceil(PAGE_BYTES));
            if missing.numbers.is_empty() {
                // It came meanwhile.
                continue;
            }
            let range = number * PAGE_BYTES..size.min(missing.numbers.end * PAGE_BYTES);
            let bytes = fetch(range)?;
            let pages = missing.numbers.clone().zip(bytes.chunks(PAGE_BYTES as usize));
            pages.take_while(|(n, _)| n * PAGE_BYTES < end).for_each(|(n, page)| fill(n, page));
            number = missing.numbers.end;
            missing.arrived(&bytes);
        }
        Ok(())
    }

    /// Forgets an object.
    pub(super) fn forget(&self, key: &str) {
        let mut state = self.lock();
        let State { pages, bytes, last, .. } = &mut *state;
        last.remove(key);
        pages.retain(|(of, _), page| match page {
            Page::There(content, _) if of == key => {
                *bytes -= content.len();
                false
            }
            _ => true,
        });
        self.tell(&state);
    }

    /// Removes the pages that were used longest ago until all is within its bound.
    fn make_room(&self, state: &mut State) {
        while state.bytes + state.coming > self.bytes_max {
            // Of some hundred pages, once a request.
            let used = |page: &Page| if let Page::There(_, used) = page { Some(*used) } else { None };
            let oldest = state.pages.iter().filter_map(|(key, page)| Some((used(page)?, key))).min();
            let Some(oldest) = oldest.map(|(_, key)| key.clone()) else { break };
            if let Some(Page::There(page, _)) = state.pages.remove(&oldest) {
                state.bytes -= page.len();
                self.metrics.page_evictions.inc();
            }
        }
        self.tell(state);
    }

    fn tell(&self, state: &State) {
        self.held.set(state.bytes + state.coming);
    }

    /// A page that is there, or that somebody fetches.
    fn get(&self, key: &str, number: u64) -> Option<Bytes> {
        let key = (key.to_owned(), number);
        let mut state = self.lock();
        loop {
            state.now += 1;
            let now = state.now;
            match state.pages.get_mut(&key) {
                None => return None,
                Some(Page::There(bytes, used)) => {
                    *used = now;
                    self.metrics.page_hits.inc();
                    return Some(bytes.clone());
                }
                // Whoever fetches it has bounded tries.
                Some(Page::Coming) => state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Takes on to fetch the first of these pages of an object that has so many, and those after it up to one that is there or comes.
    fn claim<'a>(&'a self, key: &'a str, numbers: Range<u64>, count: u64) -> Fetching<'a> {
        let mut state = self.lock();
        let mut end = numbers.start;
        let ends = state.last.get(key).into_iter().flatten();
        // Half of the memory for all places that are read on from, so that none takes what was read for another: a merge reads many objects side by side. A place
        // of a single page is not one yet, and one of another object no more when what was read there last has made room.
        let here = ends.clone().filter(|(next, pages)| *pages > 1 || *next == numbers.start).count().max(1);
        let going_on = here + state.going_on_beside(key);
        let ahead_max = self.bytes_max as u64 / PAGE_BYTES / (2 * going_on) as u64;
        let ahead = ends.filter(|(next, _)| *next == numbers.start).map(|(_, pages)| 2 * pages).max();
        let ahead = ahead.unwrap_or(0).min(ahead_max);
        let last = numbers.end.max(numbers.start + ahead).min(numbers.start + self.run_max).min(count);
        while end < last && !state.pages.contains_key(&(key.to_owned(), end)) {
            state.pages.insert((key.to_owned(), end), Page::Coming);
            end += 1;
        }
        if state.last.len() >= LAST_MAX {
            state.last.clear();
        }
        let ends = state.last.entry(key.to_owned()).or_default();
        // The one that it goes on from, else the one that was longest ago.
        ends.retain(|(next, _)| *next != numbers.start && *next != end);
        if ends.len() == ENDS_MAX {
            ends.pop_front();
        }
        // Nobody goes on after the last page.
        if end < count {
            ends.push_back((end, end - numbers.start));
        }
        self.metrics.page_misses.inc_by(end - numbers.start);
        state.coming += ((end - numbers.start) * PAGE_BYTES) as usize;
        self.make_room(&mut state);
        Fetching { pages: self, key, numbers: numbers.start..end }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetching<'_> {
    fn arrived(&self, bytes: &Bytes) {
        let mut state = self.pages.lock();
        state.now += 1;
        let now = state.now;
        for n in self.numbers.clone() {
            let start = (n - self.numbers.start) * PAGE_BYTES;
            // Its own memory, so that a page does not keep the whole answer.
            let page =
                Bytes::copy_from_slice(&bytes[start as usize..(start + PAGE_BYTES).min(bytes.len() as u64) as usize]);
            state.bytes += page.len();
            state.pages.insert((self.key.to_owned(), n), Page::There(page, now));
        }
        // The answer is there beside them until this is dropped.
        self.pages.make_room(&mut state);
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        let mut state = self.pages.lock();
        state.coming -= ((self.numbers.end - self.numbers.start) * PAGE_BYTES) as usize;
        self.pages.tell(&state);
        for n in self.numbers.clone() {
            let key = (self.key.to_owned(), n);
            if matches!(state.pages.get(&key), Some(Page::Coming)) {
                state.pages.remove(&key);
            }
        }
        drop(state);
        self.pages.arrived.notify_all();
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one request is one range")]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// An object whose bytes tell their place.
    fn object(size: u64) -> Vec<u8> {
        (0..size).map(|at| (at / 7 + at / 65_536) as u8).collect()
    }

    fn pages(bytes_max: u64) -> Pages {
        Pages::new(
            &Budget::new("pages", bytes_max as usize),
            Metrics::new(&prometheus::Registry::new()).expect("registers"),
        )
    }

    struct Read<'a> {
        pages: &'a Pages,
        object: &'a [u8],
        asked: RefCell<Vec<Range<u64>>>,
    }

    impl Read<'_> {
        fn check(&self, range: Range<u64>, asked: &[Range<u64>]) {
            let mut buffer = vec![0; (range.end - range.start) as usize];
            let fetch = |range: Range<u64>| {
                self.asked.borrow_mut().push(range.clone());
                Ok::<_, ()>(Bytes::copy_from_slice(&self.object[range.start as usize..range.end as usize]))
            };
            self.pages.read(("o", self.object.len() as u64), range.start, &mut buffer, fetch).expect("reads");
            assert_eq!(buffer, self.object[range.start as usize..range.end as usize]);
            assert_eq!(self.asked.take(), asked, "{range:?}");
        }
    }

    const P: u64 = PAGE_BYTES;

    #[test]
    fn what_lies_together_is_one_request_and_is_read_once() {
        let (pages, object) = (pages(100 * P), object(5 * P + 10));
        let read = Read { pages: &pages, object: &object, asked: RefCell::default() };
        read.check(P + 5..P + 6, &[P..2 * P]);
        read.check(P..2 * P, &[]);
        read.check(5..4 * P, &[0..P, 2 * P..4 * P]);
        read.check(5 * P..5 * P + 10, &[5 * P..5 * P + 10]);
        read.check(0..5 * P + 10, &[4 * P..5 * P]);
        pages.forget("o");
        read.check(0..5 * P + 10, &[0..5 * P + 10]);
    }

    #[test]
    fn reads_that_go_on_take_more_each_time() {
        let (pages, object) = (pages(100 * P), object(8 * P - 5));
        let read = Read { pages: &pages, object: &object, asked: RefCell::default() };
        read.check(0..1, &[0..P]);
        read.check(P..P + 1, &[P..3 * P]);
        read.check(2 * P - 1..3 * P + 1, &[3 * P..7 * P]);
        read.check(6 * P..7 * P, &[]);
        read.check(7 * P..8 * P - 5, &[7 * P..8 * P - 5]);
    }

    #[test]
    fn reads_that_go_on_at_several_places_take_more_each_time_at_each_of_them() {
        let (pages, object) = (pages(1000 * P), object(400 * P));
        let read = Read { pages: &pages, object: &object, asked: RefCell::default() };
        let places = (0..ENDS_MAX as u64).map(|n| n * 20);
        for (from, taken) in [(0, 1), (1, 2), (3, 4), (7, 8)] {
            for at in places.clone().map(|place| place + from) {
                read.check(at * P..at * P + 1, &[at * P..(at + taken) * P]);
            }
        }
        // Nothing is known any more of the first, after as many others.
        for at in places.map(|place| 200 + place) {
            read.check(at * P..at * P + 1, &[at * P..(at + 1) * P]);
        }
        read.check(15 * P..15 * P + 1, &[15 * P..16 * P]);
    }

    #[test]
    fn single_pages_here_and_there_leave_the_memory_to_who_reads_on() {
        let (pages, object) = (pages(64 * P), object(100 * P));
        let read = Read { pages: &pages, object: &object, asked: RefCell::default() };
        for at in (0..ENDS_MAX as u64 - 1).map(|n| 80 + 2 * n) {
            read.check(at * P..at * P + 1, &[at * P..(at + 1) * P]);
        }
        for (at, taken) in [(0, 1), (1, 2), (3, 4), (7, 8), (15, 16)] {
            read.check(at * P..at * P + 1, &[at * P..(at + taken) * P]);
        }
    }

    #[test]
    fn what_is_read_ahead_at_several_places_fits_into_memory() {
        let (pages, object) = (pages(64 * P), object(168 * P));
        let read = Read { pages: &pages, object: &object, asked: RefCell::default() };
        for from in 0..19 {
            for place in 0..ENDS_MAX as u64 {
                let page = place * 20 + from;
                // One behind the other until there are four at once, which is as many as there is room for.
                let (first, taken) = match from {
                    0 => (0, 1),
                    1..=2 => (1, 2),
                    _ => (3 + (from - 3) / 4 * 4, 4),
                };
                let asked = if first == from { vec![page * P..(page + taken) * P] } else { Vec::new() };
                read.check(page * P..page * P + 1, &asked);
            }
        }
    }

    #[test]
    fn what_is_read_ahead_of_many_objects_side_by_side_is_fetched_once() {
        let (pages, object) = (pages(64 * P), object(40 * P));
        let (mut fetched, mut requests) = (0, 0);
        let keys: Vec<String> = (0..8).map(|n| n.to_string()).collect();
        // As a merge does: a piece of each in turn.
        for at in (0..80).map(|half| half * P / 2) {
            for key in &keys {
                let fetch = |range: Range<u64>| {
                    Ok::<_, ()>((
                        range.clone(),
                        Bytes::copy_from_slice(&object[range.start as usize..range.end as usize]),
                    ))
                };
                let asked = RefCell::new(Vec::new());
                let fetch = |range| {
                    fetch(range).map(|(range, bytes)| {
                        asked.borrow_mut().push(range);
                        bytes
                    })
                };
                pages.read((key, object.len() as u64), at, &mut [0; 10], fetch).expect("reads");
                requests += asked.borrow().len();
                fetched += asked.take().iter().map(|range| (range.end - range.start) / P).sum::<u64>();
            }
        }
        assert_eq!(fetched, 8 * 40, "each page once");
        assert!(requests <= 8 * 13, "{requests} requests");
    }

    #[test]
    fn the_page_that_was_used_longest_ago_makes_room() {
        // Two pages, and what one request takes.
        let (pages, object) = (pages(3 * P), object(5 * P));
        let read = Read { pages: &pages, object: &object, asked: RefCell::default() };
        read.check(0..1, &[0..P]);
        read.check(2 * P..2 * P + 1, &[2 * P..3 * P]);
        read.check(0..1, &[]);
        read.check(4 * P..4 * P + 1, &[4 * P..5 * P]);
        read.check(0..1, &[]);
        read.check(2 * P..2 * P + 1, &[2 * P..3 * P]);
        assert_eq!(pages.lock().bytes as u64, 2 * P);
        // More than there is room for is read all the same, a piece after the other.
        read.check(P..5 * P, &[P..2 * P, 3 * P..4 * P, 4 * P..5 * P]);
    }

    #[test]
    fn all_that_is_in_memory_is_told_and_requests_and_pages_keep_to_their_share() {
        let memory = Budget::new("pages", 16 * P as usize);
        let pages = Pages::new(&memory, Metrics::new(&prometheus::Registry::new()).expect("registers"));
        assert_eq!(pages.request_bytes_max(), 4 * P);
        let object = object(40 * P);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let (at, length) = (random.u64(..30 * P), random.usize(1..10 * P as usize));
            let mut buffer = vec![0; length];
            let fails = random.u8(..10) == 0;
            let fetch = |range: Range<u64>| {
                let bytes = (range.end - range.start) as usize;
                assert!(bytes as u64 <= 4 * P, "{bytes}");
                assert!(memory.held() >= bytes && memory.held() <= 16 * P as usize, "{}", memory.held());
                if fails {
                    return Err("no answer");
                }
                Ok(Bytes::copy_from_slice(&object[range.start as usize..range.end as usize]))
            };
            let read = pages.read(("o", object.len() as u64), at, &mut buffer, fetch);
            assert!(read.is_err() || buffer == object[at as usize..at as usize + length]);
            let State { bytes, coming, .. } = *pages.lock();
            assert_eq!((memory.held(), coming), (bytes, 0), "nothing is on its way");
        }
        assert!(memory.peak() > 15 * P as usize && memory.peak() <= 16 * P as usize, "{}", memory.peak());
        // Where more is fetched at once than there is room for, others have less.
        let fetching: Vec<_> = (0..5).map(|n| pages.claim("p", 4 * n..4 * n + 4, 100)).collect();
        assert_eq!((memory.held() as u64, pages.lock().bytes), (20 * P, 0));
        drop(fetching);
        assert_eq!(memory.held(), 0);
        pages
            .read(("o", object.len() as u64), 0, &mut [0], |_| {
                Ok::<_, ()>(Bytes::copy_from_slice(&object[..P as usize]))
            })
            .expect("reads");
        assert_eq!(memory.held() as u64, P);
        pages.forget("o");
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn a_page_that_could_not_be_fetched_is_fetched_by_the_next_one() {
        let (pages, object) = (pages(2 * P), object(P));
        let failed = pages.read(("o", P), 0, &mut [0], |_| Err("no answer"));
        assert_eq!(failed, Err("no answer"));
        Read { pages: &pages, object: &object, asked: RefCell::default() }.check(0..1, &[0..P]);
    }

    #[test]
    fn who_needs_a_page_that_another_one_fetches_waits_for_it() {
        let (pages, object) = (pages(2 * P), object(P));
        let asked = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for at in 0..8u64 {
                let (pages, object, asked) = (&pages, &object, &asked);
                scope.spawn(move || {
                    let mut buffer = [0];
                    let fetch = |_| {
                        asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        Ok::<_, ()>(Bytes::copy_from_slice(object))
                    };
                    pages.read(("o", P), at * 1000, &mut buffer, fetch).expect("reads");
                    assert_eq!(buffer[0], object[at as usize * 1000]);
                });
            }
        });
        assert_eq!(asked.into_inner(), 1);
    }
}
