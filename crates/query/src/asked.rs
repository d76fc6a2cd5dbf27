//! What a request asks, and who sent it.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::Request;
use model::{OFFSETS_HEADER, Positions};
use runtime::Form;
use runtime::listener::Peer;

use crate::compress::Accepted;
use crate::error::Error;

/// Bytes of a form; the same bound as Prometheus'.
const BODY_BYTES_MAX: usize = 10 << 20;

/// [`OFFSETS_HEADER`] as people write it.
pub(crate) const OFFSETS_NAME: &str = "X-Weir-Offsets";

/// Whether a query looks at when the counting of samples began, whatever the server does otherwise; Prometheus' name.
pub(crate) const STARTS_NAME: &str = "X-Prometheus-Use-Start-Timestamps";

/// Bytes of a query's text that are kept for people to recognize it by; what is longer is cut. Few dashboards have longer ones.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;

/// The parameters of a request, with who sent them.
#[derive(Debug)]
pub(crate) struct Asked {
    form: Form,
    peer: Option<SocketAddr>,
    positions: Positions,
    /// [`STARTS_NAME`] as it was sent; empty where it was not.
    starts: String,
    /// In which coding the answer may be.
    pub(crate) accepted: Accepted,
}

impl Asked {
    /// Reads the parameters of a request.
    pub(crate) async fn read(request: Request) -> Result<Self, Error> {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
        let accepted = request.extensions().get::<Accepted>().copied().unwrap_or_default();
        let mut positions = Positions::default();
        for header in request.headers().get_all(OFFSETS_HEADER) {
            let text = header.to_str().unwrap_or("a text that is not ASCII");
            let own: Positions = text.parse().map_err(|e| Error::parameter(OFFSETS_NAME, e))?;
            own.iter().for_each(|(partition, offset)| positions.add(partition, offset));
        }
        let starts =
            request.headers().get(STARTS_NAME).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let starts = starts.unwrap_or_default();
        Ok(Asked { form: Form::read(request, BODY_BYTES_MAX).await?, peer, positions, starts, accepted })
    }

    /// Whether the request asks for start times to be looked at or not.
    pub(crate) fn starts(&self) -> Result<Option<bool>, Error> {
        match self.starts.as_str() {
            "" => Ok(None),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            other => {
                let reason = format!("strconv.ParseBool: parsing {}: invalid syntax", promql::quote(other));
                Err(Error::Request(format!("error parsing {STARTS_NAME} header: {reason}")))
            }
        }
    }

    /// What people are told of it: the kind of request, and its text.
    pub(crate) fn subject(&self, kind: &'static str, text: &str) -> Subject {
        Subject { positions: self.positions.clone(), ..Subject::new(kind, text, self.peer) }
    }

    /// As [`Asked::subject`], of selectors, with what stands before them.
    pub(crate) fn subject_of_selectors(&self, kind: &'static str, before: &str) -> Subject {
        let mut text = before.to_owned();
        for selector in self.form.all("match[]") {
            // A request may have many long ones, of which no more is kept than of any text.
            if text.len() > TEXT_BYTES_MAX {
                break;
            }
            text.push_str(if text.is_empty() { "" } else { " " });
            text.push_str(selector);
        }
        self.subject(kind, &text)
    }
}

impl Deref for Asked {
    type Target = Form;

    fn deref(&self) -> &Form {
        &self.form
    }
}

/// What people are told of a query.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// The kind of request: the last part of its path.
    pub(crate) kind: &'static str,
    /// The query, or what stands for one, of a bounded length.
    pub(crate) text: Arc<str>,
    /// Whether the text was cut.
    pub(crate) is_cut: bool,
    /// At which times it is evaluated, where it is.
    pub(crate) times: Option<Times>,
    /// Who sent it, where that is known.
    pub(crate) peer: Option<SocketAddr>,
    /// The records that it must see.
    pub(crate) positions: Positions,
}

/// The first and the last time of an evaluation, and the distance from one to the next, 0 where there is one. All in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) step_ms: i64,
}

impl Subject {
    /// Without times.
    pub(crate) fn new(kind: &'static str, text: &str, peer: Option<SocketAddr>) -> Self {
        let is_cut = text.len() > TEXT_BYTES_MAX;
        let text = match is_cut {
            true => format!("{}…", &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]).into(),
            false => text.into(),
        };
        Subject { kind, text, is_cut, times: None, peer, positions: Positions::default() }
    }

    /// With the times of evaluation.
    pub(crate) fn at(self, start_ms: i64, end_ms: i64, step_ms: i64) -> Self {
        Subject { times: Some(Times { start_ms, end_ms, step_ms }), ..self }
    }

    /// How long the range is that is asked for, in milliseconds.
    pub(crate) fn range_ms(&self) -> i64 {
        self.times.map_or(0, |times| times.end_ms.saturating_sub(times.start_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let whole = "é".repeat(TEXT_BYTES_MAX / 2);
        let subject = Subject::new("query", &whole, None);
        assert_eq!((&*subject.text, subject.is_cut), (&*whole, false));
        let subject = Subject::new("query", &format!("a{whole}"), None);
        let expect = format!("a{}…", "é".repeat(TEXT_BYTES_MAX / 2 - 1));
        assert_eq!((&*subject.text, subject.is_cut), (&*expect, true));
    }
}
