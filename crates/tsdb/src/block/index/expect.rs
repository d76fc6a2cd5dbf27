//! What a query is going to read, said before it reads it.
//!
//! A query of an index that is not in memory needs some dozens of small pages, and each one tells which is next. Read one after the other each costs a wait for
//! the disk; but most are known some steps ahead, so the file is told of them, and what it fetches meanwhile is there when its turn comes. That is looked at only where
//! something was not in the cache: who finds everything there pays for one look.

use model::{MatchOp, Matcher, Shape};

use super::group::{self, GROUP};
use super::{Index, Near};
use crate::block::{ChunkRef, File};

/// Bytes in between that are fetched as well, so that two places are one.
const GAP_MAX: u64 = 16 << 10;
/// Bytes of values and postings that are expected of one matcher.
const VALUES_MAX: u64 = 1 << 20;
/// Bytes that a query expects of the chunks of one block.
const CHUNKS_MAX: u64 = 32 << 20;

/// Places of a file that mostly ascend, put together to as few as there can be.
struct Expected<'a> {
    file: &'a File,
    from: u64,
    to: u64,
    /// Bytes that may still be expected.
    left: u64,
}

impl<'a> Expected<'a> {
    fn up_to(file: &'a File, bytes_max: u64) -> Self {
        Expected { file, from: 0, to: 0, left: bytes_max }
    }

    fn add(&mut self, from: u64, to: u64) {
        if self.from < self.to && self.from <= from && from <= self.to.saturating_add(GAP_MAX) {
            self.to = self.to.max(to);
        } else {
            self.tell();
            (self.from, self.to) = (from, to);
        }
    }

    fn tell(&mut self) {
        let bytes = self.to.saturating_sub(self.from).min(self.left);
        if bytes > 0 {
            self.file.expect(self.from, bytes);
            self.left -= bytes;
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.tell();
    }
}

/// Chunks that will be read, of series in their order.
pub(in crate::block) struct Chunks<'a> {
    own: Expected<'a>,
    /// The columns of their times, which neighbours share.
    times: Expected<'a>,
}

impl<'a> Chunks<'a> {
    pub(in crate::block) fn of(file: &'a File) -> Self {
        Chunks { own: Expected::up_to(file, CHUNKS_MAX), times: Expected::up_to(file, CHUNKS_MAX) }
    }

    /// Adds those of a series.
    pub(in crate::block) fn add(&mut self, chunks: &[ChunkRef]) {
        if let (Some(first), Some(last)) = (chunks.first(), chunks.last()) {
            self.own.add(first.at, last.at.saturating_add(u64::from(last.bytes)));
        }
        for place in chunks.iter().filter_map(|chunk| chunk.times) {
            self.times.add(place.at, place.end());
        }
    }
}

impl Index {
    /// The pages that say which series meet the matchers.
    pub(super) fn expect_values(&self, matchers: &[Matcher]) {
        let mut is_first = true;
        for matcher in matchers {
            let Some(name) = self.name(&matcher.name).filter(|name| !name.pages.is_empty()) else { continue };
            let at = match (matcher.op, matcher.shape()) {
                (_, Some(Shape::OneOf(values))) => values.first().map_or("", |value| value.as_str()),
                (_, Some(Shape::Prefix(prefix))) => prefix,
                _ => &matcher.value,
            };
            let first = name.page_of(at.as_bytes());
            // Where the first one is in memory the others are too, most likely.
            if std::mem::take(&mut is_first) && self.is_kept(name.pages[first].values.at) {
                return;
            }
            let mut expected = Expected::up_to(&self.file, VALUES_MAX);
            let mut pages = |first: usize, last: usize| {
                expected.add(name.pages[first].values.at, name.pages[last].postings.end());
            };
            match (matcher.op, matcher.shape()) {
                (MatchOp::Equal | MatchOp::NotEqual, _) => pages(first, first),
                (_, Some(Shape::OneOf(values))) => {
                    for value in values {
                        let page = name.page_of(value.as_bytes());
                        pages(page, page);
                    }
                }
                // All that may begin so.
                (_, Some(Shape::Prefix(prefix))) => {
                    let last = name.page_of(&[prefix.as_bytes(), &[u8::MAX; 4]].concat());
                    pages(first, last);
                }
                _ => pages(0, name.pages.len() - 1),
            }
        }
    }

    /// The pages of the groups of series that ascend. Whether they were not in memory.
    pub(in crate::block) fn expect_groups(&self, ids: impl Iterator<Item = u32>) -> bool {
        let (mut expected, mut before) = (Expected::up_to(&self.file, VALUES_MAX), usize::MAX);
        for id in ids {
            let group = id as usize / GROUP;
            let Some(places) = self.top.groups.get(group).filter(|_| group != before) else { continue };
            if before == usize::MAX && self.is_kept(places.chunks.at) {
                return false;
            }
            expected.add(places.labels.at, places.chunks.end());
            if expected.to - expected.from >= VALUES_MAX {
                break;
            }
            before = group;
        }
        before != usize::MAX
    }

    /// The pages of the values of a series' labels, of a group that was not in memory.
    pub(super) fn expect_labels(&self, near: &Near, id: u32) {
        // What is not right is said by who reads the labels.
        let _ = group::each_label(&near.labels, id as usize % GROUP, |name, number| {
            if let Some(name) = self.top.names.get(name).filter(|name| number < name.values)
                && let Some(page) = name.pages.get(name.page_of_number(number))
                && !self.is_kept(page.values.at)
            {
                self.file.expect(page.values.at, u64::from(page.values.bytes));
            }
            Ok(())
        });
    }

    fn is_kept(&self, at: u64) -> bool {
        self.cache.has(self.file.number, at)
    }
}
