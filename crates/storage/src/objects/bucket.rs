//! Requests to object storage: each with a time-out, tried a bounded number of times, counted.
//!
//! The library's own retries are off, so that every attempt is counted here and a conditional write is never sent again before it was looked at what became
//! of it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    Error as Refusal, GetOptions, GetRange, MultipartId, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    PutPayload, UpdateVersion,
};
use runtime::Backoff;
use tsdb::disk::Input;

use super::metrics::Metrics;

/// How often a request is sent. With the pauses between, some 10 s and as many time-outs: a short disturbance is nobody's business, a longer one is
/// told and tried again by whoever asked.
const TRIES: u32 = 4;
/// First and longest bound of the pause between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Size of a part of a large upload: 10,000 of them, as many as an object may have, are 80 GiB.
const PART_BYTES: u64 = 8 << 20;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    PutBlock,
    PutCatalog,
    GetCatalog,
    GetRange,
    Delete,
    List,
}

impl Operation {
    pub(super) const ALL: [Operation; 6] = [
        Operation::PutBlock,
        Operation::PutCatalog,
        Operation::GetCatalog,
        Operation::GetRange,
        Operation::Delete,
        Operation::List,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Operation::PutBlock => "put_block",
            Operation::PutCatalog => "put_catalog",
            Operation::GetCatalog => "get_catalog",
            Operation::GetRange => "get_range",
            Operation::Delete => "delete",
            Operation::List => "list",
        }
    }
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Missing,
    /// Its condition does not hold.
    Conflict,
    Failed,
    TimedOut,
}

impl Outcome {
    pub(super) const ALL: [Outcome; 5] =
        [Outcome::Done, Outcome::Missing, Outcome::Conflict, Outcome::Failed, Outcome::TimedOut];

    pub(super) fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Missing => "missing",
            Outcome::Conflict => "conflict",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
        }
    }
}

/// Why a request was not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no such object.
    #[error("{0} is not there")]
    Missing(String),
    /// It could not be asked, or refused.
    #[error("{0}")]
    Unavailable(String),
}

/// What became of a conditional write.
#[derive(Debug)]
pub(super) enum Swap {
    /// It is there, with this version.
    Done(String),
    /// Something else is there; `None` where nothing is.
    Other(Option<(Bytes, String)>),
}

/// A store that takes large objects in parts.
pub(crate) trait Store: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> Store for T {}

/// A prefix of a bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    store: Arc<dyn Store>,
    prefix: Path,
    /// How messages name it.
    address: String,
    timeout: Duration,
    metrics: Metrics,
}

/// An attempt that failed.
enum Attempt {
    Refused(Refusal),
    TimedOut,
}

impl Bucket {
    /// A prefix of a store. `timeout` is that of one attempt.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        prefix: Path,
        address: String,
        timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        Bucket { store, prefix, address, timeout, metrics }
    }

    /// How messages name an object.
    pub(crate) fn name(&self, key: &str) -> String {
        if key.is_empty() { self.address.clone() } else { format!("{}/{key}", self.address) }
    }

    fn path(&self, key: &str) -> Path {
        key.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// The content of a small object, with its version.
    pub(super) async fn get(&self, key: &str) -> Result<(Bytes, String), Failure> {
        let path = self.path(key);
        self.tried(Operation::GetCatalog, &format!("reading {}", self.name(key)), || async {
            let found = self.store.get(&path).await?;
            let version = found.meta.e_tag.clone();
            Ok((found.bytes().await?, version.unwrap_or_default()))
        })
        .await
    }

    /// Some bytes of an object.
    pub(crate) async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let path = self.path(key);
        let what = format!("reading bytes {} to {} of {}", range.start, range.end, self.name(key));
        let bytes = self.tried(Operation::GetRange, &what, || async {
            let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
            self.store.get_opts(&path, options).await?.bytes().await
        });
        let bytes = bytes.await?;
        self.metrics.received_bytes.inc_by(bytes.len() as u64);
        if bytes.len() as u64 != range.end - range.start {
            return Err(Failure::Unavailable(format!("{what}: it has {} of them", bytes.len())));
        }
        Ok(bytes)
    }

    /// The names of the objects below a prefix.
    pub(super) async fn list(&self, under: &str) -> Result<Vec<String>, Failure> {
        let path = self.path(under);
        self.tried(Operation::List, &format!("listing {}", self.name(under)), || async {
            let found: Vec<_> = self.store.list(Some(&path)).try_collect().await?;
            Ok(found.into_iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect())
        })
        .await
    }

    /// Removes an object, if it is there.
    pub(super) async fn delete(&self, key: &str) -> Result<(), Failure> {
        let path = self.path(key);
        let what = format!("removing {}", self.name(key));
        let deleted = self.tried(Operation::Delete, &what, || self.store.delete(&path)).await;
        if matches!(deleted, Err(Failure::Missing(_))) { Ok(()) } else { deleted }
    }

    /// Writes an object that nobody else writes, in parts where it is large. It is there as a whole or not at all.
    pub(super) async fn upload(&self, key: &str, from: &dyn Input) -> Result<(), Failure> {
        let (path, what) = (self.path(key), format!("writing {}", self.name(key)));
        if from.bytes() <= PART_BYTES {
            let payload = PutPayload::from(part(from, 0)?);
            self.tried(Operation::PutBlock, &what, || self.store.put(&path, payload.clone())).await?;
        } else {
            let id = self.tried(Operation::PutBlock, &what, || self.store.create_multipart(&path)).await?;
            if let Err(failure) = self.upload_parts(&path, &id, from, &what).await {
                // Where this fails too, the bucket's rule for parts that were never put together removes them.
                let _ = tokio::time::timeout(self.timeout, self.store.abort_multipart(&path, &id)).await;
                return Err(failure);
            }
        }
        self.metrics.sent_bytes.inc_by(from.bytes());
        Ok(())
    }

    async fn upload_parts(&self, path: &Path, id: &MultipartId, from: &dyn Input, what: &str) -> Result<(), Failure> {
        let (mut at, mut parts) = (0, Vec::new());
        while at < from.bytes() {
            let bytes = part(from, at)?;
            at += bytes.len() as u64;
            let (number, payload) = (parts.len(), PutPayload::from(bytes));
            let put = || self.store.put_part(path, id, number, payload.clone());
            parts.push(self.tried(Operation::PutBlock, what, put).await?);
        }
        let put_together = || self.store.complete_multipart(path, id, parts.clone());
        self.tried(Operation::PutBlock, what, put_together).await?;
        Ok(())
    }

    /// Writes an object if it is still of a version, or not there where that is `None`. An answer that says no, or that does not come, does not say that
    /// it was not written: it is looked what is there, and what it is that tells.
    pub(super) async fn swap(&self, key: &str, content: &Bytes, expected: Option<&str>) -> Result<Swap, Failure> {
        let (path, what) = (self.path(key), format!("writing {}", self.name(key)));
        let mut backoff = Backoff::new(RETRY.0, RETRY.1, fastrand::u64(..));
        loop {
            let mode = expected.map_or(PutMode::Create, |version| {
                PutMode::Update(UpdateVersion { e_tag: Some(version.to_owned()), version: None })
            });
            let put = self.store.put_opts(&path, content.clone().into(), PutOptions::from(mode));
            let failed = match self.attempt(Operation::PutCatalog, put).await {
                Ok(put) => {
                    let unversioned = || Failure::Unavailable(format!("{what}: the server tells no ETag"));
                    return Ok(Swap::Done(put.e_tag.ok_or_else(unversioned)?));
                }
                Err(failed) => failed,
            };
            if failed.is_final() {
                return Err(self.give_up(&what, &failed));
            }
            match self.get(key).await {
                Ok((found, version)) if found == *content => return Ok(Swap::Done(version)),
                Ok((found, version)) if expected != Some(version.as_str()) => {
                    return Ok(Swap::Other(Some((found, version))));
                }
                Err(Failure::Missing(_)) if expected.is_some() => return Ok(Swap::Other(None)),
                // As it was before.
                Ok(_) | Err(_) => {}
            }
            let pause = backoff.pause();
            if backoff.attempts() >= TRIES {
                return Err(self.give_up(&what, &failed));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request that may be sent more than once.
    async fn tried<T, F: Future<Output = Result<T, Refusal>>>(
        &self,
        operation: Operation,
        what: &str,
        mut request: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1, fastrand::u64(..));
        loop {
            let failed = match self.attempt(operation, request()).await {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Refused(Refusal::NotFound { .. })) => return Err(Failure::Missing(what.to_owned())),
                Err(failed) => failed,
            };
            let pause = backoff.pause();
            if failed.is_final() || backoff.attempts() >= TRIES {
                return Err(self.give_up(what, &failed));
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Attempt> {
        let timer = self.metrics.request_seconds.with_label_values(&[operation.name()]).start_timer();
        let (outcome, answer) = match tokio::time::timeout(self.timeout, request).await {
            Ok(Ok(answer)) => (Outcome::Done, Ok(answer)),
            Ok(Err(refusal)) => (outcome(&refusal), Err(Attempt::Refused(refusal))),
            Err(_) => (Outcome::TimedOut, Err(Attempt::TimedOut)),
        };
        timer.observe_duration();
        self.metrics.requests.with_label_values(&[operation.name(), outcome.name()]).inc();
        answer
    }

    fn give_up(&self, what: &str, failed: &Attempt) -> Failure {
        Failure::Unavailable(match failed {
            Attempt::Refused(refusal) => format!("{what}: {}", one_line(refusal)),
            Attempt::TimedOut => format!("{what}: no answer within {:?}", self.timeout),
        })
    }
}

impl Attempt {
    /// Whether it would be the same the next time: what it is that was asked is wrong.
    fn is_final(&self) -> bool {
        use Refusal::{InvalidPath, NotImplemented, NotSupported, PermissionDenied, Unauthenticated};
        let Attempt::Refused(refusal) = self else { return false };
        matches!(
            refusal,
            PermissionDenied { .. }
                | Unauthenticated { .. }
                | InvalidPath { .. }
                | NotSupported { .. }
                | NotImplemented { .. }
        )
    }
}

fn outcome(refusal: &Refusal) -> Outcome {
    match refusal {
        Refusal::NotFound { .. } => Outcome::Missing,
        Refusal::AlreadyExists { .. } | Refusal::Precondition { .. } => Outcome::Conflict,
        _ => Outcome::Failed,
    }
}

/// The bytes of a part that begins at a place.
fn part(from: &dyn Input, at: u64) -> Result<Bytes, Failure> {
    let mut bytes = vec![0; (from.bytes() - at).min(PART_BYTES) as usize];
    let read = from.read_exact_at(&mut bytes, at);
    read.map_err(|e| Failure::Unavailable(format!("reading the local block: {e}")))?;
    Ok(bytes.into())
}

/// A message of the server is XML over lines.
fn one_line(refusal: &Refusal) -> String {
    refusal.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
