//! The rest of a request's body that its handler did not read: it is read and thrown away before the answer goes.
//!
//! A server that answers and closes while a client still sends makes the client's system throw the answer away: a sender whose request is
//! refused as too large would see a broken connection, and try again for ever. The price is what reading costs, which is bounded in
//! bytes and time, and costs the client no less. A client that asked whether to send (`Expect: 100-continue`) and was not told to is not
//! waited for.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use futures_util::StreamExt as _;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use prometheus::IntCounter;

/// How much is thrown away: eight times what ingest takes by default.
const BYTES_MAX: u64 = 256 << 20;
/// And for how long: what ingest by default gives a body to come.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where a body comes back to that was not read to its end.
#[derive(Clone, Default)]
pub(crate) struct Rest(Arc<Mutex<Option<Body>>>);

/// The request with its body lent to the handler, and where the rest of it will be.
pub(crate) fn lend(request: Request<Body>) -> (Request<Body>, Rest) {
    let rest = Rest::default();
    let waits = request.headers().contains_key(header::EXPECT);
    let lend = |body: Body| Body::new(Lent { body, waits, ended: false, back: rest.clone() });
    // Most requests that have no body are told from their headers, and cost nothing here.
    let request = if request.body().is_end_stream() { request } else { request.map(lend) };
    (request, rest)
}

impl Rest {
    /// Throws away what the handler has left. `cut` counts when more was coming than is waited for.
    pub(crate) async fn discard(self, cut: &IntCounter) {
        self.discard_within(BYTES_MAX, TIMEOUT, cut).await;
    }

    async fn discard_within(self, bytes_max: u64, timeout: Duration, cut: &IntCounter) {
        let Some(body) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let to_the_end = async {
            let (mut chunks, mut read) = (body.into_data_stream(), 0);
            // An error is a client that went away.
            while let Some(Ok(chunk)) = chunks.next().await {
                read += chunk.len() as u64;
                if read > bytes_max {
                    return false;
                }
            }
            true
        };
        if !tokio::time::timeout(timeout, to_the_end).await.unwrap_or(false) {
            cut.inc();
        }
    }
}

/// A body that goes back where it came from when it is dropped.
struct Lent {
    body: Body,
    /// The client sends only once it is told to, which is when the body is read for the first time.
    waits: bool,
    /// It was read to its end, or it broke.
    ended: bool,
    back: Rest,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.waits = false;
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.ended = matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.waits && !self.ended && !self.body.is_end_stream() {
            let body = std::mem::take(&mut self.body);
            *self.back.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    fn request(body: Body) -> (Request<Body>, Rest) {
        lend(Request::post("/").body(body).expect("a request"))
    }

    fn endless() -> Body {
        Body::from_stream(stream::repeat(Ok::<_, Infallible>("0123456789")))
    }

    fn counter() -> IntCounter {
        IntCounter::new("cut", "A test.").expect("a name")
    }

    #[tokio::test]
    async fn more_than_the_bound_is_cut_and_counted() {
        let cut = counter();
        let (unread, rest) = request(endless());
        drop(unread);
        rest.discard_within(100, TIMEOUT, &cut).await;
        assert_eq!(cut.get(), 1);
        let (unread, rest) = request(Body::from_stream(stream::iter([Ok::<_, Infallible>("0123456789"); 10])));
        drop(unread);
        rest.discard_within(100, TIMEOUT, &cut).await;
        assert_eq!(cut.get(), 1, "as much as the bound is read to its end");
    }

    #[tokio::test]
    async fn a_client_that_sends_nothing_is_not_waited_for_without_end() {
        let cut = counter();
        let (unread, rest) = request(Body::from_stream(stream::pending::<Result<&str, Infallible>>()));
        drop(unread);
        rest.discard_within(100, Duration::from_millis(1), &cut).await;
        assert_eq!(cut.get(), 1);
    }

    #[tokio::test]
    async fn a_body_that_was_read_leaves_nothing() {
        let (read, rest) = request(Body::from_stream(stream::iter([Ok::<_, Infallible>("a"); 3])));
        assert_eq!(axum::body::to_bytes(read.into_body(), 10).await.expect("read"), "aaa");
        assert!(rest.0.lock().expect("not poisoned").is_none());
    }
}
