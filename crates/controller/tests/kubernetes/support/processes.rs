//! The six processes of Weir over a real API server, with a token between them, each at an address that it has again after a restart.

#[path = "../../../../runtime/tests/support/port.rs"]
mod port;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::{PATIENCE, TOKEN, until};
use port::free_port;

/// In the order in which they need each other.
pub(crate) const COMPONENTS: [&str; 6] = ["queue", "storage", "alerting", "query", "ingest", "controller"];

/// The processes, killed when this is dropped.
pub(crate) struct Processes {
    dir: tempfile::TempDir,
    ports: BTreeMap<&'static str, u16>,
    running: BTreeMap<&'static str, Child>,
    http: reqwest::Client,
}

impl Processes {
    /// All that `components` names, ready.
    pub(crate) async fn start(cluster: &Cluster, components: &[&'static str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("token"), TOKEN).expect("written");
        cluster.kubeconfig_of_the_controller(&dir.path().join("kubeconfig"));
        let names = COMPONENTS.iter().chain(&["kafka", "webhook", "controller-2", "webhook-2"]);
        let ports = names.map(|name| (*name, free_port())).collect();
        let http = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
        let mut processes = Processes { dir, ports, running: BTreeMap::new(), http };
        for name in components {
            processes.start_one(name).await;
        }
        processes
    }

    /// Starts one and waits until it is ready. `controller-2` is a second replica of the controller.
    pub(crate) async fn start_one(&mut self, name: &'static str) {
        let mut command = self.command(name);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        // Drained to the end, or the process would block on a full pipe; shown when a test fails.
        let stderr = child.stderr.take().expect("piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("{name}: {line}");
            }
        });
        self.running.insert(name, child);
        self.ready(name).await;
    }

    /// The server answers 503 until it is ready, so this asks again; the process ending is a failure.
    async fn ready(&mut self, name: &str) {
        let (url, http) = (format!("{}/ready", self.url(name)), self.http.clone());
        let child = self.child(name);
        until(async || {
            if let Some(status) = child.try_wait().expect("a child") {
                panic!("weir-{name} ended while starting: {status}");
            }
            match http.get(&url).send().await {
                Ok(answer) if answer.status() == 200 => Ok(()),
                other => Err(format!("{name}: {other:?}")),
            }
        })
        .await;
    }

    fn command(&self, name: &str) -> Command {
        let program = name.trim_end_matches("-2");
        let controller = Path::new(env!("CARGO_BIN_EXE_weir-controller"));
        let binary = controller.with_file_name(format!("weir-{program}"));
        assert!(binary.exists(), "{} is built by cargo test --workspace", binary.display());
        let mut command = Command::new(binary);
        let data = self.dir.path().join(name).display().to_string();
        let kafka = format!("127.0.0.1:{}", self.ports["kafka"]);
        command
            .args(["--listen", &format!("127.0.0.1:{}", self.ports[name]), "--self-monitoring-interval", "0s"])
            .arg("--token-file")
            .arg(self.dir.path().join("token"));
        match program {
            "queue" => command.args(["--data", &data, "--kafka", &kafka]),
            "storage" => command.args(["--data", &data, "--queue-address", &kafka]),
            "alerting" => {
                command.args(["--data", &data, "--queue-address", &kafka, "--storage-urls", &self.url("storage")])
            }
            "query" => command
                .args(["--storage-urls", &self.url("storage"), "--alerting-url", &self.url("alerting")])
                .args(["--ingest-url", &self.url("ingest")]),
            "ingest" => command.args(["--queue-address", &kafka]),
            _ => {
                let webhook = format!("127.0.0.1:{}", self.ports[&*name.replace("controller", "webhook")]);
                command
                    .args(["--alerting-url", &self.url("alerting"), "--query-url", &self.url("query")])
                    .args(["--webhook-listen", &webhook, "--webhook-url", &format!("https://{webhook}/validate")])
                    .args(["--owner-cluster-role", "weir-controller"])
                    .env("KUBECONFIG", self.dir.path().join("kubeconfig"))
            }
        };
        command
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, name: &str) {
        let child = self.child(name);
        child.kill().expect("killed");
        child.wait().expect("ended");
    }

    pub(crate) fn child(&mut self, name: &str) -> &mut Child {
        self.running.get_mut(name).expect("was started")
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports[name])
    }

    /// An answer that shows the token, in JSON; what it was instead where it is none of success.
    pub(crate) async fn get(&self, name: &str, path: &str) -> Result<Value, String> {
        let request = self.http.get(format!("{}{path}", self.url(name))).bearer_auth(TOKEN);
        let answer = request.send().await.map_err(|e| runtime::error::chain(&e))?;
        let (status, text) = (answer.status(), answer.text().await.map_err(|e| runtime::error::chain(&e))?);
        if !status.is_success() {
            return Err(format!("{status}: {text}"));
        }
        serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))
    }

    /// Sends samples of now, `temperature{namespace="shop",host=…}`, until they are acknowledged: ingest answers that one should come
    /// again while the log is not there.
    pub(crate) async fn send(&self, samples: &[(&str, f64)]) {
        let timestamp = runtime::clock::now_ms();
        let entry = |(host, value): &(&str, f64)| {
            json!({"name": "temperature", "value": value, "timestamp": timestamp,
                   "labels": {"namespace": "shop", "host": host}})
        };
        let body = json!({"metrics": samples.iter().map(entry).collect::<Vec<_>>()}).to_string();
        until(async || {
            let request = self.http.post(format!("{}/metrics", self.url("ingest"))).body(body.clone());
            let answer = request.send().await.map_err(|e| runtime::error::chain(&e))?;
            let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap_or_default());
            assert!(status == 202 || status == 429 || status >= 500, "{status}: {text}");
            if status == 202 { Ok(()) } else { Err(format!("{status}: {text}")) }
        })
        .await;
    }

    /// Waits until every notification that is owed has been delivered and noted.
    pub(crate) async fn outbox_is_empty(&self) {
        until(async || {
            let ledger = self.get("alerting", "/api/v1/notifications").await?;
            if ledger["data"]["outbox"]["size"] == 0 { Ok(()) } else { Err(ledger.to_string()) }
        })
        .await;
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
