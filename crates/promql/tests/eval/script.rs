//! The language of the scripts, that of Prometheus' own tests: `load`, `clear`, `eval instant`, `eval range`, `expect`.

use std::collections::BTreeMap;

use model::histogram::CUSTOM_BUCKETS_SCHEMA;
use model::time::parse_duration_ms;
use model::{Buckets, Counts, Histogram, Labels, Layout, ResetHint, Span};

/// A line of a script with the lines that are indented below it.
#[derive(Debug)]
pub(crate) enum Command {
    Clear,
    Load { step_ms: i64, series: Vec<(Labels, Vec<Item>)> },
    Eval(Eval),
}

/// One value of a sequence.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    Gap,
    Value(f64),
    Histogram(Box<Native>),
}

/// A native histogram as it is written: `{{schema:1 sum:5 count:4 buckets:[1 2 1]}}`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Native {
    schema: i32,
    zero_threshold: f64,
    zero: f64,
    count: f64,
    sum: f64,
    positive: BTreeMap<i32, f64>,
    negative: BTreeMap<i32, f64>,
    custom: Vec<f64>,
    hint: ResetHint,
}

impl Native {
    fn parse(text: &str) -> Self {
        let mut native = Native::default();
        let (mut offset, mut rest) = ([0; 2], text.trim());
        let mut buckets = [Vec::new(), Vec::new()];
        while !rest.is_empty() {
            let (name, after) = rest.split_once(':').expect("a name");
            let list = after.starts_with('[');
            let end = after.find(if list { ']' } else { ' ' }).map_or(after.len(), |end| end + usize::from(list));
            let (value, after) = after.split_at(end);
            rest = after.trim_start();
            let number = |text: &str| number(text).expect("a number");
            let numbers = || value.trim_matches(['[', ']']).split_whitespace().map(number).collect::<Vec<f64>>();
            match name {
                "schema" => native.schema = value.parse().expect("a schema"),
                "sum" => native.sum = number(value),
                "count" => native.count = number(value),
                "z_bucket" => native.zero = number(value),
                "z_bucket_w" => native.zero_threshold = number(value),
                "offset" => offset[0] = value.parse().expect("an offset"),
                "n_offset" => offset[1] = value.parse().expect("an offset"),
                "buckets" => buckets[0] = numbers(),
                "n_buckets" => buckets[1] = numbers(),
                "custom_values" => native.custom = numbers(),
                "counter_reset_hint" => {
                    let names = ["unknown", "reset", "not_reset", "gauge"];
                    let at = names.iter().position(|name| *name == value).expect("a hint");
                    native.hint = ResetHint::ALL[at];
                }
                other => panic!("{other:?} is nothing of a histogram"),
            }
        }
        let [positive, negative] = buckets;
        native.positive = (offset[0]..).zip(positive).collect();
        native.negative = (offset[1]..).zip(negative).collect();
        native
    }

    /// The one after, which differs by so much.
    fn step(&self, by: &Native, sign: f64) -> Native {
        let mut next = self.clone();
        next.zero += sign * by.zero;
        next.count += sign * by.count;
        next.sum += sign * by.sum;
        for (to, from) in [(&mut next.positive, &by.positive), (&mut next.negative, &by.negative)] {
            from.iter().for_each(|(index, count)| *to.entry(*index).or_default() += sign * count);
        }
        next
    }

    pub(crate) fn to_model(&self) -> Histogram {
        let spans = |side: &BTreeMap<i32, f64>| {
            let mut next = 0;
            let span = |index: &i32| {
                let offset = index - next;
                next = index + 1;
                Span { offset, length: 1 }
            };
            side.keys().map(span).collect::<Vec<Span>>()
        };
        let layout = Layout {
            schema: if self.custom.is_empty() { self.schema } else { CUSTOM_BUCKETS_SCHEMA },
            zero_threshold: self.zero_threshold,
            positive: spans(&self.positive),
            negative: spans(&self.negative),
            custom_values: self.custom.clone(),
        };
        let counts = Buckets {
            count: self.count,
            zero: self.zero,
            positive: self.positive.values().copied().collect(),
            negative: self.negative.values().copied().collect(),
        };
        Histogram { layout: layout.into(), hint: self.hint, sum: self.sum, counts: Counts::Float(counts) }
    }
}

/// What is asked, and what is expected.
#[derive(Debug, Default)]
pub(crate) struct Eval {
    pub(crate) line: usize,
    pub(crate) query: String,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// Zero for an instant query.
    pub(crate) step_ms: i64,
    pub(crate) expect: Expect,
}

#[derive(Debug, Default)]
pub(crate) struct Expect {
    pub(crate) ordered: bool,
    pub(crate) scalar: Option<f64>,
    pub(crate) string: Option<String>,
    pub(crate) series: Vec<(Labels, Vec<Item>)>,
    /// Times of a range vector that an instant query yields.
    pub(crate) range: Option<(i64, i64)>,
    /// `fail`, `warn`, `no_warn`, `info`, `no_info`, each with what its text has to be.
    pub(crate) notes: Vec<(String, Text)>,
}

#[derive(Debug)]
pub(crate) enum Text {
    Any,
    Is(String),
    Like(regex::Regex),
}

impl Text {
    pub(crate) fn holds(&self, text: &str) -> bool {
        match self {
            Text::Any => true,
            Text::Is(expect) => expect == text,
            Text::Like(regex) => regex.is_match(text),
        }
    }
}

/// Reads a script.
pub(crate) fn parse(text: &str) -> Vec<Command> {
    let lines: Vec<&str> =
        text.lines().map(|line| if line.trim_start().starts_with('#') { "" } else { line.trim() }).collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let head = at;
        at += 1;
        if line.is_empty() {
            continue;
        }
        let first = line.split_whitespace().next().unwrap_or("");
        let body_from = at;
        if first == "load" || first == "load_with_nhcb" || first.starts_with("eval") {
            while at < lines.len() && !lines[at].is_empty() {
                at += 1;
            }
        }
        let body = &lines[body_from..at];
        commands.push(match first {
            "clear" => Command::Clear,
            "load" | "load_with_nhcb" => load(line, body),
            _ if first.starts_with("eval") => Command::Eval(eval(line, head + 1, body)),
            _ => panic!("line {}: {line:?}", head + 1),
        });
    }
    commands
}

fn load(line: &str, body: &[&str]) -> Command {
    let step_ms = parse_duration_ms(line.split_whitespace().nth(1).expect("load has a step")).expect("a duration");
    let series = body.iter().filter(|line| !line.contains("@st")).map(|line| series(line)).collect();
    Command::Load { step_ms, series }
}

fn eval(line: &str, number: usize, body: &[&str]) -> Eval {
    let ms = |text: &str| parse_duration_ms(text).expect("a duration");
    let words: Vec<&str> = line.split_whitespace().collect();
    let rest = |skip: usize| {
        let mut rest = line;
        for _ in 0..skip {
            rest = rest.trim_start();
            rest = &rest[rest.find(char::is_whitespace).expect("more words")..];
        }
        rest.trim().to_owned()
    };
    let mut eval = Eval { line: number, ..Eval::default() };
    match words[1] {
        "instant" if words[2] == "at" => {
            (eval.start_ms, eval.end_ms, eval.query) = (ms(words[3]), ms(words[3]), rest(4));
        }
        "instant" => eval.query = rest(2),
        "range" => {
            (eval.start_ms, eval.end_ms, eval.step_ms) = (ms(words[3]), ms(words[5]), ms(words[7]));
            eval.query = rest(8);
        }
        other => panic!("line {number}: eval {other}"),
    }
    match words[0].strip_prefix("eval_") {
        Some("ordered") => eval.expect.ordered = true,
        Some(kind) => eval.expect.notes.push((kind.to_owned(), Text::Any)),
        None => {}
    }
    body.iter().for_each(|line| expect(line, &mut eval.expect));
    eval
}

fn expect(line: &str, into: &mut Expect) {
    if let Some(text) = line.strip_prefix("expected_fail_message ") {
        into.notes = vec![("fail".to_owned(), Text::Is(text.trim().to_owned()))];
    } else if let Some(pattern) = line.strip_prefix("expected_fail_regexp ") {
        into.notes = vec![("fail".to_owned(), Text::Like(regex::Regex::new(pattern.trim()).expect("a pattern")))];
    } else if let Some(text) = line.strip_prefix("expect string ") {
        into.string = Some(unquote(text.trim()));
    } else if let Some(text) = line.strip_prefix("expect range vector from ") {
        let words: Vec<&str> = text.split_whitespace().collect();
        let ms = |text: &str| parse_duration_ms(text).expect("a duration");
        into.range = Some((ms(words[0]), ms(words[4])));
    } else if line == "expect ordered" {
        into.ordered = true;
    } else if let Some(note) = line.strip_prefix("expect ") {
        let (kind, text) = note.split_once(char::is_whitespace).unwrap_or((note, ""));
        let text = text.trim();
        let text = match (text.strip_prefix("msg:"), text.strip_prefix("regex:")) {
            (Some(text), _) => Text::Is(text.trim().to_owned()),
            (_, Some(pattern)) => Text::Like(regex::Regex::new(pattern.trim()).expect("a pattern")),
            _ => Text::Any,
        };
        into.notes.push((kind.to_owned(), text));
    } else if let Some(v) = number(line) {
        into.scalar = Some(v);
    } else {
        into.series.push(series(line));
    }
}

/// Reads `name{label="value"} 1 2 3`.
pub(crate) fn series(line: &str) -> (Labels, Vec<Item>) {
    let line = line.trim();
    let name_end = line.find(['{', ' ', '\t']).unwrap_or(line.len());
    let (name, mut rest) = line.split_at(name_end);
    let mut pairs: Vec<(String, String)> = Vec::new();
    if !name.is_empty() {
        pairs.push(("__name__".to_owned(), name.to_owned()));
    }
    if let Some(inner) = rest.strip_prefix('{').filter(|inner| !inner.starts_with('{')) {
        rest = inner;
        loop {
            rest = rest.trim_start_matches([' ', ',', '\t']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (name, after) = if rest.starts_with(['"', '\'']) {
                let end = quoted(rest);
                (unquote(&rest[..end]), &rest[end..])
            } else {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').expect("a label");
                (rest[..end].to_owned(), &rest[end..])
            };
            let Some(value) = after.trim_start().strip_prefix('=') else {
                pairs.push(("__name__".to_owned(), name));
                rest = after;
                continue;
            };
            let value = value.trim_start();
            let end = quoted(value);
            pairs.push((name, unquote(&value[..end])));
            rest = &value[end..];
        }
    }
    let labels = if pairs.iter().all(|(_, v)| v.is_empty()) {
        Labels::empty()
    } else {
        Labels::new(&pairs).expect("valid labels")
    };
    (labels, items(rest))
}

fn quoted(text: &str) -> usize {
    let quote = text.chars().next().expect("a quote");
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    panic!("{text:?} is not closed")
}

fn unquote(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text[1..text.len() - 1].chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(c) => c,
                None => '\\',
            },
            c => c,
        });
    }
    out
}

fn items(text: &str) -> Vec<Item> {
    let mut all = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let mut end = 0;
        // Within a histogram, and within a second one that it grows by, there are spaces.
        while let Some(inner) = rest[end..].find("{{").filter(|inner| !rest[end..][..*inner].contains(' ')) {
            end += inner + rest[end + inner..].find("}}").expect("a histogram ends") + 2;
        }
        end += rest[end..].find(char::is_whitespace).unwrap_or(rest.len() - end);
        item(&rest[..end], &mut all);
        rest = rest[end..].trim_start();
    }
    all
}

fn item(text: &str, all: &mut Vec<Item>) {
    let repeat = |text: &str| text.rsplit_once('x').map(|(_, n)| n.parse::<usize>().expect("a count"));
    if let Some(text) = text.strip_prefix("{{") {
        let (first, tail) = text.split_once("}}").expect("a histogram ends");
        let mut native = Native::parse(first);
        let (step, sign, tail) = match tail.split_once("{{") {
            Some((sign, step)) => {
                let (step, tail) = step.split_once("}}").expect("a histogram ends");
                (Native::parse(step), if sign == "-" { -1.0 } else { 1.0 }, tail)
            }
            None => (Native::default(), 1.0, tail),
        };
        all.push(Item::Histogram(Box::new(native.clone())));
        for _ in 0..repeat(tail).unwrap_or(0) {
            native = native.step(&step, sign);
            all.push(Item::Histogram(Box::new(native.clone())));
        }
    } else if let Some(tail) = text.strip_prefix('_') {
        all.extend(std::iter::repeat_n(Item::Gap, repeat(tail).unwrap_or(1)));
    } else if let Some(tail) = text.strip_prefix("stale") {
        let stale = Item::Value(model::stale_nan());
        all.extend(std::iter::repeat_n(stale, repeat(tail).map_or(1, |n| n + 1)));
    } else if let Some(v) = number(text) {
        all.push(Item::Value(v));
    } else {
        let (body, n) = text.rsplit_once('x').expect("a repetition");
        let n: usize = n.parse().expect("a count");
        // The sign of the step is the last one that is not that of the start or of an exponent.
        let sign = body.char_indices().skip(1).filter(|(_, c)| matches!(c, '+' | '-'));
        let split = sign.filter(|(at, _)| !body[..*at].ends_with(['e', 'E'])).map(|(at, _)| at).next();
        let (from, step) = match split {
            Some(at) => (number(&body[..at]).expect("a number"), number(&body[at..]).expect("a number")),
            None => (number(body).expect("a number"), 0.0),
        };
        let mut v = from;
        for _ in 0..=n {
            all.push(Item::Value(v));
            v += step;
        }
    }
}

fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.trim_start_matches(['+', '-']);
    if let Some(hex) = digits.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().map(|v| v as f64 * if text.starts_with('-') { -1.0 } else { 1.0 });
    }
    if text.to_lowercase().contains("infinity") {
        return None;
    }
    text.parse().ok()
}
