//! Which series an expression reads, and how far from the time of evaluation.

use model::Matcher;

use crate::ast::{At, Expr, Node, RangeMode, VectorSelector};

/// A selector of an expression.
#[derive(Debug, Clone)]
pub struct Selector<'a> {
    /// All must hold.
    pub matchers: &'a [Matcher],
    /// How far before the time of evaluation it reads, in milliseconds: ranges, offsets and enclosing subqueries together, without the
    /// look-back of an instant selector. `None` where that is not known before the evaluation begins.
    pub reach_ms: Option<i64>,
    /// How far before the time of evaluation the newest sample is that it reads, in milliseconds: the offsets together; negative where it reads ahead.
    /// `None` where that is not known before the evaluation begins.
    pub until_ms: Option<i64>,
    /// Whether it reads more than its range: `anchored` and `smoothed` do.
    pub is_extended: bool,
    /// Whether it has a range of its own; an instant selector looks back on top of its reach.
    pub is_range: bool,
    /// Whether `@`, here or around, fixes the time that is read.
    pub is_fixed: bool,
}

/// Every selector of an expression, in the order of the text.
pub fn selectors(expr: &Expr) -> Vec<Selector<'_>> {
    let mut out = Vec::new();
    collect(expr, (Some(0), Some(0)), false, &mut out);
    out
}

fn add(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    Some(a?.saturating_add(b?))
}

/// `from` is how far before the time of evaluation the oldest and the newest time is at which the expression is evaluated.
fn collect<'a>(expr: &'a Expr, from: (Option<i64>, Option<i64>), fixed: bool, out: &mut Vec<Selector<'a>>) {
    let mut push = |selector: &'a VectorSelector, range: Option<Option<i64>>| {
        let reach = add(from.0, selector.offset.literal_ms());
        out.push(Selector {
            matchers: &selector.matchers,
            reach_ms: range.map_or(reach, |range| add(reach, range)),
            until_ms: add(from.1, selector.offset.literal_ms()),
            is_extended: selector.mode != RangeMode::Normal,
            is_range: range.is_some(),
            is_fixed: fixed || is_fixed(selector.at),
        });
    };
    match &expr.node {
        Node::Number(_) | Node::String(_) => {}
        Node::VectorSelector(selector) => push(selector, None),
        Node::MatrixSelector(matrix) => push(&matrix.selector, Some(matrix.range.literal_ms())),
        Node::Subquery(s) => {
            // The first step of a subquery is at most one step before its range begins to be aligned; steps are within the range.
            let oldest = add(from.0, add(s.range.literal_ms(), s.offset.literal_ms()));
            let from = (oldest, add(from.1, s.offset.literal_ms()));
            collect(&s.expr, from, fixed || is_fixed(s.at), out);
        }
        Node::Unary(unary) => collect(&unary.expr, from, fixed, out),
        Node::Paren(inner) => collect(inner, from, fixed, out),
        Node::Binary(binary) => {
            collect(&binary.left, from, fixed, out);
            collect(&binary.right, from, fixed, out);
        }
        Node::Aggregate(aggregate) => {
            aggregate.param.iter().for_each(|param| collect(param, from, fixed, out));
            collect(&aggregate.expr, from, fixed, out);
        }
        Node::Call(call) => call.args.iter().for_each(|arg| collect(arg, from, fixed, out)),
    }
}

fn is_fixed(at: Option<At>) -> bool {
    matches!(at, Some(At::Time(_)))
}

#[cfg(test)]
mod tests {
    use crate::{Features, parse, selectors};

    #[test]
    fn reach_adds_ranges_offsets_and_subqueries() {
        let text = "rate(a[5m] offset 1m) + max_over_time(b[1h:1m] offset 2m) + c @ 5 + sum(d offset -1m)";
        let expr = parse(text, &Features::default()).expect("valid");
        let found: Vec<_> = selectors(&expr)
            .iter()
            .map(|s| (s.matchers[0].value.clone(), s.reach_ms, s.until_ms, s.is_range, s.is_fixed))
            .collect();
        let minute = 60_000;
        let expect = [
            ("a".to_owned(), Some(6 * minute), Some(minute), true, false),
            ("b".to_owned(), Some(62 * minute), Some(2 * minute), false, false),
            ("c".to_owned(), Some(0), Some(0), false, true),
            ("d".to_owned(), Some(-minute), Some(-minute), false, false),
        ];
        assert_eq!(found, expect);
    }
}
