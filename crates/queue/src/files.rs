//! The few ways in which the log changes a directory, each durable when it returns.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::Error;

/// Names what was being done in an error of the file system.
pub(crate) fn io(context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let context = context.into();
    move |source| Error::Io { context, source: Arc::new(source) }
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io(format!("fsync of directory {}", dir.display())))
}

/// Whether the file system has no room, which may pass, rather than a fault.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Creates a directory and those above it, and makes each entry durable.
///
/// The entry of one that exists is made durable too: the process that created it may have been killed before it did. Those
/// above it need no such care, since each entry is durable before anything is created below it.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if dir.is_dir() {
        return match sync_dir(parent) {
            // A directory above that cannot even be read was not made by this program.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        };
    }
    create_dir(parent)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(io(format!("creating directory {}", dir.display()))(e));
        }
        _ => {}
    }
    sync_dir(dir)?;
    sync_dir(parent)
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
