//! A directory of the engine on which no engine runs: whether it is sound, what is in it, and what of it can be saved.
//!
//! The engine puts a block that is damaged in quarantine and goes on; here all that is wrong is named, by file and place. What only reads takes a
//! shared lock where there is a file for it, so a snapshot can be read on a medium that cannot be written, while its engine runs elsewhere.

pub mod inspect;
pub mod layout;
mod raw;
pub mod repair;
#[cfg(test)]
mod tests;
pub mod verify;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::Error;
use crate::deletes::Delete;
use crate::disk::{Disk, ELSEWHERE, Local, io};
use crate::exemplars::file::SUFFIX;
use crate::manifest::Manifest;

/// Faults of one file that are kept one by one; of further ones only the number is.
const FAULTS_MAX: usize = 100;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Name of the file, without its directory.
    pub file: String,
    /// Byte position in it.
    pub position: u64,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: byte {}: {}", self.file, self.position, self.reason)
    }
}

/// What is wrong with one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// The first of them.
    pub listed: Vec<Fault>,
    /// How many there are beyond those.
    pub further: u64,
}

impl Faults {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.listed.len() as u64 + self.further
    }

    fn push(&mut self, file: &str, position: u64, reason: impl Into<String>) {
        if self.listed.len() < FAULTS_MAX {
            self.listed.push(Fault { file: file.to_owned(), position, reason: reason.into() });
        } else {
            self.further += 1;
        }
    }
}

/// Opened for reading; nothing in it changes as long as it is held.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) disk: Local,
    /// `None` where it is damaged.
    manifest: Option<Manifest>,
    /// Of the manifest.
    pub(crate) faults: Faults,
    /// Block files that lie here, in the order of their names.
    present: Vec<String>,
    /// Files of exemplars, likewise.
    exemplars: Vec<String>,
}

impl Directory {
    /// Refuses a directory on which an engine runs, one that has neither a manifest nor blocks, and one of which blocks are elsewhere alone.
    pub(crate) fn open(dir: &Path) -> Result<Directory, Error> {
        let disk = Local::shared(dir)?;
        let (present, exemplars) = (files_in(&disk, ".block")?, files_in(&disk, SUFFIX)?);
        let mut faults = Faults::default();
        let manifest = match Manifest::read(&disk, None) {
            Ok(Some(manifest)) => Some(manifest),
            Ok(None) if present.is_empty() => {
                let reason = format!("{} has no manifest and no blocks: nothing of the storage engine", dir.display());
                return Err(Error::Invalid(reason));
            }
            Ok(None) => {
                faults.push("manifest", 0, "it is missing, and there are blocks");
                None
            }
            Err(Error::Corrupt { position, reason, .. }) => {
                faults.push("manifest", position, reason);
                None
            }
            Err(error) => return Err(error),
        };
        let named = manifest.iter().flat_map(|manifest| &manifest.blocks);
        let elsewhere = named.filter(|entry| !present.contains(&entry.name)).count();
        if elsewhere > 0 && disk.path(ELSEWHERE).exists() {
            return Err(Error::Invalid(format!(
                "{elsewhere} blocks of {} are in object storage and not on this disk: start storage on it without a bound of the local blocks, or \
                 take a snapshot, which has all of them",
                dir.display()
            )));
        }
        Ok(Directory { disk, manifest, faults, present, exemplars })
    }

    /// The blocks that count; all that lie here where the manifest cannot be read.
    pub(crate) fn blocks(&self) -> Vec<String> {
        match &self.manifest {
            Some(manifest) => manifest.blocks.iter().map(|entry| entry.name.clone()).collect(),
            None => self.present.clone(),
        }
    }

    /// Deletions of which blocks are not free; none where the manifest cannot be read.
    pub(crate) fn deletes(&self) -> &[Arc<Delete>] {
        self.manifest.as_ref().map_or(&[], |manifest| &manifest.deletes)
    }
}

/// The files whose names end so, in the order of their names.
fn files_in(disk: &dyn Disk, suffix: &str) -> Result<Vec<String>, Error> {
    let mut names = disk.list().map_err(io(format!("reading {}", disk.path("").display())))?;
    names.retain(|name| name.ends_with(suffix));
    names.sort_unstable();
    Ok(names)
}
