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
    /// How far the counters were told that the engine counts itself; two threads tell them.
    risen: Arc<[AtomicU64; 3]>,
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
            risen: Arc::default(),
        })
    }

    pub(crate) fn collectors(&self) -> [Box<dyn Collector>; 5] {
        [
            Box::new(self.bytes.clone()),
            Box::new(self.cache_bytes.clone()),
            Box::new(self.hits.clone()),
            Box::new(self.misses.clone()),
            Box::new(self.evictions.clone()),
        ]
    }

    pub(crate) fn tell(&self, stats: &tsdb::Stats) {
        self.bytes.set(stats.index_bytes as i64);
        self.cache_bytes.set(stats.index_cache_bytes as i64);
        let told = [
            (&self.hits, stats.index_cache_hits),
            (&self.misses, stats.index_cache_misses),
            (&self.evictions, stats.index_cache_evictions),
        ];
        for (risen, (counter, to)) in self.risen.iter().zip(told) {
            counter.inc_by(to.saturating_sub(risen.fetch_max(to, Ordering::Relaxed)));
        }
    }
}
