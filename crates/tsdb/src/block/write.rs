//! Writes a block, series by series.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use hashbrown::HashMap;
use model::{Labels, TimeRange, is_stale};
use roaring::RoaringBitmap;

use super::index::{FACTS, LAST, NEWEST_SERIES, Newest, TIMES_BESIDE, symbol_text};
use super::times::Recent;
use super::{END, Last, MAGIC, Place};
use crate::Error;
use crate::chunk::bits::{put_varint, zigzag};
use crate::chunk::{Column, Piece, Pieces, Scratch, encode_times};
use crate::columns::View;
use crate::disk::{Disk, Output, io};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 20;
/// One of so many parts of the memory for writing may be columns of times.
const TIMES_SHARE: usize = 8;

/// Writes a block to a file. Series are given in the order of their canonical texts, each once.
pub(crate) struct Writer {
    path: PathBuf,
    out: BufWriter<Box<dyn Output>>,
    at: u64,
    symbols: HashMap<Box<str>, u32>,
    symbol_text: String,
    /// End of each symbol in the text.
    symbol_ends: Vec<usize>,
    series: Vec<u8>,
    lengths: Vec<u32>,
    newest: Vec<Newest>,
    /// Symbols of name and value to series.
    postings: HashMap<(u32, u32), Vec<u32>>,
    /// Numbers in them.
    posted: usize,
    /// Labels of the series before, with their symbols: neighbours share most of them.
    before: Vec<(Box<str>, u32)>,
    samples: u64,
    range: TimeRange,
    scratch: Scratch,
    bytes: Vec<u8>,
    facts: Vec<u8>,
    recent: Recent,
    times: Columns,
}

/// The times of the chunks of one series.
#[derive(Default)]
struct Columns {
    of: Vec<Times>,
    /// Those that go into the chunks, encoded, one after the other.
    within: Vec<u8>,
    /// Memory for those of histograms.
    scratch: Vec<i64>,
}

enum Times {
    /// So many bytes of what goes into the chunks.
    Within(usize),
    Beside(Place),
}

impl Writer {
    pub(crate) fn create(disk: &dyn Disk, name: &str) -> Result<Writer, Error> {
        let path = disk.path(name);
        let file = disk.create(name).map_err(io(format!("creating {}", path.display())))?;
        let mut writer = Writer {
            path,
            out: BufWriter::with_capacity(BUFFER, file),
            at: 0,
            symbols: HashMap::new(),
            symbol_text: String::new(),
            symbol_ends: Vec::new(),
            series: Vec::new(),
            lengths: Vec::new(),
            newest: Vec::new(),
            postings: HashMap::new(),
            posted: 0,
            before: Vec::new(),
            samples: 0,
            range: TimeRange { start_ms: i64::MAX, end_ms: i64::MIN },
            scratch: Scratch::default(),
            bytes: Vec::new(),
            facts: Vec::new(),
            recent: Recent::new(Recent::MEMORY_MAX),
            times: Columns::default(),
        };
        writer.write(MAGIC)?;
        Ok(writer)
    }

    /// Adds a series with samples that ascend; none add nothing.
    pub(crate) fn push(&mut self, labels: &Labels, samples: View<'_>) -> Result<(), Error> {
        let (Some(first), Some(last)) = (samples.first_t(), samples.last_t()) else { return Ok(()) };
        let id = self.lengths.len() as u32;
        let start = self.series.len();
        self.push_labels(labels, id);
        let mut times = std::mem::take(&mut self.times);
        self.write_times(samples.pieces(), &mut times)?;
        put_varint(&mut self.series, times.of.len() as u64);
        let (mut place, mut time, mut within) = (0u64, 0i64, times.within.as_slice());
        let (mut times_end, mut end) = (None, Last::Float);
        for (piece, times) in samples.pieces().zip(&times.of) {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            let column = match times {
                Times::Within(size) => within.split_off(..*size).expect("it is there as many as it says"),
                Times::Beside(_) => &[],
            };
            piece.encode_with(Column::Ready(column), &mut self.scratch, &mut bytes);
            end_with_checksum(&mut bytes);
            let TimeRange { start_ms: from, end_ms: to } = piece.range();
            put_varint(&mut self.series, self.at.wrapping_sub(place));
            put_varint(&mut self.series, bytes.len() as u64);
            put_varint(&mut self.series, zigzag(from.wrapping_sub(time)));
            put_varint(&mut self.series, to.wrapping_sub(from) as u64);
            end = last_of(&piece);
            self.facts.clear();
            let has_facts = piece.facts().is_some_and(|facts| facts.encode(piece.samples(), &mut self.facts));
            let form = (piece.samples() as u64 * 16) | (end as u64) << LAST | if has_facts { FACTS } else { 0 };
            match times {
                Times::Within(_) => put_varint(&mut self.series, form),
                Times::Beside(place) => {
                    put_varint(&mut self.series, form | TIMES_BESIDE);
                    put_varint(&mut self.series, zigzag(place.at.wrapping_sub(times_end.unwrap_or(self.at)) as i64));
                    put_varint(&mut self.series, u64::from(place.bytes));
                    times_end = Some(place.end());
                }
            }
            self.series.extend_from_slice(&self.facts);
            self.write(&bytes)?;
            (place, time) = (self.at, to);
            self.bytes = bytes;
        }
        self.times = times;
        self.lengths.push((self.series.len() - start) as u32);
        let own = Newest { first_ms: last, last_ms: last, live: end == Last::Float };
        match self.newest.last_mut().filter(|_| !(id as usize).is_multiple_of(NEWEST_SERIES)) {
            Some(newest) => {
                newest.first_ms = newest.first_ms.min(last);
                newest.last_ms = newest.last_ms.max(last);
                newest.live &= own.live;
            }
            None => self.newest.push(own),
        }
        self.samples += samples.samples() as u64;
        self.range.start_ms = self.range.start_ms.min(first);
        self.range.end_ms = self.range.end_ms.max(last);
        Ok(())
    }

    /// Keeps the columns of times that it knows within a part of these bytes.
    pub(crate) fn within(mut self, bytes_max: usize) -> Self {
        self.recent = Recent::new(Recent::MEMORY_MAX.min(bytes_max / TIMES_SHARE));
        self
    }

    /// The most memory that it holds until it is finished, about, in bytes.
    pub(crate) fn memory(&self) -> usize {
        // Tables are mostly two thirds full, and small allocations are rounded up. While series come there is the table of symbols, and while the index is
        // put together that is gone.
        let table = self.symbols.len() * 64 + self.symbol_text.len();
        let kept = self.symbol_text.capacity() + self.symbol_ends.capacity() * 8 + self.series.capacity();
        let postings = self.lengths.capacity() * 4 + self.postings.len() * 64 + self.posted * 6;
        let index = self.index_bytes() + self.postings.len() * size_of::<(&str, &str, &Vec<u32>)>();
        BUFFER + self.recent.memory() + kept + postings + table.max(index)
    }

    /// How many bytes the index will have, about.
    fn index_bytes(&self) -> usize {
        self.symbol_text.len() + self.series.len() + self.lengths.len() * 2 + self.postings.len() * 16 + self.posted
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Writes index and footer; the file's content is durable when this returns, its directory entry is not. Returns how many columns of times were
    /// forgotten for want of memory, which may then be there twice.
    pub(crate) fn finish(mut self) -> Result<u64, Error> {
        let index = self.index()?;
        let mut footer = Vec::new();
        footer.extend_from_slice(&self.at.to_le_bytes());
        footer.extend_from_slice(&(index.len() as u64).to_le_bytes());
        footer.extend_from_slice(&crc32c::crc32c(&index).to_le_bytes());
        footer.extend_from_slice(&self.samples.to_le_bytes());
        footer.extend_from_slice(&self.range.start_ms.to_le_bytes());
        footer.extend_from_slice(&self.range.end_ms.to_le_bytes());
        footer.extend_from_slice(&crc32c::crc32c(&footer).to_le_bytes());
        footer.extend_from_slice(END);
        self.write(&index)?;
        self.write(&footer)?;
        let context = || format!("writing {}", self.path.display());
        self.out.flush().and_then(|()| self.out.get_mut().sync()).map_err(io(context()))?;
        Ok(self.recent.forgotten)
    }

    /// Writes the times of a series' chunks that are worth a place of their own and have none yet.
    fn write_times(&mut self, pieces: Pieces<'_>, times: &mut Columns) -> Result<(), Error> {
        times.of.clear();
        times.within.clear();
        for piece in pieces {
            let t = piece.times(&mut times.scratch);
            if let Some(place) = self.recent.find(t) {
                times.of.push(Times::Beside(place));
                continue;
            }
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            let number = encode_times(t, &mut self.scratch, &mut bytes);
            if bytes.len() < Recent::BYTES_MIN {
                times.within.extend_from_slice(&bytes[number..]);
                times.of.push(Times::Within(bytes.len() - number));
            } else {
                let at = self.at;
                end_with_checksum(&mut bytes);
                self.write(&bytes)?;
                let place = Place { at, bytes: bytes.len() as u32 };
                bytes.truncate(bytes.len() - 4);
                self.recent.add(t, &bytes, place);
                times.of.push(Times::Beside(place));
            }
            self.bytes = bytes;
        }
        Ok(())
    }

    fn push_labels(&mut self, labels: &Labels, id: u32) {
        let mut count = 0;
        for (at, piece) in labels.as_ref().pieces().enumerate() {
            count = at + 1;
            match self.before.get(at) {
                Some((before, _)) if **before == *piece => {}
                known => {
                    let is_known = known.is_some();
                    let entry = (piece.into(), self.symbol(piece));
                    if is_known { self.before[at] = entry } else { self.before.push(entry) }
                }
            }
        }
        self.before.truncate(count);
        put_varint(&mut self.series, count as u64 / 2);
        for (_, symbol) in &self.before {
            put_varint(&mut self.series, u64::from(*symbol));
        }
        for pair in self.before.chunks_exact(2) {
            self.postings.entry((pair[0].1, pair[1].1)).or_default().push(id);
        }
        self.posted += count / 2;
    }

    fn symbol(&mut self, piece: &str) -> u32 {
        let next = self.symbols.len() as u32;
        let symbol = *self.symbols.entry_ref(piece).or_insert(next);
        if symbol == next {
            self.symbol_text.push_str(piece);
            self.symbol_ends.push(self.symbol_text.len());
        }
        symbol
    }

    /// What a symbol shows.
    fn text(&self, symbol: u32) -> &str {
        let at = symbol as usize;
        let start = if at == 0 { 0 } else { self.symbol_ends[at - 1] };
        symbol_text(&self.symbol_text[start..self.symbol_ends[at]])
    }

    fn index(&mut self) -> Result<Vec<u8>, Error> {
        // No more symbols come.
        drop(std::mem::take(&mut self.symbols));
        let (mut out, mut list) = (Vec::with_capacity(self.index_bytes()), Vec::new());
        put_varint(&mut out, self.symbol_ends.len() as u64);
        put_varint(&mut out, self.symbol_text.len() as u64);
        out.extend_from_slice(self.symbol_text.as_bytes());
        put_varint(&mut out, self.lengths.len() as u64);
        put_varint(&mut out, self.series.len() as u64);
        out.extend_from_slice(&self.series);
        for length in &self.lengths {
            put_varint(&mut out, u64::from(*length));
        }
        let mut before = 0i64;
        for newest in &self.newest {
            put_varint(&mut out, zigzag(newest.first_ms.wrapping_sub(before)));
            let span = newest.last_ms.wrapping_sub(newest.first_ms) as u64;
            put_varint(&mut out, span << 1 | u64::from(!newest.live));
            before = newest.first_ms;
        }
        let internal = |e: fst::Error| Error::corrupt(&self.path.display().to_string(), 0, &e.to_string());
        let mut postings: Vec<_> =
            self.postings.iter().map(|((n, v), ids)| (self.text(*n), self.text(*v), ids)).collect();
        postings.sort_unstable_by_key(|(name, value, _)| (*name, *value));
        let names: Vec<_> = postings.chunk_by(|a, b| a.0 == b.0).collect();
        put_varint(&mut out, names.len() as u64);
        for values in names {
            let name = values[0].0;
            put_varint(&mut out, name.len() as u64);
            out.extend_from_slice(name.as_bytes());
            let map = fst::Map::from_iter(values.iter().map(|(_, value, _)| value).zip(0..)).map_err(internal)?;
            put_varint(&mut out, map.as_fst().as_bytes().len() as u64);
            out.extend_from_slice(map.as_fst().as_bytes());
            for (_, _, ids) in values {
                list.clear();
                put_varint(&mut list, u64::from(ids[0]));
                if ids.len() > 1 {
                    let mut bitmap: RoaringBitmap = ids.iter().copied().collect();
                    bitmap.optimize();
                    bitmap.serialize_into(&mut list).map_err(io("serializing postings"))?;
                }
                put_varint(&mut out, list.len() as u64);
                out.extend_from_slice(&list);
            }
        }
        Ok(out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(io(format!("writing {}", self.path.display())))?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

fn last_of(piece: &Piece<'_>) -> Last {
    match piece {
        Piece::Histograms(_) => Last::Histogram,
        Piece::Floats(_, v, _) if v.last().is_some_and(|v| is_stale(*v)) => Last::StaleFloat,
        Piece::Floats(..) => Last::Float,
    }
}

fn end_with_checksum(bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
}
