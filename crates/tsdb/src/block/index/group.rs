//! What an index has of [`GROUP`] series in a row: a page of their labels, and one of where their chunks are.
//!
//! Both are columns of which each number is read where it lies, so that one series of a page costs no more than itself.

use bytes::Bytes;
use hashbrown::HashMap;
use model::TimeRange;

use super::packed::{self, Packed, Sums};
use crate::block::{ChunkRef, Last, Place};
use crate::chunk::Facts;
use crate::chunk::bits::{Cursor, put_varint, unzigzag, zigzag};

/// Series whose labels and chunks lie together, and of which the last samples are known together: enough that a million of them are a thousand looks, and so
/// few that a series which ended makes few others be looked at.
pub(crate) const GROUP: usize = 1024;

/// Appends a column of a page of labels: for each series one more than the number of its value, or 0.
pub(super) fn put_labels(name: usize, name_before: usize, values: &[u64], out: &mut Vec<u8>) {
    put_varint(out, (name - name_before) as u64);
    packed::put(values, out);
}

/// Calls `see` with the labels of one of the series of a page: number of the name, number of the value.
pub(super) fn each_label<B: AsRef<[u8]>>(
    columns: &[(usize, Packed<B>)],
    at: usize,
    mut see: impl FnMut(usize, u32) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    for (name, column) in columns {
        if let Some(value) = column.get(at).checked_sub(1) {
            see(*name, u32::try_from(value).map_err(|_| "number of a label value")?)?;
        }
    }
    Ok(())
}

/// Calls `see` with each column of a page of the labels of so many series: number of the name, and for each series one more than the number of its value, or 0.
pub(super) fn each_column<'a>(
    content: &'a [u8],
    series: usize,
    mut see: impl FnMut(usize, Packed<&'a [u8]>),
) -> Result<(), &'static str> {
    let mut cursor = Cursor { bytes: content, at: 0 };
    let mut name = 0usize;
    while cursor.at < content.len() {
        name = name.checked_add(cursor.number()? as usize).ok_or("number of a label name")?;
        see(name, Packed::read(&mut cursor, series)?);
    }
    Ok(())
}

/// Gathers a page of chunks.
#[derive(Debug, Default)]
pub(super) struct Builder {
    /// Chunks of each series.
    counts: Vec<u64>,
    /// First time of each series.
    starts: Vec<i64>,
    /// Where the first chunk is, and where the last one ends.
    at: u64,
    end: u64,
    sizes: Vec<u64>,
    /// Bytes between a chunk and the one before it.
    gaps: Vec<u64>,
    /// The first time of a chunk less the last one of the chunk before.
    pauses: Vec<u64>,
    spans: Vec<u64>,
    samples: Vec<u64>,
    lasts: Vec<u64>,
    /// One more than the place in `places`, or 0.
    times: Vec<u64>,
    places: Vec<Place>,
    known: HashMap<u64, usize>,
    fact_sizes: Vec<u64>,
    facts: Vec<u8>,
}

impl Builder {
    /// Adds a series; its chunks ascend in time and place, and come after those of the series before.
    pub(super) fn push(&mut self, chunks: &[ChunkRef]) {
        if self.sizes.is_empty() {
            let at = chunks.first().map_or(0, |chunk| chunk.at);
            (self.at, self.end) = (at, at);
        }
        self.counts.push(chunks.len() as u64);
        self.starts.push(chunks.first().map_or(0, |chunk| chunk.range.start_ms));
        let mut before = None;
        for chunk in chunks {
            let TimeRange { start_ms, end_ms } = chunk.range;
            self.sizes.push(u64::from(chunk.bytes));
            self.gaps.push(chunk.at.wrapping_sub(self.end));
            self.end = chunk.at.wrapping_add(u64::from(chunk.bytes));
            self.pauses.push(before.map_or(0, |before| start_ms.wrapping_sub(before) as u64));
            self.spans.push(end_ms.wrapping_sub(start_ms) as u64);
            self.samples.push(u64::from(chunk.samples));
            self.lasts.push(chunk.last as u64);
            let place = chunk.times.map_or(0, |place| self.place(place) as u64 + 1);
            self.times.push(place);
            let start = self.facts.len();
            if let Some(facts) = &chunk.facts {
                facts.encode(chunk.samples as usize, &mut self.facts);
            }
            self.fact_sizes.push((self.facts.len() - start) as u64);
            before = Some(end_ms);
        }
    }

    fn place(&mut self, place: Place) -> usize {
        *self.known.entry(place.at).or_insert_with(|| {
            self.places.push(place);
            self.places.len() - 1
        })
    }

    /// Series up to now.
    pub(super) fn series(&self) -> usize {
        self.counts.len()
    }

    /// Appends the page, and begins the next.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        packed::put_sums(&self.counts, out);
        put_varint(out, self.at);
        packed::put_sums(&self.sizes, out);
        packed::put_sums(&self.gaps, out);
        let from = self.starts.iter().copied().min().unwrap_or(0);
        put_varint(out, zigzag(from));
        packed::put(&self.starts.iter().map(|start| start.wrapping_sub(from) as u64).collect::<Vec<_>>(), out);
        for column in [&self.pauses, &self.spans, &self.samples, &self.lasts, &self.times] {
            packed::put(column, out);
        }
        put_varint(out, self.places.len() as u64);
        packed::put(&self.places.iter().map(|place| place.at).collect::<Vec<_>>(), out);
        packed::put(&self.places.iter().map(|place| u64::from(place.bytes)).collect::<Vec<_>>(), out);
        packed::put_sums(&self.fact_sizes, out);
        out.extend_from_slice(&self.facts);
        *self = Builder::default();
    }
}

/// A page of chunks.
#[derive(Debug)]
pub(super) struct Chunks {
    counts: Sums<Bytes>,
    at: u64,
    sizes: Sums<Bytes>,
    gaps: Sums<Bytes>,
    from: i64,
    starts: Packed<Bytes>,
    pauses: Packed<Bytes>,
    spans: Packed<Bytes>,
    samples: Packed<Bytes>,
    lasts: Packed<Bytes>,
    times: Packed<Bytes>,
    places: usize,
    place_at: Packed<Bytes>,
    place_bytes: Packed<Bytes>,
    fact_sizes: Sums<Bytes>,
    facts: Bytes,
}

impl Chunks {
    /// Reads a page of so many series.
    pub(super) fn read(content: &Bytes, series: usize) -> Result<Self, &'static str> {
        let mut cursor = Cursor { bytes: content, at: 0 };
        let column = |cursor: &mut Cursor<'_>, count| Ok::<_, &'static str>(Packed::read(cursor, count)?.own(content));
        let sums = |cursor: &mut Cursor<'_>, count| Ok::<_, &'static str>(Sums::read(cursor, count)?.own(content));
        let cursor = &mut cursor;
        let counts = sums(cursor, series)?;
        let all = usize::try_from(counts.before(series)).map_err(|_| "number of chunks")?;
        let at = cursor.number()?;
        let (sizes, gaps) = (sums(cursor, all)?, sums(cursor, all)?);
        let (from, starts) = (unzigzag(cursor.number()?), column(cursor, series)?);
        let (pauses, spans) = (column(cursor, all)?, column(cursor, all)?);
        let (samples, lasts) = (column(cursor, all)?, column(cursor, all)?);
        let times = column(cursor, all)?;
        let places = usize::try_from(cursor.number()?).map_err(|_| "number of shared times")?;
        let (place_at, place_bytes) = (column(cursor, places)?, column(cursor, places)?);
        let fact_sizes = sums(cursor, all)?;
        let facts = content.slice(cursor.at..);
        if fact_sizes.before(all) != facts.len() as u64 {
            return Err("sizes of facts");
        }
        Ok(Chunks {
            counts,
            at,
            sizes,
            gaps,
            from,
            starts,
            pauses,
            spans,
            samples,
            lasts,
            times,
            places,
            place_at,
            place_bytes,
            fact_sizes,
            facts,
        })
    }

    /// How many chunks one of the series has.
    pub(super) fn count(&self, series: usize) -> u64 {
        self.counts.get(series)
    }

    /// The chunks of one of the series.
    pub(super) fn of(&self, series: usize) -> Result<Vec<ChunkRef>, &'static str> {
        let (first, count) = (self.counts.before(series) as usize, self.counts.get(series) as usize);
        let mut end = self.at.wrapping_add(self.sizes.before(first)).wrapping_add(self.gaps.before(first));
        let mut facts_at = self.fact_sizes.before(first) as usize;
        let mut start_ms = self.from.wrapping_add(self.starts.get(series) as i64);
        let mut chunks = Vec::new();
        for at in first..first.saturating_add(count) {
            start_ms = start_ms.wrapping_add(self.pauses.get(at) as i64);
            let end_ms = start_ms.wrapping_add(self.spans.get(at) as i64);
            let samples = u32::try_from(self.samples.get(at)).map_err(|_| "samples of a chunk")?;
            let bytes = u32::try_from(self.sizes.get(at)).map_err(|_| "length of a chunk")?;
            let place = end.wrapping_add(self.gaps.get(at));
            let facts_end = facts_at.saturating_add(self.fact_sizes.get(at) as usize);
            let own = self.facts.get(facts_at..facts_end).ok_or("place of facts")?;
            chunks.push(ChunkRef {
                at: place,
                bytes,
                range: TimeRange { start_ms, end_ms },
                samples,
                last: Last::of(self.lasts.get(at)).ok_or("last sample of a chunk")?,
                times: self.place(self.times.get(at))?,
                facts: facts(samples, own)?,
            });
            (end, facts_at, start_ms) = (place.wrapping_add(u64::from(bytes)), facts_end, end_ms);
        }
        Ok(chunks)
    }

    fn place(&self, number: u64) -> Result<Option<Place>, &'static str> {
        let Some(at) = number.checked_sub(1) else { return Ok(None) };
        let at = usize::try_from(at).ok().filter(|at| *at < self.places).ok_or("number of shared times")?;
        let bytes = u32::try_from(self.place_bytes.get(at)).map_err(|_| "length of times")?;
        Ok(Some(Place { at: self.place_at.get(at), bytes }))
    }
}

fn facts(samples: u32, bytes: &[u8]) -> Result<Option<Facts>, &'static str> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut at = 0;
    let facts = Facts::decode(samples as usize, bytes, &mut at)?;
    if at == bytes.len() { Ok(Some(facts)) } else { Err("bytes after the facts") }
}
