//! The few ways in which the engine changes a directory, each durable when it returns.

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

/// Creates a directory and those above it, and makes each entry durable.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
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

/// Keeps other processes out of a directory until the file is closed.
pub(crate) fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let context = || format!("locking {}", path.display());
    let file = File::options().create(true).write(true).truncate(false).open(&path).map_err(io(context()))?;
    file.try_lock().map_err(|e| io(format!("{}: is another process using it?", context()))(e.into()))?;
    Ok(file)
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
