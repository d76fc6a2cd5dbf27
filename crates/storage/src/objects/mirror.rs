//! Brings object storage up to what is committed locally: blocks first, then the catalog that names them, then what it does not name any more is removed, and the
//! log is told.
//!
//! A pass begins with the local manifest and makes sure that it is durable, so the catalog is never ahead of it. A pass that breaks off anywhere leaves objects
//! that no catalog names at worst; they are looked for once a process, and those of processes that began later are left alone.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use queue::Log;
use runtime::{Backoff, Shutdown};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use tsdb::block::tail_bytes;
use tsdb::disk::Disk as _;
use tsdb::manifest::{self, Summary};

use super::BLOCKS;
use super::bucket::{Bucket, Failure, Swap};
use super::catalog::{self, Catalog, Object};
use super::claim::{Claimed, taken};
use super::disk::Tiered;
use super::metrics::Metrics;
use crate::{Error, Replica};

/// How often a pass is made though nothing was committed: for what fell out of the bound, or was not heard of.
const INTERVAL: Duration = Duration::from_secs(30);
/// How soon a pass is made after one that left objects, since they were still read.
const LEFT_INTERVAL: Duration = Duration::from_secs(1);
/// First and longest bound of the pause after a pass that failed, beside those of its requests.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How long the end of the process waits for the last pass. What is not written then is on the local disk, and in the log.
const DRAIN_MAX: Duration = Duration::from_secs(15);
/// How often the catalog is written in one pass after an answer that was lost before.
const ADOPTIONS_MAX: u32 = 3;

/// What is known of object storage.
#[derive(Debug)]
pub(super) struct State {
    /// As it is there.
    catalog: Catalog,
    /// Its version.
    version: String,
    /// The blocks that are there: those of the catalog, and those that were uploaded since.
    known: BTreeMap<String, Object>,
    /// Objects that no catalog names any more, with the block that may still be read from it.
    garbage: BTreeMap<String, String>,
    is_swept: bool,
}

impl State {
    pub(super) fn new(catalog: Catalog, version: String) -> Self {
        let known = catalog.objects.clone();
        State { catalog, version, known, garbage: BTreeMap::new(), is_swept: false }
    }
}

/// Writes to object storage what is on the local disk.
pub(crate) struct Mirror {
    disk: Arc<Tiered>,
    bucket: Arc<Bucket>,
    state: Mutex<State>,
    log: Arc<dyn Log>,
    replica: Replica,
    metrics: Metrics,
    /// Size of local blocks; `None` for no bound.
    cache_bytes: Option<u64>,
    failed: watch::Sender<Option<String>>,
}

/// Where a pass stands after a step.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Done,
    /// The manifest is another one by now.
    Stale,
}

impl Mirror {
    /// `failed` is told when somebody else has the prefix.
    pub(crate) fn new(
        claimed: Claimed,
        log: Arc<dyn Log>,
        replica: Replica,
        failed: watch::Sender<Option<String>>,
    ) -> Self {
        let Claimed { disk, bucket, state, metrics, cache_bytes } = claimed;
        Mirror { disk, bucket, state: Mutex::new(state), log, replica, metrics, cache_bytes, failed }
    }

    /// Makes a pass after each commit, until the shutdown is asked for or another process has the prefix.
    pub(crate) fn run(&self, mut shutdown: Shutdown, handle: Handle) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1, 17);
        while !shutdown.is_asked() {
            let passed = handle.block_on(async {
                tokio::select! { () = shutdown.asked() => None, passed = self.pass() => Some(passed) }
            });
            let pause = match passed {
                None => return,
                Some(Ok(left)) => {
                    if self.metrics.failing.get() != 0 {
                        tracing::info!("object storage has all that is on the local disk again");
                    }
                    self.metrics.failing.set(0);
                    backoff.reset();
                    if left == 0 { INTERVAL } else { LEFT_INTERVAL }
                }
                Some(Err(error @ Error::Directory(_))) => {
                    tracing::error!(%error, "storage stops");
                    self.failed.send_replace(Some(error.to_string()));
                    return;
                }
                Some(Err(error)) => {
                    let pause = backoff.pause();
                    self.metrics.failing.set(1);
                    tracing::warn!(
                        %error,
                        ?pause,
                        pending = self.metrics.pending.get(),
                        "writing to object storage failed; it is tried again, and the local disk and the log keep what it lacks"
                    );
                    pause
                }
            };
            handle.block_on(async {
                tokio::select! {
                    () = shutdown.asked() => {}
                    () = self.disk.changed.notified(), if backoff.attempts() == 0 => {}
                    () = tokio::time::sleep(pause) => {}
                }
            });
        }
    }

    /// A last pass, when nothing is committed any more. One that fails costs nothing but the time that the next start takes.
    pub(crate) fn end(&self, handle: &Handle) {
        let passed = handle.block_on(async { tokio::time::timeout(DRAIN_MAX, self.pass()).await });
        match passed {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "object storage lacks what was written last; the local disk has it")
            }
            Err(_) => tracing::warn!("object storage lacks what was written last; the local disk has it"),
        }
    }

    /// One pass. Returns how many objects it left that nothing names and somebody reads.
    async fn pass(&self) -> Result<usize, Error> {
        let mut state = self.state.lock().await;
        let summary = loop {
            let (text, summary) = self.committed()?;
            if self.upload(&mut state, &summary).await? == Step::Done {
                self.publish(&mut state, text, &summary).await?;
                break summary;
            }
        };
        self.evict(&state, &summary)?;
        self.sweep(&mut state).await?;
        self.remove_garbage(&mut state).await?;
        for (partition, offset) in summary.positions {
            self.log.commit(&self.replica.group(), partition, offset).await?;
        }
        Ok(state.garbage.len())
    }

    /// The local manifest, which is durable when this returns.
    fn committed(&self) -> Result<(String, Summary), Error> {
        let path = || self.disk.path(manifest::NAME).display().to_string();
        let text = self.disk.read(manifest::NAME).and_then(|text| {
            self.disk.sync_local()?;
            Ok(text)
        });
        let text = text.map_err(|e| Error::Objects(format!("reading {}: {e}", path())))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let summary = Summary::read(&text).ok_or_else(|| Error::Objects(format!("{} is damaged", path())))?;
        Ok((text, summary))
    }

    /// Uploads the blocks that object storage lacks.
    async fn upload(&self, state: &mut State, summary: &Summary) -> Result<Step, Error> {
        let names = files(summary);
        let lacking: Vec<&String> = names.filter(|name| !state.known.contains_key(*name)).collect();
        self.metrics.pending.set(lacking.len() as i64);
        for name in lacking {
            let input = match self.disk.open_local(name) {
                Ok(input) => input,
                // Merged away or expired meanwhile, or lost: what is not there cannot be written.
                Err(e) if e.kind() == io::ErrorKind::NotFound && self.committed()?.1 == *summary => continue,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Step::Stale),
                Err(e) => return Err(Error::Objects(format!("opening {}: {e}", self.disk.path(name).display()))),
            };
            let key = format!("{:010}-{name}", state.catalog.epoch);
            // Exemplars are read as a whole.
            let is_block = summary.exemplars.as_ref() != Some(name);
            let tail = if is_block { tail_bytes(&*input) } else { Ok(0) };
            let tail = tail.map_err(|e| Error::Objects(format!("reading {name}: {e}")))?;
            self.bucket.upload(&format!("{BLOCKS}/{key}"), &*input).await?;
            state.known.insert(name.clone(), Object { key, bytes: input.bytes(), tail });
            self.metrics.pending.dec();
        }
        Ok(Step::Done)
    }

    /// Writes the catalog, if it would be another one.
    async fn publish(&self, state: &mut State, text: String, summary: &Summary) -> Result<(), Error> {
        let named = files(summary).filter_map(|name| Some((name.clone(), state.known.get(name)?.clone())));
        let objects: BTreeMap<String, Object> = named.collect();
        if text == state.catalog.manifest && objects == state.catalog.objects {
            return Ok(());
        }
        let sequence = state.catalog.sequence + 1;
        let mut next = Catalog { sequence, objects, manifest: text, ..state.catalog.clone() };
        for _ in 0..ADOPTIONS_MAX {
            match self.bucket.swap(catalog::KEY, &next.print(), Some(&state.version)).await? {
                Swap::Done(version) => {
                    self.published(state, next, version);
                    return Ok(());
                }
                Swap::Other(found) => {
                    let (content, version) = found.ok_or_else(|| taken(&self.bucket, None))?;
                    let own = |found: &Catalog| found.session == state.catalog.session;
                    let Some(earlier) = Catalog::read(&content).filter(own) else {
                        return Err(taken(&self.bucket, Some(&content)));
                    };
                    // An earlier pass wrote it and was not told. What it names is known, and stays there until the next one is written.
                    next.sequence = earlier.sequence + 1;
                    (state.catalog, state.version) = (earlier, version);
                }
            }
        }
        Err(Error::Objects(format!("{} changes though nobody else writes it", self.bucket.name(catalog::KEY))))
    }

    /// What follows from a catalog that is there.
    fn published(&self, state: &mut State, catalog: Catalog, version: String) {
        let known = std::mem::replace(&mut state.known, catalog.objects.clone());
        let is_unnamed = |(name, _): &(String, Object)| !catalog.objects.contains_key(name);
        state.garbage.extend(known.into_iter().filter(is_unnamed).map(|(name, object)| (object.key, name)));
        self.disk.set_objects(catalog.objects.clone());
        (state.catalog, state.version) = (catalog, version);
    }

    /// Finds, once, what passes of earlier processes left.
    async fn sweep(&self, state: &mut State) -> Result<(), Error> {
        if state.is_swept {
            return Ok(());
        }
        let named: Vec<&String> = state.catalog.objects.values().map(|object| &object.key).collect();
        for key in self.bucket.list(BLOCKS).await? {
            let epoch = key.split('-').next().and_then(|epoch| epoch.parse::<u64>().ok());
            let is_earlier = epoch.is_some_and(|epoch| epoch < state.catalog.epoch);
            if is_earlier && !named.contains(&&key) && !state.garbage.contains_key(&key) {
                // No block of this process is read from it.
                state.garbage.insert(key, String::new());
            }
        }
        state.is_swept = true;
        Ok(())
    }

    /// Removes what no catalog names and nobody reads.
    async fn remove_garbage(&self, state: &mut State) -> Result<(), Error> {
        let removable = state.garbage.iter().filter(|(_, name)| !self.disk.is_open(name));
        for key in removable.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.bucket.delete(&format!("{BLOCKS}/{key}")).await?;
            state.garbage.remove(&key);
        }
        Ok(())
    }

    /// Takes blocks that are in the catalog out of the directory, the oldest first, until what stays is small enough.
    fn evict(&self, state: &State, summary: &Summary) -> Result<(), Error> {
        let size = |name: &str| self.disk.local_bytes(name);
        let mut local: Vec<(i64, &String, u64)> =
            summary.blocks.iter().filter_map(|(name, span)| Some((span.end_ms, name, size(name)?))).collect();
        local.sort_unstable();
        let mut bytes: u64 = local.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, name, own) in local {
            if self.cache_bytes.is_none_or(|max| bytes <= max) {
                break;
            }
            let Some(object) = state.catalog.objects.get(name) else { continue };
            self.disk.evict(name, object).map_err(|e| Error::Objects(format!("removing {name}: {e}")))?;
            self.metrics.evicted.inc();
            bytes -= own;
        }
        self.metrics.cache_bytes.set(bytes as i64);
        Ok(())
    }
}

/// The files that object storage is to have.
fn files(summary: &Summary) -> impl Iterator<Item = &String> {
    summary.blocks.iter().map(|(name, _)| name).chain(&summary.exemplars)
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Error::Objects(failure.to_string())
    }
}
