//! Texts that are nearly queries, read by Weir and by a real Prometheus: both take or refuse the same, make the same trees and texts of them, and say
//! the same of what is wrong, at the same place.

use std::collections::BTreeMap;

use serde_json::Value;

use super::draw::Draw;
use super::mutate::Pieces;
use super::{Both, FEATURES, TEXTS, asked, expressions, same, shrink};
use crate::support::program;

/// Texts that are read where nothing else is said.
const READ: u64 = 500;

#[tokio::test]
async fn drawn_texts_are_read_as_by_a_real_prometheus() {
    let test = "drawn_texts_are_read_as_by_a_real_prometheus";
    let (Some(bin), Some(suite)) = (program(test, "PROMETHEUS_BIN"), program(test, "PROMQL_SUITE")) else { return };
    let (seed, count) = asked(READ);
    let dir = tempfile::tempdir().expect("directory");
    let both = Both::start(dir.path(), &bin, 1).await;
    let of_suite = expressions(&suite.with_file_name("testdata"));
    let others: Vec<&str> = TEXTS.into_iter().chain(of_suite.iter().map(String::as_str)).collect();
    let mut draw = Draw::new(seed);
    let mut differences = BTreeMap::new();
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..count {
        let text = draw.text(&others);
        let (difference, is_taken) = both.read(&text.to_string()).await;
        taken += usize::from(is_taken);
        refused += usize::from(!is_taken);
        if let Some(difference) = difference {
            let smaller = async |pieces: &Pieces| both.read(&pieces.to_string()).await.0;
            let (smallest, difference) = shrink(text, difference, Pieces::smaller, smaller).await;
            differences.insert(smallest.to_string(), difference);
        }
    }
    println!("seed {seed}: of {count} texts {taken} were taken, {refused} refused");
    let told: Vec<String> = differences.iter().map(|(text, told)| format!("{text:?}\n    {told}")).collect();
    assert!(told.is_empty(), "{} of {count} differ:\n{}", told.len(), told.join("\n"));
    // Else one of both is not tested.
    assert!(taken * 10 > count as usize && refused * 10 > count as usize, "{taken} taken, {refused} refused");
}

/// Texts with names that need no quotes where that is switched on.
const NAMES: [&str; 14] = [
    "größe.mm{straße=\"x\",k8s.pod!=\"\"}",
    "sum by (k8s.pod, \"a b\", \"日本\") (http.requests)",
    "a.b + on (x.y) group_left (\"z.ü\") c.d offset 5m",
    "sum without (a:b) (c)",
    "a:b.c{d.e=~\"f\"}[5m] @ end()",
    "on\u{212a} + 1.5",
    "rate(http.server.duration_bucket[5m]) and ignoring (le.x) d",
    "a\u{301}b",
    "x\u{2160}",
    "{.a=\"b\"}",
    ".a",
    "{\"a.b\", c.d=\"e\", \"f.g\"!=\"h\"}",
    "label_replace(a.b, \"x.y\", \"$1\", \"z\", \"\")",
    "sum.x by (a)",
];

#[tokio::test]
async fn names_of_all_scripts_are_read_as_by_a_real_prometheus() {
    let test = "names_of_all_scripts_are_read_as_by_a_real_prometheus";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    let (seed, count) = asked(READ);
    let dir = tempfile::tempdir().expect("directory");
    let both = Both::with(dir.path(), &bin, 1, &format!("{FEATURES},promql-unquoted-utf8-names")).await;
    let mut draw = Draw::new(seed);
    let drawn: Vec<String> = (0..count).map(|_| draw.text(&NAMES).to_string()).collect();
    let mut told = Vec::new();
    for text in NAMES.into_iter().chain(drawn.iter().map(String::as_str)) {
        if let (Some(difference), _) = both.read(text).await {
            told.push(format!("{text:?}\n    {difference}"));
        }
    }
    assert!(told.is_empty(), "{} of {count} differ:\n{}", told.len(), told.join("\n"));
}

impl Both {
    /// What differs between what both make of a text, and whether Prometheus takes it.
    async fn read(&self, text: &str) -> (Option<String>, bool) {
        let mut is_taken = true;
        for path in ["/api/v1/parse_query", "/api/v1/format_query"] {
            let (ours, theirs) = self.ask(path, &[("query", text)]).await;
            is_taken &= theirs.0 == 200;
            let alike = match theirs.0 {
                // It cannot write the tree of this.
                500 => ours.0 == 200 && text.to_lowercase().contains("nan"),
                200 if refuses_alone(&ours.1) => true,
                200 => ours.0 == 200 && same(&ours.1, &theirs.1, 0.0),
                _ => ours.0 == theirs.0 && (alike(&ours.1["error"], &theirs.1["error"]) || refuses_alone(&ours.1)),
            };
            if !alike {
                let shown = |(status, answer): &(u16, Value)| {
                    let told = answer["error"].as_str().map_or_else(|| answer["data"].to_string(), str::to_owned);
                    format!("{status} {told}")
                };
                return (Some(format!("{path}: {}\n    instead of {}", shown(&ours), shown(&theirs))), is_taken);
            }
        }
        (None, is_taken)
    }
}

/// Whether Weir refuses something that Prometheus takes, on purpose: trees have a bound.
fn refuses_alone(answer: &Value) -> bool {
    answer["error"].as_str().is_some_and(|error| error.contains("expression is nested deeper than"))
}

/// What Weir says in other words, on purpose.
const OTHERWISE: [(&str, &str); 4] = [
    // Its library for regular expressions is another one.
    ("invalid regular expression", "error parsing regexp"),
    // Trees have a bound, so that no text can exhaust a stack.
    ("expression is nested deeper than", ""),
    // It says how, too.
    ("is not enabled: it is experimental and must be enabled", "is not enabled"),
    // What else is wrong with a pattern may be told before its bytes.
    ("error parsing regexp: invalid UTF-8", "error parsing regexp"),
];

/// Whether two errors say the same, at the same place.
fn alike(ours: &Value, theirs: &Value) -> bool {
    let (Some(ours), Some(theirs)) = (ours.as_str(), theirs.as_str()) else { return false };
    if ours == theirs {
        return true;
    }
    let place = |text: &str| text.split(": parse error: ").next().unwrap_or("").to_owned();
    OTHERWISE.iter().any(|(own, other)| {
        ours.contains(own) && theirs.contains(other) && (other.is_empty() || place(ours) == place(theirs))
    })
}
