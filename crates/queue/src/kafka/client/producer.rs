//! The appends of one partition: what waits is sent as one batch, one at a time, again and again until it is known to be stored.
//!
//! A batch has the producer's id and a sequence, so that the server knows one that it has. One at a time, since the next batch can
//! only be numbered once it is known that the one before is stored; what gathers meanwhile makes the next one larger.
//! The price: the time of the network is part of the pace, as that of the disk is in process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest};
use kafka_protocol::protocol::StrBytes;
use runtime::Backoff;
use tokio::sync::{mpsc, oneshot};

use super::cluster::Cluster;
use super::connection::{Connection, REQUEST};
use super::metrics::Metrics;
use super::{PAUSE_FIRST, PAUSE_MOST};
use crate::batch::{self, Producer};
use crate::kafka::TOPIC;
use crate::partition::{BATCH_BYTES, WAITING_BYTES_MAX, WAITING_MAX};
use crate::producers;
use crate::{Error, RECORD_BYTES_MAX};

/// How long a batch is sent again before its appends fail, not knowing whether it is stored. As long as a restart of the log
/// in a cluster takes, and less than what clients of ingest wait.
const DELIVERY: Duration = Duration::from_secs(25);

/// Appends to one partition.
#[derive(Debug)]
pub(super) struct Appends {
    partition: u32,
    sender: mpsc::Sender<Append>,
    waiting_bytes: Arc<AtomicUsize>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Append {
    payload: Bytes,
    now_ms: i64,
    done: oneshot::Sender<Result<i64, Error>>,
}

/// What sends them.
pub(super) struct Sender {
    partition: u32,
    appends: mpsc::Receiver<Append>,
    waiting_bytes: Arc<AtomicUsize>,
    cluster: Arc<Cluster>,
    metrics: Metrics,
    backoff: Backoff,
    connection: Option<Connection>,
    /// Who this is to the server, and the sequence of the next batch.
    producer: Option<Producer>,
}

/// Why a batch was not stored, as far as is known.
#[derive(Debug)]
enum Failure {
    /// Whether it is stored is not known: it is sent again as it is.
    Unknown(Error),
    /// It is not stored, and is sent again.
    Again(Error),
    /// It is not stored; the server does not know this producer as it is, so it is sent again as a new one.
    Renew(Error),
    /// It is not stored.
    Final(Error),
}

pub(super) fn channel(partition: u32, cluster: Arc<Cluster>, metrics: Metrics, seed: u64) -> (Appends, Sender) {
    let (sender, appends) = mpsc::channel(WAITING_MAX);
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let own = Sender {
        partition,
        appends,
        waiting_bytes: waiting_bytes.clone(),
        cluster,
        metrics: metrics.clone(),
        backoff: Backoff::new(PAUSE_FIRST, PAUSE_MOST, seed ^ u64::from(partition) << 32),
        connection: None,
        producer: None,
    };
    (Appends { partition, sender, waiting_bytes, metrics }, own)
}

impl Appends {
    pub(super) async fn append(&self, payload: Bytes, now_ms: i64) -> Result<i64, Error> {
        let bytes = payload.len();
        if bytes > RECORD_BYTES_MAX {
            self.metrics.rejected("too_large", 1);
            return Err(Error::Invalid(format!("record of {bytes} bytes, at most {RECORD_BYTES_MAX} are taken")));
        }
        let full = |what: String| {
            self.metrics.rejected("waiting", 1);
            Error::Full(format!("{what} wait for partition {}", self.partition))
        };
        let fits = |waiting: usize| (waiting == 0 || waiting + bytes <= WAITING_BYTES_MAX).then_some(waiting + bytes);
        self.waiting_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map_err(|waiting| full(format!("{waiting} bytes")))?;
        let (done, stored) = oneshot::channel();
        self.sender.try_send(Append { payload, now_ms, done }).map_err(|e| {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            match e {
                mpsc::error::TrySendError::Full(_) => full(format!("{WAITING_MAX} appends")),
                mpsc::error::TrySendError::Closed(_) => closed(),
            }
        })?;
        stored.await.unwrap_or_else(|_| Err(closed()))
    }
}

fn closed() -> Error {
    Error::Remote("the client is closed".to_owned())
}

impl Sender {
    /// Sends until nobody can append any more.
    pub(super) async fn run(mut self) {
        let mut group: Vec<Append> = Vec::new();
        while let Some(first) = self.appends.recv().await {
            let mut bytes = first.payload.len();
            group.push(first);
            while bytes < BATCH_BYTES
                && group.len() < WAITING_MAX
                && let Ok(next) = self.appends.try_recv()
            {
                bytes += next.payload.len();
                group.push(next);
            }
            let records: Vec<(i64, Bytes)> = group.iter().map(|a| (a.now_ms, a.payload.clone())).collect();
            let result = self.store(&records).await;
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            for (append, delta) in group.drain(..).zip(0..) {
                // The receiver is gone when the client hung up; the record is in the log all the same.
                let _ = append.done.send(result.clone().map(|base: i64| base + delta));
            }
        }
    }

    /// The offset of the first record, once all are stored.
    async fn store(&mut self, records: &[(i64, Bytes)]) -> Result<i64, Error> {
        let mut last = Error::Remote("no attempt was made in time".to_owned());
        let sent = tokio::time::timeout(DELIVERY, self.send(records, &mut last)).await;
        match &sent {
            Ok(Ok(_)) => {}
            Ok(Err(Error::Full(_))) => self.metrics.rejected("full", records.len()),
            Ok(Err(_)) => self.metrics.rejected("refused", records.len()),
            Err(_) => {
                // Whether its sequence is taken is not known, so that no other batch can have it.
                (self.producer, self.connection) = (None, None);
                self.metrics.rejected("late", records.len());
            }
        }
        sent.unwrap_or(Err(last))
    }

    async fn send(&mut self, records: &[(i64, Bytes)], last: &mut Error) -> Result<i64, Error> {
        let mut unknown = false;
        self.backoff.reset();
        loop {
            let error = match self.attempt(records).await {
                Ok(offset) => return Ok(offset),
                // An attempt before may have stored it all the same, which only the same sequence can tell.
                Err(Failure::Final(error)) if !unknown => return Err(error),
                Err(Failure::Renew(error)) => {
                    self.producer = None;
                    error
                }
                Err(Failure::Unknown(error)) => {
                    unknown = true;
                    error
                }
                Err(Failure::Again(error) | Failure::Final(error)) => error,
            };
            tracing::debug!(partition = self.partition, %error, "a batch is sent again");
            *last = error;
            self.metrics.retries.inc();
            tokio::time::sleep(self.backoff.pause()).await;
        }
    }

    async fn attempt(&mut self, records: &[(i64, Bytes)]) -> Result<i64, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.cluster.leader(self.partition).await.map_err(Failure::Again)?,
        };
        let producer = match self.producer {
            Some(producer) => producer,
            None => *self.producer.insert(new_producer(&mut connection).await.map_err(Failure::Again)?),
        };
        let mut bytes = Vec::new();
        batch::write(&mut bytes, 0, Some(producer), records);
        let partition = PartitionProduceData::default().with_index(self.partition as i32);
        let topic = TopicProduceData::default().with_name(StrBytes::from_static_str(TOPIC).into());
        let topic = topic.with_partition_data(vec![partition.with_records(Some(bytes.into()))]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(REQUEST.as_millis() as i32);
        let request = request.with_topic_data(vec![topic]);
        // Twice the time, since a server may use its own for what it waits for.
        let answer = connection.call(9, &request, REQUEST * 2).await.map_err(Failure::Unknown)?;
        let answer = answer.responses.first().and_then(|topic| topic.partition_responses.first());
        let Some(answer) = answer else { return Err(Failure::Unknown(connection.failed("answers nothing", 0))) };
        if answer.error_code == 0 {
            let sequence = producers::after(producer.sequence, records.len() as i64);
            self.producer = Some(Producer { sequence, ..producer });
            self.connection = Some(connection);
            return Ok(answer.base_offset);
        }
        let reason = answer.error_message.clone().unwrap_or_default();
        let error = connection.failed(&format!("refuses a batch: {reason}"), answer.error_code);
        Err(self.failure(answer.error_code, error, connection))
    }

    /// What a code means for the batch.
    fn failure(&mut self, code: i16, error: Error, connection: Connection) -> Failure {
        let text = error.to_string();
        match ResponseError::try_from_code(code) {
            Some(ResponseError::NotEnoughReplicas | ResponseError::ThrottlingQuotaExceeded) => {
                self.connection = Some(connection);
                Failure::Final(Error::Full(text))
            }
            Some(
                ResponseError::OutOfOrderSequenceNumber
                | ResponseError::UnknownProducerId
                | ResponseError::InvalidProducerEpoch,
            ) => {
                self.connection = Some(connection);
                Failure::Renew(error)
            }
            Some(
                ResponseError::RequestTimedOut
                | ResponseError::NotEnoughReplicasAfterAppend
                | ResponseError::KafkaStorageError
                | ResponseError::UnknownServerError,
            ) => {
                self.cluster.forget(self.partition);
                Failure::Unknown(error)
            }
            Some(code) if code.is_retriable() => {
                self.cluster.forget(self.partition);
                Failure::Again(error)
            }
            _ => {
                self.connection = Some(connection);
                Failure::Final(error)
            }
        }
    }
}

async fn new_producer(connection: &mut Connection) -> Result<Producer, Error> {
    let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(0);
    let answer = connection.call(1, &request, REQUEST).await?;
    if answer.error_code != 0 {
        return Err(connection.failed("gives no producer id", answer.error_code));
    }
    Ok(Producer { id: answer.producer_id.0, epoch: answer.producer_epoch, sequence: 0 })
}
