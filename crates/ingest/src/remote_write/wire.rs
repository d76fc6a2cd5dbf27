//! Reads the protobuf message `prometheus.WriteRequest` in place.
//!
//! Written by hand, since a generated decoder makes a string of every label, which costs more than everything that follows. Names and
//! values are borrowed from the message, lists are reused from series to series, and whether the labels are UTF-8 is asked once
//! a series and not once a label: tags and lengths below 128 between them are ASCII, so that the whole stretch is text if the labels
//! are. Unknown fields are skipped, as protobuf demands.

use model::{LabelsRef, Metadata, MetricType, Sample};

use super::delta::Delta;

/// A message that is not protobuf of this type. None of it was shown complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("body is not a prometheus.WriteRequest: {reason} at byte {position}")]
pub(crate) struct Malformed {
    /// Byte in the decompressed body, of the field that cannot be read or of the message around it.
    pub(crate) position: usize,
    pub(crate) reason: &'static str,
}

/// A series of the message; its lists are reused for the next one.
#[derive(Debug, Default)]
pub(crate) struct Series<'a> {
    /// In the order of the message; empty where the label set is known.
    pub(crate) labels: Vec<(&'a str, &'a str)>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) exemplars: u64,
    pub(crate) histograms: u64,
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
        Reader { fields: Fields { bytes: message, at: 0, base: 0 } }
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
    (series.exemplars, series.histograms, series.not_text) = (0, 0, None);
    series.usual = series.read_usual(fields.bytes).is_some();
    if series.usual {
        return Ok(());
    }
    series.samples.clear();
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(label)) => series.spans.push(read_label(label)?),
            (2, Value::Bytes(sample)) => series.samples.push(read_sample(sample)?),
            (3, Value::Bytes(_)) => series.exemplars += 1,
            (4, Value::Bytes(_)) => series.histograms += 1,
            (1..=4, _) => return Err(fields.malformed("wrong wire type of a field of a series")),
            _ => {}
        }
    }
    series.resolve(fields.bytes, fields.base);
    Ok(())
}

impl<'a> Series<'a> {
    /// The label set where it is known: labels in order, each once.
    pub(crate) fn label_set(&self) -> Option<LabelsRef<'_>> {
        self.usual.then(|| self.delta.labels())
    }

    /// Reads a series of labels in the usual form, followed by samples and nothing else.
    fn read_usual(&mut self, message: &'a [u8]) -> Option<()> {
        let mut at = self.delta.read(message)?;
        self.samples.clear();
        while at < message.len() {
            let &[SAMPLE, length @ 0..0x80, ..] = message.get(at..)? else { return None };
            let end = at + 2 + usize::from(length);
            let bytes = message.get(at + 2..end)?;
            self.samples.push(read_usual_sample(bytes).or_else(|| read_sample(Fields { bytes, at: 0, base: 0 }).ok())?);
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

fn metric_type(number: u64) -> MetricType {
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

/// The fields of a message.
#[derive(Debug, Clone, Copy)]
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where `bytes` begins in the whole.
    base: usize,
}

enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(Fields<'a>),
    Fixed32,
}

impl<'a> Fields<'a> {
    fn span(&self) -> (usize, usize) {
        (self.base, self.base + self.bytes.len())
    }

    #[cold]
    fn malformed(&self, reason: &'static str) -> Malformed {
        Malformed { position: self.base + self.at, reason }
    }

    /// Number and value of the next field; `None` at the end.
    #[inline]
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                Value::Fixed64(u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
            }
            2 => {
                let length = self.varint()?;
                let base = self.base + self.at;
                let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
                Value::Bytes(Fields { bytes, at: 0, base })
            }
            5 => {
                self.take(4)?;
                Value::Fixed32
            }
            _ => return Err(self.malformed("unknown wire type")),
        };
        let number = tag >> 3;
        if number == 0 || number > 0x1fff_ffff {
            return Err(self.malformed("field number out of range"));
        }
        Ok(Some((number, value)))
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.get(..length));
        let bytes = bytes.ok_or_else(|| self.malformed("field is longer than its message"))?;
        self.at += length;
        Ok(bytes)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for (at, byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                if at == 9 && *byte > 1 {
                    return Err(self.malformed("number longer than 64 bits"));
                }
                self.at += at + 1;
                return Ok(number);
            }
        }
        Err(self.malformed(if self.bytes.len() - self.at < 10 {
            "message ends within a number"
        } else {
            "number longer than 64 bits"
        }))
    }
}
