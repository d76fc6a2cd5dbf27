//! Two lists of alerts as one JSON text, with marks in colour: red is missing, green was not expected, yellow is another value.

use serde_json::{Map, Value, json};

use super::check::{Alert, Pairs};

const RESET: &str = "\u{1b}[0m";
const RED: &str = "\u{1b}[0;31m";
const GREEN: &str = "\u{1b}[0;32m";
const YELLOW: &str = "\u{1b}[0;33m";
const INDENT: &str = "    ";

/// The text of what was expected and what came.
pub(super) fn alerts(expected: &[Alert], got: &[Alert]) -> String {
    let mut lines = Vec::new();
    both("", &listed(expected), &listed(got), 0, &mut lines);
    lines.join("\n")
}

/// Where there is none, one that is empty stands for it.
fn listed(alerts: &[Alert]) -> Value {
    let object = |pairs: &Pairs| -> Map<String, Value> {
        pairs.0.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect()
    };
    let show = |alert: &Alert| json!({"Labels": object(&alert.labels), "Annotations": object(&alert.annotations)});
    let shown: Vec<Value> = alerts.iter().map(show).collect();
    Value::from(if shown.is_empty() { vec![show(&Alert::default())] } else { shown })
}

/// Adds the lines of two values that stand at the same place, which `key` begins.
fn both(key: &str, a: &Value, b: &Value, level: usize, lines: &mut Vec<String>) {
    let indent = INDENT.repeat(level);
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort_unstable();
            names.dedup();
            let parts =
                names.into_iter().map(|name| (format!("{}: ", Value::from(name.as_str())), a.get(name), b.get(name)));
            nested(key, ["{", "}"], parts.collect(), level, lines);
        }
        (Value::Array(a), Value::Array(b)) => {
            let parts = (0..a.len().max(b.len())).map(|n| (String::new(), a.get(n), b.get(n)));
            nested(key, ["[", "]"], parts.collect(), level, lines);
        }
        (a, b) if a == b => lines.push(format!("{indent}{key}{a}")),
        (a, b) => lines.push(format!("{indent}{key}{YELLOW}{a} => {b}{RESET}")),
    }
}

/// Adds the lines of what has parts, each of which one of both or both have.
fn nested(
    key: &str,
    [open, close]: [&str; 2],
    parts: Vec<(String, Option<&Value>, Option<&Value>)>,
    level: usize,
    lines: &mut Vec<String>,
) {
    let indent = INDENT.repeat(level);
    if parts.is_empty() {
        return lines.push(format!("{indent}{key}{open}{close}"));
    }
    lines.push(format!("{indent}{key}{open}"));
    let last = parts.len() - 1;
    for (number, (name, a, b)) in parts.into_iter().enumerate() {
        match (a, b) {
            (Some(a), Some(b)) => both(&name, a, b, level + 1, lines),
            (Some(only), None) => marked(&name, only, RED, level + 1, lines),
            (None, Some(only)) => marked(&name, only, GREEN, level + 1, lines),
            (None, None) => {}
        }
        if number < last
            && let Some(line) = lines.last_mut()
        {
            line.push(',');
        }
    }
    lines.push(format!("{indent}{close}"));
}

/// Adds the lines of a value that only one has, each with the mark.
fn marked(key: &str, value: &Value, mark: &str, level: usize, lines: &mut Vec<String>) {
    let mut plain = Vec::new();
    both(key, value, value, level, &mut plain);
    for line in plain {
        let text = line.trim_start();
        lines.push(format!("{}{mark}{text}{RESET}", &line[..line.len() - text.len()]));
    }
}
