//! Fetch: batches as they lie on disk, as soon as there are enough of them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::select_all;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchResponse};
use kafka_protocol::protocol::StrBytes;
use runtime::Shutdown;
use tokio::sync::watch;

use super::connection::{Answer, frame_of};
use super::{Server, partition};
use crate::Error;
use crate::batch::foreign::BATCH_BYTES_MAX;
use crate::kafka::frame::Held;
use crate::kafka::request::{Fetch, FetchPartition, Head};
use crate::kafka::{TOPIC, error_codes};
use crate::local::LocalLog;
use crate::partition::Partition;

/// Batches of one answer, however much a client asks for; the largest batch fits.
const ANSWER_BYTES_MAX: usize = BATCH_BYTES_MAX;
/// Longest time that a fetch waits for records; a client that wants more asks again.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What one pass over the partitions of a fetch found.
#[derive(Default)]
struct Pass {
    topics: Vec<FetchableTopicResponse>,
    bytes: usize,
    /// Whether there is something to be told at once.
    failed: bool,
    held: Option<Held>,
}

impl Server {
    /// Answers once there are `min_bytes`, or something failed, or the time to wait is over.
    pub(super) async fn fetch(&self, head: Head, request: Fetch, shutdown: &mut Shutdown) -> Answer {
        if request.session_epoch > 0 {
            // Nobody was told of a session here.
            let code = ResponseError::FetchSessionIdNotFound.code();
            return frame_of(head, &FetchResponse::default().with_error_code(code));
        }
        let request = Arc::new(request);
        let partitions: Vec<Arc<Partition>> = partitions(&self.log, &request).map(|(p, _)| p.clone()).collect();
        let mut ends: Vec<watch::Receiver<i64>> = partitions.iter().map(|p| p.ends()).collect();
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(WAIT_MAX);
        let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
        let mut over = pin!(tokio::time::sleep(wait));
        let mut last = wait.is_zero() || partitions.is_empty();
        loop {
            let written = written(&partitions);
            ends.iter_mut().for_each(|end| drop(end.borrow_and_update()));
            let pass = self.pass(&request).await;
            if last || pass.failed || pass.bytes >= min_bytes {
                return match frame_of(head, &FetchResponse::default().with_responses(pass.topics)) {
                    Answer::Frame(frame, _) => Answer::Frame(frame, pass.held),
                    other => other,
                };
            }
            // Nothing is held while it waits.
            let missing = (min_bytes - pass.bytes) as u64;
            drop(pass);
            while !last && self::written(&partitions) - written < missing {
                tokio::select! {
                    () = shutdown.asked() => last = true,
                    () = &mut over => last = true,
                    _ = select_all(ends.iter_mut().map(|end| Box::pin(end.changed()))) => {}
                }
            }
        }
    }

    /// Reads what there is of each partition, within the bounds of the request and of the memory.
    async fn pass(&self, request: &Arc<Fetch>) -> Pass {
        if partitions(&self.log, request).all(|(partition, asked)| asked.offset >= partition.bounds().end) {
            return read(&self.log, request);
        }
        let mut held = self.answers.hold(ANSWER_BYTES_MAX).await;
        let (log, asked) = (self.log.clone(), request.clone());
        // Fails only when the runtime ends, and nobody reads the answer.
        let mut pass = tokio::task::spawn_blocking(move || read(&log, &asked)).await.unwrap_or_default();
        held.keep(pass.bytes);
        pass.held = Some(held);
        pass
    }
}

/// The partitions of the request that exist, with what is asked of each.
fn partitions<'a>(
    log: &'a LocalLog,
    request: &'a Fetch,
) -> impl Iterator<Item = (&'a Arc<Partition>, &'a FetchPartition)> {
    let known = request.topics.iter().filter(|topic| topic.name == TOPIC).flat_map(|topic| &topic.partitions);
    known.filter_map(|asked| Some((partition(log, TOPIC, asked.partition)?, asked)))
}

fn written(partitions: &[Arc<Partition>]) -> u64 {
    partitions.iter().map(|p| p.written_bytes()).sum()
}

/// Blocks, except where no partition has anything after its offset.
fn read(log: &LocalLog, request: &Fetch) -> Pass {
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(ANSWER_BYTES_MAX);
    let mut pass = Pass::default();
    for topic in &request.topics {
        let name = StrBytes::from_string(topic.name.clone()).into();
        let mut response = FetchableTopicResponse::default().with_topic(name);
        for asked in &topic.partitions {
            let data = data(asked.partition);
            let data = match partition(log, &topic.name, asked.partition) {
                Some(partition) => {
                    let left = bytes_max.saturating_sub(pass.bytes).min(usize::try_from(asked.max_bytes).unwrap_or(0));
                    let records = partition.read_batches(asked.offset, left, pass.bytes == 0);
                    let bounds = partition.bounds();
                    let data = data.with_high_watermark(bounds.end).with_last_stable_offset(bounds.end);
                    filled(data.with_log_start_offset(bounds.start), records)
                }
                None => data.with_error_code(ResponseError::UnknownTopicOrPartition.code()),
            };
            pass.failed |= data.error_code != 0;
            pass.bytes += data.records.as_ref().map_or(0, Bytes::len);
            response.partitions.push(data);
        }
        pass.topics.push(response);
    }
    pass
}

fn filled(data: PartitionData, records: Result<Vec<u8>, Error>) -> PartitionData {
    match records {
        Ok(records) => data.with_records(Some(Bytes::from(records))),
        Err(error) => {
            if !matches!(error, Error::OutOfRange { .. }) {
                tracing::error!(partition = data.partition_index, %error, "a fetch cannot be answered");
            }
            data.with_error_code(error_codes::log(&error).0)
        }
    }
}

/// An answer about a partition of which nothing is known.
fn data(index: i32) -> PartitionData {
    PartitionData::default()
        .with_partition_index(index)
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_aborted_transactions(None)
        .with_preferred_read_replica(BrokerId(-1))
        .with_records(Some(Bytes::new()))
}
