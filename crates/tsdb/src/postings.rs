//! From matchers to series: which of the numbered series of a head's shard or of a block meet all matchers.

mod accept;

use std::collections::BTreeSet;

use hashbrown::HashMap;
use model::{MatchOp, Matcher, Shape};
use roaring::{MultiOps as _, RoaringBitmap};

use crate::Error;
pub(crate) use accept::Accept;

/// An index from labels to numbered series. What is read of a file can fail.
pub(crate) trait LabelIndex {
    /// Says that the series which meet these will be asked for.
    fn expect(&self, _matchers: &[Matcher]) {}
    /// Every series.
    fn all(&self) -> RoaringBitmap;
    /// The series that have this label with this value.
    fn equal(&self, name: &str, value: &str) -> Result<RoaringBitmap, Error>;
    /// The series whose value of this label is accepted; those without the label are not. Values that do not begin with `prefix` need not be tried, and
    /// series that are not `among` these may be left out.
    fn accepted(
        &self,
        name: &str,
        prefix: &str,
        accept: &mut Accept<'_>,
        among: Option<&RoaringBitmap>,
    ) -> Result<RoaringBitmap, Error>;
    /// Calls `see` with every label name.
    fn names(&self, see: &mut dyn FnMut(&str) -> Result<(), Error>) -> Result<(), Error>;
    /// Calls `see` with every value of a label, and how many of the series have it.
    fn counts(&self, name: &str, of: &RoaringBitmap, see: &mut dyn FnMut(&str, u64)) -> Result<(), Error>;
    /// Calls `see` with every value of a label that one of the series has, until it says that it has seen enough. Of those that are not `wanted` it is not
    /// looked which series have them.
    fn values(
        &self,
        name: &str,
        among: Option<&RoaringBitmap>,
        wanted: &mut dyn FnMut(&str) -> bool,
        see: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), Error>;
}

/// The series that meet all matchers.
pub(crate) fn select(index: &dyn LabelIndex, matchers: &[Matcher]) -> Result<RoaringBitmap, Error> {
    index.expect(matchers);
    let mut found: Option<RoaringBitmap> = None;
    // Those that ask for a value first: they make the set small, the sooner the more of it are found at once. A matcher that accepts the empty value also
    // accepts series without the label, of which the index knows nothing, so it is asked for those to leave out.
    let is_found_at_once = |m: &&Matcher| m.op == MatchOp::Equal || matches!(m.shape(), Some(Shape::OneOf(_)));
    let asking = || matchers.iter().filter(|m| !m.matches_empty());
    for matcher in asking().filter(is_found_at_once).chain(asking().filter(|m| !is_found_at_once(m))) {
        let ids = with(index, matcher, found.as_ref())?;
        let ids = match found {
            Some(found) => found & ids,
            None => ids,
        };
        if ids.is_empty() {
            return Ok(ids);
        }
        found = Some(ids);
    }
    let mut found = found.unwrap_or_else(|| index.all());
    for matcher in matchers.iter().filter(|m| m.matches_empty()) {
        if found.is_empty() {
            break;
        }
        let ids = without(index, matcher, &found)?;
        found -= ids;
    }
    Ok(found)
}

/// The series whose value meets a matcher that does not accept the empty one.
fn with(index: &dyn LabelIndex, matcher: &Matcher, among: Option<&RoaringBitmap>) -> Result<RoaringBitmap, Error> {
    match (matcher.op, matcher.shape()) {
        (MatchOp::Equal, _) => index.equal(&matcher.name, &matcher.value),
        (MatchOp::Regex, Some(Shape::OneOf(values))) => any_of(index, &matcher.name, values),
        (MatchOp::Regex, Some(Shape::Prefix(prefix))) => {
            index.accepted(&matcher.name, prefix, &mut Accept::met(matcher), among)
        }
        _ => index.accepted(&matcher.name, "", &mut Accept::met(matcher), among),
    }
}

/// The series whose value does not meet a matcher that accepts the empty one.
fn without(index: &dyn LabelIndex, matcher: &Matcher, among: &RoaringBitmap) -> Result<RoaringBitmap, Error> {
    match (matcher.op, matcher.shape()) {
        (MatchOp::NotEqual, _) => index.equal(&matcher.name, &matcher.value),
        (MatchOp::NotRegex, Some(Shape::OneOf(values))) => any_of(index, &matcher.name, values),
        (MatchOp::NotRegex, Some(Shape::Prefix(prefix))) => {
            index.accepted(&matcher.name, prefix, &mut Accept::not_met(matcher), Some(among))
        }
        _ => index.accepted(&matcher.name, "", &mut Accept::not_met(matcher), Some(among)),
    }
}

fn any_of(index: &dyn LabelIndex, name: &str, values: &[String]) -> Result<RoaringBitmap, Error> {
    let found = values.iter().map(|value| index.equal(name, value)).collect::<Result<Vec<_>, _>>()?;
    Ok(found.union())
}

/// The series that meet one of the sets of matchers; `None` where there is no set, which are all.
pub(crate) fn select_any(index: &dyn LabelIndex, sets: &[Vec<Matcher>]) -> Result<Option<RoaringBitmap>, Error> {
    if sets.is_empty() {
        return Ok(None);
    }
    sets.iter().try_fold(RoaringBitmap::new(), |found, set| Ok(found | select(index, set)?)).map(Some)
}

/// Adds the label names of the series that meet one of the sets.
pub(crate) fn add_names(
    index: &dyn LabelIndex,
    sets: &[Vec<Matcher>],
    into: &mut BTreeSet<String>,
) -> Result<(), Error> {
    let among = select_any(index, sets)?;
    index.names(&mut |name| {
        let mut used = into.contains(name) || among.is_none();
        if !used {
            index.values(name, among.as_ref(), &mut |_| true, &mut |_| {
                used = true;
                false
            })?;
        }
        if used && !into.contains(name) {
            into.insert(name.to_owned());
        }
        Ok(())
    })
}

/// Calls `see` with the values of a label over the series that meet one of the sets, as far as they are `wanted`: in their order, where the index has one.
pub(crate) fn each_value(
    index: &dyn LabelIndex,
    name: &str,
    sets: &[Vec<Matcher>],
    wanted: &mut dyn FnMut(&str) -> bool,
    see: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let among = select_any(index, sets)?;
    if among.as_ref().is_some_and(RoaringBitmap::is_empty) {
        return Ok(());
    }
    index.values(name, among.as_ref(), wanted, &mut |value| {
        see(value);
        true
    })
}

/// Adds how many of the series have each value of a label; without one, all of them under the empty value.
pub(crate) fn add_counts(
    index: &dyn LabelIndex,
    by: Option<&str>,
    of: &RoaringBitmap,
    into: &mut HashMap<String, u64>,
) -> Result<(), Error> {
    let mut without = of.len();
    if let Some(name) = by {
        index.counts(name, of, &mut |value, count| {
            without -= count;
            if count > 0 {
                *into.entry_ref(value).or_default() += count;
            }
        })?;
    }
    if without > 0 {
        *into.entry_ref("").or_default() += without;
    }
    Ok(())
}
