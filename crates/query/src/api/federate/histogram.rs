//! A native histogram as it is told: with fractions for counts, and one with custom buckets as the classic one that it stands for.

use model::histogram::CUSTOM_BUCKETS_SCHEMA;
use model::{Buckets, Counts, Histogram, Layout};

/// A histogram whose counts are floats, whatever they were.
pub(super) struct Floats<'a> {
    pub(super) layout: &'a Layout,
    pub(super) sum: f64,
    pub(super) count: f64,
    pub(super) zero: f64,
    pub(super) positive: Vec<f64>,
    pub(super) negative: Vec<f64>,
}

impl<'a> Floats<'a> {
    pub(super) fn of(h: &'a Histogram) -> Self {
        let floats = |counts: &[u64]| counts.iter().map(|n| *n as f64).collect();
        let Buckets { count, zero, positive, negative } = match &h.counts {
            Counts::Float(own) => own.clone(),
            Counts::Integer(own) => Buckets {
                count: own.count as f64,
                zero: own.zero as f64,
                positive: floats(&own.positive),
                negative: floats(&own.negative),
            },
        };
        Floats { layout: &h.layout, sum: h.sum, count, zero, positive, negative }
    }

    /// Upper bounds and how many observations there are up to each, where the buckets are custom. The bucket without a bound is not among them: it has all.
    pub(super) fn classic(&self) -> Option<Vec<(f64, f64)>> {
        if self.layout.schema != CUSTOM_BUCKETS_SCHEMA {
            return None;
        }
        let bounds = &self.layout.custom_values;
        let mut buckets: Vec<(f64, f64)> = bounds.iter().map(|bound| (*bound, 0.0)).collect();
        let (mut index, mut counts) = (0i64, self.positive.iter());
        for span in &self.layout.positive {
            index += i64::from(span.offset);
            for count in counts.by_ref().take(span.length as usize) {
                if let Some(bucket) = usize::try_from(index).ok().and_then(|at| buckets.get_mut(at)) {
                    bucket.1 = *count;
                }
                index += 1;
            }
        }
        let mut sum = 0.0;
        for (_, count) in &mut buckets {
            sum += *count;
            *count = sum;
        }
        Some(buckets)
    }
}
