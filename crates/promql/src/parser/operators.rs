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
        let utf8_names = self.features.unquoted_utf8_names;
        let mut matching = VectorMatching { utf8_names, ..VectorMatching::default() };
        if op.is_set() {
            matching.cardinality = Cardinality::ManyToMany;
        }
        let return_bool = self.takes_word("bool");
        let on = self.takes_word("on");
        if on || self.takes_word("ignoring") {
            (matching.on, matching.labels) = (on, self.labels()?);
            let left = self.takes_word("group_left");
            if left || self.takes_word("group_right") {
                matching.cardinality = if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                // Without labels an operand has to follow.
                if matches!(self.peek().kind, TokenKind::Symbol("(")) || !self.begins_expression() {
                    matching.include = self.labels()?;
                }
            }
        }
        if self.takes_fill("fill") {
            let value = self.fill_value()?;
            (matching.fill_left, matching.fill_right) = (Some(value), Some(value));
        } else if self.takes_fill("fill_left") {
            matching.fill_left = Some(self.fill_value()?);
            if self.takes_fill("fill_right") {
                matching.fill_right = Some(self.fill_value()?);
            }
        } else if self.takes_fill("fill_right") {
            matching.fill_right = Some(self.fill_value()?);
            if self.takes_fill("fill_left") {
                matching.fill_left = Some(self.fill_value()?);
            }
        }
        Ok((return_bool, matching))
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let takes = self.is_word(word);
        if takes {
            self.next();
        }
        takes
    }

    /// Without a parenthesis it is the name of a metric.
    fn takes_fill(&mut self, word: &str) -> bool {
        self.is_fill() && self.takes_word(word)
    }

    fn fill_value(&mut self) -> Parsed<f64> {
        self.expect("(")?;
        let negative = self.take("-");
        if !negative {
            self.take("+");
        }
        let number = self.number()?.ok_or_else(|| self.unexpected())?;
        self.expect(")")?;
        Ok(if negative { -number.value } else { number.value })
    }
}
