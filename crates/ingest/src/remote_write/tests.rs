//! Remote write against an encoder that knows nothing of the decoder.

use axum::body::Body;
use axum::http::Request;
use model::{MetricType, Sample};
use proptest::prelude::*;

use super::wire::{Entry, Reader, Series};
use super::*;
use crate::admission::Budget;
use crate::args::Window;
use crate::staging::Staging;
use crate::tests::{Content, NOW_MS, Rig};

mod exemplars;
mod histograms;
mod request;

/// Stages a message, with as much memory as it likes.
fn stage(message: Message, bytes: &[u8], staging: &mut Staging, window: Window) -> Result<Outcome, Error> {
    let gauge = prometheus::IntGauge::new("g", "g").unwrap();
    let refused = prometheus::IntCounter::new("r", "r").unwrap();
    let hold = &mut std::sync::Arc::new(Budget::new(usize::MAX, model::Budget::default(), gauge, refused)).hold();
    let context = &mut Context { staging, window, now_ms: NOW_MS, body_bytes_max: usize::MAX, hold };
    match message {
        Message::WriteRequest => decode_write_request(bytes, context),
        Message::Request => decode_request(bytes, context),
    }
}

fn decode(bytes: &[u8], staging: &mut Staging, window: Window) -> Result<Outcome, Error> {
    stage(Message::WriteRequest, bytes, staging, window)
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    loop {
        let low = (n & 0x7f) as u8;
        n >>= 7;
        out.push(if n == 0 { low } else { low | 0x80 });
        if n == 0 {
            return;
        }
    }
}

fn bytes(number: u64, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(number << 3 | 2, &mut out);
    varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

fn sample(t: i64, v: f64) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend_from_slice(&v.to_le_bytes());
    out.push(2 << 3);
    varint(t as u64, &mut out);
    bytes(2, &out)
}

fn label(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    bytes(1, &[bytes(1, name.as_ref()), bytes(2, value.as_ref())].concat())
}

fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Vec<u8> {
    let mut out: Vec<u8> = labels.iter().flat_map(|(name, value)| label(name, value)).collect();
    out.extend(samples.iter().flat_map(|(t, v)| sample(*t, *v)));
    bytes(1, &out)
}

async fn send(rig: &Rig, message: &[u8]) -> (u16, String) {
    let (status, text, _) = send_as(rig, "application/x-protobuf", message).await;
    (status, text)
}

/// Status, text, and how many samples, histograms and exemplars are said to be written.
async fn send_as(rig: &Rig, content_type: &str, message: &[u8]) -> (u16, String, Option<[u64; 3]>) {
    let body = snap::raw::Encoder::new().compress_vec(message).unwrap();
    let request = Request::post("/api/v1/write")
        .header("content-type", content_type)
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "0.1.0");
    let response = rig.respond(request.body(Body::from(body)).unwrap()).await;
    let number = |name| response.headers().get(name)?.to_str().ok()?.parse().ok();
    let written = [number(WRITTEN[0]), number(WRITTEN[1]), number(WRITTEN[2])];
    let written = if let [Some(a), Some(b), Some(c)] = written { Some([a, b, c]) } else { None };
    let status = response.status().as_u16();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap(), written)
}

#[tokio::test]
async fn series_samples_and_metadata_are_written() {
    let rig = Rig::new(|_| {});
    let metadata = [bytes(2, b"up"), vec![8, 2], bytes(4, b"Is it?"), bytes(5, b"x")].concat();
    let stale = f64::from_bits(model::sample::STALE_NAN_BITS);
    let message = [
        series(&[("job", "b"), ("__name__", "up"), ("empty", "")], &[(5, 1.0), (4, stale)]),
        bytes(3, &metadata),
        series(&[("__name__", "é.é"), ("long", &"x".repeat(300))], &[(-1, -0.0)]),
    ];
    assert_eq!(send(&rig, &message.concat()).await, (204, String::new()));
    let content = rig.content();
    assert_eq!(content.series["up{job=\"b\"}"], [Sample { t: 5, v: 1.0 }, Sample { t: 4, v: stale }]);
    let long = format!("{{__name__=\"é.é\", long=\"{}\"}}", "x".repeat(300));
    assert_eq!(content.series[&long], [Sample { t: -1, v: -0.0 }]);
    let told = &content.metadata[0];
    let got = (told.family.as_str(), told.kind, told.help.as_str(), told.unit.as_str());
    assert_eq!(got, ("up", MetricType::Gauge, "Is it?", "x"));
    assert_eq!(rig.metric("weir_ingest_samples_total", &["remote_write"]), 3.0);
    assert_eq!(send(&rig, b"").await.0, 204);
}

#[tokio::test]
async fn bad_series_are_told_and_the_good_ones_written() {
    let rig = Rig::new(|_| {});
    let good = |name: &str| series(&[("__name__", name)], &[(1, 1.0)]);
    let not_text = bytes(1, &[label("__name__", "x"), label("a", b"\xff"), sample(1, 1.0), sample(2, 1.0)].concat());
    let cut = bytes(1, &[label("__name__", "x"), label("a", b"\xc3"), label(b"\xa9", "b"), sample(1, 1.0)].concat());
    let message = [
        good("a"),
        series(&[("x", "1")], &[(1, 1.0)]),
        series(&[("__name__", "b"), ("x", "1"), ("x", "2")], &[(1, 1.0), (2, 1.0)]),
        not_text,
        cut,
        series(&[("__name__", "c"), ("", "2")], &[(1, 1.0)]),
        series(&[], &[(1, 1.0)]),
        series(&[("__name__", "b"), ("x", &"v".repeat(70_000))], &[(1, 1.0)]),
        good("d"),
    ];
    let (status, text) = send(&rig, &message.concat()).await;
    assert_eq!(status, 400);
    let shown = "v".repeat(200 - "{__name__=\"b\", x=\"".len());
    let expect = format!(
        "7 rejected, 2 samples written: series 1: {{x=\"1\"}}: no metric name; \
         series 2: {{__name__=\"b\", x=\"1\", x=\"2\"}}: duplicate label name \"x\"; \
         series 3: label value is not valid UTF-8; series 4: label value is not valid UTF-8; \
         series 5: {{=\"2\", __name__=\"c\"}}: label with an empty name; series 6: {{}}: a series needs at least one label; \
         series 7: {{__name__=\"b\", x=\"{shown}…}}: labels of 70016 bytes, at most 65536 are taken\n"
    );
    assert_eq!(text, expect);
    assert_eq!(rig.content().series.keys().collect::<Vec<_>>(), ["a", "d"]);
    assert_eq!(rig.metric("weir_ingest_rejected_samples_total", &["remote_write", "labels"]), 9.0);
}

#[tokio::test]
async fn more_bad_series_than_are_told_are_counted() {
    let rig = Rig::new(|_| {});
    let (status, text) = send(&rig, &series(&[("x", "1")], &[(1, 1.0)]).repeat(25)).await;
    assert_eq!((status, text.matches("no metric name").count()), (400, 10));
    assert!(text.ends_with("; and 15 more\n"), "{text}");
}

#[tokio::test]
async fn samples_out_of_the_window_are_told_and_the_others_of_their_series_written() {
    let rig = Rig::new(|args| args.sample_age_max_ms = Some(1000));
    let times = [NOW_MS - 1001, NOW_MS - 5000, NOW_MS, NOW_MS + 600_001];
    let (status, text) = send(&rig, &series(&[("__name__", "a")], &times.map(|t| (t, 1.0)))).await;
    assert_eq!(status, 400);
    assert!(text.contains("sample at 1699999998999 is older than the retention allows"), "{text}");
    assert!(text.contains("sample at 1700000600001 is too far in the future"), "{text}");
    assert_eq!(rig.content().series["a"], [Sample { t: NOW_MS, v: 1.0 }]);
    assert_eq!(rig.metric("weir_ingest_rejected_samples_total", &["remote_write", "too_old"]), 2.0);
    assert_eq!(rig.metric("weir_ingest_rejected_samples_total", &["remote_write", "too_new"]), 1.0);
}

#[tokio::test]
async fn what_is_not_remote_write_is_refused() {
    let rig = Rig::new(|_| {});
    let good = snap::raw::Encoder::new().compress_vec(&series(&[("__name__", "a")], &[(1, 1.0)])).unwrap();
    let send = |headers: &[(&str, &str)], body: Vec<u8>| {
        let mut request = Request::post("/api/v1/write");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        rig.send(request.body(Body::from(body)).unwrap())
    };
    for unknown in [
        "application/x-protobuf;proto=io.prometheus.write.v3.Request",
        "text/plain",
        "x/y;proto=prometheus.WriteRequest",
    ] {
        let (status, text) = send(&[("content-type", unknown)], good.clone()).await;
        assert_eq!((status, text.contains("remote write 1.0 and 2.0 are supported")), (415, true), "{text}");
        assert_eq!(send_as(&rig, unknown, b"").await.2, None, "what another protocol writes is not told");
    }
    assert_eq!(send(&[("content-type", "application/json")], good.clone()).await.0, 415);
    assert_eq!(send(&[("content-encoding", "gzip")], good.clone()).await.0, 415);
    let version_1 = "application/x-protobuf; proto=prometheus.WriteRequest";
    assert_eq!(send(&[("content-type", version_1), ("content-encoding", "snappy")], good.clone()).await.0, 204);
    assert_eq!(send(&[], good).await.0, 204);
    let (status, text) = send(&[], b"not snappy".to_vec()).await;
    assert_eq!((status, text.starts_with("body is not valid snappy (block format)")), (400, true), "{text}");
    assert_eq!(send(&[], Vec::new()).await.0, 400);
    let malformed = snap::raw::Encoder::new().compress_vec(&[10, 5, 1]).unwrap();
    let (status, text) = send(&[], malformed).await;
    let expect = "body is not a prometheus.WriteRequest: field is longer than its message at byte 2\n";
    assert_eq!((status, text.as_str()), (400, expect));
}

#[tokio::test]
async fn a_small_body_that_claims_to_be_huge_is_refused_before_memory_is_taken() {
    let rig = Rig::new(|_| {});
    let mut body = Vec::new();
    varint(0xffff_ffff, &mut body);
    body.push(0);
    let (status, text) = rig.post("/api/v1/write", body).await;
    assert_eq!(status, 413);
    assert!(text.starts_with("decompressed body of 4294967295 bytes is larger than the limit"), "{text}");
}

#[tokio::test]
async fn overload_is_a_status_on_which_prometheus_tries_again() {
    let rig = Rig::new(|args| args.ingest_inflight_bytes_max = Some(1 << 16));
    let (status, text) = send(&rig, &series(&[("__name__", &"a".repeat(60_000))], &[(1, 1.0)]).repeat(2)).await;
    assert_eq!(status, 503);
    assert!(text.starts_with("overloaded: requests in flight hold"), "{text}");
    assert_eq!(rig.metric("weir_ingest_requests_total", &["5xx", "remote_write"]), 1.0);
}

fn go_through(message: &[u8]) -> Option<usize> {
    let (mut reader, mut scratch, mut series) = (Reader::new(message), Series::default(), 0);
    while let Some(entry) = reader.next(&mut scratch).ok()? {
        series += usize::from(matches!(entry, Entry::Series));
    }
    Some(series)
}

/// Both ways to read a series: after others, and alone with its labels out of order, which only the general reader takes.
fn both_ways(drawn: &[Vec<(&str, &str)>]) {
    let samples = [(7, 1.5), (i64::MIN, 0.0), (0, -1.0), (0, 0.0)];
    let mut staging = Staging::new(1);
    let message: Vec<u8> = drawn.iter().flat_map(|labels| series(labels, &samples)).collect();
    let together = decode(&message, &mut staging, Window::ALL).expect("well formed");
    let together = (together.samples, Content::of(&staging.finish(), 1).series);
    let mut alone = 0;
    for labels in drawn {
        let labels: Vec<_> = labels.iter().rev().copied().collect();
        alone += decode(&series(&labels, &samples), &mut staging, Window::ALL).expect("well formed").samples;
    }
    assert_eq!(together, (alone, Content::of(&staging.finish(), 1).series), "{drawn:?}");
}

#[test]
fn series_that_follow_others_are_read_as_if_alone() {
    let (short, edge, long) = ("s".repeat(63), "e".repeat(64), "l".repeat(127));
    both_ways(&[
        vec![("__name__", "a"), ("b", "1"), ("c", "2"), ("d", "3")],
        vec![("__name__", "ab"), ("b", "1"), ("c", "2"), ("d", "3")],
        vec![("__name__", "ab"), ("b", "1"), ("d", "3")],
        vec![("__name__", "ab"), ("b", "1"), ("bb", "x"), ("c", "2"), ("d", "3"), ("e", "4")],
        vec![("__name__", "ab"), ("c", "2"), ("b", "1"), ("d", "3")],
        vec![("__name__", "ab"), ("b", "1"), ("b", "1"), ("c", "2")],
        vec![("__name__", "ab"), ("b", "1"), ("c", ""), ("d", "3")],
        vec![("A", "1"), ("__name__", "ab"), ("b", &short), ("c", &edge)],
        vec![("A", "1"), ("__name__", "ab"), ("b", &edge), ("c", &edge), ("d", &long)],
        vec![("A", "1"), ("b", &edge), ("c", &edge), ("d", &long)],
        vec![("A", "1"), ("__name__", "é"), ("b", &edge), ("c", &edge), ("d", &long)],
        vec![("A", "1"), ("__name__", "è"), ("b", &edge), ("c", &edge), ("d", &long)],
        vec![],
        vec![("__name__", "ab")],
    ]);
}

type DrawnSeries = (Vec<(String, String)>, Vec<(i64, u64)>);
type Drawn = Vec<DrawnSeries>;

fn drawn() -> impl Strategy<Value = Drawn> {
    let labels = prop::collection::btree_map("[a-z_é]{1,4}", "(.{1,9}|x{120,140})", 0..5);
    let samples = prop::collection::vec((any::<i64>(), any::<u64>()), 1..4);
    prop::collection::vec((labels.prop_map(|labels| labels.into_iter().rev().collect()), samples), 0..8)
}

fn message_of(drawn: &Drawn) -> Vec<u8> {
    let one = |(at, (labels, samples)): (usize, &DrawnSeries)| {
        let at = at.to_string();
        let mut all: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        all.extend([("__name__", "m"), ("Place", &at)]);
        let samples: Vec<(i64, f64)> = samples.iter().map(|(t, bits)| (*t, f64::from_bits(*bits))).collect();
        // Unknown fields of every wire type stand between.
        [series(&all, &samples), vec![0x78, 0x80, 1], bytes(99, b"?"), vec![0x7d, 1, 2, 3, 4]].concat()
    };
    drawn.iter().enumerate().flat_map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_is_encoded_is_staged(drawn in drawn()) {
        let mut staging = Staging::new(3);
        let outcome = decode(&message_of(&drawn), &mut staging, Window::ALL).expect("well formed");
        prop_assert_eq!(outcome.refused, 0, "{:?}", outcome.told);
        let content = Content::of(&staging.finish(), 3);
        prop_assert_eq!(content.series.len(), drawn.len());
        for (at, (labels, samples)) in drawn.iter().enumerate() {
            let mut labels = labels.clone();
            labels.extend([("__name__".to_owned(), "m".to_owned()), ("Place".to_owned(), at.to_string())]);
            let labels = model::Labels::new(&labels).expect("unique").to_string();
            let samples: Vec<Sample> = samples.iter().map(|(t, v)| Sample { t: *t, v: f64::from_bits(*v) }).collect();
            prop_assert_eq!(&content.series[&labels], &samples);
        }
    }

    #[test]
    fn any_series_that_follow_others_are_read_as_if_alone(
        drawn in prop::collection::vec(prop::collection::vec(("[abc_]{1,2}", "[xyé]{0,2}|x{62,66}"), 0..6), 0..8), sorted: bool,
    ) {
        let mut drawn = drawn;
        for labels in &mut drawn {
            labels.push(("__name__".to_owned(), "m".to_owned()));
            if sorted {
                labels.sort();
            }
        }
        let pairs: Vec<Vec<(&str, &str)>> =
            drawn.iter().map(|labels| labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect()).collect();
        both_ways(&pairs);
    }

    #[test]
    fn a_message_that_is_cut_or_changed_never_panics(drawn in drawn(), at: prop::sample::Index, byte: u8) {
        let mut message = message_of(&drawn);
        prop_assert_eq!(go_through(&message), Some(drawn.len()));
        if !message.is_empty() {
            let at = at.index(message.len());
            go_through(&message[..at]);
            message[at] = byte;
            go_through(&message);
            let _ = decode(&message, &mut Staging::new(2), Window::ALL);
        }
    }

    #[test]
    fn random_bytes_never_panic(message in prop::collection::vec(any::<u8>(), 0..64)) {
        go_through(&message);
        go_through(&bytes(1, &message));
        go_through(&bytes(1, &bytes(1, &message)));
        go_through(&bytes(3, &message));
    }
}
