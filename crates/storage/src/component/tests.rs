//! The component over an engine whose disk fails.

use std::collections::HashSet;

use clap::Parser;
use model::{Cancel, Columns, Labels, Matcher, Sample, SelectRequest, TimeRange, Want};
use queue::payload::Encoder;
use runtime::ShutdownTrigger;
use tokio::runtime::Handle;
use tsdb::disk::simulated::Simulated;

use super::*;

const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    queue: queue::Args,
    #[command(flatten)]
    storage: Args,
}

/// A log, and where storage keeps what is not on its disk.
struct Place {
    log: Arc<dyn Log>,
    storage: Args,
    /// Ends the log when it is dropped.
    _queue: ShutdownTrigger,
    _dir: tempfile::TempDir,
}

struct Running {
    place: Place,
    started: Started,
    registry: Registry,
    shutdown: ShutdownTrigger,
}

impl Place {
    async fn new(flags: &[&str]) -> Place {
        let dir = tempfile::tempdir().expect("directory");
        let Cli { mut queue, mut storage } = Cli::parse_from(["test", "--retention", "off"].iter().chain(flags));
        (queue.dir, storage.dir) = (dir.path().join("queue"), dir.path().to_owned());
        let (trigger, shutdown) = Shutdown::new();
        let log = queue::start(queue, queue::Deps::default(), &Registry::new(), shutdown).await.expect("log opens").log;
        Place { log, storage, _queue: trigger, _dir: dir }
    }

    async fn write(&self, t: i64) {
        let labels = Labels::new(&[("__name__", "m"), ("t", &t.to_string())]).expect("valid");
        let mut encoder = Encoder::new();
        encoder.push(labels.as_ref(), &[Sample { t, v: t as f64 }]);
        let partition = labels.as_ref().partition(self.log.partitions());
        self.log.append(partition, encoder.finish(), t).await.expect("acknowledged");
    }

    async fn start(self, disk: &Simulated) -> Running {
        let (trigger, shutdown) = Shutdown::new();
        let (registry, disk, deps) = (Registry::new(), disk.clone(), Deps { log: self.log.clone() });
        let disk = move || Ok(Arc::new(disk) as Arc<dyn Disk>);
        let started = start_on(disk, None, self.storage.clone(), deps, &registry, shutdown).await.expect("starts");
        Running { place: self, started, registry, shutdown: trigger }
    }
}

impl Running {
    async fn stop(self) -> Place {
        self.shutdown.ask();
        self.started.component.drained.await.expect("drains");
        self.place
    }

    /// The samples that are visible now.
    fn read(&self) -> Vec<i64> {
        let request = SelectRequest {
            matchers: vec![Matcher::equal("__name__", "m")],
            range: TimeRange::ALL,
            want: Want::Samples,
            series_max: usize::MAX,
            cancel: Cancel::default(),
        };
        let mut out = Columns::default();
        for series in self.started.reader.select(&request).expect("selects").series {
            series.data.read(TimeRange::ALL, &mut out).expect("reads");
        }
        out.t.sort_unstable();
        out.t
    }

    fn metric(&self, name: &str) -> f64 {
        let family = self.registry.gather().into_iter().find(|f| f.name() == name).expect("registered");
        family.get_metric().iter().map(|m| m.get_counter().get_value() + m.get_gauge().get_value()).sum()
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("not {what}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fills_memory_and_then_waits_while_queries_go_on_and_is_left_by_itself() {
    let disk = Simulated::new(1);
    let running = Place::new(&["--storage-head-bytes-max", "20000"]).await.start(&disk).await;
    disk.set_capacity(disk.used());
    let mut written = 0;
    while running.metric("weir_storage_throttled_total") == 0.0 {
        assert!(written < 20_000, "memory has no bound");
        running.place.write(written).await;
        written += 1;
    }
    // Of flushes, and perhaps of merges, by threads of their own.
    let counted = |name| running.metric(name) >= 1.0;
    running
        .until("told", || ["weir_storage_disk_full", "weir_storage_failed_writes_total"].into_iter().all(counted))
        .await;
    assert!(!running.read().is_empty(), "queries go on");
    disk.set_capacity(usize::MAX);
    running.started.reader.caught_up(PATIENCE).await.expect("goes on when there is room");
    assert_eq!(running.read(), (0..written).collect::<Vec<_>>());
    running.until("told that there is room", || running.metric("weir_storage_disk_full") == 0.0).await;
    running.stop().await;
    let db = Db::open_on(Arc::new(disk), Options::default()).expect("opens");
    assert_eq!(db.stats().block_samples as i64, written);
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_left_out_of_old_blocks_and_the_figures_say_so() {
    let disk = Simulated::new(1);
    let running = Place::new(&["--storage-downsample", "m: 1d:1m"]).await.start(&disk).await;
    let labels = Labels::new(&[("__name__", "m")]).expect("valid");
    let samples: Vec<Sample> =
        (1..=600).map(|n| Sample { t: n * 1000, v: (n * 1000 + n * n * 7919 % 997) as f64 }).collect();
    let mut encoder = Encoder::new();
    encoder.push(labels.as_ref(), &samples);
    let partition = labels.as_ref().partition(running.place.log.partitions());
    running.place.log.append(partition, encoder.finish(), 1).await.expect("acknowledged");
    running.started.reader.caught_up(PATIENCE).await.expect("catches up");
    assert_eq!(running.read().len(), 600);
    // Flushed at the end, and old when it starts again.
    let running = running.stop().await.start(&disk).await;
    // The last of the figures that are told.
    running.until("done", || running.metric("weir_storage_downsampling_written_bytes_total") > 0.0).await;
    assert_eq!(running.metric("weir_storage_downsampled_blocks_total"), 1.0);
    let kept: Vec<i64> = (0..10).flat_map(|minute| [minute * 60_000 + 1000, (minute + 1) * 60_000]).collect();
    assert_eq!(running.read(), kept);
    assert_eq!(running.metric("weir_storage_downsampling_read_samples_total"), 600.0);
    assert_eq!(running.metric("weir_storage_downsampling_kept_samples_total"), 20.0);
    assert!(running.metric("weir_storage_downsampling_read_bytes_total") > 0.0);
    running.stop().await;
}

/// Writes some records, and damages the block that they come to.
async fn damage(disk: &Simulated) -> Place {
    let running = Place::new(&[]).await.start(disk).await;
    for t in 0..50 {
        running.place.write(t).await;
    }
    running.started.reader.caught_up(PATIENCE).await.expect("catches up");
    let place = running.stop().await;
    let block = disk.names().into_iter().find(|name| name.ends_with(".block")).expect("flushed");
    disk.flip(&block, disk.bytes(&block) - 1);
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_block_is_written_again_from_the_log() {
    let disk = Simulated::new(1);
    let running = damage(&disk).await.start(&disk).await;
    running.until("rebuilt", || running.metric("weir_storage_rebuilt_blocks_total") == 1.0).await;
    assert_eq!(running.read(), (0..50).collect::<Vec<_>>());
    running.until("told", || running.metric("weir_storage_quarantined_blocks") == 0.0).await;
    let running = running.stop().await.start(&disk).await;
    assert_eq!(running.read(), (0..50).collect::<Vec<_>>());
    assert_eq!(running.metric("weir_storage_applied_records_total"), 0.0, "its positions are those of before");
}

/// Tries once to write the lost block again from a log that has not all that it was written from, and says so.
async fn check_not_rebuilt(disk: &Simulated, log: Arc<dyn Log>) {
    let db = Arc::new(Db::open_on(Arc::new(disk.clone()), Options::default()).expect("opens"));
    let keeper = Keeper {
        db: db.clone(),
        log,
        replica: Replica::ALONE,
        metrics: Metrics::new(&Registry::new()).expect("registers"),
        flush_interval: PATIENCE,
        work: Arc::default(),
        flushed: watch::Sender::new(0),
        merges: Arc::default(),
        tells_the_log: true,
    };
    let (_trigger, mut shutdown) = Shutdown::new();
    let handle = Handle::current();
    let tried = move || {
        let mut told = HashSet::new();
        keeper.rebuild_lost(&mut told, &mut shutdown, &handle);
        (told.len(), keeper.metrics.rebuilt.get(), keeper.metrics.failures.with_label_values(&["rebuild"]).get())
    };
    assert_eq!(tokio::task::spawn_blocking(tried).await.expect("ends"), (1, 0, 0));
    assert_eq!((db.warnings().len(), db.lost().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_block_of_which_the_log_lacks_records_stays_in_quarantine() {
    let disk = Simulated::new(1);
    damage(&disk).await;
    check_not_rebuilt(&disk, Place::new(&[]).await.log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_before_what_was_read_is_another_one_of_which_no_block_is_written() {
    let disk = Simulated::new(1);
    damage(&disk).await;
    {
        let db = Db::open_on(Arc::new(disk.clone()), Options::default()).expect("opens");
        db.positions().into_iter().for_each(|(partition, position)| db.begin().finish(partition, position + 1));
        db.flush().expect("flushes");
    }
    // It has as many records as the block was written from.
    let other = Place::new(&[]).await;
    for t in 0..50 {
        other.write(t).await;
    }
    check_not_rebuilt(&disk, other.log.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_does_not_come_back_with_a_block_that_is_written_again() {
    let disk = Simulated::new(1);
    let place = damage(&disk).await;
    {
        let db = Db::open_on(Arc::new(disk.clone()), Options::default()).expect("opens");
        db.delete(&[Matcher::equal("__name__", "m")], TimeRange { start_ms: 10, end_ms: 19 }).expect("deletes");
    }
    let running = place.start(&disk).await;
    running.until("rebuilt", || running.metric("weir_storage_rebuilt_blocks_total") == 1.0).await;
    assert_eq!(running.read(), (0..10).chain(20..50).collect::<Vec<_>>());
}
