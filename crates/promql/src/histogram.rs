//! Native histograms as the language computes with them: all counts are floats, and a bucket is an index with a count.
//!
//! Samples of a series mostly have the same buckets, so indices are behind a counted pointer: two histograms that share it are added up without a
//! look at them. Everything is worked out in the order in which Prometheus does, so that results are the same to the last bit.

mod arithmetic;
mod bounds;
mod print;
mod resets;
mod shape;
mod total;
mod trim;

use std::sync::Arc;

use model::histogram::CUSTOM_BUCKETS_SCHEMA;
use model::{Counts, Layout, ResetHint, Span};

pub(crate) use arithmetic::{Incompatible, Noted};
pub use bounds::Bucket;
pub(crate) use shape::Told;
pub(crate) use total::{Mean, Total};

/// A histogram with float counts.
#[derive(Debug, Clone)]
pub struct FloatHistogram {
    pub(crate) hint: ResetHint,
    pub(crate) schema: i32,
    pub(crate) zero_threshold: f64,
    pub(crate) zero: f64,
    pub(crate) count: f64,
    pub(crate) sum: f64,
    pub(crate) positive: Side,
    pub(crate) negative: Side,
    /// Upper bounds of custom buckets.
    pub(crate) custom: Arc<[f64]>,
}

/// Buckets of one sign, ascending by index.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    pub(crate) indices: Arc<[i32]>,
    pub(crate) counts: Vec<f64>,
}

impl Default for Side {
    fn default() -> Self {
        Side { indices: Arc::from([]), counts: Vec::new() }
    }
}

impl Side {
    fn iter(&self) -> impl DoubleEndedIterator<Item = (i32, f64)> + '_ {
        self.indices.iter().copied().zip(self.counts.iter().copied())
    }

    /// Leaves the buckets out for which this does not hold of place and count.
    fn retain(&mut self, keep: impl Fn(usize, f64) -> bool) {
        let kept: Vec<usize> = (0..self.counts.len()).filter(|at| keep(*at, self.counts[*at])).collect();
        if kept.len() < self.counts.len() {
            self.indices = kept.iter().map(|at| self.indices[*at]).collect();
            self.counts = kept.iter().map(|at| self.counts[*at]).collect();
        }
    }
}

/// Knows the indices of the layouts that it saw last, since samples of a series share theirs.
#[derive(Debug, Default)]
pub(crate) struct Layouts {
    last: Option<Known>,
}

/// A layout with its indices and custom bounds.
type Known = (Arc<Layout>, [Arc<[i32]>; 2], Arc<[f64]>);

impl Layouts {
    /// The histogram of a sample.
    pub(crate) fn float(&mut self, of: &model::Histogram) -> FloatHistogram {
        let known = self.last.as_ref().is_some_and(|(layout, ..)| Arc::ptr_eq(layout, &of.layout));
        if !known {
            let layout = &of.layout;
            let sides = [indices(&layout.positive), indices(&layout.negative)];
            self.last = Some((layout.clone(), sides, layout.custom_values.as_slice().into()));
        }
        let Some((layout, [positive, negative], custom)) = &self.last else { unreachable!("set above") };
        let side = |indices: &Arc<[i32]>, counts: Vec<f64>| Side { indices: indices.clone(), counts };
        let (count, zero, positive_counts, negative_counts) = match &of.counts {
            Counts::Float(counts) => (counts.count, counts.zero, counts.positive.clone(), counts.negative.clone()),
            Counts::Integer(counts) => {
                let floats = |counts: &[u64]| counts.iter().map(|n| *n as f64).collect::<Vec<f64>>();
                (counts.count as f64, counts.zero as f64, floats(&counts.positive), floats(&counts.negative))
            }
        };
        FloatHistogram {
            hint: of.hint,
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero,
            count,
            sum: of.sum,
            positive: side(positive, positive_counts),
            negative: side(negative, negative_counts),
            custom: custom.clone(),
        }
    }
}

fn indices(spans: &[Span]) -> Arc<[i32]> {
    let (mut next, mut all) = (0i32, Vec::new());
    for span in spans {
        next = next.wrapping_add(span.offset);
        for _ in 0..span.length {
            all.push(next);
            next = next.wrapping_add(1);
        }
    }
    all.into()
}

fn spans(indices: &[i32]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0;
    for index in indices {
        match spans.last_mut() {
            Some(span) if *index == next => span.length += 1,
            _ => spans.push(Span { offset: index.wrapping_sub(next), length: 1 }),
        }
        next = index.wrapping_add(1);
    }
    spans
}

impl FloatHistogram {
    /// Of a sample.
    pub fn new(of: &model::Histogram) -> Self {
        Layouts::default().float(of)
    }

    /// As a sample, with float counts.
    pub fn to_model(&self) -> model::Histogram {
        let layout = Layout {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            positive: spans(&self.positive.indices),
            negative: spans(&self.negative.indices),
            custom_values: self.custom.to_vec(),
        };
        let counts = model::Buckets {
            count: self.count,
            zero: self.zero,
            positive: self.positive.counts.clone(),
            negative: self.negative.counts.clone(),
        };
        model::Histogram { layout: layout.into(), hint: self.hint, sum: self.sum, counts: Counts::Float(counts) }
    }

    /// The number of observations.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// The sum of the observations.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    pub(crate) fn is_gauge(&self) -> bool {
        self.hint == ResetHint::Gauge
    }

    /// What it counts as in the number of samples that a query may hold: a sample for 16 bytes, as in Prometheus.
    pub(crate) fn samples(&self) -> usize {
        Self::samples_of(self.positive.counts.len() + self.negative.counts.len() + self.custom.len())
    }

    /// The same, of one with so many buckets and custom bounds.
    pub(crate) fn samples_of(numbers: usize) -> usize {
        (168 + 8 * numbers) / 16
    }

    /// One without observations that goes with this one.
    pub(crate) fn emptied(&self) -> FloatHistogram {
        FloatHistogram {
            hint: ResetHint::Unknown,
            schema: self.schema,
            zero_threshold: 0.0,
            zero: 0.0,
            count: 0.0,
            sum: 0.0,
            positive: Side::default(),
            negative: Side::default(),
            custom: self.custom.clone(),
        }
    }

    /// One with the same number and sum of observations, of which nothing else is known.
    pub(crate) fn numbers(&self, hint: ResetHint) -> FloatHistogram {
        FloatHistogram { hint, count: self.count, sum: self.sum, custom: Arc::from([]), ..self.emptied() }
    }

    pub(crate) fn multiply(&mut self, factor: f64) {
        self.each_count(|count| *count *= factor);
        if factor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    /// Divides all counts. What is divided by zero has no buckets any more.
    pub(crate) fn divide(&mut self, by: f64) {
        self.each_count(|count| *count /= by);
        if by == 0.0 {
            (self.positive, self.negative) = (Side::default(), Side::default());
        } else if by < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    fn each_count(&mut self, mut change: impl FnMut(&mut f64)) {
        change(&mut self.zero);
        change(&mut self.count);
        change(&mut self.sum);
        self.positive.counts.iter_mut().chain(&mut self.negative.counts).for_each(change);
    }

    /// Takes empty buckets away.
    pub(crate) fn compact(&mut self) {
        self.positive.retain(|_, count| count != 0.0);
        self.negative.retain(|_, count| count != 0.0);
    }

    /// Whether both have the same buckets with the same counts, bit for bit. Hints do not matter.
    pub(crate) fn equals(&self, other: &FloatHistogram) -> bool {
        let bits = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let sides =
            |a: &Side, b: &Side| a.indices == b.indices && a.counts.iter().zip(&b.counts).all(|(a, b)| bits(*a, *b));
        self.schema == other.schema
            && bits(self.count, other.count)
            && bits(self.sum, other.sum)
            && (!self.is_custom() || self.custom == other.custom)
            && self.zero_threshold == other.zero_threshold
            && bits(self.zero, other.zero)
            && sides(&self.negative, &other.negative)
            && sides(&self.positive, &other.positive)
    }
}

/// Equality is that of values, not of bits: it is for who compares answers.
impl PartialEq for FloatHistogram {
    fn eq(&self, other: &Self) -> bool {
        self.hint == other.hint && self.equals(other)
    }
}
