//! The text exposition formats by POST: the classic one, and OpenMetrics where the content type says so.
//!
//! A line is the unit: a bad one is told with its place and reason, and the others are taken. What OpenMetrics asks of a whole
//! exposition (grouping, order, suffixes by type) is not checked, as Prometheus does not either; that it ends with `# EOF` is, since
//! else a body that was cut off would pass for a whole one. An exemplar without a time has that of its sample.

mod line;

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, Response, Uri, header};
use bytes::Bytes;
use model::{Exemplar, InvalidExemplar, METRIC_NAME, Metadata, MetricType, Sample};

use self::line::{About, Fault, Line, Parts};
use crate::Error;
use crate::args::Window;
use crate::body::{Encoding, decode};
use crate::handler::{self, Context};
use crate::metrics;
use crate::outcome::{NoExemplar, Outcome, Reason, show};
use crate::staging::{Staging, recycle};

/// Refused lines that an answer tells; the rest it counts.
const TOLD_MAX: usize = 10;
/// Labels that a request adds to each line.
const EXTRA_LABELS_MAX: usize = 32;

/// The format's dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `text/plain; version=0.0.4` or `1.0.0`.
    Classic,
    /// `application/openmetrics-text`.
    OpenMetrics,
}

/// The text exposition formats.
pub(crate) struct Protocol {
    encoding: Encoding,
    dialect: Dialect,
    extra_labels: Vec<(String, String)>,
    timestamp_ms: Option<i64>,
}

impl handler::Protocol for Protocol {
    fn new(headers: &HeaderMap, uri: &Uri) -> Result<Self, Error> {
        let encoding = Encoding::of(headers)?;
        let content_type = headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("not text"));
        let media = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        let dialect = match media.as_str() {
            "application/openmetrics-text" => Dialect::OpenMetrics,
            // What curl sends for --data-binary, and for -T.
            "" | "text/plain" | "application/x-www-form-urlencoded" | "application/octet-stream" => Dialect::Classic,
            _ => {
                let text = "send text/plain or application/openmetrics-text";
                return Err(Error::Unsupported(format!("Content-Type {content_type:?} is not supported here; {text}")));
            }
        };
        let mut protocol = Protocol { encoding, dialect, extra_labels: Vec::new(), timestamp_ms: None };
        protocol.read_query(uri)?;
        Ok(protocol)
    }

    fn metrics(all: &metrics::Metrics) -> &metrics::Protocol {
        &all.text
    }

    fn parse(&self, body: Bytes, context: Context<'_>) -> Result<Outcome, Error> {
        let body = decode(self.encoding, body, context.body_bytes_max, context.hold)?;
        let mut push = Push {
            protocol: self,
            staging: context.staging,
            window: context.window,
            default_ms: self.timestamp_ms.unwrap_or(context.now_ms),
            outcome: Outcome::telling(TOLD_MAX),
            families: Families::default(),
        };
        push.lines(&body);
        for metadata in push.families.list {
            push.staging.push_metadata(metadata);
        }
        Ok(push.outcome)
    }

    fn respond(outcome: &Outcome) -> Response<Body> {
        if outcome.refused > 0 {
            return handler::text(400, outcome.line("line"));
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = axum::http::StatusCode::NO_CONTENT;
        response
    }

    fn refuse(error: &Error) -> Response<Body> {
        handler::text(error.http_status(), format!("{error}\n"))
    }
}

impl Protocol {
    fn read_query(&mut self, uri: &Uri) -> Result<(), Error> {
        let parsed = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let pairs = parsed.map_err(|error| Error::Invalid(format!("query string: {error}")))?;
        for (key, value) in pairs.0 {
            match key.as_str() {
                "extra_label" => {
                    let pair = value.split_once('=').filter(|(name, _)| !name.is_empty() && *name != METRIC_NAME);
                    let Some((name, value)) = pair else {
                        return Err(Error::Invalid(format!("extra_label={value:?}: expected name=value")));
                    };
                    if self.extra_labels.len() == EXTRA_LABELS_MAX {
                        return Err(Error::Invalid(format!("more than {EXTRA_LABELS_MAX} parameters extra_label")));
                    }
                    self.extra_labels.retain(|(known, _)| known != name);
                    self.extra_labels.push((name.to_owned(), value.to_owned()));
                }
                "timestamp" => {
                    let invalid = |_| Error::Invalid(format!("timestamp={value:?}: expected Unix milliseconds"));
                    self.timestamp_ms = Some(value.parse().map_err(invalid)?);
                }
                _ => {
                    return Err(Error::Invalid(format!("unknown parameter {key:?}; known are extra_label, timestamp")));
                }
            }
        }
        Ok(())
    }
}

/// What one request pushes.
struct Push<'a> {
    protocol: &'a Protocol,
    staging: &'a mut Staging,
    window: Window,
    default_ms: i64,
    outcome: Outcome,
    families: Families,
}

impl Push<'_> {
    fn lines(&mut self, body: &[u8]) {
        // Text as a whole mostly, which is quicker to know than line by line.
        let whole = std::str::from_utf8(body).ok();
        let (mut at, mut number, mut ended) = (0, 0, false);
        let mut parts = Parts::default();
        let mut pairs = Vec::new();
        while at < body.len() {
            let end = memchr::memchr(b'\n', &body[at..]).map_or(body.len(), |length| at + length);
            let bytes = &body[at..end];
            let text = whole.and_then(|text| text.get(at..end)).map_or_else(|| std::str::from_utf8(bytes), Ok);
            number += 1;
            at = end + 1;
            if ended {
                self.outcome.refuse(number, Reason::Syntax, 1, || "text after # EOF".to_owned());
                break;
            }
            let line = match text {
                Ok(text) => line::parse(text, self.protocol.dialect, &mut parts).map(|line| (text, line)),
                Err(error) => Err(Fault { at: error.valid_up_to(), reason: "not valid UTF-8".into() }),
            };
            match line {
                Ok((_, Line::Nothing)) => {}
                Ok((_, Line::End)) => ended = true,
                Ok((_, Line::About { family, about })) => self.families.add(family, about),
                Ok((text, Line::Sample { v, t, exemplar })) => {
                    let mut list = recycle(std::mem::take(&mut pairs));
                    list.extend(parts.pairs(text));
                    let t = t.unwrap_or(self.default_ms);
                    let exemplar = exemplar.map(|(v, own)| {
                        let labels: Vec<(&str, &str)> = parts.exemplar(text).collect();
                        Exemplar::new(own.unwrap_or(t), v, &labels)
                    });
                    self.sample(number, &mut list, Sample { t, v }, exemplar);
                    pairs = recycle(list);
                }
                Err(fault) => self.outcome.refuse(number, Reason::Syntax, 1, || {
                    format!("column {}: {}", column(bytes, fault.at), fault.reason)
                }),
            }
        }
        if !ended && self.protocol.dialect == Dialect::OpenMetrics {
            self.outcome.refuse(number + 1, Reason::Syntax, 0, || "expected # EOF; is the body cut off?".to_owned());
        }
    }

    fn sample<'x>(
        &mut self,
        number: usize,
        pairs: &mut Vec<(&'x str, &'x str)>,
        sample: Sample,
        exemplar: Option<Result<Exemplar, InvalidExemplar>>,
    ) where
        Self: 'x,
    {
        let (t, Window { oldest_ms, newest_ms }) = (sample.t, self.window);
        let exemplar = exemplar.and_then(|exemplar| self.outcome.exemplar(exemplar, self.window));
        let exemplars = u64::from(exemplar.is_some());
        if t < oldest_ms {
            self.outcome.refuse_exemplars(NoExemplar::TooOld, exemplars);
            let text = || format!("timestamp {t} is older than the retention allows ({oldest_ms})");
            return self.outcome.refuse(number, Reason::TooOld, 1, text);
        }
        if t > newest_ms {
            self.outcome.refuse_exemplars(NoExemplar::TooNew, exemplars);
            let text = || format!("timestamp {t} is too far in the future (after {newest_ms})");
            return self.outcome.refuse(number, Reason::TooNew, 1, text);
        }
        let extra = &self.protocol.extra_labels;
        if !extra.is_empty() {
            pairs.retain(|(name, _)| extra.iter().all(|(known, _)| known != name));
            pairs.extend(extra.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        }
        match self.staging.push_all(pairs, &[sample], exemplar.as_slice()) {
            Ok(()) => {
                self.outcome.samples += 1;
                self.outcome.exemplars += exemplars;
            }
            Err(refused) => {
                self.outcome.refuse_exemplars(NoExemplar::Labels, exemplars);
                self.outcome.refuse(number, Reason::Labels, 1, || format!("{}: {refused}", show(pairs)));
            }
        }
    }
}

/// Column of a byte in a line, from 1, in characters.
fn column(line: &[u8], at: usize) -> usize {
    let before = &line[..at.min(line.len())];
    String::from_utf8_lossy(before).chars().count() + 1
}

/// What the lines say of metric families; several lines of one family are one entry.
#[derive(Default)]
struct Families {
    list: Vec<Metadata>,
    places: HashMap<String, usize>,
}

impl Families {
    fn add(&mut self, family: String, about: About) {
        let next = self.list.len();
        let place = *self.places.entry(family.clone()).or_insert(next);
        if place == next {
            let (help, unit) = (String::new(), String::new());
            self.list.push(Metadata { family, kind: MetricType::Unknown, help, unit });
        }
        let metadata = &mut self.list[place];
        match about {
            About::Type(kind) => metadata.kind = kind,
            About::Help(text) => metadata.help = text,
            About::Unit(text) => metadata.unit = text,
        }
    }
}

#[cfg(test)]
mod tests;
