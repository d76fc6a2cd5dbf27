//! What storage tells of the memory of its blocks' indexes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::Collector;
use prometheus::{IntCounter, IntGauge};

/// The metrics; clones share them.
#[derive(Clone)]
pub(crate) struct Index {
    bytes: IntGauge,
    cache_bytes: IntGauge,
    hits: IntCounter,
    misses: IntCounter,
    evictions: IntCounter,
    order_bytes: IntGauge,
    orders: IntCounter,
    orders_too_large: IntCounter,
    /// How far the counters were told that the engine counts itself; two threads tell them.
    risen: Arc<[AtomicU64; 5]>,
}

impl Index {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        Ok(Index {
            bytes: IntGauge::new(
                "weir_storage_index_bytes",
                "Memory of the blocks' indexes beside their pages, about.",
            )?,
            cache_bytes: IntGauge::new(
                "weir_storage_index_cache_bytes",
                "Memory of pages of the blocks' indexes, and of times that chunks share.",
            )?,
            hits: IntCounter::new(
                "weir_storage_index_cache_hits_total",
                "Pages of indexes that were in memory when they were needed.",
            )?,
            misses: IntCounter::new("weir_storage_index_cache_misses_total", "Pages of indexes that were read.")?,
            evictions: IntCounter::new(
                "weir_storage_index_cache_evictions_total",
                "Pages of indexes that made room in memory for others.",
            )?,
            order_bytes: IntGauge::new(
                "weir_storage_index_order_bytes",
                "Memory of what is known of the order of the series of several blocks.",
            )?,
            orders: IntCounter::new(
                "weir_storage_index_orders_total",
                "Times that the series of several blocks were brought into one order to be counted.",
            )?,
            orders_too_large: IntCounter::new(
                "weir_storage_index_orders_too_large_total",
                "Times that there was too little memory for such an order, so that series were told apart by hashes.",
            )?,
            risen: Arc::default(),
        })
    }

    pub(crate) fn collectors(&self) -> [Box<dyn Collector>; 8] {
        [
            Box::new(self.bytes.clone()),
            Box::new(self.cache_bytes.clone()),
            Box::new(self.hits.clone()),
            Box::new(self.misses.clone()),
            Box::new(self.evictions.clone()),
            Box::new(self.order_bytes.clone()),
            Box::new(self.orders.clone()),
            Box::new(self.orders_too_large.clone()),
        ]
    }

    pub(crate) fn tell(&self, stats: &tsdb::Stats) {
        self.bytes.set(stats.index_bytes as i64);
        self.cache_bytes.set(stats.index_cache_bytes as i64);
        self.order_bytes.set(stats.index_order_bytes as i64);
        let told = [
            (&self.hits, stats.index_cache_hits),
            (&self.misses, stats.index_cache_misses),
            (&self.evictions, stats.index_cache_evictions),
            (&self.orders, stats.index_orders),
            (&self.orders_too_large, stats.index_orders_too_large),
        ];
        for (risen, (counter, to)) in self.risen.iter().zip(told) {
            counter.inc_by(to.saturating_sub(risen.fetch_max(to, Ordering::Relaxed)));
        }
    }
}
