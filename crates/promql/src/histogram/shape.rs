//! What is estimated from the buckets: quantiles, shares, variance. Within a bucket values are taken to be spread evenly on a logarithmic scale, in the zero
//! bucket and in custom ones on a linear one.

use super::{Bucket, FloatHistogram};
use crate::eval::kahan::Sum;

/// What should be known of an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Some observations are no numbers, and the quantile lies among them.
    QuantileIsNan,
    /// Some observations are no numbers, and count as higher than all others.
    QuantileIsSkewed,
    /// Some observations are no numbers, and in no share.
    FractionExcludes,
}

impl Bucket {
    /// The share of the bucket that is below a value within it.
    pub(super) fn share_below(&self, v: f64, linear: bool) -> f64 {
        if linear {
            return (v - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper, at) = (self.lower.abs().log2(), self.upper.abs().log2(), v.abs().log2());
        if v > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
    }
}

impl FloatHistogram {
    /// The quantile `q`.
    pub(crate) fn quantile(&self, q: f64) -> (f64, Option<Told>) {
        if q < 0.0 {
            return (f64::NEG_INFINITY, None);
        }
        if q > 1.0 {
            return (f64::INFINITY, None);
        }
        if self.count == 0.0 || q.is_nan() {
            return (f64::NAN, None);
        }
        // From the nearer end; what is no number counts at the upper one, so that end cannot be begun from where there is such.
        if self.sum.is_nan() || q < 0.5 {
            self.quantile_along(q, q * self.count, self.buckets(), true)
        } else {
            self.quantile_along(q, (1.0 - q) * self.count, self.buckets_down(), false)
        }
    }

    fn quantile_along(
        &self,
        q: f64,
        rank: f64,
        mut buckets: impl Iterator<Item = Bucket>,
        up: bool,
    ) -> (f64, Option<Told>) {
        let mut rank = rank;
        let (mut count, mut bucket) = (0.0, None);
        for next in buckets.by_ref() {
            bucket = Some(next);
            if next.count == 0.0 {
                continue;
            }
            count += next.count;
            if count >= rank {
                break;
            }
        }
        let nothing = Bucket { lower: 0.0, upper: 0.0, lower_inclusive: false, upper_inclusive: false, count: 0.0 };
        let mut bucket = bucket.unwrap_or(nothing);
        if self.is_custom() {
            if bucket.lower == f64::NEG_INFINITY {
                if bucket.upper <= 0.0 {
                    return (bucket.upper, None);
                }
                bucket.lower = 0.0;
            } else if bucket.upper == f64::INFINITY {
                return (bucket.lower, None);
            }
        } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
            self.cut_zero(&mut bucket);
        }
        count = count.min(self.count);
        if count < rank {
            return match self.sum.is_nan() {
                true => (f64::NAN, Some(Told::QuantileIsNan)),
                false => (bucket.upper, None),
            };
        }
        rank = if up { rank - (count - bucket.count) } else { count - rank };
        let told = if self.sum.is_nan() {
            let all = buckets.fold(count, |count, bucket| count + bucket.count);
            (all < self.count).then_some(Told::QuantileIsSkewed)
        } else {
            None
        };
        debug_assert!((0.0..=1.0).contains(&q));
        let share = rank / bucket.count;
        if self.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
            return (bucket.lower + (bucket.upper - bucket.lower) * share, told);
        }
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        if bucket.lower > 0.0 {
            return ((lower + (upper - lower) * share).exp2(), told);
        }
        (-(upper + (lower - upper) * (1.0 - share)).exp2(), told)
    }

    /// Of a zero bucket beside buckets of one sign, the half of the other sign has nothing.
    fn cut_zero(&self, bucket: &mut Bucket) {
        match self.sides() {
            (true, false) => bucket.lower = 0.0,
            (false, true) => bucket.upper = 0.0,
            _ => {}
        }
    }

    /// The share of the observations between two bounds.
    pub(crate) fn fraction(&self, lower: f64, upper: f64) -> (f64, Option<Told>) {
        if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return (f64::NAN, None);
        }
        if lower >= upper {
            return (0.0, None);
        }
        let (mut count, mut rank, mut below) = (0.0, 0.0, [None; 2]);
        let mut buckets = self.buckets();
        for mut bucket in buckets.by_ref() {
            count += bucket.count;
            let mut linear = self.is_custom();
            // Nothing is known of how what is below all bounds is spread.
            let endless = bucket.lower == f64::NEG_INFINITY && !(linear && bucket.upper > 0.0);
            if self.is_custom() {
                if bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 {
                    bucket.lower = 0.0;
                }
            } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                linear = true;
                self.cut_zero(&mut bucket);
            }
            for (below, bound) in below.iter_mut().zip([lower, upper]) {
                if below.is_none() && bucket.lower >= bound {
                    *below = Some(rank);
                }
            }
            for (below, bound) in below.iter_mut().zip([lower, upper]) {
                if below.is_none() && bucket.lower < bound && bucket.upper > bound {
                    let within = bucket.count * bucket.share_below(bound, linear);
                    *below = Some(if linear && endless { bucket.count } else { rank + within });
                }
            }
            if below.iter().all(Option::is_some) {
                break;
            }
            rank += bucket.count;
        }
        let mut told = None;
        if self.sum.is_nan() {
            count = buckets.fold(count, |count, bucket| count + bucket.count);
            told = (count < self.count).then_some(Told::FractionExcludes);
        } else {
            count = self.count;
        }
        let rank = |below: Option<f64>| below.map_or(count, |rank: f64| if rank > count { count } else { rank });
        ((rank(below[1]) - rank(below[0])) / self.count, told)
    }

    /// The variance, each observation taken to be in the middle of its bucket.
    pub(crate) fn variance(&self) -> f64 {
        let mean = self.sum / self.count;
        let sum = self.buckets().filter(|bucket| bucket.count != 0.0).fold(Sum::default(), |sum, bucket| {
            let middle = if self.is_custom() {
                (bucket.upper + bucket.lower) / 2.0
            } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                0.0
            } else {
                let middle = (bucket.upper * bucket.lower).sqrt();
                if bucket.upper < 0.0 { -middle } else { middle }
            };
            let delta = middle - mean;
            sum.add(bucket.count * delta * delta)
        });
        sum.total() / self.count
    }
}
