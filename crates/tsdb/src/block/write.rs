//! Writes a block, series by series.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use hashbrown::HashMap;
use model::{Labels, TimeRange, is_stale};
use roaring::RoaringBitmap;

use super::index::{NEWEST_SERIES, Newest, symbol_text};
use super::{END, Last, MAGIC};
use crate::Error;
use crate::chunk::bits::{put_varint, zigzag};
use crate::chunk::{Piece, Scratch};
use crate::columns::View;
use crate::disk::{Disk, Output, io};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 20;

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
    /// Labels of the series before, with their symbols: neighbours share most of them.
    before: Vec<(Box<str>, u32)>,
    samples: u64,
    range: TimeRange,
    scratch: Scratch,
    bytes: Vec<u8>,
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
            before: Vec::new(),
            samples: 0,
            range: TimeRange { start_ms: i64::MAX, end_ms: i64::MIN },
            scratch: Scratch::default(),
            bytes: Vec::new(),
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
        let pieces = samples.pieces();
        put_varint(&mut self.series, pieces.clone().count() as u64);
        let (mut place, mut time, mut end) = (0u64, 0i64, Last::Float);
        for piece in pieces {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            piece.encode(&mut self.scratch, &mut bytes);
            bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
            let TimeRange { start_ms: from, end_ms: to } = piece.range();
            put_varint(&mut self.series, self.at.wrapping_sub(place));
            put_varint(&mut self.series, bytes.len() as u64);
            put_varint(&mut self.series, zigzag(from.wrapping_sub(time)));
            put_varint(&mut self.series, to.wrapping_sub(from) as u64);
            end = last_of(&piece);
            put_varint(&mut self.series, (piece.samples() as u64) << 2 | end as u64);
            self.write(&bytes)?;
            (place, time) = (self.at, to);
            self.bytes = bytes;
        }
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

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Writes index and footer; the file's content is durable when this returns, its directory entry is not.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
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
        self.out.flush().and_then(|()| self.out.get_mut().sync()).map_err(io(context()))
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
        let (mut out, mut list) = (Vec::new(), Vec::new());
        put_varint(&mut out, self.symbols.len() as u64);
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
