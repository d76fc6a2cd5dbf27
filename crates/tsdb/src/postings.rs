//! From matchers to series: which of the numbered series of a head's shard or of a block meet all matchers.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use model::{MatchOp, Matcher, Shape};
use roaring::{MultiOps as _, RoaringBitmap};

/// An index from labels to numbered series.
pub(crate) trait LabelIndex {
    /// Every series.
    fn all(&self) -> RoaringBitmap;
    /// The series that have this label with this value.
    fn equal(&self, name: &str, value: &str) -> RoaringBitmap;
    /// The series whose value of this label is accepted; those without the label are not. Values that do not begin with `prefix` need not be tried.
    fn accepted(&self, name: &str, prefix: &str, accept: &mut dyn FnMut(&str) -> bool) -> RoaringBitmap;
    /// Calls `see` with every label name.
    fn names(&self, see: &mut dyn FnMut(&str));
    /// Calls `see` with every value of a label, and how many of the series have it.
    fn counts(&self, name: &str, of: &RoaringBitmap, see: &mut dyn FnMut(&str, u64));
    /// Calls `see` with every value of a label that one of the series has, until it says that it has seen enough.
    fn values(&self, name: &str, among: Option<&RoaringBitmap>, see: &mut dyn FnMut(&str) -> bool);
}

/// The series that meet all matchers.
pub(crate) fn select(index: &dyn LabelIndex, matchers: &[Matcher]) -> RoaringBitmap {
    let mut found: Option<RoaringBitmap> = None;
    // Those that ask for a value first: they make the set small. A matcher that accepts the empty value also accepts
    // series without the label, of which the index knows nothing, so it is asked for those to leave out.
    for matcher in matchers.iter().filter(|m| !m.matches_empty()) {
        let ids = with(index, matcher);
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
        found -= without(index, matcher);
    }
    found
}

/// The series whose value meets a matcher that does not accept the empty one.
fn with(index: &dyn LabelIndex, matcher: &Matcher) -> RoaringBitmap {
    let name = &matcher.name;
    match (matcher.op, matcher.shape()) {
        (MatchOp::Equal, _) => index.equal(name, &matcher.value),
        (MatchOp::Regex, Some(Shape::OneOf(values))) => any_of(index, name, values),
        (MatchOp::Regex, Some(Shape::Prefix(prefix))) => index.accepted(name, prefix, &mut |v| matcher.matches(v)),
        _ => index.accepted(name, "", &mut |value| matcher.matches(value)),
    }
}

/// The series whose value does not meet a matcher that accepts the empty one.
fn without(index: &dyn LabelIndex, matcher: &Matcher) -> RoaringBitmap {
    let name = &matcher.name;
    match (matcher.op, matcher.shape()) {
        (MatchOp::NotEqual, _) => index.equal(name, &matcher.value),
        (MatchOp::NotRegex, Some(Shape::OneOf(values))) => any_of(index, name, values),
        (MatchOp::NotRegex, Some(Shape::Prefix(prefix))) => index.accepted(name, prefix, &mut |v| !matcher.matches(v)),
        _ => index.accepted(name, "", &mut |value| !matcher.matches(value)),
    }
}

fn any_of(index: &dyn LabelIndex, name: &str, values: &[String]) -> RoaringBitmap {
    values.iter().map(|value| index.equal(name, value)).union()
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
        let mut used = into.contains(name) || among.is_none();
        if !used {
            index.values(name, among.as_ref(), &mut |_| {
                used = true;
                false
            });
        }
        if used && !into.contains(name) {
            into.insert(name.to_owned());
        }
    });
}

/// Calls `see` with the values of a label over the series that meet one of the sets.
pub(crate) fn each_value(index: &dyn LabelIndex, name: &str, sets: &[Vec<Matcher>], see: &mut dyn FnMut(&str)) {
    let among = select_any(index, sets);
    if among.as_ref().is_some_and(RoaringBitmap::is_empty) {
        return;
    }
    index.values(name, among.as_ref(), &mut |value| {
        see(value);
        true
    });
}

/// Adds how many of the series have each value of a label; without one, all of them under the empty value.
pub(crate) fn add_counts(
    index: &dyn LabelIndex,
    by: Option<&str>,
    of: &RoaringBitmap,
    into: &mut HashMap<String, u64>,
) {
    let mut without = of.len();
    if let Some(name) = by {
        index.counts(name, of, &mut |value, count| {
            without -= count;
            if count > 0 {
                *into.entry_ref(value).or_default() += count;
            }
        });
    }
    if without > 0 {
        *into.entry_ref("").or_default() += without;
    }
}
