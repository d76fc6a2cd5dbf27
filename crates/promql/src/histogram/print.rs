//! A histogram as text, as Prometheus prints it in labels that `count_values` makes.

use std::fmt;

use super::{Bucket, FloatHistogram};
use crate::eval::format::general;

impl fmt::Display for FloatHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", general(self.count), general(self.sum))?;
        let negative = self.negative.iter().rev().map(|bucket| self.negative_bucket(bucket));
        let zero = (self.zero != 0.0).then(|| self.zero_bucket());
        let positive = self.positive.iter().map(|bucket| self.positive_bucket(bucket));
        for bucket in negative.chain(zero).chain(positive).filter(|bucket| bucket.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        write!(f, "{open}{},{}{close}:{}", general(self.lower), general(self.upper), general(self.count))
    }
}
