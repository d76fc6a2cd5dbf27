//! What became of tests as JUnit's XML, which systems of continuous integration read.

use std::fmt::Write as _;

use super::Report;

/// The XML of files, each with the time at which it was begun, in Unix milliseconds.
pub fn junit(reports: &[(i64, Report)]) -> String {
    let mut out = String::from("<testsuites>");
    for (began_ms, report) in reports {
        let began = crate::text::time(began_ms - began_ms.rem_euclid(1000));
        let failures: usize = report.cases.iter().map(|case| case.failures.len()).sum();
        let (errors, extra) = (usize::from(report.aborted.is_some()), usize::from(report.cases.is_empty()));
        let tests = if report.aborted.is_some() { report.cases.len() + extra } else { report.cases.len() };
        let _ = write!(
            out,
            "<testsuite name=\"{}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\" timestamp=\"{}\">",
            escaped(&report.file),
            began.trim_end_matches('Z'),
        );
        for case in &report.cases {
            let _ = write!(out, "<testcase name=\"{}\">", escaped(&case.name));
            for failure in &case.failures {
                let _ = write!(out, "<failure>{}</failure>", escaped(failure));
            }
            out.push_str("</testcase>");
        }
        if let Some(why) = &report.aborted {
            let _ = write!(out, "<testcase name=\"unknown\"><error>{}</error></testcase>", escaped(why));
        }
        out.push_str("</testsuite>");
    }
    out.push_str("</testsuites>");
    out
}

/// A text within XML. What XML cannot have becomes the replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\t' => out.push_str("&#x9;"),
            '\n' => out.push_str("&#xA;"),
            '\r' => out.push_str("&#xD;"),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
