//! One component behind the front door: a request goes there and the answer comes back, both as streams and both bounded.
//!
//! Headers that concern one connection only stay on it (RFC 9110, 7.6.1). What the caller sent as Authorization does not go on: the
//! component is shown Weir's own token. Nothing is tried twice: the caller knows best whether to.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{LengthLimitError, Limited};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use runtime::Token;
use runtime::error::chain;
use runtime::metrics::register_bounds;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::respond::error_response;

/// Bytes of a body, each way. The largest that `--ingest-body-bytes-max` can be set to; ingest's own limit is the one that counts.
const BODY_BYTES_MAX: usize = 1 << 30;
/// Requests to one component at the same time; each holds a connection and some kilobytes. A quarter of what a listener takes.
const REQUESTS_MAX: usize = 1024;
/// How long a connection may take to come about; within a cluster it takes a millisecond.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the body of an answer may take, once it has begun.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);

/// Headers of one connection, beside those that `Connection` names; and those that are written anew.
const NOT_FORWARDED: [HeaderName; 10] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    header::EXPECT,
    header::AUTHORIZATION,
];
/// Of those, the ones that have no name in the library.
const NOT_FORWARDED_TOO: [&str; 2] = ["keep-alive", "proxy-connection"];

/// What is counted of all components.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    forwarded: IntCounterVec,
    in_flight: IntGaugeVec,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Requests for another component, by component and outcome: answered, refused, unreachable, timeout.";
        let forwarded = IntCounterVec::new(Opts::new("weir_query_forwarded_total", help), &["upstream", "outcome"])?;
        let help = "Requests that another component is answering.";
        let in_flight = IntGaugeVec::new(Opts::new("weir_query_forwarding_requests", help), &["upstream"])?;
        registry.register(Box::new(forwarded.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        let help = "Requests that each other component may be answering; more are refused.";
        register_bounds(registry, &[("weir_query_forwarding_requests_max", help, REQUESTS_MAX as u64)])?;
        Ok(Metrics { forwarded, in_flight })
    }
}

/// A component.
pub(super) struct Upstream {
    name: &'static str,
    authority: Authority,
    token: Option<Token>,
    answer_timeout: Duration,
    body_bytes_max: usize,
    client: Client<HttpConnector, Limited<Body>>,
    slots: Arc<Semaphore>,
    metrics: Metrics,
}

/// Why there is no answer of the component.
enum Refusal {
    TooLarge,
    Overloaded,
    Unreachable(String),
    Timeout,
}

impl Upstream {
    pub(super) fn new(
        name: &'static str,
        authority: Authority,
        token: Option<Token>,
        answer_timeout: Duration,
        metrics: &Metrics,
    ) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let mut client = Client::builder(TokioExecutor::new());
        // A connection that the other side closes just now would lose a request.
        client.pool_idle_timeout(runtime::listener::CLIENT_IDLE).pool_timer(TokioTimer::new());
        let client = client.build(connector);
        let slots = Arc::new(Semaphore::new(REQUESTS_MAX));
        let (body_bytes_max, metrics) = (BODY_BYTES_MAX, metrics.clone());
        Upstream { name, authority, token, answer_timeout, body_bytes_max, client, slots, metrics }
    }

    #[cfg(test)]
    pub(super) fn with_requests_max(self, max: usize) -> Self {
        Upstream { slots: Arc::new(Semaphore::new(max)), ..self }
    }

    #[cfg(test)]
    pub(super) fn with_body_bytes_max(self, max: usize) -> Self {
        Upstream { body_bytes_max: max, ..self }
    }

    /// The component's answer, or that there is none, as Prometheus' API says it.
    pub(super) async fn forward(&self, request: Request) -> Response {
        let answered = self.answer(request).await;
        let outcome = match &answered {
            Ok(_) => "answered",
            Err(Refusal::TooLarge | Refusal::Overloaded) => "refused",
            Err(Refusal::Unreachable(_)) => "unreachable",
            Err(Refusal::Timeout) => "timeout",
        };
        self.metrics.forwarded.with_label_values(&[self.name, outcome]).inc();
        answered.unwrap_or_else(|refusal| self.refuse(&refusal))
    }

    async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
        let in_flight = InFlight::new(&self.metrics.in_flight, self.name, slot);
        let (mut parts, body) = request.into_parts();
        if body.size_hint().lower() > self.body_bytes_max as u64 {
            return Err(Refusal::TooLarge);
        }
        strip(&mut parts.headers);
        if let Some(token) = &self.token {
            parts.headers.insert(header::AUTHORIZATION, token.header());
        }
        let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        parts.uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(|e| Refusal::Unreachable(e.to_string()))?;
        // The caller may speak HTTP/2, whose version would be asked of the component too.
        parts.version = axum::http::Version::HTTP_11;
        let request = Request::from_parts(parts, Limited::new(body, self.body_bytes_max));
        let answer = tokio::time::timeout(self.answer_timeout, self.client.request(request)).await;
        let answer = answer.map_err(|_| Refusal::Timeout)?.map_err(|error| {
            if is_too_large(&error) { Refusal::TooLarge } else { Refusal::Unreachable(chain(&error)) }
        })?;
        let (mut parts, body) = answer.into_parts();
        strip(&mut parts.headers);
        Ok(Response::from_parts(parts, Body::new(Answer::new(body, in_flight))))
    }

    fn refuse(&self, refusal: &Refusal) -> Response {
        let Upstream { name, authority, answer_timeout, .. } = self;
        let (status, word, message) = match refusal {
            Refusal::TooLarge => {
                let message = format!("the body has more than {} bytes", self.body_bytes_max);
                (StatusCode::PAYLOAD_TOO_LARGE, "bad_data", message)
            }
            Refusal::Overloaded => {
                let message = format!("{REQUESTS_MAX} requests to {name} are in flight already");
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            }
            Refusal::Unreachable(reason) => {
                let message = format!("{name} at {authority} does not answer: {reason}");
                (StatusCode::BAD_GATEWAY, "unavailable", message)
            }
            Refusal::Timeout => {
                let message = format!("{name} at {authority} did not answer within {answer_timeout:?}");
                (StatusCode::GATEWAY_TIMEOUT, "timeout", message)
            }
        };
        let mut response = error_response(status, word, &message);
        if status.is_server_error() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Removes what does not go further than this connection.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in NOT_FORWARDED.iter().chain(&named) {
        headers.remove(name);
    }
    for name in NOT_FORWARDED_TOO {
        headers.remove(name);
    }
}

fn is_too_large(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A request's place among those in flight.
struct InFlight {
    gauge: prometheus::IntGauge,
    _slot: OwnedSemaphorePermit,
}

impl InFlight {
    fn new(gauges: &IntGaugeVec, upstream: &str, slot: OwnedSemaphorePermit) -> Self {
        let gauge = gauges.with_label_values(&[upstream]);
        gauge.inc();
        InFlight { gauge, _slot: slot }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// The body of an answer, as it comes; ends with an error when it is too large or takes too long. Keeps the place until it has ended.
struct Answer {
    body: Limited<Incoming>,
    end: Pin<Box<Sleep>>,
    _in_flight: InFlight,
}

impl Answer {
    fn new(body: Incoming, in_flight: InFlight) -> Self {
        let end = Box::pin(tokio::time::sleep(BODY_TIMEOUT));
        Answer { body: Limited::new(body, BODY_BYTES_MAX), end, _in_flight: in_flight }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        self.end.as_mut().poll(cx).map(|()| Some(Err("the answer took too long".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
