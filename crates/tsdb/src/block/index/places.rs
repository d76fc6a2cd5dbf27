//! A set of numbers that is asked for the place of one among them, and for the one at a place: bits, and for every 512 of them how many there were before.
//!
//! It takes two bits and a little for each number that there could be, whether the set is one range or every second of them.

use roaring::RoaringBitmap;

/// Words between counts.
const WORDS: usize = 8;

/// Where the series of a block are among those of several.
#[derive(Debug, Default)]
pub(crate) struct Places {
    bits: Vec<u64>,
    /// How many there are before every eighth word.
    before: Vec<u32>,
    len: u32,
    all: RoaringBitmap,
}

impl Places {
    /// Adds a number that is more than those before.
    pub(super) fn push(&mut self, place: u32) {
        let word = place as usize / 64;
        while self.bits.len() <= word {
            if self.bits.len().is_multiple_of(WORDS) {
                self.before.push(self.len);
            }
            self.bits.push(0);
        }
        self.bits[word] |= 1 << (place % 64);
        self.len += 1;
    }

    /// Ends the set.
    pub(super) fn finish(&mut self) {
        let bytes: Vec<u8> = self.bits.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.all = RoaringBitmap::from_lsb0_bytes(0, &bytes);
        self.all.optimize();
        self.bits.shrink_to_fit();
        self.before.shrink_to_fit();
    }

    /// Memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bits.capacity() * size_of::<u64>() + self.before.capacity() * size_of::<u32>() + self.all.serialized_size()
    }

    /// The number at a place, counted from 0; any beyond the last.
    fn at(&self, place: u32) -> u32 {
        let block = self.before.partition_point(|before| *before <= place).saturating_sub(1);
        let mut rest = place - self.before.get(block).copied().unwrap_or(0);
        for (word, bits) in self.bits.iter().enumerate().skip(block * WORDS) {
            let ones = bits.count_ones();
            if rest < ones {
                let left = (0..rest).fold(*bits, |bits, _| bits & (bits - 1));
                return word as u32 * 64 + left.trailing_zeros();
            }
            rest -= ones;
        }
        u32::MAX
    }

    /// How many are less than this.
    fn before(&self, number: u32) -> u32 {
        let word = (number as usize / 64).min(self.bits.len());
        let block = word / WORDS;
        let Some(before) = self.before.get(block) else { return self.len };
        let whole: u32 = self.bits[block * WORDS..word].iter().map(|bits| bits.count_ones()).sum();
        let own = self.bits.get(word).map_or(0, |bits| (bits & ((1 << (number % 64)) - 1)).count_ones());
        before + whole + own
    }

    /// The place of a number, if it is there.
    pub(crate) fn find(&self, number: u32) -> Option<u32> {
        let word = self.bits.get(number as usize / 64)?;
        (word >> (number % 64) & 1 == 1).then(|| self.before(number))
    }

    /// The numbers at these places.
    pub(crate) fn widen(&self, places: &RoaringBitmap) -> RoaringBitmap {
        if places.len() == u64::from(self.len) {
            return self.all.clone();
        }
        let (mut ranges, mut single) = (RoaringBitmap::new(), Vec::new());
        let mut places = places.iter();
        while let Some(range) = places.next_range() {
            match range.start() == range.end() {
                true => single.push(self.at(*range.start())),
                // All between the first and the last of them.
                false => drop(ranges.insert_range(self.at(*range.start())..=self.at(*range.end()))),
            }
        }
        ranges &= &self.all;
        ranges | single.into_iter().collect::<RoaringBitmap>()
    }

    /// The places of those of the numbers that are there.
    pub(crate) fn narrow(&self, numbers: &RoaringBitmap) -> RoaringBitmap {
        let own = numbers & &self.all;
        if own.len() == u64::from(self.len) {
            let mut all = RoaringBitmap::new();
            all.insert_range(0..self.len);
            return all;
        }
        let mut own = own.iter();
        let ranges = std::iter::from_fn(|| own.next_range());
        let places = ranges.flat_map(|range| {
            let first = self.before(*range.start());
            first..=first + (range.end() - range.start())
        });
        RoaringBitmap::from_sorted_iter(places).expect("places ascend as the numbers do")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(numbers: &[u32], chosen: &[bool], others: &[u32]) {
        let mut places = Places::default();
        numbers.iter().for_each(|number| places.push(*number));
        places.finish();
        let own = |(place, number): (u32, &u32)| {
            assert_eq!((places.at(place), places.find(*number)), (*number, Some(place)));
            *chosen.get(place as usize % chosen.len().max(1)).unwrap_or(&true)
        };
        let some: Vec<(u32, &u32)> = (0..).zip(numbers).filter(|one| own(*one)).collect();
        let (of, found): (RoaringBitmap, RoaringBitmap) =
            (some.iter().map(|(place, _)| *place).collect(), some.iter().map(|(_, number)| **number).collect());
        assert_eq!(places.widen(&of), found);
        assert_eq!(places.narrow(&found), of);
        let others: RoaringBitmap = others.iter().copied().collect();
        let expect = |(_, number): &(u32, &u32)| others.contains(**number);
        let expect: RoaringBitmap = (0..).zip(numbers).filter(expect).map(|(place, _)| place).collect();
        assert_eq!(places.narrow(&others), expect);
        for number in others.iter().filter(|number| numbers.binary_search(number).is_err()) {
            assert_eq!(places.find(number), None);
        }
    }

    #[test]
    fn many_numbers_are_found_across_containers() {
        let runs: Vec<u32> = (0..200_000).filter(|n| n / 7000 % 3 != 1).collect();
        let scattered: Vec<u32> = (0..200_000u32).filter(|n| n.wrapping_mul(2_654_435_761) % 3 != 1).collect();
        for numbers in [runs, scattered, (0..70_000).collect(), vec![]] {
            for chosen in [&[true][..], &[true, true, false], &[false, true], &[false]] {
                check(&numbers, chosen, &[0, 5, 65_535, 65_536, 199_999, 4_000_000_000]);
            }
        }
    }

    proptest! {
        #[test]
        fn places_and_numbers_are_those_of_a_list(
            numbers in prop::collection::btree_set(0u32..3000, 0..400),
            chosen in prop::collection::vec(any::<bool>(), 1..50),
            others in prop::collection::vec(0u32..4000, 0..200),
        ) {
            check(&numbers.into_iter().collect::<Vec<_>>(), &chosen, &others);
        }
    }
}
