//! The frame around every answer: status, data, warnings, or the error.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use model::{Budget, Claim, Held};

use crate::Error;
use crate::compress::Coding;
use crate::execute::Context;
use crate::number::{write_integer, write_string};
use crate::parts::{Parts, Text};

/// How many warnings and how many infos an answer names; of the rest it gives the number, as Prometheus does.
const ANNOTATIONS_MAX: usize = 10;

/// Said when `limit=` cut something off.
pub(crate) const TRUNCATED: &str = "results truncated due to limit";

/// An answer whose data is being written.
pub(crate) struct Answer {
    /// Data goes here.
    pub(crate) out: Vec<u8>,
    /// What the client should know of it.
    pub(crate) warnings: Vec<String>,
    /// What the client may want to know of it.
    pub(crate) infos: Vec<String>,
    /// The memory of what is written.
    held: Held,
    /// Whose that is until it is sent.
    memory: Budget,
}

/// What is sent, and its memory.
struct Sent {
    bytes: Vec<u8>,
    _claim: Claim,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Answer {
    /// Begins an answer that is small.
    pub(crate) fn new() -> Self {
        let out = b"{\"status\":\"success\",\"data\":".to_vec();
        let (held, memory) = (Held::default(), Budget::default());
        Answer { out, warnings: Vec::new(), infos: Vec::new(), held, memory }
    }

    /// Begins an answer of so many bytes, about; the room is held before it is taken.
    pub(crate) fn with_room(context: &Context, bytes: usize) -> Result<Self, Error> {
        let mut held = context.cancel.claim().hold();
        held.grow(bytes)?;
        let mut answer = Answer { held, memory: context.memory.clone(), ..Answer::new() };
        answer.out.reserve_exact(bytes);
        Ok(answer)
    }

    /// Ends it. What is sent holds its memory until then, and no longer that of the query.
    pub(crate) fn finish(mut self) -> Bytes {
        let end = self.end();
        self.out.extend_from_slice(&end);
        drop(self.held);
        sent(&self.memory, self.out)
    }

    /// Ends it with what is written in parts, which take about so many bytes, and with what comes after these.
    pub(crate) fn finish_with(mut self, parts: impl Parts, size: usize, mut after: Vec<u8>) -> Text {
        after.extend_from_slice(&self.end());
        Text::new(self.out, parts, after, size)
    }

    fn end(&mut self) -> Vec<u8> {
        let mut end = Vec::new();
        write_annotations(&mut end, "warnings", "warning", &self.warnings);
        write_annotations(&mut end, "infos", "info", &self.infos);
        end.push(b'}');
        end
    }
}

/// What a request is answered with.
pub(crate) enum Reply {
    /// There is nothing to say.
    Nothing,
    /// What is at hand.
    Whole(Bytes),
    /// What is made while it is sent, in a coding or in none.
    Stream(Body, Option<Coding>),
}

impl From<Bytes> for Reply {
    fn from(bytes: Bytes) -> Self {
        Reply::Whole(bytes)
    }
}

impl From<Option<Bytes>> for Reply {
    fn from(bytes: Option<Bytes>) -> Self {
        bytes.map_or(Reply::Nothing, Reply::Whole)
    }
}

/// Bytes that hold their memory of a budget until they are dropped.
pub(crate) fn sent(memory: &Budget, bytes: Vec<u8>) -> Bytes {
    sent_of(memory.claim(), bytes)
}

/// The same, by a claim that may hold memory for them already, and holds that of nothing else.
pub(crate) fn sent_of(claim: Claim, bytes: Vec<u8>) -> Bytes {
    // They are there, whether they fit or not.
    claim.set(bytes.len());
    Bytes::from_owner(Sent { bytes, _claim: claim })
}

/// An answer whose data is at hand as JSON.
pub(crate) fn data(json: &str) -> Bytes {
    let mut answer = Answer::new();
    answer.out.extend_from_slice(json.as_bytes());
    answer.finish()
}

/// Writes a list, each element by `write`.
pub(crate) fn write_list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    write_elements(out, items, &mut write);
    out.push(b']');
}

/// Writes elements with commas between them, each by `write`.
pub(crate) fn write_elements<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

/// The HTTP response for a result.
pub(crate) fn response(result: Result<Bytes, Error>) -> Response<Body> {
    reply(result.map(Reply::Whole))
}

/// The HTTP response for what a request is answered with, or for the error.
pub(crate) fn reply(result: Result<Reply, Error>) -> Response<Body> {
    let (status, mut response) = match result {
        Ok(Reply::Nothing) => return no_content(),
        Ok(Reply::Whole(bytes)) => (StatusCode::OK, json(StatusCode::OK, Body::from(bytes))),
        Ok(Reply::Stream(body, coding)) => {
            let mut response = json(StatusCode::OK, body);
            if let Some(coding) = coding {
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
            }
            (StatusCode::OK, response)
        }
        Err(error) => {
            let (status, word) = error.status();
            (status, error_response(status, word, &error.to_string()))
        }
    };
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The HTTP response for an error: what failed in a word, and in a sentence.
pub(crate) fn error_response(status: StatusCode, word: &str, message: &str) -> Response<Body> {
    let mut out = format!("{{\"status\":\"error\",\"errorType\":\"{word}\",\"error\":").into_bytes();
    write_string(&mut out, message);
    out.push(b'}');
    json(status, Body::from(out))
}

fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn json(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn write_annotations(out: &mut Vec<u8>, name: &str, one: &str, texts: &[String]) {
    if texts.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    let left_out = texts.len().saturating_sub(ANNOTATIONS_MAX);
    write_list(out, texts.iter().take(ANNOTATIONS_MAX), |out, text| write_string(out, text));
    if left_out > 0 {
        out.pop();
        out.extend_from_slice(b",\"");
        write_integer(out, left_out as u64);
        out.extend_from_slice(format!(" more {one} annotations omitted\"]").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_warnings_are_named_and_the_rest_counted() {
        let mut answer = Answer::new();
        answer.out.extend_from_slice(b"[]");
        answer.warnings = (0..12).map(|n| format!("<{n}>")).collect();
        answer.infos = vec!["i".to_owned()];
        let named: Vec<String> = (0..10).map(|n| format!("\"\\u003c{n}\\u003e\"")).collect();
        let expect = format!(
            "{{\"status\":\"success\",\"data\":[],\"warnings\":[{},\"2 more warning annotations omitted\"],\"infos\":[\"i\"]}}",
            named.join(",")
        );
        assert_eq!(answer.finish(), expect);
    }
}
