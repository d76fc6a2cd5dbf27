//! The series of a head in the order of their labels, as a block wants them.
//!
//! Of each shard its labels are put in order, each once, so that its series are compared by numbers; the shards, which have theirs in order then, are merged by
//! text. What that needs of a shard is copied while its lock is held, some bytes a series; all the rest is done without.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use model::LabelsRef;

/// The series of one shard.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Texts of labels by their places.
    pub(super) texts: Vec<Arc<str>>,
    pub(super) ids: Vec<u32>,
    /// Places of the labels of one series after the other.
    pub(super) places: Vec<u32>,
    /// Where those of a series end.
    pub(super) ends: Vec<u32>,
}

/// A shard in order.
#[derive(Debug)]
struct Sorted {
    part: Part,
    /// Which of the series come one after the other, the last one first.
    rest: Vec<u32>,
}

/// Series that come in the order of their canonical texts.
#[derive(Debug)]
pub(crate) struct Ordered {
    shards: Vec<Sorted>,
    /// Of each shard the text of its next series.
    next: BinaryHeap<Reverse<(String, usize)>>,
}

impl Part {
    fn places_of(&self, at: u32) -> &[u32] {
        let at = at as usize;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.places[start as usize..self.ends[at] as usize]
    }

    fn bytes(&self) -> usize {
        let numbers = self.ids.capacity() + self.places.capacity() + self.ends.capacity();
        size_of_val(&*self.texts) + numbers * size_of::<u32>()
    }

    /// Numbers the labels in their order, and puts the series in theirs.
    fn sort(mut self) -> Sorted {
        let mut order: Vec<u32> = (0..self.texts.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.texts[*a as usize].cmp(&self.texts[*b as usize]));
        let mut ranks = vec![0; order.len()];
        order.iter().zip(0..).for_each(|(place, rank)| ranks[*place as usize] = rank);
        self.places.iter_mut().for_each(|place| *place = ranks[*place as usize]);
        self.texts = order.iter().map(|place| self.texts[*place as usize].clone()).collect();
        let mut rest: Vec<u32> = (0..self.ids.len() as u32).collect();
        // No canonical text of a label begins with that of another, so texts are in the order of these numbers.
        rest.sort_unstable_by(|a, b| self.places_of(*b).cmp(self.places_of(*a)));
        Sorted { part: self, rest }
    }
}

impl Ordered {
    pub(super) fn new(parts: impl Iterator<Item = Part>) -> Self {
        let mut shards: Vec<Sorted> = parts.map(Part::sort).collect();
        let mut next = BinaryHeap::with_capacity(shards.len());
        for (at, shard) in shards.iter_mut().enumerate() {
            let mut text = String::new();
            if shard.put_next(&mut text) {
                next.push(Reverse((text, at)));
            }
        }
        Ordered { shards, next }
    }

    /// Memory that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.part.bytes() + shard.rest.capacity() * size_of::<u32>()).sum()
    }

    /// Lets `see` have the next series: its labels, its shard and its number there. `None` where there is none any more.
    pub(crate) fn next<T>(&mut self, see: impl FnOnce(LabelsRef<'_>, usize, u32) -> T) -> Option<T> {
        let mut top = self.next.peek_mut()?;
        let Reverse((text, at)) = &mut *top;
        let shard = &mut self.shards[*at];
        let id = shard.rest.pop().map_or(0, |series| shard.part.ids[series as usize]);
        let seen = see(LabelsRef::from_canonical(text), *at, id);
        if !shard.put_next(text) {
            std::collections::binary_heap::PeekMut::pop(top);
        }
        Some(seen)
    }
}

impl Sorted {
    /// The text of the series that is the next; whether there is one.
    fn put_next(&self, text: &mut String) -> bool {
        text.clear();
        let Some(series) = self.rest.last() else { return false };
        self.part.places_of(*series).iter().for_each(|label| text.push_str(&self.part.texts[*label as usize]));
        true
    }
}

#[cfg(test)]
mod tests {
    use model::{Labels, Sample};

    use crate::head::Head;

    #[test]
    fn series_of_all_shards_come_in_the_order_of_their_texts() {
        let mut random = fastrand::Rng::with_seed(1);
        let (head, mut expect) = (Head::new(), Vec::new());
        for n in 0..2000 {
            // Lengths of names and values are before them, so that the shorter ones come first.
            let value = "x".repeat(random.usize(1..100));
            let mut pairs = vec![("name", format!("{}", n % 7)), ("n", n.to_string())];
            pairs.extend((n % 3 == 0).then_some(("a", value)));
            let labels = Labels::new(&pairs).expect("valid");
            head.append(labels.as_ref(), &[Sample { t: n, v: n as f64 }][..]);
            expect.push((labels, n as f64));
        }
        expect.sort_by(|a, b| a.0.canonical().cmp(b.0.canonical()));
        let frozen = head.freeze();
        let (mut ordered, mut found, mut samples) = (head.ordered(&frozen), Vec::new(), model::Columns::default());
        while ordered
            .next(|labels, shard, id| {
                samples.clear();
                let buffer = frozen.buffer(shard, id).expect("has samples");
                buffer.read_into(model::TimeRange::ALL, &mut samples).expect("reads");
                found.push((labels.to_labels(), samples.v[0]));
            })
            .is_some()
        {}
        assert_eq!(found, expect);
    }
}
