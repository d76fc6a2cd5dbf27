//! Snapshots: what storage has at one moment, beside it under a name, made while it runs; and laid out again as a storage.
//!
//! A snapshot is a data directory of its own, with the blocks by second names, so it takes no room until the blocks that it names were merged
//! or have expired. It has no positions in the log, see [`tsdb::offline::layout`]. Nobody removes snapshots but whoever asked for them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tsdb::Db;

use crate::{Error, replica};

/// The storage in a data directory.
const STORAGE: &str = "storage";
/// What is not whole yet.
const UNFINISHED: &str = "new";

/// Writes a snapshot of what is in the blocks of a storage in `dir`, which appears under the name that is returned when it is whole and durable. Where that fails what was
/// begun is removed, or by the next start.
pub fn make(db: &Db, dir: &Path, now_ms: i64) -> Result<String, Error> {
    let snapshots = folder(dir);
    let name = name(now_ms);
    let unfinished = snapshots.join(format!("{name}.{UNFINISHED}"));
    let written = || {
        let storage = unfinished.join(STORAGE);
        db.snapshot(&storage)?;
        copy_replica(dir, &storage)?;
        publish(&unfinished, &snapshots.join(&name))
    };
    written().inspect_err(|_| {
        let _ = fs::remove_dir_all(&unfinished);
    })?;
    tracing::info!(name, "made a snapshot");
    Ok(name)
}

/// Where snapshots of a storage are: beside it.
pub fn folder(storage: &Path) -> PathBuf {
    storage.with_file_name("snapshots")
}

/// Removes what a crash left half made.
pub fn remove_left_over(snapshots: &Path) -> Result<(), Error> {
    let context = |e| failed("reading", snapshots, &e);
    let entries = match fs::read_dir(snapshots) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(context)?,
    };
    for entry in entries {
        let path = entry.map_err(context)?.path();
        if is_unfinished(&path) {
            fs::remove_dir_all(&path).map_err(|e| failed("removing", &path, &e))?;
        }
    }
    Ok(())
}

/// Lays a snapshot out as the storage of a data directory, which has none yet; durable when this returns. The storage reads its log from
/// the start.
pub fn restore(snapshot: &Path, data: &Path) -> Result<(), Error> {
    if is_unfinished(snapshot) {
        return Err(Error::Directory(format!("{} is not whole: it was being made", snapshot.display())));
    }
    let (from, to) = (snapshot.join(STORAGE), data.join(STORAGE));
    if !from.is_dir() {
        return Err(Error::Directory(format!("{} is no snapshot: it has no folder {STORAGE}", snapshot.display())));
    }
    if to.exists() {
        let to = to.display();
        return Err(Error::Directory(format!("{to} is there already; move it away: mv {to} {to}.old")));
    }
    let unfinished = data.join(format!("{STORAGE}.restored"));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(|e| failed("removing", &unfinished, &e))?;
    }
    tsdb::offline::layout::copy(&from, &unfinished)?;
    copy_replica(&from, &unfinished)?;
    publish(&unfinished, &to)
}

/// Whether a folder has the name of a snapshot that is being made.
fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == UNFINISHED)
}

/// Whose partitions a storage has.
fn copy_replica(from: &Path, to: &Path) -> Result<(), Error> {
    let (source, target) = (from.join(replica::FILE), to.join(replica::FILE));
    match fs::read(&source) {
        Ok(text) => write(&target, &text).map_err(|e| failed("writing", &target, &e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed("reading", &source, &e)),
    }
}

fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    fs::write(path, content)?;
    File::open(path)?.sync_all()?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Gives a folder its name.
fn publish(unfinished: &Path, name: &Path) -> Result<(), Error> {
    let parent = name.parent().unwrap_or(Path::new("."));
    let renamed = fs::rename(unfinished, name).and_then(|()| File::open(parent)?.sync_all());
    renamed.map_err(|e| failed("renaming to", name, &e))
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::Directory(format!("{what} {}: {error}", path.display()))
}

/// `20171210T211224Z-2be650b6d019eb54`, as Prometheus has it.
fn name(now_ms: i64) -> String {
    let (days, of_day) = (now_ms.div_euclid(86_400_000), now_ms.rem_euclid(86_400_000) / 1000);
    let (year, month, day) = model::time::civil(days);
    let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    // One is made at a time, so what tells two of a second apart is the time too; the process tells two storages apart.
    let chance = u64::from(std::process::id()) << 32 | (now_ms as u64 & u64::from(u32::MAX));
    format!("{year:04}{month:02}{day:02}T{h:02}{m:02}{s:02}Z-{chance:016x}")
}
