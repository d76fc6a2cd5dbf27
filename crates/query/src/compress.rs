//! Answers in a coding that the client takes: Zstandard or gzip, the fastest level of each.
//!
//! A large answer is a stream ([`crate::stream`]), and compressed piece by piece as it is made. What is here beside the codings is for what is at hand as a
//! whole, and is compressed as a whole: on threads that may be busy, as many at once as there are threads for queries, since a thread of the HTTP server, which
//! others share, is never busy with it. What another process answers is compressed where it passes, in pieces that are small enough for such a thread.

mod accept;
mod coder;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::middleware::Next;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use model::{Budget, Cancel, Held};
use prometheus::IntCounter;
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

/// On a response: its body still comes, from another process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnItsWay;

/// A body that is compressed while it comes.
struct Passing {
    body: Body,
    /// What has come and is not compressed yet.
    rest: Bytes,
    coder: Coder,
    sent: IntCounter,
    _held: Held,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl Passing {
    /// The next piece. One that fails is the last, without the end that a coding has: no client takes it for all.
    async fn step(passing: Option<Passing>) -> Result<Option<(Bytes, Option<Passing>)>, Failed> {
        let Some(mut own) = passing else { return Ok(None) };
        let (piece, own) = loop {
            if own.rest.is_empty() {
                match own.body.frame().await {
                    // What is no data is of the connection, and has no place after a coding.
                    Some(frame) => own.rest = frame?.into_data().unwrap_or_default(),
                    None => {
                        let sent = own.sent.clone();
                        let last = own.coder.finish()?;
                        sent.inc_by(last.len() as u64);
                        return Ok(Some((last.into(), None)));
                    }
                }
                continue;
            }
            // No more at once than what is compressed where it is.
            let some = own.rest.split_to(own.rest.len().min(HERE_BYTES_MAX));
            own.coder.write(&some)?;
            let out = own.coder.take();
            if !out.is_empty() {
                break (out, own);
            }
            tokio::task::yield_now().await;
        };
        own.sent.inc_by(piece.len() as u64);
        Ok(Some((piece.into(), Some(own))))
    }
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
        if response.extensions().get::<OnItsWay>().is_some() {
            return if is_plain { self.pass(response, accepted) } else { response };
        }
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

    /// Compresses a body while it comes, a piece at a time. What is short, and what there is no memory for, stays as it is.
    fn pass(&self, response: Response<Body>, accepted: Accepted) -> Response<Body> {
        let is_short = response.body().size_hint().upper().is_some_and(|size| size < BYTES_MIN as u64);
        let is_empty = response.body().size_hint().exact() == Some(0);
        let coding = accepted.coding.filter(|_| !is_empty && (!is_short || !accepted.identity));
        let mut held = self.memory.claim().hold();
        let coder = coding.filter(|coding| held.grow_if_free(Coder::memory(*coding) + HERE_BYTES_MAX));
        let Some(coder) = coder.and_then(|coding| Coder::new(coding, None).ok()) else { return response };
        let (mut parts, body) = response.into_parts();
        let coding = HeaderValue::from_static(coder.coding().name());
        parts.headers.insert(header::CONTENT_ENCODING, coding);
        parts.headers.remove(header::CONTENT_LENGTH);
        let sent = self.metrics.answer_bytes.with_label_values(&[coder.coding().name()]);
        let passing = Passing { body, rest: Bytes::new(), coder, sent, _held: held };
        Response::from_parts(parts, Body::from_stream(stream::try_unfold(Some(passing), Passing::step)))
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
