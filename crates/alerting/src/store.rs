//! The database: positions in the log, states of alerts, the notifications that are owed, and what became of them.
//!
//! SQLite in WAL mode with `synchronous=FULL`: a transaction that returned is on stable storage. One thread owns the connection and runs
//! what it is handed in turn, so that no caller waits for a lock and a transaction is never interleaved. The price is that a slow disk
//! delays everything alike. After a failed write the component stops: what is durable is unknown then.

mod handed;
mod queries;
mod schema;

use std::path::Path;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
pub(crate) use handed::{HandedRows, RestoredSet};
pub(crate) use queries::{Attempt, Commit, Lane, OUTBOX_MAX, Origin, Owed, RuleFacts, StateChange, Stored, Told};

/// Jobs that wait for the thread: more than there are callers at any time.
const JOBS_MAX: usize = 256;

enum Job {
    Run(Box<dyn FnOnce(&mut Connection) + Send>),
    Close(oneshot::Sender<()>),
}

/// A handle to the thread; clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
}

impl Store {
    /// Opens or creates the database in a folder, and makes sure that the folder and the file would survive a power loss.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let mut connection = schema::open(dir)?;
        let (jobs, mut waiting) = mpsc::channel::<Job>(JOBS_MAX);
        let run = move || {
            while let Some(job) = waiting.blocking_recv() {
                match job {
                    Job::Run(job) => job(&mut connection),
                    Job::Close(done) => {
                        drop(connection);
                        // The one who asked may have gone.
                        let _ = done.send(());
                        return;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("alerting-store".to_owned()).spawn(run);
        thread.map_err(|e| Error::io("starting a thread", e))?;
        Ok(Store { jobs })
    }

    /// Runs one job on the thread.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Run(Box::new(move |connection| drop(answer.send(job(connection)))));
        self.jobs.send(job).await.map_err(|_| Error::Stopped("the database's thread ended"))?;
        answered.await.map_err(|_| Error::Stopped("the database's thread ended"))?
    }
    /// Closes the database after what waits, so that another process can have it; calls after it fail.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Close(done)).await.is_ok() {
            // The thread ends either way.
            let _ = closed.await;
        }
    }
}

#[cfg(test)]
mod tests;
