//! What storage tells of those who read it over the network.

use prometheus::{IntCounter, IntGauge, Registry};
use runtime::metrics::register_bounds;

/// The metrics of the routes.
pub(super) struct Metrics {
    running: IntGauge,
    pub(super) refused: IntCounter,
    pub(super) failed: IntCounter,
    pub(super) sent_samples: IntCounter,
    pub(super) sent_bytes: IntCounter,
}

/// Counts a read as running until it is dropped.
pub(super) struct Running(IntGauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Metrics {
            running: IntGauge::new("weir_storage_running_reads", "Reads of others that are being answered.")?,
            refused: IntCounter::new(
                "weir_storage_refused_reads_total",
                "Reads that were refused, since too many were being answered.",
            )?,
            failed: IntCounter::new(
                "weir_storage_failed_reads_total",
                "Reads that failed after their answer had begun; the reader was told.",
            )?,
            sent_samples: IntCounter::new("weir_storage_sent_samples_total", "Samples in answers to others.")?,
            sent_bytes: IntCounter::new("weir_storage_sent_bytes_total", "Bytes of answers to others.")?,
        };
        registry.register(Box::new(metrics.running.clone()))?;
        let bounds = [
            (
                "weir_storage_running_reads_max",
                "Bound of weir_storage_running_reads; more are refused.",
                super::READS_MAX as u64,
            ),
            (
                "weir_storage_waiting_questions_max",
                "Questions for freshness that may wait; more are refused.",
                super::WAITS_MAX as u64,
            ),
        ];
        register_bounds(registry, &bounds)?;
        for counter in [&metrics.refused, &metrics.failed, &metrics.sent_samples, &metrics.sent_bytes] {
            registry.register(Box::new(counter.clone()))?;
        }
        Ok(metrics)
    }

    pub(super) fn running(&self) -> Running {
        self.running.inc();
        Running(self.running.clone())
    }
}
