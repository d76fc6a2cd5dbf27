//! Durations: literals, and arithmetic over them.

use super::{Parsed, Parser};
use crate::ast::{BinaryOp, DurationExpr, DurationNode, DurationOp, Span};
use crate::lexer::TokenKind;

/// Longest duration: what fits into 64 bits of nanoseconds, as Prometheus has it.
pub(crate) const SECONDS_MAX: f64 = 9_223_372_036.854_776;
/// How strongly a sign binds, and so a multiplication.
const SIGN: u8 = 2;

impl Parser<'_> {
    /// A range or step (which must be positive where it is a literal), or an offset. `context` is what an error says that nothing else is known of.
    pub(super) fn duration(&mut self, positive: bool, context: &'static str) -> Parsed<DurationExpr> {
        self.contexts.push(context);
        let start = self.peek().span.start;
        let node = if positive { self.duration_sum(0)? } else { self.offset_duration()? };
        if positive && matches!(self.peek().kind, TokenKind::Error(_)) {
            return Err(self.unexpected());
        }
        self.contexts.pop();
        let span = Span { start, end: self.before().end };
        let literal = match &node.op {
            DurationOp::Seconds(n) if !node.in_parens => Some(n.value),
            _ => None,
        };
        let Some(seconds) = literal else { return Ok(DurationExpr::Computed(Box::new(node))) };
        if positive && seconds <= 0.0 {
            return Err((span, "duration must be greater than 0".to_owned()));
        }
        Ok(DurationExpr::Literal(nanoseconds(seconds, positive)))
    }

    fn duration_sum(&mut self, least: u8) -> Parsed<DurationNode> {
        self.deeper()?;
        let mut left = self.duration_sign()?;
        loop {
            let (op, strength) = match self.peek().kind {
                TokenKind::Symbol("+") => (BinaryOp::Add, 1),
                TokenKind::Symbol("-") => (BinaryOp::Sub, 1),
                TokenKind::Symbol("*") => (BinaryOp::Mul, SIGN),
                TokenKind::Symbol("/") => (BinaryOp::Div, SIGN),
                TokenKind::Symbol("%") => (BinaryOp::Mod, SIGN),
                TokenKind::Symbol("^") => (BinaryOp::Pow, 3),
                _ => break,
            };
            if strength <= least {
                break;
            }
            // Each operator makes the tree deeper by one.
            self.deeper()?;
            let place = self.next().span;
            let right = self.duration_sum(if op == BinaryOp::Pow { strength - 1 } else { strength })?;
            let zero = matches!(right.op, DurationOp::Seconds(n) if n.value == 0.0 && !right.in_parens);
            match op {
                BinaryOp::Div if zero => return Err((place, "division by zero".to_owned())),
                BinaryOp::Mod if zero => return Err((place, "modulo by zero".to_owned())),
                _ => {}
            }
            let span = Span { start: left.span.start, end: right.span.end };
            left = DurationNode {
                op: DurationOp::Arithmetic(op, Box::new(left), Box::new(right)),
                span,
                in_parens: false,
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    /// A sign binds like a multiplication.
    fn duration_sign(&mut self) -> Parsed<DurationNode> {
        let place = self.peek().span;
        let negative = self.take("-");
        if !negative && !self.take("+") {
            return self.duration_leaf(None);
        }
        let inner = self.duration_sum(SIGN)?;
        signed(negative, place, inner)
    }

    /// An offset binds stronger than any operator, with one sign: what follows it belongs to the expression around. But what begins with a parenthesis or
    /// with two signs is a whole duration.
    fn offset_duration(&mut self) -> Parsed<DurationNode> {
        let place = self.peek().span;
        let sign = |kind: Option<&TokenKind>| matches!(kind, Some(TokenKind::Symbol("+" | "-")));
        let signs = sign(Some(&self.peek().kind)) && sign(self.tokens.get(self.at + 1).map(|token| &token.kind));
        if signs || matches!(self.peek().kind, TokenKind::Symbol("(")) {
            let whole = self.duration_sum(0)?;
            return if matches!(self.peek().kind, TokenKind::Error(_)) { Err(self.unexpected()) } else { Ok(whole) };
        }
        let negative = self.take("-");
        if !negative && !self.take("+") {
            return self.duration_leaf(None);
        }
        let inner = self.duration_leaf(Some(place))?;
        if !negative && !matches!(inner.op, DurationOp::Seconds(_)) {
            let span = Span { start: place.start, end: inner.span.end };
            return Ok(DurationNode { op: DurationOp::Plus(Box::new(inner)), span, in_parens: false });
        }
        signed(negative, place, inner)
    }

    /// `sign` is the place of the one before it, at which a number is told that is out of range.
    fn duration_leaf(&mut self, sign: Option<Span>) -> Parsed<DurationNode> {
        let token = self.peek();
        let start = token.span.start;
        if let Some(number) = self.number()? {
            if is_out_of_range(number.value) {
                return Err((sign.unwrap_or(token.span), "duration out of range".to_owned()));
            }
            return Ok(DurationNode { op: DurationOp::Seconds(number), span: token.span, in_parens: false });
        }
        if self.take("(") {
            let mut inner = self.duration_sum(0)?;
            self.expect(")")?;
            // The parentheses make it an expression, even around a literal, which begins with them then.
            if matches!(inner.op, DurationOp::Seconds(_)) && !inner.in_parens {
                inner.span.start = start;
            }
            inner.in_parens = true;
            return Ok(inner);
        }
        let word = self.text(token.span).to_ascii_lowercase();
        let op = match word.as_str() {
            "step" | "range" => {
                self.next();
                self.expect("(")?;
                self.expect(")")?;
                if word == "step" { DurationOp::Step } else { DurationOp::Range }
            }
            "min_of" | "max_of" => {
                self.next();
                self.expect("(")?;
                let a = Box::new(self.duration_sum(0)?);
                self.expect(",")?;
                let b = Box::new(self.duration_sum(0)?);
                self.expect(")")?;
                if word == "min_of" { DurationOp::Min(a, b) } else { DurationOp::Max(a, b) }
            }
            _ => return Err(self.unexpected()),
        };
        Ok(DurationNode { op, span: Span { start, end: self.before().end }, in_parens: false })
    }
}

fn is_out_of_range(seconds: f64) -> bool {
    seconds.abs() > SECONDS_MAX
}

/// What is no number, or just too large, is the least there is, as where Prometheus runs on x86. A range is the longest then: none before it begins is any use.
fn nanoseconds(seconds: f64, is_range: bool) -> i64 {
    let ns = (seconds * 1e9).round();
    if is_range || ns < i64::MAX as f64 { ns as i64 } else { i64::MIN }
}

fn signed(negative: bool, place: Span, inner: DurationNode) -> Parsed<DurationNode> {
    let span = Span { start: place.start, end: inner.span.end };
    let op = match inner.op {
        DurationOp::Seconds(n) if !inner.in_parens => DurationOp::Seconds(if negative { n.negated() } else { n }),
        _ if !negative => return Ok(inner),
        _ => DurationOp::Negated(Box::new(inner)),
    };
    Ok(DurationNode { op, span, in_parens: false })
}
