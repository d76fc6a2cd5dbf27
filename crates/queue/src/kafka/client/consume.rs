//! What consumers ask: records, bounds, and how far they have read.
//!
//! A connection on which nothing was asked for a while may have been closed by the server, which shows only at the next call: so a
//! call on a connection that was used before is made a second time on a new one. All of these may be made twice. A new connection may lead to another log, so
//! each is asked for that first.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    BrokerId, FetchRequest, ListOffsetsRequest, OffsetCommitRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};
use tokio::sync::Mutex;

use super::cluster::Cluster;
use super::connection::{Connection, REQUEST};
use crate::kafka::TOPIC;
use crate::{Bounds, Error, Record, batch};

/// A consumer and no follower of the log.
const CONSUMER: BrokerId = BrokerId(-1);

fn topic() -> TopicName {
    StrBytes::from_static_str(TOPIC).into()
}

/// Records from an offset on with the end of the partition, or `None` where the offset is outside of it.
pub(super) async fn fetch(
    cluster: &Cluster,
    place: &Mutex<Option<Connection>>,
    partition: u32,
    from: i64,
    bytes_max: usize,
    wait: Duration,
) -> Result<Option<(Vec<Record>, i64)>, Error> {
    let bytes_max = i32::try_from(bytes_max).unwrap_or(i32::MAX);
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    let wanted = FetchPartition::default()
        .with_partition(partition as i32)
        .with_fetch_offset(from)
        .with_partition_max_bytes(bytes_max);
    let request = FetchRequest::default()
        .with_replica_id(CONSUMER)
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(bytes_max)
        .with_session_epoch(-1)
        .with_topics(vec![FetchTopic::default().with_topic(topic()).with_partitions(vec![wanted])]);
    let mut place = place.lock().await;
    let limit = Duration::from_millis(wait_ms as u64) + REQUEST;
    let (connection, answer) = call(cluster, &mut place, partition, 11, &request, limit).await?;
    let nothing = || connection.failed("answers nothing", answer.error_code);
    let data = answer.responses.first().and_then(|topic| topic.partitions.first()).ok_or_else(nothing)?;
    let records = match ResponseError::try_from_code(data.error_code) {
        None => {
            let records = records(&connection, partition, from, data.records.clone().unwrap_or_default())?;
            Some((records, data.high_watermark))
        }
        Some(ResponseError::OffsetOutOfRange) => None,
        Some(_) => {
            cluster.forget(partition);
            return Err(connection.failed("a fetch", data.error_code));
        }
    };
    *place = Some(connection);
    Ok(records)
}

/// The records from an offset on of whole batches; one that is cut off at the end comes again with the next fetch.
fn records(connection: &Connection, partition: u32, from: i64, mut bytes: Bytes) -> Result<Vec<Record>, Error> {
    let (mut out, mut position) = (Vec::new(), 0);
    let corrupt = |position, reason: &str| Error::Corrupt {
        file: format!("answer of {} about partition {partition}", connection.address()),
        position,
        reason: reason.to_owned(),
    };
    while bytes.len() >= batch::HEADER {
        let header = batch::header(&bytes).map_err(|reason| corrupt(position, reason))?;
        if header.bytes > bytes.len() {
            break;
        }
        let whole = bytes.split_to(header.bytes);
        let records = batch::records(&whole).map_err(|reason| corrupt(position, reason))?;
        out.extend(records.into_iter().filter(|record| record.offset >= from));
        position += header.bytes as u64;
    }
    Ok(out)
}

/// Where a partition begins and ends.
pub(super) async fn bounds(
    cluster: &Cluster,
    place: &Mutex<Option<Connection>>,
    partition: u32,
) -> Result<Bounds, Error> {
    let mut place = place.lock().await;
    // The start first, so that it is never after the end.
    let start = list(cluster, &mut place, partition, -2).await?;
    let end = list(cluster, &mut place, partition, -1).await?;
    Ok(Bounds { start, end })
}

async fn list(cluster: &Cluster, place: &mut Option<Connection>, partition: u32, timestamp: i64) -> Result<i64, Error> {
    let wanted = ListOffsetsPartition::default().with_partition_index(partition as i32).with_timestamp(timestamp);
    let wanted = ListOffsetsTopic::default().with_name(topic()).with_partitions(vec![wanted]);
    let request = ListOffsetsRequest::default().with_replica_id(CONSUMER).with_topics(vec![wanted]);
    let (connection, answer) = call(cluster, place, partition, 4, &request, REQUEST).await?;
    let data = answer.topics.first().and_then(|topic| topic.partitions.first());
    let data = data.ok_or_else(|| connection.failed("answers nothing", 0))?;
    if data.error_code != 0 {
        cluster.forget(partition);
        return Err(connection.failed("the bounds", data.error_code));
    }
    let offset = data.offset;
    *place = Some(connection);
    Ok(offset)
}

/// Calls the leader of a partition, on the connection that waits in its place if there is one.
async fn call<Q: Request>(
    cluster: &Cluster,
    place: &mut Option<Connection>,
    partition: u32,
    version: i16,
    request: &Q,
    limit: Duration,
) -> Result<(Connection, Q::Response), Error> {
    if let Some(mut used) = place.take()
        && let Ok(answer) = used.call(version, request, limit).await
    {
        return Ok((used, answer));
    }
    let mut connection = cluster.leader(partition).await?;
    cluster.check(&mut connection).await.inspect_err(|_| cluster.forget(partition))?;
    let called = connection.call(version, request, limit).await;
    let answer = called.inspect_err(|_| cluster.forget(partition))?;
    Ok((connection, answer))
}

/// Tells how far a group has read.
pub(super) async fn commit(
    cluster: &Cluster,
    place: &Mutex<Option<(String, Connection)>>,
    group: &str,
    partition: u32,
    offset: i64,
) -> Result<(), Error> {
    let wanted = OffsetCommitRequestPartition::default()
        .with_partition_index(partition as i32)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(StrBytes::new()));
    let wanted = OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![wanted]);
    let request = OffsetCommitRequest::default()
        .with_group_id(StrBytes::from_string(group.to_owned()).into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![wanted]);
    let mut place = place.lock().await;
    let (connection, answer) = ask(cluster, &mut place, group, 7, &request).await?;
    let data = answer.topics.first().and_then(|topic| topic.partitions.first());
    let code = data.ok_or_else(|| connection.failed("answers nothing", 0))?.error_code;
    let failed = connection.failed("a commit", code);
    match ResponseError::try_from_code(code) {
        None => {}
        Some(ResponseError::InvalidGroupId | ResponseError::InvalidRequest) => {
            return Err(Error::Invalid(failed.to_string()));
        }
        Some(ResponseError::GroupMaxSizeReached) => return Err(Error::Full(failed.to_string())),
        Some(_) => return Err(failed),
    }
    *place = Some((group.to_owned(), connection));
    Ok(())
}

/// How far a group said that it has read.
pub(super) async fn committed(
    cluster: &Cluster,
    place: &Mutex<Option<(String, Connection)>>,
    group: &str,
    partition: u32,
) -> Result<Option<i64>, Error> {
    let wanted = OffsetFetchRequestTopic::default().with_name(topic()).with_partition_indexes(vec![partition as i32]);
    let request = OffsetFetchRequest::default()
        .with_group_id(StrBytes::from_string(group.to_owned()).into())
        .with_topics(Some(vec![wanted]));
    let mut place = place.lock().await;
    let (connection, answer) = ask(cluster, &mut place, group, 5, &request).await?;
    let data = answer.topics.first().and_then(|topic| topic.partitions.first());
    let data = data.ok_or_else(|| connection.failed("answers nothing", answer.error_code))?;
    if answer.error_code != 0 || data.error_code != 0 {
        return Err(connection.failed("a commit that is asked for", answer.error_code.max(data.error_code)));
    }
    let offset = data.committed_offset;
    *place = Some((group.to_owned(), connection));
    Ok((offset >= 0).then_some(offset))
}

/// Calls the coordinator of a group.
async fn ask<Q: Request>(
    cluster: &Cluster,
    place: &mut Option<(String, Connection)>,
    group: &str,
    version: i16,
    request: &Q,
) -> Result<(Connection, Q::Response), Error> {
    if let Some((_, mut used)) = place.take().filter(|(of, _)| of == group)
        && let Ok(answer) = used.call(version, request, REQUEST).await
    {
        return Ok((used, answer));
    }
    let mut connection = cluster.coordinator(group).await?;
    cluster.check(&mut connection).await?;
    let answer = connection.call(version, request, REQUEST).await?;
    Ok((connection, answer))
}
