//! Errors of the parser, with their place.

use std::fmt;

use model::Kind;

use crate::ast::Span;

/// An expression that cannot be read. Displays as Prometheus does: `line:col: parse error: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Where, as byte positions.
    pub span: Span,
    /// Line of the first byte, from 1; 0 where there is no text.
    pub line: usize,
    /// Column of the first byte, in bytes, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl ParseError {
    /// An error at a place of `input`.
    pub fn new(input: &str, span: Span, message: impl Into<String>) -> Self {
        if input.is_empty() {
            return ParseError { span, line: 0, column: 0, message: message.into() };
        }
        let before = &input.as_bytes()[..span.start.min(input.len())];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|b| **b != b'\n').count();
        ParseError { span, line, column, message: message.into() }
    }

    /// The request is wrong.
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }

    /// The line of the expression with marks under what is wrong.
    pub fn caret(&self, input: &str) -> String {
        let line = input.lines().nth(self.line.saturating_sub(1)).unwrap_or("");
        let before: String =
            line.chars().take(self.columns_before(line)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let length =
            input.get(self.span.start..self.span.end).map_or(1, |s| s.lines().next().unwrap_or("").chars().count());
        format!("{line}\n{before}{}", "^".repeat(length.max(1)))
    }

    /// A function that may have been meant, where the error is an unknown one.
    pub fn did_you_mean(&self) -> Option<&'static str> {
        let name = self.message.strip_prefix("unknown function with name \"")?.strip_suffix('"')?;
        crate::functions::did_you_mean(name)
    }

    fn columns_before(&self, line: &str) -> usize {
        line.char_indices().take_while(|(at, _)| at + 1 < self.column).count()
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "unknown position: parse error: {}", self.message);
        }
        write!(f, "{}:{}: parse error: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}
