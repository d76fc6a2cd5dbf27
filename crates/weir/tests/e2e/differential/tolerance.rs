//! How much numbers may differ from those of Prometheus: the same bits, but for sums over several series, whose order is free, and for what a library for
//! transcendental functions works out.

use promql::ast::{AggregateOp, BinaryOp, Expr, Node};

/// Of which the last bits are the library's: nothing but these, powers, `atan2`, and what is interpolated within exponential buckets.
const TRANSCENDENTAL: [&str; 22] = [
    "exp",
    "ln",
    "log2",
    "log10",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "histogram_quantile",
    "histogram_quantiles",
    "histogram_fraction",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_avg",
];

/// How much such numbers may differ, relative to the larger one.
pub(super) const RELATIVE: f64 = 1e-12;

/// The same where what is left of a difference is told, of numbers that are nearly the same.
const MAGNIFIED: f64 = 1e-6;

/// Functions over time that take differences.
const DIFFERENCES: [&str; 11] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "predict_linear",
    "double_exponential_smoothing",
    "stddev_over_time",
    "stdvar_over_time",
    "mad_over_time",
];

/// Functions that are steep somewhere, so that much comes of a last bit: an arc of what is nearly 1, a logarithm of it.
const STEEP: [&str; 7] = ["acos", "acosh", "asin", "atanh", "ln", "log2", "log10"];

/// How much numbers of an expression may differ.
pub(super) fn of(expr: &Expr) -> f64 {
    let mut most = 0.0f64;
    expr.walk(&mut |part| {
        let own = if has_free_bits(part) { RELATIVE } else { 0.0 };
        let magnified = match &part.node {
            Node::Call(call) if DIFFERENCES.contains(&call.function.name) || STEEP.contains(&call.function.name) => {
                call.args.iter().any(|arg| of(arg) > 0.0).then_some(MAGNIFIED)
            }
            _ => None,
        };
        most = most.max(magnified.unwrap_or(own));
    });
    most
}

/// Whether the last bits of what a part itself does are free.
fn has_free_bits(expr: &Expr) -> bool {
    match &expr.node {
        Node::Aggregate(aggregate) => {
            matches!(aggregate.op, AggregateOp::Sum | AggregateOp::Avg | AggregateOp::Stddev | AggregateOp::Stdvar)
        }
        // What of a bucket is left when it is trimmed is by a logarithm.
        Node::Binary(binary) => {
            matches!(binary.op, BinaryOp::Pow | BinaryOp::Atan2 | BinaryOp::TrimUpper | BinaryOp::TrimLower)
        }
        Node::Call(call) => TRANSCENDENTAL.contains(&call.function.name),
        _ => false,
    }
}

#[test]
fn only_what_an_expression_does_makes_its_bits_free() {
    let check = |text: &str, expect: f64| {
        let expr = promql::parse(text, &promql::Features::all()).expect(text);
        assert_eq!(of(&expr), expect, "{text}");
    };
    for text in
        ["rate(exp_total[5m])", "deriv(ln[5m])", "{a=\"sum\"} % 2", "max(a) - min(stddev_over_time(b[5m]))", "sqrt(a)"]
    {
        check(text, 0.0);
    }
    check("abs(rate(sum(a)[5m:1m]))", MAGNIFIED);
    check("max(idelta((a atan2 2)[5m:])) + 1", MAGNIFIED);
    check("acos(tanh(a))", MAGNIFIED);
    for text in [
        "max_over_time(sum(a)[5m:1m])",
        "abs(exp(a))",
        "ln(a)",
        "a ^ 2",
        "a atan2 b",
        "topk(1, avg by (x) (a))",
        "a </ 2",
    ] {
        check(text, RELATIVE);
    }
}
