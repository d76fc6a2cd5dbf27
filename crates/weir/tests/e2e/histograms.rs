//! The native histograms and start times of a real Prometheus, by both versions of remote write, from the wire to storage's files.

use std::collections::BTreeMap;

use model::{Cancel, Columns, Counts, HistogramSample, Labels, Matcher, SelectRequest, SeriesSource, TimeRange, Want};
use serde_json::Value;

use crate::prometheus::{MESSAGES, ask, settled, start};
use crate::support::program;
use crate::weir::Launch;

/// Count, sum and the buckets that are not empty, from the lowest to the highest.
type Summary = (f64, f64, Vec<f64>);

#[tokio::test]
async fn native_histograms_of_a_real_prometheus_are_stored_as_it_has_them() {
    let test = "native_histograms_of_a_real_prometheus_are_stored_as_it_has_them";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    for message in MESSAGES {
        let dir = tempfile::tempdir().expect("directory");
        let data = dir.path().join("weir");
        let weir = Launch::new(&data).start().await;
        let prometheus = start(&bin, dir.path(), &weir, message, true);
        let at = settled(&weir, &prometheus).await;
        let query = async |expr: &str| {
            let form = [("query", expr), ("time", &format!("{at:.3}"))];
            ask(&weir.http, &prometheus.address, "/api/v1/query", &form).await.expect("prometheus answers")
        };
        let theirs = query("{__name__=~\"prometheus_.+\"}").await;
        let theirs: BTreeMap<Labels, Summary> = theirs
            .as_array()
            .expect("vector")
            .iter()
            .filter_map(|series| Some((labels(series), told(series)?)))
            .collect();
        assert!(theirs.len() > 2, "{message}: {theirs:?}");
        for failed in ["samples_failed", "histograms_failed", "samples_retried", "histograms_retried"] {
            let answer = query(&format!("sum(prometheus_remote_storage_{failed}_total)")).await;
            assert_eq!(answer[0]["value"][1], "0", "{message}: {failed}");
        }
        let mut starts = BTreeMap::new();
        for name in ["prometheus_http_requests_total", "prometheus_http_request_duration_seconds"] {
            let answer = query(&format!("start_timestamp({name})")).await;
            for series in answer.as_array().expect("vector") {
                let seconds: f64 = series["value"][1].as_str().expect("a number").parse().expect("a number");
                starts.insert(labels(series).with("__name__", name), (seconds * 1000.0).round() as i64);
            }
        }
        assert!(starts.len() > 2 && starts.values().all(|start| *start > 0), "{message}: {starts:?}");
        drop(prometheus);
        weir.stop();
        let (ours, our_starts) = stored(&data.join("storage"), (at * 1000.0).round() as i64);
        assert_eq!(ours, theirs, "{message}");
        // 1.0 has no place for them.
        let has_starts = message == MESSAGES[1];
        starts.values_mut().filter(|_| !has_starts).for_each(|start| *start = 0);
        let of_those = our_starts.into_iter().filter(|(labels, _)| starts.contains_key(labels));
        assert_eq!(of_those.collect::<BTreeMap<_, _>>(), starts, "{message}");
    }
}

fn labels(series: &Value) -> Labels {
    let pairs = series["metric"].as_object().expect("labels").iter();
    Labels::new(&pairs.map(|(name, value)| (name.as_str(), value.as_str().expect("text"))).collect::<Vec<_>>())
        .expect("valid")
}

/// What Prometheus says of a histogram; `None` where the series is of floats.
fn told(series: &Value) -> Option<Summary> {
    let histogram = series.get("histogram")?.get(1)?;
    let number = |value: &Value| value.as_str().expect("a number as a text").parse::<f64>().expect("number");
    let buckets = histogram.get("buckets").and_then(Value::as_array).into_iter().flatten();
    let buckets = buckets.map(|bucket| number(&bucket[3])).collect();
    Some((number(&histogram["count"]), number(&histogram["sum"]), buckets))
}

/// Of the newest samples up to a time what histograms are, and the starts of all; read from the files by the engine's own crate.
fn stored(dir: &std::path::Path, at_ms: i64) -> (BTreeMap<Labels, Summary>, BTreeMap<Labels, i64>) {
    let db = tsdb::Db::open(dir, tsdb::Options::default()).expect("opens");
    let request = SelectRequest {
        matchers: vec![Matcher::new(model::MatchOp::Regex, "__name__", "prometheus_.+").expect("valid")],
        range: TimeRange { start_ms: i64::MIN, end_ms: at_ms },
        want: Want::Samples,
        series_max: usize::MAX,
        cancel: Cancel::default(),
    };
    let (mut histograms, mut starts) = (BTreeMap::new(), BTreeMap::new());
    for series in db.select(&request).expect("selects").series {
        let mut columns = Columns::default();
        series.data.read(request.range, &mut columns).expect("reads");
        match columns.histograms.last().filter(|h| columns.t.last().is_none_or(|t| *t < h.t)) {
            Some(newest) => {
                histograms.insert(series.labels.clone(), summary(newest));
                starts.insert(series.labels, newest.start);
            }
            None if columns.is_empty() => {}
            None => _ = starts.insert(series.labels, columns.start(columns.len() - 1)),
        }
    }
    (histograms, starts)
}

fn summary(sample: &HistogramSample) -> Summary {
    let Counts::Integer(counts) = &sample.histogram.counts else { panic!("Prometheus counts its own by integers") };
    let buckets = counts.negative.iter().rev().chain([&counts.zero]).chain(&counts.positive);
    let buckets = buckets.filter(|count| **count > 0).map(|count| *count as f64).collect();
    (counts.count as f64, sample.histogram.sum, buckets)
}
