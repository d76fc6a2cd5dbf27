//! One partition: its segments, the thread that writes it, and those who read it.
//!
//! Group commit: the writer takes every append that waits, writes them as one batch, syncs once, and tells all of them. While one
//! sync runs the next batch gathers, so a busy log syncs less often for each append and an idle one at once.
//!
//! Consumers read the newest records, which are kept in memory as they were given, so that in the usual case nothing is read
//! from disk or checked again. The price is a bounded amount of memory for each partition.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::batch::{self, Header};
use crate::files::{create_dir, is_full, sync_dir};
use crate::groups::Groups;
use crate::metrics::Metrics;
use crate::segment::{Segment, corrupt};
use crate::{Bounds, Error, Record};

/// Largest payload of one record. A request of ten thousand series takes a tenth of it.
pub const RECORD_BYTES_MAX: usize = 8 << 20;
/// Appends that may wait for the writer of a partition, and so at most in one group: far more than there are requests at once.
const WAITING_MAX: usize = 4096;
/// Payload that may wait for the writer of a partition: more than a second of a disk that writes 50 MB/s.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Payload of one batch: as much as the disk takes in some milliseconds, so that a group does not wait long for its sync.
const BATCH_BYTES: usize = 4 << 20;
/// Newest records kept in memory, a partition: some seconds at 100 MB/s over four partitions.
const CACHE_BYTES: usize = 32 << 20;
/// What a record in the cache takes beside its payload, so that empty ones are bounded too.
const CACHE_RECORD_BYTES: usize = size_of::<Record>();

struct Append {
    payload: Bytes,
    now_ms: i64,
    done: oneshot::Sender<Result<i64, Error>>,
}

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
    groups: Arc<Groups>,
    metrics: Metrics,
}

struct State {
    segments: VecDeque<Segment>,
    cache: VecDeque<Record>,
    cache_bytes: usize,
    poisoned: Option<String>,
}

/// How a partition is laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) segment_bytes: u64,
}

impl Partition {
    /// Opens or creates a partition and starts its writer, which ends when the partition is closed.
    pub(crate) fn open(
        dir: &Path,
        number: u32,
        layout: Layout,
        groups: Arc<Groups>,
        metrics: Metrics,
    ) -> Result<(Arc<Self>, JoinHandle<()>), Error> {
        create_dir(dir)?;
        let segments = open_segments(dir, &metrics)?;
        let end = segments.back().map_or(0, |s| s.next);
        let (appends, waiting) = sync_channel(WAITING_MAX);
        let partition = Arc::new(Partition {
            number,
            dir: dir.to_owned(),
            state: Mutex::new(State { segments, cache: VecDeque::new(), cache_bytes: 0, poisoned: None }),
            end: watch::Sender::new(end),
            appends: Mutex::new(Some(appends)),
            waiting_bytes: AtomicUsize::new(0),
            groups,
            metrics,
        });
        partition.groups.moved(number, partition.bounds());
        let own = partition.clone();
        let writer = std::thread::Builder::new()
            .name(format!("queue-{number}"))
            .spawn(move || {
                let _guard = PanicGuard(&own);
                own.write_all(&waiting, layout);
            })
            .map_err(crate::files::io("starting the writer's thread"))?;
        Ok((partition, writer))
    }

    /// Refuses appends from now on; the writer ends when those that wait are done.
    pub(crate) fn close(&self) {
        lock(&self.appends).take();
    }

    pub(crate) async fn append(&self, payload: Bytes, now_ms: i64) -> Result<i64, Error> {
        let size = payload.len();
        if size > RECORD_BYTES_MAX {
            self.metrics.rejected("too_large", 1);
            return Err(Error::Invalid(format!("record of {} bytes, at most {RECORD_BYTES_MAX} are taken", size)));
        }
        let (done, written) = oneshot::channel();
        {
            let appends = lock(&self.appends);
            let stopped = || {
                self.metrics.rejected("stopped", 1);
                Error::Poisoned(self.poisoned().unwrap_or_else(|| "shut down".to_owned()))
            };
            let full = |what: String| {
                self.metrics.rejected("waiting", 1);
                Error::Full(format!("{what} wait for partition {}", self.number))
            };
            let sender = appends.as_ref().ok_or_else(stopped)?;
            // Only this place adds, and under the lock: what was read can have become less, never more.
            let waiting = self.waiting_bytes.load(Ordering::Relaxed);
            if waiting > 0 && waiting + size > WAITING_BYTES_MAX {
                return Err(full(format!("{waiting} bytes")));
            }
            self.waiting_bytes.fetch_add(size, Ordering::Relaxed);
            sender.try_send(Append { payload, now_ms, done }).map_err(|e| {
                self.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
                match e {
                    TrySendError::Full(_) => full(format!("{WAITING_MAX} appends")),
                    TrySendError::Disconnected(_) => stopped(),
                }
            })?;
        }
        written.await.unwrap_or_else(|_| Err(Error::Poisoned("writer ended".to_owned())))
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let end = *self.end.borrow();
        Bounds { start: self.state().segments.front().map_or(end, |s| s.base), end }
    }

    pub(crate) async fn fetch(
        self: &Arc<Self>,
        from: i64,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, Error> {
        let bounds = self.bounds();
        if from < bounds.start || from > bounds.end {
            let Bounds { start, end } = bounds;
            return Err(Error::OutOfRange { partition: self.number, offset: from, start, end });
        }
        let mut end = self.end.subscribe();
        if tokio::time::timeout(wait, end.wait_for(|end| *end > from)).await.is_err() {
            return Ok(Vec::new());
        }
        if let Some(cached) = self.fetch_cached(from, bytes_max) {
            return Ok(cached);
        }
        let own = self.clone();
        tokio::task::spawn_blocking(move || own.fetch_from_disk(from, bytes_max))
            .await
            .unwrap_or_else(|_| Err(Error::Poisoned("reading was cancelled".to_owned())))
    }

    fn fetch_cached(&self, from: i64, bytes_max: usize) -> Option<Vec<Record>> {
        let state = self.state();
        let skip = usize::try_from(from - state.cache.front()?.offset).ok()?;
        let mut size = 0;
        let taken = state.cache.iter().skip(skip).take_while(|record| {
            let take = size < bytes_max;
            size += record.payload.len().max(1);
            take
        });
        Some(taken.cloned().collect())
    }

    fn fetch_from_disk(&self, from: i64, bytes_max: usize) -> Result<Vec<Record>, Error> {
        let segment = {
            let state = self.state();
            let after = state.segments.partition_point(|s| s.base <= from);
            after.checked_sub(1).map(|at| state.segments[at].clone())
        };
        // Retention may have taken it since the bounds were looked at.
        let Bounds { start, end } = self.bounds();
        let gone = Error::OutOfRange { partition: self.number, offset: from, start, end };
        segment.filter(|s| from < s.next).ok_or(gone)?.read(from, bytes_max)
    }

    /// Bytes, segments and the newest time of the partition.
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

    /// Keeps the writer from its work while `held` runs, and fails what waits then with `reason`.
    #[cfg(test)]
    pub(crate) fn hold_writer_then_poison<T>(&self, reason: &str, held: impl FnOnce() -> T) -> T {
        let mut state = self.state();
        let result = held();
        state.poisoned = Some(reason.to_owned());
        result
    }

    /// What the writer does after a write that failed so.
    #[cfg(test)]
    pub(crate) fn take_back(&self, error: std::io::Error) -> Error {
        let active = Active::of(self.state().segments.back().expect("a segment"));
        self.undo(&active, crate::files::io("writing")(error))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The writer's loop.
    fn write_all(&self, waiting: &Receiver<Append>, layout: Layout) {
        let (mut buffer, mut group) = (Vec::new(), Vec::new());
        while let Ok(first) = waiting.recv() {
            let mut size = first.payload.len();
            group.push(first);
            while size < BATCH_BYTES
                && group.len() < WAITING_MAX
                && let Ok(next) = waiting.try_recv()
            {
                size += next.payload.len();
                group.push(next);
            }
            let result = match self.poisoned() {
                Some(reason) => Err(Error::Poisoned(reason)),
                None => match self.write_group(&group, &mut buffer, layout) {
                    Err(error) if !matches!(error, Error::Full(_)) => Err(self.poison(&error)),
                    other => other,
                },
            };
            self.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
            if matches!(result, Err(Error::Full(_))) {
                self.metrics.rejected("disk_full", group.len());
            }
            for (append, delta) in group.drain(..).zip(0..) {
                // The receiver is gone when the client hung up; the record is in the log all the same.
                let _ = append.done.send(result.clone().map(|base: i64| base + delta));
            }
        }
    }

    /// Stops for good after a failure that leaves unknown what is on disk.
    fn poison(&self, error: &Error) -> Error {
        tracing::error!(partition = self.number, %error, "the log stops: what is on disk is not known any more");
        self.state().poisoned = Some(error.to_string());
        self.metrics.poisoned.set(1);
        self.metrics.stopped.send_replace(Some(error.clone()));
        Error::Poisoned(error.to_string())
    }

    /// Writes and syncs one batch, and returns its first offset.
    fn write_group(&self, group: &[Append], buffer: &mut Vec<u8>, layout: Layout) -> Result<i64, Error> {
        let active = self.active_segment(layout)?;
        let base = active.next;
        let records: Vec<(i64, Bytes)> = group.iter().map(|a| (a.now_ms, a.payload.clone())).collect();
        buffer.clear();
        batch::write(buffer, base, &records);
        let header = batch::header(buffer).map_err(|reason| corrupt(&active.path, active.bytes, reason))?;
        if let Err(error) = active.file.write_all_at(buffer, active.bytes) {
            let failed = crate::files::io(format!("writing to {}", active.path.display()))(error);
            return Err(self.undo(&active, failed));
        }
        let timer = self.metrics.fsync_seconds.start_timer();
        active.file.sync_data().map_err(crate::files::io(format!("fsync of {}", active.path.display())))?;
        timer.observe_duration();
        self.written(header, records);
        Ok(base)
    }

    /// Publishes what is durable now.
    fn written(&self, header: Header, records: Vec<(i64, Bytes)>) {
        self.metrics.records.inc_by(records.len() as u64);
        self.metrics.bytes.inc_by(header.bytes as u64);
        self.metrics.batch_records.observe(records.len() as f64);
        let mut state = self.state();
        if let Some(last) = state.segments.back_mut() {
            last.wrote(header);
        }
        for ((timestamp_ms, payload), offset) in records.into_iter().zip(header.base_offset..) {
            state.cache_bytes += payload.len() + CACHE_RECORD_BYTES;
            state.cache.push_back(Record { offset, timestamp_ms, payload });
        }
        while state.cache_bytes > CACHE_BYTES && state.cache.len() > 1 {
            state.cache_bytes -= state.cache.pop_front().map_or(0, |r| r.payload.len() + CACHE_RECORD_BYTES);
        }
        let start = state.segments.front().map_or(0, |s| s.base);
        drop(state);
        self.groups.moved(self.number, Bounds { start, end: header.next_offset() });
        self.end.send_replace(header.next_offset());
    }

    /// Takes back a write that failed: a full disk is told and gets better, anything else stops the log.
    fn undo(&self, active: &Active, failed: Error) -> Error {
        let full = matches!(&failed, Error::Io { source, .. } if is_full(source));
        if full && active.file.set_len(active.bytes).and_then(|()| active.file.sync_all()).is_ok() {
            return Error::Full(failed.to_string());
        }
        failed
    }

    /// The end of the last segment, or of a new one where that is full.
    fn active_segment(&self, layout: Layout) -> Result<Active, Error> {
        let base = {
            let state = self.state();
            match state.segments.back() {
                Some(last) if last.bytes < layout.segment_bytes => return Ok(Active::of(last)),
                Some(last) => {
                    if let Err(error) = last.write_index() {
                        tracing::warn!(%error, "index of a segment is not written; it will be made when the log is opened");
                    }
                    last.next
                }
                None => 0,
            }
        };
        let new = Segment::create(&self.dir, base)?;
        let active = Active::of(&new);
        self.state().segments.push_back(new);
        Ok(active)
    }
}

/// Stops the partition where a fault of this program ends its writer.
struct PanicGuard<'a>(&'a Partition);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison(&Error::Poisoned("the writer's thread panicked".to_owned()));
        }
    }
}

/// Where the next batch goes.
struct Active {
    file: Arc<File>,
    path: PathBuf,
    bytes: u64,
    next: i64,
}

impl Active {
    fn of(segment: &Segment) -> Active {
        Active { file: segment.file.clone(), path: segment.path.clone(), bytes: segment.bytes, next: segment.next }
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
