//! The admin API of Prometheus: snapshots, deletions, and being rid of what is deleted.
//!
//! One request of each kind is done at a time, and a second one meanwhile is refused: each takes as long as its blocks are many, and whoever
//! asks again later loses nothing. What is done is done for the storage of this process alone; other replicas are asked themselves.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use model::{Cancel, Matcher, TimeRange, timestamp};
use promql::Features;
use runtime::{Form, Shutdown};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::keep::Keeper;
use crate::local::LocalReader;
use crate::{Error, Reader, snapshot};

/// How long what was acknowledged before may take to be visible.
const CATCH_UP_MAX: Duration = Duration::from_secs(30);
/// Bytes of a form: room for [`SELECTORS_MAX`] selectors of a thousand bytes each.
const FORM_BYTES_MAX: usize = 100 << 10;
/// How many `match[]` a request may have. Each is a deletion of its own, of which the engine keeps a thousand at most.
const SELECTORS_MAX: usize = 100;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Snapshot,
    DeleteSeries,
    CleanTombstones,
}

impl Operation {
    pub(crate) const ALL: [Operation; 3] = [Operation::Snapshot, Operation::DeleteSeries, Operation::CleanTombstones];

    /// As it is in the path, and in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Snapshot => "snapshot",
            Operation::DeleteSeries => "delete_series",
            Operation::CleanTombstones => "clean_tombstones",
        }
    }
}

/// What became of a request, in metrics: done, failed, or refused since one of its kind was being done.
pub(crate) const OUTCOMES: [&str; 3] = ["done", "failed", "refused"];

/// Why nothing was done: status, Prometheus' word for the kind, and the reason.
#[derive(Debug)]
struct Refusal(StatusCode, &'static str, String);

impl Refusal {
    fn bad_data(reason: impl Into<String>) -> Self {
        Refusal(StatusCode::BAD_REQUEST, "bad_data", reason.into())
    }

    fn parameter(name: &str, reason: impl std::fmt::Display) -> Self {
        Refusal::bad_data(format!("invalid parameter \"{name}\": {reason}"))
    }

    fn unavailable(reason: impl Into<String>) -> Self {
        Refusal(StatusCode::SERVICE_UNAVAILABLE, "unavailable", reason.into())
    }
}

/// What is to be done.
#[derive(Debug)]
enum Work {
    Snapshot { skip_head: bool },
    Delete { sets: Vec<Vec<Matcher>>, range: TimeRange },
    Clean,
}

impl Work {
    fn read(operation: Operation, form: &Form, features: &Features) -> Result<Work, Refusal> {
        match operation {
            Operation::Snapshot => Ok(Work::Snapshot { skip_head: skip_head(form)? }),
            Operation::CleanTombstones => Ok(Work::Clean),
            Operation::DeleteSeries => {
                let texts: Vec<&str> = form.all("match[]").collect();
                if texts.is_empty() {
                    return Err(Refusal::bad_data("no match[] parameter provided"));
                }
                if texts.len() > SELECTORS_MAX {
                    let reason = format!("at most {SELECTORS_MAX} selectors are allowed");
                    return Err(Refusal::parameter("match[]", reason));
                }
                let sets = texts.into_iter().map(|text| promql::parse_selector(text, features));
                let sets = sets.collect::<Result<_, _>>();
                let sets = sets.map_err(|e| Refusal::parameter("match[]", e))?;
                let range =
                    TimeRange { start_ms: time(form, "start", i64::MIN)?, end_ms: time(form, "end", i64::MAX)? };
                if range.end_ms < range.start_ms {
                    return Err(Refusal::parameter("end", "end timestamp must not be before start timestamp"));
                }
                Ok(Work::Delete { sets, range })
            }
        }
    }

    /// Whether it is of all that was acknowledged before.
    fn is_of_the_newest(&self) -> bool {
        matches!(self, Work::Snapshot { skip_head: false } | Work::Delete { .. })
    }
}

/// Does what is asked for, for one storage.
pub(crate) struct Admin {
    /// In what language anybody may ask; nothing where nobody may.
    enabled: Option<Features>,
    /// The storage.
    dir: PathBuf,
    keeper: Arc<Keeper>,
    reader: Arc<LocalReader>,
    shutdown: Shutdown,
    /// One of each kind is done at a time.
    turns: [Semaphore; 3],
}

impl Admin {
    pub(crate) fn new(
        enabled: Option<Features>,
        dir: PathBuf,
        keeper: Arc<Keeper>,
        reader: Arc<LocalReader>,
        shutdown: Shutdown,
    ) -> Self {
        Admin { enabled, dir, keeper, reader, shutdown, turns: Operation::ALL.map(|_| Semaphore::new(1)) }
    }

    pub(crate) fn router(self) -> Router {
        let mut routes = Router::new();
        for operation in Operation::ALL {
            routes = routes.route(&format!("/api/v1/admin/tsdb/{}", operation.name()), route(operation));
        }
        routes.with_state(Arc::new(self))
    }

    /// What the answer has as its data, if it has any.
    async fn answer(self: Arc<Self>, operation: Operation, request: Request) -> Result<Option<Value>, Refusal> {
        let Some(features) = self.enabled else {
            return Err(Refusal::unavailable("admin APIs disabled"));
        };
        let form = Form::read(request, FORM_BYTES_MAX).await.map_err(|e| Refusal::bad_data(e.to_string()))?;
        let work = Work::read(operation, &form, &features)?;
        let count = |outcome| self.keeper.metrics.admin.with_label_values(&[operation.name(), outcome]).inc();
        let Ok(_turn) = self.turns[operation as usize].try_acquire() else {
            count("refused");
            return Err(Refusal::unavailable(format!("another {} is being done", operation.name())));
        };
        let done = self.clone().work(work).await;
        count(if done.is_ok() { "done" } else { "failed" });
        done
    }

    async fn work(self: Arc<Self>, work: Work) -> Result<Option<Value>, Refusal> {
        if work.is_of_the_newest() {
            self.reader.caught_up(CATCH_UP_MAX).await.map_err(|e| Refusal::unavailable(e.message))?;
        }
        let (mut shutdown, cancel) = (self.shutdown.clone(), Cancel::default());
        let _whoever_asked_is_gone = CancelOnDrop(cancel.clone());
        let (handle, stop) = (Handle::current(), cancel.clone());
        let mut done = tokio::task::spawn_blocking(move || self.work_blocking(work, &cancel, &handle));
        let done = tokio::select! {
            done = &mut done => done,
            () = shutdown.asked() => {
                stop.cancel();
                done.await
            }
        };
        done.unwrap_or_else(|e| Err(Error::Start(e.to_string()))).map_err(refusal)
    }

    fn work_blocking(&self, work: Work, cancel: &Cancel, handle: &Handle) -> Result<Option<Value>, Error> {
        if work.is_of_the_newest() {
            match self.keeper.flush(handle) {
                // The blocks are written; the log keeps its records for longer.
                Err(Error::Log(error)) => tracing::warn!(%error, "the log was not told how far storage is"),
                flushed => flushed?,
            }
        }
        match work {
            Work::Snapshot { .. } => {
                let name = snapshot::make(&self.keeper.db, &self.dir, runtime::clock::now_ms())?;
                Ok(Some(json!({ "name": name })))
            }
            Work::Delete { sets, range } => {
                for matchers in &sets {
                    self.keeper.db.delete(matchers, range)?;
                }
                tracing::info!(selectors = sets.len(), range.start_ms, range.end_ms, "deleted series");
                self.keeper.merges.notify_one();
                Ok(None)
            }
            Work::Clean => {
                self.keeper.merge(cancel)?;
                self.keeper.metrics.stats(self.keeper.db.stats());
                Ok(None)
            }
        }
    }
}

/// Ends work that nobody waits for any more.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn route(operation: Operation) -> MethodRouter<Arc<Admin>> {
    let answer = move |State(admin): State<Arc<Admin>>, request: Request| async move {
        response(admin.answer(operation, request).await)
    };
    post(answer).put(answer).options(runtime::options)
}

fn response(result: Result<Option<Value>, Refusal>) -> Response {
    let (status, json) = match result {
        Ok(None) => return StatusCode::NO_CONTENT.into_response(),
        Ok(Some(data)) => (StatusCode::OK, json!({ "status": "success", "data": data })),
        Err(Refusal(status, kind, reason)) => {
            (status, json!({ "status": "error", "errorType": kind, "error": reason }))
        }
    };
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from(json.to_string())).into_response()
}

fn refusal(error: Error) -> Refusal {
    match error {
        Error::Engine(tsdb::Error::Cancelled) => Refusal::unavailable("storage is being stopped"),
        Error::Engine(tsdb::Error::Limit(reason)) => {
            Refusal::unavailable(format!("{reason}; clean_tombstones writes them, and so does storage by itself"))
        }
        error => {
            tracing::error!(%error, "a request of the admin API failed");
            Refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
        }
    }
}

fn time(form: &Form, name: &str, otherwise: i64) -> Result<i64, Refusal> {
    match form.get(name) {
        "" => Ok(otherwise),
        text => timestamp::parse_ms(text)
            .map_err(|e| Refusal::parameter(name, format_args!("invalid time value for '{name}': {e}"))),
    }
}

fn skip_head(form: &Form) -> Result<bool, Refusal> {
    match form.get("skip_head") {
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        _ => Err(Refusal::parameter("skip_head", "neither true nor false")),
    }
}
