//! Answers that are made while they are sent.
//!
//! A large answer is made in pieces, each when the connection has room for it, on the threads of queries: so its first byte comes early, what is encoded ahead
//! of the client is a few pieces, and a client that is slow holds no place of a query while it reads. What it was worked out from stays in memory, counted
//! for the query, until it is written. Status and headers are there before the first piece; the price is that what fails after it has no status: the
//! connection is cut, which no client takes for an end. An answer that is written with the first piece is sent as it is, with its length.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use model::Held;
use tokio::sync::mpsc;

use crate::api::Api;
use crate::asked::Subject;
use crate::compress::{Accepted, Coder};
use crate::error::Error;
use crate::execute::{Context, Job};
use crate::parts::{Parts, Text};
use crate::respond::{Reply, sent_of};

/// Bytes of a piece before it is compressed: a millisecond or two of work, beside which the way to a thread of queries and back is little.
pub(crate) const PIECE_BYTES: usize = 256 << 10;
/// Room for what a piece is longer by: most heads of series and most histograms.
const PIECE_ROOM: usize = PIECE_BYTES + (4 << 10);

/// Pieces that are there at once at the most: one that is made, one that waits, and two that the connection has before it is full.
const PIECES_MAX: usize = 4;

/// What makes an answer, one piece at a time.
pub(crate) trait Pieces: Send + 'static {
    /// The next piece; `None` where there are no more.
    fn next(&mut self, api: &Api, context: &Context) -> Result<Option<Bytes>, Error>;

    /// Whether it is known that there are no more.
    fn is_done(&self) -> bool;
}

/// Runs `work`, as [`crate::execute::Executor::run`] does, and answers with the text that it comes to.
pub(crate) async fn answer<W>(
    api: Arc<Api>,
    subject: Subject,
    timeout: Option<Duration>,
    accepted: Accepted,
    work: W,
) -> Result<Reply, Error>
where
    W: FnOnce(&Context) -> Result<Text, Error> + Send + 'static,
{
    let mut job = api.executor.begin(subject);
    let shared = api.clone();
    let first = move |context: &Context| Begun::of(work(context)?, accepted, &shared, context);
    match api.executor.first(&mut job, timeout, first).await {
        Ok(Begun::Whole(bytes)) => {
            job.has_ended();
            Ok(Reply::Whole(bytes))
        }
        Ok(Begun::First(bytes, rest)) => {
            let coding = rest.coder.as_ref().map(Coder::coding);
            Ok(Reply::Stream(body(api, job, bytes, rest), coding))
        }
        Err(error) => {
            job.has_failed(&error);
            Err(error)
        }
    }
}

/// What the first step of an answer comes to.
enum Begun {
    /// All of it.
    Whole(Bytes),
    /// Its beginning, and what makes the rest.
    First(Bytes, Box<Encoding>),
}

impl Begun {
    fn of(mut text: Text, accepted: Accepted, api: &Api, context: &Context) -> Result<Begun, Error> {
        let room = text.size().min(PIECE_ROOM);
        // Not of the query's claim, which gives all of its memory back when the query has ended: the connection can have pieces after that.
        let claim = context.memory.claim();
        let mut held = claim.hold();
        let beside = |exceeded: model::Exceeded| exceeded.beside(context.cancel.claim());
        held.grow(room).map_err(beside)?;
        let mut plain = Vec::with_capacity(room);
        if text.write(&mut plain, PIECE_BYTES) {
            held.keep();
            return Ok(Begun::Whole(sent_of(claim, plain)));
        }
        // For all pieces, so that none that comes later fails for want of memory: there would be no status to say so.
        held.grow_to(PIECES_MAX * PIECE_ROOM).map_err(beside)?;
        // Who has no room for it sends it as it is.
        let coding = accepted.coding.filter(|coding| held.grow_if_free(Coder::memory(*coding)));
        let coder = coding.and_then(|coding| Coder::new(coding, None).ok());
        let room = Arc::new(Mutex::new(held));
        let mut rest = Box::new(Encoding { text, is_written: false, coder, plain, room });
        let first = rest.pack(api)?;
        let first = if first.is_none() { rest.next(api, context)? } else { first };
        Ok(Begun::First(first.unwrap_or_default(), rest))
    }
}

/// A text on its way, in a coding or in none.
struct Encoding {
    text: Text,
    /// Whether all of it is in `plain` or on its way.
    is_written: bool,
    coder: Option<Coder>,
    /// What goes next; with a coding its room is kept.
    plain: Vec<u8>,
    /// Memory of all pieces and of the coding, held until the last piece is gone.
    room: Arc<Mutex<Held>>,
}

/// A piece on its way.
struct Part {
    bytes: Vec<u8>,
    _room: Arc<Mutex<Held>>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Pieces for Box<Encoding> {
    fn next(&mut self, api: &Api, context: &Context) -> Result<Option<Bytes>, Error> {
        while !self.is_written {
            if context.cancel.is_cancelled() {
                return Err(Error::Canceled("nobody waits for it"));
            }
            self.plain.reserve(PIECE_ROOM);
            self.is_written = self.text.write(&mut self.plain, PIECE_BYTES);
            // Longer than its room by an element at the most, which is there already.
            let longer = self.plain.capacity().saturating_sub(PIECE_ROOM);
            let coding = self.coder.as_ref().map_or(0, |coder| Coder::memory(coder.coding()));
            let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
            room.grow_to_anyway(coding + PIECES_MAX * (PIECE_ROOM + longer));
            drop(room);
            if let Some(piece) = self.pack(api)? {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    fn is_done(&self) -> bool {
        self.is_written
    }
}

impl Encoding {
    /// What becomes of the text that was written; `None` where it comes out later.
    fn pack(&mut self, api: &Api) -> Result<Option<Bytes>, Error> {
        let failed = |e: std::io::Error| Error::Internal(format!("the answer cannot be compressed: {e}"));
        let (coding, piece) = match self.coder.take() {
            None => ("identity", std::mem::take(&mut self.plain)),
            Some(mut coder) => {
                let coding = coder.coding().name();
                coder.write(&self.plain).map_err(failed)?;
                self.plain.clear();
                (coding, if self.is_written { coder.finish().map_err(failed)? } else { self.taken(coder) })
            }
        };
        api.metrics.answer_bytes.with_label_values(&[coding]).inc_by(piece.len() as u64);
        let part = |bytes| Bytes::from_owner(Part { bytes, _room: self.room.clone() });
        Ok((!piece.is_empty()).then(|| part(piece)))
    }

    /// What has come out of the coding, which goes on.
    fn taken(&mut self, mut coder: Coder) -> Vec<u8> {
        let out = coder.take();
        self.coder = Some(coder);
        out
    }
}

/// What is on its way to the connection.
enum Piece {
    Bytes(Bytes),
    /// There are no more. A stream without it was cut off.
    End,
}

/// The pieces as a body, each made when the one before was taken. Another task makes them, so that a client that takes none any more, or whose query somebody asks
/// to stop, loses its place after as long as a query may take; who only waits for the connection would keep it.
pub(crate) fn body(api: Arc<Api>, job: Job, first: Bytes, pieces: impl Pieces) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(feed(api, job, first, pieces, sender));
    Body::from_stream(stream::try_unfold(receiver, |mut receiver| async move {
        match receiver.recv().await {
            Some(Piece::Bytes(bytes)) => Ok(Some((bytes, receiver))),
            Some(Piece::End) => Ok(None),
            None => Err(Error::Canceled("the stream was cut off")),
        }
    }))
}

async fn feed<P: Pieces>(api: Arc<Api>, mut job: Job, first: Bytes, pieces: P, sender: mpsc::Sender<Piece>) {
    let (mut next, mut pieces) = (Some(first), Some(pieces));
    loop {
        let piece = next.take().map_or(Piece::End, Piece::Bytes);
        let is_last = matches!(piece, Piece::End);
        let taken = api.executor.wait(&job, async {
            // Nobody receives any more: then there is nobody to tell.
            sender.send(piece).await.map_err(|_| Error::Canceled("its client went away"))
        });
        if let Err(error) = taken.await {
            job.has_failed(&error);
            return tracing::debug!(%error, "an answer was not taken to its end");
        }
        if is_last {
            return job.has_ended();
        }
        // What it is made from goes with it, before the client hears of the end.
        let Some(mut own) = pieces.take().filter(|pieces| !pieces.is_done()) else { continue };
        let shared = api.clone();
        let step = move |context: &Context| {
            let next = own.next(&shared, context)?;
            Ok((next, own))
        };
        let made = tokio::select! {
            made = api.executor.next(&job, step) => made,
            () = sender.closed() => return,
        };
        match made {
            Ok((bytes, own)) => (next, pieces) = (bytes, Some(own)),
            Err(error) => {
                tracing::warn!(%error, "an answer failed after its first piece; its connection is cut");
                return job.has_failed(&error);
            }
        }
    }
}
