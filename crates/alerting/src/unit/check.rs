//! What is expected and what came out, compared and written as promtool writes them.

use std::fmt;

use model::Labels;
use model::labels::is_legacy_label_name;
use promql::{Element, quote};

use super::{bench, diff};

/// Names with values, sorted; a value may be empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl FromIterator<(String, String)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Pairs(pairs.into_iter().collect())
    }
}

/// `{a="b", c="d"}`
impl fmt::Display for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (number, (name, value)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            let name = if is_legacy_label_name(name) { name.clone() } else { quote(name) };
            write!(f, "{comma}{name}={}", quote(value))?;
        }
        f.write_str("}")
    }
}

/// An alert that fires, or that should.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Alert {
    pub(super) labels: Pairs,
    pub(super) annotations: Pairs,
}

/// One element of the result of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) labels: Pairs,
    /// Zero of a histogram.
    pub(super) value: f64,
    /// As tests write it; empty of a float.
    pub(super) histogram: String,
}

impl Sample {
    pub(super) fn new(labels: &Labels, element: &Element) -> Self {
        let (value, histogram) = bench::notation(element);
        Sample { labels: labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(), value, histogram }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.histogram.is_empty() {
            let value = crate::text::value(self.value).replace('e', "E");
            write!(f, "{} {value}", self.labels)
        } else {
            write!(f, "{} {}", self.labels, self.histogram)
        }
    }
}

/// What differs between alerts, both of them sorted; `None` where nothing does.
pub(super) fn alerts(expected: &[Alert], got: &[Alert], as_diff: bool) -> Option<String> {
    if expected == got {
        return None;
    }
    if as_diff {
        return Some(format!("diff: {}", indented(&diff::alerts(expected, got))));
    }
    Some(format!("exp:{}, \n        got:{}", indented(&list(expected)), indented(&list(got))))
}

fn list(alerts: &[Alert]) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let show = |(number, alert): (usize, &Alert)| {
        format!("{number}:\n  Labels:{}\n  Annotations:{}", alert.labels, alert.annotations)
    };
    let shown: Vec<String> = alerts.iter().enumerate().map(show).collect();
    format!("[\n{}\n]", shown.join(",\n"))
}

/// All lines but the first with an indent.
fn indented(text: &str) -> String {
    text.replace('\n', "\n            ")
}

/// Whether samples, both sorted, are the same; with `fuzzy` values may be neighbours. What is not a number equals nothing.
pub(super) fn samples(expected: &[Sample], got: &[Sample], fuzzy: bool) -> bool {
    let same = |a: f64, b: f64| a == b || (fuzzy && (a.next_up() == b || a.next_down() == b));
    let pairs = expected.iter().zip(got);
    expected.len() == got.len()
        && pairs.into_iter().all(|(a, b)| a.labels == b.labels && same(a.value, b.value) && a.histogram == b.histogram)
}

pub(super) fn show(samples: &[Sample]) -> String {
    if samples.is_empty() {
        return "nil".to_owned();
    }
    samples.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ")
}

/// A duration as Go writes it: `1h0m0s`, `1.5s`, `20ms`.
pub(super) fn go_duration(ms: i64) -> String {
    let (sign, ms) = if ms < 0 { ("-", ms.unsigned_abs()) } else { ("", ms.unsigned_abs()) };
    if ms == 0 {
        return "0s".to_owned();
    }
    if ms < 1000 {
        return format!("{sign}{ms}ms");
    }
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    let seconds = format!("{}s", (ms % 60_000) as f64 / 1000.0);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, _) => format!("{sign}{minutes}m{seconds}"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        for (ms, text) in [
            (0, "0s"),
            (20, "20ms"),
            (1500, "1.5s"),
            (60_000, "1m0s"),
            (3_600_000, "1h0m0s"),
            (-61_001, "-1m1.001s"),
            (100 * 3_600_000 + 30_000, "100h0m30s"),
        ] {
            assert_eq!(go_duration(ms), text);
        }
    }

    #[test]
    fn values_are_the_same_or_neighbours() {
        let one = |value: f64| vec![Sample { labels: Pairs::default(), value, histogram: String::new() }];
        let next = 3.0f64.next_up();
        assert!(samples(&one(3.0), &one(3.0), false) && samples(&one(0.0), &one(-0.0), false));
        assert!(!samples(&one(3.0), &one(next), false) && samples(&one(3.0), &one(next), true));
        assert!(samples(&one(next), &one(3.0), true) && !samples(&one(next.next_up()), &one(3.0), true));
        assert!(!samples(&one(f64::NAN), &one(f64::NAN), true));
        assert!(!samples(&one(3.0), &[], false));
        assert_eq!(show(&one(-0.25)), "{} -2.5E-01");
        assert_eq!(show(&[]), "nil");
    }
}
