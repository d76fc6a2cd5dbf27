//! The flavour of chunks: frames of a message `prometheus.ChunkedReadResponse`, each with its length and a CRC-32C before it.

use std::collections::VecDeque;

use bytes::Bytes;
use model::{Columns, Labels, Series, TimeRange, Want};
use storage::chunks::{self, StartTimes};

use super::request::Query;
use super::select;
use crate::api::Api;
use crate::error::Error;
use crate::execute::Context;
use crate::protobuf::{put_labels, put_message, put_number, put_varint};
use crate::respond::sent;

/// Chunks of a frame, with the labels; the same bound as Prometheus', which some readers rely on. It is exceeded by one chunk.
const FRAME_BYTES: usize = 1 << 20;
/// Bytes of frames that are handed over together, beyond which no further series is begun.
const BATCH_BYTES: usize = 1 << 20;

/// What is left of a request.
pub(super) struct Frames {
    queries: VecDeque<(u64, Query)>,
    open: Option<Open>,
    /// What is to be said of the queries that were begun.
    pub(super) warnings: Vec<String>,
}

/// A query that was begun.
struct Open {
    number: u64,
    range: TimeRange,
    series: std::vec::IntoIter<Series>,
}

impl Frames {
    pub(super) fn new(queries: Vec<Query>) -> Self {
        Frames { queries: (0..).zip(queries).collect(), open: None, warnings: Vec::new() }
    }

    /// Whether it is known that there are no more frames.
    pub(super) fn is_done(&self) -> bool {
        self.queries.is_empty() && self.open.as_ref().is_none_or(|open| open.series.as_slice().is_empty())
    }

    /// The next frames, at least one; `None` where there are no more.
    pub(super) fn next(&mut self, api: &Api, context: &Context) -> Result<Option<Bytes>, Error> {
        let (mut out, mut columns) = (Vec::new(), Columns::default());
        let mut held = context.cancel.claim().hold();
        while out.len() < BATCH_BYTES {
            let Some(open) = self.open.as_mut() else {
                let Some((number, query)) = self.queries.pop_front() else { break };
                // A series is told by its chunks, so who would have labels alone gets them too.
                let query = Query { want: Want::Samples, ..query };
                let found = select(api, context, query, &mut self.warnings)?;
                self.open = Some(Open { number, range: found.query.range, series: found.series.into_iter() });
                continue;
            };
            let Some(series) = open.series.next() else {
                self.open = None;
                continue;
            };
            if context.cancel.is_cancelled() {
                return Err(Error::Canceled("nobody waits for it"));
            }
            columns.clear();
            series.data.read(open.range, &mut columns)?;
            let before = out.len();
            push(&mut out, open.number, &series.labels, &columns)?;
            held.grow_to(out.capacity() + columns.memory())?;
            api.metrics.samples.inc_by(columns.samples() as u64);
            api.metrics.series.inc_by(u64::from(out.len() > before));
        }
        drop((columns, held));
        Ok((!out.is_empty()).then(|| sent(&context.memory, out)))
    }
}

/// Appends the frames of a series.
fn push(out: &mut Vec<u8>, query: u64, labels: &Labels, samples: &Columns) -> Result<(), Error> {
    let mut head = Vec::new();
    put_labels(&mut head, 1, labels);
    let room = FRAME_BYTES.saturating_sub(head.len());
    let mut own = Vec::new();
    chunks::encode(samples, StartTimes::LeftOut, &mut |chunk| {
        // A frame is ended before what comes after it, so that the last one is never empty.
        if own.len() >= room {
            end_frame(out, query, &head, &mut own);
        }
        put_message(&mut own, 2, |out| {
            put_number(out, 1, chunk.range.start_ms as u64);
            put_number(out, 2, chunk.range.end_ms as u64);
            put_number(out, 3, chunk.encoding as u64);
            crate::protobuf::put_bytes(out, 4, chunk.data);
        });
        Ok::<(), Error>(())
    })?;
    if !own.is_empty() {
        end_frame(out, query, &head, &mut own);
    }
    Ok(())
}

fn end_frame(out: &mut Vec<u8>, query: u64, head: &[u8], chunks: &mut Vec<u8>) {
    let mut message = Vec::with_capacity(head.len() + chunks.len() + 16);
    put_varint(&mut message, 1 << 3 | 2);
    put_varint(&mut message, (head.len() + chunks.len()) as u64);
    message.extend_from_slice(head);
    message.append(chunks);
    put_number(&mut message, 2, query);
    put_varint(out, message.len() as u64);
    out.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
    out.append(&mut message);
}
