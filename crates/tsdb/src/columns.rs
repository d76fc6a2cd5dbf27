//! Operations on columns of samples that everything which reads shares: views of a part, and merging newer samples in.

use model::{Aggregate, Columns, HistogramSample, Mark, Sample, TimeRange, is_stale};

/// A part of columns.
#[derive(Debug, Clone, Copy, Default)]
pub struct View<'a> {
    pub(crate) t: &'a [i64],
    pub(crate) v: &'a [f64],
    /// As many as there are times, or none.
    pub(crate) starts: &'a [i64],
    /// As many as there are times, or none.
    pub(crate) aggregates: &'a [Aggregate],
    pub(crate) histograms: &'a [HistogramSample],
}

impl<'a> View<'a> {
    /// All of them.
    pub fn of(columns: &'a Columns) -> Self {
        let Columns { t, v, starts, aggregates, histograms } = columns;
        View { t, v, starts, aggregates, histograms }
    }

    pub(crate) fn samples(&self) -> usize {
        self.t.len() + self.histograms.len()
    }

    pub(crate) fn first_t(&self) -> Option<i64> {
        self.t.first().copied().into_iter().chain(self.histograms.first().map(|h| h.t)).min()
    }

    pub(crate) fn last_t(&self) -> Option<i64> {
        self.t.last().copied().into_iter().chain(self.histograms.last().map(|h| h.t)).max()
    }

    /// What is not after a time, and what is.
    pub(crate) fn split_after(self, last_ms: i64) -> (Self, Self) {
        let (mut own, mut rest) = self.split_floats(self.t.partition_point(|t| *t <= last_ms));
        (own.histograms, rest.histograms) =
            self.histograms.split_at(self.histograms.partition_point(|h| h.t <= last_ms));
        (own, rest)
    }

    /// What is in a range.
    pub(crate) fn within(self, range: TimeRange) -> Self {
        let own = self.split_after(range.end_ms).0;
        range.start_ms.checked_sub(1).map_or(own, |before| own.split_after(before).1)
    }

    /// So many floats, and everything else.
    pub(crate) fn split_floats(self, at: usize) -> (Self, Self) {
        let ((t, later_t), (v, later_v)) = (self.t.split_at(at), self.v.split_at(at));
        let (starts, later_starts) = self.starts.split_at(at.min(self.starts.len()));
        let (aggregates, later_aggregates) = self.aggregates.split_at(at.min(self.aggregates.len()));
        let (histograms, none) = (self.histograms, &[]);
        let later = View { t: later_t, v: later_v, starts: later_starts, aggregates: later_aggregates, histograms };
        (View { t, v, starts, aggregates, histograms: none }, later)
    }
}

/// Reads samples that were written later than those since `from`, as [`merge_newer`] has them. What begins after all of those, `first_ms` being its first time or
/// one before it, is read to where it belongs; for all else, and where that is not known, there is `scratch`.
pub(crate) fn read_newer<E>(
    out: &mut Columns,
    from: Mark,
    first_ms: Option<i64>,
    scratch: &mut Columns,
    read: impl FnOnce(&mut Columns) -> Result<(), E>,
) -> Result<(), E> {
    if out.range(from).is_none_or(|known| first_ms.is_some_and(|first_ms| known.end_ms < first_ms)) {
        return read(out);
    }
    scratch.clear();
    read(scratch)?;
    merge_newer(out, from, scratch);
    Ok(())
}

/// Merges samples that were written later into those since `from`; of equal times the newer one stays, of whichever kind.
///
/// What floats stand for is merged with them, and gives way to samples that may be the same: see [`give_way`].
pub fn merge_newer(out: &mut Columns, from: Mark, newer: &Columns) {
    let Some(first) = View::of(newer).first_t() else { return };
    if out.range(from).is_none_or(|range| range.end_ms < first) {
        append(out, View::of(newer));
        return;
    }
    let mut older = Columns {
        t: out.t.split_off(from.floats),
        v: out.v.split_off(from.floats),
        starts: out.starts.split_off(from.floats.min(out.starts.len())),
        aggregates: out.aggregates.split_off(from.floats.min(out.aggregates.len())),
        histograms: out.histograms.split_off(from.histograms),
    };
    if !older.histograms.is_empty() || !newer.histograms.is_empty() {
        merge_histograms(out, &mut older, newer);
    }
    let (mut i, mut j) = (0, 0);
    while i < older.len() || j < newer.len() {
        let mut replaced = Aggregate::RAW;
        let take_newer = match (older.t.get(i), newer.t.get(j)) {
            (Some(a), Some(b)) => {
                if a == b {
                    replaced = older.aggregate(i);
                    i += 1;
                }
                b <= a
            }
            (None, _) => true,
            _ => false,
        };
        if take_newer {
            out.push_with_start(newer.t[j], newer.v[j], newer.start(j));
            out.set_last_aggregate(newer.aggregate(j).finer(replaced));
            j += 1;
        } else {
            out.push_with_start(older.t[i], older.v[i], older.start(i));
            out.set_last_aggregate(older.aggregate(i));
            i += 1;
        }
    }
    give_way(out, from);
}

/// Takes away what a float stands for where there are, up to the next float of a window, as many samples in which nothing was left out: then they are
/// taken for those that were left out, come again from the log, an import or another copy. Fewer are late ones, and are there beside it.
fn give_way(out: &mut Columns, from: Mark) {
    let mut raw = 0;
    for at in (from.floats.min(out.aggregates.len())..out.aggregates.len()).rev() {
        let aggregate = &mut out.aggregates[at];
        if !aggregate.is_of_window() {
            raw += u32::from(!is_stale(out.v[at]));
            continue;
        }
        if raw >= aggregate.count {
            (aggregate.count, aggregate.sum) = (0, 0.0);
        }
        raw = 0;
    }
}

/// Adds the histograms of both, and takes those floats away that a newer histogram replaces.
#[cold]
fn merge_histograms(out: &mut Columns, older: &mut Columns, newer: &Columns) {
    let is_newer = |t: i64| newer.histograms.binary_search_by_key(&t, |h| h.t).is_ok();
    if older.t.iter().any(|t| is_newer(*t)) {
        let all = std::mem::take(older);
        (0..all.len()).filter(|at| !is_newer(all.t[*at])).for_each(|at| {
            older.push_with_start(all.t[at], all.v[at], all.start(at));
            older.set_last_aggregate(all.aggregate(at));
        });
        older.histograms = all.histograms;
    }
    let kept = std::mem::take(&mut older.histograms).into_iter();
    let mut kept = kept.filter(|h| !is_newer(h.t) && newer.t.binary_search(&h.t).is_err()).peekable();
    for histogram in &newer.histograms {
        while let Some(before) = kept.next_if(|kept| kept.t < histogram.t) {
            out.histograms.push(before);
        }
        out.histograms.push(histogram.clone());
    }
    out.histograms.extend(kept);
}

/// Appends samples that are later than all there are.
pub(crate) fn append(out: &mut Columns, newer: View<'_>) {
    if !newer.starts.is_empty() {
        out.starts.resize(out.t.len(), 0);
        out.starts.extend_from_slice(newer.starts);
    }
    if !newer.aggregates.is_empty() {
        out.aggregates.resize(out.t.len(), Aggregate::RAW);
        out.aggregates.extend_from_slice(newer.aggregates);
    }
    out.t.extend_from_slice(newer.t);
    out.v.extend_from_slice(newer.v);
    out.pad();
    out.histograms.extend_from_slice(newer.histograms);
}

/// Floats in the order in which they were written, as columns: ascending, of equal times the one written last.
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

/// One sample, of any kind.
#[derive(Debug, Clone)]
pub(crate) enum One {
    Float(Sample, i64),
    Histogram(HistogramSample),
}

impl One {
    pub(crate) fn t(&self) -> i64 {
        match self {
            One::Float(sample, _) => sample.t,
            One::Histogram(sample) => sample.t,
        }
    }
}

/// As [`sorted_last_wins`], of samples of any kind.
pub(crate) fn sorted_last_wins_of_any(mut samples: Vec<One>) -> Columns {
    samples.sort_by_key(One::t);
    let mut out = Columns::default();
    let mut samples = samples.into_iter().peekable();
    while let Some(one) = samples.next() {
        if samples.peek().is_some_and(|next| next.t() == one.t()) {
            continue;
        }
        match one {
            One::Float(sample, start) => out.push_with_start(sample.t, sample.v, start),
            One::Histogram(sample) => out.histograms.push(sample),
        }
    }
    out
}

#[cfg(test)]
mod tests;
