//! The component over an engine whose disk fails.

use clap::Parser;
use model::{Cancel, Columns, Labels, Matcher, Sample, SelectRequest, TimeRange, Want};
use queue::payload::Encoder;
use runtime::ShutdownTrigger;
use tsdb::disk::simulated::Simulated;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    queue: queue::Args,
    #[command(flatten)]
    storage: Args,
}

struct Running {
    log: Arc<dyn Log>,
    started: Started,
    registry: Registry,
    shutdown: ShutdownTrigger,
    _queue: ShutdownTrigger,
    _dir: tempfile::TempDir,
}

async fn start(disk: &Simulated, flags: &[&str]) -> Running {
    let dir = tempfile::tempdir().expect("directory");
    let Cli { mut queue, mut storage } = Cli::parse_from(["test", "--retention", "off"].iter().chain(flags));
    (queue.dir, storage.dir) = (dir.path().join("queue"), dir.path().to_owned());
    let (queue_trigger, shutdown) = Shutdown::new();
    let log = queue::start(queue, queue::Deps::default(), &Registry::new(), shutdown).await.expect("log opens").log;
    let (trigger, shutdown) = Shutdown::new();
    let (registry, disk) = (Registry::new(), disk.clone());
    let deps = Deps { log: log.clone() };
    let started = start_on(move || Ok(Arc::new(disk)), storage, deps, &registry, shutdown).await.expect("starts");
    Running { log, started, registry, shutdown: trigger, _queue: queue_trigger, _dir: dir }
}

impl Running {
    async fn write(&self, t: i64) {
        let labels = Labels::new(&[("__name__", "m"), ("t", &t.to_string())]).expect("valid");
        let mut encoder = Encoder::new();
        encoder.push(labels.as_ref(), &[Sample { t, v: t as f64 }]);
        let partition = labels.as_ref().partition(self.log.partitions());
        self.log.append(partition, encoder.finish(), t).await.expect("acknowledged");
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
    let running = start(&disk, &["--storage-head-bytes-max", "20000"]).await;
    disk.set_capacity(disk.used());
    let mut written = 0;
    while running.metric("weir_storage_throttled_total") == 0.0 {
        assert!(written < 20_000, "memory has no bound");
        running.write(written).await;
        written += 1;
    }
    assert!(running.metric("weir_storage_disk_full") >= 1.0, "of flushes, and perhaps of merges");
    assert!(running.metric("weir_storage_failed_writes_total") >= 1.0);
    assert!(!running.read().is_empty(), "queries go on");
    disk.set_capacity(usize::MAX);
    running.started.reader.caught_up(PATIENCE).await.expect("goes on when there is room");
    assert_eq!(running.read(), (0..written).collect::<Vec<_>>());
    running.until("told that there is room", || running.metric("weir_storage_disk_full") == 0.0).await;
    running.shutdown.ask();
    running.started.component.drained.await.expect("drains");
    let db = Db::open_on(Arc::new(disk), Options::default()).expect("opens");
    assert_eq!(db.stats().block_samples as i64, written);
}
