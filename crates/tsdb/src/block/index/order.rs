//! The series of several blocks in one order, so that what is found in each can be put together without looking at labels once more.
//!
//! Each block has its series in the order of their labels, so where they are among those of all is a set of numbers. It is found by reading all blocks side by
//! side: values get a number that is the same in all of them, and series are compared by these. The price is one look at each series of all blocks, some tens
//! of nanoseconds, and two bits of each block for each series of all.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use model::{Cancel, Held};

use super::Index;
use super::group::each_column;
use super::packed::Packed;
use super::places::Places;
use crate::Error;

/// Series between looks at whether anybody waits.
const LOOK_EVERY: u32 = 4096;
/// Memory for each value of a label while series are compared: its numbers, and what its place among them is told by.
const VALUE_BYTES: usize = 16;

/// The series of several blocks in one order.
#[derive(Debug)]
pub(crate) struct Order {
    places: Vec<Places>,
}

/// The labels of a block by numbers that are the same in all blocks.
struct Names {
    /// By the number of the name in the block: that in all of them, and for each value one that is in the order of pieces; `None` where no other block
    /// has the name.
    of: Vec<(u32, Option<Vec<u32>>)>,
}

/// Goes through the series of a block.
struct Rows<'a> {
    index: &'a Index,
    names: Names,
    /// The next group.
    group: usize,
    /// Series of this one, and that which it is at.
    series: usize,
    at: usize,
    /// The names of its columns.
    columns: Vec<u32>,
    /// For each series one more than the number of its value of each column, or 0.
    numbers: Vec<u32>,
    scratch: Vec<u32>,
}

impl Order {
    /// Reads the series of these indexes. Memory that it takes meanwhile is held.
    pub(crate) fn of(indexes: &[&Index], cancel: &Cancel, held: &mut Held) -> Result<Order, Error> {
        let values: usize = indexes.iter().map(|index| index.value_hash_bytes() / size_of::<u64>()).sum();
        held.grow(values * VALUE_BYTES)?;
        let (names, order_of_names) = names(indexes)?;
        let mut rows = Vec::with_capacity(indexes.len());
        for (index, names) in indexes.iter().zip(names) {
            rows.push(Rows::new(index, names)?);
        }
        let mut places: Vec<Places> = indexes.iter().map(|_| Places::default()).collect();
        let (mut next, mut same) = (0u32, Vec::with_capacity(rows.len()));
        loop {
            same.clear();
            for (at, row) in rows.iter().enumerate().filter(|(_, row)| !row.is_after()) {
                let told =
                    same.first().map_or(Ordering::Equal, |least: &usize| row.compare(&rows[*least], &order_of_names));
                if told == Ordering::Less {
                    same.clear();
                }
                if told != Ordering::Greater {
                    same.push(at);
                }
            }
            if same.is_empty() {
                break;
            }
            for at in &same {
                places[*at].push(next);
                rows[*at].step()?;
            }
            next = next.checked_add(1).ok_or_else(|| Error::Limit("blocks have 2^32 series".to_owned()))?;
            if next.is_multiple_of(LOOK_EVERY) {
                held.grow_to(values * VALUE_BYTES + places.iter().map(Places::bytes).sum::<usize>())?;
                if cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
            }
        }
        places.iter_mut().for_each(Places::finish);
        Ok(Order { places })
    }

    /// Where the series of each block are, in the order in which they were given.
    pub(crate) fn places(&self) -> &[Places] {
        &self.places
    }

    /// Memory that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.places.iter().map(Places::bytes).sum()
    }

    /// Memory that one of so many blocks takes at least, of which the largest has so many series.
    pub(crate) fn bytes_min(blocks: usize, series: usize) -> usize {
        blocks * series / 8
    }
}

/// The labels of each block, and the places of all names in the order of pieces.
fn names(indexes: &[&Index]) -> Result<(Vec<Names>, Vec<u32>), Error> {
    let mut all: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, index) in indexes.iter().enumerate() {
        index.top.names.iter().for_each(|name| all.entry(&name.name).or_default().push(at));
    }
    let mut names: Vec<Names> = indexes.iter().map(|_| Names { of: Vec::new() }).collect();
    for (number, (name, of)) in (0..).zip(&all) {
        let mut values = if of.len() > 1 { numbers(indexes, name, of)? } else { Vec::new() };
        for at in of.iter().rev() {
            names[*at].of.push((number, values.pop()));
        }
    }
    let lengths: Vec<u64> = all.keys().map(|name| length_key(name.len())).collect();
    Ok((names, in_order(&lengths)))
}

/// For each of the blocks that have a name the numbers of its values among those of all, in the order of pieces.
fn numbers(indexes: &[&Index], name: &str, of: &[usize]) -> Result<Vec<Vec<u32>>, Error> {
    let mut walks: Vec<_> = of.iter().map(|at| indexes[*at].walk(name)).collect();
    let mut out: Vec<Vec<u32>> = vec![Vec::new(); of.len()];
    let (mut lengths, mut same) = (Vec::new(), Vec::with_capacity(of.len()));
    for walk in &mut walks {
        walk.next()?;
    }
    loop {
        same.clear();
        let mut least = None;
        for (at, walk) in walks.iter().enumerate() {
            let Some(value) = walk.current() else { continue };
            let told = least.map_or(Ordering::Less, |least: &str| value.cmp(least));
            if told == Ordering::Less {
                same.clear();
                least = Some(value);
            }
            if told != Ordering::Greater {
                same.push(at);
            }
        }
        let Some(value) = least else { break };
        let number = lengths.len() as u32;
        lengths.push(length_key(value.len()));
        for at in &same {
            out[*at].push(number);
            walks[*at].next()?;
        }
    }
    if lengths.iter().any(|length| *length != lengths[0]) {
        let places = in_order(&lengths);
        out.iter_mut().flatten().for_each(|number| *number = places[*number as usize]);
    }
    Ok(out)
}

/// The places of texts in the order of pieces, given by the keys of their lengths in the order of the texts.
fn in_order(lengths: &[u64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..lengths.len() as u32).collect();
    order.sort_by_key(|number| lengths[*number as usize]);
    let mut places = vec![0; lengths.len()];
    (0..).zip(order).for_each(|(place, number)| places[number as usize] = place);
    places
}

/// A number that is as the length at the beginning of a piece, of which each byte has six bits and the first the lowest: of two pieces that differ in length the
/// one with the lesser number is the lesser.
fn length_key(mut length: usize) -> u64 {
    let (mut key, mut shift) = (0u64, 56);
    while length >= 64 {
        key |= (length as u64 & 63 | 64) << shift;
        length >>= 6;
        shift -= 8;
    }
    key | (length as u64) << shift
}

impl<'a> Rows<'a> {
    fn new(index: &'a Index, names: Names) -> Result<Rows<'a>, Error> {
        let (columns, numbers, scratch) = (Vec::new(), Vec::new(), Vec::new());
        let mut rows = Rows { index, names, group: 0, series: 0, at: 0, columns, numbers, scratch };
        rows.begin_group()?;
        Ok(rows)
    }

    /// Whether it is behind the last series.
    fn is_after(&self) -> bool {
        self.at >= self.series
    }

    fn step(&mut self) -> Result<(), Error> {
        self.at += 1;
        if self.at < self.series { Ok(()) } else { self.begin_group() }
    }

    fn begin_group(&mut self) -> Result<(), Error> {
        let Some(places) = self.index.top.groups.get(self.group) else { return Ok(()) };
        let content = self.index.columns(places.labels)?;
        (self.series, self.at) = (self.index.group_series((self.group * super::GROUP) as u32), 0);
        self.group += 1;
        let mut columns: Vec<(usize, Packed<&[u8]>)> = Vec::new();
        let damaged = |reason| self.index.file.corrupt(places.labels.at, reason);
        each_column(&content, self.series, |name, column| columns.push((name, column))).map_err(damaged)?;
        self.columns.clear();
        self.numbers.resize(self.series * columns.len(), 0);
        self.scratch.resize(self.series, 0);
        for (at, (name, column)) in columns.iter().enumerate() {
            let (number, values) = self.names.of.get(*name).ok_or_else(|| damaged("number of a label name"))?;
            self.columns.push(*number);
            column.unpack(&mut self.scratch);
            let slots = self.numbers.iter_mut().skip(at).step_by(columns.len());
            for (slot, value) in slots.zip(&self.scratch) {
                *slot = match (value.checked_sub(1), values) {
                    (None, _) | (_, None) => *value,
                    (Some(own), Some(values)) => {
                        let number = values.get(own as usize);
                        number.ok_or_else(|| damaged("number of a label value"))? + 1
                    }
                };
            }
        }
        Ok(())
    }

    /// The numbers of the series.
    fn row(&self) -> &[u32] {
        let width = self.columns.len();
        &self.numbers[self.at * width..(self.at + 1) * width]
    }

    fn labels(&self) -> impl Iterator<Item = (u32, u32)> {
        self.columns.iter().copied().zip(self.row().iter().copied()).filter(|(_, value)| *value != 0)
    }

    /// Compares the canonical texts of the labels of two series.
    fn compare(&self, other: &Rows<'_>, order_of_names: &[u32]) -> Ordering {
        if self.columns == other.columns && self.row() == other.row() {
            return Ordering::Equal;
        }
        let (mut own, mut others) = (self.labels(), other.labels());
        loop {
            match (own.next(), others.next()) {
                (None, None) => return Ordering::Equal,
                (None, Some(_)) => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (Some((name, _)), Some((other, _))) if name != other => {
                    return order_of_names[name as usize].cmp(&order_of_names[other as usize]);
                }
                (Some((_, value)), Some((_, other))) if value != other => return value.cmp(&other),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_in_the_order_of_pieces() {
        let piece = |length: usize| {
            let mut text = String::new();
            model::push_piece(&mut text, &"x".repeat(length));
            text
        };
        let lengths = [0, 1, 5, 63, 64, 65, 127, 128, 4095, 4096, 4097, 10_000];
        for (a, b) in lengths.iter().flat_map(|a| lengths.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b) {
            assert_eq!(length_key(a).cmp(&length_key(b)), piece(a).cmp(&piece(b)), "{a} {b}");
        }
    }
}
