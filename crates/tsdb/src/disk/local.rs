//! A directory of this machine's file system.

use std::fs::{self, File};
use std::io::{self, Write};
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Disk, Input, Output};
use crate::Error;

/// A directory that no other process changes.
#[derive(Debug)]
pub struct Local {
    dir: PathBuf,
    /// Keeps other processes out as long as it is open; `None` where nobody ever wrote.
    _lock: Option<File>,
}

/// Bytes that are written before they are sent to the disk: a block of some hundred MiB that is synced at its end alone keeps the log's
/// fsyncs, which somebody waits for, behind it.
const UNSYNCED_MAX: usize = 8 << 20;

#[derive(Debug)]
struct Written {
    file: File,
    unsynced: usize,
}

#[derive(Debug)]
struct Readable {
    file: File,
    bytes: u64,
}

impl Local {
    /// Creates the directory if it is not there, and keeps other processes out of it.
    pub fn open(dir: &Path) -> Result<Local, Error> {
        create_dir(dir)?;
        Ok(Local { dir: dir.to_owned(), _lock: Some(lock(dir)?) })
    }

    /// Keeps those out who write, for reading alone: nothing is created, so that it may be on a medium that cannot be written.
    pub(crate) fn shared(dir: &Path) -> Result<Local, Error> {
        Ok(Local { dir: dir.to_owned(), _lock: lock_shared(dir)? })
    }
}

impl Disk for Local {
    fn path(&self, name: &str) -> PathBuf {
        // Without a name the directory itself, and no slash after it.
        if name.is_empty() { self.dir.clone() } else { self.dir.join(name) }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            // A name that is not UTF-8 is none of the engine's.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(name))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(Written { file: File::create(self.path(name))?, unsynced: 0 }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Input>> {
        let file = File::open(self.path(name))?;
        let bytes = file.metadata()?.len();
        Ok(Box::new(Readable { file, bytes }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= UNSYNCED_MAX {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Written {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Input for Readable {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }

    #[cfg(target_os = "linux")]
    fn expect(&self, at: u64, bytes: u64) {
        // A file system that cannot is read when the bytes are needed.
        let _ = rustix::fs::fadvise(&self.file, at, NonZeroU64::new(bytes), rustix::fs::Advice::WillNeed);
    }
}

/// Creates a directory and those above it, and makes each entry durable.
///
/// The entry of one that exists is made durable too: whoever created it may have been ended before it did. Those above it need no such care, since each entry
/// is durable before anything is created below it.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if dir.is_dir() {
        return match sync_dir(parent) {
            // A directory above that cannot even be read was not made by this program.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        };
    }
    create_dir(parent)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(super::io(format!("creating directory {}", dir.display()))(e));
        }
        _ => {}
    }
    sync_dir(dir)?;
    sync_dir(parent)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(super::io(format!("fsync of directory {}", dir.display())))
}

/// Keeps other processes out of a directory until the file is closed.
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let context = || format!("locking {}", path.display());
    let file = File::options().create(true).write(true).truncate(false).open(&path).map_err(super::io(context()))?;
    file.try_lock().map_err(|e| super::io(format!("{}: is another process using it?", context()))(e.into()))?;
    Ok(file)
}

/// As [`lock`], beside others who read. A directory in which no engine ever ran has no file for it, and one that nobody may write to can have none.
fn lock_shared(dir: &Path) -> Result<Option<File>, Error> {
    let path = dir.join("lock");
    let context = || format!("locking {}", path.display());
    match File::open(&path) {
        Ok(file) => {
            let locked = file.try_lock_shared();
            locked.map_err(|e| super::io(format!("{}: is another process using it?", context()))(e.into()))?;
            Ok(Some(file))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(super::io(context())(e)),
    }
}
