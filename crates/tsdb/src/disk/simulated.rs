//! A disk in memory that fails as real ones do, where a test wants it to.
//!
//! It keeps apart what a process sees and what loss of power would leave: content that was not fsynced, names whose directory was not. Calls
//! are counted, so that a test can let each of them fail in turn. What it does not have is time and other processes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, Input, Output};

/// A page of the cache: what is not synced reaches the disk, or does not, in such pieces.
const PAGE: usize = 512;

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed, or the power is lost, while the call is made; it may have had its effect. Every later call fails.
    Crash,
    /// The call fails and has no effect; of a write a part may have been done, of a sync nothing is known any more.
    Error(io::ErrorKind),
    /// A write writes less than was asked for, and says so; other calls are as always.
    ShortWrite,
}

/// What a crash takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing that was done: only the process ended.
    Nothing,
    /// All that was not synced.
    Unsynced,
    /// All that was not synced, but for the newest change of names: they need not reach the disk in their order.
    AllButNewest,
    /// Of what was not synced, a random part.
    Torn,
}

/// What may happen to a call, and what is lost when the process ends.
pub const FAULTS: [(Fault, Loss); 7] = [
    (Fault::Crash, Loss::Nothing),
    (Fault::Crash, Loss::Unsynced),
    (Fault::Crash, Loss::AllButNewest),
    (Fault::Crash, Loss::Torn),
    (Fault::Error(io::ErrorKind::Other), Loss::Unsynced),
    (Fault::Error(io::ErrorKind::StorageFull), Loss::Torn),
    (Fault::ShortWrite, Loss::Unsynced),
];

/// A disk in memory; clones are the same one.
#[derive(Debug, Clone)]
pub struct Simulated(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// By number, which an entry names.
    files: Vec<File>,
    /// What the process sees.
    entries: BTreeMap<String, usize>,
    /// What was there at the last sync.
    durable: BTreeMap<String, usize>,
    /// What was changed since.
    pending: Vec<Change>,
    calls: u64,
    fault: Option<(u64, Fault)>,
    crashed: bool,
    failures: u64,
    capacity: usize,
    random: fastrand::Rng,
}

#[derive(Debug, Default, Clone)]
struct File {
    bytes: Vec<u8>,
    /// How many of them were synced.
    durable: usize,
    /// A sync failed: later ones succeed and tell nothing, as on Linux.
    spoiled: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Link(String, usize),
    Unlink(String),
    Rename(String, String, usize),
}

/// What becomes of a call.
enum Fate {
    Succeeds,
    IsShort,
    Fails(io::Error),
    Dies,
}

impl Simulated {
    /// An empty disk. What is left to chance follows from the seed.
    pub fn new(seed: u64) -> Simulated {
        Simulated(Arc::new(Mutex::new(State {
            files: Vec::new(),
            entries: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            calls: 0,
            fault: None,
            crashed: false,
            failures: 0,
            capacity: usize::MAX,
            random: fastrand::Rng::with_seed(seed),
        })))
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Lets the call fail before which `calls` others were made.
    pub fn fail_at(&self, calls: u64, fault: Fault) {
        self.state().fault = Some((calls, fault));
    }

    /// How many calls failed, for a fault or for want of room.
    pub fn failures(&self) -> u64 {
        self.state().failures
    }

    /// Whether the process has ended in one of its calls.
    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// The names of all files; not a call.
    pub fn names(&self) -> BTreeSet<String> {
        self.state().entries.keys().cloned().collect()
    }

    /// Takes back a fault that has not come.
    pub fn mend(&self) {
        self.state().fault = None;
    }

    /// Changes how many bytes of content it holds; what is there stays.
    pub fn set_capacity(&self, bytes: usize) {
        self.state().capacity = bytes;
    }

    /// Bytes of content on it.
    pub fn used(&self) -> usize {
        self.state().used()
    }

    /// The size of a file, 0 if there is none.
    pub fn bytes(&self, name: &str) -> usize {
        let state = self.state();
        state.entries.get(name).map_or(0, |file| state.files[*file].bytes.len())
    }

    /// Changes a byte of a file, unseen by those who have it open.
    pub fn flip(&self, name: &str, at: usize) {
        let mut state = self.state();
        if let Some(file) = state.entries.get(name).copied() {
            state.files[file].bytes[at] ^= 1;
        }
    }

    /// The disk that the next process finds, with a fault that has not come yet. The old one fails every call from now on.
    pub fn restart(&self, loss: Loss) -> Simulated {
        let mut state = self.state();
        state.crashed = true;
        let fault = state.fault.take().map(|(at, fault)| (at.saturating_sub(state.calls), fault));
        let mut random = state.random.fork();
        let mut entries = state.durable.clone();
        for (left, change) in (0..state.pending.len()).rev().zip(&state.pending) {
            let is_kept = match loss {
                Loss::Nothing => true,
                Loss::Unsynced => false,
                Loss::AllButNewest => left == 0,
                Loss::Torn => random.bool(),
            };
            if is_kept {
                change.apply(&mut entries);
            }
        }
        let mut files = state.files.clone();
        files.iter_mut().for_each(|file| file.lose(loss, &mut random));
        let next = Simulated::new(random.u64(..));
        let mut new = next.state();
        (new.durable, new.entries, new.files) = (entries.clone(), entries, files);
        (new.capacity, new.fault) = (state.capacity, fault);
        drop(new);
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change of names, unless the call fails.
    fn change(&self, make: impl FnOnce(&mut State) -> io::Result<Change>) -> io::Result<()> {
        let mut state = self.state();
        let fate = state.call()?;
        if state.has_effect(&fate) {
            let change = make(&mut state)?;
            change.apply(&mut state.entries);
            state.pending.push(change);
        }
        fate.end()
    }
}

impl State {
    /// Counts a call and says what becomes of it; an error if the process has ended before.
    fn call(&mut self) -> io::Result<Fate> {
        if self.crashed {
            return Err(crashed());
        }
        self.calls += 1;
        Ok(match self.fault.take_if(|(at, _)| *at < self.calls) {
            None => Fate::Succeeds,
            Some((_, Fault::ShortWrite)) => Fate::IsShort,
            Some((_, Fault::Error(kind))) => {
                self.failures += 1;
                Fate::Fails(kind.into())
            }
            Some((_, Fault::Crash)) => {
                self.failures += 1;
                self.crashed = true;
                Fate::Dies
            }
        })
    }

    /// A call that changes nothing.
    fn look(&mut self) -> io::Result<()> {
        self.call()?.end()
    }

    fn used(&self) -> usize {
        self.entries.values().map(|file| self.files[*file].bytes.len()).sum()
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.entries.get(name).copied().ok_or(io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, file: usize, bytes: &[u8]) -> io::Result<usize> {
        let fate = self.call()?;
        let fits = bytes.len().min(self.capacity.saturating_sub(self.used()));
        if fits == 0 && !bytes.is_empty() && matches!(fate, Fate::Succeeds | Fate::IsShort) {
            self.failures += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = match fate {
            Fate::Succeeds => fits,
            Fate::IsShort => self.random.usize(1.min(fits)..=fits / 2 + 1).min(fits),
            Fate::Fails(_) | Fate::Dies => self.random.usize(..=fits),
        };
        self.files[file].bytes.extend_from_slice(&bytes[..written]);
        fate.end().map(|()| written)
    }

    fn sync(&mut self, file: usize) -> io::Result<()> {
        let fate = self.call()?;
        let had_effect = self.has_effect(&fate);
        let file = &mut self.files[file];
        if had_effect && !file.spoiled {
            file.durable = file.bytes.len();
        }
        file.spoiled |= matches!(fate, Fate::Fails(_));
        fate.end()
    }

    fn has_effect(&mut self, fate: &Fate) -> bool {
        match fate {
            Fate::Succeeds | Fate::IsShort => true,
            Fate::Fails(_) => false,
            Fate::Dies => self.random.bool(),
        }
    }
}

impl Fate {
    fn end(self) -> io::Result<()> {
        match self {
            Fate::Succeeds | Fate::IsShort => Ok(()),
            Fate::Fails(error) => Err(error),
            Fate::Dies => Err(crashed()),
        }
    }
}

impl File {
    /// What a crash leaves of the content.
    fn lose(&mut self, loss: Loss, random: &mut fastrand::Rng) {
        match loss {
            Loss::Nothing => {}
            Loss::Unsynced | Loss::AllButNewest => self.bytes.truncate(self.durable),
            Loss::Torn => {
                self.bytes.truncate(random.usize(self.durable..=self.bytes.len()));
                // Pages reach the disk in any order, and one that did not is zeros.
                for page in self.bytes[self.durable..].chunks_mut(PAGE).filter(|_| random.u8(..4) == 0) {
                    page.fill(0);
                }
            }
        }
        *self = File { durable: self.bytes.len(), bytes: std::mem::take(&mut self.bytes), spoiled: false };
    }
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<String, usize>) {
        match self {
            Change::Link(name, file) => {
                entries.insert(name.clone(), *file);
            }
            Change::Unlink(name) => {
                entries.remove(name);
            }
            Change::Rename(from, to, file) => {
                entries.remove(from);
                entries.insert(to.clone(), *file);
            }
        }
    }
}

fn crashed() -> io::Error {
    io::Error::other("the simulated process has ended")
}

impl Disk for Simulated {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("simulated").join(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.look()?;
        Ok(state.entries.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        state.look()?;
        Ok(state.files[state.find(name)?].bytes.clone())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        let mut number = 0;
        self.change(|state| {
            number = state.files.len();
            state.files.push(File::default());
            Ok(Change::Link(name.to_owned(), number))
        })?;
        Ok(Box::new(Handle { disk: self.clone(), file: number, bytes: 0 }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Input>> {
        let mut state = self.state();
        state.look()?;
        let file = state.find(name)?;
        let bytes = state.files[file].bytes.len() as u64;
        Ok(Box::new(Handle { disk: self.clone(), file, bytes }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|state| Ok(Change::Rename(from.to_owned(), to.to_owned(), state.find(from)?)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|state| state.find(name).map(|_| Change::Unlink(name.to_owned())))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        let fate = state.call()?;
        if state.has_effect(&fate) {
            state.durable = state.entries.clone();
            state.pending.clear();
        }
        fate.end()
    }
}

/// A file that is open.
#[derive(Debug)]
struct Handle {
    disk: Simulated,
    file: usize,
    bytes: u64,
}

impl Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.state().write(self.file, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Handle {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.state().sync(self.file)
    }
}

impl Input for Handle {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.look()?;
        let stored = &state.files[self.file].bytes;
        let end = at.checked_add(buffer.len() as u64).filter(|end| *end <= stored.len() as u64);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(&stored[at as usize..end as usize]);
        Ok(())
    }
}
