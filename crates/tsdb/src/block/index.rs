//! The index of a block, as it lies in memory.

use fst::{IntoStreamer, Streamer};
use model::{Labels, LabelsRef, TimeRange, piece_text};
use roaring::RoaringBitmap;

use super::ChunkRef;
use crate::chunk::bits::{unzigzag, varint};
use crate::postings::LabelIndex;

/// The parts of an index, as places in its bytes.
pub(crate) struct Index {
    bytes: Vec<u8>,
    /// Begin and end of each symbol in the bytes.
    symbols: Vec<(u32, u32)>,
    /// Where each series' entry begins.
    series: Vec<u32>,
    names: Vec<NameIndex>,
}

struct NameIndex {
    name: String,
    values: fst::Map<Vec<u8>>,
    /// Begin and end of each value's postings in the bytes, in the order of the values.
    postings: Vec<(u32, u32)>,
}

/// What the index says of one series.
pub(crate) struct Entry {
    pub(crate) labels: Labels,
    pub(crate) chunks: Vec<ChunkRef>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({} series, {} bytes)", self.series.len(), self.bytes.len())
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn number(&mut self) -> Result<u64, &'static str> {
        varint(self.bytes, &mut self.at)
    }

    /// A number of things of which each takes at least a byte.
    fn length(&mut self) -> Result<usize, &'static str> {
        let n = self.number()?;
        let left = self.bytes.len() - self.at;
        usize::try_from(n).ok().filter(|n| *n <= left).ok_or("length is beyond the end of the index")
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], &'static str> {
        let taken = self.bytes.get(self.at..self.at + n).ok_or("index ends too early")?;
        self.at += n;
        Ok(taken)
    }
}

impl Index {
    /// Reads the parts of an index whose checksum is right.
    pub(crate) fn read(bytes: Vec<u8>) -> Result<Self, &'static str> {
        if u32::try_from(bytes.len()).is_err() {
            return Err("index is larger than 4 GiB");
        }
        let mut cursor = Cursor { bytes: &bytes, at: 0 };
        let (count, size) = (cursor.length()?, cursor.length()?);
        let start = cursor.at;
        let table = std::str::from_utf8(cursor.take(size)?).map_err(|_| "symbols are not UTF-8")?;
        let mut symbols = Vec::with_capacity(count);
        let mut at = start as u32;
        for piece in LabelsRef::from_canonical(table).pieces() {
            symbols.push((at, at + piece.len() as u32));
            at += piece.len() as u32;
        }
        if symbols.len() != count {
            return Err("number of symbols");
        }
        let (count, size) = (cursor.length()?, cursor.length()?);
        let start = cursor.at as u32;
        cursor.take(size)?;
        let mut series = Vec::with_capacity(count);
        let mut at = start;
        for _ in 0..count {
            series.push(at);
            at += cursor.number()? as u32;
        }
        if at - start != size as u32 {
            return Err("lengths of the series");
        }
        let mut names = Vec::new();
        for _ in 0..cursor.length()? {
            let size = cursor.length()?;
            let name = std::str::from_utf8(cursor.take(size)?).map_err(|_| "label name is not UTF-8")?.to_owned();
            let size = cursor.length()?;
            let values = fst::Map::new(cursor.take(size)?.to_vec()).map_err(|_| "label values are no FST")?;
            if values.len() > bytes.len() - cursor.at {
                return Err("number of label values");
            }
            let mut postings = Vec::with_capacity(values.len());
            for _ in 0..values.len() {
                let size = cursor.length()?;
                postings.push((cursor.at as u32, (cursor.at + size) as u32));
                cursor.take(size)?;
            }
            names.push(NameIndex { name, values, postings });
        }
        if cursor.at != bytes.len() {
            return Err("bytes after the end of the index");
        }
        Ok(Index { bytes, symbols, series, names })
    }

    pub(crate) fn series(&self) -> usize {
        self.series.len()
    }

    /// Labels and chunks of a series.
    pub(crate) fn entry(&self, id: u32) -> Result<Entry, &'static str> {
        let at = *self.series.get(id as usize).ok_or("number of a series")? as usize;
        let mut cursor = Cursor { bytes: &self.bytes, at };
        let mut text = String::new();
        for _ in 0..2 * cursor.length()? {
            let (start, end) = *self.symbols.get(cursor.number()? as usize).ok_or("number of a symbol")?;
            let piece =
                std::str::from_utf8(&self.bytes[start as usize..end as usize]).map_err(|_| "symbol is not UTF-8")?;
            text.push_str(piece);
        }
        let labels = LabelsRef::from_canonical(&text).to_labels();
        let count = cursor.length()?;
        let mut chunks = Vec::with_capacity(count);
        let (mut place, mut time) = (0u64, 0i64);
        for _ in 0..count {
            let start = place.wrapping_add(cursor.number()?);
            let bytes = u32::try_from(cursor.number()?).map_err(|_| "length of a chunk")?;
            let start_ms = time.wrapping_add(unzigzag(cursor.number()?));
            let end_ms = start_ms.wrapping_add(cursor.number()? as i64);
            let samples = u32::try_from(cursor.number()?).map_err(|_| "samples of a chunk")?;
            (place, time) = (start.wrapping_add(u64::from(bytes)), end_ms);
            chunks.push(ChunkRef { at: start, bytes, range: TimeRange { start_ms, end_ms }, samples });
        }
        Ok(Entry { labels, chunks })
    }

    /// Calls `see` with every label name, its values, and how many bytes the index has for finding series by them.
    pub(crate) fn labels<'a>(&'a self, mut see: impl FnMut(&'a str, &'a fst::Map<Vec<u8>>, usize)) {
        for n in &self.names {
            let postings: u32 = n.postings.iter().map(|(start, end)| end - start).sum();
            see(&n.name, &n.values, n.values.as_fst().as_bytes().len() + postings as usize);
        }
    }

    fn name(&self, name: &str) -> Option<&NameIndex> {
        self.names.binary_search_by(|n| n.name.as_str().cmp(name)).ok().map(|at| &self.names[at])
    }

    fn bitmap(&self, (start, end): (u32, u32)) -> RoaringBitmap {
        // The index' checksum was right when it was opened, so that only a bug of the writer could make this fail; no series is then found.
        RoaringBitmap::deserialize_from(&self.bytes[start as usize..end as usize]).unwrap_or_default()
    }
}

impl LabelIndex for Index {
    fn all(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.series.len() as u32);
        all
    }

    fn equal(&self, name: &str, value: &str) -> RoaringBitmap {
        let found = self.name(name).and_then(|n| n.values.get(value).map(|at| n.postings[at as usize]));
        found.map_or_else(RoaringBitmap::new, |place| self.bitmap(place))
    }

    fn accepted(&self, name: &str, accept: &mut dyn FnMut(&str) -> bool) -> RoaringBitmap {
        let mut found = RoaringBitmap::new();
        let Some(index) = self.name(name) else { return found };
        let mut values = index.values.stream();
        while let Some((value, at)) = values.next() {
            if std::str::from_utf8(value).is_ok_and(&mut *accept) {
                found |= self.bitmap(index.postings[at as usize]);
            }
        }
        found
    }

    fn names(&self, see: &mut dyn FnMut(&str)) {
        self.names.iter().for_each(|n| see(&n.name));
    }

    fn values(&self, name: &str, see: &mut dyn FnMut(&str)) {
        let Some(index) = self.name(name) else { return };
        let mut values = (&index.values).into_stream();
        while let Some((value, _)) = values.next() {
            if let Ok(value) = std::str::from_utf8(value) {
                see(value);
            }
        }
    }
}

/// What is shown of a symbol.
pub(super) fn symbol_text(piece: &str) -> &str {
    piece_text(piece)
}
