//! Writes payloads.

use bytes::Bytes;
use hashbrown::HashTable;
use model::{LabelsRef, Metadata, MetricType, Sample};
use xxhash_rust::xxh3::xxh3_64;

use super::{FLAG_LZ4, VERSION, put_varint, zigzag};

/// Gathers series and metadata into one payload. Its memory is kept from one payload to the next.
#[derive(Default)]
pub struct Encoder {
    /// The text of all symbols, one after the other, and where each begins.
    symbols: String,
    starts: Vec<u32>,
    by_text: HashTable<u32>,
    series: Vec<u8>,
    series_count: u64,
    names: Vec<u32>,
    values_of_series: Vec<u32>,
    times: Vec<u8>,
    last_time: i64,
    values: Vec<f64>,
    metadata: Vec<u8>,
    metadata_count: u64,
    body: Vec<u8>,
}

impl Encoder {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a series with its samples, in any order of time. No samples add nothing.
    pub fn push(&mut self, labels: LabelsRef<'_>, samples: &[Sample]) {
        if samples.is_empty() {
            return;
        }
        let same_names = self.intern(labels);
        put_varint(&mut self.series, (self.values_of_series.len() as u64) << 1 | u64::from(same_names));
        for (name, value) in self.names.iter().zip(&self.values_of_series) {
            if !same_names {
                put_varint(&mut self.series, u64::from(*name));
            }
            put_varint(&mut self.series, u64::from(*value));
        }
        put_varint(&mut self.series, samples.len() as u64);
        self.series_count += 1;
        for sample in samples {
            put_varint(&mut self.times, zigzag(sample.t.wrapping_sub(self.last_time)));
            self.last_time = sample.t;
            self.values.push(sample.v);
        }
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

    /// Number of samples added.
    pub fn samples(&self) -> usize {
        self.values.len()
    }

    /// Size of the body before compression, about.
    pub fn bytes(&self) -> usize {
        self.symbols.len() + self.series.len() + self.times.len() + 8 * self.values.len() + self.metadata.len() + 64
    }

    /// The payload; the encoder is empty again.
    pub fn finish(&mut self) -> Bytes {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        put_varint(&mut body, self.starts.len() as u64);
        put_varint(&mut body, self.symbols.len() as u64);
        body.extend_from_slice(self.symbols.as_bytes());
        put_varint(&mut body, self.series_count);
        put_varint(&mut body, self.values.len() as u64);
        body.extend_from_slice(&self.series);
        body.extend_from_slice(&self.times);
        put_planes(&mut body, &self.values);
        put_varint(&mut body, self.metadata_count);
        body.extend_from_slice(&self.metadata);
        let mut out = Vec::with_capacity(lz4_flex::block::get_maximum_output_size(body.len()) + 12);
        out.push(VERSION);
        out.push(FLAG_LZ4);
        put_varint(&mut out, body.len() as u64);
        let head = out.len();
        out.resize(head + lz4_flex::block::get_maximum_output_size(body.len()), 0);
        match lz4_flex::block::compress_into(&body, &mut out[head..]) {
            Ok(size) if size < body.len() => out.truncate(head + size),
            // Not smaller: as it is.
            _ => {
                out.truncate(head);
                out[1] = 0;
                out.extend_from_slice(&body);
            }
        }
        out.shrink_to_fit();
        self.body = body;
        self.clear();
        Bytes::from(out)
    }

    fn clear(&mut self) {
        self.symbols.clear();
        self.starts.clear();
        self.by_text.clear();
        self.series.clear();
        self.series_count = 0;
        self.names.clear();
        self.values_of_series.clear();
        self.times.clear();
        self.last_time = 0;
        self.values.clear();
        self.metadata.clear();
        self.metadata_count = 0;
    }

    /// Looks up the symbols of a label set; whether its names are those of the series before.
    fn intern(&mut self, labels: LabelsRef<'_>) -> bool {
        let before = self.names.len();
        let mut same = before > 0;
        self.values_of_series.clear();
        let mut at = 0;
        let mut pieces = labels.pieces();
        while let (Some(name), Some(value)) = (pieces.next(), pieces.next()) {
            // Series of one request mostly have the same names: compared with the text, the table is not asked.
            let known = self.names.get(at).copied().filter(|id| self.text(*id) == name);
            let id = match known {
                Some(id) => id,
                None => {
                    same = false;
                    self.names.truncate(at);
                    let id = self.symbol(name);
                    self.names.push(id);
                    id
                }
            };
            debug_assert_eq!(self.names[at], id);
            at += 1;
            let value = self.symbol(value);
            self.values_of_series.push(value);
        }
        self.names.truncate(at);
        same && at == before
    }

    fn text(&self, id: u32) -> &str {
        text(&self.symbols, &self.starts, id)
    }

    fn symbol(&mut self, piece: &str) -> u32 {
        let hash = xxh3_64(piece.as_bytes());
        let (symbols, starts) = (&self.symbols, &self.starts);
        if let Some(id) = self.by_text.find(hash, |id| text(symbols, starts, *id) == piece) {
            return *id;
        }
        let id = self.starts.len() as u32;
        self.starts.push(self.symbols.len() as u32);
        self.symbols.push_str(piece);
        let (symbols, starts) = (&self.symbols, &self.starts);
        self.by_text.insert_unique(hash, id, |id| xxh3_64(text(symbols, starts, *id).as_bytes()));
        id
    }
}

fn text<'a>(symbols: &'a str, starts: &[u32], id: u32) -> &'a str {
    let id = id as usize;
    let end = starts.get(id + 1).map_or(symbols.len(), |end| *end as usize);
    &symbols[starts[id] as usize..end]
}

/// The eight bytes of every value, least significant first, each plane of them together.
fn put_planes(out: &mut Vec<u8>, values: &[f64]) {
    let (start, n) = (out.len(), values.len());
    out.resize(start + 8 * n, 0);
    let planes = &mut out[start..];
    for (i, value) in values.iter().enumerate() {
        for (plane, byte) in value.to_bits().to_le_bytes().into_iter().enumerate() {
            planes[plane * n + i] = byte;
        }
    }
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
