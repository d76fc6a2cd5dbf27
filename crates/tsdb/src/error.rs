//! What can fail in the engine.

use std::sync::Arc;

use model::{Exceeded, Kind, SourceError};

/// An error of the engine.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, and to which file.
        context: String,
        /// The operating system's answer.
        #[source]
        source: Arc<std::io::Error>,
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
    /// A request is over a bound.
    #[error("{0}")]
    Limit(String),
    /// It takes more memory than there is.
    #[error(transparent)]
    Memory(#[from] Exceeded),
    /// What was asked for cannot be done with what is there.
    #[error("{0}")]
    Invalid(String),
    /// The request was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Io { .. } | Error::Cancelled => Kind::Unavailable,
            Error::Corrupt { .. } => Kind::Corrupt,
            Error::Limit(_) | Error::Invalid(_) => Kind::Invalid,
            Error::Memory(exceeded) => exceeded.kind(),
        }
    }

    /// Whether there was no room on the disk.
    pub fn is_disk_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Error::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// Whether the place of a file could not be asked for it, which tells nothing of the file.
    pub fn is_unreachable(&self) -> bool {
        use std::io::ErrorKind::{HostUnreachable, NetworkUnreachable};
        matches!(self, Error::Io { source, .. } if matches!(source.kind(), HostUnreachable | NetworkUnreachable))
    }

    pub(crate) fn corrupt(file: &str, position: usize, reason: &str) -> Error {
        Error::Corrupt { file: file.to_owned(), position: position as u64, reason: reason.to_owned() }
    }
}

impl From<Error> for SourceError {
    fn from(error: Error) -> Self {
        SourceError { kind: error.kind(), message: error.to_string() }
    }
}
