//! Where queries run: admission, freshness, a place among those that run, threads of their own, an end in time.
//!
//! A query passes four gates, all within one timeout. It is admitted, or refused at once when too many wait. It waits until
//! storage has read everything that was acknowledged before it came. It waits for a free place. It runs on the pool, where it
//! may use all threads. When the client goes away, the time is up or the process stops, its [`Cancel`] is set, and it keeps its
//! place until it has noticed; so the number that really runs never passes the limit.
//!
//! The pool is not that of tokio, whose threads must not block. The price is two hand-overs between threads a query, some
//! ten microseconds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use model::{Budget, Cancel, Kind};
use runtime::Shutdown;
use storage::Reader;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::{Error, Stage};
use crate::metrics::{Held, Metrics};

/// How long running queries may go on once the process was asked to stop. Well below the 30 s after which Kubernetes kills.
const DRAIN: Duration = Duration::from_secs(10);

const CATCH_UP: u8 = 0;
const QUEUE: u8 = 1;
const EVALUATION: u8 = 2;

/// How much is executed at once, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) timeout: Duration,
    pub(crate) running_max: usize,
    pub(crate) waiting_max: usize,
    /// 0 takes one a core.
    pub(crate) threads: usize,
}

/// Runs queries.
pub(crate) struct Executor {
    pool: rayon::ThreadPool,
    reader: Arc<dyn Reader>,
    limits: Limits,
    memory: Budget,
    admitted: Arc<Semaphore>,
    running: Arc<Semaphore>,
    shutdown: Shutdown,
    metrics: Metrics,
}

/// What a query is told when it begins to run.
#[derive(Debug)]
pub(crate) struct Context {
    /// To be looked at.
    pub(crate) cancel: Cancel,
    /// How long it waited before.
    pub(crate) waited: Duration,
    /// For what outlives it.
    pub(crate) memory: Budget,
}

impl Executor {
    /// Starts the threads.
    pub(crate) fn new(
        reader: Arc<dyn Reader>,
        limits: Limits,
        memory: Budget,
        shutdown: Shutdown,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(limits.threads)
            .thread_name(|n| format!("query-{n}"))
            .build()
            .map_err(|e| Error::Internal(format!("the threads for queries cannot be started: {e}")))?;
        let admitted = Arc::new(Semaphore::new(limits.running_max + limits.waiting_max));
        let running = Arc::new(Semaphore::new(limits.running_max));
        Ok(Executor { pool, reader, limits, memory, admitted, running, shutdown, metrics })
    }

    /// How many threads evaluate.
    pub(crate) fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on the pool, once it sees all that was acknowledged before this call. `timeout` lowers the general one.
    /// Dropping the future cancels the work.
    pub(crate) async fn run<T, W>(&self, timeout: Option<Duration>, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(&Context) -> Result<T, Error> + Send + 'static,
    {
        let mut job = self.begin();
        let result = self.first(&mut job, timeout, work).await;
        if !matches!(result, Err(Error::Canceled(_))) {
            job.has_ended();
        }
        result
    }

    /// For work of several steps, of which each is run by itself.
    pub(crate) fn begin(&self) -> Job {
        Job { cancel: Cancel::with(self.memory.claim()), cancelled: Some(self.metrics.cancelled.clone()) }
    }

    /// Runs the first step, as [`Executor::run`] runs its work.
    pub(crate) async fn first<T, W>(&self, job: &mut Job, timeout: Option<Duration>, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(&Context) -> Result<T, Error> + Send + 'static,
    {
        let timeout = timeout.map_or(self.limits.timeout, |t| t.min(self.limits.timeout));
        // What is refused was not begun.
        let admitted = self.admit().inspect_err(|_| job.has_ended())?;
        let stage = AtomicU8::new(CATCH_UP);
        self.within(timeout, &stage, self.pass_gates(timeout, admitted, &stage, job.cancel.clone(), work)).await
    }

    /// Runs a further step: it waits for nothing but a place, in which it counts as running, and has the general timeout to itself. How many jobs wait so is
    /// for the caller to bound.
    pub(crate) async fn next<T, W>(&self, job: &Job, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(&Context) -> Result<T, Error> + Send + 'static,
    {
        let stage = AtomicU8::new(QUEUE);
        let context = Context { cancel: job.cancel.clone(), waited: Duration::ZERO, memory: self.memory.clone() };
        self.within(self.limits.timeout, &stage, self.take_place(None, &stage, context, work)).await
    }

    async fn within<T>(
        &self,
        timeout: Duration,
        stage: &AtomicU8,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let result = tokio::select! {
            // Work first: an answer that is there is better than a timeout in the same instant.
            biased;
            result = work => result,
            () = tokio::time::sleep(timeout) => Err(Error::Timeout(self.stage(stage))),
            () = drain_is_over(self.shutdown.clone()) => Err(Error::Canceled("the server is shutting down")),
        };
        if matches!(result, Err(Error::Timeout(_))) {
            self.metrics.timeouts.inc();
        }
        result
    }

    /// Resolves once the process was asked to stop and no query is left.
    pub(crate) async fn drained(&self) {
        self.shutdown.clone().asked().await;
        // The sum fits: both are bounded by the arguments. An error would mean that the semaphore is closed, which it never is.
        let all = u32::try_from(self.limits.running_max + self.limits.waiting_max).unwrap_or(u32::MAX);
        let _ = self.admitted.acquire_many(all).await;
    }

    fn admit(&self) -> Result<OwnedSemaphorePermit, Error> {
        if self.shutdown.is_asked() {
            return Err(Error::Canceled("the server is shutting down"));
        }
        self.admitted.clone().try_acquire_owned().map_err(|_| {
            self.metrics.rejected.inc();
            Error::Overloaded { running_max: self.limits.running_max, waiting_max: self.limits.waiting_max }
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "measures how long a query waits; nothing that is answered depends on it"
    )]
    async fn pass_gates<T, W>(
        &self,
        timeout: Duration,
        admitted: OwnedSemaphorePermit,
        stage: &AtomicU8,
        cancel: Cancel,
        work: W,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(&Context) -> Result<T, Error> + Send + 'static,
    {
        let waiting = Held::new(&self.metrics.waiting);
        let arrived = tokio::time::Instant::now();
        self.reader.caught_up(timeout).await.map_err(|e| match e.kind {
            Kind::Unavailable if arrived.elapsed() >= timeout => Error::Timeout(self.stage(stage)),
            // Sooner, it is another reason than the time: there is no storage to be reached.
            _ => Error::from(e),
        })?;
        drop(waiting);
        let context = Context { cancel, waited: arrived.elapsed(), memory: self.memory.clone() };
        self.take_place(Some(admitted), stage, context, work).await
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "measures how long a query waits; nothing that is answered depends on it"
    )]
    async fn take_place<T, W>(
        &self,
        admitted: Option<OwnedSemaphorePermit>,
        stage: &AtomicU8,
        mut context: Context,
        work: W,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(&Context) -> Result<T, Error> + Send + 'static,
    {
        stage.store(QUEUE, Ordering::Relaxed);
        let (waiting, began) = (Held::new(&self.metrics.waiting), tokio::time::Instant::now());
        let closed = |_| Error::Internal("the queue of queries is closed".to_owned());
        let place = self.running.clone().acquire_owned().await.map_err(closed)?;
        stage.store(EVALUATION, Ordering::Relaxed);
        drop(waiting);
        context.waited += began.elapsed();
        let running = Held::new(&self.metrics.running);
        let (sender, receiver) = oneshot::channel();
        self.pool.spawn(move || {
            let result = if context.cancel.is_cancelled() {
                Err(Error::Canceled("nobody waits for it"))
            } else {
                catch_unwind(AssertUnwindSafe(|| work(&context))).unwrap_or_else(|panic| Err(panicked(&*panic)))
            };
            // Its memory too, before anybody hears that it has ended.
            drop((running, place, admitted, context));
            // Nobody waits any more: then there is nobody to tell.
            let _ = sender.send(result);
        });
        receiver.await.unwrap_or_else(|_| Err(Error::Internal("the query ended without an answer".to_owned())))
    }

    fn stage(&self, stage: &AtomicU8) -> Stage {
        match stage.load(Ordering::Relaxed) {
            CATCH_UP => Stage::CatchUp { backlog: self.reader.backlog() },
            QUEUE => Stage::Queue,
            _ => Stage::Evaluation,
        }
    }
}

async fn drain_is_over(mut shutdown: Shutdown) {
    shutdown.asked().await;
    tokio::time::sleep(DRAIN).await;
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no message");
    tracing::error!(panic = text, "a query panicked; this is a fault of Weir, please report it with the query");
    Error::Internal(format!("the evaluation panicked: {text}"))
}

/// Work on the way. Dropping it cancels what runs of it, and counts it as cancelled unless it has ended.
#[derive(Debug)]
pub(crate) struct Job {
    cancel: Cancel,
    cancelled: Option<prometheus::IntCounter>,
}

impl Job {
    /// Nobody went away before it was done.
    pub(crate) fn has_ended(&mut self) {
        self.cancelled = None;
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(counter) = &self.cancelled {
            counter.inc();
        }
    }
}
