//! Flushes, merges, downsampling and retention, each tried again when it fails.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use model::Cancel;
use queue::Log;
use runtime::{Backoff, Shutdown};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tsdb::{Background, Db};

use crate::Replica;
use crate::metrics::Metrics;

/// How often retention is looked at, and the figures of the engine are told.
pub(crate) const EXPIRE_INTERVAL: Duration = Duration::from_secs(30);
/// First and longest bound of the pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Lets a thread that writes blocks stand back behind those who wait for an answer. A head that fills up makes consumers wait for the flush, so that it gets
/// its share.
pub(crate) fn stand_back(what: Background) {
    runtime::priority::give_way(match what {
        Background::Flush => 5,
        Background::Merge => 10,
    });
}

/// Keeps the engine's files.
pub(crate) struct Keeper {
    pub(crate) db: Arc<Db>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) replica: Replica,
    pub(crate) metrics: Metrics,
    pub(crate) flush_interval: Duration,
    /// Told when the head has reached its bound.
    pub(crate) work: Arc<Notify>,
    /// Counts flushes.
    pub(crate) flushed: watch::Sender<u64>,
    /// Told when there are new blocks.
    pub(crate) merges: Arc<Notify>,
    /// Whether it tells the log how far that is not needed any more; else object storage does, once it has the blocks.
    pub(crate) tells_the_log: bool,
}

/// Why the flusher goes on.
enum Woken {
    Stop,
    /// The head is full, or was.
    Full,
    /// The interval is over, or the pause after a failure.
    Late,
}

impl Keeper {
    /// Writes the head to blocks, and tells the log how far it is not needed any more where nobody else does.
    pub(crate) fn flush(&self, handle: &Handle) -> Result<(), crate::Error> {
        let timer = self.metrics.flush_seconds.start_timer();
        let positions = self.db.flush()?;
        timer.observe_duration();
        self.succeeded("flush");
        self.flushed.send_modify(|n| *n += 1);
        self.merges.notify_one();
        for (partition, offset) in positions.into_iter().filter(|_| self.tells_the_log) {
            handle.block_on(self.log.commit(&self.replica.group(), partition, offset))?;
        }
        Ok(())
    }

    /// Flushes when the head is full and when the interval is over, until the shutdown is asked for.
    pub(crate) fn flush_loop(&self, mut shutdown: Shutdown, handle: Handle) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1, 11);
        let mut pause = self.flush_interval;
        loop {
            let woken = handle.block_on(async {
                tokio::select! {
                    () = shutdown.asked() => Woken::Stop,
                    // While a failure is waited out, a full head changes nothing.
                    () = self.work.notified(), if backoff.attempts() == 0 => Woken::Full,
                    () = tokio::time::sleep(pause) => Woken::Late,
                }
            });
            let is_due = match woken {
                Woken::Stop => return,
                // What was said while a flush ran may be of what that one took: another one so soon would write a small block.
                Woken::Full => self.db.should_flush(),
                Woken::Late => true,
            };
            if !is_due {
                continue;
            }
            pause = match self.flush(&handle) {
                Ok(()) => {
                    backoff.reset();
                    self.flush_interval
                }
                Err(error) => {
                    let pause = backoff.pause();
                    self.failed("flush", &error, pause);
                    pause
                }
            };
            self.metrics.stats(self.db.stats());
        }
    }

    /// Merges after flushes and expires by the clock, until the shutdown is asked for.
    pub(crate) fn merge_loop(&self, mut shutdown: Shutdown, handle: Handle) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1, 13);
        let mut told = HashSet::new();
        let cancel = Cancel::default();
        let (stop, on_stop) = (cancel.clone(), shutdown.clone());
        // A merge that runs is given up when the process is to end; nothing of it is lost.
        let watcher = handle.spawn(async move {
            let mut on_stop = on_stop;
            on_stop.asked().await;
            stop.cancel();
        });
        // After a start nothing is in the page cache, and queries need the disk for what they read first: merges have time until there is a new block, or a
        // pause later.
        let mut may_merge = false;
        while !shutdown.is_asked() {
            self.metrics.stats(self.db.stats());
            self.pass_over(&mut shutdown, &handle);
            // Before merges, which do not go past a block that is damaged.
            self.rebuild_lost(&mut told, &mut shutdown, &handle);
            let done = self.merge_and_expire(may_merge, &cancel);
            may_merge |= done.is_ok();
            let pause = match done {
                // The next span, after what has come to be done meanwhile.
                Ok(true) => {
                    backoff.reset();
                    continue;
                }
                Ok(false) => {
                    backoff.reset();
                    EXPIRE_INTERVAL
                }
                Err((_, tsdb::Error::Cancelled)) => break,
                Err((operation, error)) => {
                    let pause = backoff.pause();
                    self.failed(operation, &error.into(), pause);
                    pause
                }
            };
            handle.block_on(async {
                tokio::select! {
                    () = shutdown.asked() => {}
                    () = self.merges.notified(), if backoff.attempts() == 0 => {}
                    () = tokio::time::sleep(pause) => {}
                }
            });
        }
        watcher.abort();
    }

    /// Makes orders of the series of blocks as queries want them, until the shutdown is asked for.
    pub(crate) fn order_loop(&self, shutdown: Shutdown, handle: Handle) {
        let cancel = Cancel::default();
        let (stop, db, mut on_stop) = (cancel.clone(), self.db.clone(), shutdown);
        let watcher = handle.spawn(async move {
            on_stop.asked().await;
            stop.cancel();
            db.end_orders();
        });
        loop {
            match self.db.make_wanted_order(&cancel) {
                Ok(true) => {}
                Ok(false) | Err(tsdb::Error::Cancelled) => break,
                Err(error) => tracing::warn!(%error, "no order of the series of some blocks; queries do without"),
            }
        }
        watcher.abort();
    }

    /// Tells the log that this replica never reads the partitions of others, so that it does not hold them back.
    fn pass_over(&self, shutdown: &mut Shutdown, handle: &Handle) {
        let group = self.replica.group();
        let passed = handle.block_on(async {
            let all = async {
                for partition in (0..self.log.partitions()).filter(|partition| !self.replica.owns(*partition)) {
                    let end = self.log.bounds(partition).await?.end;
                    self.log.commit(&group, partition, end).await?;
                }
                Ok::<_, queue::Error>(())
            };
            tokio::select! { () = shutdown.asked() => Ok(()), passed = all => passed }
        });
        if let Err(error) = passed {
            self.failed("commit", &error.into(), EXPIRE_INTERVAL);
        }
    }

    /// Says whether samples were left out of a span, so that there may be another one. Fails with what could not be done.
    fn merge_and_expire(&self, may_merge: bool, cancel: &Cancel) -> Result<bool, (&'static str, tsdb::Error)> {
        let expired = self.db.expire(runtime::clock::now_ms()).map_err(|error| ("expire", error))?;
        self.succeeded("expire");
        self.metrics.expired_blocks.inc_by(expired as u64);
        if !may_merge {
            return Ok(false);
        }
        self.merge(cancel).map_err(|error| ("merge", error))?;
        let downsampled = self.db.downsample(cancel).map_err(|error| ("downsample", error))?;
        self.succeeded("downsample");
        Ok(downsampled)
    }

    /// Merges until nothing is left to be merged, and no block has what is deleted.
    pub(crate) fn merge(&self, cancel: &Cancel) -> Result<(), tsdb::Error> {
        loop {
            let timer = self.metrics.merge_seconds.start_timer();
            if !self.db.compact(cancel)? {
                timer.stop_and_discard();
                self.tell_put_off();
                self.succeeded("merge");
                return Ok(());
            }
            timer.observe_duration();
        }
    }

    /// Says so when a block could not be rid of what is deleted or expired.
    fn tell_put_off(&self) {
        let (blocks, before) = (self.db.stats().rewrites_put_off as i64, self.metrics.rewrites_put_off.get());
        if blocks > before {
            tracing::warn!(
                blocks,
                "blocks keep what is deleted or expired, which nobody is answered, since writing them anew takes more memory than there is for it; \
                 they are tried again in an hour. More memory (--memory-limit) lets them be written"
            );
        }
        self.metrics.rewrites_put_off.set(blocks);
    }

    pub(crate) fn failed(&self, operation: &str, error: &crate::Error, pause: Duration) {
        self.metrics.failures.with_label_values(&[operation]).inc();
        if matches!(error, crate::Error::Engine(error) if error.is_disk_full()) {
            self.metrics.disk_full.with_label_values(&[operation]).set(1);
            tracing::error!(
                operation,
                %error,
                ?pause,
                "the disk of storage is full; it is tried again until there is room. Storage reads on until its memory is at its bound, \
                 and the log keeps what is not in blocks"
            );
            return;
        }
        tracing::error!(operation, %error, ?pause, "a write to storage failed; it is tried again, and the log keeps what it would have written");
    }

    pub(crate) fn succeeded(&self, operation: &str) {
        let full = self.metrics.disk_full.with_label_values(&[operation]);
        if full.get() != 0 {
            full.set(0);
            tracing::info!(operation, "the disk of storage has room again");
        }
    }
}
