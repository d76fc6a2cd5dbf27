//! The canonical text of an expression, as Prometheus prints it. Parsing it gives the same tree.

use std::fmt;

use model::time::format_duration_ms;
use model::{METRIC_NAME, MatchOp, labels::is_legacy_label_name, labels::is_legacy_metric_name};

use crate::ast::{
    Aggregate, At, Binary, BinaryOp, Cardinality, DurationExpr, DurationNode, DurationOp, Expr, Node, RangeMode,
    VectorMatching, VectorSelector,
};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Number(n) => f.write_str(&number(*n)),
            Node::String(text) => f.write_str(&quote(text)),
            Node::VectorSelector(selector) => write!(f, "{}{}", Head(selector), Tail::of(selector)),
            Node::MatrixSelector(m) => {
                write!(f, "{}[{}]{}", Head(&m.selector), Duration(&m.range), Tail::of(&m.selector))
            }
            Node::Subquery(s) => {
                write!(f, "{}[{}:", s.expr, Duration(&s.range))?;
                if let Some(step) = &s.step {
                    write!(f, "{}", Duration(step))?;
                }
                write!(f, "]{}", Tail { at: s.at, offset: &s.offset, mode: RangeMode::Normal })
            }
            Node::Unary(unary) => write!(f, "{}{}", if unary.negative { '-' } else { '+' }, unary.expr),
            Node::Paren(inner) => write!(f, "({inner})"),
            Node::Binary(binary) => write_binary(f, binary),
            Node::Aggregate(aggregate) => write_aggregate(f, aggregate),
            Node::Call(call) => {
                write!(f, "{}(", call.function.name)?;
                for (n, arg) in call.args.iter().enumerate() {
                    write!(f, "{}{arg}", if n == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
        }
    }
}

fn write_binary(f: &mut fmt::Formatter<'_>, binary: &Binary) -> fmt::Result {
    write!(f, "{} {}{}", binary.left, binary.op.as_str(), if binary.return_bool { " bool" } else { "" })?;
    write_matching(f, binary.op, &binary.matching)?;
    write!(f, " {}", binary.right)
}

fn write_matching(f: &mut fmt::Formatter<'_>, op: BinaryOp, matching: &VectorMatching) -> fmt::Result {
    let group = match matching.cardinality {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if matching.on || !matching.labels.is_empty() || group.is_some() {
        let word = if matching.on { "on" } else { "ignoring" };
        write!(f, " {word} ({})", labels(&matching.labels))?;
    }
    if let Some(group) = group {
        write!(f, " {group} ({})", labels(&matching.include))?;
    }
    match (matching.fill_left, matching.fill_right) {
        (Some(l), Some(r)) if l.to_bits() == r.to_bits() => write!(f, " fill ({})", number(l))?,
        (left, right) => {
            if let Some(left) = left {
                write!(f, " fill_left ({})", number(left))?;
            }
            if let Some(right) = right {
                write!(f, " fill_right ({})", number(right))?;
            }
        }
    }
    let _ = op;
    Ok(())
}

fn write_aggregate(f: &mut fmt::Formatter<'_>, aggregate: &Aggregate) -> fmt::Result {
    f.write_str(aggregate.op.as_str())?;
    if aggregate.without {
        write!(f, " without ({}) ", labels(&aggregate.grouping))?;
    } else if !aggregate.grouping.is_empty() {
        write!(f, " by ({}) ", labels(&aggregate.grouping))?;
    }
    f.write_str("(")?;
    if let Some(param) = &aggregate.param {
        write!(f, "{param}, ")?;
    }
    write!(f, "{})", aggregate.expr)
}

fn labels(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|n| if is_legacy_label_name(n) { n.clone() } else { quote(n) }).collect();
    names.join(", ")
}

/// A selector without its modifiers.
struct Head<'a>(&'a VectorSelector);

impl fmt::Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.name.as_deref();
        let outside = name.filter(|n| is_legacy_metric_name(n));
        let mut inside: Vec<String> = Vec::new();
        inside.extend(name.filter(|_| outside.is_none()).map(quote));
        let of_name =
            |m: &model::Matcher| m.name == METRIC_NAME && m.op == MatchOp::Equal && Some(m.value.as_str()) == name;
        for m in self.0.matchers.iter().filter(|m| !of_name(m)) {
            let label = if is_legacy_label_name(&m.name) { m.name.clone() } else { quote(&m.name) };
            inside.push(format!("{label}{}{}", m.op.as_str(), quote(&m.value)));
        }
        f.write_str(outside.unwrap_or(""))?;
        if inside.is_empty() && outside.is_some() { Ok(()) } else { write!(f, "{{{}}}", inside.join(",")) }
    }
}

/// What stands behind a selector or a subquery.
struct Tail<'a> {
    at: Option<At>,
    offset: &'a DurationExpr,
    mode: RangeMode,
}

impl<'a> Tail<'a> {
    fn of(selector: &'a VectorSelector) -> Self {
        Tail { at: selector.at, offset: &selector.offset, mode: selector.mode }
    }
}

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mode {
            RangeMode::Normal => {}
            RangeMode::Anchored => f.write_str(" anchored")?,
            RangeMode::Smoothed => f.write_str(" smoothed")?,
        }
        match self.at {
            None => {}
            Some(At::Start) => f.write_str(" @ start()")?,
            Some(At::End) => f.write_str(" @ end()")?,
            Some(At::Time(ms)) => {
                let sign = if ms < 0 { "-" } else { "" };
                write!(f, " @ {sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)?;
            }
        }
        if *self.offset != DurationExpr::Literal(0) { write!(f, " offset {}", Duration(self.offset)) } else { Ok(()) }
    }
}

struct Duration<'a>(&'a DurationExpr);

impl fmt::Display for Duration<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DurationExpr::Literal(ms) => f.write_str(&format_duration_ms(*ms)),
            // In parentheses, so that behind `offset` it stays one.
            DurationExpr::Computed(node) => write_duration(f, node),
        }
    }
}

fn write_duration(f: &mut fmt::Formatter<'_>, node: &DurationNode) -> fmt::Result {
    match &node.op {
        DurationOp::Seconds(s) => f.write_str(&number(*s)),
        DurationOp::Step => f.write_str("step()"),
        DurationOp::Range => f.write_str("range()"),
        DurationOp::Sign(negative, inner) => {
            f.write_str(if *negative { "-" } else { "+" })?;
            write_duration(f, inner)
        }
        DurationOp::Arithmetic(op, a, b) => {
            f.write_str("(")?;
            write_duration(f, a)?;
            write!(f, " {} ", op.as_str())?;
            write_duration(f, b)?;
            f.write_str(")")
        }
        DurationOp::Min(a, b) | DurationOp::Max(a, b) => {
            f.write_str(if matches!(node.op, DurationOp::Min(..)) { "min_of(" } else { "max_of(" })?;
            write_duration(f, a)?;
            f.write_str(", ")?;
            write_duration(f, b)?;
            f.write_str(")")
        }
    }
}

/// A number as Go prints it with the fewest digits.
fn number(n: f64) -> String {
    if n.is_nan() {
        return "NaN".to_owned();
    }
    if n.is_infinite() {
        return if n > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let magnitude = n.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{n:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    format!("{n}")
}

/// A string in double quotes, as Go quotes it.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
