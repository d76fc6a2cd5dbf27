//! The component: its flags, its start, and how it ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::Budget;
use prometheus::Registry;
use runtime::metrics::{Disk, register_bounds, register_disk};
use runtime::{Component, Shutdown, ShutdownTrigger, Token, listener};
use tokio::task::JoinHandle;

use crate::kafka::Server;
use crate::local::LocalLog;
use crate::metrics::Metrics;
use crate::{Error, Log, groups, local, partition, producers, status};

/// How often retention runs and commits are written.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// Configuration of the log.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Where the log lies; set by the program that starts it.
    #[arg(skip)]
    pub dir: PathBuf,

    /// Number of partitions of a new log; one that exists keeps its number
    #[arg(long, env = "WEIR_QUEUE_PARTITIONS", default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub queue_partitions: u32,

    /// Size of a segment file, after which a new one begins
    #[arg(long, env = "WEIR_QUEUE_SEGMENT_BYTES", default_value_t = 64 << 20, value_name = "BYTES")]
    pub queue_segment_bytes: u64,

    /// How long records are kept after every consumer has read them, such as 6h
    #[arg(long, env = "WEIR_QUEUE_RETENTION", default_value = "6h", value_name = "DURATION", value_parser = parse_duration)]
    pub queue_retention: Duration,

    /// Size of the whole log above which the oldest records that every consumer has read are removed; at four times
    /// this size, unread ones are removed too
    #[arg(long, env = "WEIR_QUEUE_RETENTION_BYTES", default_value_t = 4 << 30, value_name = "BYTES")]
    pub queue_retention_bytes: u64,

    /// Address on which the log is also served by the Kafka protocol, as the topic weir; port 0 takes one that is free
    #[arg(long, env = "WEIR_KAFKA", value_name = "HOST:PORT")]
    pub kafka: Option<String>,

    /// Where clients of the Kafka protocol are told to connect; without it the address at which they arrived
    #[arg(long, env = "WEIR_KAFKA_ADVERTISE", value_name = "HOST:PORT", value_parser = parse_address)]
    pub kafka_advertise: Option<(String, u16)>,

    /// Memory for records of the log, of which the newest ones get a part; without a bound unless the program that starts it gives one.
    #[arg(skip)]
    pub memory: Budget,

    /// What clients of the Kafka protocol have to know as password; set by the program that starts the log
    #[arg(skip)]
    pub token: Option<Token>,

    /// Consumers without whose commits nothing is removed. Of several replicas of storage each is one: storage-0,storage-1,alerting
    #[arg(
        long = "queue-holding-groups",
        env = "WEIR_QUEUE_HOLDING_GROUPS",
        default_value = "storage,alerting",
        value_name = "GROUP,…",
        value_delimiter = ',',
        value_parser = parse_group
    )]
    pub holding_groups: Vec<String>,
}

/// What the log needs of others: nothing.
#[derive(Debug, Default)]
pub struct Deps {}

/// A started log.
pub struct Started {
    /// Its routes and its end.
    pub component: Component,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Where the Kafka protocol is served, if it is.
    pub kafka: Option<SocketAddr>,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let ms = model::time::parse_duration_ms(text).map_err(|e| e.to_string())?;
    Ok(Duration::from_millis(ms.unsigned_abs()))
}

fn parse_group(text: &str) -> Result<String, String> {
    // One that could never commit would hold everything for ever.
    let is_name = !text.is_empty() && text.len() <= 255 && !text.chars().any(char::is_whitespace);
    if is_name { Ok(text.to_owned()) } else { Err("not the name of a group".to_owned()) }
}

fn parse_address(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("not HOST:PORT")?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or("the port is not a number from 1 to 65535")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() { Err("the host is empty".to_owned()) } else { Ok((host.to_owned(), port)) }
}

/// Opens or creates the log in `args.dir`, cuts a torn tail, and starts a writer a partition.
///
/// Fails where another process has the directory open, or the log is damaged. `drained` resolves with an error as soon
/// as a failed write has stopped a partition.
pub async fn start(args: Args, _deps: Deps, registry: &Registry, shutdown: Shutdown) -> Result<Started, Error> {
    let metrics = Metrics::new(registry).map_err(|e| Error::Invalid(e.to_string()))?;
    let opened = {
        let (args, metrics) = (args.clone(), metrics.clone());
        tokio::task::spawn_blocking(move || LocalLog::open(&args, metrics)).await
    };
    let (log, writers) = opened.map_err(|e| Error::Invalid(format!("opening the log: {e}")))??;
    let log = Arc::new(log);
    let kafka = match register(registry, &args, log.partitions()) {
        Ok(()) => serve_kafka(&log, &args, registry).await,
        Err(error) => Err(Error::Invalid(error.to_string())),
    };
    let kafka = match kafka {
        Ok(kafka) => kafka,
        Err(error) => {
            log.close();
            return Err(error);
        }
    };
    let address = kafka.as_ref().map(|kafka| kafka.address);
    let task = tokio::spawn(run(log.clone(), args, metrics, writers, kafka, shutdown));
    let drained = Box::pin(async move { Ok(task.await??) });
    let component = Component { name: "queue", router: status::router(log.clone()), drained };
    Ok(Started { component, log, kafka: address })
}

/// Registers what is asked for at each reading of the metrics, and the bounds.
fn register(registry: &Registry, args: &Args, partitions: u32) -> Result<(), prometheus::Error> {
    let names = Disk { free: "weir_queue_disk_free_bytes", size: "weir_queue_disk_size_bytes" };
    register_disk(registry, names, &args.dir)?;
    register_bounds(
        registry,
        &[
            (
                "weir_queue_disk_bytes_max",
                "Bound of weir_queue_disk_bytes, of each partition; above it, what a consumer has not read is removed too.",
                local::share(args, partitions).saturating_mul(local::HARD_LIMIT),
            ),
            (
                "weir_queue_waiting_appends_max",
                "Appends that may wait for the writer of a partition; further ones are refused.",
                partition::WAITING_MAX as u64,
            ),
            (
                "weir_queue_waiting_bytes_max",
                "Bytes that may wait for the writer of a partition; further appends are refused.",
                partition::WAITING_BYTES_MAX as u64,
            ),
            (
                "weir_queue_record_bytes_max",
                "Size of a record above which it is refused.",
                partition::RECORD_BYTES_MAX as u64,
            ),
            (
                "weir_queue_groups_max",
                "Consumer groups that may be known; a commit of a further one is refused.",
                groups::GROUPS_MAX as u64,
            ),
            (
                "weir_queue_producers_max",
                "Producers whose batches are remembered, of each partition; beyond it others are forgotten.",
                producers::PRODUCERS_MAX as u64,
            ),
        ],
    )
}

/// The server of the Kafka protocol, which runs until it is asked to stop.
struct Kafka {
    address: SocketAddr,
    trigger: ShutdownTrigger,
    served: JoinHandle<()>,
}

async fn serve_kafka(log: &Arc<LocalLog>, args: &Args, registry: &Registry) -> Result<Option<Kafka>, Error> {
    let Some(wanted) = &args.kafka else { return Ok(None) };
    let server = Server::new(log.clone(), args.token.clone(), args.kafka_advertise.clone(), registry)?;
    let (listener, address) = listener::bind(wanted).await.map_err(Error::Invalid)?;
    if args.token.is_none() && !address.ip().is_loopback() {
        tracing::warn!("whoever reaches {address} can read and write the log: there is no token");
    }
    tracing::info!("the Kafka protocol is served at {address}");
    let (trigger, shutdown) = Shutdown::new();
    Ok(Some(Kafka { address, trigger, served: tokio::spawn(server.serve(listener, shutdown)) }))
}

/// Keeps house until the log is to stop or has stopped, then drains.
async fn run(
    log: Arc<LocalLog>,
    args: Args,
    metrics: Metrics,
    writers: Vec<std::thread::JoinHandle<()>>,
    kafka: Option<Kafka>,
    mut shutdown: Shutdown,
) -> Result<(), Error> {
    let mut stopped = metrics.stopped.subscribe();
    let mut failure = None;
    loop {
        tokio::select! {
            () = shutdown.asked() => break,
            Ok(error) = stopped.wait_for(Option::is_some) => { failure = error.clone(); break }
            () = tokio::time::sleep(HOUSEKEEPING) => {}
        }
        let (log, args, now_ms) = (log.clone(), args.clone(), runtime::clock::now_ms());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || log.keep_house(&args, now_ms)).await {
            tracing::error!(%error, "housekeeping of the log failed; it is tried again");
        }
    }
    if let Some(Kafka { trigger, served, .. }) = kafka {
        // Before the partitions are closed: what waits for them is answered.
        trigger.ask();
        let _ = served.await.inspect_err(|error| tracing::error!(%error, "the server of the Kafka protocol failed"));
    }
    log.close();
    let ended = tokio::task::spawn_blocking(move || {
        for writer in writers {
            writer.join().map_err(|_| Error::Poisoned("writer panicked".to_owned()))?;
        }
        log.groups.save()
    });
    let ended = ended.await.unwrap_or_else(|e| Err(Error::Poisoned(e.to_string())));
    failure.map_or(ended, Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_advertise_has_host_and_port() {
        let check = |text: &str, expect: Option<(&str, u16)>| {
            let expect = expect.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(parse_address(text).ok(), expect, "{text}");
        };
        check("weir-queue-0.weir-queue:9092", Some(("weir-queue-0.weir-queue", 9092)));
        check("[::1]:9092", Some(("::1", 9092)));
        check("host", None);
        check("host:0", None);
        check("host:99999", None);
        check(":9092", None);
    }
}
