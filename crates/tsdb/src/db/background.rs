//! Work that nobody waits for: writing blocks.
//!
//! It takes seconds of processor time and holds no lock that an append or a query needs, so it may run at a lower priority than they do. What comes before and after
//! holds such locks for an instant each, and a thread that stands back could be left without a processor just then, with all others waiting for it: so that is
//! done by the thread that asked. The price is a thread for each block that is written.

use std::panic::resume_unwind;
use std::thread;

use super::Db;
use crate::Error;
use crate::disk::io;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// The head, which fills up meanwhile.
    Flush,
    /// Blocks that are there already.
    Merge,
}

impl Db {
    /// Does something on a thread that stands back, if there is a way to, and waits for it.
    pub(super) fn in_background<T: Send>(
        &self,
        what: Background,
        work: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let Some(stand_back) = self.options.stand_back else { return work() };
        thread::scope(|scope| {
            let stands_back = move || {
                stand_back(what);
                work()
            };
            let started = thread::Builder::new().name("tsdb-write".to_owned()).spawn_scoped(scope, stands_back);
            let thread = started.map_err(io("starting a thread that writes".to_owned()))?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}
