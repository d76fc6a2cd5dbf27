//! The component as its clients see it: requests to the router, answers, and what then is in the log.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use model::{Exemplar, HistogramSample, Labels, LabelsRef, Metadata, Sample, Samples};
use queue::payload::{Decoder, Visitor};
use queue::{Bounds, BoxFuture, Record};
use runtime::ShutdownTrigger;
use tower::ServiceExt;

use super::*;

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

/// A log in memory.
pub(crate) struct Memory {
    partitions: u32,
    pub(crate) records: Mutex<Vec<(u32, Bytes)>>,
    /// A partition that takes nothing, and why.
    full: Mutex<Option<(u32, queue::Error)>>,
    /// Appends wait until it is opened.
    gate: tokio::sync::watch::Sender<bool>,
}

impl Memory {
    fn new(partitions: u32) -> Arc<Self> {
        let (records, full) = (Mutex::default(), Mutex::default());
        Arc::new(Memory { partitions, records, full, gate: tokio::sync::watch::Sender::new(true) })
    }
}

impl Log for Memory {
    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn id(&self) -> Option<u128> {
        None
    }

    fn append(&self, partition: u32, payload: Bytes, _: i64) -> BoxFuture<'_, Result<i64, queue::Error>> {
        Box::pin(async move {
            let _ = self.gate.subscribe().wait_for(|open| *open).await;
            if let Some((_, error)) = self.full.lock().unwrap().as_ref().filter(|(full, _)| *full == partition) {
                return Err(error.clone());
            }
            let mut records = self.records.lock().unwrap();
            records.push((partition, payload));
            Ok(records.len() as i64 - 1)
        })
    }

    fn fetch(&self, _: u32, _: i64, _: usize, _: Duration) -> BoxFuture<'_, Result<Vec<Record>, queue::Error>> {
        unreachable!("ingest never reads")
    }

    fn bounds(&self, _: u32) -> BoxFuture<'_, Result<Bounds, queue::Error>> {
        unreachable!("ingest never reads")
    }

    fn known_end(&self, _: u32) -> i64 {
        unreachable!("ingest never reads")
    }

    fn commit(&self, _: &str, _: u32, _: i64) -> BoxFuture<'_, Result<(), queue::Error>> {
        unreachable!("ingest never reads")
    }

    fn committed(&self, _: &str, _: u32) -> BoxFuture<'_, Result<Option<i64>, queue::Error>> {
        unreachable!("ingest never reads")
    }
}

/// What records hold.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) series: BTreeMap<String, Vec<Sample>>,
    /// As many as there are floats.
    pub(crate) starts: BTreeMap<String, Vec<i64>>,
    pub(crate) histograms: BTreeMap<String, Vec<HistogramSample>>,
    pub(crate) exemplars: BTreeMap<String, Vec<Exemplar>>,
    pub(crate) metadata: Vec<Metadata>,
    partition: u32,
    partitions: u32,
}

impl Content {
    pub(crate) fn of(records: &[(u32, Bytes)], partitions: u32) -> Self {
        let mut content = Content { partitions, ..Content::default() };
        for (partition, payload) in records {
            content.partition = *partition;
            Decoder::default().decode(payload, &mut content).unwrap();
        }
        content
    }

    pub(crate) fn samples(&self) -> usize {
        self.series.values().map(Vec::len).sum()
    }
}

impl Visitor for Content {
    fn series(&mut self, labels: LabelsRef<'_>, samples: Samples<'_>) {
        assert_eq!(labels.partition(self.partitions), self.partition, "{labels} is on the wrong partition");
        if !samples.floats.is_empty() {
            self.series.entry(labels.to_string()).or_default().extend_from_slice(samples.floats);
            let starts = (0..samples.floats.len()).map(|at| samples.start(at));
            self.starts.entry(labels.to_string()).or_default().extend(starts);
        }
        if !samples.histograms.is_empty() {
            self.histograms.entry(labels.to_string()).or_default().extend_from_slice(samples.histograms);
        }
    }

    fn exemplars(&mut self, labels: LabelsRef<'_>, exemplars: &[Exemplar]) {
        assert_eq!(labels.partition(self.partitions), self.partition, "{labels} is on the wrong partition");
        self.exemplars.entry(labels.to_string()).or_default().extend_from_slice(exemplars);
    }

    fn metadata(&mut self, metadata: &Metadata) {
        self.metadata.push(metadata.clone());
    }
}

/// A started component over a log in memory.
pub(crate) struct Rig {
    pub(crate) log: Arc<Memory>,
    pub(crate) started: Started,
    pub(crate) registry: prometheus::Registry,
    trigger: ShutdownTrigger,
}

impl Rig {
    pub(crate) fn new(change: impl FnOnce(&mut Args)) -> Self {
        let mut args = args::tests::parse(&[]).unwrap();
        change(&mut args);
        let (log, registry) = (Memory::new(4), prometheus::Registry::new());
        let (trigger, shutdown) = Shutdown::new();
        let started = start_at(args, Deps { log: log.clone() }, &registry, shutdown, || NOW_MS).unwrap();
        Rig { log, started, registry, trigger }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> (u16, String) {
        let response = self.respond(request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    pub(crate) async fn respond(&self, request: Request<Body>) -> Response<Body> {
        self.started.component.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> (u16, String) {
        self.send(Request::post(path).body(body.into()).unwrap()).await
    }

    pub(crate) fn content(&self) -> Content {
        Content::of(&self.log.records.lock().unwrap(), self.log.partitions)
    }

    /// The value of a metric with these values of labels, in the order of the labels' names.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect("metric is registered");
        let is = |metric: &&prometheus::proto::Metric| {
            metric.get_label().iter().map(|l| l.value()).eq(labels.iter().copied())
        };
        let metric = family.get_metric().iter().find(is).expect("labels are there");
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }
}

fn many(series: usize) -> String {
    (0..series).map(|n| format!("m{{n=\"{n}\"}} {n}\n")).collect()
}

#[tokio::test]
async fn a_partition_that_refuses_makes_the_answer_a_retryable_failure() {
    let rig = Rig::new(|_| {});
    *rig.log.full.lock().unwrap() = Some((2, queue::Error::Full("no space left".to_owned())));
    let (status, text) = rig.post("/api/v1/import/prometheus", many(100)).await;
    assert_eq!((status, text.as_str()), (429, "not written: log is full: no space left\n"));
    assert_eq!(rig.metric("weir_ingest_samples_total", &["text"]), 0.0);
    assert!(rig.content().samples() < 100);
    *rig.log.full.lock().unwrap() = None;
    assert_eq!(rig.post("/api/v1/import/prometheus", many(100)).await.0, 204);
    assert_eq!(rig.content().series.len(), 100);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_whether_announced_or_not() {
    let rig = Rig::new(|args| args.ingest_body_bytes_max = 1024);
    let announced = Request::post("/metrics").header("content-length", "1025").body(Body::from("{}")).unwrap();
    let (status, text) = rig.send(announced).await;
    assert_eq!(status, 413);
    assert!(text.contains("body of 1025 bytes is larger than the limit of 1024"), "{text}");
    let chunks = (0..3).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 512])));
    let streamed = Body::from_stream(futures_util::stream::iter(chunks));
    assert_eq!(rig.post("/metrics", streamed).await.0, 413);
    assert_eq!(rig.metric("weir_ingest_inflight_bytes", &[]), 0.0);
}

#[tokio::test]
async fn a_body_that_breaks_off_or_stalls_writes_nothing() {
    let rig = Rig::new(|args| args.ingest_body_timeout = Duration::from_millis(1));
    let parts = [Ok(Bytes::from_static(b"a 1\n")), Err(std::io::Error::other("reset"))];
    let (status, text) =
        rig.post("/api/v1/import/prometheus", Body::from_stream(futures_util::stream::iter(parts))).await;
    assert_eq!((status, text.starts_with("the body broke off after 4 bytes")), (400, true), "{text}");
    let never = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
    assert_eq!(rig.post("/api/v1/import/prometheus", Body::from_stream(never)).await.0, 408);
    assert_eq!(rig.content().samples(), 0);
}

#[tokio::test]
async fn beyond_the_bytes_in_flight_a_request_is_told_to_come_again() {
    let rig = Rig::new(|args| args.ingest_inflight_bytes_max = Some(1000));
    let body = many(70);
    assert!(body.len() > 500 && body.len() < 1000);
    rig.log.gate.send_replace(false);
    let first = rig.post("/api/v1/import/prometheus", body.clone());
    tokio::pin!(first);
    // Polled until it waits for the log.
    assert!((&mut first).now_or_never().is_none());
    assert_eq!(rig.metric("weir_ingest_inflight_bytes", &[]), body.len() as f64);
    let request = Request::post("/api/v1/import/prometheus").body(Body::from(body.clone())).unwrap();
    let refused = rig.respond(request).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    assert_eq!(rig.metric("weir_ingest_overloaded_total", &[]), 1.0);
    rig.log.gate.send_replace(true);
    assert_eq!(first.await.0, 204);
    assert_eq!(rig.post("/api/v1/import/prometheus", body).await.0, 204);
}

#[tokio::test]
async fn writes_in_flight_end_before_the_drain_and_new_ones_are_refused() {
    let rig = Rig::new(|_| {});
    rig.log.gate.send_replace(false);
    let first = rig.post("/api/v1/import/prometheus", "a 1\n");
    tokio::pin!(first);
    assert!((&mut first).now_or_never().is_none());
    rig.trigger.ask();
    let (status, text) = rig.post("/api/v1/import/prometheus", "b 1\n").await;
    assert_eq!((status, text.as_str()), (503, "stopping: no new writes are taken\n"));
    assert!(matches!(rig.started.writer.write(&Batch::default()).await, Err(Error::Stopping)));
    let idle = rig.started.writer.idle();
    tokio::pin!(idle);
    assert!((&mut idle).now_or_never().is_none());
    rig.log.gate.send_replace(true);
    assert_eq!(first.await.0, 204);
    idle.await;
}

#[tokio::test]
async fn writer_takes_batches_of_the_process() {
    let rig = Rig::new(|_| {});
    let labels = Labels::new(&[("__name__", "up"), ("job", "weir/ingest")]).unwrap();
    let samples = vec![Sample { t: 1, v: 0.5 }, Sample { t: 0, v: f64::NAN }];
    let metadata =
        Metadata { family: "up".into(), kind: model::MetricType::Gauge, help: "h".into(), unit: String::new() };
    let batch = Batch { series: vec![(labels, samples.clone())], metadata: vec![metadata.clone()] };
    rig.started.writer.write(&batch).await.unwrap();
    let content = rig.content();
    assert_eq!(content.series["up{job=\"weir/ingest\"}"], samples);
    assert_eq!(content.metadata, [metadata]);
    let nameless = Batch { series: vec![(Labels::new(&[("a", "b")]).unwrap(), samples)], metadata: Vec::new() };
    let error = rig.started.writer.write(&nameless).await.unwrap_err();
    assert_eq!(error.to_string(), "series {a=\"b\"}: no metric name");
    assert_eq!(rig.content().samples(), 2);
}

#[tokio::test]
async fn large_writes_become_several_records_none_too_large() {
    let rig = Rig::new(|_| {});
    let labels = Labels::new(&[("__name__", "m")]).unwrap();
    let samples: Vec<Sample> = (0..300_000).map(|t| Sample { t, v: 1.0 / (t as f64 + 0.1) }).collect();
    rig.started.writer.write(&Batch { series: vec![(labels, samples.clone())], metadata: Vec::new() }).await.unwrap();
    let sizes: Vec<usize> = rig.log.records.lock().unwrap().iter().map(|(_, payload)| payload.len()).collect();
    assert!(sizes.len() > 1 && sizes.iter().all(|size| *size < queue::RECORD_BYTES_MAX), "{sizes:?}");
    assert_eq!(rig.content().series["m"], samples);
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_real_log() {
    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: queue::Args,
    }
    let dir = tempfile::tempdir().unwrap();
    let mut args = <Command as clap::Parser>::parse_from(["x"]).args;
    args.dir = dir.path().to_owned();
    let (trigger, shutdown) = Shutdown::new();
    let queue = queue::start(args, queue::Deps {}, &prometheus::Registry::new(), shutdown.clone()).await.unwrap();
    let own = args::tests::parse(&[]).unwrap();
    let deps = Deps { log: queue.log.clone() };
    let started = start(own, deps, &prometheus::Registry::new(), shutdown).await.unwrap();
    let request = Request::post("/api/v1/import/prometheus").body(Body::from(many(100))).unwrap();
    assert_eq!(started.component.router.clone().oneshot(request).await.unwrap().status(), 204);
    let mut records = Vec::new();
    for partition in 0..queue.log.partitions() {
        let fetched = queue.log.fetch(partition, 0, 1 << 20, Duration::ZERO).await.unwrap();
        records.extend(fetched.into_iter().map(|record| (partition, record.payload)));
    }
    assert_eq!(Content::of(&records, queue.log.partitions()).series.len(), 100);
    trigger.ask();
    started.component.drained.await.unwrap();
    drop(queue.log);
    queue.component.drained.await.unwrap();
}

#[tokio::test]
async fn gzip_is_taken_off_within_the_limit() {
    use std::io::Write;
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let rig = Rig::new(|args| args.ingest_body_bytes_max = 10_000);
    let send = |body: Vec<u8>| {
        let request = Request::post("/api/v1/import/prometheus").header("content-encoding", "gzip");
        rig.send(request.body(Body::from(body)).unwrap())
    };
    assert_eq!(send(gzip(&many(100))).await.0, 204);
    assert_eq!(rig.content().samples(), 100);
    assert_eq!(send(gzip(&" ".repeat(10_001))).await.0, 413);
    let (status, text) = send(gzip(&many(100))[..50].to_vec()).await;
    assert_eq!((status, text.starts_with("body is not valid gzip")), (400, true), "{text}");
    let request = Request::post("/metrics").header("content-encoding", "br").body(Body::empty()).unwrap();
    assert_eq!(rig.send(request).await.0, 415);
    assert_eq!(rig.metric("weir_ingest_inflight_bytes", &[]), 0.0);
}
