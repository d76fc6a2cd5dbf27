//! One partition: its segments, the thread that writes it, and those who read it.
//!
//! Group commit: the writer takes every append that waits, writes them as one batch, syncs once, and tells all of them. While one
//! sync runs the next batch gathers, so a busy log syncs less often for each append and an idle one at once.
//!
//! Consumers read the newest records, which are kept in memory as they were given, so that in the usual case nothing is read
//! from disk or checked again. The price is a bounded amount of memory for each partition.

mod beat;
mod reading;
mod writer;

use std::collections::VecDeque;
use std::fs;
#[cfg(test)]
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::files::{create_dir, sync_dir};
use model::Claim;

use crate::groups::Groups;
use crate::metrics::Metrics;
use crate::producers::Producers;
use crate::segment::{Segment, corrupt};
use crate::{Bounds, Error, Record};
pub(crate) use beat::Beat;
pub(crate) use writer::Refused;
use writer::{Append, PanicGuard};

/// Largest payload of one record. A request of ten thousand series takes a tenth of it.
pub const RECORD_BYTES_MAX: usize = 8 << 20;
/// Appends that may wait for the writer of a partition, and so at most in one group: far more than there are requests at once.
pub(crate) const WAITING_MAX: usize = 4096;
/// Payload that may wait for the writer of a partition: more than a second of a disk that writes 50 MB/s.
pub(crate) const WAITING_BYTES_MAX: usize = 64 << 20;
/// Payload of one batch: as much as the disk takes in some milliseconds, so that a group does not wait long for its sync.
pub(crate) const BATCH_BYTES: usize = 4 << 20;
/// Last segments of which the producers are read back when the log is opened; see [`crate::producers`].
const PRODUCER_SEGMENTS: usize = 2;
/// Newest records kept in memory, a partition, where there is room: a second of four million samples a second over four partitions. Who reads later reads the file, which the
/// system still has in memory.
pub(crate) const CACHE_BYTES: usize = 8 << 20;
/// What a record in the cache takes beside its payload, so that empty ones are bounded too.
const CACHE_RECORD_BYTES: usize = size_of::<Record>();

/// A partition that is open.
pub(crate) struct Partition {
    number: u32,
    dir: PathBuf,
    state: Mutex<State>,
    /// Offset up to which everything is durable.
    end: watch::Sender<i64>,
    /// `None` once the partition is closed.
    appends: Mutex<Option<SyncSender<Append>>>,
    waiting_bytes: AtomicUsize,
    /// Bytes that were appended since the log was opened.
    written_bytes: AtomicU64,
    groups: Arc<Groups>,
    metrics: Metrics,
}

struct State {
    segments: VecDeque<Segment>,
    cache: VecDeque<Record>,
    cache_bytes: usize,
    /// The memory of the cache.
    claim: Claim,
    poisoned: Option<String>,
}

/// How a partition is laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) segment_bytes: u64,
    /// Of the newest records, which are kept in memory.
    pub(crate) cache_bytes: usize,
}

impl Partition {
    /// Opens or creates a partition and starts its writer, which ends when the partition is closed.
    pub(crate) fn open(
        dir: &Path,
        number: u32,
        layout: Layout,
        beat: Arc<Beat>,
        claim: Claim,
        groups: Arc<Groups>,
        metrics: Metrics,
    ) -> Result<(Arc<Self>, JoinHandle<()>), Error> {
        create_dir(dir)?;
        let segments = open_segments(dir, &metrics)?;
        let mut producers = Producers::new(metrics.forgotten_producers.clone());
        for segment in segments.iter().skip(segments.len().saturating_sub(PRODUCER_SEGMENTS)) {
            segment.each_header(|header| producers.wrote(header))?;
        }
        let end = segments.back().map_or(0, |s| s.next);
        let (appends, waiting) = sync_channel(WAITING_MAX);
        let partition = Arc::new(Partition {
            number,
            dir: dir.to_owned(),
            state: Mutex::new(State { segments, cache: VecDeque::new(), cache_bytes: 0, claim, poisoned: None }),
            end: watch::Sender::new(end),
            appends: Mutex::new(Some(appends)),
            waiting_bytes: AtomicUsize::new(0),
            written_bytes: AtomicU64::new(0),
            groups,
            metrics,
        });
        partition.groups.moved(number, partition.bounds());
        let own = partition.clone();
        let writer = std::thread::Builder::new()
            .name(format!("queue-{number}"))
            .spawn(move || {
                let _guard = PanicGuard(&own);
                own.write_all(&waiting, layout, &beat, producers);
            })
            .map_err(crate::files::io("starting the writer's thread"))?;
        Ok((partition, writer))
    }

    /// Refuses appends from now on; the writer ends when those that wait are done.
    pub(crate) fn close(&self) {
        lock(&self.appends).take();
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let end = *self.end.borrow();
        Bounds { start: self.state().segments.front().map_or(end, |s| s.base), end }
    }

    /// Bytes that were appended since the log was opened; only grows.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// Bytes and segments of the partition.
    pub(crate) fn size(&self) -> (u64, usize) {
        let state = self.state();
        (state.segments.iter().map(|s| s.bytes).sum(), state.segments.len())
    }

    /// Removes the oldest segment if `may` allows it, given its end, its newest time, and the bytes of the whole partition.
    pub(crate) fn remove_oldest(&self, may: impl FnOnce(&Segment, u64) -> bool) -> Result<bool, Error> {
        let oldest = {
            let state = self.state();
            let bytes = state.segments.iter().map(|s| s.bytes).sum();
            // The last one is being written.
            if state.segments.len() < 2 || !may(&state.segments[0], bytes) {
                return Ok(false);
            }
            state.segments[0].clone()
        };
        // Strictly in order, so that what is left has no gap: it is forgotten only once it is gone.
        oldest.remove()?;
        self.state().segments.pop_front();
        self.groups.moved(self.number, self.bounds());
        Ok(true)
    }

    /// Why the partition stopped, if it did.
    pub(crate) fn poisoned(&self) -> Option<String> {
        self.state().poisoned.clone()
    }

    /// Lets the writer write to another file from now on.
    #[cfg(test)]
    pub(crate) fn replace_file(&self, file: File) {
        self.state().segments.back_mut().expect("a segment").file = Arc::new(file);
    }

    /// Keeps the writer from its work while `held` runs.
    #[cfg(test)]
    pub(crate) fn hold_writer<T>(&self, held: impl FnOnce() -> T) -> T {
        let _state = self.state();
        held()
    }

    /// Keeps the writer from its work while `held` runs, and fails what waits then with `reason`.
    #[cfg(test)]
    pub(crate) fn hold_writer_then_poison<T>(&self, reason: &str, held: impl FnOnce() -> T) -> T {
        let mut state = self.state();
        let result = held();
        state.poisoned = Some(reason.to_owned());
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn open_segments(dir: &Path, metrics: &Metrics) -> Result<VecDeque<Segment>, Error> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        let entries: Result<Vec<_>, _> = fs::read_dir(dir)?.collect();
        Ok(entries?.into_iter().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "log")).collect())
    };
    let mut paths = read().map_err(crate::files::io(format!("reading {}", dir.display())))?;
    paths.sort();
    let mut segments: VecDeque<Segment> = VecDeque::new();
    for (at, path) in paths.iter().enumerate() {
        let (segment, torn) = Segment::open(path, at + 1 == paths.len())?;
        if let Some(torn) = torn {
            metrics.truncated_bytes.inc_by(torn.bytes);
            tracing::warn!(file = %path.display(), position = torn.position, bytes = torn.bytes, "cut a torn tail: {}", torn.reason);
        }
        if let Some(before) = segments.back().filter(|before| before.next != segment.base) {
            let reason = format!("offsets {}..{} are missing before it", before.next, segment.base);
            return Err(corrupt(path, 0, &reason));
        }
        segments.push_back(segment);
    }
    if let Some(last) = segments.back() {
        last.sync()?;
    }
    sync_dir(dir)?;
    Ok(segments)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The state is changed in single steps, so that a thread that panicked left it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
