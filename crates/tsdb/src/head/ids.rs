//! Sets of series of a head: its postings, and those that have samples.

use std::ops::Range;

use roaring::RoaringBitmap;

/// As many numbers are a sorted list for the library, to whose end one is added at once; more may be bits, whose end it has to look for.
const LIST_MAX: u64 = 4096;
/// As many of a range are added one after the other where that needs no search.
const FEW: usize = 16;

/// Numbers of series that share a label, or that have samples. Numbers are given one after the other, and series that a sender writes one after the other
/// share most labels: so the newest of them are a range, which grows by a comparison, and most values of churning labels are nothing else.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// All but the newest.
    older: RoaringBitmap,
    newest: Range<u32>,
}

impl Ids {
    /// Adds a number that is not in it.
    pub(super) fn insert(&mut self, id: u32) {
        if self.newest.end != id || self.newest.is_empty() {
            let newest = std::mem::replace(&mut self.newest, id..id);
            self.settle(newest);
        }
        self.newest.end = id + 1;
    }

    fn settle(&mut self, newest: Range<u32>) {
        if newest.len() <= FEW && self.older.len() <= LIST_MAX {
            for id in newest {
                if self.older.try_push(id).is_err() {
                    self.older.insert(id);
                }
            }
        } else if newest.len() == 1 {
            self.older.insert(newest.start);
        } else {
            self.older.insert_range(newest);
        }
    }

    /// All of them.
    pub(super) fn bitmap(&self) -> RoaringBitmap {
        let mut all = self.older.clone();
        all.insert_range(self.newest.clone());
        all
    }

    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_empty() && self.older.is_empty()
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.newest.contains(&id) || self.older.contains(id)
    }

    /// Takes a number away; whether none is left.
    pub(super) fn remove(&mut self, id: u32) -> bool {
        if self.newest.contains(&id) {
            self.older.insert_range(std::mem::take(&mut self.newest));
        }
        self.older.remove(id);
        self.is_empty()
    }

    /// Those that are also in `of`.
    pub(super) fn among(&self, of: &RoaringBitmap) -> RoaringBitmap {
        let mut found = &self.older & of;
        let mut newest = RoaringBitmap::new();
        newest.insert_range(self.newest.clone());
        found |= newest & of;
        found
    }

    /// How many are also in `of`.
    pub(super) fn count_among(&self, of: &RoaringBitmap) -> u64 {
        self.older.intersection_len(of) + of.range_cardinality(self.newest.clone())
    }

    /// Adds them to others.
    pub(super) fn add_to(&self, found: &mut RoaringBitmap) {
        *found |= &self.older;
        found.insert_range(self.newest.clone());
    }

    /// Whether one of them is in `of`.
    pub(super) fn meets(&self, of: &RoaringBitmap) -> bool {
        of.range_cardinality(self.newest.clone()) > 0 || !self.older.is_disjoint(of)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn many_numbers_with_gaps_are_those_that_are_there() {
        for gap in [1, 2, 5, FEW as u32, FEW as u32 + 1, 1000] {
            let (mut ids, mut expect) = (Ids::default(), RoaringBitmap::new());
            // Far more than are a list, and over the borders of the library's containers.
            for id in (1_000_000..1_200_000).filter(|id| id % (gap + 1) != 0).chain(0..10) {
                ids.insert(id);
                expect.insert(id);
            }
            assert_eq!(ids.bitmap(), expect, "{gap} and a gap");
        }
    }

    #[test]
    fn numbers_that_come_and_go_in_any_order_are_those_that_are_there() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut ids, mut expect, mut next) = (Ids::default(), BTreeSet::new(), 0);
            for _ in 0..rng.u32(1..60) {
                if rng.u8(0..4) == 0 {
                    // One that is there, which is then given anew, as a shard does.
                    if let Some(id) = expect.iter().nth(rng.usize(0..=expect.len())).copied() {
                        expect.remove(&id);
                        assert_eq!(ids.remove(id), expect.is_empty(), "seed {seed}");
                        next = if rng.bool() { id } else { next };
                    }
                }
                while expect.contains(&next) {
                    next += rng.u32(1..3);
                }
                ids.insert(next);
                expect.insert(next);
                let of: RoaringBitmap = (0..100).filter(|_| rng.u8(0..20) == 0).collect();
                let among: RoaringBitmap = of.iter().filter(|id| expect.contains(id)).collect();
                assert_eq!(ids.among(&of), among, "seed {seed}");
                assert_eq!(ids.meets(&of), !among.is_empty(), "seed {seed}");
                assert_eq!(ids.count_among(&of), among.len(), "seed {seed}");
                assert_eq!((0..100).find(|id| ids.contains(*id) != expect.contains(id)), None, "seed {seed}");
                assert_eq!(ids.is_empty(), expect.is_empty(), "seed {seed}");
                assert!(ids.bitmap().iter().eq(expect.iter().copied()), "seed {seed}");
                let mut all = RoaringBitmap::new();
                ids.add_to(&mut all);
                assert!(all.iter().eq(expect.iter().copied()), "seed {seed}");
            }
        }
    }
}
