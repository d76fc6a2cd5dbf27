//! Accepts connections and answers their requests, one after the other on each connection, as the protocol asks for.
//!
//! Every bound is here: connections, the size of a frame before it is allocated, the bytes of all requests and of all answers in flight,
//! the time for a request to arrive and for an answer to be taken. The price of answering in order: a client that wants to fetch while
//! its produce waits for the disk opens another connection.

mod about;
mod connection;
mod fetch;
mod offsets;
mod produce;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use runtime::metrics::register_bounds;
use runtime::{Shutdown, Token};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::TOPIC;
use super::frame::Memory;
use super::metrics::Metrics;
use crate::Error;
use crate::local::LocalLog;
use crate::partition::Partition;

/// Connections served at once; more wait to be accepted. Weir's own clients have three for each partition that they use.
const CONNECTIONS_MAX: usize = 1024;
/// Bytes of the requests in flight, and again of the answers: eight of the largest.
const IN_FLIGHT_BYTES_MAX: usize = 128 << 20;
/// Time for requests in flight to end once the process is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, mostly for too many open files: others close some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the log of this process.
pub(crate) struct Server {
    log: Arc<LocalLog>,
    /// What clients have to know; `None` lets everyone in.
    token: Option<Token>,
    /// Where clients are told to connect; `None` for the address at which they arrived.
    advertised: Option<(String, u16)>,
    requests: Memory,
    answers: Memory,
    metrics: Metrics,
}

impl Server {
    pub(crate) fn new(
        log: Arc<LocalLog>,
        token: Option<Token>,
        advertised: Option<(String, u16)>,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let bounds = [
            (
                "weir_queue_kafka_connections_max",
                "Connections of the Kafka protocol that are served at once; more wait.",
                CONNECTIONS_MAX as u64,
            ),
            (
                "weir_queue_kafka_inflight_bytes_max",
                "Bytes of requests of the Kafka protocol that may be in flight, and again of answers; more wait.",
                IN_FLIGHT_BYTES_MAX as u64,
            ),
        ];
        let metrics = register_bounds(registry, &bounds).and_then(|()| Metrics::new(registry));
        let metrics = metrics.map_err(|e| Error::Invalid(e.to_string()))?;
        let memory = || Memory::new(IN_FLIGHT_BYTES_MAX, metrics.memory_full.clone());
        Ok(Server { log, token, advertised, requests: memory(), answers: memory(), metrics })
    }

    /// Serves until the shutdown is asked for and the requests in flight have ended, or the time for that is over.
    pub(crate) async fn serve(self, listener: TcpListener, mut shutdown: Shutdown) {
        let server = Arc::new(self);
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            if slots.available_permits() == 0 {
                server.metrics.connections_full.inc();
            }
            let accepted = tokio::select! {
                () = shutdown.asked() => break,
                accepted = accept(&listener, &slots) => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, peer, slot)) => {
                    connections.spawn(server.clone().connection(stream, peer, shutdown.clone(), slot));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("requests of the Kafka protocol were still in flight after {DRAIN:?} and are cut off");
        }
    }

    async fn connection(
        self: Arc<Self>,
        mut stream: TcpStream,
        peer: SocketAddr,
        shutdown: Shutdown,
        _slot: OwnedSemaphorePermit,
    ) {
        self.metrics.connections.inc();
        // Counted before the peer sees the end.
        if let Err(why) = connection::Connection::new(&self, &stream).run(&mut stream, shutdown).await {
            self.metrics.closed(why);
            tracing::debug!(%peer, ?why, "closed a connection of the Kafka protocol");
        }
        self.metrics.connections.dec();
    }
}

/// A partition of the topic, if it is the right topic and there is such a one.
fn partition<'a>(log: &'a LocalLog, topic: &str, index: i32) -> Option<&'a Arc<Partition>> {
    usize::try_from(index).ok().and_then(|n| log.partitions.get(n)).filter(|_| topic == TOPIC)
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, slot))
}

#[cfg(test)]
mod tests;
