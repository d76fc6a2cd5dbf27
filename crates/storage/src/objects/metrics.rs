//! What storage tells of its object storage.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::bucket::{Operation, Outcome};

/// The metrics of object storage; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(super) requests: IntCounterVec,
    pub(super) sent_bytes: IntCounter,
    pub(super) received_bytes: IntCounter,
    /// Blocks of the manifest that are not in the bucket yet.
    pub(super) pending: IntGauge,
    pub(super) failing: IntGauge,
    pub(super) cache_bytes: IntGauge,
    pub(super) evicted: IntCounter,
    pub(super) page_hits: IntCounter,
    pub(super) page_misses: IntCounter,
    pub(super) page_evictions: IntCounter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let (counter, gauge) = (IntCounter::new::<&str, &str>, IntGauge::new::<&str, &str>);
        let requests = Opts::new(
            "weir_storage_objects_requests_total",
            "Requests to object storage, each attempt, by what became of it.",
        );
        let metrics = Metrics {
            requests: IntCounterVec::new(requests, &["operation", "outcome"])?,
            sent_bytes: counter(
                "weir_storage_objects_sent_bytes_total",
                "Bytes of blocks that were written to object storage.",
            )?,
            received_bytes: counter(
                "weir_storage_objects_received_bytes_total",
                "Bytes that were read from object storage.",
            )?,
            pending: gauge(
                "weir_storage_objects_pending_blocks",
                "Blocks that count and are not in object storage yet.",
            )?,
            failing: gauge(
                "weir_storage_objects_failing",
                "1 while object storage is behind since writing to it failed.",
            )?,
            cache_bytes: gauge("weir_storage_objects_local_bytes", "Size of the blocks that are on the local disk.")?,
            evicted: counter(
                "weir_storage_objects_evicted_blocks_total",
                "Blocks that were removed from the local disk for its bound.",
            )?,
            page_hits: counter(
                "weir_storage_objects_page_hits_total",
                "Pages of blocks in object storage that were in memory when read.",
            )?,
            page_misses: counter(
                "weir_storage_objects_page_misses_total",
                "Pages of blocks in object storage that were fetched.",
            )?,
            page_evictions: counter(
                "weir_storage_objects_page_evictions_total",
                "Pages that made room in memory for others.",
            )?,
        };
        for operation in Operation::ALL {
            for outcome in Outcome::ALL {
                metrics.requests.with_label_values(&[operation.name(), outcome.name()]);
            }
        }
        registry.register(Box::new(metrics.requests.clone()))?;
        let counters = [&metrics.sent_bytes, &metrics.received_bytes, &metrics.evicted];
        let pages = [&metrics.page_hits, &metrics.page_misses, &metrics.page_evictions];
        for counter in counters.into_iter().chain(pages) {
            registry.register(Box::new(counter.clone()) as Box<dyn Collector>)?;
        }
        for gauge in [&metrics.pending, &metrics.failing, &metrics.cache_bytes] {
            registry.register(Box::new(gauge.clone()))?;
        }
        Ok(metrics)
    }
}
