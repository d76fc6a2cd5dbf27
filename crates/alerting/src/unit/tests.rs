//! What the tests with promtool beside (`crates/weir/tests/rule_tests`) cannot show: Weir's own documents, and what is refused.

use std::path::{Path, PathBuf};

use super::{Options, Report, junit, pattern, test};

/// A folder with files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Folder(tempfile::tempdir().expect("directory"));
        for (name, text) in files {
            let path = folder.path(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            std::fs::write(path, text).expect("written");
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn test(&self, name: &str) -> Report {
        test(&self.path(name), &Options::default())
    }
}

const RULES: &str = r#"
apiVersion: weir.dev/v1alpha1
kind: AlertRule
metadata: {name: high, namespace: team}
spec:
  expr: max by (host) (load) > 5
  for: 2m
  keepFiringFor: 2m
  channel: nobody-told
  labels: {severity: page}
  annotations: {summary: "{{ $labels.host }} is at {{ $value }}"}
---
apiVersion: weir.dev/v1alpha1
kind: AlertRule
metadata: {name: stopped, namespace: team}
spec: {expr: vector(1), paused: true}
---
apiVersion: weir.dev/v1alpha1
kind: NotificationChannel
metadata: {name: c}
spec: {webhook: {url: "http://127.0.0.1:9"}}
"#;

#[test]
fn rules_of_weirs_own_documents_are_tested_beside_prometheus_files() {
    let recording = "groups: [{name: g, rules: [{record: load, expr: raw, labels: {host: b}}]}]";
    let tests = r#"
rule_files: [rules/weir.yaml, rules/g.yml]
group_eval_order: [g, team]
tests:
  - input_series:
      - {series: 'load{host="a"}', values: '1 6 7 7 1x10'}
      - {series: raw, values: '9x10'}
    alert_rule_test:
      - {eval_time: 1m, alertname: high}
      - {eval_time: 2m, alertname: high, exp_alerts: [{exp_labels: {host: b, severity: page}, exp_annotations: {summary: b is at 9}}]}
      - {eval_time: 5m, alertname: high, exp_alerts: &both [{exp_labels: {host: a, severity: page}, exp_annotations: {summary: a is at 7}}, {exp_labels: {host: b, severity: page}, exp_annotations: {summary: b is at 9}}]}
      - {eval_time: 6m, alertname: high, exp_alerts: [{exp_labels: {host: b, severity: page}, exp_annotations: {summary: b is at 9}}]}
      - {eval_time: 6m, alertname: stopped}
  - alert_rule_test:
      - {eval_time: 1m, alertname: stopped, exp_alerts: [{}]}
"#;
    let folder = Folder::new(&[("rules/weir.yaml", RULES), ("rules/g.yml", recording), ("t.yml", tests)]);
    let report = folder.test("t.yml");
    assert_eq!((&report.aborted, &report.warnings), (&None, &vec![]));
    assert_eq!(report.cases[0].failures, Vec::<String>::new());
    assert!(report.cases[1].failures[0].starts_with("    alertname: stopped, time: 1m, \n"), "{report:?}");
    // A folder is read as a whole.
    let whole = tests.replace("rules/weir.yaml, rules/g.yml", "rules");
    let folder = Folder::new(&[("rules/weir.yaml", RULES), ("rules/g.yml", recording), ("t.yml", &whole)]);
    assert_eq!(folder.test("t.yml").cases[0].failures, Vec::<String>::new());
}

#[test]
fn a_document_that_cannot_be_used_fails_every_test_with_its_place() {
    let bad = RULES.replace("max by", "mx by");
    let folder = Folder::new(&[("r.yaml", &bad), ("t.yml", "rule_files: [r.yaml]\ntests: [{name: a}, {name: b}]")]);
    let report = folder.test("t.yml");
    for case in &report.cases {
        let [failure] = case.failures.as_slice() else { panic!("{case:?}") };
        assert!(failure.contains("r.yaml:6: document 1: high: spec.expr: 1:"), "{failure}");
    }
    assert_eq!(report.cases.len(), 2);
}

#[test]
fn what_would_take_too_much_memory_is_refused() {
    let folder =
        Folder::new(&[("t.yml", "tests: [{input_series: [{series: a, values: 1x9999999}, {series: b, values: 1}]}]")]);
    let failures = &folder.test("t.yml").cases[0].failures;
    assert!(failures[0].contains("3:4: parse error: more than 0 values"), "{failures:?}");
    let missing = test(Path::new("/nowhere/t.yml"), &Options::default());
    assert!(missing.aborted.is_some_and(|why| why.contains("/nowhere/t.yml: cannot be read")));
}

#[test]
fn xml_has_every_failure_and_the_time() {
    let tests = "tests: [{name: 'a<b', promql_expr_test: [{expr: '\"&\"'}]}, {name: c}]";
    let folder = Folder::new(&[("t.yml", tests), ("bad.yml", "tests: 1")]);
    let mut reports = vec![(1_500, folder.test("t.yml")), (86_400_000, folder.test("bad.yml"))];
    reports.iter_mut().for_each(|(_, report)| report.file = "f".to_owned());
    reports[1].1.aborted = Some("why".to_owned());
    let failure = "    expr: &#34;\\&#34;&amp;\\&#34;&#34;, time: 0s, err: rule result is not a vector or scalar";
    let expect = format!(
        "<testsuites><testsuite name=\"f\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\" timestamp=\"1970-01-01T00:00:01\">\
         <testcase name=\"a&lt;b\"><failure>{failure}</failure></testcase><testcase name=\"c\"></testcase></testsuite>\
         <testsuite name=\"f\" tests=\"1\" failures=\"0\" errors=\"1\" skipped=\"0\" timestamp=\"1970-01-02T00:00:00\">\
         <testcase name=\"unknown\"><error>why</error></testcase></testsuite></testsuites>"
    );
    assert_eq!(junit(&reports), expect);
}

#[test]
fn only_tests_whose_names_match_are_run() {
    let folder = Folder::new(&[("t.yml", "tests: [{name: one}, {name: two}, {}]")]);
    let names = |patterns: &[&str]| -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        let options = Options { run: pattern(&patterns).expect("a pattern"), ..Options::default() };
        test(&folder.path("t.yml"), &options).cases.into_iter().map(|case| case.name).collect()
    };
    assert_eq!(names(&[]), ["one", "two", "unnamed#2"]);
    assert_eq!(names(&["^t", "n"]), ["one", "two"]);
    assert_eq!(names(&["^$"]), ["unnamed#2"]);
    assert!(pattern(&["(".to_owned()]).is_err());
}
