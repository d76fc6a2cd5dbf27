//! From text to tokens, each with its place. Whether a word is a keyword is for the parser to say, since most of them are names too.

use crate::ast::Span;

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

/// The kinds of token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenKind {
    /// A word; with a colon in it, a metric's name only.
    Word,
    /// A number.
    Number(f64),
    /// A duration such as `1h30m`, in milliseconds.
    Duration(i64),
    /// A string, without its quotes and escapes.
    String(String),
    /// An operator or a bracket.
    Symbol(&'static str),
    /// The end of the text.
    End,
}

/// Longest first, so that the first that fits is the right one.
const SYMBOLS: &[&str] = &[
    "==", "!=", "=~", "!~", "<=", ">=", "</", ">/", "(", ")", "{", "}", "[", "]", ",", ":", "=", "+", "-", "*", "/",
    "%", "^", "<", ">", "@",
];

/// An error at a place.
pub(crate) type LexError = (Span, String);

/// Splits the text.
pub(crate) fn tokens(input: &str) -> Result<Vec<Token>, LexError> {
    let mut out = Vec::new();
    let mut at = 0;
    // Within brackets a colon separates range and step and is part of no name.
    let mut brackets = 0usize;
    loop {
        at = skip_blank(input, at);
        let rest = &input[at..];
        let Some(first) = rest.chars().next() else {
            out.push(Token { kind: TokenKind::End, span: Span { start: input.len(), end: input.len() } });
            return Ok(out);
        };
        let (kind, length) = match first {
            '0'..='9' => number_or_duration(rest).map_err(|(n, m)| (Span { start: at, end: at + n }, m))?,
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                number_or_duration(rest).map_err(|(n, m)| (Span { start: at, end: at + n }, m))?
            }
            '"' | '\'' | '`' => string(rest).map_err(|(n, m)| (Span { start: at, end: at + n }, m))?,
            c if c.is_ascii_alphabetic() || c == '_' || (c == ':' && brackets == 0) => {
                let name = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (b == b':' && brackets == 0);
                (TokenKind::Word, rest.bytes().take_while(|b| name(*b)).count())
            }
            _ => match SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
                Some(symbol) => (TokenKind::Symbol(symbol), symbol.len()),
                None => {
                    let span = Span { start: at, end: at + first.len_utf8() };
                    return Err((span, format!("unexpected character: {first:?}")));
                }
            },
        };
        match kind {
            TokenKind::Symbol("[") => brackets += 1,
            TokenKind::Symbol("]") => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        out.push(Token { kind, span: Span { start: at, end: at + length } });
        at += length;
    }
}

fn skip_blank(input: &str, mut at: usize) -> usize {
    loop {
        let rest = &input[at..];
        if rest.starts_with('#') {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with([' ', '\t', '\n', '\r']) {
            at += 1;
        } else {
            return at;
        }
    }
}

type Scanned = Result<(TokenKind, usize), (usize, String)>;

/// A number as Go writes it, or a duration.
fn number_or_duration(rest: &str) -> Scanned {
    let bytes = rest.as_bytes();
    let word = bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_' || **b == b'.').count();
    let text = &rest[..word];
    let lower = text.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        let digits = hex.replace('_', "");
        return match u64::from_str_radix(&digits, 16) {
            Ok(n) if !hex.starts_with('_') || hex.len() > 1 => Ok((TokenKind::Number(n as f64), word)),
            _ => Err((word, format!("bad number or duration syntax: {text:?}"))),
        };
    }
    if let Ok(ms) = model::time::parse_duration_ms(text)
        && text != "0"
    {
        return Ok((TokenKind::Duration(ms), word));
    }
    // An exponent may have a sign, which ended the word above.
    let mut end = word;
    if lower.ends_with('e')
        && matches!(bytes.get(word), Some(b'+' | b'-'))
        && lower[..word - 1].bytes().all(|b| b != b'e')
    {
        end += 1 + bytes[word + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
    }
    let text = &rest[..end];
    if let Err(model::InvalidDuration::OutOfRange(_)) = model::time::parse_duration_ms(text) {
        return Err((end, "duration out of range".to_owned()));
    }
    number(text)
        .map(|n| (TokenKind::Number(n), end))
        .ok_or_else(|| (end, format!("bad number or duration syntax: {text:?}")))
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

/// A string in one of three quotes; in backticks without escapes.
fn string(rest: &str) -> Scanned {
    let quote = rest.as_bytes()[0];
    if quote == b'`' {
        return match rest[1..].find('`') {
            Some(end) => Ok((TokenKind::String(rest[1..=end].to_owned()), end + 2)),
            None => Err((rest.len(), "unterminated raw string".to_owned())),
        };
    }
    let mut bytes: Vec<u8> = Vec::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' => return Err((at, "unterminated quoted string".to_owned())),
            '\\' => {
                let consumed = escape(&rest[at + 1..], quote, &mut bytes).map_err(|m| (at + 1, m))?;
                while chars.next_if(|(next, _)| *next < at + 1 + consumed).is_some() {}
            }
            c if c as u32 == u32::from(quote) => {
                let text = String::from_utf8(bytes).map_err(|_| (at, "string is not valid UTF-8".to_owned()))?;
                return Ok((TokenKind::String(text), at + 1));
            }
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err((rest.len(), "unterminated quoted string".to_owned()))
}

/// What stands behind a backslash; returns how many bytes it took.
fn escape(rest: &str, quote: u8, out: &mut Vec<u8>) -> Result<usize, String> {
    let Some(c) = rest.chars().next() else { return Err("escape sequence not terminated".to_owned()) };
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
        c => return Err(format!("unknown escape sequence U+{:04X} {c:?}", c as u32)),
    };
    let text = rest.get(skip..skip + digits).ok_or("escape sequence not terminated")?;
    let n = u32::from_str_radix(text, radix).map_err(|_| format!("illegal character in escape sequence {text:?}"))?;
    if matches!(c, 'u' | 'U') {
        let c = char::from_u32(n).ok_or("escape sequence is an invalid Unicode code point")?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        out.push(u8::try_from(n).map_err(|_| "escape sequence is an invalid Unicode code point")?);
    }
    Ok(skip + digits)
}
