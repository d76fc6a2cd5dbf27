//! Native histograms in `/federate`: the bytes of the messages, checked by hand, and what the text format has of them.

use axum::body::Body;
use axum::http::Request;
use model::histogram::CUSTOM_BUCKETS_SCHEMA;
use model::{Buckets, Counts, Histogram, Layout, ResetHint, Span, stale_nan};
use tower::ServiceExt as _;

use super::support::{NOW_MS, Server};

const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

async fn ask(server: &Server, name: &str, accept: &str) -> (String, Vec<u8>) {
    let path = format!("/federate?match[]=%7B__name__=~%22{name}%22%7D");
    let request = Request::get(path).header("accept", accept).body(Body::empty()).expect("a request");
    let answer = server.component.router.clone().oneshot(request).await.expect("an answer");
    let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
    (kind, axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body").to_vec())
}

/// Buckets up to 0.5, up to a million, and beyond.
fn custom() -> Histogram {
    let positive = vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 1 }];
    let layout = Layout { schema: CUSTOM_BUCKETS_SCHEMA, positive, custom_values: vec![0.5, 1e6], ..Layout::default() };
    let counts = Counts::Integer(Buckets { count: 5, positive: vec![2, 3], ..Buckets::default() });
    Histogram { layout: layout.into(), hint: ResetHint::Unknown, sum: 2.5, counts }
}

fn server() -> Server {
    let server = Server::new();
    server.memory.add_histogram(&[("__name__", "n"), ("a.b", "x")], NOW_MS - 1);
    server.memory.add_histogram_of(&[("__name__", "c"), ("job", "a")], NOW_MS - 1, custom());
    server.memory.add_histogram_of(&[("__name__", "g")], NOW_MS - 1, Histogram { hint: ResetHint::Gauge, ..custom() });
    server.memory.add_histogram_of(&[("__name__", "ended")], NOW_MS - 1, Histogram { sum: stale_nan(), ..custom() });
    server.memory.add(&[("__name__", "n"), ("z", "float")], &[(NOW_MS - 1, 1.5)]);
    server
}

/// 1,699,999,999,999 as a field 6.
const TIME: [u8; 7] = [0x30, 0xff, 0xcf, 0x95, 0xff, 0xbc, 0x31];
/// The label `instance`, without a value.
const INSTANCE: &[u8] = b"\x0a\x0c\x0a\x08instance\x12\x00";

#[tokio::test]
async fn native_histograms_are_messages_field_by_field() {
    let (kind, bytes) = ask(&server(), "n", PROTOBUF).await;
    assert_eq!(
        kind,
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores"
    );
    let double = |field: u8, v: f64| [&[field << 3 | 1][..], &v.to_le_bytes()].concat();
    let histogram = [
        double(2, 5.0),
        double(4, 4.0),
        vec![5 << 3, 0],
        double(6, 0.25),
        double(8, 1.0),
        // A span from bucket 0 on, of two.
        vec![12 << 3 | 2, 4, 1 << 3, 0, 2 << 3, 2],
        double(14, 1.0),
        double(14, 2.0),
    ]
    .concat();
    let series =
        [b"\x0a\x08\x0a\x03a_b\x12\x01x", INSTANCE, &TIME, &[7 << 3 | 2, histogram.len() as u8], &histogram].concat();
    let family = [b"\x0a\x01n\x18\x04\x22", &[series.len() as u8][..], &series].concat();
    let float = [b"\x0a\x0a\x0a\x01z\x12\x05float", INSTANCE, &[5 << 3 | 2, 9], &double(1, 1.5), &TIME].concat();
    let floats = [b"\x0a\x01n\x18\x03\x22", &[float.len() as u8][..], &float].concat();
    let expect = [&[family.len() as u8][..], &family, &[floats.len() as u8], &floats].concat();
    assert_eq!(bytes, expect);
    let (kind, bytes) = ask(&server(), "n", &format!("{PROTOBUF};escaping=allow-utf-8")).await;
    assert!(kind.ends_with("escaping=allow-utf-8"), "{kind}");
    assert!(bytes.windows(3).any(|window| window == b"a.b"));
}

#[tokio::test]
async fn custom_buckets_are_those_of_a_classic_histogram_in_either_format() {
    let (_, bytes) = ask(&server(), "c", PROTOBUF).await;
    let double = |field: u8, v: f64| [&[field << 3 | 1][..], &v.to_le_bytes()].concat();
    let bucket = |bound: f64, count: f64| [vec![3 << 3 | 2, 18], double(2, bound), double(4, count)].concat();
    let histogram = [double(2, 2.5), bucket(0.5, 2.0), bucket(1e6, 2.0), double(4, 5.0)].concat();
    let series =
        [b"\x0a\x08\x0a\x03job\x12\x01a", INSTANCE, &TIME, &[7 << 3 | 2, histogram.len() as u8], &histogram].concat();
    let family = [b"\x0a\x01c\x18\x04\x22", &[series.len() as u8][..], &series].concat();
    assert_eq!(bytes, [&[family.len() as u8][..], &family].concat());
    let (kind, bytes) = ask(&server(), "c|g|n|ended", "text/plain").await;
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    let expect = "# TYPE c histogram
c_bucket{job=\"a\",instance=\"\",le=\"0.5\"} 2 1699999999999
c_bucket{job=\"a\",instance=\"\",le=\"1e+06\"} 2 1699999999999
c_bucket{job=\"a\",instance=\"\",le=\"+Inf\"} 5 1699999999999
c_sum{job=\"a\",instance=\"\"} 2.5 1699999999999
c_count{job=\"a\",instance=\"\"} 5 1699999999999
# TYPE g histogram
g_bucket{instance=\"\",le=\"0.5\"} 2 1699999999999
g_bucket{instance=\"\",le=\"1e+06\"} 2 1699999999999
g_bucket{instance=\"\",le=\"+Inf\"} 5 1699999999999
g_sum{instance=\"\"} 2.5 1699999999999
g_count{instance=\"\"} 5 1699999999999
# TYPE n untyped
n{z=\"float\",instance=\"\"} 1.5 1699999999999
";
    assert_eq!(String::from_utf8(bytes).expect("UTF-8"), expect);
}

#[tokio::test]
async fn messages_are_text_where_that_is_asked_for() {
    let server = server();
    let (kind, bytes) = ask(&server, "c|g|n", &PROTOBUF.replace("delimited", "text")).await;
    assert_eq!(
        kind,
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text; escaping=underscores"
    );
    let text = String::from_utf8(bytes).expect("UTF-8");
    let native = r#"name: "n"
type: HISTOGRAM
metric: {
  label: {
    name: "a_b"
    value: "x"
  }
  label: {
    name: "instance"
    value: ""
  }
  histogram: {
    sample_count_float: 4
    sample_sum: 5
    schema: 0
    zero_threshold: 0.25
    zero_count_float: 1
    positive_span: {
      offset: 0
      length: 2
    }
    positive_count: 1
    positive_count: 2
  }
  timestamp_ms: 1699999999999
}

"#;
    assert!(text.contains(native), "{text}");
    assert!(text.starts_with("name: \"c\"\ntype: HISTOGRAM\n"), "{text}");
    assert!(text.ends_with("  untyped: {\n    value: 1.5\n  }\n  timestamp_ms: 1699999999999\n}\n\n"), "{text}");
    let (kind, bytes) = ask(&server, "g", &PROTOBUF.replace("delimited", "compact-text")).await;
    assert!(kind.contains("encoding=compact-text"), "{kind}");
    let gauge = "name:\"g\" type:GAUGE_HISTOGRAM metric:{label:{name:\"instance\" value:\"\"} \
                 histogram:{sample_count_float:5 sample_sum:2.5 bucket:{cumulative_count_float:2 upper_bound:0.5} \
                 bucket:{cumulative_count_float:2 upper_bound:1e+06}} timestamp_ms:1699999999999}\n";
    assert_eq!(String::from_utf8(bytes).expect("UTF-8"), gauge);
}

#[tokio::test]
async fn names_are_escaped_as_is_asked_for() {
    let server = Server::new();
    let labels = [("__name__", "http.time_s"), ("k8s.pod_name", "a.b"), ("plain_one", "c.d")];
    server.memory.add_histogram_of(&labels, NOW_MS - 1, custom());
    // The answers of Prometheus: names of old stay as they are, and what stands behind a name is not escaped.
    for (escaping, name, label) in [
        ("underscores", "http_time_s", "k8s_pod_name"),
        ("dots", "http_dot_time__s", "k8s_dot_pod__name"),
        ("values", "U__http_2e_time__s", "U__k8s_2e_pod__name"),
    ] {
        let (kind, bytes) = ask(&server, "http.*", &format!("text/plain;escaping={escaping}")).await;
        assert_eq!(kind, format!("text/plain; version=0.0.4; charset=utf-8; escaping={escaping}"));
        let text = String::from_utf8(bytes).expect("UTF-8");
        let count = format!("\n{name}_count{{{label}=\"a.b\",plain_one=\"c.d\",instance=\"\"}} 5 1699999999999\n");
        assert!(text.starts_with(&format!("# TYPE {name} histogram\n")) && text.ends_with(&count), "{text}");
        let (kind, bytes) = ask(&server, "http.*", &format!("{PROTOBUF};escaping={escaping}")).await;
        assert!(kind.ends_with(&format!("escaping={escaping}")), "{kind}");
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(has(name) && has(label) && has("plain_one"), "{escaping}");
    }
    let (_, bytes) = ask(&server, "http.*", "text/plain;escaping=allow-utf-8").await;
    let count = "\n{\"http.time_s_count\",\"k8s.pod_name\"=\"a.b\",plain_one=\"c.d\",instance=\"\"} 5 1699999999999\n";
    assert!(String::from_utf8(bytes).expect("UTF-8").ends_with(count));
}

#[tokio::test]
async fn what_is_newest_counts_and_what_has_ended_is_not_there() {
    let server = server();
    assert_eq!(ask(&server, "ended", PROTOBUF).await.1, b"");
    assert_eq!(ask(&server, "nosuch", PROTOBUF).await.1, b"");
    // A gauge among histograms.
    let (_, bytes) = ask(&server, "g", PROTOBUF).await;
    assert_eq!(&bytes[1..6], b"\x0a\x01g\x18\x05");
    // More series than a message has are two of one name.
    for n in 0..1001 {
        server.memory.add(&[("__name__", "many"), ("n", &format!("{n:04}"))], &[(NOW_MS - 1, 0.0)]);
    }
    let (_, bytes) = ask(&server, "many", PROTOBUF).await;
    let heads = bytes.windows(8).filter(|window| *window == b"\x0a\x04many\x18\x03").count();
    assert_eq!(heads, 2);
}
