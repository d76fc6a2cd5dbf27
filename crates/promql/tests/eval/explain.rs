//! What is told of how an expression is evaluated, and of what its parts took.

use std::sync::Mutex;
use std::time::Duration;

use model::{
    Aspect, Columns, Labels, LabelsRequest, Listing, Metadata, Outline, OutlineRequest, SelectRequest, Series,
    SeriesData, SeriesSet, SeriesSource, SourceError, TimeRange,
};
use promql::{Explanation, Params};

use crate::run;
use crate::source::{Counting, Memory};

/// Two series of `x` with 61 samples each, a minute apart, and one of `y`.
fn source() -> Memory {
    let mut source = Memory::default();
    for (name, instance) in [("x", "a"), ("x", "b"), ("y", "a")] {
        let columns = source.series.entry(Labels::new(&[("__name__", name), ("instance", instance)]).expect("labels"));
        let columns = columns.or_default();
        (0..=60).for_each(|n| columns.push(n * 60_000, n as f64));
    }
    source
}

/// An hour in steps of ten minutes.
fn hour() -> Params {
    run::params(0, 3_600_000, 600_000)
}

fn instant() -> Params {
    run::params(3_600_000, 3_600_000, 0)
}

fn explain(query: &str, params: &Params) -> Explanation {
    let expr = promql::parse(query, &params.features).expect("parses");
    promql::explain(query, &expr, params).expect("is evaluated")
}

/// Analyzes with a clock that shows a millisecond more each time.
fn analyze(query: &str, params: &Params, source: &dyn SeriesSource) -> (promql::Evaluation, Explanation) {
    let expr = promql::parse(query, &params.features).expect("parses");
    let now = Mutex::new(0);
    let clock = || {
        let mut now = now.lock().expect("no panic");
        *now += 1;
        Duration::from_millis(*now)
    };
    let (evaluation, explanation) = promql::analyze(query, &expr, params, source, &clock).expect("is evaluated");
    let plain = run::evaluate(source, query, params).expect("is evaluated");
    assert_eq!(evaluation, plain, "{query}: it is the same answer");
    (evaluation, explanation)
}

/// The parts, each a line, indented: text, kind, steps, strategy.
fn lines(explanation: &Explanation) -> Vec<String> {
    fn add(one: &Explanation, depth: usize, out: &mut Vec<String>) {
        let indent = "  ".repeat(depth);
        out.push(format!("{indent}{} ({}, {}) {}", one.node, one.kind, one.steps, one.strategy));
        one.children.iter().for_each(|child| add(child, depth + 1, out));
    }
    let mut out = Vec::new();
    add(explanation, 0, &mut out);
    out
}

fn check(query: &str, params: &Params, expect: &[&str]) {
    assert_eq!(lines(&explain(query, params)), expect, "{query}");
}

#[test]
fn a_plan_says_what_the_evaluator_does_for_each_part() {
    check(
        "sum by (instance) (rate(x[5m])) / 2 > (pi())",
        &hour(),
        &[
            "sum by (instance) (rate(x[5m])) / 2 > (pi()) (binaryExpr, 7) in place",
            "  sum by (instance) (rate(x[5m])) / 2 (binaryExpr, 7) in place",
            "    sum by (instance) (rate(x[5m])) (aggregation, 7) groups in parallel, each series after series",
            "      rate(x[5m]) (call, 7) windows slide over each series as it is read, series in parallel",
            "        x[5m] (matrixSelector, 7) one request for the whole range; all samples",
            "    2 (numberLiteral, 1) constant",
            "  pi() (call, 1) constant",
        ],
    );
    check(
        "x and on (instance) topk(1, y @ 0)",
        &hour(),
        &[
            "x and on (instance) topk(1, y @ 0) (binaryExpr, 7) series matched once by a hash of their labels; kept at the steps at which the other side has, or lacks, a value",
            "  x (vectorSelector, 7) one request for the whole range; newest sample at each step, series in parallel",
            "  topk(1, y @ 0) (aggregation, 1) once for all steps: series of a group ranked at each step, groups one after the other",
            "    1 (numberLiteral, 1) constant",
            "    y @ 0 (vectorSelector, 1) one request for the whole range; newest sample at each step, series in parallel",
        ],
    );
}

#[test]
fn parts_are_in_the_order_of_the_text() {
    for query in
        ["predict_linear(x[5m], 60)", "quantile_over_time(0.5, x[5m])", "topk(1, x)", "label_join(x, 'a', '', 'b')"]
    {
        let explanation = explain(query, &hour());
        let mut rest = query;
        for child in &explanation.children {
            rest = rest.split_once(child.node.as_str()).unwrap_or_else(|| panic!("{query}: {}", child.node)).1;
        }
        assert_eq!(rest, ")", "{query}");
    }
}

#[test]
fn a_plan_tells_where_what_is_known_of_chunks_is_enough() {
    let mut params = hour();
    params.features.use_start_timestamps = false;
    for (function, expect) in [
        ("max_over_time(x[1h])", "what is known of chunks where it is enough (maximum), else their samples"),
        ("rate(x[1h])", "what is known of chunks where it is enough (falls of a counter), else their samples"),
        ("rate(x[1h] anchored)", "all samples, and those around the range"),
        ("stddev_over_time(x[1h])", "all samples"),
    ] {
        let explanation = explain(function, &params);
        assert_eq!(
            explanation.children[0].strategy,
            format!("one request for the whole range; {expect}"),
            "{function}"
        );
    }
    params.features.use_start_timestamps = true;
    assert_eq!(explain("rate(x[1h])", &params).children[0].strategy, "one request for the whole range; all samples");
}

#[test]
fn a_subquery_has_steps_of_its_own() {
    check(
        "max_over_time(sum(x)[30m:5m])",
        &hour(),
        &[
            "max_over_time(sum(x)[30m:5m]) (call, 7) windows slide over the values of the subquery, series after series",
            "  sum(x)[30m:5m] (subquery, 7) inner expression at multiples of 5m",
            // From -25m to 1h.
            "    sum(x) (aggregation, 18) groups in parallel, each series after series",
            "      x (vectorSelector, 18) one request for the whole range; newest sample at each step, series in parallel",
        ],
    );
    let params = run::params(90_000, 90_000, 0);
    check(
        "sum_over_time(x[10s:1m])",
        &params,
        &[
            "sum_over_time(x[10s:1m]) (call, 1) windows slide over the values of the subquery, series after series",
            "  x[10s:1m] (subquery, 1) no multiple of 1m is in the range",
            "    x (vectorSelector, 0) not evaluated",
        ],
    );
}

#[test]
fn long_texts_are_cut() {
    let query = vec!["é"; 200].join("");
    let explanation = explain(&format!("{{job=\"{query}\"}}"), &hour());
    assert!(explanation.node.ends_with("é…") && explanation.node.len() < 170, "{}", explanation.node);
}

#[test]
fn an_analysis_tells_what_each_part_took() {
    let source = source();
    let (evaluation, root) = analyze("sum(rate(x[10m])) + 1", &hour(), &source);
    let took = |one: &Explanation| one.measured.expect("was evaluated");
    let (sum, one) = (&root.children[0], &root.children[1]);
    let rate = &sum.children[0];
    let x = &rate.children[0];
    // Two looks at the clock for each part, in turn: `x`, `rate`, `sum`, `1`, all of it.
    assert_eq!([x, rate, sum, one, &root].map(|part| took(part).wall.as_millis()), [1, 3, 5, 1, 9]);
    assert_eq!([x, rate, sum, one, &root].map(|part| took(part).own_wall.as_millis()), [1, 2, 2, 1, 3]);
    assert_eq!([x, rate, sum, one, &root].map(|part| took(part).series), [2, 2, 1, 1, 1]);
    assert_eq!([x, rate, sum, one, &root].map(|part| took(part).series_found), [2, 2, 2, 0, 2]);
    let samples = evaluation.stats.samples_read;
    assert!(samples > 100);
    assert_eq!([x, rate, sum, one, &root].map(|part| took(part).samples_read), [samples, samples, samples, 0, samples]);
    // `x` is read in a task, and there is one group.
    assert_eq!([x, rate, sum, one, &root].map(|part| took(part).parallel_tasks), [1, 0, 1, 0, 0]);
    // Two series of seven steps, and one.
    assert!(took(rate).memory_bytes >= 2 * 7 * 8, "{:?}", took(rate));
    assert!((7 * 8..took(rate).memory_bytes).contains(&took(sum).memory_bytes), "{:?}", took(sum));
}

#[test]
fn an_analysis_tells_whether_the_index_has_counted() {
    let source = source();
    let plan = explain("count(x)", &instant());
    assert_eq!(plan.strategy, "counted by the index where it can tell, else groups in parallel");
    assert!(plan.children[0].strategy.starts_with("read only where the index cannot count it: one request"));
    let (_, counted) = analyze("count(x)", &instant(), &Counting(&source));
    assert_eq!(counted.strategy, "counted by the index, no series is read");
    assert_eq!(counted.children[0].strategy, "not read: the index counted it");
    assert_eq!(counted.children[0].measured, None);
    assert_eq!(counted.measured.map(|took| (took.series, took.series_found, took.samples_read)), Some((1, 2, 0)));
    let (_, read) = analyze("count(x)", &instant(), &source);
    assert_eq!(read.strategy, "the index could not tell: groups in parallel, each series after series");
    assert!(read.children[0].measured.is_some());
    // Of a range it is never asked.
    let (_, range) = analyze("count(x)", &hour(), &Counting(&source));
    assert_eq!(range.strategy, "groups in parallel, each series after series");
}

#[test]
fn what_a_function_reads_itself_is_told_of_its_selector() {
    let (_, root) = analyze("timestamp(x)", &hour(), &source());
    let selector = &root.children[0];
    assert!(selector.strategy.contains("times of the newest samples"), "{}", selector.strategy);
    assert_eq!(selector.measured.map(|took| took.series), Some(2));
    let (_, root) = analyze("max_over_time(sum(x)[30m:10m])", &hour(), &source());
    let subquery = &root.children[0];
    assert_eq!(subquery.measured.map(|took| took.series), Some(1));
    assert_eq!(subquery.children[0].measured.map(|took| took.series), Some(1));
    let (_, root) = analyze("x[10m]", &instant(), &source());
    assert_eq!(root.measured.map(|took| (took.series, took.samples_read)), Some((2, 20)));
}

/// Series of which the highest sample stands for all in one range.
struct Highest(Memory);

struct Data(Box<dyn SeriesData>);

impl SeriesData for Data {
    fn read(&self, range: TimeRange, out: &mut Columns) -> Result<(), SourceError> {
        self.0.read(range, out)
    }

    fn outline(&self, request: &OutlineRequest<'_>, out: &mut Outline) -> Result<(), SourceError> {
        assert_eq!(request.aspect, Aspect::Max);
        let mut all = Columns::default();
        self.0.read(request.range, &mut all)?;
        let (Some(t), Some(v)) = (all.t.last(), all.v.last()) else { return Ok(()) };
        out.columns.push(*t, *v);
        out.left_out.push(all.len() as u64 - 1);
        Ok(())
    }
}

impl SeriesSource for Highest {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        let mut set = self.0.select(request)?;
        // One of them has to be decoded.
        let outlined = set.series.pop().map(|one| Series { labels: one.labels, data: Box::new(Data(one.data)) });
        set.series.extend(outlined);
        Ok(set)
    }

    fn label_names(&self, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.0.label_names(request)
    }

    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.0.label_values(name, request)
    }

    fn metadata(&self, family: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        self.0.metadata(family)
    }
}

#[test]
fn an_analysis_tells_of_how_many_series_samples_were_not_decoded() {
    let (evaluation, root) = analyze("max_over_time(x[30m])", &instant(), &Highest(source()));
    let selector = root.children[0].measured.expect("was read");
    assert_eq!((selector.series, selector.series_outlined, selector.samples_read), (2, 1, 31));
    assert_eq!(evaluation.stats.samples_read, 31);
}

#[test]
fn whoever_holds_what_cancels_it_sees_how_much_was_read() {
    let params = hour();
    let evaluation = run::evaluate(&source(), "sum(x) + sum(rate(y[10m]))", &params).expect("is evaluated");
    assert!(evaluation.stats.samples_read > 0);
    assert_eq!(params.cancel.samples_read(), evaluation.stats.samples_read);
}

#[test]
fn a_part_that_stands_in_the_text_twice_is_evaluated_once() {
    let source = source();
    let once = analyze("sum(max_over_time(x[10m]))", &hour(), &source).0.stats.samples_read;
    let (evaluation, tree) = analyze("sum(max_over_time(x[10m])) - sum(max_over_time(x[10m]))", &hour(), &source);
    assert_eq!(evaluation.stats.samples_read, once);
    assert!(
        tree.children.iter().all(|child| child.strategy.starts_with("once for all parts of this text: ")),
        "{tree:?}"
    );
    let read: Vec<u64> = tree.children.iter().map(|child| child.measured.expect("evaluated").samples_read).collect();
    assert_eq!(read, [once, 0]);
    let promql::Value::Matrix(series) = &evaluation.value else { panic!("{evaluation:?}") };
    assert!(series[0].1.v.iter().all(|v| *v == 0.0) && series[0].1.len() == 7, "{series:?}");
    // A note has the place of the last part that raised it, so each has to.
    let (evaluation, _) = analyze("rate(x[10m]) - rate(x[10m])", &hour(), &source);
    assert_eq!(evaluation.infos.len(), 1);
    assert!(evaluation.infos[0].ends_with("\"x\" (1:21)"), "{:?}", evaluation.infos);
}

#[test]
fn functions_of_the_same_selector_read_it_once() {
    let source = source();
    let read = |query: &str, params: &Params| analyze(query, params, &source).0.stats.samples_read;
    let once = read("stddev_over_time(x[10m])", &hour());
    let (evaluation, tree) = analyze("max_over_time(x[10m]) - min_over_time(x[10m])", &hour(), &source);
    assert_eq!(evaluation.stats.samples_read, once);
    let strategies: Vec<&str> = tree.children.iter().map(|child| child.children[0].strategy.as_str()).collect();
    let text = "one request for the whole range, for another function too; all samples";
    assert_eq!(strategies, [text, text]);
    let promql::Value::Matrix(series) = &evaluation.value else { panic!("{evaluation:?}") };
    assert!(series.len() == 2 && series[0].1.v == [0.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0], "{series:?}");
    // Windows need not be as long as each other, nor all be asked for what they are.
    let longest = read("stddev_over_time(x[30m])", &hour());
    assert_eq!(read("sum(max_over_time(x[10m])) + sum(avg_over_time(x[30m])) + max(delta(x[5m]))", &hour()), longest);
    let within = "max_over_time((max_over_time(x[10m]) - min_over_time(x[10m]))[30m:5m])";
    assert_eq!(read(within, &hour()), read("max_over_time(max_over_time(x[10m])[30m:5m])", &hour()));
    // Where there is no room for their values each reads by itself.
    let mut narrow = hour();
    narrow.samples_max = 16 * 13;
    assert_eq!(read("max_over_time(x[10m]) - min_over_time(x[10m])", &narrow), 2 * once);
    narrow.samples_max = 16 * 14;
    assert_eq!(read("max_over_time(x[10m]) - min_over_time(x[10m])", &narrow), once);
}

#[test]
fn notes_of_functions_that_are_evaluated_together_have_the_last_place() {
    for query in [
        // The first and the third are evaluated together, before the second.
        "rate(x[10m]) + rate(x{instance=\"a\"}[10m]) + increase(x[10m])",
        // The third has its value from the first, and the fourth not from the third.
        "rate(x[10m]) + rate(x{instance=\"a\"}[10m]) + increase(x[10m]) - increase(x[10m])",
        "increase(x[10m]) + rate(x[10m]) + rate(x{instance=\"a\"}[10m])",
    ] {
        let (evaluation, _) = analyze(query, &hour(), &source());
        let place = format!("\"x\" (1:{})", query.rfind('x').expect("there") + 1);
        assert!(evaluation.infos.len() == 1 && evaluation.infos[0].ends_with(&place), "{:?}", evaluation.infos);
    }
}
