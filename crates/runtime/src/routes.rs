//! What a process answers: from its first moment that it lives, and everything else once its components are ready.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, exponential_buckets};

use crate::metrics::Page;

/// Routes that can be exchanged while the listener runs; clones share them.
#[derive(Clone)]
pub struct Routes {
    current: Arc<RwLock<Router>>,
    draining: Arc<AtomicBool>,
}

/// Counts requests and logs them.
#[derive(Clone)]
struct Observer {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl Routes {
    /// The routes of a process that is starting: `/live` and `/metrics`; everything else, `/ready` too, answers 503.
    pub fn starting(page: &Page) -> Self {
        let starting = || async {
            let retry = [(header::RETRY_AFTER, HeaderValue::from_static("1"))];
            (StatusCode::SERVICE_UNAVAILABLE, retry, "starting: reading what was acknowledged before the last stop\n")
        };
        // Also where only the method is another one: samples are posted to the path of the metrics page.
        let routes = process_routes(page).fallback(starting).method_not_allowed_fallback(starting);
        let current = Arc::new(RwLock::new(routes));
        Routes { current, draining: Arc::default() }
    }

    /// The process will stop: `/ready` and `/-/ready` answer 503 from now on, and everything else as before.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The process is ready: `/ready` and `/-/ready` answer 200, and the components' routes are served. Each request is counted and logged.
    pub fn ready(&self, page: &Page, components: Router, registry: &Registry) -> Result<(), prometheus::Error> {
        let observer = Observer {
            requests: IntCounterVec::new(
                Opts::new("weir_http_requests_total", "HTTP requests, by route, method and status."),
                &["route", "method", "code"],
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new("weir_http_request_duration_seconds", "Duration of HTTP requests, by route.")
                    .buckets(exponential_buckets(0.000_5, 4.0, 9)?),
                &["route"],
            )?,
        };
        registry.register(Box::new(observer.requests.clone()))?;
        registry.register(Box::new(observer.seconds.clone()))?;
        let draining = Arc::clone(&self.draining);
        let ready = async move || match draining.load(Ordering::Relaxed) {
            false => (StatusCode::OK, "ready\n"),
            true => (StatusCode::SERVICE_UNAVAILABLE, "draining: the process was asked to stop\n"),
        };
        let router =
            process_routes(page).route("/ready", get(ready.clone())).route("/-/ready", get(ready)).merge(components);
        let router = router.layer(middleware::from_fn_with_state(observer, observe));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = router;
        Ok(())
    }

    /// The routes of now.
    pub fn current(&self) -> Router {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What every path of the API answers to `OPTIONS`, as in Prometheus: that there is nothing to say. Whoever lets pages of other origins ask adds the headers.
pub async fn options() -> StatusCode {
    StatusCode::NO_CONTENT
}

fn process_routes(page: &Page) -> Router {
    let page = page.clone();
    let alive = || async { "alive\n" };
    let metrics = move || {
        let page = page.clone();
        async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.text()) }
    };
    Router::new().route("/live", get(alive)).route("/-/healthy", get(alive)).route("/metrics", get(metrics))
}

#[expect(clippy::disallowed_methods, reason = "the duration of a request is measured here and nowhere else")]
async fn observe(State(observer): State<Observer>, request: Request, next: Next) -> Response {
    // The pattern and not the path, so that the label has a bound.
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", |p| p.as_str()).to_owned();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let began = std::time::Instant::now();
    let response = next.run(request).await.into_response();
    let (took, status) = (began.elapsed(), response.status());
    let known = matches!(method.as_str(), "GET" | "POST" | "PUT" | "DELETE" | "HEAD" | "OPTIONS");
    let method = if known { method.as_str() } else { "other" };
    observer.requests.with_label_values(&[&route, method, status.as_str()]).inc();
    observer.seconds.with_label_values(&[&route]).observe(took.as_secs_f64());
    let duration_ms = took.as_secs_f64() * 1e3;
    if status.is_server_error() {
        tracing::warn!(target: "http", %method, %path, status = status.as_u16(), duration_ms, "request");
    } else {
        tracing::debug!(target: "http", %method, %path, status = status.as_u16(), duration_ms, "request");
    }
    response
}
