//! How long people wait for what a rule's status says, over a real API server (`WEIR_TEST_KUBECONFIG`) and all six processes:
//!
//! - from the acknowledgement of a sample to the new state in a watch, each way;
//! - from the end of the leading controller to the first status that the other replica writes, after `kill -9` and after SIGTERM.
//!
//! `cargo bench -p controller --bench latency` prints the figures. It asserts nothing.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement reads clocks and prints")]

#[path = "support/measure.rs"]
#[allow(dead_code, reason = "the other bench uses the rest")]
mod measure;
#[path = "../tests/kubernetes/support.rs"]
#[allow(dead_code, clippy::print_stderr, reason = "the tests use the rest")]
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::cluster::{Cluster, cluster};
use support::followed::Followed;
use support::processes::{COMPONENTS, Processes};
use support::{rule, until};

const TURNS: usize = 50;
/// Fewer, as each waits for a lease to expire.
const HAND_OVERS: usize = 5;
const REPLICAS: [&str; 2] = ["controller", "controller-2"];

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benches too, to see that they run; measuring is for `cargo bench`.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let Some(cluster) = cluster("latency").await else { return };
    let mut processes = Processes::start(&cluster, &COMPONENTS).await;
    let mut hot = Hot::new(&cluster).await;
    let mut delays: [Vec<Duration>; 2] = Default::default();
    for _ in 0..TURNS {
        for (which, fires) in [(0, true), (1, false)] {
            processes.send(&[("a", if fires { 40.0 } else { 20.0 })]).await;
            let acknowledged = Instant::now();
            hot.is(fires).await;
            delays[which].push(acknowledged.elapsed());
        }
    }
    for (name, delays) in ["firing", "resolved"].into_iter().zip(delays) {
        print(&format!("{name}: acknowledgement to status"), delays);
    }
    processes.start_one(REPLICAS[1]).await;
    let mut killed = Vec::new();
    for _ in 0..HAND_OVERS {
        let leader = leader(&processes).await;
        let began = Instant::now();
        processes.kill(leader);
        hot.turn(&processes).await;
        killed.push(began.elapsed());
        processes.start_one(leader).await;
    }
    print("kill -9 of the leader to a status of the other", killed);
    let (mut ended, mut stopped) = (Vec::new(), Vec::new());
    for _ in 0..HAND_OVERS {
        let leader = leader(&processes).await;
        let began = Instant::now();
        let child = processes.child(leader);
        let done = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
        assert!(done.success());
        child.wait().expect("ended");
        ended.push(began.elapsed());
        // Only now, so that it is not the one that stops who writes it.
        hot.turn(&processes).await;
        stopped.push(began.elapsed());
        processes.start_one(leader).await;
    }
    print("SIGTERM of the leader to its end", ended);
    print("SIGTERM of the leader to a status of the other", stopped);
}

/// A rule that fires or not.
struct Hot {
    status: Followed,
    fires: bool,
}

impl Hot {
    async fn new(cluster: &Cluster) -> Self {
        cluster.apply(rule("hot", "temperature > 30")).await.expect("admitted");
        cluster.ready("AlertRule", "hot", "True", "Ready").await;
        Hot { status: Followed::new(cluster, "hot"), fires: false }
    }

    async fn is(&mut self, fires: bool) {
        let state = if fires { "Firing" } else { "Inactive" };
        self.status.wait(state, |status| status["state"] == state).await;
        self.fires = fires;
    }

    /// The other way round.
    async fn turn(&mut self, processes: &Processes) {
        processes.send(&[("a", if self.fires { 20.0 } else { 40.0 })]).await;
        self.is(!self.fires).await;
    }
}

async fn leader(processes: &Processes) -> &'static str {
    let found = std::sync::Mutex::new("");
    until(async || {
        for name in REPLICAS {
            if measure::metric(&processes.url(name), "weir_controller_leading").await == 1.0 {
                *found.lock().expect("unpoisoned") = name;
                return Ok(());
            }
        }
        Err("nobody leads".to_owned())
    })
    .await;
    found.into_inner().expect("unpoisoned")
}

fn print(what: &str, mut delays: Vec<Duration>) {
    delays.sort();
    let ms = |at: usize| delays[at].as_secs_f64() * 1e3;
    let (median, most) = (ms(delays.len() / 2), ms(delays.len() - 1));
    println!("{what}, {} turns: median {median:.0} ms, largest {most:.0} ms", delays.len());
}
