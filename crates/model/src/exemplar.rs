//! One observation behind a series, kept as an example: mostly the trace of the request that it was made for.

use std::cmp::Ordering;

use crate::{Cancel, InvalidLabels, Labels, Matcher, TimeRange};

/// Characters of the names and values of an exemplar's labels together, as OpenMetrics has it.
pub const EXEMPLAR_CHARS_MAX: usize = 128;

/// A value at a time with labels of its own. The order is that of time, then value, then labels; equality is that of the bits.
#[derive(Debug, Clone)]
pub struct Exemplar {
    /// Milliseconds since the Unix epoch.
    pub t: i64,
    /// The value that was observed; any bit pattern.
    pub v: f64,
    /// What tells where it was observed; may be empty.
    pub labels: Labels,
}

/// Why something is no exemplar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExemplar {
    /// Its labels are not a set.
    #[error("{0}")]
    Labels(#[from] InvalidLabels),
    /// They have more characters than are taken.
    #[error("labels of {0} characters, at most {EXEMPLAR_CHARS_MAX} are taken")]
    TooLong(usize),
}

impl Exemplar {
    /// Makes one of labels in any order, of which those without a value are left out.
    pub fn new(t: i64, v: f64, pairs: &[(&str, &str)]) -> Result<Self, InvalidExemplar> {
        let labels = match Labels::new(pairs) {
            // A series needs one, an exemplar does not.
            Err(InvalidLabels::Empty) => Labels::empty(),
            labels => labels?,
        };
        let chars: usize = labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        if chars > EXEMPLAR_CHARS_MAX { Err(InvalidExemplar::TooLong(chars)) } else { Ok(Exemplar { t, v, labels }) }
    }
}

impl Ord for Exemplar {
    fn cmp(&self, other: &Self) -> Ordering {
        let rest = || self.v.total_cmp(&other.v).then_with(|| self.labels.cmp(&other.labels));
        self.t.cmp(&other.t).then_with(rest)
    }
}

impl PartialOrd for Exemplar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Exemplar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Exemplar {}

/// Asks for the exemplars of the series that meet all matchers of one of the sets.
#[derive(Debug, Clone)]
pub struct ExemplarsRequest {
    /// One of them must be met; none at all finds nothing.
    pub matcher_sets: Vec<Vec<Matcher>>,
    /// Of the exemplars wanted.
    pub range: TimeRange,
    /// More exemplars than this are an error of kind [`crate::Kind::Invalid`] that says so.
    pub exemplars_max: usize,
    /// Looked at while the answer is made.
    pub cancel: Cancel,
}

impl ExemplarsRequest {
    /// Whether the exemplars of a series are asked for.
    pub fn is_of(&self, series: &Labels) -> bool {
        let meets = |m: &Matcher| m.matches(series.get(&m.name).unwrap_or(""));
        self.matcher_sets.iter().any(|set| set.iter().all(meets))
    }
}

/// The exemplars of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesExemplars {
    /// Its labels.
    pub series: Labels,
    /// In their order, each once; at least one.
    pub exemplars: Vec<Exemplar>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_bounded_by_their_characters() {
        let labels = |pairs: &[(&str, &str)]| Exemplar::new(1, 0.5, pairs).map(|e| e.labels.to_string());
        assert_eq!(labels(&[]), Ok("{}".to_owned()));
        assert_eq!(labels(&[("empty", "")]), Ok("{}".to_owned()));
        assert_eq!(labels(&[("b", "1"), ("a", "2")]), Ok("{a=\"2\", b=\"1\"}".to_owned()));
        assert!(labels(&[("t", &"é".repeat(127))]).is_ok(), "characters and not bytes");
        let error = labels(&[("t", &"é".repeat(128))]).expect_err("one too many");
        assert_eq!(error.to_string(), "labels of 129 characters, at most 128 are taken");
        assert_eq!(labels(&[("t", "1"), ("t", "2")]).expect_err("twice").to_string(), "duplicate label name \"t\"");
        assert_eq!(labels(&[("", "1")]).expect_err("no name").to_string(), "label with an empty name");
    }

    #[test]
    fn order_is_that_of_time_value_and_labels_and_nan_is_equal_to_itself() {
        let of = |t, v, label: &str| Exemplar::new(t, v, &[("t", label)]).expect("valid");
        let ordered = [of(1, 9.0, "z"), of(2, -0.0, "a"), of(2, 0.0, "a"), of(2, 0.0, "b"), of(2, f64::NAN, "a")];
        assert!(ordered.is_sorted_by(|a, b| a < b));
        assert_eq!(ordered[4], ordered[4].clone());
    }
}
