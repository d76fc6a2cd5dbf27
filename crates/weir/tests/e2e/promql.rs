//! Prometheus' own tests of the language, run over HTTP: data by remote write, a fresh server for each block of them.

use std::process::Command;

use super::support::{program, weir_bin};

/// What the suite expects and Prometheus 3.16 does not answer, by file and line, with what it answers instead. So does Weir.
const OTHERWISE: [(&str, u64, &str); 2] = [
    // `fill_right` fills the right side, whichever is the one that has many.
    ("fill-modifier.test", 138, r#"unexpected series {instance="c"} = [0, '0']"#),
    // With types as labels, a counter is what says so.
    (
        "functions.test",
        291,
        r#"unexpected info annotations ['PromQL info: metric might not be a counter, __type__ label is not set to "counter" or "histogram", got "": "http_requests_total" (1:6)']"#,
    ),
];

#[test]
fn the_tests_of_prometheus_hold() {
    let Some(suite) = program("the_tests_of_prometheus_hold", "PROMQL_SUITE") else { return };
    let dir = tempfile::tempdir().expect("directory");
    let found = dir.path().join("found.json");
    let features = "promql-experimental-functions,promql-duration-expr,promql-extended-range-selectors,\
                    promql-delayed-name-removal,promql-binop-fill-modifiers,type-and-unit-labels,use-start-timestamps";
    let server = format!(
        "{} run --listen 127.0.0.1:{{port}} --data {{dir}} --retention off --enable-feature {features}",
        weir_bin().display()
    );
    let mut command = Command::new("python3");
    command.arg(&suite).args(["--quiet", "--cmd", &server, "--json"]).arg(&found).env("TMPDIR", dir.path());
    // It ends with an error where a case does not hold; which ones is in the file.
    let output = command.output().expect("python3 runs");
    let told = String::from_utf8_lossy(&output.stderr);
    let found = std::fs::read(&found).unwrap_or_else(|error| panic!("the suite wrote nothing: {error}: {told}"));
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&found).expect("JSON");
    assert!(cases.len() >= 1301, "{} cases: {told}", cases.len());
    let failed: Vec<_> = cases.iter().filter(|case| case["kind"] != "").collect();
    let told = |case: &serde_json::Value| {
        let text = |name: &str| case[name].as_str().unwrap_or("").to_owned();
        (text("file"), case["line"].as_u64().unwrap_or(0), text("msg"))
    };
    let failed: Vec<_> = failed.into_iter().map(told).collect();
    let expect = OTHERWISE.map(|(file, line, text)| (file.to_owned(), line, text.to_owned()));
    assert_eq!(failed, expect, "{} of {} cases do not hold", failed.len(), cases.len());
}
