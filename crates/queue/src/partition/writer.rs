//! The writing side of a partition: appends that wait, and the thread that makes batches of them.
//!
//! A group of single records becomes one batch. A batch that came over the network stays as it came and is a write and a sync of
//! its own, also where several wait: opening the log tells a torn write from damage by there being at most one batch
//! that was not synced. The price: many foreign producers of one partition share no sync. Weir's own client makes its groups itself.
//!
//! Groups of records begin at a [`Beat`]. A batch shares no sync, so waiting gains it nothing.
//!
//! The file has blocks ahead of what is written, so that a sync need not save where the next ones lie. The file's size stays that of what was written.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TrySendError};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::beat::Beat;
use super::{BATCH_BYTES, CACHE_RECORD_BYTES, Layout, Partition, WAITING_BYTES_MAX, WAITING_MAX, lock};
use crate::batch::foreign::Foreign;
use crate::batch::{self, Header};
use crate::files::is_full;
use crate::producers::{Misfit, Producers};
use crate::segment::{Segment, corrupt};
use crate::{Bounds, Error, RECORD_BYTES_MAX, Record};

/// Bytes of a segment for which blocks are taken at once.
const AHEAD_BYTES: u64 = 8 << 20;

/// What waits for the writer.
pub(super) struct Append {
    entry: Entry,
    /// What it takes of the bound of waiting bytes.
    bytes: usize,
    done: oneshot::Sender<Result<i64, Refused>>,
}

enum Entry {
    Record { payload: Bytes, now_ms: i64 },
    Batch(Foreign),
}

/// Why an append is not in the log.
#[derive(Debug, Clone)]
pub(crate) enum Refused {
    /// The batch does not follow its producer's last one.
    Misfit(Misfit),
    /// The log could not.
    Log(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Log(error)
    }
}

impl From<Misfit> for Refused {
    fn from(misfit: Misfit) -> Self {
        Refused::Misfit(misfit)
    }
}

impl Partition {
    pub(crate) async fn append(&self, payload: Bytes, now_ms: i64) -> Result<i64, Error> {
        let bytes = payload.len();
        if bytes > RECORD_BYTES_MAX {
            self.metrics.rejected("too_large", 1);
            return Err(Error::Invalid(format!("record of {bytes} bytes, at most {RECORD_BYTES_MAX} are taken")));
        }
        match self.wait_for_writer(Entry::Record { payload, now_ms }, bytes).await {
            Ok(offset) => Ok(offset),
            Err(Refused::Log(error)) => Err(error),
            Err(Refused::Misfit(misfit)) => Err(Error::Invalid(misfit.to_string())),
        }
    }

    /// Appends a batch as it came, and resolves to the offset of its first record: where its producer sent it before, to that at
    /// which it stands since then.
    pub(crate) async fn append_batch(&self, batch: Foreign) -> Result<i64, Refused> {
        let bytes = batch.bytes.len();
        self.wait_for_writer(Entry::Batch(batch), bytes).await
    }

    async fn wait_for_writer(&self, entry: Entry, bytes: usize) -> Result<i64, Refused> {
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
            if waiting > 0 && waiting + bytes > WAITING_BYTES_MAX {
                return Err(full(format!("{waiting} bytes")).into());
            }
            self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
            sender.try_send(Append { entry, bytes, done }).map_err(|e| {
                self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                match e {
                    TrySendError::Full(_) => full(format!("{WAITING_MAX} appends")),
                    TrySendError::Disconnected(_) => stopped(),
                }
            })?;
        }
        written.await.unwrap_or_else(|_| Err(Error::Poisoned("writer ended".to_owned()).into()))
    }

    /// The writer's loop.
    pub(super) fn write_all(&self, waiting: &Receiver<Append>, layout: Layout, beat: &Beat, mut producers: Producers) {
        let (mut buffer, mut group, mut next) = (Vec::new(), Vec::new(), None);
        while let Some(first) = next.take().or_else(|| waiting.recv().ok()) {
            if let Entry::Record { .. } = first.entry {
                beat.wait();
            }
            next = gather(first, waiting, &mut group);
            let bytes = group.iter().map(|a: &Append| a.bytes).sum();
            let result = match self.poisoned() {
                Some(reason) => Err(Error::Poisoned(reason).into()),
                None => match self.write_group(&group, &mut buffer, layout, &mut producers) {
                    Err(Refused::Log(error)) if !matches!(error, Error::Full(_)) => Err(self.poison(&error).into()),
                    other => other,
                },
            };
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            match &result {
                Err(Refused::Log(Error::Full(_))) => self.metrics.rejected("disk_full", group.len()),
                Err(Refused::Misfit(_)) => self.metrics.rejected("sequence", group.len()),
                _ => {}
            }
            for (append, delta) in group.drain(..).zip(0..) {
                // The receiver is gone when the client hung up; the record is in the log all the same.
                let _ = append.done.send(result.clone().map(|base: i64| base + delta));
            }
        }
        let state = self.state();
        if let (None, Some(last)) = (&state.poisoned, state.segments.back()) {
            last.give_back();
        }
    }

    /// Stops for good after a failure that leaves unknown what is on disk.
    pub(super) fn poison(&self, error: &Error) -> Error {
        tracing::error!(partition = self.number, %error, "the log stops: what is on disk is not known any more");
        self.state().poisoned = Some(error.to_string());
        self.metrics.poisoned.set(1);
        self.metrics.stopped.send_replace(Some(error.clone()));
        Error::Poisoned(error.to_string())
    }

    /// Writes and syncs one batch, and returns its first offset.
    fn write_group(
        &self,
        group: &[Append],
        buffer: &mut Vec<u8>,
        layout: Layout,
        producers: &mut Producers,
    ) -> Result<i64, Refused> {
        if let [Append { entry: Entry::Batch(batch), .. }] = group
            && let Some(first) = producers.check(&batch.header)?
        {
            self.metrics.duplicates.inc();
            return Ok(first);
        }
        let active = self.active_segment(layout)?;
        let base = active.next;
        let records = encode(group, base, buffer);
        let header = batch::header(buffer).map_err(|reason| corrupt(&active.path, active.bytes, reason))?;
        self.take_blocks(&active, active.bytes + buffer.len() as u64, layout);
        if let Err(error) = active.file.write_all_at(buffer, active.bytes) {
            let failed = crate::files::io(format!("writing to {}", active.path.display()))(error);
            return Err(self.undo(&active, failed).into());
        }
        let timer = self.metrics.fsync_seconds.start_timer();
        active.file.sync_data().map_err(crate::files::io(format!("fsync of {}", active.path.display())))?;
        timer.observe_duration();
        producers.wrote(&header);
        self.written(header, records, layout.cache_bytes);
        Ok(base)
    }

    /// Publishes what is durable now.
    fn written(&self, header: Header, records: Vec<Record>, cache_bytes: usize) {
        self.metrics.records.inc_by(records.len() as u64);
        self.metrics.bytes.inc_by(header.bytes as u64);
        self.metrics.batch_records.observe(records.len() as f64);
        self.written_bytes.fetch_add(header.bytes as u64, Ordering::Relaxed);
        let mut state = self.state();
        if let Some(last) = state.segments.back_mut() {
            last.wrote(header);
        }
        for record in records {
            state.cache_bytes += record.payload.len() + CACHE_RECORD_BYTES;
            state.cache.push_back(record);
        }
        while state.cache_bytes > cache_bytes && state.cache.len() > 1 {
            state.cache_bytes -= state.cache.pop_front().map_or(0, |r| r.payload.len() + CACHE_RECORD_BYTES);
        }
        state.claim.set(state.cache_bytes);
        let start = state.segments.front().map_or(0, |s| s.base);
        // Before anybody can read it: who has read to the end asks for what comes after it.
        self.end.send_replace(header.next_offset());
        drop(state);
        self.groups.moved(self.number, Bounds { start, end: header.next_offset() });
    }

    /// Takes blocks for what is written up to `end`, and for what comes then.
    fn take_blocks(&self, active: &Active, end: u64, layout: Layout) {
        if end <= active.taken {
            return;
        }
        // None that a full segment would not use.
        let ahead = end.next_multiple_of(AHEAD_BYTES).min(layout.segment_bytes.max(end));
        crate::files::take_blocks(&active.file, active.taken.max(active.bytes), ahead);
        if let Some(last) = self.state().segments.back_mut() {
            last.taken = ahead;
        }
    }

    /// Takes back a write that failed: a full disk is told and gets better, anything else stops the log.
    fn undo(&self, active: &Active, failed: Error) -> Error {
        let full = matches!(&failed, Error::Io { source, .. } if is_full(source));
        if full && active.file.set_len(active.bytes).and_then(|()| active.file.sync_all()).is_ok() {
            // The blocks ahead went with it.
            if let Some(last) = self.state().segments.back_mut() {
                last.taken = 0;
            }
            return Error::Full(failed.to_string());
        }
        failed
    }

    /// What the writer does after a write that failed so.
    #[cfg(test)]
    pub(crate) fn take_back(&self, error: std::io::Error) -> Error {
        let active = Active::of(self.state().segments.back().expect("a segment"));
        self.undo(&active, crate::files::io("writing")(error))
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

/// Fills the group with what one write takes: one foreign batch, or records from `first` on. Gives back an append that waited
/// behind those and is none of them.
fn gather(first: Append, waiting: &Receiver<Append>, group: &mut Vec<Append>) -> Option<Append> {
    let mut bytes = first.bytes;
    let alone = matches!(first.entry, Entry::Batch(_));
    group.push(first);
    while !alone
        && bytes < BATCH_BYTES
        && group.len() < WAITING_MAX
        && let Ok(next) = waiting.try_recv()
    {
        if matches!(next.entry, Entry::Batch(_)) {
            return Some(next);
        }
        bytes += next.bytes;
        group.push(next);
    }
    None
}

/// The bytes of a group, and its records with their offsets.
fn encode(group: &[Append], base: i64, buffer: &mut Vec<u8>) -> Vec<Record> {
    buffer.clear();
    if let [Append { entry: Entry::Batch(given), .. }] = group {
        buffer.extend_from_slice(&given.bytes);
        batch::place(buffer, base);
        let placed = |r: &Record| Record { offset: base + r.offset, ..r.clone() };
        return given.records.iter().map(placed).collect();
    }
    let record = |append: &Append| match &append.entry {
        Entry::Record { payload, now_ms } => Some((*now_ms, payload.clone())),
        Entry::Batch(_) => None,
    };
    let records: Vec<(i64, Bytes)> = group.iter().filter_map(record).collect();
    batch::write(buffer, base, None, &records);
    let record = |((timestamp_ms, payload), offset)| Record { offset, timestamp_ms, payload };
    records.into_iter().zip(base..).map(record).collect()
}

/// Stops the partition where a fault of this program ends its writer.
pub(super) struct PanicGuard<'a>(pub(super) &'a Partition);

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
    /// As [`Segment::taken`].
    taken: u64,
    next: i64,
}

impl Active {
    fn of(segment: &Segment) -> Active {
        let Segment { bytes, taken, next, .. } = *segment;
        Active { file: segment.file.clone(), path: segment.path.clone(), bytes, taken, next }
    }
}
