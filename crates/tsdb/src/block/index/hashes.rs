//! The series of an index by hashes of their labels, by which they are told apart where they are in several places.
//!
//! Each value of a label is hashed once, and of each series only numbers are looked at, which lie together for a group of them. Of few series among many
//! that would be the work for all values, so these are looked at with their labels.

use model::{Claim, LabelsRef};
use roaring::RoaringBitmap;

use bytes::Bytes;

use super::group::{Chunks, GROUP};
use super::packed::Packed;
use super::{Index, Memo, Near};
use crate::Error;
use crate::tally::{labels_hash, pair_hash};

/// Of as many series of the index, or more, one is looked at by numbers.
const BY_NUMBERS: u64 = 8;

/// A series of a group.
pub(super) struct Row<'a> {
    pub(super) id: u32,
    pub(super) hash: u64,
    at: usize,
    columns: &'a [(usize, Packed<Bytes>)],
    /// Where its samples are.
    pub(super) chunks: &'a Chunks,
}

impl Row<'_> {
    /// The numbers of its labels and of their values.
    pub(super) fn values(&self) -> impl Iterator<Item = (usize, u64)> {
        self.columns.iter().filter_map(|(name, column)| Some((*name, column.get(self.at).checked_sub(1)?)))
    }

    /// Number of its chunks.
    pub(super) fn chunk_count(&self) -> u64 {
        self.chunks.count(self.at)
    }
}

impl Index {
    /// Whether so many series are best looked at by the numbers of their values.
    pub(super) fn is_by_numbers(&self, ids: &RoaringBitmap) -> bool {
        ids.len() * BY_NUMBERS >= self.series() as u64
    }

    /// The hashes of all values, by the number of the name and their own. Who calls holds their memory.
    pub(super) fn value_hashes(&self) -> Result<Vec<Vec<u64>>, Error> {
        let of = |name: &super::top::Name| {
            let mut hashes = Vec::with_capacity(name.values as usize);
            let mut walk = self.walk(&name.name);
            while let Some(value) = walk.next()? {
                hashes.push(pair_hash(&name.name, value));
            }
            Ok(hashes)
        };
        self.top.names.iter().map(of).collect()
    }

    /// Bytes of the hashes of all values.
    pub(super) fn value_hash_bytes(&self) -> usize {
        self.top.names.iter().map(|name| name.values as usize * size_of::<u64>()).sum()
    }

    /// Calls `see` with each of these series, whose hashes are made of those of the values.
    pub(super) fn each_row(
        &self,
        ids: &RoaringBitmap,
        hashes: &[Vec<u64>],
        mut see: impl FnMut(&Row<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut near = None;
        let mut ids = ids.iter().peekable();
        while let Some(first) = ids.peek().copied() {
            let Near { group, labels, chunks } = self.group(first, &mut near)?;
            let places = &self.top.groups[*group];
            while let Some(id) = ids.next_if(|id| *id as usize / GROUP == *group) {
                let mut row = Row { id, hash: 0, at: id as usize % GROUP, columns: labels, chunks };
                let mut hash = 0u64;
                for (name, value) in row.values() {
                    let own = hashes.get(name).and_then(|own| own.get(value as usize));
                    let own = own.ok_or_else(|| self.file.corrupt(places.labels.at, "number of a label value"))?;
                    hash = hash.wrapping_add(*own);
                }
                row.hash = hash;
                see(&row)?;
            }
        }
        Ok(())
    }

    /// Calls `see` with each of these series: its number, its hash, and what `group` makes of its value of a label, which is empty where it has none.
    pub(crate) fn each_hash(
        &self,
        ids: &RoaringBitmap,
        by: Option<&str>,
        claim: &Claim,
        group: &mut dyn FnMut(&str) -> u32,
        see: &mut dyn FnMut(u32, u64, u32) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let none = group("");
        if !self.is_by_numbers(ids) {
            let mut memo = if ids.len() * 2 > self.series() as u64 { Memo::ahead() } else { Memo::default() };
            for id in ids {
                self.put_labels(id, &mut memo)?;
                let labels = LabelsRef::from_canonical(&memo.text);
                let own = by.and_then(|name| labels.get(name)).map_or(none, &mut *group);
                see(id, labels_hash(labels), own)?;
            }
            return Ok(());
        }
        let mut held = claim.hold();
        held.grow(self.value_hash_bytes())?;
        let hashes = self.value_hashes()?;
        let by = by.and_then(|by| self.top.names.iter().position(|name| name.name == by));
        let mut groups = Vec::new();
        if let Some(at) = by {
            let mut walk = self.walk(&self.top.names[at].name);
            while let Some(value) = walk.next()? {
                groups.push(group(value));
            }
        }
        self.each_row(ids, &hashes, |row| {
            let value = row.values().find(|(name, _)| Some(*name) == by);
            let own = value.and_then(|(_, value)| groups.get(value as usize).copied()).unwrap_or(none);
            see(row.id, row.hash, own)
        })
    }
}
