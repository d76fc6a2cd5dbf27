//! Draws queries from the grammar.

use std::fmt;

use super::When;
use super::samples::{BEGIN_MS, LENGTH_MS, some};

/// What a part of a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Vector,
    Scalar,
    Range,
}

/// A query: texts with parts between them.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    kind: Kind,
    text: Vec<String>,
    parts: Vec<Tree>,
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text[0])?;
        for (part, text) in self.parts.iter().zip(&self.text[1..]) {
            write!(f, "{part}{text}")?;
        }
        Ok(())
    }
}

impl Tree {
    /// The same with one part taken for the whole of what it is in, the largest cuts first.
    pub(super) fn smaller(&self) -> Vec<Tree> {
        let mut all: Vec<Tree> = self.parts.iter().filter(|part| part.kind != Kind::Range).cloned().collect();
        for (at, part) in self.parts.iter().enumerate() {
            let own = part.parts.iter().filter(|inner| inner.kind == part.kind).cloned();
            for smaller in part.smaller().into_iter().chain(own).filter(|smaller| smaller.kind == part.kind) {
                let mut tree = self.clone();
                tree.parts[at] = smaller;
                all.push(tree);
            }
        }
        all
    }
}

/// Draws one query after the other.
pub(super) struct Draw {
    pub(super) random: fastrand::Rng,
    /// The names of metrics that are drawn from.
    pub(super) metrics: &'static [&'static str],
}

const METRICS: [&str; 8] = ["c_total", "g", "i", "h", "hg", "n", "mixed", "b_bucket"];
const OVER_TIME: [&str; 26] = [
    "absent_over_time",
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "resets",
    "changes",
    "sum_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "last_over_time",
    "first_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "present_over_time",
    "mad_over_time",
    "ts_of_min_over_time",
    "ts_of_max_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "integral",
    "absent_over_time",
];
const FUNCTIONS: [&str; 41] = [
    "abs",
    "ceil",
    "floor",
    "round",
    "sgn",
    "sqrt",
    "exp",
    "ln",
    "histogram_count",
    "histogram_sum",
    "histogram_avg",
    "histogram_stddev",
    "histogram_stdvar",
    "timestamp",
    "absent",
    "-",
    "day_of_week(timestamp",
    "hour(timestamp",
    "sort",
    "deg",
    "rad",
    "log2",
    "log10",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "sort_desc",
    "minute(timestamp",
    "day_of_month(timestamp",
    "day_of_year(timestamp",
    "days_in_month(timestamp",
    "month(timestamp",
    "year(timestamp",
    "vector(scalar",
    "start_timestamp",
];
/// Functions with more than one argument, around a vector.
const WITH_MORE: [[&str; 2]; 36] = [
    ["clamp(", ", 5, -5)"],
    ["clamp(", ", NaN, 3)"],
    ["clamp_max(", ", NaN)"],
    ["clamp_min(", ", -Inf)"],
    ["round(", ", 0)"],
    ["round(", ", -0.7)"],
    ["round(", ", NaN)"],
    ["label_replace(", ", \"__name__\", \"renamed\", \"job\", \"api\")"],
    ["label_replace(", ", \"x.y\", \"${1}-$2-$name-$$\", \"instance\", \"(?P<name>.)(x?)\")"],
    ["label_replace(", ", \"job\", \"\", \"job\", \"a.*|()\")"],
    ["label_join(", ", \"job\", \"\", \"instance\", \"instance\", \"job\")"],
    ["label_join(", ", \"__name__\", \"_\", \"__name__\", \"job\")"],
    ["vector(scalar(", "))"],
    ["label_replace(", ", \"instance\", \"same\", \"\", \"\")"],
    ["sort_by_label(", ")"],
    ["-(", ")"],
    ["label_replace(", ", \"job\", \"$1\\xff\", \"job\", \"(..).*\")"],
    [
        "label_replace(label_join(",
        ", \"b\", \"\\xff\", \"job\", \"instance\"), \"instance\", \"$2$1\", \"b\", \"(.*)(.)[^b]*\")",
    ],
    ["label_replace(", ", \"\\xff\", \"$1\", \"job\", \"(.*)\")"],
    ["label_replace(", ", \"job\", \"x\", \"\\xff\", \"\")"],
    ["count_values(\"\\xfe\", ", ")"],
    ["clamp(", ", -3, 100)"],
    ["clamp_min(", ", 0.5)"],
    ["clamp_max(", ", scalar(sum(i)))"],
    ["round(", ", 0.3)"],
    ["label_replace(", ", \"job\", \"$1\", \"instance\", \"(.*)\")"],
    ["label_join(", ", \"both\", \"-\", \"job\", \"instance\", \"none\")"],
    ["label_join(", ", \"job\", \"\")"],
    ["sort_by_label(", ", \"instance\", \"job\")"],
    ["sort_by_label_desc(", ", \"job\")"],
    ["info(", ")"],
    ["info(", ", {zone=\"a\"})"],
    ["info(", ", {__name__=~\".+_info\"})"],
    ["info(", ", {__name__=\"build_info\", version=~\".*\"})"],
    ["info(", ", {__name__!=\"target_info\"})"],
    ["info(", ", {__name__=\"h\"})"],
];
const AGGREGATIONS: [&str; 15] = [
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "group",
    "stddev",
    "stdvar",
    "quantile",
    "topk",
    "bottomk",
    "limitk",
    "limit_ratio",
    "count_values",
    "topk",
];
const OPERATORS: [&str; 18] =
    ["+", "-", "*", "/", "%", "^", "==", "!=", "<", "<=", ">", ">=", "and", "or", "unless", "</", ">/", "atan2"];

impl Draw {
    pub(super) fn new(seed: u64) -> Draw {
        Draw { random: fastrand::Rng::with_seed(seed), metrics: &METRICS }
    }

    pub(super) fn query(&mut self) -> Tree {
        self.vector(3)
    }

    pub(super) fn when(&mut self) -> When {
        let start_ms = BEGIN_MS + self.random.i64(300_000..LENGTH_MS);
        let range = self.random.bool().then(|| {
            let step = [15_000, 60_000, 61_500][self.random.usize(..3)];
            (start_ms + step * self.random.i64(1..8), step)
        });
        When { start_ms, range }
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.random.usize(..of.len())]
    }

    fn tree(&self, kind: Kind, text: &[&str], parts: Vec<Tree>) -> Tree {
        Tree { kind, text: text.iter().map(|text| (*text).to_owned()).collect(), parts }
    }

    fn vector(&mut self, depth: u8) -> Tree {
        match if depth == 0 { 0 } else { self.random.u8(..12) } {
            0 | 1 => self.selector(),
            2..=4 => self.over_time(depth - 1),
            5 | 6 => self.function(depth - 1),
            7 | 8 => self.aggregation(depth - 1),
            9 => self.quantile(depth - 1),
            10 => {
                let operator = self.operator(false);
                let (left, right) = (self.operand(&operator, depth - 1), self.scalar());
                let (left, right) = if self.random.u8(..4) == 0 { (right, left) } else { (left, right) };
                self.tree(Kind::Vector, &["(", &operator, ")"], vec![left, right])
            }
            _ if self.random.u8(..3) == 0 => self.pair(),
            _ => {
                let operator = self.operator(true);
                let (left, right) = (self.operand(&operator, depth - 1), self.operand(&operator, depth - 1));
                self.tree(Kind::Vector, &["(", &operator, ")"], vec![left, right])
            }
        }
    }

    /// Two functions over windows of one selector.
    fn pair(&mut self) -> Tree {
        let (metric, moved, operator) = (self.one(self.metrics), self.moved(), self.operator(true));
        let functions = (0..2).map(|_| {
            let (function, length) = (self.one(&OVER_TIME), self.one(&["1m", "5m", "20m"]));
            self.tree(Kind::Vector, &[&format!("{function}({metric}[{length}]{moved})")], Vec::new())
        });
        let functions = functions.collect();
        self.tree(Kind::Vector, &["(", &operator, ")"], functions)
    }

    /// An operand. What is left of a division is all of the last bits, so they have to be the same.
    fn operand(&mut self, operator: &str, depth: u8) -> Tree {
        if operator.contains('%') { self.ordered(false) } else { self.vector(depth) }
    }

    fn selector(&mut self) -> Tree {
        let metric = self.one(self.metrics);
        let matcher =
            self.one(&["", "", "{job=\"api\"}", "{instance!=\"1\"}", "{instance=~\"0|2\"}", "{job!~\"\\xff|db\"}"]);
        let moved = self.moved();
        self.tree(Kind::Vector, &[&format!("{metric}{matcher}{moved}")], Vec::new())
    }

    fn moved(&mut self) -> String {
        match self.random.u8(..15) {
            10 => " @ end()".to_owned(),
            11 => " offset (30s + step() / 2)".to_owned(),
            12 => self.odd_offset().to_owned(),
            0 => " offset 90s".to_owned(),
            1 => " offset -2m".to_owned(),
            2 => format!(" @ {}", (BEGIN_MS + LENGTH_MS / 2) / 1000),
            3 => " @ start()".to_owned(),
            _ => String::new(),
        }
    }

    /// Mostly none; else one that says nothing, is nowhere, or is wrong.
    fn odd_offset(&mut self) -> &'static str {
        match self.random.u8(..24) {
            0 => " offset NaN",
            1 => " offset -(NaN)",
            2 => " offset (60 / (step() - step()))",
            3 => " offset (range() % step())",
            4 => " offset ((-1) ^ 0.5)",
            5 => " offset -1.001",
            6 => " offset 0x1e",
            7 => " offset +min_of(1_0, step())",
            8 => " offset 30.0005",
            _ => "",
        }
    }

    fn range(&mut self, depth: u8) -> Tree {
        let length =
            self.one(&["1m", "5m", "7m30s", "20m", "10s", "300.0006", "1m * 3", "max_of(step(), 2m)", "range() + 90"]);
        let moved = self.moved();
        if depth > 0 && self.random.u8(..4) == 0 {
            let inner = self.vector(depth - 1);
            let step = self.one(&["30s", "1m", ""]);
            return self.tree(Kind::Range, &["(", &format!(")[{length}:{step}]{moved}")], vec![inner]);
        }
        let selector = self.one(self.metrics);
        self.tree(Kind::Range, &[&format!("{selector}[{length}]{moved}")], Vec::new())
    }

    fn over_time(&mut self, depth: u8) -> Tree {
        match self.random.u8(..12) {
            0 => {
                let (function, mode) =
                    (self.one(&["rate", "increase", "delta"]), self.one(&[" anchored", " smoothed"]));
                let (metric, length) = (self.one(self.metrics), self.one(&["1m", "5m"]));
                self.tree(Kind::Vector, &[&format!("{function}({metric}[{length}]{mode})")], Vec::new())
            }
            1 => {
                let range = self.range(depth);
                let q = self.one(&["0.3", "0.3", "0", "1", "-0.1", "2", "NaN", "scalar(sum(i)) / 20"]);
                self.tree(Kind::Vector, &[&format!("quantile_over_time({q}, "), ")"], vec![range])
            }
            2 => {
                let range = self.range(depth);
                let ahead = self.one(&["60", "60", "-60", "0", "1e9", "NaN", "time()", "scalar(sum(i))"]);
                self.tree(Kind::Vector, &["predict_linear(", &format!(", {ahead})")], vec![range])
            }
            3 => {
                let range = self.range(depth);
                let factors = self.one(&["0.4, 0.2", "0.4, 0.2", "0.01, 0.99"]);
                self.tree(Kind::Vector, &["double_exponential_smoothing(", &format!(", {factors})")], vec![range])
            }
            _ => {
                let (function, range) = (self.one(&OVER_TIME), self.range(depth));
                self.tree(Kind::Vector, &[&format!("{function}("), ")"], vec![range])
            }
        }
    }

    fn function(&mut self, depth: u8) -> Tree {
        if self.random.u8(..8) == 0 {
            // Of a large number the last bit is all of what these see, so it has to be the same.
            let (function, inner) = (self.one(&["sin", "cos", "tan"]), self.ordered(false));
            return self.tree(Kind::Vector, &[&format!("{function}("), ")"], vec![inner]);
        }
        let inner = self.vector(depth);
        match self.random.u8(..3) {
            0 => {
                let text = WITH_MORE[self.random.usize(..WITH_MORE.len())];
                self.tree(Kind::Vector, &text, vec![inner])
            }
            _ => {
                let function = self.one(&FUNCTIONS);
                let close = if function.contains('(') { "))" } else { ")" };
                self.tree(Kind::Vector, &[&format!("{function}("), close], vec![inner])
            }
        }
    }

    fn aggregation(&mut self, depth: u8) -> Tree {
        let (operator, labels) = (self.one(&AGGREGATIONS), some(&mut self.random));
        let inner = match operator {
            // Which of equals these pick, and how they round, depends on an order that Prometheus draws anew where a function or an operator made the
            // series; it keeps that of what it reads.
            "topk" | "bottomk" | "limitk" | "stddev" | "stdvar" => self.ordered(depth > 0),
            // Its labels are numbers, to the last bit.
            "count_values" => self.ordered(false),
            _ => self.vector(depth),
        };
        let grouping = match self.random.u8(..3) {
            0 => String::new(),
            1 => format!(" by ({labels}) "),
            _ => format!(" without ({labels}) "),
        };
        let param = match operator {
            "quantile" => {
                self.one(&["0.7, ", "0.7, ", "0, ", "1, ", "-1, ", "1.5, ", "NaN, ", "scalar(sum(i)) / 20, "])
            }
            "topk" | "bottomk" | "limitk" => self.one(&[
                "1, ",
                "2, ",
                "5, ",
                "1.9, ",
                "0, ",
                "-1, ",
                "NaN, ",
                "Inf, ",
                "1e300, ",
                "scalar(i{job=\"api\",instance=\"0\"}), ",
            ]),
            "limit_ratio" => self.one(&["0.5, ", "-0.4, ", "0.9, ", "0, ", "1, ", "-1, ", "1.5, ", "-2, ", "NaN, "]),
            "count_values" => self.one(&["\"v\", ", "\"job\", ", "\"__name__\", ", "\"x.y\", ", "\"\", "]),
            _ => "",
        };
        self.tree(Kind::Vector, &[&format!("{operator}{grouping}({param}"), ")"], vec![inner])
    }

    /// Series in the order of their labels, or of the first of each group.
    fn ordered(&mut self, groups: bool) -> Tree {
        if groups && self.random.u8(..4) == 0 {
            let (operator, labels) = (self.one(&["min", "max", "count"]), some(&mut self.random));
            let inner = self.ordered(false);
            return self.tree(Kind::Vector, &[&format!("{operator} by (le, {labels}) ("), ")"], vec![inner]);
        }
        if self.random.bool() { self.selector() } else { self.over_time(0) }
    }

    fn quantile(&mut self, depth: u8) -> Tree {
        let inner = match self.random.u8(..3) {
            0 => self.tree(Kind::Vector, &["b_bucket"], Vec::new()),
            1 => self.tree(Kind::Vector, &["rate(h[5m])"], Vec::new()),
            _ => self.vector(depth),
        };
        match self.random.u8(..5) {
            0 | 1 => {
                let q = self.one(&["0.83", "0.83", "0.83", "0", "1", "-1", "1.01", "NaN", "scalar(sum(i)) / 20"]);
                self.tree(Kind::Vector, &[&format!("histogram_quantile({q}, "), ")"], vec![inner])
            }
            2 => {
                let q = self.one(&["0.1, 0.5, 0.99", "0.5", "0.5, 0.5", "-1, 2, NaN", "scalar(sum(i)) / 20, 0"]);
                let label = self.one(&["q", "q", "job", "le", "x.y"]);
                self.tree(Kind::Vector, &["histogram_quantiles(", &format!(", \"{label}\", {q})")], vec![inner])
            }
            _ => {
                let bounds =
                    self.one(&["0.2, 3", "0.2, 3", "3, 0.2", "-Inf, 1", "0, Inf", "NaN, 1", "-5, 0.001", "1, 1"]);
                self.tree(Kind::Vector, &[&format!("histogram_fraction({bounds}, "), ")"], vec![inner])
            }
        }
    }

    fn scalar(&mut self) -> Tree {
        let text = match self.random.u8(..16) {
            0 | 1 => "time()",
            2 | 3 => "scalar(sum(i))",
            4 | 5 => "0",
            6 | 7 => "-2.5",
            8 | 9 => "3",
            10 => self.one(&["NaN", "Inf", "-Inf", "pi()", "0x1F", "1e300", "5m", "-0"]),
            11 => {
                self.one(&["scalar(g)", "scalar(h)", "scalar(nothing)", "scalar(c_total{instance=\"0\",job=\"db\"})"])
            }
            12 => self.one(&[
                "(1 < bool 2)",
                "(2 ^ -1)",
                "(5 % -3)",
                "(time() > bool NaN)",
                "(-7 / 0)",
                "-time()",
                "(3 atan2 2)",
            ]),
            _ => "0.1",
        };
        self.tree(Kind::Scalar, &[text], Vec::new())
    }

    fn operator(&mut self, vectors: bool) -> String {
        let operator = self.one(&OPERATORS);
        let set = matches!(operator, "and" | "or" | "unless");
        if !vectors {
            let operator = if set { "+" } else { operator };
            return format!(" {operator} ");
        }
        let comparison = matches!(operator, "==" | "!=" | "<" | "<=" | ">" | ">=");
        let bool_ = if comparison && self.random.u8(..3) == 0 { " bool" } else { "" };
        let labels = some(&mut self.random);
        let fill = match self.random.u8(..6) {
            0 if !set => "fill (0.5) ",
            1 if !set => "fill_left (-1) ",
            2 if !set => "fill_right (2) fill_left (3) ",
            _ => "",
        };
        let matching = match self.random.u8(..6) {
            0 => format!(" on (job, instance) {fill}"),
            3 if !set => format!(" on ({labels}) group_right {fill}"),
            4 => format!(" {fill}"),
            5 if !set => format!(" ignoring ({labels}) group_left (zone) {fill}"),
            1 => format!(" ignoring ({labels}) "),
            2 if !set => format!(" on ({labels}) group_left "),
            _ => " ".to_owned(),
        };
        format!(" {operator}{bool_}{matching}")
    }
}
