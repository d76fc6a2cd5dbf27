//! The query component: Prometheus' HTTP query API, Weir's own plain one, the status page, and the front door to the components
//! whose routes it does not answer itself.
//!
//! Architecture invariant: a query sees everything that was acknowledged before it arrived, or says that it does not; and no
//! request makes a thread of the HTTP server wait.

mod active;
mod api;
mod args;
mod asked;
mod cache;
mod compress;
mod encode;
mod error;
mod evaluate;
mod execute;
pub mod front_door;
mod metrics;
mod number;
mod parts;
mod presentation;
mod protobuf;
mod remote_read;
mod respond;
mod samples;
mod stream;
mod time;
mod top;

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::{HeaderValue, Response, header};
use axum::routing::{MethodRouter, delete, get, options, post};
use bytes::Bytes;
use runtime::{Component, Shutdown};
use storage::Reader;
use tokio::sync::Semaphore;

use crate::api::{Api, cardinality, exemplars, features, federate, metadata, openapi, query, running, series, status};
use crate::asked::Asked;
use crate::compress::Compressor;
use crate::execute::{Executor, Limits};
use crate::metrics::Metrics;
use crate::respond::{Reply, reply, response};

pub use crate::args::Args;
pub use crate::error::{Error, Stage};
pub use crate::front_door::FrontDoor;
pub use crate::presentation::Presentation;

/// What the query component needs of others.
pub struct Deps {
    /// The series to query.
    pub reader: Arc<dyn Reader>,
    /// The components for which this one is the address; none where they are in the same process.
    pub front_door: FrontDoor,
    /// What is shown of the process.
    pub about: About,
}

/// What is true of the process that query is in and query does not know by itself.
#[derive(Debug, Clone)]
pub struct About {
    /// Whether its address answers what is under `/api/v1/admin/tsdb/`.
    pub admin_api: bool,
    /// How long samples are kept, as Prometheus tells it; empty where storage is elsewhere, or keeps all.
    pub retention: String,
    /// Bytes of memory that the process may have; the most that there can be where nobody says.
    pub memory_bytes_max: u64,
}

/// Of a process of which nothing is known.
impl Default for About {
    fn default() -> Self {
        About { admin_api: false, retention: String::new(), memory_bytes_max: u64::MAX }
    }
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deps")
    }
}

/// The running component.
#[derive(Debug)]
pub struct Started {
    /// Its routes and its end. It has drained when no query runs any more; ten seconds after it was asked to stop, those that
    /// still run are cancelled.
    pub component: Component,
    /// For what other components answer at the same address.
    pub presentation: Presentation,
}

/// Starts the threads for queries. Fails when they cannot be started, or a metric is registered twice.
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
    shutdown: Shutdown,
    now_ms: fn() -> i64,
) -> Result<Started, Error> {
    let Deps { reader, front_door, about } = deps;
    let metrics = Metrics::register(registry, &args)?;
    let limits = Limits {
        timeout: args.query_timeout,
        running_max: args.query_concurrency_max,
        waiting_max: args.query_waiting_max,
        threads: args.query_threads,
    };
    let front_door = front_door.router(registry)?;
    let cache = cache::Cache::new(args.query_cache_bytes, &args.memory, registry)?;
    let executor = Executor::new(reader.clone(), limits, args.memory.clone(), shutdown, metrics.clone(), now_ms)?;
    let started_ms = now_ms();
    let compressor = Compressor::new(executor.threads(), args.memory.clone(), metrics.clone());
    let streams = Arc::new(Semaphore::new(args.query_concurrency_max));
    let api = Arc::new(Api { args, about, reader, executor, cache, streams, compressor, metrics, now_ms, started_ms });
    let presentation = Presentation::new(api.clone());
    let router = router(api.clone()).merge(presentation.of(front_door));
    let drained = Box::pin(async move {
        api.executor.drained().await;
        Ok(())
    });
    Ok(Started { component: Component { name: "query", router, drained }, presentation })
}

fn router(api: Arc<Api>) -> Router {
    let (observed, presented) = (api.clone(), api.clone());
    Router::new()
        .route("/api/v1/query", get_post(query::instant))
        .route("/api/v1/query_range", get_post(query::range))
        .route("/api/v1/query_exemplars", get_post(exemplars::exemplars))
        .route("/api/v1/format_query", get_post(query::format))
        .route("/api/v1/parse_query", get_post(query::tree))
        .route("/api/v1/series", get_post(series::series))
        .route("/api/v1/labels", get_post(series::names))
        .route("/api/v1/label/{name}/values", see(label_values))
        .route("/api/v1/metadata", get_only(metadata::metadata))
        .route("/api/v1/status/buildinfo", see(async || response(Ok(status::build_info()))))
        .route("/api/v1/status/runtimeinfo", see(async |State(api): Api_| response(Ok(status::runtime_info(&api)))))
        .route("/api/v1/status/flags", see(async |State(api): Api_| response(Ok(status::flags(&api)))))
        .route("/api/v1/status/tsdb", get_only(cardinality::tsdb))
        .route("/api/v1/status/walreplay", see(async || response(Ok(status::wal_replay()))))
        .route("/api/v1/features", see(async |State(api): Api_| response(Ok(features::features(&api)))))
        .route("/api/v1/openapi.yaml", see(openapi_endpoint))
        .route("/api/v1/status/config", see(async || response(Ok(status::config()))))
        .route("/api/v1/status/active_queries", see(async |State(api): Api_| response(Ok(running::active(&api)))))
        .route("/api/v1/status/active_queries/{id}", delete(running::cancel).options(runtime::options))
        .route("/api/v1/status/top_queries", get_post(running::top))
        .route("/api/v1/targets", see(async || response(Ok(status::targets()))))
        .route("/api/v1/targets/metadata", get_only(status::targets_metadata))
        .route("/api/v1/targets/relabel_steps", get_only(status::relabel_steps))
        .route("/api/v1/scrape_pools/config", get_only(status::scrape_pool_config))
        .route("/api/v1/scrape_pools", see(async || response(Ok(status::scrape_pools()))))
        .route("/api/v1/alertmanagers", see(async || response(Ok(status::alertmanagers()))))
        .route(
            "/api/v1/read",
            post(async |State(api): Api_, request: Request| remote_read::read(api, request).await)
                .options(runtime::options),
        )
        .route(
            "/api/v1/{*rest}",
            options(runtime::options)
                .fallback(async || response(Err(Error::NotFound("404 page not found".to_owned())))),
        )
        .route("/federate", get(federate_endpoint))
        .route("/query", get(samples_endpoint))
        .route("/health", get(async |State(api): Api_| response(Ok(samples::health(&api)))))
        .route("/", get(page))
        .layer(axum::middleware::from_fn(move |request, next| presentation::present(presented.clone(), request, next)))
        .layer(axum::middleware::from_fn(move |request, next| api::observe(observed.clone(), request, next)))
        .with_state(api)
}

type Api_ = State<Arc<Api>>;

/// A route that takes its parameters from the URL or from a form, and answers a browser's question whether it may. A handler may find that there is
/// nothing to answer.
fn get_post<H, F, T>(handler: H) -> MethodRouter<Arc<Api>>
where
    H: Fn(Arc<Api>, Asked) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
    T: Into<Reply> + Send + 'static,
{
    let handle = move |State(api): Api_, request: Request| answer(handler.clone(), api, request);
    get(handle.clone()).post(handle).options(runtime::options)
}

/// A route that is read, and of which a browser may ask whether it may be.
fn see<H, T>(handler: H) -> MethodRouter<Arc<Api>>
where
    H: Handler<T, Arc<Api>>,
    T: 'static,
{
    get(handler).options(runtime::options)
}

/// A route that takes its parameters from the URL.
fn get_only<H, F>(handler: H) -> MethodRouter<Arc<Api>>
where
    H: Fn(Arc<Api>, Asked) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Bytes, Error>> + Send + 'static,
{
    see(move |State(api): Api_, request: Request| answer(handler.clone(), api, request))
}

async fn answer<H, F, T>(handler: H, api: Arc<Api>, request: Request) -> Response<Body>
where
    H: Fn(Arc<Api>, Asked) -> F,
    F: Future<Output = Result<T, Error>>,
    T: Into<Reply>,
{
    reply(match Asked::read(request).await {
        Ok(form) => handler(api, form).await.map(Into::into),
        Err(error) => Err(error),
    })
}

async fn label_values(State(api): Api_, request: Request) -> Response<Body> {
    // The name is cut from the path as it came: it may hold bytes that are not UTF-8, which has an error of its own.
    let path = request.uri().path().to_owned();
    let name = path.strip_prefix("/api/v1/label/").and_then(|rest| rest.strip_suffix("/values")).unwrap_or("");
    match Asked::read(request).await {
        Ok(form) => reply(series::values(api, name.as_bytes(), form).await),
        Err(error) => response(Err(error)),
    }
}

async fn federate_endpoint(State(api): Api_, request: Request) -> Response<Body> {
    let format = federate::Format::of(request.headers());
    let answer = match Asked::read(request).await {
        Ok(form) => federate::federate(api, form, format).await,
        Err(error) => Err(error),
    };
    let is_exposition = answer.is_ok();
    let mut answer = reply(answer);
    if is_exposition {
        answer
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::try_from(format.content_type()).expect("a text of ASCII"));
    }
    answer
}

async fn openapi_endpoint(request: Request) -> Response<Body> {
    match Asked::read(request).await {
        Ok(form) => openapi::document(&form),
        Err(error) => response(Err(error)),
    }
}

async fn samples_endpoint(State(api): Api_, request: Request) -> Response<Body> {
    let answer = match Asked::read(request).await {
        Ok(form) => samples::samples(api, form).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(plain) => {
            let mut answer = response(Ok(plain.body));
            // A header is ASCII without line breaks; what a source says of itself is, and else it is not worth an error.
            for warning in plain.warnings.iter().filter_map(|text| HeaderValue::from_str(text).ok()) {
                answer.headers_mut().append("x-weir-warning", warning);
            }
            answer
        }
        Err(error) => response(Err(error)),
    }
}

/// The status page. It loads nothing from elsewhere, and the policy lets it do no more than that.
async fn page() -> Response<Body> {
    const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                          img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let mut page = Response::new(Body::from(include_str!("ui/index.html")));
    let headers = page.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    page
}

#[cfg(test)]
mod tests;
