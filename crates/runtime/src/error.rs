//! What can go wrong with the furniture of a process.

use std::fmt::Write as _;

/// An error of a component, whichever that is.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why a process cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument, or the file that it names, cannot be used.
    #[error("--{flag} {value}: {reason}")]
    Argument {
        /// Without its dashes.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A part failed.
    #[error("{part} cannot go on")]
    Failed {
        /// Its name.
        part: &'static str,
        /// Why.
        #[source]
        source: Failure,
    },
    /// A part ended though nobody asked it to.
    #[error("{0} ended unasked")]
    EndedUnasked(&'static str),
    /// The process got no listener, no threads or no signals.
    #[error("{0}")]
    System(String),
    /// A metric is registered twice.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// An error and what caused it, in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
