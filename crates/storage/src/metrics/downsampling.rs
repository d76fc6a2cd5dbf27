//! What storage tells of samples that it leaves out of old blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::IntCounter;
use prometheus::core::Collector;

/// The metrics; clones share them.
#[derive(Clone)]
pub(crate) struct Downsampling {
    counters: [IntCounter; 5],
    /// How far they were told; two threads tell them what the engine counts itself.
    risen: Arc<[AtomicU64; 5]>,
}

impl Downsampling {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let blocks = "Blocks that were written with samples left out, each in the place of all of its span.";
        let read = "Samples of the blocks that they took the place of, those of series that stay whole included.";
        let kept = "Samples of the blocks that were written: so many fewer are those that were left out.";
        let bytes_read = "Size of the blocks that they took the place of.";
        let bytes_written = "Size of them.";
        Ok(Downsampling {
            counters: [
                IntCounter::new("weir_storage_downsampled_blocks_total", blocks)?,
                IntCounter::new("weir_storage_downsampling_read_samples_total", read)?,
                IntCounter::new("weir_storage_downsampling_kept_samples_total", kept)?,
                IntCounter::new("weir_storage_downsampling_read_bytes_total", bytes_read)?,
                IntCounter::new("weir_storage_downsampling_written_bytes_total", bytes_written)?,
            ],
            risen: Arc::default(),
        })
    }

    pub(crate) fn collectors(&self) -> impl Iterator<Item = Box<dyn Collector>> {
        self.counters.clone().into_iter().map(|counter| Box::new(counter) as Box<dyn Collector>)
    }

    pub(crate) fn tell(&self, done: &tsdb::Downsampled) {
        let told = [done.blocks, done.samples_before, done.samples_after, done.bytes_before, done.bytes_after];
        for ((counter, risen), to) in self.counters.iter().zip(self.risen.iter()).zip(told) {
            counter.inc_by(to.saturating_sub(risen.fetch_max(to, Ordering::Relaxed)));
        }
    }
}
