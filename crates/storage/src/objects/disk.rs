//! A directory whose blocks may be in object storage alone.
//!
//! What is written is written to the directory, and committed there. A block whose object counts may leave the directory: whoever has it open reads on from
//! object storage, and does not notice.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use model::Budget;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tsdb::disk::{Disk, Input, Local, Output};

use super::BLOCKS;
use super::bucket::{Bucket, Failure};
use super::catalog::Object;
use super::metrics::Metrics;
use super::pages::Pages;

/// A directory, with a bucket that has blocks of it.
#[derive(Debug)]
pub(super) struct Tiered {
    local: Local,
    cold: Arc<Cold>,
    /// Files that are open.
    open: Mutex<HashMap<String, Weak<File>>>,
    /// Blocks that the catalog names.
    objects: Mutex<BTreeMap<String, Object>>,
    /// Told when something was committed.
    pub(super) changed: Notify,
}

/// How blocks are read from object storage.
#[derive(Debug)]
struct Cold {
    bucket: Arc<Bucket>,
    pages: Pages,
    handle: Handle,
}

/// An open file.
#[derive(Debug)]
struct File {
    bytes: u64,
    /// While the directory has it.
    local: RwLock<Option<Box<dyn Input>>>,
    /// Set before `local` is taken.
    object: OnceLock<Object>,
    cold: Arc<Cold>,
}

#[derive(Debug)]
struct Opened(Arc<File>);

impl Tiered {
    /// `handle` is that of the runtime on which requests run. The disk must not be read on a thread that this runtime needs for them.
    /// `memory` is for what is read of objects.
    pub(super) fn new(local: Local, bucket: Arc<Bucket>, handle: Handle, memory: &Budget, metrics: Metrics) -> Self {
        let cold = Arc::new(Cold { bucket, pages: Pages::new(memory, metrics), handle });
        Tiered { local, cold, open: Mutex::default(), objects: Mutex::default(), changed: Notify::new() }
    }

    /// The blocks that may be read from object storage from now on. Pages of others are forgotten.
    pub(super) fn set_objects(&self, objects: BTreeMap<String, Object>) {
        let before = std::mem::replace(&mut *lock(&self.objects), objects.clone());
        for (name, object) in before {
            if !objects.contains_key(&name) {
                self.cold.pages.forget(&object.key);
            }
        }
    }

    /// Opens a file of the directory itself.
    pub(super) fn open_local(&self, name: &str) -> io::Result<Box<dyn Input>> {
        self.local.open(name)
    }

    /// Makes the names of the directory durable, which is no commit.
    pub(super) fn sync_local(&self) -> io::Result<()> {
        self.local.sync()
    }

    /// Size of a file, if the directory has it.
    pub(super) fn local_bytes(&self, name: &str) -> Option<u64> {
        fs::metadata(self.local.path(name)).ok().map(|file| file.len())
    }

    /// Whether somebody reads a file.
    pub(super) fn is_open(&self, name: &str) -> bool {
        lock(&self.open).get(name).is_some_and(|file| file.strong_count() > 0)
    }

    /// Takes a block that is in object storage out of the directory. A query that has it open reads it from there.
    pub(super) fn evict(&self, name: &str, object: &Object) -> io::Result<()> {
        let open = lock(&self.open);
        if let Some(file) = open.get(name).and_then(Weak::upgrade) {
            let _ = file.object.set(object.clone());
            *file.local.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        match self.local.remove(name) {
            // The engine was rid of it first.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn open_here_or_there(&self, name: &str) -> io::Result<Arc<File>> {
        let mut open = lock(&self.open);
        open.retain(|_, file| file.strong_count() > 0);
        if let Some(file) = open.get(name).and_then(Weak::upgrade) {
            return Ok(file);
        }
        let (bytes, local, object) = match self.local.open(name) {
            Ok(input) => (input.bytes(), Some(input), OnceLock::new()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let Some(object) = lock(&self.objects).get(name).cloned() else { return Err(e) };
                (object.bytes, None, OnceLock::from(object))
            }
            Err(e) => return Err(e),
        };
        let file = Arc::new(File { bytes, local: RwLock::new(local), object, cold: self.cold.clone() });
        open.insert(name.to_owned(), Arc::downgrade(&file));
        Ok(file)
    }
}

impl Disk for Tiered {
    fn path(&self, name: &str) -> PathBuf {
        self.local.path(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.local.list()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        match self.local.read(name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && lock(&self.objects).contains_key(name) => {
                let input = self.open(name)?;
                let mut content = vec![0; input.bytes() as usize];
                input.read_exact_at(&mut content, 0)?;
                Ok(content)
            }
            read => read,
        }
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        self.local.create(name)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Input>> {
        let file = self.open_here_or_there(name)?;
        if let Some(object) = file.object.get() {
            // What is read first is the end, and in several pieces.
            let tail = object.tail.min(object.bytes).min(file.cold.pages.request_bytes_max());
            let mut end = vec![0; tail as usize];
            file.cold.read(object, &mut end, object.bytes - tail)?;
        }
        Ok(Box::new(Opened(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.local.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.local.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.local.sync()?;
        self.changed.notify_one();
        Ok(())
    }
}

impl Input for Opened {
    fn bytes(&self) -> u64 {
        self.0.bytes
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let local = self.0.local.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(input) = &*local {
            return input.read_exact_at(buffer, at);
        }
        drop(local);
        let object = self.0.object.get().expect("set before the local file is taken");
        self.0.cold.read(object, buffer, at)
    }

    fn expect(&self, at: u64, bytes: u64) {
        // What is elsewhere is read ahead by `pages`, where that pays for a request.
        if let Some(input) = &*self.0.local.read().unwrap_or_else(PoisonError::into_inner) {
            input.expect(at, bytes);
        }
    }
}

impl Cold {
    fn read(&self, object: &Object, buffer: &mut [u8], at: u64) -> io::Result<()> {
        if at.checked_add(buffer.len() as u64).is_none_or(|end| end > object.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let key = format!("{BLOCKS}/{}", object.key);
        self.pages.read((&object.key, object.bytes), at, buffer, |range| {
            let (bucket, key) = (self.bucket.clone(), key.clone());
            self.wait(async move { bucket.get_range(&key, range).await })
        })
    }

    /// Waits for a request on a thread that is not the runtime's. Its time-outs bound the wait.
    fn wait<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> io::Result<T> {
        let (sender, answer) = sync_channel(1);
        self.handle.spawn(async move {
            let _ = sender.send(request.await);
        });
        match answer.recv() {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure @ Failure::Missing(_))) => Err(io::Error::new(io::ErrorKind::NotFound, failure)),
            Ok(Err(failure)) => Err(io::Error::new(io::ErrorKind::HostUnreachable, failure)),
            Err(_) => Err(io::Error::new(io::ErrorKind::HostUnreachable, "the process is ending")),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::memory::InMemory;

    use super::*;

    const CONTENT: &[u8] = b"a block, as far as anybody here looks";

    struct World {
        disk: Arc<Tiered>,
        bucket: Arc<Bucket>,
        object: Object,
        metrics: Metrics,
        _dir: tempfile::TempDir,
    }

    /// A block in the directory and in the bucket.
    async fn world() -> World {
        let dir = tempfile::tempdir().expect("directory");
        let metrics = Metrics::new(&prometheus::Registry::new()).expect("registers");
        let store = Arc::new(InMemory::new());
        let timeout = Duration::from_secs(60);
        let bucket = Arc::new(Bucket::new(store, "p".into(), "memory".to_owned(), timeout, metrics.clone()));
        let local = Local::open(dir.path()).expect("opens");
        local.create("b").and_then(|mut out| out.write_all(CONTENT)).expect("written");
        let object = Object { key: "1-b".to_owned(), bytes: CONTENT.len() as u64, tail: 5 };
        let input = local.open("b").expect("opens");
        bucket.upload(&format!("{BLOCKS}/1-b"), &*input).await.expect("uploaded");
        let disk = Arc::new(Tiered::new(local, bucket.clone(), Handle::current(), &Budget::default(), metrics.clone()));
        disk.set_objects(BTreeMap::from([("b".to_owned(), object.clone())]));
        World { disk, bucket, object, metrics, _dir: dir }
    }

    fn read(input: &dyn Input) -> Vec<u8> {
        let mut content = vec![0; input.bytes() as usize];
        input.read_exact_at(&mut content, 0).expect("reads");
        content
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_block_that_leaves_the_directory_is_read_on_by_those_who_have_it_open() {
        let World { disk, object, .. } = &world().await;
        let open = disk.open("b").expect("opens");
        disk.evict("b", object).expect("leaves");
        assert_eq!(disk.local_bytes("b"), None);
        assert_eq!(read(&*open), CONTENT);
        assert_eq!(read(&*disk.open("b").expect("opens")), CONTENT);
        let beyond = open.read_exact_at(&mut [0; 2], CONTENT.len() as u64 - 1).expect_err("it ends");
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
        disk.evict("b", object).expect("is gone already");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_is_open_until_the_last_one_drops_it() {
        let World { disk, .. } = &world().await;
        let (one, other) = (disk.open("b").expect("opens"), disk.open("b").expect("opens"));
        assert!(disk.is_open("b"));
        drop(one);
        assert!(disk.is_open("b"));
        drop(other);
        assert!(!disk.is_open("b"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_block_that_is_nowhere_is_missing_and_not_out_of_reach() {
        let World { disk, bucket, object, .. } = &world().await;
        assert_eq!(disk.open("c").expect_err("there is none").kind(), io::ErrorKind::NotFound);
        disk.evict("b", object).expect("leaves");
        bucket.delete(&format!("{BLOCKS}/1-b")).await.expect("removed");
        assert_eq!(disk.open("b").expect_err("it is gone").kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_request_is_counted_with_its_duration() {
        let World { disk, bucket, object, metrics, .. } = &world().await;
        disk.evict("b", object).expect("leaves");
        assert_eq!(read(&*disk.open("b").expect("opens")), CONTENT);
        bucket.delete(&format!("{BLOCKS}/1-b")).await.expect("removed");
        bucket.get_range(&format!("{BLOCKS}/1-b"), 0..1).await.expect_err("it is gone");
        for (operation, outcomes) in
            [("put_block", [1, 0]), ("get_range", [1, 1]), ("delete", [1, 0]), ("put_catalog", [0, 0])]
        {
            let counted = ["done", "missing"].map(|outcome| metrics.requests.with_label_values(&[operation, outcome]));
            assert_eq!(counted.map(|counter| counter.get()), outcomes, "{operation}");
            let timed = metrics.request_seconds.with_label_values(&[operation]).get_sample_count();
            assert_eq!(timed, outcomes.iter().sum::<u64>(), "{operation}");
        }
    }
}
