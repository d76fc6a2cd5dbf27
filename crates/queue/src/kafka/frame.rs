//! Frames: a length of four bytes and what it counts. Memory is asked for before it is taken.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Encodable, HeaderVersion};
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::metrics::Closed;

/// Time for the rest of a frame once its length is there, and for a client to take an answer: the largest at 560 kB/s.
pub(super) const TRANSFER: Duration = Duration::from_secs(30);

/// Bytes that may be in flight at once, shared by all connections.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    free: Arc<Semaphore>,
    full: IntCounter,
}

/// Bytes that were given; dropping it gives them back.
#[derive(Debug)]
pub(super) struct Held(OwnedSemaphorePermit);

impl Memory {
    pub(super) fn new(bytes: usize, full: IntCounter) -> Self {
        Memory { free: Arc::new(Semaphore::new(bytes)), full }
    }

    /// Waits for so many bytes, which must be less than all. Cancel-safe.
    pub(super) async fn hold(&self, bytes: usize) -> Held {
        let bytes = bytes as u32;
        let now = self.free.clone().try_acquire_many_owned(bytes);
        let permit = match now {
            Ok(permit) => permit,
            Err(_) => {
                self.full.inc();
                self.free.clone().acquire_many_owned(bytes).await.expect("the semaphore is never closed")
            }
        };
        Held(permit)
    }
}

impl Held {
    /// Gives back what is above so many bytes.
    pub(super) fn keep(&mut self, bytes: usize) {
        let surplus = self.0.num_permits().saturating_sub(bytes);
        drop(self.0.split(surplus));
    }
}

/// Why there is no frame.
#[derive(Debug)]
pub(super) enum NoFrame {
    /// The peer went away, between two frames or within one.
    Gone,
    /// The server ends the connection.
    Close(Closed),
}

impl From<io::Error> for NoFrame {
    fn from(_: io::Error) -> Self {
        NoFrame::Gone
    }
}

/// Reads a frame of at most `bytes_max`, whose length has to arrive within `idle`. Not cancel-safe.
pub(super) async fn read<R: AsyncRead + Unpin>(
    stream: &mut R,
    bytes_max: usize,
    idle: Duration,
    memory: &Memory,
) -> Result<(Bytes, Held), NoFrame> {
    let length = timeout(idle, stream.read_i32()).await.map_err(|_| NoFrame::Close(Closed::Idle))??;
    let length = usize::try_from(length).map_err(|_| NoFrame::Close(Closed::Malformed))?;
    if length > bytes_max {
        return Err(NoFrame::Close(Closed::TooLarge));
    }
    let rest = async {
        let held = memory.hold(length).await;
        let mut bytes = BytesMut::zeroed(length);
        stream.read_exact(&mut bytes).await?;
        Ok::<_, io::Error>((bytes.freeze(), held))
    };
    Ok(timeout(TRANSFER, rest).await.map_err(|_| NoFrame::Close(Closed::Slow))??)
}

/// The frame of an answer. `None` where the version does not have a field that was set, which is a fault of this program.
pub(super) fn answer<R: Encodable + HeaderVersion>(correlation_id: i32, version: i16, response: &R) -> Option<Bytes> {
    let mut out = BytesMut::zeroed(4);
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    header.encode(&mut out, R::header_version(version)).ok()?;
    response.encode(&mut out, version).ok()?;
    let length = i32::try_from(out.len() - 4).ok()?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Some(out.freeze())
}
