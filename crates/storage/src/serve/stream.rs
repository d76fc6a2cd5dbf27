//! A read on a thread that may block, and its frames as the body of a response.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::Response;
use futures_util::stream::unfold;
use model::{Cancel, Kind, SourceError};
use tokio::sync::mpsc;

use super::read::{Reply, send};
use super::{Server, refused, streamed};
use crate::Reader;
use crate::wire::frame::TARGET;

/// Pieces of about a frame between the thread and the connection: enough that neither waits for the other in passing.
const PIECES_MAX: usize = 4;

/// Cancels a read when nobody reads its answer any more.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Where a read puts its frames. Small ones travel together.
pub(super) struct Sink {
    sender: mpsc::Sender<Result<Bytes, SourceError>>,
    held: Vec<u8>,
}

/// Nobody reads any more.
pub(super) struct HungUp;

impl Sink {
    pub(super) fn push(&mut self, frame: &Bytes) -> Result<(), HungUp> {
        self.held.extend_from_slice(frame);
        if self.held.len() >= TARGET { self.flush() } else { Ok(()) }
    }

    pub(super) fn flush(&mut self) -> Result<(), HungUp> {
        let piece = Bytes::from(std::mem::take(&mut self.held));
        self.sender.blocking_send(Ok(piece)).map_err(|_| HungUp)
    }

    /// Ends with an error that came before the first frame.
    fn refuse(self, error: SourceError) {
        // Nobody reads: then there is nobody to tell.
        let _ = self.sender.blocking_send(Err(error));
    }
}

/// Runs `work`, and answers with what it finds.
pub(super) async fn answer(
    server: Arc<Server>,
    cancel: Cancel,
    work: impl FnOnce(&dyn Reader) -> Result<Reply, SourceError> + Send + 'static,
) -> Response<Body> {
    let Ok(place) = server.reads.clone().try_acquire_owned() else { return server.full("reads") };
    let guard = CancelOnDrop(cancel.clone());
    let (sender, mut pieces) = mpsc::channel(PIECES_MAX);
    let running = server.clone();
    // Bounded by its place, and it ends when the channel does.
    tokio::task::spawn_blocking(move || {
        let (_running, _place) = (running.metrics.running(), place);
        let mut sink = Sink { sender, held: Vec::new() };
        match work(running.node.reader.as_ref()) {
            // An answer that is not read to its end is no failure of this side.
            Ok(reply) => drop(send(&running, reply, &cancel, &mut sink)),
            Err(error) => sink.refuse(error),
        }
    });
    let first = match pieces.recv().await {
        Some(Ok(first)) => first,
        Some(Err(error)) => return refused(&error),
        None => {
            return refused(&SourceError { kind: Kind::Internal, message: "the read ended without an answer".into() });
        }
    };
    let sent = server.metrics.sent_bytes.clone();
    streamed(unfold((Some(first), pieces, guard), move |(first, mut pieces, guard)| {
        let sent = sent.clone();
        async move {
            let piece = match first {
                Some(first) => first,
                None => pieces.recv().await?.ok()?,
            };
            sent.inc_by(piece.len() as u64);
            Some((Ok(piece), (None, pieces, guard)))
        }
    }))
}
