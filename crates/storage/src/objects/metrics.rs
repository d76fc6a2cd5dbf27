//! What storage tells of its object storage.

use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};

use super::bucket::{Operation, Outcome};

/// The metrics of object storage; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(super) requests: IntCounterVec,
    /// Of each attempt, until its answer was there as a whole or it was given up.
    pub(super) request_seconds: HistogramVec,
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
        // From 1 ms on a server beside it to 33 s, which is beyond the time-out.
        let request_seconds = HistogramOpts::new(
            "weir_storage_objects_request_duration_seconds",
            "Duration of a request to object storage, each attempt, with the whole of its answer.",
        )
        .buckets(exponential_buckets(0.001, 2.0, 16)?);
        let metrics = Metrics {
            requests: IntCounterVec::new(requests, &["operation", "outcome"])?,
            request_seconds: HistogramVec::new(request_seconds, &["operation"])?,
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
            metrics.request_seconds.with_label_values(&[operation.name()]);
            for outcome in Outcome::ALL {
                metrics.requests.with_label_values(&[operation.name(), outcome.name()]);
            }
        }
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.request_seconds.clone()))?;
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
