//! Reads the log, one task a partition, and hands the records to the engine in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use queue::{Lag, Log, Record};
use runtime::{Backoff, Shutdown, clock};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Error;
use crate::engine::Message;
use crate::metrics::Metrics;

/// Bytes of one fetch: large enough that a backlog is read at the speed of the disk, small enough that eight of them waiting for
/// the engine are little memory.
const FETCH_BYTES: usize = 1 << 20;
/// How long a fetch waits for a record; only how often an idle partition asks.
const FETCH_WAIT: Duration = Duration::from_secs(5);

/// Where reading begins: at the position that was committed, as far as the log still has it; the first time ever at the log's end.
pub(crate) async fn begin(
    log: &dyn Log,
    partition: u32,
    committed: Option<i64>,
    metrics: &Metrics,
) -> Result<i64, Error> {
    let bounds = log.bounds(partition).await?;
    let Some(committed) = committed else { return Ok(bounds.end) };
    if committed < bounds.start {
        metrics.records_lost.inc_by((bounds.start - committed).unsigned_abs());
        tracing::warn!(partition, from = committed, to = bounds.start, "records are gone that alerting has not read");
    }
    Ok(committed.clamp(bounds.start, bounds.end))
}

/// What reading a partition needs.
#[derive(Clone)]
pub(crate) struct Consumer {
    log: Arc<dyn Log>,
    engine: mpsc::Sender<Message>,
    metrics: Metrics,
    lag: Arc<Lag>,
}

impl Consumer {
    pub(crate) fn new(log: &Arc<dyn Log>, engine: &mpsc::Sender<Message>, metrics: &Metrics, lag: &Arc<Lag>) -> Self {
        Consumer { log: Arc::clone(log), engine: engine.clone(), metrics: metrics.clone(), lag: Arc::clone(lag) }
    }

    /// Begins to read partitions, each from its offset.
    pub(crate) fn spawn(
        self,
        positions: &BTreeMap<u32, i64>,
        tasks: &mut JoinSet<Result<(), Error>>,
        shutdown: &Shutdown,
    ) {
        for (partition, from) in positions {
            tasks.spawn(consume(self.clone(), *partition, *from, shutdown.clone()));
        }
    }
}

/// Reads a partition until it is asked to stop.
async fn consume(consumer: Consumer, partition: u32, mut next: i64, mut shutdown: Shutdown) -> Result<(), Error> {
    let Consumer { log, engine, metrics, lag } = consumer;
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10), u64::from(partition));
    loop {
        let fetched = tokio::select! {
            () = shutdown.asked() => return Ok(()),
            fetched = log.fetch(partition, next, FETCH_BYTES, FETCH_WAIT) => fetched,
        };
        match fetched {
            Ok(records) => {
                backoff.reset();
                lag.fetched(partition, &records);
                next = records.last().map_or(next, |last: &Record| last.offset + 1);
                if !records.is_empty() && engine.send(Message::Records { partition, records }).await.is_err() {
                    return Err(Error::Stopped("the engine ended"));
                }
            }
            Err(queue::Error::OutOfRange { .. }) => {
                next = begin(log.as_ref(), partition, Some(next), &metrics).await?;
                lag.moved(partition, next);
            }
            Err(e) if e.kind().is_retryable() && !matches!(e, queue::Error::Poisoned(_)) => {
                lag.failed(partition, clock::now_ms());
                tracing::warn!(partition, error = %e, "reading the log");
                let pause = backoff.pause();
                tokio::select! {
                    () = shutdown.asked() => return Ok(()),
                    () = tokio::time::sleep(pause) => {}
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
}
