//! The storage component: consumes the log into the engine, and serves series.
//!
//! Architecture invariant: the position from which the log is read after a restart is in the same manifest commit
//! as the blocks that reach it, and nowhere else.

mod admin;
mod apply;
mod component;
pub mod downsample;
pub mod error;
mod keep;
mod local;
pub mod memory;
mod metrics;
pub mod objects;
pub mod reader;
mod rebuild;
pub mod replica;
pub mod retention;
pub mod serve;
pub mod snapshot;
mod wire;

pub use component::{Args, Deps, Started, start};
pub use downsample::Downsample;
pub use error::Error;
pub use memory::{Memory, parts as memory_parts};
pub use reader::{Changes, ChangesRequest, Mark, Reader};
pub use replica::Replica;
pub use retention::{Retention, Rules};
/// The encoding of chunks of the engine's exports, for those who answer readers of such chunks.
pub use tsdb::prometheus::chunks;
