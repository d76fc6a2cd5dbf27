//! Reads the protobuf message `prometheus.WriteRequest` in place.
//!
//! Written by hand, since a generated decoder makes a string of every label, which costs more than everything that follows. Names and
//! values are borrowed from the message, lists are reused from series to series, and whether the labels are UTF-8 is asked once
//! a series and not once a label: tags and lengths below 128 between them are ASCII, so that the whole stretch is text if the labels
//! are. Unknown fields are skipped, as protobuf demands.

use model::{Metadata, MetricType, Sample};

use super::delta::Delta;
use super::points::{Named, Points};
use super::protobuf::{Fields, Malformed, Value};

/// A series of the message; its lists are reused for the next one.
#[derive(Debug, Default)]
pub(crate) struct Series<'a> {
    /// In the order of the message; empty where the label set is known.
    pub(crate) labels: Vec<(&'a str, &'a str)>,
    pub(crate) points: Points,
    /// Says why the labels are not text; then there are none.
    pub(crate) not_text: Option<&'static str>,
    spans: Vec<Span>,
    delta: Delta<'a>,
    usual: bool,
}

/// Where a label's name and value stand in the message of its series.
#[derive(Debug, Clone, Copy)]
struct Span {
    name: (usize, usize),
    value: (usize, usize),
}

/// A part of the message.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A series, in the list that was handed in.
    Series,
    /// What is known of a family. Bytes that are not UTF-8 are replaced.
    Metadata(Metadata),
}

/// Tag of a sample in its series.
const SAMPLE: u8 = 2 << 3 | 2;

/// Goes through a message.
pub(crate) struct Reader<'a> {
    fields: Fields<'a>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Reader { fields: Fields::new(message, 0) }
    }

    /// The next part; `None` at the end.
    pub(crate) fn next(&mut self, series: &mut Series<'a>) -> Result<Option<Entry>, Malformed> {
        while let Some(field) = self.fields.next()? {
            match field {
                (1, Value::Bytes(message)) => {
                    read_series(message, series)?;
                    return Ok(Some(Entry::Series));
                }
                (3, Value::Bytes(message)) => return Ok(Some(Entry::Metadata(read_metadata(message)?))),
                (1 | 3, _) => return Err(self.fields.malformed("wrong wire type of a field")),
                _ => {}
            }
        }
        Ok(None)
    }
}

fn read_series<'a>(mut fields: Fields<'a>, series: &mut Series<'a>) -> Result<(), Malformed> {
    series.labels.clear();
    series.spans.clear();
    series.points.clear();
    series.not_text = None;
    series.usual = series.read_usual(fields.bytes).is_some();
    if series.usual {
        return Ok(());
    }
    series.points.clear();
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(label)) => series.spans.push(read_label(label)?),
            (2, Value::Bytes(sample)) => series.points.floats.push(read_sample(sample)?),
            (3, Value::Bytes(exemplar)) => series.points.exemplars.push(exemplar.span()),
            (4, Value::Bytes(histogram)) => series.points.histograms.push(histogram.span()),
            (1..=4, _) => return Err(fields.malformed("wrong wire type of a field of a series")),
            _ => {}
        }
    }
    series.resolve(fields.bytes, fields.base);
    Ok(())
}

impl<'a> Series<'a> {
    /// Its labels and its samples.
    pub(super) fn split(&mut self) -> (Named<'_, 'a>, &mut Points) {
        let named = match self.usual {
            true => Named::Set(self.delta.labels()),
            false => Named::Pairs(&mut self.labels),
        };
        (named, &mut self.points)
    }

    /// Reads a series of labels in the usual form, followed by samples and nothing else.
    fn read_usual(&mut self, message: &'a [u8]) -> Option<()> {
        let mut at = self.delta.read(message)?;
        while at < message.len() {
            let &[SAMPLE, length @ 0..0x80, ..] = message.get(at..)? else { return None };
            let end = at + 2 + usize::from(length);
            let bytes = message.get(at + 2..end)?;
            let sample = read_usual_sample(bytes).or_else(|| read_sample(Fields::new(bytes, 0)).ok())?;
            self.points.floats.push(sample);
            at = end;
        }
        Some(())
    }

    /// Makes texts of the spans, which count from the message's start; `base` is where `bytes` begins.
    fn resolve(&mut self, bytes: &'a [u8], base: usize) {
        let (Some(first), Some(last)) = (self.spans.first(), self.spans.last()) else { return };
        let start = first.name.0.min(first.value.0);
        let end = last.value.1.max(last.name.1);
        let stretch =
            bytes.get(start.wrapping_sub(base)..end.wrapping_sub(base)).and_then(|b| std::str::from_utf8(b).ok());
        if let Some(text) = stretch {
            for span in &self.spans {
                let part = |(from, to): (usize, usize)| {
                    if from == to { Some("") } else { text.get(from.wrapping_sub(start)..to.wrapping_sub(start)) }
                };
                let (Some(name), Some(value)) = (part(span.name), part(span.value)) else { break };
                self.labels.push((name, value));
            }
        }
        if self.labels.len() < self.spans.len() {
            self.resolve_each(bytes, base);
        }
    }

    #[cold]
    fn resolve_each(&mut self, bytes: &'a [u8], base: usize) {
        self.labels.clear();
        for span in &self.spans {
            let part = |(from, to): (usize, usize)| {
                let bytes = if from == to { Some(&[][..]) } else { bytes.get(from - base..to - base) };
                bytes.and_then(|bytes| std::str::from_utf8(bytes).ok())
            };
            match (part(span.name), part(span.value)) {
                (Some(name), Some(value)) => self.labels.push((name, value)),
                (None, _) => _ = self.not_text.get_or_insert("label name is not valid UTF-8"),
                (_, None) => _ = self.not_text.get_or_insert("label value is not valid UTF-8"),
            }
        }
        if self.not_text.is_some() {
            self.labels.clear();
        }
    }
}

#[inline]
fn read_label(mut fields: Fields<'_>) -> Result<Span, Malformed> {
    let mut span = Span { name: (0, 0), value: (0, 0) };
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(name)) => span.name = name.span(),
            (2, Value::Bytes(value)) => span.value = value.span(),
            (1 | 2, _) => return Err(fields.malformed("wrong wire type of a field of a label")),
            _ => {}
        }
    }
    Ok(span)
}

/// A sample with a value and then a time, neither left out for being zero.
#[inline]
fn read_usual_sample(bytes: &[u8]) -> Option<Sample> {
    let (value, time) = bytes.strip_prefix(&[1 << 3 | 1])?.split_first_chunk::<8>()?;
    let time = time.strip_prefix(&[2 << 3])?;
    let (last, more) = time.split_last().filter(|(last, more)| **last < 0x80 && more.len() < 9)?;
    let mut t = u64::from(*last);
    for byte in more.iter().rev() {
        if *byte < 0x80 {
            return None;
        }
        t = t << 7 | u64::from(byte & 0x7f);
    }
    Some(Sample { t: t as i64, v: f64::from_le_bytes(*value) })
}

fn read_sample(mut fields: Fields<'_>) -> Result<Sample, Malformed> {
    let mut sample = Sample { t: 0, v: 0.0 };
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Fixed64(bits)) => sample.v = f64::from_bits(bits),
            (2, Value::Varint(t)) => sample.t = t as i64,
            (1 | 2, _) => return Err(fields.malformed("wrong wire type of a field of a sample")),
            _ => {}
        }
    }
    Ok(sample)
}

fn read_metadata(mut fields: Fields<'_>) -> Result<Metadata, Malformed> {
    let text = |value: Fields<'_>| String::from_utf8_lossy(value.bytes).into_owned();
    let (kind, family) = (MetricType::Unknown, String::new());
    let mut metadata = Metadata { family, kind, help: String::new(), unit: String::new() };
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Varint(kind)) => metadata.kind = metric_type(kind),
            (2, Value::Bytes(value)) => metadata.family = text(value),
            (4, Value::Bytes(value)) => metadata.help = text(value),
            (5, Value::Bytes(value)) => metadata.unit = text(value),
            (1 | 2 | 4 | 5, _) => return Err(fields.malformed("wrong wire type of a field of metadata")),
            _ => {}
        }
    }
    Ok(metadata)
}

/// The type with this number in both messages.
pub(super) fn metric_type(number: u64) -> MetricType {
    match number {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    }
}
