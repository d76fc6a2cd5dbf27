use super::*;
use crate::Alerting;

const GOOD: &str = "\
apiVersion: weir.dev/v1alpha1
kind: AlertRule
metadata:
  name: high-latency
spec:
  expr: vector(1)
  for: 5m
  keepFiringFor: 1m30s
  channel: pager
  labels: {severity: page}
  annotations:
    summary: '{{ $labels.job }} is at {{ $value | humanize }}'
---
apiVersion: weir.dev/v1alpha1
kind: NotificationChannel
metadata: {name: pager}
spec:
  webhook:
    url: http://127.0.0.1:9/hook
    headers: {Authorization: Bearer secret}
    timeout: 3s
    maxAlerts: 7
";

fn read(text: &str) -> Loaded {
    load_text(text, "rules/a.yaml", &Features::default())
}

fn problems(text: &str) -> Vec<String> {
    read(text).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn rule_files_may_have_merge_keys() {
    let text = |also: &str| {
        format!(
            "groups:
- name: g
  rules:
  - &a
    alert: A
    expr: up
    for: 5m
    labels: &l {{severity: page, n: 1}}
  - <<: *a
    alert: B
    labels:
      n: 2
      <<: *l
{also}"
        )
    };
    let loaded = read(&text(""));
    assert_eq!(loaded.problems.len(), 0, "{:?}", loaded.problems);
    let [_, b] = &loaded.rules[..] else { panic!("{:?}", loaded.rules) };
    let labels: Vec<_> = b.labels.iter().map(|(name, value)| (name.as_str(), value.text())).collect();
    assert_eq!(labels, [("n", "2"), ("severity", "page")]);
    assert_eq!(b.alerting().expect("an alert").for_ms, 300_000);
    // Two in one map are refused here, as by Prometheus, and what is merged into a rule is checked as if it stood there.
    check(&text("      <<: *l\n"), "rules/a.yaml:12", "duplicate entry with key \"<<\"");
    check(&text("  - <<: {alert: C, expr: up, fro: 5m}\n"), "rules/a.yaml:14", "unknown field `fro`");
}

/// The only problem of a text begins and goes on so.
fn check(text: &str, place: &str, reason: &str) {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with(place) && problems[0].contains(reason), "{}", problems[0]);
}

#[test]
fn a_rule_and_its_channel_load() {
    let loaded = read(GOOD);
    assert_eq!(loaded.problems, []);
    let rule = &loaded.rules[0];
    let alerting = rule.alerting().expect("alerts");
    assert_eq!((rule.uid.as_str(), rule.name.as_str()), ("rules/a.yaml;high-latency;high-latency", "high-latency"));
    assert_eq!((alerting.for_ms, alerting.keep_firing_for_ms), (300_000, 90_000));
    assert_eq!(alerting.channel.as_deref(), Some("pager"));
    let webhook = &loaded.channels[0].webhook;
    assert_eq!((webhook.timeout_ms, webhook.alerts_max, webhook.send_resolved), (3000, 7, true));
    assert!(!format!("{webhook:?}").contains("secret"), "secrets are not printed");
}

#[test]
fn a_bad_document_stops_only_itself_and_says_where() {
    let bad = "---\napiVersion: weir.dev/v1alpha1\nkind: AlertRule\nmetadata: {name: x}\nspec:\n  expr: vector(1)\n  foor: 1m\n";
    let text = format!(
        "{GOOD}{bad}---\nnot: [closed\n---\n{}",
        GOOD.replace("high-latency", "other").replace("name: pager", "name: b")
    );
    let loaded = read(&text);
    assert_eq!(loaded.rules.len(), 2);
    let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].starts_with("rules/a.yaml:29: document 3: spec: unknown field `foor`, expected one of"),
        "{}",
        problems[0]
    );
    assert!(problems[1].starts_with("rules/a.yaml:3") && problems[1].contains("document 4"), "{}", problems[1]);
    assert_eq!(loaded.bad_files().into_iter().collect::<Vec<_>>(), ["rules/a.yaml"]);
}

#[test]
fn a_bad_expression_is_shown_with_a_caret() {
    let text = GOOD.replace("  expr: vector(1)\n", "  expr: |\n    vector(1) +\n      sum(1))\n");
    let problems = problems(&text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let lines: Vec<&str> = problems[0].lines().collect();
    assert!(lines[0].starts_with("rules/a.yaml:6: document 1: high-latency: spec.expr: 2:"), "{}", lines[0]);
    assert!(lines[0].contains("parse error"), "{}", lines[0]);
    assert_eq!(lines[1], "    sum(1))");
    assert!(lines[2].trim() == "^" && lines[2].len() > 4, "{:?}", lines[2]);
}

#[test]
fn every_fault_of_a_document_is_told() {
    let text = GOOD
        .replace("for: 5m", "for: 5")
        .replace("{severity: page}", "{__name__: x, severity: '{{ .x'}")
        .replace("name: high-latency", "name: high latency");
    let problems = problems(&text);
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert!(problems[0].contains(":4:9: document 1: high latency: metadata.name: "), "{}", problems[0]);
    assert!(problems[1].contains(":7: document 1: high latency: spec.for: not a valid duration"), "{}", problems[1]);
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let slack =
        "apiVersion: weir.dev/v1alpha1\nkind: NotificationChannel\nmetadata: {name: x}\nspec:\n  slack: {url: x}\n";
    check(slack, "rules/a.yaml:5: document 1: x: spec.slack: ", "not supported yet");
    check(
        "apiVersion: weir.dev/v1alpha1\nkind: Silence\n",
        "rules/a.yaml:2: document 1: kind: ",
        "Silence is not supported yet",
    );
    check("apiVersion: v1\nkind: ConfigMap\n", "rules/a.yaml:2: document 1: kind: ", "is not known");
    check("a: 1\n", "rules/a.yaml:1: document 1: ", "neither");
    check(
        &GOOD.replace("v1alpha1\nkind: A", "v1\nkind: A"),
        "rules/a.yaml:1: document 1: high-latency: apiVersion: ",
        "is not known",
    );
    check(
        &GOOD.replace("channel: pager", "channel: nobody"),
        "rules/a.yaml: high-latency: spec.channel: ",
        "not loaded",
    );
    let channel = GOOD.split("---\n").nth(1).expect("two documents");
    check(
        &channel.replace("http://127", "ftp://127"),
        "rules/a.yaml:6: document 1: pager: spec.webhook.url",
        "http://HOST",
    );
}

#[test]
fn a_warning_does_not_stop_a_rule() {
    let loaded = read(&GOOD.replace("channel: pager", "channel: nobody"));
    assert_eq!(loaded.rules[0].alerting().and_then(|a| a.channel.as_deref()), Some("nobody"));
    assert_eq!(loaded.problems[0].severity, Severity::Warning);
    assert!(loaded.bad_files().is_empty());
}

const FILE: &str = "\
groups:
- name: node
  interval: 30s
  limit: 5
  labels: {team: infra}
  rules:
  - record: job:up:sum
    expr: vector(1)
  - alert: Down
    expr: 1
    for: 1m
    keep_firing_for: 2m
    labels: {severity: 1}
  - alert: Down
    expr: vector(2)
    labels: {severity: warning, team: web}
";

#[test]
fn prometheus_rule_files_load() {
    let channel = GOOD.split("---\n").nth(1).expect("two documents").replace("name: pager", "name: default");
    let loaded = read(&format!("{FILE}---\n{channel}"));
    assert_eq!(loaded.problems, []);
    let shown: Vec<_> = loaded.rules.iter().map(|r| (r.uid.as_str(), r.kind == Kind::Recording, r.limit)).collect();
    let uid = "rules/a.yaml;node;";
    assert_eq!(shown[0], (format!("{uid}job:up:sum").as_str(), true, 5));
    assert_eq!(shown[1].0, format!("{uid}Down"));
    assert_eq!(shown[2].0, format!("{uid}Down;2"));
    let down = &loaded.rules[1];
    let expect =
        Alerting { for_ms: 60_000, keep_firing_for_ms: 120_000, channel: Some("default".into()), paused: false };
    assert_eq!(down.alerting(), Some(&expect));
    let labels = |n: usize| loaded.rules[n].labels.iter().map(|(n, t)| format!("{n}={}", t.text())).collect::<Vec<_>>();
    assert_eq!(
        (labels(1), labels(2)),
        (vec!["severity=1".into(), "team=infra".into()], vec!["severity=warning".into(), "team=web".into()])
    );
    assert_eq!(down.interval_ms, Some(30_000));
}

#[test]
fn a_bad_rule_of_a_group_stops_only_itself() {
    let text = FILE.replace("    for: 1m\n", "    for: soon\n").replace("expr: vector(2)", "exp: vector(2)");
    let loaded = read(&text);
    assert_eq!(loaded.rules.len(), 1);
    let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    assert!(problems[0].starts_with("rules/a.yaml:11: document 1: Down: groups[0].rules[1].for: "), "{}", problems[0]);
    assert!(problems[1].starts_with("rules/a.yaml:14: document 1: Down: groups[0].rules[2]"), "{}", problems[1]);
    assert!(problems[1].contains("unknown field `exp`"), "{}", problems[1]);
}

#[test]
fn a_folder_is_read_in_order_through_the_links_of_a_configmap() {
    let dir = tempfile::tempdir().expect("a folder");
    let real = dir.path().join("..2026_01_01");
    std::fs::create_dir_all(dir.path().join("sub")).expect("made");
    std::fs::create_dir(&real).expect("made");
    std::fs::write(real.join("b.yaml"), GOOD).expect("written");
    std::fs::write(dir.path().join("sub/c.yml"), GOOD.replace("high-latency", "c").replace("name: pager", "name: c"))
        .expect("written");
    std::fs::write(dir.path().join("a.json"), r#"{"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "1"}]}]}"#)
        .expect("written");
    std::fs::write(dir.path().join("readme.txt"), "no").expect("written");
    std::os::unix::fs::symlink("..2026_01_01", dir.path().join("..data")).expect("linked");
    std::os::unix::fs::symlink("..data/b.yaml", dir.path().join("b.yaml")).expect("linked");
    std::os::unix::fs::symlink(dir.path(), dir.path().join("sub/loop")).expect("linked");
    let loaded = load(dir.path(), &Features::default());
    let uids: Vec<&str> = loaded.rules.iter().map(|r| r.uid.as_str()).take(3).collect();
    assert_eq!(uids, ["a.json;g;A", "b.yaml;high-latency;high-latency", "sub/c.yml;c;c"]);
    assert!(loaded.problems.iter().any(|p| p.message.contains("folders deep")), "{:?}", loaded.problems);
    let one = load(&dir.path().join("b.yaml"), &Features::default());
    assert_eq!(one.rules[0].uid, "b.yaml;high-latency;high-latency");
    let none = load(&dir.path().join("none"), &Features::default());
    assert!(none.problems[0].message.starts_with("cannot be read: "));
}

#[test]
fn the_examples_of_the_documentation_load() {
    let text = include_str!("../../../../docs/alerting.md");
    let blocks: Vec<&str> = text.split("```yaml\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    let loaded = read(&blocks.join("---\n"));
    assert_eq!(loaded.problems, []);
    assert_eq!((loaded.rules.len(), loaded.channels.len()), (1, 1));
}

#[test]
fn references_to_secrets_are_refused_in_files() {
    let text = "apiVersion: weir.dev/v1alpha1\nkind: NotificationChannel\nmetadata: {name: c}\nspec:\n  webhook:\n    urlFrom:\n      secretKeyRef: {name: s, key: url}\n";
    check(text, "rules/a.yaml:6: document 1: c: spec.webhook.urlFrom", "refers to a Secret, which only Kubernetes has");
    let both = text.replace("webhook:\n", "webhook:\n    url: http://h\n");
    check(&both, "rules/a.yaml:5: document 1: c: spec.webhook", "needs exactly one of url and urlFrom");
    let metadata =
        text.replace("    urlFrom:\n      secretKeyRef: {name: s, key: url}\n", "    url: http://169.254.169.254/\n");
    check(&metadata, "rules/a.yaml:6: document 1: c: spec.webhook.url", "credentials");
}

#[test]
fn names_that_kubernetes_refuses_are_refused_with_line_and_column_where_that_is_asked() {
    let document = |metadata: &str| {
        format!("apiVersion: weir.dev/v1alpha1\nkind: AlertRule\n{metadata}\nspec: {{expr: vector(1)}}\n")
    };
    let strict = |metadata: &str| {
        let loaded = read_text(&document(metadata), "a.yaml", &Features::default(), true);
        assert_eq!(loaded.rules.len(), usize::from(loaded.problems.is_empty()), "what is refused is not loaded");
        let problem = |p: &Problem| {
            assert_eq!(p.severity, Severity::Error);
            let text = p.to_string();
            text[..text.find(" is not ").unwrap_or(text.len())].to_owned()
        };
        loaded.problems.iter().map(problem).collect::<Vec<_>>()
    };
    let in_block = "# a rule\nmetadata:\n  name: Too_Hot\n  namespace: 'my.shop'\n  labels:\n    team: a\n    example.com/a b: c\n    d.e/f: g h\n  annotations:\n    -a: b";
    assert_eq!(
        strict(in_block),
        [
            "a.yaml:5:9: document 1: Too_Hot: metadata.name: \"Too_Hot\"",
            "a.yaml:6:14: document 1: Too_Hot: metadata.namespace: \"my.shop\"",
            "a.yaml:10:12: document 1: Too_Hot: metadata.labels.d.e/f: \"g h\"",
            "a.yaml:9:22: document 1: Too_Hot: metadata.labels.example.com/a b: \"example.com/a b\"",
            "a.yaml:12:9: document 1: Too_Hot: metadata.annotations.-a: \"-a\"",
        ]
    );
    assert_eq!(
        strict("metadata: {name: hot, namespace: a_b}"),
        ["a.yaml:3:34: document 1: hot: metadata.namespace: \"a_b\""]
    );
    assert_eq!(strict("metadata:\n  name: hot.1\n  labels: {a.b/c: d}\n  annotations: {A.b/c: any text}"), [""; 0]);
    // A process goes on with the rules that it had.
    let loaded = read(&document("metadata: {name: Too_Hot}"));
    assert_eq!((loaded.rules.len(), loaded.problems.len()), (1, 0));
}
