//! The durable, ordered, partitioned, replayable log: what is acknowledged is here, and everything
//! else is derived from it.
//!
//! Architecture invariant: an offset that [`Log::append`] returned is on stable storage, and every
//! record before it in the same partition too. After a failed fsync the log is poisoned and stops; it
//! never carries on.

mod batch;
mod component;
pub mod error;
mod files;
mod groups;
mod identity;
pub mod kafka;
mod lag;
mod local;
pub mod log;
mod metrics;
mod partition;
pub mod payload;
mod producer_ids;
mod producers;
mod segment;
mod status;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use component::{Args, Deps, Started, start};
pub use error::Error;
pub use lag::Lag;
pub use log::{Bounds, BoxFuture, Log, Record};
pub use partition::RECORD_BYTES_MAX;
