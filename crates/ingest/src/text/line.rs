//! Reads one line of an exposition.
//!
//! Names and values are told as places in the line; only what has escapes is written anew, into a buffer that lives as long as the
//! parser. Escapes that are not known stay as they are, and hexadecimal floats are refused, both as in Prometheus.

use std::borrow::Cow;

use model::{METRIC_NAME, MetricType};

use super::Dialect;

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Byte in the line.
    pub(super) at: usize,
    pub(super) reason: Cow<'static, str>,
}

/// What a line holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    /// Nothing, or a comment.
    Nothing,
    /// `# EOF`.
    End,
    /// Something about a family.
    About { family: String, about: About },
    /// A sample, whose labels are in the [`Parts`], with value and time of its exemplar, whose labels are there too.
    Sample { v: f64, t: Option<i64>, exemplar: Option<(f64, Option<i64>)> },
}

/// What a line says of a family.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum About {
    Type(MetricType),
    Help(String),
    Unit(String),
}

/// Where the labels of a line stand.
#[derive(Debug, Default)]
pub(super) struct Parts {
    labels: Vec<(Part, Part)>,
    /// Labels of the exemplar.
    exemplar: Vec<(Part, Part)>,
    /// Texts without their escapes.
    unescaped: String,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Line(usize, usize),
    Unescaped(usize, usize),
    MetricName,
}

impl Parts {
    /// The labels of the line that was read last, the metric's name among them.
    pub(super) fn pairs<'x>(&'x self, line: &'x str) -> impl Iterator<Item = (&'x str, &'x str)> {
        self.texts(&self.labels, line)
    }

    /// The labels of its exemplar.
    pub(super) fn exemplar<'x>(&'x self, line: &'x str) -> impl Iterator<Item = (&'x str, &'x str)> {
        self.texts(&self.exemplar, line)
    }

    fn texts<'x>(&'x self, parts: &'x [(Part, Part)], line: &'x str) -> impl Iterator<Item = (&'x str, &'x str)> {
        let text = move |part| match part {
            Part::Line(from, to) => &line[from..to],
            Part::Unescaped(from, to) => &self.unescaped[from..to],
            Part::MetricName => METRIC_NAME,
        };
        parts.iter().map(move |(name, value)| (text(*name), text(*value)))
    }
}

/// Reads a line without its newline.
pub(super) fn parse(line: &str, dialect: Dialect, parts: &mut Parts) -> Result<Line, Fault> {
    parts.labels.clear();
    parts.exemplar.clear();
    parts.unescaped.clear();
    let mut cursor = Cursor { line, at: 0, dialect, parts };
    match dialect {
        Dialect::Classic => {
            cursor.line = line.strip_suffix('\r').unwrap_or(line);
            cursor.blanks();
        }
        Dialect::OpenMetrics if line.is_empty() => return Err(cursor.fault("empty line")),
        Dialect::OpenMetrics => {}
    }
    match cursor.peek() {
        None => Ok(Line::Nothing),
        Some(b'#') => cursor.comment(),
        Some(_) => cursor.sample(),
    }
}

struct Cursor<'l, 'p> {
    line: &'l str,
    at: usize,
    dialect: Dialect,
    parts: &'p mut Parts,
}

impl<'l> Cursor<'l, '_> {
    fn fault(&self, reason: impl Into<Cow<'static, str>>) -> Fault {
        Fault { at: self.at, reason: reason.into() }
    }

    fn peek(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'l str {
        &self.line[self.at..]
    }

    /// Skips blanks where the dialect allows any; says whether there were some.
    fn blanks(&mut self) -> bool {
        let from = self.at;
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        self.at > from
    }

    /// What must stand between two fields.
    fn separator(&mut self) -> Result<(), Fault> {
        let (there, missing) = match self.dialect {
            Dialect::Classic => (self.blanks(), "expected a blank"),
            Dialect::OpenMetrics if self.peek() == Some(b' ') => {
                self.at += 1;
                (true, "")
            }
            Dialect::OpenMetrics => (false, "expected one space"),
        };
        if there { Ok(()) } else { Err(self.fault(missing)) }
    }

    /// The bytes up to the next blank.
    fn word(&mut self) -> &'l str {
        let rest = self.rest();
        let length = rest.bytes().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// The bytes of a name, which `more` allows besides letters, digits and underscores.
    fn name(&mut self, colon: bool) -> Option<Part> {
        let from = self.at;
        let rest = &self.line.as_bytes()[from..];
        if rest.first().is_none_or(u8::is_ascii_digit) {
            return None;
        }
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || (colon && *b == b':');
        let length = rest.iter().position(|b| !is_name(b)).unwrap_or(rest.len());
        self.at += length;
        (length > 0).then_some(Part::Line(from, from + length))
    }

    /// A text in quotes; the cursor stands on the first.
    fn quoted(&mut self) -> Result<Part, Fault> {
        let opening = self.at;
        let bytes = self.line.as_bytes();
        let (from, mut at, mut escaped) = (opening + 1, opening + 1, false);
        loop {
            match memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                Some(length) if bytes[at + length] == b'"' => {
                    at += length;
                    break;
                }
                Some(length) if at + length + 1 < bytes.len() => {
                    escaped = true;
                    at += length + 2;
                }
                _ => return Err(Fault { at: opening, reason: "quote is not closed".into() }),
            }
        }
        self.at = at + 1;
        if !escaped {
            return Ok(Part::Line(from, at));
        }
        let start = self.parts.unescaped.len();
        unescape(&self.line[from..at], true, &mut self.parts.unescaped);
        Ok(Part::Unescaped(start, self.parts.unescaped.len()))
    }

    fn comment(&mut self) -> Result<Line, Fault> {
        let open = self.dialect == Dialect::OpenMetrics;
        if open && self.line == "# EOF" {
            return Ok(Line::End);
        }
        self.at += 1;
        let spaced = self.blanks();
        let keyword = self.word();
        if !spaced || !matches!(keyword, "HELP" | "TYPE" | "UNIT") || (keyword == "UNIT" && !open) {
            let unknown = Fault { at: 0, reason: "expected # HELP, # TYPE, # UNIT or # EOF".into() };
            return if open { Err(unknown) } else { Ok(Line::Nothing) };
        }
        self.separator()?;
        let family = match self.peek() {
            Some(b'"') => self.quoted()?,
            _ => self.name(true).ok_or_else(|| self.fault("expected a metric name"))?,
        };
        let family = match family {
            Part::Line(from, to) => self.line[from..to].to_owned(),
            Part::Unescaped(from, to) => self.parts.unescaped[from..to].to_owned(),
            Part::MetricName => String::new(),
        };
        // A help without a text.
        if self.at == self.line.len() && keyword == "HELP" {
            return Ok(Line::About { family, about: About::Help(String::new()) });
        }
        self.separator()?;
        let text = self.rest();
        let about = match keyword {
            "HELP" => {
                let mut help = String::with_capacity(text.len());
                unescape(text, open, &mut help);
                About::Help(help)
            }
            "UNIT" => About::Unit(text.to_owned()),
            _ => {
                let name = if open { text } else { text.trim_end_matches([' ', '\t']) };
                let kind = MetricType::from_name(name);
                About::Type(kind.ok_or_else(|| self.fault("unknown metric type"))?)
            }
        };
        Ok(Line::About { family, about })
    }

    fn sample(&mut self) -> Result<Line, Fault> {
        let open = self.dialect == Dialect::OpenMetrics;
        let mut named = false;
        if self.peek() != Some(b'{') {
            let name = self.name(true).ok_or_else(|| self.fault("expected a metric name"))?;
            self.parts.labels.push((Part::MetricName, name));
            named = true;
            if !open {
                let before = self.at;
                self.blanks();
                if self.peek() != Some(b'{') {
                    self.at = before;
                }
            }
        }
        let braces = self.peek() == Some(b'{');
        if braces {
            self.braces(named)?;
        }
        if braces && !open {
            // The classic format needs no blank there.
            self.blanks();
        } else {
            self.separator()?;
        }
        let at = self.at;
        let v = number(self.word()).map_err(|reason| Fault { at, reason: reason.into() })?;
        let mut t = None;
        if self.more()? && self.peek() != Some(b'#') {
            t = Some(self.timestamp()?);
            self.more()?;
        }
        let exemplar = if self.at < self.line.len() { Some(self.exemplar()?) } else { None };
        Ok(Line::Sample { v, t, exemplar })
    }

    /// Whether another field follows. Blanks at the end are none.
    fn more(&mut self) -> Result<bool, Fault> {
        if self.at == self.line.len() {
            return Ok(false);
        }
        self.separator()?;
        if self.at == self.line.len() && self.dialect == Dialect::OpenMetrics {
            return Err(self.fault("blank at the end of the line"));
        }
        Ok(self.at < self.line.len())
    }

    fn timestamp(&mut self) -> Result<i64, Fault> {
        let at = self.at;
        let word = self.word();
        match self.dialect {
            Dialect::Classic => {
                word.parse().map_err(|_| Fault { at, reason: "timestamp is not an integer, Unix milliseconds".into() })
            }
            Dialect::OpenMetrics => number(word)
                .ok()
                .map(|seconds| (seconds * 1000.0).round())
                .filter(|ms| ms.abs() < 9.0e18)
                .map(|ms| ms as i64)
                .ok_or_else(|| Fault { at, reason: "timestamp is not a number, Unix seconds".into() }),
        }
    }

    /// `# {label="value"} 1 1700000000.0`
    fn exemplar(&mut self) -> Result<(f64, Option<i64>), Fault> {
        if self.dialect == Dialect::Classic || self.peek() != Some(b'#') {
            return Err(self.fault("expected the end of the line"));
        }
        self.at += 1;
        self.separator()?;
        if self.peek() != Some(b'{') {
            return Err(self.fault("expected the labels of an exemplar"));
        }
        let labels = self.parts.labels.len();
        self.braces(true)?;
        self.parts.exemplar.extend(self.parts.labels.drain(labels..));
        self.separator()?;
        let at = self.at;
        let v = number(self.word()).map_err(|reason| Fault { at, reason: reason.into() })?;
        let t = if self.more()? { Some(self.timestamp()?) } else { None };
        if self.at < self.line.len() {
            return Err(self.fault("expected the end of the line"));
        }
        Ok((v, t))
    }

    /// The labels, and the metric's name where it was not before them.
    fn braces(&mut self, mut named: bool) -> Result<(), Fault> {
        self.at += 1;
        self.blanks();
        while self.peek() != Some(b'}') {
            let at = self.at;
            let quoted = self.peek() == Some(b'"');
            let name = if quoted { Some(self.quoted()?) } else { self.name(false) };
            let Some(name) = name else { return Err(self.fault("expected a label name or }")) };
            self.blanks();
            if quoted && self.peek() != Some(b'=') {
                if std::mem::replace(&mut named, true) {
                    return Err(Fault { at, reason: "second metric name".into() });
                }
                self.parts.labels.push((Part::MetricName, name));
            } else {
                self.expect(b'=', "expected =")?;
                self.blanks();
                if self.peek() != Some(b'"') {
                    return Err(self.fault("expected a label value in double quotes"));
                }
                let value = self.quoted()?;
                self.parts.labels.push((name, value));
            }
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.fault("expected , or }")),
            }
            self.blanks();
        }
        self.at += 1;
        if named { Ok(()) } else { Err(Fault { at: 0, reason: "no metric name".into() }) }
    }

    fn expect(&mut self, byte: u8, reason: &'static str) -> Result<(), Fault> {
        if self.peek() != Some(byte) {
            return Err(self.fault(reason));
        }
        self.at += 1;
        Ok(())
    }
}

fn unescape(text: &str, quotes: bool, out: &mut String) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let known = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => Some('\\'),
            Some(b'n') => Some('\n'),
            Some(b'"') if quotes => Some('"'),
            _ => None,
        };
        out.push(known.unwrap_or('\\'));
        rest = &rest[at + 1 + usize::from(known.is_some())..];
    }
    out.push_str(rest);
}

/// A float as Go's `strconv.ParseFloat` reads it, without its hexadecimal ones and underscores. Every NaN becomes the same one,
/// as a text cannot mark the end of a series.
pub(super) fn number(word: &str) -> Result<f64, &'static str> {
    let digits = word.trim_start_matches(['+', '-']);
    if word.is_empty() {
        return Err("expected a value");
    }
    if digits.eq_ignore_ascii_case("nan") {
        return if digits.len() == word.len() { Ok(f64::NAN) } else { Err("value is not a number") };
    }
    let value: f64 = word.parse().map_err(|_| "value is not a number")?;
    if value.is_infinite() && digits.as_bytes().first().is_some_and(|b| b.is_ascii_digit() || *b == b'.') {
        return Err("value is out of the range of a 64-bit float");
    }
    Ok(value)
}
