//! The samples of a shard's series between two flushes, by the number that the shard gave each series.

use std::sync::Arc;

use model::TimeRange;

use super::buffer::Buffer;
use super::ids::Ids;

/// Samples by the number of their series.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(super) buffers: Vec<Buffer>,
    /// The series that have samples here.
    pub(super) active: Ids,
    pub(super) samples: u64,
    pub(super) bytes: usize,
    pub(super) range: TimeRange,
}

/// What a head held when it was frozen: one generation of each shard. It does not change any more.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(super) shards: Vec<Arc<Generation>>,
}

impl Default for Generation {
    fn default() -> Self {
        Generation {
            buffers: Vec::new(),
            active: Ids::default(),
            samples: 0,
            bytes: 0,
            range: TimeRange { start_ms: i64::MAX, end_ms: i64::MIN },
        }
    }
}

impl Generation {
    /// The buffer of a series, made where it is missing. `series` is how many there are, for which room is reserved.
    #[inline]
    pub(super) fn buffer(&mut self, id: u32, series: usize) -> &mut Buffer {
        let at = id as usize;
        if at >= self.buffers.len() {
            self.buffers.reserve(series - self.buffers.len());
            self.bytes += (at + 1 - self.buffers.len()) * size_of::<Buffer>();
            self.buffers.resize_with(at + 1, Buffer::default);
        }
        let buffer = &mut self.buffers[at];
        if buffer.is_empty() {
            self.active.insert(id);
        }
        buffer
    }

    /// The samples of a series, where there are any.
    pub(crate) fn get(&self, id: u32) -> Option<&Buffer> {
        self.buffers.get(id as usize).filter(|buffer| !buffer.is_empty())
    }

    pub(super) fn overlaps(&self, range: TimeRange) -> bool {
        !self.active.is_empty() && self.range.overlaps(&range)
    }
}

impl Frozen {
    /// The range of times in it; `None` where it is empty.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        let filled = self.shards.iter().filter(|generation| !generation.active.is_empty());
        filled
            .map(|generation| generation.range)
            .reduce(|a, b| TimeRange { start_ms: a.start_ms.min(b.start_ms), end_ms: a.end_ms.max(b.end_ms) })
    }

    /// Memory taken, about.
    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(|generation| generation.bytes).sum()
    }

    /// The samples of a series of a shard.
    pub(crate) fn buffer(&self, shard: usize, id: u32) -> Option<&Buffer> {
        self.shards.get(shard)?.get(id)
    }
}
