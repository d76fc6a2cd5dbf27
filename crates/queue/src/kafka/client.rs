//! A [`Log`] over the Kafka protocol: the client of `weir-queue`, or of Apache Kafka and what else speaks its protocol.
//!
//! Each partition has up to three connections, opened when they are needed: one on which its appends travel, one for fetches that wait,
//! one to ask for bounds. So a fetch that waits holds up nothing. The versions of the requests are fixed, to such as every Kafka since
//! 2.5 serves. The price: no incremental fetch sessions, and every partition with its leader on its own connections, where one
//! connection to a broker would do.
//!
//! Nothing is stored twice: batches are numbered and the server knows one that is sent again. Right with Apache Kafka when the
//! topic has `min.insync.replicas` of 2 at least and takes batches of 13 MiB (`max.message.bytes`); appends wait for all in-sync replicas.

mod cluster;
pub(super) mod connection;
mod consume;
mod metrics;
mod producer;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use runtime::{Backoff, Token};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::{Bounds, BoxFuture, Error, Log, Record};
use cluster::Cluster;
use connection::Connection;
use metrics::Metrics;
use producer::Appends;

/// Pauses between attempts to reach a server.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_secs(2);

/// Where the log is, for a component that is its client.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Address of the log: of weir-queue, or of a broker of Apache Kafka with a topic weir
    #[arg(long, env = "WEIR_QUEUE_ADDRESS", value_name = "HOST:PORT")]
    pub queue_address: String,
}

/// How a log is reached.
#[derive(Debug, Clone)]
pub struct Config {
    /// `HOST:PORT` of any server of the log.
    pub address: String,
    /// The password of SASL PLAIN, with the user [`USER`](crate::kafka::USER); without it there is no SASL.
    pub token: Option<Token>,
    /// How long to wait for a log that is not there yet; zero tries once.
    pub patience: Duration,
}

impl Config {
    /// The log of the arguments, for which a component that starts with it waits a minute.
    pub fn new(args: Args, token: Option<Token>) -> Self {
        Config { address: args.queue_address, token, patience: Duration::from_secs(60) }
    }
}

/// The log behind a network.
pub struct Client {
    cluster: Arc<Cluster>,
    appends: Vec<Appends>,
    /// Connections that wait for the next call, a partition each.
    fetches: Vec<Mutex<Option<Connection>>>,
    asks: Vec<Mutex<Option<Connection>>>,
    /// To the coordinator of a group, with its name.
    commits: Mutex<Option<(String, Connection)>>,
    /// Where each partition ended by the last answer about it.
    ends: Vec<AtomicI64>,
    /// The tasks that send appends; they end with the client.
    _senders: JoinSet<()>,
}

impl Client {
    /// Finds the log and its partitions. Fails with [`Error::Remote`] where it cannot be reached in time, refuses the token or has
    /// no topic `weir`.
    pub async fn connect(config: Config, registry: &Registry) -> Result<Self, Error> {
        let metrics = Metrics::new(registry).map_err(|e| Error::Invalid(e.to_string()))?;
        let seed = runtime::clock::now_ms().unsigned_abs();
        let cluster = Arc::new(Cluster::new(config.address, config.token, metrics.clone()));
        let partitions = find(&cluster, config.patience, seed).await?;
        let mut senders = JoinSet::new();
        let appends = (0..partitions).map(|partition| {
            let (appends, sender) = producer::channel(partition, cluster.clone(), metrics.clone(), seed);
            senders.spawn(sender.run());
            appends
        });
        let appends = appends.collect();
        let connections = || (0..partitions).map(|_| Mutex::new(None)).collect();
        let (fetches, asks) = (connections(), connections());
        let ends = (0..partitions).map(|_| AtomicI64::new(0)).collect();
        Ok(Client { cluster, appends, fetches, asks, commits: Mutex::new(None), ends, _senders: senders })
    }

    fn check(&self, partition: u32) -> Result<usize, Error> {
        let known = self.appends.len();
        let at = partition as usize;
        if at < known { Ok(at) } else { Err(Error::Invalid(format!("partition {partition} of a log with {known}"))) }
    }
}

/// The number of partitions, once the log answers.
async fn find(cluster: &Cluster, patience: Duration, seed: u64) -> Result<u32, Error> {
    let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_MOST, seed);
    let mut late = pin!(tokio::time::sleep(patience));
    loop {
        let error = match cluster.refresh().await {
            Ok(partitions) => return Ok(partitions),
            Err(error) => error,
        };
        if backoff.attempts() == 0 && !patience.is_zero() {
            tracing::info!(%error, "waiting for the log");
        }
        tokio::select! {
            biased;
            () = &mut late => return Err(error),
            () = tokio::time::sleep(backoff.pause()) => {}
        }
    }
}

impl Log for Client {
    fn partitions(&self) -> u32 {
        self.appends.len() as u32
    }

    fn id(&self) -> Option<u128> {
        self.cluster.id()
    }

    fn append(&self, partition: u32, payload: Bytes, now_ms: i64) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(async move { self.appends[self.check(partition)?].append(payload, now_ms).await })
    }

    fn fetch(
        &self,
        partition: u32,
        from: i64,
        bytes_max: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Record>, Error>> {
        Box::pin(async move {
            let at = self.check(partition)?;
            match consume::fetch(&self.cluster, &self.fetches[at], partition, from, bytes_max, wait).await? {
                Some((records, end)) => {
                    self.ends[at].store(end, Ordering::Relaxed);
                    Ok(records)
                }
                None => {
                    let Bounds { start, end } = self.bounds(partition).await?;
                    Err(Error::OutOfRange { partition, offset: from, start, end })
                }
            }
        })
    }

    fn bounds(&self, partition: u32) -> BoxFuture<'_, Result<Bounds, Error>> {
        Box::pin(async move {
            let at = self.check(partition)?;
            let bounds = consume::bounds(&self.cluster, &self.asks[at], partition).await?;
            self.ends[at].store(bounds.end, Ordering::Relaxed);
            Ok(bounds)
        })
    }

    fn known_end(&self, partition: u32) -> i64 {
        self.ends.get(partition as usize).map_or(0, |end| end.load(Ordering::Relaxed))
    }

    fn commit(&self, group: &str, partition: u32, offset: i64) -> BoxFuture<'_, Result<(), Error>> {
        let group = group.to_owned();
        Box::pin(async move {
            self.check(partition)?;
            consume::commit(&self.cluster, &self.commits, &group, partition, offset).await
        })
    }

    fn committed(&self, group: &str, partition: u32) -> BoxFuture<'_, Result<Option<i64>, Error>> {
        let group = group.to_owned();
        Box::pin(async move {
            self.check(partition)?;
            consume::committed(&self.cluster, &self.commits, &group, partition).await
        })
    }
}

#[cfg(test)]
mod tests;
