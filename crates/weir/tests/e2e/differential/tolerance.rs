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

/// How much numbers of an expression may differ.
pub(super) fn of(expr: &Expr) -> f64 {
    let mut is_free = false;
    expr.walk(&mut |part| is_free |= has_free_bits(part));
    if is_free { RELATIVE } else { 0.0 }
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
    for text in ["rate(sum(a)[5m:1m])", "abs(exp(a))", "a ^ 2", "a atan2 b", "topk(1, avg by (x) (a))", "a </ 2"] {
        check(text, RELATIVE);
    }
}
