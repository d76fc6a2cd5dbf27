//! What the protocols have in common: admit, read, parse, append, answer, count.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, header};
use bytes::Bytes;
use model::{OFFSETS_HEADER, Positions};

use crate::admission::Hold;
use crate::args::Window;
use crate::body;
use crate::metrics;
use crate::outcome::{Outcome, Reason};
use crate::staging::Staging;
use crate::{Error, Writer};

/// A body from this size on is parsed on a thread for blocking work: below it, parsing takes less than a millisecond, about what
/// moving it to another thread costs in delay under load.
const INLINE_BYTES_MAX: usize = 128 << 10;

/// What a parser may use.
pub(crate) struct Context<'a> {
    pub(crate) staging: &'a mut Staging,
    pub(crate) window: Window,
    pub(crate) now_ms: i64,
    pub(crate) body_bytes_max: usize,
    pub(crate) hold: &'a mut Hold,
}

/// A client protocol.
pub(crate) trait Protocol: Sized + Send + 'static {
    /// Reads the headers; refuses what is not spoken.
    fn new(headers: &HeaderMap, uri: &Uri) -> Result<Self, Error>;

    /// Its metrics.
    fn metrics(all: &metrics::Metrics) -> &metrics::Protocol;

    /// Stages what the body holds. After an error nothing that was staged is written.
    fn parse(&self, body: Bytes, context: Context<'_>) -> Result<Outcome, Error>;

    /// The answer when everything that was taken is durable.
    fn respond(outcome: &Outcome) -> Response<Body>;

    /// The answer when nothing was acknowledged.
    fn refuse(error: &Error) -> Response<Body>;
}

/// Answers a write request.
#[expect(clippy::disallowed_methods, reason = "the duration of a write is measured here and nowhere else")]
pub(crate) async fn answer<P: Protocol>(writer: Arc<Writer>, request: Request) -> Response<Body> {
    let began = std::time::Instant::now();
    let metrics = P::metrics(&writer.metrics);
    let mut response = match write::<P>(&writer, request).await {
        Ok((outcome, positions)) => {
            count(&writer.metrics, metrics, &outcome);
            let mut response = P::respond(&outcome);
            // For who wants to read what it wrote; digits and separators are a header's text.
            if let Some(offsets) = (!positions.is_empty()).then(|| HeaderValue::from_str(&positions.to_string()).ok()) {
                response
                    .headers_mut()
                    .extend(offsets.map(|offsets| (HeaderName::from_static(OFFSETS_HEADER), offsets)));
            }
            response
        }
        Err(error) => {
            if error.kind() == model::Kind::Internal {
                tracing::error!(%error, "write failed");
            }
            P::refuse(&error)
        }
    };
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    metrics.answered(status.as_u16());
    metrics.seconds.observe(began.elapsed().as_secs_f64());
    response
}

fn count(all: &metrics::Metrics, metrics: &metrics::Protocol, outcome: &Outcome) {
    metrics.samples.inc_by(outcome.samples + outcome.histograms);
    if outcome.refused > 0 {
        for reason in Reason::ALL {
            metrics.rejected(reason, outcome.refused_samples[reason as usize]);
        }
    }
    all.count_exemplars(outcome);
}

async fn write<P: Protocol>(writer: &Arc<Writer>, request: Request) -> Result<(Outcome, Positions), Error> {
    let _admitted = writer.admit()?;
    let (parts, body) = request.into_parts();
    let protocol = P::new(&parts.headers, &parts.uri)?;
    let mut hold = writer.budget.hold();
    let body = body::read(&parts.headers, body, &writer.args, &mut hold).await?;
    P::metrics(&writer.metrics).body_bytes.inc_by(body.len() as u64);
    // The bytes stay held until the records made of them, which are smaller, are durable.
    let (outcome, records, _hold) = if body.len() < INLINE_BYTES_MAX {
        stage(writer, &protocol, body, hold)?
    } else {
        let writer = writer.clone();
        let parsed = tokio::task::spawn_blocking(move || stage(&writer, &protocol, body, hold)).await;
        parsed.map_err(|error| Error::Internal(error.to_string()))??
    };
    let positions = writer.append(records).await?;
    Ok((outcome, positions))
}

type Staged = (Outcome, Vec<(u32, Bytes)>, Hold);

fn stage<P: Protocol>(writer: &Writer, protocol: &P, body: Bytes, mut hold: Hold) -> Result<Staged, Error> {
    let now_ms = (writer.now_ms)();
    let mut staging = writer.staging();
    let context = Context {
        staging: &mut staging,
        window: writer.args.window(now_ms),
        now_ms,
        body_bytes_max: writer.args.ingest_body_bytes_max,
        hold: &mut hold,
    };
    // After an error, what is half filled is dropped with its encoders.
    let outcome = protocol.parse(body, context)?;
    let records = staging.finish();
    writer.give_back(staging);
    Ok((outcome, records, hold))
}

/// An answer with a text.
pub(crate) fn text(status: u16, text: impl Into<Body>) -> Response<Body> {
    with_type(status, text.into(), "text/plain; charset=utf-8")
}

/// An answer with a JSON document.
pub(crate) fn json(status: u16, document: impl Into<Body>) -> Response<Body> {
    with_type(status, document.into(), "application/json")
}

fn with_type(status: u16, body: Body, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
