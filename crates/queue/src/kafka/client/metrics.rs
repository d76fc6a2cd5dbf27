//! What a client of the log tells of itself.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub(super) connections: IntCounter,
    pub(super) retries: IntCounter,
    rejected: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics; fails where they are there already.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Metrics {
            connections: IntCounter::new(
                "weir_queue_client_connections_total",
                "Connections to the log that were opened; more than a few an hour means that they are lost.",
            )?,
            retries: IntCounter::new(
                "weir_queue_client_retries_total",
                "Batches that were sent again, since the first time had no answer or a passing failure.",
            )?,
            rejected: IntCounterVec::new(
                Opts::new("weir_queue_client_rejected_appends_total", "Appends that were refused, by reason."),
                &["reason"],
            )?,
        };
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.retries.clone()))?;
        registry.register(Box::new(metrics.rejected.clone()))?;
        for reason in ["waiting", "too_large", "full", "late", "refused"] {
            metrics.rejected.with_label_values(&[reason]);
        }
        Ok(metrics)
    }

    pub(super) fn rejected(&self, reason: &str, appends: usize) {
        self.rejected.with_label_values(&[reason]).inc_by(appends as u64);
    }
}
