//! Answers in a coding that the client takes: Zstandard or gzip, the fastest level of each.
//!
//! A large answer is a stream ([`crate::stream`]), and compressed piece by piece as it is made. What is here beside the codings is for what is at hand as a
//! whole, and is compressed as a whole: on threads that may be busy, as many at once as there are threads for queries, since a thread of the HTTP server, which
//! others share, is never busy with it.

mod accept;
mod coder;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::middleware::Next;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use model::{Budget, Cancel};
use tokio::sync::Semaphore;

pub(crate) use self::accept::{Accepted, Coding};
pub(crate) use self::coder::Coder;
use crate::metrics::Metrics;
use crate::respond::{error_response, sent};

/// Smaller answers stay as they are: they fit into a packet or so either way.
const BYTES_MIN: usize = 1 << 10;
/// Answers up to this are compressed where they are: it takes less than the way to another thread and back is worth.
const HERE_BYTES_MAX: usize = 32 << 10;
/// Bytes between looks at whether anybody waits for it still, and at what it holds: some milliseconds.
const PIECE: usize = 1 << 20;

/// Compresses answers.
#[derive(Debug)]
pub(crate) struct Compressor {
    places: Arc<Semaphore>,
    memory: Budget,
    metrics: Metrics,
}

/// Tells the work that nobody waits for it.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Compressor {
    /// Compresses so many large answers at once.
    pub(crate) fn new(at_once: usize, memory: Budget, metrics: Metrics) -> Self {
        Compressor { places: Arc::new(Semaphore::new(at_once)), memory, metrics }
    }

    /// Lets the rest answer, and compresses what it answers. A client that takes no coding that there is, not even none, is refused before.
    pub(crate) async fn answer(&self, mut request: Request<Body>, next: Next) -> Response<Body> {
        let accepted = Accepted::of(request.headers());
        request.extensions_mut().insert(accepted);
        let mut response = if accepted.is_nothing() {
            let message = "there is no coding that Accept-Encoding accepts: there are zstd, gzip and identity";
            error_response(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message)
        } else {
            self.encode(next.run(request).await, accepted).await
        };
        response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        response
    }

    async fn encode(&self, response: Response<Body>, accepted: Accepted) -> Response<Body> {
        let is_plain = !response.headers().contains_key(header::CONTENT_ENCODING);
        let Some(size) = response.body().size_hint().exact().filter(|size| is_plain && *size > 0) else {
            return response;
        };
        let is_worth_it = size >= BYTES_MIN as u64 || !accepted.identity;
        let (mut parts, body) = response.into_parts();
        // The body is in memory as a whole: this waits for nothing and copies nothing.
        let plain = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => {
                let message = format!("the answer cannot be read: {error}");
                return error_response(StatusCode::INTERNAL_SERVER_ERROR, "internal", &message);
            }
        };
        let packed = match accepted.coding.filter(|_| is_worth_it) {
            Some(coding) => self.pack(coding, plain.clone()).await.map(|packed| (coding, packed)),
            None => None,
        };
        let (name, body) = match packed.filter(|(_, packed)| packed.len() < plain.len() || !accepted.identity) {
            Some((coding, packed)) => {
                parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
                parts.headers.remove(header::CONTENT_LENGTH);
                (coding.name(), packed)
            }
            None => ("identity", plain),
        };
        self.metrics.answer_bytes.with_label_values(&[name]).inc_by(body.len() as u64);
        Response::from_parts(parts, Body::from(body))
    }

    /// The bytes in a coding; `None` where there is no memory for them.
    async fn pack(&self, coding: Coding, plain: Bytes) -> Option<Bytes> {
        let cancel = Cancel::with(self.memory.claim());
        if plain.len() <= HERE_BYTES_MAX {
            return pack(coding, &plain, &cancel, &self.memory);
        }
        let _guard = CancelOnDrop(cancel.clone());
        let place = self.places.clone().acquire_owned().await.ok()?;
        let memory = self.memory.clone();
        // Bounded by its place, and it ends soon after it was cancelled.
        let work = tokio::task::spawn_blocking(move || {
            let _place = place;
            pack(coding, &plain, &cancel, &memory)
        });
        work.await.ok()?
    }
}

/// All bytes in a coding, whose memory is held before it is taken where that can be known.
fn pack(coding: Coding, plain: &[u8], cancel: &Cancel, memory: &Budget) -> Option<Bytes> {
    let mut coder = Coder::new(coding, Some(plain.len() as u64)).ok()?;
    let mut held = cancel.claim().hold();
    for piece in plain.chunks(PIECE) {
        if cancel.is_cancelled() {
            return None;
        }
        coder.write(piece).ok()?;
        let more = coder.out().capacity().saturating_sub(held.bytes());
        if !held.grow_if_free(more) {
            return None;
        }
    }
    Some(sent(memory, coder.finish().ok()?))
}

#[cfg(test)]
mod tests;
