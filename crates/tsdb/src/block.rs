//! An immutable file of chunks with its index.
//!
//! A block holds series in the order of their labels, with chunks that lie together. Its index is in pages, of which memory holds the top and what was read
//! last (`index`, `cache`); labels are put together when a query finds the series. Pages and chunks are read by position when they are needed, each with a
//! checksum. FORMAT.md draws the bytes.
//!
//! Times that several chunks have are stored once, before the chunks of the series that had them first, so a series is read at two places, its own and that
//! of the times of its scrapes. The price: what damages those costs the samples of all series that share them.

mod cache;
#[cfg(test)]
mod counting;
mod file;
mod index;
mod near;
mod tail;
#[cfg(test)]
mod tests;
mod times;
mod write;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::{Cancel, Columns, Held, Labels, SelectRequest, SeriesData, SourceError, TimeRange, is_stale};
use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::chunk::{self, Facts, Times};
use crate::deletes::{Cuts, is_cut};
use crate::disk::Disk;
use crate::head::too_many_meet;
use crate::{Error, deletes, postings};
pub(crate) use cache::Cache;
pub(crate) use file::File;
pub(crate) use index::{Entry, Index, Memo, Newest, Order, Places};
use index::{Expected, GROUP};
pub use tail::tail_bytes;
pub(crate) use times::Place;
pub(crate) use write::Writer;

/// What the first bytes of a block are but for its version.
const NAME: &[u8; 7] = b"weirblk";
/// First bytes of a block.
pub(crate) const MAGIC: &[u8; 8] = b"weirblk4";
/// Last bytes of a block.
pub(crate) const END: &[u8; 8] = b"weirend4";
/// Position of the index, that of its top, the top's checksum, number of samples, first and last time, checksum of these, [`END`].
pub(crate) const FOOTER: usize = 8 + 8 + 4 + 8 + 8 + 8 + 4 + 8;

/// Series that one thread looks up in the index at a time: some groups of it, so that few pages are wanted by two.
const TOGETHER: usize = 1024;

/// Where a chunk lies, and what is in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ChunkRef {
    pub(crate) at: u64,
    pub(crate) bytes: u32,
    pub(crate) range: TimeRange,
    pub(crate) samples: u32,
    pub(crate) last: Last,
    /// Where its times are, if they are not in it.
    pub(crate) times: Option<Place>,
    /// What is known of its values, where that is worth it.
    pub(crate) facts: Option<Facts>,
}

/// What the last sample of a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    Float,
    StaleFloat,
    Histogram,
    /// A float that is no stale marker, in a chunk of those that stand for others.
    Aggregate,
}

impl Last {
    pub(crate) fn of(code: u64) -> Option<Last> {
        [Last::Float, Last::StaleFloat, Last::Histogram, Last::Aggregate].get(code as usize).copied()
    }
}

/// A block that is open.
#[derive(Debug)]
pub struct Block {
    file: Arc<File>,
    samples: u64,
    range: TimeRange,
    pub(crate) index: Index,
}

/// The end of a block, which says where its index is.
pub(crate) struct Footer {
    /// Where the chunks end and the pages of the index begin.
    pub(crate) index_at: u64,
    /// Where the pages end and the top of the index begins.
    pub(crate) top_at: u64,
    pub(crate) top_crc: [u8; 4],
    pub(crate) samples: u64,
    pub(crate) range: TimeRange,
    /// Whether its checksum is right.
    pub(crate) is_sound: bool,
    pub(crate) has_end: bool,
}

impl Footer {
    /// Reads what is one, as its length tells; of one that is not sound nothing is known.
    pub(crate) fn read(bytes: &[u8]) -> Option<Footer> {
        let (content, rest) = bytes.split_at_checked(FOOTER - 12)?;
        let u64_at = |at: usize| content[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        Some(Footer {
            index_at: u64_at(0)?,
            top_at: u64_at(8)?,
            top_crc: content[16..20].try_into().ok()?,
            samples: u64_at(20)?,
            range: TimeRange { start_ms: u64_at(28)? as i64, end_ms: u64_at(36)? as i64 },
            is_sound: rest.get(..4)? == crc32c::crc32c(content).to_le_bytes(),
            has_end: rest.get(4..)? == END,
        })
    }

    /// Whether it tells of places that there can be, before it.
    pub(crate) fn is_before(&self, footer_at: u64) -> bool {
        MAGIC.len() as u64 <= self.index_at && self.index_at <= self.top_at && self.top_at <= footer_at
    }
}

impl Block {
    /// Opens a block of a disk and checks its footer and the top of its index. What is read of the index later goes through the cache.
    pub(crate) fn open(disk: &dyn Disk, name: &str, cache: &Arc<Cache>) -> Result<Block, Error> {
        let file = Arc::new(File::open(disk, name)?);
        let footer_at = file.bytes().checked_sub(FOOTER as u64).filter(|at| *at >= MAGIC.len() as u64);
        let footer_at = footer_at.ok_or_else(|| file.corrupt(0, "too short for a block"))?;
        let bytes = file.read(footer_at, FOOTER as u64)?;
        let damaged = |reason| file.corrupt(footer_at, reason);
        let footer = Footer::read(&bytes).ok_or_else(|| damaged("not a block"))?;
        let magic = file.read(0, MAGIC.len() as u64)?;
        if magic != MAGIC || !footer.has_end {
            let (version, own) = (magic[NAME.len()], MAGIC[NAME.len()]);
            let is_other = magic.starts_with(NAME) && version != own && bytes.ends_with(&[version]);
            let (version, own) = (char::from(version), char::from(own));
            let reason = format!("a block of version {version}, and this reads version {own}");
            return Err(if is_other { file.corrupt(0, &reason) } else { damaged("not a block") });
        }
        if !footer.is_sound {
            return Err(damaged("checksum of the footer is wrong"));
        }
        if !footer.is_before(footer_at) {
            return Err(damaged("place of the index"));
        }
        let top = file.read(footer.top_at, footer_at - footer.top_at)?;
        if crc32c::crc32c(&top).to_le_bytes() != footer.top_crc {
            return Err(file.corrupt(footer.top_at, "checksum of the index is wrong"));
        }
        let index = Index::open(&file, cache, footer.index_at, &top);
        let index = index.map_err(|reason| file.corrupt(footer.top_at, reason))?;
        Ok(Block { file, samples: footer.samples, range: footer.range, index })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// First and last time of a sample in it.
    pub fn range(&self) -> TimeRange {
        self.range
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Number of series.
    pub fn series(&self) -> usize {
        self.index.series()
    }

    /// The series that meet the request, with where their chunks are, which is held. On a thread of a pool the others of it help.
    pub(crate) fn pieces(
        self: &Arc<Self>,
        request: &SelectRequest,
        cuts: &Cuts,
        held: &mut Held,
    ) -> Result<Vec<(Labels, Piece)>, Error> {
        let ids = postings::select(&self.index, &request.matchers)?;
        let is_cold = self.index.expect_groups(ids.iter());
        // How many match, which is more than have samples in the range, is known before one is looked at.
        let matching = ids.len();
        if ids.len() < 2 * TOGETHER as u64 || rayon::current_thread_index().is_none() {
            return self.pieces_of((ids.iter(), matching), is_cold, request, cuts, held);
        }
        let (ids, found): (Vec<u32>, _) = (ids.iter().collect(), AtomicUsize::new(0));
        let parts = ids.par_chunks(TOGETHER).map(|ids| {
            let mut held = request.cancel.claim().hold();
            let pieces = self.pieces_of((ids.iter().copied(), matching), is_cold, request, cuts, &mut held)?;
            // Those of other threads count: what is too much is not looked for to its end.
            if found.fetch_add(pieces.len(), Ordering::Relaxed) + pieces.len() > request.series_max {
                return Err(too_many_meet(request.series_max, matching));
            }
            Ok::<_, Error>((pieces, held))
        });
        let parts: Vec<_> = parts.collect::<Result<_, _>>()?;
        let mut out = Vec::with_capacity(parts.iter().map(|(pieces, _)| pieces.len()).sum());
        for (mut pieces, own) in parts {
            out.append(&mut pieces);
            held.join(own);
        }
        Ok(out)
    }

    fn pieces_of(
        self: &Arc<Self>,
        (ids, matching): (impl Iterator<Item = u32>, u64),
        is_cold: bool,
        request: &SelectRequest,
        cuts: &Cuts,
        held: &mut Held,
    ) -> Result<Vec<(Labels, Piece)>, Error> {
        let mut expected = is_cold.then(|| Expected::of(&self.file));
        let (mut memo, mut out) = (Memo::default(), Vec::new());
        for (n, id) in ids.enumerate() {
            if n % 1024 == 0 && request.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let entry = self.index.entry(id, &mut memo)?;
            let cuts = cuts.of(id);
            let is_asked = |c: &ChunkRef| c.range.overlaps(&request.range) && !is_cut(&cuts, c);
            let chunks: Vec<ChunkRef> = entry.chunks.into_iter().filter(is_asked).collect();
            if !chunks.is_empty() {
                if let Some(expected) = &mut expected {
                    expected.add(&chunks);
                }
                let text = entry.labels.canonical().len();
                held.grow(size_of::<(Labels, Piece)>() + text + chunks.capacity() * size_of::<ChunkRef>())?;
                out.push((entry.labels, Piece { block: self.clone(), chunks, cuts }));
            }
            if out.len() > request.series_max {
                return Err(too_many_meet(request.series_max, matching));
            }
        }
        Ok(out)
    }

    /// Those of the series that have a newest sample in the range, and one that is no stale marker; and those of which it is one. `None` where it is a
    /// histogram.
    pub(crate) fn live(
        &self,
        mut ids: RoaringBitmap,
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Option<(RoaringBitmap, RoaringBitmap)>, Error> {
        let (mut memo, mut ended) = (Memo::default(), RoaringBitmap::new());
        for (newest, first) in self.index.newest().iter().zip((0u32..).step_by(GROUP)) {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let own = first..first.saturating_add(GROUP as u32);
            if newest.last_ms < range.start_ms {
                ids.remove_range(own);
            } else if !newest.live || newest.first_ms < range.start_ms || newest.last_ms > range.end_ms {
                for id in ids.range(own).collect::<Vec<_>>() {
                    match self.newest(id, range, &mut memo)? {
                        Some(Some((_, true))) => {}
                        Some(Some((_, false))) => {
                            ids.remove(id);
                            ended.insert(id);
                        }
                        Some(None) => {
                            ids.remove(id);
                        }
                        None => return Ok(None),
                    }
                }
            }
        }
        Ok(Some((ids, ended)))
    }

    /// The newest sample of a series in a range: its time, and whether it is no stale marker. `None` where it is a histogram.
    pub(crate) fn newest(
        &self,
        id: u32,
        range: TimeRange,
        memo: &mut Memo,
    ) -> Result<Option<Option<(i64, bool)>>, Error> {
        let chunks = self.index.chunks(id, memo)?;
        let Some(newest) = chunks.iter().rfind(|c| c.range.start_ms <= range.end_ms) else { return Ok(Some(None)) };
        if newest.last == Last::Histogram {
            return Ok(None);
        }
        let end_ms = newest.range.end_ms;
        if end_ms <= range.end_ms {
            let is_float = matches!(newest.last, Last::Float | Last::Aggregate);
            return Ok(Some((end_ms >= range.start_ms).then_some((end_ms, is_float))));
        }
        // It goes on after the range.
        let mut samples = Columns::default();
        self.read(std::slice::from_ref(newest), range, &mut samples)?;
        Ok(Some(samples.t.last().zip(samples.v.last()).map(|(t, v)| (*t, !is_stale(*v)))))
    }

    /// Decodes chunks in the order in which they lie, and keeps the samples in the range.
    pub(crate) fn read(&self, chunks: &[ChunkRef], range: TimeRange, out: &mut Columns) -> Result<(), Error> {
        self.read_by(chunks, range, out, |place, rest, run| {
            self.index.times(place, || self.read_times(place, rest, run))
        })
    }

    /// As [`Block::read`], for who goes through a whole block once: the times that series share are kept for the next of them, and not where they would drive
    /// out what queries need again.
    pub(crate) fn read_once(
        &self,
        chunks: &[ChunkRef],
        range: TimeRange,
        recent: &mut Recent,
        out: &mut Columns,
    ) -> Result<(), Error> {
        self.read_by(chunks, range, out, |place, rest, run| {
            if let Some((_, times)) = recent.0.iter().find(|(at, _)| *at == place.at) {
                return Ok(times.clone());
            }
            let times = Arc::new(self.read_times(place, rest, run)?);
            if recent.0.len() == RECENT_MAX {
                recent.0.pop_front();
            }
            recent.0.push_back((place.at, times.clone()));
            Ok(times)
        })
    }

    /// Decodes chunks, with times that `times` has for the first of some.
    fn read_by(
        &self,
        chunks: &[ChunkRef],
        range: TimeRange,
        out: &mut Columns,
        mut times: impl FnMut(Place, &[ChunkRef], &mut Run) -> Result<Arc<Vec<i64>>, Error>,
    ) -> Result<(), Error> {
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { return Ok(()) };
        let end = last.at.saturating_add(u64::from(last.bytes));
        near::with_bytes(&self.file, first.at, end.saturating_sub(first.at), |bytes| {
            let mut run = Run::default();
            for (n, reference) in chunks.iter().enumerate() {
                let chunk = self.checked(bytes, first.at, Place { at: reference.at, bytes: reference.bytes })?;
                let before = out.mark();
                let shared = reference.times.map(|place| times(place, &chunks[n..], &mut run)).transpose()?;
                let times = shared.as_ref().map_or(Times::Within, |times| Times::Beside(times));
                let decoded = chunk::decode_beside(chunk, times, out);
                decoded.map_err(|reason| self.corrupt(reference.at, reason))?;
                out.clip(before, range);
            }
            Ok(())
        })
    }

    /// Reads the times of the first of these chunks.
    fn read_times(&self, place: Place, chunks: &[ChunkRef], run: &mut Run) -> Result<Vec<i64>, Error> {
        if !run.has(place) {
            *run = self.read_run(chunks)?;
        }
        let (column, mut times) = (self.checked(&run.bytes, run.at, place)?, Vec::new());
        chunk::decode_times(column, &mut times).map_err(|reason| self.corrupt(place.at, reason))?;
        Ok(times)
    }

    /// Reads the columns of the times of these chunks that lie one behind the other.
    fn read_run(&self, chunks: &[ChunkRef]) -> Result<Run, Error> {
        let mut places = chunks.iter().map_while(|chunk| chunk.times);
        let Some(first) = places.next() else { return Ok(Run::default()) };
        let mut end = first.end();
        for place in places {
            if place.at != end {
                break;
            }
            end = place.end();
        }
        Ok(Run { at: first.at, bytes: self.file.read(first.at, end.saturating_sub(first.at))? })
    }

    /// What lies at a place, without the checksum, which must be right. `bytes` begins at `from`.
    fn checked<'a>(&self, bytes: &'a [u8], from: u64, place: Place) -> Result<&'a [u8], Error> {
        let start = place.at.wrapping_sub(from) as usize;
        let stored = start.checked_add(place.bytes as usize).and_then(|end| bytes.get(start..end));
        let (content, checksum) = stored
            .and_then(|s| s.split_last_chunk::<4>())
            .ok_or_else(|| self.corrupt(place.at, "chunk is too short"))?;
        if crc32c::crc32c(content).to_le_bytes() != *checksum {
            return Err(self.corrupt(place.at, "checksum of the chunk is wrong"));
        }
        Ok(content)
    }

    /// Whether a read found bytes that are not what was written; the block is then left out, and answers say so.
    pub fn is_damaged(&self) -> bool {
        self.file.is_damaged()
    }

    fn corrupt(&self, at: u64, reason: &str) -> Error {
        self.file.corrupt(at, reason)
    }
}

/// Columns of times of a block that were decoded last, with where they lie.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<(u64, Arc<Vec<i64>>)>);

/// Columns that are kept so: as many as the chunks of a series that is not in more than some days of a block, with 8 KB each.
const RECENT_MAX: usize = 16;

/// Columns of times that lie one behind the other.
#[derive(Default)]
struct Run {
    at: u64,
    bytes: Vec<u8>,
}

impl Run {
    fn has(&self, place: Place) -> bool {
        self.at <= place.at && place.end() <= self.at + self.bytes.len() as u64
    }
}

/// One series of a block.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) block: Arc<Block>,
    pub(crate) chunks: Vec<ChunkRef>,
    /// Ranges of it that are deleted.
    pub(crate) cuts: Vec<TimeRange>,
}

impl Piece {
    /// The chunks that may have a sample in the range.
    fn chunks_in(&self, range: TimeRange) -> &[ChunkRef] {
        let from = self.chunks.partition_point(|c| c.range.end_ms < range.start_ms);
        let to = self.chunks.partition_point(|c| c.range.start_ms <= range.end_ms);
        self.chunks.get(from..to).unwrap_or(&[])
    }

    /// From the first to the last of its chunks whose samples stand for others.
    pub(crate) fn aggregated(&self) -> Option<TimeRange> {
        let mut own = self.chunks.iter().filter(|chunk| chunk.last == Last::Aggregate).map(|chunk| chunk.range);
        let first = own.next()?;
        Some(TimeRange { end_ms: own.next_back().map_or(first.end_ms, |last| last.end_ms), ..first })
    }

    /// A time that is not after its first sample in the range; `None` where there is none.
    pub(crate) fn first_ms(&self, range: TimeRange) -> Option<i64> {
        self.chunks_in(range).first().map(|chunk| chunk.range.start_ms.max(range.start_ms))
    }

    pub(crate) fn read_into(&self, range: TimeRange, out: &mut Columns) -> Result<(), Error> {
        let start = out.mark();
        self.block.read(self.chunks_in(range), range, out)?;
        deletes::apply(&self.cuts, start, out);
        Ok(())
    }
}

impl SeriesData for Piece {
    fn read(&self, range: TimeRange, out: &mut Columns) -> Result<(), SourceError> {
        Ok(self.read_into(range, out)?)
    }
}
