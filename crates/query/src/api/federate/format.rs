//! In which format `/federate` answers, as `Accept` asks for it: protobuf to those who name it, and text to everybody else.

use std::borrow::Cow;

use axum::http::{HeaderMap, header};
use model::labels::is_legacy_metric_name;

const PROTOBUF: &str = "application/vnd.google.protobuf";
const FAMILY: &str = "io.prometheus.client.MetricFamily";

/// The format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) encoding: Encoding,
    /// How names are written that have characters which names of old have not.
    pub(crate) escaping: Escaping,
}

/// How samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Encoding {
    /// In the text format.
    #[default]
    Text,
    /// As messages, each with its length before it.
    Delimited,
    /// As messages in protobuf's own text format, in lines.
    Words,
    /// The same, a family in a line.
    Compact,
}

impl Encoding {
    /// That of messages, by its name in `Accept`.
    fn named(name: &str) -> Option<Encoding> {
        [Encoding::Delimited, Encoding::Words, Encoding::Compact].into_iter().find(|one| one.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Encoding::Text | Encoding::Words => "text",
            Encoding::Delimited => "delimited",
            Encoding::Compact => "compact-text",
        }
    }
}

/// How names are written that have other characters than those of old, as a client can read them. Names of old are written as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Escaping {
    /// `_` for each.
    #[default]
    Underscores,
    /// `_dot_` for a dot, and `__` for any other and for `_`.
    Dots,
    /// The number of each between two `_`, in base 16; `__` for `_`, and `U__` before the name.
    Values,
    /// As they are.
    None,
}

impl Escaping {
    /// That of a name in `Accept`.
    fn named(name: &str) -> Option<Escaping> {
        let all = [Escaping::Underscores, Escaping::Dots, Escaping::Values, Escaping::None];
        all.into_iter().find(|one| one.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Escaping::Underscores => "underscores",
            Escaping::Dots => "dots",
            Escaping::Values => "values",
            Escaping::None => "allow-utf-8",
        }
    }

    /// A name as it is written. As Prometheus does it, a label too may have what the name of a metric may have.
    pub(super) fn of(self, name: &str) -> Cow<'_, str> {
        if self == Escaping::None || is_legacy_metric_name(name) {
            return Cow::Borrowed(name);
        }
        let mut out = String::from(if self == Escaping::Values { "U__" } else { "" });
        for (at, c) in name.char_indices() {
            let is_legacy = matches!(c, 'a'..='z' | 'A'..='Z' | '_' | ':') || (c.is_ascii_digit() && at > 0);
            match (self, c) {
                (Escaping::Dots | Escaping::Values, '_') => out.push_str("__"),
                (_, c) if is_legacy => out.push(c),
                (Escaping::Dots, '.') => out.push_str("_dot_"),
                (Escaping::Dots, _) => out.push_str("__"),
                (Escaping::Values, c) => out.push_str(&format!("_{:x}_", c as u32)),
                (Escaping::Underscores | Escaping::None, _) => out.push('_'),
            }
        }
        Cow::Owned(out)
    }
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

    fn encoding(&self) -> Option<Encoding> {
        if self.kind == PROTOBUF && self.get("proto") == Some(FAMILY) {
            return self.get("encoding").and_then(Encoding::named);
        }
        let is_text = self.kind == "text/plain" && self.get("version").is_none_or(|version| version == "0.0.4");
        is_text.then_some(Encoding::Text)
    }
}

impl Format {
    /// The best that there is of what is asked for. How names are written may be said with any clause that is as good or better.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
        let mut clauses: Vec<Clause> = accept.split(',').map(Clause::read).collect();
        clauses.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        let mut escaping = Escaping::default();
        for clause in clauses {
            escaping = clause.get("escaping").and_then(Escaping::named).unwrap_or(escaping);
            if let Some(encoding) = clause.encoding() {
                return Format { encoding, escaping };
            }
        }
        Format { encoding: Encoding::Text, escaping }
    }

    /// Whether it is of messages, of which native histograms are a part.
    pub(super) fn is_of_messages(self) -> bool {
        self.encoding != Encoding::Text
    }

    /// As `Content-Type` names it.
    pub(crate) fn content_type(self) -> String {
        let kind = match self.encoding {
            Encoding::Text => "text/plain; version=0.0.4; charset=utf-8".to_owned(),
            encoding => format!("{PROTOBUF}; proto={FAMILY}; encoding={}", encoding.name()),
        };
        format!("{kind}; escaping={}", self.escaping.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_that_is_asked_for_is_chosen() {
        use Encoding::{Compact, Delimited, Text, Words};
        use Escaping::{Dots, None, Underscores, Values};
        let delimited = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let (words, compact) = (delimited.replace("delimited", "text"), delimited.replace("delimited", "compact-text"));
        let other = delimited.replace("delimited", "other");
        for (accept, encoding, escaping) in [
            ("", Text, Underscores),
            ("*/*", Text, Underscores),
            ("text/plain;version=0.0.4;escaping=allow-utf-8", Text, None),
            ("application/json, text/plain; escaping=dots", Text, Dots),
            (delimited, Delimited, Underscores),
            (&format!("text/plain;q=0.3, {delimited};escaping=allow-utf-8;q=0.6, */*;q=0.2"), Delimited, None),
            (&format!("{delimited};q=0.3, text/plain;version=0.0.4;q=0.5"), Text, Underscores),
            (&format!("{delimited};q=0.3, text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5"), Delimited, None),
            (
                &format!("{delimited};q=0.6, text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5"),
                Delimited,
                Underscores,
            ),
            ("application/vnd.google.protobuf;escaping=values", Text, Values),
            ("text/plain;escaping=none", Text, Underscores),
            (&compact, Compact, Underscores),
            (&format!("{words};escaping=dots, {delimited};q=0.9"), Words, Dots),
            (&other, Text, Underscores),
            ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8, text/plain;q=0.1", Text, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("a value"));
            assert_eq!(Format::of(&headers), Format { encoding, escaping }, "{accept}");
        }
        assert_eq!(Format::of(&HeaderMap::new()), Format { encoding: Text, escaping: Underscores });
    }

    #[test]
    fn names_are_escaped_as_a_client_can_read_them() {
        for (name, underscores, dots, values) in [
            ("plain_name:x", "plain_name:x", "plain_name:x", "plain_name:x"),
            ("http.status_code", "http_status_code", "http_dot_status__code", "U__http_2e_status__code"),
            ("1a.größe😀", "_a_gr__e_", "__a_dot_gr____e__", "U___31_a_2e_gr_f6__df_e_1f600_"),
            ("\u{fffd}", "_", "__", "U___fffd_"),
        ] {
            assert_eq!(Escaping::Underscores.of(name), underscores);
            assert_eq!(Escaping::Dots.of(name), dots);
            assert_eq!(Escaping::Values.of(name), values);
            assert_eq!(Escaping::None.of(name), name);
        }
    }
}
