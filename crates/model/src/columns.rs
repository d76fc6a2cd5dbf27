//! Samples of one series, side by side as they are read, and in a row as they are written.
//!
//! Most series have floats and nothing else, so these lie in two plain columns, and what few have (start times, native histograms) lies beside
//! them and costs the others nothing. The price is that who wants all samples of a mixed series in order has to merge two lists.

use crate::{Aggregate, HistogramSample, Sample, TimeRange};

/// The samples of one series, ascending by time, each time once over floats and histograms together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// Times of the floats, in milliseconds since the Unix epoch.
    pub t: Vec<i64>,
    /// The floats, stale markers included, one for each time.
    pub v: Vec<f64>,
    /// When the counting of each float began, in milliseconds since the Unix epoch, 0 where that is not known. Empty where it is known of none.
    pub starts: Vec<i64>,
    /// What each float stands for beside itself. Empty where no sample was left out to save room.
    pub aggregates: Vec<Aggregate>,
    /// The histograms, with times that no float has.
    pub histograms: Vec<HistogramSample>,
}

/// A place in columns: what was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Number of floats.
    pub floats: usize,
    /// Number of histograms.
    pub histograms: usize,
}

impl Columns {
    /// Floats and nothing else, of which there are as many as times.
    pub fn floats(t: Vec<i64>, v: Vec<f64>) -> Self {
        Columns { t, v, ..Columns::default() }
    }

    /// Number of floats: [`Columns::t`] and [`Columns::v`] are so long.
    pub fn len(&self) -> usize {
        self.t.len()
    }

    /// Number of samples, histograms included.
    pub fn samples(&self) -> usize {
        self.t.len() + self.histograms.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.t.is_empty() && self.histograms.is_empty()
    }

    /// Memory that it takes, in bytes; of histograms without their buckets.
    pub fn memory(&self) -> usize {
        let floats = self.t.capacity() + self.v.capacity() + self.starts.capacity();
        floats * size_of::<f64>() + self.histograms.capacity() * size_of::<HistogramSample>()
    }

    /// Forgets the samples and keeps the memory.
    pub fn clear(&mut self) {
        self.truncate(Mark::default());
    }

    /// Appends one float, later than all before, with no known start.
    pub fn push(&mut self, t: i64, v: f64) {
        self.push_with_start(t, v, 0);
    }

    /// Appends one float, later than all before.
    pub fn push_with_start(&mut self, t: i64, v: f64, start: i64) {
        if start != 0 || !self.starts.is_empty() {
            self.starts.resize(self.t.len(), 0);
            self.starts.push(start);
        }
        if !self.aggregates.is_empty() {
            self.aggregates.push(Aggregate::RAW);
        }
        self.t.push(t);
        self.v.push(v);
    }

    /// What a float stands for beside itself.
    pub fn aggregate(&self, at: usize) -> Aggregate {
        self.aggregates.get(at).copied().unwrap_or(Aggregate::RAW)
    }

    /// Says what the last float stands for beside itself.
    pub fn set_last_aggregate(&mut self, aggregate: Aggregate) {
        if aggregate != Aggregate::RAW || !self.aggregates.is_empty() {
            self.aggregates.resize(self.t.len(), Aggregate::RAW);
            if let Some(last) = self.aggregates.last_mut() {
                *last = aggregate;
            }
        }
    }

    /// When the counting of a float began; 0 where that is not known.
    pub fn start(&self, at: usize) -> i64 {
        self.starts.get(at).copied().unwrap_or(0)
    }

    /// Makes starts and aggregates as many as the floats, where there are any; for who appended floats to the columns themselves.
    pub fn pad(&mut self) {
        if !self.starts.is_empty() {
            self.starts.resize(self.t.len(), 0);
        }
        if !self.aggregates.is_empty() {
            self.aggregates.resize(self.t.len(), Aggregate::RAW);
        }
    }

    /// The end, as a place.
    pub fn mark(&self) -> Mark {
        Mark { floats: self.t.len(), histograms: self.histograms.len() }
    }

    /// Takes away what was appended since.
    pub fn truncate(&mut self, mark: Mark) {
        self.t.truncate(mark.floats);
        self.v.truncate(mark.floats);
        self.starts.truncate(mark.floats);
        self.aggregates.truncate(mark.floats);
        self.histograms.truncate(mark.histograms);
    }

    /// Takes away what was appended since and is not in the range.
    pub fn clip(&mut self, from: Mark, range: TimeRange) {
        let own = &self.t[from.floats..];
        let end = from.floats + own.partition_point(|t| *t <= range.end_ms);
        let first = (from.floats + own.partition_point(|t| *t < range.start_ms)).min(end);
        self.truncate(Mark { floats: end, histograms: self.histograms.len() });
        self.drain_floats(from.floats..first);
        let own = &self.histograms[from.histograms..];
        let end = from.histograms + own.partition_point(|h| h.t <= range.end_ms);
        let first = (from.histograms + own.partition_point(|h| h.t < range.start_ms)).min(end);
        self.histograms.truncate(end);
        self.histograms.drain(from.histograms..first);
    }

    /// Takes away what was appended since and is in the range, and with it what floats stand for of which some may be in it.
    pub fn cut(&mut self, from: Mark, range: TimeRange) {
        let within = |own: &[i64]| {
            let first = own.partition_point(|t| *t < range.start_ms);
            first..own.partition_point(|t| *t <= range.end_ms).max(first)
        };
        let gone = within(&self.t[from.floats..]);
        let gone = from.floats + gone.start..from.floats + gone.end;
        if let Some(before) = gone.start.checked_sub(1).filter(|before| *before >= from.floats)
            && let Some(aggregate) = self.aggregates.get_mut(before)
            && range.start_ms <= range.end_ms
            && aggregate.window_end(self.t[before]) >= range.start_ms
        {
            (aggregate.count, aggregate.sum) = (0, 0.0);
        }
        self.drain_floats(gone);
        self.histograms.extract_if(from.histograms.., |sample| range.contains(sample.t)).for_each(drop);
    }

    fn drain_floats(&mut self, gone: std::ops::Range<usize>) {
        self.t.drain(gone.clone());
        self.v.drain(gone.clone());
        if !self.starts.is_empty() {
            self.starts.drain(gone.clone());
        }
        if !self.aggregates.is_empty() {
            self.aggregates.drain(gone);
        }
    }

    /// First and last time of what was appended since; `None` where nothing was.
    pub fn range(&self, from: Mark) -> Option<TimeRange> {
        let (t, h) = (&self.t[from.floats..], &self.histograms[from.histograms..]);
        let floats = t.first().zip(t.last()).map(|(first, last)| TimeRange { start_ms: *first, end_ms: *last });
        let histograms = h.first().zip(h.last()).map(|(first, last)| TimeRange { start_ms: first.t, end_ms: last.t });
        let joined = |a: TimeRange, b: TimeRange| TimeRange {
            start_ms: a.start_ms.min(b.start_ms),
            end_ms: a.end_ms.max(b.end_ms),
        };
        floats.into_iter().chain(histograms).reduce(joined)
    }
}

/// Samples of one series that are written, in any order of time. Of equal times the later one counts, and histograms are later than floats.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Samples<'a> {
    /// The floats.
    pub floats: &'a [Sample],
    /// When the counting of each float began, 0 where that is not known; empty where it is known of none.
    pub starts: &'a [i64],
    /// The histograms.
    pub histograms: &'a [HistogramSample],
}

impl Samples<'_> {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    /// When the counting of a float began; 0 where that is not known.
    pub fn start(&self, at: usize) -> i64 {
        self.starts.get(at).copied().unwrap_or(0)
    }

    /// The newest time.
    pub fn newest_ms(&self) -> Option<i64> {
        self.floats.iter().map(|s| s.t).chain(self.histograms.iter().map(|h| h.t)).max()
    }
}

/// Floats and nothing else.
impl<'a> From<&'a [Sample]> for Samples<'a> {
    fn from(floats: &'a [Sample]) -> Self {
        Samples { floats, starts: &[], histograms: &[] }
    }
}

/// Floats and nothing else.
impl<'a> From<&'a Vec<Sample>> for Samples<'a> {
    fn from(floats: &'a Vec<Sample>) -> Self {
        floats.as_slice().into()
    }
}

/// Floats and nothing else.
impl<'a, const N: usize> From<&'a [Sample; N]> for Samples<'a> {
    fn from(floats: &'a [Sample; N]) -> Self {
        floats.as_slice().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buckets, Counts, Histogram};

    fn histogram(t: i64) -> HistogramSample {
        let counts = Counts::Integer(Buckets::default());
        let histogram = Histogram { layout: Default::default(), hint: Default::default(), sum: 0.0, counts };
        HistogramSample { t, start: 0, histogram }
    }

    fn columns(floats: &[(i64, i64)], histograms: &[i64]) -> Columns {
        let mut out = Columns::default();
        floats.iter().for_each(|(t, start)| out.push_with_start(*t, *t as f64, *start));
        out.histograms.extend(histograms.iter().map(|t| histogram(*t)));
        out
    }

    #[test]
    fn starts_are_as_many_as_floats_or_none() {
        let mut columns = columns(&[(1, 0), (2, 0)], &[]);
        assert_eq!((columns.starts.len(), columns.start(1)), (0, 0));
        columns.push_with_start(3, 3.0, 7);
        columns.push(4, 4.0);
        assert_eq!((columns.starts.as_slice(), columns.start(2)), ([0, 0, 7, 0].as_slice(), 7));
        columns.t.push(5);
        columns.v.push(5.0);
        columns.pad();
        assert_eq!(columns.starts, [0, 0, 7, 0, 0]);
        columns.clear();
        assert!(columns.is_empty() && columns.starts.is_empty());
    }

    #[test]
    fn clip_keeps_what_was_there_before_and_what_is_in_the_range() {
        let check = |start_ms, end_ms, floats: &[(i64, i64)], histograms: &[i64]| {
            let mut out = columns(&[(9, 8), (1, 0), (3, 2), (5, 4)], &[9, 2, 4, 6]);
            out.clip(Mark { floats: 1, histograms: 1 }, TimeRange { start_ms, end_ms });
            assert_eq!(out, columns(floats, histograms), "{start_ms}..={end_ms}");
        };
        check(1, 6, &[(9, 8), (1, 0), (3, 2), (5, 4)], &[9, 2, 4, 6]);
        check(2, 3, &[(9, 8), (3, 2)], &[9, 2]);
        check(4, 9, &[(9, 8), (5, 4)], &[9, 4, 6]);
        check(7, 9, &[(9, 8)], &[9]);
        check(4, 2, &[(9, 8)], &[9]);
    }

    #[test]
    fn cut_takes_what_is_in_the_range_and_leaves_what_was_there_before() {
        let all = || columns(&[(3, 9), (1, 1), (3, 3), (5, 5)], &[3, 2, 4]);
        let check = |start_ms, end_ms, floats: &[(i64, i64)], histograms: &[i64]| {
            let mut out = all();
            out.cut(Mark { floats: 1, histograms: 1 }, TimeRange { start_ms, end_ms });
            assert_eq!(out, columns(floats, histograms), "{start_ms}..={end_ms}");
        };
        check(3, 4, &[(3, 9), (1, 1), (5, 5)], &[3, 2]);
        check(i64::MIN, i64::MAX, &[(3, 9)], &[3]);
        check(4, 2, &[(3, 9), (1, 1), (3, 3), (5, 5)], &[3, 2, 4]);
        check(6, 9, &[(3, 9), (1, 1), (3, 3), (5, 5)], &[3, 2, 4]);
    }

    #[test]
    fn what_floats_stand_for_stays_with_them() {
        let aggregate = |count| Aggregate { count, resolution_ms: 10, sum: 1.0 };
        let mut all = Columns::default();
        all.push(1, 1.0);
        assert!(all.aggregates.is_empty());
        all.set_last_aggregate(Aggregate::RAW);
        assert!(all.aggregates.is_empty());
        for (t, count) in [(2, 3), (9, 4), (11, 5), (15, 0), (18, 6)] {
            all.push(t, 0.0);
            all.set_last_aggregate(aggregate(count));
        }
        all.push(30, 0.0);
        let counts = |columns: &Columns| columns.aggregates.iter().map(|a| a.count).collect::<Vec<_>>();
        assert_eq!(counts(&all), [0, 3, 4, 5, 0, 6, 0]);
        assert_eq!((all.aggregate(0), all.aggregate(1)), (Aggregate::RAW, aggregate(3)));
        let clipped = |start_ms, end_ms| {
            let mut out = all.clone();
            out.clip(Mark { floats: 1, histograms: 0 }, TimeRange { start_ms, end_ms });
            (out.t.clone(), counts(&out))
        };
        assert_eq!(clipped(9, 15), (vec![1, 9, 11, 15], vec![0, 4, 5, 0]));
        assert_eq!(clipped(50, 60), (vec![1], vec![0]));
        let cut = |start_ms, end_ms| {
            let mut out = all.clone();
            out.cut(Mark { floats: 1, histograms: 0 }, TimeRange { start_ms, end_ms });
            (out.t.clone(), counts(&out))
        };
        // What is between 9 and 10 may be deleted, what is before 9 is not.
        assert_eq!(cut(10, 11), (vec![1, 2, 9, 15, 18, 30], vec![0, 3, 0, 0, 6, 0]));
        // The window of 9 has ended, and that of 18 has not.
        assert_eq!(cut(11, 15), (vec![1, 2, 9, 18, 30], vec![0, 3, 4, 6, 0]));
        assert_eq!(cut(20, 40), (vec![1, 2, 9, 11, 15, 18], vec![0, 3, 4, 5, 0, 0]));
        assert_eq!(cut(21, 40), (vec![1, 2, 9, 11, 15, 18], vec![0, 3, 4, 5, 0, 6]));
        assert_eq!(cut(12, 11).1, counts(&all));
        all.clear();
        assert!(all.aggregates.is_empty());
    }

    #[test]
    fn range_and_number_are_of_both_kinds() {
        let all = columns(&[(3, 0), (5, 0)], &[1, 4]);
        assert_eq!((all.len(), all.samples()), (2, 4));
        let range = |from| all.range(from).map(|range| (range.start_ms, range.end_ms));
        assert_eq!(range(Mark::default()), Some((1, 5)));
        assert_eq!(range(Mark { floats: 2, histograms: 1 }), Some((4, 4)));
        assert_eq!(range(all.mark()), None);
    }
}
