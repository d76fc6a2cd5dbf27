//! What the engine counts of its memory, beside what it really allocates: while samples come, while they are written, while blocks of distinct series are merged,
//! and while all of it is asked for at once.

#![expect(clippy::print_stderr, reason = "the ratios are worth a look")]

mod churning;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use churning::labels;
use model::{Budget, Cancel, Columns, Matcher, Sample, SelectRequest, SeriesSource as _, TimeRange, Want};
use tsdb::{Db, Memory, Options};

/// The system's allocator, and how many bytes are allocated, now and at most.
struct Counting {
    live: AtomicUsize,
    peak: AtomicUsize,
}

#[global_allocator]
static ALLOCATED: Counting = Counting { live: AtomicUsize::new(0), peak: AtomicUsize::new(0) };

impl Counting {
    fn add(&self, bytes: usize) {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(live, Ordering::Relaxed);
    }

    /// Does something, and gives how many bytes there were at most meanwhile.
    fn peak_of<T>(&self, work: impl FnOnce() -> T) -> (T, usize) {
        self.peak.store(self.live.load(Ordering::Relaxed), Ordering::Relaxed);
        (work(), self.peak.load(Ordering::Relaxed))
    }
}

#[expect(unsafe_code, reason = "an allocator is one by this trait; each call is passed on as it came")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.add(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        self.live.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be there for a moment.
        self.add(size);
        let moved = unsafe { System.realloc(at, layout, size) };
        self.live.fetch_sub(layout.size(), Ordering::Relaxed);
        moved
    }
}

const SERIES: usize = 20_000;
const SAMPLES: i64 = 8;
const BLOCKS: usize = 4;
const START_MS: i64 = 20_700 * 86_400_000;

fn append(db: &Db, block: usize) {
    for part in 0..10 {
        let mut batch = db.begin();
        for at in 0..SERIES / 10 {
            let number = block * SERIES + part * (SERIES / 10) + at;
            let t = |n: i64| START_MS + (block as i64 * SAMPLES + n) * 15_000;
            let v = |n: i64| ((n * 31 + number as i64 * 17) % 4096) as f64 * 0.37;
            let samples: Vec<Sample> = (0..SAMPLES).map(|n| Sample { t: t(n), v: v(n) }).collect();
            batch.append(labels(number).as_ref(), &samples);
        }
        batch.finish(0, (block * 10 + part) as i64 + 1);
    }
}

/// What is not counted: the tables of the engine itself, and buffers of a fixed size.
const FIXED: usize = 2 << 20;

/// Holds what was allocated against what was counted, which may be a tenth less.
fn check(what: &str, counted: usize, allocated: usize) {
    // Shown with `--nocapture`.
    eprintln!("{what}: {counted} bytes are counted, {allocated} allocated: {:.2}", allocated as f64 / counted as f64);
    assert!(allocated <= counted + counted / 10 + FIXED, "{what}: {counted} bytes are counted, {allocated} allocated");
}

#[test]
fn what_is_allocated_is_counted_but_for_a_tenth() {
    let dir = tempfile::tempdir().expect("directory");
    let budget = |what| Budget::new(what, usize::MAX);
    let memory = Memory { head: budget("head"), writing: budget("writing"), index: budget("index") };
    let options = Options { memory: memory.clone(), index_cache_bytes: 8 << 20, ..Options::default() };
    let before = ALLOCATED.live.load(Ordering::Relaxed);
    let db = Db::open(dir.path(), options).expect("opens");
    let held = || memory.head.held() + memory.index.held();
    for block in 0..BLOCKS {
        let ((), peak) = ALLOCATED.peak_of(|| append(&db, block));
        let counted = held();
        check("appending", counted, peak - before);
        let (_, peak) = ALLOCATED.peak_of(|| db.flush().expect("flushes"));
        check("flushing", counted + memory.writing.peak(), peak - before);
    }
    let written = memory.writing.peak();
    let (_, peak) = ALLOCATED.peak_of(|| assert!(db.compact(&Cancel::default()).expect("merges")));
    assert!(memory.writing.peak() > written, "a merge takes more than a flush");
    check("merging", held() + memory.writing.peak(), peak - before);
    let queries = budget("queries");
    let request = SelectRequest {
        matchers: vec![Matcher::equal("cluster", "eu-1")],
        range: TimeRange::ALL,
        want: Want::Samples,
        series_max: usize::MAX,
        cancel: Cancel::with(queries.claim()),
    };
    let (found, peak) = ALLOCATED.peak_of(|| db.select(&request).expect("selects"));
    assert_eq!(found.series.len(), BLOCKS * SERIES);
    check("asking", held() + queries.held(), peak - before);
    let mut columns = Columns::default();
    let ((), peak) = ALLOCATED.peak_of(|| {
        for series in &found.series {
            columns.clear();
            series.data.read(TimeRange::ALL, &mut columns).expect("reads");
        }
    });
    check("reading", held() + queries.held(), peak - before);
}
