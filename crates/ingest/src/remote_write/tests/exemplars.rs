//! Exemplars of both versions.

use model::Exemplar;

use super::histograms::{double, number};
use super::request::{CONTENT_TYPE, Symbols};
use super::*;

fn of(t: i64, v: f64, pairs: &[(&str, &str)]) -> Exemplar {
    Exemplar::new(t, v, pairs).unwrap()
}

fn first(t: i64, v: f64, labels: &[Vec<u8>]) -> Vec<u8> {
    bytes(3, &[labels.concat(), double(2, v), number(3, t as u64)].concat())
}

fn second(t: i64, v: f64, refs: Vec<u8>) -> Vec<u8> {
    bytes(4, &[refs, double(2, v), number(3, t as u64)].concat())
}

fn one(labels: &[(&str, &str)], parts: &[Vec<u8>]) -> Vec<u8> {
    let labels = labels.iter().flat_map(|(name, value)| label(name, value));
    bytes(1, &labels.chain(parts.concat()).collect::<Vec<u8>>())
}

const A: &[(&str, &str)] = &[("__name__", "a")];

#[tokio::test]
async fn exemplars_of_the_first_version_are_written_with_and_without_samples() {
    let rig = Rig::new(|_| {});
    let traced = first(NOW_MS, 0.5, &[label("trace_id", "4bf9"), label("span", "7"), label("empty", "")]);
    let message = [
        one(A, &[sample(NOW_MS, 1.0), traced, first(NOW_MS - 1, f64::NAN, &[])]),
        one(&[("__name__", "b")], &[first(NOW_MS, 2.0, &[label("t", "é")])]),
        // Without a time and a value: both are 0.
        one(&[("__name__", "c")], &[bytes(3, b"")]),
    ];
    let (status, text, written) = send_as(&rig, "application/x-protobuf", &message.concat()).await;
    assert_eq!((status, text.as_str(), written), (204, "", Some([1, 0, 4])));
    let content = rig.content();
    let expect = [of(NOW_MS, 0.5, &[("span", "7"), ("trace_id", "4bf9")]), of(NOW_MS - 1, f64::NAN, &[])];
    assert_eq!(content.exemplars["a"], expect);
    assert_eq!(content.exemplars["b"], [of(NOW_MS, 2.0, &[("t", "é")])]);
    assert_eq!(content.exemplars["c"], [of(0, 0.0, &[])]);
    assert_eq!(content.series.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(rig.metric("weir_ingest_exemplars_total", &[]), 4.0);
}

#[tokio::test]
async fn exemplars_that_are_not_taken_are_counted_and_no_sample_is_lost_with_them() {
    let rig = Rig::new(|args| args.sample_age_max_ms = Some(1000));
    let long = "x".repeat(128);
    let many: Vec<Vec<u8>> = (0..129).map(|n| label(n.to_string(), "")).collect();
    let message = [
        one(
            A,
            &[
                sample(NOW_MS, 1.0),
                first(NOW_MS, 1.0, &[label("t", &long)]),
                first(NOW_MS, 1.0, &many),
                first(NOW_MS, 1.0, &[label("t", "1"), label("t", "2")]),
                first(NOW_MS, 1.0, &[label("", "1")]),
                first(NOW_MS, 1.0, &[label("t", b"\xff")]),
                first(NOW_MS - 1001, 1.0, &[]),
                first(NOW_MS + 600_001, 1.0, &[]),
                first(NOW_MS, 1.0, &[label("t", &long[1..])]),
            ],
        ),
        one(&[("x", "1")], &[first(NOW_MS, 1.0, &[])]),
    ];
    let (status, text, written) = send_as(&rig, "application/x-protobuf", &message.concat()).await;
    // The series without a name is refused, and the exemplars alone are not.
    assert_eq!((status, written), (400, Some([1, 0, 1])));
    assert_eq!(text, "1 rejected, 1 samples written: series 1: {x=\"1\"}: no metric name\n");
    assert_eq!(rig.content().exemplars["a"], [of(NOW_MS, 1.0, &[("t", &long[1..])])]);
    let refused = |reason| rig.metric("weir_ingest_rejected_exemplars_total", &[reason]);
    assert_eq!(["labels", "too_long", "too_old", "too_new"].map(refused), [4.0, 2.0, 1.0, 1.0]);
    assert_eq!(send_as(&rig, "application/x-protobuf", &message[0]).await.0, 204);
}

#[tokio::test]
async fn an_exemplar_that_refers_to_no_symbol_is_told_with_its_series() {
    let rig = Rig::new(|_| {});
    let mut symbols = Symbols::new();
    let (a, t) = (symbols.refs(A), symbols.refs(&[("t", "1")]));
    let now = bytes(2, &[double(1, 1.0), number(2, NOW_MS as u64)].concat());
    let unknown = symbols.0.len() as u64;
    let series = bytes(
        5,
        &[
            a.clone(),
            now,
            second(NOW_MS, 1.0, t.clone()),
            second(NOW_MS, 2.0, number(1, unknown)),
            second(NOW_MS, 3.0, [number(1, 1), number(1, unknown)].concat()),
        ]
        .concat(),
    );
    let alone = bytes(5, &[a, second(NOW_MS, 4.0, Vec::new())].concat());
    let message = [symbols.write(), series, alone].concat();
    let (status, text, written) = send_as(&rig, CONTENT_TYPE, &message).await;
    assert_eq!((status, written), (400, Some([1, 0, 2])));
    let expect = "1 rejected, 1 samples written: series 0: {__name__=\"a\"}: \
                  exemplar: a label's name refers to a symbol, and its value to none\n";
    assert_eq!(text, expect);
    assert_eq!(rig.content().exemplars["a"], [of(NOW_MS, 1.0, &[("t", "1")]), of(NOW_MS, 4.0, &[])]);
    assert_eq!(rig.metric("weir_ingest_rejected_exemplars_total", &["labels"]), 2.0);
}

#[tokio::test]
async fn what_is_no_exemplar_is_no_message() {
    let rig = Rig::new(|_| {});
    let wrong = [bytes(3, &number(2, 1)), bytes(3, &bytes(1, &number(1, 1))), bytes(3, &[8]), bytes(3, &bytes(3, b""))];
    for exemplar in wrong {
        let (status, text) = send(&rig, &one(A, &[sample(1, 1.0), exemplar.clone()])).await;
        assert_eq!((status, text.starts_with("body is not a prometheus.WriteRequest: ")), (400, true), "{text}");
        let mut symbols = Symbols::new();
        let series = bytes(5, &[symbols.refs(A), [vec![4 << 3 | 2], exemplar[1..].to_vec()].concat()].concat());
        let whole = [symbols.write(), series].concat();
        // Labels are numbers there, and so is the first wrong thing.
        let status = send_as(&rig, CONTENT_TYPE, &whole).await.0;
        assert_eq!(status, 400, "{exemplar:?}");
    }
    assert_eq!(rig.content().samples(), 0);
}

#[tokio::test]
async fn many_exemplars_of_one_series_become_several_records_none_too_large() {
    let rig = Rig::new(|_| {});
    let trace = "😀".repeat(124);
    let exemplars = (0..3000).map(|t| first(t, 1.0, &[label("t", &trace)]));
    assert_eq!(send(&rig, &one(A, &exemplars.collect::<Vec<_>>())).await.0, 204);
    let sizes: Vec<usize> = rig.log.records.lock().unwrap().iter().map(|(_, payload)| payload.len()).collect();
    assert!(sizes.len() > 1 && sizes.iter().all(|size| *size < queue::RECORD_BYTES_MAX), "{sizes:?}");
    assert_eq!(rig.content().exemplars["a"].len(), 3000);
}
