//! Prometheus' HTTP API.

pub(crate) mod cardinality;
pub(crate) mod exemplars;
pub(crate) mod explain;
pub(crate) mod features;
pub(crate) mod federate;
pub(crate) mod metadata;
pub(crate) mod query;
pub(crate) mod running;
pub(crate) mod series;
pub(crate) mod status;
pub(crate) mod tree;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::middleware::Next;
use storage::Reader;
use tokio::sync::Semaphore;

use crate::args::Args;
use crate::cache::Cache;
use crate::compress::Compressor;
use crate::execute::Executor;
use crate::metrics::Metrics;

/// What every handler is given.
pub(crate) struct Api {
    pub(crate) args: Args,
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) executor: Executor,
    pub(crate) cache: Cache,
    /// Places for answers that are streams.
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) compressor: Compressor,
    pub(crate) metrics: Metrics,
    /// Read once a request, by the handler that begins it.
    pub(crate) now_ms: fn() -> i64,
    pub(crate) started_ms: i64,
}

/// Counts and times every request, and lets pages of other origins read the answers, as Prometheus does by default: no cookie is looked at, and nothing that
/// they are let do changes anything. What does, which is to cancel a query, is none of the methods that are named here, and refuses them by itself.
pub(crate) async fn observe(api: Arc<Api>, request: Request<Body>, next: Next) -> Response<Body> {
    let path = request.extensions().get::<axum::extract::MatchedPath>().cloned();
    let endpoint = path.as_ref().map_or("other", |path| path.as_str());
    let foreign = request.headers().contains_key(header::ORIGIN);
    let timer = api.metrics.duration(endpoint).start_timer();
    let mut response = next.run(request).await;
    timer.observe_duration();
    api.metrics.requests.with_label_values(&[endpoint, response.status().as_str()]).inc();
    if foreign {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
        let names = HeaderValue::from_static("Accept, Authorization, Content-Type, Origin");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date"));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// Answers a browser that asks whether it may.
pub(crate) async fn options() -> StatusCode {
    StatusCode::NO_CONTENT
}
