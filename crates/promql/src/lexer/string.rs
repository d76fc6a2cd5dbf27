//! Strings in one of three quotes; in backticks without escapes.

use crate::printer::character;

/// The string with which a text begins, which is a quote, and how long it is with its quotes.
pub(super) fn scan(rest: &str) -> Result<(String, usize), String> {
    let quote = rest.as_bytes()[0];
    if quote == b'`' {
        let end = rest[1..].find('`').map(|end| end + 1);
        // No further than its end, so that many strings are not many times all that follows them.
        let inner = &rest[1..end.unwrap_or(rest.len())];
        crate::work::add(inner.len());
        return match end {
            _ if inner.contains('\u{fffd}') => Err("invalid UTF-8 rune".to_owned()),
            // Carriage returns are left out, as in Go.
            Some(end) => Ok((inner.replace('\r', ""), end + 1)),
            None => Err("unterminated raw string".to_owned()),
        };
    }
    let mut bytes: Vec<u8> = Vec::new();
    let mut at = 1;
    while let Some(c) = rest[at..].chars().next() {
        at += c.len_utf8();
        match c {
            '\u{fffd}' => return Err("invalid UTF-8 rune".to_owned()),
            '\n' => break,
            '\\' => at += escape(&rest[at..], quote, &mut bytes)?,
            c if c as u32 == u32::from(quote) => {
                return Ok((crate::raw::text(&bytes), at));
            }
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err("unterminated quoted string".to_owned())
}

/// What stands behind a backslash; returns how many bytes it took.
fn escape(rest: &str, quote: u8, out: &mut Vec<u8>) -> Result<usize, String> {
    const ENDED: &str = "escape sequence not terminated";
    let Some(c) = rest.chars().next() else { return Err(ENDED.to_owned()) };
    let simple = match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        c if c as u32 == u32::from(quote) => quote,
        _ => 0,
    };
    if simple != 0 {
        out.push(simple);
        return Ok(1);
    }
    let (skip, digits, radix) = match c {
        '0'..='7' => (0, 3, 8),
        'x' => (1, 2, 16),
        'u' => (1, 4, 16),
        'U' => (1, 8, 16),
        c => return Err(format!("unknown escape sequence {}", code_point(c))),
    };
    let mut n = 0u32;
    let mut chars = rest.chars().skip(skip);
    for _ in 0..digits {
        let c = chars.next().ok_or(ENDED)?;
        let digit =
            c.to_digit(radix).ok_or_else(|| format!("illegal character {} in escape sequence", code_point(c)))?;
        n = n.wrapping_mul(radix).wrapping_add(digit);
    }
    const INVALID: &str = "escape sequence is an invalid Unicode code point";
    if matches!(c, 'u' | 'U') {
        let c = char::from_u32(n).ok_or(INVALID)?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        out.push(u8::try_from(n).map_err(|_| INVALID)?);
    }
    Ok(skip + digits)
}

/// A character as Go's `%#U` shows it: `U+0071 'q'`.
fn code_point(c: char) -> String {
    let shown = character(c);
    // What cannot be shown has its number only.
    if shown.starts_with("'\\") && !matches!(c, '\\' | '\'') {
        return format!("U+{:04X}", c as u32);
    }
    format!("U+{:04X} '{c}'", c as u32)
}
