//! Selectors, and what stands behind an expression: ranges, `offset`, `@`, `anchored`, `smoothed`.

use model::{MatchOp, Matcher};

use super::{Failure, Parsed, Parser};
use crate::ast::{At, DurationExpr, Expr, MatrixSelector, Node, RangeMode, Span, Subquery, VectorSelector};
use crate::lexer::TokenKind;

impl Parser<'_> {
    /// A selector; `name` is the place of the metric's name where it stands before the braces.
    pub(super) fn selector(&mut self, name: Option<Span>) -> Parsed<Expr> {
        let start = self.peek().span.start;
        let mut selector = VectorSelector {
            name: name.map(|span| self.text(span).to_owned()),
            matchers: Vec::new(),
            offset: DurationExpr::ZERO,
            at: None,
            mode: RangeMode::Normal,
            utf8_names: self.features.unquoted_utf8_names,
        };
        if name.is_some() {
            self.next();
        }
        if self.take("{") {
            self.matchers(&mut selector)?;
        }
        let span = Span { start, end: self.before().end };
        if let Some(name) = &selector.name {
            selector.matchers.push(Matcher::equal(model::METRIC_NAME, name.clone()));
        }
        Ok(Expr { node: Node::VectorSelector(selector), span })
    }

    /// Matchers up to the closing brace.
    fn matchers(&mut self, selector: &mut VectorSelector) -> Parsed<()> {
        while !self.take("}") {
            selector.matchers.push(self.matcher()?);
            if !self.take(",") && !matches!(self.peek().kind, TokenKind::Symbol("}")) {
                return Err(self.unexpected_in(" in label matching, expected \",\" or \"}\""));
            }
        }
        Ok(())
    }

    fn matcher(&mut self) -> Parsed<Matcher> {
        let token = self.peek();
        let (label, is_text) = match &token.kind {
            TokenKind::Name => (self.text(token.span).to_owned(), false),
            TokenKind::String(text) => (text.clone(), true),
            _ => return Err(self.unexpected_in(" in label matching, expected identifier or \"}\"")),
        };
        self.next();
        let op = match self.peek().kind {
            TokenKind::Symbol("=") => MatchOp::Equal,
            TokenKind::Symbol("!=") => MatchOp::NotEqual,
            TokenKind::Symbol("=~") => MatchOp::Regex,
            TokenKind::Symbol("!~") => MatchOp::NotRegex,
            // A string alone is the metric's name.
            _ if is_text => return Ok(Matcher::equal(model::METRIC_NAME, label)),
            _ => return Err(self.unexpected_in(" in label matching, expected label matching operator")),
        };
        self.next();
        let TokenKind::String(value) = &self.peek().kind else {
            return Err(self.unexpected_in(" in label matching, expected string"));
        };
        let span = Span { start: token.span.start, end: self.next().span.end };
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            crate::raw::check_pattern(value).map_err(|why| (span, why))?;
        }
        Matcher::new(op, label, value.clone()).map_err(|e| (span, e.to_string()))
    }

    /// `[range]` behind a selector, `[range:step]` behind any instant vector.
    pub(super) fn range(&mut self, expr: Expr) -> Parsed<Expr> {
        let open = self.next().span;
        let range =
            self.duration(true, " in subquery or range selector, expected number, duration, step(), or range()")?;
        if self.take("]") {
            let end = self.before().end;
            let whole = Span { start: expr.span.start, end };
            let selector_span = expr.span;
            let Node::VectorSelector(selector) = expr.node else {
                return Err((open, "ranges only allowed for vector selectors".to_owned()));
            };
            let set_before = [
                (selector.offset != DurationExpr::ZERO, "no offset modifiers allowed before range"),
                (selector.at.is_some(), "no @ modifiers allowed before range"),
            ];
            if let Some((_, text)) = set_before.iter().find(|(set, _)| *set) {
                return Err((open, (*text).to_owned()));
            }
            let node = Node::MatrixSelector(MatrixSelector { selector, selector_span, range });
            return Ok(Expr { node, span: whole });
        }
        if !self.take(":") {
            return Err(self.unexpected_in(" in subquery or range, expected \":\" or \"]\""));
        }
        let step = if self.take("]") {
            None
        } else {
            let step =
                self.duration(true, " in subquery selector, expected number, duration, step(), range(), or \"]\"")?;
            if !self.take("]") {
                return Err(self.unexpected_in(" in subquery selector, expected \"]\""));
            }
            Some(step)
        };
        let whole = Span { start: expr.span.start, end: self.before().end };
        let (offset, at) = (DurationExpr::ZERO, None);
        Ok(Expr { node: Node::Subquery(Subquery { expr: Box::new(expr), range, step, offset, at }), span: whole })
    }

    pub(super) fn offset(&mut self, mut expr: Expr) -> Parsed<Expr> {
        self.next();
        let offset = self.duration(false, " in offset, expected number, duration, step(), or range()")?;
        let span = expr.span;
        let slot = match &mut expr.node {
            Node::VectorSelector(s) => &mut s.offset,
            Node::MatrixSelector(s) => &mut s.selector.offset,
            Node::Subquery(s) => &mut s.offset,
            _ => return Err(misplaced(span, "offset modifier")),
        };
        if *slot != DurationExpr::ZERO {
            return Err((span, "offset may not be set multiple times".to_owned()));
        }
        *slot = offset;
        expr.span.end = self.before().end;
        Ok(expr)
    }

    pub(super) fn at_modifier(&mut self, mut expr: Expr) -> Parsed<Expr> {
        self.next();
        self.contexts.push(" in @, expected timestamp");
        let span = expr.span;
        let at = self.at_time(span)?;
        self.contexts.pop();
        let slot = match &mut expr.node {
            Node::VectorSelector(s) => &mut s.at,
            Node::MatrixSelector(s) => &mut s.selector.at,
            Node::Subquery(s) => &mut s.at,
            _ => return Err(misplaced(span, "@ modifier")),
        };
        if slot.is_some() {
            return Err((span, "@ <timestamp> may not be set multiple times".to_owned()));
        }
        *slot = Some(at);
        expr.span.end = self.before().end;
        Ok(expr)
    }

    /// The time of an expression at this place.
    fn at_time(&mut self, place: Span) -> Parsed<At> {
        for (word, at) in [("start", At::Start), ("end", At::End)] {
            if self.is_word(word) {
                self.next();
                self.expect("(")?;
                self.expect(")")?;
                return Ok(at);
            }
        }
        let negative = self.take("-");
        if !negative {
            self.take("+");
        }
        let number = self.number()?.ok_or_else(|| self.unexpected())?;
        let seconds = if negative { -number.value } else { number.value };
        if !seconds.is_finite() || seconds.abs() >= i64::MAX as f64 {
            let shown =
                if seconds.is_finite() { format!("{seconds:.6}") } else { crate::eval::format::general(seconds) };
            return Err((place, format!("timestamp out of bounds for @ modifier: {shown}")));
        }
        Ok(At::Time((seconds * 1000.0).round() as i64))
    }

    pub(super) fn mode(&mut self, mut expr: Expr) -> Parsed<Expr> {
        let anchored = self.is_word("anchored");
        self.next();
        // The place of the expression stays what it was, as in Prometheus.
        let span = expr.span;
        let (name, mode) = if anchored { ("anchored", RangeMode::Anchored) } else { ("smoothed", RangeMode::Smoothed) };
        let slot = match &mut expr.node {
            Node::VectorSelector(s) => &mut s.mode,
            Node::MatrixSelector(s) => &mut s.selector.mode,
            Node::Subquery(_) => return Err((span, format!("{name} modifier is not supported for subqueries"))),
            _ => return Err((span, format!("{name} modifier not implemented"))),
        };
        if *slot != RangeMode::Normal && *slot != mode {
            return Err((span, "anchored and smoothed modifiers cannot be used together".to_owned()));
        }
        *slot = mode;
        Ok(expr)
    }
}

/// `span` is that of the expression in front of it.
fn misplaced(span: Span, what: &str) -> Failure {
    let text = format!("{what} must be preceded by an instant vector selector or range vector selector or a subquery");
    (span, text)
}
