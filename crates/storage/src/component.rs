//! The component's start and end.

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Budget;
use prometheus::Registry;
use queue::{Bounds, Lag, Log};
use runtime::memory::Part;
use runtime::{Component, Shutdown, Token, token};
use tokio::sync::{Notify, watch};
use tsdb::disk::{Disk, ELSEWHERE, Local};
use tsdb::{Db, Options};

use crate::admin::Admin;
use crate::apply::{Applied, Consumer};
use crate::downsample::{self, Downsample};
use crate::keep::{self, Keeper};
use crate::local::LocalReader;
use crate::memory::{self, Memory};
use crate::metrics::{self, Metrics};
use crate::objects::{self, Mirror};
use crate::retention::{self, Retention, Rules};
use crate::serve::{self, Node};
use crate::snapshot;
use crate::{Error, Reader, Replica};

/// A larger head only makes a restart read more of the log.
const HEAD_BYTES_MAX: usize = 512 << 20;

/// Configuration of storage.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Where the blocks lie; set by the program that starts it.
    #[arg(skip)]
    pub dir: PathBuf,

    /// How long samples are kept, such as 15d; off keeps everything and takes samples of any age
    #[arg(long, env = "WEIR_RETENTION", default_value = "15d", value_name = "DURATION|off", value_parser = retention::parse)]
    pub retention: Retention,

    /// Other ages for series that meet a selector, the first of them counts, such as '{env="dev"}: 3d, {team="slo"}: off'
    #[arg(long, env = "WEIR_RETENTION_RULES", default_value = "", value_name = "RULES", value_parser = retention::parse_rules)]
    pub retention_rules: Rules,

    /// Size of all blocks beyond which the oldest ones are dropped; no bound without it
    #[arg(long, env = "WEIR_RETENTION_BYTES", value_name = "BYTES")]
    pub retention_bytes: Option<u64>,

    /// Of old samples of series that meet a selector leave some out, with their sum and number: '{env="dev"}: 7d:5m 60d:1h' keeps what windows of 5m are
    /// worth from an age of 7d on, of 1h from 60d on. Several rules are parted by commas, the first one that a series meets counts; nothing without it
    #[arg(long, env = "WEIR_STORAGE_DOWNSAMPLE", default_value = "", value_name = "RULES", value_parser = downsample::parse)]
    pub storage_downsample: Downsample,

    /// Memory of the newest samples at which they are written to a block; up to twice as much is used while that runs. Without it half of their share of
    /// --memory-limit, at most 512 MiB
    #[arg(long, env = "WEIR_STORAGE_HEAD_BYTES_MAX", value_name = "BYTES")]
    pub storage_head_bytes_max: Option<usize>,

    /// Longest time between two writes to blocks: what is newer is read from the log after a crash
    #[arg(long, env = "WEIR_STORAGE_FLUSH_INTERVAL", default_value = "30m", value_name = "DURATION", value_parser = parse_duration)]
    pub storage_flush_interval: Duration,

    /// Blocks are cut at multiples of this, so that they expire as a whole
    #[arg(long, env = "WEIR_STORAGE_BLOCK_SPAN", default_value = "1d", value_name = "DURATION", value_parser = parse_duration)]
    pub storage_block_span: Duration,

    /// Memory for parts of the blocks' indexes that were read, at most three quarters of their share of --memory-limit; beside it all blocks together take
    /// half a byte a series
    #[arg(long, env = "WEIR_STORAGE_INDEX_CACHE_BYTES", default_value_t = 64 << 20, value_name = "BYTES")]
    pub storage_index_cache_bytes: usize,

    /// Exemplars that are kept, the newest of all series; 0 keeps none. Each takes some 300 bytes of memory, and all are written with a flush
    #[arg(long, env = "WEIR_STORAGE_EXEMPLARS_MAX", default_value_t = 100_000, value_name = "N")]
    pub storage_exemplars_max: usize,

    /// Answer POST /api/v1/admin/tsdb/snapshot, delete_series and clean_tombstones, as Prometheus does with its --web.enable-admin-api
    #[arg(
        long,
        env = "WEIR_ENABLE_ADMIN_API",
        default_value_t = false,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    pub enable_admin_api: bool,

    /// What was switched on in the language; set by the program that starts it.
    #[arg(skip)]
    pub features: promql::Features,

    /// Number of this replica, from 0
    #[arg(long, env = "WEIR_STORAGE_REPLICA", default_value_t = 0, value_name = "N")]
    pub storage_replica: u32,

    /// How many replicas there are. Number n owns the partitions p of the log with (p - n) mod replicas < copies
    #[arg(long, env = "WEIR_STORAGE_REPLICAS", default_value_t = 1, value_name = "N")]
    pub storage_replicas: u32,

    /// How many replicas hold each partition
    #[arg(long, env = "WEIR_STORAGE_COPIES", default_value_t = 1, value_name = "N")]
    pub storage_copies: u32,

    /// What memory the parts of storage may hold; set by the program that starts it.
    #[arg(skip)]
    pub memory: Memory,

    /// Where blocks are beside the local disk.
    #[command(flatten)]
    pub objects: objects::Args,
}

impl Args {
    /// How long samples are kept that meet no rule, as Prometheus tells it.
    pub fn retention_text(&self) -> String {
        retention::text(self.retention, self.retention_bytes)
    }

    fn options(&self) -> Options {
        Options {
            retention_ms: self.retention.0,
            retention_rules: self.retention_rules.0.clone(),
            retention_bytes: self.retention_bytes,
            downsample: self.storage_downsample.0.clone(),
            head_bytes_max: self.head_bytes_max(),
            memory: self.memory.engine.clone(),
            block_span_ms: self.storage_block_span.as_millis() as i64,
            index_cache_bytes: self.index_cache_bytes(),
            exemplars_max: self.storage_exemplars_max,
            stand_back: Some(keep::stand_back),
        }
    }

    pub(crate) fn head_bytes_max(&self) -> usize {
        self.storage_head_bytes_max.unwrap_or_else(|| self.memory.head_bytes_max(HEAD_BYTES_MAX)).max(1)
    }

    /// Memory for pages of indexes: what they may have of the share, the rest of which is for what all blocks keep.
    pub(crate) fn index_cache_bytes(&self) -> usize {
        self.storage_index_cache_bytes.min(self.memory.engine.index.bytes_max() / 4 * 3)
    }

    fn replica(&self) -> Replica {
        Replica { number: self.storage_replica, of: self.storage_replicas, copies: self.storage_copies }
    }
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let ms = model::time::parse_duration_ms(text).map_err(|e| e.to_string())?;
    if ms == 0 { Err("must be longer than 0".to_owned()) } else { Ok(Duration::from_millis(ms.unsigned_abs())) }
}

/// What storage needs of others.
pub struct Deps {
    /// The log that it consumes.
    pub log: Arc<dyn Log>,
}

/// A started storage.
pub struct Started {
    /// Its routes and its end.
    pub component: Component,
    /// What queries read.
    pub reader: Arc<dyn Reader>,
    replica: Replica,
    partitions: u32,
    reads: Budget,
}

impl Started {
    /// What [`crate::serve`] offers to others.
    pub fn node(&self) -> Node {
        Node {
            reader: self.reader.clone(),
            replica: self.replica,
            partitions: self.partitions,
            memory: self.reads.clone(),
        }
    }

    /// The component with the routes of [`crate::serve`], for those who have the token where there is one.
    pub fn serve(self, token: Option<Token>, registry: &Registry) -> Result<Component, Error> {
        let reads = memory::register(registry, Part::Queries, &self.reads, {
            let reads = self.reads.clone();
            move || reads.refused()
        });
        reads.map_err(|e| Error::Start(e.to_string()))?;
        let routes = serve::router(self.node(), token.clone(), registry)?;
        let own = token::require(token, self.component.router);
        Ok(Component { router: own.merge(routes), ..self.component })
    }
}

/// Opens the engine and reads the log from where the blocks end.
///
/// Returns once everything that was in the log when it began is visible. After the shutdown is asked for, what was read is flushed,
/// so that the next start has nothing to read again. `drained` resolves with an error at once when the log cannot be read any more.
pub async fn start(args: Args, deps: Deps, registry: &Registry, shutdown: Shutdown) -> Result<Started, Error> {
    let (dir, replica) = (args.dir.clone(), args.replica());
    replica.check()?;
    let metrics = objects::Metrics::new(registry).map_err(|e| Error::Start(e.to_string()))?;
    let Some(bucket) = args.objects.bucket(replica, metrics.clone())? else {
        if objects::may_lack_blocks(&dir) {
            return Err(Error::Directory(format!(
                "blocks of {} may be in object storage alone: give --storage-objects, or remove its file {ELSEWHERE} if it has all of them",
                dir.display()
            )));
        }
        let disk = move || Ok(Arc::new(Local::open(&dir)?) as Arc<dyn Disk>);
        return start_on(disk, None, args, deps, registry, shutdown).await;
    };
    let pages = args.memory.objects.clone();
    memory::register(registry, Part::Objects, &pages, || 0).map_err(|e| Error::Start(e.to_string()))?;
    let claimed = objects::open(bucket, &dir, replica, args.objects.storage_cache_bytes, (metrics, &pages)).await?;
    let disk = claimed.disk();
    start_on(move || Ok(disk), Some(claimed), args, deps, registry, shutdown).await
}

/// As [`start`], with the engine on a disk of its own, which may be one over object storage.
#[expect(clippy::disallowed_methods, reason = "the duration of the replay is measured")]
async fn start_on(
    disk: impl FnOnce() -> Result<Arc<dyn Disk>, tsdb::Error> + Send + 'static,
    claimed: Option<objects::Claimed>,
    args: Args,
    deps: Deps,
    registry: &Registry,
    shutdown: Shutdown,
) -> Result<Started, Error> {
    let replica = args.replica();
    replica.check()?;
    let metrics = Metrics::new(registry).map_err(|e| Error::Start(e.to_string()))?;
    let (memory, reads) = (args.memory.clone(), args.memory.reads.clone());
    memory.register(registry, metrics.throttled.clone()).map_err(|e| Error::Start(e.to_string()))?;
    let began = Instant::now();
    let db = open(Box::new(disk), args.dir.clone(), args.options(), replica).await?;
    for warning in db.warnings().into_iter().chain(db.exemplars_warning()) {
        tracing::error!("{warning}");
    }
    let work = Arc::new(Notify::new());
    let (flushed, _) = watch::channel(0u64);
    let (failed, failure) = watch::channel(None::<String>);
    let places = places(replica, &db, deps.log.as_ref(), &metrics).await?;
    let lag = Arc::new(Lag::new(deps.log.clone(), places.iter().map(|place| (place.partition, place.next))));
    metrics::register_asked_for(registry, &args, &lag).map_err(|e| Error::Start(e.to_string()))?;
    let (mut applied, mut threads) = (Vec::new(), Vec::new());
    for Place { partition, next, .. } in &places {
        let (partition, next) = (*partition, *next);
        let own = Arc::new(Applied::new(next));
        applied.push(own.clone());
        let consumer = Consumer {
            partition,
            fetch_bytes: memory.fetch_bytes(places.len()),
            fetched: memory.log.claim(),
            db: db.clone(),
            log: deps.log.clone(),
            applied: own,
            lag: lag.clone(),
            metrics: metrics.clone(),
            work: work.clone(),
            flushed: flushed.subscribe(),
            failed: failed.clone(),
        };
        threads.push(spawn(format!("storage-{partition}"), shutdown.clone(), move |s, h| consumer.run(next, s, h))?);
    }
    let keeper = Arc::new(Keeper {
        db: db.clone(),
        log: deps.log.clone(),
        replica,
        metrics: metrics.clone(),
        flush_interval: args.storage_flush_interval,
        work: work.clone(),
        flushed,
        merges: Arc::new(Notify::new()),
        tells_the_log: claimed.is_none(),
    });
    let mirror = claimed.map(|claimed| Arc::new(Mirror::new(claimed, deps.log.clone(), replica, failed.clone())));
    let writers = Writers::start(keeper.clone(), mirror, threads, &shutdown)?;
    let partitions = deps.log.partitions();
    let of = |(place, applied): (&Place, _)| (place.partition, applied);
    let applied = places.iter().zip(applied).map(of).collect();
    let reader = Arc::new(LocalReader { db, engine: RandomState::new().hash_one(0), log: deps.log, applied, lag });
    let ends: Vec<i64> = places.iter().map(|place| place.end).collect();
    reader.wait_until(&ends, &shutdown, &failure).await?;
    metrics.replay_seconds.set(began.elapsed().as_secs_f64());
    let enabled = args.enable_admin_api.then_some(args.features);
    let admin = Admin::new(enabled, args.dir, keeper.clone(), reader.clone(), shutdown.clone());
    let drained = Box::pin(drain(writers, shutdown, failure));
    let component = Component { name: "storage", router: admin.router(), drained };
    Ok(Started { component, reader, replica, partitions, reads })
}

type OpenDisk = dyn FnOnce() -> Result<Arc<dyn Disk>, tsdb::Error> + Send;

/// Opens the engine of a replica's directory.
async fn open(disk: Box<OpenDisk>, dir: PathBuf, options: Options, replica: Replica) -> Result<Arc<Db>, Error> {
    let opened = tokio::task::spawn_blocking(move || {
        let disk = disk()?;
        let db = Db::open_on(disk.clone(), options)?;
        replica.claim(&*disk, !db.positions().is_empty())?;
        snapshot::remove_left_over(&snapshot::folder(&dir))?;
        db.expire(runtime::clock::now_ms())?;
        Ok(Arc::new(db))
    });
    opened.await.map_err(|e| Error::Start(e.to_string()))?
}

/// Where a partition is read from, and where the log ended at the start.
struct Place {
    partition: u32,
    next: i64,
    end: i64,
}

/// The partitions that this replica reads.
async fn places(replica: Replica, db: &Db, log: &dyn Log, metrics: &Metrics) -> Result<Vec<Place>, Error> {
    if let Some(id) = log.id() {
        let id = format!("{id:032x}");
        let forgotten = db.follow(&id)?;
        if forgotten > 0 {
            metrics.skipped.inc_by(forgotten as u64);
            tracing::error!(log = id, "this is another log than the one that was read before; reading all of it");
        }
    }
    let (positions, mut places) = (db.positions(), Vec::new());
    for partition in (0..log.partitions()).filter(|partition| replica.owns(*partition)) {
        let bounds = log.bounds(partition).await?;
        let next = positions.get(&partition).copied().unwrap_or(bounds.start);
        // Of a log that is gone. Known now, while there is nothing at the position: once there is, it looks like one that was read up to there.
        if next > bounds.end {
            metrics.skipped.inc();
            let Bounds { start, end } = bounds;
            tracing::error!(
                partition,
                next,
                start,
                end,
                "the log ends before the position that was to be read; reading from its start"
            );
        }
        let next = if next > bounds.end { bounds.start } else { next };
        places.push(Place { partition, next, end: bounds.end });
    }
    Ok(places)
}

type Thread = tokio::sync::oneshot::Receiver<()>;

/// Starts a thread that may wait for futures; the receiver resolves when it has ended.
fn spawn(
    name: String,
    shutdown: Shutdown,
    run: impl FnOnce(Shutdown, tokio::runtime::Handle) + Send + 'static,
) -> Result<Thread, Error> {
    let handle = tokio::runtime::Handle::current();
    let (ended, wait) = tokio::sync::oneshot::channel();
    let started = std::thread::Builder::new().name(name).spawn(move || {
        run(shutdown, handle);
        let _ = ended.send(());
    });
    started.map_err(|e| Error::Start(format!("starting a thread: {e}")))?;
    Ok(wait)
}

/// What runs until the shutdown is asked for.
struct Writers {
    keeper: Arc<Keeper>,
    mirror: Option<Arc<Mirror>>,
    consumers: Vec<Thread>,
    others: Vec<Thread>,
}

impl Writers {
    fn start(
        keeper: Arc<Keeper>,
        mirror: Option<Arc<Mirror>>,
        consumers: Vec<Thread>,
        shutdown: &Shutdown,
    ) -> Result<Writers, Error> {
        let (flusher, merger, orderer) = (keeper.clone(), keeper.clone(), keeper.clone());
        let flush = spawn("storage-flush".to_owned(), shutdown.clone(), move |s, h| flusher.flush_loop(s, h))?;
        let merge = spawn("storage-merge".to_owned(), shutdown.clone(), move |s, h| merger.merge_loop(s, h))?;
        let order = spawn("storage-order".to_owned(), shutdown.clone(), move |s, h| orderer.order_loop(s, h))?;
        let mut others = vec![flush, merge, order];
        if let Some(mirror) = mirror.clone() {
            others.push(spawn("storage-objects".to_owned(), shutdown.clone(), move |s, h| mirror.run(s, h))?);
        }
        Ok(Writers { keeper, mirror, consumers, others })
    }
}

async fn drain(
    writers: Writers,
    mut shutdown: Shutdown,
    mut failure: watch::Receiver<Option<String>>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    tokio::select! {
        () = shutdown.asked() => {}
        Ok(failed) = failure.wait_for(Option::is_some) => return Err(failed.clone().unwrap_or_default().into()),
    }
    for thread in writers.consumers.into_iter().chain(writers.others) {
        let _ = thread.await;
    }
    // Once more, with all that the consumers have read; what cannot be written now is in the log.
    let handle = tokio::runtime::Handle::current();
    let last = tokio::task::spawn_blocking(move || {
        writers.keeper.flush(&handle)?;
        if let Some(mirror) = writers.mirror {
            mirror.end(&handle);
        }
        Ok::<_, Error>(())
    });
    last.await??;
    Ok(())
}
