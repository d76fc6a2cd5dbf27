//! The Kafka wire protocol on both sides of the network: a server for the log of this process, and a client that is a
//! [`Log`](crate::Log) over a server of this or another program.
//!
//! Served is what Weir's own client and plain producers and consumers need: one topic, [`TOPIC`], whose partitions are the log's.
//! Batches travel as they lie on disk. Not here: creating topics, compressed batches, transactions, the membership of consumer groups.

mod client;
mod error_codes;
mod frame;
mod metrics;
mod request;
mod server;
#[cfg(test)]
mod testing;
mod wire;

pub use client::{Args, Client, Config};
pub(crate) use server::Server;

/// The topic that the log is.
pub const TOPIC: &str = "weir";
/// The user name of SASL.
pub const USER: &str = "weir";
/// How a user is told from others.
const MECHANISM: &str = "PLAIN";
/// Largest frame: the largest batch, and what a request has around it.
const FRAME_BYTES_MAX: usize = 16 << 20;
const _: () = assert!(crate::batch::foreign::BATCH_BYTES_MAX + (1 << 20) < FRAME_BYTES_MAX);
