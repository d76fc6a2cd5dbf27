//! The log in process: partitions in a directory, and retention.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::component::Args;
use crate::files::{create_dir, io, replace, sync_dir};
use crate::groups::Groups;
use crate::identity;
use crate::metrics::Metrics;
use crate::partition::{self, Beat, Layout, Partition};
use crate::producer_ids::ProducerIds;
use crate::segment::corrupt;
use crate::{Bounds, BoxFuture, Error, Log, Record};

/// How much more than its bound the log may hold for the sake of a consumer that has not read it.
pub(crate) const HARD_LIMIT: u64 = 4;

/// One of so many parts of the memory for records is for the newest ones; the others are for those who read them.
const CACHE_SHARE: usize = 2;

/// The log of one directory.
pub(crate) struct LocalLog {
    pub(crate) partitions: Vec<Arc<Partition>>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) producer_ids: ProducerIds,
    id: u128,
    metrics: Metrics,
    /// Held open for its lock.
    _lock: File,
}

impl LocalLog {
    pub(crate) fn open(args: &Args, metrics: Metrics) -> Result<(Self, Vec<std::thread::JoinHandle<()>>), Error> {
        create_dir(&args.dir)?;
        let lock = lock(&args.dir)?;
        let number = partitions(&args.dir, args.queue_partitions)?;
        let id = identity::open(&args.dir)?;
        let groups = Arc::new(Groups::open(&args.dir, number, &args.holding_groups, metrics.clone())?);
        let producer_ids = ProducerIds::open(&args.dir)?;
        // What an earlier process created and was killed before it made durable.
        sync_dir(&args.dir)?;
        let cache_bytes = (args.memory.bytes_max() / CACHE_SHARE / number.max(1) as usize).min(partition::CACHE_BYTES);
        let layout = Layout { segment_bytes: args.queue_segment_bytes.max(1), cache_bytes };
        let beat = Arc::new(Beat::new());
        let (mut partitions, mut writers) = (Vec::new(), Vec::new());
        for n in 0..number {
            let (partition, writer) = Partition::open(
                &args.dir.join(n.to_string()),
                n,
                layout,
                beat.clone(),
                args.memory.claim(),
                groups.clone(),
                metrics.clone(),
            )?;
            partitions.push(partition);
            writers.push(writer);
        }
        let log = LocalLog { partitions, groups, producer_ids, id, metrics, _lock: lock };
        log.gauge();
        Ok((log, writers))
    }

    /// Refuses appends from now on; the writers end when those that wait are done.
    pub(crate) fn close(&self) {
        self.partitions.iter().for_each(|partition| partition.close());
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
    pub(crate) fn keep_house(&self, args: &Args, now_ms: i64) -> Result<(), Error> {
        let saved = self.groups.save();
        self.expire(args, now_ms)?;
        saved
    }

    fn expire(&self, args: &Args, now_ms: i64) -> Result<(), Error> {
        let share = share(args, self.partitions());
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

/// What a partition may hold of the size of the whole log.
pub(crate) fn share(args: &Args, partitions: u32) -> u64 {
    args.queue_retention_bytes / u64::from(partitions)
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

    fn id(&self) -> Option<u128> {
        Some(self.id)
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

    fn known_end(&self, partition: u32) -> i64 {
        self.partition(partition).map_or(0, |partition| partition.bounds().end)
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
