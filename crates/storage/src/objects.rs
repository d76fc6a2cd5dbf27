//! Blocks in S3-compatible object storage, beside the local disk and beyond it.
//!
//! The local manifest stays the commit of a running storage. Behind it, [`mirror`] uploads blocks and then the catalog, one object that names them with a copy of that
//! manifest; only what the catalog has is told to the log as read. So whoever has the bucket and the log has everything that was acknowledged, and the local
//! disk is a cache: blocks that are in the catalog may leave it, and a directory that is lost begins again from the catalog.
//!
//! One process writes: the catalog is replaced on the condition that nobody else did. A directory and a prefix belong together (the file `objects` says so); an
//! empty directory takes a prefix over, and the process that had it stops as soon as it writes. The price of a start is that the bucket has to answer.

mod args;
mod bucket;
mod catalog;
mod claim;
mod disk;
mod metrics;
mod mirror;
mod pages;

pub use args::{Address, Args, Keys};
pub(crate) use claim::{Claimed, may_lack_blocks, open};
pub(crate) use metrics::Metrics;
pub(crate) use mirror::Mirror;

/// Where blocks are in the bucket, below the prefix of the replica.
const BLOCKS: &str = "blocks";
