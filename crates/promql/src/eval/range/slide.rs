//! Windows that share most of their samples: what is known of one helps with the next, so each costs what it has of new samples.

use std::collections::VecDeque;

use super::Windows;
use crate::eval::kahan::{Mean, Prefixes, total};
use crate::eval::quantile::{ascending, median_deviation, median_deviation_of_sorted, quantile, quantile_of_sorted};

/// Windows that have a sample in common, from which on it pays to carry over what is known.
const SHARED_MIN: i64 = 4;

/// The sum of each window, to the last bit that of adding one sample after the other.
pub(super) fn sums(windows: &Windows, t: &[i64], v: &[f64], cells: &mut [f64], prefixes: &mut Prefixes) {
    if shares(windows, cells) && prefixes.take(v) {
        windows.slide(t, cells, |w| Some(prefixes.total(w.from, w.to)));
    } else {
        windows.slide(t, cells, |w| Some(total(&v[w.from..w.to])));
    }
}

/// The mean of each window, of whole numbers: what others lose when they are added up depends on their order, and so does the mean, so that of them all are added up.
pub(super) fn means(windows: &Windows, t: &[i64], v: &[f64], cells: &mut [f64], prefixes: &mut Prefixes) {
    if shares(windows, cells) && prefixes.take_whole(v) {
        windows.slide(t, cells, |w| Some(prefixes.total(w.from, w.to) / (w.to - w.from) as f64));
    } else {
        windows.slide(t, cells, |w| Some(mean(&v[w.from..w.to])));
    }
}

fn mean(v: &[f64]) -> f64 {
    let mut mean = Mean::at(v[0]);
    v[1..].iter().for_each(|v| mean.add(*v));
    mean.value()
}

/// The quantile of each window.
pub(super) fn quantiles(windows: &Windows, t: &[i64], v: &[f64], cells: &mut [f64]) {
    let q = &windows.args[0];
    if shares(windows, cells) {
        let mut ordered = Ordered::default();
        windows.slide(t, cells, |w| {
            let places = ordered.of(v, w.from, w.to);
            Some(quantile_of_sorted(q[w.step], places.len(), |at| v[places[at]]))
        });
        return;
    }
    let mut scratch = Vec::new();
    windows.slide(t, cells, |w| Some(quantile(q[w.step], copy(&v[w.from..w.to], &mut scratch))));
}

/// The median distance to the median of each window.
pub(super) fn median_deviations(windows: &Windows, t: &[i64], v: &[f64], cells: &mut [f64]) {
    let mut scratch = Vec::new();
    if shares(windows, cells) {
        let mut ordered = Ordered::default();
        windows.slide(t, cells, |w| {
            let places = ordered.of(v, w.from, w.to);
            let found = median_deviation_of_sorted(places.len(), |at| v[places[at]]);
            found.or_else(|| Some(median_deviation(copy(&v[w.from..w.to], &mut scratch))))
        });
        return;
    }
    windows.slide(t, cells, |w| Some(median_deviation(copy(&v[w.from..w.to], &mut scratch))));
}

/// Whether windows have so much in common that it pays to carry over what is known.
fn shares(windows: &Windows, cells: &[f64]) -> bool {
    (windows.range / windows.grid.step).min(cells.len() as i64) >= SHARED_MIN
}

fn copy<'a>(v: &[f64], scratch: &'a mut Vec<f64>) -> &'a mut [f64] {
    scratch.clear();
    scratch.extend_from_slice(v);
    scratch
}

/// The samples of a window in the order of their values, of equal ones in the order of time. The next window has most of them too: what goes and what comes
/// is looked for by halving, and what lies between moves, which for some thousand samples is nothing beside sorting them.
#[derive(Debug, Default)]
struct Ordered {
    places: Vec<usize>,
    from: usize,
    to: usize,
}

/// So many places move in the time in which one is sorted into its place.
const MOVED_AT_ONCE: usize = 64;

impl Ordered {
    /// Of a window that begins and ends no earlier than those before.
    fn of(&mut self, v: &[f64], from: usize, to: usize) -> &[usize] {
        let order = |a: usize, b: usize| ascending(v[a], v[b]).then(a.cmp(&b));
        let (gone, new) = (self.from..self.to.min(from), self.to.max(from)..to);
        (self.from, self.to) = (from, to);
        let changes = gone.len() + new.len();
        if changes > 1 && changes * self.places.len() / 2 > (self.places.len() + new.len()) * MOVED_AT_ONCE {
            self.places.retain(|at| *at >= from);
            self.places.extend(new);
            // Two runs, of which the first is sorted: they are merged.
            self.places.sort_by(|a, b| order(*a, *b));
            return &self.places;
        }
        for one in gone {
            if let Ok(at) = self.places.binary_search_by(|place| order(*place, one)) {
                self.places.remove(at);
            }
        }
        for one in new {
            let at = self.places.partition_point(|place| order(*place, one).is_lt());
            self.places.insert(at, one);
        }
        &self.places
    }
}

/// The place of the best sample of each window: of a value that is better than another, or stays if another is only as good. Anything is better than NaN, and of those
/// the last one is.
pub(super) struct Best<F> {
    better: F,
    /// Places of the window, each better than all after it; only of numbers.
    places: VecDeque<usize>,
    seen: usize,
}

impl<F: Fn(f64, f64) -> bool> Best<F> {
    pub(super) fn new(better: F) -> Self {
        Best { better, places: VecDeque::new(), seen: 0 }
    }

    /// Of a window that begins and ends no earlier than those before.
    pub(super) fn of(&mut self, v: &[f64], from: usize, to: usize) -> usize {
        while self.places.front().is_some_and(|place| *place < from) {
            self.places.pop_front();
        }
        for at in self.seen.max(from)..to {
            if v[at].is_nan() {
                continue;
            }
            while self.places.back().is_some_and(|place| (self.better)(v[at], v[*place])) {
                self.places.pop_back();
            }
            self.places.push_back(at);
        }
        self.seen = to;
        self.places.front().copied().unwrap_or(to - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::grid::Grid;
    use crate::eval::range::Edge;

    /// A number that looks drawn, for each seed the same one.
    fn draw(seed: u64) -> u64 {
        let mixed = (seed ^ seed >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 17
    }

    #[test]
    fn the_best_of_a_window_is_what_looking_at_all_of_it_finds() {
        for seed in 0..500 {
            let value = |n: u64| [f64::NAN, 0.0, -0.0, 1.0, 2.0, -3.0][(draw(seed * 1000 + n) % 6) as usize];
            let v: Vec<f64> = (0..40).map(value).collect();
            type Better = fn(f64, f64) -> bool;
            let ways: [Better; 4] = [|v, best| v < best, |v, best| v > best, |v, best| v <= best, |v, best| v >= best];
            for better in ways {
                let (mut best, mut from, mut to) = (Best::new(better), 0, 0);
                for step in 0..30 {
                    from += (draw(seed + step * 77) % 3) as usize;
                    to = (to.max(from + 1) + (draw(seed + step * 99) % 4) as usize).min(v.len());
                    if from >= to {
                        break;
                    }
                    let by_all = (from..to)
                        .fold(from, |best, at| if better(v[at], v[best]) || v[best].is_nan() { at } else { best });
                    assert_eq!(best.of(&v, from, to), by_all, "{seed} {step} {from}..{to} of {v:?}");
                }
            }
        }
    }

    #[test]
    fn quantiles_and_deviations_of_windows_that_slide_are_those_of_each_window() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 0.1, 0.1, -7.25, 1e300, -1e300];
        let mut seen = [0; 2];
        for seed in 0..300 {
            let length = if seed % 10 == 0 { 3000 } else { 60 };
            let value = |n: u64| match draw(seed * 5000 + n) % 40 {
                at if seed % 3 == 0 && (at as usize) < odd.len() => odd[at as usize],
                at => (draw(seed + n * 31) % 1000) as f64 / 7.0 - at as f64,
            };
            let v: Vec<f64> = (0..length).map(value).collect();
            let (mut ordered, mut from, mut to) = (Ordered::default(), 0, 0);
            for step in 0..40 {
                // Mostly a few go and come, and sometimes nearly all or all.
                let stride = [0, 1, 2, 5, length / 20, length / 3][(draw(seed + step * 7) % 6) as usize];
                from += (draw(seed + step * 77) % (stride + 1)) as usize;
                to = (to.max(from + 1) + (draw(seed + step * 99) % (stride + 1)) as usize).min(v.len());
                if from >= to {
                    break;
                }
                let places = ordered.of(&v, from, to);
                let sorted: Vec<f64> = places.iter().map(|at| v[*at]).collect();
                for q in [0.0, 0.25, 0.5, 0.9, 1.0, -1.0, 2.0, f64::NAN] {
                    let by_all = quantile(q, &mut v[from..to].to_vec());
                    let found = quantile_of_sorted(q, sorted.len(), |at| sorted[at]);
                    assert_eq!(found.to_bits(), by_all.to_bits(), "{q} of {:?}", &v[from..to]);
                }
                let by_all = median_deviation(&mut v[from..to].to_vec());
                let found = median_deviation_of_sorted(sorted.len(), |at| sorted[at]);
                seen[usize::from(found.is_some())] += 1;
                assert_eq!(found.unwrap_or(by_all).to_bits(), by_all.to_bits(), "{:?}", &v[from..to]);
            }
        }
        assert!(seen[0] > 10 && seen[1] > 5000, "{seen:?}");
    }

    #[test]
    fn means_of_windows_that_slide_are_those_of_each_window() {
        let (cancel, times) = (model::Cancel::default(), Vec::from_iter(0..300));
        let mut slid = 0;
        for seed in 0..300 {
            let scale = [1.0, -1.0, 1e13, 0.1, 1e300][(seed % 5) as usize];
            let odd = [f64::NAN, f64::INFINITY, -0.0, 0.5][(draw(seed) % 4) as usize];
            let value = |n: u64| match draw(seed * 1000 + n) % 2000 {
                0 => odd,
                whole => scale * (whole / 2) as f64,
            };
            let v: Vec<f64> = (0..300).map(value).collect();
            let grid = Grid::between(-20, 330, 1 + (draw(seed) % 3) as i64);
            let windows = Windows::plain(grid, 40, &cancel);
            let (mut cells, mut expect) = (vec![0.0; grid.n], vec![0.0; grid.n]);
            let mut prefixes = Prefixes::default();
            means(&windows, &times, &v, &mut cells, &mut prefixes);
            windows.slide(&times, &mut expect, |w| Some(mean(&v[w.from..w.to])));
            let bits = |cells: &[f64]| cells.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&cells), bits(&expect), "{seed}");
            slid += usize::from(prefixes.take_whole(&v));
        }
        assert!((60..150).contains(&slid), "{slid}");
    }

    #[test]
    fn windows_end_early_once_nobody_waits() {
        let (cancel, times) = (model::Cancel::default(), Vec::from_iter(0..1000));
        let grid = Grid::between(0, 999, 1);
        let windows = Windows::plain(grid, 10, &cancel);
        let mut seen = 0;
        windows.each(&times, grid.n, |window| {
            seen += 1;
            if window.step == 100 {
                cancel.cancel();
            }
        });
        assert!((101..200).contains(&seen), "{seen}");
    }

    #[test]
    fn an_edge_is_found_wherever_it_goes() {
        for seed in 0..500 {
            let mut t = 0;
            let times = (0..draw(seed) % 60).map(|n| {
                t += 1 + (draw(seed * 100 + n) % 20) as i64;
                t
            });
            let times: Vec<i64> = times.collect();
            let (mut edge, mut end) = (Edge::default(), -5);
            for step in 0..40 {
                // Mostly the same distance, then none, then a long one.
                end += [10, 10, 10, 0, 150][(draw(seed + step / 5) % 5) as usize];
                assert_eq!(edge.after(&times, end), times.partition_point(|t| *t <= end), "{seed} {end} {times:?}");
            }
        }
    }
}
