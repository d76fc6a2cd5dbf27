//! What can fail in the log.

use model::Kind;

/// An error of the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, and to which file.
        context: String,
        /// The operating system's answer.
        #[source]
        source: std::sync::Arc<std::io::Error>,
    },
    /// Bytes on disk are not what was written.
    #[error("{file} is corrupt at byte {position}: {reason}")]
    Corrupt {
        /// The file.
        file: String,
        /// Byte position in it.
        position: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A record's payload cannot be read.
    #[error("record payload at byte {position}: {reason}")]
    Payload {
        /// Byte position in the payload.
        position: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The disk, or the queue of appends that wait for it, is full.
    #[error("log is full: {0}")]
    Full(String),
    /// Records before this offset are gone.
    #[error("offset {offset} of partition {partition} is outside of {start}..{end}")]
    OutOfRange {
        /// The partition.
        partition: u32,
        /// The offset asked for.
        offset: i64,
        /// First offset there is.
        start: i64,
        /// One past the last.
        end: i64,
    },
    /// A write failed before, so that what is durable is unknown; only a restart, which reads it back, helps.
    #[error("log is stopped: {0}")]
    Poisoned(String),
    /// The server of the log cannot be reached, or answers what it should not; whether an append is in the log is not known.
    #[error("log at {0}")]
    Remote(String),
    /// No such partition, or a record too large.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Io { .. } | Error::Poisoned(_) | Error::Remote(_) => Kind::Unavailable,
            Error::Corrupt { .. } | Error::Payload { .. } => Kind::Corrupt,
            Error::Full(_) => Kind::Overloaded,
            Error::OutOfRange { .. } | Error::Invalid(_) => Kind::Invalid,
        }
    }
}
