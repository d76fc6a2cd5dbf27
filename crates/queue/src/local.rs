//! The log in process: partitions in a directory, retention, and the component's start.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use runtime::{Component, Shutdown};

use crate::files::{create_dir, io, replace, sync_dir};
use crate::groups::Groups;
use crate::metrics::Metrics;
use crate::partition::{Layout, Partition};
use crate::segment::corrupt;
use crate::status;
use crate::{Bounds, BoxFuture, Error, Log, Record};

/// How often retention runs and commits are written.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// How much more than its bound the log may hold for the sake of a consumer that has not read it.
const HARD_LIMIT: u64 = 4;

/// Configuration of the log.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Where the log lies; set by the program that starts it.
    #[arg(skip)]
    pub dir: PathBuf,

    /// Number of partitions of a new log; one that exists keeps its number
    #[arg(long, env = "WEIR_QUEUE_PARTITIONS", default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub queue_partitions: u32,

    /// Size of a segment file, after which a new one begins
    #[arg(long, env = "WEIR_QUEUE_SEGMENT_BYTES", default_value_t = 64 << 20, value_name = "BYTES")]
    pub queue_segment_bytes: u64,

    /// How long records are kept after every consumer has read them, such as 6h
    #[arg(long, env = "WEIR_QUEUE_RETENTION", default_value = "6h", value_name = "DURATION", value_parser = parse_duration)]
    pub queue_retention: Duration,

    /// Size of the whole log above which the oldest records that every consumer has read are removed; at four times
    /// this size, unread ones are removed too
    #[arg(long, env = "WEIR_QUEUE_RETENTION_BYTES", default_value_t = 4 << 30, value_name = "BYTES")]
    pub queue_retention_bytes: u64,

    /// Consumers whose commits hold records back
    #[arg(skip = vec!["storage".to_owned(), "alerting".to_owned()])]
    pub holding_groups: Vec<String>,
}

/// What the log needs of others: nothing.
#[derive(Debug, Default)]
pub struct Deps {}

/// A started log.
pub struct Started {
    /// Its routes and its end.
    pub component: Component,
    /// The log.
    pub log: Arc<dyn Log>,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let ms = model::time::parse_duration_ms(text).map_err(|e| e.to_string())?;
    Ok(Duration::from_millis(ms.unsigned_abs()))
}

/// Opens or creates the log in `args.dir`, cuts a torn tail, and starts a writer a partition.
///
/// Fails where another process has the directory open, or the log is damaged. `drained` resolves with an error as soon
/// as a failed write has stopped a partition.
pub async fn start(args: Args, _deps: Deps, registry: &Registry, mut shutdown: Shutdown) -> Result<Started, Error> {
    let metrics = Metrics::new(registry).map_err(|e| Error::Invalid(e.to_string()))?;
    let opened = {
        let (args, metrics) = (args.clone(), metrics.clone());
        tokio::task::spawn_blocking(move || LocalLog::open(&args, metrics)).await
    };
    let (log, writers) = opened.map_err(|e| Error::Invalid(format!("opening the log: {e}")))??;
    let log = Arc::new(log);
    let own = log.clone();
    let task = tokio::spawn(async move {
        let mut stopped = metrics.stopped.subscribe();
        let mut failure = None;
        loop {
            tokio::select! {
                () = shutdown.asked() => break,
                Ok(error) = stopped.wait_for(Option::is_some) => { failure = error.clone(); break }
                () = tokio::time::sleep(HOUSEKEEPING) => {}
            }
            let (log, args, now_ms) = (own.clone(), args.clone(), runtime::clock::now_ms());
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || log.keep_house(&args, now_ms)).await {
                tracing::error!(%error, "housekeeping of the log failed; it is tried again");
            }
        }
        own.partitions.iter().for_each(|p| p.close());
        let ended = tokio::task::spawn_blocking(move || {
            for writer in writers {
                writer.join().map_err(|_| Error::Poisoned("writer panicked".to_owned()))?;
            }
            own.groups.save()
        });
        let ended = ended.await.unwrap_or_else(|e| Err(Error::Poisoned(e.to_string())));
        failure.map_or(ended, Err)
    });
    let drained = Box::pin(async move { Ok(task.await??) });
    Ok(Started { component: Component { name: "queue", router: status::router(log.clone()), drained }, log })
}

/// The log of one directory.
pub(crate) struct LocalLog {
    pub(crate) partitions: Vec<Arc<Partition>>,
    pub(crate) groups: Arc<Groups>,
    metrics: Metrics,
    /// Held open for its lock.
    _lock: File,
}

impl LocalLog {
    fn open(args: &Args, metrics: Metrics) -> Result<(Self, Vec<std::thread::JoinHandle<()>>), Error> {
        create_dir(&args.dir)?;
        let lock = lock(&args.dir)?;
        let number = partitions(&args.dir, args.queue_partitions)?;
        let groups = Arc::new(Groups::open(&args.dir, number, &args.holding_groups, metrics.clone())?);
        // What an earlier process created and was killed before it made durable.
        sync_dir(&args.dir)?;
        let layout = Layout { segment_bytes: args.queue_segment_bytes.max(1) };
        let (mut partitions, mut writers) = (Vec::new(), Vec::new());
        for n in 0..number {
            let (partition, writer) =
                Partition::open(&args.dir.join(n.to_string()), n, layout, groups.clone(), metrics.clone())?;
            partitions.push(partition);
            writers.push(writer);
        }
        let log = LocalLog { partitions, groups, metrics, _lock: lock };
        log.gauge();
        Ok((log, writers))
    }

    fn partition(&self, number: u32) -> Result<&Arc<Partition>, Error> {
        let known = self.partitions.len();
        let partition = self.partitions.get(number as usize);
        partition.ok_or_else(|| Error::Invalid(format!("partition {number} of a log with {known}")))
    }

    fn gauge(&self) {
        for (n, partition) in self.partitions.iter().enumerate() {
            let (bytes, segments) = partition.size();
            let n = n.to_string();
            self.metrics.disk_bytes.with_label_values(&[&n]).set(bytes as i64);
            self.metrics.segments.with_label_values(&[&n]).set(segments as i64);
        }
    }

    /// The commits to disk, and retention, which makes room and so does not wait for the former to succeed.
    fn keep_house(&self, args: &Args, now_ms: i64) -> Result<(), Error> {
        let saved = self.groups.save();
        self.expire(args, now_ms)?;
        saved
    }

    fn expire(&self, args: &Args, now_ms: i64) -> Result<(), Error> {
        let share = args.queue_retention_bytes / self.partitions.len() as u64;
        let oldest_ms = now_ms.saturating_sub(i64::try_from(args.queue_retention.as_millis()).unwrap_or(i64::MAX));
        for (partition, number) in self.partitions.iter().zip(0..) {
            let read = self.groups.lowest(number);
            let mut forced = None;
            while partition.remove_oldest(|segment, bytes| {
                let hard = bytes > share.saturating_mul(HARD_LIMIT);
                let unread = segment.next > read;
                forced = (hard && unread).then_some(segment.next);
                hard || (!unread && (bytes > share || segment.max_timestamp < oldest_ms))
            })? {
                if let Some(next) = forced {
                    self.metrics.forced_removals.inc();
                    tracing::error!(
                        partition = number,
                        up_to = next,
                        read,
                        "the log is {HARD_LIMIT} times its bound: removed records that a consumer has not read"
                    );
                }
            }
        }
        self.gauge();
        Ok(())
    }
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(io(format!("creating {}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Error::Invalid(format!("{} is in use by another process", dir.display())))
        }
        Err(fs::TryLockError::Error(e)) => Err(io(format!("locking {}", path.display()))(e)),
    }
}

/// The number of partitions of the log in the directory, which is that of its creation.
fn partitions(dir: &Path, wanted: u32) -> Result<u32, Error> {
    let path = dir.join("meta");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let number = text.strip_prefix("weir-queue 1\npartitions ").and_then(|n| n.trim_end().parse().ok());
            let number = number.ok_or_else(|| corrupt(&path, 0, "not the description of a log"))?;
            if number != wanted {
                tracing::warn!(
                    "the log in {} has {number} partitions and keeps them; {wanted} were asked for",
                    dir.display()
                );
            }
            Ok(number)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            if dir.join("0").exists() {
                return Err(corrupt(&path, 0, "there are partitions, but not the file that tells their number"));
            }
            replace(&path, format!("weir-queue 1\npartitions {wanted}\n").as_bytes())?;
            Ok(wanted)
        }
        Err(e) => Err(io(format!("reading {}", path.display()))(e)),
    }
}

impl Log for LocalLog {
    fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    fn append(&self, partition: u32, payload: Bytes, now_ms: i64) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(async move { self.partition(partition)?.append(payload, now_ms).await })
    }

    fn fetch(
        &self,
        partition: u32,
        from: i64,
        bytes_max: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Record>, Error>> {
        Box::pin(async move { self.partition(partition)?.fetch(from, bytes_max, wait).await })
    }

    fn bounds(&self, partition: u32) -> BoxFuture<'_, Result<Bounds, Error>> {
        Box::pin(async move { Ok(self.partition(partition)?.bounds()) })
    }

    fn commit(&self, group: &str, partition: u32, offset: i64) -> BoxFuture<'_, Result<(), Error>> {
        let noted = self.partition(partition).and_then(|_| self.groups.commit(group, partition, offset));
        Box::pin(std::future::ready(noted))
    }

    fn committed(&self, group: &str, partition: u32) -> BoxFuture<'_, Result<Option<i64>, Error>> {
        let offset = self.partition(partition).map(|_| self.groups.committed(group, partition));
        Box::pin(std::future::ready(offset))
    }
}

#[cfg(test)]
mod tests;
