//! Frames: length, checksum, kind, payload.

use bytes::{Buf, Bytes, BytesMut};

use super::fields::Malformed;

/// Bytes before the payload.
const HEADER: usize = 9;
/// Largest frame that is read. Frames are written at [`TARGET`] and exceed it by one series without its samples, one chunk or one
/// text, each far below this.
const BYTES_MAX: usize = 16 << 20;
/// Payload after which a frame is ended: some tens of them make the round trips of flow control cheap, and a reader waits for little.
pub(crate) const TARGET: usize = 128 << 10;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// Who answers; always first.
    Begin,
    /// Series with their samples.
    Series,
    /// Label names or values.
    Texts,
    /// Metadata of families.
    Metadata,
    /// What the asker should know of the answer.
    Warnings,
    /// Records that are acknowledged and not visible yet.
    Backlog,
    /// The answer is whole.
    End,
    /// The answer failed.
    Error,
    /// Exemplars.
    Exemplars,
    /// The longest windows out of which samples were left.
    Resolution,
    /// Which labels the series of a class have.
    Tally,
    /// How many series there are.
    Totals,
    /// What changed.
    Changes,
    /// How many series have each value of a label.
    Counts,
    /// The newest samples of series.
    Newest,
    /// Series with outlines of their samples.
    Outlines,
}

const KINDS: [FrameKind; 16] = [
    FrameKind::Begin,
    FrameKind::Series,
    FrameKind::Texts,
    FrameKind::Metadata,
    FrameKind::Warnings,
    FrameKind::Backlog,
    FrameKind::End,
    FrameKind::Error,
    FrameKind::Exemplars,
    FrameKind::Resolution,
    FrameKind::Tally,
    FrameKind::Totals,
    FrameKind::Changes,
    FrameKind::Counts,
    FrameKind::Newest,
    FrameKind::Outlines,
];

/// A frame that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) payload: Bytes,
}

/// A frame whose payload `write` appends.
pub(crate) fn frame(kind: FrameKind, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = begin(kind);
    write(&mut out);
    finish(out)
}

/// The header of a frame, to which the payload is appended.
pub(crate) fn begin(kind: FrameKind) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    out[HEADER - 1] = kind as u8;
    out
}

/// Size of the payload that was appended so far.
pub(crate) fn payload_bytes(frame: &[u8]) -> usize {
    frame.len() - HEADER
}

/// Fills in length and checksum.
pub(crate) fn finish(mut frame: Vec<u8>) -> Bytes {
    let length = u32::try_from(payload_bytes(&frame)).expect("a frame is ended long before four gigabytes");
    frame[..4].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32c::crc32c(&frame[HEADER - 1..]);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
    frame.into()
}

/// Puts frames together from the pieces in which they arrive.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    held: BytesMut,
}

impl Assembler {
    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.held.extend_from_slice(piece);
    }

    /// The next frame that is complete.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Malformed> {
        let Some(mut header) = self.held.get(..HEADER) else { return Ok(None) };
        let (length, checksum) = (header.get_u32_le() as usize, header.get_u32_le());
        if length > BYTES_MAX {
            return Err("a frame is too large");
        }
        if self.held.len() < HEADER + length {
            self.held.reserve(HEADER + length - self.held.len());
            return Ok(None);
        }
        let mut frame = self.held.split_to(HEADER + length).freeze();
        frame.advance(HEADER - 1);
        if crc32c::crc32c(&frame) != checksum {
            return Err("a frame's checksum is wrong");
        }
        let kind = *KINDS.get(usize::from(frame.get_u8())).ok_or("a frame of an unknown kind")?;
        Ok(Some(Frame { kind, payload: frame }))
    }

    /// Whether there is a piece of a frame.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}
