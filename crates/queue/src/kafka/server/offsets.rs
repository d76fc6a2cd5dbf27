//! ListOffsets, OffsetCommit, OffsetFetch: where partitions begin and end, and how far consumers have read for good. Groups here have
//! no members; each consumer says for itself which partitions it reads.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponseTopic};
use kafka_protocol::messages::{ListOffsetsResponse, OffsetCommitResponse, OffsetFetchResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Server, partition};
use crate::Error;
use crate::kafka::request::Topic;
use crate::kafka::{TOPIC, error_codes};
use crate::local::LocalLog;

/// What a timestamp stands for that is none.
const END: i64 = -1;
const START: i64 = -2;
const NEWEST: i64 = -3;

impl Server {
    pub(super) async fn list_offsets(&self, topics: Vec<Topic<(i32, i64)>>) -> ListOffsetsResponse {
        let log = self.log.clone();
        let listed = tokio::task::spawn_blocking(move || {
            let topic = |topic: Topic<(i32, i64)>| {
                let partition = |&(index, timestamp): &(i32, i64)| {
                    let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
                    match find(&log, &topic.name, index, timestamp) {
                        Ok((offset, time)) => response.with_offset(offset).with_timestamp(time),
                        Err(code) => response.with_error_code(code),
                    }
                };
                let partitions = topic.partitions.iter().map(partition).collect();
                let name = StrBytes::from_string(topic.name).into();
                ListOffsetsTopicResponse::default().with_name(name).with_partitions(partitions)
            };
            topics.into_iter().map(topic).collect()
        });
        // Fails only when the runtime ends, and nobody reads the answer.
        ListOffsetsResponse::default().with_topics(listed.await.unwrap_or_default())
    }

    pub(super) fn commit(&self, group: &str, generation: i32, topics: Vec<Topic<(i32, i64)>>) -> OffsetCommitResponse {
        let topics = topics.into_iter().map(|topic| {
            let partition = |&(index, offset): &(i32, i64)| {
                let code = self.commit_one(group, generation, &topic.name, index, offset).err().unwrap_or(0);
                OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
            };
            let partitions = topic.partitions.iter().map(partition).collect();
            let name = StrBytes::from_string(topic.name).into();
            OffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions)
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    }

    fn commit_one(&self, group: &str, generation: i32, topic: &str, index: i32, offset: i64) -> Result<(), i16> {
        if generation >= 0 {
            return Err(ResponseError::IllegalGeneration.code());
        }
        if partition(&self.log, topic, index).is_none() {
            return Err(ResponseError::UnknownTopicOrPartition.code());
        }
        if offset < 0 {
            return Err(ResponseError::InvalidRequest.code());
        }
        self.log.groups.commit(group, index.unsigned_abs(), offset).map_err(|error| match error {
            Error::Full(_) => ResponseError::GroupMaxSizeReached.code(),
            _ => ResponseError::InvalidGroupId.code(),
        })
    }

    /// What was committed; -1 where nothing was.
    pub(super) fn committed(&self, group: &str, topics: Option<Vec<Topic<i32>>>) -> OffsetFetchResponse {
        let all = topics.is_none();
        let every =
            || vec![Topic { name: TOPIC.to_owned(), partitions: (0..self.log.partitions.len() as i32).collect() }];
        let topics = topics.unwrap_or_else(every).into_iter().map(|topic| {
            let committed = |index: i32| {
                partition(&self.log, &topic.name, index)?;
                self.log.groups.committed(group, index.unsigned_abs())
            };
            let partitions = topic.partitions.iter().map(|&index| (index, committed(index)));
            let partitions = partitions.filter(|(_, offset)| !all || offset.is_some()).map(|(index, offset)| {
                OffsetFetchResponsePartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(offset.unwrap_or(-1))
                    .with_metadata(Some(StrBytes::new()))
            });
            let partitions = partitions.collect();
            let name = StrBytes::from_string(topic.name).into();
            OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions)
        });
        OffsetFetchResponse::default().with_topics(topics.collect())
    }
}

/// Offset and time of the first record that is at least as new as a timestamp, or of what one stands for; -1 and -1 where there is
/// none. Blocks.
fn find(log: &LocalLog, topic: &str, index: i32, timestamp: i64) -> Result<(i64, i64), i16> {
    let partition = partition(log, topic, index).ok_or(ResponseError::UnknownTopicOrPartition.code())?;
    let found = match timestamp {
        END => return Ok((partition.bounds().end, -1)),
        START => return Ok((partition.bounds().start, -1)),
        NEWEST => partition.newest_time().map_or(Ok(None), |newest| partition.find_time(newest)),
        0.. => partition.find_time(timestamp),
        _ => return Err(ResponseError::InvalidRequest.code()),
    };
    let found = found.map_err(|error| {
        tracing::error!(partition = index, %error, "a time cannot be looked up");
        error_codes::log(&error).0
    });
    Ok(found?.unwrap_or((-1, -1)))
}
