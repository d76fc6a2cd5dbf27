//! What became of the entries of one request: how many are taken, and which were refused and why.

use model::{Exemplar, InvalidExemplar};

use crate::args::Window;

/// Why a sample was refused; the label `reason` of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its series has labels that are not allowed, or no name.
    Labels,
    /// Older than the retention.
    TooOld,
    /// Too far ahead of the clock.
    TooNew,
    /// An entry that cannot be read.
    Syntax,
    /// A native histogram that is not valid.
    NativeHistogram,
}

impl Reason {
    /// In the order of their numbers.
    pub(crate) const ALL: [Reason; 5] =
        [Reason::Labels, Reason::TooOld, Reason::TooNew, Reason::Syntax, Reason::NativeHistogram];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Reason::Labels => "labels",
            Reason::TooOld => "too_old",
            Reason::TooNew => "too_new",
            Reason::Syntax => "syntax",
            Reason::NativeHistogram => "native_histogram",
        }
    }
}

/// Why an exemplar was not taken; the label `reason` of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoExemplar {
    /// Its labels, or those of its series, are not a set.
    Labels,
    /// Its labels have too many characters.
    TooLong,
    /// Older than the retention.
    TooOld,
    /// Too far ahead of the clock.
    TooNew,
}

impl NoExemplar {
    /// In the order of their numbers.
    pub(crate) const ALL: [NoExemplar; 4] =
        [NoExemplar::Labels, NoExemplar::TooLong, NoExemplar::TooOld, NoExemplar::TooNew];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            NoExemplar::Labels => "labels",
            NoExemplar::TooLong => "too_long",
            NoExemplar::TooOld => "too_old",
            NoExemplar::TooNew => "too_new",
        }
    }
}

/// Bytes of a series that a message shows.
const SHOWN_BYTES_MAX: usize = 200;

/// A series for a message, cut where it is long.
pub(crate) fn show(pairs: &[(&str, &str)]) -> String {
    let mut text = String::from("{");
    for (at, (name, value)) in pairs.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let (name, value) = (clip(name), clip(value));
        text.push_str(&format!("{comma}{name}={value:?}"));
        if text.len() > SHOWN_BYTES_MAX {
            text.truncate(text.floor_char_boundary(SHOWN_BYTES_MAX));
            text.push('…');
            break;
        }
    }
    text.push('}');
    text
}

/// The beginning of a text that a client sent, short enough for a message.
pub(crate) fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

/// What became of a request's entries.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Floats that were taken.
    pub(crate) samples: u64,
    /// Native histograms that were taken.
    pub(crate) histograms: u64,
    /// Exemplars that were taken.
    pub(crate) exemplars: u64,
    /// Number of exemplars that were not, by reason.
    pub(crate) refused_exemplars: [u64; NoExemplar::ALL.len()],
    /// Where the first refused entries stand in the request, and what is wrong with each.
    pub(crate) told: Vec<(usize, String)>,
    /// Number of refused entries.
    pub(crate) refused: u64,
    /// Number of refused samples, by reason.
    pub(crate) refused_samples: [u64; Reason::ALL.len()],
    /// How many are told: the answer has a bound, whatever the request.
    told_max: usize,
}

impl Outcome {
    pub(crate) fn telling(told_max: usize) -> Self {
        Outcome { told_max, ..Outcome::default() }
    }

    /// Counts an entry with so many samples as refused. The text is only made where it will be told.
    pub(crate) fn refuse(&mut self, place: usize, reason: Reason, samples: u64, text: impl FnOnce() -> String) {
        self.refused += 1;
        self.refused_samples[reason as usize] += samples;
        if self.told.len() < self.told_max {
            self.told.push((place, text()));
        }
    }

    /// Counts exemplars that are not taken. They make no request fail, as in Prometheus: no sender can do anything about them.
    pub(crate) fn refuse_exemplars(&mut self, reason: NoExemplar, exemplars: u64) {
        self.refused_exemplars[reason as usize] += exemplars;
    }

    /// The exemplar, if it is one and of a time that is taken; else it is counted as refused.
    pub(crate) fn exemplar(&mut self, exemplar: Result<Exemplar, InvalidExemplar>, window: Window) -> Option<Exemplar> {
        let reason = match exemplar {
            Err(InvalidExemplar::Labels(_)) => NoExemplar::Labels,
            Err(InvalidExemplar::TooLong(_)) => NoExemplar::TooLong,
            Ok(exemplar) if exemplar.t < window.oldest_ms => NoExemplar::TooOld,
            Ok(exemplar) if exemplar.t > window.newest_ms => NoExemplar::TooNew,
            Ok(exemplar) => return Some(exemplar),
        };
        self.refuse_exemplars(reason, 1);
        None
    }

    /// The refused entries that are told, in one line, each after `noun` and its place.
    pub(crate) fn line(&self, noun: &str) -> String {
        let mut line = format!("{} rejected, {} samples written: ", self.refused, self.samples + self.histograms);
        for (at, (place, text)) in self.told.iter().enumerate() {
            let comma = if at == 0 { "" } else { "; " };
            line.push_str(&format!("{comma}{noun} {place}: {text}"));
        }
        let untold = self.refused - self.told.len() as u64;
        if untold > 0 {
            line.push_str(&format!("; and {untold} more"));
        }
        line.push('\n');
        line
    }
}
