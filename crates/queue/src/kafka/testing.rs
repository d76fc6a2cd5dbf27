//! A log that is served on a free port, for tests.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use clap::Parser;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest};
use prometheus::Registry;
use runtime::{Shutdown, ShutdownTrigger, Token};

use super::TOPIC;
use super::client::connection::{Connection, REQUEST};
use crate::batch::{self, Producer};
use crate::{Args, Deps, Started, start};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

pub(super) fn args(dir: &Path) -> Args {
    let mut args = Cli::parse_from(["queue", "--queue-partitions", "2", "--kafka", "127.0.0.1:0"]).args;
    args.dir = dir.join("queue");
    args
}

/// A served log.
pub(super) struct Rig {
    pub(super) started: Started,
    trigger: ShutdownTrigger,
    pub(super) registry: Registry,
    pub(super) address: SocketAddr,
    token: Option<Token>,
}

impl Rig {
    pub(super) async fn new(dir: &Path) -> Rig {
        Rig::with(args(dir)).await
    }

    pub(super) async fn with(args: Args) -> Rig {
        let (trigger, shutdown) = Shutdown::new();
        let (registry, token) = (Registry::new(), args.token.clone());
        let started = start(args, Deps::default(), &registry, shutdown).await.expect("the log starts");
        let address = started.kafka.expect("served");
        Rig { started, trigger, registry, address, token }
    }

    pub(super) async fn stop(self) {
        self.trigger.ask();
        drop(self.started.log);
        self.started.component.drained.await.expect("drains");
    }

    pub(super) async fn connect(&self) -> Connection {
        Connection::open(&self.address.to_string(), self.token.as_ref()).await.expect("connects")
    }

    /// The value of a metric, of the label if there is one.
    pub(super) fn metric(&self, name: &str, label: &str) -> f64 {
        metric(&self.registry, name, label)
    }
}

pub(super) fn metric(registry: &Registry, name: &str, label: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|f| f.name() == name).unwrap_or_else(|| panic!("no metric {name}"));
    let of = |m: &&prometheus::proto::Metric| m.get_label().is_empty() || m.get_label()[0].value() == label;
    let metric = family.get_metric().iter().find(of).unwrap_or_else(|| panic!("no {name} of {label}"));
    metric.get_counter().get_value() + metric.get_gauge().get_value()
}

/// A batch of records with a time each.
pub(super) fn batch(producer: Option<Producer>, records: &[(i64, &[u8])]) -> Vec<u8> {
    let records: Vec<_> = records.iter().map(|(time, payload)| (*time, Bytes::copy_from_slice(payload))).collect();
    let mut out = Vec::new();
    batch::write(&mut out, 0, producer, &records);
    out
}

pub(super) fn produce_request(partition: i32, acks: i16, records: Vec<u8>) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(partition).with_records(Some(records.into()));
    let name = kafka_protocol::protocol::StrBytes::from_static_str(TOPIC).into();
    let topic = TopicProduceData::default().with_name(name).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1000).with_topic_data(vec![topic])
}

pub(super) async fn produce(connection: &mut Connection, partition: i32, records: Vec<u8>) -> PartitionProduceResponse {
    let answer = connection.call(9, &produce_request(partition, -1, records), REQUEST).await.expect("answered");
    answer.responses[0].partition_responses[0].clone()
}

pub(super) async fn producer_id(connection: &mut Connection) -> i64 {
    let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(0);
    let answer = connection.call(1, &request, REQUEST).await.expect("answered");
    assert_eq!((answer.error_code, answer.producer_epoch), (0, 0));
    answer.producer_id.0
}
