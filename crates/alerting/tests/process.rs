//! The process `weir-alerting` over a log and a storage on the network: a rule that is handed over fires, and a kill in between loses and
//! doubles nothing.

#[path = "../../runtime/tests/support/process.rs"]
#[allow(dead_code, reason = "shared with the tests of other components, of which each uses a part")]
mod process;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use model::{Labels, Sample};
use prometheus::Registry;
use queue::Log;
use queue::payload::Encoder;
use runtime::{Component, Shutdown, ShutdownTrigger, Token, clock};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use process::Process;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    queue: queue::Args,
    #[command(flatten)]
    storage: storage::Args,
}

/// What alerting needs, in this process.
struct Surroundings {
    log: Arc<dyn Log>,
    kafka: String,
    storage_url: String,
    sink_url: String,
    sink: mpsc::Receiver<Value>,
    parts: Vec<(ShutdownTrigger, Component)>,
    servers: Vec<tokio::task::JoinHandle<()>>,
}

async fn serve(router: Router, servers: &mut Vec<tokio::task::JoinHandle<()>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    servers.push(tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") }));
    url
}

impl Surroundings {
    async fn new(dir: &Path, token: &Token) -> Self {
        let args = <Arguments as clap::Parser>::parse_from(["x", "--kafka", "127.0.0.1:0", "--queue-partitions", "1"]);
        let (mut parts, mut servers, registry) = (Vec::new(), Vec::new(), Registry::new());
        let (trigger, shutdown) = Shutdown::new();
        let queue_args = queue::Args { dir: dir.join("queue"), token: Some(token.clone()), ..args.queue };
        let queue = queue::start(queue_args, queue::Deps {}, &registry, shutdown).await.expect("a log");
        let (log, kafka) = (queue.log, queue.kafka.expect("served").to_string());
        parts.push((trigger, queue.component));
        let (trigger, shutdown) = Shutdown::new();
        let storage_args = storage::Args { dir: dir.join("storage"), ..args.storage };
        let storage = storage::start(storage_args, storage::Deps { log: log.clone() }, &registry, shutdown).await;
        let storage = storage.expect("storage");
        let node = storage::serve::router(storage.node(), Some(token.clone()), &registry).expect("routes");
        let storage_url = serve(node, &mut servers).await;
        parts.push((trigger, storage.component));
        let (sender, sink) = mpsc::channel(64);
        let receive = move |Json(payload): Json<Value>| {
            let sender = sender.clone();
            async move { sender.send(payload).await.expect("the test listens") }
        };
        let sink_url = serve(Router::new().route("/hook", post(receive)), &mut servers).await;
        Surroundings { log, kafka, storage_url, sink_url, sink, parts, servers }
    }

    async fn write(&self, v: f64) {
        let labels = Labels::new(&[("__name__", "up"), ("job", "a")]).expect("valid");
        let now_ms = clock::now_ms();
        let mut encoder = Encoder::new();
        encoder.push(labels.as_ref(), &[Sample { t: now_ms, v }]);
        self.log.append(0, encoder.finish(), now_ms).await.expect("acknowledged");
    }

    async fn status(&mut self) -> String {
        let payload = tokio::time::timeout(PATIENCE, self.sink.recv()).await.expect("in time").expect("a payload");
        payload["status"].as_str().expect("a text").to_owned()
    }

    async fn stop(mut self) {
        self.servers.iter().for_each(tokio::task::JoinHandle::abort);
        while let Some((trigger, component)) = self.parts.pop() {
            trigger.ask();
            tokio::time::timeout(PATIENCE, component.drained).await.expect("in time").expect("drained");
        }
    }
}

/// The process, and a client that has the token.
struct Alerting {
    process: Process,
    http: reqwest::Client,
    token: Token,
}

impl Alerting {
    fn start(dir: &Path, around: &Surroundings, token: &Token) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir-alerting"));
        command.args(["--queue-address", &around.kafka, "--storage-urls", &around.storage_url]);
        command.arg("--data").arg(dir).arg("--token-file").arg(dir.join("token"));
        let http = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
        Alerting { process: Process::start(&mut command), http, token: token.clone() }
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.request(method, format!("{}{path}", self.process.url));
        let request = request.bearer_auth(self.token.secret());
        let answer = request.body(body.to_string()).send().await.expect("answered");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }
}

fn set(sink: &str) -> Value {
    let metadata = |name: &str| json!({"name": name, "namespace": "shop", "uid": format!("uid-{name}")});
    json!({
        "epoch": "e", "generation": 4,
        "rules": [{"generation": 2, "document": {
            "apiVersion": "weir.dev/v1alpha1", "kind": "AlertRule", "metadata": metadata("Down"),
            "spec": {"expr": "up == 0", "channel": "hook"},
        }}],
        "channels": [{"document": {
            "apiVersion": "weir.dev/v1alpha1", "kind": "NotificationChannel", "metadata": metadata("hook"),
            "spec": {"webhook": {"url": format!("{sink}/hook")}},
        }}],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_firing_and_resolving_loses_and_doubles_nothing() {
    rustls::crypto::ring::default_provider().install_default().expect("first in this process");
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("token"), "s3cret\n").expect("written");
    let token = Token::read(&dir.path().join("token")).expect("read");
    let mut around = Surroundings::new(dir.path(), &token).await;
    let alerting = Alerting::start(dir.path(), &around, &token);
    let path = "/api/v1/rulesets/kubernetes";
    let (status, answer) = alerting.call(reqwest::Method::PUT, path, &set(&around.sink_url)).await;
    assert_eq!((status, &answer["refused"]), (200, &json!({})), "{answer}");
    around.write(0.0).await;
    assert_eq!(around.status().await, "firing");
    let delivered = async {
        while alerting.call(reqwest::Method::GET, "/api/v1/notifications", &Value::Null).await.1["data"]["outbox"]["size"]
            != 0
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, delivered).await.expect("written down in time");
    alerting.process.kill();
    // What happens while nothing runs is seen by the next start, from its own database and the log.
    around.write(1.0).await;
    let alerting = Alerting::start(dir.path(), &around, &token);
    assert_eq!(around.status().await, "resolved");
    let states = alerting.call(reqwest::Method::GET, &format!("{path}/states"), &Value::Null).await.1;
    assert_eq!(states["held"], json!({"epoch": "e", "generation": 4, "hasSecrets": true}));
    assert_eq!((&states["states"][0]["uid"], &states["states"][0]["generation"]), (&json!("uid-Down"), &json!(2)));
    around.write(0.0).await;
    assert_eq!(around.status().await, "firing", "and nothing came twice before");
    let refused = alerting.http.get(format!("{}/api/v1/alerts", alerting.process.url)).send().await.expect("answered");
    assert_eq!(refused.status(), 401);
    alerting.process.kill();
    around.stop().await;
}
