//! Functions of how a series moves: rates, differences, resets, changes. Where a counter falls, or began anew, is found once a series,
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
    let all = |what: &dyn Fn(usize) -> bool| Places::of((1..t.len()).filter(|at| what(*at)).collect());
    let mut resets = all(&|at| v[at] < v[at - 1] || is_reset(since(at - 1), since(at)));
    let mut overlapping = all(&|at| overlaps(since(at - 1), since(at)));
    windows.slide(t, cells, |w| {
        let last = w.to - 1;
        let mut difference = v[last] - v[w.from];
        if !overlapping.within(&w).is_empty() {
            overlap();
        }
        for at in resets.within(&w) {
            difference += v[at - 1];
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
    /// Where the window begins and ends, and how long it is in seconds.
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) seconds: f64,
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
        let (start, seconds) = (windows.extrapolated_from(w.end), windows.seconds);
        Extrapolated { of, start, end: w.end, seconds, first: t[w.from], last: t[w.to - 1], samples, began: None }
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
        if self.of == Of::Rate { factor / self.seconds } else { factor }
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
    count(windows, columns, cells, places);
}

/// `changes`: how often the value was not that of the sample before.
pub(super) fn changes(windows: &Windows, columns: &Columns, cells: &mut [f64]) {
    let places = places(&columns.v, |before, v| v != before && !(v.is_nan() && before.is_nan()));
    count(windows, columns, cells, places);
}

fn count(windows: &Windows, columns: &Columns, cells: &mut [f64], places: Vec<usize>) {
    let mut places = Places::of(places);
    windows.slide(&columns.t, cells, |w| Some(places.within(&w).len() as f64));
}

/// Samples of which something holds together with the one before.
struct Places {
    all: Vec<usize>,
    from: usize,
    to: usize,
}

impl Places {
    /// Ascending ones.
    fn of(all: Vec<usize>) -> Self {
        Places { all, from: 0, to: 0 }
    }

    /// Those of which both samples are in a window that begins and ends no earlier than those before.
    fn within(&mut self, w: &Window) -> &[usize] {
        while self.all.get(self.to).is_some_and(|at| *at < w.to) {
            self.to += 1;
        }
        while self.from < self.to && self.all[self.from] <= w.from {
            self.from += 1;
        }
        &self.all[self.from..self.to]
    }
}

/// The indices of the samples for which something holds of the value before and its own.
pub(super) fn places(v: &[f64], what: impl Fn(f64, f64) -> bool) -> Vec<usize> {
    v.windows(2).enumerate().filter(|(_, pair)| what(pair[0], pair[1])).map(|(at, _)| at + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::grid::Grid;
    use crate::eval::matrix::ABSENT;
    use crate::eval::testing::draws;

    /// One window by its definition: its samples, one after the other.
    fn alone(window: (i64, i64), columns: &Columns, of: Of) -> (Option<f64>, bool) {
        let own: Vec<usize> =
            (0..columns.len()).filter(|at| (window.0 + 1..=window.1).contains(&columns.t[*at])).collect();
        let (Some(first), Some(last)) = (own.first().copied(), own.last().copied()) else { return (None, false) };
        let since = |at: usize| Since { t: columns.t[at], start: columns.start(at) };
        let (mut difference, mut overlapping) = (columns.v[last] - columns.v[first], false);
        for pair in own.windows(2) {
            overlapping |= overlaps(since(pair[0]), since(pair[1]));
            if columns.v[pair[1]] < columns.v[pair[0]] || is_reset(since(pair[0]), since(pair[1])) {
                difference += columns.v[pair[0]];
            }
        }
        let start = columns.start(first);
        let began = (start != 0 && start > window.0 && start < columns.t[first]).then_some(start);
        if began.is_some() {
            difference += columns.v[first];
        } else if own.len() < 2 {
            return (None, overlapping);
        }
        let (range, samples) = (window.1 - window.0, (own.len() - 1) as f64);
        let (start, end) = window;
        let (first_t, last_t) = (columns.t[first], columns.t[last]);
        let extrapolated = Extrapolated {
            of,
            start,
            end,
            seconds: range as f64 / 1000.0,
            first: first_t,
            last: last_t,
            samples,
            began,
        };
        (Some(extrapolated.of_floats(difference, columns.v[first])), overlapping)
    }

    #[test]
    fn windows_with_starts_are_what_each_is_by_itself() {
        let mut drawn = draws();
        let mut draw = |below: u64| drawn(below) as i64;
        let (mut resets, mut overlaps) = (0, 0);
        for turn in 0..400 {
            let (mut columns, mut t, mut v, mut start) = (Columns::default(), 0, 0.0, 0);
            for _ in 0..draw(60) {
                t += 1 + draw(40);
                match draw(12) {
                    0 => (v, start) = (draw(100) as f64 / 7.0, t - draw(60)),
                    1 => start = t - draw(20),
                    2 => start = 0,
                    3 => v = 0.1,
                    _ => {}
                }
                v += draw(5) as f64 / 8.0;
                columns.push_with_start(t, v, start);
            }
            let grid = Grid::between(-20, t + 50, 1 + draw(70));
            let (range, cancel) = (1 + draw(200), &model::Cancel::default());
            let windows = Windows { starts: true, ..Windows::plain(grid, range, cancel) };
            for of in [Of::Rate, Of::Increase] {
                let (mut cells, mut told) = (vec![ABSENT; grid.n], 0);
                extrapolated_since(&windows, &columns, &mut cells, of, || told += 1);
                let each: Vec<_> = grid.times().map(|end| alone((end - range, end), &columns, of)).collect();
                let bits = |v: &f64| v.to_bits();
                let expect: Vec<u64> = each.iter().map(|(v, _)| bits(&v.unwrap_or(ABSENT))).collect();
                assert_eq!(cells.iter().map(bits).collect::<Vec<_>>(), expect, "{turn} {of:?} {range} {columns:?}");
                assert_eq!(told, each.iter().filter(|(_, overlapping)| *overlapping).count(), "{turn}");
                overlaps += told;
            }
            resets += places(&columns.v, |before, v| v < before).len();
        }
        assert!(resets > 500 && overlaps > 500, "{resets} {overlaps}");
    }
}
