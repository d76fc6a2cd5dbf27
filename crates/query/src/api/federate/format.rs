//! In which format `/federate` answers, as `Accept` asks for it: protobuf to those who name it, and text to everybody else.
//!
//! Of the formats of Prometheus two are missing: messages as text, which are for people. Who takes nothing else gets the text format.

use axum::http::{HeaderMap, header};

const PROTOBUF: &str = "application/vnd.google.protobuf";
const FAMILY: &str = "io.prometheus.client.MetricFamily";

/// The format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    /// Delimited messages, and not lines of text.
    pub(crate) protobuf: bool,
    /// Whether names may have any characters; else others than those of old are written as `_`.
    pub(crate) utf8: bool,
}

/// One of the formats that a client takes.
struct Clause<'a> {
    kind: String,
    parameters: Vec<(&'a str, &'a str)>,
    weight: f64,
}

impl<'a> Clause<'a> {
    fn read(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or("").to_ascii_lowercase();
        let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
        let mut clause = Clause { kind, parameters, weight: 1.0 };
        clause.weight = clause.get("q").and_then(|q| q.parse().ok()).unwrap_or(1.0);
        clause
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.parameters.iter().find(|(own, _)| own.trim() == name);
        found.map(|(_, value)| value.trim().trim_matches('"'))
    }

    fn is_protobuf(&self) -> bool {
        self.kind == PROTOBUF && self.get("proto") == Some(FAMILY) && self.get("encoding") == Some("delimited")
    }

    fn is_text(&self) -> bool {
        self.kind == "text/plain" && self.get("version").is_none_or(|version| version == "0.0.4")
    }
}

impl Format {
    /// The best that there is of what is asked for. How names are written may be said with any clause that is as good or better.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
        let mut clauses: Vec<Clause> = accept.split(',').map(Clause::read).collect();
        clauses.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        let mut utf8 = false;
        for clause in clauses {
            utf8 = match clause.get("escaping") {
                Some("allow-utf-8") => true,
                Some("underscores" | "dots" | "values") => false,
                _ => utf8,
            };
            if clause.is_protobuf() || clause.is_text() {
                return Format { protobuf: clause.is_protobuf(), utf8 };
            }
        }
        Format { protobuf: false, utf8 }
    }

    /// As `Content-Type` names it.
    pub(crate) fn content_type(self) -> &'static str {
        match (self.protobuf, self.utf8) {
            (false, false) => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            (false, true) => "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8",
            (true, false) => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores"
            }
            (true, true) => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=allow-utf-8"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_that_is_asked_for_is_chosen() {
        let delimited = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let compact = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text";
        for (accept, protobuf, utf8) in [
            ("", false, false),
            ("*/*", false, false),
            ("text/plain;version=0.0.4;escaping=allow-utf-8", false, true),
            ("application/json, text/plain; escaping=dots", false, false),
            (delimited, true, false),
            (&format!("text/plain;q=0.3, {delimited};escaping=allow-utf-8;q=0.6, */*;q=0.2"), true, true),
            (&format!("{delimited};q=0.3, text/plain;version=0.0.4;q=0.5"), false, false),
            (&format!("{delimited};q=0.3, text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5"), true, true),
            (&format!("{delimited};q=0.6, text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5"), true, false),
            ("application/vnd.google.protobuf", false, false),
            (compact, false, false),
            ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8, text/plain;q=0.1", false, true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("a value"));
            assert_eq!(Format::of(&headers), Format { protobuf, utf8 }, "{accept}");
        }
        assert_eq!(Format::of(&HeaderMap::new()), Format { protobuf: false, utf8: false });
    }
}
