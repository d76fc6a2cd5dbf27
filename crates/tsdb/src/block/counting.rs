//! A disk of one file that cannot be written, which knows what was read of it and what was said to be read soon.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::{Disk, Input, Output};

#[derive(Debug, Clone)]
pub(super) struct Counting(pub(super) Arc<State>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) bytes: Vec<u8>,
    /// What lies from here on cannot be read.
    pub(super) bad_from: AtomicU64,
    calls: Mutex<Calls>,
}

/// Where, and how many bytes.
#[derive(Debug, Default)]
struct Calls {
    reads: Vec<(u64, usize)>,
    expected: Vec<(u64, usize)>,
}

impl Counting {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Counting(Arc::new(State { bytes, bad_from: AtomicU64::new(u64::MAX), calls: Mutex::default() }))
    }

    /// What was read since the last time.
    pub(super) fn reads(&self) -> Vec<(u64, usize)> {
        std::mem::take(&mut self.calls().reads)
    }

    /// What was said to be read soon, since the last time.
    pub(super) fn expected(&self) -> Vec<(u64, usize)> {
        std::mem::take(&mut self.calls().expected)
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Counting {
    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn read(&self, _name: &str) -> io::Result<Vec<u8>> {
        Ok(self.0.bytes.clone())
    }

    fn create(&self, _name: &str) -> io::Result<Box<dyn Output>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn open(&self, _name: &str) -> io::Result<Box<dyn Input>> {
        Ok(Box::new(self.clone()))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Input for Counting {
    fn bytes(&self) -> u64 {
        self.0.bytes.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.calls().reads.push((at, buffer.len()));
        if at + buffer.len() as u64 > self.0.bad_from.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Other.into());
        }
        buffer.copy_from_slice(&self.0.bytes[at as usize..at as usize + buffer.len()]);
        Ok(())
    }

    fn expect(&self, at: u64, bytes: u64) {
        self.calls().expected.push((at, bytes as usize));
    }
}
