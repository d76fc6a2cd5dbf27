//! What can go wrong with the controller.

/// Why the controller cannot begin, or what did not go well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument cannot be used.
    #[error("--{flag}: {reason}")]
    Argument {
        /// Without its dashes.
        flag: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The API server refused a call, or could not be reached.
    #[error("{call}: {source}")]
    Kubernetes {
        /// What was asked.
        call: String,
        /// Its answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// Alerting refused a call, or could not be reached.
    #[error("alerting: {0}")]
    Alerting(String),
    /// A certificate could not be made or read.
    #[error("certificate: {0}")]
    Certificate(String),
    /// The process got no listener.
    #[error("{0}")]
    System(String),
    /// The definitions of the resources cannot be written.
    #[error(transparent)]
    Rules(#[from] rules::Error),
    /// A metric is registered twice.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

impl Error {
    pub(crate) fn kubernetes(call: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
        let call = call.into();
        move |source| Error::Kubernetes { call, source: Box::new(source) }
    }
}

/// The HTTP status of the API server's refusal; 0 where it did not answer.
pub(crate) fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}
