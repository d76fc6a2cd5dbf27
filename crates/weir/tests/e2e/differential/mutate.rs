//! Draws texts that are nearly queries: one of the grammar in which tokens are left out, doubled, exchanged and put in, with odd numbers, durations, strings,
//! names and blanks.

use std::fmt;

use super::draw::Draw;

/// A text in pieces: words, numbers, strings, symbols, blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pieces(Vec<String>);

impl fmt::Display for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| f.write_str(piece))
    }
}

impl Pieces {
    /// Cuts a text.
    pub(super) fn of(text: &str) -> Pieces {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '"' | '\'' | '`' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
                c if c.is_ascii_alphanumeric() || c == '_' => {
                    rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"_:.".contains(b)).count()
                }
                c if c.is_whitespace() => rest.len() - rest.trim_start().len(),
                _ if ["==", "!=", "=~", "!~", "<=", ">=", "</", ">/"].iter().any(|s| rest.starts_with(s)) => 2,
                c => c.len_utf8(),
            };
            pieces.push(rest[..length].to_owned());
            rest = &rest[length..];
        }
        Pieces(pieces)
    }

    /// The same with pieces left out, the most first.
    pub(super) fn smaller(&self) -> Vec<Pieces> {
        let length = self.0.len();
        let mut all = Vec::new();
        let mut width = length / 2;
        while width > 0 {
            for from in (0..=length - width).step_by(width) {
                let kept = self.0[..from].iter().chain(&self.0[from + width..]).cloned().collect();
                all.push(Pieces(kept));
            }
            width /= 2;
        }
        // A longer piece by a shorter one.
        for (at, piece) in self.0.iter().enumerate().filter(|(_, piece)| piece.len() > 1) {
            let short = if piece.trim().is_empty() { " " } else { "a" };
            if piece.starts_with(char::is_alphabetic) || piece.trim().is_empty() {
                let mut pieces = self.clone();
                pieces.0[at] = short.to_owned();
                all.push(pieces);
            }
        }
        all
    }
}

/// What is put in. Each line is of one kind.
const TOKENS: &[&[&str]] = &[
    &[
        "(", ")", "{", "}", "[", "]", ",", ":", "=", "@", ";", "$", "\\", "!", "~", "&", "|", ".", "?", "{{", "()",
        "[]", "{}",
    ],
    &[
        "+", "-", "*", "/", "%", "^", "==", "!=", "=~", "!~", "<", "<=", ">", ">=", "</", ">/", "and", "or", "unless",
        "atan2",
    ],
    &[
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "bool",
        "offset",
        "anchored",
        "smoothed",
        "fill",
        "fill_left",
        "fill_right",
    ],
    &[
        "fill(0)",
        "fill_left (-1)",
        "on()",
        "on(a)",
        "by(a,)",
        "by (\"x.y\", b)",
        "group_left(c)",
        "ignoring (a) group_right",
        "bool",
    ],
    &[
        "sum",
        "avg",
        "topk",
        "count_values",
        "quantile",
        "limitk",
        "limit_ratio",
        "stddev",
        "group",
        "SUM",
        "Topk",
        "sum by (a)",
    ],
    &[
        "rate",
        "abs",
        "time()",
        "vector(1)",
        "info",
        "label_replace",
        "absent_over_time",
        "nope",
        "start()",
        "end()",
        "step()",
        "range()",
        "histogram_quantiles",
        "min_of",
        "max_of(1, 2)",
    ],
    &["start", "end", "step", "range", "inf", "nan", "Inf", "NaN", "INF", "max_of", "true", "null", "stale"],
    &[
        "0",
        "1",
        "-1",
        "1.",
        ".5",
        "1e3",
        "1e",
        "1e+",
        "1E-5",
        "0x1F",
        "0x",
        "0X_1",
        "1_000",
        "1__0",
        "1_",
        "_1",
        "010",
        "09",
        "0b1",
        "1e400",
        "1.2.3",
        "99999999999999999999",
        "1.e3",
        "0.0",
        "0x1p3",
        "0x1e+5",
        "0xE-1",
        "0x1e",
        "0x1E_5",
        "0x1.8",
        "0_7",
        "00.5",
        "1e1_0",
        "1e+_1",
        "0o17",
        "0x7fffffffffffffffffff",
        "0.1e-400",
        "1i",
        "Infinity",
    ],
    &[
        "5m",
        "1h30m",
        "1m1h",
        "0s",
        "1y2w3d4h5m6s7ms",
        "5",
        "1.5h",
        "1mm",
        "1M",
        "5ms",
        "1s1ms",
        "300y",
        "99999999y",
        "-5m",
        "1h1h",
        "5m5",
        "m5",
        "1d2",
        "0x5m",
        "5_m",
    ],
    &[
        "[5m]",
        "[1h:5m]",
        "[1h:]",
        "[:5m]",
        "[5m:",
        "[ 5m ]",
        "[-5m]",
        "[0]",
        "[step()]",
        "[5m + 1m]",
        "[(5m)]",
        "[max_of(1m, step())]",
        "[5m:5m:5m]",
        "[5m][5m]",
        "[1e3]",
        "[1m:step()*2]",
    ],
    &[
        "offset 5m",
        "offset -5m",
        "offset 1e3",
        "offset step()",
        "offset (5m)",
        "offset -(5m)",
        "offset 5m offset 5m",
        "offset NaN",
        "offset -NaN",
        "offset (NaN)",
        "offset -(Inf)",
        "offset (0/0)",
        "offset min_of(NaN, 1)",
        "offset 0.0005",
        "offset",
        "@ 1",
        "@ -1.5",
        "@ start()",
        "@ end()",
        "@ Inf",
        "@ 5m",
        "@",
        "@ start",
        "@ 1e30",
        "anchored smoothed",
    ],
    &[
        "\"\"",
        "''",
        "``",
        "\"a\"",
        "'b'",
        "`c\\d`",
        "\"\\n\\t\\\"\"",
        "'\\''",
        "\"\\x41\\u00e9\\U0001F600\"",
        "\"\\q\"",
        "\"\\xzz\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\400\"",
        "\"\\101\"",
        "\"unclosed",
        "'unclosed",
        "`unclosed",
        "\"a\nb\"",
        "\"\\",
        "\"é世\"",
        "\"\\xff\"",
        "'a\\xc3\\xa9\\xc3'",
        "\"\\377|b\"",
        "\"(\\x80)\"",
        "'\\\"'",
    ],
    &[
        "{a=\"b\"}",
        "{a!=\"b\", c=~\"d.*\",}",
        "{a=~\"(\"}",
        "{\"x.y\"}",
        "{\"x\", \"y\"}",
        "{a=b}",
        "{a}",
        "{a=\"b\" c=\"d\"}",
        "{,}",
        "{a=\"b\",,}",
        "{__name__=\"x\"}",
        "{=\"b\"}",
        "{a:b=\"c\"}",
        "{5=\"a\"}",
        "{by=\"x\"}",
        "{a==\"b\"}",
        "{a<\"b\"}",
        "{\"a\"=\"b\"}",
        "{a=\"b\"}{c=\"d\"}",
        "{a=~\".*\"}",
        "{a!~\"[\"}",
    ],
    &["foo", "foo:bar", ":foo", "a.b", "é", "日本", "a-b", "_", "__name__", "job", "le", "x_1", "\u{feff}", "\u{200b}"],
    &["# comment\n", "#", "# \" ( [\n", "#\r", " # c"],
];

const OPERATORS: &[&str] =
    &["+", "-", "*", "/", "%", "^", "==", "<=", "and", "or", "unless", "atan2", "</", ">/", "!="];
const MODIFIERS: &[&str] = &[
    "",
    "",
    "",
    "bool ",
    "on (a) ",
    "ignoring (a, b) ",
    "on (a) group_left (c) ",
    "on () group_right ",
    "fill (0) ",
    "on (a) fill_left (1) fill_right (-2) ",
];
const FUNCTIONS: &[&str] = &[
    "rate",
    "abs",
    "sum_over_time",
    "time",
    "vector",
    "scalar",
    "round",
    "label_replace",
    "info",
    "histogram_quantile",
    "absent",
    "clamp",
    "days_in_month",
    "min_of",
    "label_join",
];
const RANGES: &[&str] =
    &["[5m]", "[1h:5m]", "[1h:]", "[step() + 1m]", "[-(5m)]", "[(1h):1m]", "[5m * 2]", "[max_of(5m, range())]"];
const MOVED: &[&str] = &[
    " offset 5m",
    " offset -5m",
    " @ 10",
    " @ start()",
    " @ end() offset 1m",
    " offset 1m @ 5",
    " anchored",
    " smoothed",
    " offset (1m + 1s)",
    " offset step()",
    " offset NaN",
    " offset (1 - NaN)",
];

/// What stands between tokens.
const BLANKS: &[&str] =
    &["", " ", "  ", "\t", "\n", "\r\n", "\r", "\n\n", "\u{a0}", "\u{2003}", "\u{b}", "#c\n", " \n\t "];

impl Draw {
    /// A text, which may be a query.
    pub(super) fn text(&mut self, others: &[&str]) -> Pieces {
        let base = match self.random.u8(..10) {
            0..3 => self.query().to_string(),
            3 => self.syntax(2),
            4 if !others.is_empty() => others[self.random.usize(..others.len())].to_owned(),
            _ => self.syntax(3),
        };
        let mut pieces = Pieces::of(&base);
        for _ in 0..[0, 1, 1, 1, 2, 2, 3, 5][self.random.usize(..8)] {
            self.mutate(&mut pieces.0);
        }
        // Cut again, since what was put in may have parts.
        Pieces::of(&pieces.to_string())
    }

    fn mutate(&mut self, pieces: &mut Vec<String>) {
        if pieces.is_empty() {
            return pieces.push(self.token());
        }
        let at = self.random.usize(..pieces.len());
        match self.random.u8(..13) {
            0 | 1 => drop(pieces.remove(at)),
            2 => pieces.insert(at, pieces[at].clone()),
            3 => {
                let other = self.random.usize(..pieces.len());
                pieces.swap(at, other);
            }
            4 | 5 => pieces[at] = self.token(),
            6 | 7 => {
                let token = format!(" {} ", self.token());
                pieces.insert(at, token);
            }
            8 => pieces.insert(at, self.token()),
            9 => {
                let blank = BLANKS[self.random.usize(..BLANKS.len())];
                match pieces.iter().position(|piece| piece.trim().is_empty()) {
                    Some(first) if self.random.bool() => pieces[first] = blank.to_owned(),
                    _ => pieces.insert(at, blank.to_owned()),
                }
            }
            10 => pieces[at] = if self.random.bool() { pieces[at].to_uppercase() } else { pieces[at].to_lowercase() },
            11 => pieces.truncate(at),
            // Part of a piece.
            _ => {
                let keep = self.random.usize(..=pieces[at].chars().count());
                pieces[at] = pieces[at].chars().take(keep).collect();
            }
        }
    }

    fn token(&mut self) -> String {
        let kind = TOKENS[self.random.usize(..TOKENS.len())];
        kind[self.random.usize(..kind.len())].to_owned()
    }

    fn pick(&mut self, of: &[&str]) -> String {
        of[self.random.usize(..of.len())].to_owned()
    }

    /// A query of which only the grammar matters, types mostly not.
    fn syntax(&mut self, depth: u8) -> String {
        if depth == 0 {
            return match self.random.u8(..8) {
                0 => self.pick(&["1", "0.5", "5m", "1e3", "0x1F", "Inf", "-1"]),
                1 => self.pick(&["\"text\"", "'t'", "`raw`"]),
                _ => self.series(),
            };
        }
        match self.random.u8(..11) {
            0 | 1 => {
                let (a, b) = (self.inner(depth), self.inner(depth));
                format!("{a} {} {}{b}", self.pick(OPERATORS), self.pick(MODIFIERS))
            }
            2 => format!("{}{}", self.pick(&["-", "+", "--", "- "]), self.inner(depth)),
            3 => format!("({})", self.inner(depth)),
            4 | 5 => {
                let count = self.random.u8(..4);
                let args: Vec<String> = (0..count).map(|_| self.inner(depth)).collect();
                format!("{}({})", self.pick(FUNCTIONS), args.join(", "))
            }
            6 | 7 => {
                let operator = self.pick(&["sum", "avg", "topk", "count_values", "quantile", "limitk", "group"]);
                let grouping = self.pick(&["", " by (a)", " without (b, c)", " by ()", " by (a,)", " by (\"x.y\")"]);
                let more = if self.random.bool() { String::new() } else { format!("{}, ", self.inner(depth)) };
                let args = format!("{more}{}", self.inner(depth));
                match self.random.bool() {
                    true => format!("{operator}{grouping} ({args})"),
                    false => format!("{operator}({args}){grouping}"),
                }
            }
            8 => format!("{}{}", self.inner(depth), self.pick(RANGES)),
            9 => format!("{}{}", self.inner(depth), self.pick(MOVED)),
            _ => self.series(),
        }
    }

    /// One that is less deep.
    fn inner(&mut self, depth: u8) -> String {
        let less = self.random.u8(..depth);
        self.syntax(less)
    }

    fn series(&mut self) -> String {
        let name =
            self.pick(&["a", "foo_bar", "x:y", "sum", "by", "offset", "start", "inf_", "bool", "fill", "step", ""]);
        let braces = self.pick(&[
            "",
            "",
            "{}",
            "{a=\"b\"}",
            "{a=~\"b|c\", d!='e',}",
            "{\"quoted.name\"}",
            "{a!~\"x\"}",
            "{__name__=\"n\"}",
            "{\"l.x\"=\"y\", z=\"\"}",
        ]);
        let after =
            self.pick(&["", "", "", "[5m]", "[1h:5m]", " offset 5m", "[5m] offset 1m", " @ 5", "[5m] anchored"]);
        format!("{name}{braces}{after}")
    }
}
