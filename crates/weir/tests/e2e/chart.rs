//! What is written beside the code, held against it and against each other: the chart's rules, their runbooks, its dashboards, and the page of
//! the metrics. Nothing is started here, so it is tested in one test program only.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::self_monitoring::{dashboards, documented, panels};
use crate::support::{at, run, weir_bin};

/// The documents of the chart's rules, by name.
fn rules() -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(at("charts/weir/rules")).expect("the folder of the rules") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("text");
        for document in serde_yaml::Deserializer::from_str(&text) {
            let rule = Value::deserialize(document).expect("YAML");
            assert_eq!(rule["kind"], "AlertRule", "{}", path.display());
            let name = rule["metadata"]["name"].as_str().expect("a name").to_owned();
            assert!(found.insert(name, rule).is_none(), "{}: a name is there twice", path.display());
        }
    }
    found
}

#[test]
fn every_rule_of_the_chart_fires_on_what_it_is_for_and_not_on_what_is_near() {
    let path = at("charts/weir/rule-tests/rules.yaml");
    run(Command::new(weir_bin()).args(["test", "rules"]).arg(&path));
    let text = std::fs::read_to_string(&path).expect("text");
    let file: Value = serde_yaml::from_str(&text).expect("YAML");
    let (mut fires, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    for test in file["tests"].as_array().expect("tests") {
        let name = test["name"].as_str().expect("a name");
        assert!(test["input_series"].as_array().is_some_and(|series| !series.is_empty()), "{name}: no series");
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let alerts = list(&test["alert_rule_test"]);
        let expected = |alert: &Value| !list(&alert["exp_alerts"]).is_empty();
        let rules: BTreeSet<&str> = alerts.iter().filter_map(|alert| alert["alertname"].as_str()).collect();
        let [rule] = rules.into_iter().collect::<Vec<&str>>()[..] else { panic!("{name}: of one rule") };
        if alerts.iter().any(expected) {
            assert_eq!(name, format!("{rule} fires"));
            fires.insert(rule.to_owned());
        } else {
            assert_eq!(name, format!("{rule} is quiet"));
            // Not even about to fire.
            assert_eq!(test["promql_expr_test"][0]["expr"], format!("ALERTS{{alertname=\"{rule}\"}}"));
            quiet.insert(rule.to_owned());
        }
    }
    let all: BTreeSet<String> = rules().into_keys().collect();
    assert_eq!((&fires, &quiet), (&all, &all), "each rule has both, and each test a rule");
}

#[test]
fn every_rule_of_the_chart_is_valid_and_says_what_to_do() {
    let told = run(Command::new(weir_bin()).args(["check", "rules"]).arg(at("charts/weir/rules")));
    let rules = rules();
    assert_eq!(told.lines().filter(|line| line.starts_with("ok ")).count(), rules.len(), "{told}");
    let mut pages = BTreeSet::new();
    for (name, rule) in &rules {
        let spec = &rule["spec"];
        let severity = spec["labels"]["severity"].as_str().expect("a severity");
        assert!(["page", "warning"].contains(&severity), "{name}: {severity}");
        for text in ["summary", "description"] {
            assert!(spec["annotations"][text].as_str().is_some_and(|t| t.len() > 10), "{name} has no {text}");
        }
        assert_eq!(spec["annotations"]["runbook_url"], format!("docs/runbooks/{name}.md"), "{name}");
        let page = std::fs::read_to_string(at(&format!("docs/runbooks/{name}.md")));
        let page = page.unwrap_or_else(|e| panic!("the runbook of {name}: {e}"));
        for part in [&format!("# {name}\n"), "\n## Meaning\n", "\n## Impact\n", "\n## Diagnose\n", "\n## Mend\n"] {
            assert!(page.contains(part), "the runbook of {name} has no {part:?}");
        }
        // The page shows the expression as it is; the folding of YAML makes one line of several.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let expr = spec["expr"].as_str().expect("an expression");
        assert!(words(&page).contains(&words(expr)), "the runbook of {name} shows another expression");
        pages.insert(format!("{name}.md"));
    }
    pages.insert("README.md".to_owned());
    let folder = std::fs::read_dir(at("docs/runbooks")).expect("the folder of the runbooks");
    let there: BTreeSet<String> =
        folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    assert_eq!(there, pages, "a runbook for each rule, and no other");
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

/// Names of metrics in the code of all crates, tests and benches left out, with their meaning where it stands behind them.
fn in_the_code() -> BTreeMap<String, Option<String>> {
    let mut names = BTreeMap::new();
    let mut folders = vec![at("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("tests") && !path.ends_with("benches") {
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
