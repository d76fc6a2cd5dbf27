//! From tokens to a tree, checked for types: operator precedence climbing, one token of look-ahead.
//!
//! The error texts are those of Prometheus where a program or a person may know them. Bounds: the length of the text and the depth of the tree,
//! so that neither this nor any walk over the tree can exhaust a stack. Time is linear in the length.

mod check;
mod durations;
mod metric;
mod operators;
mod selector;
#[cfg(test)]
mod tests;
mod words;

use crate::ast::{Aggregate, AggregateOp, Binary, BinaryOp, Call, Expr, Node, Number, Span, Unary};
use crate::functions;
use crate::lexer::{Token, TokenKind, tokens};
use crate::printer::quote;
use crate::{Features, ParseError, raw};
pub(crate) use durations::SECONDS_MAX;
pub(crate) use metric::metric;
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
    let tokens = tokens(input, features.unquoted_utf8_names);
    let mut expr = Parser::new(input, &tokens, features).whole().map_err(located)?;
    // Types are for a text that has the form of an expression, as in Prometheus.
    check::check(&mut expr, input).map_err(located)?;
    Ok(expr)
}

/// Reads a selector of series alone, as in `match[]`, and returns its matchers.
pub fn parse_selector(input: &str, features: &Features) -> Result<Vec<model::Matcher>, ParseError> {
    let expr = parse(input, features)?;
    let plain = |s: &crate::ast::VectorSelector| s.at.is_none() && s.offset == crate::ast::DurationExpr::ZERO;
    match expr.node {
        Node::VectorSelector(selector) if plain(&selector) => Ok(selector.matchers),
        _ => Err(ParseError::new(input, expr.span, "expected a series selector")),
    }
}

/// As [`parse_selector`], with the words of Prometheus' API for what is wrong with a parameter `match[]`. One that every series meets is refused, as a
/// question that is hardly meant.
pub fn parse_match(input: &str, features: &Features) -> Result<Vec<model::Matcher>, String> {
    parse_selector(input, features).map_err(|e| {
        let reason = e.to_string();
        // The same fault has other words in a query.
        match reason.contains("must contain at least one non-empty matcher") {
            true => "match[] must contain at least one non-empty matcher".to_owned(),
            false => reason,
        }
    })
}

pub(crate) struct Parser<'a> {
    input: &'a str,
    tokens: &'a [Token],
    at: usize,
    features: &'a Features,
    depth: usize,
    /// What is being read, innermost last, as an error says it that nothing else is known of.
    contexts: Vec<&'static str>,
}

impl<'a> Parser<'a> {
    pub(crate) fn new(input: &'a str, tokens: &'a [Token], features: &'a Features) -> Self {
        Parser { input, tokens, at: 0, features, depth: 0, contexts: Vec::new() }
    }

    fn whole(&mut self) -> Parsed<Expr> {
        if self.peek().kind == TokenKind::End {
            return Err((Span::default(), "no expression found in input".to_owned()));
        }
        let (expr, _) = self.expression(0)?;
        match self.peek().kind {
            TokenKind::End => Ok(expr),
            _ => Err(self.unexpected()),
        }
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
            self.next();
            let (return_bool, matching) = self.modifiers(op)?;
            // Only the power groups from the right.
            let (right, right_depth) = self.expression(if op == BinaryOp::Pow { strength - 1 } else { strength })?;
            depth = depth.max(right_depth) + 1;
            if depth > DEPTH_MAX {
                return Err(self.too_deep());
            }
            let span = Span { start: left.span.start, end: right.span.end };
            let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
            if fills && !self.features.binop_fill_modifiers {
                return Err((span, "binop fill modifiers are experimental and not enabled".to_owned()));
            }
            let binary = Binary { op, left: Box::new(left), right: Box::new(right), return_bool, matching };
            left = Expr { node: Node::Binary(binary), span };
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
        let token = self.peek();
        let leaf = |node| Ok((Expr { node, span: token.span }, 1));
        if let Some(number) = self.number()? {
            return leaf(Node::Number(number));
        }
        match &token.kind {
            TokenKind::String(text) => {
                self.next();
                leaf(Node::String(text.clone()))
            }
            TokenKind::Symbol("(") => {
                self.next();
                let (inner, depth) = self.expression(0)?;
                let end = self.expect(")")?.end;
                let span = Span { start: token.span.start, end };
                Ok((Expr { node: Node::Paren(Box::new(inner)), span }, depth + 1))
            }
            TokenKind::Symbol("{") => Ok((self.selector(None)?, 1)),
            TokenKind::Word => self.word(),
            _ => Err(self.unexpected()),
        }
    }

    /// A number or a duration without a sign, if one is next.
    fn number(&mut self) -> Parsed<Option<Number>> {
        let token = self.peek();
        let (value, is_duration) = match &token.kind {
            TokenKind::Number(Ok(value)) => (*value, false),
            // As Go makes a number of one, to the last bit.
            TokenKind::Duration(Ok(ms)) => ((ms / 1000) as f64 + (ms % 1000 * 1_000_000) as f64 / 1e9, true),
            TokenKind::Number(Err(why)) | TokenKind::Duration(Err(why)) => return Err((token.span, why.clone())),
            TokenKind::Word => match words::constant(self.text(token.span)) {
                Some(value) => (value, false),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        self.next();
        Ok(Some(Number { value, is_duration }))
    }

    /// An aggregation, a call, or a selector.
    fn word(&mut self) -> Parsed<(Expr, usize)> {
        let span = self.peek().span;
        let text = self.text(span);
        let opens = self.opens();
        if let Some(op) = aggregate_op(&text.to_ascii_lowercase()) {
            let follows = self.tokens.get(self.at + 1).map_or("", |token| self.text(token.span));
            if opens || ["by", "without"].iter().any(|word| follows.eq_ignore_ascii_case(word)) {
                self.next();
                return self.aggregate(op, span);
            }
        }
        if opens && (words::may_be_function(text) || (words::is_fill(text) && !self.is_fill())) {
            self.next();
            return self.call(text, span);
        }
        if !words::may_be_metric(text) {
            return Err(self.unexpected());
        }
        Ok((self.selector(Some(span))?, 1))
    }

    fn aggregate(&mut self, op: AggregateOp, start: Span) -> Parsed<(Expr, usize)> {
        self.contexts.push(" in aggregation");
        let mut grouping = self.grouping()?;
        self.expect("(")?;
        let (mut args, depth) = self.arguments()?;
        if grouping.is_none() {
            if matches!(self.peek().kind, TokenKind::Error(_)) {
                return Err(self.unexpected());
            }
            grouping = self.grouping()?;
        }
        self.contexts.pop();
        let (without, grouping) = grouping.unwrap_or_default();
        let span = Span { start: start.start, end: self.before().end };
        if args.is_empty() {
            return Err((span, "no arguments for aggregate expression provided".to_owned()));
        }
        if op.is_experimental() && !self.features.experimental_functions {
            let name = op.as_str();
            let hint = "is experimental and must be enabled with --enable-feature=promql-experimental-functions";
            return Err((span, format!("{name}() {hint}")));
        }
        let wanted = if check::parameter_type(op).is_some() { 2 } else { 1 };
        if args.len() != wanted {
            let text = "wrong number of arguments for aggregate expression provided";
            return Err((span, format!("{text}, expected {wanted}, got {}", args.len())));
        }
        let expr = args.pop().map(Box::new).ok_or_else(|| self.unexpected())?;
        let param = args.pop().map(Box::new);
        let aggregate = Aggregate { op, expr, param, without, grouping, utf8_names: self.features.unquoted_utf8_names };
        Ok((Expr { node: Node::Aggregate(aggregate), span }, depth + 1))
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
        if !self.take("(") {
            return Err(self.unexpected_in(" in grouping opts, expected \"(\""));
        }
        let mut labels = Vec::new();
        while !self.take(")") {
            let token = self.peek();
            let text = self.text(token.span);
            match &token.kind {
                // A colon is let pass as ever, but not by who asked for the new names.
                TokenKind::Word if self.features.unquoted_utf8_names && text.contains(':') => {
                    return Err((token.span, format!("invalid label name for grouping: {}", quote(text))));
                }
                TokenKind::Word if words::may_be_label(text) => labels.push(text.to_owned()),
                TokenKind::String(name) if name.is_empty() || raw::is_in(name) => {
                    return Err((token.span, format!("invalid label name for grouping: {}", quote(name))));
                }
                TokenKind::String(name) => labels.push(name.clone()),
                _ => return Err(self.unexpected_in(" in grouping opts, expected label")),
            }
            self.next();
            if !self.take(",") && !matches!(self.peek().kind, TokenKind::Symbol(")")) {
                return Err(self.unexpected_in(" in grouping opts, expected \",\" or \")\""));
            }
        }
        Ok(labels)
    }

    fn call(&mut self, name: &str, start: Span) -> Parsed<(Expr, usize)> {
        self.expect("(")?;
        let (args, depth) = self.arguments()?;
        let Some(function) = functions::lookup(name) else {
            return Err((start, format!("unknown function with name {}", quote(name))));
        };
        if function.experimental && !self.features.experimental_functions {
            let hint = "is not enabled: it is experimental and must be enabled with --enable-feature=promql-experimental-functions";
            return Err((start, format!("function {name:?} {hint}")));
        }
        let span = Span { start: start.start, end: self.before().end };
        Ok((Expr { node: Node::Call(Call { function, args }), span }, depth + 1))
    }

    /// Expressions up to the closing parenthesis, which is taken, and the largest depth.
    fn arguments(&mut self) -> Parsed<(Vec<Expr>, usize)> {
        let (mut args, mut depth) = (Vec::new(), 0);
        if self.take(")") {
            return Ok((args, depth));
        }
        loop {
            let (arg, own) = self.expression(0)?;
            args.push(arg);
            depth = depth.max(own);
            if self.take(")") {
                return Ok((args, depth));
            }
            let comma = self.expect(",")?;
            if !self.begins_expression() {
                let trailing = (comma, "trailing commas not allowed in function call args".to_owned());
                return Err(if matches!(self.peek().kind, TokenKind::Error(_)) { self.unexpected() } else { trailing });
            }
        }
    }

    fn begins_expression(&self) -> bool {
        let token = self.peek();
        match &token.kind {
            TokenKind::Number(_) | TokenKind::Duration(_) | TokenKind::String(_) => true,
            TokenKind::Symbol(symbol) => ["(", "{", "+", "-"].contains(symbol),
            TokenKind::Word => {
                let text = self.text(token.span);
                words::may_be_metric(text) || words::constant(text).is_some()
            }
            TokenKind::Name | TokenKind::End | TokenKind::Error(_) => false,
        }
    }

    fn peek(&self) -> &'a Token {
        crate::work::add(1);
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

    /// Whether a word that is next and may be `fill` is one: a parenthesis follows it, with nothing but blanks between.
    fn is_fill(&self) -> bool {
        let behind = &self.input[self.peek().span.end..];
        let next = behind.trim_start_matches([' ', '\t', '\n', '\r']);
        crate::work::add(behind.len() - next.len());
        next.starts_with('(')
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

    fn expect(&mut self, symbol: &str) -> Parsed<Span> {
        if self.take(symbol) { Ok(self.before()) } else { Err(self.unexpected()) }
    }

    /// The next token does not fit into what is being read.
    fn unexpected(&self) -> Failure {
        self.unexpected_in(self.contexts.last().copied().unwrap_or(""))
    }

    /// The next token does not fit; `context` says where and what would.
    fn unexpected_in(&self, context: &str) -> Failure {
        let token = self.peek();
        match &token.kind {
            TokenKind::Error(message) => (token.span, message.clone()),
            kind => {
                let text = self.text(token.span);
                let is_name = words::is_fill(text) && !self.is_fill();
                let kind = if is_name { &TokenKind::Name } else { kind };
                (token.span, format!("unexpected {}{context}", words::describe(kind, text)))
            }
        }
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
