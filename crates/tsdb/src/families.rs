//! What clients say of metric families, and when they said it last.
//!
//! A client repeats it as long as it sends, so what was not said for as long as samples are kept is gone, unless series of the family are still there: of
//! those, what was said last stays. Both, since a storage node that has what is said of a family need not have a series of it. The price is a time
//! with each entry.

use std::collections::BTreeMap;

use model::Metadata;

/// Entries that are kept. Real installations have some thousands.
const FAMILIES_MAX: usize = 100_000;

/// It was said before there was a time with it.
pub(crate) const UNKNOWN: i64 = i64::MIN;

/// Entries with the time at which each was said last, in Unix milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Families {
    told: BTreeMap<Metadata, i64>,
    refused: u64,
}

impl Families {
    pub(crate) fn new(told: BTreeMap<Metadata, i64>) -> Self {
        Families { told, refused: 0 }
    }

    /// Notes what was said at a time.
    pub(crate) fn tell(&mut self, metadata: &Metadata, now_ms: i64) {
        if let Some(last) = self.told.get_mut(metadata) {
            *last = now_ms.max(*last);
        } else if self.told.len() < FAMILIES_MAX {
            self.told.insert(metadata.clone(), now_ms);
        } else {
            self.refused += 1;
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.told.len()
    }

    /// How often one was not kept, since there were too many.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Of one family, or of all.
    pub(crate) fn of(&self, family: Option<&str>) -> Vec<Metadata> {
        self.told.keys().filter(|m| family.is_none_or(|family| m.family == family)).cloned().collect()
    }

    /// All of them.
    pub(crate) fn told(&self) -> &BTreeMap<Metadata, i64> {
        &self.told
    }

    /// Those that were not said since the time that `floor` has for their family, each with whether something else was said of the family later.
    /// What was said at a time that is not known was said now.
    pub(crate) fn stale(&mut self, now_ms: i64, floor: impl Fn(&str) -> i64) -> Vec<(Metadata, bool)> {
        self.told.values_mut().filter(|told| **told == UNKNOWN).for_each(|told| *told = now_ms);
        let mut last: BTreeMap<&str, i64> = BTreeMap::new();
        for (metadata, told) in &self.told {
            let last = last.entry(&metadata.family).or_insert(*told);
            *last = (*last).max(*told);
        }
        let stale = self.told.iter().filter(|(metadata, told)| **told < floor(&metadata.family));
        stale.map(|(metadata, told)| (metadata.clone(), last[metadata.family.as_str()] > *told)).collect()
    }

    /// Forgets these, if they were not said since a time.
    pub(crate) fn forget(&mut self, entries: &[Metadata], floor: impl Fn(&str) -> i64) {
        for metadata in entries {
            if self.told.get(metadata).is_some_and(|told| *told < floor(&metadata.family)) {
                self.told.remove(metadata);
            }
        }
    }
}

/// What the names of a family's series end in, after the family's name.
const SUFFIXES: [&str; 9] = ["", "_total", "_bucket", "_count", "_sum", "_created", "_info", "_gcount", "_gsum"];

/// The names that series of a family may have.
pub(crate) fn names(family: &str) -> impl Iterator<Item = String> {
    SUFFIXES.iter().map(move |suffix| format!("{family}{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(family: &str, help: &str) -> Metadata {
        Metadata { family: family.into(), kind: Default::default(), help: help.into(), unit: String::new() }
    }

    #[test]
    fn what_was_not_said_for_long_is_stale_with_whether_it_was_the_last_word() {
        let mut all = Families::new(BTreeMap::from([(metadata("before", ""), UNKNOWN)]));
        for (family, help, told) in [("a", "old", 5), ("a", "new", 6), ("b", "", 20), ("b", "", 7), ("c", "", 9)] {
            all.tell(&metadata(family, help), told);
        }
        let floor = |family: &str| if family == "c" { 1 } else { 10 };
        let stale = all.stale(30, floor);
        assert_eq!(stale, [(metadata("a", "new"), false), (metadata("a", "old"), true)]);
        assert_eq!(all.told()[&metadata("before", "")], 30);
        all.tell(&metadata("a", "new"), 10);
        all.forget(&stale.into_iter().map(|(m, _)| m).collect::<Vec<_>>(), floor);
        assert_eq!(all.of(Some("a")), [metadata("a", "new")], "said meanwhile");
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn further_families_than_the_bound_are_counted_and_known_ones_still_told() {
        let mut all = Families::default();
        for n in 0..=FAMILIES_MAX {
            all.tell(&metadata(&n.to_string(), ""), 1);
        }
        all.tell(&metadata("0", ""), 2);
        assert_eq!((all.len(), all.refused()), (FAMILIES_MAX, 1));
        assert_eq!(all.told()[&metadata("0", "")], 2);
    }
}
