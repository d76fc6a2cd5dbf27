//! What flushes and merges do to those who wait for an answer: the delays of acknowledgements and of a query of one series while there are none, and while the
//! head is written every second and the blocks of that are merged.
//!
//! `cargo bench -p weir --bench throttle` starts Weir (`WEIR_BIN`, else the one that cargo built) for each of them in turn, and prints both. It asserts
//! nothing of times, but that there were merges in one and none in the other.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]

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

use std::time::{Duration, Instant};

use model::Sample;

use one_process as topology;
use support::labels;
use weir::{Launch, Weir};

/// Turns of each of both.
const TURNS: usize = 3;
/// How long each lasts.
const LENGTH: Duration = Duration::from_secs(30);
/// Series, and how many of a request: a target with its exporter.
const SERIES: u64 = 100_000;
const OF_REQUEST: u64 = 500;
/// From one request to the next, and from one query to the next.
const WRITES_EVERY: Duration = Duration::from_millis(25);
const QUERIES_EVERY: Duration = Duration::from_millis(20);
/// Time of the first samples.
const T0: i64 = 1_790_000_000_000;

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benches too, to see that they run; measuring is for `cargo bench`.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let mut delays: [Delays; 2] = Default::default();
    for _ in 0..TURNS {
        for (delays, interval) in delays.iter_mut().zip(["1h", "1s"]) {
            turn(interval, delays).await;
        }
    }
    for (what, of) in
        [("acknowledgements", Delays::writes as fn(&mut Delays) -> &mut Vec<Duration>), ("one series", Delays::queries)]
    {
        let [quiet, busy] = &mut delays;
        let (quiet, busy) = (p99(of(quiet)), p99(of(busy)));
        println!(
            "{what}: p99 {quiet:.2} ms without flushes and merges, {busy:.2} ms beside them, {:.2} times",
            busy / quiet
        );
    }
    println!(
        "{} flushes and {} merges beside {} and {}",
        delays[1].flushes, delays[1].merges, delays[0].flushes, delays[0].merges
    );
    assert!(delays[1].merges > 0.0 && delays[0].merges == 0.0, "it is not what was to be compared");
}

/// Of all turns.
#[derive(Default)]
struct Delays {
    writes: Vec<Duration>,
    queries: Vec<Duration>,
    flushes: f64,
    merges: f64,
}

impl Delays {
    fn writes(&mut self) -> &mut Vec<Duration> {
        &mut self.writes
    }

    fn queries(&mut self) -> &mut Vec<Duration> {
        &mut self.queries
    }
}

fn p99(delays: &mut [Duration]) -> f64 {
    delays.sort();
    delays[delays.len() * 99 / 100].as_secs_f64() * 1e3
}

async fn turn(interval: &str, delays: &mut Delays) {
    let dir = tempfile::tempdir().expect("directory");
    let args = ["--storage-flush-interval", interval, "--retention", "off"];
    let weir = Launch::new(&dir.path().join("data")).args(&args).start().await;
    // All series are there before anything is measured.
    for request in 0..SERIES / OF_REQUEST {
        send(&weir, request).await;
    }
    let end = now() + LENGTH;
    let writing = async {
        let (mut delays, mut request, mut next) = (Vec::new(), SERIES / OF_REQUEST, now());
        while now() < end {
            tokio::time::sleep_until(next.into()).await;
            next += WRITES_EVERY;
            let began = now();
            send(&weir, request).await;
            delays.push(began.elapsed());
            request += 1;
        }
        delays
    };
    let querying = async {
        let (mut delays, mut next) = (Vec::new(), now());
        while now() < end {
            tokio::time::sleep_until(next.into()).await;
            next += QUERIES_EVERY;
            let series = delays.len() as u64 * 7919 % SERIES;
            let (began, at) = (now(), (T0 / 1000).to_string());
            let query = format!("throttle{{series=\"{series}\"}}");
            let form = [("query", query.as_str()), ("time", at.as_str()), ("nocache", "1")];
            let (status, answer) = weir.post_form("/api/v1/query", &form).await;
            delays.push(began.elapsed());
            assert!(status == 200 && answer["data"]["result"].as_array().is_some_and(|all| all.len() == 1), "{answer}");
        }
        delays
    };
    let (writes, queries) = tokio::join!(writing, querying);
    delays.writes.extend(writes);
    delays.queries.extend(queries);
    let metrics = weir.metrics().await;
    let count = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("no {name}"))
    };
    delays.flushes += count("weir_storage_flush_duration_seconds_count");
    delays.merges += count("weir_storage_merge_duration_seconds_count");
}

/// Sends the next sample of some series.
async fn send(weir: &Weir, request: u64) {
    let (first, round) = (request * OF_REQUEST % SERIES, request * OF_REQUEST / SERIES);
    let sample = Sample { t: T0 + round as i64 * 15_000, v: (request % 97) as f64 };
    let of = |n: u64| (labels(&[("__name__", "throttle"), ("series", &n.to_string())]), vec![sample]);
    let series: Vec<_> = (first..first + OF_REQUEST).map(of).collect();
    assert_eq!(weir.remote_write(&series).await.expect("answers"), 204);
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}
