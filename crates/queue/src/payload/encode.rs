//! Writes payloads.
//!
//! Series of one request mostly come in the order of their targets, so that one differs from the one before in two or three
//! labels of a dozen. The canonical texts of both are compared in whole words, and only the labels that differ are looked up.

use bytes::Bytes;
use hashbrown::HashTable;
use model::{Exemplar, LabelsRef, Metadata, MetricType, Samples, piece_text};
use xxhash_rust::xxh3::xxh3_64;

use super::exemplars::Writer as Exemplars;
use super::histograms::Writer as Histograms;
use super::starts::Starts;
use super::times::Writer as Times;
use super::{EXEMPLIFIED, FLAG_LZ4, PLAIN, RICH, put_varint, value};

/// No value was seen for this name yet.
const NONE: u32 = u32::MAX;

/// Memory to compress into that is kept from one payload to the next.
const PACKED_KEPT: usize = 256 << 10;

/// Gathers series and metadata into one payload. Its memory is kept from one payload to the next.
///
/// Who fills it calls [`Encoder::finish`] before [`Encoder::bytes`] passes [`crate::RECORD_BYTES_MAX`]: a log takes no larger
/// record.
#[derive(Default)]
pub struct Encoder {
    symbols: Symbols,
    /// The value that each name had last, by the name's symbol.
    last_values: Vec<u32>,
    /// Number of symbols that the series so far refer to.
    told: u32,
    shapes: Shapes,
    /// Canonical text and labels of the series before.
    text: String,
    labels: Vec<Label>,
    next_labels: Vec<Label>,
    /// Whether both have the same names.
    same_names: bool,
    /// Place, start and end in the text of the values that are not those that their names had last.
    changes: Vec<(u32, u32, u32)>,
    mask: Vec<u8>,
    series: Vec<u8>,
    series_count: u64,
    times: Times,
    values: Vec<u8>,
    samples: usize,
    starts: Starts,
    histograms: Histograms,
    exemplars: Exemplars,
    metadata: Vec<u8>,
    metadata_count: u64,
    body: Vec<u8>,
    /// Memory to compress into; what is in it means nothing.
    packed: Vec<u8>,
}

/// A label of the series before: the symbol of its name, and where it ends in the text.
#[derive(Debug, Clone, Copy)]
struct Label {
    name: u32,
    end: u32,
}

impl Encoder {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a series with its samples, in any order of time. No samples add nothing.
    ///
    /// A histogram that is not valid makes the whole payload unreadable: see [`model::Histogram::validate`].
    pub fn push<'s>(&mut self, labels: LabelsRef<'_>, samples: impl Into<Samples<'s>>) {
        let samples = samples.into();
        if !samples.is_empty() {
            self.put(labels, samples);
        }
    }

    /// Adds exemplars of a series, in any order. None add nothing.
    pub fn push_exemplars(&mut self, labels: LabelsRef<'_>, exemplars: &[Exemplar]) {
        if exemplars.is_empty() {
            return;
        }
        let last = self.series_count.checked_sub(1).filter(|last| !self.exemplars.has(*last));
        if last.is_none() || self.text != labels.canonical() {
            // No samples of it were added just before: it stands without.
            self.put(labels, Samples::default());
        }
        self.exemplars.push(self.series_count - 1, exemplars);
    }

    fn put(&mut self, labels: LabelsRef<'_>, samples: Samples<'_>) {
        let text = labels.canonical();
        self.compare(text);
        let several = u64::from(samples.floats.len() != 1);
        self.put_shape(several);
        self.put_changes(text);
        if several == 1 {
            put_varint(&mut self.series, samples.floats.len() as u64);
        }
        for (at, (start, sample)) in samples.starts.iter().zip(samples.floats).enumerate() {
            self.starts.push(self.samples + at, sample.t, *start);
        }
        self.histograms.push(self.series_count, samples.histograms);
        self.series_count += 1;
        self.text.clear();
        self.text.push_str(text);
        std::mem::swap(&mut self.labels, &mut self.next_labels);
        self.samples += samples.floats.len();
        self.times.push(samples.floats);
        samples.floats.iter().for_each(|sample| value::put(&mut self.values, sample.v));
    }

    /// Adds what is known of a family.
    pub fn push_metadata(&mut self, metadata: &Metadata) {
        self.metadata.push(type_code(metadata.kind));
        for text in [&metadata.family, &metadata.help, &metadata.unit] {
            put_varint(&mut self.metadata, text.len() as u64);
            self.metadata.extend_from_slice(text.as_bytes());
        }
        self.metadata_count += 1;
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.series_count == 0 && self.metadata_count == 0
    }

    /// Number of samples added, histograms included.
    pub fn samples(&self) -> usize {
        self.samples + self.histograms.count
    }

    /// Size of the body before compression; the payload is never larger.
    pub fn bytes(&self) -> usize {
        let plain = self.symbols.text.len() + self.series.len() + self.times.bytes() + self.values.len();
        let rich = self.starts.bytes() + self.histograms.bytes() + self.exemplars.bytes();
        plain + self.metadata.len() + rich + 94
    }

    /// The payload; the encoder is empty again.
    pub fn finish(&mut self) -> Bytes {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        put_varint(&mut body, self.symbols.starts.len() as u64);
        put_varint(&mut body, self.symbols.text.len() as u64);
        body.extend_from_slice(self.symbols.text.as_bytes());
        put_varint(&mut body, self.series_count);
        put_varint(&mut body, self.samples as u64);
        body.extend_from_slice(&self.series);
        self.times.write(&mut body);
        body.extend_from_slice(&self.values);
        put_varint(&mut body, self.metadata_count);
        body.extend_from_slice(&self.metadata);
        let version = match (self.exemplars.is_empty(), self.starts.is_empty() && self.histograms.count == 0) {
            (false, _) => EXEMPLIFIED,
            (true, false) => RICH,
            (true, true) => PLAIN,
        };
        if version >= RICH {
            self.starts.write(&mut body);
            self.histograms.write(&mut body);
        }
        if version >= EXEMPLIFIED {
            self.exemplars.write(&mut body);
        }
        let payload = self.pack(&body, version);
        self.body = body;
        self.clear();
        payload
    }

    /// The payload of a body.
    fn pack(&mut self, body: &[u8], version: u8) -> Bytes {
        let (out, size_max) = (&mut self.packed, lz4_flex::block::get_maximum_output_size(body.len()));
        if out.len() < size_max {
            out.resize(size_max, 0);
        }
        let (flags, content) = match lz4_flex::block::compress_into(body, out) {
            Ok(size) if size < body.len() => (FLAG_LZ4, &out[..size]),
            // Not smaller: as it is.
            _ => (0, body),
        };
        let mut head = vec![version, flags];
        put_varint(&mut head, body.len() as u64);
        // Of just its size: it may be kept for long.
        let payload = [head.as_slice(), content].concat();
        if out.len() > PACKED_KEPT {
            *out = Vec::new();
        }
        Bytes::from(payload)
    }

    fn clear(&mut self) {
        self.symbols.clear();
        self.last_values.clear();
        self.told = 0;
        self.shapes.clear();
        self.text.clear();
        self.labels.clear();
        self.series.clear();
        self.series_count = 0;
        self.times.clear();
        self.values.clear();
        self.samples = 0;
        self.starts.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.metadata.clear();
        self.metadata_count = 0;
    }

    /// Fills `next_labels`, and `changes` with the values that are not those that their names had last.
    fn compare(&mut self, text: &str) {
        self.next_labels.clear();
        self.changes.clear();
        self.same_names = true;
        let (before, labels) = (self.text.as_str(), self.labels.as_slice());
        // Place in the text before, in the labels before, and in the new text.
        let (mut old, mut at, mut new) = (0, 0, 0);
        loop {
            let same = old + common_prefix(&before.as_bytes()[old..], &text.as_bytes()[new..]);
            while let Some(label) = labels.get(at).filter(|label| label.end as usize <= same) {
                new += label.end as usize - old;
                old = label.end as usize;
                at += 1;
                self.next_labels.push(Label { name: label.name, end: new as u32 });
            }
            let mut pieces = LabelsRef::from_canonical(&text[new..]).pieces();
            let (Some(name), Some(value)) = (pieces.next(), pieces.next()) else { break };
            let known = self.symbols.find_name(&labels[at..], name).map(|skipped| at + skipped);
            let id = match known {
                Some(i) => {
                    self.same_names &= i == at;
                    at = i + 1;
                    old = labels[i].end as usize;
                    labels[i].name
                }
                None => {
                    self.same_names = false;
                    self.symbols.intern(name)
                }
            };
            let value_start = new + name.len();
            new = value_start + value.len();
            let last = self.last_values.get(id as usize).copied().filter(|last| *last != NONE);
            if last.is_none_or(|last| self.symbols.piece(last) != value) {
                self.changes.push((self.next_labels.len() as u32, value_start as u32, new as u32));
            }
            self.next_labels.push(Label { name: id, end: new as u32 });
        }
        self.same_names &= at == labels.len() && at > 0;
    }

    /// Writes which names the series has.
    fn put_shape(&mut self, several: u64) {
        if self.same_names {
            return put_varint(&mut self.series, several);
        }
        let (shape, new) = self.shapes.intern(&self.next_labels);
        if !new {
            return put_varint(&mut self.series, (u64::from(shape) + 2) << 1 | several);
        }
        put_varint(&mut self.series, 1 << 1 | several);
        put_varint(&mut self.series, self.next_labels.len() as u64);
        for label in &self.next_labels {
            put_symbol(&mut self.series, &mut self.told, label.name);
        }
    }

    /// Writes which values changed, and to what.
    fn put_changes(&mut self, text: &str) {
        self.mask.clear();
        self.mask.resize(self.next_labels.len().div_ceil(8), 0);
        for (place, _, _) in &self.changes {
            self.mask[*place as usize / 8] |= 1 << (place % 8);
        }
        self.series.extend_from_slice(&self.mask);
        for (place, start, end) in &self.changes {
            let id = self.symbols.intern(&text[*start as usize..*end as usize]);
            put_symbol(&mut self.series, &mut self.told, id);
            let name = self.next_labels[*place as usize].name as usize;
            if self.last_values.len() <= name {
                self.last_values.resize(name + 1, NONE);
            }
            self.last_values[name] = id;
        }
    }
}

/// 0 for the first symbol that was not referred to before, else its number and one.
fn put_symbol(out: &mut Vec<u8>, told: &mut u32, id: u32) {
    if id == *told {
        *told += 1;
        out.push(0);
    } else {
        put_varint(out, u64::from(id) + 1);
    }
}

/// The texts of all symbols, one after the other, and where each begins.
#[derive(Default)]
struct Symbols {
    text: String,
    starts: Vec<u32>,
    by_text: HashTable<u32>,
}

impl Symbols {
    fn piece(&self, id: u32) -> &str {
        let id = id as usize;
        let end = self.starts.get(id + 1).map_or(self.text.len(), |end| *end as usize);
        &self.text[self.starts[id] as usize..end]
    }

    /// The place among labels, ascending by their names, of the one with a name.
    fn find_name(&self, labels: &[Label], name: &str) -> Option<usize> {
        for (at, label) in labels.iter().enumerate() {
            let piece = self.piece(label.name);
            if piece == name {
                return Some(at);
            }
            if piece_text(piece) > piece_text(name) {
                return None;
            }
        }
        None
    }

    fn intern(&mut self, piece: &str) -> u32 {
        let hash = xxh3_64(piece.as_bytes());
        if let Some(id) = self.by_text.find(hash, |id| self.piece(*id) == piece) {
            return *id;
        }
        let id = self.starts.len() as u32;
        self.starts.push(self.text.len() as u32);
        self.text.push_str(piece);
        let (text, starts) = (&self.text, &self.starts);
        let hash_of = |id: &u32| {
            let id = *id as usize;
            let end = starts.get(id + 1).map_or(text.len(), |end| *end as usize);
            xxh3_64(&text.as_bytes()[starts[id] as usize..end])
        };
        self.by_text.insert_unique(hash, id, hash_of);
        id
    }

    fn clear(&mut self) {
        self.text.clear();
        self.starts.clear();
        self.by_text.clear();
    }
}

/// The lists of names that series have, each numbered.
#[derive(Default)]
struct Shapes {
    names: Vec<u32>,
    /// Where each ends in `names`, with the hash of its names.
    ends: Vec<(u32, u64)>,
    by_names: HashTable<u32>,
}

impl Shapes {
    /// The number of a shape, and whether it is new.
    fn intern(&mut self, labels: &[Label]) -> (u32, bool) {
        // Symbols are numbered densely: a multiplication spreads them well enough.
        let mix = |hash: u64, label: &Label| {
            (hash ^ u64::from(label.name)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        };
        let hash = labels.iter().fold(labels.len() as u64, mix);
        let (names, ends) = (&self.names, &self.ends);
        let same = |id: &u32| {
            let id = *id as usize;
            let start = id.checked_sub(1).map_or(0, |before| ends[before].0 as usize);
            names[start..ends[id].0 as usize].iter().eq(labels.iter().map(|label| &label.name))
        };
        if let Some(id) = self.by_names.find(hash, same) {
            return (*id, false);
        }
        let id = self.ends.len() as u32;
        self.names.extend(labels.iter().map(|label| label.name));
        self.ends.push((self.names.len() as u32, hash));
        self.by_names.insert_unique(hash, id, |id| self.ends[*id as usize].1);
        (id, true)
    }

    fn clear(&mut self) {
        self.names.clear();
        self.ends.clear();
        self.by_names.clear();
    }
}

/// Number of bytes that both begin with.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut at = 0;
    for (a, b) in a.chunks_exact(32).zip(b.chunks_exact(32)) {
        if a != b {
            break;
        }
        at += 32;
    }
    for (a, b) in a[at..].chunks_exact(8).zip(b[at..].chunks_exact(8)) {
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let differ = word(a) ^ word(b);
        if differ != 0 {
            return at + differ.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + a[at..].iter().zip(&b[at..]).take_while(|(a, b)| a == b).count()
}

pub(super) fn type_code(kind: MetricType) -> u8 {
    match kind {
        MetricType::Unknown => 0,
        MetricType::Counter => 1,
        MetricType::Gauge => 2,
        MetricType::Histogram => 3,
        MetricType::GaugeHistogram => 4,
        MetricType::Summary => 5,
        MetricType::Info => 6,
        MetricType::StateSet => 7,
    }
}
