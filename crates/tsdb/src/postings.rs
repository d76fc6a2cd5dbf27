//! From matchers to series: which of the numbered series of a head's shard or of a block meet all matchers.

use std::collections::BTreeSet;

use model::{MatchOp, Matcher};
use roaring::RoaringBitmap;

/// An index from labels to numbered series.
pub(crate) trait LabelIndex {
    /// Every series.
    fn all(&self) -> RoaringBitmap;
    /// The series that have this label with this value.
    fn equal(&self, name: &str, value: &str) -> RoaringBitmap;
    /// The series whose value of this label is accepted; those without the label are not.
    fn accepted(&self, name: &str, accept: &mut dyn FnMut(&str) -> bool) -> RoaringBitmap;
    /// Calls `see` with every label name.
    fn names(&self, see: &mut dyn FnMut(&str));
    /// Calls `see` with every value of a label.
    fn values(&self, name: &str, see: &mut dyn FnMut(&str));
    /// Whether one of the series has this label with this value.
    fn has_any(&self, name: &str, value: &str, of: &RoaringBitmap) -> bool {
        !self.equal(name, value).is_disjoint(of)
    }
}

/// The series that meet all matchers.
pub(crate) fn select(index: &dyn LabelIndex, matchers: &[Matcher]) -> RoaringBitmap {
    let mut found: Option<RoaringBitmap> = None;
    // Those that ask for a value first: they make the set small. A matcher that accepts the empty value also accepts
    // series without the label, of which the index knows nothing, so it is asked for those to leave out.
    for matcher in matchers.iter().filter(|m| !m.matches_empty()) {
        let ids = match matcher.op {
            MatchOp::Equal => index.equal(&matcher.name, &matcher.value),
            _ => index.accepted(&matcher.name, &mut |value| matcher.matches(value)),
        };
        let ids = found.map_or(ids.clone(), |found| found & ids);
        if ids.is_empty() {
            return ids;
        }
        found = Some(ids);
    }
    let mut found = found.unwrap_or_else(|| index.all());
    for matcher in matchers.iter().filter(|m| m.matches_empty()) {
        if found.is_empty() {
            break;
        }
        found -= match matcher.op {
            MatchOp::NotEqual => index.equal(&matcher.name, &matcher.value),
            _ => index.accepted(&matcher.name, &mut |value| !matcher.matches(value)),
        };
    }
    found
}

/// The series that meet one of the sets of matchers; all where there is no set.
pub(crate) fn select_any(index: &dyn LabelIndex, sets: &[Vec<Matcher>]) -> Option<RoaringBitmap> {
    if sets.is_empty() {
        return None;
    }
    Some(sets.iter().fold(RoaringBitmap::new(), |found, set| found | select(index, set)))
}

/// Adds the label names of the series that meet one of the sets.
pub(crate) fn add_names(index: &dyn LabelIndex, sets: &[Vec<Matcher>], into: &mut BTreeSet<String>) {
    let among = select_any(index, sets);
    index.names(&mut |name| {
        if into.contains(name) {
            return;
        }
        let used = among.as_ref().is_none_or(|ids| !index.accepted(name, &mut |_| true).is_disjoint(ids));
        if used {
            into.insert(name.to_owned());
        }
    });
}

/// Adds the values of a label over the series that meet one of the sets.
pub(crate) fn add_values(index: &dyn LabelIndex, name: &str, sets: &[Vec<Matcher>], into: &mut BTreeSet<String>) {
    let among = select_any(index, sets);
    index.values(name, &mut |value| {
        if !into.contains(value) && among.as_ref().is_none_or(|ids| index.has_any(name, value, ids)) {
            into.insert(value.to_owned());
        }
    });
}
