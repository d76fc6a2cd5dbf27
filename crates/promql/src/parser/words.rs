//! Words: which are keywords, where they may be names all the same, and how an error names a token.

use crate::lexer::TokenKind;
use crate::printer::quote;

const OPERATORS: [&str; 4] = ["and", "or", "unless", "atan2"];
const AGGREGATORS: [&str; 14] = [
    "sum",
    "avg",
    "count",
    "min",
    "max",
    "group",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "count_values",
    "quantile",
    "limitk",
    "limit_ratio",
];
const KEYWORDS: [&str; 13] = [
    "offset",
    "smoothed",
    "anchored",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "fill",
    "fill_left",
    "fill_right",
    "bool",
];
/// Names of functions in some places.
const PREPROCESSORS: [&str; 6] = ["start", "end", "step", "range", "max_of", "min_of"];
/// Keywords that are names of no metric.
const NO_METRICS: [&str; 6] = ["on", "ignoring", "group_left", "group_right", "bool", "atan2"];

fn is_one(word: &str, of: &[&str]) -> bool {
    of.iter().any(|one| word.eq_ignore_ascii_case(one))
}

/// The number that a word stands for.
pub(super) fn constant(word: &str) -> Option<f64> {
    match word {
        _ if word.eq_ignore_ascii_case("inf") => Some(f64::INFINITY),
        _ if word.eq_ignore_ascii_case("nan") => Some(f64::NAN),
        _ => None,
    }
}

/// Whether a word in front of a parenthesis is the name of a function.
pub(super) fn may_be_function(word: &str) -> bool {
    let other = is_one(word, &OPERATORS) || is_one(word, &AGGREGATORS) || is_one(word, &KEYWORDS);
    !word.contains(':') && !other
}

/// Whether a word is a keyword in front of a parenthesis only.
pub(super) fn is_fill(word: &str) -> bool {
    is_one(word, &["fill", "fill_left", "fill_right"])
}

pub(super) fn may_be_metric(word: &str) -> bool {
    !is_one(word, &NO_METRICS) && constant(word).is_none()
}

/// Whether a word is the name of a label where labels are listed.
pub(super) fn may_be_label(word: &str) -> bool {
    !word.eq_ignore_ascii_case("without") && constant(word).is_none()
}

/// A token as errors name it.
pub(super) fn describe(kind: &TokenKind, text: &str) -> String {
    match kind {
        TokenKind::End => "end of input".to_owned(),
        TokenKind::Error(message) => message.clone(),
        TokenKind::Number(_) => format!("number {}", shortened(text)),
        TokenKind::Duration(_) => format!("duration {}", shortened(text)),
        TokenKind::String(_) => format!("string {}", shortened(text)),
        TokenKind::Symbol("(" | ")" | "{" | "}" | "[" | "]" | "," | "=" | ":") => quote(text),
        TokenKind::Symbol(_) => format!("<op:{text}>"),
        TokenKind::Word if is_one(text, &OPERATORS) => format!("<op:{text}>"),
        TokenKind::Word if is_one(text, &AGGREGATORS) => format!("<aggr:{text}>"),
        TokenKind::Word if is_one(text, &KEYWORDS) => format!("<{text}>"),
        TokenKind::Word if is_one(text, &PREPROCESSORS) => quote(text),
        TokenKind::Word if constant(text).is_some() => format!("number {}", quote(text)),
        TokenKind::Word if text.contains(':') => format!("metric identifier {}", quote(text)),
        TokenKind::Word | TokenKind::Name => format!("identifier {}", quote(text)),
    }
}

/// A text in quotes, of which no more than ten characters are shown.
fn shortened(text: &str) -> String {
    if text.len() <= 10 {
        return quote(text);
    }
    let short: String = text.chars().take(10).collect();
    format!("{}...", quote(&short))
}
