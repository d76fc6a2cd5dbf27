//! The endpoints beside queries, asked of Weir and of a real Prometheus that was sent the same samples.

use std::path::Path;
use std::process::{Command, Stdio};

use model::{Labels, Sample};
use serde_json::Value;

use crate::prometheus::Prometheus;
use crate::support::{free_port, labels, program, remote_write, until};
use crate::weir::Launch;

/// Starts one that scrapes nothing and takes remote write.
async fn empty(bin: &Path, dir: &Path, http: &reqwest::Client, features: &str) -> Prometheus {
    let address = format!("127.0.0.1:{}", free_port());
    std::fs::write(dir.join("prometheus.yml"), "").expect("written");
    let mut command = Command::new(bin);
    command
        .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .args(["--web.enable-remote-write-receiver", "--log.level=error"]);
    if !features.is_empty() {
        command.arg(format!("--enable-feature={features}"));
    }
    let prometheus = Prometheus { child: command.stdout(Stdio::null()).spawn().expect("starts"), address };
    until(async || {
        let ready = http.get(format!("http://{}/-/ready", prometheus.address)).send().await;
        ready.and_then(reqwest::Response::error_for_status).map(drop).map_err(|e| e.to_string())
    })
    .await;
    prometheus
}

async fn get(http: &reqwest::Client, address: &str, path: &str) -> (u16, Value) {
    let answer = http.get(format!("http://{address}{path}")).send().await.expect("answered");
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.expect("text")).expect("JSON"))
}

/// Series of which no two numbers are the same, but for those of names that are told.
fn series(now_ms: i64) -> Vec<(Labels, Vec<Sample>)> {
    let mut all = Vec::new();
    for n in 0..60 {
        let (name, path) = (["a_total", "b", "b", "c_seconds", "c_seconds", "c_seconds"][n % 6], "/".repeat(n % 4 + 1));
        let own = labels(&[("__name__", name), ("n", &n.to_string()), ("path", &path), ("ü", "ö\"\\")]);
        let samples = (0..=(n as i64 % 3)).map(|i| Sample { t: now_ms - 1000 * i, v: n as f64 }).rev().collect();
        all.push((own, samples));
    }
    let long = "x".repeat(300);
    all.push((labels(&[("__name__", "long"), ("text", &long)]), vec![Sample { t: now_ms, v: 1.0 }]));
    all
}

/// The elements of a list by their numbers: which of equal ones come first, or at all, is chance in Prometheus.
fn numbers(list: &Value) -> Vec<u64> {
    list.as_array().expect("a list").iter().map(|one| one["value"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn what_has_how_many_series_is_told_as_prometheus_tells_it() {
    let test = "what_has_how_many_series_is_told_as_prometheus_tells_it";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    let dir = tempfile::tempdir().expect("directory");
    let weir = Launch::new(&dir.path().join("weir")).start().await;
    let prometheus = empty(&bin, dir.path(), &weir.http, "").await;
    let path = "/api/v1/status/tsdb";
    let none = get(&weir.http, &prometheus.address, path).await;
    assert_eq!(weir.get(path).await, none, "of nothing");
    // Within one of the ranges of two hours at whose ends Prometheus cuts chunks.
    let range = 2 * 3_600_000;
    let series = series(runtime::clock::now_ms() / range * range - range / 2);
    assert_eq!(remote_write(&weir.http, &prometheus.address, &series).await.expect("sent"), 204);
    assert_eq!(weir.remote_write(&series).await.expect("sent"), 204);
    let (_, theirs) = get(&weir.http, &prometheus.address, &format!("{path}?limit=1000")).await;
    let (_, ours) = weir.get(&format!("{path}?limit=1000")).await;
    assert_eq!(ours["data"]["headStats"], theirs["data"]["headStats"]);
    assert_eq!(ours["data"]["headStats"]["numSeries"], 61);
    let lists = [
        "seriesCountByMetricName",
        "labelValueCountByLabelName",
        "memoryInBytesByLabelName",
        "seriesCountByLabelValuePair",
    ];
    for list in lists {
        let sorted = |answer: &Value| {
            let mut all = answer["data"][list].as_array().expect("a list").clone();
            all.sort_by_key(Value::to_string);
            all
        };
        assert_eq!(sorted(&ours), sorted(&theirs), "{list}");
    }
    let keys = |answer: &Value| answer["data"].as_object().expect("fields").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&ours), keys(&theirs));
    for limit in ["", "?limit=1", "?limit=3", "?limit=10000"] {
        let (_, theirs) = get(&weir.http, &prometheus.address, &format!("{path}{limit}")).await;
        let (_, ours) = weir.get(&format!("{path}{limit}")).await;
        for list in lists {
            assert_eq!(numbers(&ours["data"][list]), numbers(&theirs["data"][list]), "{list} {limit}");
        }
    }
    for bad in ["0", "-1", "x", "10001"] {
        let bad = format!("{path}?limit={bad}");
        assert_eq!(weir.get(&bad).await, get(&weir.http, &prometheus.address, &bad).await, "{bad}");
    }
    weir.stop();
}

#[tokio::test]
async fn endpoints_beside_queries_answer_as_those_of_prometheus() {
    let test = "endpoints_beside_queries_answer_as_those_of_prometheus";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    let all =
        "promql-experimental-functions,promql-binop-fill-modifiers,promql-delayed-name-removal,type-and-unit-labels";
    for features in ["", all] {
        let dir = tempfile::tempdir().expect("directory");
        let args = ["--enable-feature", features];
        let launch = Launch::new(dir.path());
        let weir = if features.is_empty() { launch.start().await } else { launch.args(&args).start().await };
        let dir = tempfile::tempdir().expect("directory");
        let prometheus = empty(&bin, dir.path(), &weir.http, features).await;
        let path = "/api/v1/features";
        let (ours, theirs) = (weir.get(path).await.1, get(&weir.http, &prometheus.address, path).await.1);
        for category in ["promql", "promql_functions", "promql_operators"] {
            assert_eq!(ours["data"][category], theirs["data"][category], "{category} with {features:?}");
        }
        for (category, own) in ours["data"].as_object().expect("categories") {
            for (name, is_on) in own.as_object().expect("features") {
                assert!(is_on.is_boolean() && theirs["data"][category].get(name).is_some(), "{category}: {name}");
            }
        }
        for path in [
            "targets",
            "targets/metadata",
            "targets/metadata?limit=x",
            "targets/metadata?match_target=x%7B",
            "targets/relabel_steps",
            "targets/relabel_steps?scrapePool=x",
            "targets/relabel_steps?scrapePool=x&labels=%7B%22a%22:%22b%22%7D",
            "scrape_pools",
            "scrape_pools/config",
            "scrape_pools/config?scrapePool=x",
            "alertmanagers",
            "status/walreplay",
        ] {
            let path = format!("/api/v1/{path}");
            assert_eq!(weir.get(&path).await, get(&weir.http, &prometheus.address, &path).await, "{path}");
        }
        weir.stop();
    }
}
