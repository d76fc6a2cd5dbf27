//! What can fail in storage.

use model::Kind;

/// An error of the storage component.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine.
    #[error("storage engine: {0}")]
    Engine(#[from] tsdb::Error),
    /// The log that it reads.
    #[error("reading the log: {0}")]
    Log(#[from] queue::Error),
    /// Flags that are wrong, all of them.
    #[error("{0}")]
    Arguments(String),
    /// The directory is another replica's, or cannot be claimed.
    #[error("{0}")]
    Directory(String),
    /// Object storage, or what lies between it and the local disk.
    #[error("object storage: {0}")]
    Objects(String),
    /// A thread could not be started, or a metric is registered twice.
    #[error("{0}")]
    Start(String),
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Engine(e) => e.kind(),
            Error::Log(e) => e.kind(),
            Error::Arguments(_) | Error::Directory(_) => Kind::Invalid,
            Error::Objects(_) => Kind::Unavailable,
            Error::Start(_) => Kind::Internal,
        }
    }
}
