//! The labels of a series, as tests write them: equal signs only, and none may be missing.

use super::{Parsed, Parser};
use crate::Features;
use crate::lexer::{TokenKind, tokens};
use crate::raw::readable;

/// Reads `name{label="value"}`, `{"name", label="value"}` or nothing. A name before the braces is the one that counts.
pub(crate) fn metric(input: &str) -> Parsed<Vec<(String, String)>> {
    let (tokens, features) = (tokens(input, false), Features::default());
    Parser::new(input, &tokens, &features).metric()
}

impl Parser<'_> {
    fn metric(&mut self) -> Parsed<Vec<(String, String)>> {
        let name = match self.peek().kind {
            TokenKind::Word => {
                let span = self.next().span;
                Some(self.text(span).to_owned())
            }
            _ => None,
        };
        let mut pairs = if self.take("{") { self.label_set()? } else { Vec::new() };
        if let Some(name) = name {
            pairs.retain(|(label, _)| label != model::METRIC_NAME);
            pairs.push((model::METRIC_NAME.to_owned(), name));
        }
        match self.peek().kind {
            TokenKind::End => Ok(pairs),
            _ => Err(self.unexpected()),
        }
    }

    /// Labels up to the closing brace.
    fn label_set(&mut self) -> Parsed<Vec<(String, String)>> {
        let mut pairs = Vec::new();
        while !self.take("}") {
            let label = match self.peek().kind.clone() {
                TokenKind::Name => {
                    let span = self.next().span;
                    self.text(span).to_owned()
                }
                TokenKind::String(text) => {
                    self.next();
                    readable(&text).into_owned()
                }
                _ => return Err(self.unexpected_in(" in label set, expected identifier or \"}\"")),
            };
            let is_text = matches!(self.tokens[self.at - 1].kind, TokenKind::String(_));
            if is_text && matches!(self.peek().kind, TokenKind::Symbol("," | "}")) {
                // A string alone is the metric's name.
                pairs.push((model::METRIC_NAME.to_owned(), label));
            } else {
                if !self.take("=") {
                    return Err(self.unexpected_in(" in label set, expected \"=\""));
                }
                let TokenKind::String(value) = self.peek().kind.clone() else {
                    return Err(self.unexpected_in(" in label set, expected string"));
                };
                self.next();
                pairs.push((label, readable(&value).into_owned()));
            }
            if !self.take(",") && !matches!(self.peek().kind, TokenKind::Symbol("}")) {
                return Err(self.unexpected_in(" in label set, expected \",\" or \"}\""));
            }
        }
        Ok(pairs)
    }
}
