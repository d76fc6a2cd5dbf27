//! How long from the acknowledgement of the sample that crosses a threshold to the webhook that tells of it.
//!
//! `cargo bench -p weir --bench detection` starts Weir (`WEIR_BIN`, else the one that cargo built), makes a rule fire and resolve
//! one hundred times, and prints the delays. It asserts nothing.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]

#[path = "../tests/e2e/alerts.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the tests, of which the bench uses a part")]
mod alerts;
#[path = "../tests/e2e/one_process.rs"]
#[expect(dead_code, reason = "shared with the tests, of which the bench uses a part")]
mod one_process;
#[path = "../tests/e2e/process.rs"]
mod process;
#[path = "../tests/e2e/support.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the tests, of which the bench uses a part")]
mod support;
#[path = "../tests/e2e/weir.rs"]
#[expect(dead_code, reason = "shared with the tests, of which the bench uses a part")]
mod weir;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use alerts::{Sink, write_rules};
use one_process as topology;
use weir::{Launch, Weir};

const TURNS: usize = 100;

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benches too, to see that they run; measuring is for `cargo bench`.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let mut sink = Sink::start().await;
    let rules = dir.path().join("rules");
    write_rules(&rules, &sink.url, "  expr: temperature > 30\n  channel: hook\n");
    let weir = Launch::new(&dir.path().join("data")).args(&["--rules", rules.to_str().expect("UTF-8")]).start().await;
    let mut delays: [Vec<Duration>; 2] = Default::default();
    for _ in 0..TURNS {
        for (which, value) in [(0, 40.0), (1, 20.0)] {
            let acknowledged = send(&weir, value).await;
            sink.next().await;
            delays[which].push(acknowledged.elapsed());
        }
    }
    for (name, mut delays) in ["firing", "resolved"].into_iter().zip(delays) {
        delays.sort();
        let ms = |at: usize| delays[at].as_secs_f64() * 1e3;
        println!(
            "{name}: acknowledgement to webhook, {TURNS} turns: min {:.1} ms, median {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            ms(0),
            ms(TURNS / 2),
            ms(TURNS * 99 / 100),
            ms(TURNS - 1)
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
async fn send(weir: &Weir, value: f64) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let (status, answer) =
        weir.post_json("/metrics", &json!({"name": "temperature", "value": value, "timestamp": now})).await;
    assert_eq!(status, 202, "{answer}");
    Instant::now()
}
