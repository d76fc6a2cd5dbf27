//! Reads the protobuf message `io.prometheus.write.v2.Request` in place.
//!
//! All texts stand once in a table of symbols, to which series refer by number. The table may stand anywhere, so the message is gone through twice:
//! for the symbols, each of which is checked to be UTF-8 once, and for the series. Unknown fields are skipped, the old place of a series' start
//! (field 6) among them, which the specification has taken back.

use model::{MetricType, Sample};

use super::exemplar;
use super::histogram::varints;
use super::points::Points;
use super::protobuf::{Fields, Malformed, Value};
use super::wire::metric_type;
use crate::staging::LABELS_BYTES_MAX;

/// What a symbol takes in memory.
pub(super) const SYMBOL_BYTES: usize = size_of::<Option<&str>>();

/// References of a series: a label takes two, and two bytes at least of those that labels may take.
const REFS_MAX: usize = LABELS_BYTES_MAX;

/// A series of the message; its lists are reused for the next one.
#[derive(Debug, Default)]
pub(super) struct Series<'a> {
    /// In the order of the message.
    pub(super) labels: Vec<(&'a str, &'a str)>,
    pub(super) points: Points,
    /// What the series says of its family: type, help and unit.
    pub(super) metadata: Option<(MetricType, &'a str, &'a str)>,
    /// Says why the labels cannot be read; then there are none.
    pub(super) unreadable: Option<&'static str>,
    refs: Vec<u64>,
}

/// Goes through the series of a message.
pub(super) struct Reader<'a> {
    fields: Fields<'a>,
    symbols: Vec<Option<&'a str>>,
}

/// Number of symbols, of which [`Reader::new`] will keep [`SYMBOL_BYTES`] each.
pub(super) fn count_symbols(message: &[u8]) -> Result<usize, Malformed> {
    let (mut fields, mut count) = (Fields::new(message, 0), 0);
    while let Some((number, _)) = fields.next()? {
        count += usize::from(number == 4);
    }
    Ok(count)
}

impl<'a> Reader<'a> {
    /// Reads the symbols, of which there are `count`.
    pub(super) fn new(message: &'a [u8], count: usize) -> Result<Self, Malformed> {
        let mut fields = Fields::new(message, 0);
        let mut symbols = Vec::with_capacity(count);
        while let Some(field) = fields.next()? {
            match field {
                // A sender without it takes some text of its own for one that is left out.
                (4, Value::Bytes(text)) if symbols.is_empty() && !text.bytes.is_empty() => {
                    return Err(text.malformed("the first symbol is not the empty text"));
                }
                (4, Value::Bytes(text)) => symbols.push(std::str::from_utf8(text.bytes).ok()),
                (4, _) => return Err(fields.malformed("wrong wire type of a symbol")),
                _ => {}
            }
        }
        Ok(Reader { fields: Fields::new(message, 0), symbols })
    }

    /// Reads the next series; `false` at the end.
    pub(super) fn next(&mut self, series: &mut Series<'a>) -> Result<bool, Malformed> {
        while let Some(field) = self.fields.next()? {
            match field {
                (5, Value::Bytes(message)) => {
                    self.read_series(message, series)?;
                    return Ok(true);
                }
                (5, _) => return Err(self.fields.malformed("wrong wire type of a series")),
                _ => {}
            }
        }
        Ok(false)
    }

    fn read_series(&self, mut fields: Fields<'a>, series: &mut Series<'a>) -> Result<(), Malformed> {
        series.points.clear();
        series.labels.clear();
        series.refs.clear();
        (series.metadata, series.unreadable) = (None, None);
        while let Some(field) = fields.next()? {
            match field {
                (1, value) => varints(&fields, value, |n| {
                    if series.refs.len() <= REFS_MAX {
                        series.refs.push(n);
                    }
                })?,
                (2, Value::Bytes(sample)) => {
                    let (sample, start) = read_sample(sample)?;
                    series.points.push(sample, start);
                }
                (3, Value::Bytes(histogram)) => series.points.histograms.push(histogram.span()),
                (4, Value::Bytes(exemplar)) => series.points.exemplars.push(exemplar.span()),
                (5, Value::Bytes(metadata)) => series.metadata = self.read_metadata(metadata)?,
                (1..=5, _) => return Err(fields.malformed("wrong wire type of a field of a series")),
                _ => {}
            }
        }
        series.unreadable = self.resolve(&series.refs, &mut series.labels).err();
        Ok(())
    }

    /// Reads an exemplar of a series, which begins at `base` of the body.
    pub(super) fn read_exemplar(&self, message: &[u8], base: usize) -> Result<exemplar::Read, Malformed> {
        exemplar::read_with_symbols(message, base, |number| self.symbol(number))
    }

    fn resolve(&self, refs: &[u64], labels: &mut Vec<(&'a str, &'a str)>) -> Result<(), &'static str> {
        if refs.len() > REFS_MAX {
            return Err("more labels than fit their bytes");
        }
        let (pairs, []) = refs.as_chunks::<2>() else {
            return Err("a label's name refers to a symbol, and its value to none");
        };
        for pair in pairs {
            let [name, value] = pair.map(|n| self.symbol(n));
            labels.push((name?, value?));
        }
        Ok(())
    }

    fn symbol(&self, number: u64) -> Result<&'a str, &'static str> {
        let symbol = usize::try_from(number).ok().and_then(|n| self.symbols.get(n));
        symbol.ok_or("a label refers to a symbol that is not there")?.ok_or("a label is not valid UTF-8")
    }

    /// `None` where nothing is said, or a text is not there.
    fn read_metadata(&self, mut fields: Fields<'_>) -> Result<Option<(MetricType, &'a str, &'a str)>, Malformed> {
        let (mut kind, mut help, mut unit) = (MetricType::Unknown, 0, 0);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Varint(number)) => kind = metric_type(number),
                (3, Value::Varint(symbol)) => help = symbol,
                (4, Value::Varint(symbol)) => unit = symbol,
                (1 | 3 | 4, _) => return Err(fields.malformed("wrong wire type of a field of metadata")),
                _ => {}
            }
        }
        let (Ok(help), Ok(unit)) = (self.symbol(help), self.symbol(unit)) else { return Ok(None) };
        Ok((kind != MetricType::Unknown || !help.is_empty() || !unit.is_empty()).then_some((kind, help, unit)))
    }
}

fn read_sample(mut fields: Fields<'_>) -> Result<(Sample, i64), Malformed> {
    let (mut sample, mut start) = (Sample { t: 0, v: 0.0 }, 0);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Fixed64(bits)) => sample.v = f64::from_bits(bits),
            (2, Value::Varint(t)) => sample.t = t as i64,
            (3, Value::Varint(t)) => start = t as i64,
            (1..=3, _) => return Err(fields.malformed("wrong wire type of a field of a sample")),
            _ => {}
        }
    }
    Ok((sample, start))
}

/// The family of a series with this name: classic histograms and summaries have several names.
pub(super) fn family(name: &str, kind: MetricType) -> &str {
    let suffixes: &[&str] = match kind {
        MetricType::Histogram => &["_bucket", "_count", "_sum"],
        MetricType::GaugeHistogram => &["_bucket", "_gcount", "_gsum"],
        MetricType::Summary => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).filter(|family| !family.is_empty()).unwrap_or(name)
}
