//! The few ways in which the log changes a directory, each durable when it returns.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use runtime::files::{self, Refused};

use crate::Error;

/// Names what was being done in an error of the file system.
pub(crate) fn io(context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let context = context.into();
    move |source| Error::Io { context, source: Arc::new(source) }
}

fn refused(Refused { context, source }: Refused) -> Error {
    io(context)(source)
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    files::sync_dir(dir).map_err(refused)
}

/// Creates a directory and those above it, and makes each entry durable; that of one which exists too.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    files::create_dir(dir).map_err(refused)
}

/// Whether the file system has no room, which may pass, rather than a fault.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Replaces a file by another content: after a crash it holds the one or the other.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let context = || format!("writing {}", temporary.display());
    let mut file = File::create(&temporary).map_err(io(context()))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(io(context()))?;
    fs::rename(&temporary, path).map_err(io(format!("renaming to {}", path.display())))?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Takes blocks of the disk for a file from a place up to a later one, beyond its end where that is before. It only helps: not every system and file system can, and one
/// without room says so when it is written to.
#[cfg(target_os = "linux")]
pub(crate) fn take_blocks(file: &File, from: u64, to: u64) {
    let _ = rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, from, to - from);
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn take_blocks(_file: &File, _from: u64, _to: u64) {}
