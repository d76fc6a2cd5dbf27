//! Selectors, and what stands behind an expression: ranges, `offset`, `@`, `anchored`, `smoothed`.

use model::{MatchOp, Matcher};

use super::{Failure, Parsed, Parser};
use crate::ast::{At, DurationExpr, Expr, MatrixSelector, Node, RangeMode, Span, Subquery, ValueType, VectorSelector};
use crate::lexer::TokenKind;

impl Parser<'_> {
    /// A selector; `name` is the place of the metric's name where it stands before the braces.
    pub(super) fn selector(&mut self, name: Option<Span>) -> Parsed<Expr> {
        let start = self.peek().span.start;
        let mut selector = VectorSelector {
            name: name.map(|span| self.text(span).to_owned()),
            matchers: Vec::new(),
            offset: DurationExpr::Literal(0),
            at: None,
            mode: RangeMode::Normal,
        };
        if name.is_some() {
            self.next();
        }
        if self.take("{") {
            let mut name = selector.name.clone();
            self.matchers(&mut selector, &mut name)?;
        }
        let span = Span { start, end: self.before().end };
        if let Some(name) = &selector.name {
            selector.matchers.push(Matcher::equal(model::METRIC_NAME, name.clone()));
        }
        let labels_only = std::mem::take(&mut self.labels_only);
        if !labels_only && selector.matchers.iter().all(Matcher::matches_empty) {
            return Err((span, "vector selector must contain at least one non-empty matcher".to_owned()));
        }
        Ok(Expr { node: Node::VectorSelector(selector), span })
    }

    /// Matchers up to the closing brace. `name` is that of the metric as soon as it is known.
    fn matchers(&mut self, selector: &mut VectorSelector, name: &mut Option<String>) -> Parsed<()> {
        while !self.take("}") {
            let token = self.next().clone();
            let label = match token.kind {
                TokenKind::Word if !self.text(token.span).contains(':') => self.text(token.span).to_owned(),
                TokenKind::String(text) => {
                    if matches!(self.peek().kind, TokenKind::Symbol("," | "}")) {
                        // A string alone is the metric's name.
                        if let Some(before) = name {
                            return Err((
                                token.span,
                                format!("metric name must not be set twice: {before:?} or {text:?}"),
                            ));
                        }
                        selector.matchers.push(Matcher::equal(model::METRIC_NAME, text.clone()));
                        *name = Some(text);
                        self.comma_or_end()?;
                        continue;
                    }
                    text
                }
                _ => {
                    self.at -= usize::from(self.peek().kind != TokenKind::End || token.kind != TokenKind::End);
                    return Err(self.unexpected("in label matching, expected identifier or \"}\""));
                }
            };
            let op = match self.peek().kind {
                TokenKind::Symbol("=") => MatchOp::Equal,
                TokenKind::Symbol("!=") => MatchOp::NotEqual,
                TokenKind::Symbol("=~") => MatchOp::Regex,
                TokenKind::Symbol("!~") => MatchOp::NotRegex,
                _ => return Err(self.unexpected("in label matching, expected label matching operator")),
            };
            self.next();
            let TokenKind::String(value) = self.peek().kind.clone() else {
                return Err(self.unexpected("in label matching, expected string"));
            };
            let place = self.next().span;
            if label == model::METRIC_NAME
                && let Some(before) = name
            {
                let text = format!("metric name must not be set twice: {before:?} or {value:?}");
                return Err((token.span, text));
            }
            let matcher = Matcher::new(op, label, value).map_err(|e| (place, e.to_string()))?;
            selector.matchers.push(matcher);
            self.comma_or_end()?;
        }
        Ok(())
    }

    fn comma_or_end(&mut self) -> Parsed<()> {
        if self.take(",") || matches!(self.peek().kind, TokenKind::Symbol("}")) {
            return Ok(());
        }
        Err(self.unexpected("in label matching, expected \",\" or \"}\""))
    }

    /// `[range]` behind a selector, `[range:step]` behind any instant vector.
    pub(super) fn range(&mut self, expr: Expr) -> Parsed<Expr> {
        let open = self.next().span;
        let range = self.duration(true)?;
        if !self.take(":") {
            let end = self.expect("]", "in subquery or range selector")?.end;
            let selector_span = expr.span;
            let whole = Span { start: selector_span.start, end };
            let Node::VectorSelector(selector) = expr.node else {
                return Err((open, "ranges only allowed for vector selectors".to_owned()));
            };
            let set_before = [
                (selector.offset != DurationExpr::Literal(0), "no offset modifiers allowed before range"),
                (selector.at.is_some(), "no @ modifiers allowed before range"),
            ];
            if let Some((_, text)) = set_before.iter().find(|(set, _)| *set) {
                return Err((whole, (*text).to_owned()));
            }
            let node = Node::MatrixSelector(MatrixSelector { selector, selector_span, range });
            return Ok(Expr { node, span: whole });
        }
        let step = if matches!(self.peek().kind, TokenKind::Symbol("]")) { None } else { Some(self.duration(true)?) };
        let end = self.expect("]", "in subquery selector")?.end;
        let whole = Span { start: expr.span.start, end };
        let kind = expr.value_type();
        if kind != ValueType::InstantVector {
            let text = format!("subquery is only allowed on instant vector, got {} instead", kind.name());
            return Err((whole, text));
        }
        let node =
            Node::Subquery(Subquery { expr: Box::new(expr), range, step, offset: DurationExpr::Literal(0), at: None });
        Ok(Expr { node, span: whole })
    }

    pub(super) fn offset(&mut self, mut expr: Expr) -> Parsed<Expr> {
        let place = self.next().span;
        let offset = self.duration(false)?;
        let slot = match &mut expr.node {
            Node::VectorSelector(s) => &mut s.offset,
            Node::MatrixSelector(s) => &mut s.selector.offset,
            Node::Subquery(s) => &mut s.offset,
            _ => return Err(misplaced(place, "offset modifier")),
        };
        if *slot != DurationExpr::Literal(0) {
            return Err((place, "offset may not be set multiple times".to_owned()));
        }
        *slot = offset;
        expr.span.end = self.before().end;
        Ok(expr)
    }

    pub(super) fn at_modifier(&mut self, mut expr: Expr) -> Parsed<Expr> {
        let place = self.next().span;
        let at = self.at_time(place)?;
        let slot = match &mut expr.node {
            Node::VectorSelector(s) => &mut s.at,
            Node::MatrixSelector(s) => &mut s.selector.at,
            Node::Subquery(s) => &mut s.at,
            _ => return Err(misplaced(place, "@ modifier")),
        };
        if slot.is_some() {
            return Err((place, "@ <timestamp> may not be set multiple times".to_owned()));
        }
        *slot = Some(at);
        expr.span.end = self.before().end;
        Ok(expr)
    }

    fn at_time(&mut self, place: Span) -> Parsed<At> {
        for (word, at) in [("start", At::Start), ("end", At::End)] {
            if self.is_word(word) {
                self.next();
                self.expect("(", "in @")?;
                self.expect(")", "in @")?;
                return Ok(at);
            }
        }
        let sign = if self.take("-") { -1.0 } else { 1.0 };
        self.take("+");
        let token = self.next().clone();
        let word = self.text(token.span).to_ascii_lowercase();
        let seconds = match token.kind {
            TokenKind::Number(n) => sign * n,
            TokenKind::Duration(ms) => sign * ms as f64 / 1000.0,
            TokenKind::Word if word == "inf" || word == "nan" => f64::NAN,
            _ => {
                self.at -= usize::from(token.kind != TokenKind::End);
                return Err(self.unexpected("in @, expected timestamp"));
            }
        };
        let ms = (seconds * 1000.0).round();
        if ms.is_nan() || ms.abs() >= i64::MAX as f64 {
            let text = format!("timestamp out of bounds for @ modifier: {seconds:?}");
            return Err((Span { start: place.start, end: token.span.end }, text));
        }
        Ok(At::Time(ms as i64))
    }

    pub(super) fn mode(&mut self, mut expr: Expr) -> Parsed<Expr> {
        let anchored = self.is_word("anchored");
        let place = self.next().span;
        let (name, mode) = if anchored { ("anchored", RangeMode::Anchored) } else { ("smoothed", RangeMode::Smoothed) };
        let slot = match &mut expr.node {
            Node::VectorSelector(s) => &mut s.mode,
            Node::MatrixSelector(s) => &mut s.selector.mode,
            _ => {
                return Err((
                    place,
                    format!("{name} modifier must be preceded by an instant vector selector or range vector selector"),
                ));
            }
        };
        if *slot != RangeMode::Normal {
            return Err((place, "anchored and smoothed modifiers may be set only once".to_owned()));
        }
        *slot = mode;
        expr.span.end = place.end;
        Ok(expr)
    }
}

fn misplaced(place: Span, what: &str) -> Failure {
    let text = format!("{what} must be preceded by an instant vector selector or range vector selector or a subquery");
    (place, text)
}
