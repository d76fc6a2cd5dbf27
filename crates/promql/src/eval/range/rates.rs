//! `rate`, `increase` and `delta`: for each window the difference of its last and its first sample, with what counters lost in resets, extrapolated to the
//! ends of the window where samples come close to them, and by half a distance where not.
//!
//! Where a window begins and ends among the samples, and how far these reach, depends on their times alone, which are the same for the series of one scrape: it is
//! worked out once for all that follow each other and have the same. What is left for each window are a few operations on columns.

use fearless_simd::{Level, dispatch};

use super::Windows;
use super::counters::{Of, Reach, places};
use super::outline::Samples;
use crate::eval::matrix::ABSENT;

/// Columns that are used again for the next series over the same windows, each with a place for each of these.
#[derive(Debug, Default)]
pub(super) struct Columns {
    shape: Shape,
    first: Vec<f64>,
    difference: Vec<f64>,
}

/// What times say of windows.
#[derive(Debug, Default)]
struct Shape {
    t: Vec<i64>,
    /// As of [`Samples::before`].
    before: Vec<u64>,
    /// The places of the first and the last sample, the same one in a window of less than two.
    from: Vec<u32>,
    last: Vec<u32>,
    sampled: Vec<f64>,
    to_start: Vec<f64>,
    to_end: Vec<f64>,
}

impl Columns {
    /// Its memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let Shape { t, before, from, sampled, .. } = &self.shape;
        let shape = t.capacity() + before.capacity() + from.capacity() + 3 * sampled.capacity();
        8 * (shape + self.first.capacity() + self.difference.capacity())
    }
}

impl Shape {
    fn is_of(&self, samples: &Samples<'_>) -> bool {
        self.t == samples.columns.t && self.before == samples.before
    }

    fn find(&mut self, windows: &Windows, samples: &Samples<'_>, number: usize) {
        let t = samples.columns.t.as_slice();
        self.t.clear();
        self.t.extend_from_slice(t);
        self.before.clear();
        self.before.extend_from_slice(samples.before);
        for places in [&mut self.from, &mut self.last] {
            places.clear();
            places.resize(number, 0);
        }
        for column in [&mut self.sampled, &mut self.to_start, &mut self.to_end] {
            column.clear();
            column.resize(number, 0.0);
        }
        windows.each(t, number, |w| {
            let last = w.to - 1;
            if last > w.from {
                let window = (windows.extrapolated_from(w.end), w.end);
                let reach = Reach::of(window, (t[w.from], t[last]), samples.count(w.from, last));
                (self.from[w.step], self.last[w.step]) = (w.from as u32, last as u32);
                (self.sampled[w.step], self.to_start[w.step]) = (reach.sampled, reach.to_start);
                self.to_end[w.step] = reach.to_end;
            }
        });
        // Places grow from window to window, those of windows without two samples too.
        let mut before = 0;
        for (from, last) in self.from.iter_mut().zip(&mut self.last) {
            if from == last {
                (*from, *last) = (before, before);
            }
            before = *last;
        }
    }
}

/// Writes what there is of each window that has two samples.
pub(super) fn extrapolated(windows: &Windows, samples: Samples<'_>, cells: &mut [f64], of: Of, scratch: &mut Columns) {
    let v = samples.columns.v.as_slice();
    if v.is_empty() {
        return;
    }
    let Columns { shape, first, difference } = scratch;
    if !shape.is_of(&samples) {
        shape.find(windows, &samples, cells.len());
    }
    first.clear();
    first.extend(shape.from.iter().map(|at| v[*at as usize]));
    difference.clear();
    difference.extend(shape.last.iter().zip(first.iter()).map(|(at, first)| v[*at as usize] - first));
    if of != Of::Delta && dispatch!(Level::new(), _simd => falls(v)) {
        for reset in places(v, |before, v| v < before) {
            let own = shape.last.partition_point(|last| (*last as usize) < reset);
            let end = shape.from.partition_point(|from| (*from as usize) < reset);
            difference.get_mut(own..end).unwrap_or_default().iter_mut().for_each(|d| *d += v[reset - 1]);
        }
    }
    let range = windows.seconds;
    dispatch!(Level::new(), _simd => multiply(shape, first, difference, (of, range), cells));
}

/// Whether a value is less than the one before it.
#[inline(always)]
fn falls(v: &[f64]) -> bool {
    let later = v.get(1..).unwrap_or_default();
    later
        .chunks(64)
        .zip(v.chunks(64))
        .any(|(later, before)| later.iter().zip(before).fold(false, |any, (v, b)| any | (v < b)))
}

/// Multiplies each difference with what it is extrapolated by.
#[inline(always)]
fn multiply(shape: &Shape, first: &[f64], difference: &[f64], (of, range): (Of, f64), cells: &mut [f64]) {
    let n = cells.len();
    let (first, difference) = (&first[..n], &difference[..n]);
    let (sampled, to_start, to_end) = (&shape.sampled[..n], &shape.to_start[..n], &shape.to_end[..n]);
    let (from, last) = (&shape.from[..n], &shape.last[..n]);
    for k in 0..n {
        let is_counter = of != Of::Delta && difference[k] > 0.0 && first[k] >= 0.0;
        let to_zero = if is_counter { first[k] / difference[k] } else { f64::INFINITY };
        let reach = Reach { sampled: sampled[k], to_start: to_start[k], to_end: to_end[k] };
        let factor = reach.factor(to_zero);
        let factor = if of == Of::Rate { factor / range } else { factor };
        cells[k] = if from[k] == last[k] { ABSENT } else { difference[k] * factor };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::grid::Grid;
    use crate::eval::range::counters::extrapolated_since;
    use crate::eval::testing::draws;

    #[test]
    fn many_windows_at_once_are_what_each_is_by_itself() {
        let mut draw = draws();
        let (mut resets, mut absent) = (0, 0);
        let (mut grid, mut range, mut scratch) = (Grid::between(0, 1, 1), 1, super::Columns::default());
        let mut t: Vec<i64> = Vec::new();
        for turn in 0..3000 {
            // Times are mostly those of the series before.
            if turn % 3 == 0 {
                let mut at = 0;
                let gap = [10, 30, 300][draw(3) as usize];
                t = (0..draw(60)).map(|_| (at += 1 + draw(gap) as i64, at).1).collect();
            }
            let mut value = draw(3) as f64;
            let falls = 1 + draw(30);
            let v = t.iter().map(|_| {
                value = if draw(falls) == 0 { draw(5) as f64 } else { value + draw(9) as f64 / 8.0 };
                value
            });
            let columns = model::Columns::floats(t.clone(), v.collect());
            if turn % 30 == 0 {
                (grid, range) = (Grid::between(-20, 800, 1 + draw(70) as i64), 1 + draw(200) as i64);
                scratch = super::Columns::default();
            }
            let cancel = &model::Cancel::default();
            let windows = Windows::plain(grid, range, cancel);
            for of in [Of::Rate, Of::Increase] {
                let (mut at_once, mut alone) = (vec![ABSENT; grid.n], vec![ABSENT; grid.n]);
                extrapolated(&windows, Samples::all(&columns), &mut at_once, of, &mut scratch);
                extrapolated_since(&windows, &columns, &mut alone, of, || {});
                let bits = |cells: &[f64]| cells.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&at_once), bits(&alone), "{turn} {of:?} {range} {columns:?}");
                absent += at_once.iter().filter(|v| v.to_bits() == ABSENT.to_bits()).count();
            }
            resets += places(&columns.v, |before, v| v < before).len();
        }
        assert!(resets > 1000 && absent > 1000, "{resets} {absent}");
    }
}
