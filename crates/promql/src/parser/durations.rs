//! Durations: literals, and arithmetic over them.

use super::{Parsed, Parser};
use crate::ast::{BinaryOp, DurationExpr, DurationNode, DurationOp, Number, Span};
use crate::lexer::TokenKind;

/// Longest duration: what fits into 64 bits of nanoseconds, as Prometheus has it.
const SECONDS_MAX: f64 = 9_223_372_036.0;

impl Parser<'_> {
    /// A range or step (which must be positive where it is a literal), or an offset.
    pub(super) fn duration(&mut self, positive: bool) -> Parsed<DurationExpr> {
        let start = self.peek().span.start;
        // An offset binds stronger than any operator: what follows it belongs to the expression around.
        let node = if positive { self.duration_sum(0)? } else { self.duration_sign()? };
        let span = Span { start, end: self.before().end };
        let literal = match &node.op {
            DurationOp::Seconds(n) if !node.in_parens => Some(n.value),
            _ => None,
        };
        let Some(seconds) = literal else { return Ok(DurationExpr::Computed(Box::new(node))) };
        if seconds.is_nan() || seconds.abs() > SECONDS_MAX {
            return Err((span, "duration out of range".to_owned()));
        }
        if positive && seconds <= 0.0 {
            return Err((span, "duration must be greater than 0".to_owned()));
        }
        Ok(DurationExpr::Literal((seconds * 1000.0).round() as i64))
    }

    fn duration_sum(&mut self, least: u8) -> Parsed<DurationNode> {
        self.deeper()?;
        let mut left = self.duration_sign()?;
        loop {
            let (op, strength) = match self.peek().kind {
                TokenKind::Symbol("+") => (BinaryOp::Add, 1),
                TokenKind::Symbol("-") => (BinaryOp::Sub, 1),
                TokenKind::Symbol("*") => (BinaryOp::Mul, 2),
                TokenKind::Symbol("/") => (BinaryOp::Div, 2),
                TokenKind::Symbol("%") => (BinaryOp::Mod, 2),
                TokenKind::Symbol("^") => (BinaryOp::Pow, 3),
                _ => break,
            };
            if strength <= least {
                break;
            }
            // Each operator makes the tree deeper by one.
            self.deeper()?;
            self.next();
            let right = self.duration_sum(if op == BinaryOp::Pow { strength - 1 } else { strength })?;
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

    fn duration_sign(&mut self) -> Parsed<DurationNode> {
        let start = self.peek().span.start;
        let negative = self.take("-");
        if !negative && !self.take("+") {
            return self.duration_leaf();
        }
        self.deeper()?;
        let inner = self.duration_sign()?;
        self.depth -= 1;
        let span = Span { start, end: inner.span.end };
        if !negative {
            return Ok(inner);
        }
        let op = match inner.op {
            DurationOp::Seconds(n) if !inner.in_parens => DurationOp::Seconds(n.negated()),
            _ => DurationOp::Negated(Box::new(inner)),
        };
        Ok(DurationNode { op, span, in_parens: false })
    }

    fn duration_leaf(&mut self) -> Parsed<DurationNode> {
        let token = self.next().clone();
        let start = token.span.start;
        let word = self.text(token.span).to_ascii_lowercase();
        let op = match token.kind {
            TokenKind::Number(value) => DurationOp::Seconds(Number { value, is_duration: false }),
            TokenKind::Duration(ms) => DurationOp::Seconds(Number { value: ms as f64 / 1000.0, is_duration: true }),
            TokenKind::Symbol("(") => {
                let mut inner = self.duration_sum(0)?;
                self.expect(")", "in duration expression")?;
                inner.span = Span { start, end: self.before().end };
                // The parentheses make it an expression, even around a literal.
                inner.in_parens = true;
                return Ok(inner);
            }
            TokenKind::Word if word == "step" || word == "range" => {
                self.expect("(", "in duration expression")?;
                self.expect(")", "in duration expression")?;
                if word == "step" { DurationOp::Step } else { DurationOp::Range }
            }
            TokenKind::Word if word == "min_of" || word == "max_of" => {
                self.expect("(", "in duration expression")?;
                let a = Box::new(self.duration_sum(0)?);
                self.expect(",", "in duration expression")?;
                let b = Box::new(self.duration_sum(0)?);
                self.expect(")", "in duration expression")?;
                if word == "min_of" { DurationOp::Min(a, b) } else { DurationOp::Max(a, b) }
            }
            TokenKind::Word if word == "inf" || word == "nan" => {
                DurationOp::Seconds(Number { value: f64::NAN, is_duration: false })
            }
            _ => {
                self.at -= usize::from(token.kind != TokenKind::End);
                return Err(self.unexpected("in duration, expected number, duration, step(), or range()"));
            }
        };
        Ok(DurationNode { op, span: Span { start, end: self.before().end }, in_parens: false })
    }
}
