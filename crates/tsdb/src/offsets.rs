//! What of the log a block was written from, so that it can be written again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Partitions with the offsets of their records. Nothing at all means that it is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offsets(BTreeMap<u32, Vec<Range<i64>>>);

impl Offsets {
    /// Whether they are known.
    pub(crate) fn is_known(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether there are some of any of these partitions.
    pub(crate) fn has_any(&self, partitions: &BTreeSet<u32>) -> bool {
        partitions.iter().any(|partition| self.0.contains_key(partition))
    }

    /// Adds the offsets of a partition.
    pub(crate) fn add(&mut self, partition: u32, offsets: Range<i64>) {
        let ranges = self.0.entry(partition).or_default();
        ranges.push(offsets);
        ranges.sort_unstable_by_key(|range| range.start);
        let mut joined: Vec<Range<i64>> = Vec::with_capacity(ranges.len());
        for range in ranges.drain(..) {
            match joined.last_mut().filter(|last| range.start <= last.end) {
                Some(last) => last.end = last.end.max(range.end),
                None => joined.push(range),
            }
        }
        *ranges = joined;
    }

    /// Those of both; if one is not known it is not known.
    pub(crate) fn union(&self, other: &Offsets) -> Offsets {
        if !self.is_known() || !other.is_known() {
            return Offsets::default();
        }
        let mut out = self.clone();
        other.iter().for_each(|(partition, range)| out.add(partition, range));
        out
    }

    /// Partition after partition, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, Range<i64>)> {
        self.0.iter().flat_map(|(partition, ranges)| ranges.iter().map(|range| (*partition, range.clone())))
    }

    /// Words of the manifest: partition, first offset, and the one after the last.
    pub(crate) fn parse(words: &[&str]) -> Option<Offsets> {
        let mut out = Offsets::default();
        for word in words {
            let (partition, range) = word.split_once(':')?;
            let (start, end) = range.split_once("..")?;
            out.add(partition.parse().ok()?, start.parse().ok()?..end.parse().ok()?);
        }
        Some(out)
    }
}

impl std::fmt::Display for Offsets {
    /// Each word with a space before it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.iter().try_for_each(|(partition, range)| write!(f, " {partition}:{}..{}", range.start, range.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(text: &str) -> Offsets {
        Offsets::parse(&text.split_whitespace().collect::<Vec<_>>()).expect("valid")
    }

    #[test]
    fn what_adjoins_or_overlaps_is_joined_and_gaps_stay() {
        let check = |a: &str, b: &str, expect: &str| {
            assert_eq!(offsets(a).union(&offsets(b)).to_string().trim_start(), expect, "{a} and {b}");
            assert_eq!(offsets(b).union(&offsets(a)), offsets(a).union(&offsets(b)));
        };
        check("0:0..10", "0:10..20", "0:0..20");
        check("0:0..10", "0:11..20", "0:0..10 0:11..20");
        check("0:0..10 0:15..20", "0:5..15 1:7..8", "0:0..20 1:7..8");
        check("0:0..10", "", "");
        for wrong in ["0", "0:1", "a:1..2", "0:1..", "0:1..2x"] {
            assert_eq!(Offsets::parse(&[wrong]), None, "{wrong}");
        }
    }
}
