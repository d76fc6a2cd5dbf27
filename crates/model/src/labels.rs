//! The identity of a series: a sorted set of names with values, in one allocation.
//!
//! A label set is kept as one string, its *canonical text*: for each label, in the order of the
//! names, the length of the name, the name, the length of the value, the value. A length is written
//! in base 64, least significant digit first, with bit 6 set on every digit but the last; every such
//! byte is below 0x80, so that the whole is valid UTF-8 and slicing it needs no unsafe code. The price
//! is that reading label number n walks over the n before it, which for the usual ten labels is cheaper
//! than a second allocation.
//!
//! The canonical text is what is hashed to place a series on a partition, so it never changes; a
//! golden test holds it.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A label set that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabels {
    /// A label without a name.
    #[error("label with an empty name")]
    EmptyName,
    /// The same name twice.
    #[error("duplicate label name {0:?}")]
    DuplicateName(String),
    /// No label at all, or none with a value.
    #[error("a series needs at least one label")]
    Empty,
}

/// An owned, immutable label set; cloning it copies a pointer.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

/// A borrowed label set.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LabelsRef<'a>(&'a str);

impl Labels {
    /// The empty label set.
    pub fn empty() -> Self {
        Labels(Arc::from(""))
    }

    /// Sorts the pairs by name and drops those with an empty value, which in this data model is the
    /// same as their absence.
    pub fn new<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> Result<Self, InvalidLabels> {
        let mut sorted: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
        let mut writer = LabelsWriter::default();
        Ok(writer.write(&mut sorted)?.to_labels())
    }

    /// Borrows the set.
    pub fn as_ref(&self) -> LabelsRef<'_> {
        LabelsRef(&self.0)
    }

    /// The labels in the order of their names.
    pub fn iter(&self) -> Iter<'_> {
        self.as_ref().iter()
    }

    /// The value of a label; `None` where the set does not have it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.as_ref().get(name)
    }

    /// The metric's name, or the empty string.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The canonical text; see the module's documentation.
    pub fn canonical(&self) -> &str {
        &self.0
    }

    /// Only the labels for which `keep` says so.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) -> Labels {
        let mut text = String::with_capacity(self.0.len());
        let mut pieces = self.as_ref().pieces();
        while let (Some(name), Some(value)) = (pieces.next(), pieces.next()) {
            if keep(piece_text(name)) {
                text.push_str(name);
                text.push_str(value);
            }
        }
        Labels(Arc::from(text))
    }

    /// The set without the metric's name.
    pub fn without_metric_name(&self) -> Labels {
        self.retain(|name| name != METRIC_NAME)
    }

    /// The set with one label set to a value, or removed where the value is empty.
    pub fn with(&self, name: &str, value: &str) -> Labels {
        let mut text = String::with_capacity(self.0.len() + name.len() + value.len() + 2);
        let mut done = value.is_empty();
        for (n, v) in self.iter().filter(|(n, _)| *n != name) {
            if !done && n > name {
                push_pair(&mut text, name, value);
                done = true;
            }
            push_pair(&mut text, n, v);
        }
        if !done {
            push_pair(&mut text, name, value);
        }
        Labels(Arc::from(text))
    }
}

impl<'a> LabelsRef<'a> {
    /// Takes a canonical text that was made by [`LabelsWriter`] or read from a checked record.
    ///
    /// A text that is not canonical yields labels that make no sense, never a panic.
    pub fn from_canonical(text: &'a str) -> Self {
        LabelsRef(text)
    }

    /// The canonical text; see the module's documentation.
    pub fn canonical(self) -> &'a str {
        self.0
    }

    /// The labels in the order of their names.
    pub fn iter(self) -> Iter<'a> {
        Iter { rest: self.0 }
    }

    /// The value of a label; `None` where the set does not have it.
    pub fn get(self, name: &str) -> Option<&'a str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// The pieces whose concatenation is the canonical text: name, value, name, value, each with its length before it.
    pub fn pieces(self) -> Pieces<'a> {
        Pieces { rest: self.0 }
    }

    /// The canonical texts of its labels one by one, whose concatenation is the canonical text.
    pub fn pairs(self) -> impl Iterator<Item = &'a str> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (_, after) = take(rest)?;
            let (_, after) = take(after)?;
            let (pair, after) = rest.split_at(rest.len() - after.len());
            rest = after;
            Some(pair)
        })
    }

    /// Copies the set.
    pub fn to_labels(self) -> Labels {
        Labels(Arc::from(self.0))
    }

    /// XXH3-64 of the canonical text with seed 0. Stable over versions and platforms.
    pub fn hash64(self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(self.0.as_bytes())
    }

    /// The partition of a log with `partitions` partitions that this series belongs to.
    pub fn partition(self, partitions: u32) -> u32 {
        // The high bits, scaled: no modulo bias worth a thought, and independent of the low bits
        // by which in-memory shards are chosen.
        ((u128::from(self.hash64()) * u128::from(partitions)) >> 64) as u32
    }
}

/// The labels of a set in the order of their names.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = take(self.rest)?;
        let (value, rest) = take(rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

/// The length-prefixed names and values of a canonical text, in turn.
#[derive(Debug, Clone)]
pub struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        let (_, rest) = take(self.rest)?;
        let (piece, after) = self.rest.split_at(self.rest.len() - rest.len());
        self.rest = after;
        Some(piece)
    }
}

/// Compares canonical texts by names and values, one after the other. What is the same in both is found without taking it apart, and only the piece in which they differ is
/// compared as a text: lengths stand before texts, so bytes alone say nothing of their order.
fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b, mut same) = (a, b, same_bytes(a.as_bytes(), b.as_bytes()));
    loop {
        let Some((text, rest)) = take(a) else { return if b.is_empty() { Ordering::Equal } else { Ordering::Less } };
        let size = a.len() - rest.len();
        if same < size {
            return take(b).map_or(Ordering::Greater, |(other, _)| text.cmp(other));
        }
        (a, b, same) = (rest, &b[size..], same - size);
    }
}

/// How many bytes two texts begin with that are the same.
fn same_bytes(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 32;
    let (steps, others) = (a.as_chunks::<STEP>().0, b.as_chunks::<STEP>().0);
    let whole = STEP * steps.iter().zip(others).take_while(|(a, b)| a == b).count();
    whole + a[whole..].iter().zip(&b[whole..]).take_while(|(a, b)| a == b).count()
}

/// What a piece holds, without its length.
pub fn piece_text(piece: &str) -> &str {
    take(piece).map_or("", |(text, _)| text)
}

/// What the first piece of a canonical text holds, and the text after it.
#[inline]
fn take(text: &str) -> Option<(&str, &str)> {
    let first = *text.as_bytes().first()?;
    // Nearly all lengths are one digit.
    let (at, length) = if first & 64 == 0 { (1, usize::from(first & 63)) } else { length(text.as_bytes())? };
    text.get(at..)?.split_at_checked(length)
}

/// Where the length that bytes begin with ends, and the length.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut length, mut shift) = (0usize, 0u32);
    for (at, digit) in bytes.iter().enumerate() {
        length |= usize::from(digit & 63).checked_shl(shift)?;
        shift += 6;
        if digit & 64 == 0 {
            return Some((at + 1, length));
        }
    }
    None
}

/// Appends a name or a value as a piece of a canonical text: its length, and what it is.
pub fn push_piece(text: &mut String, part: &str) {
    let mut length = part.len();
    while length >= 64 {
        text.push(char::from((length & 63) as u8 | 64));
        length >>= 6;
    }
    text.push(char::from(length as u8));
    text.push_str(part);
}

fn push_pair(text: &mut String, name: &str, value: &str) {
    push_piece(text, name);
    push_piece(text, value);
}

/// Builds canonical texts one after the other in the same buffer.
#[derive(Debug, Default)]
pub struct LabelsWriter {
    text: String,
}

impl LabelsWriter {
    /// Sorts the pairs in place and writes them, leaving out empty values. The result is valid until
    /// the next call.
    pub fn write(&mut self, pairs: &mut [(&str, &str)]) -> Result<LabelsRef<'_>, InvalidLabels> {
        if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
            pairs.sort_unstable();
        }
        self.text.clear();
        let mut before: Option<&str> = None;
        for (name, value) in pairs.iter() {
            if name.is_empty() {
                return Err(InvalidLabels::EmptyName);
            }
            if before == Some(name) {
                return Err(InvalidLabels::DuplicateName((*name).to_owned()));
            }
            before = Some(name);
            if !value.is_empty() {
                push_pair(&mut self.text, name, value);
            }
        }
        if self.text.is_empty() {
            return Err(InvalidLabels::Empty);
        }
        Ok(LabelsRef(&self.text))
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By the first name or value that differs, as Prometheus orders series.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.canonical(), other.canonical())
    }
}

/// The series in PromQL's notation: `up{job="a"}`.
impl fmt::Display for LabelsRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.get(METRIC_NAME).filter(|n| is_legacy_metric_name(n));
        f.write_str(name.unwrap_or(""))?;
        let mut rest = self.iter().filter(|(n, _)| *n != METRIC_NAME || name.is_none()).peekable();
        if rest.peek().is_none() && name.is_some() {
            return Ok(());
        }
        f.write_str("{")?;
        for (at, (n, v)) in rest.enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            if is_legacy_label_name(n) { write!(f, "{comma}{n}={v:?}")? } else { write!(f, "{comma}{n:?}={v:?}")? }
        }
        f.write_str("}")
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_ref(), f)
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for LabelsRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a metric can be written in PromQL without quotes: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_legacy_metric_name(name: &str) -> bool {
    is_name(name, |b| b == b':')
}

/// Whether a label can be written in PromQL without quotes: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_legacy_label_name(name: &str) -> bool {
    is_name(name, |_| false)
}

fn is_name(name: &str, more: impl Fn(u8) -> bool) -> bool {
    name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || more(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_is_that_of_names_and_values(
            a in proptest::collection::btree_map("[a-c]{1,2}|a{60,70}", "[a-c]{1,3}|b{60,70}[ab]", 0..6),
            b in proptest::collection::btree_map("[a-c]{1,2}|a{60,70}", "[a-c]{1,3}|b{60,70}[ab]", 0..6),
            shared in 0usize..7,
        ) {
            // Of most the first ones are the same.
            let b: std::collections::BTreeMap<_, _> = a.iter().take(shared).chain(b.iter().skip(shared)).collect();
            let labels = |pairs: Vec<(&str, &str)>| Labels::new(&pairs).unwrap_or(Labels::empty());
            let a = labels(a.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect());
            let b = labels(b.into_iter().map(|(name, value)| (name.as_str(), value.as_str())).collect());
            prop_assert_eq!(a.cmp(&b), a.iter().cmp(b.iter()));
            prop_assert_eq!(b.cmp(&a), b.iter().cmp(a.iter()));
            prop_assert_eq!(a.cmp(&a), Ordering::Equal);
        }
    }

    #[test]
    fn canonical_text_is_golden() {
        let labels = Labels::new(&[("job", "a"), ("__name__", "up"), ("long", &"x".repeat(70))]).expect("valid");
        let expect = format!("\u{8}__name__\u{2}up\u{3}job\u{1}a\u{4}long{}\u{1}{}", '\u{46}', "x".repeat(70));
        assert_eq!(labels.canonical(), expect);
        assert_eq!(labels.as_ref().hash64(), xxhash_rust::xxh3::xxh3_64(expect.as_bytes()));
    }

    #[test]
    fn hash_and_partition_are_golden() {
        let labels = Labels::new(&[("__name__", "up"), ("job", "prometheus")]).expect("valid");
        assert_eq!(labels.as_ref().hash64(), GOLDEN_HASH);
        assert_eq!(labels.as_ref().partition(4), (GOLDEN_HASH >> 62) as u32);
    }
    // Computed with another implementation of XXH3.
    const GOLDEN_HASH: u64 = 5_128_144_862_051_866_981;

    #[test]
    fn invalid_sets_are_refused() {
        assert_eq!(Labels::new(&[("", "x")]), Err(InvalidLabels::EmptyName));
        assert_eq!(Labels::new(&[("a", "1"), ("a", "2")]), Err(InvalidLabels::DuplicateName("a".into())));
        assert_eq!(Labels::new(&[("a", "")]), Err(InvalidLabels::Empty));
        assert_eq!(Labels::new::<&str, &str>(&[]), Err(InvalidLabels::Empty));
    }

    #[test]
    fn prints_as_promql() {
        let show = |pairs: &[(&str, &str)]| Labels::new(pairs).expect("valid").to_string();
        assert_eq!(show(&[("__name__", "up")]), "up");
        assert_eq!(show(&[("__name__", "up"), ("b", "2"), ("a", "1")]), r#"up{a="1", b="2"}"#);
        assert_eq!(show(&[("a", "1")]), r#"{a="1"}"#);
        assert_eq!(show(&[("__name__", "a.b"), ("c.d", "e\"f")]), r#"{__name__="a.b", "c.d"="e\"f"}"#);
        assert_eq!(Labels::empty().to_string(), "{}");
    }

    #[test]
    fn with_replaces_inserts_and_removes() {
        let labels = Labels::new(&[("b", "1"), ("d", "2")]).expect("valid");
        assert_eq!(labels.with("b", "9").to_string(), r#"{b="9", d="2"}"#);
        assert_eq!(labels.with("a", "0").to_string(), r#"{a="0", b="1", d="2"}"#);
        assert_eq!(labels.with("e", "3").to_string(), r#"{b="1", d="2", e="3"}"#);
        assert_eq!(labels.with("b", "").to_string(), r#"{d="2"}"#);
    }

    proptest! {
        #[test]
        fn pairs_survive_canonical_text(pairs in prop::collection::btree_map(".{1,200}", ".{1,5000}", 1..6)) {
            let given: Vec<(String, String)> = pairs.into_iter().collect();
            let labels = Labels::new(&given).expect("unique names, no empty values");
            let read: Vec<(String, String)> = labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(read, given);
            let pieces: Vec<&str> = labels.as_ref().pieces().collect();
            prop_assert_eq!(pieces.concat(), labels.canonical());
            let pairs: Vec<&str> = labels.as_ref().pairs().collect();
            prop_assert_eq!(pairs.concat(), labels.canonical());
            prop_assert_eq!(pairs.len(), labels.iter().count());
            prop_assert_eq!(piece_text(pieces[0]), labels.iter().next().map_or("", |(name, _)| name));
        }

        #[test]
        fn arbitrary_text_is_read_without_a_panic(text in ".{0,64}") {
            let _ = LabelsRef::from_canonical(&text).iter().count();
        }
    }
}
