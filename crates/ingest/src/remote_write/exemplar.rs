//! Reads an exemplar, which is the same message in both versions but for its labels: pairs of texts, or numbers of symbols.

use model::exemplar::EXEMPLAR_CHARS_MAX;
use model::{Exemplar, InvalidExemplar};

use super::histogram::varints;
use super::protobuf::{Fields, Malformed, Value};

/// Labels that are read; one more than this has too many characters, but for those without a value.
const LABELS_MAX: usize = EXEMPLAR_CHARS_MAX;

/// Why something is no exemplar.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its labels are not those of an exemplar.
    Invalid(InvalidExemplar),
    /// Its labels cannot be read. Whoever sent it is told, where it is a fault that Prometheus tells.
    Unreadable { reason: &'static str, is_told: bool },
}

/// What was read of a message that is protobuf.
pub(super) type Read = Result<Exemplar, Fault>;

/// Reads the exemplar of 1.0 that begins at `base` of the body.
pub(super) fn read(message: &[u8], base: usize) -> Result<Read, Malformed> {
    let (mut fields, mut pairs) = (Fields::new(message, base), Vec::new());
    let (mut t, mut v, mut labels) = (0, 0.0, 0);
    let mut not_text = false;
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(label)) => {
                labels += 1;
                let (name, value) = read_label(label)?;
                match (std::str::from_utf8(name), std::str::from_utf8(value)) {
                    (Ok(name), Ok(value)) if labels <= LABELS_MAX => pairs.push((name, value)),
                    (Ok(_), Ok(_)) => {}
                    _ => not_text = true,
                }
            }
            (2, Value::Fixed64(bits)) => v = f64::from_bits(bits),
            (3, Value::Varint(time)) => t = time as i64,
            (1..=3, _) => return Err(fields.malformed("wrong wire type of a field of an exemplar")),
            _ => {}
        }
    }
    if not_text {
        return Ok(Err(Fault::Unreadable { reason: "a label is not valid UTF-8", is_told: false }));
    }
    Ok(finish(t, v, &pairs, labels))
}

fn read_label<'a>(mut fields: Fields<'a>) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    let (mut name, mut value): (&'a [u8], &'a [u8]) = (&[], &[]);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(text)) => name = text.bytes,
            (2, Value::Bytes(text)) => value = text.bytes,
            (1 | 2, _) => return Err(fields.malformed("wrong wire type of a field of a label")),
            _ => {}
        }
    }
    Ok((name, value))
}

/// Reads the exemplar of 2.0 that begins at `base` of the body, whose texts `symbol` knows.
pub(super) fn read_with_symbols<'a>(
    message: &[u8],
    base: usize,
    symbol: impl Fn(u64) -> Result<&'a str, &'static str>,
) -> Result<Read, Malformed> {
    let (mut fields, mut refs) = (Fields::new(message, base), Vec::new());
    let (mut t, mut v) = (0, 0.0);
    while let Some(field) = fields.next()? {
        match field {
            (1, value) => varints(&fields, value, |n| {
                if refs.len() <= 2 * LABELS_MAX {
                    refs.push(n);
                }
            })?,
            (2, Value::Fixed64(bits)) => v = f64::from_bits(bits),
            (3, Value::Varint(time)) => t = time as i64,
            (2 | 3, _) => return Err(fields.malformed("wrong wire type of a field of an exemplar")),
            _ => {}
        }
    }
    if refs.len() > 2 * LABELS_MAX {
        return Ok(Err(Fault::Invalid(InvalidExemplar::TooLong(refs.len() / 2))));
    }
    let told = |reason| Fault::Unreadable { reason, is_told: true };
    let (numbers, []) = refs.as_chunks::<2>() else {
        return Ok(Err(told("a label's name refers to a symbol, and its value to none")));
    };
    let pairs: Result<Vec<_>, _> = numbers.iter().map(|[name, value]| Ok((symbol(*name)?, symbol(*value)?))).collect();
    Ok(pairs.map_err(told).and_then(|pairs| finish(t, v, &pairs, pairs.len())))
}

fn finish(t: i64, v: f64, pairs: &[(&str, &str)], labels: usize) -> Read {
    if labels > LABELS_MAX {
        return Err(Fault::Invalid(InvalidExemplar::TooLong(labels)));
    }
    Exemplar::new(t, v, pairs).map_err(Fault::Invalid)
}
