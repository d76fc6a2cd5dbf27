//! A histogram as text: as Prometheus prints it in labels that `count_values` makes, and as tests write it.

use std::fmt;

use model::ResetHint;

use super::{Bucket, FloatHistogram, Side};
use crate::eval::format::general;

/// Buckets without observations that are written between others; beyond it the rest is written as buckets of its own, which nothing reads.
const GAP_MAX: i64 = 16 << 10;

impl FloatHistogram {
    /// As tests of rules write it, `{{count:2 sum:3 buckets:[1 1]}}`: equal histograms give equal texts. Buckets at the ends that are empty are left out.
    pub fn notation(&self) -> String {
        let mut parts = Vec::new();
        if self.schema != 0 {
            parts.push(format!("schema:{}", self.schema));
        }
        let numbers = [self.count, self.sum, self.zero, self.zero_threshold];
        for (name, value) in ["count", "sum", "z_bucket", "z_bucket_w"].into_iter().zip(numbers) {
            if value != 0.0 {
                parts.push(format!("{name}:{}", general(value)));
            }
        }
        if self.is_custom() {
            parts.push(format!("custom_values:[{}]", numbers_of(self.custom.iter().copied())));
        }
        match self.hint {
            ResetHint::Unknown => {}
            ResetHint::Reset => parts.push("counter_reset_hint:reset".to_owned()),
            ResetHint::NotReset => parts.push("counter_reset_hint:not_reset".to_owned()),
            ResetHint::Gauge => parts.push("counter_reset_hint:gauge".to_owned()),
        }
        for (side, offset, buckets) in
            [(&self.positive, "offset", "buckets"), (&self.negative, "n_offset", "n_buckets")]
        {
            for (first, counts) in runs(side) {
                if first != 0 {
                    parts.push(format!("{offset}:{first}"));
                }
                parts.push(format!("{buckets}:[{}]", numbers_of(counts.into_iter())));
            }
        }
        format!("{{{{{}}}}}", parts.join(" "))
    }
}

fn numbers_of(numbers: impl Iterator<Item = f64>) -> String {
    numbers.map(general).collect::<Vec<String>>().join(" ")
}

/// The buckets from the first one with observations to the last, those without between them as well.
fn runs(side: &Side) -> Vec<(i32, Vec<f64>)> {
    let mut runs: Vec<(i32, Vec<f64>)> = Vec::new();
    for (index, count) in side.iter().filter(|(_, count)| *count != 0.0) {
        match runs.last_mut() {
            Some((first, counts)) if i64::from(index) - i64::from(*first) - counts.len() as i64 <= GAP_MAX => {
                counts.resize((i64::from(index) - i64::from(*first)) as usize, 0.0);
                counts.push(count);
            }
            _ => runs.push((index, vec![count])),
        }
    }
    runs
}

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
