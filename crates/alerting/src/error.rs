//! What can fail in alerting. Bad rules are not errors of it: they are problems that are shown.

use model::Kind;

/// An error of the component.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, and to which file.
        context: String,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The database refused.
    #[error("alerting database: {0}")]
    Database(#[from] rusqlite::Error),
    /// The database was written by a later version, or holds what none writes.
    #[error("alerting database: {0}")]
    Schema(String),
    /// The log refused.
    #[error(transparent)]
    Log(#[from] queue::Error),
    /// Storage refused.
    #[error("storage: {0}")]
    Storage(#[from] model::SourceError),
    /// A metric is registered twice.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// An argument is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// A task ended that others need.
    #[error("alerting stopped: {0}")]
    Stopped(&'static str),
}

impl From<runtime::files::Refused> for Error {
    fn from(refused: runtime::files::Refused) -> Self {
        Error::io(refused.context, refused.source)
    }
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Io { .. } | Error::Database(_) | Error::Stopped(_) => Kind::Unavailable,
            Error::Schema(_) => Kind::Corrupt,
            Error::Log(e) => e.kind(),
            Error::Storage(e) => e.kind,
            Error::Metrics(_) => Kind::Internal,
            Error::Invalid(_) => Kind::Invalid,
        }
    }

    pub(crate) fn io(context: impl Into<String>, source: std::io::Error) -> Self {
        Error::Io { context: context.into(), source }
    }
}
