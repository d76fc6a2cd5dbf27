//! Native histograms as tests write them, and rows of them: `{{count:1 buckets:[1]}}+{{count:2 buckets:[1 1]}}x5`.

use std::sync::Arc;

use model::ResetHint;

use super::{Cursor, Item, Token, bad_number, constant, is_blank, number_length, repetition};
use crate::FloatHistogram;
use crate::ast::Span;
use crate::histogram::Side;
use crate::lexer;
use crate::parser::Parsed;

/// The parts of a histogram, by name.
const PARTS: [&str; 11] = [
    "schema",
    "sum",
    "count",
    "z_bucket",
    "z_bucket_w",
    "custom_values",
    "buckets",
    "offset",
    "n_buckets",
    "n_offset",
    "counter_reset_hint",
];
const HINTS: [(&str, ResetHint); 4] = [
    ("unknown", ResetHint::Unknown),
    ("reset", ResetHint::Reset),
    ("not_reset", ResetHint::NotReset),
    ("gauge", ResetHint::Gauge),
];

/// A histogram as it is read.
#[derive(Default)]
struct Draft {
    numbers: [f64; 4],
    schema: i32,
    hint: ResetHint,
    custom: Vec<f64>,
    buckets: [Vec<f64>; 2],
    offsets: [i32; 2],
}

impl<'a> Cursor<'a> {
    /// Behind the opening braces: one histogram, a repeated one, or a row of sums.
    pub(super) fn histograms(&mut self, items: &mut Vec<Item>, items_max: usize) -> Parsed<()> {
        let first = self.histogram()?;
        let (sign, step) = match self.rest().as_bytes().first() {
            Some(b'x') => (1.0, None),
            Some(sign @ (b'+' | b'-')) => {
                let sign = if *sign == b'+' { 1.0 } else { -1.0 };
                self.at += 1;
                match self.token()? {
                    (Token::Open, _) => (sign, Some(self.histogram()?)),
                    (token, span) => return Err(super::unexpected(token, span, "")),
                }
            }
            _ => {
                self.room(items, 1, items_max)?;
                items.push(Item::Histogram(Arc::new(first)));
                return Ok(());
            }
        };
        let times = self.expect_times()?;
        let here = Span { start: self.at - 1, end: self.at };
        self.room(items, times.saturating_add(1), items_max)?;
        let mut last = Arc::new(first);
        items.push(Item::Histogram(last.clone()));
        for _ in 0..times {
            if let Some(step) = &step {
                last = Arc::new(next_of(&last, step, sign).map_err(|message| (here, message))?);
            }
            items.push(Item::Histogram(last.clone()));
        }
        Ok(())
    }

    fn rest(&self) -> &'a str {
        &self.input[self.at..]
    }

    /// Whether a text is next, which is taken then.
    fn takes(&mut self, text: &str) -> bool {
        let takes = self.rest().starts_with(text);
        self.at += if takes { text.len() } else { 0 };
        takes
    }

    /// Whether there is space, which is taken.
    fn blank(&mut self) -> bool {
        let before = self.rest().len();
        let after = self.rest().trim_start_matches(is_blank).len();
        self.at += before - after;
        after < before
    }

    fn histogram(&mut self) -> Parsed<FloatHistogram> {
        let (mut draft, mut seen) = (Draft::default(), Vec::new());
        let spaced = self.blank();
        if self.takes("}}") {
            return Ok(draft.whole());
        }
        if spaced {
            return Err(self.incomplete());
        }
        loop {
            self.part(&mut draft, &mut seen)?;
            let spaced = self.blank();
            if self.takes("}}") {
                return Ok(draft.whole());
            }
            if !spaced {
                return Err(self.incomplete());
            }
        }
    }

    /// What is next is nothing of a histogram.
    fn incomplete(&self) -> (Span, String) {
        let start = self.at;
        match self.rest().chars().next() {
            Some(c) => {
                let span = Span { start, end: start + c.len_utf8() };
                (span, format!("histogram description incomplete unexpected: {}", crate::printer::character(c)))
            }
            None => (Span { start, end: start }, "unexpected end of input in histogram description".to_owned()),
        }
    }

    fn part(&mut self, draft: &mut Draft, seen: &mut Vec<usize>) -> Parsed<()> {
        let start = self.at;
        let word = self.word();
        let span = Span { start, end: self.at };
        if word.is_empty() {
            return Err(self.incomplete());
        }
        let Some(part) = PARTS.iter().position(|part| *part == word) else {
            return Err((span, format!("bad histogram descriptor found: {word:?}")));
        };
        if !self.takes(":") {
            return Err((span, "missing `:` for histogram descriptor".to_owned()));
        }
        if seen.contains(&part) {
            return Err((span, format!("duplicate key {word:?} in histogram")));
        }
        seen.push(part);
        match PARTS[part] {
            "schema" => draft.schema = self.int()?,
            "sum" => draft.numbers[0] = self.signed_number()?,
            "count" => draft.numbers[1] = self.signed_number()?,
            "z_bucket" => draft.numbers[2] = self.signed_number()?,
            "z_bucket_w" => draft.numbers[3] = self.number()?,
            "custom_values" => draft.custom = self.list()?,
            "buckets" => draft.buckets[0] = self.list()?,
            "n_buckets" => draft.buckets[1] = self.list()?,
            "offset" => draft.offsets[0] = self.int()?,
            "n_offset" => draft.offsets[1] = self.int()?,
            _ => {
                let start = self.at;
                let word = self.word();
                let hint = HINTS.iter().find(|(name, _)| *name == word);
                let bad =
                    || (Span { start, end: start + word.len() }, format!("bad histogram descriptor found: {word:?}"));
                draft.hint = hint.ok_or_else(bad)?.1;
            }
        }
        Ok(())
    }

    fn word(&mut self) -> String {
        let length = self.rest().bytes().take_while(|b| b.is_ascii_alphabetic() || *b == b'_').count();
        let word = self.rest()[..length].to_ascii_lowercase();
        self.at += length;
        word
    }

    fn int(&mut self) -> Parsed<i32> {
        let negative = self.takes("-");
        let start = self.at;
        let text = self.digits()?;
        let value = repetition(text).map_err(|message| (Span { start, end: start + text.len() }, message))?;
        let value = value.min(u64::from(u32::MAX)).cast_signed() as i32;
        Ok(if negative { value.wrapping_neg() } else { value })
    }

    fn signed_number(&mut self) -> Parsed<f64> {
        let negative = self.takes("-");
        self.number().map(|v| if negative { -v } else { v })
    }

    fn number(&mut self) -> Parsed<f64> {
        let start = self.at;
        let word = self.rest().bytes().take_while(u8::is_ascii_alphabetic).count();
        if let Some(v) = constant(&self.rest()[..word]) {
            self.at += word;
            return Ok(v);
        }
        let text = self.digits()?;
        lexer::number(text).ok_or_else(|| bad_number(text, Span { start, end: start + text.len() }))
    }

    /// The text of a number.
    fn digits(&mut self) -> Parsed<&'a str> {
        let start = self.at;
        if !self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.incomplete());
        }
        let length = number_length(self.rest());
        let length = length.map_err(|n| bad_number(&self.rest()[..n], Span { start, end: start + n }))?;
        self.at += length;
        Ok(&self.input[start..start + length])
    }

    /// Numbers in brackets, at least one.
    fn list(&mut self) -> Parsed<Vec<f64>> {
        if !self.takes("[") {
            return Err(self.incomplete());
        }
        let mut all = Vec::new();
        loop {
            let start = self.at;
            if all.is_empty() && self.rest().starts_with(']') {
                return Err((Span { start, end: start + 1 }, "unexpected \"]\" in series values".to_owned()));
            }
            let next = self.rest().chars().next();
            if !next.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-') {
                let c = next.map_or_else(|| "end of input".to_owned(), crate::printer::character);
                let span = Span { start, end: start + next.map_or(0, char::len_utf8) };
                return Err((span, format!("invalid character in buckets description: {c}")));
            }
            all.push(self.signed_number()?);
            self.blank();
            if self.takes("]") {
                return Ok(all);
            }
        }
    }
}

/// The sum of a histogram and what it grows by.
fn next_of(last: &FloatHistogram, step: &FloatHistogram, sign: f64) -> Result<FloatHistogram, String> {
    if last.schema > step.schema {
        let schemas = format!("from schema {} to {}", step.schema, last.schema);
        return Err(format!("error combining histograms: cannot merge {schemas}"));
    }
    let mut next = last.clone();
    let combined = if sign > 0.0 { next.add(step) } else { next.subtract(step) };
    combined.map_err(|_| "cannot apply this operation on histograms with incompatible schemas".to_owned())?;
    Ok(next)
}

impl Draft {
    fn whole(self) -> FloatHistogram {
        let Draft { numbers: [sum, count, zero, zero_threshold], schema, hint, custom, buckets, offsets } = self;
        let [positive, negative] = buckets;
        let side = |counts: Vec<f64>, offset: i32| Side {
            indices: (0..counts.len()).map(|n| offset.wrapping_add(n as i32)).collect(),
            counts,
        };
        FloatHistogram {
            hint,
            schema,
            zero_threshold,
            zero,
            count,
            sum,
            positive: side(positive, offsets[0]),
            negative: side(negative, offsets[1]),
            custom: custom.into(),
        }
    }
}
