//! The process `weir-ingest`, in front of a log that is served by the Kafka protocol: what it acknowledges is there, also of its own metrics.

#[path = "../../runtime/tests/support/process.rs"]
#[allow(dead_code, reason = "shared with the tests of other components, of which each uses a part")]
mod process;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use queue::Log;
use queue::payload::{Decoder, Visitor};
use runtime::{Shutdown, Token};

use process::Process;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(180);

fn start(args: &[&str]) -> Process {
    Process::start(Command::new(env!("CARGO_BIN_EXE_weir-ingest")).args(args))
}

/// The names of metrics in a record.
#[derive(Default)]
struct Names(Vec<String>);

impl Visitor for Names {
    fn series(&mut self, labels: model::LabelsRef<'_>, _: model::Samples<'_>) {
        self.0.push(format!("{:?}", labels.to_owned()));
    }

    fn metadata(&mut self, _: &model::Metadata) {}
}

/// Waits until a series of this text is in the log.
async fn until_logged(log: &Arc<dyn Log>, text: &str) {
    let found = async |partition: u32| {
        let mut next = 0;
        loop {
            let records = log.fetch(partition, next, 1 << 20, PATIENCE).await.expect("fetched");
            for record in &records {
                let mut names = Names::default();
                Decoder::default().decode(&record.payload, &mut names).expect("a payload");
                if names.0.iter().any(|name| name.contains(text)) {
                    return;
                }
                next = record.offset + 1;
            }
        }
    };
    let all = (0..log.partitions()).map(|partition| Box::pin(found(partition)));
    tokio::time::timeout(PATIENCE, futures_util::future::select_all(all)).await.expect("logged in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_acknowledges_is_in_the_log_behind_the_token() {
    rustls::crypto::ring::default_provider().install_default().expect("first in this process");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret\n").expect("written");
    let args = <Arguments as clap::Parser>::parse_from(["x", "--kafka", "127.0.0.1:0"]).queue;
    let args = queue::Args { dir: dir.path().join("queue"), token: Some(Token::read(&file).expect("read")), ..args };
    let (trigger, shutdown) = Shutdown::new();
    let queue = queue::start(args, queue::Deps {}, &prometheus::Registry::new(), shutdown).await.expect("a log");
    let address = queue.kafka.expect("served").to_string();
    let token = file.to_str().expect("UTF-8");

    let receiver = start(&["--queue-address", &address, "--token-file", token]);
    let write = format!("{}/api/v1/write", receiver.url);
    let more = ["--self-monitoring-url", &write, "--self-monitoring-interval", "200ms", "--instance", "pod-7"];
    let process = start(&[&["--queue-address", &address, "--token-file", token], &more[..]].concat());
    let http = reqwest::Client::new();
    let sample = r#"{"name":"cpu_usage","value":85,"labels":{"host":"a"}}"#;
    let answer = http.post(format!("{}/metrics", process.url)).body(sample).send().await.expect("answered");
    assert_eq!(answer.status(), 202);
    until_logged(&queue.log, r#"cpu_usage{host="a"}"#).await;
    until_logged(&queue.log, r#"up{instance="pod-7", job="weir/ingest"}"#).await;
    let old = r#"{"name":"cpu_usage","value":85,"timestamp":1000}"#;
    let answer = http.post(format!("{}/metrics", process.url)).body(old).send().await.expect("answered");
    assert_eq!(answer.status(), 400, "older than the retention");

    assert_eq!(process.terminate().code(), Some(0));
    drop(receiver);
    trigger.ask();
    queue.component.drained.await.expect("drained");
}

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    queue: queue::Args,
}

#[test]
fn flags_have_environment_variables_of_the_same_name() {
    let output = Command::new(env!("CARGO_BIN_EXE_weir-ingest")).arg("--help").output().expect("runs");
    let help = String::from_utf8(output.stdout).expect("text");
    for (flag, variable) in [
        ("--listen", "WEIR_LISTEN"),
        ("--queue-address", "WEIR_QUEUE_ADDRESS"),
        ("--token-file", "WEIR_TOKEN_FILE"),
        ("--retention", "WEIR_RETENTION"),
        ("--self-monitoring-url", "WEIR_SELF_MONITORING_URL"),
    ] {
        assert!(help.contains(flag) && help.contains(variable), "{flag} {variable} in {help}");
    }
}
