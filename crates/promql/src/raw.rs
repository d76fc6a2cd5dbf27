//! Bytes that are no UTF-8, which strings of the language may have: `"\xff"`.
//!
//! Everything that is stored is UTF-8, so labels and texts are. While an expression is read, printed and evaluated, such a byte is one character of its own,
//! the private one at [`FIRST`] that ends in it: so a regular expression takes it for one, as Go's do, two of them differ, and no series that is stored has
//! one. Who reads the answer sees U+FFFD, as a client of Prometheus that is written in Go does. The price: a query that has such a string sees no difference
//! between the byte and that private character.

use std::borrow::Cow;

use crate::ast::{Expr, Node, VectorSelector};
use crate::eval::{EvalError, Value};

const FIRST: u32 = 0x10_ff00;

/// The text of bytes.
pub(crate) fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().filter_map(|byte| char::from_u32(FIRST + u32::from(*byte))));
    }
    out
}

/// The byte that a character stands for.
pub(crate) fn byte(c: char) -> Option<u8> {
    let byte = u8::try_from((c as u32).checked_sub(FIRST)?).ok()?;
    (byte >= 0x80).then_some(byte)
}

/// Whether a text has bytes that are no UTF-8.
pub(crate) fn is_in(text: &str) -> bool {
    text.chars().any(|c| byte(c).is_some())
}

/// The bytes of a text, as Prometheus has them.
pub(crate) fn bytes(text: &str) -> Cow<'_, [u8]> {
    if !is_in(text) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match byte(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// A text for who reads it: with U+FFFD in the place of each byte that is no UTF-8.
pub fn readable(text: &str) -> Cow<'_, str> {
    if !is_in(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    // Two that came together may be a character.
    for chunk in bytes(text).utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(out)
}

/// Whether an expression has strings with bytes that are no UTF-8.
pub fn has_bytes(expr: &Expr) -> bool {
    let in_selector = |s: &VectorSelector| s.matchers.iter().any(|m| is_in(&m.name) || is_in(&m.value));
    let mut found = false;
    expr.walk(&mut |part| {
        found |= match &part.node {
            Node::String(text) => is_in(text),
            Node::VectorSelector(selector) => in_selector(selector),
            Node::MatrixSelector(matrix) => in_selector(&matrix.selector),
            _ => false,
        }
    });
    found
}

/// The value of an expression that has such bytes, for who reads it.
pub(crate) fn readable_value(value: Value) -> Value {
    fn series<T>(all: Vec<(model::Labels, T)>) -> Vec<(model::Labels, T)> {
        all.into_iter().map(|(labels, value)| (readable_labels(labels), value)).collect()
    }
    match value {
        Value::Scalar(sample) => Value::Scalar(sample),
        Value::String(text) => Value::String(crate::Text { text: readable(&text.text).into_owned(), ..text }),
        Value::Vector(vector) => Value::Vector(series(vector)),
        Value::Matrix(matrix) => Value::Matrix(series(matrix)),
    }
}

fn readable_labels(labels: model::Labels) -> model::Labels {
    if !is_in(labels.canonical()) {
        return labels;
    }
    let changed: Vec<_> = labels.iter().filter(|(name, value)| is_in(name) || is_in(value)).collect();
    changed.into_iter().fold(labels.clone(), |all, (name, value)| {
        let all = if is_in(name) { all.with(name, "") } else { all };
        all.with(&readable(name), &readable(value))
    })
}

/// An error for who reads it.
pub(crate) fn readable_error(error: EvalError) -> EvalError {
    match error {
        EvalError::Execution(text) => EvalError::Execution(readable(&text).into_owned()),
        other => other,
    }
}

/// What is wrong with a pattern that has such bytes: all but literals with `|` between, as in Prometheus, which reads no other by itself.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), String> {
    let is_literal = !pattern.contains(|c| r"\.+*?()[]{}^$".contains(c));
    match pattern.char_indices().find(|(_, c)| byte(*c).is_some()) {
        Some((at, _)) if !is_literal => {
            Err(format!("error parsing regexp: invalid UTF-8: `{}`", readable(&pattern[at..])))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_kept_and_shown() {
        let check = |bytes: &[u8], shown: &str| {
            let text = text(bytes);
            assert_eq!(super::bytes(&text), bytes);
            assert_eq!(readable(&text), shown);
        };
        check("aé\u{10ff7f}".as_bytes(), "aé\u{10ff7f}");
        check(b"a\xff\x80", "a\u{fffd}\u{fffd}");
        check(b"\xe2\x82z", "\u{fffd}\u{fffd}z");
        // What came together is a character.
        assert_eq!(readable(&[text(b"\xc3"), text(b"\xa9")].concat()), "é");
    }

    #[test]
    fn patterns_with_such_bytes_are_literals_or_wrong() {
        assert_eq!(check_pattern(&text(b"a|\xff|b")), Ok(()));
        assert_eq!(check_pattern("a.*"), Ok(()));
        let why = "error parsing regexp: invalid UTF-8: `\u{fffd})`";
        assert_eq!(check_pattern(&text(b"(a\xff)")), Err(why.to_owned()));
    }
}
