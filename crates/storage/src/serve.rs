//! The routes by which others read this storage: the seam [`Reader`] as questions and answers of [`crate::wire`].
//!
//! Reads block, so each runs on a thread of its own kind and hands frames to the connection through a short channel: when the reader is slow,
//! the flow control of HTTP/2 fills the channel and the thread waits, so an answer is never in memory as a whole. When the reader hangs up,
//! the read is cancelled. How many run at once is bounded, and further ones are refused, since a reader can decide better than this
//! whether to wait.

mod metrics;
mod read;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::routing::post;
use model::{Budget, Cancel, Kind, SelectRequest, SourceError};
use prometheus::Registry;
use runtime::{Token, token};
use tokio::sync::Semaphore;

use self::metrics::Metrics;
use self::read::Reply;
use crate::replica::Replica;
use crate::wire::question::Counted;
use crate::wire::{self, answer, question};
use crate::{Error, Reader};

/// Reads at once. Each holds a thread and some megabytes of frames; more than this share the cores worse than they wait.
const READS_MAX: usize = 64;
/// Questions for freshness at once. Each is a timer and a watch on the positions.
const WAITS_MAX: usize = 2048;
/// Longest time that a question for freshness may wait; a query's timeout is below it.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// What is served.
#[derive(Clone)]
pub struct Node {
    /// What is read.
    pub reader: Arc<dyn Reader>,
    /// Which replica this is.
    pub replica: Replica,
    /// Partitions of the log.
    pub partitions: u32,
    /// What all reads together may hold.
    pub memory: Budget,
}

/// What the routes share.
struct Server {
    node: Node,
    pool: rayon::ThreadPool,
    reads: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    metrics: Metrics,
}

type Shared = State<Arc<Server>>;

/// The routes, which answer 401 without the token where there is one. Fails where threads cannot be started, or a metric is registered twice.
pub fn router(node: Node, token: Option<Token>, registry: &Registry) -> Result<Router, Error> {
    let pool = rayon::ThreadPoolBuilder::new().thread_name(|n| format!("storage-read-{n}")).build();
    let server = Arc::new(Server {
        node,
        pool: pool.map_err(|e| Error::Start(format!("starting the threads for reads: {e}")))?,
        reads: Arc::new(Semaphore::new(READS_MAX)),
        waits: Arc::new(Semaphore::new(WAITS_MAX)),
        metrics: Metrics::new(registry).map_err(|e| Error::Start(e.to_string()))?,
    });
    let routes = Router::new()
        .route("/select", post(select))
        .route("/outlines", post(outlines))
        .route("/label-names", post(label_names))
        .route("/label-values", post(label_values))
        .route("/metadata", post(metadata))
        .route("/exemplars", post(exemplars))
        .route("/changes", post(changes))
        .route("/cardinality", post(cardinality))
        .route("/count", post(count))
        .route("/caught-up", post(caught_up))
        .route("/backlog", post(backlog));
    let routes = Router::new().nest(wire::PREFIX, routes).layer(DefaultBodyLimit::max(question::BYTES_MAX));
    Ok(token::require(token, routes.with_state(server)))
}

async fn select(State(server): Shared, body: Bytes) -> Response<Body> {
    series(server, question::select, &body).await
}

async fn outlines(State(server): Shared, body: Bytes) -> Response<Body> {
    series(server, question::outlines, &body).await
}

async fn series(
    server: Arc<Server>,
    read: impl Fn(&[u8], Cancel) -> Result<SelectRequest, String>,
    body: &[u8],
) -> Response<Body> {
    let cancel = Cancel::with(server.node.memory.claim());
    match read(body, cancel.clone()) {
        Ok(request) => {
            let work = move |reader: &dyn Reader| {
                let (set, mark) = reader.select_marked(&request)?;
                Ok(Reply::Series { set, mark, range: request.range, want: request.want })
            };
            stream::answer(server, cancel, work).await
        }
        Err(reason) => refused(&invalid(reason)),
    }
}

async fn label_names(State(server): Shared, body: Bytes) -> Response<Body> {
    let cancel = Cancel::with(server.node.memory.claim());
    match question::label_names(&body, cancel.clone()) {
        Ok(request) => {
            stream::answer(server, cancel, move |reader| Ok(Reply::Texts(reader.label_names(&request)?))).await
        }
        Err(reason) => refused(&invalid(reason)),
    }
}

async fn label_values(State(server): Shared, body: Bytes) -> Response<Body> {
    let cancel = Cancel::with(server.node.memory.claim());
    match question::label_values(&body, cancel.clone()) {
        Ok((name, request)) => {
            stream::answer(server, cancel, move |reader| Ok(Reply::Texts(reader.label_values(&name, &request)?))).await
        }
        Err(reason) => refused(&invalid(reason)),
    }
}

async fn metadata(State(server): Shared, body: Bytes) -> Response<Body> {
    match question::metadata(&body) {
        Ok(family) => {
            let work = move |reader: &dyn Reader| Ok(Reply::Metadata(reader.metadata(family.as_deref())?));
            stream::answer(server, Cancel::default(), work).await
        }
        Err(reason) => refused(&invalid(reason)),
    }
}

async fn exemplars(State(server): Shared, body: Bytes) -> Response<Body> {
    let cancel = Cancel::with(server.node.memory.claim());
    match question::exemplars(&body, cancel.clone()) {
        Ok(request) => {
            stream::answer(server, cancel, move |reader| Ok(Reply::Exemplars(reader.exemplars(&request)?))).await
        }
        Err(reason) => refused(&invalid(reason)),
    }
}

async fn changes(State(server): Shared, body: Bytes) -> Response<Body> {
    let cancel = Cancel::default();
    match question::changes(&body, cancel.clone()) {
        Ok(request) => {
            let work = move |reader: &dyn Reader| Ok(Reply::Changes(reader.changes(&request)));
            stream::answer(server, cancel, work).await
        }
        Err(reason) => refused(&invalid(reason)),
    }
}

async fn cardinality(State(server): Shared, body: Bytes) -> Response<Body> {
    let cancel = Cancel::with(server.node.memory.claim());
    match question::cardinality(&body, server.node.partitions, cancel.clone()) {
        Ok(request) => {
            stream::answer(server, cancel, move |reader| Ok(Reply::Cardinality(reader.cardinality(&request)?))).await
        }
        Err(reason) => refused(&invalid(reason)),
    }
}

async fn count(State(server): Shared, body: Bytes) -> Response<Body> {
    let cancel = Cancel::with(server.node.memory.claim());
    match question::count(&body, cancel.clone()) {
        Ok((request, counted)) => {
            let work = move |reader: &dyn Reader| {
                Ok(match counted {
                    Counted::Numbers => Reply::Counts(reader.count(&request)?),
                    Counted::Newest => Reply::Newest(reader.newest(&request)?, request.range),
                })
            };
            stream::answer(server, cancel, work).await
        }
        Err(reason) => refused(&invalid(reason)),
    }
}

/// Answers when all is visible.
async fn caught_up(State(server): Shared, body: Bytes) -> Response<Body> {
    let (timeout, positions) = match question::caught_up(&body) {
        Ok((timeout, positions)) => (timeout.min(WAIT_MAX), positions),
        Err(reason) => return refused(&invalid(reason)),
    };
    let Ok(_place) = server.waits.clone().try_acquire_owned() else { return server.full("questions for freshness") };
    match server.node.reader.reached(&positions, timeout).await {
        Ok(()) => framed(Body::from([server.begin(), answer::end(0, 0)].concat())),
        Err(error) => refused(&error),
    }
}

async fn backlog(State(server): Shared) -> Response<Body> {
    let Ok(_place) = server.waits.clone().try_acquire_owned() else { return server.full("questions for freshness") };
    // Looks where the log ends; whether that is reached is not asked for.
    let _ = server.node.reader.caught_up(Duration::ZERO).await;
    let frames = [server.begin(), answer::backlog(server.node.reader.backlog()), answer::end(0, 0)];
    framed(Body::from(frames.concat()))
}

impl Server {
    fn begin(&self) -> Bytes {
        answer::Begin { replica: self.node.replica, partitions: self.node.partitions }.encode()
    }

    fn full(&self, what: &str) -> Response<Body> {
        self.metrics.refused.inc();
        let message = format!("too many {what} are being answered");
        refused(&SourceError { kind: Kind::Overloaded, message })
    }
}

fn invalid(message: String) -> SourceError {
    SourceError { kind: Kind::Invalid, message }
}

/// The response to a question that failed before its first frame.
fn refused(error: &SourceError) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{}\n", error.message)));
    // A storage that is busy is not there for now; 429 would blame the client.
    let status = if error.kind == Kind::Overloaded { 503 } else { error.kind.http_status() };
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(wire::KIND_HEADER, HeaderValue::from_static(error.kind.as_str()));
    if error.kind == Kind::Overloaded {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn framed(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(wire::CONTENT_TYPE));
    response
}

fn streamed<S>(stream: S) -> Response<Body>
where
    S: futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static,
{
    framed(Body::from_stream(stream))
}
