//! Blocks of a Prometheus: read into an engine, and written from one.
//!
//! The formats are those of the documents under `tsdb/docs/format` of Prometheus: an index of version 2, segments of chunks, tombstones, and a
//! `meta.json`. Numbers of fixed size are big-endian there, checksums are CRC-32C. All encodings of chunks are read, with the start times that some have;
//! written are those that every Prometheus reads, XOR for floats, and histograms of both kinds, but for chunks with start times, where these are not to be left out. The write-ahead log, in which a Prometheus keeps its
//! last hours, is not read: its snapshot has them as a block.

mod bits;
pub mod chunks;
pub mod export;
mod histogram;
pub mod import;
mod index;
mod meta;
mod segments;
mod starts;
#[cfg(test)]
mod tests;
mod tombstones;
mod ulid;
mod varbit;
mod xor;
mod xor2;

use crate::chunk::bits::{unzigzag, varint};

/// The encoding of float samples.
const XOR: u8 = 1;
/// Of histograms with whole counts.
const HISTOGRAM: u8 = 2;
/// Of histograms with float counts.
const FLOAT_HISTOGRAM: u8 = 3;
/// A later one of floats.
const XOR2: u8 = 4;
/// As those of histograms, with start times.
const HISTOGRAM_STARTS: u8 = 5;
const FLOAT_HISTOGRAM_STARTS: u8 = 6;

/// What fails in a file, without its name.
type Reason = &'static str;

/// Reads numbers one after the other.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Reason> {
        let end = self.at.checked_add(n).ok_or("ends too early")?;
        let taken = self.bytes.get(self.at..end).ok_or("ends too early")?;
        self.at = end;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Reason> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, Reason> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    fn uvarint(&mut self) -> Result<u64, Reason> {
        varint(self.bytes, &mut self.at)
    }

    fn varint(&mut self) -> Result<i64, Reason> {
        Ok(unzigzag(self.uvarint()?))
    }

    /// A text with its length before it.
    fn text(&mut self) -> Result<&'a str, Reason> {
        let length = usize::try_from(self.uvarint()?).map_err(|_| "length of a text")?;
        std::str::from_utf8(self.take(length)?).map_err(|_| "a text is not UTF-8")
    }

    /// A number of things of which each takes at least `size` bytes.
    fn count(&mut self, size: usize) -> Result<usize, Reason> {
        let n = self.uvarint()?;
        usize::try_from(n).ok().filter(|n| *n <= self.left() / size.max(1)).ok_or("a number is beyond what there is")
    }
}
