//! An immutable file of chunks with its index.
//!
//! A block holds series in the order of their labels, with chunks that lie together. Its index (symbols, series, an FST of the values of each label
//! with postings) is read into memory when the block is opened, compressed as it lies; labels are put together when a query finds the
//! series. Chunks are read by position when they are decoded, each with a checksum. FORMAT.md draws the bytes.
//!
//! Times that several chunks have are stored once, before the chunks of the series that had them first, so a series is read at two places, its own and that
//! of the times of its scrapes. The price: what damages those costs the samples of all series that share them.

mod index;
mod tail;
#[cfg(test)]
mod tests;
mod times;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::{Cancel, Columns, Held, Labels, SelectRequest, SeriesData, SourceError, TimeRange, is_stale};
use roaring::RoaringBitmap;

use crate::chunk::{self, Facts, Times};
use crate::deletes::{Cuts, is_cut};
use crate::disk::{Disk, Input, io};
use crate::head::too_many;
use crate::{Error, deletes, postings};
use index::NEWEST_SERIES;
pub(crate) use index::{Entry, Index};
pub use tail::tail_bytes;
pub(crate) use times::Place;
pub(crate) use write::Writer;

/// First bytes of a block.
pub(crate) const MAGIC: &[u8; 8] = b"weirblk3";
/// Last bytes of a block.
pub(crate) const END: &[u8; 8] = b"weirend3";
/// Position and length of the index, its checksum, number of samples, first and last time, checksum of these, [`END`].
pub(crate) const FOOTER: usize = 8 + 8 + 4 + 8 + 8 + 8 + 4 + 8;

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
}

impl Last {
    pub(crate) fn of(code: u64) -> Option<Last> {
        [Last::Float, Last::StaleFloat, Last::Histogram].get(code as usize).copied()
    }
}

/// A block that is open.
#[derive(Debug)]
pub struct Block {
    path: PathBuf,
    file: Box<dyn Input>,
    bytes: u64,
    samples: u64,
    range: TimeRange,
    /// Bytes were found that are not what was written.
    damaged: AtomicBool,
    pub(crate) index: Index,
}

impl Block {
    /// Opens a block of a disk and checks its footer and its index.
    pub fn open(disk: &dyn Disk, name: &str) -> Result<Block, Error> {
        let (path, open) = (disk.path(name), disk.open(name));
        let name = path.display().to_string();
        let file = open.map_err(io(format!("opening {name}")))?;
        let bytes = file.bytes();
        let read = |at: u64, n: usize| {
            let mut buffer = vec![0; n];
            file.read_exact_at(&mut buffer, at)
                .map(|()| buffer)
                .map_err(io(format!("reading {n} bytes at {at} of {name}")))
        };
        let footer_at = bytes.checked_sub(FOOTER as u64).filter(|at| *at >= MAGIC.len() as u64);
        let footer_at = footer_at.ok_or_else(|| Error::corrupt(&name, 0, "too short for a block"))?;
        let footer = read(footer_at, FOOTER)?;
        let (content, rest) = footer.split_at(FOOTER - 12);
        let damaged = |reason| Error::corrupt(&name, footer_at as usize, reason);
        if read(0, MAGIC.len())? != MAGIC || &rest[4..] != END {
            return Err(damaged("not a block"));
        }
        if crc32c::crc32c(content).to_le_bytes() != rest[..4] {
            return Err(damaged("checksum of the footer is wrong"));
        }
        let u64_at = |at: usize| u64::from_le_bytes(content[at..at + 8].try_into().expect("eight bytes"));
        let (index_at, index_bytes) = (u64_at(0), u64_at(8));
        if index_at.checked_add(index_bytes) != Some(footer_at) {
            return Err(damaged("place of the index"));
        }
        let stored = read(index_at, index_bytes as usize)?;
        if crc32c::crc32c(&stored).to_le_bytes() != content[16..20] {
            return Err(Error::corrupt(&name, index_at as usize, "checksum of the index is wrong"));
        }
        let index = Index::read(stored).map_err(|reason| Error::corrupt(&name, index_at as usize, reason))?;
        let range = TimeRange { start_ms: u64_at(28) as i64, end_ms: u64_at(36) as i64 };
        Ok(Block { path, file, bytes, samples: u64_at(20), range, damaged: AtomicBool::new(false), index })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// First and last time of a sample in it.
    pub fn range(&self) -> TimeRange {
        self.range
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Memory of its index, in bytes.
    pub fn memory(&self) -> usize {
        self.index.memory()
    }

    /// Number of series.
    pub fn series(&self) -> usize {
        self.index.series()
    }

    /// The series that meet the request, with where their chunks are, which is held.
    pub(crate) fn pieces(
        self: &Arc<Self>,
        request: &SelectRequest,
        cuts: &Cuts,
        held: &mut Held,
    ) -> Result<Vec<(Labels, Piece)>, Error> {
        let ids = postings::select(&self.index, &request.matchers);
        let mut out = Vec::new();
        for (n, id) in ids.iter().enumerate() {
            if n % 1024 == 0 && request.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let entry = self.index.entry(id).map_err(|reason| self.corrupt(0, reason))?;
            let cuts = cuts.of(id);
            let is_asked = |c: &ChunkRef| c.range.overlaps(&request.range) && !is_cut(&cuts, c);
            let chunks: Vec<ChunkRef> = entry.chunks.into_iter().filter(is_asked).collect();
            if !chunks.is_empty() {
                let text = entry.labels.canonical().len();
                held.grow(size_of::<(Labels, Piece)>() + text + chunks.capacity() * size_of::<ChunkRef>())?;
                out.push((entry.labels, Piece { block: self.clone(), chunks, cuts }));
            }
            if out.len() > request.series_max {
                return Err(too_many(request.series_max));
            }
        }
        Ok(out)
    }

    /// Those of the series that have a newest sample in the range, and one that is no stale marker. `None` where that is a histogram.
    pub(crate) fn live(
        &self,
        mut ids: RoaringBitmap,
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Option<RoaringBitmap>, Error> {
        for (newest, first) in self.index.newest().iter().zip((0u32..).step_by(NEWEST_SERIES)) {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let own = first..first.saturating_add(NEWEST_SERIES as u32);
            if newest.last_ms < range.start_ms {
                ids.remove_range(own);
            } else if !newest.live || newest.first_ms < range.start_ms || newest.last_ms > range.end_ms {
                for id in ids.range(own).collect::<Vec<_>>() {
                    match self.is_live(id, range)? {
                        Some(true) => {}
                        Some(false) => {
                            ids.remove(id);
                        }
                        None => return Ok(None),
                    }
                }
            }
        }
        Ok(Some(ids))
    }

    fn is_live(&self, id: u32, range: TimeRange) -> Result<Option<bool>, Error> {
        let chunks = self.index.chunks(id).map_err(|reason| self.corrupt(0, reason))?;
        let Some(newest) = chunks.iter().rfind(|c| c.range.start_ms <= range.end_ms) else { return Ok(Some(false)) };
        if newest.last == Last::Histogram {
            return Ok(None);
        }
        if newest.range.end_ms <= range.end_ms {
            return Ok(Some(newest.range.end_ms >= range.start_ms && newest.last == Last::Float));
        }
        // It goes on after the range.
        let mut samples = Columns::default();
        self.read(std::slice::from_ref(newest), range, &mut samples)?;
        Ok(Some(samples.v.last().is_some_and(|v| !is_stale(*v))))
    }

    /// Decodes chunks in the order in which they lie, and keeps the samples in the range.
    pub(crate) fn read(&self, chunks: &[ChunkRef], range: TimeRange, out: &mut Columns) -> Result<(), Error> {
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { return Ok(()) };
        let bytes = self.read_at(first.at, last.at + u64::from(last.bytes) - first.at)?;
        let mut run = Run::default();
        for (n, reference) in chunks.iter().enumerate() {
            let chunk = self.checked(&bytes, first.at, Place { at: reference.at, bytes: reference.bytes })?;
            let times = match reference.times {
                None => Times::Within,
                Some(place) => {
                    if !run.has(place) {
                        run = self.read_run(&chunks[n..])?;
                    }
                    run.times.clear();
                    let column = self.checked(&run.bytes, run.at, place)?;
                    let decoded = chunk::decode_times(column, &mut run.times);
                    decoded.map_err(|reason| self.corrupt(place.at, reason))?;
                    Times::Beside(&run.times)
                }
            };
            let before = out.mark();
            let decoded = chunk::decode_beside(chunk, times, out);
            decoded.map_err(|reason| self.corrupt(reference.at, reason))?;
            out.clip(before, range);
        }
        Ok(())
    }

    /// Reads the times of the first of these chunks, and with them those of others that lie behind them.
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
        Ok(Run { at: first.at, bytes: self.read_at(first.at, end - first.at)?, times: Vec::new() })
    }

    fn read_at(&self, at: u64, size: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; size as usize];
        let context = || format!("reading {size} bytes at {at} of {}", self.path.display());
        self.file.read_exact_at(&mut bytes, at).map_err(io(context()))?;
        Ok(bytes)
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
        self.damaged.load(Ordering::Relaxed)
    }

    pub(crate) fn corrupt(&self, at: u64, reason: &str) -> Error {
        self.damaged.store(true, Ordering::Relaxed);
        Error::corrupt(&self.path.display().to_string(), at as usize, reason)
    }
}

/// Columns of times that lie one behind the other.
#[derive(Default)]
struct Run {
    at: u64,
    bytes: Vec<u8>,
    /// Those of one of them.
    times: Vec<i64>,
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

    /// Whether it may have a sample in the range.
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        !self.chunks_in(range).is_empty()
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
