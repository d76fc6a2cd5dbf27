//! Queries drawn from the grammar, asked of Weir and of a real Prometheus that has the same samples: the answers must be the same. So must be what they make
//! of their texts, and of those of Prometheus' own tests.
//!
//! `WEIR_QUERIES=N` asks so many, and `WEIR_SEED=S` draws others. A query whose answers differ is cut down to its smallest part of which they still do.

#[path = "differential/draw.rs"]
mod draw;
#[path = "differential/mutate.rs"]
mod mutate;
#[path = "differential/samples.rs"]
mod samples;
#[path = "differential/starts.rs"]
mod starts;
#[path = "differential/stats.rs"]
mod stats;
#[path = "differential/syntax.rs"]
mod syntax;
#[path = "differential/tolerance.rs"]
mod tolerance;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use promql::ast::{AggregateOp, Expr, Node};
use serde_json::Value;

use crate::prometheus::{Prometheus, prometheus};
use crate::support::{encode_form, program};
use crate::weir::{Launch, Weir};
use draw::{Draw, Tree};

/// Differences after which no more are looked for: each is made smaller by asking many queries.
const DIFFERENCES_MAX: usize = 20;

/// Queries that are asked where nothing else is said: a minute of them.
const QUERIES: u64 = 10_000;
/// Queries whose texts and trees are compared.
const TEXTS_DRAWN: u64 = 600;
const FEATURES: &str = "promql-experimental-functions,promql-delayed-name-removal,promql-duration-expr,promql-extended-range-selectors,promql-binop-fill-modifiers,promql-per-step-stats";

/// When a query is asked.
#[derive(Debug, Clone, Copy)]
struct When {
    start_ms: i64,
    /// Nothing for an instant query.
    range: Option<(i64, i64)>,
}

impl When {
    /// The path and the parameters of a query.
    fn form(self, query: &str) -> (&'static str, Vec<(&'static str, String)>) {
        let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
        match self.range {
            None => ("/api/v1/query", vec![("query", query.to_owned()), ("time", seconds(self.start_ms))]),
            Some((end_ms, step_ms)) => {
                let times = [("start", self.start_ms), ("end", end_ms), ("step", step_ms)];
                let times = times.map(|(name, ms)| (name, seconds(ms)));
                ("/api/v1/query_range", [("query", query.to_owned())].into_iter().chain(times).collect())
            }
        }
    }
}

/// What the environment asks for: the seed, and how many.
fn asked(otherwise: u64) -> (u64, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    (number("WEIR_SEED").unwrap_or(1), number("WEIR_QUERIES").unwrap_or(otherwise))
}

#[tokio::test]
async fn drawn_queries_are_answered_as_by_a_real_prometheus() {
    let test = "drawn_queries_are_answered_as_by_a_real_prometheus";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    let (seed, queries) = asked(QUERIES);
    let dir = tempfile::tempdir().expect("directory");
    let both = Both::start(dir.path(), &bin, seed).await;
    println!("{}", both.answer_the_same(&mut Draw::new(seed), (seed, queries)).await);
}

#[tokio::test]
async fn texts_and_trees_are_those_of_a_real_prometheus() {
    let test = "texts_and_trees_are_those_of_a_real_prometheus";
    let (Some(bin), Some(suite)) = (program(test, "PROMETHEUS_BIN"), program(test, "PROMQL_SUITE")) else { return };
    let mut draw = Draw::new(1);
    let mut texts: Vec<String> = (0..TEXTS_DRAWN).map(|_| draw.query().to_string()).collect();
    // Long ones, which go into several lines.
    let long = |pair: &[String]| format!("-({}) + on (job) group_left () sum by (job) ({})", pair[0], pair[1]);
    texts.extend(texts.chunks_exact(2).map(long).collect::<Vec<_>>());
    let of_suite = expressions(&suite.with_file_name("testdata"));
    assert!(of_suite.len() > 1000, "{} expressions in the suite", of_suite.len());
    texts.extend(of_suite);
    texts.extend(TEXTS.map(str::to_owned));
    let dir = tempfile::tempdir().expect("directory");
    let both = Both::start(dir.path(), &bin, 1).await;
    let (mut differences, mut shown) = (BTreeMap::new(), 0);
    for text in &texts {
        for path in ["/api/v1/format_query", "/api/v1/parse_query"] {
            let (ours, theirs) = both.ask(path, &[("query", text)]).await;
            if theirs.0 == 500 {
                assert!(ours.0 == 200 && text.contains("fill(NaN)"), "{text}: {}", ours.1);
                continue;
            }
            shown += usize::from(theirs.0 == 200);
            // Where it is wrong may be told in other words.
            if ours.0 != theirs.0 || (theirs.0 == 200 && !same(&ours.1, &theirs.1, 0.0)) {
                differences
                    .insert(text, format!("{path}: {} {}\n  instead of {} {}", ours.0, ours.1, theirs.0, theirs.1));
            }
        }
    }
    let told: Vec<String> = differences.iter().map(|(text, told)| format!("{text}\n  {told}")).collect();
    assert!(told.is_empty(), "{} of {} differ:\n{}", told.len(), texts.len(), told.join("\n"));
    assert!(shown > 3000, "{shown}");
}

/// Texts of which the others have none like it.
const TEXTS: [&str; 43] = [
    "foo offset NaN",
    "foo offset +min_of(1, 2) + foo[5m] offset +step()",
    "rate(foo[5m] offset -nan)",
    "foo offset (NaN) + foo offset -(NaN * 2)",
    "foo offset 0.0004 offset 1",
    "foo[1.0005] offset -0.0005",
    "foo offset -9223372036.854776",
    "\"\\xff\\xc3\" + foo",
    "foo{\"\\xff\"!=\"\\xfe\", b=~\"c|\\xff\"}",
    "label_replace(foo, \"\\xff\", \"\\377é\\xe9\", '\\x80', `\\xff`)",
    "foo{a=~\"b.\\xff\"}",
    "sum without (\"\\xff\") (foo)",
    "0x_1F + 0X1E_5",
    "0x1e+5",
    "1_0.5_0e1_0 + 017 + 0_9 + 0xe-1",
    "foo[((5))]",
    "foo[--5m]",
    "foo offset -(5m)",
    "foo offset (-5m)",
    "foo offset -(step() + 1)",
    "foo[+step():max_of(5m, 3)]",
    "foo[+(5)] offset +(5m)",
    "foo[min_of(range(), 1h) * (2 ^ 1)]",
    "foo[0]",
    "foo[(0)]",
    "foo[-5m]",
    "foo[5m + (1 * 60)] @ end() offset 1h",
    "foo @ -1.5",
    "foo offset 5m smoothed @ 10",
    "foo[5m] offset 5m anchored @ 10",
    "-5m + 1e-7 + 1e21 + 0x1F + Inf - NaN",
    "{\"foo.bar\", a!=\"b\"}",
    "{\"foo\"}",
    "{a=\"b\", \"foo\"}",
    "foo{__name__!=\"bar\", \"x.y\"=~\"a|\\\\d\"}",
    "{a=\"\\u00a0\\u00e9\\u200b\\t\\x00e\\u0301\\U000e0001\"}",
    "a + on (\"x.y\") group_left (z) fill_left (-1) fill_right (5m) b",
    "sum without () (a) / ignoring () b",
    "histogram_quantiles(a, \"q\", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11) + max_of(1, 2, 3)",
    "label_join(a, \"b\", \",\", \"c\", \"d\")",
    "sum_over_time((abs(first_metric_with_a_long_name) + abs(second_metric_with_a_long_name) + abs(third_metric_with_a_long_name))[1h:5m] offset 1d)",
    "-sum(first_metric_with_a_long_name{job=\"one\"}) by (a_label_with_a_long_name, another_label_with_a_long_name)",
    "topk(5, rate(a_metric_with_a_long_name{job=\"one\", instance=\"two\"}[5m]) > bool 1) and a_metric_with_a_long_name[5m:1m]",
];

/// The expressions in files of tests.
fn expressions(dir: &Path) -> Vec<String> {
    let mut all = BTreeSet::new();
    for file in std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let text = std::fs::read_to_string(file.expect("entry").path()).expect("text");
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("eval")) {
            // What is told of the time before it: at TIME, or from TIME to TIME step TIME.
            let (words, rest) = match line.split_once(" at ").filter(|(kind, _)| kind.trim_end().ends_with("instant")) {
                Some((_, rest)) => (1, rest),
                None => (5, line.split_once(" from ").map_or("", |(_, rest)| rest)),
            };
            let expression =
                (0..words).try_fold(rest.trim(), |rest, _| Some(rest.split_once([' ', '\t'])?.1.trim_start()));
            all.extend(expression.map(str::to_owned));
        }
    }
    all.into_iter().collect()
}

/// Weir and a Prometheus with the same samples.
struct Both {
    weir: Weir,
    theirs: Prometheus,
}

impl Both {
    async fn start(dir: &Path, bin: &Path, seed: u64) -> Both {
        Both::with(dir, bin, seed, FEATURES).await
    }

    async fn with(dir: &Path, bin: &Path, seed: u64, features: &str) -> Both {
        let (ours, blocks) = (dir.join("weir"), dir.join("blocks"));
        samples::write(&ours.join("storage"), seed);
        let export = ["tsdb", "export-prometheus", "--block-span", "24h", "--out"];
        let mut command = std::process::Command::new(crate::support::weir_bin());
        crate::support::run(command.args(export).arg(&blocks).arg("--data").arg(&ours));
        let flags = [format!("--enable-feature={features}")];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let theirs = prometheus(bin, dir, &blocks, "global: {}\n", &flags).await;
        let weir = Launch::new(&ours).args(&["--retention", "off", "--enable-feature", features]).start().await;
        Both { weir, theirs }
    }

    /// Asks both what is drawn; says how much that was.
    async fn answer_the_same(&self, draw: &mut Draw, (seed, queries): (u64, u64)) -> String {
        let mut differences = Vec::new();
        let (mut answered, mut full) = (0, 0);
        for _ in 0..queries {
            let (tree, when) = (draw.query(), draw.when());
            let (difference, size) = self.differ(&tree.to_string(), when).await;
            answered += usize::from(size.is_some());
            full += usize::from(size.is_some_and(|size| size > 0));
            // What is wrong with all of them is told by some.
            if differences.len() >= DIFFERENCES_MAX {
                break;
            }
            if let Some(difference) = difference {
                let (smallest, difference) = self.shrink(tree, when, difference).await;
                differences.push(format!("{smallest}  {when:?}\n    {difference}"));
            }
        }
        assert!(differences.is_empty(), "{} of {queries} differ:\n{}", differences.len(), differences.join("\n"));
        // Else the grammar draws what nobody would ask.
        assert!(full * 2 > queries as usize, "{full} of {queries} have series");
        format!("seed {seed}: of {queries} queries {answered} were answered, {full} of them with series")
    }

    /// What both answer, with their status.
    async fn ask(&self, path: &str, form: &[(&str, &str)]) -> ((u16, Value), (u16, Value)) {
        let ask = async |url: String| -> (u16, Value) {
            let request = self.weir.http.post(url).header("content-type", "application/x-www-form-urlencoded");
            let answer = request.body(encode_form(form)).send().await.expect("answered");
            let status = answer.status().as_u16();
            let text = answer.text().await.expect("text");
            (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
        };
        (ask(self.weir.url(path)).await, ask(format!("http://{}{path}", self.theirs.address)).await)
    }

    /// What differs between the answers, and how many series there are, if both are answers.
    async fn differ(&self, query: &str, when: When) -> (Option<String>, Option<usize>) {
        let (path, form) = when.form(query);
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (ours, theirs) = self.ask(path, &form).await;
        if ours.0 != theirs.0 {
            return (
                Some(format!("{}: {} instead of {}: {}", ours.0, ours.1["error"], theirs.0, theirs.1["error"])),
                None,
            );
        }
        if ours.0 != 200 {
            let [ours, theirs] = [&ours, &theirs].map(|answer| answer.1["error"].as_str().unwrap_or("").to_owned());
            let differs = !says_the_same(&ours, &theirs, query);
            return (differs.then(|| format!("error {ours}\n    instead of {theirs}")), None);
        }
        for kind in ["warnings", "infos"] {
            let told = |answer: &Value| {
                let texts = answer[kind].as_array().into_iter().flatten();
                texts.map(Value::to_string).collect::<BTreeSet<String>>()
            };
            let (ours, theirs) = (told(&ours.1), told(&theirs.1));
            // It tells ten at most.
            if ours != theirs && theirs.len() < 10 {
                return (Some(format!("{kind} {ours:?} instead of {theirs:?}")), None);
            }
        }
        let expr = promql::parse(query, &promql::Features::all()).expect("both have taken it");
        let tolerance = tolerance::of(&expr);
        let (ours, theirs) = (&ours.1["data"], &theirs.1["data"]);
        let size = theirs["result"].as_array().map_or(0, Vec::len);
        let ordered = when.range.is_none() && is_ordered(&expr) && is_sorted_by_what_all_have(&expr, theirs);
        (
            compare(ours, theirs, tolerance).or_else(|| ordered.then(|| compare_order(ours, theirs)).flatten()),
            Some(size),
        )
    }

    /// The smallest part of a query of which the answers differ.
    async fn shrink(&self, tree: Tree, when: When, difference: String) -> (Tree, String) {
        shrink(tree, difference, Tree::smaller, async |tree| self.differ(&tree.to_string(), when).await.0).await
    }
}

/// The smallest of something of which answers differ, and how they do.
async fn shrink<T>(
    whole: T,
    difference: String,
    smaller: impl Fn(&T) -> Vec<T>,
    differ: impl AsyncFn(&T) -> Option<String>,
) -> (T, String) {
    let (mut smallest, mut difference) = (whole, difference);
    'smaller: loop {
        for candidate in smaller(&smallest) {
            if let Some(other) = differ(&candidate).await {
                (smallest, difference) = (candidate, other);
                continue 'smaller;
            }
        }
        return (smallest, difference);
    }
}

/// Whether two errors say the same. Which two of several series are named is free where their order is.
fn says_the_same(ours: &str, theirs: &str, query: &str) -> bool {
    const NAMED: [&str; 3] = [
        "found duplicate series for the match group",
        "multiple matches for labels",
        "found duplicate series for info metric",
    ];
    let before = |text: &str| NAMED.iter().find(|named| text.contains(*named)).copied();
    let is_free = || promql::parse(query, &promql::Features::all()).is_ok_and(|expr| joins_in_free_order(&expr));
    ours == theirs || (before(ours).is_some() && before(ours) == before(theirs) && is_free())
}

/// Whether something is joined whose series Prometheus puts into an order of its own, which is another each time: all but what it reads.
fn joins_in_free_order(expr: &Expr) -> bool {
    fn is_read(expr: &Expr) -> bool {
        match &expr.node {
            Node::Paren(inner) => is_read(inner),
            Node::VectorSelector(_) => true,
            Node::Call(call) => call.args.iter().any(|arg| matches!(arg.node, Node::MatrixSelector(_))),
            _ => false,
        }
    }
    let mut is_free = false;
    expr.walk(&mut |part| {
        is_free |= match &part.node {
            Node::Binary(binary) => !is_read(&binary.left) || !is_read(&binary.right),
            Node::Call(call) => call.function.name == "info",
            _ => false,
        }
    });
    is_free
}

/// Whether the order of an answer means something.
fn is_ordered(expr: &Expr) -> bool {
    match &expr.node {
        Node::Paren(inner) => is_ordered(inner),
        Node::Call(call) => call.function.name.starts_with("sort"),
        Node::Aggregate(aggregate) => matches!(aggregate.op, AggregateOp::TopK | AggregateOp::BottomK),
        _ => false,
    }
}

/// Whether each label by which an answer is sorted is one of all its series, or of none. What has none among others that have goes to wherever Prometheus' way of
/// sorting compares it last, since it takes it for more than any other, and any other for more than it.
fn is_sorted_by_what_all_have(expr: &Expr, data: &Value) -> bool {
    match &expr.node {
        Node::Paren(inner) => is_sorted_by_what_all_have(inner, data),
        Node::Call(call) if call.function.name.starts_with("sort_by_label") => {
            let all = data["result"].as_array().map_or(&[][..], Vec::as_slice);
            call.args[1..].iter().all(|arg| {
                let Node::String(name) = &arg.node else { return false };
                let have = all.iter().filter(|one| one["metric"][name.as_str()].is_string()).count();
                have == 0 || have == all.len()
            })
        }
        _ => true,
    }
}

/// Compares the values in their order; equal ones have none among them.
fn compare_order(ours: &Value, theirs: &Value) -> Option<String> {
    let values = |data: &Value| -> Vec<Value> {
        data["result"].as_array().into_iter().flatten().map(|one| one["value"][1].clone()).collect()
    };
    let (ours, theirs) = (values(ours), values(theirs));
    let is_same = ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(a, b)| same(a, b, tolerance::RELATIVE));
    (!is_same).then(|| format!("order {ours:?} instead of {theirs:?}"))
}

fn compare(ours: &Value, theirs: &Value, tolerance: f64) -> Option<String> {
    if ours["resultType"] != theirs["resultType"] {
        return Some(format!("{} instead of {}", ours["resultType"], theirs["resultType"]));
    }
    let series = |data: &Value| -> BTreeMap<String, Value> {
        match data["result"].as_array() {
            Some(list) if data["resultType"] != "scalar" && data["resultType"] != "string" => {
                list.iter().map(|one| (one["metric"].to_string(), one.clone())).collect()
            }
            _ => BTreeMap::from([(String::new(), data["result"].clone())]),
        }
    };
    let (ours, theirs) = (series(ours), series(theirs));
    let keys = |of: &BTreeMap<String, Value>| of.keys().cloned().collect::<Vec<_>>();
    if keys(&ours) != keys(&theirs) {
        return Some(format!("series {:?} instead of {:?}", keys(&ours), keys(&theirs)));
    }
    let differs = |(labels, own): (&String, &Value)| {
        let other = &theirs[labels];
        (!same(own, other, tolerance)).then(|| format!("{labels}: {own} instead of {other}"))
    };
    ours.iter().find_map(differs)
}

/// Whether two answers are the same but for the last bits of numbers.
fn same(a: &Value, b: &Value, tolerance: f64) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, tolerance)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b, tolerance)))
        }
        (Value::String(x), Value::String(y)) => {
            x == y
                || match (x.parse::<f64>(), y.parse::<f64>()) {
                    (Ok(x), Ok(y)) => (x - y).abs() <= tolerance * x.abs().max(y.abs()),
                    _ => false,
                }
        }
        _ => a == b,
    }
}

#[tokio::test]
async fn what_differs_is_cut_down_to_its_smallest_part() {
    // Any one may go; what is left differs while it has both of these.
    let smaller = |all: &Vec<u8>| {
        let without = |at| all.iter().enumerate().filter(|(own, _)| *own != at).map(|(_, one)| *one).collect();
        (0..all.len()).map(without).collect()
    };
    let differ = async |all: &Vec<u8>| (all.contains(&3) && all.contains(&7)).then(|| format!("{} left", all.len()));
    let found = shrink((0..10).collect(), "all".to_owned(), smaller, differ).await;
    assert_eq!(found, (vec![3, 7], "2 left".to_owned()));
    // Of a query, to a part of it, with its own parts cut as well.
    let mut draw = Draw::new(1);
    let mut cut = 0;
    for _ in 0..200 {
        let tree = draw.query();
        let whole = tree.to_string();
        let differ = async |tree: &Tree| tree.to_string().contains("job").then(|| "job".to_owned());
        let (smallest, _) = shrink(tree, String::new(), Tree::smaller, differ).await;
        let text = smallest.to_string();
        assert!(text == whole || text.contains("job"), "{text} of {whole}");
        let all_without = smallest.smaller().iter().all(|smaller| !smaller.to_string().contains("job"));
        assert!(all_without, "{text} could be smaller");
        cut += usize::from(text.len() < whole.len());
    }
    assert!(cut > 20, "{cut} were cut");
}
