//! Functions of how a series moves: rates, differences, resets, changes. Where a counter falls is found once a series,
//! so a window costs what it has of resets, not what it has of samples.

use model::Columns;

use super::starts::{Since, is_reset, overlaps};
use super::{Window, Windows};

/// What an extrapolated difference is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// A counter, a second.
    Rate,
    /// A counter, over the range.
    Increase,
    /// A gauge, over the range.
    Delta,
}

/// Share of the mean distance between samples up to which the samples are taken to reach the end of the window.
const EXTRAPOLATION_THRESHOLD: f64 = 1.1;

/// As [`super::rates::extrapolated`], of counters of which it is known when they began to count: a new start is a reset, and from a start within the window on nothing is
/// extrapolated. Calls `overlap` for a window with a sample that began before the one before it was taken.
pub(super) fn extrapolated_since(
    windows: &Windows,
    columns: &Columns,
    cells: &mut [f64],
    of: Of,
    mut overlap: impl FnMut(),
) {
    let (t, v) = (columns.t.as_slice(), columns.v.as_slice());
    let since = |at: usize| Since { t: t[at], start: columns.start(at) };
    windows.slide(t, cells, |w| {
        let last = w.to - 1;
        let mut difference = v[last] - v[w.from];
        if (w.from + 1..w.to).any(|at| overlaps(since(at - 1), since(at))) {
            overlap();
        }
        for at in w.from + 1..w.to {
            if v[at] < v[at - 1] || is_reset(since(at - 1), since(at)) {
                difference += v[at - 1];
            }
        }
        let mut extrapolated = Extrapolated::within(windows, &w, of, t, (last - w.from) as f64);
        if extrapolated.begins(columns.start(w.from)) {
            difference += v[w.from];
        } else if last == w.from {
            return None;
        }
        Some(extrapolated.of_floats(difference, v[w.from]))
    });
}

/// How far samples reach within a window; times in milliseconds.
pub(super) struct Extrapolated {
    pub(super) of: Of,
    /// Where the window begins and ends, and how long it is.
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) range: i64,
    /// First and last sample, and how many there are beside the first.
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) samples: f64,
    /// When the counting of the first one began, if that is within the window.
    pub(super) began: Option<i64>,
}

impl Extrapolated {
    /// Of the samples of a window, among samples at these times; `samples` is how many there are beside the first.
    fn within(windows: &Windows, w: &Window, of: Of, t: &[i64], samples: f64) -> Self {
        let (start, range) = (w.end - windows.range, windows.range);
        Extrapolated { of, start, end: w.end, range, first: t[w.from], last: t[w.to - 1], samples, began: None }
    }

    /// The difference of floats, extrapolated; `first` is the first of them.
    fn of_floats(&self, difference: f64, first: f64) -> f64 {
        let to_zero = (difference > 0.0 && first >= 0.0).then(|| first / difference);
        difference * self.factor(to_zero)
    }

    /// Takes the start of the first sample; whether that is within the window.
    pub(super) fn begins(&mut self, start: i64) -> bool {
        let within = start != 0 && start > self.start && start < self.first;
        self.began = within.then_some(start);
        within
    }

    /// What the difference of the last and the first sample is multiplied with. `to_zero` is how many times the time between them a counter took from
    /// zero to the first one, at the same pace; `None` where that is not known.
    pub(super) fn factor(&self, to_zero: Option<f64>) -> f64 {
        let mut reach = Reach::of((self.start, self.end), (self.first, self.last), self.samples);
        if let Some(began) = self.began {
            (reach.to_start, reach.sampled) = (0.0, seconds(self.last - began));
        }
        let to_zero = to_zero.filter(|_| self.of != Of::Delta && self.began.is_none());
        let factor = reach.factor(to_zero.unwrap_or(f64::INFINITY));
        if self.of == Of::Rate { factor / seconds(self.range) } else { factor }
    }
}

/// How far samples reach within a window, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// Between the first and the last one.
    pub(super) sampled: f64,
    /// How far before the first one and after the last one the same pace is taken to go on.
    pub(super) to_start: f64,
    pub(super) to_end: f64,
}

impl Reach {
    /// Of a window and its first and last sample, in milliseconds; `samples` is how many there are beside the first.
    pub(super) fn of((start, end): (i64, i64), (first, last): (i64, i64), samples: f64) -> Self {
        let sampled = seconds(last - first);
        let distance = if samples > 0.0 { sampled / samples } else { 0.0 };
        let threshold = distance * EXTRAPOLATION_THRESHOLD;
        let near = |gap: f64| if gap >= threshold { distance / 2.0 } else { gap };
        Reach { sampled, to_start: near(seconds(first - start)), to_end: near(seconds(end - last)) }
    }

    /// What a difference is multiplied with that is `to_zero` times as large as what a counter was before; infinity where that does not matter.
    #[inline(always)]
    pub(super) fn factor(self, to_zero: f64) -> f64 {
        // A counter is never below zero, so neither is what is extrapolated.
        let since_zero = self.sampled * to_zero;
        let to_start = if since_zero < self.to_start { since_zero } else { self.to_start };
        if self.sampled == 0.0 { 1.0 } else { (self.sampled + to_start + self.to_end) / self.sampled }
    }
}

/// Milliseconds as seconds.
pub(super) fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// `irate` and `idelta`: the last two samples.
pub(super) fn last_two(windows: &Windows, columns: &Columns, cells: &mut [f64], rate: bool) {
    let (t, v) = (columns.t.as_slice(), columns.v.as_slice());
    windows.slide(t, cells, |w| {
        let last = w.to - 1;
        if last == w.from {
            return None;
        }
        let since = |at: usize| Since { t: t[at], start: columns.start(at) };
        let reset = rate && (v[last] < v[last - 1] || is_reset(since(last - 1), since(last)));
        let difference = if reset { v[last] } else { v[last] - v[last - 1] };
        Some(if rate { difference / ((t[last] - t[last - 1]) as f64 / 1000.0) } else { difference })
    });
}

/// `resets`: how often a counter fell.
pub(super) fn resets(windows: &Windows, columns: &Columns, cells: &mut [f64]) {
    let since = |at: usize| Since { t: columns.t[at], start: columns.start(at) };
    let mut places = places(&columns.v, |before, v| v < before);
    if !columns.starts.is_empty() {
        places.extend((1..columns.t.len()).filter(|at| is_reset(since(at - 1), since(*at))));
        places.sort_unstable();
        places.dedup();
    }
    count(windows, columns, cells, &places);
}

/// `changes`: how often the value was not that of the sample before.
pub(super) fn changes(windows: &Windows, columns: &Columns, cells: &mut [f64]) {
    let places = places(&columns.v, |before, v| v != before && !(v.is_nan() && before.is_nan()));
    count(windows, columns, cells, &places);
}

fn count(windows: &Windows, columns: &Columns, cells: &mut [f64], places: &[usize]) {
    let (mut from, mut to) = (0, 0);
    windows.slide(&columns.t, cells, |w| {
        while to < places.len() && places[to] < w.to {
            to += 1;
        }
        while from < to && places[from] <= w.from {
            from += 1;
        }
        Some((to - from) as f64)
    });
}

/// The indices of the samples for which something holds of the value before and its own.
pub(super) fn places(v: &[f64], what: impl Fn(f64, f64) -> bool) -> Vec<usize> {
    v.windows(2).enumerate().filter(|(_, pair)| what(pair[0], pair[1])).map(|(at, _)| at + 1).collect()
}
