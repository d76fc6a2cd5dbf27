//! Messages of `/federate` as text, for people: protobuf's text format, as Go writes it, in lines or in one.
//!
//! Go puts two spaces instead of one in places that differ from build to build, so that nobody relies on its bytes; here it is always one.
//! Fields come as `metrics.proto` of Prometheus' client model lists them, which is not the order of their numbers.

use std::fmt::Write as _;

use crate::protobuf::{Fields, Malformed, Value};

/// A field of a message: its number, its name and what it is.
type Field = (u64, &'static str, Kind);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Double,
    Number,
    /// Small numbers of either sign in few bytes.
    Signed,
    Type,
    Message(&'static [Field]),
}

/// The fields that [`super::message`] writes.
const FAMILY: &[Field] = &[(1, "name", Kind::Text), (3, "type", Kind::Type), (4, "metric", Kind::Message(METRIC))];
const METRIC: &[Field] = &[
    (1, "label", Kind::Message(LABEL)),
    (5, "untyped", Kind::Message(UNTYPED)),
    (7, "histogram", Kind::Message(HISTOGRAM)),
    (6, "timestamp_ms", Kind::Number),
];
const LABEL: &[Field] = &[(1, "name", Kind::Text), (2, "value", Kind::Text)];
const UNTYPED: &[Field] = &[(1, "value", Kind::Double)];
const HISTOGRAM: &[Field] = &[
    (4, "sample_count_float", Kind::Double),
    (2, "sample_sum", Kind::Double),
    (3, "bucket", Kind::Message(BUCKET)),
    (5, "schema", Kind::Signed),
    (6, "zero_threshold", Kind::Double),
    (8, "zero_count_float", Kind::Double),
    (9, "negative_span", Kind::Message(SPAN)),
    (11, "negative_count", Kind::Double),
    (12, "positive_span", Kind::Message(SPAN)),
    (14, "positive_count", Kind::Double),
];
const BUCKET: &[Field] = &[(4, "cumulative_count_float", Kind::Double), (2, "upper_bound", Kind::Double)];
const SPAN: &[Field] = &[(1, "offset", Kind::Signed), (2, "length", Kind::Number)];

/// Names of `MetricType`, by their numbers.
const TYPES: [&str; 6] = ["COUNTER", "GAUGE", "SUMMARY", "UNTYPED", "HISTOGRAM", "GAUGE_HISTOGRAM"];

/// Writes a family, which is a message, as text: in lines, or all of it in one. A line break is behind each, and one more behind lines.
pub(super) fn write_family(out: &mut String, message: &[u8], in_lines: bool) -> Result<(), Malformed> {
    write_message(out, Fields::new(message), FAMILY, in_lines.then_some(0))?;
    out.push('\n');
    Ok(())
}

/// Writes the fields of a message, in lines that are so deep where there are lines.
fn write_message(
    out: &mut String,
    message: Fields<'_>,
    fields: &[Field],
    depth: Option<usize>,
) -> Result<(), Malformed> {
    let mut is_first = true;
    for (number, name, kind) in fields {
        let mut rest = message;
        while let Some((own, value)) = rest.next()? {
            if own != *number {
                continue;
            }
            match depth {
                Some(depth) => out.extend(std::iter::repeat_n("  ", depth)),
                None if !is_first => out.push(' '),
                None => {}
            }
            is_first = false;
            out.push_str(name);
            out.push_str(if depth.is_some() { ": " } else { ":" });
            write_value(out, value, *kind, depth)?;
            out.extend(depth.map(|_| '\n'));
        }
    }
    Ok(())
}

fn write_value(out: &mut String, value: Value<'_>, kind: Kind, depth: Option<usize>) -> Result<(), Malformed> {
    match (kind, value) {
        (Kind::Text, Value::Bytes(text)) => write_quoted(out, text.text()?),
        (Kind::Double, Value::Double(v)) => match v.is_finite() {
            true => out.push_str(&promql::general(v)),
            false => out.push_str(if v.is_nan() {
                "nan"
            } else if v > 0.0 {
                "inf"
            } else {
                "-inf"
            }),
        },
        // What is no number is not written into a text.
        (Kind::Number, Value::Varint(n)) => drop(write!(out, "{}", n as i64)),
        (Kind::Signed, Value::Varint(n)) => drop(write!(out, "{}", (n >> 1) as i64 ^ -((n & 1) as i64))),
        (Kind::Type, Value::Varint(n)) => out.push_str(TYPES.get(n as usize).ok_or(Malformed("an unknown type"))?),
        (Kind::Message(fields), Value::Bytes(message)) => {
            out.push('{');
            out.extend(depth.map(|_| '\n'));
            write_message(out, message, fields, depth.map(|depth| depth + 1))?;
            out.extend(depth.into_iter().flat_map(|depth| std::iter::repeat_n("  ", depth)));
            out.push('}');
        }
        _ => return Err(Malformed("a field of another type")),
    }
    Ok(())
}

fn write_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..' ' | '\x7f' => drop(write!(out, "\\x{:02x}", c as u32)),
            '\u{80}'..='\u{9f}' => drop(write!(out, "\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_go_does_it() {
        let mut out = String::new();
        write_quoted(&mut out, "é\"\\\n\r\t\0\x1f\x7f\u{85}\u{a0}😀");
        assert_eq!(out, "\"é\\\"\\\\\\n\\r\\t\\x00\\x1f\\x7f\\u0085\u{a0}😀\"");
    }

    #[test]
    fn a_field_of_another_type_is_no_message() {
        let refused = write_family(&mut String::new(), &[1 << 3, 1], true);
        assert_eq!(refused, Err(Malformed("a field of another type")));
    }
}
