//! What an engine tells of itself.

use std::sync::atomic::Ordering;

use super::{Db, lock};

/// Figures of an engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Series in the head.
    pub head_series: usize,
    /// Samples in the head that no flush has taken yet.
    pub head_samples: u64,
    /// Memory of the head, what is being written included, in bytes.
    pub head_bytes: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Size of their files.
    pub block_bytes: u64,
    /// Samples in them.
    pub block_samples: u64,
    /// Memory of the indexes of all blocks that is always there, about, in bytes.
    pub index_bytes: usize,
    /// Memory of their pages that were read, in bytes; [`Options::index_cache_bytes`] bounds it.
    pub index_cache_bytes: usize,
    /// Pages that were asked for and there, since the engine was opened.
    pub index_cache_hits: u64,
    /// Pages that were read.
    pub index_cache_misses: u64,
    /// Pages that had to go to make room for others.
    pub index_cache_evictions: u64,
    /// Memory of what is known of the order of the series of several blocks, in bytes; an eighth of [`Options::index_cache_bytes`] bounds it.
    pub index_order_bytes: usize,
    /// Orders that were made since the engine was opened.
    pub index_orders: u64,
    /// How often there was too little memory for one.
    pub index_orders_too_large: u64,
    /// Blocks that are damaged and not read.
    pub quarantined: usize,
    /// Flushes that were committed since the engine was opened.
    pub flushes: u64,
    /// Merges that were committed since the engine was opened.
    pub merges: u64,
    /// Merges that were given up since the engine was opened, as they took too much memory.
    pub merges_too_large: u64,
    /// Blocks that hold what is deleted or expired and are not written anew for now, as that took too much memory.
    pub rewrites_put_off: usize,
    /// Exemplars that are kept.
    pub exemplars: usize,
    /// Series that have any.
    pub exemplar_series: usize,
    /// Exemplars that went since the engine was opened because there were more than [`Options::exemplars_max`].
    pub evicted_exemplars: u64,
    /// What is known of metric families: entries.
    pub families: usize,
    /// How often one more was not kept since the engine was opened, as there were too many.
    pub refused_families: u64,
    /// Columns of times that were forgotten for want of memory while blocks were written: chunks that share one may not have found it.
    pub times_forgotten: u64,
    /// What became of blocks out of which samples were left.
    pub downsampled: Downsampled,
}

/// Blocks out of which samples were left since the engine was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Downsampled {
    /// Blocks that took the place of others.
    pub blocks: u64,
    /// Samples of those others.
    pub samples_before: u64,
    /// Samples that stay.
    pub samples_after: u64,
    /// Bytes of those others.
    pub bytes_before: u64,
    /// Bytes of the blocks in their place.
    pub bytes_after: u64,
}

impl Db {
    /// Figures, as of now.
    pub fn stats(&self) -> Stats {
        let (head, view) = (&self.head, self.view());
        // Whoever appends has the head and then these: so the head before them, and not both at once.
        let (head_series, head_samples) = (head.series(), head.samples());
        let head_bytes = self.head_held();
        let (cache, orders) = (self.cache.figures(), self.orders.figures());
        self.account.tell_index(&view, &self.cache, &self.orders);
        let (exemplars, families) = (lock(&self.exemplars), lock(&self.families));
        Stats {
            head_series,
            head_samples,
            head_bytes,
            blocks: view.blocks.len(),
            block_bytes: view.blocks.iter().map(|(_, b)| b.bytes()).sum(),
            block_samples: view.blocks.iter().map(|(_, b)| b.samples()).sum(),
            index_bytes: view.blocks.iter().map(|(_, b)| b.index.bytes()).sum(),
            index_cache_bytes: cache.bytes,
            index_cache_hits: cache.hits,
            index_cache_misses: cache.misses,
            index_cache_evictions: cache.evictions,
            index_order_bytes: orders.bytes,
            index_orders: orders.made,
            index_orders_too_large: orders.too_large,
            quarantined: self.warnings().len(),
            flushes: self.flushes.load(Ordering::Relaxed),
            merges: self.merges.load(Ordering::Relaxed),
            merges_too_large: self.merges_too_large.load(Ordering::Relaxed),
            rewrites_put_off: lock(&self.put_off).blocks(),
            exemplars: exemplars.all.len(),
            exemplar_series: exemplars.all.series(),
            evicted_exemplars: exemplars.all.evicted(),
            families: families.len(),
            refused_families: families.refused(),
            times_forgotten: self.times_forgotten.load(Ordering::Relaxed),
            downsampled: *lock(&self.downsampled),
        }
    }
}
