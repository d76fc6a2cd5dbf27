//! `/api/v1/read`: Prometheus' remote read, by which another Prometheus, or a tool, reads series as they are.
//!
//! In both flavours of its protocol. Samples are one message, in memory as a whole and so with a limit. Chunks are a stream of frames: each is
//! encoded when the connection has room for it, so that a large answer takes little memory, and a client that is slow holds no place of a
//! query while it reads. The price of a stream is that what fails after its first frame has no status: the connection is cut, which a client cannot
//! take for an end. Errors are text, as Prometheus has them here.

mod frames;
mod request;
mod samples;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use model::{Kind, SelectRequest, Series, Want};
use runtime::listener::Peer;
use tokio::sync::OwnedSemaphorePermit;

use self::frames::Frames;
use self::request::{Flavour, Query};
use crate::api::Api;
use crate::asked::{Subject, TEXT_BYTES_MAX};
use crate::error::Error;
use crate::execute::Context;
use crate::metrics::Held;
use crate::stream::{self, Pieces};

const SAMPLES: &str = "application/x-protobuf";
const CHUNKS: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// What was read, and what is to be said of it.
struct Answer<T> {
    body: T,
    warnings: Vec<String>,
}

/// `/api/v1/read`.
pub(crate) async fn read(api: Arc<Api>, request: Request) -> Response<Body> {
    let answered = async {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
        let request = request::read(request).await?;
        let subject = Subject::new("read", &text(&request.queries), peer);
        match request.flavour {
            Flavour::Samples => samples(api, subject, request.queries).await,
            Flavour::Chunks => chunks(api, subject, request.queries).await,
        }
    };
    answered.await.unwrap_or_else(|error| refused(&error))
}

/// What people are told of a request: its selectors, as many as are told of any.
fn text(queries: &[Query]) -> String {
    let mut text = String::new();
    for query in queries {
        if text.len() > TEXT_BYTES_MAX {
            break;
        }
        text.push_str(if text.is_empty() { "{" } else { " {" });
        for (at, matcher) in query.matchers.iter().enumerate() {
            text.push_str(if at == 0 { "" } else { ", " });
            text.push_str(&matcher.to_string());
            if text.len() > TEXT_BYTES_MAX {
                break;
            }
        }
        text.push('}');
    }
    text
}

async fn samples(api: Arc<Api>, subject: Subject, queries: Vec<Query>) -> Result<Response<Body>, Error> {
    let shared = api.clone();
    let work = move |context: &Context| {
        let mut out = samples::Message::new(context, api.args.query_samples_max);
        let mut warnings = Vec::new();
        for query in queries {
            let series = select(&api, context, query, &mut warnings)?;
            api.metrics.series.inc_by(series.series.len() as u64);
            out.push(context, series)?;
        }
        api.metrics.samples.inc_by(out.samples());
        Ok(Answer { body: out.finish(context)?, warnings })
    };
    let answer = shared.executor.run(subject, None, work).await?;
    let mut response = respond(Body::from(answer.body), SAMPLES, &answer.warnings);
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    Ok(response)
}

/// Frames on the way, with their place among the streams.
struct Streaming {
    frames: Frames,
    _place: OwnedSemaphorePermit,
    _running: Held,
}

impl Pieces for Streaming {
    fn next(&mut self, api: &Api, context: &Context) -> Result<Option<Bytes>, Error> {
        let next = self.frames.next(api, context);
        log(&std::mem::take(&mut self.frames.warnings));
        next
    }

    fn is_done(&self) -> bool {
        self.frames.is_done()
    }
}

async fn chunks(api: Arc<Api>, subject: Subject, queries: Vec<Query>) -> Result<Response<Body>, Error> {
    let place = api.streams.clone().try_acquire_owned().map_err(|_| {
        api.metrics.rejected.inc();
        let message = format!("{} remote reads are being answered already", api.args.query_concurrency_max);
        Error::Execution { kind: Kind::Overloaded, message }
    })?;
    let running = Held::new(&api.metrics.streams);
    let mut job = api.executor.begin(subject);
    let shared = api.clone();
    // The first frames come before the status, so that it can tell what fails.
    let work = move |context: &Context| {
        let mut frames = Frames::new(queries);
        Ok((frames.next(&shared, context)?, frames))
    };
    let (first, mut frames) = match api.executor.first(&mut job, None, work).await {
        Ok(begun) => begun,
        Err(error) => {
            job.has_failed(&error);
            return Err(error);
        }
    };
    let warnings = std::mem::take(&mut frames.warnings);
    let Some(first) = first else {
        job.has_ended();
        return Ok(respond(Body::empty(), CHUNKS, &warnings));
    };
    let streaming = Streaming { frames, _place: place, _running: running };
    Ok(respond(stream::body(api, job, first, streaming), CHUNKS, &warnings))
}

/// The series of a query, in the order of Prometheus.
fn select(api: &Api, context: &Context, query: Query, warnings: &mut Vec<String>) -> Result<Selected, Error> {
    if query.range.end_ms < query.range.start_ms {
        return Ok(Selected { series: Vec::new(), query });
    }
    let set = api.reader.select(&SelectRequest {
        matchers: query.matchers.clone(),
        range: query.range,
        want: query.want.clone(),
        series_max: api.args.query_series_max,
        cancel: context.cancel.clone(),
    })?;
    warnings.extend(set.warnings);
    let mut series = set.series;
    series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Selected { series, query })
}

/// What a query found.
struct Selected {
    series: Vec<Series>,
    query: Query,
}

impl Selected {
    /// Whether samples are asked for, and not the labels alone.
    fn has_samples(&self) -> bool {
        self.query.want == Want::Samples
    }
}

/// The answer. There is no room in the messages for what is missing from them, so a header tells of it, and the log.
fn respond(body: Body, kind: &'static str, warnings: &[String]) -> Response<Body> {
    log(warnings);
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for warning in warnings.iter().filter_map(|text| HeaderValue::from_str(text).ok()) {
        response.headers_mut().append("x-weir-warning", warning);
    }
    response
}

fn log(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!(warning, "the answer to a remote read is not whole");
    }
}

fn refused(error: &Error) -> Response<Body> {
    let (status, _) = error.status();
    let mut response = Response::new(Body::from(format!("{error}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
