use proptest::prelude::*;

use super::*;

mod rich;

fn encoded(t: &[i64], v: &[f64]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(t, v, &mut Scratch::default(), &mut out);
    out
}

fn check(t: &[i64], v: &[f64]) -> usize {
    let bytes = encoded(t, v);
    let mut read = Columns::default();
    assert_eq!(decode(&bytes, &mut read), Ok(bytes.len()));
    assert_eq!(read.t, t);
    let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&read.v), bits(v));
    check_beside(t, v, &bytes);
    bytes.len()
}

/// The same with the times in a column of their own.
fn check_beside(t: &[i64], v: &[f64], within: &[u8]) {
    let (mut scratch, mut column, mut bytes) = (Scratch::default(), Vec::new(), Vec::new());
    let number = encode_times(t, &mut scratch, &mut column);
    assert!(is_column(&column, t) && !is_column(&column, &t[1..]));
    Piece::Floats(t, v, &[]).encode_with(Column::Ready(&column[number..]), &mut scratch, &mut bytes);
    assert_eq!(bytes, within);
    bytes.clear();
    Piece::Floats(t, v, &[]).encode_with(Column::Ready(&[]), &mut scratch, &mut bytes);
    assert_eq!(bytes.len() + column.len(), within.len() + number);
    let (mut times, mut read, mut expect) = (Vec::new(), Columns::default(), Columns::default());
    decode_times(&column, &mut times).expect("decodes");
    assert_eq!(decode_beside(&bytes, Times::Beside(&times), &mut read), Ok(bytes.len()));
    decode(within, &mut expect).expect("decodes");
    assert_eq!(format!("{read:?}"), format!("{expect:?}"));
    assert!(decode_beside(&bytes, Times::Beside(&times[1..]), &mut read).is_err());
}

fn regular(n: usize) -> Vec<i64> {
    (0..n as i64).map(|i| 1_790_000_000_000 + i * 15_000).collect()
}

#[test]
fn chunk_is_golden() {
    let hex = |t: &[i64], v: &[f64]| encoded(t, v).iter().map(|b| format!("{b:02x}")).collect::<String>();
    // count 3; first time 1000; all differences the same, with divisor 10: 1. Then the values.
    assert_eq!(hex(&[1000, 1010, 1020], &[1.5; 3]), "03d00f0d0a0200000000000000f83f");
    assert_eq!(hex(&[1000, 1010, 1020], &[1.5, 1.6, 1.8]), "03d00f0d0a0201011e02020000");
    assert_eq!(hex(&[7], &[f64::NAN]), "010e0000000000000000f87f");
    // Two of ten differences of the values are not zero: order 1, low 3, one bit each, behind the bitmap 0b01_0000_0100.
    let seldom = [0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 7.0, 7.0];
    assert_eq!(hex(&regular(11), &seldom)[26..], *"0001068104010200");
}

#[test]
fn special_values_come_back_bit_for_bit() {
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let odd = f64::from_bits(0xfff8_dead_beef_0001);
    let v =
        [0.0, -0.0, 1.0, f64::INFINITY, f64::NEG_INFINITY, stale, odd, f64::MIN_POSITIVE, 5e-324, f64::MAX, -1.5, 1e15];
    check(&regular(v.len()), &v);
    for one in v {
        check(&[i64::MIN], &[one]);
        check(&[i64::MIN, i64::MAX], &[1.0, one]);
    }
}

#[test]
fn a_stale_marker_at_the_end_keeps_decimals_small() {
    let mut v: Vec<f64> = (0..120).map(|i| f64::from(i % 7) / 100.0).collect();
    let without = check(&regular(120), &v);
    v[119] = f64::from_bits(0x7ff0_0000_0000_0002);
    assert!(check(&regular(120), &v) <= without + 10);
}

#[test]
fn usual_columns_are_small() {
    let t = regular(480);
    assert!(check(&t, &vec![3.25; 480]) < 40, "constant");
    let bytes = |i: usize| (1_000_000 + (i * 7919) % 1000) as f64 * 4096.0;
    assert!(check(&t, &(0..480).map(bytes).collect::<Vec<_>>()) < 480 * 11 / 8, "multiples of a page");
    let steady: Vec<f64> = (0..480).map(|i| (i * 25) as f64).collect();
    assert!(check(&t, &steady) < 40, "a steady counter");
}

#[test]
fn large_whole_numbers_are_packed_as_integers() {
    let nanoseconds: Vec<f64> = (0..240).map(|i| 1.79e18 + f64::from(i) * 15e9).collect();
    assert!(check(&regular(240), &nanoseconds) < 240);
    check(&regular(4), &[i64::MAX as f64, i64::MIN as f64, 9.3e18, -9.3e18]);
}

#[test]
fn a_counter_that_seldom_moves_takes_little_more_than_a_bit() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut state = 1e6;
    let seldom = (0..1024).map(|_| {
        state += if random.u8(..) < 16 { f64::from(random.u8(1..)) } else { 0.0 };
        state
    });
    let seldom: Vec<f64> = seldom.collect();
    let bytes = check(&regular(1024), &seldom);
    assert!(bytes < 1024 / 4, "{bytes} bytes");
}

fn column() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let value = prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-10_000i32..10_000).prop_map(|n| f64::from(n) / 100.0),
        Just(1.0),
        prop::sample::select(vec![1.0, 1.0, 1.0, 2.0]),
    ];
    let step = prop_oneof![Just(15_000i64), 0i64..100_000, any::<i64>().prop_map(|n| n >> 8)];
    prop::collection::vec((step, value), 1..300).prop_map(|steps| {
        let mut t = 0i64;
        let mut out: Vec<(i64, f64)> = steps
            .into_iter()
            .map(|(step, v)| {
                t = t.saturating_add(step);
                (t, v)
            })
            .collect();
        out.sort_by_key(|(t, _)| *t);
        out
    })
}

proptest! {
    #[test]
    fn every_column_comes_back_bit_for_bit(column in column()) {
        let (t, v): (Vec<i64>, Vec<f64>) = column.into_iter().unzip();
        check(&t, &v);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = decode(&bytes, &mut Columns::default());
    }

    #[test]
    fn no_damaged_chunk_makes_the_decoder_panic(column in column(), at in any::<prop::sample::Index>(), by in 1u8..) {
        let (t, v): (Vec<i64>, Vec<f64>) = column.into_iter().unzip();
        let mut bytes = encoded(&t, &v);
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        let _ = decode(&bytes, &mut Columns::default());
    }
}
