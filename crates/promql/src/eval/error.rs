//! Why an expression has no value.

use model::{Exceeded, Kind, SourceError};

/// Why an expression has no value.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EvalError {
    /// Part of the language that this evaluator does not have; the text names it.
    #[error("{0} is not evaluated yet")]
    NotEvaluated(String),
    /// A duration has no value, or one that it cannot have. That is known before anything is evaluated.
    #[error("{0}")]
    Duration(String),
    /// The series and the expression do not fit together.
    #[error("{0}")]
    Execution(String),
    /// More samples at once than [`super::Params::samples_max`].
    #[error(
        "query processing would load too many samples into memory in query execution: {found} at once, which is {} more than the limit of {max}",
        found - max
    )]
    TooManySamples {
        /// How many it would hold, at the least: no more were counted.
        found: usize,
        /// How many it may hold.
        max: usize,
    },
    /// More memory than there is.
    #[error("query processing in query execution: {0}")]
    Memory(#[from] Exceeded),
    /// The source could not answer.
    #[error("expanding series: {0}")]
    Source(#[source] SourceError),
    /// The caller does not wait any more.
    #[error("query was canceled in expression evaluation")]
    Cancelled,
}

impl EvalError {
    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            EvalError::NotEvaluated(_)
            | EvalError::Duration(_)
            | EvalError::Execution(_)
            | EvalError::TooManySamples { .. } => Kind::Invalid,
            EvalError::Source(error) => error.kind,
            EvalError::Memory(exceeded) => exceeded.kind(),
            EvalError::Cancelled => Kind::Unavailable,
        }
    }

    /// The error of two series that became the same.
    pub(super) fn same_labelset() -> Self {
        EvalError::Execution("vector cannot contain metrics with the same labelset".to_owned())
    }
}
