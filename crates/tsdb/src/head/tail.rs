//! The newest floats of a series, as they came.
//!
//! Times are kept as milliseconds since the first one, so that a sample takes 12 bytes. Room grows in steps that are sizes of the allocator, few of them: while a
//! million series grow from one to the next, the memory of both is there.

use model::Sample;

use crate::prefetch::prefetch;

/// Samples that there is room for, one step after the other: 56, 128 and 200 bytes.
const STEPS: [usize; 3] = [4, 10, 16];
/// The most samples of a tail: enough for a chunk of them to be a sixth of that.
pub(super) const TAIL: usize = STEPS[2];

/// Words before the samples: the time of the first one.
const HEAD: usize = 2;
/// Words of a sample: milliseconds since the first one, and the value.
const WORDS: usize = 3;

/// Up to [`TAIL`] samples whose times ascend.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u32>);

impl Tail {
    pub(super) fn len(&self) -> usize {
        self.0.len().saturating_sub(HEAD) / WORDS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a sample of a later time can be added: there is room for it, and it is no more than 49 days after the first one.
    #[inline]
    pub(super) fn takes(&self, t: i64) -> bool {
        match self.first_t() {
            None => true,
            Some(first) => self.len() < TAIL && t.checked_sub(first).is_some_and(|since| u32::try_from(since).is_ok()),
        }
    }

    /// Adds a sample that [`Tail::takes`].
    #[inline]
    pub(super) fn push(&mut self, sample: Sample) {
        let first = self.first_t().unwrap_or(sample.t);
        if self.0.len() == self.0.capacity() {
            self.grow();
        }
        if self.0.is_empty() {
            self.0.extend(halves(first as u64));
        }
        let [low, high] = halves(sample.v.to_bits());
        self.0.extend([sample.t.wrapping_sub(first) as u32, low, high]);
    }

    /// Has the time of the first one fetched, and the place of the next one.
    #[inline]
    pub(super) fn fetch(&self) {
        if let (Some(first), Some(last)) = (self.0.first(), self.0.last()) {
            prefetch(first);
            prefetch(last);
        }
    }

    #[cold]
    fn grow(&mut self) {
        let room = STEPS.iter().find(|room| **room > self.len()).unwrap_or(&TAIL);
        self.0.reserve_exact(HEAD + WORDS * room - self.0.len());
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes the first ones away.
    pub(super) fn forget(&mut self, count: usize) {
        let rest: Vec<Sample> = self.iter().skip(count).collect();
        self.clear();
        rest.into_iter().for_each(|sample| self.push(sample));
    }

    pub(super) fn first_t(&self) -> Option<i64> {
        let [low, high] = *self.0.first_chunk()?;
        Some(whole(low, high) as i64)
    }

    pub(super) fn last(&self) -> Option<Sample> {
        self.sample(self.0.last_chunk()?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Sample> {
        self.0.get(HEAD..).unwrap_or_default().as_chunks().0.iter().filter_map(|words| self.sample(words))
    }

    #[inline]
    fn sample(&self, [since, low, high]: &[u32; WORDS]) -> Option<Sample> {
        let t = self.first_t()?.wrapping_add(i64::from(*since));
        Some(Sample { t, v: f64::from_bits(whole(*low, *high)) })
    }

    /// Memory that it takes beside itself, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<u32>()
    }
}

fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

fn whole(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_those_that_were_added() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut tail, mut expect) = (Tail::default(), Vec::<Sample>::new());
            for _ in 0..random.usize(..100) {
                let before = expect.last().map_or(if random.bool() { i64::MIN } else { random.i64(..) }, |last| last.t);
                let step = [1, 15_000, u32::MAX as i64 / 3, i64::MAX][random.usize(..4)];
                let sample = Sample { t: before.saturating_add(step), v: f64::from_bits(random.u64(..)) };
                let is_near = |first: &Sample| i128::from(sample.t) - i128::from(first.t) <= u32::MAX.into();
                let takes = expect.first().is_none_or(is_near) && expect.len() < TAIL;
                assert_eq!(tail.takes(sample.t), takes, "seed {seed}");
                if takes && sample.t > before {
                    tail.push(sample);
                    expect.push(sample);
                } else if random.bool() {
                    tail.clear();
                    expect.clear();
                } else {
                    let count = random.usize(..=expect.len());
                    tail.forget(count);
                    expect.drain(..count);
                }
                let bits = |samples: Vec<Sample>| samples.iter().map(|s| (s.t, s.v.to_bits())).collect::<Vec<_>>();
                assert_eq!(bits(tail.iter().collect()), bits(expect.clone()), "seed {seed}");
                assert_eq!(bits(tail.last().into_iter().collect()), bits(expect.last().copied().into_iter().collect()));
                assert_eq!((tail.len(), tail.is_empty()), (expect.len(), expect.is_empty()), "seed {seed}");
                assert_eq!(tail.first_t(), expect.first().map(|s| s.t), "seed {seed}");
                assert!([0, 56, 128, 200].contains(&tail.heap_bytes()), "seed {seed}: {}", tail.heap_bytes());
            }
        }
    }
}
