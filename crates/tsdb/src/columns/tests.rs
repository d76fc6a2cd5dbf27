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

/// Floats with the number of those that each stands for in windows of this length; of 0, of samples in whose windows nothing was left out.
fn standing(samples: &[(i64, u32, u32)]) -> Columns {
    let mut out = Columns::default();
    for (t, resolution_ms, count) in samples {
        out.push(*t, 1.0);
        out.set_last_aggregate(Aggregate { count: *count, resolution_ms: *resolution_ms, sum: f64::from(*count) });
    }
    out
}

#[test]
fn what_floats_stand_for_is_merged_and_gives_way_to_samples_that_may_be_the_same() {
    let check = |parts: &[&[(i64, u32, u32)]], expect: &[(i64, u32, u32)]| {
        let mut out = standing(&[(7, 9, 9)]);
        let from = out.mark();
        parts.iter().for_each(|part| merge_newer(&mut out, from, &standing(part)));
        assert_eq!(out, standing(&[&[(7, 9, 9)], expect].concat()), "{parts:?}");
    };
    let window = [(1, 10, 3), (5, 10, 2), (9, 10, 0)];
    check(&[&window], &window);
    // Late ones are there beside it.
    check(&[&window, &[(2, 0, 0), (8, 0, 0)]], &[(1, 10, 3), (2, 0, 0), (5, 10, 2), (8, 0, 0), (9, 10, 0)]);
    // As many as are left out are taken for these, in whatever order they come.
    let all = [(1, 10, 3), (5, 10, 0), (6, 0, 0), (7, 0, 0), (9, 10, 0)];
    check(&[&window, &[(6, 0, 0), (7, 0, 0)]], &all);
    check(&[&[(6, 0, 0), (7, 0, 0)], &window], &all);
    check(&[&window, &[(6, 0, 0)], &[(7, 0, 0)]], &all);
    // One at the time of a sample that stayed takes its place, and not that of those it stands for.
    check(&[&window, &[(5, 0, 0)]], &window);
    check(&[&[(1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (5, 0, 0)], &window], {
        &[(1, 10, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (5, 10, 2), (9, 10, 0)]
    });
    // Of two lengths of windows the shorter one tells.
    let hour = [(1, 60, 30), (9, 60, 9), (59, 60, 0)];
    let both = [(1, 10, 3), (5, 10, 2), (9, 10, 0), (59, 60, 0)];
    check(&[&hour, &window], &both);
    check(&[&window, &hour], &both);
}

#[test]
fn a_stale_marker_is_not_taken_for_a_sample_that_was_left_out() {
    let mut out = standing(&[(1, 10, 1), (9, 10, 0)]);
    merge_newer(&mut out, Mark::default(), &Columns::floats(vec![5], vec![model::stale_nan()]));
    assert_eq!(out.aggregates.iter().map(|a| a.count).collect::<Vec<_>>(), [1, 0, 0]);
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
