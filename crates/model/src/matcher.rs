//! Conditions on labels.

use std::borrow::Cow;
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
    regex: Option<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    compiled: Regex,
    shape: Shape,
}

/// What is known of the values that a pattern accepts, so that an index needs not try all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Exactly these.
    OneOf(Vec<String>),
    /// They begin so, perhaps with nothing.
    Prefix(String),
}

/// Values of a pattern that are listed; a pattern of more is tried on each value of the label.
const VALUES_MAX: usize = 1000;

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
        let pattern = || self.regex.as_ref().is_some_and(|r| r.compiled.is_match(value));
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
        self.regex.as_ref().map(|r| r.compiled.as_str().to_owned())
    }

    /// What is known of the values that the pattern accepts, for `!~` of those that it does not let through; `None` for equality.
    pub fn shape(&self) -> Option<&Shape> {
        self.regex.as_ref().map(|r| &r.shape)
    }
}

fn compile(written: &str) -> Result<Pattern, InvalidRegex> {
    let invalid = |reason: String| InvalidRegex { pattern: written.to_owned(), reason };
    let pattern = &braces_escaped(written);
    // The pattern alone first, so that one that closes the group of the anchors is refused.
    regex_syntax_check(pattern).map_err(invalid)?;
    regex::RegexBuilder::new(&format!("^(?s:{pattern})$"))
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map(|compiled| Pattern { compiled, shape: shape(pattern) })
        .map_err(|e| invalid(one_line(&e)))
}

/// Reads off the literals of a pattern what it accepts.
/// A pattern in which a brace that does not begin a repetition is escaped: in Go, whose patterns people write, it stands for itself.
fn braces_escaped(pattern: &str) -> Cow<'_, str> {
    if !pattern.contains('{') {
        return Cow::Borrowed(pattern);
    }
    let mut out = String::with_capacity(pattern.len() + 2);
    let (mut rest, mut in_class) = (pattern, false);
    while let Some(c) = rest.chars().next() {
        let length = match c {
            // `\p{Greek}` and `\x{1F600}` have braces of their own.
            '\\' if rest[1..].starts_with(['p', 'P', 'x']) && rest[2..].starts_with('{') => {
                rest.find('}').map_or(rest.len(), |end| end + 1)
            }
            '\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            '[' if !in_class => {
                in_class = true;
                // A bracket that closes at once is one of the class.
                1 + usize::from(rest[1..].starts_with('^'))
                    + usize::from(rest[1..].trim_start_matches('^').starts_with(']'))
            }
            ']' => {
                in_class = false;
                1
            }
            '{' if !in_class && !is_repetition(rest) => {
                out.push('\\');
                1
            }
            c => c.len_utf8(),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    Cow::Owned(out)
}

/// Whether a text begins with `{2}`, `{2,}` or `{2,3}`.
fn is_repetition(text: &str) -> bool {
    let Some((inner, _)) = text[1..].split_once('}') else { return false };
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

fn shape(pattern: &str) -> Shape {
    let parsed = regex_syntax::ParserBuilder::new().dot_matches_new_line(true).build().parse(pattern);
    let Ok(parsed) = parsed else { return Shape::Prefix(String::new()) };
    let mut extractor = regex_syntax::hir::literal::Extractor::new();
    extractor.limit_total(VALUES_MAX);
    let literals = extractor.extract(&parsed);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    // An anchor or a word boundary inside is no literal, and would be taken for nothing.
    if parsed.properties().look_set().is_empty()
        && literals.is_exact()
        && let Some(values) = literals.literals().and_then(|all| all.iter().map(|l| text(l.as_bytes())).collect())
    {
        return Shape::OneOf(values);
    }
    let prefix = literals.longest_common_prefix().map(|bytes| match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(cut) => std::str::from_utf8(&bytes[..cut.valid_up_to()]).unwrap_or(""),
    });
    Shape::Prefix(prefix.unwrap_or("").to_owned())
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
    fn what_a_pattern_accepts_is_read_off_it() {
        let check = |pattern: &str, expect: Shape| {
            let matcher = Matcher::new(MatchOp::Regex, "l", pattern).expect("compiles");
            assert_eq!(matcher.shape(), Some(&expect), "{pattern}");
        };
        let one_of = |values: &[&str]| Shape::OneOf(values.iter().map(|v| (*v).to_owned()).collect());
        let prefix = |text: &str| Shape::Prefix(text.to_owned());
        check("a", one_of(&["a"]));
        check("b|a|bc", one_of(&["b", "a", "bc"]));
        check("5[01]x?", one_of(&["50x", "50", "51x", "51"]));
        check("", one_of(&[""]));
        check("(?i)ab", one_of(&["AB", "Ab", "aB", "ab"]));
        check("app-.*-7[0-9]{2}", prefix("app-"));
        check("app-(x|y).+", prefix("app-"));
        check("a$|b", prefix(""));
        check("^ab", prefix("ab"));
        check("(ä.|ö.)", prefix(""));
        check(".*", prefix(""));
        check("a{2000}", prefix("aaaaaaaaaa"));
        assert_eq!(Matcher::equal("l", "a").shape(), None);
    }

    #[test]
    fn a_brace_that_repeats_nothing_stands_for_itself() {
        for (pattern, value) in [
            ("a{", "a{"),
            ("a{}b", "a{}b"),
            ("a{,2}", "a{,2}"),
            ("a{b}|c", "a{b}"),
            ("a{2", "a{2"),
            ("a{2}", "aa"),
            ("(a{2,}){1,3}", "aaaa"),
            ("\\p{Greek}+{x", "αβ{x"),
            ("\\x{61}{2}", "aa"),
            ("[{]x[]{]", "{x{"),
            ("\\{{", "{{"),
        ] {
            check(MatchOp::Regex, pattern, value, true);
        }
        check(MatchOp::Regex, "a{2}", "a{2}", false);
        assert!(Matcher::new(MatchOp::Regex, "l", "{2}").is_err());
    }

    #[test]
    fn bad_patterns_are_refused_with_a_reason() {
        let refused = |p: &str| Matcher::new(MatchOp::Regex, "l", p).expect_err("refused").reason;
        assert_eq!(refused("a("), "unclosed group");
        assert_eq!(refused("a)(b"), "unopened group");
        assert!(refused(&"(a{1000}){1000}".repeat(2)).contains("size limit"));
    }
}
