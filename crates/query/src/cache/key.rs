//! What tells queries apart whose steps are the same, and what a step reads.

use std::sync::Arc;

use model::{MatchOp, TimeRange};
use promql::ast::{AggregateOp, At, Expr, Node};
use promql::selectors;

use super::steps::Steps;
use crate::evaluate::Times;

/// Functions whose value at a step depends on other steps, or on series that the selectors do not name.
const NOT_ALONE: [&str; 5] = ["start", "end", "range", "step", "info"];

/// Aggregations that pick some of the series.
const PICKS: [AggregateOp; 4] = [AggregateOp::TopK, AggregateOp::BottomK, AggregateOp::LimitK, AggregateOp::LimitRatio];

/// Queries of one key have the same value at the same step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// As it came, since what is said of it names places in it.
    text: Arc<str>,
    step_ms: i64,
    /// Of the first step within the length of a step.
    phase_ms: i64,
    lookback_ms: i64,
}

impl Key {
    pub(super) fn new(text: &str, times: Times, steps: Steps) -> Key {
        let phase_ms = steps.first_ms.rem_euclid(steps.step_ms);
        Key { text: text.into(), step_ms: steps.step_ms, phase_ms, lookback_ms: times.lookback_ms }
    }

    /// Memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Key>() + self.text.len()
    }
}

/// What a step reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reads {
    /// Of the metrics, each once or more often.
    pub(super) names: Vec<String>,
    /// How far before the step its oldest sample may be, and its newest, in milliseconds.
    pub(super) back_ms: i64,
    pub(super) until_ms: i64,
}

impl Reads {
    /// `None` where the value at a step is not of the samples before it alone, or where it is not known which metrics they are of.
    pub(super) fn of(expr: &Expr, lookback_ms: i64) -> Option<Reads> {
        // Series whose labels differ in bytes that are no UTF-8 are not told apart any more.
        if !is_of_steps_alone(expr) || promql::has_bytes(expr) {
            return None;
        }
        let mut reads = Reads { names: Vec::new(), back_ms: i64::MIN, until_ms: i64::MAX };
        for selector in selectors(expr) {
            let is_name = |m: &&model::Matcher| m.name == "__name__" && m.op == MatchOp::Equal && !m.value.is_empty();
            let name = selector.matchers.iter().find(is_name)?;
            if selector.is_fixed || selector.is_extended {
                return None;
            }
            reads.names.push(name.value.clone());
            let lookback = if selector.is_range { 0 } else { lookback_ms };
            reads.back_ms = reads.back_ms.max(selector.reach_ms?.saturating_add(lookback));
            reads.until_ms = reads.until_ms.min(selector.until_ms?);
        }
        (!reads.names.is_empty()).then_some(reads)
    }

    /// What some steps read.
    pub(super) fn range(&self, steps: Steps) -> TimeRange {
        let start_ms = steps.first_ms.saturating_sub(self.back_ms);
        TimeRange { start_ms, end_ms: steps.last_ms.saturating_sub(self.until_ms).max(start_ms) }
    }
}

fn is_of_steps_alone(expr: &Expr) -> bool {
    let bound = |at: Option<At>| at.is_some();
    let mut is_alone = true;
    expr.walk(&mut |part| {
        is_alone &= match &part.node {
            Node::VectorSelector(selector) => !bound(selector.at),
            Node::MatrixSelector(matrix) => !bound(matrix.selector.at),
            Node::Call(call) => !NOT_ALONE.contains(&call.function.name),
            // Of series that tie those that come first are taken, which are others where there are other ones.
            Node::Aggregate(aggregate) => !PICKS.contains(&aggregate.op),
            // Whether two series that are one without their names meet is looked at over all steps.
            Node::Subquery(subquery) => !bound(subquery.at) && selectors(&subquery.expr).len() == 1,
            _ => true,
        };
    });
    is_alone
}

#[cfg(test)]
mod tests {
    use promql::Features;

    use super::*;

    fn reads(text: &str) -> Option<(Vec<String>, i64, i64)> {
        let expr = promql::parse(text, &Features::all()).expect("valid");
        Reads::of(&expr, 300_000).map(|reads| (reads.names, reads.back_ms / 1000, reads.until_ms / 1000))
    }

    #[test]
    fn what_a_step_reads_is_from_the_oldest_sample_to_the_newest() {
        let found = |names: &[&str], back, until| Some((names.iter().map(|n| (*n).to_owned()).collect(), back, until));
        assert_eq!(reads("a"), found(&["a"], 300, 0));
        assert_eq!(reads("rate(a[1m]) / b offset 10m"), found(&["a", "b"], 900, 0));
        assert_eq!(reads("sum(rate(a[1h] offset -5m))"), found(&["a"], 3300, -300));
        assert_eq!(reads("max_over_time(a[1h:1m] offset 1h)"), found(&["a"], 7500, 3600));
        assert_eq!(reads(r#"sum by (x) ({__name__="a", x=~"y.*"}) or vector(0)"#), found(&["a"], 300, 0));
    }

    #[test]
    fn what_looks_at_other_steps_or_at_unknown_metrics_is_not_kept() {
        for text in [
            "1",
            "time()",
            r#"{__name__=~"a.*"}"#,
            r#"{job="x"}"#,
            "a @ 5",
            "rate(a[5m] @ end())",
            "max_over_time(a[1h:1m] @ start())",
            "limitk(3, a)",
            "topk(3, a)",
            "sum(bottomk(3, a))",
            "rate((a or b)[5m:1m])",
            "info(a)",
            "a + range()",
            "rate(a[step()])",
            "rate(a[5m] anchored)",
            "rate(a[5m] smoothed)",
            "a offset (range() / 2)",
        ] {
            assert_eq!(reads(text), None, "{text}");
        }
    }
}
