//! The top of an index, which is all that lies in memory as long as a block is open: where the pages are, and enough of each to know which to read.

use super::group::GROUP;
use crate::block::{ChunkRef, Last, Place};
use crate::chunk::bits::{Cursor, put_varint, unzigzag, zigzag};

/// What is known together of the last samples of [`GROUP`] series in a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Newest {
    /// The first and the last of the times of their last samples.
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    /// Whether each of these is a float, and no stale marker.
    pub(crate) live: bool,
}

impl Newest {
    /// Adds what the last chunk of a series tells; series come one after the other.
    pub(crate) fn add(all: &mut Vec<Newest>, id: u32, last: &ChunkRef) {
        let live = matches!(last.last, Last::Float | Last::Aggregate);
        let own = Newest { first_ms: last.range.end_ms, last_ms: last.range.end_ms, live };
        match all.last_mut().filter(|_| !(id as usize).is_multiple_of(GROUP)) {
            Some(newest) => {
                newest.first_ms = newest.first_ms.min(own.first_ms);
                newest.last_ms = newest.last_ms.max(own.last_ms);
                newest.live &= own.live;
            }
            None => all.push(own),
        }
    }
}

/// The top.
#[derive(Debug, Default)]
pub(super) struct Top {
    pub(super) series: u32,
    pub(super) groups: Vec<Group>,
    pub(super) newest: Vec<Newest>,
    /// In the order of the names.
    pub(super) names: Vec<Name>,
}

/// Where the pages of some series are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) labels: Place,
    pub(super) chunks: Place,
}

/// A label name.
#[derive(Debug, Default)]
pub(super) struct Name {
    pub(super) name: String,
    /// The name as a piece of a canonical text.
    pub(super) piece: String,
    pub(super) values: u32,
    pub(super) pages: Vec<NamePage>,
    /// What tells each page from the one before, one behind the other: no value of it is less, and all of those before it are.
    firsts: Vec<u8>,
}

/// Where some values of a label are, and their postings.
#[derive(Debug, Clone, Copy)]
pub(super) struct NamePage {
    /// Number of the first value.
    pub(super) first: u32,
    /// End of what tells it from the page before.
    first_end: u32,
    pub(super) values: Place,
    pub(super) postings: Place,
}

impl Name {
    pub(super) fn new(name: String) -> Name {
        let mut piece = String::new();
        model::push_piece(&mut piece, &name);
        Name { name, piece, ..Name::default() }
    }

    /// Adds a page of so many values.
    pub(super) fn push(&mut self, first: &[u8], count: u32, values: Place, postings: Place) {
        self.firsts.extend_from_slice(first);
        self.pages.push(NamePage { first: self.values, first_end: self.firsts.len() as u32, values, postings });
        self.values += count;
    }

    /// The number of values of a page.
    pub(super) fn count(&self, page: usize) -> usize {
        let end = self.pages.get(page + 1).map_or(self.values, |next| next.first);
        self.pages.get(page).map_or(0, |page| (end - page.first) as usize)
    }

    /// The page that has a value, if one has it.
    pub(super) fn page_of(&self, value: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.pages.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.first(middle) <= value { low = middle + 1 } else { high = middle }
        }
        low.saturating_sub(1)
    }

    /// The page that has the value of a number.
    pub(super) fn page_of_number(&self, number: u32) -> usize {
        self.pages.partition_point(|page| page.first <= number).saturating_sub(1)
    }

    fn first(&self, page: usize) -> &[u8] {
        let start = if page == 0 { 0 } else { self.pages[page - 1].first_end };
        &self.firsts[start as usize..self.pages[page].first_end as usize]
    }
}

impl Top {
    /// Appends it. Pages lie from `at` on: those of the groups first.
    pub(super) fn put(&self, at: u64, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.series));
        let mut before = 0i64;
        for (group, newest) in self.groups.iter().zip(&self.newest) {
            put_varint(out, u64::from(group.labels.bytes));
            put_varint(out, u64::from(group.chunks.bytes));
            put_varint(out, zigzag(newest.first_ms.wrapping_sub(before)));
            let span = newest.last_ms.wrapping_sub(newest.first_ms) as u64;
            put_varint(out, span << 1 | u64::from(!newest.live));
            before = newest.first_ms;
        }
        put_varint(out, self.names.len() as u64);
        for name in &self.names {
            put_varint(out, name.name.len() as u64);
            out.extend_from_slice(name.name.as_bytes());
            put_varint(out, name.pages.first().map_or(0, |page| page.values.at - at));
            put_varint(out, name.pages.len() as u64);
            for (n, page) in name.pages.iter().enumerate() {
                put_varint(out, name.count(n) as u64);
                let (first, before) = (name.first(n), if n == 0 { &[][..] } else { name.first(n - 1) });
                let shared = super::values::shared(first, before);
                put_varint(out, shared as u64);
                put_varint(out, (first.len() - shared) as u64);
                out.extend_from_slice(&first[shared..]);
                put_varint(out, u64::from(page.values.bytes));
                put_varint(out, u64::from(page.postings.bytes));
            }
        }
    }

    /// Reads it. Pages lie from `at` on.
    pub(super) fn read(content: &[u8], at: u64) -> Result<Top, &'static str> {
        let mut cursor = Cursor { bytes: content, at: 0 };
        let series = u32::try_from(cursor.number()?).map_err(|_| "number of series")?;
        let count = (series as usize).div_ceil(GROUP);
        if count > content.len() {
            return Err("number of series");
        }
        let mut top = Top { series, ..Top::default() };
        let (mut place, mut before) = (at, 0i64);
        for _ in 0..count {
            let group = Group { labels: next(&mut cursor, &mut place)?, chunks: next(&mut cursor, &mut place)? };
            top.groups.push(group);
            let first_ms = before.wrapping_add(unzigzag(cursor.number()?));
            let rest = cursor.number()?;
            let last_ms = first_ms.wrapping_add((rest >> 1) as i64);
            top.newest.push(Newest { first_ms, last_ms, live: rest & 1 == 0 });
            before = first_ms;
        }
        for _ in 0..cursor.length()? {
            let name = read_name(&mut cursor, at)?;
            if top.names.last().is_some_and(|before| before.name >= name.name) {
                return Err("label names do not ascend");
            }
            top.names.push(name);
        }
        if cursor.at == content.len() { Ok(top) } else { Err("bytes after the top of the index") }
    }

    /// Memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let name = |n: &Name| n.name.capacity() + n.piece.capacity() + n.firsts.capacity() + size_of_val(&*n.pages);
        let names: usize = self.names.iter().map(|n| size_of::<Name>() + name(n)).sum();
        size_of_val(&*self.groups) + size_of_val(&*self.newest) + names
    }
}

fn read_name(cursor: &mut Cursor<'_>, at: u64) -> Result<Name, &'static str> {
    let size = cursor.length()?;
    let name = std::str::from_utf8(cursor.take(size)?).map_err(|_| "label name is not UTF-8")?;
    let mut name = Name::new(name.to_owned());
    let mut place = at.checked_add(cursor.number()?).ok_or("place of label values")?;
    let mut first = Vec::new();
    for _ in 0..cursor.length()? {
        let count = u32::try_from(cursor.number()?).ok().filter(|n| name.values.checked_add(*n).is_some());
        let shared = cursor.number()?;
        if shared > first.len() as u64 {
            return Err("first value of a page");
        }
        first.truncate(shared as usize);
        let rest = cursor.length()?;
        first.extend_from_slice(cursor.take(rest)?);
        let (values, postings) = (next(cursor, &mut place)?, next(cursor, &mut place)?);
        name.push(&first, count.ok_or("number of label values")?, values, postings);
    }
    Ok(name)
}

/// Reads the length of a page that lies at a place, and goes on to the one behind it.
fn next(cursor: &mut Cursor<'_>, at: &mut u64) -> Result<Place, &'static str> {
    let place = Place { at: *at, bytes: u32::try_from(cursor.number()?).map_err(|_| "length of a page")? };
    *at = place.end();
    Ok(place)
}
