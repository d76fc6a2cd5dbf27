//! Native histograms: buckets whose bounds follow from a schema, or are custom ones that are told.
//!
//! Not the classic histograms, which are counters with a label `le`. A histogram is kept as it came, bit for bit: integer counts stay integers,
//! empty spans stay, and a sum may be any bits, the marker of staleness among them. What buckets mean (schema, threshold, spans, bounds) is a
//! layout that many samples of a series share, so it is behind a counted pointer; the price is an allocation for one that stands alone.

use std::sync::Arc;

use crate::is_stale;

mod reduce;
#[cfg(test)]
mod tests;
mod validate;

pub use validate::InvalidHistogram;

/// Schemas of exponential buckets: a power of two is divided into two to the schema.
pub const EXPONENTIAL_SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;
/// The schema of custom buckets, whose upper bounds are told.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;
/// Buckets, spans and custom bounds that a histogram may have of each sign. Clients keep to some 160; this many take 160 KiB in a record at most.
pub const BUCKETS_MAX: usize = 16 << 10;

/// What the sender knows of a reset of the counters between a histogram and the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum ResetHint {
    /// Nothing: it has to be found out by comparing.
    #[default]
    Unknown,
    /// This is the first after a reset.
    Reset,
    /// There was none.
    NotReset,
    /// A gauge, which has no resets.
    Gauge,
}

impl ResetHint {
    /// In the order of their numbers.
    pub const ALL: [ResetHint; 4] = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge];

    /// The hint of a number, as the protocols and the files have it.
    pub fn from_number(number: u64) -> Option<Self> {
        ResetHint::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// Buckets that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// Buckets left out since the span before; for the first one, the index of its first bucket.
    pub offset: i32,
    /// How many buckets.
    pub length: u32,
}

/// What the buckets of a histogram mean. Equality is that of the bits.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// One of [`EXPONENTIAL_SCHEMAS`], or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Half the width of the bucket around zero.
    pub zero_threshold: f64,
    /// The buckets of positive observations, and all custom ones.
    pub positive: Vec<Span>,
    /// The buckets of negative observations.
    pub negative: Vec<Span>,
    /// Upper bounds of custom buckets, ascending; empty for exponential ones.
    pub custom_values: Vec<f64>,
}

impl Layout {
    /// Number of positive and of negative buckets.
    pub fn buckets(&self) -> (usize, usize) {
        let count = |spans: &[Span]| spans.iter().map(|span| span.length as usize).fold(0, usize::saturating_add);
        (count(&self.positive), count(&self.negative))
    }
}

impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.schema == other.schema
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && self.positive == other.positive
            && self.negative == other.negative
            && same_bits(&self.custom_values, &other.custom_values)
    }
}

/// How many observations there are: in all, around zero, and in each bucket by itself, in the order of the spans.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Buckets<N> {
    /// All observations.
    pub count: N,
    /// Those in the bucket around zero.
    pub zero: N,
    /// Those in each positive bucket.
    pub positive: Vec<N>,
    /// Those in each negative bucket.
    pub negative: Vec<N>,
}

/// The numbers of observations. Equality is that of the bits.
#[derive(Debug, Clone)]
pub enum Counts {
    /// Whole numbers, as clients count.
    Integer(Buckets<u64>),
    /// Fractions, as rules compute.
    Float(Buckets<f64>),
}

impl PartialEq for Counts {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Counts::Integer(a), Counts::Integer(b)) => a == b,
            (Counts::Float(a), Counts::Float(b)) => {
                same_bits(&[a.count, a.zero], &[b.count, b.zero])
                    && same_bits(&a.positive, &b.positive)
                    && same_bits(&a.negative, &b.negative)
            }
            _ => false,
        }
    }
}

/// A native histogram. Equality is that of the bits.
#[derive(Debug, Clone)]
pub struct Histogram {
    /// What the buckets mean.
    pub layout: Arc<Layout>,
    /// What is known of a reset.
    pub hint: ResetHint,
    /// The sum of the observations; the marker of staleness where the series ended.
    pub sum: f64,
    /// The numbers of observations.
    pub counts: Counts,
}

impl Histogram {
    /// Whether it marks the end of a series.
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Whether the other one is laid out alike and has counts of the same kind, so that their counts can stand in common columns.
    pub fn is_like(&self, other: &Histogram) -> bool {
        std::mem::discriminant(&self.counts) == std::mem::discriminant(&other.counts)
            && (Arc::ptr_eq(&self.layout, &other.layout) || self.layout == other.layout)
    }
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        self.layout == other.layout
            && self.hint == other.hint
            && self.sum.to_bits() == other.sum.to_bits()
            && self.counts == other.counts
    }
}

/// A histogram at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    /// Milliseconds since the Unix epoch.
    pub t: i64,
    /// When counting began, in milliseconds since the Unix epoch; 0 where that is not known.
    pub start: i64,
    /// What was counted.
    pub histogram: Histogram,
}

fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
