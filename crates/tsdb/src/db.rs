//! The engine as a whole: the head, the blocks, and the manifest that binds them to positions in the log.
//!
//! A flush takes the head away from writers for the instant in which a fresh one is put in its place, together with the positions that
//! it reaches; it is then written to blocks while queries still read it. If that fails, the frozen head stays and the next flush tries again.
//! The price is memory for two heads.

mod read;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use model::{Cancel, Columns, Labels, LabelsRef, Metadata, Sample, TimeRange};

use crate::block::{Block, Writer};
use crate::files::{create_dir, io, sync_dir};
use crate::head::{Appended, Head, Snapshot};
use crate::manifest::{BlockEntry, Manifest};
use crate::{Error, merge};

/// A head that spans more than this many spans goes to one wide block, so that samples strewn over decades do not become thousands of files.
const SPANS_MAX: i64 = 64;
/// The span of a wide block.
const WIDE: i64 = i64::MIN;
/// Families of which metadata is kept. Real installations have some thousands.
const METADATA_MAX: usize = 100_000;

/// How an engine keeps its data.
#[derive(Debug, Clone)]
pub struct Options {
    /// Age at which samples expire, in milliseconds; `None` keeps everything.
    pub retention_ms: Option<i64>,
    /// Size of the head at which [`Db::should_flush`] says so, in bytes.
    pub head_bytes_max: usize,
    /// Blocks are cut at multiples of this many milliseconds, so that they expire as a whole.
    pub block_span_ms: i64,
}

impl Default for Options {
    fn default() -> Self {
        Options { retention_ms: None, head_bytes_max: 256 << 20, block_span_ms: 24 * 3_600_000 }
    }
}

/// An engine over one directory, shared by threads.
#[derive(Debug)]
pub struct Db {
    dir: PathBuf,
    options: Options,
    /// Held for reading by whoever appends a record, for writing while the head is exchanged.
    head: RwLock<Arc<Head>>,
    /// Partition to the next offset, of what is in the head.
    positions: Mutex<BTreeMap<u32, i64>>,
    metadata: Mutex<BTreeSet<Metadata>>,
    view: RwLock<Arc<View>>,
    committed: Mutex<Committed>,
    flushing: Mutex<()>,
    merging: Mutex<()>,
    next_block: AtomicU64,
    /// Samples before this time are expired.
    floor_ms: AtomicI64,
}

/// What queries read beside the head.
#[derive(Debug, Default)]
struct View {
    frozen: Option<Arc<Head>>,
    blocks: Vec<(BlockEntry, Arc<Block>)>,
    warnings: Vec<String>,
}

#[derive(Debug)]
struct Committed {
    manifest: Manifest,
    /// Positions that the frozen head reaches.
    frozen: BTreeMap<u32, i64>,
}

/// Figures of an engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Series in the head.
    pub head_series: usize,
    /// Samples in the head.
    pub head_samples: u64,
    /// Memory of the head and of the one that is being written, in bytes.
    pub head_bytes: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Size of their files.
    pub block_bytes: u64,
    /// Samples in them.
    pub block_samples: u64,
    /// Blocks that are damaged and not read.
    pub quarantined: usize,
}

/// Appends what one record holds: all of it becomes part of the same flush.
#[derive(Debug)]
pub struct Batch<'a> {
    db: &'a Db,
    head: RwLockReadGuard<'a, Arc<Head>>,
}

impl Batch<'_> {
    /// Appends samples of one series, in any order.
    pub fn append(&mut self, labels: LabelsRef<'_>, samples: &[Sample]) -> Appended {
        self.head.append(labels, samples)
    }

    /// Notes what is known of a family.
    pub fn metadata(&mut self, metadata: &Metadata) {
        let mut known = lock(&self.db.metadata);
        if known.len() < METADATA_MAX && !known.contains(metadata) {
            known.insert(metadata.clone());
        }
    }

    /// Ends the record: the partition is read from `next_offset` after a restart, once this is flushed.
    pub fn finish(self, partition: u32, next_offset: i64) {
        lock(&self.db.positions).insert(partition, next_offset);
    }
}

impl Db {
    /// Opens or creates the engine of a directory. Files that a crash left over are removed; a block that is damaged is put
    /// in quarantine: it stays where it is, is not read, and every answer of queries says so.
    pub fn open(dir: &Path, options: Options) -> Result<Db, Error> {
        create_dir(dir)?;
        let manifest = Manifest::read(dir)?;
        remove_orphans(dir, &manifest)?;
        let mut view = View::default();
        for entry in &manifest.blocks {
            match Block::open(&dir.join(&entry.name)) {
                Ok(block) => view.blocks.push((entry.clone(), Arc::new(block))),
                Err(error) => view.warnings.push(format!("block {} is in quarantine: {error}", entry.name)),
            }
        }
        Ok(Db {
            dir: dir.to_owned(),
            options,
            head: RwLock::default(),
            positions: Mutex::new(manifest.positions.clone()),
            metadata: Mutex::new(manifest.metadata.clone()),
            view: RwLock::new(Arc::new(view)),
            next_block: AtomicU64::new(manifest.next_block),
            committed: Mutex::new(Committed { manifest, frozen: BTreeMap::new() }),
            flushing: Mutex::default(),
            merging: Mutex::default(),
            floor_ms: AtomicI64::new(i64::MIN),
        })
    }

    /// The offsets from which each partition is to be read after a restart: what the manifest says.
    pub fn positions(&self) -> BTreeMap<u32, i64> {
        lock(&self.committed).manifest.positions.clone()
    }

    /// Begins a record. Many may be open at once; a flush waits for them.
    pub fn begin(&self) -> Batch<'_> {
        Batch { db: self, head: self.head.read().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Whether the head has reached its bound.
    pub fn should_flush(&self) -> bool {
        self.current_head().bytes() >= self.options.head_bytes_max || self.view().frozen.is_some()
    }

    /// Whether flushes do not keep up, so that whoever appends has to wait.
    pub fn is_over_budget(&self) -> bool {
        let frozen = self.view().frozen.as_ref().map_or(0, |h| h.bytes());
        frozen > 0 && self.current_head().bytes() >= self.options.head_bytes_max
    }

    /// Writes the head to blocks and commits them with the positions that they reach. Returns these positions.
    ///
    /// When it fails nothing is lost: what was to be written stays readable and is written by the next flush.
    pub fn flush(&self) -> Result<BTreeMap<u32, i64>, Error> {
        let _one = lock(&self.flushing);
        let (head, positions) = self.freeze();
        let mut written = Vec::new();
        let series = head.all_sorted();
        for (span, range) in self.spans(&head) {
            written.extend(self.write_block(&series, span, range)?);
        }
        drop(series);
        let metadata = lock(&self.metadata).clone();
        self.commit(|manifest, view| {
            manifest.positions = positions.clone();
            manifest.metadata = metadata;
            manifest.blocks.extend(written.iter().map(|(entry, _)| entry.clone()));
            view.blocks.extend(written);
            view.frozen = None;
        })?;
        Ok(positions)
    }

    /// Merges some blocks if that is worth it, and says whether it did.
    pub fn compact(&self, cancel: &Cancel) -> Result<bool, Error> {
        let _one = lock(&self.merging);
        let Some(run) = self.choose_merge() else { return Ok(false) };
        let name = self.new_name();
        let path = self.dir.join(&name);
        let keep = TimeRange { start_ms: self.floor_ms.load(Ordering::Relaxed), end_ms: i64::MAX };
        let blocks: Vec<Arc<Block>> = run.iter().map(|(_, block)| block.clone()).collect();
        let any = merge::merge(&blocks, keep, &path, cancel)?;
        let merged = if any {
            sync_dir(&self.dir)?;
            Some((BlockEntry { name, span: run[0].0.span }, Arc::new(Block::open(&path)?)))
        } else {
            None
        };
        let old: BTreeSet<&str> = run.iter().map(|(entry, _)| entry.name.as_str()).collect();
        let last = run.last().map(|(entry, _)| entry.name.clone());
        self.commit(|manifest, view| {
            // In the place of the newest of them, so that what was written later stays later.
            let at = view.blocks.iter().position(|(entry, _)| Some(&entry.name) == last.as_ref());
            if let (Some(at), Some(merged)) = (at, merged) {
                view.blocks.insert(at + 1, merged);
            }
            view.blocks.retain(|(entry, _)| !old.contains(entry.name.as_str()));
            let quarantined = manifest
                .blocks
                .iter()
                .filter(|e| !view.blocks.iter().any(|(v, _)| v == *e) && !old.contains(e.name.as_str()));
            let quarantined: Vec<BlockEntry> = quarantined.cloned().collect();
            manifest.blocks =
                quarantined.into_iter().chain(view.blocks.iter().map(|(entry, _)| entry.clone())).collect();
        })?;
        self.remove_files(old.into_iter())?;
        if !any {
            let _ = fs::remove_file(path);
        }
        Ok(true)
    }

    /// Drops blocks whose newest sample is older than the retention, and hides older samples of the others. Returns how many were dropped.
    pub fn expire(&self, now_ms: i64) -> Result<usize, Error> {
        let Some(retention_ms) = self.options.retention_ms else { return Ok(0) };
        let floor = now_ms.saturating_sub(retention_ms);
        self.floor_ms.fetch_max(floor, Ordering::Relaxed);
        let _one = lock(&self.merging);
        let old: BTreeSet<String> = {
            let view = self.view();
            let old = view.blocks.iter().filter(|(_, block)| block.range().end_ms < floor);
            old.map(|(entry, _)| entry.name.clone()).collect()
        };
        if old.is_empty() {
            return Ok(0);
        }
        self.commit(|manifest, view| {
            manifest.blocks.retain(|entry| !old.contains(&entry.name));
            view.blocks.retain(|(entry, _)| !old.contains(&entry.name));
        })?;
        self.remove_files(old.iter().map(String::as_str))?;
        Ok(old.len())
    }

    /// Figures, as of now.
    pub fn stats(&self) -> Stats {
        let (head, view) = (self.current_head(), self.view());
        Stats {
            head_series: head.series(),
            head_samples: head.samples(),
            head_bytes: head.bytes() + view.frozen.as_ref().map_or(0, |h| h.bytes()),
            blocks: view.blocks.len(),
            block_bytes: view.blocks.iter().map(|(_, b)| b.bytes()).sum(),
            block_samples: view.blocks.iter().map(|(_, b)| b.samples()).sum(),
            quarantined: view.warnings.len(),
        }
    }

    /// Takes the head away, or the one that an earlier flush could not write.
    fn freeze(&self) -> (Arc<Head>, BTreeMap<u32, i64>) {
        let mut committed = lock(&self.committed);
        if let Some(frozen) = &self.view().frozen {
            return (frozen.clone(), committed.frozen.clone());
        }
        let mut head = self.head.write().unwrap_or_else(PoisonError::into_inner);
        let frozen = std::mem::take(&mut *head);
        committed.frozen = lock(&self.positions).clone();
        self.change_view(|view| view.frozen = Some(frozen.clone()));
        (frozen, committed.frozen.clone())
    }

    /// The spans of time that a head covers.
    fn spans(&self, head: &Head) -> Vec<(i64, TimeRange)> {
        let Some(range) = head.range() else { return Vec::new() };
        let length = self.options.block_span_ms.max(1);
        let (first, last) = (range.start_ms.div_euclid(length), range.end_ms.div_euclid(length));
        if last.saturating_sub(first) >= SPANS_MAX {
            return vec![(WIDE, range)];
        }
        let of = |span: i64| TimeRange {
            start_ms: span.saturating_mul(length),
            end_ms: (span + 1).saturating_mul(length) - 1,
        };
        (first..=last).map(|span| (span, of(span))).collect()
    }

    /// Writes the samples of one span; `None` where there are none.
    fn write_block(
        &self,
        series: &[(Labels, Snapshot)],
        span: i64,
        range: TimeRange,
    ) -> Result<Option<(BlockEntry, Arc<Block>)>, Error> {
        let name = self.new_name();
        let path = self.dir.join(&name);
        let mut writer = Writer::create(&path)?;
        let mut samples = Columns::default();
        for (labels, snapshot) in series {
            samples.clear();
            snapshot.read_into(range, &mut samples)?;
            writer.push(labels, &samples)?;
        }
        if writer.is_empty() {
            drop(writer);
            fs::remove_file(&path).map_err(io(format!("removing {}", path.display())))?;
            return Ok(None);
        }
        writer.finish()?;
        sync_dir(&self.dir)?;
        Ok(Some((BlockEntry { name, span }, Arc::new(Block::open(&path)?))))
    }

    /// The blocks that are best merged now: of one span, with no wide block written between them.
    fn choose_merge(&self) -> Option<Vec<(BlockEntry, Arc<Block>)>> {
        let view = self.view();
        let mut runs: BTreeMap<(i64, usize), Vec<(BlockEntry, Arc<Block>)>> = BTreeMap::new();
        // Counts up at each change between wide blocks and others: only blocks with the same count have nothing in between.
        let (mut stretch, mut wide_before) = (0, false);
        for (entry, block) in &view.blocks {
            if (entry.span == WIDE) != wide_before {
                stretch += 1;
                wide_before = entry.span == WIDE;
            }
            runs.entry((entry.span, stretch)).or_default().push((entry.clone(), block.clone()));
        }
        runs.into_values().find_map(|blocks| {
            let sizes: Vec<u64> = blocks.iter().map(|(_, b)| b.bytes()).collect();
            merge::choose(&sizes).map(|run| blocks[run].to_vec())
        })
    }

    fn new_name(&self) -> String {
        format!("{:010}.block", self.next_block.fetch_add(1, Ordering::Relaxed))
    }

    /// Changes manifest and view together: what queries see is what a restart would find.
    fn commit(&self, edit: impl FnOnce(&mut Manifest, &mut View)) -> Result<(), Error> {
        let mut committed = lock(&self.committed);
        let mut manifest = committed.manifest.clone();
        let old = self.view();
        let mut view = View { frozen: old.frozen.clone(), blocks: old.blocks.clone(), warnings: old.warnings.clone() };
        edit(&mut manifest, &mut view);
        manifest.next_block = self.next_block.load(Ordering::Relaxed);
        manifest.write(&self.dir)?;
        committed.manifest = manifest;
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        Ok(())
    }

    fn change_view(&self, edit: impl FnOnce(&mut View)) {
        let mut slot = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let mut view =
            View { frozen: slot.frozen.clone(), blocks: slot.blocks.clone(), warnings: slot.warnings.clone() };
        edit(&mut view);
        *slot = Arc::new(view);
    }

    /// Removes files that the manifest does not name any more. Those that are read still can be.
    fn remove_files<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
        for name in names {
            let path = self.dir.join(name);
            fs::remove_file(&path).map_err(io(format!("removing {}", path.display())))?;
        }
        sync_dir(&self.dir)
    }

    fn current_head(&self) -> Arc<Head> {
        self.head.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn view(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Removes blocks that no manifest names: a crash came between writing and committing them.
fn remove_orphans(dir: &Path, manifest: &Manifest) -> Result<(), Error> {
    let named: BTreeSet<&str> = manifest.blocks.iter().map(|b| b.name.as_str()).collect();
    let context = || format!("reading {}", dir.display());
    for entry in fs::read_dir(dir).map_err(io(context()))? {
        let path = entry.map_err(io(context()))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let left_over = name.ends_with(".new") || (name.ends_with(".block") && !named.contains(name));
        if left_over {
            fs::remove_file(&path).map_err(io(format!("removing {}", path.display())))?;
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
