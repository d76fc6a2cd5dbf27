//! Series as tests of rules write them: `up{job="a"} 0 1+2x5 _ stale {{schema:1 buckets:[1 2]}}x3`.
//!
//! The words of errors are those of Prometheus, and so is what is refused. Bounds: the number of items that a text may amount to, which the caller
//! says, and the length of the text.

mod histogram;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::ast::Span;
use crate::lexer;
use crate::parser::{LENGTH_MAX, Parsed, metric};
use crate::{FloatHistogram, ParseError};

/// The labels of a series as they are written, the name among them; a name may be there twice.
pub type Pairs = Vec<(String, String)>;

/// What a series has at one step.
#[derive(Debug, Clone)]
pub enum Item {
    /// Nothing.
    Gap,
    /// A float, which may be the marker of staleness.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// Reads the labels of a series: `up{job="a"}`, `{"with.dot", job="a"}`, or nothing.
pub fn parse_metric(input: &str) -> Result<Pairs, ParseError> {
    bounded(input).and_then(|()| metric(input)).map_err(|(span, message)| ParseError::new(input, span, message))
}

/// Reads a series with its items, of which there may be so many.
pub fn parse_series(input: &str, items_max: usize) -> Result<(Pairs, Vec<Item>), ParseError> {
    let read = || -> Parsed<_> {
        bounded(input)?;
        let end = metric_end(input);
        let pairs = metric(&input[..end])?;
        let mut cursor = Cursor { input, at: end };
        let items = cursor.items(items_max)?;
        Ok((pairs, items))
    };
    read().map_err(|(span, message)| ParseError::new(input, span, message))
}

/// Reads one native histogram: `{{schema:1 sum:3 count:2 buckets:[1 1]}}`.
pub fn parse_histogram(input: &str) -> Result<FloatHistogram, String> {
    let (_, mut items) = parse_series(&format!("{{}} {input}"), 2).map_err(|e| e.to_string())?;
    match (items.pop(), items.len()) {
        (Some(Item::Histogram(histogram)), 0) => Ok(Arc::unwrap_or_clone(histogram)),
        (Some(item), 0) => Err(format!("expected histogram, got {item}")),
        (last, more) => Err(format!("expected 1 value, got {}", more + usize::from(last.is_some()))),
    }
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Item::Gap => f.write_str("_"),
            // As in Prometheus.
            Item::Float(v) if v.is_finite() => write!(f, "{v:.6}"),
            Item::Float(v) => f.write_str(&crate::eval::format::general(*v)),
            Item::Histogram(histogram) => histogram.fmt(f),
        }
    }
}

fn bounded(input: &str) -> Parsed<()> {
    if input.len() > LENGTH_MAX {
        let span = Span { start: 0, end: 0 };
        return Err((span, format!("series of {} bytes, at most {LENGTH_MAX} are taken", input.len())));
    }
    Ok(())
}

/// Where the labels of a series end: behind its name, or behind the braces that follow it at once.
fn metric_end(input: &str) -> usize {
    let letters = |b: &u8| b.is_ascii_alphanumeric() || b"_:".contains(b);
    let begins = input.starts_with(|c: char| !c.is_ascii_digit());
    let name = if begins { input.bytes().take_while(letters).count() } else { 0 };
    if !input[name..].starts_with('{') {
        return name;
    }
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in input.char_indices().skip(name + 1) {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '}') => return at + 1,
            _ => {}
        }
    }
    input.len()
}

/// A part of the items.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Token<'a> {
    End,
    Space,
    Blank,
    Times,
    Sign(char),
    Open,
    Number(&'a str),
    Word(&'a str),
}

struct Cursor<'a> {
    input: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn items(&mut self, items_max: usize) -> Parsed<Vec<Item>> {
        let mut items = Vec::new();
        loop {
            match self.token()? {
                (Token::End, _) => return Ok(items),
                (Token::Space, _) => {}
                (token, span) => return Err(unexpected(token, span, "")),
            }
            let (token, span) = self.token()?;
            let (first, step, times) = match token {
                Token::End => return Ok(items),
                Token::Blank => {
                    let times = if self.take(Token::Times)? { self.times()? } else { 1 };
                    self.room(&items, times, items_max)?;
                    items.extend(std::iter::repeat_n(Item::Gap, times as usize));
                    continue;
                }
                Token::Open => {
                    self.histograms(&mut items, items_max)?;
                    continue;
                }
                token => {
                    let first = self.value(token, span)?;
                    let step = match self.peek()? {
                        Token::Sign(_) => {
                            let (token, span) = self.token()?;
                            Some(self.signed(token, span)?)
                        }
                        _ => None,
                    };
                    let times = match step {
                        Some(_) => Some(self.expect_times()?),
                        None if self.take(Token::Times)? => Some(self.times()?),
                        None => None,
                    };
                    (first, step.unwrap_or(0.0), times.unwrap_or(0))
                }
            };
            self.room(&items, times.saturating_add(1), items_max)?;
            let (mut value, constant) = (first, step == 0.0);
            for _ in 0..=times {
                items.push(Item::Float(value));
                if !constant {
                    value += step;
                }
            }
        }
    }

    /// Refuses more items than there may be, before they are made.
    fn room(&self, items: &[Item], more: u64, items_max: usize) -> Parsed<()> {
        if more > (items_max - items.len()) as u64 {
            let span = Span { start: self.at, end: self.at };
            return Err((span, format!("more than {items_max} values in series values")));
        }
        Ok(())
    }

    fn value(&mut self, token: Token<'a>, span: Span) -> Parsed<f64> {
        match token {
            Token::Word("stale") => Ok(model::stale_nan()),
            Token::Word(word) => match constant(word) {
                Some(v) => Ok(v),
                None => Err(unexpected(token, span, ", expected number or \"stale\"")),
            },
            Token::Number(text) => lexer::number(text).ok_or_else(|| bad_number(text, span)),
            Token::Sign(_) => self.signed(token, span),
            _ => Err((span, format!("unexpected {}", name(token)))),
        }
    }

    /// The number behind a sign that was read.
    fn signed(&mut self, sign: Token<'a>, span: Span) -> Parsed<f64> {
        let sign = match sign {
            Token::Sign('-') => -1.0,
            Token::Sign(_) => 1.0,
            other => return Err(unexpected(other, span, "")),
        };
        let (token, span) = self.token()?;
        let value = match token {
            Token::Number(text) => lexer::number(text),
            Token::Word(word) => constant(word),
            _ => None,
        };
        value.map(|v| sign * v).ok_or_else(|| unexpected(token, span, ""))
    }

    fn expect_times(&mut self) -> Parsed<u64> {
        match self.token()? {
            (Token::Times, _) => self.times(),
            (token, span) => Err(unexpected(token, span, "")),
        }
    }

    /// How often, behind the `x` that was read.
    fn times(&mut self) -> Parsed<u64> {
        let (token, span) = self.token()?;
        let Token::Number(text) = token else { return Err(unexpected(token, span, "")) };
        repetition(text).map_err(|message| (span, message))
    }

    fn peek(&mut self) -> Parsed<Token<'a>> {
        let at = self.at;
        let token = self.token()?.0;
        self.at = at;
        Ok(token)
    }

    fn take(&mut self, wanted: Token<'a>) -> Parsed<bool> {
        let at = self.at;
        let taken = self.token()?.0 == wanted;
        if !taken {
            self.at = at;
        }
        Ok(taken)
    }

    fn token(&mut self) -> Parsed<(Token<'a>, Span)> {
        let (start, rest) = (self.at, &self.input[self.at..]);
        let Some(first) = rest.chars().next() else { return Ok((Token::End, Span { start, end: start })) };
        let (token, length) = match first {
            ' ' | '\t' | '\n' | '\r' => (Token::Space, rest.len() - rest.trim_start_matches(is_blank).len()),
            '{' if rest.starts_with("{{") => (Token::Open, 2),
            '+' | '-' => (Token::Sign(first), 1),
            'x' => (Token::Times, 1),
            '_' => (Token::Blank, 1),
            '0'..='9' | '.' if first != '.' || rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let length = number_length(rest).map_err(|n| bad_number(&rest[..n], Span { start, end: start + n }))?;
                (Token::Number(&rest[..length]), length)
            }
            c if c.is_ascii_alphabetic() => {
                let length = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"_:".contains(b)).count();
                (Token::Word(&rest[..length]), length)
            }
            c => {
                let span = Span { start, end: start + c.len_utf8() };
                return Err((
                    span,
                    format!("unexpected character in series sequence: {}", crate::printer::character(c)),
                ));
            }
        };
        self.at += length;
        Ok((token, Span { start, end: self.at }))
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn constant(word: &str) -> Option<f64> {
    match word {
        _ if word.eq_ignore_ascii_case("inf") => Some(f64::INFINITY),
        _ if word.eq_ignore_ascii_case("nan") => Some(f64::NAN),
        _ => None,
    }
}

/// A count, with the words of Go for what is none.
fn repetition(text: &str) -> Result<u64, String> {
    let whole = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let why = if whole { "value out of range" } else { "invalid syntax" };
    let parsed = if whole { text.parse().ok() } else { None };
    parsed.ok_or_else(|| format!("invalid repetition in series values: strconv.ParseUint: parsing {text:?}: {why}"))
}

fn number_length(rest: &str) -> Result<usize, usize> {
    lexer::number_length(rest, false)
}

fn bad_number(text: &str, span: Span) -> (Span, String) {
    (span, format!("bad number syntax: {text:?}"))
}

fn unexpected(token: Token<'_>, span: Span, more: &str) -> (Span, String) {
    (span, format!("unexpected {} in series values{more}", name(token)))
}

fn name(token: Token<'_>) -> String {
    match token {
        Token::End => "end of input".to_owned(),
        Token::Space => "space".to_owned(),
        Token::Blank => "\"_\"".to_owned(),
        Token::Times => "\"x\"".to_owned(),
        Token::Sign(sign) => format!("<op:{sign}>"),
        Token::Open => "\"{{\"".to_owned(),
        Token::Number(text) => format!("number {text:?}"),
        Token::Word(text) if constant(text).is_some() => format!("number {text:?}"),
        Token::Word(text) => format!("identifier {text:?}"),
    }
}
