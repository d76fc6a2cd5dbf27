//! The ingest component: client protocols to records of the log, or a refusal that says why.
//!
//! Three protocols end here: Prometheus remote write 1.0 and 2.0, the text exposition formats, and Weir's own JSON. Each is read straight
//! from the request's bytes into the payloads of the log: no owned label set is made on the way.
//!
//! Architecture invariant: a request is answered with success only when every sample of it is durable in the log; what is refused is
//! told, counted, and takes nothing valid with it.

mod admission;
mod args;
mod body;
mod error;
mod handler;
mod json;
mod metrics;
mod outcome;
mod remote_write;
mod staging;
mod text;
mod writer;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::post;
use queue::Log;
use runtime::{Component, Shutdown};

pub use crate::args::Args;
pub use crate::error::Error;
pub use crate::writer::{Batch, Writer};

/// What the ingest component needs of others.
pub struct Deps {
    /// Where records go.
    pub log: Arc<dyn Log>,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deps")
    }
}

/// The running component.
#[derive(Debug)]
pub struct Started {
    /// Its routes and its end. It has drained when every write that had begun is answered; writes that begin later answer 503.
    pub component: Component,
    /// Writes from within the process, under the same bounds as requests.
    pub writer: Arc<Writer>,
}

/// Starts the component; it is ready at once. Fails when a metric is registered twice.
pub async fn start(
    args: Args,
    deps: Deps,
    registry: &prometheus::Registry,
    shutdown: Shutdown,
) -> Result<Started, Error> {
    start_at(args, deps, registry, shutdown, runtime::clock::now_ms)
}

fn start_at(
    args: Args,
    deps: Deps,
    registry: &prometheus::Registry,
    mut shutdown: Shutdown,
    now_ms: fn() -> i64,
) -> Result<Started, Error> {
    let metrics = Arc::new(metrics::Metrics::register(registry, &args)?);
    let writer = Arc::new(Writer::new(args, deps.log, metrics, shutdown.clone(), now_ms));
    let draining = writer.clone();
    let drained = Box::pin(async move {
        shutdown.asked().await;
        draining.idle().await;
        Ok(())
    });
    let component = Component { name: "ingest", router: router(writer.clone()), drained };
    Ok(Started { component, writer })
}

type Writer_ = State<Arc<Writer>>;

fn router(writer: Arc<Writer>) -> Router {
    Router::new()
        .route(
            "/api/v1/write",
            post(async |State(w): Writer_, r: Request| handler::answer::<remote_write::Protocol>(w, r).await)
                .options(runtime::options),
        )
        .route(
            "/api/v1/import/prometheus",
            post(async |State(w): Writer_, r: Request| handler::answer::<text::Protocol>(w, r).await)
                .options(runtime::options),
        )
        .route("/metrics", post(async |State(w): Writer_, r: Request| handler::answer::<json::Protocol>(w, r).await))
        .with_state(writer)
}

#[cfg(test)]
mod tests;
