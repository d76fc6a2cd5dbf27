//! A log and a storage in memory, and a receiver of webhooks.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use model::{
    Cardinality, CardinalityRequest, ExemplarsRequest, Labels, LabelsRequest, Listing, Metadata, Positions, Sample,
    SelectRequest, SeriesExemplars, SeriesSet, SeriesSource, SourceError,
};
use queue::payload::Encoder;
use queue::{Bounds, BoxFuture, Error, Log, Record};
use runtime::{Component, Shutdown, ShutdownTrigger, Token, clock};
use serde_json::Value;
use storage::Reader;
use tokio::sync::{mpsc, watch};
use tower::ServiceExt as _;
use tsdb::Head;

use crate::Args;
use crate::component::{Deps, start_paced};
use crate::delivery::Pace;

/// How long a test waits for what must come; only a broken one waits so long.
const PATIENCE: Duration = Duration::from_secs(180);
pub(super) const CHANNEL: &str = "---\napiVersion: weir.dev/v1alpha1\nkind: NotificationChannel\nmetadata: {name: hook}\nspec: {webhook: {url: 'http://SINK/hook'}}\n";

pub(super) fn rule(name: &str, expr: &str, more: &str) -> String {
    format!(
        "---\napiVersion: weir.dev/v1alpha1\nkind: AlertRule\nmetadata: {{name: {name}}}\nspec: {{expr: '{expr}', channel: hook{more}}}\n"
    )
}

/// A log with one partition, in memory.
struct MemoryLog {
    records: Mutex<Vec<Record>>,
    end: watch::Sender<i64>,
}

impl Log for MemoryLog {
    fn partitions(&self) -> u32 {
        1
    }

    fn id(&self) -> Option<u128> {
        None
    }

    fn append(&self, _: u32, payload: Bytes, timestamp_ms: i64) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(async move {
            let mut records = self.records.lock().expect("not poisoned");
            let offset = records.len() as i64;
            records.push(Record { offset, timestamp_ms, payload });
            self.end.send_replace(offset + 1);
            Ok(offset)
        })
    }

    fn fetch(&self, _: u32, from: i64, _: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Record>, Error>> {
        Box::pin(async move {
            let mut end = self.end.subscribe();
            let _ = tokio::time::timeout(wait, end.wait_for(|end| *end > from)).await;
            Ok(self.records.lock().expect("not poisoned")[from as usize..].to_vec())
        })
    }

    fn bounds(&self, _: u32) -> BoxFuture<'_, Result<Bounds, Error>> {
        Box::pin(async move { Ok(Bounds { start: 0, end: *self.end.borrow() }) })
    }

    fn known_end(&self, _: u32) -> i64 {
        *self.end.borrow()
    }

    fn commit(&self, _: &str, _: u32, _: i64) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    fn committed(&self, _: &str, _: u32) -> BoxFuture<'_, Result<Option<i64>, Error>> {
        Box::pin(async { Ok(None) })
    }
}

/// A storage that has every sample at once, and says so unless it is held.
#[derive(Default)]
struct MemoryReader(Head, watch::Sender<bool>);

impl SeriesSource for MemoryReader {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        self.0.select(request)
    }
    fn label_names(&self, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.0.label_names(request)
    }
    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.0.label_values(name, request)
    }
    fn metadata(&self, family: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        self.0.metadata(family)
    }
}

impl Reader for MemoryReader {
    fn caught_up(&self, _: Duration) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async {
            let _ = self.1.subscribe().wait_for(|held| !held).await;
            Ok(())
        })
    }

    fn reached<'a>(&'a self, _: &'a Positions, timeout: Duration) -> BoxFuture<'a, Result<(), SourceError>> {
        self.caught_up(timeout)
    }

    fn backlog(&self) -> u64 {
        0
    }

    /// Alerting does not ask for it.
    fn cardinality(&self, _: &CardinalityRequest) -> Result<Cardinality, SourceError> {
        Ok(Cardinality::default())
    }

    /// It keeps none, and alerting asks for none.
    fn exemplars(&self, _: &ExemplarsRequest) -> Result<Listing<SeriesExemplars>, SourceError> {
        Ok(Vec::new().into())
    }
}

/// Statuses that the receiver answers with, in turn; then 200.
type Answers = Arc<Mutex<VecDeque<u16>>>;

async fn receive(
    State((answers, sink)): State<(Answers, mpsc::Sender<Value>)>,
    Json(payload): Json<Value>,
) -> StatusCode {
    let status = answers.lock().expect("not poisoned").pop_front().unwrap_or(200);
    // A test that has ended does not look any more.
    let _ = sink.send(payload).await;
    StatusCode::from_u16(status).expect("a status")
}

/// The component with all that it needs.
pub(super) struct Rig {
    dir: tempfile::TempDir,
    log: Arc<MemoryLog>,
    reader: Arc<MemoryReader>,
    answers: Answers,
    address: String,
    receiver: tokio::task::JoinHandle<()>,
    running: Option<(ShutdownTrigger, Component)>,
    registry: prometheus::Registry,
    /// What callers must show, and what [`Rig`] shows.
    pub(super) token: Option<Token>,
    /// What the receiver got.
    pub(super) sink: mpsc::Receiver<Value>,
    /// So that no two samples have the same time.
    last_ms: i64,
}

impl Rig {
    pub(super) async fn new(rules: &str) -> Self {
        // Another test of this process may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (sender, sink) = mpsc::channel(20_000);
        let answers = Answers::default();
        let router = Router::new().route("/hook", post(receive)).with_state((Arc::clone(&answers), sender));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address").to_string();
        let receiver = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        let mut rig = Rig {
            dir: tempfile::tempdir().expect("a folder"),
            log: Arc::new(MemoryLog { records: Mutex::default(), end: watch::channel(0).0 }),
            reader: Arc::default(),
            answers,
            address,
            receiver,
            running: None,
            registry: prometheus::Registry::new(),
            token: None,
            sink,
            last_ms: 0,
        };
        rig.rules(&format!("{rules}{CHANNEL}"));
        rig.start().await;
        rig
    }

    fn rules_path(&self) -> PathBuf {
        self.dir.path().join("rules.yaml")
    }

    /// Writes the rule file.
    pub(super) fn rules(&self, text: &str) {
        // Whole at once, whenever it is looked at.
        let new = self.dir.path().join("rules.new");
        std::fs::write(&new, text.replace("SINK", &self.address)).expect("written");
        std::fs::rename(new, self.rules_path()).expect("renamed");
    }

    pub(super) async fn start(&mut self) {
        let args = Args {
            rules: Some(self.rules_path()),
            alerting_external_url: "http://weir.example".to_owned(),
            alerting_interval: Duration::from_secs(15),
            alerting_window_max: Duration::from_secs(3600),
            alerting_window_bytes: Some(64 << 20),
            memory: Default::default(),
            alerting_deliveries_max: 4,
            dir: self.dir.path().join("data/alerting"),
            features: promql::Features::default(),
            seed: 1,
        };
        let deps = Deps {
            log: Arc::clone(&self.log) as Arc<dyn Log>,
            reader: Arc::clone(&self.reader) as Arc<dyn Reader>,
            token: self.token.clone(),
            open: false,
        };
        let (trigger, shutdown) = Shutdown::new();
        let pace = Pace {
            first: Duration::from_millis(2),
            most: Duration::from_millis(10),
            horizon: Duration::from_secs(3600),
        };
        self.registry = prometheus::Registry::new();
        let started = start_paced(args, deps, &self.registry, shutdown, pace).await.expect("started");
        self.running = Some((trigger, started.component));
    }

    pub(super) async fn stop(&mut self) {
        let (trigger, component) = self.running.take().expect("running");
        trigger.ask();
        tokio::time::timeout(PATIENCE, component.drained).await.expect("drains in time").expect("drained");
    }

    /// What the receiver answers with next, before it answers 200 again.
    pub(super) fn answers(&self, statuses: &[u16]) {
        *self.answers.lock().expect("not poisoned") = statuses.iter().copied().collect();
    }

    /// A sample of `up{job=…}` of now.
    pub(super) async fn write(&mut self, job: &str, v: f64) {
        self.last_ms = clock::now_ms().max(self.last_ms + 1);
        let labels = Labels::new(&[("__name__", "up"), ("job", job)]).expect("valid");
        let samples = [Sample { t: self.last_ms, v }];
        let mut encoder = Encoder::new();
        encoder.push(labels.as_ref(), &samples);
        self.reader.0.append(labels.as_ref(), &samples);
        self.log.append(0, encoder.finish(), self.last_ms).await.expect("appended");
    }

    /// Holds the engine from the next time that it waits for storage, or lets it go.
    pub(super) fn hold(&self, held: bool) {
        self.reader.1.send_replace(held);
    }

    /// Whether the engine waits for storage.
    pub(super) fn is_held(&self) -> bool {
        self.reader.1.receiver_count() > 0
    }

    /// Asks for a reload, from another task.
    pub(super) async fn reload_of(router: Router) -> u16 {
        let request = Request::builder().method("POST").uri("/-/reload");
        let request = request.body(axum::body::Body::empty()).expect("a request");
        router.oneshot(request).await.expect("answered").status().as_u16()
    }

    /// A record without samples, as of this time.
    pub(super) async fn append(&self, timestamp_ms: i64) {
        self.log.append(0, Encoder::new().finish(), timestamp_ms).await.expect("appended");
    }

    /// The next payload that the receiver got.
    pub(super) async fn payload(&mut self) -> Value {
        tokio::time::timeout(PATIENCE, self.sink.recv()).await.expect("a payload in time").expect("a payload")
    }

    /// The routes, to be asked from another task.
    pub(super) fn router(&self) -> Router {
        self.running.as_ref().expect("running").1.router.clone()
    }

    /// Sends a request; its answer must be JSON.
    pub(super) async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, text) = self.send(method, path, body).await;
        (status, serde_json::from_str(&text).expect("JSON"))
    }

    pub(super) async fn send(&self, method: &str, path: &str, body: String) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = &self.token {
            request = request.header("authorization", token.header());
        }
        let request = request.body(axum::body::Body::from(body)).expect("a request");
        let response = self.router().oneshot(request).await.expect("answered");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    /// The address of the receiver.
    pub(super) fn sink_url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Whether a text is in a file of the database.
    pub(super) fn is_stored(&self, text: &str) -> bool {
        let files = std::fs::read_dir(self.dir.path().join("data/alerting")).expect("a folder");
        let mut contents = files.map(|file| std::fs::read(file.expect("a file").path()).expect("read"));
        contents.any(|content| content.windows(text.len()).any(|window| window == text.as_bytes()))
    }

    /// The value of a gauge.
    pub(super) fn gauge(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name).unwrap_or_else(|| panic!("no {name}"));
        family.get_metric()[0].get_gauge().get_value()
    }

    /// The deliveries of a channel by outcome.
    pub(super) fn deliveries(&self, channel: &str) -> Vec<(String, f64)> {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == "weir_alerting_deliveries_total").expect("registered");
        let of = family.get_metric().iter().filter(|m| m.get_label()[0].value() == channel);
        of.map(|m| (m.get_label()[1].value().to_owned(), m.get_counter().get_value())).collect()
    }

    /// The value of a counter.
    pub(super) fn counter(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name).unwrap_or_else(|| panic!("no {name}"));
        family.get_metric().iter().map(|m| m.get_counter().get_value()).sum()
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        self.call("GET", path, &Value::Null).await.1
    }

    pub(super) async fn reload(&self) -> (u16, Value) {
        self.call("POST", "/-/reload", &Value::Null).await
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}
