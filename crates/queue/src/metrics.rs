//! What the log tells of itself.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, exponential_buckets,
};
use tokio::sync::watch;

use crate::Error;

/// The metrics of a log; clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) records: IntCounter,
    pub(crate) bytes: IntCounter,
    pub(crate) batch_records: Histogram,
    pub(crate) fsync_seconds: Histogram,
    pub(crate) truncated_bytes: IntCounter,
    pub(crate) poisoned: IntGauge,
    pub(crate) disk_bytes: IntGaugeVec,
    pub(crate) segments: IntGaugeVec,
    pub(crate) forced_removals: IntCounter,
    pub(crate) depth_records: IntGaugeVec,
    pub(crate) peak_depth_records: IntGaugeVec,
    pub(crate) processed_records: IntCounterVec,
    pub(crate) duplicates: IntCounter,
    pub(crate) forgotten_producers: IntCounter,
    rejected: IntCounterVec,
    /// Set when a partition stopped by itself.
    pub(crate) stopped: watch::Sender<Option<Error>>,
}

impl Metrics {
    /// Registers the metrics; fails where they are there already.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Metrics {
            records: IntCounter::new("weir_queue_records_total", "Records that were appended and are durable.")?,
            bytes: IntCounter::new(
                "weir_queue_written_bytes_total",
                "Bytes of record batches that were written and synced.",
            )?,
            batch_records: Histogram::with_opts(
                HistogramOpts::new("weir_queue_batch_records", "Records that shared one write and one fsync.")
                    .buckets(exponential_buckets(1.0, 2.0, 11)?),
            )?,
            fsync_seconds: Histogram::with_opts(
                HistogramOpts::new("weir_queue_fsync_duration_seconds", "Duration of an fsync of a segment.")
                    .buckets(exponential_buckets(0.000_1, 2.5, 12)?),
            )?,
            truncated_bytes: IntCounter::new(
                "weir_queue_recovery_truncated_bytes_total",
                "Bytes of torn writes that were cut when the log was opened.",
            )?,
            poisoned: IntGauge::new("weir_queue_poisoned", "1 once a failed write or fsync has stopped the log.")?,
            disk_bytes: IntGaugeVec::new(Opts::new("weir_queue_disk_bytes", "Bytes of the segments."), &["partition"])?,
            segments: IntGaugeVec::new(Opts::new("weir_queue_segments", "Number of segments."), &["partition"])?,
            forced_removals: IntCounter::new(
                "weir_queue_forced_removals_total",
                "Segments that the hard limit removed before a consumer had read them.",
            )?,
            depth_records: IntGaugeVec::new(
                Opts::new("weir_queue_depth_records", "Records that a consumer group has not committed."),
                &["group"],
            )?,
            peak_depth_records: IntGaugeVec::new(
                Opts::new("weir_queue_peak_depth_records", "Largest depth since the log was opened."),
                &["group"],
            )?,
            processed_records: IntCounterVec::new(
                Opts::new("weir_queue_processed_records_total", "Records that a consumer group has committed."),
                &["group"],
            )?,
            duplicates: IntCounter::new(
                "weir_queue_duplicate_batches_total",
                "Batches that a producer sent again and that were in the log already.",
            )?,
            forgotten_producers: IntCounter::new(
                "weir_queue_forgotten_producers_total",
                "Producers whose batches are not remembered any more, since there are too many others.",
            )?,
            rejected: IntCounterVec::new(
                Opts::new("weir_queue_rejected_appends_total", "Appends that were refused, by reason."),
                &["reason"],
            )?,
            stopped: watch::Sender::new(None),
        };
        metrics.register(registry)?;
        for reason in ["waiting", "disk_full", "too_large", "stopped", "sequence"] {
            metrics.rejected.with_label_values(&[reason]);
        }
        Ok(metrics)
    }

    fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.records.clone()))?;
        registry.register(Box::new(self.bytes.clone()))?;
        registry.register(Box::new(self.batch_records.clone()))?;
        registry.register(Box::new(self.fsync_seconds.clone()))?;
        registry.register(Box::new(self.truncated_bytes.clone()))?;
        registry.register(Box::new(self.poisoned.clone()))?;
        registry.register(Box::new(self.disk_bytes.clone()))?;
        registry.register(Box::new(self.segments.clone()))?;
        registry.register(Box::new(self.forced_removals.clone()))?;
        registry.register(Box::new(self.depth_records.clone()))?;
        registry.register(Box::new(self.peak_depth_records.clone()))?;
        registry.register(Box::new(self.processed_records.clone()))?;
        registry.register(Box::new(self.duplicates.clone()))?;
        registry.register(Box::new(self.forgotten_producers.clone()))?;
        registry.register(Box::new(self.rejected.clone()))?;
        Ok(())
    }

    pub(crate) fn rejected(&self, reason: &str, appends: usize) {
        self.rejected.with_label_values(&[reason]).inc_by(appends as u64);
    }
}
