//! Chunks of floats with starts, and of histograms.

use std::sync::Arc;

use model::histogram::BUCKETS_MAX;
use model::{Buckets, Counts, Histogram, HistogramSample, Layout, ResetHint, Span};

use super::super::{bits::put_varint, pieces};
use super::*;
use crate::testing::Family;

fn sample(t: i64, start: i64, hint: ResetHint, buckets: [u64; 3]) -> HistogramSample {
    let layout = Layout {
        schema: 3,
        zero_threshold: 0.5,
        positive: vec![Span { offset: -2, length: 2 }],
        negative: vec![Span { offset: 0, length: 1 }],
        custom_values: Vec::new(),
    };
    let [a, b, c] = buckets;
    let counts = Counts::Integer(Buckets { count: a + b + c + 2, zero: 2, positive: vec![a, b], negative: vec![c] });
    HistogramSample { t, start, histogram: Histogram { layout: Arc::new(layout), hint, sum: 1.5, counts } }
}

fn chunks(columns: &Columns) -> Vec<Vec<u8>> {
    let mut scratch = Scratch::default();
    let encode = |piece: Piece<'_>| {
        let mut out = Vec::new();
        piece.encode(&mut scratch, &mut out);
        out
    };
    pieces(columns).map(encode).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn round_trip(columns: &Columns) -> Vec<Vec<u8>> {
    let (chunks, mut read) = (chunks(columns), Columns::default());
    for chunk in &chunks {
        assert_eq!(decode(chunk, &mut read), Ok(chunk.len()));
    }
    let bits = |c: &Columns| c.v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!((&read.t, bits(&read), &read.histograms), (&columns.t, bits(columns), &columns.histograms));
    let starts = |c: &Columns| (0..c.len()).map(|at| c.start(at)).collect::<Vec<_>>();
    assert_eq!(starts(&read), starts(columns));
    chunks
}

#[test]
fn chunks_with_starts_and_of_histograms_are_golden() {
    let mut columns = Columns::default();
    columns.push_with_start(1000, 1.5, 900);
    columns.push_with_start(1010, 1.5, 900);
    columns.histograms.push(sample(1020, 900, ResetHint::Unknown, [3, 4, 5]));
    columns.histograms.push(sample(1030, 900, ResetHint::NotReset, [3, 5, 7]));
    let chunks = round_trip(&columns);
    assert_eq!(chunks.iter().map(|chunk| hex(chunk)).collect::<Vec<_>>(), GOLDEN);
}
const GOLDEN: [&str; 2] = [
    "000102d00f0d0a0200000000000000f83f880e0900",
    "0002020606000000000000e03f01030201000100f80f0d0a02880e09000800000000000000f83f00090004090006090008\
     09020a0d0202",
];

#[test]
fn a_new_chunk_begins_where_kind_or_layout_change() {
    let mut random = fastrand::Rng::with_seed(7);
    let (mut a, mut b) = (Family::new(&mut random), Family::new(&mut random));
    let mut columns = Columns::floats(vec![1, 2, 5], vec![1.0; 3]);
    columns.histograms = vec![a.sample(3, &mut random), a.sample(4, &mut random), a.sample(6, &mut random)];
    columns.histograms.extend([b.sample(7, &mut random), b.sample(8, &mut random)]);
    let of = |piece: Piece<'_>| (matches!(piece, Piece::Floats(..)), piece.samples(), piece.range().start_ms);
    let expect = [(true, 2, 1), (false, 2, 3), (true, 1, 5), (false, 1, 6), (false, 2, 7)];
    assert_eq!(pieces(&columns).map(of).collect::<Vec<_>>(), expect);
    round_trip(&columns);
}

#[test]
fn chunks_of_floats_are_of_like_size_and_those_of_histograms_bounded_by_their_buckets() {
    let of = |columns: &Columns| pieces(columns).map(|piece| piece.samples()).collect::<Vec<_>>();
    assert_eq!(of(&Columns::floats((0..1500).collect(), vec![0.0; 1500])), [750, 750]);
    let wide = |n: usize| {
        let layout = Layout { positive: vec![Span { offset: 0, length: n as u32 }], ..Layout::default() };
        let counts = Counts::Integer(Buckets { count: n as u64, zero: 0, positive: vec![1; n], negative: Vec::new() });
        Histogram { layout: Arc::new(layout), hint: ResetHint::Gauge, sum: 0.0, counts }
    };
    let many = |histogram: Histogram, n: i64| Columns {
        histograms: (0..n).map(|t| HistogramSample { t, start: 0, histogram: histogram.clone() }).collect(),
        ..Columns::default()
    };
    assert_eq!(of(&many(wide(160), 500)), [404, 96]);
    assert_eq!(of(&many(wide(1), 1500)), [1024, 476]);
    let widest = many(wide(BUCKETS_MAX), 5);
    assert_eq!(of(&widest), [3, 2]);
    round_trip(&widest);
}

#[test]
fn histograms_of_a_steady_load_are_small() {
    // Twenty buckets that grow about evenly, a scrape each 15 s for half an hour.
    let mut random = fastrand::Rng::with_seed(7);
    let layout = Arc::new(Layout { schema: 3, positive: vec![Span { offset: 5, length: 20 }], ..Layout::default() });
    let (mut positive, mut cents) = (vec![0u64; 20], 0);
    let histograms = (0..120).map(|n| {
        positive.iter_mut().for_each(|count| *count += random.u64(90..110));
        cents += random.u32(19_000..21_000);
        let counts =
            Buckets { count: positive.iter().sum(), zero: 0, positive: positive.clone(), negative: Vec::new() };
        let histogram = Histogram {
            layout: layout.clone(),
            hint: ResetHint::Unknown,
            sum: f64::from(cents) / 100.0,
            counts: Counts::Integer(counts),
        };
        HistogramSample { t: n * 15_000, start: 1, histogram }
    });
    let chunks = round_trip(&Columns { histograms: histograms.collect(), ..Columns::default() });
    assert!(chunks.len() == 1 && chunks[0].len() < 120 * 16, "{} bytes", chunks[0].len());
}

#[test]
fn a_damaged_chunk_says_what_is_wrong() {
    let histograms =
        vec![sample(1020, 900, ResetHint::Unknown, [3, 4, 5]), sample(1030, 0, ResetHint::Gauge, [3, 5, 7])];
    let whole = chunks(&Columns { histograms, ..Columns::default() }).remove(0);
    let check = |at: usize, with: &[u8], reason: &str| {
        let bytes = [&whole[..at], with].concat();
        assert_eq!(decode(&bytes, &mut Columns::default()), Err(reason), "{with:?} at {at}");
    };
    check(1, &[4], "unknown kind of chunk");
    check(2, &[0], "number of samples");
    check(3, &[8], "unknown form of histograms");
    check(4, &[0xff, 0xff, 0xff, 0xff, 0x7f], "schema");
    check(13, &[9], "length is beyond the end");
    let mut span = vec![1, 0];
    put_varint(&mut span, 40_000);
    check(13, &[&span[..], &[0, 0, 0, 0, 0]].concat(), "more buckets than a chunk has");
    // 1024 histograms of 16,000 buckets, of which columns of nothing but zeros would take few bytes.
    check(2, &[0x80, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x80, 0x7d, 0, 0, 0, 0], "more buckets than a chunk has");
    for end in 0..whole.len() {
        decode(&whole[..end], &mut Columns::default()).expect_err("cut");
    }
    let alone = [0, HISTOGRAMS, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4];
    assert_eq!(decode(&alone, &mut Columns::default()), Err("hint of a reset"));
}

/// Samples of several kinds, drawn from a seed.
fn drawn(seed: u64) -> Columns {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut columns, mut t, mut start) = (Columns::default(), random.i64(..) >> 20, 0);
    for _ in 0..random.usize(1..5) {
        let mut family = Family::new(&mut random);
        let floats = random.bool();
        for _ in 0..random.usize(1..40) {
            t += random.i64(1..20_000);
            if floats {
                start = if random.u8(..8) == 0 { random.i64(0..3) } else { start };
                columns.push_with_start(t, random.f64(), start);
            } else {
                columns.histograms.push(family.sample(t, &mut random));
            }
        }
    }
    columns
}

proptest! {
    #[test]
    fn every_sample_of_any_kind_comes_back_bit_for_bit(seed: u64) {
        round_trip(&drawn(seed));
    }

    #[test]
    fn no_bytes_of_these_kinds_make_the_decoder_panic(
        kind in 1u8..3, bytes in prop::collection::vec(prop_oneof![0u8..9, any::<u8>()], 0..60),
    ) {
        let _ = decode(&[&[0, kind][..], &bytes].concat(), &mut Columns::default());
    }

    #[test]
    fn no_damaged_chunk_of_these_kinds_makes_the_decoder_panic(seed: u64, at in any::<prop::sample::Index>(), by in 1u8..) {
        for mut chunk in chunks(&drawn(seed)) {
            let at = at.index(chunk.len());
            chunk[at] ^= by;
            let _ = decode(&chunk, &mut Columns::default());
        }
    }
}
