//! Ten thousand AlertRules on a real API server (`WEIR_TEST_KUBECONFIG`): the time from the last create until all are Ready, the memory of
//! the controller's process, and the writes of an idle controller. `cargo bench -p controller --bench ten_thousand`, which also
//! takes `WEIR_BENCH_RULES`. The controller is the program; alerting is played here and evaluates nothing.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement reads clocks and prints")]

#[path = "../tests/kubernetes/support.rs"]
#[allow(dead_code, clippy::print_stderr, reason = "the tests use the rest")]
mod support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use support::cluster::{cluster, resource};
use support::double::Alerting;
use support::rule;

/// How many are created at the same time; the API server of two cores takes no more.
const PARALLEL: usize = 16;
/// How long an idle controller is watched.
const IDLE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() {
    let Some(cluster) = cluster("ten_thousand").await else { return };
    let count: usize = std::env::var("WEIR_BENCH_RULES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let alerting = Alerting::start().await;
    let metrics = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    let mut controller = start(&alerting, &metrics.to_string());
    let api: Api<DynamicObject> = Api::namespaced_with(
        cluster.client.clone(),
        "shop",
        &resource("AlertRule", "alertrules", "weir.dev", "v1alpha1"),
    );

    let began = Instant::now();
    let creates = (0..count).map(|n| {
        let expr = format!("sum by (job) (rate(requests_total{{code=~\"5..\", shard=\"{n}\"}}[5m])) > 0.1");
        let object: DynamicObject = serde_json::from_value(rule(&format!("rule-{n}"), &expr)).expect("an object");
        let api = api.clone();
        async move { api.create(&PostParams::default(), &object).await.map(drop) }
    });
    let mut creating = futures_util::stream::iter(creates).buffer_unordered(PARALLEL);
    while let Some(created) = creating.next().await {
        created.expect("created");
    }
    let created = Instant::now();
    println!("{count} rules created in {:.1} s", (created - began).as_secs_f64());
    loop {
        let ready = ready(&api).await;
        if ready == count {
            break;
        }
        assert!(created.elapsed() < Duration::from_secs(600), "only {ready} of {count} are ready");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    println!("all Ready {:.1} s after the last create", created.elapsed().as_secs_f64());
    println!(
        "resident memory of the controller: {} MiB, at most {} MiB",
        kib(&controller, "VmRSS") / 1024,
        kib(&controller, "VmHWM") / 1024
    );
    let cpu = ticks(&controller);
    let before = writes(&metrics.to_string()).await;
    tokio::time::sleep(IDLE).await;
    let after = writes(&metrics.to_string()).await;
    println!(
        "idle for {IDLE:?}: {} statuses written, {} ticks of CPU; the lease is renewed every 3 s beside that",
        after - before,
        ticks(&controller) - cpu
    );
    controller.kill().expect("killed");
    controller.wait().expect("ended");
}

fn start(alerting: &Alerting, listen: &str) -> Child {
    let token = std::env::temp_dir().join(format!("weir-bench-token-{}", std::process::id()));
    std::fs::write(&token, support::TOKEN).expect("written");
    Command::new(env!("CARGO_BIN_EXE_weir-controller"))
        .args(["--alerting-url", &alerting.url, "--listen", listen, "--webhook-listen", "127.0.0.1:0"])
        .args(["--webhook-url", "https://127.0.0.1:0/validate", "--self-monitoring-interval", "0s", "--token-file"])
        .arg(token)
        .env("KUBECONFIG", std::env::var_os("WEIR_TEST_KUBECONFIG").expect("a configuration"))
        .stdout(Stdio::null())
        .spawn()
        .expect("starts")
}

/// Rules that are Ready in their newest generation, page by page.
async fn ready(api: &Api<DynamicObject>) -> usize {
    let (mut ready, mut token) = (0, None);
    loop {
        let mut params = ListParams::default().limit(1000);
        params.continue_token = token;
        let page = api.list(&params).await.expect("listed");
        let is = |object: &&DynamicObject| {
            let status = &object.data["status"];
            status["observedGeneration"].as_i64() == object.metadata.generation
                && status["conditions"][0]["status"] == "True"
        };
        ready += page.items.iter().filter(is).count();
        token = page.metadata.continue_.filter(|t| !t.is_empty());
        if token.is_none() {
            return ready;
        }
    }
}

fn kib(child: &Child, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("Linux");
    let line = status.lines().find(|l| l.starts_with(field)).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// Hundredths of a second of CPU.
fn ticks(child: &Child) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("Linux");
    stat.split_whitespace().skip(13).take(2).map(|n| n.parse::<u64>().expect("a number")).sum()
}

async fn writes(listen: &str) -> u64 {
    let page = reqwest::get(format!("http://{listen}/metrics")).await.expect("answered").text().await.expect("text");
    let lines = page.lines().filter(|l| l.starts_with("weir_controller_status_writes_total"));
    lines.map(|l| l.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number") as u64).sum()
}
