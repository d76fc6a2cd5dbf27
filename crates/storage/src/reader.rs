//! The client's side of storage: what query and alerting are handed.

use std::time::Duration;

use model::{SeriesSource, SourceError};
use queue::BoxFuture;

/// A storage that is read: the engine in process, or a storage component over the network.
pub trait Reader: SeriesSource + 'static {
    /// Resolves once everything that was acknowledged before the call can be seen by
    /// [`SeriesSource`]'s calls; fails with [`model::Kind::Unavailable`] when that takes longer than `timeout`.
    fn caught_up(&self, timeout: Duration) -> BoxFuture<'_, Result<(), SourceError>>;

    /// Records that are acknowledged and not yet visible: the depth of the queue.
    fn backlog(&self) -> u64;
}
