//! Directories whose entries are durable, for components that keep files of their own. The engine, which needs no runtime, has its own.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// The file system refused.
#[derive(Debug, thiserror::Error)]
#[error("{context}: {source}")]
pub struct Refused {
    /// What was being done, and to what.
    pub context: String,
    /// The operating system's answer.
    pub source: io::Error,
}

fn refused(context: String) -> impl FnOnce(io::Error) -> Refused {
    move |source| Refused { context, source }
}

/// Makes the entries of a directory durable.
pub fn sync_dir(dir: &Path) -> Result<(), Refused> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(refused(format!("fsync of directory {}", dir.display())))
}

/// Creates a directory and those above it, and makes each entry durable.
///
/// The entry of one that exists is made durable too: the process that created it may have been killed before it did. Those
/// above it need no such care, since each entry is durable before anything is created below it.
pub fn create_dir(dir: &Path) -> Result<(), Refused> {
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if dir.is_dir() {
        return match sync_dir(parent) {
            // A directory above that cannot even be read was not made by this program.
            Err(e) if e.source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        };
    }
    create_dir(parent)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(refused(format!("creating directory {}", dir.display()))(e));
        }
        _ => {}
    }
    sync_dir(dir)?;
    sync_dir(parent)
}
