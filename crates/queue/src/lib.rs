//! The durable, ordered, partitioned, replayable log: what is acknowledged is here, and everything
//! else is derived from it.
//!
//! Architecture invariant: an offset that [`Log::append`] returned is on stable storage, and every
//! record before it in the same partition too. After a failed fsync the log is poisoned and stops; it
//! never carries on.

pub mod error;
pub mod log;
pub mod payload;

pub use error::Error;
pub use log::{Bounds, BoxFuture, Log, Record};
