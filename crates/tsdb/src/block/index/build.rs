//! Gathers the index of a block that is written, series by series.
//!
//! The number of a value is its place in the order of all of them, which is known in the end, so until then labels are in memory: every text once, and for each
//! name where its value changes from one series to the next. Places of chunks are packed as soon as a group is full.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::{HashMap, HashTable};
use model::LabelsRef;

use super::group::{self, GROUP};
use super::page::Packer;
use super::postings;
use super::top::{Group, Name, Newest, Top};
use super::values;
use crate::Error;
use crate::block::{ChunkRef, Place};
use crate::disk::io;

/// Values of a page, and bytes of their text: some ten microseconds to unpack, and so many that what the top has of each is little.
const VALUES_MAX: usize = 1024;
const TEXT_MAX: usize = 16 << 10;
/// Bytes of lists of series after which a page of postings ends, so that the series of one value are found without those of many others.
const LISTS_MAX: usize = 64 << 10;

/// An index that is gathered.
pub(in crate::block) struct Builder {
    packer: Packer,
    names: Vec<Column>,
    by_name: HashMap<String, usize>,
    /// The names of the series before, as places in `names`.
    before: Vec<usize>,
    series: u32,
    chunks: group::Builder,
    /// Pages of chunks that are done, and how long each is.
    chunk_pages: Vec<u8>,
    chunk_sizes: Vec<u32>,
    newest: Vec<Newest>,
    raw: Vec<u8>,
    hasher: RandomState,
}

/// The labels of one name.
struct Column {
    name: String,
    text: String,
    ends: Vec<u32>,
    known: HashTable<u32>,
    /// From which series on it has which value: one more than the number of the value, or 0.
    changes: Vec<(u32, u32)>,
    /// The series after the last one that has it.
    next: u32,
}

/// Goes through the values of the series in their order.
struct Changes<'a> {
    rest: &'a [(u32, u32)],
    value: u32,
}

impl Builder {
    pub(in crate::block) fn new() -> Result<Builder, Error> {
        Ok(Builder {
            packer: Packer::new()?,
            names: Vec::new(),
            by_name: HashMap::new(),
            before: Vec::new(),
            series: 0,
            chunks: group::Builder::default(),
            chunk_pages: Vec::new(),
            chunk_sizes: Vec::new(),
            newest: Vec::new(),
            raw: Vec::new(),
            hasher: RandomState::new(),
        })
    }

    /// Series up to now.
    pub(in crate::block) fn series(&self) -> u32 {
        self.series
    }

    /// The most memory that it takes until it is written, about, in bytes.
    pub(in crate::block) fn memory(&self) -> usize {
        let kept = self.chunk_pages.capacity() + self.chunk_sizes.capacity() * 4 + size_of_val(&*self.newest);
        // Values are put in order name by name, and the order of each stays; the ranges are there for one name at a time.
        let in_order: usize = self.names.iter().map(|column| column.ends.len() * size_of::<u32>()).sum();
        let largest = self.names.iter().map(Column::memory_in_order).max().unwrap_or(0);
        let top = self.chunk_sizes.len() * size_of::<Group>();
        kept + self.names.iter().map(Column::memory).sum::<usize>() + in_order + largest + top
    }

    /// Adds a series with its chunks, of which there is at least one.
    pub(in crate::block) fn push(&mut self, labels: LabelsRef<'_>, chunks: &[ChunkRef]) -> Result<(), Error> {
        let Some(last) = chunks.last() else { return Ok(()) };
        let id = self.series;
        self.series = id.checked_add(1).ok_or_else(|| Error::Limit("a block has 2^32 series".to_owned()))?;
        for (at, (name, value)) in labels.iter().enumerate() {
            let column = self.column(at, name);
            let column = &mut self.names[column];
            let number = column.number(value, &self.hasher)?;
            column.set(id, number + 1);
        }
        Newest::add(&mut self.newest, id, last);
        self.chunks.push(chunks);
        if self.chunks.series() == GROUP { self.end_group() } else { Ok(()) }
    }

    /// The place of a name, which the series before mostly had at the same place among its labels.
    fn column(&mut self, at: usize, name: &str) -> usize {
        if let Some(column) = self.before.get(at).filter(|column| self.names[**column].name == name) {
            return *column;
        }
        let column = *self.by_name.entry_ref(name).or_insert(self.names.len());
        if column == self.names.len() {
            self.names.push(Column::new(name));
        }
        self.before.truncate(at);
        self.before.push(column);
        column
    }

    fn end_group(&mut self) -> Result<(), Error> {
        self.raw.clear();
        self.chunks.finish(&mut self.raw);
        let page = self.packer.page(&self.raw)?;
        self.chunk_sizes.push(size(&page)?);
        self.chunk_pages.extend_from_slice(&page);
        Ok(())
    }

    /// Writes the pages, which begin at `at`. Returns the top, packed, without a checksum.
    pub(in crate::block) fn finish(
        mut self,
        at: u64,
        write: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<Vec<u8>, Error> {
        if self.chunks.series() > 0 {
            self.end_group()?;
        }
        self.names.iter_mut().for_each(|column| column.set_end(self.series));
        self.names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let orders: Vec<Vec<u32>> = self.names.iter_mut().map(Column::sort).collect();
        let mut out = Pages { at, write };
        let mut top = Top { series: self.series, newest: std::mem::take(&mut self.newest), ..Top::default() };
        self.write_groups(&mut out, &mut top)?;
        // Those that take most first: what lies before the top is read along with it where blocks are far away.
        top.names = self.names.iter().map(|column| Name::new(column.name.clone())).collect();
        let mut by_size: Vec<usize> = (0..self.names.len()).collect();
        by_size.sort_by_key(|n| std::cmp::Reverse(self.names[*n].text.len() + 8 * self.names[*n].changes.len()));
        for n in by_size {
            write_name(&mut self.packer, &self.names[n], &orders[n], &mut out, &mut top.names[n])?;
        }
        self.raw.clear();
        top.put(at, &mut self.raw);
        self.packer.pack(&self.raw)
    }

    fn write_groups(&mut self, out: &mut Pages<'_>, top: &mut Top) -> Result<(), Error> {
        let mut columns: Vec<Changes<'_>> =
            self.names.iter().map(|column| Changes { rest: &column.changes, value: 0 }).collect();
        let (mut values, mut chunks) = (Vec::with_capacity(GROUP), self.chunk_pages.as_slice());
        for (group, chunk_size) in (0..).step_by(GROUP).zip(&self.chunk_sizes) {
            self.raw.clear();
            let (mut name_before, end) = (0, self.series.min(group + GROUP as u32));
            for (name, column) in columns.iter_mut().enumerate() {
                values.clear();
                values.extend((group..end).map(|id| u64::from(column.at(id))));
                if values.iter().any(|value| *value != 0) {
                    group::put_labels(name, name_before, &values, &mut self.raw);
                    name_before = name;
                }
            }
            let labels = out.write(&self.packer.page(&self.raw)?)?;
            let own = chunks.split_off(..*chunk_size as usize).unwrap_or_default();
            top.groups.push(Group { labels, chunks: out.write(own)? });
        }
        Ok(())
    }
}

/// Where pages are written to.
struct Pages<'a> {
    at: u64,
    write: &'a mut dyn FnMut(&[u8]) -> Result<(), Error>,
}

impl Pages<'_> {
    fn write(&mut self, page: &[u8]) -> Result<Place, Error> {
        let place = Place { at: self.at, bytes: size(page)? };
        (self.write)(page)?;
        self.at = place.end();
        Ok(place)
    }
}

fn size(page: &[u8]) -> Result<u32, Error> {
    u32::try_from(page.len()).map_err(|_| Error::Limit(format!("a page of an index takes {} bytes", page.len())))
}

/// Writes the values of a name and their postings. `order` has the numbers of the values as they were found, in the order of the values.
fn write_name(
    packer: &mut Packer,
    column: &Column,
    order: &[u32],
    out: &mut Pages<'_>,
    into: &mut Name,
) -> Result<(), Error> {
    let ranges = column.ranges();
    let (mut page, mut text, mut before, mut raw) = (Vec::new(), 0, None, Vec::new());
    let mut posted = postings::Builder::default();
    for (at, number) in order.iter().enumerate() {
        let value = column.value(*number);
        page.push(value);
        text += value.len();
        posted.push(ranges.of(at)).map_err(io("serializing postings"))?;
        let is_full = page.len() == VALUES_MAX || text >= TEXT_MAX || posted.list_bytes() >= LISTS_MAX;
        if is_full || at + 1 == order.len() {
            raw.clear();
            values::put(&page, &mut raw);
            let values_at = out.write(&packer.page(&raw)?)?;
            raw.clear();
            posted.finish(&mut raw);
            let postings_at = out.write(&packer.page(&raw)?)?;
            let first = before.map_or(&[][..], |before: &str| tells_apart(before, page[0]));
            into.push(first, page.len() as u32, values_at, postings_at);
            before = page.last().copied();
            page.clear();
            text = 0;
        }
    }
    Ok(())
}

/// The least of a value that is more than the one before it.
fn tells_apart<'a>(before: &str, value: &'a str) -> &'a [u8] {
    let value = value.as_bytes();
    &value[..value.len().min(values::shared(before.as_bytes(), value) + 1)]
}

/// Ranges of series by the place of their value in the order of the values.
struct Ranges {
    /// For each value where its ranges end.
    ends: Vec<u32>,
    ranges: Vec<(u32, u32)>,
}

impl Ranges {
    fn of(&self, at: usize) -> &[(u32, u32)] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.ranges[start as usize..self.ends[at] as usize]
    }
}

impl Column {
    fn new(name: &str) -> Column {
        Column {
            name: name.to_owned(),
            text: String::new(),
            ends: Vec::new(),
            known: HashTable::new(),
            changes: Vec::new(),
            next: 0,
        }
    }

    fn memory(&self) -> usize {
        // The table has a byte for each place beside it.
        let known = self.known.capacity() * (size_of::<u32>() + 1) * 8 / 7;
        let changes = self.changes.capacity() * size_of::<(u32, u32)>();
        self.text.capacity() + self.ends.capacity() * size_of::<u32>() + known + changes
    }

    /// What it takes beside that while its values are put in order, or their ranges are written.
    fn memory_in_order(&self) -> usize {
        let sorting = self.ends.len() * size_of::<(u64, u32)>();
        sorting.max(self.ends.len() * size_of::<u32>() + self.changes.len() * size_of::<(u32, u32)>())
    }

    fn value(&self, number: u32) -> &str {
        value(&self.text, &self.ends, number)
    }

    /// The number of a value, which it is given if it has none yet.
    fn number(&mut self, text: &str, hasher: &RandomState) -> Result<u32, Error> {
        let Column { text: all, ends, known, changes, .. } = self;
        // That of the series before, mostly.
        if let Some(number) = changes.last().and_then(|(_, value)| value.checked_sub(1))
            && value(all, ends, number) == text
        {
            return Ok(number);
        }
        let hash = hasher.hash_one(text);
        if let Some(number) = known.find(hash, |number| value(all, ends, *number) == text) {
            return Ok(*number);
        }
        let number = ends.len() as u32;
        all.push_str(text);
        let end = u32::try_from(all.len());
        ends.push(end.map_err(|_| Error::Limit(format!("the values of {} take 4 GiB in one block", self.name)))?);
        known.insert_unique(hash, number, |number| hasher.hash_one(value(all, ends, *number)));
        Ok(number)
    }

    fn set(&mut self, id: u32, value: u32) {
        self.set_end(id);
        if self.changes.last().map_or(0, |(_, last)| *last) != value {
            self.changes.push((id, value));
        }
        self.next = id + 1;
    }

    /// Notes that the series before this one do not have it, as far as they did not say so.
    fn set_end(&mut self, id: u32) {
        if self.next < id && self.changes.last().is_some_and(|(_, value)| *value != 0) {
            self.changes.push((self.next, 0));
        }
        self.next = id;
    }

    /// Numbers the values in their order; returns the numbers that they had.
    fn sort(&mut self) -> Vec<u32> {
        self.known = HashTable::new();
        let mut order: Vec<(u64, u32)> = Vec::with_capacity(self.ends.len());
        let first = if self.ends.is_empty() { "" } else { self.value(0) };
        let alike = (1..self.ends.len() as u32)
            .fold(first.len(), |alike, n| values::shared(&first.as_bytes()[..alike], self.value(n).as_bytes()));
        for number in 0..self.ends.len() as u32 {
            // Eight bytes tell most of them apart.
            let mut key = [0; 8];
            let rest = self.value(number).as_bytes().iter().skip(alike);
            key.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
            order.push((u64::from_be_bytes(key), number));
        }
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.value(a.1).cmp(self.value(b.1))));
        let order: Vec<u32> = order.into_iter().map(|(_, number)| number).collect();
        let mut places = vec![0; order.len()];
        order.iter().zip(0..).for_each(|(number, place)| places[*number as usize] = place);
        for (_, value) in self.changes.iter_mut().filter(|(_, value)| *value != 0) {
            *value = places[*value as usize - 1] + 1;
        }
        order
    }

    /// The series of each value; the values are numbered in their order.
    fn ranges(&self) -> Ranges {
        let ends = self.changes.iter().skip(1).map(|(id, _)| *id).chain([self.next]);
        let runs = || self.changes.iter().zip(ends.clone()).filter(|((_, value), _)| *value != 0);
        let mut starts = vec![0u32; self.ends.len()];
        runs().for_each(|((_, value), _)| starts[*value as usize - 1] += 1);
        let mut sum = 0;
        for start in &mut starts {
            let count = std::mem::replace(start, sum);
            sum += count;
        }
        let mut ranges = vec![(0, 0); sum as usize];
        for ((from, value), to) in runs() {
            let place = &mut starts[*value as usize - 1];
            ranges[*place as usize] = (*from, to);
            *place += 1;
        }
        Ranges { ends: starts, ranges }
    }
}

impl Changes<'_> {
    /// The value of a series that is not before the one asked for last.
    fn at(&mut self, id: u32) -> u32 {
        while let Some(((_, value), rest)) = self.rest.split_first().filter(|((from, _), _)| *from <= id) {
            (self.value, self.rest) = (*value, rest);
        }
        self.value
    }
}

fn value<'a>(text: &'a str, ends: &[u32], number: u32) -> &'a str {
    let at = number as usize;
    let start = if at == 0 { 0 } else { ends[at - 1] };
    &text[start as usize..ends[at] as usize]
}
