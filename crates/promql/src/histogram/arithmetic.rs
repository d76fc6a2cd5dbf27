//! Adding histograms up, and taking one from another: with the same bounds, the wider zero bucket, and the lower resolution of both.

use model::ResetHint;

use super::bounds::exponential;
use super::total::Lost;
use super::{FloatHistogram, Side};
use crate::eval::kahan::Sum;

/// One has custom buckets and the other has exponential ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incompatible;

/// What should be known of an operation that worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Noted {
    /// One is the first after a reset, the other is said not to be.
    pub(crate) collision: bool,
    /// Custom bounds differ, and what they have in common was taken.
    pub(crate) reconciled: bool,
}

impl Noted {
    pub(crate) fn join(&mut self, other: Noted) {
        self.collision |= other.collision;
        self.reconciled |= other.reconciled;
    }
}

impl FloatHistogram {
    /// Adds another one.
    pub(crate) fn add(&mut self, other: &FloatHistogram) -> Result<Noted, Incompatible> {
        self.combine(other, 1.0)
    }

    /// Takes another one away.
    pub(crate) fn subtract(&mut self, other: &FloatHistogram) -> Result<Noted, Incompatible> {
        self.combine(other, -1.0)
    }

    fn combine(&mut self, other: &FloatHistogram, sign: f64) -> Result<Noted, Incompatible> {
        if self.is_custom() != other.is_custom() {
            return Err(Incompatible);
        }
        let mut noted = Noted { collision: self.join_hint(other.hint), reconciled: false };
        if !self.is_custom() {
            let (zero, _) = self.widen_zero(other, None);
            self.zero += sign * zero;
        }
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        if self.is_custom() {
            if self.custom == other.custom {
                add_sides(&mut self.positive, &other.positive, sign, |_| true);
            } else {
                noted.reconciled = true;
                self.add_mismatched(other, sign, None);
            }
            return Ok(noted);
        }
        let brought_down = self.same_resolution(other);
        let (positive, negative) = brought_down.as_ref().map_or((&other.positive, &other.negative), |[p, n]| (p, n));
        let beyond_zero = beyond(self.schema, self.zero_threshold);
        add_sides(&mut self.positive, positive, sign, &beyond_zero);
        add_sides(&mut self.negative, negative, sign, &beyond_zero);
        Ok(noted)
    }

    /// Brings this one down to the schema of another, or returns what of the other is brought down to that of this one.
    fn same_resolution(&mut self, other: &FloatHistogram) -> Option<[Side; 2]> {
        if other.schema < self.schema {
            self.reduce(other.schema);
        }
        let down = |side: &Side| reduced(side, other.schema, self.schema);
        (other.schema > self.schema).then(|| [down(&other.positive), down(&other.negative)])
    }

    /// Brings the resolution down to a lower schema.
    pub(crate) fn reduce(&mut self, schema: i32) {
        self.positive = reduced(&self.positive, self.schema, schema);
        self.negative = reduced(&self.negative, self.schema, schema);
        self.schema = schema;
    }

    /// The hint of what is made of two; whether the hints contradict each other.
    pub(super) fn join_hint(&mut self, other: ResetHint) -> bool {
        use ResetHint::{Gauge, Unknown};
        match (self.hint, other) {
            (own, other) if own == other => {}
            (Gauge, _) | (_, Gauge) => self.hint = Gauge,
            (Unknown, _) | (_, Unknown) => self.hint = Unknown,
            _ => {
                self.hint = Unknown;
                return true;
            }
        }
        false
    }

    /// Makes the zero bucket at least as wide as that of another, and returns what of the other is in one that is as wide, with what rounding lost.
    pub(super) fn widen_zero(&mut self, other: &FloatHistogram, mut error: Option<&mut Lost>) -> (f64, f64) {
        let (mut zero, mut threshold, mut lost) = (other.zero, other.zero_threshold, 0.0);
        while threshold != self.zero_threshold {
            if self.zero_threshold > threshold {
                (zero, threshold, lost) = other.zero_beyond(self.zero_threshold, None);
            }
            if threshold > self.zero_threshold {
                let own = error.as_deref();
                let (own_zero, own_threshold, own_lost) = self.zero_beyond(threshold, own);
                (self.zero, self.zero_threshold) = (own_zero, own_threshold);
                if let Some(error) = error.as_deref_mut() {
                    error.zero = own_lost;
                }
                self.empty_within_zero(error.as_deref_mut());
            }
        }
        (zero, lost)
    }

    /// The observations in a zero bucket of a threshold that is not lower, and that threshold, which no bucket with observations crosses.
    pub(super) fn zero_for(&self, threshold: f64) -> (f64, f64) {
        let (zero, threshold, _) = self.zero_beyond(threshold, None);
        (zero, threshold)
    }

    fn zero_beyond(&self, threshold: f64, error: Option<&Lost>) -> (f64, f64, f64) {
        let mut threshold = threshold;
        let mut sum = Sum { sum: self.zero, c: error.map_or(0.0, |error| error.zero) };
        if threshold == self.zero_threshold {
            return (sum.sum, threshold, sum.c);
        }
        'wider: loop {
            // What was lost stays, also where the sum begins anew.
            sum.sum = self.zero;
            for (at, bucket) in self.positive.iter().enumerate() {
                let bucket = self.positive_bucket(bucket);
                if bucket.lower >= threshold {
                    break;
                }
                sum = sum.add(bucket.count);
                if let Some(error) = error {
                    sum = sum.add(error.positive[at]);
                }
                if bucket.upper > threshold {
                    if bucket.count != 0.0 {
                        threshold = bucket.upper;
                    }
                    break;
                }
            }
            for (at, bucket) in self.negative.iter().enumerate() {
                let bucket = self.negative_bucket(bucket);
                if bucket.upper <= -threshold {
                    break;
                }
                sum = sum.add(bucket.count);
                if let Some(error) = error {
                    sum = sum.add(error.negative[at]);
                }
                if bucket.lower < -threshold {
                    if bucket.count != 0.0 {
                        threshold = -bucket.lower;
                        continue 'wider;
                    }
                    break;
                }
            }
            return (sum.sum, threshold, sum.c);
        }
    }

    /// Empties the buckets that the zero bucket reaches into, and takes all empty ones away.
    fn empty_within_zero(&mut self, error: Option<&mut Lost>) {
        let threshold = self.zero_threshold;
        let positive = self.positive.iter().take_while(|bucket| self.positive_bucket(*bucket).lower < threshold);
        let negative = self.negative.iter().take_while(|bucket| self.negative_bucket(*bucket).upper > -threshold);
        let (positive, negative) = (positive.count(), negative.count());
        self.positive.counts[..positive].fill(0.0);
        self.negative.counts[..negative].fill(0.0);
        let Some(error) = error else {
            self.compact();
            return;
        };
        error.positive[..positive].fill(0.0);
        error.negative[..negative].fill(0.0);
        for (side, lost) in [(&mut self.positive, &mut error.positive), (&mut self.negative, &mut error.negative)] {
            let all = std::mem::take(lost);
            *lost = side
                .counts
                .iter()
                .zip(&all)
                .filter(|(count, c)| **count != 0.0 || **c != 0.0)
                .map(|(_, c)| *c)
                .collect();
            side.retain(|at, count| count != 0.0 || all[at] != 0.0);
        }
    }

    /// Adds custom buckets of other bounds: those that both have stay, and each bucket goes where its bound is reached.
    pub(super) fn add_mismatched(&mut self, other: &FloatHistogram, sign: f64, error: Option<&mut Lost>) {
        let common = common_bounds(&self.custom, &other.custom);
        let mut sums = vec![Sum::default(); common.len() + 1];
        let mut put = |of: &FloatHistogram, sign: f64, lost: &[f64]| {
            let mut target = 0;
            for (at, (index, count)) in of.positive.iter().enumerate() {
                let bound = of.bound(index);
                while target < common.len() && common[target] < bound {
                    target += 1;
                }
                sums[target] = sums[target].add(sign * count);
                if let Some(lost) = lost.get(at) {
                    sums[target] = sums[target].add(*lost);
                }
            }
        };
        put(self, 1.0, error.as_ref().map_or(&[][..], |error| error.positive.as_slice()));
        put(other, sign, &[]);
        let kept: Vec<(usize, Sum)> =
            sums.into_iter().enumerate().filter(|(_, sum)| sum.sum != 0.0 || sum.c != 0.0).collect();
        self.positive = Side {
            indices: kept.iter().map(|(index, _)| *index as i32).collect(),
            counts: kept.iter().map(|(_, sum)| sum.sum).collect(),
        };
        if let Some(error) = error {
            error.positive = kept.iter().map(|(_, sum)| sum.c).collect();
        }
        self.custom = common.into();
    }

    pub(super) fn overflows(&self) -> bool {
        self.exceeds(f64::MAX)
    }

    /// Whether a number is larger than this.
    pub(super) fn exceeds(&self, most: f64) -> bool {
        let exceeds = |v: &f64| v.abs() > most;
        [self.zero, self.count, self.sum].iter().any(exceeds)
            || self.positive.counts.iter().chain(&self.negative.counts).any(exceeds)
    }
}

/// What the bounds of two have in common.
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut b = b.iter().peekable();
    let mut common = Vec::new();
    for bound in a {
        while b.next_if(|other| *other < bound).is_some() {}
        common.extend(b.next_if(|other| *other == bound));
    }
    common
}

/// Whether a bucket ends beyond the zero bucket; what comes after such a one is not asked.
pub(super) fn beyond(schema: i32, threshold: f64) -> impl Fn(i32) -> bool {
    move |index| threshold == 0.0 || exponential(index, schema) > threshold
}

/// The index of the bucket of a lower schema that a bucket is part of.
pub(super) fn target(index: i32, levels: u32) -> i32 {
    (index.wrapping_sub(1) >> levels.min(31)).wrapping_add(1)
}

/// Buckets of a lower schema.
pub(super) fn reduced(side: &Side, from: i32, to: i32) -> Side {
    let levels = from.abs_diff(to);
    let (mut indices, mut counts): (Vec<i32>, Vec<f64>) = (Vec::new(), Vec::new());
    for (index, count) in side.iter() {
        let index = target(index, levels);
        match counts.last_mut() {
            Some(last) if indices.last() == Some(&index) => *last += count,
            _ => {
                indices.push(index);
                counts.push(count);
            }
        }
    }
    Side { indices: indices.into(), counts }
}

/// Adds the buckets of another side from the first one on that this holds of.
fn add_sides(to: &mut Side, from: &Side, sign: f64, beyond_zero: impl Fn(i32) -> bool) {
    let skip = from.indices.iter().take_while(|index| !beyond_zero(**index)).count();
    if skip == 0 && to.indices == from.indices {
        to.counts.iter_mut().zip(&from.counts).for_each(|(to, count)| *to += sign * count);
        return;
    }
    let joined = joined(&to.indices, &from.indices[skip..]);
    let counts = {
        let (mut own, mut other) = (to.iter().peekable(), from.iter().skip(skip).peekable());
        let one = |index: &i32| {
            let count = own.next_if(|(at, _)| at == index).map(|(_, count)| count);
            let added = other.next_if(|(at, _)| at == index).map(|(_, count)| sign * count);
            match (count, added) {
                (Some(count), Some(added)) => count + added,
                (count, added) => count.or(added).unwrap_or(0.0),
            }
        };
        joined.iter().map(one).collect()
    };
    *to = Side { indices: joined.into(), counts };
}

/// All indices of two, ascending.
pub(super) fn joined(a: &[i32], b: &[i32]) -> Vec<i32> {
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    let mut all = Vec::with_capacity(a.len().max(b.len()));
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => *x.min(y),
            (Some(x), None) => *x,
            (None, Some(y)) => *y,
            (None, None) => return all,
        };
        a.next_if_eq(&next);
        b.next_if_eq(&next);
        all.push(next);
    }
}
