//! Types, of a text that has the form of an expression, in the order in which Prometheus looks at them.

use std::collections::HashSet;

use super::Parsed;
use crate::ast::{Aggregate, AggregateOp, Binary, Call, Cardinality, Expr, Node, Span, ValueType, VectorSelector};
use crate::printer::quote;

/// The type of an aggregation's parameter.
pub(super) fn parameter_type(op: AggregateOp) -> Option<ValueType> {
    match op {
        AggregateOp::TopK
        | AggregateOp::BottomK
        | AggregateOp::Quantile
        | AggregateOp::LimitK
        | AggregateOp::LimitRatio => Some(ValueType::Scalar),
        AggregateOp::CountValues => Some(ValueType::String),
        _ => None,
    }
}

/// Checks an expression with all that is in it; its type. `input` is what it was read from.
pub(super) fn check(expr: &mut Expr, input: &str) -> Parsed<ValueType> {
    crate::work::add(1);
    let (span, kind) = (expr.span, expr.value_type());
    match &mut expr.node {
        Node::Number(_) | Node::String(_) => {}
        Node::VectorSelector(selector) => self::selector(selector, span)?,
        Node::MatrixSelector(matrix) => self::selector(&matrix.selector, matrix.selector_span)?,
        Node::Paren(inner) => drop(check(inner, input)?),
        Node::Subquery(subquery) => {
            let inner = check(&mut subquery.expr, input)?;
            if inner != ValueType::InstantVector {
                let name = inner.short_name();
                return Err((span, format!("subquery is only allowed on instant vector, got {name} instead")));
            }
        }
        Node::Unary(unary) => {
            let inner = check(&mut unary.expr, input)?;
            if !is_number(inner) {
                let text = "unary expression only allowed on expressions of type scalar or instant vector";
                return Err((span, format!("{text}, got {:?}", inner.name())));
            }
        }
        Node::Aggregate(aggregate) => self::aggregate(aggregate, input)?,
        Node::Call(call) => self::call(call, span, input)?,
        Node::Binary(binary) => self::binary(binary, span, input)?,
    }
    Ok(kind)
}

fn is_number(kind: ValueType) -> bool {
    matches!(kind, ValueType::Scalar | ValueType::InstantVector)
}

fn expect(expr: &mut Expr, wanted: ValueType, context: &str, input: &str) -> Parsed<()> {
    let kind = check(expr, input)?;
    if kind == wanted {
        return Ok(());
    }
    Err((expr.span, mismatch(wanted, context, kind)))
}

fn mismatch(wanted: ValueType, context: &str, kind: ValueType) -> String {
    format!("expected type {} in {context}, got {}", wanted.name(), kind.name())
}

fn selector(selector: &VectorSelector, span: Span) -> Parsed<()> {
    if let (Some(name), [braces @ .., _]) = (&selector.name, selector.matchers.as_slice()) {
        return match braces.iter().find(|matcher| matcher.name == model::METRIC_NAME) {
            Some(other) => {
                let (name, other) = (quote(name), quote(&other.value));
                Err((span, format!("metric name must not be set twice: {name} or {other}")))
            }
            None => Ok(()),
        };
    }
    if selector.matchers.iter().all(model::Matcher::matches_empty) {
        return Err((span, "vector selector must contain at least one non-empty matcher".to_owned()));
    }
    Ok(())
}

fn aggregate(aggregate: &mut Aggregate, input: &str) -> Parsed<()> {
    expect(&mut aggregate.expr, ValueType::InstantVector, "aggregation expression", input)?;
    match (parameter_type(aggregate.op), &mut aggregate.param) {
        (Some(wanted), Some(param)) => expect(param, wanted, "aggregation parameter", input),
        _ => Ok(()),
    }
}

fn call(call: &mut Call, span: Span, input: &str) -> Parsed<()> {
    let (function, given) = (call.function, call.args.len());
    let most = function.args.len();
    let least = most - function.optional.unwrap_or(1);
    let text = match function.optional {
        Some(0) if given != most => format!("expected {most} argument(s) in call to {:?}, got {given}", function.name),
        _ if given < least => {
            format!("expected at least {least} argument(s) in call to {:?}, got {given}", function.name)
        }
        Some(_) if given > most => {
            format!("expected at most {most} argument(s) in call to {:?}, got {given}", function.name)
        }
        _ => String::new(),
    };
    if !text.is_empty() {
        return Err((span, text));
    }
    let context = format!("call to function {:?}", function.name);
    let is_info = function.name == "info";
    if is_info && let Some(second) = call.args.get(1) {
        let kind = second.value_type();
        if kind != ValueType::InstantVector {
            return Err((span, mismatch(ValueType::InstantVector, &context, kind)));
        }
        match &second.node {
            Node::VectorSelector(selector) if selector.name.is_none() => {}
            Node::VectorSelector(_) => {
                return Err((second.span, "expected label selectors only, got vector selector instead".to_owned()));
            }
            _ => return Err((second.span, "expected label selectors only".to_owned())),
        }
    }
    for (n, arg) in call.args.iter_mut().enumerate() {
        // The last type holds for all that follow.
        let Some(wanted) = function.args.get(n.min(most.saturating_sub(1))) else { break };
        // Labels alone may match every series.
        if !(is_info && n == 1) {
            expect(arg, *wanted, &context, input)?;
        }
    }
    Ok(())
}

fn binary(binary: &mut Binary, span: Span, input: &str) -> Parsed<()> {
    let (left, right) = (check(&mut binary.left, input)?, check(&mut binary.right, input)?);
    let operator = operator(binary, input);
    if binary.return_bool && !binary.op.is_comparison() {
        return Err((operator, "bool modifier can only be used on comparison operators".to_owned()));
    }
    let scalars = left == ValueType::Scalar && right == ValueType::Scalar;
    if scalars && binary.op.is_comparison() && !binary.return_bool {
        return Err((operator, "comparisons between scalars must use BOOL modifier".to_owned()));
    }
    let matching = &binary.matching;
    // A set, since there may be ten thousand of both.
    let included: HashSet<&String> = matching.include.iter().filter(|_| matching.on).collect();
    if let Some(label) = matching.labels.iter().find(|label| included.contains(label)) {
        return Err((operator, format!("label {} must not occur in ON and GROUP clause at once", quote(label))));
    }
    for (expr, kind) in [(&binary.left, left), (&binary.right, right)] {
        if !is_number(kind) {
            return Err((expr.span, "binary expression must contain only scalar and instant vector types".to_owned()));
        }
    }
    let (set, name) = (binary.op.is_set(), binary.op.as_str());
    if left != ValueType::InstantVector || right != ValueType::InstantVector {
        if !matching.labels.is_empty() {
            return Err((span, "vector matching only allowed between instant vectors".to_owned()));
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return Err((span, "filling in missing series only allowed between instant vectors".to_owned()));
        }
        if set {
            return Err((span, format!("set operator {name:?} not allowed in binary scalar expression")));
        }
        binary.matching = Default::default();
    } else if set {
        if matching.cardinality != Cardinality::ManyToMany {
            return Err((span, format!("no grouping allowed for {name:?} operation")));
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return Err((span, "filling in missing series not allowed for set operators".to_owned()));
        }
    }
    Ok(())
}

/// What stands between both operands, without the blanks around it.
fn operator(binary: &Binary, input: &str) -> Span {
    let (start, end) = (binary.left.span.end, binary.right.span.start);
    let between = input.get(start..end).unwrap_or("");
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r');
    let start = start + between.len() - between.trim_start_matches(blank).len();
    Span { start, end: start.max(end - (between.len() - between.trim_end_matches(blank).len())) }
}
