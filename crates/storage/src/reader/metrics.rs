//! What a reader tells of the nodes that it reads. The label `node` has as many values as there are addresses in the configuration.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// The metrics of a reader; clones share them.
#[derive(Clone)]
pub(super) struct Metrics {
    pub(super) up: IntGaugeVec,
    pub(super) failures: IntCounterVec,
    pub(super) partial: IntCounter,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Metrics {
            up: IntGaugeVec::new(
                Opts::new("weir_storage_reader_node_up", "1 if the storage node answered the last question, else 0."),
                &["node"],
            )?,
            failures: IntCounterVec::new(
                Opts::new(
                    "weir_storage_reader_failed_questions_total",
                    "Questions that a storage node did not answer.",
                ),
                &["node"],
            )?,
            partial: IntCounter::new(
                "weir_storage_reader_partial_answers_total",
                "Answers that lack partitions, since no node that holds them answered. Each said so.",
            )?,
        };
        registry.register(Box::new(metrics.up.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.partial.clone()))?;
        Ok(metrics)
    }
}
