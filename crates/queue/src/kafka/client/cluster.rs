//! Which server leads which partition, as far as is known.

use std::sync::{Mutex, OnceLock, PoisonError};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::StrBytes;
use runtime::Token;

use super::connection::{Connection, REQUEST, remote};
use super::metrics::Metrics;
use crate::Error;
use crate::kafka::TOPIC;

#[derive(Debug)]
pub(super) struct Cluster {
    bootstrap: String,
    token: Option<Token>,
    metrics: Metrics,
    /// Addresses by partition; forgotten when they turn out wrong.
    leaders: Mutex<Vec<Option<String>>>,
    /// Which log was found at first.
    id: OnceLock<Option<u128>>,
}

impl Cluster {
    pub(super) fn new(bootstrap: String, token: Option<Token>, metrics: Metrics) -> Self {
        Cluster { bootstrap, token, metrics, leaders: Mutex::new(Vec::new()), id: OnceLock::new() }
    }

    /// Asks who leads what, and gives the number of partitions.
    pub(super) async fn refresh(&self) -> Result<u32, Error> {
        let mut connection = self.open(&self.bootstrap).await?;
        let metadata = metadata(&mut connection).await?;
        let leaders = leaders(&metadata).map_err(|code| connection.failed("has no topic weir", code))?;
        let partitions = u32::try_from(leaders.len()).unwrap_or(0);
        if partitions == 0 {
            return Err(remote(&self.bootstrap, &"the topic weir has no partition"));
        }
        *self.leaders() = leaders;
        self.id.get_or_init(|| id(&metadata));
        Ok(partitions)
    }

    /// Which log was found at first, where that was told.
    pub(super) fn id(&self) -> Option<u128> {
        self.id.get().copied().flatten()
    }

    /// Fails where a server has another log by now than the one that was found at first: what a consumer knows of offsets is of that.
    pub(super) async fn check(&self, connection: &mut Connection) -> Result<(), Error> {
        let Some(known) = self.id() else { return Ok(()) };
        match id(&metadata(connection).await?) {
            Some(id) if id != known => Err(Error::Corrupt {
                file: format!("the log at {}", connection.address()),
                position: 0,
                reason: format!("it is another log than at the start of this process: {id:032x}, not {known:032x}"),
            }),
            _ => Ok(()),
        }
    }

    /// A connection to the server that leads a partition.
    pub(super) async fn leader(&self, partition: u32) -> Result<Connection, Error> {
        let known = |cluster: &Self| cluster.leaders().get(partition as usize).cloned().flatten();
        let address = match known(self) {
            Some(address) => address,
            None => {
                self.refresh().await?;
                known(self).ok_or_else(|| remote(&self.bootstrap, &format!("partition {partition} has no leader")))?
            }
        };
        let opened = self.open(&address).await;
        if opened.is_err() {
            self.forget(partition);
        }
        opened
    }

    /// Has the leader of a partition asked for anew.
    pub(super) fn forget(&self, partition: u32) {
        if let Some(leader) = self.leaders().get_mut(partition as usize) {
            *leader = None;
        }
    }

    /// A connection to the server that keeps the commits of a group.
    pub(super) async fn coordinator(&self, group: &str) -> Result<Connection, Error> {
        let mut connection = self.open(&self.bootstrap).await?;
        let request = FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned()));
        let found = connection.call(2, &request, REQUEST).await?;
        if found.error_code != 0 {
            return Err(connection.failed("names no coordinator", found.error_code));
        }
        self.open(&address(&found.host, found.port)).await
    }

    async fn open(&self, address: &str) -> Result<Connection, Error> {
        let connection = Connection::open(address, self.token.as_ref()).await?;
        self.metrics.connections.inc();
        Ok(connection)
    }

    fn leaders(&self) -> std::sync::MutexGuard<'_, Vec<Option<String>>> {
        // Each change is one step, so that a thread that panicked left it whole.
        self.leaders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of the topic.
async fn metadata(connection: &mut Connection) -> Result<MetadataResponse, Error> {
    let topic = MetadataRequestTopic::default().with_name(Some(StrBytes::from_static_str(TOPIC).into()));
    let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
    // The first version with the ids of topics.
    connection.call(10, &request, REQUEST).await
}

/// The id of the topic, if there is one.
fn id(metadata: &MetadataResponse) -> Option<u128> {
    metadata.topics.first().map(|topic| topic.topic_id.as_u128()).filter(|id| *id > 0)
}

/// The leaders' addresses in the order of the partitions, or the code that is told instead.
fn leaders(metadata: &MetadataResponse) -> Result<Vec<Option<String>>, i16> {
    let Some(topic) = metadata.topics.first() else { return Err(-1) };
    if topic.error_code != 0 {
        return Err(topic.error_code);
    }
    let mut leaders = vec![None; topic.partitions.len()];
    for partition in &topic.partitions {
        let leader = metadata.brokers.iter().find(|broker| broker.node_id == partition.leader_id);
        let place = usize::try_from(partition.partition_index).ok().and_then(|at| leaders.get_mut(at));
        // Another number than their count would be no partition of a topic.
        *place.ok_or(-1i16)? = leader.map(|broker| address(&broker.host, broker.port));
    }
    Ok(leaders)
}

fn address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
