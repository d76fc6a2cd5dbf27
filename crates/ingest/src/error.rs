//! What can fail when samples come in, and the HTTP status that tells it.

use model::Kind;

/// An error of ingest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be read; nothing of it was written.
    #[error("{0}")]
    Invalid(String),
    /// A content type or encoding that is not spoken here.
    #[error("{0}")]
    Unsupported(String),
    /// A body larger than the limit, or one that would become so.
    #[error("{what} of {bytes} bytes is larger than the limit of {bytes_max} (--ingest-body-bytes-max)")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is; where that is not known, the size at which reading stopped.
        bytes: u64,
        /// How large it may be.
        bytes_max: u64,
    },
    /// A bound of what may be in flight was hit.
    #[error("overloaded: {0}")]
    Overloaded(String),
    /// The body did not come in time.
    #[error("the body did not come within {0:?} (--ingest-body-timeout)")]
    Slow(std::time::Duration),
    /// The component was asked to stop.
    #[error("stopping: no new writes are taken")]
    Stopping,
    /// The log did not take a record; others of the same request may be durable, and sending all again is harmless.
    #[error("not written: {0}")]
    Log(#[from] queue::Error),
    /// A fault of this program: a metric registered twice, a parser that panicked.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Invalid(_) | Error::Unsupported(_) | Error::TooLarge { .. } | Error::Slow(_) => Kind::Invalid,
            Error::Overloaded(_) => Kind::Overloaded,
            Error::Stopping => Kind::Unavailable,
            // A record that the log calls invalid was made here.
            Error::Log(error) if error.kind() == Kind::Invalid => Kind::Internal,
            Error::Log(error) => error.kind(),
            Error::Internal(_) => Kind::Internal,
        }
    }

    /// The HTTP status.
    pub fn http_status(&self) -> u16 {
        match self {
            Error::Unsupported(_) => 415,
            Error::TooLarge { .. } => 413,
            Error::Slow(_) => 408,
            _ => self.kind().http_status(),
        }
    }
}

impl From<prometheus::Error> for Error {
    fn from(error: prometheus::Error) -> Self {
        Error::Internal(error.to_string())
    }
}
