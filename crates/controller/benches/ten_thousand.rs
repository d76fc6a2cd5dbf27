//! Ten thousand AlertRules on a real API server (`WEIR_TEST_KUBECONFIG`): the time from the last create until all are Ready, the memory of
//! controller and alerting, and the writes of an idle controller. `cargo bench -p controller --bench ten_thousand`, which also
//! takes `WEIR_BENCH_RULES`. It asserts nothing.
//!
//! All six processes are real, of the folder of the bench's own profile. A rule is Ready once alerting has taken its generation and evaluated it.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement reads clocks and prints")]

#[path = "support/measure.rs"]
mod measure;
#[path = "../tests/kubernetes/support.rs"]
#[allow(dead_code, clippy::print_stderr, reason = "the tests use the rest")]
mod support;

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use measure::{cpu, memory, metric};
use serde_json::json;
use support::cluster::{Cluster, cluster};
use support::processes::{COMPONENTS, Processes};
use support::rule;

/// How many are created at the same time; the API server of two cores takes no more.
const PARALLEL: usize = 16;
/// How long an idle controller is watched.
const IDLE: Duration = Duration::from_secs(30);
/// After this time without all being Ready it says how many are, and gives up.
const GIVE_UP: Duration = Duration::from_secs(900);

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benches too, to see that they run; measuring is for `cargo bench`.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let Some(cluster) = cluster("ten_thousand").await else { return };
    let count: usize = std::env::var("WEIR_BENCH_RULES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let mut processes = Processes::start(&cluster, &COMPONENTS).await;
    let api = cluster.api(&rule("", ""));
    let began = Instant::now();
    create(&api, count).await;
    let created = Instant::now();
    println!("{count} rules created in {:.1} s", (created - began).as_secs_f64());
    loop {
        let ready = ready(&api).await;
        if ready == count {
            println!("all Ready {:.1} s after the last create", created.elapsed().as_secs_f64());
            break;
        }
        if created.elapsed() > GIVE_UP {
            println!("only {ready} of {count} are Ready after {GIVE_UP:?}");
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    idle(&cluster, &mut processes).await;
    for name in ["controller", "alerting"] {
        let child = processes.child(name);
        let (now, most) = (memory(child, "VmRSS"), memory(child, "VmHWM"));
        println!("{name}: {now} MiB, {most} MiB at most, {:.1} s of CPU", cpu(child));
    }
    // Deleting so many takes longer than whoever comes next waits for.
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await.expect("deleted");
}

async fn create(api: &Api<DynamicObject>, count: usize) {
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
}

/// What the controller writes while nothing changes: statuses and events by its own count, its lease by watching it.
async fn idle(cluster: &Cluster, processes: &mut Processes) {
    let url = processes.url("controller");
    let writes = async || {
        metric(&url, "weir_controller_status_writes_total").await + metric(&url, "weir_controller_events_total").await
    };
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"namespace": "weir"}});
    let (mut renewals, before) = (0_u32, writes().await);
    let used = ["controller", "alerting"].map(|name| cpu(processes.child(name)));
    let renewing = async {
        let watched = watcher(cluster.api(&lease), watcher::Config::default().fields("metadata.name=weir-controller"));
        let mut objects = std::pin::pin!(watched.applied_objects());
        // The first one is how it was before.
        objects.next().await;
        while objects.next().await.is_some() {
            renewals += 1;
        }
    };
    let _ = tokio::time::timeout(IDLE, renewing).await;
    let statuses = writes().await - before;
    let (controller, alerting) =
        (cpu(processes.child("controller")) - used[0], cpu(processes.child("alerting")) - used[1]);
    println!(
        "idle for {IDLE:?}: {statuses} statuses and events and {renewals} leases written, {:.2} writes a second; CPU: controller {:.1} %, alerting {:.1} %",
        (statuses + f64::from(renewals)) / IDLE.as_secs_f64(),
        100.0 * controller / IDLE.as_secs_f64(),
        100.0 * alerting / IDLE.as_secs_f64(),
    );
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
