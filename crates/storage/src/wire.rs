//! The bytes between a storage node and its readers; docs/format-storage-wire.md draws them, and golden tests hold them.
//!
//! A question is one body of fields. An answer is a sequence of frames, each with a checksum, of which the last is an end or an error: so an
//! answer that was cut off is never taken for a whole one. Not a general serialization: each question and each frame is written out by
//! hand, and another version is another path. The price is some code here; the gain is that samples travel in the chunks of the engine,
//! labels as what differs from the series before, and neither is copied once it is in memory.

pub(crate) mod answer;
pub(crate) mod fields;
pub(crate) mod frame;
pub(crate) mod question;
pub(crate) mod series;
#[cfg(test)]
mod tests;

/// What the routes begin with; a change of the bytes changes it.
pub(crate) const PREFIX: &str = "/storage/v2";
/// Media type of questions and answers.
pub(crate) const CONTENT_TYPE: &str = "application/x-weir-storage-v2";
/// Header that names the kind of an error which came before the first frame.
pub(crate) const KIND_HEADER: &str = "x-weir-error-kind";

use model::Kind;

/// The number that a kind of error travels as.
pub(crate) fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::Invalid => 0,
        Kind::Overloaded => 1,
        Kind::Unavailable => 2,
        Kind::Corrupt => 3,
        Kind::Internal => 4,
    }
}

/// All kinds, in the order of their numbers.
pub(crate) const KINDS: [Kind; 5] = [Kind::Invalid, Kind::Overloaded, Kind::Unavailable, Kind::Corrupt, Kind::Internal];
