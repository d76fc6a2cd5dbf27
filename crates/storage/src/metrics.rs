//! What storage tells of itself.

mod annotations;
mod downsampling;
mod index;

use std::sync::Arc;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntGauge, IntGaugeVec, Registry, core::Collector, exponential_buckets,
};
use queue::Lag;
use runtime::clock;
use runtime::metrics::{Disk, register_asked, register_bounds, register_disk};

use self::annotations::Annotations;
use self::downsampling::Downsampling;
use self::index::Index;
use crate::Args;
use crate::admin::{self, Operation};

/// Registers how far storage is behind the log and how full its disk is, which is asked for at each reading, and its bound.
pub(crate) fn register_asked_for(registry: &Registry, args: &Args, lag: &Arc<Lag>) -> Result<(), prometheus::Error> {
    let names = Disk { free: "weir_storage_disk_free_bytes", size: "weir_storage_disk_size_bytes" };
    register_disk(registry, names, &args.dir)?;
    let help =
        "Memory of the head at which it is written to blocks; at as much again meanwhile, reading the log waits.";
    let of_exemplars = "Exemplars that are kept; of more, the oldest go.";
    let of_index = "Memory for pages of the blocks' indexes.";
    let bounds = [
        ("weir_storage_head_bytes_max", help, args.head_bytes_max() as u64),
        ("weir_storage_index_cache_bytes_max", of_index, args.index_cache_bytes() as u64),
        ("weir_storage_exemplars_max", of_exemplars, args.storage_exemplars_max as u64),
    ];
    register_bounds(registry, &bounds)?;
    // What has the log stops when storage does.
    let (records, seconds) = (Arc::downgrade(lag), Arc::downgrade(lag));
    register_asked(
        registry,
        "weir_storage_queue_depth_records",
        "Records that are acknowledged and not yet visible to queries.",
        move || Some(records.upgrade()?.records() as f64),
    )?;
    register_asked(
        registry,
        "weir_storage_lag_seconds",
        "Age of the oldest record that is not yet visible to queries, 0 where all are.",
        move || Some(seconds.upgrade()?.ms(clock::now_ms()) as f64 / 1e3),
    )
}

const TIMES_FORGOTTEN: &str =
    "Columns of times that series share and that were forgotten while blocks were written, for want of memory.";

const MERGES_TOO_LARGE: &str =
    "Merges that were given up since the start, as they took too much memory; fewer blocks were merged, or none.";

const REWRITES_PUT_OFF: &str = "Blocks that keep what is deleted or expired for now, as writing them anew took too much memory; each is tried again every hour.";

/// The metrics of the component; clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) records: IntCounter,
    pub(crate) samples: IntCounter,
    pub(crate) out_of_order: IntCounter,
    pub(crate) unreadable: IntCounter,
    pub(crate) skipped: IntCounter,
    pub(crate) depth_peak: IntGauge,
    pub(crate) replay_seconds: prometheus::Gauge,
    pub(crate) flush_seconds: Histogram,
    pub(crate) merge_seconds: Histogram,
    pub(crate) failures: prometheus::IntCounterVec,
    /// Of flushes, and of merges with retention.
    pub(crate) disk_full: IntGaugeVec,
    pub(crate) throttled: IntCounter,
    pub(crate) admin: prometheus::IntCounterVec,
    pub(crate) expired_blocks: IntCounter,
    pub(crate) rebuilt: IntCounter,
    pub(crate) head_series: IntGauge,
    pub(crate) head_samples: IntGauge,
    pub(crate) head_bytes: IntGauge,
    pub(crate) blocks: IntGauge,
    pub(crate) block_bytes: IntGauge,
    pub(crate) block_samples: IntGauge,
    pub(crate) quarantined: IntGauge,
    pub(crate) times_forgotten: IntGauge,
    pub(crate) merges_too_large: IntGauge,
    pub(crate) rewrites_put_off: IntGauge,
    pub(crate) annotations: Annotations,
    pub(crate) downsampling: Downsampling,
    pub(crate) index: Index,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let seconds = |name: &str, help: &str| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(exponential_buckets(0.005, 3.0, 10)?))
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            prometheus::IntCounterVec::new(prometheus::Opts::new(name, help), labels)
        };
        let metrics = Metrics {
            records: IntCounter::new("weir_storage_applied_records_total", "Records of the log that were processed.")?,
            samples: IntCounter::new("weir_storage_applied_samples_total", "Samples that were added to the head.")?,
            out_of_order: IntCounter::new(
                "weir_storage_out_of_order_samples_total",
                "Samples that were not later than those of their series before them. They are stored like the others.",
            )?,
            unreadable: IntCounter::new(
                "weir_storage_unreadable_records_total",
                "Records whose payload cannot be read; they are skipped.",
            )?,
            skipped: IntCounter::new(
                "weir_storage_lost_positions_total",
                "Times that the log did not have the position that was to be read, or was another log.",
            )?,
            depth_peak: IntGauge::new(
                "weir_storage_queue_depth_peak_records",
                "Largest depth of one partition since the start.",
            )?,
            replay_seconds: prometheus::Gauge::new(
                "weir_storage_replay_duration_seconds",
                "Duration of reading the log when the process started.",
            )?,
            flush_seconds: seconds("weir_storage_flush_duration_seconds", "Duration of writing a head to blocks.")?,
            merge_seconds: seconds("weir_storage_merge_duration_seconds", "Duration of merging blocks.")?,
            failures: counters(
                "weir_storage_failed_writes_total",
                "Writes that failed and are tried again, by what was written.",
                &["operation"],
            )?,
            disk_full: IntGaugeVec::new(
                prometheus::Opts::new(
                    "weir_storage_disk_full",
                    "1 while writing found no room on the disk and has not succeeded since, by what was written.",
                ),
                &["operation"],
            )?,
            throttled: IntCounter::new(
                "weir_storage_throttled_total",
                "Times that reading the log waited, since flushes did not keep up.",
            )?,
            admin: counters(
                "weir_storage_admin_requests_total",
                "Requests of the admin API, by what became of them: done, failed, or refused since one of the kind was being done.",
                &["operation", "outcome"],
            )?,
            expired_blocks: IntCounter::new("weir_storage_expired_blocks_total", "Blocks dropped for their age.")?,
            rebuilt: IntCounter::new("weir_storage_rebuilt_blocks_total", "Blocks written again from the log.")?,
            head_series: IntGauge::new("weir_storage_head_series", "Series in the head.")?,
            head_samples: IntGauge::new("weir_storage_head_samples", "Samples in the head.")?,
            head_bytes: IntGauge::new("weir_storage_head_bytes", "Memory of the head, about.")?,
            blocks: IntGauge::new("weir_storage_blocks", "Blocks.")?,
            block_bytes: IntGauge::new("weir_storage_block_bytes", "Size of the blocks.")?,
            block_samples: IntGauge::new("weir_storage_block_samples", "Samples in the blocks.")?,
            quarantined: IntGauge::new("weir_storage_quarantined_blocks", "Blocks that are damaged and not read.")?,
            times_forgotten: IntGauge::new("weir_storage_forgotten_time_columns", TIMES_FORGOTTEN)?,
            merges_too_large: IntGauge::new("weir_storage_merges_too_large", MERGES_TOO_LARGE)?,
            rewrites_put_off: IntGauge::new("weir_storage_blocks_too_large_to_rewrite", REWRITES_PUT_OFF)?,
            annotations: Annotations::new()?,
            downsampling: Downsampling::new()?,
            index: Index::new()?,
        };
        metrics.begin(registry)?;
        Ok(metrics)
    }

    /// Registers all, and shows those with labels from the start, with every value.
    fn begin(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        for operation in ["flush", "merge", "expire", "downsample", "rebuild", "commit"] {
            self.failures.with_label_values(&[operation]);
        }
        for operation in ["flush", "merge", "expire", "downsample", "rebuild"] {
            self.disk_full.with_label_values(&[operation]);
        }
        for operation in Operation::ALL {
            for outcome in admin::OUTCOMES {
                self.admin.with_label_values(&[operation.name(), outcome]);
            }
        }
        self.collectors().into_iter().try_for_each(|collector| registry.register(collector))
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        fn boxed<C: Collector + Clone + 'static>(c: &C) -> Box<dyn Collector> {
            Box::new(c.clone())
        }
        let counters = [
            &self.records,
            &self.samples,
            &self.out_of_order,
            &self.unreadable,
            &self.skipped,
            &self.throttled,
            &self.expired_blocks,
            &self.rebuilt,
        ];
        let gauges = [
            &self.depth_peak,
            &self.head_series,
            &self.head_samples,
            &self.head_bytes,
            &self.blocks,
            &self.block_bytes,
            &self.block_samples,
            &self.quarantined,
            &self.times_forgotten,
            &self.merges_too_large,
            &self.rewrites_put_off,
        ];
        let mut all: Vec<Box<dyn Collector>> = counters.into_iter().map(boxed).collect();
        all.extend(gauges.into_iter().map(boxed));
        all.extend([boxed(&self.flush_seconds), boxed(&self.merge_seconds)]);
        all.extend([boxed(&self.replay_seconds), boxed(&self.failures), boxed(&self.disk_full), boxed(&self.admin)]);
        all.extend(self.annotations.collectors());
        all.extend(self.downsampling.collectors());
        all.extend(self.index.collectors());
        all
    }

    pub(crate) fn stats(&self, stats: tsdb::Stats) {
        self.head_series.set(stats.head_series as i64);
        self.head_samples.set(stats.head_samples as i64);
        self.head_bytes.set(stats.head_bytes as i64);
        self.blocks.set(stats.blocks as i64);
        self.block_bytes.set(stats.block_bytes as i64);
        self.block_samples.set(stats.block_samples as i64);
        self.quarantined.set(stats.quarantined as i64);
        self.times_forgotten.set(stats.times_forgotten as i64);
        self.merges_too_large.set(stats.merges_too_large as i64);
        self.rewrites_put_off.set(stats.rewrites_put_off as i64);
        self.annotations.tell(&stats);
        self.downsampling.tell(&stats.downsampled);
        self.index.tell(&stats);
    }
}
