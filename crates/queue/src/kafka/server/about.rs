//! What clients ask before they read or write: versions, the topic and where it is, the coordinator, a producer id.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiVersionsResponse, BrokerId, FindCoordinatorResponse, InitProducerIdResponse, MetadataResponse, ProducerId,
};
use kafka_protocol::protocol::StrBytes;

use super::Server;
use crate::Log as _;
use crate::kafka::request::{APIS, Api};
use crate::kafka::{TOPIC, error_codes};

/// The one broker.
const NODE: BrokerId = BrokerId(0);

/// Host and port.
type Address = (String, u16);

impl Server {
    pub(super) fn metadata(&self, address: &Address, topics: Option<Vec<Option<String>>>) -> MetadataResponse {
        let topics = topics.unwrap_or_else(|| vec![Some(TOPIC.to_owned())]);
        let (host, port) = address;
        let broker = MetadataResponseBroker::default()
            .with_node_id(NODE)
            .with_host(StrBytes::from_string(host.clone()))
            .with_port(i32::from(*port));
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_cluster_id(Some(StrBytes::from_static_str(TOPIC)))
            .with_controller_id(NODE)
            .with_topics(topics.into_iter().map(|name| self.topic(name)).collect())
    }

    fn topic(&self, name: Option<String>) -> MetadataResponseTopic {
        let topic = MetadataResponseTopic::default();
        let Some(name) = name else { return topic.with_error_code(ResponseError::UnknownTopicId.code()) };
        let known = name == TOPIC;
        let topic = topic.with_name(Some(StrBytes::from_string(name).into()));
        if !known {
            return topic.with_error_code(ResponseError::UnknownTopicOrPartition.code());
        }
        let id = format!("{:032x}", self.log.id().unwrap_or(0));
        let topic = topic.with_topic_id(id.parse().unwrap_or_default());
        let partition = |index| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(NODE)
                .with_leader_epoch(-1)
                .with_replica_nodes(vec![NODE])
                .with_isr_nodes(vec![NODE])
        };
        topic.with_partitions((0..self.log.partitions.len() as i32).map(partition).collect())
    }

    /// The coordinator of every group.
    pub(super) fn coordinator(&self, address: &Address, key_type: i8) -> FindCoordinatorResponse {
        let answer = FindCoordinatorResponse::default();
        if key_type != 0 {
            let text = StrBytes::from_static_str("there are no transactions");
            let code = ResponseError::InvalidRequest.code();
            return answer.with_error_code(code).with_error_message(Some(text)).with_node_id(BrokerId(-1));
        }
        let (host, port) = address;
        answer.with_node_id(NODE).with_host(StrBytes::from_string(host.clone())).with_port(i32::from(*port))
    }

    /// A producer is always a new one: to begin anew, one that has an id gets another.
    pub(super) async fn init_producer_id(&self, transactional: bool) -> InitProducerIdResponse {
        let refuse = |code: i16| {
            let answer = InitProducerIdResponse::default().with_error_code(code);
            answer.with_producer_id(ProducerId(-1)).with_producer_epoch(-1)
        };
        if transactional {
            return refuse(ResponseError::TransactionalIdAuthorizationFailed.code());
        }
        let log = self.log.clone();
        match tokio::task::spawn_blocking(move || log.producer_ids.give()).await {
            Ok(Ok(id)) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)),
            Ok(Err(error)) => {
                tracing::error!(%error, "no producer id can be given");
                refuse(error_codes::log(&error).0)
            }
            Err(_) => refuse(ResponseError::UnknownServerError.code()),
        }
    }
}

/// What is served.
pub(super) fn versions(code: i16) -> ApiVersionsResponse {
    let version = |api: &Api| {
        ApiVersion::default().with_api_key(api.key as i16).with_min_version(api.min).with_max_version(api.max)
    };
    ApiVersionsResponse::default().with_error_code(code).with_api_keys(APIS.iter().map(version).collect())
}
