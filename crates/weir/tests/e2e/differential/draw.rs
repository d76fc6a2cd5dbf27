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
}

const METRICS: [&str; 8] = ["c_total", "g", "i", "h", "hg", "n", "mixed", "b_bucket"];
const OVER_TIME: [&str; 25] = [
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
const FUNCTIONS: [&str; 20] = [
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
];
const AGGREGATIONS: [&str; 9] = ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "quantile"];
const OPERATORS: [&str; 17] =
    ["+", "-", "*", "/", "%", "^", "==", "!=", "<", "<=", ">", ">=", "and", "or", "unless", "</", ">/"];

impl Draw {
    pub(super) fn new(seed: u64) -> Draw {
        Draw { random: fastrand::Rng::with_seed(seed) }
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
                let (left, right) = (self.vector(depth - 1), self.scalar());
                let operator = self.operator(false);
                let (left, right) = if self.random.u8(..4) == 0 { (right, left) } else { (left, right) };
                self.tree(Kind::Vector, &["(", &operator, ")"], vec![left, right])
            }
            _ => {
                let (left, right) = (self.vector(depth - 1), self.vector(depth - 1));
                let operator = self.operator(true);
                self.tree(Kind::Vector, &["(", &operator, ")"], vec![left, right])
            }
        }
    }

    fn selector(&mut self) -> Tree {
        let metric = self.one(&METRICS);
        let matcher = self.one(&["", "", "{job=\"api\"}", "{instance!=\"1\"}", "{instance=~\"0|2\"}"]);
        let moved = self.moved();
        self.tree(Kind::Vector, &[&format!("{metric}{matcher}{moved}")], Vec::new())
    }

    fn moved(&mut self) -> String {
        match self.random.u8(..10) {
            0 => " offset 90s".to_owned(),
            1 => " offset -2m".to_owned(),
            2 => format!(" @ {}", (BEGIN_MS + LENGTH_MS / 2) / 1000),
            3 => " @ start()".to_owned(),
            _ => String::new(),
        }
    }

    fn range(&mut self, depth: u8) -> Tree {
        let length = self.one(&["1m", "5m", "7m30s", "20m", "10s"]);
        let moved = self.moved();
        if depth > 0 && self.random.u8(..4) == 0 {
            let inner = self.vector(depth - 1);
            let step = self.one(&["30s", "1m", ""]);
            return self.tree(Kind::Range, &["(", &format!(")[{length}:{step}]{moved}")], vec![inner]);
        }
        let selector = self.one(&METRICS);
        self.tree(Kind::Range, &[&format!("{selector}[{length}]{moved}")], Vec::new())
    }

    fn over_time(&mut self, depth: u8) -> Tree {
        match self.random.u8(..12) {
            0 => {
                let (function, mode) =
                    (self.one(&["rate", "increase", "delta"]), self.one(&[" anchored", " smoothed"]));
                let (metric, length) = (self.one(&METRICS), self.one(&["1m", "5m"]));
                self.tree(Kind::Vector, &[&format!("{function}({metric}[{length}]{mode})")], Vec::new())
            }
            1 => {
                let range = self.range(depth);
                self.tree(Kind::Vector, &["quantile_over_time(0.3, ", ")"], vec![range])
            }
            2 => {
                let range = self.range(depth);
                self.tree(Kind::Vector, &["predict_linear(", ", 60)"], vec![range])
            }
            3 => {
                let range = self.range(depth);
                self.tree(Kind::Vector, &["double_exponential_smoothing(", ", 0.4, 0.2)"], vec![range])
            }
            _ => {
                let (function, range) = (self.one(&OVER_TIME), self.range(depth));
                self.tree(Kind::Vector, &[&format!("{function}("), ")"], vec![range])
            }
        }
    }

    fn function(&mut self, depth: u8) -> Tree {
        let inner = self.vector(depth);
        match self.random.u8(..12) {
            0 => self.tree(Kind::Vector, &["clamp(", ", -3, 100)"], vec![inner]),
            1 => {
                self.tree(Kind::Vector, &["label_replace(", ", \"job\", \"$1\", \"instance\", \"(.*)\")"], vec![inner])
            }
            2 => self.tree(Kind::Vector, &["info(", ")"], vec![inner]),
            _ => {
                let function = self.one(&FUNCTIONS);
                let close = if function.contains('(') { "))" } else { ")" };
                self.tree(Kind::Vector, &[&format!("{function}("), close], vec![inner])
            }
        }
    }

    fn aggregation(&mut self, depth: u8) -> Tree {
        let inner = self.vector(depth);
        let (operator, labels) = (self.one(&AGGREGATIONS), some(&mut self.random));
        let grouping = match self.random.u8(..3) {
            0 => String::new(),
            1 => format!(" by ({labels}) "),
            _ => format!(" without ({labels}) "),
        };
        let param = if operator == "quantile" { "0.7, " } else { "" };
        self.tree(Kind::Vector, &[&format!("{operator}{grouping}({param}"), ")"], vec![inner])
    }

    fn quantile(&mut self, depth: u8) -> Tree {
        let inner = match self.random.u8(..3) {
            0 => self.tree(Kind::Vector, &["b_bucket"], Vec::new()),
            1 => self.tree(Kind::Vector, &["rate(h[5m])"], Vec::new()),
            _ => self.vector(depth),
        };
        match self.random.bool() {
            true => self.tree(Kind::Vector, &["histogram_quantile(0.83, ", ")"], vec![inner]),
            false => self.tree(Kind::Vector, &["histogram_fraction(0.2, 3, ", ")"], vec![inner]),
        }
    }

    fn scalar(&mut self) -> Tree {
        let text = match self.random.u8(..6) {
            0 => "time()",
            1 => "scalar(sum(i))",
            2 => "0",
            3 => "-2.5",
            4 => "3",
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
        let matching = match self.random.u8(..4) {
            0 => " on (job, instance) ".to_owned(),
            1 => format!(" ignoring ({labels}) "),
            2 if !set => format!(" on ({labels}) group_left "),
            _ => " ".to_owned(),
        };
        format!(" {operator}{bool_}{matching}")
    }
}
