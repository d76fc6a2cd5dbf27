//! Conditions on labels.

use std::fmt;

use regex::Regex;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends, `.` matches line breaks too
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// The operator as PromQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// A regular expression that does not compile, or is too large.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid regular expression {pattern:?}: {reason}")]
pub struct InvalidRegex {
    /// The pattern as it was given.
    pub pattern: String,
    /// What is wrong with it, on one line.
    pub reason: String,
}

/// Compiled size of one pattern; a longer one is refused. 1 MiB compiles in some milliseconds and is
/// ten times what the largest alternation seen on a dashboard needs.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// A condition on one label. A label that a series does not have has the empty value.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// The label's name.
    pub name: String,
    /// How to compare.
    pub op: MatchOp,
    /// The value, or the pattern as it was written.
    pub value: String,
    regex: Option<Regex>,
}

impl Matcher {
    /// Compiles the pattern where the operator has one.
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Self, InvalidRegex> {
        let (name, value) = (name.into(), value.into());
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(compile(&value)?),
        };
        Ok(Matcher { name, op, value, regex })
    }

    /// `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Matcher { name: name.into(), op: MatchOp::Equal, value: value.into(), regex: None }
    }

    /// Whether a value of the label meets the condition; the empty string stands for its absence.
    pub fn matches(&self, value: &str) -> bool {
        let pattern = || self.regex.as_ref().is_some_and(|r| r.is_match(value));
        match self.op {
            MatchOp::Equal => self.value == value,
            MatchOp::NotEqual => self.value != value,
            MatchOp::Regex => pattern(),
            MatchOp::NotRegex => !pattern(),
        }
    }

    /// Whether a series without the label meets the condition.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The pattern with its anchors, as it is compiled; `None` for equality.
    pub fn anchored_pattern(&self) -> Option<String> {
        self.regex.as_ref().map(|r| r.as_str().to_owned())
    }
}

fn compile(pattern: &str) -> Result<Regex, InvalidRegex> {
    let invalid = |reason: String| InvalidRegex { pattern: pattern.to_owned(), reason };
    // The pattern alone first, so that one that closes the group of the anchors is refused.
    regex_syntax_check(pattern).map_err(invalid)?;
    regex::RegexBuilder::new(&format!("^(?s:{pattern})$"))
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|e| invalid(one_line(&e)))
}

fn regex_syntax_check(pattern: &str) -> Result<(), String> {
    regex::RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build().map(drop).map_err(|e| one_line(&e))
}

fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or("").trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, value) = (self.op.as_str(), &self.value);
        if crate::labels::is_legacy_label_name(&self.name) {
            write!(f, "{}{op}{value:?}", self.name)
        } else {
            write!(f, "{:?}{op}{value:?}", self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(op: MatchOp, pattern: &str, value: &str, expect: bool) {
        let matcher = Matcher::new(op, "l", pattern).expect("compiles");
        assert_eq!(matcher.matches(value), expect, "{matcher} on {value:?}");
    }

    #[test]
    fn operators_compare_whole_values() {
        check(MatchOp::Equal, "a", "a", true);
        check(MatchOp::NotEqual, "a", "", true);
        check(MatchOp::Regex, "a|b", "b", true);
        check(MatchOp::Regex, "a|b", "ab", false);
        check(MatchOp::Regex, ".*", "", true);
        check(MatchOp::Regex, "a.b", "a\nb", true);
        check(MatchOp::NotRegex, "a+", "aaa", false);
        check(MatchOp::NotRegex, "a+", "", true);
    }

    #[test]
    fn bad_patterns_are_refused_with_a_reason() {
        let refused = |p: &str| Matcher::new(MatchOp::Regex, "l", p).expect_err("refused").reason;
        assert_eq!(refused("a("), "unclosed group");
        assert_eq!(refused("a)(b"), "unopened group");
        assert!(refused(&"(a{1000}){1000}".repeat(2)).contains("size limit"));
    }
}
