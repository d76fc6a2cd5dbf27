//! How many series there are, and which labels they have.

use std::collections::{BTreeMap, HashMap};

use crate::{Cancel, LabelsRef, Matcher, TimeRange};

/// Asks how many series meet the request, and how many of them have each value of each label.
#[derive(Debug, Clone)]
pub struct CardinalityRequest {
    /// A series counts if it meets all matchers of one of these sets; none at all means every series.
    pub matcher_sets: Vec<Vec<Matcher>>,
    /// Only series that may have a sample here.
    pub range: TimeRange,
    /// How series are counted apart.
    pub classes: Classes,
    /// More series than this are an error of kind [`crate::Kind::Invalid`] that says so.
    pub series_max: usize,
    /// Looked at while the answer is made.
    pub cancel: Cancel,
}

/// Counts series apart by the partition of the log that they are of, so that what several have copies of is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classes {
    /// Partitions of the log.
    pub partitions: u32,
    /// The class of a series is the remainder of its partition by this.
    pub modulus: u32,
}

/// What was counted: each series once, wherever it has samples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// By class; a class without a series need not be there.
    pub tallies: BTreeMap<u32, Tally>,
    /// First and last time of what was looked through; `None` where there was nothing.
    pub range: Option<TimeRange>,
    /// As in [`crate::SeriesSet::warnings`].
    pub warnings: Vec<String>,
}

/// The series of a class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub series: u64,
    /// Chunks that they have, those that are being filled included.
    pub chunks: u64,
    /// For each label name and each of its values how many have it.
    pub labels: BTreeMap<String, HashMap<String, u64>>,
}

impl Classes {
    /// All series are of class 0.
    pub const ONE: Classes = Classes { partitions: 1, modulus: 1 };

    /// The class of a series.
    pub fn of(self, labels: LabelsRef<'_>) -> u32 {
        if self.modulus <= 1 { 0 } else { labels.partition(self.partitions) % self.modulus }
    }
}

impl Tally {
    /// Counts a series; returns how many bytes of text are new.
    pub fn add(&mut self, labels: LabelsRef<'_>) -> usize {
        self.series += 1;
        labels.iter().map(|(name, value)| self.add_pair(name, value, 1)).sum()
    }

    /// Counts series that have a label with a value; returns how many bytes of text are new.
    pub fn add_pair(&mut self, name: &str, value: &str, series: u64) -> usize {
        let mut grown = 0;
        if !self.labels.contains_key(name) {
            grown += name.len();
            self.labels.insert(name.to_owned(), HashMap::new());
        }
        let Some(values) = self.labels.get_mut(name) else { return grown };
        match values.get_mut(value) {
            Some(count) => *count += series,
            None => {
                grown += value.len() + PAIR_BYTES;
                values.insert(value.to_owned(), series);
            }
        }
        grown
    }

    /// Adds the series of another one, none of which is in this one.
    pub fn merge(&mut self, other: Tally) {
        self.series += other.series;
        self.chunks += other.chunks;
        for (name, values) in other.labels {
            match self.labels.get_mut(&name) {
                Some(own) => values.into_iter().for_each(|(value, series)| *own.entry(value).or_default() += series),
                None => drop(self.labels.insert(name, values)),
            }
        }
    }
}

impl Cardinality {
    /// Widens the range of what was looked through.
    pub fn widen(&mut self, range: TimeRange) {
        self.range = Some(self.range.map_or(range, |own| TimeRange {
            start_ms: own.start_ms.min(range.start_ms),
            end_ms: own.end_ms.max(range.end_ms),
        }));
    }
}

/// What a value costs beside its text: its entry in a table that is between half and all full, and an allocation.
const PAIR_BYTES: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;

    #[test]
    fn series_are_counted_by_their_labels_and_tallies_add_up() {
        let labels = |host: &str| Labels::new(&[("__name__", "up"), ("host", host)]).expect("valid");
        let (mut one, mut other) = (Tally::default(), Tally::default());
        let first = one.add(labels("a").as_ref());
        assert_eq!(first, "__name__".len() + "up".len() + "host".len() + "a".len() + 2 * PAIR_BYTES);
        assert_eq!(one.add(labels("b").as_ref()), "b".len() + PAIR_BYTES);
        other.add(labels("b").as_ref());
        other.chunks = 3;
        one.merge(other);
        one.merge(Tally::default());
        assert_eq!((one.series, one.chunks), (3, 3));
        assert_eq!(one.labels["__name__"], HashMap::from([("up".to_owned(), 3)]));
        assert_eq!(one.labels["host"], HashMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]));
    }

    #[test]
    fn classes_are_those_of_the_partitions() {
        let classes = Classes { partitions: 12, modulus: 3 };
        let mut seen = [0; 3];
        for n in 0..200 {
            let labels = Labels::new(&[("n", n.to_string())]).expect("valid");
            assert_eq!(Classes::ONE.of(labels.as_ref()), 0);
            assert_eq!(classes.of(labels.as_ref()), labels.as_ref().partition(12) % 3);
            seen[classes.of(labels.as_ref()) as usize] += 1;
        }
        assert!(seen.iter().all(|n| *n > 20), "{seen:?}");
    }
}
