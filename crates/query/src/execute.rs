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
use std::time::{Duration, Instant};

use model::{Budget, Cancel, Kind};
use runtime::Shutdown;
use storage::Reader;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::active::{Active, Entry, Listed, Progress};
use crate::asked::{OFFSETS_NAME, Subject};
use crate::error::{Error, STOPPING, Stage};
use crate::metrics::{Held, Metrics};
use crate::top::Top;

/// Why a query ends that somebody asked to stop.
const BY_REQUEST: &str = "it was cancelled by request";
/// How long after a query's time is up storage may still say what the query waited for in vain.
const TELL: Duration = Duration::from_secs(5);
/// How long running queries may go on once the process was asked to stop. Well below the 30 s after which Kubernetes kills.
const DRAIN: Duration = Duration::from_secs(10);

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
    /// Those that are there.
    active: Arc<Active>,
    /// Those of late.
    top: Arc<Top>,
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
        now_ms: fn() -> i64,
    ) -> Result<Self, Error> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(limits.threads)
            .thread_name(|n| format!("query-{n}"))
            .build()
            .map_err(|e| Error::Internal(format!("the threads for queries cannot be started: {e}")))?;
        let admitted = Arc::new(Semaphore::new(limits.running_max + limits.waiting_max));
        let running = Arc::new(Semaphore::new(limits.running_max));
        let (active, top) = (Arc::default(), Arc::new(Top::new(now_ms, metrics.clone())));
        Ok(Executor { pool, reader, limits, memory, admitted, running, shutdown, metrics, active, top })
    }

    /// How many threads evaluate.
    pub(crate) fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Those that are there.
    pub(crate) fn active(&self) -> &Active {
        &self.active
    }

    /// Those of late.
    pub(crate) fn top(&self) -> &Top {
        &self.top
    }

    /// Runs `work` on the pool, once it sees all that was acknowledged before this call. `timeout` lowers the general one; `subject` is what people are told
    /// of it. Dropping the future cancels the work.
    pub(crate) async fn run<T, W>(&self, subject: Subject, timeout: Option<Duration>, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(&Context) -> Result<T, Error> + Send + 'static,
    {
        let mut job = self.begin(subject);
        let result = self.first(&mut job, timeout, work).await;
        match &result {
            Ok(_) => job.has_ended(),
            Err(error) => job.has_failed(error),
        }
        result
    }

    /// For work of several steps, of which each is run by itself. It is in the list, and counts as admitted, until it is dropped and nothing works for it any
    /// more.
    pub(crate) fn begin(&self, subject: Subject) -> Job {
        if subject.is_cut {
            self.metrics.texts_cut.inc();
        }
        let listed = Arc::new(self.active.enter(subject, Cancel::with(self.memory.claim())));
        Job { listed, cancelled: Some(self.metrics.cancelled.clone()) }
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
        // It was not admitted before: this is its first step.
        let _ = job.listed.admitted.set(admitted);
        self.within(timeout, &job.listed.entry, self.pass_gates(timeout, job.listed.clone(), work)).await
    }

    /// Runs a further step: it waits for nothing but a place, in which it counts as running, and has the general timeout to itself.
    pub(crate) async fn next<T, W>(&self, job: &Job, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(&Context) -> Result<T, Error> + Send + 'static,
    {
        let step = self.take_place(job.listed.clone(), None, work);
        self.within(self.limits.timeout, &job.listed.entry, step).await
    }

    /// Waits for something else than a step, as long as a step may take and while nobody asks to stop it.
    pub(crate) async fn wait<T>(&self, job: &Job, what: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.within(self.limits.timeout, &job.listed.entry, what).await
    }

    async fn within<T>(
        &self,
        timeout: Duration,
        entry: &Entry,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let result = tokio::select! {
            // Work first: an answer that is there is better than a timeout in the same instant.
            biased;
            result = work => result,
            // The work learns of it when the job is dropped, so that it is not the first to answer.
            () = entry.asked_to_stop() => {
                self.metrics.cancelled_by_request.inc();
                Err(Error::Canceled(BY_REQUEST))
            }
            () = is_over(timeout, entry) => Err(Error::Timeout { stage: self.stage(entry), limit: timeout }),
            () = drain_is_over(self.shutdown.clone()) => Err(Error::Canceled(STOPPING)),
        };
        if matches!(result, Err(Error::Timeout { .. })) {
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
            return Err(Error::Canceled(STOPPING));
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
    async fn pass_gates<T, W>(&self, timeout: Duration, listed: Arc<Listed>, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(&Context) -> Result<T, Error> + Send + 'static,
    {
        let waiting = Held::new(&self.metrics.waiting);
        let arrived = tokio::time::Instant::now();
        self.see(&listed.entry, timeout).await?;
        drop(waiting);
        self.take_place(listed, Some(arrived.elapsed()), work).await
    }

    /// Runs a step as soon as there is a place for it; `waited` is how long it has waited before, where it is the first.
    #[expect(
        clippy::disallowed_methods,
        reason = "measures how long a query waits; nothing that is answered depends on it"
    )]
    async fn take_place<T, W>(&self, listed: Arc<Listed>, waited: Option<Duration>, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(&Context) -> Result<T, Error> + Send + 'static,
    {
        let entry = listed.entry.clone();
        let (waiting, began) = (Held::new(&self.metrics.waiting), tokio::time::Instant::now());
        entry.reach(Progress::Queue);
        let closed = |_| Error::Internal("the queue of queries is closed".to_owned());
        let place = self.running.clone().acquire_owned().await.map_err(closed)?;
        entry.reach(Progress::Evaluation);
        drop(waiting);
        let running = Held::new(&self.metrics.running);
        let (is_first, waited) = (waited.is_some(), waited.unwrap_or_default() + began.elapsed());
        let context = Context { cancel: entry.cancel.clone(), waited, memory: self.memory.clone() };
        let (sender, receiver) = oneshot::channel();
        let top = self.top.clone();
        self.pool.spawn(move || {
            let result = if context.cancel.is_cancelled() {
                // With all that it holds, before the query leaves the list.
                drop(work);
                Err(Error::Canceled("nobody waits for it"))
            } else {
                let began = Stopwatch::start();
                let done = catch_unwind(AssertUnwindSafe(|| work(&context)));
                // A further step is of an evaluation that is known already.
                if is_first {
                    top.remember(&entry.subject, began.elapsed());
                }
                done.unwrap_or_else(|panic| Err(panicked(&*panic)))
            };
            entry.reach(Progress::Answer);
            // Its memory too, before anybody hears that it has ended.
            drop((running, context, entry, place));
            // Nobody waits any more: then there is nobody to tell, and it leaves the list after what it came to is gone.
            let _ = sender.send((result, listed));
        });
        let ended = |_| Err(Error::Internal("the query ended without an answer".to_owned()));
        receiver.await.map_or_else(ended, |(result, _listed)| result)
    }

    /// Waits until everything that was acknowledged can be seen, and the records that the query names.
    #[expect(clippy::disallowed_methods, reason = "tells a wait that was too long from one that failed at once")]
    async fn see(&self, entry: &Entry, timeout: Duration) -> Result<(), Error> {
        let (arrived, positions) = (tokio::time::Instant::now(), &entry.subject.positions);
        if positions.is_empty() {
            return self.reader.caught_up(timeout).await.map_err(|e| match e.kind {
                Kind::Unavailable if arrived.elapsed() >= timeout => {
                    Error::Timeout { stage: self.stage(entry), limit: timeout }
                }
                // Sooner, it is another reason than the time: there is no storage to be reached.
                _ => Error::from(e),
            });
        }
        let reached = self.reader.reached(positions, timeout).await;
        reached.map_err(|e| match e.kind {
            Kind::Invalid => Error::parameter(OFFSETS_NAME, e.message),
            _ => Error::from(e),
        })?;
        // They were in time, and to ask for them took too long.
        if arrived.elapsed() < timeout {
            Ok(())
        } else {
            Err(Error::Timeout { stage: self.stage(entry), limit: timeout })
        }
    }

    fn stage(&self, entry: &Entry) -> Stage {
        match entry.progress() {
            Progress::CatchUp => Stage::CatchUp { backlog: self.reader.backlog() },
            Progress::Queue => Stage::Queue,
            Progress::Evaluation | Progress::Answer => Stage::Evaluation,
        }
    }
}

/// Resolves when the time of a query is up. One that waits for records by name is told by storage how far these are, which takes a moment.
async fn is_over(timeout: Duration, entry: &Entry) {
    tokio::time::sleep(timeout).await;
    if entry.progress() == Progress::CatchUp && !entry.subject.positions.is_empty() {
        tokio::time::sleep(TELL).await;
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

/// Measures how long an evaluation takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

#[expect(clippy::disallowed_methods, reason = "measures a duration for statistics; no result depends on it")]
impl Stopwatch {
    pub(crate) fn start() -> Self {
        Stopwatch(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Work on the way. Dropping it cancels what runs of it, and counts it as cancelled unless it has ended.
#[derive(Debug)]
pub(crate) struct Job {
    listed: Arc<Listed>,
    cancelled: Option<prometheus::IntCounter>,
}

impl Job {
    /// Nobody went away before it was done.
    pub(crate) fn has_ended(&mut self) {
        self.cancelled = None;
    }

    /// It ended with an error, which may be that a shutdown cut it short.
    pub(crate) fn has_failed(&mut self, error: &Error) {
        if !matches!(error, Error::Canceled(why) if *why != BY_REQUEST) {
            self.has_ended();
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.listed.entry.cancel.cancel();
        if let Some(counter) = &self.cancelled {
            counter.inc();
        }
    }
}
