//! The storage engine: head, chunks, blocks, index, compaction, retention.
//!
//! New samples are in the head, in memory; a flush writes them as immutable blocks; small blocks are merged into larger ones; old ones
//! are dropped. One file, the manifest, names the blocks that count and the positions in the log that they reach, so a flush either
//! happened with all that it covers or not at all. Exemplars and metadata of families go with it.
//!
//! The same series and timestamp twice: the last one written wins.
//!
//! Architecture invariant: files only: no network, no clock, no thread of its own. Values come back bit for bit.

pub mod block;
mod changes;
pub mod chunk;
mod columns;
pub mod db;
mod deletes;
pub mod disk;
mod downsample;
pub mod error;
mod exemplars;
mod families;
pub mod head;
pub mod manifest;
mod merge;
pub mod offline;
mod offsets;
mod postings;
mod prefetch;
pub mod prometheus;
mod retention;
mod tally;
#[cfg(test)]
mod testing;

pub use changes::Changed;
pub use columns::{View, merge_newer};
pub use db::{
    Background, Batch, Db, Downsampled, Loader, Lost, Memory, Newest, NewestSamples, Options, Rebuild, Stats,
};
pub use downsample::{DownsampleRule, Level};
pub use error::Error;
pub use head::{Appended, Appender, Head};
pub use retention::RetentionRule;
