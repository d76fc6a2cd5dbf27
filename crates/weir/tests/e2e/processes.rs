//! The components as processes of their own on loopback, with a token between them: each is killed in turn under load, and what
//! `weir run` promises holds. The controller has tests of its own, with the API server that it needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::alerts::{SPEC, Sink, send as send_temperature, write_rules};
use crate::crash::{Key, Notes, assert_none, differences, logged, queried, send};
use crate::support::{PATIENCE, Weir, free_port};

/// In the order in which they need each other.
const COMPONENTS: [&str; 5] = ["queue", "storage", "alerting", "query", "ingest"];
const WRITERS: u64 = 4;
const SERIES: u64 = 10;
/// Acknowledged requests before each kill, and after each start.
const ACKS: u64 = 30;

/// The processes, each at an address that it has again after a restart.
struct Processes {
    dir: PathBuf,
    ports: BTreeMap<&'static str, u16>,
    running: BTreeMap<&'static str, Weir>,
}

impl Processes {
    async fn start(dir: &Path) -> Self {
        std::fs::write(dir.join("token"), "a-token-of-the-test\n").expect("written");
        let ports = COMPONENTS.iter().chain(&["kafka"]).map(|name| (*name, free_port())).collect();
        let mut processes = Processes { dir: dir.to_owned(), ports, running: BTreeMap::new() };
        for name in COMPONENTS {
            processes.start_one(name).await;
        }
        processes
    }

    fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports[name])
    }

    async fn start_one(&mut self, name: &'static str) {
        let own = std::env::current_exe().expect("a path");
        let binary = own.ancestors().nth(2).expect("target/debug").join(format!("weir-{name}"));
        assert!(binary.exists(), "{} is built by cargo test --workspace", binary.display());
        let mut command = Command::new(binary);
        let data = self.dir.join(name).display().to_string();
        let kafka = format!("127.0.0.1:{}", self.ports["kafka"]);
        command
            .args(["--listen", &format!("127.0.0.1:{}", self.ports[name])])
            .arg("--token-file")
            .arg(self.dir.join("token"));
        // Small segments and a small head, so that rolls, flushes and merges are hit too.
        match name {
            "queue" => command.args(["--data", &data, "--kafka", &kafka, "--queue-segment-bytes", "131072"]),
            "storage" => command.args(["--data", &data, "--queue-address", &kafka, "--retention", "off"]).args([
                "--storage-head-bytes-max",
                "262144",
                "--storage-flush-interval",
                "1s",
            ]),
            "alerting" => command
                .args(["--data", &data, "--queue-address", &kafka, "--storage-urls", &self.url("storage")])
                .arg("--rules")
                .arg(self.dir.join("rules")),
            "query" => command
                .args(["--storage-urls", &self.url("storage"), "--alerting-url", &self.url("alerting")])
                .args(["--ingest-url", &self.url("ingest")]),
            _ => command.args(["--queue-address", &kafka, "--retention", "off"]),
        };
        let mut process = Weir::spawn(&mut command);
        process.ready().await;
        self.running.insert(name, process);
    }
}

/// Writes until it is told to stop. A request that is not acknowledged is not sent again: its samples may be there once, or not at all.
async fn write(
    writer: u64,
    http: reqwest::Client,
    address: String,
    stop: watch::Receiver<bool>,
    acks: Arc<watch::Sender<u64>>,
) -> Notes {
    let mut notes = Notes::default();
    for t in 0.. {
        if *stop.borrow() {
            break;
        }
        let keys: Vec<Key> = (0..SERIES).map(|series| (writer, series, t)).collect();
        notes.sent.extend(&keys);
        match send(&http, &address, &keys).await {
            Ok(200..300) => {
                notes.acknowledged.extend(keys);
                acks.send_modify(|n| *n += 1);
            }
            Ok(status @ (400..=499)) => panic!("status {status}"),
            // A client waits a moment before it comes again.
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    notes
}

async fn acknowledged(acks: &watch::Sender<u64>, more: u64) {
    let mut seen = acks.subscribe();
    let enough = *seen.borrow() + more;
    tokio::time::timeout(PATIENCE, seen.wait_for(|n| *n >= enough))
        .await
        .expect("writes are acknowledged")
        .expect("open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_of_each_component_in_turn_under_load_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("directory");
    let mut sink = Sink::start().await;
    write_rules(&dir.path().join("rules"), &sink.url, SPEC);
    let mut processes = Processes::start(dir.path()).await;
    let (stop, stopped) = watch::channel(false);
    let acks = Arc::new(watch::Sender::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            // The last one writes through the front door.
            let at = &processes.running[if writer + 1 == WRITERS { "query" } else { "ingest" }];
            tokio::spawn(write(writer, at.http.clone(), at.address.clone(), stopped.clone(), acks.clone()))
        })
        .collect();
    for name in COMPONENTS {
        acknowledged(&acks, ACKS).await;
        processes.running.remove(name).expect("runs").kill();
        processes.start_one(name).await;
        acknowledged(&acks, ACKS).await;
    }
    stop.send_replace(true);
    let mut notes = Notes::default();
    for writer in writers {
        let one = writer.await.expect("writer ends");
        notes.sent.extend(one.sent);
        notes.acknowledged.extend(one.acknowledged);
    }
    let door = &processes.running["query"];
    assert_none(&differences(&notes, &queried(door).await), "by query", 0);
    for (value, status) in [(40.0, "firing"), (20.0, "resolved")] {
        send_temperature(door, value).await;
        assert_eq!(sink.next().await["status"], status);
    }
    let (status, rules) = door.get("/api/v1/rules").await;
    assert_eq!(
        (status, &rules["data"]["groups"][0]["rules"][0]["name"]),
        (200, &serde_json::json!("TooHot")),
        "{rules}"
    );
    let (status, _) = processes.running["alerting"].get("/api/v1/rules").await;
    assert_eq!(status, 401, "alerting answers nobody without the token");
    for name in COMPONENTS.iter().rev() {
        let status = processes.running.remove(name).expect("runs").terminate();
        assert!(status.success(), "{name}: {status}");
    }
    assert_none(&differences(&notes, &logged(&dir.path().join("queue")).await), "in the log", 0);
}
