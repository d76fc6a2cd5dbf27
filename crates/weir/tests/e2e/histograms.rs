//! The native histograms and start times of a real Prometheus, by both versions of remote write, from the wire to storage's files.

use std::collections::BTreeMap;

use model::{Cancel, Columns, Counts, HistogramSample, Labels, Matcher, SelectRequest, SeriesSource, TimeRange, Want};
use serde_json::Value;

use crate::api::empty;
use crate::prometheus::{MESSAGES, ask, settled, start};
use crate::support::{field, program, varint, write_request};
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

/// A native histogram of remote write 1.0 at a time.
fn histogram_message(t: i64, hint: u64, custom: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let number = |out: &mut Vec<u8>, key: u8, n: u64| {
        out.push(key << 3);
        varint(out, n);
    };
    let double = |out: &mut Vec<u8>, key: u8, v: f64| {
        out.push(key << 3 | 1);
        out.extend_from_slice(&v.to_le_bytes());
    };
    let span = |out: &mut Vec<u8>, key: u8, offset: i32, length: u64| {
        let mut message = Vec::new();
        number(&mut message, 1, u64::from(((offset << 1) ^ (offset >> 31)) as u32));
        number(&mut message, 2, length);
        field(out, key, &message);
    };
    // Deltas of 1, 2 and 1 are counts of 1, 3 and 4.
    let deltas = [2, 4, 2];
    number(&mut out, 1, if custom { 8 } else { 18 });
    double(&mut out, 3, 12.5);
    // Schemas of -53 and 1.
    number(&mut out, 4, if custom { 105 } else { 2 });
    if custom {
        span(&mut out, 11, 0, 1);
        span(&mut out, 11, 1, 2);
        field(&mut out, 12, &deltas);
        let bounds: Vec<u8> = [0.005, 1.0, 2_500_000.0].iter().flat_map(|v: &f64| v.to_le_bytes()).collect();
        // A field of number 16 is the first whose key takes two bytes.
        varint(&mut out, 16 << 3 | 2);
        varint(&mut out, bounds.len() as u64);
        out.extend_from_slice(&bounds);
    } else {
        double(&mut out, 5, 1e-9);
        number(&mut out, 6, 2);
        span(&mut out, 8, -7, 1);
        span(&mut out, 8, 3, 2);
        field(&mut out, 9, &deltas);
        span(&mut out, 11, 4, 3);
        field(&mut out, 12, &deltas);
    }
    number(&mut out, 14, hint);
    number(&mut out, 15, t as u64);
    out
}

#[tokio::test]
async fn native_histograms_are_federated_in_the_bytes_of_a_real_prometheus() {
    let test = "native_histograms_are_federated_in_the_bytes_of_a_real_prometheus";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    let (dir, prometheus_dir) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
    let weir = Launch::new(dir.path()).start().await;
    let prometheus = empty(&bin, prometheus_dir.path(), &weir.http, "").await;
    let now = runtime::clock::now_ms();
    let mut request = write_request(&[(
        Labels::new(&[("__name__", "both"), ("job", "b")]).expect("valid"),
        vec![model::Sample { t: now - 500, v: 0.0 }],
    )]);
    for (pairs, hint, custom) in [
        (&[("__name__", "both"), ("job", "a")], 0, false),
        (&[("__name__", "both"), ("job", "c")], 0, false),
        (&[("__name__", "both"), ("job", "d")], 3, false),
        (&[("__name__", "custom"), ("instance", "x")], 0, true),
        (&[("__name__", "other.name"), ("a-b", "é")], 0, false),
    ] {
        let mut series = Vec::new();
        for (name, value) in pairs {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut series, 1, &label);
        }
        field(&mut series, 4, &histogram_message(now - 500, hint, custom));
        field(&mut request, 1, &series);
    }
    let body = snap::raw::Encoder::new().compress_vec(&request).expect("compresses");
    for address in [weir.address("/api/v1/write"), &prometheus.address] {
        let answer = weir.http.post(format!("http://{address}/api/v1/write")).body(body.clone());
        let answer = answer.header("content-type", "application/x-protobuf").header("content-encoding", "snappy");
        let answer = answer.header("x-prometheus-remote-write-version", "0.1.0").send().await.expect("answered");
        let status = answer.status().as_u16();
        assert_eq!(status, 204, "{}", answer.text().await.expect("text"));
    }
    let ask = async |address: &str, accept: &str| {
        let url = format!("http://{address}/federate?match[]=%7B__name__!=%22%22%7D");
        let answer = weir.http.get(url).header("accept", accept).send().await.expect("answered");
        let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
        (answer.status().as_u16(), kind, answer.bytes().await.expect("a body").to_vec())
    };
    let delimited = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let utf8 = format!("text/plain;version=0.0.4;q=0.3,{delimited};escaping=allow-utf-8;q=0.7,*/*;q=0.1");
    let words = format!("{};escaping=dots", delimited.replace("delimited", "text"));
    let compact = delimited.replace("delimited", "compact-text");
    for (accept, least) in
        [(delimited, 500), (&utf8, 500), ("text/plain", 100), ("*/*", 100), (&words, 1000), (&compact, 1000)]
    {
        let mut ours = ask(weir.address("/federate"), accept).await;
        let mut theirs = ask(&prometheus.address, accept).await;
        assert_eq!((ours.0, &ours.1), (theirs.0, &theirs.1), "{accept}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // Go puts two spaces in places of its choice.
        for own in [&mut ours.2, &mut theirs.2].into_iter().filter(|_| accept == words || accept == compact) {
            own.dedup_by(|space, before| *space == b' ' && *before == b' ');
        }
        assert!(ours.2 == theirs.2, "{accept}:\n{}\ninstead of\n{}", text(&ours.2), text(&theirs.2));
        assert!(ours.2.len() > least, "{accept}: {} bytes", ours.2.len());
    }
    weir.stop();
}
