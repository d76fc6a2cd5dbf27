//! The canonical text of an expression, as Prometheus prints it, in one line or in as many as a reader needs. Parsing it gives the same tree.

use std::fmt::{self, Write as _};

use model::time::format_duration_ms;
use model::{METRIC_NAME, MatchOp};

use crate::ast::{
    Aggregate, At, Binary, Cardinality, DurationExpr, DurationNode, DurationOp, Expr, Node, Number, RangeMode,
    Subquery, VectorMatching, VectorSelector,
};
use crate::lexer::is_plain_name;

/// What takes more bytes than this is divided into lines.
const LINE_MAX: usize = 100;
const INDENT: &str = "  ";

impl Expr {
    /// The text in lines: an operand, argument or content of parentheses has one of its own where what it is part of takes more than 100 bytes.
    pub fn to_lines(&self) -> String {
        let mut out = String::new();
        lines(self, 0, &mut out);
        out
    }
}

/// Writes an expression that is so deep in others, with its indent.
fn lines(expr: &Expr, level: usize, out: &mut String) {
    let is_short = fits(expr);
    if let (Node::Subquery(subquery), false) = (&expr.node, is_short) {
        lines(&subquery.expr, level, out);
        out.push_str(&SubqueryTail(subquery).to_string());
        return;
    }
    // Of a binary operation the left operand begins it; and a subquery in one line has no indent in Prometheus.
    let begins_itself = matches!(expr.node, Node::Subquery(_)) || (matches!(expr.node, Node::Binary(_)) && !is_short);
    if !begins_itself {
        indent(level, out);
    }
    let inner = level + 1;
    match &expr.node {
        Node::Unary(unary) => {
            out.push(if unary.negative { '-' } else { '+' });
            let mut operand = String::new();
            lines(&unary.expr, level, &mut operand);
            out.push_str(operand.trim());
        }
        Node::Binary(binary) if !is_short => {
            lines(&binary.left, inner, out);
            out.push('\n');
            indent(level, out);
            out.push_str(&Operator(binary).to_string());
            out.push('\n');
            lines(&binary.right, inner, out);
        }
        Node::Aggregate(aggregate) if !is_short => {
            out.push_str(&Aggregation(aggregate).to_string());
            within(aggregate.param.as_deref().into_iter().chain([&*aggregate.expr]), level, out);
        }
        Node::Call(call) if !is_short => {
            out.push_str(call.function.name);
            within(&call.args, level, out);
        }
        Node::Paren(content) if !is_short => within([&**content], level, out),
        _ => out.push_str(&expr.to_string()),
    }
}

/// Writes what is in parentheses, each in lines of its own.
fn within<'a>(parts: impl IntoIterator<Item = &'a Expr>, level: usize, out: &mut String) {
    out.push('(');
    for (n, part) in parts.into_iter().enumerate() {
        out.push_str(if n == 0 { "\n" } else { ",\n" });
        lines(part, level + 1, out);
    }
    out.push('\n');
    indent(level, out);
    out.push(')');
}

fn indent(level: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(INDENT, level));
}

/// Whether the text of an expression fits into a line; it is not printed beyond that.
fn fits(expr: &Expr) -> bool {
    struct Room(usize);
    impl fmt::Write for Room {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    write!(Room(LINE_MAX), "{expr}").is_ok()
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Number(n) => write_number(f, *n),
            Node::String(text) => f.write_str(&quote(text)),
            Node::VectorSelector(s) => {
                write!(f, "{}{}{}{}", Head(s), Fixed(s.at), Mode(s.mode), Offset(&s.offset))
            }
            Node::MatrixSelector(m) => {
                let VectorSelector { mode, at, offset, .. } = &m.selector;
                let range = Duration(&m.range);
                write!(f, "{}[{range}]{}{}{}", Head(&m.selector), Mode(*mode), Fixed(*at), Offset(offset))
            }
            Node::Subquery(s) => {
                write!(f, "{}{}", s.expr, SubqueryTail(s))
            }
            Node::Unary(unary) => write!(f, "{}{}", if unary.negative { '-' } else { '+' }, unary.expr),
            Node::Paren(inner) => write!(f, "({inner})"),
            Node::Binary(binary) => write!(f, "{} {} {}", binary.left, Operator(binary), binary.right),
            Node::Aggregate(aggregate) => {
                write!(f, "{}(", Aggregation(aggregate))?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.expr)
            }
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

/// The range of a subquery and what stands behind it.
struct SubqueryTail<'a>(&'a Subquery);

impl fmt::Display for SubqueryTail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subquery { range, step, at, offset, .. } = self.0;
        write!(f, "[{}:", Duration(range))?;
        if let Some(step) = step {
            write!(f, "{}", Duration(step))?;
        }
        write!(f, "]{}{}", Fixed(*at), Offset(offset))
    }
}

/// What stands between two operands.
struct Operator<'a>(&'a Binary);

impl fmt::Display for Operator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        write_matching(f, &self.0.matching)
    }
}

fn write_matching(f: &mut fmt::Formatter<'_>, matching: &VectorMatching) -> fmt::Result {
    let group = match matching.cardinality {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if matching.on || !matching.labels.is_empty() || group.is_some() {
        let word = if matching.on { "on" } else { "ignoring" };
        write!(f, " {word} ({})", labels(&matching.labels, matching.utf8_names))?;
    }
    if let Some(group) = group {
        write!(f, " {group} ({})", labels(&matching.include, matching.utf8_names))?;
    }
    match (matching.fill_left, matching.fill_right) {
        (Some(l), Some(r)) if l == r => write!(f, " fill ({})", number(l))?,
        (left, right) => {
            if let Some(left) = left {
                write!(f, " fill_left ({})", number(left))?;
            }
            if let Some(right) = right {
                write!(f, " fill_right ({})", number(right))?;
            }
        }
    }
    Ok(())
}

/// An aggregation before its parentheses.
struct Aggregation<'a>(&'a Aggregate);

impl fmt::Display for Aggregation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.without {
            write!(f, " without ({}) ", labels(&self.0.grouping, self.0.utf8_names))?;
        } else if !self.0.grouping.is_empty() {
            write!(f, " by ({}) ", labels(&self.0.grouping, self.0.utf8_names))?;
        }
        Ok(())
    }
}

fn labels(names: &[String], utf8: bool) -> String {
    let names: Vec<String> = names.iter().map(|name| label(name, utf8)).collect();
    names.join(", ")
}

/// The name of a label, in quotes where it needs them.
fn label(name: &str, utf8: bool) -> String {
    if is_plain_name(name, utf8) { name.to_owned() } else { quote(name) }
}

/// A selector without its modifiers.
struct Head<'a>(&'a VectorSelector);

impl fmt::Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.name.as_deref();
        f.write_str(name.unwrap_or(""))?;
        let of_name =
            |m: &model::Matcher| m.name == METRIC_NAME && m.op == MatchOp::Equal && Some(m.value.as_str()) == name;
        let text =
            |m: &model::Matcher| format!("{}{}{}", label(&m.name, self.0.utf8_names), m.op.as_str(), quote(&m.value));
        let mut inside: Vec<String> = self.0.matchers.iter().filter(|m| !of_name(m)).map(text).collect();
        if name.is_some() && inside.is_empty() {
            return Ok(());
        }
        inside.sort_unstable();
        write!(f, "{{{}}}", inside.join(","))
    }
}

/// The time that a selector or a subquery is fixed at.
struct Fixed(Option<At>);

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(At::Start) => f.write_str(" @ start()"),
            Some(At::End) => f.write_str(" @ end()"),
            Some(At::Time(ms)) => {
                let sign = if ms < 0 { "-" } else { "" };
                write!(f, " @ {sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)
            }
        }
    }
}

struct Mode(RangeMode);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            RangeMode::Normal => "",
            RangeMode::Anchored => " anchored",
            RangeMode::Smoothed => " smoothed",
        })
    }
}

struct Offset<'a>(&'a DurationExpr);

impl fmt::Display for Offset<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DurationExpr::Literal(0) => Ok(()),
            // The least has no opposite, and Prometheus prints both signs of it.
            DurationExpr::Literal(ns) if *ns < 0 => {
                write!(f, " offset -{}", format_duration_ms(ns.wrapping_neg() / 1_000_000))
            }
            duration => write!(f, " offset {}", Duration(duration)),
        }
    }
}

struct Duration<'a>(&'a DurationExpr);

impl fmt::Display for Duration<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DurationExpr::Literal(ns) => f.write_str(&format_duration_ms(ns / 1_000_000)),
            DurationExpr::Computed(node) => write_duration(f, node),
        }
    }
}

fn write_duration(f: &mut fmt::Formatter<'_>, node: &DurationNode) -> fmt::Result {
    if node.in_parens {
        f.write_str("(")?;
    }
    match &node.op {
        DurationOp::Seconds(n) => write_number(f, *n)?,
        DurationOp::Step => f.write_str("step()")?,
        DurationOp::Range => f.write_str("range()")?,
        DurationOp::Plus(inner) => write_duration(f, inner)?,
        DurationOp::Negated(inner) => {
            f.write_str("-")?;
            write_duration(f, inner)?;
        }
        DurationOp::Arithmetic(op, a, b) => {
            write_duration(f, a)?;
            write!(f, " {} ", op.as_str())?;
            write_duration(f, b)?;
        }
        DurationOp::Min(a, b) | DurationOp::Max(a, b) => {
            f.write_str(if matches!(node.op, DurationOp::Min(..)) { "min_of(" } else { "max_of(" })?;
            write_duration(f, a)?;
            f.write_str(", ")?;
            write_duration(f, b)?;
            f.write_str(")")?;
        }
    }
    if node.in_parens { f.write_str(")") } else { Ok(()) }
}

fn write_number(f: &mut fmt::Formatter<'_>, n: Number) -> fmt::Result {
    if !n.is_duration {
        return f.write_str(&number(n.value));
    }
    let sign = if n.value < 0.0 { "-" } else { "" };
    // Prometheus cuts it to nanoseconds, and those to milliseconds: a literal may lose one so, which a range does not.
    let ns = (n.value.abs() * 1e9) as i64;
    write!(f, "{sign}{}", format_duration_ms(ns / 1_000_000))
}

/// A number with the fewest digits, without an exponent.
fn number(n: f64) -> String {
    match n {
        _ if n.is_nan() => "NaN".to_owned(),
        _ if n.is_infinite() => if n > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        _ => format!("{n}"),
    }
}

/// A string in double quotes, as Go quotes it.
pub fn quote(text: &str) -> String {
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
            c if let Some(byte) = crate::raw::byte(c) => out.push_str(&format!("\\x{byte:02x}")),
            c if c.is_ascii() || is_printable(c) => out.push(c),
            c if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// A character in single quotes, as Go quotes it.
pub(crate) fn character(c: char) -> String {
    match c {
        '"' => "'\"'".to_owned(),
        '\'' => "'\\''".to_owned(),
        c => format!("'{}'", quote(c.encode_utf8(&mut [0; 4])).trim_matches('"')),
    }
}

/// Whether a character is one that Go prints as it is: no control, format or private one, and no other space than ' '.
fn is_printable(c: char) -> bool {
    // A combining character is printable after another.
    let text: String = ['a', c].iter().collect();
    text.escape_debug().count() == 2
}
