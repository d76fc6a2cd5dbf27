//! Prometheus remote write, 1.0 and 2.0: snappy-compressed protobuf by POST.
//!
//! Follows Prometheus' own receiver where the specifications leave a choice: a series needs a metric name, any UTF-8 is a name, and a
//! bad series or histogram does not take the good ones with it. Of both versions the answer says in its headers how many samples, histograms
//! and exemplars were written. An exemplar that is not taken is told in the header alone, as no sender can do anything about it, unless its labels
//! refer to symbols that are not there. A choice of our own: overload is answered with 503 and not 429, since Prometheus throws data away on
//! 429 unless it was configured otherwise. And a series of 2.0 may have exemplars and nothing else, as one of 1.0 has in practice.

mod delta;
mod exemplar;
mod histogram;
mod points;
mod protobuf;
mod request;
mod wire;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use bytes::Bytes;
use model::METRIC_NAME;

use self::points::{Named, Stager};
use self::wire::Entry;
use crate::Error;
use crate::admission::Hold;
use crate::body::too_large;
use crate::handler::{self, Context};
use crate::metrics;
use crate::outcome::Outcome;

/// Refused series that an answer tells; the rest it counts. Prometheus logs the first 512 bytes or so.
const TOLD_MAX: usize = 10;
const SUPPORTED: &str = "remote write 1.0 and 2.0 are supported: Content-Type application/x-protobuf, \
                         with ;proto=prometheus.WriteRequest or ;proto=io.prometheus.write.v2.Request, Content-Encoding snappy";

/// Headers that tell what was written.
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// The message that a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    /// `prometheus.WriteRequest`, of 1.0.
    WriteRequest,
    /// `io.prometheus.write.v2.Request`, of 2.0.
    Request,
}

/// Remote write.
pub(crate) struct Protocol(Message);

impl Message {
    /// The message that a content type names; without a parameter it is the old one.
    fn of(content_type: &str) -> Option<Message> {
        let mut parts = content_type.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("application/x-protobuf") {
            return None;
        }
        let mut parameters = parts.filter_map(|part| part.split_once('='));
        let named = parameters.find(|(name, _)| name.eq_ignore_ascii_case("proto"));
        match named.map(|(_, value)| value.trim_matches('"')) {
            None | Some("prometheus.WriteRequest") => Some(Message::WriteRequest),
            Some("io.prometheus.write.v2.Request") => Some(Message::Request),
            Some(_) => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Message::WriteRequest => "prometheus.WriteRequest",
            Message::Request => "io.prometheus.write.v2.Request",
        }
    }
}

impl handler::Protocol for Protocol {
    fn new(headers: &HeaderMap, _: &Uri) -> Result<Self, Error> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("not text"));
        // Without a header: the early clients sent none.
        let content_type = text(header::CONTENT_TYPE).unwrap_or("application/x-protobuf");
        let unsupported = || Error::Unsupported(format!("Content-Type {content_type:?} is not supported; {SUPPORTED}"));
        let message = Message::of(content_type).ok_or_else(unsupported)?;
        match text(header::CONTENT_ENCODING) {
            Some(encoding) if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("snappy") => {
                Err(Error::Unsupported(format!("Content-Encoding {encoding:?} is not supported; {SUPPORTED}")))
            }
            _ => Ok(Protocol(message)),
        }
    }

    fn metrics(all: &metrics::Metrics) -> &metrics::Protocol {
        &all.remote_write
    }

    fn parse(&self, body: Bytes, mut context: Context<'_>) -> Result<Outcome, Error> {
        let mut buffer = std::mem::take(&mut context.staging.body);
        let outcome = decompress(&body, &mut buffer, context.body_bytes_max, context.hold).and_then(|length| {
            let message = &buffer[..length];
            match self.0 {
                Message::WriteRequest => decode_write_request(message, &mut context),
                Message::Request => decode_request(message, &mut context),
            }
        });
        context.staging.body = buffer;
        outcome
    }

    fn respond(outcome: &Outcome) -> Response<Body> {
        let mut response = if outcome.refused > 0 {
            handler::text(400, outcome.line("series"))
        } else {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        };
        tell_written(&mut response, [outcome.samples, outcome.histograms, outcome.exemplars]);
        response
    }

    fn refuse(error: &Error) -> Response<Body> {
        let status = if error.kind() == model::Kind::Overloaded { 503 } else { error.http_status() };
        let mut response = handler::text(status, format!("{error}\n"));
        // Who speaks another protocol is told nothing in the words of this one.
        if !matches!(error, Error::Unsupported(_)) {
            tell_written(&mut response, [0; 3]);
        }
        response
    }
}

fn tell_written(response: &mut Response<Body>, written: [u64; 3]) {
    for (name, count) in WRITTEN.into_iter().zip(written) {
        response.headers_mut().insert(name, HeaderValue::from(count));
    }
}

/// Decompresses the body into the buffer and returns its length. The length that the body announces is held to the limit first.
fn decompress(body: &[u8], buffer: &mut Vec<u8>, limit: usize, hold: &mut Hold) -> Result<usize, Error> {
    let invalid = |error: snap::Error| Error::Invalid(format!("body is not valid snappy (block format): {error}"));
    if body.is_empty() {
        return Err(Error::Invalid("the body is empty".to_owned()));
    }
    let length = snap::raw::decompress_len(body).map_err(invalid)?;
    if length > limit {
        return Err(too_large("decompressed body", length as u64, limit));
    }
    hold.grow(length)?;
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    snap::raw::Decoder::new().decompress(body, &mut buffer[..length]).map_err(invalid)
}

fn malformed(message: Message, malformed: protobuf::Malformed) -> Error {
    Error::Invalid(format!("body is not a {}: {malformed}", message.name()))
}

/// Stages the series and metadata of a message of 1.0.
fn decode_write_request(message: &[u8], context: &mut Context<'_>) -> Result<Outcome, Error> {
    let invalid = |error| malformed(Message::WriteRequest, error);
    let mut stager = Stager::new(message, context.staging, context.window, TOLD_MAX);
    let (mut request, mut series) = (wire::Reader::new(message), wire::Series::default());
    while let Some(entry) = request.next(&mut series).map_err(invalid)? {
        match entry {
            Entry::Metadata(metadata) => stager.staging.push_metadata(metadata),
            Entry::Series => {
                if let Some(reason) = series.not_text {
                    stager.refuse(&series.points, reason);
                    continue;
                }
                let (labels, points) = series.split();
                stager.series(labels, points, &exemplar::read).map_err(invalid)?;
            }
        }
    }
    Ok(stager.outcome)
}

/// Stages the series of a message of 2.0, with what they say of their families.
fn decode_request(message: &[u8], context: &mut Context<'_>) -> Result<Outcome, Error> {
    let invalid = |error| malformed(Message::Request, error);
    let symbols = request::count_symbols(message).map_err(invalid)?;
    context.hold.grow(symbols.saturating_mul(request::SYMBOL_BYTES))?;
    let mut request = request::Reader::new(message, symbols).map_err(invalid)?;
    let mut stager = Stager::new(message, context.staging, context.window, TOLD_MAX);
    let mut series = request::Series::default();
    while request.next(&mut series).map_err(invalid)? {
        if let Some(reason) = series.unreadable {
            stager.refuse(&series.points, reason);
            continue;
        }
        let read = |message: &[u8], base| request.read_exemplar(message, base);
        stager.series(Named::Pairs(&mut series.labels), &mut series.points, &read).map_err(invalid)?;
        let name = series.labels.iter().find(|(name, _)| *name == METRIC_NAME);
        if let (Some((kind, help, unit)), Some((_, name))) = (series.metadata, name) {
            stager.staging.repeat_metadata(request::family(name, kind), kind, help, unit, context.now_ms);
        }
    }
    Ok(stager.outcome)
}

#[cfg(test)]
mod tests;
