//! A page of postings: for each of some values of a label the series that have it.
//!
//! A value that one series has, as most of those that come and go, is the number of that series in a column. What more series have is a list beside: of few
//! the distances between them, of many a bitmap, whichever takes less.

use std::ops::RangeInclusive;

use roaring::RoaringBitmap;

use super::packed::{self, Packed, Sums};
use crate::chunk::bits::{Cursor, put_varint, varint};

/// In the first byte of a page: whether there is a list.
const LISTS: u8 = 1;
/// In the first byte of a list.
const BITMAP: u8 = 0;
const DISTANCES: u8 = 1;
/// Series of which the distances are tried.
const DISTANCES_MAX: u64 = 4096;

/// A page.
pub(super) struct Postings<'a> {
    firsts: Packed<&'a [u8]>,
    /// Bytes of the list of each value; `None` where each value has one series.
    lists: Option<(Sums<&'a [u8]>, &'a [u8])>,
}

/// The series that have a value.
pub(super) struct Posted<'a> {
    first: u32,
    /// All of them, where it is not only the first.
    list: &'a [u8],
}

/// Gathers a page.
#[derive(Default)]
pub(super) struct Builder {
    firsts: Vec<u64>,
    sizes: Vec<u64>,
    lists: Vec<u8>,
}

impl Builder {
    /// Adds a value: ranges of series, first and one after the last, in ascending order.
    pub(super) fn push(&mut self, ranges: &[(u32, u32)]) -> std::io::Result<()> {
        let count: u64 = ranges.iter().map(|(from, to)| u64::from(to - from)).sum();
        self.firsts.push(ranges.first().map_or(0, |(from, _)| u64::from(*from)));
        let before = self.lists.len();
        if count > 1 {
            let mut bitmap = RoaringBitmap::new();
            for (from, to) in ranges {
                bitmap.insert_range(*from..*to);
            }
            bitmap.optimize();
            let distances = if count <= DISTANCES_MAX { distances(ranges) } else { Vec::new() };
            if !distances.is_empty() && distances.len() <= bitmap.serialized_size() {
                self.lists.push(DISTANCES);
                self.lists.extend_from_slice(&distances);
            } else {
                self.lists.push(BITMAP);
                bitmap.serialize_into(&mut self.lists)?;
            }
        }
        self.sizes.push((self.lists.len() - before) as u64);
        Ok(())
    }

    /// Bytes of the lists up to now.
    pub(super) fn list_bytes(&self) -> usize {
        self.lists.len()
    }

    /// Appends the page, and begins the next.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        out.push(if self.lists.is_empty() { 0 } else { LISTS });
        packed::put(&self.firsts, out);
        if !self.lists.is_empty() {
            packed::put_sums(&self.sizes, out);
            out.append(&mut self.lists);
        }
        self.firsts.clear();
        self.sizes.clear();
    }
}

fn distances(ranges: &[(u32, u32)]) -> Vec<u8> {
    let (mut out, mut next) = (Vec::new(), ranges[0].0);
    for id in ranges.iter().flat_map(|(from, to)| *from..*to) {
        put_varint(&mut out, u64::from(id - next));
        next = id + 1;
    }
    out
}

impl<'a> Postings<'a> {
    /// Reads a page of so many values.
    pub(super) fn read(content: &'a [u8], count: usize) -> Result<Self, &'static str> {
        let mut cursor = Cursor { bytes: content, at: 0 };
        let kind = cursor.take(1)?[0];
        let firsts = Packed::read(&mut cursor, count)?;
        if kind != LISTS {
            let is_all = kind == 0 && cursor.at == content.len();
            return if is_all { Ok(Postings { firsts, lists: None }) } else { Err("kind of postings") };
        }
        let sizes = Sums::read(&mut cursor, count)?;
        let lists = &content[cursor.at..];
        if sizes.before(count) != lists.len() as u64 {
            return Err("sizes of postings");
        }
        Ok(Postings { firsts, lists: Some((sizes, lists)) })
    }

    /// The first of one of the values.
    pub(super) fn first(&self, at: usize) -> Result<u32, &'static str> {
        u32::try_from(self.firsts.get(at)).map_err(|_| "number of a series")
    }

    /// Those of all values, so many, in their order.
    pub(super) fn each(&self, count: usize) -> impl Iterator<Item = Result<Posted<'a>, &'static str>> {
        let mut start = 0usize;
        (0..count).map(move |at| {
            let first = self.first(at)?;
            let Some((sizes, lists)) = self.lists else { return Ok(Posted { first, list: &[] }) };
            let end = start.saturating_add(sizes.get(at) as usize);
            let list = lists.get(start..end).ok_or("place of postings")?;
            start = end;
            Ok(Posted { first, list })
        })
    }

    /// Whether one of those of a value is among these. Mostly the first one is, so that nothing is read of the others.
    pub(super) fn has_any(&self, at: usize, among: &RoaringBitmap) -> Result<bool, &'static str> {
        Ok(among.contains(self.first(at)?) || self.of(at)?.has_more(among)?)
    }

    /// Those of one of the values.
    pub(super) fn of(&self, at: usize) -> Result<Posted<'a>, &'static str> {
        let first = self.first(at)?;
        let Some((sizes, lists)) = self.lists else { return Ok(Posted { first, list: &[] }) };
        let size = sizes.get(at) as usize;
        if size == 0 {
            return Ok(Posted { first, list: &[] });
        }
        let start = sizes.before(at) as usize;
        let list = start.checked_add(size).and_then(|end| lists.get(start..end)).ok_or("place of postings")?;
        Ok(Posted { first, list })
    }
}

impl Posted<'_> {
    /// The only one.
    pub(super) fn single(&self) -> Option<u32> {
        self.list.is_empty().then_some(self.first)
    }

    pub(super) fn bitmap(&self) -> Result<RoaringBitmap, &'static str> {
        match self.list.split_first() {
            None => Ok(RoaringBitmap::from([self.first])),
            Some((&BITMAP, bytes)) => RoaringBitmap::deserialize_from(bytes).map_err(|_| "postings are no bitmap"),
            Some((&DISTANCES, bytes)) => {
                let mut out = RoaringBitmap::new();
                self.each(bytes, |id| out.try_push(id).is_ok())?;
                Ok(out)
            }
            _ => Err("kind of postings"),
        }
    }

    /// Whether one of them but the first is among these.
    fn has_more(&self, among: &RoaringBitmap) -> Result<bool, &'static str> {
        match self.list.split_first() {
            None => Ok(false),
            Some((&DISTANCES, bytes)) => {
                let mut has_one = false;
                self.each(bytes, |id| {
                    has_one = among.contains(id);
                    !has_one
                })?;
                Ok(has_one)
            }
            Some(_) => Ok(!self.bitmap()?.is_disjoint(among)),
        }
    }

    /// Calls `see` with those that are kept by distances, until it says that it has seen enough. They ascend.
    fn each(&self, distances: &[u8], mut see: impl FnMut(u32) -> bool) -> Result<(), &'static str> {
        let (mut at, mut next) = (0, u64::from(self.first));
        while at < distances.len() {
            let id = next.saturating_add(varint(distances, &mut at)?);
            if !see(u32::try_from(id).map_err(|_| "number of a series")?) {
                break;
            }
            next = id + 1;
        }
        Ok(())
    }

    /// Appends those of them that are in a range. They are put into `bitmaps` where they are many.
    pub(super) fn put(
        &self,
        range: RangeInclusive<u32>,
        out: &mut Vec<u32>,
        bitmaps: &mut Vec<RoaringBitmap>,
    ) -> Result<(), &'static str> {
        match self.list.split_first() {
            None => out.extend(Some(self.first).filter(|only| range.contains(only))),
            Some((&DISTANCES, bytes)) => self.each(bytes, |id| {
                out.extend(Some(id).filter(|id| range.contains(id)));
                id < *range.end()
            })?,
            Some(_) => bitmaps.push(self.bitmap()?),
        }
        Ok(())
    }

    /// How many of them are among these.
    pub(super) fn count_among(&self, among: &RoaringBitmap) -> Result<u64, &'static str> {
        match self.single() {
            Some(only) => Ok(u64::from(among.contains(only))),
            None => Ok(self.bitmap()?.intersection_len(among)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ranges of which the numbers are these.
    fn ranges(ids: &RoaringBitmap) -> Vec<(u32, u32)> {
        let mut out: Vec<(u32, u32)> = Vec::new();
        for id in ids {
            match out.last_mut() {
                Some((_, to)) if *to == id => *to += 1,
                _ => out.push((id, id + 1)),
            }
        }
        out
    }

    fn check(values: &[RoaringBitmap]) -> usize {
        let (mut builder, mut content) = (Builder::default(), Vec::new());
        values.iter().for_each(|ids| builder.push(&ranges(ids)).expect("writes to memory"));
        builder.finish(&mut content);
        let page = Postings::read(&content, values.len()).expect("reads");
        let among: RoaringBitmap = (0..100_000).step_by(3).collect();
        for (at, ids) in values.iter().enumerate() {
            let posted = page.of(at).expect("there");
            assert_eq!(posted.bitmap().as_ref(), Ok(ids));
            assert_eq!(posted.single(), Some(ids.min().unwrap_or(0)).filter(|_| ids.len() == 1));
            let start = ids.iter().nth(ids.len() as usize / 3).unwrap_or(0);
            let range = start..=ids.max().unwrap_or(0).saturating_sub(1).max(start);
            let (mut some, mut bitmaps) = (Vec::new(), Vec::new());
            posted.put(range.clone(), &mut some, &mut bitmaps).expect("there");
            let put: RoaringBitmap = some.into_iter().chain(bitmaps.into_iter().flatten()).collect();
            let in_range = |ids: &RoaringBitmap| ids.range(range.clone()).collect::<Vec<_>>();
            assert_eq!((in_range(&put), put.is_subset(ids)), (in_range(ids), true));
            assert_eq!(page.has_any(at, &among), Ok(!ids.is_disjoint(&among)));
            assert_eq!(posted.count_among(&among), Ok(ids.intersection_len(&among)));
        }
        let each: Vec<_> = page.each(values.len()).map(|posted| posted.and_then(|posted| posted.bitmap())).collect();
        assert_eq!(each, values.iter().cloned().map(Ok).collect::<Vec<_>>());
        content.len()
    }

    #[test]
    fn single_series_take_bits_and_lists_what_is_least() {
        let single: Vec<RoaringBitmap> = (0..1000).map(|n| RoaringBitmap::from([n * 613 % 1000])).collect();
        assert!(check(&single) < 1300);
        let few: Vec<RoaringBitmap> = (0..100).map(|n| (0..50).map(|i| n + i * 70_000).collect()).collect();
        assert!(check(&few) < 100 * 160, "{}", check(&few));
        let all: RoaringBitmap = (0..1_000_000).collect();
        assert!(check(&[all]) < 300);
        let half: RoaringBitmap = (0..100_000).filter(|n| n / 3 * 5 % 7 < 3).collect();
        assert!(check(&[half, RoaringBitmap::from([5])]) < 20_000);
    }

    proptest! {
        #[test]
        fn postings_are_read_as_they_were_put(
            values in prop::collection::vec(prop::collection::btree_set(0u32..100_000, 1..200), 1..40)
        ) {
            check(&values.into_iter().map(|ids| ids.into_iter().collect()).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), count in 0usize..20) {
            if let Ok(page) = Postings::read(&bytes, count) {
                (0..count).for_each(|at| drop(page.of(at).and_then(|posted| posted.bitmap())));
                page.each(count).for_each(|posted| drop(posted.and_then(|posted| posted.bitmap())));
            }
        }
    }
}
