//! Numbers and durations.

use super::TokenKind;
use crate::printer::quote;

/// A number or a duration with which a text begins, and how long it is.
pub(super) fn scan(rest: &str) -> Result<(TokenKind, usize), String> {
    match length(rest, true) {
        Ok(length) => {
            let text = &rest[..length];
            Ok((TokenKind::Number(value(text)), length))
        }
        Err(read) => match duration_length(rest, read) {
            Ok(length) => Ok((TokenKind::Duration(duration(&rest[..length])), length)),
            Err(read) => Err(format!("bad number or duration syntax: {}", quote(&rest[..read]))),
        },
    }
}

/// How long the number is with which a text begins; the error is how much of it was read. In series of tests there are no hexadecimal ones, since an `x`
/// follows a number there.
pub(crate) fn length(rest: &str, hexadecimal: bool) -> Result<usize, usize> {
    let bytes = rest.as_bytes();
    let is_one = |at: usize, of: &[u8]| bytes.get(at).is_some_and(|b| of.contains(b));
    let hex = hexadecimal && is_one(0, b"0") && is_one(1, b"xX");
    let digit = |at: usize| bytes.get(at).is_some_and(|b| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() });
    let mut at = match hex {
        true => 2 + usize::from(is_one(2, b"_")),
        // A zero is looked at first, for the `x` behind it, and then what may begin any number.
        false => usize::from(hexadecimal && is_one(0, b"0")),
    };
    // A point at the beginning is none of those of which there is one.
    at += usize::from(is_one(at, b"."));
    at += usize::from(digit(at));
    let (mut dot, mut exponent) = (false, false);
    // The letter of an exponent is one of a hexadecimal number too: it is a digit behind the first and behind others of a run, and begins an exponent else.
    while digit(at) || is_one(at, b"._eE") {
        match bytes[at] {
            b'.' if dot => return Err(at + 1),
            b'e' | b'E' if exponent => return Err(at + 1),
            b'.' => {
                (dot, at) = (true, at + 1);
                // There are no fractions of hexadecimal numbers.
                if is_one(at, b"_.") || hex {
                    return Err(at + usize::from(is_one(at, b"_.")));
                }
            }
            b @ (b'e' | b'E' | b'_') => {
                at += 1;
                if b != b'_' {
                    exponent = true;
                    at += usize::from(is_one(at, b"+-"));
                }
                if is_one(at, b"._eE") || at == bytes.len() {
                    return Err(at + usize::from(at < bytes.len()));
                }
            }
            _ => at += bytes[at..].iter().enumerate().take_while(|(n, _)| digit(at + n)).count(),
        }
    }
    match bytes.get(at) {
        Some(b'x') if !hexadecimal => Ok(at),
        Some(b) if b.is_ascii_alphanumeric() || *b == b'_' => Err(at),
        _ => Ok(at),
    }
}

/// How long the duration is that begins with a number which was read so far; the error is how much more was read.
fn duration_length(rest: &str, read: usize) -> Result<usize, usize> {
    let bytes = rest.as_bytes();
    let mut at = read;
    let unit = |at: &mut usize, units: &[u8]| {
        let is_one = bytes.get(*at).is_some_and(|b| units.contains(b));
        *at += usize::from(is_one);
        *at += usize::from(is_one && bytes.get(*at) == Some(&b's'));
        is_one
    };
    if !unit(&mut at, b"smhdwy") {
        return Err(at);
    }
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        if !unit(&mut at, b"smhdw") {
            return Err(at);
        }
    }
    match rest[at..].chars().next() {
        Some(c) if c.is_ascii_alphanumeric() || c == '_' => Err(at + 1),
        _ => Ok(at),
    }
}

/// The milliseconds of a duration, with the words of Prometheus for what is none.
fn duration(text: &str) -> Result<i64, String> {
    const OUT_OF_RANGE: &str = "duration out of range";
    // Nanoseconds.
    const UNITS: [(&str, u64); 7] = [
        ("y", 31_536_000_000_000_000),
        ("w", 604_800_000_000_000),
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
    ];
    let invalid = || format!("not a valid duration string: {text:?}");
    let (mut rest, mut total, mut next) = (text, 0u64, 0);
    while !rest.is_empty() {
        let (count, behind) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        // One that does not fit into 64 bits is no number.
        let count: u64 = count.parse().map_err(|_| invalid())?;
        let (unit, behind) = behind.split_at(behind.bytes().take_while(|b| !b.is_ascii_digit()).count());
        let Some(at) = UNITS.iter().position(|(known, _)| *known == unit) else {
            return Err(format!("unknown unit {unit:?} in duration {text:?}"));
        };
        if at < next {
            return Err(invalid());
        }
        if count > (1 << 63) / UNITS[at].1 {
            return Err(OUT_OF_RANGE.to_owned());
        }
        total += count * UNITS[at].1;
        if total > i64::MAX as u64 {
            return Err(OUT_OF_RANGE.to_owned());
        }
        (rest, next) = (behind, at + 1);
    }
    Ok((total / 1_000_000) as i64)
}

fn value(text: &str) -> Result<f64, String> {
    let hex = text.strip_prefix("0x").or(text.strip_prefix("0X"));
    let (number, why) = match hex {
        Some(digits) => {
            let plain = digits.strip_prefix('_').unwrap_or(digits);
            let spaced = plain.is_empty() || plain.starts_with('_') || plain.ends_with('_') || plain.contains("__");
            let number = i64::from_str_radix(&plain.replace('_', ""), 16).ok().filter(|_| !spaced);
            (number.map(|n| n as f64), "invalid syntax")
        }
        None => match number(text) {
            Some(n) if n.is_infinite() => (None, "value out of range"),
            n => (n, "invalid syntax"),
        },
    };
    number.ok_or_else(|| format!("error parsing number: strconv.ParseFloat: parsing {text:?}: {why}"))
}

/// A number without a sign, other than a hexadecimal one.
pub(crate) fn number(text: &str) -> Option<f64> {
    let plain = text.replace('_', "");
    let octal = plain.len() > 1 && plain.starts_with('0') && plain.bytes().all(|b| b.is_ascii_digit());
    let number = if octal {
        // As Go reads integers; where it is none in base 8, as a decimal.
        i64::from_str_radix(&plain, 8).ok().map(|n| n as f64).or_else(|| plain.parse().ok())
    } else {
        plain.parse::<f64>().ok()
    };
    let well_spaced = !text.contains("__") && !text.ends_with('_') && !text.contains("._") && !text.contains("_.");
    number.filter(|_| well_spaced)
}
