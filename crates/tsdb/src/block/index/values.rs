//! A page of values of a label, in order: each is kept as what differs from the one before it.
//!
//! They are put together when a page is read, since all that asks for them wants many or looks for one: the price is memory, which the cache bounds.

use crate::chunk::bits::{Cursor, put_varint};

/// Values in ascending order.
#[derive(Debug, Default)]
pub(crate) struct Values {
    text: String,
    ends: Vec<u32>,
    /// How many bytes each has in common with the one before it, or more than this.
    shared: Vec<u8>,
}

/// Bytes that two values begin with alike.
pub(super) fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Appends values: how much each has of the one before, how long the rest is, and the rests.
pub(super) fn put(values: &[&str], out: &mut Vec<u8>) {
    let before = std::iter::once("").chain(values.iter().copied());
    let parts: Vec<usize> = before.zip(values).map(|(before, v)| shared(before.as_bytes(), v.as_bytes())).collect();
    parts.iter().for_each(|shared| put_varint(out, *shared as u64));
    values.iter().zip(&parts).for_each(|(v, shared)| put_varint(out, (v.len() - shared) as u64));
    values.iter().zip(&parts).for_each(|(v, shared)| out.extend_from_slice(&v.as_bytes()[*shared..]));
}

impl Values {
    /// Reads so many values.
    pub(super) fn read(content: &[u8], count: usize) -> Result<Values, &'static str> {
        let mut cursor = Cursor { bytes: content, at: 0 };
        let numbers = |cursor: &mut Cursor<'_>| {
            (0..count).map(|_| cursor.number().map(|n| n as usize)).collect::<Result<Vec<usize>, _>>()
        };
        let (parts, rests) = (numbers(&mut cursor)?, numbers(&mut cursor)?);
        let mut out =
            Values { ends: Vec::with_capacity(count), shared: Vec::with_capacity(count), ..Values::default() };
        let size = parts.iter().chain(&rests).fold(0usize, |sum, n| sum.saturating_add(*n));
        // Of values that can be read; of others it is less than what they say.
        let mut text = Vec::with_capacity(size.min(content.len() * 64));
        let mut before = 0;
        for (shared, rest) in parts.into_iter().zip(rests) {
            let start = text.len();
            if shared > start - before {
                return Err("a value has more of the one before than there is");
            }
            text.extend_from_within(before..before + shared);
            text.extend_from_slice(cursor.take(rest)?);
            out.ends.push(u32::try_from(text.len()).map_err(|_| "length of values")?);
            out.shared.push(shared.min(usize::from(u8::MAX)) as u8);
            before = start;
        }
        if cursor.at != content.len() {
            return Err("bytes after the values");
        }
        out.text = String::from_utf8(text).map_err(|_| "a value is not UTF-8")?;
        if !out.ends.iter().all(|end| out.text.is_char_boundary(*end as usize)) {
            return Err("a value is not UTF-8");
        }
        if (1..count).any(|at| out.get(at - 1) >= out.get(at)) {
            return Err("values do not ascend");
        }
        Ok(out)
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// One of them; nothing beyond the last.
    pub(super) fn get(&self, at: usize) -> &str {
        let Some(end) = self.ends.get(at) else { return "" };
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start as usize..*end as usize]
    }

    /// How many bytes it has in common with the one before it, at least.
    pub(super) fn shared(&self, at: usize) -> usize {
        self.shared.get(at).map_or(0, |shared| usize::from(*shared))
    }

    /// The place of the first that is not before this one.
    pub(super) fn from(&self, value: &str) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle) < value { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The place of a value.
    pub(super) fn find(&self, value: &str) -> Option<usize> {
        Some(self.from(value)).filter(|at| *at < self.len() && self.get(*at) == value)
    }

    /// Memory that it takes.
    pub(in crate::block) fn heap_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4 + self.shared.capacity()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn check(values: &BTreeSet<String>) {
        let all: Vec<&str> = values.iter().map(String::as_str).collect();
        let mut content = Vec::new();
        put(&all, &mut content);
        let read = Values::read(&content, all.len()).expect("reads");
        assert!(all.iter().enumerate().all(|(at, v)| read.get(at) == *v && read.find(v) == Some(at)));
        assert_eq!((read.len(), read.get(all.len()), read.find("nobody has this")), (all.len(), "", None));
        for (at, pair) in all.windows(2).enumerate() {
            assert!(pair[0].as_bytes()[..read.shared(at + 1)] == pair[1].as_bytes()[..read.shared(at + 1)]);
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        check(&BTreeSet::from(["".to_owned(), "ä".to_owned(), "ö".to_owned(), "x".repeat(700), "x".repeat(701)]));
        let refused = |content: &[u8], count| Values::read(content, count).expect_err("refused");
        assert_eq!(refused(&[1, 1, b'a'], 1), "a value has more of the one before than there is");
        assert_eq!(refused(&[0, 1, 0xc3], 1), "a value is not UTF-8");
        // Together they are, one by one they are not.
        assert_eq!(refused(&[0, 0, 1, 1, 0xc3, 0xa4], 2), "a value is not UTF-8");
        assert_eq!(refused(&[0, 0, 1, 1, b'b', b'a'], 2), "values do not ascend");
        assert_eq!(refused(&[0, 1, b'a', 0], 1), "bytes after the values");
        refused(&[0, 9, b'a'], 1);
    }

    proptest! {
        #[test]
        fn values_are_read_as_they_were_put(values in prop::collection::btree_set("[a-cäé]{0,6}", 0..50)) {
            check(&values);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), count in 0usize..20) {
            let _ = Values::read(&bytes, count);
        }
    }
}
