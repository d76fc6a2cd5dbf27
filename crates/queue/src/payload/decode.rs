//! Reads payloads. The bytes come from a disk or a network: nothing in them is believed.

use std::ops::Range;

use model::{Exemplar, HistogramSample, LabelsRef, Metadata, MetricType, Sample, Samples, piece_text};

use super::cursor::Cursor;
use super::groups::Groups;
use super::labels::Texts;
use super::{BODY_BYTES_MAX, EXEMPLIFIED, FLAG_LZ4, PLAIN, RICH, exemplars, histograms, starts, times, value};
use crate::Error;

/// Is shown what a payload holds, in the order in which it was added.
pub trait Visitor {
    /// A series with at least one sample.
    fn series(&mut self, labels: LabelsRef<'_>, samples: Samples<'_>);
    /// What is known of a family.
    fn metadata(&mut self, metadata: &Metadata);
    /// Exemplars of a series, at least one, right after its samples where it has some. Who keeps none need not look.
    fn exemplars(&mut self, labels: LabelsRef<'_>, exemplars: &[Exemplar]) {
        let _ = (labels, exemplars);
    }
}

/// Reads payloads, one after the other, in the same memory.
///
/// It takes at most some twenty times the memory of the body, which is bounded, 256 MiB for histograms and 64 MiB for exemplars, whose numbers are.
#[derive(Debug, Default)]
pub struct Decoder {
    body: Vec<u8>,
    state: SeriesState,
    samples: Vec<Sample>,
    starts: Vec<i64>,
    histograms: Groups<HistogramSample>,
    exemplars: Groups<Exemplar>,
    metadata: Vec<Metadata>,
    texts: Texts,
}

impl Decoder {
    /// Checks the whole payload, then shows it. An error means that nothing was shown.
    pub fn decode(&mut self, payload: &[u8], visitor: &mut dyn Visitor) -> Result<(), Error> {
        let mut body = std::mem::take(&mut self.body);
        let shown = open(payload, &mut body).and_then(|(version, body)| {
            let symbols = self.check(version, body)?;
            self.show(&symbols, visitor);
            Ok(())
        });
        self.body = body;
        shown
    }

    /// Reads and checks everything after the header, and returns the symbols.
    fn check<'a>(&mut self, version: u8, body: &'a [u8]) -> Result<Vec<&'a str>, Error> {
        let mut cursor = Cursor { bytes: body, at: 0 };
        let symbols = read_symbols(&mut cursor)?;
        let (count, samples) = (cursor.length()?, cursor.length()?);
        self.state.begin(symbols.len());
        let (mut total, mut empty) = (0usize, 0usize);
        for _ in 0..count {
            let own = self.state.next(&mut cursor, &symbols)?;
            total = total.saturating_add(own);
            if own == 0 && version == PLAIN {
                return Err(cursor.error("series without samples"));
            }
            empty += usize::from(own == 0);
        }
        if total != samples {
            return Err(cursor.error("number of samples"));
        }
        self.read_samples(&mut cursor, samples)?;
        self.read_metadata(&mut cursor)?;
        self.starts.clear();
        self.histograms.clear();
        self.exemplars.clear();
        if version >= RICH {
            starts::read(&mut cursor, &self.samples, &mut self.starts)?;
            histograms::read(&mut self.histograms, &mut cursor, count)?;
        }
        if version >= EXEMPLIFIED {
            exemplars::read(&mut self.exemplars, &mut cursor, count)?;
        }
        // Which series have no floats is seen when they are shown; that each has something else must be known before.
        if empty > 0 {
            self.check_empty(&cursor)?;
        }
        if cursor.at != body.len() {
            return Err(cursor.error("bytes after the end"));
        }
        Ok(symbols)
    }

    /// Checks that each series without floats has histograms or exemplars.
    fn check_empty(&self, cursor: &Cursor<'_>) -> Result<(), Error> {
        let (mut histograms, mut exemplars) = (self.histograms.in_order(), self.exemplars.in_order());
        for (number, series) in self.state.series.iter().enumerate() {
            let rest = histograms.next(number).len() + exemplars.next(number).len();
            if series.samples == 0 && rest == 0 {
                return Err(cursor.error("series without samples"));
            }
        }
        Ok(())
    }

    fn read_samples(&mut self, cursor: &mut Cursor<'_>, count: usize) -> Result<(), Error> {
        self.samples.clear();
        // Each sample takes at least one byte of value: checked before memory is taken.
        if count > cursor.left() {
            return Err(cursor.error("more samples than bytes"));
        }
        self.samples.reserve(count);
        times::read(cursor, self.state.series.iter().map(|series| series.samples as usize), &mut self.samples)?;
        for sample in &mut self.samples {
            let n = cursor.varint()?;
            sample.v = value::read(n, || Ok(cursor.take(8)?.try_into().expect("eight bytes")))?;
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

    /// Shows what was read without an error.
    fn show(&mut self, symbols: &[&str], visitor: &mut dyn Visitor) {
        let (mut samples, mut starts) = (self.samples.as_slice(), self.starts.as_slice());
        let (mut histograms, mut exemplars) = (self.histograms.in_order(), self.exemplars.in_order());
        let state = &mut self.state;
        state.last_values.fill(NONE);
        self.texts.begin();
        let mut changes = state.changes.as_slice();
        for (number, series) in state.series.iter().enumerate() {
            let (own_changes, rest) = changes.split_at(series.changes as usize);
            changes = rest;
            let names = &state.names[state.shapes[series.shape as usize].clone()];
            own_changes.iter().for_each(|c| state.last_values[names[c.place as usize] as usize] = c.value);
            let text = self.texts.of(series.shape, names, &state.last_values, symbols);
            let (own, rest) = samples.split_at(series.samples as usize);
            let own_starts = starts.get(..own.len()).filter(|own| own.iter().any(|start| *start != 0));
            (samples, starts) = (rest, starts.get(own.len()..).unwrap_or(&[]));
            let own = Samples { floats: own, starts: own_starts.unwrap_or(&[]), histograms: histograms.next(number) };
            let labels = LabelsRef::from_canonical(text);
            if !own.is_empty() {
                visitor.series(labels, own);
            }
            let own = exemplars.next(number);
            if !own.is_empty() {
                visitor.exemplars(labels, own);
            }
        }
        for metadata in &self.metadata {
            visitor.metadata(metadata);
        }
    }
}

/// What is known when a series is read: it is told by its difference to those before.
#[derive(Debug, Default)]
struct SeriesState {
    /// Number of symbols.
    symbols: usize,
    /// The value that each name had last, by the name's symbol.
    last_values: Vec<u32>,
    /// The symbols of the names of all shapes, and where in them each shape is.
    names: Vec<u32>,
    shapes: Vec<Range<usize>>,
    /// Number of symbols that were referred to.
    told: usize,
    /// The shape of the present series.
    shape: Option<usize>,
    /// The series that were read, and what each changes, one after the other.
    series: Vec<Told>,
    changes: Vec<Change>,
}

/// No value was seen for this name yet.
const NONE: u32 = u32::MAX;

/// What was read of a series.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// The number of its shape.
    shape: u32,
    /// How many of its values are not the last ones of their names.
    changes: u32,
    samples: u32,
}

/// The label at this place has another value.
#[derive(Debug, Clone, Copy)]
struct Change {
    place: u32,
    value: u32,
}

impl SeriesState {
    fn begin(&mut self, symbols: usize) {
        self.symbols = symbols;
        self.last_values.clear();
        self.last_values.resize(symbols, NONE);
        self.names.clear();
        self.shapes.clear();
        self.told = 0;
        self.shape = None;
        self.series.clear();
        self.changes.clear();
    }

    /// Reads a series, and returns how many samples it has.
    fn next(&mut self, cursor: &mut Cursor<'_>, symbols: &[&str]) -> Result<usize, Error> {
        let head = cursor.varint()?;
        let shape = match head >> 1 {
            0 => self.shape.ok_or_else(|| cursor.error("no names before to repeat"))?,
            1 => self.new_shape(cursor, symbols)?,
            known => {
                let number = usize::try_from(known - 2).ok().filter(|number| *number < self.shapes.len());
                number.ok_or_else(|| cursor.error("unknown list of names"))?
            }
        };
        self.shape = Some(shape);
        let names = self.shapes[shape].clone();
        let labels = names.len();
        let mask = cursor.take(labels.div_ceil(8))?;
        if !labels.is_multiple_of(8) && mask.last().is_some_and(|last| last >> (labels % 8) != 0) {
            return Err(cursor.error("change of a label that is not there"));
        }
        let before = self.changes.len();
        for place in places(mask) {
            let name = self.names[names.start + place] as usize;
            let value = self.symbol(cursor)?;
            self.last_values[name] = value;
            self.changes.push(Change { place: place as u32, value });
        }
        // The names of a list that was used before all have values.
        let no_value = |name: &u32| self.last_values[*name as usize] == NONE;
        if head >> 1 == 1 && self.names[names].iter().any(no_value) {
            return Err(cursor.error("no value before to repeat"));
        }
        let samples = if head & 1 == 1 { cursor.length()? } else { 1 };
        // All are bounded by the size of the body.
        self.series.push(Told {
            shape: shape as u32,
            changes: (self.changes.len() - before) as u32,
            samples: samples as u32,
        });
        Ok(samples)
    }

    fn new_shape(&mut self, cursor: &mut Cursor<'_>, symbols: &[&str]) -> Result<usize, Error> {
        let (start, labels) = (self.names.len(), cursor.length()?);
        if labels == 0 {
            return Err(cursor.error("series without labels"));
        }
        for _ in 0..labels {
            let name = self.symbol(cursor)?;
            self.names.push(name);
        }
        let names = self.names[start..].iter().map(|id| piece_text(symbols[*id as usize]));
        if !names.is_sorted_by(|a, b| a < b) {
            return Err(cursor.error("label names are not ascending"));
        }
        self.shapes.push(start..self.names.len());
        Ok(self.shapes.len() - 1)
    }

    fn symbol(&mut self, cursor: &mut Cursor<'_>) -> Result<u32, Error> {
        let n = cursor.varint()?;
        let id = match n.checked_sub(1) {
            Some(id) => usize::try_from(id).unwrap_or(usize::MAX),
            None => {
                self.told += 1;
                self.told - 1
            }
        };
        if id >= self.symbols {
            return Err(cursor.error("symbol number"));
        }
        Ok(id as u32)
    }
}

/// Reads the symbol table: its pieces, each with its length before it.
fn read_symbols<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<&'a str>, Error> {
    let count = cursor.length()?;
    let bytes = cursor.length()?;
    let table = cursor.text(bytes)?;
    // Each takes two bytes at least; whether there are so many is seen below.
    let mut symbols = Vec::with_capacity(count.min(bytes / 2));
    let mut size = 0;
    for piece in LabelsRef::from_canonical(table).pieces() {
        if piece.len() < 2 {
            return Err(cursor.error("empty symbol"));
        }
        symbols.push(piece);
        size += piece.len();
    }
    if symbols.len() != count || size != table.len() {
        return Err(cursor.error("symbol table does not end where it should"));
    }
    Ok(symbols)
}

/// The places whose bits are set.
fn places(mask: &[u8]) -> impl Iterator<Item = usize> {
    mask.iter().enumerate().flat_map(|(at, byte)| {
        let mut rest = *byte;
        std::iter::from_fn(move || {
            let place = 8 * at + rest.trailing_zeros() as usize;
            let some = rest != 0;
            rest &= rest.wrapping_sub(1);
            some.then_some(place)
        })
    })
}

/// Checks the header and decompresses the body into `buffer` where it is compressed. Returns the version too.
fn open<'a>(payload: &'a [u8], buffer: &'a mut Vec<u8>) -> Result<(u8, &'a [u8]), Error> {
    let mut cursor = Cursor { bytes: payload, at: 0 };
    let head = cursor.take(2)?;
    if !(PLAIN..=EXEMPLIFIED).contains(&head[0]) {
        return Err(Error::Payload { position: 0, reason: "unknown version" });
    }
    let size = cursor.varint()?;
    let size = usize::try_from(size).ok().filter(|size| *size <= BODY_BYTES_MAX);
    let size = size.ok_or_else(|| cursor.error("body is too large"))?;
    let rest = &payload[cursor.at..];
    match head[1] {
        0 if rest.len() == size => Ok((head[0], rest)),
        // LZ4 expands at most 255 times: a size beyond that is a lie, and no memory is taken for it.
        FLAG_LZ4 if size <= rest.len().saturating_mul(255) => {
            buffer.resize(size, 0);
            match lz4_flex::block::decompress_into(rest, buffer) {
                Ok(read) if read == size => Ok((head[0], buffer)),
                _ => Err(cursor.error("body does not decompress")),
            }
        }
        _ => Err(cursor.error("size of the body")),
    }
}

fn type_of(code: u8) -> Option<MetricType> {
    use MetricType::{Counter, Gauge, GaugeHistogram, Histogram, Info, StateSet, Summary, Unknown};
    [Unknown, Counter, Gauge, Histogram, GaugeHistogram, Summary, Info, StateSet].get(usize::from(code)).copied()
}
