use std::collections::BTreeMap;

use model::{Buckets, Counts, Histogram};
use proptest::prelude::*;

use super::*;

/// A sample of any kind: its start, and the bits of its value or of its sum.
type Any = (i64, bool, u64);

fn histogram(t: i64, start: i64, sum: f64) -> HistogramSample {
    let counts = Counts::Integer(Buckets::default());
    let histogram = Histogram { layout: Default::default(), hint: Default::default(), sum, counts };
    HistogramSample { t, start, histogram }
}

fn one(t: i64, (start, is_histogram, v): Any) -> One {
    let v = f64::from_bits(v);
    if is_histogram { One::Histogram(histogram(t, start, v)) } else { One::Float(Sample { t, v }, start) }
}

fn columns(samples: &BTreeMap<i64, Any>) -> Columns {
    sorted_last_wins_of_any(samples.iter().map(|(t, any)| one(*t, *any)).collect())
}

fn read(columns: &Columns, from: Mark) -> BTreeMap<i64, Any> {
    assert!(columns.starts.is_empty() || columns.starts.len() == columns.t.len(), "{columns:?}");
    let (t, histograms) = (&columns.t[from.floats..], &columns.histograms[from.histograms..]);
    assert!(t.is_sorted_by(|a, b| a < b) && histograms.is_sorted_by(|a, b| a.t < b.t), "{columns:?}");
    let floats =
        (from.floats..columns.len()).map(|n| (columns.t[n], (columns.start(n), false, columns.v[n].to_bits())));
    let of_histogram = |h: &HistogramSample| (h.t, (h.start, true, h.histogram.sum.to_bits()));
    let all: BTreeMap<_, _> = floats.chain(histograms.iter().map(of_histogram)).collect();
    assert_eq!(all.len(), t.len() + histograms.len(), "a time is there twice: {columns:?}");
    all
}

#[test]
fn newer_samples_win_and_order_is_kept() {
    let floats = |samples: &[(i64, f64)]| {
        Columns::floats(samples.iter().map(|s| s.0).collect(), samples.iter().map(|s| s.1).collect())
    };
    let mut out = floats(&[(9, 0.0), (1, 1.0), (3, 3.0), (5, 5.0)]);
    merge_newer(&mut out, Mark { floats: 1, histograms: 0 }, &floats(&[(2, 20.0), (3, 30.0), (7, 70.0)]));
    assert_eq!(out, floats(&[(9, 0.0), (1, 1.0), (2, 20.0), (3, 30.0), (5, 5.0), (7, 70.0)]));
}

#[test]
fn at_one_time_the_sample_written_last_counts_whatever_its_kind() {
    let mut out = Columns::default();
    let (float, other) = ((0, false, 1), (7, true, 2));
    merge_newer(&mut out, Mark::default(), &columns(&BTreeMap::from([(1, float), (2, other), (3, float)])));
    merge_newer(&mut out, Mark::default(), &columns(&BTreeMap::from([(1, other), (2, float)])));
    assert_eq!(read(&out, Mark::default()), BTreeMap::from([(1, other), (2, float), (3, float)]));
    let late = vec![one(1, float), one(2, other), one(1, other), one(2, float)];
    assert_eq!(read(&sorted_last_wins_of_any(late), Mark::default()), BTreeMap::from([(1, other), (2, float)]));
}

#[test]
fn views_are_cut_by_time_over_both_kinds() {
    let all = columns(&(0..6).map(|t| (t, (t % 4, t % 3 == 1, 0))).collect());
    for last in -1..7 {
        let (own, rest) = View::of(&all).split_after(last);
        assert_eq!((own.samples(), rest.samples()), ((last + 1).clamp(0, 6) as usize, (5 - last).clamp(0, 6) as usize));
        assert!(own.last_t().is_none_or(|t| t <= last) && rest.first_t().is_none_or(|t| t > last));
        assert!(own.starts.len() == own.t.len() && rest.starts.len() == rest.t.len());
    }
}

fn samples() -> impl Strategy<Value = BTreeMap<i64, Any>> {
    let any = (prop_oneof![3 => Just(0i64), 1 => 1i64..3], any::<bool>(), any::<u64>());
    prop::collection::btree_map(0i64..20, any, 0..12)
}

proptest! {
    #[test]
    fn a_merge_is_that_of_maps(before in samples(), merged in prop::collection::vec(samples(), 0..4)) {
        let mut out = columns(&before);
        let from = out.mark();
        let mut expect = BTreeMap::new();
        for newer in &merged {
            merge_newer(&mut out, from, &columns(newer));
            expect.extend(newer.clone());
        }
        prop_assert_eq!(read(&out, from), expect);
        out.truncate(from);
        prop_assert_eq!(read(&out, Mark::default()), before);
    }
}
