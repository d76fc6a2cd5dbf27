//! The file of a block: reading it by range, and the memory that bytes of it were not what was written.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::Error;
use crate::disk::{Disk, Input, io};

/// The number of the file that is opened next.
static OPENED: AtomicU64 = AtomicU64::new(1);

/// An open file of a block.
#[derive(Debug)]
pub(crate) struct File {
    pub(super) path: PathBuf,
    input: Box<dyn Input>,
    /// Which one of all that this process opened, from 1 on.
    pub(super) number: u64,
    /// Bytes were found that are not what was written.
    damaged: AtomicBool,
}

impl File {
    pub(crate) fn open(disk: &dyn Disk, name: &str) -> Result<File, Error> {
        let path = disk.path(name);
        let input = disk.open(name).map_err(io(format!("opening {}", path.display())))?;
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        Ok(File { path, input, number, damaged: AtomicBool::new(false) })
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> u64 {
        self.input.bytes()
    }

    /// The bytes from a place on. What lies beyond the end is not what was written.
    pub(crate) fn read(&self, at: u64, size: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.read_into(at, size, &mut bytes)?;
        Ok(bytes)
    }

    /// As [`File::read`], into memory that is used again.
    pub(super) fn read_into(&self, at: u64, size: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        if at.checked_add(size).is_none_or(|end| end > self.bytes()) {
            return Err(self.corrupt(at, "something is to lie here that is beyond the end of the file"));
        }
        // What is there already is written over, and needs not be cleared.
        out.reserve_exact((size as usize).saturating_sub(out.len()));
        out.resize(size as usize, 0);
        let read = self.input.read_exact_at(out, at);
        read.map_err(|error| io(format!("reading {size} bytes at {at} of {}", self.path.display()))(error))
    }

    /// As [`Input::expect`].
    pub(in crate::block) fn expect(&self, at: u64, size: u64) {
        self.input.expect(at, size);
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
