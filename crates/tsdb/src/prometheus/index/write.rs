//! Writes the index of a block.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use hashbrown::HashMap;
use model::Labels;

use super::{ChunkMeta, FILE, MAGIC, SERIES_ALIGN, VERSION};
use crate::Error;
use crate::chunk::bits::{put_varint, zigzag};
use crate::disk::io;

/// Writes an index. Its series come in the order of [`Labels`], each once.
pub(in crate::prometheus) struct IndexWriter {
    name: String,
    out: BufWriter<File>,
    at: u64,
    symbols: HashMap<Box<str>, u32>,
    /// Symbols of name and value to the series, and all series. The symbols are numbered in the order of their texts.
    postings: BTreeMap<(u32, u32), Vec<u32>>,
    all: Vec<u32>,
    symbols_at: u64,
    series_at: u64,
}

impl IndexWriter {
    /// Begins the index of a block whose series have these names and values.
    pub(in crate::prometheus) fn create(block: &Path, symbols: &BTreeSet<&str>) -> Result<IndexWriter, Error> {
        let path = block.join(FILE);
        let name = path.display().to_string();
        let file = File::create(&path).map_err(io(format!("creating {name}")))?;
        let mut writer = IndexWriter {
            name,
            out: BufWriter::with_capacity(1 << 20, file),
            at: 0,
            symbols: symbols.iter().copied().map(Into::into).zip(0..).collect(),
            postings: BTreeMap::new(),
            all: Vec::new(),
            symbols_at: 0,
            series_at: 0,
        };
        let mut header = MAGIC.to_be_bytes().to_vec();
        header.push(VERSION);
        writer.write(&header)?;
        writer.symbols_at = writer.at;
        let mut content = (symbols.len() as u32).to_be_bytes().to_vec();
        for symbol in symbols {
            put_text(&mut content, symbol);
        }
        writer.part(&content)?;
        writer.align(SERIES_ALIGN)?;
        writer.series_at = writer.at;
        Ok(writer)
    }

    /// Adds a series with its chunks, at least one.
    pub(in crate::prometheus) fn push(&mut self, labels: &Labels, chunks: &[ChunkMeta]) -> Result<(), Error> {
        self.align(SERIES_ALIGN)?;
        let reference = u32::try_from(self.at / SERIES_ALIGN).map_err(|_| {
            Error::Limit(format!("{} would be larger than 64 GiB; take a shorter --block-span", self.name))
        })?;
        self.all.push(reference);
        let mut content = Vec::new();
        put_varint(&mut content, labels.iter().count() as u64);
        for (name, value) in labels.iter() {
            let (name, value) = (self.symbol(name), self.symbol(value));
            put_varint(&mut content, u64::from(name));
            put_varint(&mut content, u64::from(value));
            self.postings.entry((name, value)).or_default().push(reference);
        }
        put_varint(&mut content, chunks.len() as u64);
        let mut before: Option<&ChunkMeta> = None;
        for chunk in chunks {
            match before {
                None => put_varint(&mut content, zigzag(chunk.start_ms)),
                Some(before) => put_varint(&mut content, chunk.start_ms.wrapping_sub(before.end_ms) as u64),
            }
            put_varint(&mut content, chunk.end_ms.wrapping_sub(chunk.start_ms) as u64);
            match before {
                None => put_varint(&mut content, chunk.reference),
                Some(before) => put_varint(&mut content, zigzag(chunk.reference.wrapping_sub(before.reference) as i64)),
            }
            before = Some(chunk);
        }
        let mut entry = Vec::with_capacity(content.len() + 10);
        put_varint(&mut entry, content.len() as u64);
        entry.extend_from_slice(&content);
        entry.extend_from_slice(&crc32c::crc32c(&content).to_be_bytes());
        self.write(&entry)
    }

    /// Writes what is found by label; all is durable when this returns, but for the directory entry.
    pub(in crate::prometheus) fn finish(mut self) -> Result<(), Error> {
        let mut texts: Vec<&str> = vec![""; self.symbols.len()];
        let symbols = std::mem::take(&mut self.symbols);
        symbols.iter().for_each(|(text, n)| texts[*n as usize] = text);
        self.align(4)?;
        let postings_at = self.at;
        let all = std::mem::take(&mut self.all);
        let postings = std::mem::take(&mut self.postings);
        let mut table = (postings.len() as u32 + 1).to_be_bytes().to_vec();
        let lists = std::iter::once((("", ""), &all));
        let lists = lists.chain(postings.iter().map(|((n, v), list)| ((texts[*n as usize], texts[*v as usize]), list)));
        for ((name, value), list) in lists {
            self.align(4)?;
            table.push(2);
            put_text(&mut table, name);
            put_text(&mut table, value);
            put_varint(&mut table, self.at);
            let mut content = (list.len() as u32).to_be_bytes().to_vec();
            content.extend(list.iter().flat_map(|reference| reference.to_be_bytes()));
            self.part(&content)?;
        }
        let table_at = self.at;
        self.part(&table)?;
        // There are no label indexes, which no Prometheus reads.
        let places = [self.symbols_at, self.series_at, 0, 0, postings_at, table_at];
        let mut toc: Vec<u8> = places.iter().flat_map(|place| place.to_be_bytes()).collect();
        toc.extend_from_slice(&crc32c::crc32c(&toc).to_be_bytes());
        self.write(&toc)?;
        let context = || format!("writing {}", self.name);
        self.out.flush().and_then(|()| self.out.get_ref().sync_all()).map_err(io(context()))
    }

    fn symbol(&self, text: &str) -> u32 {
        *self.symbols.get(text).expect("the names and values of all series were given")
    }

    /// Writes a part with its length before it and its checksum behind it.
    fn part(&mut self, content: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(content.len()).map_err(|_| {
            Error::Limit(format!("a part of {} would be larger than 4 GiB; take a shorter --block-span", self.name))
        })?;
        self.write(&length.to_be_bytes())?;
        self.write(content)?;
        self.write(&crc32c::crc32c(content).to_be_bytes())
    }

    fn align(&mut self, to: u64) -> Result<(), Error> {
        let missing = self.at.next_multiple_of(to) - self.at;
        self.write(&[0; SERIES_ALIGN as usize][..missing as usize])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(io(format!("writing {}", self.name)))?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}
