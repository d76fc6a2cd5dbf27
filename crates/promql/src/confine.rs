//! Adds matchers to every selector of an expression, so that it can see no other series.

use std::collections::BTreeMap;

use model::{MatchOp, Matcher};

use crate::ast::{Expr, Node, Span, VectorSelector};

/// Adds `name="value"` to every selector for each entry of `labels`, and returns the selectors that already have another matcher for one
/// of the names, with that name: what they ask for lies outside.
pub fn confine(expr: &mut Expr, labels: &BTreeMap<String, String>) -> Vec<(Span, String)> {
    let mut refused = Vec::new();
    walk(expr, labels, &mut refused);
    refused
}

fn walk(expr: &mut Expr, labels: &BTreeMap<String, String>, refused: &mut Vec<(Span, String)>) {
    let span = expr.span;
    match &mut expr.node {
        Node::Number(_) | Node::String(_) => {}
        Node::VectorSelector(selector) => one(selector, span, labels, refused),
        Node::MatrixSelector(matrix) => one(&mut matrix.selector, span, labels, refused),
        Node::Subquery(subquery) => walk(&mut subquery.expr, labels, refused),
        Node::Unary(unary) => walk(&mut unary.expr, labels, refused),
        Node::Paren(inner) => walk(inner, labels, refused),
        Node::Binary(binary) => {
            walk(&mut binary.left, labels, refused);
            walk(&mut binary.right, labels, refused);
        }
        Node::Aggregate(aggregate) => {
            aggregate.param.iter_mut().for_each(|param| walk(param, labels, refused));
            walk(&mut aggregate.expr, labels, refused);
        }
        Node::Call(call) => call.args.iter_mut().for_each(|arg| walk(arg, labels, refused)),
    }
}

fn one(
    selector: &mut VectorSelector,
    span: Span,
    labels: &BTreeMap<String, String>,
    refused: &mut Vec<(Span, String)>,
) {
    for (name, value) in labels {
        let same = |m: &Matcher| m.op == MatchOp::Equal && m.value == *value;
        if selector.matchers.iter().any(|m| m.name == *name && !same(m)) {
            refused.push((span, name.clone()));
        } else if !selector.matchers.iter().any(|m| m.name == *name) {
            selector.matchers.push(Matcher::equal(name, value));
        }
    }
}
