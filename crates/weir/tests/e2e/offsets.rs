//! Who wrote something can ask for an answer that has it, by the offsets that the answer to the write names.

use model::{Labels, Positions, Sample};
use serde_json::{Value, json};

use crate::support::{encode_form, labels, write_request};
use crate::weir::{Launch, Weir};

const HEADER: &str = "x-weir-offsets";
const T0: i64 = 1_790_000_000_000;

fn one(v: f64) -> Vec<(Labels, Vec<Sample>)> {
    vec![(labels(&[("__name__", "one")]), vec![Sample { t: T0 + v as i64, v }])]
}

/// The offsets that the answer to a write names.
fn offsets(answer: &reqwest::Response) -> Positions {
    assert!(answer.status().is_success(), "{answer:?}");
    let text = answer.headers().get(HEADER).expect("a header").to_str().expect("ASCII");
    text.parse().expect("offsets")
}

async fn write(weir: &Weir, path: &str, kind: &str, body: impl Into<reqwest::Body>) -> Positions {
    let request = weir.http.post(weir.url(path)).header("content-type", kind).header("content-encoding", "identity");
    offsets(&request.body(body).send().await.expect("answered"))
}

async fn remote_write(weir: &Weir, series: &[(Labels, Vec<Sample>)]) -> Positions {
    let request = weir.http.post(weir.url("/api/v1/write")).header("content-encoding", "snappy");
    let request = request
        .header("content-type", "application/x-protobuf")
        .body(snap::raw::Encoder::new().compress_vec(&write_request(series)).expect("compresses"));
    offsets(&request.send().await.expect("answered"))
}

/// An instant query that names offsets.
async fn ask(weir: &Weir, offsets: &str, timeout: &str) -> (u16, Value) {
    let form = [("query", "one"), ("time", &(T0 / 1000 + 60).to_string()), ("timeout", timeout)];
    let url = format!("{}?{}", weir.url("/api/v1/query"), encode_form(&form));
    let answer = weir.http.get(url).header(HEADER, offsets).send().await.expect("answered");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test]
async fn a_query_waits_for_the_offsets_that_it_names() {
    let dir = tempfile::tempdir().expect("directory");
    let weir = Launch::new(dir.path()).args(&["--retention", "off"]).start().await;
    let positions = remote_write(&weir, &one(1.0)).await;
    let (partition, offset) = positions.iter().next().expect("one record");
    assert_eq!(positions.to_string(), format!("{partition}={offset}"));
    let (status, answer) = ask(&weir, &positions.to_string(), "10s").await;
    assert_eq!((status, &answer["data"]["result"][0]["value"][1]), (200, &json!("1")), "{answer}");

    // One that is not there yet is waited for, until it is.
    let next = format!("{partition}={}", offset + 1);
    let (waits, later) = tokio::join!(ask(&weir, &next, "60s"), async { remote_write(&weir, &one(2.0)).await });
    assert_eq!(later.to_string(), next, "the same series is in the same partition");
    assert_eq!((waits.0, &waits.1["data"]["result"][0]["value"][1]), (200, &json!("2")), "{}", waits.1);

    let (status, answer) = ask(&weir, &format!("{partition}={}", offset + 100), "300ms").await;
    let expect =
        format!("storage has read partition {partition} up to offset {}, not {}, within", offset + 2, offset + 100);
    assert_eq!((status, &answer["errorType"]), (503, &json!("unavailable")), "{answer}");
    assert!(answer["error"].as_str().is_some_and(|e| e.contains(&expect)), "{answer}");

    // Many series are in many partitions; every protocol names them.
    let many = (0..100).map(|n| (labels(&[("__name__", "many"), ("n", &n.to_string())]), one(3.0)[0].1.clone()));
    assert!(remote_write(&weir, &many.collect::<Vec<_>>()).await.iter().count() > 1);
    assert!(!write(&weir, "/api/v1/import/prometheus", "text/plain", format!("text 1 {T0}\n")).await.is_empty());
    let entry = json!({"name": "json", "value": 1});
    assert!(!write(&weir, "/metrics", "application/json", entry.to_string()).await.is_empty());
}

#[tokio::test]
async fn offsets_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().expect("directory");
    let weir = Launch::new(dir.path()).start().await;
    for (wrong, expect) in [
        ("x", "\"x\" is not PARTITION=OFFSET"),
        ("0=1,1=-2", "\"1=-2\" is not PARTITION=OFFSET"),
        ("4000=1", "there is no partition 4000: the log has "),
    ] {
        let (status, answer) = ask(&weir, wrong, "10s").await;
        let error = answer["error"].as_str().expect("a text");
        assert_eq!((status, &answer["errorType"]), (400, &json!("bad_data")), "{answer}");
        assert!(error.starts_with("invalid parameter \"X-Weir-Offsets\": ") && error.contains(expect), "{error}");
    }
}
