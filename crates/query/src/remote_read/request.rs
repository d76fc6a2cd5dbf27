//! The request: a message `prometheus.ReadRequest`, packed by Snappy.

use axum::extract::Request as HttpRequest;
use model::{MatchOp, Matcher, TimeRange, Want};

use crate::api::series::SELECTORS_MAX;
use crate::error::Error;
use crate::protobuf::{Fields, Malformed, Value};

/// Largest body, packed and unpacked. It is read before the request has a place, so it is small; what is asked for takes some hundreds of bytes.
const BYTES_MAX: usize = 2 << 20;
/// Matchers of all queries together. Each may be a regular expression, which is compiled while the request is read.
const MATCHERS_MAX: usize = 1000;
/// Kinds of answers that are accepted; there are two.
const ACCEPTED_MAX: usize = 16;

/// What is asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) queries: Vec<Query>,
    pub(super) flavour: Flavour,
}

/// How it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    Samples,
    Chunks,
}

/// One of the queries.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Query {
    pub(super) matchers: Vec<Matcher>,
    /// Empty where it ends before it starts.
    pub(super) range: TimeRange,
    pub(super) want: Want,
}

/// Reads a request.
pub(super) async fn read(request: HttpRequest) -> Result<Request, Error> {
    let bad = |reason: String| Error::Request(reason);
    let body = axum::body::to_bytes(request.into_body(), BYTES_MAX).await;
    let body = body.map_err(|e| bad(format!("reading the body: {e}; it has at most {BYTES_MAX} bytes")))?;
    let size = snap::raw::decompress_len(&body).map_err(|e| bad(e.to_string()))?;
    if size > BYTES_MAX {
        return Err(bad(format!("snappy: decoded length {size} exceeds limit {BYTES_MAX}")));
    }
    let message = snap::raw::Decoder::new().decompress_vec(&body).map_err(|e| bad(e.to_string()))?;
    decode(&message)
}

fn decode(message: &[u8]) -> Result<Request, Error> {
    let (mut fields, mut queries, mut accepted) = (Fields::new(message), Vec::new(), Vec::new());
    let mut matchers_left = MATCHERS_MAX;
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(query)) => queries.push(read_query(query, &mut matchers_left)?),
            (2, Value::Varint(number)) => accepted.push(number),
            (2, Value::Bytes(mut packed)) => {
                while let Some(number) = packed.number()?.filter(|_| accepted.len() <= ACCEPTED_MAX) {
                    accepted.push(number);
                }
            }
            (1 | 2, _) => return Err(Malformed("the wrong type of a field").into()),
            _ => {}
        }
        if queries.len() > SELECTORS_MAX {
            return Err(Error::Request(format!("more than {SELECTORS_MAX} queries in a request")));
        }
        if accepted.len() > ACCEPTED_MAX {
            return Err(Error::Request(format!("more than {ACCEPTED_MAX} accepted response types")));
        }
    }
    Ok(Request { queries, flavour: flavour(&accepted)? })
}

/// The first that is known. Who accepts none in so many words is of before there were others than samples.
fn flavour(accepted: &[u64]) -> Result<Flavour, Error> {
    let known = accepted.iter().find_map(|number| match number {
        0 => Some(Flavour::Samples),
        1 => Some(Flavour::Chunks),
        _ => None,
    });
    if accepted.is_empty() {
        return Ok(Flavour::Samples);
    }
    known.ok_or_else(|| {
        let reason = "server does not support any of the requested response types";
        Error::Request(format!("{reason}: {accepted:?}; supported: SAMPLES, STREAMED_XOR_CHUNKS"))
    })
}

/// Says of which samples there is something to be had, by what the asker will do with them.
#[derive(Debug)]
struct Hints {
    range: TimeRange,
    labels_only: bool,
}

fn read_query(mut fields: Fields<'_>, matchers_left: &mut usize) -> Result<Query, Error> {
    let (mut range, mut matchers, mut hints) = (TimeRange { start_ms: 0, end_ms: 0 }, Vec::new(), None);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Varint(t)) => range.start_ms = t as i64,
            (2, Value::Varint(t)) => range.end_ms = t as i64,
            (3, Value::Bytes(matcher)) => {
                *matchers_left = matchers_left.checked_sub(1).ok_or_else(|| {
                    Error::Request(format!("more than {MATCHERS_MAX} matchers in the queries of a request"))
                })?;
                matchers.push(read_matcher(matcher)?);
            }
            (4, Value::Bytes(fields)) => hints = Some(read_hints(fields)?),
            (1..=4, _) => return Err(Malformed("the wrong type of a field of a query").into()),
            _ => {}
        }
    }
    let mut want = Want::Samples;
    if let Some(Hints { range: hinted, labels_only }) = hints {
        // Hints without times are of one who only says what it will do with the samples.
        if (hinted.start_ms, hinted.end_ms) != (0, 0) {
            range.start_ms = range.start_ms.max(hinted.start_ms);
            range.end_ms = range.end_ms.min(hinted.end_ms);
        }
        if labels_only {
            want = Want::LabelsOnly;
        }
    }
    Ok(Query { matchers, range, want })
}

fn read_hints(mut fields: Fields<'_>) -> Result<Hints, Malformed> {
    let mut hints = Hints { range: TimeRange { start_ms: 0, end_ms: 0 }, labels_only: false };
    while let Some(field) = fields.next()? {
        match field {
            // As the endpoint for series asks.
            (2, Value::Bytes(function)) => hints.labels_only = function.text()? == "series",
            (3, Value::Varint(t)) => hints.range.start_ms = t as i64,
            (4, Value::Varint(t)) => hints.range.end_ms = t as i64,
            (2..=4, _) => return Err(Malformed("the wrong type of a field of the hints")),
            _ => {}
        }
    }
    Ok(hints)
}

fn read_matcher(mut fields: Fields<'_>) -> Result<Matcher, Error> {
    let (mut op, mut name, mut value) = (0, "", "");
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Varint(number)) => op = number,
            (2, Value::Bytes(text)) => name = text.text()?,
            (3, Value::Bytes(text)) => value = text.text()?,
            (1..=3, _) => return Err(Malformed("the wrong type of a field of a matcher").into()),
            _ => {}
        }
    }
    let op = match op {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        _ => return Err(Error::Request("invalid matcher type".to_owned())),
    };
    Matcher::new(op, name, value).map_err(|e| Error::Request(e.to_string()))
}
