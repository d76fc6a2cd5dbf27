//! Windows that share most of their samples: what is known of one helps with the next, so each costs what it has of new samples.

use std::collections::VecDeque;

use super::Windows;
use crate::eval::kahan::{Prefixes, total};

/// Windows that have a sample in common, from which on it pays to carry over what is known.
const SHARED_MIN: i64 = 4;

/// The sum of each window, to the last bit that of adding one sample after the other.
pub(super) fn sums(windows: &Windows, t: &[i64], v: &[f64], cells: &mut [f64], prefixes: &mut Prefixes) {
    let shared = (windows.range / windows.grid.step).min(cells.len() as i64);
    if shared >= SHARED_MIN && prefixes.take(v) {
        windows.slide(t, cells, |w| Some(prefixes.total(w.from, w.to)));
    } else {
        windows.slide(t, cells, |w| Some(total(&v[w.from..w.to])));
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
