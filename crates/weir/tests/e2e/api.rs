//! The endpoints beside queries, asked of Weir and of a real Prometheus that was sent the same samples.

use std::path::Path;
use std::process::{Command, Stdio};

use model::{Labels, Sample};
use serde_json::Value;

use crate::prometheus::Prometheus;
use crate::support::{free_port, labels, program, remote_write, until};
use crate::weir::Launch;

/// Starts one that scrapes nothing and takes remote write.
pub(crate) async fn empty(bin: &Path, dir: &Path, http: &reqwest::Client, features: &str) -> Prometheus {
    configured(bin, dir, http, features, "").await
}

/// The same with a configuration.
async fn configured(bin: &Path, dir: &Path, http: &reqwest::Client, features: &str, config: &str) -> Prometheus {
    let address = format!("127.0.0.1:{}", free_port());
    std::fs::write(dir.join("prometheus.yml"), config).expect("written");
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

const RULES: &str = "groups:
- name: web
  interval: 30s
  limit: 7
  rules:
  - alert: Slow
    expr: sum by(job)(rate(lag_seconds[5m]))>1 # of all
    for: 1h
    keep_firing_for: 1m30s
    labels: {severity: page, team: blue}
    annotations: {summary: '{{ $value }}'}
  - record: job:lag
    expr: sum(lag_seconds)by(job)
    labels: {team: red}
- name: a
  rules:
  - alert: Down
    expr: up==0
    labels: {severity: page}
- name: b
  rules:
  - {record: b, expr: 'up{job=\"b\"} or on(job) vector(1)'}
";

/// What asks for rules and has an answer.
const LISTS: &[&str] = &[
    "",
    "type=alert",
    "type=Record",
    "rule_name[]=Down&rule_name[]=Slow",
    "rule_group[]=b",
    "rule_group[]=a&rule_name[]=b",
    "file[]=nosuch",
    "match[]={severity=%22page%22}",
    "match[]={team=~%22r.%2B%22}&match[]={team=%22blue%22}",
    "match[]={alertname=%22Down%22}",
    "match[]={team!=%22red%22,severity!=%22%22}",
    "exclude_alerts=T&type=alert",
    "exclude_alerts=FALSE",
    "group_limit=1",
    "group_limit=2",
    "group_limit=9",
    "group_limit=1&type=record",
    "group_limit=2147483647&group_next_token=",
];

/// What is wrong, below `/api/v1`.
const WRONG: &[&str] = &[
    "rules?type=x",
    "rules?type=RECORDED",
    "rules?exclude_alerts=Maybe",
    "rules?match[]={}",
    "rules?match[]=x{",
    "rules?group_next_token=x",
    "rules?group_limit=x",
    "rules?group_limit=2147483648",
    "rules?group_limit=-1",
    "rules?group_limit=0&type=x&match[]={}",
    "rules?group_limit=1&group_next_token=x",
    "query?query=up&timeout=0",
    "query?query=up&timeout=-1",
    "query?query=up&timeout=-90.5",
    "query?query=up&timeout=1e-10",
    "query?query=up&timeout=x",
    "query?query=up&timeout=nan",
    "query?query=up&timeout=1e400",
    "query?query=up&time=x",
    "query?query=up&time=1e400",
    "query?query=up&limit=x",
    "query?query=up&limit=-1",
    "query?query=up&limit=1.5",
    "query?query=up&lookback_delta=x",
    "query?query=up&lookback_delta=NaN",
    "query?limit=x&time=x",
    "query_range?query=up",
    "query_range?query=up&start=1&end=x",
    "query_range?query=up&start=5&end=1&step=1",
    "query_range?query=up&start=1&end=5",
    "query_range?query=up&start=1&end=5&step=NaN",
    "query_range?query=up&start=1&end=5&step=1e10",
    "query_range?query=up&start=1&end=5&step=-1&timeout=0",
    "query_range?query=up&start=1&end=5&step=1&timeout=0&lookback_delta=x",
    "query_range?query=up&start=1&end=11002&step=1",
    "labels?limit=x",
    "labels?start=x",
    "labels?end=x",
    "labels?match[]={}",
    "labels?match[]=x{",
    "series",
    "series?match[]={}",
    "series?match[]=up&start=x",
    "series?match[]=up&limit=-1",
    "label/job/values?limit=x",
    "label/job/values?match[]=x{",
    "query_exemplars?query=up&start=2&end=1",
    "query_exemplars?query=up&start=x",
    "metadata?limit=x",
    "metadata?limit_per_metric=x",
    "format_query?query=sum(",
    "status/tsdb?limit=0",
];

/// An answer without what differs between any two servers.
fn settled(mut answer: (u16, Value)) -> (u16, Value) {
    answer.1.as_object_mut().expect("an object").remove("warnings");
    let groups = answer.1["data"]["groups"].as_array_mut();
    for group in groups.into_iter().flatten() {
        let rules = group["rules"].as_array_mut().expect("rules");
        for rule in rules.iter_mut().map(|rule| rule.as_object_mut().expect("a rule")) {
            for changing in ["health", "lastError", "state", "evaluationTime", "lastEvaluation"] {
                rule.remove(changing);
            }
        }
        for changing in ["evaluationTime", "lastEvaluation"] {
            group.as_object_mut().expect("a group").remove(changing).expect("it is told");
        }
    }
    answer
}

#[tokio::test]
async fn rules_are_listed_and_what_is_wrong_is_told_as_by_a_real_prometheus() {
    let test = "rules_are_listed_and_what_is_wrong_is_told_as_by_a_real_prometheus";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    let dir = tempfile::tempdir().expect("directory");
    let rules = dir.path().join("rules.yaml");
    std::fs::write(&rules, RULES).expect("written");
    let (data, rules) = (dir.path().join("weir"), rules.to_str().expect("UTF-8"));
    let weir = Launch::new(&data).args(&["--rules", rules]).start().await;
    // The default of Weir.
    let config = format!("global: {{evaluation_interval: 15s}}\nrule_files: ['{rules}']\n");
    let prometheus = configured(&bin, dir.path(), &weir.http, "", &config).await;
    let mut tokens = Vec::new();
    for query in LISTS {
        let path = format!("/api/v1/rules?{query}");
        let (ours, theirs) = (weir.get(&path).await, get(&weir.http, &prometheus.address, &path).await);
        let token = theirs.1["data"]["groupNextToken"].as_str().map(str::to_owned);
        assert_eq!(settled(ours), settled(theirs), "{query}");
        tokens.extend(token);
    }
    assert!(tokens.len() > 2, "{tokens:?}");
    for token in tokens {
        let path = format!("/api/v1/rules?group_limit=1&group_next_token={token}");
        let (ours, theirs) = (weir.get(&path).await, get(&weir.http, &prometheus.address, &path).await);
        assert_eq!(settled(ours), settled(theirs), "{path}");
    }
    for wrong in WRONG {
        let path = format!("/api/v1/{wrong}");
        let (ours, theirs) = (weir.get(&path).await, get(&weir.http, &prometheus.address, &path).await);
        assert!(theirs.0 >= 400, "{wrong}: {theirs:?}");
        assert_eq!(ours, theirs, "{wrong}");
    }
    for path in ["query", "labels", "label/a/values", "status/flags", "rules", "alerts", "nosuch"] {
        let options = async |address: &str| {
            let request = weir.http.request(reqwest::Method::OPTIONS, format!("http://{address}/api/v1/{path}"));
            let answer = request.header("origin", "http://elsewhere.example").send().await.expect("answered");
            let told = answer.headers().iter().filter(|(name, _)| name.as_str().starts_with("access-control-"));
            let mut told: Vec<_> = told.map(|(name, value)| (name.to_string(), value.clone())).collect();
            told.sort_by(|a, b| a.0.cmp(&b.0));
            // Any origin, in Prometheus by its own name.
            let origin = told.iter_mut().find(|(name, _)| name == "access-control-allow-origin");
            let origin = std::mem::replace(&mut origin.expect("allowed").1, "*".parse().expect("a value"));
            assert!(origin == "*" || origin == "http://elsewhere.example", "{origin:?}");
            (answer.status().as_u16(), told)
        };
        let ours = options(weir.address("/api/v1/query")).await;
        assert_eq!((ours.0, ours.1.len()), (204, 4), "{path}");
        assert_eq!(ours, options(&prometheus.address).await, "{path}");
    }
    weir.stop();
}
