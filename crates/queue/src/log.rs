//! The seam to the log: in process, or over the Kafka protocol ([`crate::kafka::Client`]). Called once a batch of
//! records, never once a sample.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use crate::Error;

/// A boxed future, so that the trait can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One record of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition; offsets are dense and ascend.
    pub offset: i64,
    /// Time at which it was appended, in Unix milliseconds.
    pub timestamp_ms: i64,
    /// The bytes that were appended; see [`crate::payload`].
    pub payload: Bytes,
}

/// The part of a partition that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Offset of the oldest record still kept.
    pub start: i64,
    /// Offset that the next record will get; all before it are durable.
    pub end: i64,
}

/// A log of `partitions()` partitions.
pub trait Log: Send + Sync + 'static {
    /// Number of partitions; constant over the life of the log.
    fn partitions(&self) -> u32;

    /// Tells this log from others: offsets of one mean nothing in another. Constant over the life of the log; `None` where a server does not tell.
    fn id(&self) -> Option<u128>;

    /// Appends one record and resolves to its offset once it is durable.
    ///
    /// Fails with [`Error::Full`] (retryable) when the disk or the queue of waiting appends is full, in
    /// which case the record is not in the log, and over a network with [`Error::Remote`] (retryable) when it is not known
    /// whether it is. Dropping the future does not take the record back.
    fn append(&self, partition: u32, payload: Bytes, now_ms: i64) -> BoxFuture<'_, Result<i64, Error>>;

    /// Reads durable records from `from` on, at least one where there is one, and at most about
    /// `bytes_max` bytes of payload. Waits up to `wait` for the first; an empty answer means that none came.
    /// Cancel-safe.
    fn fetch(
        &self,
        partition: u32,
        from: i64,
        bytes_max: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Record>, Error>>;

    /// The bounds of a partition, after every append that was acknowledged before the call.
    fn bounds(&self, partition: u32) -> BoxFuture<'_, Result<Bounds, Error>>;

    /// Where a partition ended when this process heard of it last, 0 where it never did: at once, without asking anybody. Of a log in this process it
    /// is the end.
    fn known_end(&self, partition: u32) -> i64;

    /// Tells that consumer `group` will never again read before `offset`, so that retention may. Durable
    /// in the consumer's own state first, here second.
    fn commit(&self, group: &str, partition: u32, offset: i64) -> BoxFuture<'_, Result<(), Error>>;

    /// The offset that consumer `group` told last; `None` if it never did.
    fn committed(&self, group: &str, partition: u32) -> BoxFuture<'_, Result<Option<i64>, Error>>;
}
