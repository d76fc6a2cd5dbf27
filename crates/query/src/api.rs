//! Prometheus' HTTP API.

pub(crate) mod cardinality;
pub(crate) mod exemplars;
pub(crate) mod explain;
pub(crate) mod features;
pub(crate) mod federate;
pub(crate) mod metadata;
pub(crate) mod openapi;
pub(crate) mod query;
pub(crate) mod running;
pub(crate) mod series;
pub(crate) mod status;
pub(crate) mod tree;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response};
use axum::middleware::Next;
use storage::Reader;
use tokio::sync::Semaphore;

use crate::About;
use crate::args::Args;
use crate::cache::Cache;
use crate::compress::Compressor;
use crate::error::client_closed;
use crate::execute::Executor;
use crate::metrics::Metrics;

/// What every handler is given.
pub(crate) struct Api {
    pub(crate) args: Args,
    pub(crate) about: About,
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

/// Counts and times every request. One whose client goes away before there is an answer counts with the status that Prometheus has for it.
pub(crate) async fn observe(api: Arc<Api>, request: Request<Body>, next: Next) -> Response<Body> {
    let path = request.extensions().get::<axum::extract::MatchedPath>().cloned();
    let endpoint = path.as_ref().map_or("other", |path| path.as_str());
    let timer = api.metrics.duration(endpoint).start_timer();
    let mut left = Left { api: &api, endpoint, is_answered: false };
    let response = next.run(request).await;
    left.is_answered = true;
    timer.observe_duration();
    api.metrics.requests.with_label_values(&[endpoint, response.status().as_str()]).inc();
    response
}

/// A request whose client may go away.
struct Left<'a> {
    api: &'a Api,
    endpoint: &'a str,
    is_answered: bool,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        // One that fails is answered by who catches that.
        if !self.is_answered && !std::thread::panicking() {
            self.api.metrics.requests.with_label_values(&[self.endpoint, client_closed().as_str()]).inc();
        }
    }
}
