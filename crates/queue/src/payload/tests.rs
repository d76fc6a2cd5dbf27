use model::{Exemplar, HistogramSample, Labels, LabelsRef, Metadata, MetricType, STALE_NAN_BITS, Sample, Samples};
use proptest::prelude::*;

use super::{Decoder, Encoder, Visitor};
use super::{EXEMPLIFIED, PLAIN, RICH};

mod exemplars;
mod rich;

#[derive(Debug, Default, PartialEq)]
struct Seen {
    series: Vec<(Labels, Owned)>,
    exemplars: Vec<(Labels, Vec<Exemplar>)>,
    metadata: Vec<Metadata>,
}

/// The samples of one series.
#[derive(Debug, Clone, Default, PartialEq)]
struct Owned {
    floats: Vec<Sample>,
    starts: Vec<i64>,
    histograms: Vec<HistogramSample>,
}

impl Owned {
    fn samples(&self) -> Samples<'_> {
        Samples { floats: &self.floats, starts: &self.starts, histograms: &self.histograms }
    }
}

impl From<Vec<Sample>> for Owned {
    fn from(floats: Vec<Sample>) -> Self {
        Owned { floats, ..Owned::default() }
    }
}

impl Visitor for Seen {
    fn series(&mut self, labels: LabelsRef<'_>, samples: Samples<'_>) {
        let Samples { floats, starts, histograms } = samples;
        let own = Owned { floats: floats.to_vec(), starts: starts.to_vec(), histograms: histograms.to_vec() };
        self.series.push((labels.to_labels(), own));
    }
    fn metadata(&mut self, metadata: &Metadata) {
        self.metadata.push(metadata.clone());
    }
    fn exemplars(&mut self, labels: LabelsRef<'_>, exemplars: &[Exemplar]) {
        self.exemplars.push((labels.to_labels(), exemplars.to_vec()));
    }
}

fn encode(seen: &Seen) -> bytes::Bytes {
    let mut encoder = Encoder::new();
    for (labels, samples) in &seen.series {
        encoder.push(labels.as_ref(), samples.samples());
    }
    for metadata in &seen.metadata {
        encoder.push_metadata(metadata);
    }
    encoder.finish()
}

fn example() -> Seen {
    let labels = |pairs: &[(&str, &str)]| Labels::new(pairs).expect("valid");
    Seen {
        series: vec![
            (labels(&[("__name__", "up"), ("job", "a")]), vec![Sample { t: 1000, v: 1.0 }].into()),
            (
                labels(&[("__name__", "up"), ("job", "b")]),
                vec![Sample { t: 1000, v: 0.0 }, Sample { t: 999, v: -0.0 }].into(),
            ),
            (labels(&[("x", "a")]), vec![Sample { t: i64::MIN, v: f64::from_bits(STALE_NAN_BITS) }].into()),
        ],
        metadata: vec![Metadata {
            family: "up".into(),
            kind: MetricType::Gauge,
            help: "Is it?".into(),
            unit: String::new(),
        }],
        ..Seen::default()
    }
}

#[test]
fn payload_is_golden() {
    // Written down once and drawn in FORMAT.md: stored logs are read with it.
    let body = encode(&example());
    let hex: String = body.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}
const GOLDEN: &str = "04015cf1250616085f5f6e616d655f5f036a6f62027570016101620178030402020000030000010200020201000104d0\
0f00000100b0f0ffff0200300100081f00010200318003020800f000f07f01020275700649732069743f00";

#[test]
fn encoder_is_empty_again_after_finish() {
    let mut encoder = Encoder::new();
    for _ in 0..2 {
        assert!(encoder.is_empty());
        for (labels, samples) in &example().series {
            encoder.push(labels.as_ref(), samples.samples());
        }
        assert_eq!(encoder.samples(), 4);
        let mut seen = Seen::default();
        Decoder::default().decode(&encoder.finish(), &mut seen).expect("reads back");
        assert_eq!(seen.series, example().series);
    }
}

#[test]
fn damage_is_refused_with_its_position() {
    let payload = encode(&example());
    let refused = |bytes: &[u8]| {
        let mut seen = Seen::default();
        let error = Decoder::default().decode(bytes, &mut seen).expect_err("refused");
        assert_eq!(seen, Seen::default(), "nothing of a damaged payload is shown");
        error.to_string()
    };
    assert_eq!(refused(&[]), "record payload at byte 0: ends too early");
    assert_eq!(refused(&[9, 0, 0]), "record payload at byte 0: unknown version");
    assert_eq!(refused(&payload[..payload.len() - 1]), "record payload at byte 3: body does not decompress");
    let huge = [PLAIN, 1, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(refused(&huge), "record payload at byte 7: body is too large");
}

/// The payload of symbols "a", "b" (as pieces), then what is given, is refused.
fn refused(version: u8, series: &[u8], reason: &str) {
    let mut body = vec![2, 4, 1, b'a', 1, b'b'];
    body.extend_from_slice(series);
    let mut payload = vec![version, 0, body.len() as u8];
    payload.extend_from_slice(&body);
    let error = Decoder::default().decode(&payload, &mut Seen::default()).expect_err(reason).to_string();
    assert!(error.ends_with(reason), "{error}, not {reason}");
}

#[test]
fn refused_payloads_say_what_is_wrong() {
    let check = |series: &[u8], reason: &str| refused(PLAIN, series, reason);
    check(&[1, 1, 2, 2, 2, 1, 3, 0, 0], "label names are not ascending");
    check(&[1, 1, 2, 2, 1, 1, 3, 0, 0], "label names are not ascending");
    check(&[1, 1, 2, 0, 0], "series without labels");
    check(&[1, 1, 2, 1, 0, 0, 0], "no value before to repeat");
    check(&[1, 1, 2, 1, 0, 3, 0, 0], "change of a label that is not there");
    check(&[1, 1, 2, 1, 0, 1, 9, 0], "symbol number");
    check(&[1, 1, 0, 0, 0, 0], "no names before to repeat");
    check(&[1, 1, 4, 0, 0, 0], "unknown list of names");
    check(&[1, 0, 3, 1, 0, 1, 0, 0], "series without samples");
    check(&[1, 2, 2, 1, 0, 1, 0, 0, 0, 0, 0, 0], "number of samples");
    check(&[1, 1, 2, 1, 0, 1, 0, 0, 1, 0, 0], "times of more series than there are");
    check(&[2, 3, 2, 1, 0, 1, 0, 1, 0, 2, 0, 1, 0, 0, 0, 0], "times of a series with another number of samples");
    check(&[0, 0, 1, 8, 0, 0, 0], "unknown metric type");
    check(&[0, 0, 1, 0, 1, 0xff, 0, 0], "not UTF-8");
    check(&[0, 0, 0, 0], "bytes after the end");
    check(&[0, 9, 0], "length is beyond the end");
}

#[test]
fn values_take_as_many_bytes_as_they_show_digits() {
    let check = |v: f64, bytes: usize| {
        let mut out = Vec::new();
        super::value::put(&mut out, v);
        assert_eq!(out.len(), bytes, "{v}");
    };
    check(0.0, 1);
    check(-15.0, 1);
    check(12.34, 2);
    check(0.0625, 2);
    check(1_795_525_335.0, 5);
    check(4_503_599_627_370_495.0, 8);
    check(4_503_599_627_370_496.0, 9);
    check(1.0 / 3.0, 9);
    check(f64::INFINITY, 9);
    check(-0.0, 9);
    check(f64::from_bits(STALE_NAN_BITS), 9);
}

fn arbitrary_series() -> impl Strategy<Value = (Labels, Vec<Sample>)> {
    let labels = prop::collection::btree_map("[a-d]{1,2}", "[a-c€]{1,2}", 1..12);
    let bits = prop_oneof![
        any::<u64>(),
        any::<f64>().prop_map(f64::to_bits),
        (-9999i64..9999).prop_map(|n| (n as f64 / 100.0).to_bits())
    ];
    let times = prop_oneof![any::<i64>(), 0..2i64];
    let samples = prop::collection::vec((times, bits), 1..6);
    (labels, samples).prop_map(|(labels, samples)| {
        let pairs: Vec<_> = labels.into_iter().collect();
        let samples = samples.into_iter().map(|(t, v)| Sample { t, v: f64::from_bits(v) }).collect();
        (Labels::new(&pairs).expect("valid"), samples)
    })
}

proptest! {
    #[test]
    fn every_batch_reads_back_bit_for_bit(series in prop::collection::vec(arbitrary_series(), 0..40)) {
        let series = series.into_iter().map(|(labels, floats)| (labels, floats.into())).collect();
        let given = Seen { series, ..Seen::default() };
        let mut seen = Seen::default();
        Decoder::default().decode(&encode(&given), &mut seen).expect("reads back");
        prop_assert_eq!(seen, given);
    }

    #[test]
    fn series_that_differ_in_some_labels_read_back(
        targets in prop::collection::vec((prop::collection::vec(prop::sample::select(vec!["", "v", "long€", "1234567"]), 11), 0u8..4), 0..60),
    ) {
        // Mostly the same names, as in a scrape; an empty value leaves its label out.
        let series = targets.iter().map(|(values, sparse)| {
            let pairs: Vec<_> = values.iter().enumerate()
                .map(|(i, v)| (format!("label{i:02}"), if *sparse > 0 && v.is_empty() { "full" } else { v }))
                .chain([("name".to_owned(), "x")]).collect();
            (Labels::new(&pairs).expect("valid"), vec![Sample { t: 1, v: 1.0 }].into())
        });
        let given = Seen { series: series.collect(), ..Seen::default() };
        let mut seen = Seen::default();
        Decoder::default().decode(&encode(&given), &mut seen).expect("reads back");
        prop_assert_eq!(seen, given);
    }

    #[test]
    fn series_of_many_lists_of_names_that_take_turns_read_back_from_payload_after_payload(
        payloads in prop::collection::vec(prop::collection::vec((0usize..80, prop::collection::vec(0usize..4, 3)), 0..200), 1..4),
    ) {
        // Some texts are so large, and some lists so many, that their texts are not kept.
        let values = ["v", "w", "longer", &"very long€".repeat(500)];
        let mut decoder = Decoder::default();
        for payload in payloads {
            let series = payload.iter().map(|(list, chosen)| {
                let pairs: Vec<_> = chosen.iter().enumerate()
                    .map(|(i, value)| (format!("label{}_{i}", if i == 1 { &0 } else { list }), values[*value]))
                    .collect();
                (Labels::new(&pairs).expect("valid"), vec![Sample { t: 1, v: 1.0 }].into())
            });
            let given = Seen { series: series.collect(), ..Seen::default() };
            let mut seen = Seen::default();
            decoder.decode(&encode(&given), &mut seen).expect("reads back");
            prop_assert_eq!(seen, given);
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = bytes;
        let _ = Decoder::default().decode(&bytes, &mut Seen::default());
        bytes.splice(0..0, [PLAIN, 0, bytes.len() as u8 & 0x7f]);
        for version in [PLAIN, RICH, EXEMPLIFIED] {
            bytes[0] = version;
            let _ = Decoder::default().decode(&bytes, &mut Seen::default());
        }
    }

    #[test]
    fn no_flipped_byte_makes_the_decoder_panic(at in any::<prop::sample::Index>(), by in 1u8..) {
        let mut bytes = encode(&example()).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        let _ = Decoder::default().decode(&bytes, &mut Seen::default());
    }
}
