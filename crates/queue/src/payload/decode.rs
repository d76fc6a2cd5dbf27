//! Reads payloads. The bytes come from a disk or a network: nothing in them is believed.

use model::{LabelsRef, Metadata, MetricType, Sample, piece_text};

use super::{BODY_BYTES_MAX, FLAG_LZ4, VERSION, unzigzag};
use crate::Error;

/// Is shown what a payload holds, in the order in which it was added.
pub trait Visitor {
    /// A series with at least one sample.
    fn series(&mut self, labels: LabelsRef<'_>, samples: &[Sample]);
    /// What is known of a family.
    fn metadata(&mut self, metadata: &Metadata);
}

/// Reads payloads, one after the other, in the same memory.
#[derive(Debug, Default)]
pub struct Decoder {
    body: Vec<u8>,
    /// Where each symbol begins and ends in the table.
    symbols: Vec<(u32, u32)>,
    /// Symbol numbers of all series, names and values in turn.
    pairs: Vec<u32>,
    series: Vec<SeriesHead>,
    samples: Vec<Sample>,
    metadata: Vec<Metadata>,
    text: String,
}

#[derive(Debug, Clone, Copy)]
struct SeriesHead {
    first_pair: usize,
    labels: usize,
    samples: usize,
}

impl Decoder {
    /// Checks the whole payload, then shows it. An error means that nothing was shown.
    pub fn decode(&mut self, payload: &[u8], visitor: &mut dyn Visitor) -> Result<(), Error> {
        let mut body = std::mem::take(&mut self.body);
        let read = open(payload, &mut body).and_then(|body| self.read(body));
        let shown = read.map(|table| self.show(table, visitor));
        self.body = body;
        shown
    }

    /// Checks everything after the header, and returns the text of the symbol table.
    fn read<'a>(&mut self, body: &'a [u8]) -> Result<&'a str, Error> {
        let mut cursor = Cursor { bytes: body, at: 0 };
        let table = self.read_symbols(&mut cursor)?;
        let samples = self.read_series(&mut cursor, table)?;
        self.read_samples(&mut cursor, samples)?;
        self.read_metadata(&mut cursor)?;
        if cursor.at != body.len() {
            return Err(cursor.error("bytes after the end"));
        }
        Ok(table)
    }

    fn read_symbols<'a>(&mut self, cursor: &mut Cursor<'a>) -> Result<&'a str, Error> {
        let count = cursor.length()?;
        let bytes = cursor.length()?;
        let table = cursor.text(bytes)?;
        self.symbols.clear();
        let mut at = 0;
        for piece in LabelsRef::from_canonical(table).pieces() {
            self.symbols.push((at, at + piece.len() as u32));
            at += piece.len() as u32;
        }
        if self.symbols.len() != count || at as usize != table.len() {
            return Err(cursor.error("symbol table does not end where it should"));
        }
        Ok(table)
    }

    fn read_series(&mut self, cursor: &mut Cursor<'_>, table: &str) -> Result<usize, Error> {
        let (count, samples) = (cursor.length()?, cursor.length()?);
        self.pairs.clear();
        self.series.clear();
        let (mut names_from, mut total) = (None, 0usize);
        for _ in 0..count {
            let head = cursor.varint()?;
            let labels = usize::try_from(head >> 1).unwrap_or(usize::MAX);
            if labels == 0 || labels > cursor.left() {
                return Err(cursor.error("number of labels"));
            }
            let first_pair = self.pairs.len();
            let same = head & 1 == 1;
            if same && names_from.is_none_or(|(_, n)| n != labels) {
                return Err(cursor.error("no names before to repeat"));
            }
            for label in 0..labels {
                let name = match names_from {
                    Some((from, _)) if same => self.pairs[from + 2 * label],
                    _ => self.symbol(cursor)?,
                };
                let value = self.symbol(cursor)?;
                if piece_text(self.piece(table, value)).is_empty() {
                    return Err(cursor.error("empty label value"));
                }
                self.pairs.push(name);
                self.pairs.push(value);
            }
            if !same {
                self.check_names(table, first_pair, cursor)?;
            }
            names_from = Some((first_pair, labels));
            let samples = cursor.length()?;
            total = total.saturating_add(samples);
            if samples == 0 {
                return Err(cursor.error("series without samples"));
            }
            self.series.push(SeriesHead { first_pair, labels, samples });
        }
        if total != samples {
            return Err(cursor.error("number of samples"));
        }
        Ok(samples)
    }

    fn check_names(&self, table: &str, first_pair: usize, cursor: &Cursor<'_>) -> Result<(), Error> {
        let names = self.pairs[first_pair..].iter().step_by(2).map(|id| piece_text(self.piece(table, *id)));
        if !names.clone().is_sorted_by(|a, b| a < b) || names.clone().next().is_none_or(str::is_empty) {
            return Err(cursor.error("label names are not ascending"));
        }
        Ok(())
    }

    fn read_samples(&mut self, cursor: &mut Cursor<'_>, count: usize) -> Result<(), Error> {
        self.samples.clear();
        // Each sample takes at least one byte of time and eight of value: checked before memory is taken.
        if count.checked_mul(9).is_none_or(|least| least > cursor.left()) {
            return Err(cursor.error("more samples than bytes"));
        }
        self.samples.reserve(count);
        let mut t = 0i64;
        for _ in 0..count {
            t = t.wrapping_add(unzigzag(cursor.varint()?));
            self.samples.push(Sample { t, v: 0.0 });
        }
        let planes = cursor.take(8 * count)?;
        for (i, sample) in self.samples.iter_mut().enumerate() {
            let mut bytes = [0; 8];
            for (plane, byte) in bytes.iter_mut().enumerate() {
                *byte = planes[plane * count + i];
            }
            sample.v = f64::from_bits(u64::from_le_bytes(bytes));
        }
        Ok(())
    }

    fn read_metadata(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        self.metadata.clear();
        for _ in 0..cursor.length()? {
            let code = cursor.take(1)?[0];
            let kind = type_of(code).ok_or_else(|| cursor.error("unknown metric type"))?;
            let mut text = || {
                let bytes = cursor.length()?;
                cursor.text(bytes).map(str::to_owned)
            };
            let (family, help, unit) = (text()?, text()?, text()?);
            self.metadata.push(Metadata { family, kind, help, unit });
        }
        Ok(())
    }

    fn show(&mut self, table: &str, visitor: &mut dyn Visitor) {
        let mut text = std::mem::take(&mut self.text);
        let mut samples = self.samples.as_slice();
        for head in &self.series {
            text.clear();
            for id in &self.pairs[head.first_pair..head.first_pair + 2 * head.labels] {
                text.push_str(self.piece(table, *id));
            }
            let (own, rest) = samples.split_at(head.samples);
            samples = rest;
            visitor.series(LabelsRef::from_canonical(&text), own);
        }
        self.text = text;
        for metadata in &self.metadata {
            visitor.metadata(metadata);
        }
    }

    fn symbol(&self, cursor: &mut Cursor<'_>) -> Result<u32, Error> {
        let id = cursor.varint()?;
        if id >= self.symbols.len() as u64 {
            return Err(cursor.error("symbol number"));
        }
        Ok(id as u32)
    }

    fn piece<'a>(&self, table: &'a str, id: u32) -> &'a str {
        let (start, end) = self.symbols[id as usize];
        &table[start as usize..end as usize]
    }
}

/// Checks the header and decompresses the body into `buffer` where it is compressed.
fn open<'a>(payload: &'a [u8], buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Error> {
    let mut cursor = Cursor { bytes: payload, at: 0 };
    let head = cursor.take(2)?;
    if head[0] != VERSION {
        return Err(Error::Payload { position: 0, reason: "unknown version" });
    }
    let size = cursor.varint()?;
    let size = usize::try_from(size).ok().filter(|size| *size <= BODY_BYTES_MAX);
    let size = size.ok_or_else(|| cursor.error("body is too large"))?;
    let rest = &payload[cursor.at..];
    match head[1] {
        0 if rest.len() == size => Ok(rest),
        // LZ4 expands at most 255 times: a size beyond that is a lie, and no memory is taken for it.
        FLAG_LZ4 if size <= rest.len().saturating_mul(255) => {
            buffer.resize(size, 0);
            match lz4_flex::block::decompress_into(rest, buffer) {
                Ok(read) if read == size => Ok(buffer),
                _ => Err(cursor.error("body does not decompress")),
            }
        }
        _ => Err(cursor.error("size of the body")),
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn error(&self, reason: &'static str) -> Error {
        Error::Payload { position: self.at, reason }
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or_else(|| self.error("ends too early"))?;
            self.at += 1;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(self.error("number is too long"))
    }

    /// A number of things of which each takes at least a byte, so that it is bounded by what is left.
    fn length(&mut self) -> Result<usize, Error> {
        let n = self.varint()?;
        usize::try_from(n).ok().filter(|n| *n <= self.left()).ok_or_else(|| self.error("length is beyond the end"))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.error("ends too early"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn text(&mut self, n: usize) -> Result<&'a str, Error> {
        let at = self.at;
        let bytes = self.take(n)?;
        std::str::from_utf8(bytes).map_err(|_| Error::Payload { position: at, reason: "not UTF-8" })
    }
}

fn type_of(code: u8) -> Option<MetricType> {
    use MetricType::{Counter, Gauge, GaugeHistogram, Histogram, Info, StateSet, Summary, Unknown};
    [Unknown, Counter, Gauge, Histogram, GaugeHistogram, Summary, Info, StateSet].get(usize::from(code)).copied()
}
