//! Payloads with starts and native histograms.

use std::sync::Arc;

use model::histogram::CUSTOM_BUCKETS_SCHEMA;
use model::{Buckets, Counts, Histogram, Layout, ResetHint, Span, stale_nan};

use super::*;

fn spans(spans: &[(i32, u32)]) -> Vec<Span> {
    spans.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect()
}

fn integer(t: i64) -> HistogramSample {
    let layout = Layout {
        schema: 3,
        zero_threshold: 0.001,
        positive: spans(&[(-2, 2), (3, 1)]),
        negative: spans(&[(0, 1)]),
        custom_values: Vec::new(),
    };
    let counts = Buckets { count: 12, zero: 2, positive: vec![1, 4, 2], negative: vec![3] };
    let histogram =
        Histogram { layout: Arc::new(layout), hint: ResetHint::NotReset, sum: 3.5, counts: Counts::Integer(counts) };
    HistogramSample { t, start: 0, histogram }
}

fn custom(t: i64) -> HistogramSample {
    let layout = Layout {
        schema: CUSTOM_BUCKETS_SCHEMA,
        positive: spans(&[(1, 1)]),
        custom_values: vec![0.5, 2.0],
        ..Layout::default()
    };
    let counts = Counts::Float(Buckets { count: 4.5, zero: 0.0, positive: vec![4.5], negative: Vec::new() });
    let histogram = Histogram { layout: Arc::new(layout), hint: ResetHint::Gauge, sum: 1.0, counts };
    HistogramSample { t, start: t - 1, histogram }
}

fn labels(name: &str) -> Labels {
    Labels::new(&[("__name__", name)]).expect("valid")
}

fn floats(times: &[i64]) -> Vec<Sample> {
    times.iter().map(|t| Sample { t: *t, v: 1.0 }).collect()
}

fn example() -> Seen {
    let mixed = Owned { floats: floats(&[9, 10]), starts: vec![0, 7], histograms: vec![custom(11)] };
    let last = Owned { floats: floats(&[12]), starts: vec![7], histograms: Vec::new() };
    let series = vec![
        (labels("a"), Owned { histograms: vec![integer(1000), integer(1015)], ..Owned::default() }),
        (labels("b"), floats(&[8]).into()),
        (labels("c"), mixed),
        (labels("d"), last),
    ];
    Seen { series, ..Seen::default() }
}

#[test]
fn payload_with_starts_and_histograms_is_golden() {
    let payload = encode(&example());
    assert_eq!(payload[..2], [RICH, 1], "compressed, as the second histogram is like the first");
    let body = lz4_flex::block::decompress(&payload[3..], usize::from(payload[2])).expect("one block");
    let hex: String = body.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, GOLDEN);
    let mut seen = Seen::default();
    Decoder::default().decode(&payload, &mut seen).expect("reads back");
    assert_eq!(seen, example());
}
const GOLDEN: &str = "0511085f5f6e616d655f5f01610162016301640404030100010000000100010100020001001000020200060008080808\
000204050102000204d00f0652020302060101000100f1150c02020603020c1ef1150c0202060302010117d70f016900010201000291031008911c0\
0911c";

#[test]
fn only_a_payload_that_needs_it_has_the_new_form() {
    let mut encoder = Encoder::new();
    let sample = [Sample { t: 1, v: 1.0 }];
    let started = |start: &'static [i64]| Samples { floats: &sample, starts: start, histograms: &[] };
    for (start, version) in [(&[7][..], RICH), (&[0][..], PLAIN), (&[][..], PLAIN)] {
        encoder.push(labels("a").as_ref(), started(start));
        assert_eq!(encoder.finish()[0], version, "{start:?}");
    }
    let stale = Histogram { sum: stale_nan(), ..integer(1).histogram };
    let marker = [HistogramSample { t: 1, start: 0, histogram: stale }];
    encoder.push(labels("a").as_ref(), Samples { histograms: &marker, ..Samples::default() });
    assert_eq!((encoder.samples(), encoder.is_empty()), (1, false));
    assert_eq!(encoder.finish()[0], RICH);
}

#[test]
fn encoder_forgets_starts_and_histograms_with_the_rest() {
    let mut encoder = Encoder::new();
    for _ in 0..2 {
        let own = Owned { floats: floats(&[12]), starts: vec![7], histograms: vec![custom(11)] };
        encoder.push(labels("a").as_ref(), own.samples());
        assert_eq!(encoder.samples(), 2);
        let mut seen = Seen::default();
        Decoder::default().decode(&encoder.finish(), &mut seen).expect("reads back");
        assert_eq!(seen.series, [(labels("a"), own)]);
    }
}

#[test]
fn refused_starts_and_histograms_say_what_is_wrong() {
    // Two series, the first with one float at 0 and the second with none; no metadata. Then what is given.
    let two = [2, 1, 2, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0];
    let check = |rest: &[u8], reason: &str| refused(RICH, &[&two[..], rest].concat(), reason);
    // Form, time, schema, threshold, spans of both signs, bounds, sum, count, zeros.
    let empty = [0; 10];
    let group = |head: &[u8], histogram: &[u8]| [head, histogram].concat();
    check(&[1, 2, 0], "start of a sample that is not there");
    check(&[1, 0, 0], "start that is none");
    check(&[1, 1], "start that is none");
    check(&[0, 0], "series without samples");
    check(&group(&[0, 1, 0, 1], &empty), "series without samples");
    check(&group(&[0, 1, 2, 1], &empty), "histograms of a series that is not there");
    check(&group(&[0, 1, 1, 0], &empty), "group without histograms");
    check(&group(&[0, 1, 1, 1], &[0x20; 10]), "unknown form of a histogram");
    check(&group(&[0, 1, 1, 1], &[0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "start that is none");
    check(&group(&[0, 1, 1, 1], &[0x08, 0, 0, 0, 0]), "no layout before to repeat");
    check(&group(&[0, 1, 1, 1], &[0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f]), "schema");
    check(&group(&[0, 1, 1, 1], &[0, 0, 18, 0, 0, 0, 0, 0, 0, 0]), "histogram that is not valid");
    check(&group(&[0, 1, 1, 1], &[0, 0, 0, 0, 1, 0, 9, 0, 0, 0, 0, 0]), "more buckets than bytes");
    check(&group(&[0, 1, 1, 1], &[0; 11]), "bytes after the end");
    // A million and one, each in five bytes after the first.
    let like = [0x08, 0, 0, 0, 0].repeat(1 << 20);
    let many = [&[2, 4, 1, b'a', 1, b'b'], &two[..], &[0, 1, 1, 0x81, 0x80, 0x40], &empty, &like].concat();
    let mut payload = vec![RICH, 0];
    super::super::put_varint(&mut payload, many.len() as u64);
    payload.extend_from_slice(&many);
    let error = Decoder::default().decode(&payload, &mut Seen::default()).expect_err("too many").to_string();
    assert!(error.ends_with("more histograms than a record has"), "{error}");
    let whole = [&[RICH, 0, 0][..], &[2, 4, 1, b'a', 1, b'b'], &two, &[0, 1, 1, 1], &empty].concat();
    let whole = [&[RICH, 0, whole.len() as u8 - 3][..], &whole[3..]].concat();
    let mut seen = Seen::default();
    Decoder::default().decode(&whole, &mut seen).expect("the same with nothing wrong");
    assert_eq!(seen.series.iter().map(|(_, own)| own.samples().len()).collect::<Vec<_>>(), [1, 1]);
}

fn counts(positive: usize, negative: usize) -> impl Strategy<Value = Counts> {
    let bucket = || prop_oneof![Just(0u64), 0u64..50, any::<u64>().prop_map(|n| n >> 20)];
    let whole = (bucket(), prop::collection::vec(bucket(), positive), prop::collection::vec(bucket(), negative))
        .prop_map(|(zero, positive, negative)| {
            let count = zero + positive.iter().sum::<u64>() + negative.iter().sum::<u64>();
            Counts::Integer(Buckets { count, zero, positive, negative })
        });
    let part =
        || prop_oneof![(0u32..5000).prop_map(|n| f64::from(n) / 4.0), any::<u32>().prop_map(|n| f64::from(n).sqrt())];
    let parts = (part(), part(), prop::collection::vec(part(), positive), prop::collection::vec(part(), negative))
        .prop_map(|(count, zero, positive, negative)| Counts::Float(Buckets { count, zero, positive, negative }));
    prop_oneof![whole, parts]
}

fn histogram() -> impl Strategy<Value = Histogram> {
    let side = || prop::collection::vec((0i32..9, 0u32..4), 0..4);
    let layout = (-4i32..=8, prop_oneof![Just(0.0), any::<f64>()], side(), side(), -9000i32..9000);
    let layout = layout.prop_map(|(schema, zero_threshold, mut positive, negative, first)| {
        if let Some(span) = positive.first_mut() {
            span.0 = first;
        }
        let (positive, negative) = (spans(&positive), spans(&negative));
        Layout { schema, zero_threshold, positive, negative, custom_values: Vec::new() }
    });
    (layout, 0u64..4, any::<u64>()).prop_flat_map(|(layout, hint, sum)| {
        let (positive, negative) = layout.buckets();
        counts(positive, negative).prop_map(move |counts| Histogram {
            layout: Arc::new(layout.clone()),
            hint: ResetHint::from_number(hint).expect("one of four"),
            sum: f64::from_bits(sum),
            counts,
        })
    })
}

fn series() -> impl Strategy<Value = Owned> {
    let start = || prop_oneof![Just(0i64), Just(77), any::<i64>()];
    let floats = prop::collection::vec((any::<i64>(), any::<u64>(), start()), 0..4);
    let histograms = prop::collection::vec((any::<i64>(), start(), histogram()), 0..4);
    (floats, histograms).prop_filter("has a sample", |(a, b)| !a.is_empty() || !b.is_empty()).prop_map(
        |(floats, histograms)| {
            let mut starts: Vec<i64> = floats.iter().map(|(_, _, start)| *start).collect();
            if starts.iter().all(|start| *start == 0) {
                starts.clear();
            }
            let histograms =
                histograms.into_iter().map(|(t, start, histogram)| HistogramSample { t, start, histogram });
            let floats = floats.into_iter().map(|(t, bits, _)| Sample { t, v: f64::from_bits(bits) });
            Owned { floats: floats.collect(), starts, histograms: histograms.collect() }
        },
    )
}

proptest! {
    #[test]
    fn every_start_and_histogram_reads_back_bit_for_bit(series in prop::collection::vec(series(), 0..20)) {
        let series = series.into_iter().enumerate().map(|(n, own)| (labels(&n.to_string()), own)).collect();
        let given = Seen { series, ..Seen::default() };
        let mut seen = Seen::default();
        Decoder::default().decode(&encode(&given), &mut seen).expect("reads back");
        prop_assert_eq!(seen, given);
    }

    #[test]
    fn no_flipped_byte_of_a_histogram_makes_the_decoder_panic(at in any::<prop::sample::Index>(), by in 1u8..) {
        let payload = encode(&example());
        let mut body = lz4_flex::block::decompress(&payload[3..], usize::from(payload[2])).expect("one block");
        let at = at.index(body.len());
        body[at] ^= by;
        body.splice(0..0, [2, 0, body.len() as u8]);
        let _ = Decoder::default().decode(&body, &mut Seen::default());
    }
}
