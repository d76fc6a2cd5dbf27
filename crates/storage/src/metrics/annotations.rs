//! What storage tells of exemplars and of metadata.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::Collector;
use prometheus::{IntCounter, IntGauge};

/// The metrics; clones share them.
#[derive(Clone)]
pub(crate) struct Annotations {
    exemplars: IntGauge,
    evicted_exemplars: IntCounter,
    families: IntGauge,
    refused_families: IntCounter,
    /// How far the counters were told that the engine counts itself; two threads tell them.
    risen: Arc<[AtomicU64; 2]>,
}

impl Annotations {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        Ok(Annotations {
            exemplars: IntGauge::new("weir_storage_exemplars", "Exemplars that are kept.")?,
            evicted_exemplars: IntCounter::new(
                "weir_storage_evicted_exemplars_total",
                "Exemplars that went before their time, as there were more than are kept.",
            )?,
            families: IntGauge::new("weir_storage_metadata_entries", "What is known of metric families: entries.")?,
            refused_families: IntCounter::new(
                "weir_storage_refused_metadata_total",
                "Entries of metadata that were not kept, as there were too many.",
            )?,
            risen: Arc::default(),
        })
    }

    pub(crate) fn collectors(&self) -> [Box<dyn Collector>; 4] {
        [
            Box::new(self.exemplars.clone()),
            Box::new(self.evicted_exemplars.clone()),
            Box::new(self.families.clone()),
            Box::new(self.refused_families.clone()),
        ]
    }

    pub(crate) fn tell(&self, stats: &tsdb::Stats) {
        self.exemplars.set(stats.exemplars as i64);
        self.families.set(stats.families as i64);
        let told =
            [(&self.evicted_exemplars, stats.evicted_exemplars), (&self.refused_families, stats.refused_families)];
        for (risen, (counter, to)) in self.risen.iter().zip(told) {
            counter.inc_by(to.saturating_sub(risen.fetch_max(to, Ordering::Relaxed)));
        }
    }
}
