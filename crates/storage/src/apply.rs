//! From the log into the head, one thread for each partition.

use std::sync::Arc;
use std::time::Duration;

use model::{Claim, Exemplar, LabelsRef, Metadata, Samples};
use queue::payload::{Decoder, Visitor};
use queue::{Lag, Log, Record};
use runtime::{Backoff, Shutdown};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tsdb::{Batch, Db};

use crate::metrics::Metrics;

/// How long a fetch waits for the first record: only a bound, since a record ends the wait at once.
pub(crate) const FETCH_WAIT: Duration = Duration::from_secs(5);

/// How far a partition is read: the offset before which everything is visible to queries.
pub(crate) type Applied = watch::Sender<i64>;

/// Reads one partition.
pub(crate) struct Consumer {
    pub(crate) partition: u32,
    /// Payload that is fetched at once.
    pub(crate) fetch_bytes: usize,
    /// The memory of what is fetched and not applied yet.
    pub(crate) fetched: Claim,
    pub(crate) db: Arc<Db>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) applied: Arc<Applied>,
    pub(crate) lag: Arc<Lag>,
    pub(crate) metrics: Metrics,
    pub(crate) work: Arc<Notify>,
    pub(crate) flushed: watch::Receiver<u64>,
    pub(crate) failed: watch::Sender<Option<String>>,
}

/// Adds what a record holds to a batch.
struct Apply<'a> {
    batch: Batch<'a>,
    /// When the record was appended.
    timestamp_ms: i64,
    samples: u64,
    out_of_order: u64,
}

impl Visitor for Apply<'_> {
    fn series(&mut self, labels: LabelsRef<'_>, samples: Samples<'_>) {
        self.out_of_order += self.batch.append(labels, samples).out_of_order as u64;
        self.samples += samples.len() as u64;
    }

    fn metadata(&mut self, metadata: &Metadata) {
        self.batch.metadata(metadata, self.timestamp_ms);
    }

    fn exemplars(&mut self, labels: LabelsRef<'_>, exemplars: &[Exemplar]) {
        self.batch.exemplars(labels, exemplars);
    }
}

impl Consumer {
    /// Runs until the shutdown is asked for, or the log is damaged.
    pub(crate) fn run(mut self, mut next: i64, mut shutdown: Shutdown, handle: Handle) {
        let mut decoder = Decoder::default();
        let seed = u64::from(self.partition) + 1;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10), seed);
        while !shutdown.is_asked() {
            let (log, partition) = (self.log.clone(), self.partition);
            let fetched = handle.block_on(async {
                tokio::select! {
                    () = shutdown.asked() => None,
                    fetched = log.fetch(partition, next, self.fetch_bytes, FETCH_WAIT) => Some(fetched),
                }
            });
            match fetched {
                None => return,
                Some(Ok(records)) => {
                    backoff.reset();
                    self.lag.fetched(partition, &records);
                    self.fetched.set(records.iter().map(|record| record.payload.len()).sum());
                    next = self.apply(&records, &mut decoder, &mut shutdown, &handle).unwrap_or(next);
                    self.fetched.set(0);
                }
                Some(Err(queue::Error::OutOfRange { offset, start, end, .. })) => {
                    self.metrics.skipped.inc();
                    tracing::error!(
                        partition,
                        offset,
                        start,
                        end,
                        "the log does not have the position that was to be read; reading from its start"
                    );
                    next = start;
                    self.lag.moved(partition, next);
                    self.applied.send_replace(next);
                }
                Some(Err(error @ queue::Error::Corrupt { .. })) => {
                    tracing::error!(partition, %error, "storage stops");
                    self.failed.send_replace(Some(error.to_string()));
                    return;
                }
                Some(Err(error)) => {
                    let pause = backoff.pause();
                    self.lag.failed(partition, runtime::clock::now_ms());
                    tracing::warn!(partition, %error, ?pause, "cannot read the log; trying again");
                    handle.block_on(async {
                        tokio::select! { () = shutdown.asked() => {}, () = tokio::time::sleep(pause) => {} }
                    });
                }
            }
        }
    }

    /// Adds records to the head, each once there is room for it, and returns the offset after the last one that was added.
    fn apply(
        &mut self,
        records: &[Record],
        decoder: &mut Decoder,
        shutdown: &mut Shutdown,
        handle: &Handle,
    ) -> Option<i64> {
        let mut next = None;
        let depth = self.log.known_end(self.partition) - *self.applied.borrow();
        if depth > self.metrics.depth_peak.get() {
            self.metrics.depth_peak.set(depth);
        }
        for record in records {
            if !self.wait_for_room(shutdown, handle) {
                break;
            }
            let timestamp_ms = record.timestamp_ms;
            let mut apply = Apply { batch: self.db.begin(), timestamp_ms, samples: 0, out_of_order: 0 };
            if let Err(error) = decoder.decode(&record.payload, &mut apply) {
                // Its checksum is right, so it is what was written: nothing is gained by stopping for it.
                self.metrics.unreadable.inc();
                tracing::error!(partition = self.partition, offset = record.offset, %error, "skipped a record that cannot be read");
            }
            self.metrics.samples.inc_by(apply.samples);
            self.metrics.out_of_order.inc_by(apply.out_of_order);
            self.metrics.records.inc();
            apply.batch.finish(self.partition, record.offset + 1);
            // Who is told that it is visible may look at how much is not.
            self.lag.applied(self.partition, record);
            self.applied.send_replace(record.offset + 1);
            next = Some(record.offset + 1);
            if self.db.should_flush() {
                self.work.notify_one();
            }
        }
        next
    }

    /// Waits while flushes do not keep up: the head's memory is bounded, and what waits is safe in the log. Says whether there is room; there is none when
    /// the process is to end.
    fn wait_for_room(&mut self, shutdown: &mut Shutdown, handle: &Handle) -> bool {
        while self.db.is_over_budget() {
            if shutdown.is_asked() {
                return false;
            }
            self.metrics.throttled.inc();
            self.work.notify_one();
            handle.block_on(async {
                tokio::select! { () = shutdown.asked() => {}, _ = self.flushed.changed() => {} }
            });
        }
        true
    }
}
