//! Sums and means of many histograms, with what rounding loses carried along.

use std::sync::Arc;

use super::arithmetic::{Incompatible, Noted, beyond, joined, target};
use super::{FloatHistogram, Side};
use crate::eval::kahan::Sum;

/// What rounding lost of the numbers of a histogram.
#[derive(Debug, Clone, Default)]
pub(super) struct Lost {
    pub(super) zero: f64,
    pub(super) count: f64,
    pub(super) sum: f64,
    pub(super) positive: Vec<f64>,
    pub(super) negative: Vec<f64>,
}

impl Lost {
    fn scale(&mut self, scale: impl Fn(f64) -> f64) {
        let all = [&mut self.zero, &mut self.count, &mut self.sum];
        all.into_iter().chain(&mut self.positive).chain(&mut self.negative).for_each(|v| *v = scale(*v));
    }
}

/// A sum of histograms that carries what rounding loses, as [`Sum`] does of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Total {
    value: FloatHistogram,
    lost: Option<Lost>,
}

impl Total {
    /// Begins with a first one.
    pub(crate) fn at(value: FloatHistogram) -> Self {
        Total { value, lost: None }
    }

    /// Adds another one; after an error nothing of it is of use.
    pub(crate) fn add(&mut self, other: &FloatHistogram) -> Result<Noted, Incompatible> {
        let own = &mut self.value;
        if own.is_custom() != other.is_custom() {
            return Err(Incompatible);
        }
        let mut noted = Noted { collision: own.join_hint(other.hint), reconciled: false };
        let lost = self.lost.get_or_insert_with(|| Lost {
            positive: vec![0.0; own.positive.counts.len()],
            negative: vec![0.0; own.negative.counts.len()],
            ..Lost::default()
        });
        if !own.is_custom() {
            let (zero, zero_lost) = own.widen_zero(other, Some(lost));
            let sum = Sum { sum: own.zero, c: lost.zero }.add(zero).add(zero_lost);
            (own.zero, lost.zero) = (sum.sum, sum.c);
        }
        let sum = Sum { sum: own.count, c: lost.count }.add(other.count);
        (own.count, lost.count) = (sum.sum, sum.c);
        let sum = Sum { sum: own.sum, c: lost.sum }.add(other.sum);
        (own.sum, lost.sum) = (sum.sum, sum.c);
        if own.is_custom() {
            if own.custom == other.custom {
                add_exactly(&mut own.positive, &mut lost.positive, &other.positive, &[], |_| true);
            } else {
                noted.reconciled = true;
                own.add_mismatched(other, 1.0, Some(lost));
            }
            return Ok(noted);
        }
        if other.schema < own.schema {
            let levels = own.schema.abs_diff(other.schema);
            reduce_exactly(&mut own.positive, &mut lost.positive, levels);
            reduce_exactly(&mut own.negative, &mut lost.negative, levels);
            own.schema = other.schema;
        }
        let beyond_zero = beyond(own.schema, own.zero_threshold);
        let levels = other.schema.abs_diff(own.schema);
        for (to, to_lost, from) in [
            (&mut own.positive, &mut lost.positive, &other.positive),
            (&mut own.negative, &mut lost.negative, &other.negative),
        ] {
            if levels == 0 {
                add_exactly(to, to_lost, from, &[], &beyond_zero);
            } else {
                let (mut from, mut from_lost) = (from.clone(), vec![0.0; from.counts.len()]);
                reduce_exactly(&mut from, &mut from_lost, levels);
                add_exactly(to, to_lost, &from, &from_lost, &beyond_zero);
            }
        }
        Ok(noted)
    }

    /// The sum.
    pub(crate) fn finish(self) -> (FloatHistogram, Noted) {
        let Total { mut value, lost } = self;
        let Some(lost) = lost else { return (value, Noted::default()) };
        let side = |of: &Side, counts| Side { indices: of.indices.clone(), counts };
        let lost = FloatHistogram {
            zero: lost.zero,
            count: lost.count,
            sum: lost.sum,
            positive: side(&value.positive, lost.positive),
            negative: side(&value.negative, lost.negative),
            ..value.clone()
        };
        // It has the buckets of the sum, so they go together.
        let noted = value.add(&lost).unwrap_or_default();
        (value, noted)
    }
}

/// As `add_sides`, with what rounding loses.
fn add_exactly(to: &mut Side, lost: &mut Vec<f64>, from: &Side, from_lost: &[f64], beyond_zero: impl Fn(i32) -> bool) {
    let skip = from.indices.iter().take_while(|index| !beyond_zero(**index)).count();
    let added = |sum: Sum, at: usize| {
        let sum = sum.add(from.counts[at]);
        match from_lost.get(at) {
            Some(lost) if *lost != 0.0 => sum.add(*lost),
            _ => sum,
        }
    };
    if skip == 0 && to.indices == from.indices {
        for (at, (count, lost)) in to.counts.iter_mut().zip(lost.iter_mut()).enumerate() {
            let sum = added(Sum { sum: *count, c: *lost }, at);
            (*count, *lost) = (sum.sum, sum.c);
        }
        return;
    }
    let joined = joined(&to.indices, &from.indices[skip..]);
    let (mut counts, mut all_lost) = (Vec::with_capacity(joined.len()), Vec::with_capacity(joined.len()));
    let (mut own, mut other) = (0, skip);
    for index in &joined {
        let has_own = to.indices.get(own) == Some(index);
        let has_other = from.indices.get(other) == Some(index);
        let sum = match (has_own, has_other) {
            (true, true) => added(Sum { sum: to.counts[own], c: lost[own] }, other),
            (true, false) => Sum { sum: to.counts[own], c: lost[own] },
            _ => Sum { sum: from.counts[other], c: from_lost.get(other).copied().unwrap_or(0.0) },
        };
        counts.push(sum.sum);
        all_lost.push(sum.c);
        (own, other) = (own + usize::from(has_own), other + usize::from(has_other));
    }
    *lost = all_lost;
    *to = Side { indices: joined.into(), counts };
}

/// As `reduced`, with what rounding loses.
fn reduce_exactly(side: &mut Side, lost: &mut Vec<f64>, levels: u32) {
    let mut indices: Vec<i32> = Vec::new();
    let mut sums: Vec<Sum> = Vec::new();
    for ((index, count), c) in side.iter().zip(lost.iter()) {
        let index = target(index, levels);
        match sums.last_mut() {
            Some(sum) if indices.last() == Some(&index) => *sum = sum.add(count).add(*c),
            _ => {
                indices.push(index);
                sums.push(Sum { sum: count, c: *c });
            }
        }
    }
    *lost = sums.iter().map(|sum| sum.c).collect();
    *side = Side { indices: Arc::from(indices), counts: sums.into_iter().map(|sum| sum.sum).collect() };
}

/// Below half the largest number two cannot add up to more than that, so nothing has to be kept in case they do.
const FAR_FROM_OVERFLOW: f64 = f64::MAX / 4.0;

/// A mean of histograms: a sum over a count until that overflows, and a running mean from there on.
#[derive(Debug, Clone)]
pub(crate) struct Mean {
    total: Total,
    count: f64,
    running: bool,
}

impl Mean {
    /// Begins with a first one.
    pub(crate) fn at(value: FloatHistogram) -> Self {
        Mean { total: Total::at(value), count: 1.0, running: false }
    }

    /// Takes one more in.
    pub(crate) fn add(&mut self, other: &FloatHistogram) -> Result<Noted, Incompatible> {
        self.count += 1.0;
        let mut noted = Noted::default();
        if !self.running {
            if !self.total.value.exceeds(FAR_FROM_OVERFLOW) && !other.exceeds(FAR_FROM_OVERFLOW) {
                return self.total.add(other);
            }
            let mut next = self.total.clone();
            noted = next.add(other)?;
            if !next.value.overflows() {
                self.total = next;
                return Ok(noted);
            }
            self.running = true;
            let before = self.count - 1.0;
            self.total.value.divide(before);
            self.scale_lost(|lost| lost / before);
        }
        let q = (self.count - 1.0) / self.count;
        self.scale_lost(|lost| lost * q);
        self.total.value.multiply(q);
        let mut part = other.clone();
        part.divide(self.count);
        noted.join(self.total.add(&part)?);
        Ok(noted)
    }

    fn scale_lost(&mut self, scale: impl Fn(f64) -> f64) {
        if let Some(lost) = &mut self.total.lost {
            lost.scale(scale);
        }
    }

    /// The mean.
    pub(crate) fn finish(mut self) -> FloatHistogram {
        if !self.running {
            let count = self.count;
            self.total.value.divide(count);
            self.scale_lost(|lost| lost / count);
        }
        self.total.finish().0
    }
}
