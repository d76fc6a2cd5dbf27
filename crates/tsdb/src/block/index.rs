//! The index of a block, as it lies in memory.

use fst::{IntoStreamer, Streamer};
use model::{Labels, LabelsRef, TimeRange, piece_text};
use roaring::{MultiOps as _, RoaringBitmap};

use super::{ChunkRef, Last, Place};
use crate::chunk::Facts;
use crate::chunk::bits::{Cursor, unzigzag};
use crate::postings::LabelIndex;

/// Added to sixteen times the number of a chunk's samples: its times lie elsewhere.
pub(super) const TIMES_BESIDE: u64 = 1;
/// The same: what is known of its values follows.
pub(super) const FACTS: u64 = 2;
/// The same, shifted by so much: what its last sample is.
pub(super) const LAST: u32 = 2;

/// The parts of an index, as places in its bytes.
pub(crate) struct Index {
    bytes: Vec<u8>,
    /// Begin and end of each symbol in the bytes.
    symbols: Vec<(u32, u32)>,
    /// Where each series' entry begins.
    series: Vec<u32>,
    newest: Vec<Newest>,
    names: Vec<NameIndex>,
}

struct NameIndex {
    name: String,
    values: fst::Map<Vec<u8>>,
    /// Begin and end of each value's postings in the bytes, in the order of the values.
    postings: Vec<(u32, u32)>,
}

/// What is known together of the last samples of [`NEWEST_SERIES`] series in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newest {
    /// The first and the last of the times of their last samples.
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    /// Whether each of these is a float, and no stale marker.
    pub(crate) live: bool,
}

/// Series of which the last samples are known together: enough that a million of them are a thousand looks, and so few that a series which ended
/// makes few others be looked at.
pub(crate) const NEWEST_SERIES: usize = 1024;

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
        let (mut newest, mut before) = (Vec::with_capacity(count.div_ceil(NEWEST_SERIES)), 0i64);
        for _ in 0..count.div_ceil(NEWEST_SERIES) {
            let first_ms = before.wrapping_add(unzigzag(cursor.number()?));
            let rest = cursor.number()?;
            newest.push(Newest { first_ms, last_ms: first_ms.wrapping_add((rest >> 1) as i64), live: rest & 1 == 0 });
            before = first_ms;
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
        Ok(Index { bytes, symbols, series, newest, names })
    }

    /// Memory that it takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let names = self
            .names
            .iter()
            .map(|n| n.values.as_fst().as_bytes().len() + n.postings.capacity() * size_of::<(u32, u32)>());
        let tables = self.symbols.capacity() * size_of::<(u32, u32)>() + self.series.capacity() * size_of::<u32>();
        self.bytes.capacity() + tables + self.newest.capacity() * size_of::<Newest>() + names.sum::<usize>()
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
        Ok(Entry { labels, chunks: read_chunks(&mut cursor)? })
    }

    /// The chunks of a series.
    pub(crate) fn chunks(&self, id: u32) -> Result<Vec<ChunkRef>, &'static str> {
        let at = *self.series.get(id as usize).ok_or("number of a series")? as usize;
        let mut cursor = Cursor { bytes: &self.bytes, at };
        for _ in 0..2 * cursor.length()? {
            cursor.number()?;
        }
        read_chunks(&mut cursor)
    }

    /// What is known of the last samples of series in groups.
    pub(crate) fn newest(&self) -> &[Newest] {
        &self.newest
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

    /// The first series of postings, and the bytes of all if there are more.
    fn posted(&self, (start, end): (u32, u32)) -> (u32, &[u8]) {
        // The index' checksum was right when it was opened, so that only a bug of the writer could make this fail; no series is then found.
        let mut cursor = Cursor { bytes: &self.bytes[..end as usize], at: start as usize };
        let first = cursor.number().ok().and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX);
        (first, &cursor.bytes[cursor.at..])
    }

    fn bitmap(&self, place: (u32, u32)) -> RoaringBitmap {
        match self.posted(place) {
            (first, []) => RoaringBitmap::from([first]),
            (_, all) => RoaringBitmap::deserialize_from(all).unwrap_or_default(),
        }
    }

    /// Whether one of the postings is among these. Mostly the first one is, so that nothing is read of the others.
    fn has_any(&self, place: (u32, u32), among: &RoaringBitmap) -> bool {
        let (first, all) = self.posted(place);
        among.contains(first)
            || (!all.is_empty() && RoaringBitmap::deserialize_from(all).is_ok_and(|ids| !ids.is_disjoint(among)))
    }
}

fn read_chunks(cursor: &mut Cursor<'_>) -> Result<Vec<ChunkRef>, &'static str> {
    let count = cursor.length()?;
    let mut chunks = Vec::with_capacity(count);
    let (mut place, mut time, mut times_end) = (0u64, 0i64, None);
    for _ in 0..count {
        let start = place.wrapping_add(cursor.number()?);
        let bytes = u32::try_from(cursor.number()?).map_err(|_| "length of a chunk")?;
        let start_ms = time.wrapping_add(unzigzag(cursor.number()?));
        let end_ms = start_ms.wrapping_add(cursor.number()? as i64);
        let form = cursor.number()?;
        let samples = u32::try_from(form >> 4).map_err(|_| "samples of a chunk")?;
        let last = Last::of(form >> LAST & 3).ok_or("last sample of a chunk")?;
        let times = if form & TIMES_BESIDE != 0 {
            let at = times_end.unwrap_or(start).wrapping_add(unzigzag(cursor.number()?) as u64);
            let bytes = u32::try_from(cursor.number()?).map_err(|_| "length of times")?;
            let times = Place { at, bytes };
            times_end = Some(times.end());
            Some(times)
        } else {
            None
        };
        let facts =
            if form & FACTS != 0 { Some(Facts::decode(samples as usize, cursor.bytes, &mut cursor.at)?) } else { None };
        (place, time) = (start.wrapping_add(u64::from(bytes)), end_ms);
        chunks.push(ChunkRef { at: start, bytes, range: TimeRange { start_ms, end_ms }, samples, last, times, facts });
    }
    Ok(chunks)
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

    fn accepted(&self, name: &str, prefix: &str, accept: &mut dyn FnMut(&str) -> bool) -> RoaringBitmap {
        let Some(index) = self.name(name) else { return RoaringBitmap::new() };
        // Values with one series, of which there can be a million, and the others.
        let (mut single, mut many) = (Vec::new(), Vec::new());
        let mut values = index.values.range().ge(prefix).into_stream();
        while let Some((value, at)) = values.next() {
            if !value.starts_with(prefix.as_bytes()) {
                break;
            }
            if std::str::from_utf8(value).is_ok_and(&mut *accept) {
                match self.posted(index.postings[at as usize]) {
                    (first, []) => single.push(first),
                    (_, all) => many.push(RoaringBitmap::deserialize_from(all).unwrap_or_default()),
                }
            }
        }
        single.sort_unstable();
        many.push(single.into_iter().collect());
        many.union()
    }

    fn names(&self, see: &mut dyn FnMut(&str)) {
        self.names.iter().for_each(|n| see(&n.name));
    }

    fn counts(&self, name: &str, of: &RoaringBitmap, see: &mut dyn FnMut(&str, u64)) {
        let Some(index) = self.name(name) else { return };
        let mut values = (&index.values).into_stream();
        while let Some((value, at)) = values.next() {
            let count = match self.posted(index.postings[at as usize]) {
                (first, []) => u64::from(of.contains(first)),
                (_, all) => RoaringBitmap::deserialize_from(all).map_or(0, |ids| ids.intersection_len(of)),
            };
            if let Ok(value) = std::str::from_utf8(value) {
                see(value, count);
            }
        }
    }

    fn values(&self, name: &str, among: Option<&RoaringBitmap>, see: &mut dyn FnMut(&str) -> bool) {
        let Some(index) = self.name(name) else { return };
        let mut values = (&index.values).into_stream();
        while let Some((value, at)) = values.next() {
            let is_asked = among.is_none_or(|among| self.has_any(index.postings[at as usize], among));
            if is_asked
                && let Ok(value) = std::str::from_utf8(value)
                && !see(value)
            {
                return;
            }
        }
    }
}

/// What is shown of a symbol.
pub(super) fn symbol_text(piece: &str) -> &str {
    piece_text(piece)
}
