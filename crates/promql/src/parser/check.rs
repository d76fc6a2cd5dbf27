//! Types, as soon as a node is whole.

use super::Parsed;
use crate::ast::{Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, Expr, Node, Span, ValueType};

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

fn expect(expr: &Expr, wanted: ValueType, context: &str) -> Parsed<()> {
    let kind = expr.value_type();
    if kind == wanted {
        return Ok(());
    }
    Err((expr.span, format!("expected type {} in {context}, got {}", wanted.name(), kind.name())))
}

pub(super) fn aggregate(aggregate: Aggregate) -> Parsed<Node> {
    expect(&aggregate.expr, ValueType::InstantVector, "aggregation expression")?;
    if let (Some(wanted), Some(param)) = (parameter_type(aggregate.op), &aggregate.param) {
        expect(param, wanted, "aggregation parameter")?;
    }
    Ok(Node::Aggregate(aggregate))
}

pub(super) fn call(call: Call, span: Span) -> Parsed<Node> {
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
    for (n, arg) in call.args.iter().enumerate() {
        // The last type holds for all that follow.
        let Some(wanted) = function.args.get(n.min(most.saturating_sub(1))) else { break };
        expect(arg, *wanted, &format!("call to function {:?}", function.name))?;
    }
    if function.name == "info"
        && let Some(second) = call.args.get(1)
        && !matches!(second.node, Node::VectorSelector(_))
    {
        return Err((second.span, "expected label selectors only".to_owned()));
    }
    Ok(Node::Call(call))
}

/// `place` is that of the operator.
pub(super) fn binary(mut binary: Binary, place: Span) -> Parsed<Node> {
    let (left, right) = (binary.left.value_type(), binary.right.value_type());
    for (expr, kind) in [(&binary.left, left), (&binary.right, right)] {
        if !matches!(kind, ValueType::Scalar | ValueType::InstantVector) {
            return Err((expr.span, "binary expression must contain only scalar and instant vector types".to_owned()));
        }
    }
    let scalars = left == ValueType::Scalar && right == ValueType::Scalar;
    let vectors = left == ValueType::InstantVector && right == ValueType::InstantVector;
    let set = matches!(binary.op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless);
    if scalars && binary.op.is_comparison() && !binary.return_bool {
        return Err((place, "comparisons between scalars must use BOOL modifier".to_owned()));
    }
    if set && !vectors {
        return Err((place, format!("set operator {:?} not allowed in binary scalar expression", binary.op.as_str())));
    }
    if !vectors {
        let matching = &binary.matching;
        if matching.on || !matching.labels.is_empty() || matching.cardinality != Cardinality::OneToOne {
            return Err((place, "vector matching only allowed between instant vectors".to_owned()));
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return Err((place, "filling in missing series only allowed between instant vectors".to_owned()));
        }
        binary.matching = Default::default();
    }
    Ok(Node::Binary(binary))
}
