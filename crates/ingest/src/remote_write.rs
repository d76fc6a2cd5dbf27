//! Prometheus remote write 1.0: snappy-compressed protobuf by POST.
//!
//! Follows Prometheus' own receiver where the specification leaves a choice: a series needs a metric name, any UTF-8 is a name, and a
//! bad series does not take the good ones with it. Not remote write 2.0, which is refused with status 415, so that a sender
//! that speaks both falls back. Two choices are our own. Overload is answered with 503 and not 429, since Prometheus throws data away on
//! 429 unless it was configured otherwise. And native histograms and exemplars are not stored yet: the first are told as bad entries, the
//! second only counted, as no sender can do anything about them.

mod delta;
mod wire;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, Uri, header};
use bytes::Bytes;

use self::wire::{Entry, Series};
use crate::Error;
use crate::admission::Hold;
use crate::args::Window;
use crate::body::too_large;
use crate::handler::{self, Context};
use crate::metrics;
use crate::outcome::{Outcome, Reason, show};
use crate::staging::Staging;

/// Refused series that an answer tells; the rest it counts. Prometheus logs the first 512 bytes or so.
const TOLD_MAX: usize = 10;
const SUPPORTED: &str = "remote write 1.0 is supported: Content-Type application/x-protobuf or \
                         application/x-protobuf;proto=prometheus.WriteRequest, Content-Encoding snappy";

/// Remote write 1.0.
pub(crate) struct Protocol;

impl handler::Protocol for Protocol {
    fn new(headers: &HeaderMap, _: &Uri) -> Result<Self, Error> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("not text"));
        // Without a header: the early clients sent none.
        if let Some(content_type) = text(header::CONTENT_TYPE) {
            let mut parts = content_type.split(';').map(str::trim);
            let message = parts.clone().skip(1).find_map(|part| part.strip_prefix("proto="));
            if !parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/x-protobuf"))
                || message.is_some_and(|message| message != "prometheus.WriteRequest")
            {
                return Err(Error::Unsupported(format!("Content-Type {content_type:?} is not supported; {SUPPORTED}")));
            }
        }
        match text(header::CONTENT_ENCODING) {
            Some(encoding) if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("snappy") => {
                Err(Error::Unsupported(format!("Content-Encoding {encoding:?} is not supported; {SUPPORTED}")))
            }
            _ => Ok(Protocol),
        }
    }

    fn metrics(all: &metrics::Metrics) -> &metrics::Protocol {
        &all.remote_write
    }

    fn parse(&self, body: Bytes, context: Context<'_>) -> Result<Outcome, Error> {
        let Context { staging, window, body_bytes_max, hold, .. } = context;
        let mut buffer = std::mem::take(&mut staging.body);
        let outcome = decompress(&body, &mut buffer, body_bytes_max, hold)
            .and_then(|length| decode(&buffer[..length], staging, window));
        staging.body = buffer;
        outcome
    }

    fn respond(outcome: &Outcome) -> Response<Body> {
        if outcome.refused > 0 {
            return handler::text(400, outcome.line("series"));
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }

    fn refuse(error: &Error) -> Response<Body> {
        let status = if error.kind() == model::Kind::Overloaded { 503 } else { error.http_status() };
        handler::text(status, format!("{error}\n"))
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

/// Stages the series and metadata of a message.
pub(crate) fn decode(message: &[u8], staging: &mut Staging, window: Window) -> Result<Outcome, Error> {
    let mut outcome = Outcome::telling(TOLD_MAX);
    let mut request = wire::Reader::new(message);
    let mut series = Series::default();
    let mut place = 0;
    loop {
        let entry = request.next(&mut series).map_err(|malformed| Error::Invalid(malformed.to_string()))?;
        match entry {
            None => return Ok(outcome),
            Some(Entry::Metadata(metadata)) => staging.push_metadata(metadata),
            Some(Entry::Series) => {
                stage(&mut series, place, staging, window, &mut outcome);
                place += 1;
            }
        }
    }
}

fn stage(series: &mut Series<'_>, place: usize, staging: &mut Staging, window: Window, outcome: &mut Outcome) {
    outcome.exemplars += series.exemplars;
    outcome.histograms += series.histograms;
    let came = series.samples.len();
    if let Some(reason) = series.not_text {
        return outcome.refuse(place, Reason::Labels, came as u64 + series.histograms, || reason.to_owned());
    }
    let (too_old, too_new) = cut(&mut series.samples, window);
    let pushed = match series.label_set() {
        Some(labels) => staging.push_labels(labels, &series.samples),
        None => staging.push(&mut series.labels, &series.samples),
    };
    if let Err(refused) = pushed {
        let samples = came as u64 + series.histograms;
        return outcome.refuse(place, Reason::Labels, samples, || format!("{}: {refused}", shown(series)));
    }
    outcome.samples += series.samples.len() as u64;
    if let Some((t, samples)) = too_old {
        outcome.refuse(place, Reason::TooOld, samples, || {
            format!("{}: sample at {t} is older than the retention allows ({})", shown(series), window.oldest_ms)
        });
    }
    if let Some((t, samples)) = too_new {
        outcome.refuse(place, Reason::TooNew, samples, || {
            format!("{}: sample at {t} is too far in the future (after {})", shown(series), window.newest_ms)
        });
    }
    if series.histograms > 0 {
        outcome.refuse(place, Reason::NativeHistogram, series.histograms, || {
            format!("{}: native histograms are not stored yet", shown(series))
        });
    }
}

fn shown(series: &Series<'_>) -> String {
    match series.label_set() {
        Some(labels) => show(&labels.iter().collect::<Vec<_>>()),
        None => show(&series.labels),
    }
}

/// A time of a sample that is out of the window, and how many there are.
type Outside = Option<(i64, u64)>;

/// Removes samples that are too old or too new.
fn cut(samples: &mut Vec<model::Sample>, window: Window) -> (Outside, Outside) {
    if samples.iter().all(|sample| window.oldest_ms <= sample.t && sample.t <= window.newest_ms) {
        return (None, None);
    }
    let (mut too_old, mut too_new): (Outside, Outside) = (None, None);
    samples.retain(|sample| {
        let outside = match sample.t {
            t if t < window.oldest_ms => &mut too_old,
            t if t > window.newest_ms => &mut too_new,
            _ => return true,
        };
        *outside = Some((outside.map_or(sample.t, |(t, _)| t), outside.map_or(1, |(_, samples)| samples + 1)));
        false
    });
    (too_old, too_new)
}

#[cfg(test)]
mod tests;
