//! Which series an expression reads, and how far back.

use model::Matcher;
use promql::ast::{Expr, Node, RangeMode, VectorSelector};

/// A selector of an expression.
#[derive(Debug, Clone)]
pub(crate) struct Need {
    pub(crate) matchers: Vec<Matcher>,
    /// How far before the time of evaluation it looks, in milliseconds; `None` where that cannot be told, as with `@`.
    pub(crate) back_ms: Option<i64>,
}

/// The selectors of an expression. `lookback_ms` is that of an instant selector.
pub(crate) fn needs(expr: &Expr, lookback_ms: i64) -> Vec<Need> {
    let mut walk = Walk { lookback_ms, found: Vec::new() };
    walk.expr(expr, Some(0));
    walk.found
}

struct Walk {
    lookback_ms: i64,
    found: Vec<Need>,
}

impl Walk {
    /// `around_ms`: how far back the subqueries around the expression look.
    fn expr(&mut self, expr: &Expr, around_ms: Option<i64>) {
        match &expr.node {
            Node::Number(_) | Node::String(_) => {}
            Node::VectorSelector(selector) => self.selector(selector, around_ms, Some(0)),
            Node::MatrixSelector(matrix) => self.selector(&matrix.selector, around_ms, matrix.range.literal_ms()),
            Node::Subquery(subquery) => {
                let own =
                    subquery.range.literal_ms().zip(subquery.offset.literal_ms()).filter(|_| subquery.at.is_none());
                let around = around_ms.zip(own).and_then(|(a, (r, o))| a.checked_add(r)?.checked_add(o));
                self.expr(&subquery.expr, around);
            }
            Node::Unary(unary) => self.expr(&unary.expr, around_ms),
            Node::Binary(binary) => {
                self.expr(&binary.left, around_ms);
                self.expr(&binary.right, around_ms);
            }
            Node::Aggregate(aggregate) => {
                self.expr(&aggregate.expr, around_ms);
                if let Some(param) = &aggregate.param {
                    self.expr(param, around_ms);
                }
            }
            Node::Call(call) => call.args.iter().for_each(|arg| self.expr(arg, around_ms)),
            Node::Paren(inner) => self.expr(inner, around_ms),
        }
    }

    fn selector(&mut self, selector: &VectorSelector, around_ms: Option<i64>, range_ms: Option<i64>) {
        let more = match (range_ms, selector.mode) {
            // An instant selector, and those that look for the sample before their range.
            (Some(0), _) | (_, RangeMode::Anchored | RangeMode::Smoothed) => self.lookback_ms,
            (_, RangeMode::Normal) => 0,
        };
        let parts = [around_ms, range_ms, selector.offset.literal_ms(), Some(more)];
        let back = parts.into_iter().try_fold(0i64, |sum, part| sum.checked_add(part?));
        let back_ms = back.filter(|_| selector.at.is_none()).map(|ms| ms.max(0));
        self.found.push(Need { matchers: selector.matchers.clone(), back_ms });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_back_is_range_offset_and_subqueries_together() {
        let check = |text: &str, expect: &[Option<i64>]| {
            let expr = promql::parse(text, &promql::Features::default()).expect(text);
            let found: Vec<Option<i64>> = needs(&expr, 300_000).iter().map(|n| n.back_ms).collect();
            assert_eq!(found, expect, "{text}");
        };
        check("up", &[Some(300_000)]);
        check("vector(1)", &[]);
        check("rate(a[1m]) > on () b offset 10s", &[Some(60_000), Some(310_000)]);
        check("max_over_time(rate(a[1m])[1h:1m] offset 5m)", &[Some(60_000 + 3_600_000 + 300_000)]);
        check("a @ 10", &[None]);
        check("a offset -1h", &[Some(0)]);
        check("topk(scalar(k), sum by (x) (-(a)))", &[Some(300_000), Some(300_000)]);
    }
}
