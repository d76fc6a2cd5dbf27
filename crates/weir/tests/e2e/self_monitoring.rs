//! What Weir tells of itself: the dashboards of the chart ask for what there is, and the page of the metrics names every one.
//!
//! Grafana is not run here; its queries are, each as the panel has it, against a Weir that watches itself under a little load.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::alerts::{SPEC, Sink, write_rules};
use crate::support::{at, until};
use crate::topology::EMPTY_QUERIES;
use crate::weir::{Launch, Weir};

pub(crate) fn dashboards() -> Vec<(String, Value)> {
    let folder = std::fs::read_dir(at("charts/weir/dashboards")).expect("the folder of the dashboards");
    let mut found = Vec::new();
    for entry in folder {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("text");
        found.push((name, serde_json::from_str(&text).expect("JSON")));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(
        found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["alerting", "pipeline", "queries", "storage"]
    );
    found
}

pub(crate) fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().expect("panels")
}

/// Every query of every panel, its variables replaced, with where it stands.
fn queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expr = target["expr"].as_str().expect("an expression").replace("$__rate_interval", "1m");
                assert!(!expr.contains('$'), "{name}, {}: a variable that is not replaced: {expr}", panel["title"]);
                found.push((format!("{name}, {}", panel["title"]), expr));
            }
        }
    }
    assert!(found.len() > 50, "{} queries", found.len());
    found
}

/// Watches itself as often as it may, with a rule that fires at once and a webhook that hears of it.
async fn watching_itself(dir: &Path) -> (Weir, Sink) {
    let mut sink = Sink::start().await;
    let rules = dir.join("rules");
    write_rules(&rules, &sink.url, SPEC);
    let data = dir.join("data");
    let args = ["--self-monitoring-interval", "200ms", "--rules", &rules.display().to_string()].map(str::to_owned);
    let weir = Launch { args: args.into(), ..Launch::new(&data) }.start().await;
    let hot = json!({"name": "temperature", "value": 99, "labels": {"room": "a"}});
    assert_eq!(weir.post_json("/metrics", &hot).await.0, 202);
    assert_eq!(weir.post_json("/metrics", &json!({"name": ""})).await.0, 400);
    sink.next().await;
    (weir, sink)
}

#[tokio::test]
async fn every_query_of_every_dashboard_returns_data() {
    let dir = tempfile::tempdir().expect("directory");
    let (weir, _sink) = watching_itself(dir.path()).await;
    for (place, expr) in queries() {
        if EMPTY_QUERIES.iter().any(|(metric, _)| expr.contains(metric)) {
            assert_eq!(weir.query(&expr).await, json!([]), "{place} is not empty: take it from the list");
            continue;
        }
        // A rate needs two readings.
        until(async || match weir.query(&expr).await {
            Value::Array(result) if !result.is_empty() => Ok(()),
            other => Err(format!("{place}: {expr}: {other}")),
        })
        .await;
    }
}

/// The names of metrics in the tables of the page.
pub(crate) fn documented() -> BTreeSet<String> {
    let page = std::fs::read_to_string(at("docs/self-monitoring.md")).expect("the page");
    let names = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[tokio::test]
async fn bounds_are_those_of_the_flags() {
    let flags = [
        ("--ingest-inflight-bytes-max", 7_000_001, "weir_ingest_inflight_bytes_max", 7_000_001),
        ("--ingest-body-bytes-max", 5_000_002, "weir_ingest_body_bytes_max", 5_000_002),
        // In four partitions, each of which may hold four times its share.
        ("--queue-retention-bytes", 4_000_004, "weir_queue_disk_bytes_max", 4_000_004),
        ("--storage-head-bytes-max", 3_000_005, "weir_storage_head_bytes_max", 3_000_005),
        ("--storage-index-cache-bytes", 2_000_006, "weir_storage_index_cache_bytes_max", 2_000_006),
        ("--storage-exemplars-max", 4, "weir_storage_exemplars_max", 4),
        ("--query-concurrency-max", 6, "weir_query_running_queries_max", 6),
        ("--query-waiting-max", 7, "weir_query_waiting_queries_max", 7),
        ("--query-samples-max", 8, "weir_query_samples_max", 8),
        ("--query-series-max", 9, "weir_query_series_max", 9),
        ("--alerting-window-bytes", 2_000_010, "weir_alerting_window_bytes_max", 2_000_010),
        ("--alerting-deliveries-max", 11, "weir_alerting_running_deliveries_max", 11),
    ];
    let dir = tempfile::tempdir().expect("directory");
    let args = flags.iter().flat_map(|(flag, value, ..)| [(*flag).to_owned(), value.to_string()]);
    let weir = Launch { args: args.collect(), ..Launch::new(dir.path()) }.start().await;
    let text = weir.metrics().await;
    for (flag, _, name, value) in flags {
        assert!(text.contains(&format!("\n{name} {value}\n")), "{flag}: {name} is not {value}");
    }
}

#[tokio::test]
async fn the_page_of_the_metrics_names_everything_that_is_served_as_a_sentence() {
    let dir = tempfile::tempdir().expect("directory");
    let (weir, _sink) = watching_itself(dir.path()).await;
    let text = weir.metrics().await;
    let served = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).map(|(name, _)| name);
    let served: BTreeSet<&str> = served.filter(|name| !name.starts_with("process_")).collect();
    assert!(served.len() > 60, "{text}");
    let helps: Vec<&str> = text.lines().filter(|line| line.starts_with("# HELP ")).collect();
    assert_eq!(helps.iter().find(|help| !help.ends_with('.')), None, "no full stop");
    let documented = documented();
    let missing: Vec<&&str> = served.iter().filter(|name| !documented.contains(**name)).collect();
    assert!(missing.is_empty(), "docs/self-monitoring.md lacks {missing:?}");
}
