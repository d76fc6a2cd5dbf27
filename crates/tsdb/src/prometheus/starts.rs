//! When the counting of samples began, as chunks of the later encodings have it: behind each sample, where it is known and not as before.

use super::Reason;
use super::bits::{BitReader, BitWriter};
use super::varbit::{put_int, take_int};
use crate::chunk::bits::{unzigzag, zigzag};

/// Reads the starts of a chunk's samples, one after the other.
#[derive(Debug)]
pub(super) struct Starts {
    /// Whether the first sample has one.
    first: bool,
    /// From which sample on each has one; never where that is 0.
    from: u16,
    /// How long before the sample before the last one began, or before itself in the case of the first.
    before: i64,
    start: i64,
}

impl Starts {
    /// Of a chunk whose header has this byte.
    pub(super) fn new(header: u8) -> Self {
        Starts { first: header & 0x80 != 0, from: u16::from(header & 0x7f), before: 0, start: 0 }
    }

    /// Of a chunk that has none.
    pub(super) fn none() -> Self {
        Starts::new(0)
    }

    /// The start of the sample of this number, which follows; 0 where it is not known. `t` is its time, `t_before` that of the one before it.
    pub(super) fn next(&mut self, reader: &mut BitReader<'_>, at: u16, t: i64, t_before: i64) -> Result<i64, Reason> {
        if at == 0 {
            if self.first {
                self.start = t.wrapping_sub(unzigzag(reader.uvarint()?));
            }
        } else if self.from > 0 && at >= self.from {
            let n = take_int(reader)?;
            // The first that is told after the chunk's first is told whole.
            self.before = if at == self.from { n } else { self.before.wrapping_add(n) };
            self.start = t_before.wrapping_sub(self.before);
        }
        Ok(self.start)
    }
}

/// Writes what [`Starts`] reads.
#[derive(Debug)]
pub(super) struct StartsWriter {
    /// From which sample on each is told; none is where that is 0.
    from: usize,
    before: i64,
}

impl StartsWriter {
    /// For the samples of a chunk, at most 127, with these starts; and the byte for its header.
    pub(super) fn new(starts: impl Iterator<Item = i64> + Clone) -> (Self, u8) {
        let changes = starts.clone().zip(starts.clone().skip(1)).position(|(before, start)| before != start);
        let from = changes.map_or(0, |at| at + 1);
        debug_assert!(from < 0x80);
        let first = if starts.clone().next().is_some_and(|start| start != 0) { 0x80 } else { 0 };
        (StartsWriter { from, before: 0 }, first | from as u8)
    }

    /// Appends the start of the sample of this number, which follows. `t` is its time, `t_before` that of the one before it.
    pub(super) fn put(&mut self, writer: &mut BitWriter<'_>, at: usize, start: i64, t: i64, t_before: i64) {
        if at == 0 {
            if start != 0 {
                writer.uvarint(zigzag(t.wrapping_sub(start)));
            }
        } else if self.from > 0 && at >= self.from {
            let before = t_before.wrapping_sub(start);
            put_int(writer, if at == self.from { before } else { before.wrapping_sub(self.before) });
            self.before = before;
        }
    }
}
