//! The index of a block: its series with their labels and where their chunks are.
//!
//! The symbols are read into memory; series are read from the file in their order, some at a time.

mod write;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use model::Labels;

use super::{Cursor, Reason};
use crate::Error;
use crate::disk::io;
pub(super) use write::IndexWriter;

/// The file's name in the folder of a block.
pub(super) const FILE: &str = "index";
const MAGIC: u32 = 0xBAAA_D700;
/// The one that all but the first releases of Prometheus 2 write: symbols are referred to by their number.
const VERSION: u8 = 2;
/// Six places of parts, and a checksum.
const TOC: usize = 6 * 8 + 4;
/// Series begin at multiples of this, and are known by the multiple.
const SERIES_ALIGN: u64 = 16;
/// What is read of the file at once.
const WINDOW: usize = 1 << 20;

/// Where a chunk is, and what times are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkMeta {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) reference: u64,
}

/// One series.
#[derive(Debug)]
pub(super) struct Entry {
    /// By which tombstones know it.
    pub(super) reference: u64,
    pub(super) labels: Labels,
    pub(super) chunks: Vec<ChunkMeta>,
}

/// An index that is open.
pub(super) struct Index {
    name: String,
    file: File,
    bytes: u64,
    /// The texts, one after the other, and where each ends.
    symbols: String,
    ends: Vec<usize>,
    /// Where the list of all series is, and how many there are.
    all: u64,
    series: u32,
}

impl Index {
    pub(super) fn open(block: &Path) -> Result<Index, Error> {
        let path = block.join(FILE);
        let name = path.display().to_string();
        let file = File::open(&path).map_err(io(format!("opening {name}")))?;
        let bytes = file.metadata().map_err(io(format!("opening {name}")))?.len();
        let mut index = Index { name, file, bytes, symbols: String::new(), ends: Vec::new(), all: 0, series: 0 };
        let header = index.read(0, 5)?;
        if header[..4] != MAGIC.to_be_bytes() {
            return Err(index.corrupt(0, "not an index"));
        }
        if header[4] != VERSION {
            return Err(Error::Invalid(format!("{}: version {} of the index is not known", index.name, header[4])));
        }
        let toc_at = bytes.saturating_sub(TOC as u64);
        let toc = index.read(toc_at, TOC)?;
        let (places, checksum) = toc.split_last_chunk::<4>().expect("it is longer");
        if crc32c::crc32c(places).to_be_bytes() != *checksum {
            return Err(index.corrupt(toc_at, "checksum of the table of contents is wrong"));
        }
        let place = |n: usize| u64::from_be_bytes(places[8 * n..8 * n + 8].try_into().expect("eight bytes"));
        index.read_symbols(place(0))?;
        index.find_all(place(5))?;
        Ok(index)
    }

    /// Number of series.
    pub(super) fn series(&self) -> u32 {
        self.series
    }

    /// A part that has its length before it and its checksum behind it.
    fn part(&self, at: u64) -> Result<Vec<u8>, Error> {
        let length = u32::from_be_bytes(self.read(at, 4)?.try_into().expect("four bytes"));
        let mut content = self.read(at + 4, length as usize + 4)?;
        let checksum = content.split_off(length as usize);
        if crc32c::crc32c(&content).to_be_bytes() != *checksum {
            return Err(self.corrupt(at, "checksum is wrong"));
        }
        Ok(content)
    }

    fn read_symbols(&mut self, at: u64) -> Result<(), Error> {
        let content = self.part(at)?;
        let corrupt = |reason| self.corrupt(at, reason);
        let mut cursor = Cursor::new(&content);
        let count = cursor.u32().map_err(corrupt)? as usize;
        let (mut symbols, mut ends) = (String::with_capacity(content.len()), Vec::new());
        for _ in 0..count {
            symbols.push_str(cursor.text().map_err(corrupt)?);
            ends.push(symbols.len());
        }
        (self.symbols, self.ends) = (symbols, ends);
        Ok(())
    }

    /// Finds the list of all series, which is that of the empty name and value.
    fn find_all(&mut self, table: u64) -> Result<(), Error> {
        // The table is sorted, so it is the first. The checksum is of the whole table, of which the rest is not needed.
        let begin = self.read(table, 64.min(self.bytes.saturating_sub(table) as usize))?;
        let mut cursor = Cursor::new(&begin);
        let mut first = || {
            cursor.take(4)?;
            if cursor.u32()? == 0 {
                return Err("there are no postings");
            }
            let is_all = cursor.u8()? == 2 && cursor.text()?.is_empty() && cursor.text()?.is_empty();
            if is_all { cursor.uvarint() } else { Err("the list of all series is not the first") }
        };
        let at = first().map_err(|reason| self.corrupt(table, reason))?;
        let head = self.read(at, 8)?;
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four bytes"));
        let (length, series) = (number(&head[..4]), number(&head[4..]));
        if u64::from(length) != 4 + 4 * u64::from(series) || at + u64::from(length) + 8 > self.bytes {
            return Err(self.corrupt(at, "length of the list of all series"));
        }
        (self.all, self.series) = (at + 8, series);
        Ok(())
    }

    /// The series in their order.
    pub(super) fn entries(&self) -> Entries<'_> {
        Entries { index: self, next: 0, list: Window::default(), content: Window::default() }
    }

    fn read(&self, at: u64, n: usize) -> Result<Vec<u8>, Error> {
        if at.checked_add(n as u64).is_none_or(|end| end > self.bytes) {
            return Err(self.corrupt(at, "it ends too early"));
        }
        let mut buffer = vec![0; n];
        let context = || format!("reading {n} bytes at {at} of {}", self.name);
        self.file.read_exact_at(&mut buffer, at).map_err(io(context()))?;
        Ok(buffer)
    }

    fn corrupt(&self, at: u64, reason: &str) -> Error {
        Error::corrupt(&self.name, at as usize, reason)
    }

    fn symbol(&self, n: u64) -> Result<&str, Reason> {
        let n = usize::try_from(n).ok().filter(|n| *n < self.ends.len()).ok_or("number of a symbol")?;
        let start = if n == 0 { 0 } else { self.ends[n - 1] };
        Ok(&self.symbols[start..self.ends[n]])
    }

    fn entry(&self, reference: u64, content: &[u8]) -> Result<Entry, String> {
        let mut cursor = Cursor::new(content);
        let mut pairs = Vec::new();
        for _ in 0..cursor.count(2)? {
            pairs.push((self.symbol(cursor.uvarint()?)?, self.symbol(cursor.uvarint()?)?));
        }
        let labels = Labels::new(&pairs).map_err(|e| e.to_string())?;
        let count = cursor.count(3)?;
        let mut chunks: Vec<ChunkMeta> = Vec::with_capacity(count);
        for _ in 0..count {
            let (start_ms, base) = match chunks.last() {
                None => (cursor.varint()?, None),
                Some(before) => (before.end_ms.wrapping_add(cursor.uvarint()? as i64), Some(before.reference)),
            };
            let end_ms = start_ms.wrapping_add(cursor.uvarint()? as i64);
            let reference = match base {
                None => cursor.uvarint()?,
                Some(base) => base.wrapping_add(cursor.varint()? as u64),
            };
            chunks.push(ChunkMeta { start_ms, end_ms, reference });
        }
        if cursor.left() > 0 {
            return Err("there is more in it than its chunks".to_owned());
        }
        Ok(Entry { reference, labels, chunks })
    }
}

/// A part of a file that was read at once.
#[derive(Default)]
struct Window {
    at: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// What lies at a place: at least `n` bytes, fewer at the end of the file.
    fn get(&mut self, index: &Index, at: u64, n: usize) -> Result<&[u8], Error> {
        let end = self.at + self.bytes.len() as u64;
        if at < self.at || at + n as u64 > end {
            let size = (n.max(WINDOW) as u64).min(index.bytes.saturating_sub(at));
            self.bytes = index.read(at, size as usize)?;
            self.at = at;
        }
        Ok(&self.bytes[(at - self.at) as usize..])
    }
}

/// Reads one series after the other. One that is damaged is an error, after which the next can be read.
pub(super) struct Entries<'a> {
    index: &'a Index,
    next: u32,
    list: Window,
    content: Window,
}

impl Entries<'_> {
    fn read(&mut self, n: u32) -> Result<Entry, Error> {
        let index = self.index;
        let listed = self.list.get(index, index.all + 4 * u64::from(n), 4)?;
        let reference = u64::from(u32::from_be_bytes(listed[..4].try_into().expect("four bytes")));
        let at = reference * SERIES_ALIGN;
        let mut cursor = Cursor::new(self.content.get(index, at, 10)?);
        let length = cursor.uvarint().map_err(|reason| index.corrupt(at, reason))?;
        let start = cursor.at;
        // The checksum of the list of series is not looked at, so one that is damaged may lead anywhere.
        let whole = length.checked_add(start as u64 + 4).filter(|whole| at + whole <= index.bytes);
        let whole = whole.ok_or_else(|| index.corrupt(at, "length of a series"))? as usize;
        let bytes = &self.content.get(index, at, whole)?[start..whole];
        let (content, checksum) = bytes.split_last_chunk::<4>().expect("the checksum is in it");
        if crc32c::crc32c(content).to_be_bytes() != *checksum {
            return Err(index.corrupt(at, "checksum of a series is wrong"));
        }
        index.entry(reference, content).map_err(|reason| index.corrupt(at, &reason))
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.next < self.index.series).then(|| {
            self.next += 1;
            self.read(self.next - 1)
        })
    }
}
