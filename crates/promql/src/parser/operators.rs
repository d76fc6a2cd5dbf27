//! Binary operators: how strongly they bind, and what stands between one and its right side.

use super::{Parsed, Parser};
use crate::ast::{BinaryOp, Cardinality, VectorMatching};
use crate::lexer::TokenKind;

/// Binding strengths, weakest first.
pub(super) fn strength(op: BinaryOp) -> u8 {
    use BinaryOp::{
        Add, And, Atan2, Div, Equal, Greater, GreaterEqual, Less, LessEqual, Mod, Mul, NotEqual, Or, Pow, Sub,
        TrimLower, TrimUpper, Unless,
    };
    match op {
        Or => 1,
        And | Unless => 2,
        Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual | TrimUpper | TrimLower => 3,
        Add | Sub => 4,
        Mul | Div | Mod | Atan2 => 5,
        Pow => 6,
    }
}

impl Parser<'_> {
    /// The operator that is next, if one is.
    pub(super) fn binary_op(&self) -> Option<BinaryOp> {
        use BinaryOp::{
            Add, And, Atan2, Div, Equal, Greater, GreaterEqual, Less, LessEqual, Mod, Mul, NotEqual, Or, Pow, Sub,
            TrimLower, TrimUpper, Unless,
        };
        let token = self.peek();
        Some(match token.kind {
            TokenKind::Symbol(symbol) => match symbol {
                "+" => Add,
                "-" => Sub,
                "*" => Mul,
                "/" => Div,
                "%" => Mod,
                "^" => Pow,
                "==" => Equal,
                "!=" => NotEqual,
                "<" => Less,
                "<=" => LessEqual,
                ">" => Greater,
                ">=" => GreaterEqual,
                "</" => TrimUpper,
                ">/" => TrimLower,
                _ => return None,
            },
            TokenKind::Word => match self.text(token.span).to_ascii_lowercase().as_str() {
                "and" => And,
                "or" => Or,
                "unless" => Unless,
                "atan2" => Atan2,
                _ => return None,
            },
            _ => return None,
        })
    }

    /// What stands between an operator and its right side.
    pub(super) fn modifiers(&mut self, op: BinaryOp) -> Parsed<(bool, VectorMatching)> {
        let mut matching = VectorMatching::default();
        if matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless) {
            matching.cardinality = Cardinality::ManyToMany;
        }
        let return_bool = self.is_word("bool");
        if return_bool {
            let place = self.next().span;
            if strength(op) != strength(BinaryOp::Equal) {
                return Err((place, "bool modifier can only be used on comparison operators".to_owned()));
            }
        }
        // Without a parenthesis it is the name of a metric.
        if self.opens() && (self.is_word("on") || self.is_word("ignoring")) {
            matching.on = self.is_word("on");
            self.next();
            matching.labels = self.labels()?;
            let left = self.is_word("group_left");
            if left || self.is_word("group_right") {
                let place = self.next().span;
                if matching.cardinality == Cardinality::ManyToMany {
                    return Err((place, format!("no grouping allowed for {:?} operation", op.as_str())));
                }
                matching.cardinality = if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                if matches!(self.peek().kind, TokenKind::Symbol("(")) {
                    matching.include = self.labels()?;
                }
                if matching.on
                    && let Some(label) = matching.include.iter().find(|l| matching.labels.contains(l))
                {
                    return Err((place, format!("label {label:?} must not occur in ON and GROUP clause at once")));
                }
            }
        }
        while self.opens() && (self.is_word("fill") || self.is_word("fill_left") || self.is_word("fill_right")) {
            self.fill(op, &mut matching)?;
        }
        Ok((return_bool, matching))
    }

    fn fill(&mut self, op: BinaryOp, matching: &mut VectorMatching) -> Parsed<()> {
        let place = self.next().span;
        if !self.features.binop_fill_modifiers {
            let hint = "is experimental and must be enabled with --enable-feature=promql-binop-fill-modifiers";
            return Err((place, format!("binop fill modifiers {hint}")));
        }
        if matching.cardinality == Cardinality::ManyToMany {
            return Err((place, format!("filling in missing series not allowed for set operator {:?}", op.as_str())));
        }
        self.expect("(", "in fill modifier")?;
        let sign = if self.take("-") { -1.0 } else { 1.0 };
        self.take("+");
        let token = self.next().clone();
        let word = self.text(token.span).to_ascii_lowercase();
        let value = match token.kind {
            TokenKind::Number(n) => sign * n,
            TokenKind::Duration(ms) => sign * ms as f64 / 1000.0,
            TokenKind::Word if word == "inf" => sign * f64::INFINITY,
            TokenKind::Word if word == "nan" => f64::NAN,
            _ => return Err((token.span, "expected a number in fill modifier".to_owned())),
        };
        self.expect(")", "in fill modifier")?;
        let name = self.text(place).to_ascii_lowercase();
        if name != "fill_right" {
            matching.fill_left = Some(value);
        }
        if name != "fill_left" {
            matching.fill_right = Some(value);
        }
        Ok(())
    }
}
