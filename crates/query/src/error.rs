//! Why a query was not answered, and how that is said to the client.
//!
//! Status codes and the word in `errorType` are those of Prometheus, because clients decide by them: 400 is shown to the
//! person who typed, 422 too, 503 is tried again. The one word of our own is `too_many_requests` with 429, for the full
//! waiting queue that Prometheus does not bound.

use std::time::Duration;

use axum::http::StatusCode;
use model::{Exceeded, Kind, SourceError};

use crate::time::go_duration;

/// The status of what nobody waits for any more; no RFC has it, and Prometheus took it from nginx.
pub(crate) fn client_closed() -> StatusCode {
    StatusCode::from_u16(499).expect("three digits")
}

/// Why a query is canceled that a stop of the process cuts short. Another one can answer it: the status says to try again, and not, as Prometheus does, that the
/// client has gone.
pub(crate) const STOPPING: &str = "the server is shutting down";

/// Why a query was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A parameter is wrong.
    #[error("invalid parameter \"{name}\": {reason}")]
    Parameter {
        /// The parameter's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The request is wrong as a whole, or in a parameter whose message Prometheus writes without its name.
    #[error("{0}")]
    Request(String),
    /// The query was evaluated and failed, or what it reads did.
    #[error("{message}")]
    Execution {
        /// Whose fault it is.
        kind: Kind,
        /// What failed.
        message: String,
    },
    /// Time ran out.
    #[error("query timed out in {stage}{}it was given up after its limit of {}", stage.joint(), go_duration(.limit.as_nanos() as i64))]
    Timeout {
        /// Where it was.
        stage: Stage,
        /// How long it had.
        limit: Duration,
    },
    /// Nobody waits for the answer any more, somebody asked to stop it, or the process stops.
    #[error("query was canceled: {0}")]
    Canceled(&'static str),
    /// Too many queries wait already.
    #[error("too many queries: {running_max} run and {waiting_max} wait already")]
    Overloaded {
        /// How many may run.
        running_max: usize,
        /// How many may wait.
        waiting_max: usize,
    },
    /// There is no such endpoint, or nothing of that name.
    #[error("{0}")]
    NotFound(String),
    /// A fault of this program, or of the machine at the start.
    #[error("{0}")]
    Internal(String),
}

/// Where a query was when its time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It waited until storage had read everything that was acknowledged before.
    CatchUp {
        /// Records that storage has still to read.
        backlog: u64,
    },
    /// It waited for others.
    Queue,
    /// It was evaluated.
    Evaluation,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stage::CatchUp { backlog } => write!(
                f,
                "storage catch-up: storage is {backlog} records behind what was acknowledged before the query arrived"
            ),
            Stage::Queue => f.write_str("query queue"),
            Stage::Evaluation => f.write_str("expression evaluation"),
        }
    }
}

impl Stage {
    /// What stands between this and what else is told.
    fn joint(self) -> &'static str {
        if matches!(self, Stage::CatchUp { .. }) { "; " } else { ": " }
    }
}

impl From<runtime::InvalidForm> for Error {
    fn from(error: runtime::InvalidForm) -> Self {
        Error::Request(error.to_string())
    }
}

impl Error {
    /// A wrong parameter.
    pub(crate) fn parameter(name: &str, reason: impl ToString) -> Self {
        Error::Parameter { name: name.to_owned(), reason: reason.to_string() }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Parameter { .. } | Error::Request(_) | Error::NotFound(_) => Kind::Invalid,
            Error::Execution { kind, .. } => *kind,
            Error::Timeout { .. } | Error::Canceled(_) => Kind::Unavailable,
            Error::Overloaded { .. } => Kind::Overloaded,
            Error::Internal(_) => Kind::Internal,
        }
    }

    /// The HTTP status code and the word for `errorType`.
    pub fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Error::Parameter { .. } | Error::Request(_) => (StatusCode::BAD_REQUEST, "bad_data"),
            Error::Execution { kind: Kind::Invalid, .. } => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
            Error::Execution { kind: Kind::Unavailable | Kind::Overloaded, .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
            Error::Execution { .. } | Error::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            Error::Timeout { .. } => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            Error::Canceled(STOPPING) => (StatusCode::SERVICE_UNAVAILABLE, "canceled"),
            Error::Canceled(_) => (client_closed(), "canceled"),
            Error::Overloaded { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_requests"),
            Error::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
        }
    }
}

impl From<Exceeded> for Error {
    fn from(exceeded: Exceeded) -> Self {
        Error::Execution { kind: exceeded.kind(), message: exceeded.to_string() }
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        Error::Execution { kind: error.kind, message: error.message }
    }
}
