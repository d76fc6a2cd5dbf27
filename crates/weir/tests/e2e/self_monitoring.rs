//! What Weir tells of itself: the dashboards of the chart ask for what there is, and the page of the metrics names every one.
//!
//! Grafana is not run here; its queries are, each as the panel has it, against a Weir that watches itself under a little load.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::alerts::{SPEC, Sink, write_rules};
use crate::support::{Launch, Weir, until};

/// Queries that find nothing here, by a metric of theirs, with the reason.
const EMPTY: &[(&str, &str)] =
    &[("weir_storage_reader_node_up", "in one process there are no replicas of storage to be asked over the network")];

fn at(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn dashboards() -> Vec<(String, Value)> {
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

fn panels(dashboard: &Value) -> &Vec<Value> {
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
        if EMPTY.iter().any(|(metric, _)| expr.contains(metric)) {
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

#[test]
fn every_panel_says_what_it_shows_and_has_its_place() {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        assert!(uids.insert(dashboard["uid"].to_string()), "{name}");
        assert!(dashboard["description"].as_str().is_some_and(|d| d.ends_with('?')), "{name}: the question it answers");
        let variable = &dashboard["templating"]["list"][0];
        assert_eq!((&variable["name"], &variable["type"]), (&json!("datasource"), &json!("datasource")), "{name}");
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in panels(&dashboard) {
            let place = format!("{name}, {}", panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{place}: its id is there twice");
            let side = |of: &str| panel["gridPos"][of].as_u64().expect("a place");
            for (x, y) in
                (side("x")..side("x") + side("w")).flat_map(|x| (side("y")..side("y") + side("h")).map(move |y| (x, y)))
            {
                assert!(x < 24 && taken.insert((x, y)), "{place} overlaps at {x}, {y}");
            }
            if panel["type"] == "row" {
                continue;
            }
            assert!(panel["description"].as_str().is_some_and(|d| d.ends_with('.')), "{place}: no description");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{place}: no unit");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{place}");
            assert!(panel["targets"].as_array().is_some_and(|t| !t.is_empty()), "{place}: no query");
        }
    }
}

/// The names of metrics in the tables of the page.
fn documented() -> BTreeSet<String> {
    let page = std::fs::read_to_string(at("docs/self-monitoring.md")).expect("the page");
    let names = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// Names of metrics in the code of all crates, tests left out, with their meaning where it stands behind them.
fn in_the_code() -> BTreeMap<String, Option<String>> {
    let mut names = BTreeMap::new();
    let mut folders = vec![at("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).expect("text");
                let prefixed = ["alerting", "controller"];
                let prefix = prefixed.into_iter().find(|name| path.ends_with(format!("{name}/src/metrics.rs")));
                names_in(text.split("#[cfg(test)]\nmod tests {").next().expect("the first part"), prefix, &mut names);
            }
        }
    }
    names
}

/// Texts that begin with `weir_` and are nothing but a name; where a component puts its prefix before them, names that stand before a text
/// which begins as a sentence does, their meaning.
fn names_in(code: &str, prefix: Option<&str>, names: &mut BTreeMap<String, Option<String>>) {
    let texts: Vec<&str> = code.split('"').collect();
    for (number, text) in texts.iter().enumerate() {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            continue;
        }
        let begins = |t: &&str| t.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit());
        let meaning = texts.get(number + 1).filter(|t| t.trim() == ",").and_then(|_| texts.get(number + 2));
        let meaning = meaning.filter(|t| begins(t)).map(|t| (*t).to_owned());
        let name = match prefix {
            Some(component) if meaning.is_some() => format!("weir_{component}_{text}"),
            // With one underscore it is the name of something else, such as the sample of `weir verify`.
            None if text.starts_with("weir_") && text.matches('_').count() > 1 => (*text).to_owned(),
            _ => continue,
        };
        let known = names.entry(name).or_default();
        *known = known.take().or(meaning);
    }
}

#[test]
fn the_page_of_the_metrics_names_those_of_the_code_and_no_others() {
    let code = in_the_code();
    assert!(code.len() > 80, "{code:?}");
    assert_eq!(documented(), code.into_keys().collect());
}

#[test]
fn every_help_text_is_a_sentence() {
    let with: Vec<(String, String)> =
        in_the_code().into_iter().filter_map(|(name, help)| Some((name, help?))).collect();
    assert!(with.len() > 80, "{with:?}");
    let without: Vec<_> = with.iter().filter(|(_, help)| !help.ends_with('.')).collect();
    assert!(without.is_empty(), "no full stop: {without:?}");
}

#[test]
fn every_bound_has_the_name_of_what_it_bounds() {
    let code = in_the_code();
    let bounds = code.iter().filter_map(|(name, help)| Some((name, help.as_ref()?.strip_prefix("Bound of ")?)));
    let bounds: Vec<(&String, &str)> = bounds.collect();
    assert!(bounds.len() > 5, "{bounds:?}");
    for (name, meaning) in bounds {
        let of = meaning.split([',', ';', '.']).next().expect("the first part");
        assert!(code.contains_key(of), "{name} is the bound of {of}, which is not there");
        assert_eq!(*name, format!("{of}_max"));
    }
}

#[tokio::test]
async fn bounds_are_those_of_the_flags() {
    let flags = [
        ("--ingest-inflight-bytes-max", 7_000_001, "weir_ingest_inflight_bytes_max", 7_000_001),
        ("--ingest-body-bytes-max", 5_000_002, "weir_ingest_body_bytes_max", 5_000_002),
        // In four partitions, each of which may hold four times its share.
        ("--queue-retention-bytes", 4_000_004, "weir_queue_disk_bytes_max", 4_000_004),
        ("--storage-head-bytes-max", 3_000_005, "weir_storage_head_bytes_max", 3_000_005),
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
