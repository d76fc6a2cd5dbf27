//! Two operations on columns of samples that everything which reads shares: clip to a range, and merge newer samples in.

use model::{Columns, Sample, TimeRange};

/// Takes away samples from `from` on that are not in the range.
pub(crate) fn clip(out: &mut Columns, from: usize, range: TimeRange) {
    let own = &out.t[from..];
    let (first, end) = (own.partition_point(|t| *t < range.start_ms), own.partition_point(|t| *t <= range.end_ms));
    out.t.truncate(from + end);
    out.v.truncate(from + end);
    if first > 0 && first <= end {
        out.t.drain(from..from + first);
        out.v.drain(from..from + first);
    } else if first > end {
        out.t.truncate(from);
        out.v.truncate(from);
    }
}

/// Takes away samples from `from` on that are in the range.
pub(crate) fn cut(out: &mut Columns, from: usize, range: TimeRange) {
    let own = &out.t[from..];
    let (first, end) = (own.partition_point(|t| *t < range.start_ms), own.partition_point(|t| *t <= range.end_ms));
    if first < end {
        out.t.drain(from + first..from + end);
        out.v.drain(from + first..from + end);
    }
}

/// Merges samples that were written later into those from `from` on; of equal times the newer one stays.
pub fn merge_newer(out: &mut Columns, from: usize, newer: &Columns) {
    let Some(first) = newer.t.first() else { return };
    if out.t[from..].last().is_none_or(|last| last < first) {
        out.t.extend_from_slice(&newer.t);
        out.v.extend_from_slice(&newer.v);
        return;
    }
    let older = Columns::floats(out.t.split_off(from), out.v.split_off(from));
    let (mut i, mut j) = (0, 0);
    while i < older.len() || j < newer.len() {
        let take_newer = match (older.t.get(i), newer.t.get(j)) {
            (Some(a), Some(b)) => {
                i += usize::from(a == b);
                b <= a
            }
            (None, _) => true,
            _ => false,
        };
        if take_newer {
            out.push(newer.t[j], newer.v[j]);
            j += 1;
        } else {
            out.push(older.t[i], older.v[i]);
            i += 1;
        }
    }
}

/// Samples in the order in which they were written, as columns: ascending, of equal times the one written last.
pub(crate) fn sorted_last_wins(mut samples: Vec<Sample>) -> Columns {
    samples.sort_by_key(|s| s.t); // stable: of equal times the last one stays last
    let mut out = Columns::default();
    for sample in samples {
        if out.t.last() == Some(&sample.t) {
            out.t.pop();
            out.v.pop();
        }
        out.push(sample.t, sample.v);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(samples: &[(i64, f64)]) -> Columns {
        Columns::floats(samples.iter().map(|s| s.0).collect(), samples.iter().map(|s| s.1).collect())
    }

    #[test]
    fn newer_samples_win_and_order_is_kept() {
        let mut out = columns(&[(9, 0.0), (1, 1.0), (3, 3.0), (5, 5.0)]);
        merge_newer(&mut out, 1, &columns(&[(2, 20.0), (3, 30.0), (7, 70.0)]));
        assert_eq!(out, columns(&[(9, 0.0), (1, 1.0), (2, 20.0), (3, 30.0), (5, 5.0), (7, 70.0)]));
    }

    #[test]
    fn a_cut_takes_what_is_in_the_range_and_leaves_what_was_there_before() {
        let check = |start_ms, end_ms, expect: &[(i64, f64)]| {
            let mut out = columns(&[(3, 9.0), (1, 1.0), (3, 3.0), (5, 5.0)]);
            cut(&mut out, 1, TimeRange { start_ms, end_ms });
            assert_eq!(out, columns(expect), "{start_ms}..={end_ms}");
        };
        check(3, 3, &[(3, 9.0), (1, 1.0), (5, 5.0)]);
        check(i64::MIN, i64::MAX, &[(3, 9.0)]);
        check(4, 2, &[(3, 9.0), (1, 1.0), (3, 3.0), (5, 5.0)]);
        check(6, 9, &[(3, 9.0), (1, 1.0), (3, 3.0), (5, 5.0)]);
    }

    #[test]
    fn clip_keeps_what_was_there_before_and_what_is_in_the_range() {
        let check = |start_ms, end_ms, expect: &[(i64, f64)]| {
            let mut out = columns(&[(9, 9.0), (1, 1.0), (3, 3.0), (5, 5.0)]);
            clip(&mut out, 1, TimeRange { start_ms, end_ms });
            assert_eq!(out, columns(expect), "{start_ms}..={end_ms}");
        };
        check(1, 5, &[(9, 9.0), (1, 1.0), (3, 3.0), (5, 5.0)]);
        check(2, 3, &[(9, 9.0), (3, 3.0)]);
        check(6, 9, &[(9, 9.0)]);
        check(4, 2, &[(9, 9.0)]);
    }
}
