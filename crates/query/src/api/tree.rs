//! `/api/v1/parse_query`: the tree of an expression, as Prometheus shows it to its user interface.

use promql::ast::{
    Aggregate, At, Binary, BinaryOp, Call, Cardinality, DurationExpr, DurationNode, DurationOp, Expr, Node, Number,
    RangeMode, ValueType, VectorSelector,
};
use promql::readable;
use serde_json::{Map, Value, json};

use crate::number::{EXACT_MAX, write_fixed};

/// The tree below an expression; [`Value::Null`] nowhere but where a part is absent.
pub(crate) fn tree(expr: &Expr) -> Value {
    match &expr.node {
        Node::Number(n) => json!({"type": "numberLiteral", "val": digits(n.value)}),
        Node::String(text) => json!({"type": "stringLiteral", "val": readable(text)}),
        Node::VectorSelector(s) => Value::Object(selector("vectorSelector", s)),
        Node::MatrixSelector(m) => {
            let mut out = selector("matrixSelector", &m.selector);
            out.extend(duration("range", Some(&m.range)));
            Value::Object(out)
        }
        Node::Subquery(s) => {
            let mut out = Map::from_iter([("type".to_owned(), json!("subquery")), ("expr".to_owned(), tree(&s.expr))]);
            out.extend(duration("range", Some(&s.range)));
            out.extend(duration("step", s.step.as_ref()));
            out.extend(duration("offset", Some(&s.offset)));
            out.extend(at(s.at));
            Value::Object(out)
        }
        Node::Unary(unary) => {
            json!({"type": "unaryExpr", "op": if unary.negative { "-" } else { "+" }, "expr": tree(&unary.expr)})
        }
        Node::Paren(inner) => json!({"type": "parenExpr", "expr": tree(inner)}),
        Node::Binary(b) => binary(b),
        Node::Aggregate(a) => aggregation(a),
        Node::Call(c) => call(c),
    }
}

fn selector(kind: &str, selector: &VectorSelector) -> Map<String, Value> {
    let matcher =
        |m: &model::Matcher| json!({"name": readable(&m.name), "type": m.op.as_str(), "value": readable(&m.value)});
    let matchers: Vec<Value> = selector.matchers.iter().map(matcher).collect();
    let mut out = Map::from_iter([
        ("type".to_owned(), json!(kind)),
        ("name".to_owned(), json!(selector.name.as_deref().unwrap_or(""))),
        ("matchers".to_owned(), json!(matchers)),
        ("anchored".to_owned(), json!(selector.mode == RangeMode::Anchored)),
        ("smoothed".to_owned(), json!(selector.mode == RangeMode::Smoothed)),
    ]);
    out.extend(duration("offset", Some(&selector.offset)));
    out.extend(at(selector.at));
    out
}

/// A duration under its name, in milliseconds, 0 where it is an expression; and the expression.
fn duration(name: &str, of: Option<&DurationExpr>) -> [(String, Value); 2] {
    let (ms, node) = match of {
        None => (0, Value::Null),
        Some(DurationExpr::Literal(ns)) => (ns / 1_000_000, Value::Null),
        Some(DurationExpr::Computed(node)) => (0, duration_tree(node)),
    };
    [(name.to_owned(), json!(ms)), (format!("{name}Expr"), node)]
}

fn duration_tree(node: &DurationNode) -> Value {
    let (op, lhs, rhs) = match &node.op {
        DurationOp::Seconds(n) if !node.in_parens => return duration_number(*n),
        // Prometheus keeps parentheses only of expressions, and makes one of a number.
        DurationOp::Seconds(n) => ("+", Value::Null, duration_number(*n)),
        DurationOp::Step => ("step", Value::Null, Value::Null),
        DurationOp::Range => ("range", Value::Null, Value::Null),
        DurationOp::Plus(inner) => ("+", Value::Null, duration_tree(inner)),
        DurationOp::Negated(inner) => ("-", Value::Null, duration_tree(inner)),
        DurationOp::Arithmetic(op, a, b) => (op.as_str(), duration_tree(a), duration_tree(b)),
        DurationOp::Min(a, b) => ("min_of", duration_tree(a), duration_tree(b)),
        DurationOp::Max(a, b) => ("max_of", duration_tree(a), duration_tree(b)),
    };
    json!({"type": "durationExpr", "op": op, "lhs": lhs, "rhs": rhs, "wrapped": node.in_parens})
}

fn duration_number(n: Number) -> Value {
    json!({"type": "numberLiteral", "val": digits(n.value), "duration": n.is_duration})
}

/// When a selector is evaluated, where that is said.
fn at(at: Option<At>) -> [(String, Value); 2] {
    let (timestamp, word) = match at {
        None => (Value::Null, Value::Null),
        Some(At::Time(ms)) => (json!(ms), Value::Null),
        Some(At::Start) => (Value::Null, json!("start")),
        Some(At::End) => (Value::Null, json!("end")),
    };
    [("timestamp".to_owned(), timestamp), ("startOrEnd".to_owned(), word)]
}

fn binary(binary: &Binary) -> Value {
    let matching = &binary.matching;
    let card = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    let are_vectors = [&binary.left, &binary.right].iter().all(|side| side.value_type() == ValueType::InstantVector);
    let matching = are_vectors.then(|| {
        json!({
            "card": card,
            "labels": matching.labels,
            "on": matching.on,
            "include": matching.include,
            "fillValues": {"lhs": fill(matching.fill_left), "rhs": fill(matching.fill_right)},
        })
    });
    json!({
        "type": "binaryExpr",
        "op": BinaryOp::as_str(binary.op),
        "lhs": tree(&binary.left),
        "rhs": tree(&binary.right),
        "matching": matching,
        "bool": binary.return_bool,
    })
}

/// A value that a missing side is given, without a fraction where it has none. What is no number in JSON is null.
fn fill(value: Option<f64>) -> Value {
    let whole = value.filter(|v| v.trunc() == *v && v.abs() < EXACT_MAX);
    whole.map_or_else(|| json!(value), |whole| json!(whole as i64))
}

fn aggregation(aggregate: &Aggregate) -> Value {
    json!({
        "type": "aggregation",
        "op": aggregate.op.as_str(),
        "expr": tree(&aggregate.expr),
        "param": aggregate.param.as_deref().map(tree),
        "grouping": aggregate.grouping,
        "without": aggregate.without,
    })
}

fn call(call: &Call) -> Value {
    let kind = |kind: ValueType| match kind {
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::InstantVector => "vector",
        ValueType::RangeVector => "matrix",
    };
    let function = call.function;
    // As Prometheus counts: how often the last argument may come, -1 for any number of times; 0 where all have to.
    let variadic = function.optional.map_or(-1, |optional| optional as i64);
    let types = &function.args[..function.args.len() - function.optional.map_or(0, |n| n.saturating_sub(1))];
    json!({
        "type": "call",
        "func": {
            "name": function.name,
            "argTypes": types.iter().map(|arg| kind(*arg)).collect::<Vec<_>>(),
            "variadic": variadic,
            "returnType": kind(function.returns),
        },
        "args": call.args.iter().map(tree).collect::<Vec<_>>(),
    })
}

/// A number without an exponent.
fn digits(value: f64) -> String {
    let mut out = Vec::new();
    write_fixed(&mut out, value);
    String::from_utf8_lossy(&out).into_owned()
}
