//! What a query consumes is counted as by a real Prometheus, at each step.

use serde_json::Value;

use super::draw::Draw;
use super::{Both, asked};
use crate::support::program;

/// Queries that are asked where nothing else is said.
const QUERIES: u64 = 2_000;

#[tokio::test]
async fn statistics_count_samples_as_a_real_prometheus_does() {
    let test = "statistics_count_samples_as_a_real_prometheus_does";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    let (seed, queries) = asked(QUERIES);
    let dir = tempfile::tempdir().expect("directory");
    let both = Both::start(dir.path(), &bin, seed).await;
    let mut draw = Draw::new(seed);
    let (mut differences, mut counted) = (Vec::new(), 0);
    for _ in 0..queries {
        let (query, when) = (draw.query().to_string(), draw.when());
        let (path, mut form) = when.form(&query);
        form.push(("stats", "all".to_owned()));
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (ours, theirs) = both.ask(path, &form).await;
        if ours.0 != 200 || theirs.0 != 200 {
            continue;
        }
        let samples = |answer: &Value| {
            let of = |name: &str| answer["data"]["stats"]["samples"][name].clone();
            ["totalQueryableSamples", "samplesRead", "totalQueryableSamplesPerStep", "samplesReadPerStep"].map(of)
        };
        let (ours, theirs) = (samples(&ours.1), samples(&theirs.1));
        assert!(theirs[0].is_u64() && theirs[2].is_array(), "{query}: {theirs:?}");
        counted += usize::from(theirs[0] != 0);
        if ours != theirs {
            differences.push(format!("{query}  {when:?}\n    {ours:?}\n    instead of {theirs:?}"));
        }
    }
    println!("seed {seed}: of {queries} queries {counted} consume samples");
    assert!(differences.is_empty(), "{} of {queries} differ:\n{}", differences.len(), differences.join("\n"));
    assert!(counted * 2 > queries as usize, "{counted} of {queries} consume samples");
}
