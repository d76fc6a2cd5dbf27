//! The seam to the file system: one directory, in the few calls that the engine makes of it.
//!
//! Each is made once a file or once a run of chunks, never once a sample. A file is written once, from front to back, and never changed;
//! blocks are read by range. So a store of blocks elsewhere can sit beside the directory, and the tests put a disk that fails here.
//!
//! Not here are second names of files, which a snapshot and a repair give, and the folders of a Prometheus: both are of this machine's
//! file system by their nature, and `offline` and `prometheus` use that themselves.

mod local;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crate::Error;
pub use local::Local;
pub(crate) use local::{create_dir, sync_dir};

/// A file of this name in a directory says that blocks of it may be elsewhere alone, so that one which is missing here is not a lost one. What
/// reads a directory without its engine refuses it then.
pub const ELSEWHERE: &str = "objects";

/// A directory of files.
pub trait Disk: Debug + Send + Sync {
    /// How messages name a file.
    fn path(&self, name: &str) -> PathBuf;

    /// The names of all files, in no order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// The content of a small file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Begins a file, in the place of one that has the name.
    fn create(&self, name: &str) -> io::Result<Box<dyn Output>>;

    /// Opens a file that was written, for reading by range. It can be read as long as it is open, removed or not.
    fn open(&self, name: &str) -> io::Result<Box<dyn Input>>;

    /// Gives a file another name, from which it drives out the one that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes durable which names there are, and of which files; their content is [`Output::sync`]'s work.
    fn sync(&self) -> io::Result<()>;
}

/// A file that is being written.
pub trait Output: Write + Debug + Send {
    /// Makes what was written durable. After an error nothing is known of it, and the file is of no use.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file that was written.
pub trait Input: Debug + Send + Sync {
    /// Its size.
    fn bytes(&self) -> u64;

    /// Fills a buffer with the bytes from `at` on.
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;

    /// Says that these bytes will be read soon, for whoever can fetch them meanwhile. It waits for nothing and promises nothing.
    fn expect(&self, _at: u64, _bytes: u64) {}
}

/// Names what was being done in an error of the file system.
pub(crate) fn io(context: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let context = context.into();
    move |source| Error::Io { context, source: Arc::new(source) }
}

/// Makes the names of a disk durable.
pub(crate) fn sync(disk: &dyn Disk) -> Result<(), Error> {
    disk.sync().map_err(io(format!("fsync of directory {}", disk.path("").display())))
}

/// Replaces a small file as a whole, durable once the disk was synced. After an error it is the former one or the new one.
pub(crate) fn replace(disk: &dyn Disk, name: &str, content: &[u8]) -> io::Result<()> {
    let next = format!("{name}.new");
    let written = disk.create(&next).and_then(|mut out| {
        out.write_all(content)?;
        out.sync()
    });
    written.and_then(|()| disk.rename(&next, name)).inspect_err(|_| {
        // On a full disk it would keep the room of the next attempt. Where this fails too, that one replaces it.
        let _ = disk.remove(&next);
    })
}

/// Replaces a small file as a whole, durable when this returns. After an error it is the former one or the new one.
pub fn replace_and_sync(disk: &dyn Disk, name: &str, content: &[u8]) -> io::Result<()> {
    replace(disk, name, content)?;
    disk.sync()
}

/// Removes a file, if it is there.
pub(crate) fn remove(disk: &dyn Disk, name: &str) -> Result<(), Error> {
    match disk.remove(name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io(format!("removing {}", disk.path(name).display()))(e)),
        _ => Ok(()),
    }
}
