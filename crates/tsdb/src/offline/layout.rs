//! A copy of an engine's directory in another place, by second names of the same files where the file system allows it.
//!
//! Blocks do not change, so a name more costs no room as long as both are there. A copy has no positions in the log: it may be started beside
//! another log than the one that it was read from, whose offsets mean other records, and of its own log it may only have a beginning. Without
//! positions the log is read from its start, and a sample that is there already is the same sample. The price is the time that takes. For the same reason
//! it does not know the records of its blocks: one that is damaged later is not written again from the log.
//!
//! Deletions that blocks are not free of yet are in the copy too, which is cut by them as the original is. What was deleted and is still in
//! the log comes back when that is read, since a record of the log has no time at which it was written.

use std::fs;
use std::path::Path;

use super::Directory;
use crate::Error;
use crate::block::{Block, Cache};
use crate::disk::{self, Disk, Input, Local, io};
use crate::exemplars::file;
use crate::manifest::Manifest;
use crate::offsets::Offsets;

/// What is copied at once, where it has to be.
const BUFFER: usize = 1 << 20;

/// Lays a directory on which no engine runs out in another place, which must not exist, without positions in the log; durable when it returns.
/// Refuses a directory in which a block cannot be opened, or the exemplars cannot be read.
pub fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let directory = Directory::open(from)?;
    let Some(manifest) = &directory.manifest else {
        return Err(Error::Invalid(format!("the manifest of {} is damaged", from.display())));
    };
    let (target, cache) = (begin(to)?, Cache::new(Cache::OFFLINE_BYTES));
    for entry in &manifest.blocks {
        Block::open(&directory.disk, &entry.name, &cache)?;
        if let Some(source) = link(&directory.disk, &target, &entry.name)? {
            copy_file(&*source, &target, &entry.name)?;
        }
    }
    if let Some(name) = &manifest.exemplars {
        file::read(&directory.disk, name)?;
        if let Some(source) = link(&directory.disk, &target, name)? {
            copy_file(&*source, &target, name)?;
        }
    }
    commit(manifest, &target)
}

/// Makes the directory of a copy.
pub(crate) fn begin(to: &Path) -> Result<Local, Error> {
    if to.exists() {
        return Err(Error::Invalid(format!("{} is there already", to.display())));
    }
    Local::open(to)
}

/// Gives a file of a directory of this machine a second name. Where that is on another file system, or the directory does not have the file and the
/// disk does, returns the open file, which is to be copied.
pub(crate) fn link(from: &dyn Disk, to: &Local, name: &str) -> Result<Option<Box<dyn Input>>, Error> {
    let (source, target) = (from.path(name), to.path(name));
    match fs::hard_link(&source, &target) {
        Ok(()) => Ok(None),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::CrossesDevices | std::io::ErrorKind::NotFound) => {
            from.open(name).map(Some).map_err(io(format!("opening {}", source.display())))
        }
        Err(e) => Err(io(format!("linking {} to {}", source.display(), target.display()))(e)),
    }
}

/// Copies the content of a file; it is durable when this returns, its directory entry is not.
pub(crate) fn copy_file(from: &dyn Input, to: &dyn Disk, name: &str) -> Result<(), Error> {
    let context = || format!("writing {}", to.path(name).display());
    let mut out = to.create(name).map_err(io(context()))?;
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while at < from.bytes() {
        let piece = &mut buffer[..(from.bytes() - at).min(BUFFER as u64) as usize];
        from.read_exact_at(piece, at).map_err(io(format!("reading for {}", to.path(name).display())))?;
        out.write_all(piece).map_err(io(context()))?;
        at += piece.len() as u64;
    }
    out.sync().map_err(io(context()))
}

/// Makes the files that were laid out an engine's directory, with the deletions that they are cut by and nothing that tells of a log. Durable when it
/// returns.
pub(crate) fn commit(manifest: &Manifest, to: &Local) -> Result<(), Error> {
    // The names before what names them.
    disk::sync(to)?;
    let mut copy = Manifest { positions: Default::default(), log: None, ..manifest.clone() };
    copy.blocks.iter_mut().for_each(|entry| entry.from = Offsets::default());
    copy.write(to)?;
    disk::sync(to)
}
