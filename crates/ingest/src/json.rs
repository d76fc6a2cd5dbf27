//! Weir's own JSON: `POST /metrics` with one sample, or a batch of them.
//!
//! Entries are staged as they are read, so that a batch takes no more memory than its text. A bad entry is told with its index and its
//! reason and the others are taken. A document that is not JSON is refused as a whole, since nobody knows what its rest was meant to be.

mod entry;

use axum::body::Body;
use axum::http::{HeaderMap, Response, Uri};
use bytes::Bytes;
use serde::Serialize;

use self::entry::Document;
use crate::Error;
use crate::body::{Encoding, decode};
use crate::handler::{self, Context};
use crate::metrics;
use crate::outcome::Outcome;

/// Refused entries that an answer tells; `rejected` counts all. A thousand make an answer of some 100 kB.
const TOLD_MAX: usize = 1000;

/// Weir's JSON.
pub(crate) struct Protocol {
    encoding: Encoding,
}

#[derive(Serialize)]
struct Answer<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<BadEntry<'a>>,
}

#[derive(Serialize)]
struct BadEntry<'a> {
    index: usize,
    reason: &'a str,
}

impl handler::Protocol for Protocol {
    fn new(headers: &HeaderMap, _: &Uri) -> Result<Self, Error> {
        Ok(Protocol { encoding: Encoding::of(headers)? })
    }

    fn metrics(all: &metrics::Metrics) -> &metrics::Protocol {
        &all.json
    }

    fn parse(&self, body: Bytes, context: Context<'_>) -> Result<Outcome, Error> {
        let body = decode(self.encoding, body, context.body_bytes_max, context.hold)?;
        let mut outcome = Outcome::telling(TOLD_MAX);
        let mut json = serde_json::Deserializer::from_slice(&body);
        let document = Document {
            staging: context.staging,
            outcome: &mut outcome,
            window: context.window,
            now_ms: context.now_ms,
        };
        document.read(&mut json).and_then(|()| json.end()).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(outcome)
    }

    fn respond(outcome: &Outcome) -> Response<Body> {
        if outcome.refused == 0 {
            return handler::json(202, format!("{{\"status\":\"accepted\",\"count\":{}}}", outcome.samples));
        }
        let errors = outcome.told.iter().map(|(index, reason)| BadEntry { index: *index, reason }).collect();
        let (status, samples) = (if outcome.samples == 0 { "error" } else { "partial" }, outcome.samples);
        let first = outcome.told.first().map_or("", |(_, reason)| reason);
        let error = Some(format!("{} of {} entries rejected: {first}", outcome.refused, outcome.refused + samples));
        document(400, &Answer { status, error, count: samples, rejected: Some(outcome.refused), errors })
    }

    fn refuse(error: &Error) -> Response<Body> {
        let text = Some(error.to_string());
        let answer = Answer { status: "error", error: text, count: 0, rejected: None, errors: Vec::new() };
        document(error.http_status(), &answer)
    }
}

fn document(status: u16, answer: &Answer<'_>) -> Response<Body> {
    let text = serde_json::to_vec(answer).expect("strings and numbers are always written");
    handler::json(status, text)
}

#[cfg(test)]
mod tests;
