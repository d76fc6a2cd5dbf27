//! Payloads with exemplars.

use super::*;

fn labels(name: &str) -> Labels {
    Labels::new(&[("__name__", name)]).expect("valid")
}

fn exemplar(t: i64, v: f64, pairs: &[(&str, &str)]) -> Exemplar {
    Exemplar::new(t, v, pairs).expect("valid")
}

/// One series with samples and exemplars, one with samples, and one with exemplars.
fn fill(encoder: &mut Encoder) {
    let sample = [Sample { t: 1000, v: 1.0 }];
    encoder.push(labels("a").as_ref(), &sample);
    let own = [exemplar(990, 0.5, &[("trace_id", "4bf9"), ("span", "7")]), exemplar(980, f64::NAN, &[])];
    encoder.push_exemplars(labels("a").as_ref(), &own);
    encoder.push(labels("b").as_ref(), &sample);
    encoder.push_exemplars(labels("c").as_ref(), &[exemplar(1000, 2.0, &[("é", "ü")])]);
}

fn seen() -> Seen {
    let own = vec![exemplar(990, 0.5, &[("trace_id", "4bf9"), ("span", "7")]), exemplar(980, f64::NAN, &[])];
    let sample = || vec![Sample { t: 1000, v: 1.0 }].into();
    Seen {
        series: vec![(labels("a"), sample()), (labels("b"), sample())],
        exemplars: vec![(labels("a"), own), (labels("c"), vec![exemplar(1000, 2.0, &[("é", "ü")])])],
        metadata: Vec::new(),
    }
}

#[test]
fn payload_with_exemplars_is_golden() {
    let mut encoder = Encoder::new();
    fill(&mut encoder);
    let payload = encoder.finish();
    assert_eq!(payload[..2], [EXEMPLIFIED, 0], "not compressed, as it is too short for that");
    let hex: String = payload[3..].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, GOLDEN);
    let mut read = Seen::default();
    Decoder::default().decode(&payload, &mut read).expect("reads back");
    assert_eq!(read, seen());
}
const GOLDEN: &str = "040f085f5f6e616d655f5f0161016201630302020100010000010001010000d00f010808000000020002bc0f91030204\
7370616e01370874726163655f696404346266391303000000000000f87f00010128100102c3a902c3bc";

#[test]
fn exemplars_of_one_series_stand_with_its_samples_once() {
    let mut encoder = Encoder::new();
    for _ in 0..2 {
        let (a, one) = (labels("a"), [exemplar(1, 1.0, &[])]);
        encoder.push_exemplars(a.as_ref(), &[]);
        assert!(encoder.is_empty());
        encoder.push(a.as_ref(), &[Sample { t: 1, v: 1.0 }]);
        encoder.push_exemplars(a.as_ref(), &one);
        encoder.push_exemplars(a.as_ref(), &one);
        encoder.push(a.as_ref(), &[Sample { t: 2, v: 1.0 }]);
        assert_eq!(encoder.samples(), 2);
        let payload = encoder.finish();
        let mut seen = Seen::default();
        Decoder::default().decode(&payload, &mut seen).expect("reads back");
        assert_eq!(seen.series.len(), 2);
        assert_eq!(seen.exemplars, [(a.clone(), one.to_vec()), (a, one.to_vec())]);
        encoder.push(labels("a").as_ref(), &[Sample { t: 1, v: 1.0 }]);
        assert_eq!(encoder.finish()[0], PLAIN, "without exemplars it is the plain form again");
    }
}

#[test]
fn refused_exemplars_say_what_is_wrong() {
    // Two series, the first with one float at 0 and the second with none; no metadata, starts or histograms. Then what is given.
    let two = [2, 1, 2, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let check = |rest: &[u8], reason: &str| refused(EXEMPLIFIED, &[&two[..], rest].concat(), reason);
    check(&[0], "series without samples");
    check(&[1, 2, 1, 0, 0, 0], "exemplars of a series that is not there");
    check(&[1, 1, 0, 0], "group without exemplars");
    check(&[1, 1, 1, 0, 0, 1, 0, 1, b'x'], "exemplar that is not valid");
    check(&[1, 1, 1, 0, 0, 2, 1, b'x', 1, b'x', 1, b'x', 1, b'x'], "exemplar that is not valid");
    check(&[1, 1, 1, 0, 0, 1, 1, 0xff, 0], "not UTF-8");
    check(&[1, 1, 1, 0, 0, 9], "length is beyond the end");
    check(&[1, 1, 1, 0, 0, 0, 0], "bytes after the end");
    refused(RICH, &two, "series without samples");
    // A million and one, each of three bytes.
    let many = [&[2, 4, 1, b'a', 1, b'b'], &two[..], &[1, 1, 0x81, 0x80, 0x40], &[0; 3 << 20], &[0; 3]].concat();
    let mut payload = vec![EXEMPLIFIED, 0];
    super::super::put_varint(&mut payload, many.len() as u64);
    payload.extend_from_slice(&many);
    let error = Decoder::default().decode(&payload, &mut Seen::default()).expect_err("too many").to_string();
    assert!(error.ends_with("more exemplars than a record has"), "{error}");
}

fn arbitrary() -> impl Strategy<Value = Exemplar> {
    let pairs = prop::collection::btree_map("[a-c]{1,3}", "[a-c€]{0,9}", 0..4);
    (any::<i64>(), any::<u64>(), pairs).prop_map(|(t, bits, pairs)| {
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        exemplar(t, f64::from_bits(bits), &pairs)
    })
}

proptest! {
    #[test]
    fn every_exemplar_reads_back_bit_for_bit(
        series in prop::collection::vec((any::<bool>(), prop::collection::vec(arbitrary(), 0..4)), 0..12),
    ) {
        let (mut encoder, mut given) = (Encoder::new(), Seen::default());
        for (n, (has_sample, exemplars)) in series.into_iter().enumerate() {
            let (labels, sample) = (labels(&n.to_string()), vec![Sample { t: 1, v: 1.0 }]);
            if has_sample {
                encoder.push(labels.as_ref(), &sample);
                given.series.push((labels.clone(), sample.into()));
            }
            encoder.push_exemplars(labels.as_ref(), &exemplars);
            if !exemplars.is_empty() {
                given.exemplars.push((labels, exemplars));
            }
        }
        let mut seen = Seen::default();
        Decoder::default().decode(&encoder.finish(), &mut seen).expect("reads back");
        prop_assert_eq!(seen, given);
    }

    #[test]
    fn no_flipped_byte_of_an_exemplar_makes_the_decoder_panic(at in any::<prop::sample::Index>(), by in 1u8..) {
        let mut encoder = Encoder::new();
        fill(&mut encoder);
        let mut payload = encoder.finish().to_vec();
        let at = at.index(payload.len());
        payload[at] ^= by;
        let _ = Decoder::default().decode(&payload, &mut Seen::default());
    }
}
