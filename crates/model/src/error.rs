//! The closed set of kinds to which every crate's errors map.
//!
//! A protocol status, the decision to retry and the label of an error metric follow from the kind,
//! each in one `match`, so that two crates cannot answer the same failure differently.

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is wrong, and the same request will be wrong again.
    Invalid,
    /// A bound was hit; the same request may succeed later.
    Overloaded,
    /// Something that is needed is not there now: starting, stopping, unreachable, disk full.
    Unavailable,
    /// Stored bytes are not what was written.
    Corrupt,
    /// A fault of this program.
    Internal,
}

impl Kind {
    /// The HTTP status code for this kind, where the protocol does not ask for another one.
    pub fn http_status(self) -> u16 {
        match self {
            Kind::Invalid => 400,
            Kind::Overloaded => 429,
            Kind::Unavailable => 503,
            Kind::Corrupt | Kind::Internal => 500,
        }
    }

    /// Whether the same call may succeed when it is made again later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Kind::Overloaded | Kind::Unavailable)
    }

    /// The value of the label `kind` on error metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Invalid => "invalid",
            Kind::Overloaded => "overloaded",
            Kind::Unavailable => "unavailable",
            Kind::Corrupt => "corrupt",
            Kind::Internal => "internal",
        }
    }
}
