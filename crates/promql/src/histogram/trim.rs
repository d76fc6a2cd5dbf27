//! Observations on one side of a value: `</` keeps those below, `>/` those above.

use super::{Bucket, FloatHistogram};

/// What is kept of a bucket, and where that is taken to lie.
type Kept = (f64, f64);

impl FloatHistogram {
    /// Leaves the observations below a value, or above it. Of a bucket that has the value within, a part is estimated; the sum is anew where anything was taken.
    pub(crate) fn trim(&mut self, at: f64, below: bool) {
        let trim = Trim { at, below, custom: self.is_custom() };
        let (mut count, mut sum, mut changed) = (0.0, 0.0, false);
        let mut any = [false; 2];
        for positive in [true, false] {
            let side = if positive { &self.positive } else { &self.negative };
            let kept: Vec<f64> = side
                .iter()
                .map(|one| {
                    if one.1 == 0.0 {
                        return one.1;
                    }
                    any[usize::from(positive)] = true;
                    let bucket = if positive { self.positive_bucket(one) } else { self.negative_bucket(one) };
                    let (keep, middle) = trim.bucket(&bucket, positive);
                    count += keep;
                    sum += middle * keep;
                    changed |= keep != one.1;
                    keep
                })
                .collect();
            if positive { self.positive.counts = kept } else { self.negative.counts = kept }
        }
        if self.zero > 0.0 {
            let (keep, middle) = trim.zero(&self.zero_bucket(), any[0], any[1]);
            changed |= self.zero != keep;
            self.zero = keep;
            sum += middle * keep;
            count += keep;
        }
        if changed {
            (self.count, self.sum) = (count, sum);
            self.compact();
        }
    }
}

struct Trim {
    at: f64,
    below: bool,
    custom: bool,
}

impl Trim {
    fn bucket(&self, bucket: &Bucket, positive: bool) -> Kept {
        let (all, some) = if self.below {
            (bucket.upper <= self.at, bucket.lower < self.at)
        } else {
            (bucket.lower >= self.at, bucket.upper > self.at)
        };
        match (all, some) {
            (true, _) => (bucket.count, self.middle(bucket.lower, bucket.upper, positive)),
            (false, false) => (0.0, 0.0),
            _ if bucket.lower == f64::NEG_INFINITY => self.endless_below(bucket),
            _ if bucket.upper == f64::INFINITY => self.endless_above(bucket),
            _ => {
                let under = self.under(bucket);
                match self.below {
                    true => (under, self.middle(bucket.lower, self.at, positive)),
                    false => (bucket.count - under, self.middle(self.at, bucket.upper, positive)),
                }
            }
        }
    }

    fn under(&self, bucket: &Bucket) -> f64 {
        if self.at <= bucket.lower {
            0.0
        } else if self.at >= bucket.upper {
            bucket.count
        } else {
            bucket.count * bucket.share_below(self.at, self.custom)
        }
    }

    /// Of a bucket without a lower bound: where it reaches above zero it is taken to begin there, and else nothing is known of it.
    fn endless_below(&self, bucket: &Bucket) -> Kept {
        let (at, upper) = (self.at, bucket.upper);
        let finite = |v: f64| if v.is_infinite() { 0.0 } else { v };
        if self.below {
            if at >= upper {
                (bucket.count, 0.0)
            } else if at > 0.0 && upper > 0.0 && upper != f64::INFINITY {
                (bucket.count * at / upper, at / 2.0)
            } else if upper <= 0.0 {
                (bucket.count, at)
            } else {
                (0.0, finite(upper))
            }
        } else if at <= bucket.lower {
            (bucket.count, 0.0)
        } else if at >= 0.0 && upper > at && upper != f64::INFINITY {
            (bucket.count * (1.0 - at / upper), (at + upper) / 2.0)
        } else {
            (0.0, finite(upper))
        }
    }

    fn endless_above(&self, bucket: &Bucket) -> Kept {
        if !self.below && self.at >= bucket.lower {
            return (bucket.count, self.at);
        }
        (0.0, if bucket.lower.is_infinite() { 0.0 } else { bucket.lower })
    }

    fn zero(&self, bucket: &Bucket, has_negative: bool, has_positive: bool) -> Kept {
        let upper = if has_negative && !has_positive { 0.0 } else { bucket.upper };
        let lower = if has_positive && !has_negative { 0.0 } else { bucket.lower };
        let at = self.at;
        let all = (bucket.count, (lower + upper) / 2.0);
        if self.below {
            if at <= lower {
                return (0.0, 0.0);
            }
            if at >= upper {
                return all;
            }
            return (bucket.count * ((at - lower) / (upper - lower)), (lower + at) / 2.0);
        }
        if at <= lower {
            return all;
        }
        if at >= upper {
            return (0.0, 0.0);
        }
        (bucket.count * ((upper - at) / (upper - lower)), (at + upper) / 2.0)
    }

    /// Where the observations between two bounds are taken to lie.
    fn middle(&self, lower: f64, upper: f64, positive: bool) -> f64 {
        match (lower.is_infinite(), upper.is_infinite()) {
            (true, true) => return 0.0,
            (true, false) => return if upper > 0.0 { upper / 2.0 } else { upper },
            (false, true) => return lower,
            (false, false) => {}
        }
        if self.custom {
            return (lower + upper) / 2.0;
        }
        let middle = (lower * upper).abs().sqrt();
        if positive { middle } else { -middle }
    }
}
