//! Whether a histogram can be one: the checks of Prometheus, and bounds of our own.

use super::{BUCKETS_MAX, Buckets, CUSTOM_BUCKETS_SCHEMA, Counts, EXPONENTIAL_SCHEMAS, Histogram, Layout, Span};

/// Why a histogram cannot be one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidHistogram {
    /// A schema that is not known.
    #[error("schema {0} is neither from -4 to 8 nor -53")]
    Schema(i32),
    /// More buckets, spans or bounds than are taken.
    #[error("{0} {1}, at most {BUCKETS_MAX} are taken")]
    TooMany(usize, &'static str),
    /// Spans that overlap, or that leave the range of indices.
    #[error("{0} span {1} has the offset {2}")]
    Offset(&'static str, usize, i32),
    /// Spans tell of other buckets than there are.
    #[error("{0} spans are of {1} buckets, and there are {2}")]
    Spans(&'static str, usize, usize),
    /// A bucket, the zero bucket or the count is negative.
    #[error("{0} is negative")]
    Negative(&'static str),
    /// The count is not that of the buckets.
    #[error("count is {0}, and the buckets have {1}")]
    Count(u64, u64),
    /// Custom bounds that do not ascend, are not finite, or are too few.
    #[error("custom bounds {0}")]
    Bounds(&'static str),
    /// A part that its schema does not have.
    #[error("{0} with a schema that has none")]
    Alien(&'static str),
}

impl Histogram {
    /// Checks that its parts agree with each other: spans with buckets, buckets with the count, bounds with the schema.
    ///
    /// A count may exceed that of the buckets where the sum is not a number, since such observations are in no bucket. Of float counts it is not
    /// compared, as sums of floats are not exact.
    pub fn validate(&self) -> Result<(), InvalidHistogram> {
        match &self.counts {
            Counts::Integer(counts) => {
                self.layout.check(counts.positive.len(), counts.negative.len(), counts.zero == 0)?;
                check_count(counts, self.sum.is_nan())
            }
            Counts::Float(counts) => {
                self.layout.check(counts.positive.len(), counts.negative.len(), counts.zero == 0.0)?;
                let negative = |counts: &[f64]| counts.iter().any(|count| *count < 0.0);
                match () {
                    () if negative(&counts.positive) => Err(InvalidHistogram::Negative("a positive bucket's count")),
                    () if negative(&counts.negative) => Err(InvalidHistogram::Negative("a negative bucket's count")),
                    () if counts.zero < 0.0 => Err(InvalidHistogram::Negative("the zero bucket's count")),
                    () if counts.count < 0.0 => Err(InvalidHistogram::Negative("the count")),
                    () => Ok(()),
                }
            }
        }
    }
}

impl Layout {
    fn check(&self, positive: usize, negative: usize, zero_is_empty: bool) -> Result<(), InvalidHistogram> {
        let parts = [
            (self.positive.len().max(self.negative.len()), "spans"),
            (positive.max(negative), "buckets"),
            (self.custom_values.len(), "custom bounds"),
        ];
        if let Some((n, what)) = parts.into_iter().find(|(n, _)| *n > BUCKETS_MAX) {
            return Err(InvalidHistogram::TooMany(n, what));
        }
        check_spans(&self.positive, positive, "positive")?;
        check_spans(&self.negative, negative, "negative")?;
        if EXPONENTIAL_SCHEMAS.contains(&self.schema) {
            return match self.custom_values.is_empty() {
                true => Ok(()),
                false => Err(InvalidHistogram::Alien("custom bounds")),
            };
        }
        if self.schema != CUSTOM_BUCKETS_SCHEMA {
            return Err(InvalidHistogram::Schema(self.schema));
        }
        self.check_custom()?;
        match () {
            () if !zero_is_empty => Err(InvalidHistogram::Alien("a count of zeros")),
            () if self.zero_threshold != 0.0 => Err(InvalidHistogram::Alien("a zero threshold")),
            () if !self.negative.is_empty() => Err(InvalidHistogram::Alien("negative spans")),
            () => Ok(()),
        }
    }

    fn check_custom(&self) -> Result<(), InvalidHistogram> {
        let bounds = &self.custom_values;
        if bounds.iter().any(|bound| bound.is_nan()) {
            return Err(InvalidHistogram::Bounds("must be numbers"));
        }
        if !bounds.is_sorted_by(|a, b| a < b) {
            return Err(InvalidHistogram::Bounds("must ascend"));
        }
        if bounds.last() == Some(&f64::INFINITY) {
            return Err(InvalidHistogram::Bounds("must not end with infinity"));
        }
        if let Some(first) = self.positive.first().filter(|first| first.offset < 0) {
            return Err(InvalidHistogram::Offset("positive", 1, first.offset));
        }
        let reach: i64 = self.positive.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum();
        match reach > bounds.len() as i64 + 1 {
            true => Err(InvalidHistogram::Bounds("are fewer than the spans reach")),
            false => Ok(()),
        }
    }
}

fn check_spans(spans: &[Span], buckets: usize, sign: &'static str) -> Result<(), InvalidHistogram> {
    let (mut told, mut index) = (0usize, 0i64);
    for (n, span) in spans.iter().enumerate() {
        // Bucket indices are 32 bits for whoever reads them.
        index += i64::from(span.offset) + i64::from(span.length);
        if (n > 0 && span.offset < 0) || index > i64::from(i32::MAX) {
            return Err(InvalidHistogram::Offset(sign, n + 1, span.offset));
        }
        told = told.saturating_add(span.length as usize);
    }
    if told == buckets { Ok(()) } else { Err(InvalidHistogram::Spans(sign, told, buckets)) }
}

fn check_count(counts: &Buckets<u64>, may_exceed: bool) -> Result<(), InvalidHistogram> {
    let all = counts.positive.iter().chain(&counts.negative);
    let sum = all.fold(counts.zero, |sum, count| sum.saturating_add(*count));
    let agrees = if may_exceed { sum <= counts.count } else { sum == counts.count };
    if agrees { Ok(()) } else { Err(InvalidHistogram::Count(counts.count, sum)) }
}
