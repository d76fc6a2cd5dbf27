//! The engine as a whole: the head, the blocks, and the manifest that binds them to positions in the log.
//!
//! A flush takes the samples of the head away from writers for the instant in which a fresh generation begins, together with the positions
//! that they reach; they are then written to blocks while queries still read them. If that fails, the frozen generation stays and
//! the next flush tries again. The price is memory for the samples of two generations.

mod background;
mod cardinality;
mod compact;
mod count;
mod downsample;
mod exemplars;
mod families;
mod flush;
mod load;
mod memory;
mod options;
mod orders;
mod outline;
mod pace;
mod read;
mod rebuild;
mod retain;
mod snapshot;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use model::{Exemplar, LabelsRef, Metadata, Samples, TimeRange};

use crate::Error;
use crate::block::{Block, Cache};
use crate::changes::{Changes, Touched};
use crate::deletes::Delete;
use crate::disk::{self, Disk, Local, io};
use crate::exemplars::file::SUFFIX as EXEMPLARS;
use crate::families::Families;
use crate::head::{Appended, Appender, Frozen, Head};
use crate::manifest::{BlockEntry, Manifest};
use crate::offsets::Offsets;
pub use background::Background;
pub use count::{Newest, NewestSamples};
pub use load::Loader;
use memory::Account;
pub use memory::Memory;
pub use options::Options;
use orders::Orders;
pub(crate) use pace::Pace;
use pace::Paces;
pub use rebuild::{Lost, Rebuild};
pub use stats::{Downsampled, Stats};

/// The span of a wide block.
pub(crate) const WIDE: TimeRange = TimeRange::ALL;

/// An engine over one directory, shared by threads.
#[derive(Debug)]
pub struct Db {
    disk: Arc<dyn Disk>,
    options: Options,
    account: Account,
    head: Head,
    /// Of the indexes of all blocks.
    cache: Arc<Cache>,
    orders: Orders,
    /// Held for reading by whoever appends a record or looks into head and view together, for writing while a generation of the head
    /// begins and while numbers of series are taken back.
    gate: RwLock<()>,
    /// How far each partition is in the head.
    reached: Mutex<BTreeMap<u32, Reached>>,
    /// This and the next are taken by whoever holds the head, so nobody who holds them asks anything of it.
    exemplars: Mutex<exemplars::Kept>,
    families: Mutex<Families>,
    view: RwLock<Arc<View>>,
    changes: Changes,
    committed: Mutex<Committed>,
    flushing: Mutex<()>,
    merging: Mutex<()>,
    /// Files that no manifest names any more and that are still there.
    left: Mutex<BTreeSet<String>>,
    next_block: AtomicU64,
    /// The latest time that [`Db::expire`] was told, the lowest number before.
    now_ms: AtomicI64,
    paces: Mutex<Paces>,
    flushes: AtomicU64,
    merges: AtomicU64,
    merges_too_large: AtomicU64,
    /// Names of the oldest and the newest of blocks in a row that take too much memory together.
    too_large: Mutex<BTreeSet<(String, String)>>,
    put_off: Mutex<compact::PutOff>,
    times_forgotten: AtomicU64,
    downsampled: Mutex<Downsampled>,
}

/// A block with its entry in the manifest.
type Named = (BlockEntry, Arc<Block>);

/// What queries read beside the head.
#[derive(Debug, Clone, Default)]
struct View {
    frozen: Option<Arc<Frozen>>,
    blocks: Vec<Named>,
    /// Blocks that could not be opened, each with what to say of it.
    quarantined: Vec<(BlockEntry, String)>,
    deletes: Vec<Arc<Delete>>,
}

#[derive(Debug, Default)]
struct Committed {
    manifest: Manifest,
    /// What the frozen head was appended from.
    frozen: Source,
    /// Files that it does not name and that the one before did, if it may be that one which a restart finds.
    waiting: BTreeSet<String>,
}

/// How far a partition is in the head.
#[derive(Debug, Clone, Copy)]
struct Reached {
    /// Offset of the first record since the head was frozen last; the same as `next` if there was none.
    first: i64,
    /// The offset after the last one.
    next: i64,
    /// An offset came that had been there: the log is another one.
    is_other_log: bool,
}

/// What a generation of the head was appended from.
#[derive(Debug, Clone, Default)]
struct Source {
    /// Offsets after the last, of every partition.
    positions: BTreeMap<u32, i64>,
    from: Offsets,
    /// Partitions of which all offsets that are known are of another log.
    of_other_logs: BTreeSet<u32>,
}

/// Appends what one record holds: all of it becomes part of the same flush. While it is open its thread asks nothing else of
/// the engine, since it holds locks.
#[derive(Debug)]
pub struct Batch<'a> {
    db: &'a Db,
    appender: Appender<'a>,
    touched: Touched,
    _gate: RwLockReadGuard<'a, ()>,
}

impl Reached {
    fn at(next: i64) -> Reached {
        Reached { first: next, next, is_other_log: false }
    }
}

impl Batch<'_> {
    /// Appends samples of one series, in any order.
    pub fn append<'s>(&mut self, labels: LabelsRef<'_>, samples: impl Into<Samples<'s>>) -> Appended {
        let samples = samples.into();
        let (appended, slot) = self.appender.append_named(labels, samples);
        if let Some(slot) = slot {
            self.touched.add(slot, samples);
        }
        appended
    }

    /// Notes what was said of a family at a time, in Unix milliseconds.
    pub fn metadata(&mut self, metadata: &Metadata, told_ms: i64) {
        lock(&self.db.families).tell(metadata, told_ms);
    }

    /// Adds exemplars of one series, in any order. One that is there already changes nothing.
    pub fn exemplars(&mut self, labels: LabelsRef<'_>, exemplars: &[Exemplar]) {
        lock(&self.db.exemplars).all.add(labels, exemplars);
    }

    /// Ends the record: the partition is read from `next_offset` after a restart, once this is flushed. The record's own offset is the
    /// one before.
    pub fn finish(self, partition: u32, next_offset: i64) {
        let offset = next_offset - 1;
        let mut all = lock(&self.db.reached);
        let reached = all.entry(partition).or_insert(Reached { first: offset, next: offset, is_other_log: false });
        if reached.first == reached.next {
            reached.first = offset;
        }
        reached.is_other_log |= offset < reached.next;
        reached.next = next_offset;
        drop(all);
        let Batch { db, appender, touched, _gate } = self;
        // Nobody sees the samples before these locks are released, and whoever is told of a change must see it.
        drop(appender);
        db.changes.touch(&touched);
        db.tell_head();
    }
}

impl Db {
    /// Opens or creates the engine of a directory. Files that a crash left over are removed; a block that is damaged is put
    /// in quarantine: it stays where it is, is not read, and every answer of queries says so. Fails where a block cannot be asked for.
    pub fn open(dir: &Path, options: Options) -> Result<Db, Error> {
        Db::open_on(Arc::new(Local::open(dir)?), options)
    }

    /// As [`Db::open`], of a disk.
    pub fn open_on(disk: Arc<dyn Disk>, options: Options) -> Result<Db, Error> {
        let manifest = match Manifest::read(&*disk, Some(options.block_span_ms))? {
            Some(manifest) => manifest,
            None => create(&*disk)?,
        };
        remove_orphans(&*disk, &manifest)?;
        let cache = Cache::new(options.index_cache_bytes);
        let mut view = View { deletes: manifest.deletes.clone(), ..View::default() };
        for entry in &manifest.blocks {
            match Block::open(&*disk, &entry.name, &cache) {
                Ok(block) => view.blocks.push((entry.clone(), Arc::new(block))),
                Err(error) if error.is_unreachable() => return Err(error),
                Err(error) => {
                    let warning = format!("block {} is in quarantine: {error}", entry.name);
                    view.quarantined.push((entry.clone(), warning));
                }
            }
        }
        let exemplars = exemplars::Kept::open(&*disk, manifest.exemplars.as_deref(), options.exemplars_max);
        let (account, orders) = (Account::new(&options.memory), Orders::new(options.index_cache_bytes));
        account.tell_index(&view, &cache, &orders);
        Ok(Db {
            disk,
            options,
            account,
            head: Head::default(),
            cache,
            orders,
            gate: RwLock::default(),
            reached: Mutex::new(manifest.positions.iter().map(|(p, next)| (*p, Reached::at(*next))).collect()),
            exemplars: Mutex::new(exemplars),
            families: Mutex::new(Families::new(manifest.metadata.clone())),
            view: RwLock::new(Arc::new(view)),
            changes: Changes::default(),
            next_block: AtomicU64::new(manifest.next_block),
            committed: Mutex::new(Committed { manifest, ..Committed::default() }),
            flushing: Mutex::default(),
            merging: Mutex::default(),
            left: Mutex::default(),
            now_ms: AtomicI64::new(i64::MIN),
            paces: Mutex::default(),
            flushes: AtomicU64::new(0),
            merges: AtomicU64::new(0),
            merges_too_large: AtomicU64::new(0),
            too_large: Mutex::default(),
            put_off: Mutex::default(),
            times_forgotten: AtomicU64::new(0),
            downsampled: Mutex::default(),
        })
    }

    /// The offsets from which each partition is to be read after a restart: what the manifest says.
    pub fn positions(&self) -> BTreeMap<u32, i64> {
        lock(&self.committed).manifest.positions.clone()
    }

    /// Says which log is read from now on, before anything of it is. Where what is here was read from another one, its positions and the records that blocks
    /// name mean nothing any more: they are forgotten, for good when this returns. Returns how many positions were.
    pub fn follow(&self, log: &str) -> Result<usize, Error> {
        let (known, positions) = {
            let manifest = &lock(&self.committed).manifest;
            (manifest.log.clone(), manifest.positions.len())
        };
        if known.as_deref() == Some(log) {
            return Ok(0);
        }
        let is_other = known.is_some();
        self.commit(|manifest, view| {
            manifest.log = Some(log.to_owned());
            if is_other {
                manifest.positions.clear();
                manifest.blocks.iter_mut().for_each(|entry| entry.from = Offsets::default());
                view.blocks.iter_mut().for_each(|(entry, _)| entry.from = Offsets::default());
                view.quarantined.iter_mut().for_each(|(entry, _)| entry.from = Offsets::default());
            }
        })?;
        if is_other {
            lock(&self.reached).clear();
        }
        Ok(if is_other { positions } else { 0 })
    }

    /// Begins a record. Many may be open at once; a flush waits for them.
    pub fn begin(&self) -> Batch<'_> {
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        Batch { db: self, appender: self.head.appender(), touched: Touched::default(), _gate: gate }
    }

    /// What every answer of a query says: the blocks that are in quarantine, and why.
    pub fn warnings(&self) -> Vec<String> {
        self.view().warnings()
    }

    /// What time it is, if that was told.
    fn now_ms(&self) -> Option<i64> {
        Some(self.now_ms.load(Ordering::Relaxed)).filter(|now| *now != i64::MIN)
    }

    fn new_name(&self) -> String {
        self.numbered(".block")
    }

    /// A name that no file had before.
    fn numbered(&self, suffix: &str) -> String {
        format!("{:010}{suffix}", self.next_block.fetch_add(1, Ordering::Relaxed))
    }

    /// Changes manifest and view together. Files that are not needed after are removed. If only the sync at the end fails, the change is
    /// there, but is not to be relied on: the next commit makes it durable.
    fn commit(&self, edit: impl FnOnce(&mut Manifest, &mut View)) -> Result<(), Error> {
        let mut committed = lock(&self.committed);
        let mut manifest = committed.manifest.clone();
        let mut view = View::clone(&self.view());
        edit(&mut manifest, &mut view);
        manifest.next_block = self.next_block.load(Ordering::Relaxed);
        let (before, after) = (committed.manifest.names(), manifest.names());
        if let Err(error) = manifest.write(&*self.disk) {
            self.discard(after.difference(&before).cloned());
            return Err(error);
        }
        // From here on it has happened for this process, though a restart may find the one before, until a sync has succeeded.
        let synced = disk::sync(&*self.disk);
        committed.manifest = manifest;
        self.orders.keep(|number| view.blocks.iter().any(|(entry, _)| entry.number() == number));
        self.account.tell_index(&view, &self.cache, &self.orders);
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        committed.waiting.extend(before.difference(&after).cloned());
        synced?;
        let waiting = std::mem::take(&mut committed.waiting);
        drop(committed);
        self.discard(waiting);
        Ok(())
    }

    fn change_view(&self, edit: impl FnOnce(&mut View)) {
        let mut slot = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let mut view = View::clone(&slot);
        edit(&mut view);
        *slot = Arc::new(view);
    }

    /// Removes files that no manifest names, now or later. Those that are read still can be.
    fn discard(&self, names: impl IntoIterator<Item = String>) {
        lock(&self.left).extend(names);
        let _ = self.remove_left();
    }

    /// Removes what is left of files that were discarded.
    fn remove_left(&self) -> Result<(), Error> {
        let mut result = Ok(());
        lock(&self.left).retain(|name| match disk::remove(&*self.disk, name) {
            Ok(()) => false,
            Err(error) => {
                result = Err(error);
                true
            }
        });
        result
    }

    fn view(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Begins an engine in a directory that has none. Blocks without a manifest are no leftover of a crash, since the manifest comes
/// before the first of them; they may be all that is left of somebody's data, so they are not touched.
fn create(disk: &dyn Disk) -> Result<Manifest, Error> {
    for name in list(disk)? {
        if is_numbered(&name) {
            return Err(Error::corrupt(&disk.path(&name).display().to_string(), 0, "it is there, and no manifest"));
        }
    }
    let manifest = Manifest::default();
    manifest.write(disk)?;
    disk::sync(disk)?;
    Ok(manifest)
}

/// Whether it is a file that a manifest names, or named.
fn is_numbered(name: &str) -> bool {
    name.ends_with(".block") || name.ends_with(EXEMPLARS)
}

/// Removes files that no manifest names: a crash came between writing and committing them.
fn remove_orphans(disk: &dyn Disk, manifest: &Manifest) -> Result<(), Error> {
    let named = manifest.names();
    for name in list(disk)? {
        let left_over = name.ends_with(".new") || (is_numbered(&name) && !named.contains(&name));
        if left_over {
            disk::remove(disk, &name)?;
        }
    }
    Ok(())
}

fn list(disk: &dyn Disk) -> Result<Vec<String>, Error> {
    disk.list().map_err(io(format!("reading directory {}", disk.path("").display())))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
