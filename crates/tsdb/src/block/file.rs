//! The file of a block: reading it by range, and the memory that bytes of it were not what was written.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Error;
use crate::disk::{Disk, Input, io};

/// An open file of a block.
#[derive(Debug)]
pub(crate) struct File {
    pub(super) path: PathBuf,
    input: Box<dyn Input>,
    /// Bytes were found that are not what was written.
    damaged: AtomicBool,
}

impl File {
    pub(crate) fn open(disk: &dyn Disk, name: &str) -> Result<File, Error> {
        let path = disk.path(name);
        let input = disk.open(name).map_err(io(format!("opening {}", path.display())))?;
        Ok(File { path, input, damaged: AtomicBool::new(false) })
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> u64 {
        self.input.bytes()
    }

    /// The bytes from a place on. What lies beyond the end is not what was written.
    pub(crate) fn read(&self, at: u64, size: u64) -> Result<Vec<u8>, Error> {
        if at.checked_add(size).is_none_or(|end| end > self.bytes()) {
            return Err(self.corrupt(at, "something is to lie here that is beyond the end of the file"));
        }
        let mut bytes = vec![0; size as usize];
        let context = || format!("reading {size} bytes at {at} of {}", self.path.display());
        self.input.read_exact_at(&mut bytes, at).map_err(io(context()))?;
        Ok(bytes)
    }

    /// Whether bytes were found that are not what was written.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Notes that they were, and says so.
    pub(crate) fn corrupt(&self, at: u64, reason: &str) -> Error {
        self.damaged.store(true, Ordering::Relaxed);
        Error::corrupt(&self.path.display().to_string(), at as usize, reason)
    }
}
