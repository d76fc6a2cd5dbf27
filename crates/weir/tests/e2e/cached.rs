//! Answers to range queries that are kept are those that an evaluation gives: while samples come, come late and come again, and while some are deleted.

use std::collections::BTreeMap;

use model::{Labels, Sample};
use serde_json::Value;

use crate::support::{encode_form, labels};
use crate::topology;
use crate::weir::{Launch, Weir};

/// Time of the first samples, between two minutes.
const T0: i64 = 1_790_000_000_000;
const STEP_MS: i64 = 15_000;
/// Series of each metric.
const SERIES: usize = 90;
/// Samples of a series before anything is asked.
const BEFORE: i64 = 240;

/// Writes and questions after them, each: so many, and more only where too few answers were kept.
const ROUNDS: usize = 90;
const ROUNDS_MAX: usize = 900;

/// What a dashboard may ask. The last ones are never kept.
const QUERIES: [&str; 11] = [
    "sum by (job) (rate(m0[5m]))",
    "m0{n=~\"1.\"} / ignoring (job) m1{n=~\"1.\"}",
    "max_over_time(m1[10m])",
    "avg by (job) (m1 offset 7m) > 20",
    "sum(increase(m2[3m] offset -2m))",
    "max_over_time(sum by (job) (rate(m0[2m]))[10m:1m])",
    "quantile by (job) (0.9, m0 - m0 offset 5m)",
    "max by (job) (m2) or vector(0)",
    "topk(3, m2) or vector(0)",
    "sum({__name__=~\"m.\"})",
    "sum(rate(m0[5m] @ end()))",
];

/// Draws numbers that look random and are the same each time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as i64 % n
    }
}

fn series(metric: i64, n: usize) -> Labels {
    labels(&[("__name__", &format!("m{metric}")), ("job", ["a", "b", "c"][n % 3]), ("n", &n.to_string())])
}

/// One sample of some series of a metric.
fn samples(draw: &mut Draw, metric: i64, t: i64) -> Vec<(Labels, Vec<Sample>)> {
    let v = |draw: &mut Draw| (t - T0) as f64 / 1000.0 + draw.below(100) as f64;
    (0..SERIES).map(|n| (series(metric, n), vec![Sample { t, v: v(draw) }])).collect()
}

async fn write(weir: &Weir, series: &[(Labels, Vec<Sample>)]) {
    assert_eq!(weir.remote_write(series).await.expect("answered"), 204);
}

/// The answer by series, to the bit that JSON shows, which is the last one; and what is said of the question.
async fn ask(weir: &Weir, query: &str, (start, end): (i64, i64), nocache: &str) -> BTreeMap<String, String> {
    let seconds = |ms: i64| (ms as f64 / 1000.0).to_string();
    let (start, end) = (seconds(start), seconds(end));
    let form = [("query", query), ("start", &start), ("end", &end), ("step", "15"), ("nocache", nocache)];
    let (status, answer) = weir.post_form("/api/v1/query_range", &form).await;
    assert_eq!((status, answer.get("warnings")), (200, None), "{query}: {answer}");
    let Value::Array(all) = &answer["data"]["result"] else { panic!("{answer}") };
    let infos = ("infos".to_owned(), answer["infos"].to_string());
    all.iter().map(|one| (one["metric"].to_string(), one["values"].to_string())).chain([infos]).collect()
}

fn metric(page: &str, name: &str) -> Option<f64> {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(value.parse().expect("a number"))
}

/// Whether kept answers were used often enough, whole and in part, for their comparison to mean something.
async fn is_kept_enough(weir: &Weir) -> bool {
    let page = weir.metrics().await;
    let used = ["hit", "partial"]
        .map(|result| metric(&page, &format!("weir_query_cache_requests_total{{result=\"{result}\"}}")));
    let [hits, partial] = used.map(Option::unwrap_or_default);
    eprintln!("{hits} hits, {partial} in part");
    hits >= 5.0 && partial >= 50.0
}

#[tokio::test]
async fn what_is_kept_of_answers_is_what_an_evaluation_gives() {
    let dir = tempfile::tempdir().expect("directory");
    let launch = Launch::new(dir.path()).args(&["--retention", "off"]).env("WEIR_ENABLE_ADMIN_API", "true");
    let weir = launch.start().await;
    let storage = weir.running.iter().find(|(name, _)| *name == "storage").unwrap_or(&weir.running[0]);
    let delete_url = format!("http://{}/api/v1/admin/tsdb/delete_series", storage.1.address);
    let mut draw = Draw(11);
    let mut now = T0;
    for _ in 0..BEFORE {
        now += STEP_MS;
        let all: Vec<_> = (0..3).flat_map(|metric| samples(&mut draw, metric, now)).collect();
        write(&weir, &all).await;
    }
    // Where storage is asked over the network and does not tell in time what changed, nothing is kept for a while; so there are more rounds then.
    for round in 0..ROUNDS_MAX {
        if round >= ROUNDS && is_kept_enough(&weir).await {
            break;
        }
        let metric = draw.below(3);
        match draw.below(10) {
            0..6 => {
                now += STEP_MS;
                let all: Vec<_> = (0..3).flat_map(|metric| samples(&mut draw, metric, now)).collect();
                write(&weir, &all).await;
            }
            6..8 => {
                let late = now - draw.below(BEFORE * STEP_MS);
                let all = samples(&mut draw, metric, late);
                write(&weir, &all[..1 + draw.below(5) as usize]).await;
            }
            8 => {
                // A series that was not there before, and whose samples are of long ago.
                let new =
                    labels(&[("__name__", &format!("m{metric}")), ("job", "late"), ("n", &format!("late{round}"))]);
                let at = |k: i64| Sample { t: now - 1_800_000 + k * STEP_MS, v: k as f64 };
                write(&weir, &[(new, (0..20).map(at).collect())]).await;
            }
            _ => {
                let from = (now - draw.below(BEFORE * STEP_MS)) / 1000;
                let what = format!("m{metric}{{n=\"{}\"}}", draw.below(SERIES as i64));
                let query = [("match[]", &*what), ("start", &from.to_string()), ("end", &(from + 90).to_string())];
                let url = format!("{delete_url}?{}", encode_form(&query));
                let answer = weir.http.post(url).bearer_auth(topology::TOKEN).send().await.expect("answered");
                assert_eq!(answer.status(), 204);
            }
        }
        for _ in 0..3 {
            let query = QUERIES[draw.below(QUERIES.len() as i64) as usize];
            // A panel of the last half hour, or of the hour, drawn when it likes.
            let range = [1_800_000, 3_600_000][draw.below(2) as usize];
            let end = now + draw.below(3) * STEP_MS;
            let range = (end - range, end);
            let (kept, evaluated) = (ask(&weir, query, range, "0").await, ask(&weir, query, range, "1").await);
            assert_eq!(kept, evaluated, "round {round}: {query} of {range:?}");
        }
    }
    assert!(is_kept_enough(&weir).await);
    let page = weir.metrics().await;
    let metric = |name: &str| metric(&page, name).expect("a metric");
    let held = metric("weir_query_cache_bytes");
    assert!(held > 0.0 && held <= metric("weir_query_cache_bytes_max"), "{held} bytes");
    assert_eq!(metric("weir_query_cache_evictions_total"), 0.0, "there is room for all");
}
