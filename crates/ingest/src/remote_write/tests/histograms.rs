//! Native histograms of both versions, by an encoder of the tests' own.

use model::histogram::{BUCKETS_MAX, CUSTOM_BUCKETS_SCHEMA};
use model::{Buckets, Counts, Histogram, HistogramSample, Layout, ResetHint, Span};

use super::*;

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

pub(super) fn number(field: u64, n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3, &mut out);
    varint(n, &mut out);
    out
}

pub(super) fn double(field: u64, v: f64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3 | 1, &mut out);
    out.extend_from_slice(&v.to_le_bytes());
    out
}

fn doubles(field: u64, values: &[f64]) -> Vec<u8> {
    bytes(field, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
}

fn spans(field: u64, spans: &[Span]) -> Vec<u8> {
    let one = |span: &Span| {
        bytes(field, &[number(1, zigzag(i64::from(span.offset))), number(2, u64::from(span.length))].concat())
    };
    spans.iter().flat_map(one).collect()
}

fn deltas(field: u64, counts: &[u64]) -> Vec<u8> {
    let (mut out, mut before) = (Vec::new(), 0);
    for count in counts {
        varint(zigzag(*count as i64 - before), &mut out);
        before = *count as i64;
    }
    bytes(field, &out)
}

/// The message, in the order in which its fields are numbered.
pub(super) fn message(sample: &HistogramSample) -> Vec<u8> {
    let Histogram { layout, hint, sum, counts } = &sample.histogram;
    let (count, zero, negative, positive) = match counts {
        Counts::Integer(c) => (number(1, c.count), number(6, c.zero), deltas(9, &c.negative), deltas(12, &c.positive)),
        Counts::Float(c) => (double(2, c.count), double(7, c.zero), doubles(10, &c.negative), doubles(13, &c.positive)),
    };
    [
        count,
        double(3, *sum),
        number(4, zigzag(i64::from(layout.schema))),
        double(5, layout.zero_threshold),
        zero,
        spans(8, &layout.negative),
        negative,
        spans(11, &layout.positive),
        positive,
        number(14, *hint as u64),
        number(15, sample.t as u64),
        doubles(16, &layout.custom_values),
        if sample.start == 0 { Vec::new() } else { number(17, sample.start as u64) },
    ]
    .concat()
}

pub(super) fn integer(t: i64) -> HistogramSample {
    let layout = Layout {
        schema: -3,
        zero_threshold: 0.001,
        positive: vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }],
        negative: vec![Span { offset: 0, length: 1 }],
        custom_values: Vec::new(),
    };
    let counts = Counts::Integer(Buckets { count: 12, zero: 2, positive: vec![4, 1, 2], negative: vec![3] });
    let histogram = Histogram { layout: layout.into(), hint: ResetHint::NotReset, sum: -3.5, counts };
    HistogramSample { t, start: 0, histogram }
}

pub(super) fn custom(t: i64) -> HistogramSample {
    let layout = Layout {
        schema: CUSTOM_BUCKETS_SCHEMA,
        positive: vec![Span { offset: 1, length: 1 }],
        custom_values: vec![0.5, 2.0],
        ..Layout::default()
    };
    let counts = Counts::Float(Buckets { count: 4.5, zero: 0.0, positive: vec![4.5], negative: Vec::new() });
    let histogram = Histogram { layout: layout.into(), hint: ResetHint::Gauge, sum: 1.0, counts };
    HistogramSample { t, start: 0, histogram }
}

fn with(name: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    bytes(1, &[label("__name__", name), parts.concat()].concat())
}

fn histograms(samples: &[HistogramSample]) -> Vec<u8> {
    samples.iter().flat_map(|sample| bytes(4, &message(sample))).collect()
}

#[tokio::test]
async fn histograms_of_both_kinds_are_written_and_counted() {
    let rig = Rig::new(|_| {});
    let stale = HistogramSample {
        t: 7,
        start: 0,
        histogram: Histogram {
            layout: Default::default(),
            hint: ResetHint::Unknown,
            sum: model::stale_nan(),
            counts: Counts::Integer(Buckets::default()),
        },
    };
    let (a, b) = ([integer(5), integer(6), stale], [custom(5)]);
    let message = [with("a", &[histograms(&a)]), with("b", &[sample(4, 1.0), histograms(&b)])].concat();
    let written = send_as(&rig, "application/x-protobuf", &message).await;
    assert_eq!(written, (204, String::new(), Some([1, 4, 0])));
    let content = rig.content();
    assert_eq!((&content.histograms["a"][..], &content.histograms["b"][..]), (&a[..], &b[..]));
    assert_eq!(content.series["b"], [Sample { t: 4, v: 1.0 }]);
    assert_eq!(rig.metric("weir_ingest_samples_total", &["remote_write"]), 5.0);
}

#[tokio::test]
async fn bad_histograms_are_told_and_the_good_ones_written() {
    let rig = Rig::new(|args| args.sample_age_max_ms = Some(1000));
    let mut wrong = integer(NOW_MS);
    let Counts::Integer(counts) = &mut wrong.histogram.counts else { unreachable!() };
    counts.count = 13;
    let good = integer(NOW_MS);
    let (old, new) = (custom(NOW_MS - 1001), custom(NOW_MS + 600_001));
    let all = [wrong.clone(), good.clone(), wrong, old, new];
    let message = [with("a", &[histograms(&all)]), bytes(1, &[label("x", "1"), histograms(&all)].concat())].concat();
    let (status, text, written) = send_as(&rig, "application/x-protobuf", &message).await;
    assert_eq!((status, written), (400, Some([0, 1, 0])));
    let expect = "4 rejected, 1 samples written: \
        series 0: {__name__=\"a\"}: sample at 1699999998999 is older than the retention allows (1699999999000); \
        series 0: {__name__=\"a\"}: sample at 1700000600001 is too far in the future (after 1700000600000); \
        series 0: {__name__=\"a\"}: native histogram is not valid: count is 13, and the buckets have 12; \
        series 1: {x=\"1\"}: no metric name\n";
    assert_eq!(text, expect);
    assert_eq!(rig.content().histograms["a"], [good]);
    let rejected = |reason| rig.metric("weir_ingest_rejected_samples_total", &["remote_write", reason]);
    assert_eq!((rejected("native_histogram"), rejected("labels"), rejected("too_old")), (2.0, 5.0, 1.0));
}

#[test]
fn a_histogram_that_cannot_be_one_says_why() {
    let check = |parts: &[Vec<u8>], expect: &str| {
        let read = histogram::read(&parts.concat(), 0).expect("is protobuf");
        assert_eq!(read.map(|_| ()).map_err(|reason| reason.to_string()), Err(expect.to_owned()));
    };
    let one = || spans(11, &[Span { offset: 0, length: 1 }]);
    let both = "has counts of both kinds, integers and floats";
    check(&[number(14, 4)], "has the unknown reset hint 4");
    check(&[number(1, 1), one(), doubles(13, &[1.0])], both);
    check(&[double(2, 1.0), one(), deltas(12, &[1])], both);
    check(&[double(2, 1.0), number(6, 1)], both);
    check(&[number(1, 1), double(7, 1.0)], both);
    check(&[number(1, 0), one(), bytes(12, &[1])], "is not valid: a positive bucket's count is negative");
    check(&[number(1, 0), bytes(9, &[1])], "is not valid: a negative bucket's count is negative");
    check(&[number(1, 1), one()], "is not valid: positive spans are of 1 buckets, and there are 0");
    check(&[number(4, 106)], "is not valid: schema 53 is neither from -4 to 8 nor -53");
    let many = bytes(12, &vec![0; BUCKETS_MAX + 100]);
    check(&[many], "is not valid: 16385 buckets, at most 16384 are taken");
}

#[test]
fn a_resolution_that_nobody_keeps_is_brought_down() {
    let parts = [number(1, 3), number(4, zigzag(9)), spans(11, &[Span { offset: 1, length: 2 }]), deltas(12, &[1, 2])];
    let read = histogram::read(&parts.concat(), 0).expect("is protobuf").expect("is a histogram").histogram;
    assert_eq!((read.layout.schema, &read.layout.positive), (8, &vec![Span { offset: 1, length: 1 }]));
    let Counts::Integer(counts) = read.counts else { panic!("whole numbers") };
    assert_eq!((counts.count, counts.positive), (3, vec![3]));
}

#[test]
fn a_histogram_that_is_not_protobuf_says_where() {
    let check = |parts: &[u8], expect: &str| {
        assert_eq!(histogram::read(parts, 100).expect_err("refused").to_string(), expect);
    };
    check(&double(1, 1.0), "wrong wire type of a field of a histogram at byte 109");
    check(&double(12, 1.0), "wrong wire type of a repeated number at byte 109");
    check(&number(13, 1), "wrong wire type of a repeated float at byte 102");
    check(&bytes(16, &[0; 7]), "packed floats are not of eight bytes each at byte 103");
    check(&bytes(12, &[0x80]), "message ends within a number at byte 102");
    check(&bytes(11, &double(1, 1.0)), "wrong wire type of a field of a span at byte 111");
}

#[test]
fn numbers_that_are_not_packed_are_read_too() {
    let sample = integer(9);
    let apart: Vec<u8> = [zigzag(4), zigzag(-3), zigzag(1)].iter().flat_map(|delta| number(12, *delta)).collect();
    let packed = deltas(12, &[4, 1, 2]);
    let whole = message(&sample);
    let at = whole.windows(packed.len()).position(|window| window == packed).expect("is there");
    let parts = [&whole[..at], &apart, &whole[at + packed.len()..]].concat();
    assert_eq!(histogram::read(&parts, 0).expect("is protobuf"), Ok(sample));
}

#[test]
fn large_histograms_become_several_records_none_too_large() {
    let mut staging = Staging::new(1);
    let layout = Layout { positive: vec![Span { offset: 0, length: 10_000 }], ..Layout::default() };
    let mut random = 7u64;
    let positive: Vec<u64> = (0..10_000)
        .map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 20
        })
        .collect();
    let counts = Counts::Integer(Buckets { count: positive.iter().sum(), zero: 0, positive, negative: Vec::new() });
    let histogram = Histogram { layout: layout.into(), hint: ResetHint::Unknown, sum: 1.0, counts };
    let all: Vec<HistogramSample> =
        (0..120).map(|t| HistogramSample { t, start: 0, histogram: histogram.clone() }).collect();
    let outcome = decode(&with("a", &[histograms(&all)]), &mut staging, Window::ALL).expect("well formed");
    assert_eq!((outcome.histograms, outcome.refused), (120, 0));
    let records = staging.finish();
    assert!(records.len() > 2 && records.iter().all(|(_, record)| record.len() < queue::RECORD_BYTES_MAX));
    assert_eq!(Content::of(&records, 1).histograms["a"], all);
}

proptest! {
    #[test]
    fn a_histogram_that_is_cut_or_changed_never_panics(at: prop::sample::Index, byte: u8, float: bool) {
        let mut message = message(&if float { custom(5) } else { integer(5) });
        let at = at.index(message.len());
        let _ = histogram::read(&message[..at], 0);
        message[at] = byte;
        let _ = histogram::read(&message, 0);
    }
}
