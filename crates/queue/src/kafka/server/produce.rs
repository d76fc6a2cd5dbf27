//! Produce: batches to partitions, each stored as it came.

use bytes::Bytes;
use futures_util::future::join_all;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::protocol::StrBytes;

use super::connection::{Answer, frame_of};
use super::{Server, partition};
use crate::batch::foreign::Foreign;
use crate::kafka::TOPIC;
use crate::kafka::error_codes::{self, Code};
use crate::kafka::metrics::Closed;
use crate::kafka::request::{Head, Produce, Topic};

impl Server {
    /// Appends and answers once everything is durable, whatever `acks` says, except that 0 wants no answer. A failure cannot be told
    /// there, so it ends the connection.
    pub(super) async fn produce(&self, head: Head, request: Produce) -> Answer {
        let refused = match request.acks {
            _ if request.transactional => {
                let code = ResponseError::TransactionalIdAuthorizationFailed.code();
                Some((code, "there are no transactions".to_owned()))
            }
            -1..=1 => None,
            acks => Some((ResponseError::InvalidRequiredAcks.code(), format!("acks is {acks}, not -1, 0 or 1"))),
        };
        let topics = request.topics.into_iter().map(|topic| self.produce_topic(topic, refused.as_ref()));
        let responses = join_all(topics).await;
        if request.acks == 0 {
            let failed = responses.iter().flat_map(|t| &t.partition_responses).any(|p| p.error_code != 0);
            return if failed { Answer::End(Closed::Refused) } else { Answer::Silence };
        }
        frame_of(head, &ProduceResponse::default().with_responses(responses))
    }

    async fn produce_topic(&self, topic: Topic<(i32, Option<Bytes>)>, refused: Option<&Code>) -> TopicProduceResponse {
        let name = &topic.name;
        let partitions = topic.partitions.into_iter().map(|(index, records)| async move {
            let appended = match refused {
                Some(code) => Err(code.clone()),
                None => self.append(name, index, &records.unwrap_or_default()).await,
            };
            partition_response(index, appended)
        });
        let partitions = join_all(partitions).await;
        let name = StrBytes::from_string(topic.name).into();
        TopicProduceResponse::default().with_name(name).with_partition_responses(partitions)
    }

    /// Gives the offset of the first record, and the start of the partition.
    async fn append(&self, topic: &str, index: i32, records: &[u8]) -> Result<(i64, i64), Code> {
        let partition = partition(&self.log, topic, index).ok_or_else(|| {
            let text = format!("the only topic is {TOPIC}, with {} partitions", self.log.partitions.len());
            (ResponseError::UnknownTopicOrPartition.code(), text)
        })?;
        let batch = Foreign::read(records).map_err(error_codes::refusal)?;
        let offset = partition.append_batch(batch).await.map_err(error_codes::refused)?;
        Ok((offset, partition.bounds().start))
    }
}

fn partition_response(index: i32, appended: Result<(i64, i64), Code>) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index).with_log_append_time_ms(-1);
    match appended {
        Ok((offset, start)) => response.with_base_offset(offset).with_log_start_offset(start),
        Err((code, text)) => response
            .with_error_code(code)
            .with_base_offset(-1)
            .with_log_start_offset(-1)
            .with_error_message(Some(StrBytes::from_string(text))),
    }
}
