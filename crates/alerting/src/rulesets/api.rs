//! The hand-over over HTTP, as `rules::handover` documents it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use rules::handover::States;
use runtime::Shutdown;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Answer, Asked, Holdings};
use crate::view::View;

/// Bytes of a rule set: ten thousand rules at six kilobytes each.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Rule sets that are read at the same time; others wait.
const BODIES_MAX: usize = 2;
/// Requests for states that wait; a controller has one, and one more when its lead changes.
const WAITERS_MAX: usize = 64;
/// Longest wait for a change.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// What changes this soon after what is waited for goes along, so that a hundred rules of one sample are one answer.
const GATHER: Duration = Duration::from_millis(50);

/// What the handlers need.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) view: View,
    pub(crate) holdings: Holdings,
    pub(crate) asked: mpsc::Sender<Asked>,
    /// Of this run.
    pub(crate) epoch: Arc<str>,
    bodies: Arc<Semaphore>,
    waiters: Arc<Semaphore>,
}

impl Api {
    pub(crate) fn new(view: View, holdings: Holdings, asked: mpsc::Sender<Asked>, epoch: Arc<str>) -> Self {
        let (bodies, waiters) = (Arc::new(Semaphore::new(BODIES_MAX)), Arc::new(Semaphore::new(WAITERS_MAX)));
        Api { view, holdings, asked, epoch, bodies, waiters }
    }
}

/// The routes.
pub(crate) fn router(api: Api) -> Router {
    let whole = |state: State<Api>, path: Path<String>, request: Request| take(state, path, request, true);
    let change = |state: State<Api>, path: Path<String>, request: Request| take(state, path, request, false);
    Router::new()
        .route("/api/v1/rulesets/{source}", put(whole).patch(change).options(runtime::options))
        .route("/api/v1/rulesets/{source}/states", get(states).options(runtime::options))
        .with_state(api)
}

fn failure(status: StatusCode, word: &str, message: &str) -> Response {
    (status, Json(json!({ "status": "error", "errorType": word, "error": message }))).into_response()
}

fn bad(message: &str) -> Response {
    failure(StatusCode::BAD_REQUEST, "bad_data", message)
}

/// Whether a source can be called so: as the name of a Kubernetes object.
fn is_source(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed)
}

async fn take(State(api): State<Api>, Path(source): Path<String>, request: Request, whole: bool) -> Response {
    if !is_source(&source) {
        return bad(&format!("{source:?} is no name of a source: 1 to 63 of a-z 0-9 -"));
    }
    let stopping = || failure(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "alerting is stopping");
    let Ok(_reading) = api.bodies.acquire().await else { return stopping() };
    let body = match axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(error) => {
            let message = format!("a rule set has at most {BODY_BYTES_MAX} bytes, and must come whole: {error}");
            return failure(StatusCode::PAYLOAD_TOO_LARGE, "bad_data", &message);
        }
    };
    let (answer, answered) = oneshot::channel();
    if api.asked.send(Asked { source, whole, body, answer }).await.is_err() {
        return stopping();
    }
    match answered.await {
        Ok(Answer::Accepted(accepted)) => Json(accepted).into_response(),
        Ok(Answer::Conflict(held)) => (StatusCode::CONFLICT, Json(held)).into_response(),
        Ok(Answer::Invalid(message)) => bad(&message),
        Err(_) => stopping(),
    }
}

/// What a request for states asks with.
#[derive(Default)]
struct Asking {
    epoch: String,
    after: u64,
    wait: Duration,
}

impl Asking {
    fn read(pairs: Vec<(String, String)>) -> Result<Self, String> {
        let mut asking = Asking::default();
        for (name, value) in pairs {
            let number = || value.parse::<u64>().map_err(|_| format!("{name} must be a whole number, not {value:?}"));
            match name.as_str() {
                "epoch" => asking.epoch = value,
                "after" => asking.after = number()?,
                "wait_ms" => asking.wait = Duration::from_millis(number()?).min(WAIT_MAX),
                _ => return Err(format!("the parameter {name:?} is not known; epoch, after and wait_ms are")),
            }
        }
        Ok(asking)
    }
}

async fn states(
    State(api): State<Api>,
    Path(source): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
    request: Request,
) -> Response {
    let asking = match Asking::read(pairs) {
        Ok(asking) => asking,
        Err(message) => return bad(&message),
    };
    let Ok(_waiting) = api.waiters.try_acquire() else {
        let message = format!("{WAITERS_MAX} requests wait for states already");
        return failure(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &message);
    };
    let after = if asking.epoch == *api.epoch { asking.after } else { 0 };
    // Told by the listener when it stops, so that a wait does not hold up the drain.
    let draining = request.extensions().get::<Shutdown>().cloned();
    let until = async {
        tokio::select! {
            () = tokio::time::sleep(asking.wait) => {}
            () = stopped(draining) => {}
        }
    };
    tokio::select! {
        () = until => {}
        () = changed(&api.view, &source, after) => {}
    }
    let (newest, states) = api.view.states(&source, after);
    let held = api.holdings.of(&source);
    Json(States { epoch: api.epoch.to_string(), after: newest, held, states }).into_response()
}

async fn stopped(draining: Option<Shutdown>) {
    match draining {
        Some(mut draining) => draining.asked().await,
        None => std::future::pending().await,
    }
}

/// Resolves once there is a state that changed after a change, and a little later.
async fn changed(view: &View, source: &str, after: u64) {
    let mut newest = view.watch();
    let mut waited = false;
    loop {
        newest.borrow_and_update();
        if !view.states(source, after).1.is_empty() {
            break;
        }
        waited = true;
        if newest.changed().await.is_err() {
            break;
        }
    }
    if waited {
        tokio::time::sleep(GATHER).await;
    }
}
