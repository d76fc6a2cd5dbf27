//! Where the times of a chunk are: in it, or in a column beside it that several chunks have.
//!
//! All series of one scrape have the same times, which are irregular by milliseconds and take a byte each; what they measure takes less.

use super::bits::put_varint;
use super::{Scratch, ints, samples};

/// Where the times of a chunk are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Times<'a> {
    /// In the chunk.
    Within,
    /// Elsewhere; these are they.
    Beside(&'a [i64]),
}

/// What is written in a chunk where its times stand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column<'a> {
    /// The times, which are to be encoded.
    New,
    /// These bytes: the times as they were encoded already, or nothing where they are elsewhere.
    Ready(&'a [u8]),
}

impl Column<'_> {
    pub(super) fn encode(self, t: &[i64], scratch: &mut ints::Scratch, out: &mut Vec<u8>) {
        match self {
            Column::New => ints::encode(t, scratch, out),
            Column::Ready(bytes) => out.extend_from_slice(bytes),
        }
    }
}

impl Times<'_> {
    /// Appends the times of a chunk of `count` samples to `out`.
    pub(super) fn decode(
        self,
        bytes: &[u8],
        at: &mut usize,
        count: usize,
        out: &mut Vec<i64>,
    ) -> Result<(), &'static str> {
        match self {
            Times::Within => ints::decode(bytes, at, count, out),
            Times::Beside(times) if times.len() == count => {
                out.extend_from_slice(times);
                Ok(())
            }
            Times::Beside(_) => Err("shared times are not as many as the samples"),
        }
    }
}

/// Appends times, from one to [`super::SAMPLES_MAX`], as a column that stands by itself. Returns how many bytes precede what a chunk would have of it.
pub(crate) fn encode_times(t: &[i64], scratch: &mut Scratch, out: &mut Vec<u8>) -> usize {
    let before = out.len();
    put_varint(out, t.len() as u64);
    let number = out.len() - before;
    ints::encode(t, &mut scratch.ints, out);
    number
}

/// Appends the times of a column that stands by itself to `out`. There must be nothing after it.
pub(crate) fn decode_times(bytes: &[u8], out: &mut Vec<i64>) -> Result<(), &'static str> {
    let mut at = 0;
    let count = samples(bytes, &mut at)?;
    ints::decode(bytes, &mut at, count, out)?;
    if at == bytes.len() { Ok(()) } else { Err("there is more in shared times than times") }
}

/// Whether such a column has these times.
pub(crate) fn is_column(bytes: &[u8], of: &[i64]) -> bool {
    let (mut at, mut from, mut same) = (0, 0, true);
    let count = samples(bytes, &mut at);
    let compare = |times: &[i64]| {
        same &= of.get(from..from + times.len()) == Some(times);
        from += times.len();
    };
    count == Ok(of.len()) && ints::decode_to(bytes, &mut at, of.len(), compare).is_ok() && same
}
