//! Whether a counter histogram began anew.

use model::ResetHint;

use super::arithmetic::reduced;
use super::bounds::exponential;
use super::{FloatHistogram, Side};

impl FloatHistogram {
    /// Whether something was reset between the one before and this one: as the hint says, or where a count is less than it was, or what was counted
    /// cannot be told apart any more.
    pub fn is_reset_since(&self, before: &FloatHistogram) -> bool {
        match self.hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < before.count {
            return true;
        }
        if self.is_custom() {
            if !before.is_custom() {
                return true;
            }
            if self.custom != before.custom {
                return self.falls_between_common_bounds(before);
            }
        } else if before.is_custom() {
            // Its schema is lower than any, so that nothing here says so; its buckets cannot be compared.
            return true;
        }
        if self.schema > before.schema || self.zero_threshold < before.zero_threshold {
            return true;
        }
        let (zero, threshold) = before.zero_for(self.zero_threshold);
        if threshold != self.zero_threshold || self.zero < zero {
            return true;
        }
        self.falls(&self.positive, &before.positive, before.schema)
            || self.falls(&self.negative, &before.negative, before.schema)
    }

    /// Whether a bucket beyond the zero bucket has less than it had.
    fn falls(&self, now: &Side, before: &Side, schema: i32) -> bool {
        let brought_down;
        let before = if schema == self.schema {
            before
        } else {
            brought_down = reduced(before, schema, self.schema);
            &brought_down
        };
        if std::sync::Arc::ptr_eq(&now.indices, &before.indices) && self.zero_threshold == 0.0 {
            return now.counts.iter().zip(&before.counts).any(|(now, before)| now < before);
        }
        let mut now = now.iter().peekable();
        for (index, count) in before.iter() {
            if !self.is_custom() && self.zero_threshold > 0.0 && exponential(index, self.schema) <= self.zero_threshold
            {
                continue;
            }
            while now.next_if(|(at, _)| *at < index).is_some() {}
            let fell = match now.peek() {
                Some((at, has)) if *at == index => *has < count,
                _ => count != 0.0,
            };
            if fell {
                return true;
            }
        }
        false
    }

    /// Whether there is less between two bounds that both have.
    fn falls_between_common_bounds(&self, before: &FloatHistogram) -> bool {
        let mut sums = [self, before].map(|histogram| {
            let mut buckets = histogram.positive.iter().peekable();
            move |bound: f64| {
                let mut sum = 0.0;
                while let Some((_, count)) = buckets.next_if(|(index, _)| histogram.bound(*index) <= bound) {
                    sum += count;
                }
                sum
            }
        });
        let common = super::arithmetic::common_bounds(&self.custom, &before.custom);
        let [now, before] = &mut sums;
        common.into_iter().chain([f64::INFINITY]).any(|bound| now(bound) < before(bound))
    }
}
