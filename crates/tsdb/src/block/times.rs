//! Columns of times that several chunks of a block have, stored once.
//!
//! What is looked for are the columns that were written last, by some of their times; a column that is found is compared to the last one. The encoded ones are
//! kept, since they take an eighth and are compared as fast as they are decoded. A column that was forgotten is stored once more.

use hashbrown::HashMap;

use crate::chunk::is_column;

/// Where a column of times lies, its checksum included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) at: u64,
    pub(crate) bytes: u32,
}

impl Place {
    /// Where what follows it lies.
    pub(crate) fn end(self) -> u64 {
        self.at.saturating_add(u64::from(self.bytes))
    }
}

/// How many times there are, and some of them.
type Key = [i64; 9];

/// The columns that were written last.
pub(super) struct Recent {
    /// Those that were written or found since `old` was put together.
    young: Half,
    old: Half,
    memory_max: usize,
    /// Columns that went for want of memory.
    pub(super) forgotten: u64,
}

#[derive(Default)]
struct Half {
    columns: HashMap<Key, Column>,
    bytes: usize,
}

/// A column that was written.
struct Column {
    place: Place,
    encoded: Box<[u8]>,
}

impl Recent {
    /// Columns that are shorter go into their chunks: what refers to one takes some four bytes of the index, and a checksum as many. Regular times,
    /// which take some ten bytes, are such.
    pub(super) const BYTES_MIN: usize = 32;

    /// Memory of all, in bytes: the columns of four hours of some 25,000 targets that are scraped every 15 s.
    pub(super) const MEMORY_MAX: usize = 32 << 20;

    /// Knows no column yet.
    pub(super) fn new(memory_max: usize) -> Self {
        Recent { young: Half::default(), old: Half::default(), memory_max, forgotten: 0 }
    }

    /// Memory of the columns, about.
    pub(super) fn memory(&self) -> usize {
        self.young.bytes + self.old.bytes
    }

    /// Where a column lies that has these times, if it is known.
    pub(super) fn find(&mut self, t: &[i64]) -> Option<Place> {
        let key = key(t);
        if let Some(column) = self.young.columns.get(&key) {
            return is_column(&column.encoded, t).then_some(column.place);
        }
        let column = self.old.columns.remove(&key)?;
        let place = is_column(&column.encoded, t).then_some(column.place);
        self.keep(key, column);
        place
    }

    /// Adds a column.
    pub(super) fn add(&mut self, t: &[i64], encoded: &[u8], place: Place) {
        self.keep(key(t), Column { place, encoded: encoded.into() });
    }

    fn keep(&mut self, key: Key, column: Column) {
        if self.young.bytes + bytes(&column) > self.memory_max / 2 {
            self.forgotten += self.old.columns.len() as u64;
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += bytes(&column);
        if let Some(other) = self.young.columns.insert(key, column) {
            self.young.bytes -= bytes(&other);
        }
    }
}

/// Memory that a column takes, about.
fn bytes(column: &Column) -> usize {
    column.encoded.len() + size_of::<(Key, Column)>()
}

fn key(t: &[i64]) -> Key {
    let last = t.len() - 1;
    std::array::from_fn(|n| if n == 8 { t.len() as i64 } else { t[last * n / 7] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{Scratch, encode_times};

    fn column(n: i64) -> Vec<i64> {
        (0..100).map(|i| n * 1_000_000 + i * 15_000 + i * i % 7).collect()
    }

    fn add(recent: &mut Recent, t: &[i64], at: u64) -> Place {
        let mut bytes = Vec::new();
        encode_times(t, &mut Scratch::default(), &mut bytes);
        let place = Place { at, bytes: bytes.len() as u32 };
        recent.add(t, &bytes, place);
        place
    }

    #[test]
    fn only_a_column_that_is_the_same_in_all_times_is_found() {
        let mut recent = Recent::new(Recent::MEMORY_MAX);
        let place = add(&mut recent, &column(0), 8);
        assert_eq!(recent.find(&column(0)), Some(place));
        assert_eq!(recent.find(&column(1)), None);
        assert_eq!(recent.find(&column(0)[..99]), None);
        for at in 0..100 {
            let mut other = column(0);
            other[at] += 1;
            assert_eq!(recent.find(&other), None, "{at}");
        }
    }

    #[test]
    fn memory_is_bounded_and_what_is_found_again_stays() {
        let mut recent = Recent::new(20_000);
        let kept = add(&mut recent, &column(0), 0);
        for n in 1..1000 {
            add(&mut recent, &column(n), n as u64);
            assert!(recent.young.bytes + recent.old.bytes <= 20_000, "{n}");
            assert_eq!(recent.find(&column(0)), Some(kept), "{n}");
        }
        assert_eq!(recent.find(&column(1)), None);
        let known = recent.young.columns.len() + recent.old.columns.len();
        assert_eq!(recent.forgotten as usize + known, 1000);
    }
}
