//! What a query consumes is counted as by a real Prometheus, at each step, and so are the series that it touches. The most samples held at once are not compared:
//! they are of the evaluation.

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
    let (mut differences, mut other_series, mut counted) = (Vec::new(), Vec::new(), 0);
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
            let series = of("seriesTouched");
            let samples =
                ["totalQueryableSamples", "samplesRead", "totalQueryableSamplesPerStep", "samplesReadPerStep"].map(of);
            (samples, series)
        };
        let ((ours, our_series), (theirs, their_series)) = (samples(&ours.1), samples(&theirs.1));
        if our_series != their_series {
            other_series.push(format!("{query}  {when:?}: {our_series} instead of {their_series}"));
        }
        assert!(theirs[0].is_u64() && theirs[2].is_array(), "{query}: {theirs:?}");
        counted += usize::from(theirs[0] != 0);
        if ours != theirs {
            differences.push(format!("{query}  {when:?}\n    {ours:?}\n    instead of {theirs:?}"));
        }
    }
    println!("seed {seed}: of {queries} queries {counted} consume samples");
    assert!(differences.is_empty(), "{} of {queries} differ:\n{}", differences.len(), differences.join("\n"));
    // Whether a series is found that has no sample in a short range depends on how the storage cuts it into chunks.
    let told = other_series.join("\n");
    assert!(other_series.len() * 100 <= counted, "of {} of {counted} other series:\n{told}", other_series.len());
    assert!(counted * 2 > queries as usize, "{counted} of {queries} consume samples");
}
