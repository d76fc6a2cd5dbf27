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

/// A number with the fewest digits that read back as the same, as Go writes it and so clients write the bounds of buckets: `0.005`, `1e+06`, `+Inf`.
pub(super) fn shortest(v: f64) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{v:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // Go goes by six digits here, however many there are.
    if (-4..6).contains(&exponent) {
        return v.to_string();
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_go_writes_them() {
        for (v, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (0.005, "0.005"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (2.5, "2.5"),
            (100_000.0, "100000"),
            (123_456.5, "123456.5"),
            (1_000_000.0, "1e+06"),
            (-1_234_567.0, "-1.234567e+06"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(shortest(v), text);
        }
    }
}
