//! A real Prometheus that has nothing of its own reads from Weir, in both flavours of remote read, and answers as Weir does.

use std::path::Path;
use std::process::{Command, Stdio};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::Value;

use crate::prometheus::{MESSAGES, Prometheus, ask, settled, sorted, start};
use crate::support::{free_port, program, until, varint};
use crate::weir::{Launch, Weir};

/// Starts one that scrapes nothing and reads everything from this URL.
async fn reader(bin: &Path, dir: &Path, url: &str, http: &reqwest::Client) -> Prometheus {
    let address = format!("127.0.0.1:{}", free_port());
    std::fs::create_dir(dir).expect("created");
    let config = dir.join("prometheus.yml");
    std::fs::write(&config, format!("remote_read:\n- url: {url}\n  read_recent: true\n")).expect("written");
    let child = Command::new(bin)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--log.level=error")
        .stdout(Stdio::null())
        .spawn()
        .expect("prometheus starts");
    let prometheus = Prometheus { child, address };
    until(async || {
        let ready = http.get(format!("http://{}/-/ready", prometheus.address)).send().await;
        ready.and_then(reqwest::Response::error_for_status).map(drop).map_err(|e| e.to_string())
    })
    .await;
    prometheus
}

/// A message without the field in which the reader says that it takes chunks.
fn without_accepted(message: &[u8]) -> Vec<u8> {
    fn take(message: &[u8], at: &mut usize) -> u64 {
        let (mut n, mut shift) = (0, 0);
        loop {
            let byte = message[*at];
            *at += 1;
            n |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return n;
            }
        }
    }
    let (mut at, mut out) = (0, Vec::new());
    while at < message.len() {
        let tag = take(message, &mut at);
        match tag & 7 {
            0 => drop(take(message, &mut at)),
            2 => {
                let length = take(message, &mut at) as usize;
                let content = &message[at..at + length];
                at += length;
                if tag >> 3 == 1 {
                    varint(&mut out, tag);
                    varint(&mut out, length as u64);
                    out.extend_from_slice(content);
                }
            }
            other => panic!("type {other}"),
        }
    }
    out
}

/// Forwards reads of one that takes chunks, as if it took samples only.
async fn as_samples(
    State((http, to)): State<(reqwest::Client, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let message = snap::raw::Decoder::new().decompress_vec(&body).expect("packed");
    let plain = without_accepted(&message);
    assert!(plain.len() < message.len(), "it takes chunks");
    let packed = snap::raw::Encoder::new().compress_vec(&plain).expect("packs");
    let kind = headers[header::CONTENT_TYPE].clone();
    let answer = http.post(to).header(header::CONTENT_TYPE, kind).body(packed).send().await.expect("answered");
    let told =
        [header::CONTENT_TYPE, header::CONTENT_ENCODING].map(|name| (name.clone(), answer.headers()[name].clone()));
    assert_eq!(told[0].1, "application/x-protobuf");
    (StatusCode::from_u16(answer.status().as_u16()).expect("a status"), told, answer.bytes().await.expect("whole"))
}

/// Whether two answers are the same, but for the last digits of numbers: sums over several series are in no order, and quantiles have powers in them.
fn is_same(theirs: &Value, ours: &Value) -> bool {
    match (theirs, ours) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same(a, b)))
        }
        (Value::String(a), Value::String(b)) if a != b => match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => (a - b).abs() <= 1e-12 * a.abs().max(b.abs()),
            _ => false,
        },
        _ => theirs == ours,
    }
}

fn assert_same(theirs: &[Value], ours: &[Value], what: &str) {
    let is_same = theirs.len() == ours.len() && theirs.iter().zip(ours).all(|(a, b)| is_same(a, b));
    assert!(is_same, "{what}: {theirs:?} is not {ours:?}");
}

/// Compares what both answer. `series` are such as have to be there.
async fn agree(weir: &Weir, reader: &Prometheus, at: f64) {
    let time = format!("{at:.3}");
    for expr in [
        "up",
        "prometheus_http_request_duration_seconds",
        "{__name__=~\"prometheus_.+|go_.+\", job!=\"weir\"}",
        "{__name__=~\"prometheus_http.+\", handler!~\"/api.*|/-/.*\", job=\"prometheus\"}[6s]",
        "rate(prometheus_http_requests_total[4s])",
        "histogram_quantile(0.9, sum(rate(prometheus_http_request_duration_seconds[5s])))",
        "histogram_count(increase(prometheus_http_request_duration_seconds[5s] offset 1s))",
        "count by (job) ({__name__=~\".+\"} @ end())",
    ] {
        let form = [("query", expr), ("time", &time)];
        let ours = ask(&weir.http, weir.address("/api/v1/query"), "/api/v1/query", &form).await.expect("weir answers");
        let theirs = ask(&weir.http, &reader.address, "/api/v1/query", &form).await;
        let theirs = theirs.unwrap_or_else(|| panic!("no answer to {expr}"));
        assert!(!ours.as_array().expect("a list").is_empty(), "{expr} finds nothing");
        assert_same(&sorted(theirs), &sorted(ours), &format!("{expr} at {time}"));
    }
    let start = format!("{:.3}", at - 4.0);
    for expr in ["up", "sum(rate(prometheus_http_request_duration_seconds[2s]))", "go_goroutines - 1"] {
        let form = [("query", expr), ("start", &start), ("end", &time), ("step", "0.5")];
        let path = "/api/v1/query_range";
        let ours = ask(&weir.http, weir.address(path), path, &form).await.expect("weir answers");
        let theirs = ask(&weir.http, &reader.address, path, &form).await.expect("prometheus answers");
        assert!(!ours.as_array().expect("a list").is_empty(), "{expr} finds nothing");
        assert_same(&sorted(theirs), &sorted(ours), &format!("{expr} from {start} to {time}"));
    }
    let list = async |address: &str| {
        let url = format!("http://{address}/api/v1/series?match[]=%7Bjob%3D~%22.%2B%22%7D&start={start}&end={time}");
        let answer = weir.http.get(url).send().await.expect("answered").text().await.expect("text");
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        let mut series: Vec<String> =
            answer["data"].as_array().expect("a list").iter().map(ToString::to_string).collect();
        series.sort();
        series
    };
    let (ours, theirs) = (list(weir.address("/api/v1/series")).await, list(&reader.address).await);
    assert!(ours.len() > 100, "{} series", ours.len());
    assert!(theirs == ours, "{} series of {}", theirs.len(), ours.len());
}

#[tokio::test]
async fn a_real_prometheus_reads_chunks_and_samples_and_answers_as_weir_does() {
    let test = "a_real_prometheus_reads_chunks_and_samples_and_answers_as_weir_does";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    let dir = tempfile::tempdir().expect("directory");
    let weir = Launch::new(&dir.path().join("weir")).start().await;
    let writer = start(&bin, dir.path(), &weir, MESSAGES[1], true);
    let at = settled(&weir, &writer).await;
    drop(writer);
    let url = weir.url("/api/v1/read");
    let chunks = reader(&bin, &dir.path().join("chunks"), &url, &weir.http).await;
    agree(&weir, &chunks, at).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let proxy = format!("http://{}/read", listener.local_addr().expect("an address"));
    let routes = Router::new().route("/read", post(as_samples)).with_state((weir.http.clone(), url));
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    let samples = reader(&bin, &dir.path().join("samples"), &proxy, &weir.http).await;
    agree(&weir, &samples, at).await;
    serving.abort();
    let page = weir.metrics().await;
    let line =
        page.lines().find(|l| l.starts_with("weir_query_requests_total{code=\"200\",endpoint=\"/api/v1/read\"}"));
    let number: f64 = line.and_then(|l| l.split(' ').next_back()).expect("counted").parse().expect("a number");
    assert!(number >= 24.0, "{number} reads");
    weir.stop();
}
