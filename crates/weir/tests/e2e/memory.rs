//! A process that may have so much memory and no more keeps to it: while samples come, while the log is read again after `kill -9`, while blocks are merged
//! and while queries come that would take more than there is. The system kills it where it does not, in a control group of its own; where none can be
//! made, the peak of its resident memory is compared with the limit, and that the system was not asked counts as a skipped test. A limit of its address
//! space or data is no way out: the allocator reserves more of both than it uses.

#[path = "memory/group.rs"]
mod group;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use model::{Labels, Sample};
use serde_json::Value;

use crate::process::Process;
use crate::support::labels;
use crate::support::skips::skipped;
use crate::topology::Layout;
use crate::weir::{Launch, Weir};
use group::Group;

/// Time of the first samples.
const T0: i64 = 1_790_000_000_000;
/// From one sample of a series to the next.
const STEP_MS: i64 = 15_000;
/// Samples of a series in one request.
const AT_ONCE: u64 = 4;
/// Series of one request.
const OF_REQUEST: u64 = 1000;
/// Requests that storage may be behind.
const OF_LAG: u64 = 20;
/// How long reading the log again and merging may take on a machine that is busy otherwise; nothing here is measured.
const LONG: Duration = Duration::from_secs(600);
/// The series are in so many parts, each of which a query can read within its share.
const SHARDS: u64 = 20;

/// How much there is of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) series: u64,
    /// How often all series are sent.
    pub(crate) rounds: u64,
    pub(crate) limit: u64,
}

const TEST: &str = "a_memory_limit_of_the_system_is_kept_while_replaying_merging_and_answering";

#[tokio::test]
async fn a_memory_limit_of_the_system_is_kept_while_replaying_merging_and_answering() {
    run(Scale { series: 100_000, rounds: 1, limit: 256 << 20 }).await;
}

/// What became of queries.
#[derive(Debug, Default)]
struct Answers {
    answered: AtomicU64,
    refused: AtomicU64,
    late: AtomicU64,
}

/// Samples go in, the process is killed and reads the log again, from the last flush and from its beginning; queries go on all the while.
pub(crate) async fn run(scale: Scale) {
    let dir = tempfile::tempdir().expect("directory");
    let group = Group::new("weir-memory", scale.limit);
    if let Group::Nowhere(reason) = &group {
        skipped(TEST, &format!("no group with a bound of memory can be made: {reason}"));
    }
    let mut sent = Sent::new(scale);
    let weir = start(dir.path(), &group, scale).await;
    let answers = Answers::default();
    beside_queries(4, &weir, scale, &answers, async {
        for _ in 0..scale.rounds * scale.series / OF_REQUEST {
            sent.next(&weir).await;
        }
    })
    .await;
    until_a_flush_is_due(&weir, &mut sent).await;
    sent.check(&weir).await;
    let running = Peaks::of(&weir).await;
    running.check("running", &group, scale);
    let no_more = |restart: &Peaks| {
        // As much as the allocator may have kept of what was freed, one time or the other. A run that was slow had its parts full one after the other.
        let most = running.resident.max(scale.limit / 4 * 3) + scale.limit / 16;
        assert!(restart.resident <= most, "a restart needs no more than running: {} and {most}", restart.resident);
    };
    weir.end();

    let weir = start(dir.path(), &group, scale).await;
    let replaying = Peaks::of(&weir).await;
    replaying.check("after replaying what was in memory", &group, scale);
    no_more(&replaying);
    assert!(replaying.metric("weir_storage_applied_records_total") > 0.0, "it was killed before it had written all");
    sent.check(&weir).await;
    weir.end();

    // All that is in the log, which is far more than the head may hold.
    std::fs::remove_dir_all(dir.path().join("storage")).expect("removed");
    let weir = start(dir.path(), &group, scale).await;
    let replaying = Peaks::of(&weir).await;
    replaying.check("after replaying all", &group, scale);
    no_more(&replaying);
    assert!(replaying.metric("weir_storage_flush_duration_seconds_count") >= 2.0, "it flushes while it replays");
    assert!(
        replaying.part("head") <= running.part("head").max(running.share("head")) + 4.0 * 1048576.0,
        "a restart needs no more than running: {} {}",
        replaying.part("head"),
        running.part("head")
    );
    // How many blocks the log gave depends on how fast they were written, and those of two long flushes may be too large to be one: so samples come until
    // there are some that are merged. Merges stand back behind those who wait for an answer, so a few more clients would leave them nothing.
    beside_queries(1, &weir, scale, &answers, async {
        long("merged", async || {
            sent.next(&weir).await;
            metric(&weir.metrics().await, "weir_storage_merge_duration_seconds_count") >= 1.0
        })
        .await;
    })
    .await;
    sent.check(&weir).await;
    Peaks::of(&weir).await.check("after merging", &group, scale);
    weir.end();
    eprintln!("queries: {answers:?}");
    let (answered, refused) = (answers.answered.into_inner(), answers.refused.into_inner());
    let late = answers.late.into_inner();
    assert!(answered > late && refused > 0, "{answered} were answered, {refused} refused and {late} late");
}

/// What was acknowledged.
struct Sent {
    scale: Scale,
    requests: u64,
}

impl Sent {
    fn new(scale: Scale) -> Self {
        Sent { scale, requests: 0 }
    }

    /// Sends the next request, which has to be acknowledged.
    async fn next(&mut self, weir: &Weir) {
        let a_round = self.scale.series / OF_REQUEST;
        let (round, first) = (self.requests / a_round, self.requests % a_round * OF_REQUEST);
        let series: Vec<(Labels, Vec<Sample>)> = (first..first + OF_REQUEST)
            .map(|n| {
                let sample = |k: u64| Sample { t: T0 + k as i64 * STEP_MS, v: (n % 1000 + k) as f64 };
                (series(n), (round * AT_ONCE..(round + 1) * AT_ONCE).map(sample).collect())
            })
            .collect();
        long("acknowledged", async || match weir.remote_write(&series).await.expect("answered") {
            // Too much is in flight: that is for the sender to wait for.
            429 | 503 => false,
            status => {
                assert!((200..300).contains(&status), "{status}");
                true
            }
        })
        .await;
        self.requests += 1;
        if self.requests.is_multiple_of(OF_LAG) {
            // So that nobody waits for long.
            read(weir).await;
        }
    }

    /// Everything is there, once: the number of samples and their sum, of each part of the series.
    async fn check(&self, weir: &Weir) {
        let a_round = self.scale.series / OF_REQUEST;
        let mut expect = vec![(0u64, 0u64); SHARDS as usize];
        for n in 0..self.scale.series {
            let rounds = self.requests / a_round + u64::from(n / OF_REQUEST < self.requests % a_round);
            let samples = rounds * AT_ONCE;
            let (count, sum) = &mut expect[(n % SHARDS) as usize];
            *count += samples;
            *sum += samples * (n % 1000) + samples * samples.saturating_sub(1) / 2;
        }
        for (shard, (count, sum)) in expect.into_iter().enumerate() {
            for (function, expect) in [("count_over_time", count), ("sum_over_time", sum)] {
                let query = format!("sum({function}(load{{shard=\"{shard}\"}}[1d]))");
                let (status, answer) = ask(weir, &query, None).await;
                assert_eq!(status, 200, "{query}: {answer}");
                assert_eq!(answer["data"]["result"][0]["value"][1], expect.to_string(), "{query}");
            }
        }
    }
}

fn series(n: u64) -> Labels {
    let text = |name: &str, n: u64| format!("{name}-{n:06}");
    labels(&[
        ("__name__", "load"),
        ("cluster", "eu-central-1-production"),
        ("container", &text("container", n % 10)),
        ("instance", &format!("10.{}.{}.{}:8080", n >> 16 & 255, n >> 8 & 255, n & 255)),
        ("job", "kubernetes-pods"),
        ("namespace", &text("namespace", n / 1000)),
        ("pod", &format!("deployment-{:06}-7d4b9c8f6d-x{:04}", n / 100, n % 100)),
        ("shard", &(n % SHARDS).to_string()),
    ])
}

/// Sends until the head is nearly as large as it may be before it is written.
async fn until_a_flush_is_due(weir: &Weir, sent: &mut Sent) {
    long("about to be written", async || {
        read(weir).await;
        let page = weir.metrics().await;
        let held = part(&page, "held_bytes", "head") / part(&page, "share_bytes", "head");
        // It is written at half of its share: from then on it is waited for, so that the head is not full again when that ends.
        if held < 0.36 {
            sent.next(weir).await;
        }
        (0.36..0.5).contains(&held)
    })
    .await;
}

/// Waits until storage has read what was sent, as every query does. One may be refused where others hold all memory.
async fn read(weir: &Weir) {
    long("read", async || ask(weir, "vector(1)", None).await.0 == 200).await;
}

/// Does something while some clients ask for what fits, and for what does not.
async fn beside_queries(clients: u64, weir: &Weir, scale: Scale, answers: &Answers, work: impl Future<Output = ()>) {
    let done = AtomicBool::new(false);
    let client = async |of: u64| {
        let mut n = of;
        while !done.load(Ordering::Relaxed) {
            let everything = "sum by (pod) (rate(load[5m]))".to_owned();
            let query = if n.is_multiple_of(3) {
                everything
            } else {
                format!("sum by (namespace) (rate(load{{shard=\"{}\"}}[5m]))", n % SHARDS)
            };
            let (status, answer) = ask(weir, &query, Some(STEP_MS * scale.rounds as i64 * AT_ONCE as i64)).await;
            match status {
                200 => answers.answered.fetch_add(1, Ordering::Relaxed),
                422 | 503 if answer["error"].as_str().is_some_and(|e| e.contains("too little memory for queries")) => {
                    answers.refused.fetch_add(1, Ordering::Relaxed)
                }
                // Storage waits for the disk, or the machine is busy otherwise.
                503 if answer["errorType"] == "timeout" => answers.late.fetch_add(1, Ordering::Relaxed),
                _ => panic!("{query}: {status} {answer}"),
            };
            n += 1;
        }
    };
    let work = async {
        work.await;
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(work, join_all((0..clients).map(client)));
}

/// An instant query an hour after the first samples, or one over a range of so many milliseconds from these on.
async fn ask(weir: &Weir, query: &str, range_ms: Option<i64>) -> (u16, Value) {
    let seconds = |ms: i64| (ms / 1000).to_string();
    match range_ms {
        None => weir.post_form("/api/v1/query", &[("query", query), ("time", &seconds(T0 + 3_600_000))]).await,
        Some(ms) => {
            let (start, end) = (seconds(T0), seconds(T0 + ms.max(120_000)));
            let form = [("query", query), ("start", &start), ("end", &end), ("step", "1")];
            weir.post_form("/api/v1/query_range", &form).await
        }
    }
}

/// A process in the group, which finds its limit there, or is told it where there is no group.
async fn start(data: &Path, group: &Group, scale: Scale) -> Weir {
    let limit = scale.limit.to_string();
    let mut launch = Launch::new(data).args(&["--retention", "off", "--storage-flush-interval", "1d"]);
    if let Group::Nowhere(_) = group {
        launch = launch.args(&["--memory-limit", &limit]);
    }
    let mut weir =
        launch.spawn_with(|layout: &Layout, name| Process::spawn(name, &mut group.command(layout.command(name))));
    let url = weir.url("/ready");
    long("ready", async || {
        assert!(weir.running[0].1.child.try_wait().expect("child").is_none(), "it ended while starting");
        weir.http.get(&url).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    assert_eq!(metric(&weir.metrics().await, "weir_memory_limit_bytes"), scale.limit as f64);
    weir
}

/// Asks again until it is so.
async fn long(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, asking).await.is_ok(), "not {what} within {LONG:?}");
}

impl Weir {
    /// `kill -9`, of a process that is still the one that was started.
    fn end(mut self) {
        assert!(
            self.running.iter_mut().all(|(_, process)| process.child.try_wait().expect("child").is_none()),
            "it ended by itself"
        );
        self.kill();
    }
}

/// What a process took, as it tells it and as the system does.
struct Peaks {
    page: String,
    /// Resident memory that is no file, at its peak and now. What is of files the system takes back when it wants to.
    resident: u64,
    anonymous: u64,
}

impl Peaks {
    async fn of(weir: &Weir) -> Peaks {
        let page = weir.metrics().await;
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", weir.running[0].1.child.id())).expect("it runs");
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the system tells it");
            line.trim_start_matches(':').trim_end_matches("kB").trim().parse::<u64>().expect("a number") << 10
        };
        Peaks { page, resident: kib("VmHWM").saturating_sub(kib("RssFile")), anonymous: kib("RssAnon") }
    }

    fn metric(&self, name: &str) -> f64 {
        metric(&self.page, name)
    }

    /// The most that a part held.
    fn part(&self, name: &str) -> f64 {
        part(&self.page, "peak_bytes", name)
    }

    fn share(&self, name: &str) -> f64 {
        part(&self.page, "share_bytes", name)
    }

    /// The limit was kept, and the shares of the parts which have one of their own.
    fn check(&self, when: &str, group: &Group, scale: Scale) {
        let mib = |bytes: f64| (bytes / 1048576.0).round();
        let parts = ["head", "writing", "index", "log", "queries", "alerting", "ingest"];
        let told = parts.map(|name| format!("{name} {} of {}", mib(self.part(name)), mib(self.share(name))));
        let held: f64 = parts.iter().map(|name| part(&self.page, "held_bytes", name)).sum();
        eprintln!(
            "{when}: resident without files at most {} MiB of {}, now {} and {} counted; at most, by part: {}",
            mib(self.resident as f64),
            mib(scale.limit as f64),
            mib(self.anonymous as f64),
            mib(held),
            told.join(", ")
        );
        assert_eq!(group.kills(), 0, "{when}: the system killed it");
        assert!(self.resident <= scale.limit, "{when}: {} of {} bytes", self.resident, scale.limit);
        // A record of each partition more than there is room for, with the places of the series that are known.
        let records = 4.0 * 1048576.0;
        assert!(self.part("head") <= self.share("head") + records, "{when}: the head had {}", self.part("head"));
        // An answer that is longer than was thought, by what came last, is there and has to be held.
        let answers = 1048576.0;
        assert!(
            self.part("queries") <= self.share("queries") + answers,
            "{when}: queries had {}",
            self.part("queries")
        );
    }
}

fn part(page: &str, what: &str, part: &str) -> f64 {
    metric(page, &format!("weir_memory_{what}{{part=\"{part}\"}}"))
}

fn metric(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{page}")).trim().parse().expect("a number")
}
