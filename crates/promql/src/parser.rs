//! From tokens to a tree, checked for types: operator precedence climbing, one token of look-ahead.
//!
//! The error texts are those of Prometheus where a program or a person may know them. Bounds: the length of the text and the depth of the tree,
//! so that neither this nor any walk over the tree can exhaust a stack. Time is linear in the length.

mod check;
mod durations;
mod operators;
mod selector;
#[cfg(test)]
mod tests;

use crate::ast::{Aggregate, AggregateOp, Binary, BinaryOp, Call, Expr, Node, Number, Span, Unary, ValueType};
use crate::functions;
use crate::lexer::{Token, TokenKind, tokens};
use crate::{Features, ParseError};
use operators::strength;

/// Longest expression, in bytes: several times the longest that people have been seen to write.
pub const LENGTH_MAX: usize = 64 << 10;
/// Deepest tree, where a chain of operators counts one for each. Walks over the tree recurse.
pub const DEPTH_MAX: usize = 400;
/// Deepest nesting of parentheses, calls and signs: reading one takes some kilobytes of stack in a build that is not optimised.
pub const NESTING_MAX: usize = 80;

/// An error before its line and column are known.
pub(crate) type Failure = (Span, String);
pub(crate) type Parsed<T> = Result<T, Failure>;

/// Reads an expression and checks its types.
pub fn parse(input: &str, features: &Features) -> Result<Expr, ParseError> {
    let located = |(span, message): Failure| ParseError::new(input, span, message);
    if input.len() > LENGTH_MAX {
        let span = Span { start: 0, end: 0 };
        return Err(located((span, format!("expression of {} bytes, at most {LENGTH_MAX} are taken", input.len()))));
    }
    let tokens = tokens(input).map_err(located)?;
    let mut parser = Parser { input, tokens: &tokens, at: 0, features, depth: 0, labels_only: false };
    let parsed = parser.whole().map_err(|failure| parser.unclosed().unwrap_or(failure));
    parsed.map_err(located)
}

/// Reads a selector of series alone, as in `match[]`, and returns its matchers.
pub fn parse_selector(input: &str) -> Result<Vec<model::Matcher>, ParseError> {
    let expr = parse(input, &Features::default())?;
    let plain = |s: &crate::ast::VectorSelector| s.at.is_none() && s.offset == crate::ast::DurationExpr::Literal(0);
    match expr.node {
        Node::VectorSelector(selector) if plain(&selector) => Ok(selector.matchers),
        _ => Err(ParseError::new(input, expr.span, "expected a series selector")),
    }
}

pub(crate) struct Parser<'a> {
    input: &'a str,
    tokens: &'a [Token],
    at: usize,
    features: &'a Features,
    depth: usize,
    /// The next selector says which labels, and may match every series.
    labels_only: bool,
}

impl<'a> Parser<'a> {
    fn whole(&mut self) -> Parsed<Expr> {
        if self.peek().kind == TokenKind::End {
            return Err((self.peek().span, "no expression found in input".to_owned()));
        }
        let (expr, _) = self.expression(0)?;
        match self.peek().kind {
            TokenKind::End => Ok(expr),
            _ => Err(self.unexpected("")),
        }
    }

    /// Prometheus names a bracket that is never closed before anything else at the end of the text.
    fn unclosed(&self) -> Option<Failure> {
        if self.peek().kind != TokenKind::End {
            return None;
        }
        let mut open = Vec::new();
        for token in self.tokens {
            match token.kind {
                TokenKind::Symbol(s @ ("(" | "{" | "[")) => open.push(s),
                TokenKind::Symbol(")" | "}" | "]") => drop(open.pop()),
                _ => {}
            }
        }
        let message = match *open.last()? {
            "(" => "unclosed left parenthesis",
            "{" => "unexpected end of input inside braces",
            _ => "unclosed left bracket",
        };
        Some((self.peek().span, message.to_owned()))
    }

    /// An expression whose operators bind stronger than `least`, and the depth of its tree.
    fn expression(&mut self, least: u8) -> Parsed<(Expr, usize)> {
        self.deeper()?;
        let (mut left, mut depth) = self.unary()?;
        while let Some(op) = self.binary_op() {
            let strength = strength(op);
            if strength <= least {
                break;
            }
            let place = self.next().span;
            let (return_bool, matching) = self.modifiers(op)?;
            // Only the power groups from the right.
            let (right, right_depth) = self.expression(if op == BinaryOp::Pow { strength - 1 } else { strength })?;
            depth = depth.max(right_depth) + 1;
            if depth > DEPTH_MAX {
                return Err(self.too_deep());
            }
            let span = Span { start: left.span.start, end: right.span.end };
            let binary = Binary { op, left: Box::new(left), right: Box::new(right), return_bool, matching };
            left = Expr { node: check::binary(binary, place)?, span };
        }
        self.depth -= 1;
        Ok((left, depth))
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err((self.peek().span, format!("expression is nested deeper than {NESTING_MAX} levels")));
        }
        Ok(())
    }

    fn too_deep(&self) -> Failure {
        (self.peek().span, format!("expression is nested deeper than {DEPTH_MAX} levels"))
    }

    fn unary(&mut self) -> Parsed<(Expr, usize)> {
        let negative = match self.peek().kind {
            TokenKind::Symbol("-") => true,
            TokenKind::Symbol("+") => false,
            _ => return self.postfix(),
        };
        let start = self.next().span.start;
        // Binds like a multiplication: only the power is stronger.
        let (expr, depth) = self.expression(strength(BinaryOp::Mul))?;
        let span = Span { start, end: expr.span.end };
        let kind = expr.value_type();
        if !matches!(kind, ValueType::Scalar | ValueType::InstantVector) {
            let message = format!(
                "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                kind.name()
            );
            return Err((span, message));
        }
        let node = match expr.node {
            Node::Number(n) => Node::Number(if negative { n.negated() } else { n }),
            node => Node::Unary(Unary { negative, expr: Box::new(Expr { node, span: expr.span }) }),
        };
        Ok((Expr { node, span }, depth + 1))
    }

    fn postfix(&mut self) -> Parsed<(Expr, usize)> {
        let (mut expr, mut depth) = self.primary()?;
        loop {
            let again = match self.peek().kind {
                TokenKind::Symbol("[") => self.range(expr)?,
                TokenKind::Symbol("@") => self.at_modifier(expr)?,
                TokenKind::Word if self.is_word("offset") => self.offset(expr)?,
                TokenKind::Word if self.is_word("anchored") || self.is_word("smoothed") => self.mode(expr)?,
                _ => return Ok((expr, depth)),
            };
            expr = again;
            depth += 1;
            if depth > DEPTH_MAX {
                return Err(self.too_deep());
            }
        }
    }

    fn primary(&mut self) -> Parsed<(Expr, usize)> {
        let token = self.peek().clone();
        let leaf = |node| Ok((Expr { node, span: token.span }, 1));
        match &token.kind {
            TokenKind::Number(n) => {
                self.next();
                leaf(Node::Number(Number { value: *n, is_duration: false }))
            }
            TokenKind::Duration(ms) => {
                self.next();
                leaf(Node::Number(Number { value: *ms as f64 / 1000.0, is_duration: true }))
            }
            TokenKind::String(text) => {
                self.next();
                leaf(Node::String(text.clone()))
            }
            TokenKind::Symbol("(") => {
                self.next();
                let (inner, depth) = self.expression(0)?;
                let end = self.expect(")", "in paren expression")?.end;
                Ok((
                    Expr { node: Node::Paren(Box::new(inner)), span: Span { start: token.span.start, end } },
                    depth + 1,
                ))
            }
            TokenKind::Symbol("{") => Ok((self.selector(None)?, 1)),
            TokenKind::Word => self.word(),
            _ => Err(self.unexpected("")),
        }
    }

    /// A number, an aggregation, a call, or a selector.
    fn word(&mut self) -> Parsed<(Expr, usize)> {
        let token = self.peek().clone();
        let text = self.text(token.span);
        let opens = self.opens();
        let lower = text.to_ascii_lowercase();
        if let Some(op) = aggregate_op(&lower) {
            let follows = opens
                || self
                    .tokens
                    .get(self.at + 1)
                    .is_some_and(|t| matches!(self.text(t.span).to_ascii_lowercase().as_str(), "by" | "without"));
            if follows {
                self.next();
                return self.aggregate(op, token.span);
            }
        }
        if opens && !text.contains(':') {
            self.next();
            return self.call(text, token.span);
        }
        match lower.as_str() {
            "inf" | "nan" => {
                self.next();
                let value = if lower == "inf" { f64::INFINITY } else { f64::NAN };
                Ok((Expr { node: Node::Number(Number { value, is_duration: false }), span: token.span }, 1))
            }
            "and" | "or" | "unless" | "atan2" => Err(self.unexpected("")),
            _ => Ok((self.selector(Some(token.span))?, 1)),
        }
    }

    fn aggregate(&mut self, op: AggregateOp, start: Span) -> Parsed<(Expr, usize)> {
        if op.is_experimental() && !self.features.experimental_functions {
            let name = self.text(start);
            let hint = "is experimental and must be enabled with --enable-feature=promql-experimental-functions";
            return Err((start, format!("{name}() {hint}")));
        }
        let mut grouping = self.grouping()?;
        let open = self.expect("(", "in aggregation")?;
        let (mut args, depth) = self.arguments(false)?;
        let mut end = self.before().end;
        if grouping.is_none() {
            grouping = self.grouping()?;
            end = self.before().end;
        }
        let (without, grouping) = grouping.unwrap_or_default();
        let span = Span { start: start.start, end };
        let wanted = if check::parameter_type(op).is_some() { 2 } else { 1 };
        if args.is_empty() {
            return Err((Span { start: open.start, end }, "no arguments for aggregate expression provided".to_owned()));
        }
        if args.len() != wanted {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                args.len()
            );
            return Err((span, message));
        }
        let expr = args.pop().map(Box::new).ok_or_else(|| self.unexpected(""))?;
        let param = args.pop().map(Box::new);
        let aggregate = Aggregate { op, expr, param, without, grouping };
        Ok((Expr { node: check::aggregate(aggregate)?, span }, depth + 1))
    }

    /// `by (a, b)` or `without (a, b)`: whether it is `without`, and the labels.
    fn grouping(&mut self) -> Parsed<Option<(bool, Vec<String>)>> {
        let without = self.is_word("without");
        if !without && !self.is_word("by") {
            return Ok(None);
        }
        self.next();
        Ok(Some((without, self.labels()?)))
    }

    /// Label names in parentheses.
    fn labels(&mut self) -> Parsed<Vec<String>> {
        self.expect("(", "in grouping opts")?;
        let mut labels = Vec::new();
        while !self.take(")") {
            let token = self.next().clone();
            match token.kind {
                TokenKind::Word if !self.text(token.span).contains(':') => {
                    labels.push(self.text(token.span).to_owned())
                }
                TokenKind::String(name) if !name.is_empty() => labels.push(name),
                TokenKind::String(_) => return Err((token.span, "invalid label name for grouping: \"\"".to_owned())),
                _ => {
                    self.at -= 1;
                    return Err(self.unexpected("in grouping opts, expected label"));
                }
            }
            if !self.take(",") && !matches!(self.peek().kind, TokenKind::Symbol(")")) {
                return Err(self.unexpected("in grouping opts, expected \",\" or \")\""));
            }
        }
        Ok(labels)
    }

    fn call(&mut self, name: &str, start: Span) -> Parsed<(Expr, usize)> {
        let Some(function) = functions::lookup(name) else {
            return Err((start, format!("unknown function with name {name:?}")));
        };
        if function.experimental && !self.features.experimental_functions {
            let hint = "is not enabled: it is experimental and must be enabled with --enable-feature=promql-experimental-functions";
            return Err((start, format!("function {name:?} {hint}")));
        }
        self.expect("(", "in function call")?;
        let (args, depth) = self.arguments(name == "info")?;
        let span = Span { start: start.start, end: self.before().end };
        Ok((Expr { node: check::call(Call { function, args }, span)?, span }, depth + 1))
    }

    /// Expressions up to the closing parenthesis, which is taken, and the largest depth. With `labels_second` the second one is a selector of labels.
    fn arguments(&mut self, labels_second: bool) -> Parsed<(Vec<Expr>, usize)> {
        let (mut args, mut depth) = (Vec::new(), 0);
        while !self.take(")") {
            self.labels_only = labels_second && args.len() == 1 && self.peek().kind == TokenKind::Symbol("{");
            let (arg, own) = self.expression(0)?;
            args.push(arg);
            depth = depth.max(own);
            if self.take(",") {
                if matches!(self.peek().kind, TokenKind::Symbol(")")) {
                    return Err((self.before(), "trailing commas not allowed in function call args".to_owned()));
                }
            } else if !matches!(self.peek().kind, TokenKind::Symbol(")")) {
                return Err(self.unexpected("in function call args, expected \",\" or \")\""));
            }
        }
        Ok((args, depth))
    }

    fn peek(&self) -> &'a Token {
        // The last token is the end, and is never taken.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> &'a Token {
        let token = self.peek();
        if token.kind != TokenKind::End {
            self.at += 1;
        }
        token
    }

    /// The place of the token that was taken last.
    fn before(&self) -> Span {
        self.tokens[self.at.saturating_sub(1)].span
    }

    fn text(&self, span: Span) -> &'a str {
        &self.input[span.start..span.end]
    }

    fn is_word(&self, word: &str) -> bool {
        let token = self.peek();
        token.kind == TokenKind::Word && self.text(token.span).eq_ignore_ascii_case(word)
    }

    /// Whether a parenthesis follows the next token.
    fn opens(&self) -> bool {
        matches!(self.tokens.get(self.at + 1).map(|t| &t.kind), Some(TokenKind::Symbol("(")))
    }

    fn take(&mut self, symbol: &str) -> bool {
        let taken = matches!(self.peek().kind, TokenKind::Symbol(s) if s == symbol);
        if taken {
            self.at += 1;
        }
        taken
    }

    fn expect(&mut self, symbol: &str, context: &str) -> Parsed<Span> {
        if self.take(symbol) {
            Ok(self.before())
        } else {
            Err(self.unexpected(&format!("{context}, expected {symbol:?}")))
        }
    }

    /// The next token does not fit; `context` says where and what would.
    fn unexpected(&self, context: &str) -> Failure {
        let token = self.peek();
        let text = self.text(token.span);
        let what = match &token.kind {
            TokenKind::End => "end of input".to_owned(),
            TokenKind::Word if self.binary_op().is_some() => format!("<op:{}>", text.to_ascii_lowercase()),
            TokenKind::Word => format!("identifier {text:?}"),
            TokenKind::Number(_) => format!("number {text:?}"),
            TokenKind::Duration(_) => format!("duration {text:?}"),
            TokenKind::String(_) => format!("string {text}"),
            TokenKind::Symbol(_) if self.binary_op().is_some() => format!("<op:{text}>"),
            TokenKind::Symbol(s) => format!("{s:?}"),
        };
        let space = if context.is_empty() || context.starts_with(',') { "" } else { " " };
        (token.span, format!("unexpected {what}{space}{context}"))
    }
}

fn aggregate_op(name: &str) -> Option<AggregateOp> {
    Some(match name {
        "sum" => AggregateOp::Sum,
        "avg" => AggregateOp::Avg,
        "min" => AggregateOp::Min,
        "max" => AggregateOp::Max,
        "group" => AggregateOp::Group,
        "stddev" => AggregateOp::Stddev,
        "stdvar" => AggregateOp::Stdvar,
        "count" => AggregateOp::Count,
        "count_values" => AggregateOp::CountValues,
        "bottomk" => AggregateOp::BottomK,
        "topk" => AggregateOp::TopK,
        "quantile" => AggregateOp::Quantile,
        "limitk" => AggregateOp::LimitK,
        "limit_ratio" => AggregateOp::LimitRatio,
        _ => return None,
    })
}
