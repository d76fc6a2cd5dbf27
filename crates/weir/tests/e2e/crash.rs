//! `kill -9` at random moments under load: every acknowledged sample is there exactly once afterwards.
//!
//! Writers send samples that differ in series, time or value, never the same one twice, and note which were
//! acknowledged. The rest, sent and cut off by the kill, may be there once or not at all. Both the log's own
//! records and the answers to queries are compared with the notes. The seed is printed; `WEIR_CRASH_SEED` and
//! `WEIR_CRASH_ROUNDS` repeat a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use model::{LabelsRef, Metadata, Sample, Samples};
use tokio::sync::{Notify, watch};

use crate::support::{PATIENCE, labels, remote_write};
use crate::weir::{Launch, Weir};

/// First time that is written; later requests of a writer are a millisecond later each.
const T0: i64 = 1_790_000_000_000;
const WRITERS: u64 = 4;
const SERIES: u64 = 25;

/// Which writer, which of its series, at which time after [`T0`]. The value is [`value`] of these.
pub(crate) type Key = (u64, u64, i64);

/// What was sent and what of it was acknowledged.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) sent: BTreeSet<Key>,
    pub(crate) acknowledged: BTreeSet<Key>,
}

pub(crate) fn value((writer, series, t): Key) -> f64 {
    (writer * 1_000_003 + series * 1009) as f64 + t as f64 / 4.0
}

pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) rounds: u64,
}

impl Plan {
    pub(crate) fn from_env(rounds: u64) -> Plan {
        let number = |name: &str| std::env::var(name).ok().map(|v| v.parse().expect("a number"));
        let seed = number("WEIR_CRASH_SEED").unwrap_or_else(|| fastrand::u64(..));
        let plan = Plan { seed, rounds: number("WEIR_CRASH_ROUNDS").unwrap_or(rounds) };
        eprintln!("WEIR_CRASH_SEED={} WEIR_CRASH_ROUNDS={}", plan.seed, plan.rounds);
        plan
    }
}

/// Small segments and a small head, so that rolls, flushes and merges are hit too.
pub(crate) fn launch(data: &Path) -> Launch<'_> {
    Launch::new(data).args(&[
        "--retention",
        "off",
        "--queue-segment-bytes",
        "131072",
        "--storage-head-bytes-max",
        "262144",
        "--storage-flush-interval",
        "1s",
    ])
}

/// Runs the writers until about `acks` requests are acknowledged, then kills Weir. Returns what the writers noted.
pub(crate) async fn load_then_kill(weir: &mut Weir, from: i64, acks: u64) -> Notes {
    let (stop, stopped) = watch::channel(false);
    let enough = Arc::new((Notify::new(), AtomicU64::new(0)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (http, address) = (weir.http.clone(), weir.address("/api/v1/write").to_owned());
            let (stopped, enough) = (stopped.clone(), enough.clone());
            tokio::spawn(async move { write(writer, from, http, address, stopped, &enough, acks).await })
        })
        .collect();
    tokio::time::timeout(PATIENCE, enough.0.notified()).await.expect("writes are acknowledged");
    weir.kill();
    stop.send_replace(true);
    let mut notes = Notes::default();
    for writer in writers {
        let one = writer.await.expect("writer ends");
        notes.sent.extend(one.sent);
        notes.acknowledged.extend(one.acknowledged);
    }
    notes
}

async fn write(
    writer: u64,
    from: i64,
    http: reqwest::Client,
    address: String,
    stopped: watch::Receiver<bool>,
    enough: &(Notify, AtomicU64),
    acks: u64,
) -> Notes {
    let mut notes = Notes::default();
    for t in from.. {
        if *stopped.borrow() {
            break;
        }
        let keys: Vec<Key> = (0..SERIES).map(|series| (writer, series, t)).collect();
        notes.sent.extend(&keys);
        match send(&http, &address, &keys).await {
            Ok(status) => {
                assert!((200..300).contains(&status), "status {status}");
                notes.acknowledged.extend(keys);
                if enough.1.fetch_add(1, Ordering::Relaxed) + 1 == acks {
                    enough.0.notify_one();
                }
            }
            Err(_) => break, // killed: whether the samples are in is not known
        }
    }
    notes
}

/// Each writer has a protocol of its own.
pub(crate) async fn send(http: &reqwest::Client, address: &str, keys: &[Key]) -> Result<u16, reqwest::Error> {
    let writer = keys[0].0;
    match writer % 3 {
        0 => {
            let series: Vec<_> = keys
                .iter()
                .map(|key| {
                    let (w, s) = (key.0.to_string(), key.1.to_string());
                    let labels = labels(&[("__name__", "crash"), ("writer", &w), ("series", &s)]);
                    (labels, vec![Sample { t: T0 + key.2, v: value(*key) }])
                })
                .collect();
            remote_write(http, address, &series).await
        }
        1 => {
            let entry = |key: &Key| {
                let labels = serde_json::json!({"writer": key.0.to_string(), "series": key.1.to_string()});
                serde_json::json!({"name": "crash", "value": value(*key), "timestamp": T0 + key.2, "labels": labels})
            };
            let body = serde_json::json!({"metrics": keys.iter().map(entry).collect::<Vec<_>>()}).to_string();
            let request = http.post(format!("http://{address}/metrics")).header("content-type", "application/json");
            let answer = request.body(body).send().await?;
            Ok(answer.status().as_u16())
        }
        _ => {
            let line = |key: &Key| {
                format!("crash{{writer=\"{}\",series=\"{}\"}} {} {}\n", key.0, key.1, value(*key), T0 + key.2)
            };
            let body: String = keys.iter().map(line).collect();
            let request = http.post(format!("http://{address}/api/v1/import/prometheus"));
            let answer = request.header("content-type", "text/plain").body(body).send().await?;
            Ok(answer.status().as_u16())
        }
    }
}

/// What a query over all time finds, with how often.
pub(crate) async fn queried(weir: &Weir) -> BTreeMap<Key, Vec<f64>> {
    let mut found: BTreeMap<Key, Vec<f64>> = BTreeMap::new();
    for writer in 0..WRITERS {
        let path = format!("/query?name=crash&label.writer={writer}&start={T0}&end={}", T0 + 10_000_000);
        let (status, samples) = weir.get(&path).await;
        assert_eq!(status, 200, "{samples}");
        for sample in samples.as_array().expect("array") {
            let series = sample["labels"]["series"].as_str().expect("label").parse().expect("number");
            let t = sample["timestamp"].as_i64().expect("time") - T0;
            found.entry((writer, series, t)).or_default().push(sample["value"].as_f64().expect("value"));
        }
    }
    found
}

#[derive(Parser)]
struct QueueArgs {
    #[command(flatten)]
    queue: queue::Args,
}

/// What the records of the log hold, with how often, read by the log's own crate after the process has ended.
pub(crate) async fn logged(data: &Path) -> BTreeMap<Key, Vec<f64>> {
    struct Collect(BTreeMap<Key, Vec<f64>>);
    impl queue::payload::Visitor for Collect {
        fn series(&mut self, labels: LabelsRef<'_>, samples: Samples<'_>) {
            if labels.get("__name__") != Some("crash") {
                return;
            }
            let number = |name: &str| labels.get(name).expect("label").parse().expect("number");
            for sample in samples.floats {
                self.0.entry((number("writer"), number("series"), sample.t - T0)).or_default().push(sample.v);
            }
        }
        fn metadata(&mut self, _: &Metadata) {}
    }
    let mut args = QueueArgs::parse_from(["queue"]).queue;
    args.dir = data.join("queue");
    let (stop, shutdown) = runtime::Shutdown::new();
    let registry = prometheus::Registry::new();
    let started = queue::start(args, queue::Deps {}, &registry, shutdown).await.expect("the log opens");
    let mut collect = Collect(BTreeMap::new());
    let mut decoder = queue::payload::Decoder::default();
    for partition in 0..started.log.partitions() {
        let bounds = started.log.bounds(partition).await.expect("bounds");
        let mut next = bounds.start;
        while next < bounds.end {
            let records = started.log.fetch(partition, next, 1 << 20, Duration::ZERO).await.expect("records");
            assert!(!records.is_empty(), "records up to the end of the partition");
            for record in records {
                assert_eq!(record.offset, next, "offsets are dense");
                next += 1;
                decoder.decode(&record.payload, &mut collect).expect("payload");
            }
        }
    }
    stop.ask();
    started.component.drained.await.expect("drains");
    collect.0
}

/// Every acknowledged sample exactly once with its value, every other one that was sent at most once, and nothing else.
pub(crate) fn differences(notes: &Notes, found: &BTreeMap<Key, Vec<f64>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for key in &notes.acknowledged {
        match found.get(key).map(Vec::as_slice) {
            Some([v]) if v.to_bits() == value(*key).to_bits() => {}
            other => wrong.push(format!("acknowledged {key:?} is there as {other:?}, expected {}", value(*key))),
        }
    }
    for (key, values) in found {
        if !notes.sent.contains(key) {
            wrong.push(format!("{key:?} was never sent"));
        } else if values.len() != 1 || values[0].to_bits() != value(*key).to_bits() {
            wrong.push(format!("{key:?} is there as {values:?}"));
        }
    }
    wrong
}

pub(crate) fn assert_none(wrong: &[String], what: &str, seed: u64) {
    let some: Vec<_> = wrong.iter().take(10).collect();
    assert!(wrong.is_empty(), "{what}, seed {seed}: {} samples wrong: {some:#?}", wrong.len());
}

/// Kills and restarts; `between` is what happens to the disk while the process is down, and says where the data is then.
pub(crate) async fn survive(
    plan: &Plan,
    first: PathBuf,
    mut prepare: impl FnMut(Launch<'_>) -> Launch<'_>,
    mut between: impl FnMut(PathBuf) -> PathBuf,
) -> (Notes, PathBuf, BTreeMap<Key, Vec<f64>>) {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let (mut notes, mut data, mut next) = (Notes::default(), first, 0);
    for _ in 0..plan.rounds {
        if random.u8(..4) == 0 {
            // While it starts: recovery that is cut off must be recoverable.
            prepare(launch(&data)).spawn().kill();
            data = between(data);
        }
        let mut weir = prepare(launch(&data)).start().await;
        let one = load_then_kill(&mut weir, next, random.u64(1..150)).await;
        next = one.sent.iter().map(|key| key.2 + 1).max().unwrap_or(next);
        notes.sent.extend(one.sent);
        notes.acknowledged.extend(one.acknowledged);
        data = between(data);
    }
    let weir = prepare(launch(&data)).start().await;
    let found = queried(&weir).await;
    weir.stop();
    (notes, data, found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_nothing_acknowledged_and_doubles_nothing() {
    let plan = Plan::from_env(20);
    let dir = tempfile::tempdir().expect("directory");
    let (notes, data, found) = survive(&plan, dir.path().join("data"), |launch| launch, |data| data).await;
    assert!(!notes.acknowledged.is_empty());
    assert_none(&differences(&notes, &found), "by query", plan.seed);
    assert_none(&differences(&notes, &logged(&data).await), "in the log", plan.seed);
}
