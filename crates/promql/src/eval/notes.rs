//! Warnings and infos. The same text counts once, told at the place that raised it last. A part that is evaluated sooner, with another, raises its own again when it
//! is its turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::format::{general, two_digits};
use crate::ast::Span;
use crate::printer::quote;

/// Different notes that are kept; a query that raises more is told enough by these. Prometheus shows ten of each.
const NOTES_MAX: usize = 1_000;

/// A place where buckets of a histogram had to be mended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mended {
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
    pub(super) min_bucket: f64,
    pub(super) max_bucket: f64,
    pub(super) max_diff: f64,
    pub(super) count: u64,
}

impl Mended {
    fn join(&mut self, other: &Mended) {
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.min_bucket = self.min_bucket.min(other.min_bucket);
        self.max_bucket = self.max_bucket.max(other.max_bucket);
        self.max_diff = self.max_diff.max(other.max_diff);
        self.count = self.count.wrapping_add(other.count);
    }

    /// This with another, where there is one.
    pub(super) fn joined(mut self, other: Option<&Mended>) -> Self {
        other.into_iter().for_each(|other| self.join(other));
        self
    }

    /// All of some steps. The count is that of Prometheus, which adds what it has to itself at each step after the first: of what two steps mended, a sample
    /// each, it tells four, and after 64 steps no more than what is left of 64 bits.
    ///
    /// Where the argument was told of as well (`is_within`), it adds to that at each step what it has so far.
    fn over(steps: &[Option<Mended>], is_within: bool) -> Option<Mended> {
        let mut all: Option<Mended> = None;
        if is_within {
            let mut count = 0u64;
            for step in steps {
                all = step.map_or(all, |step| Some(step.joined(all.as_ref())));
                count = count.wrapping_add(all.map_or(0, |all| all.count));
            }
            return all.map(|all| Mended { count, ..all });
        }
        for step in steps {
            let is_first = all.is_none();
            all = match (all, step) {
                (Some(all), step) => Some(all.joined(step.as_ref())),
                (None, step) => *step,
            };
            if let Some(all) = all.as_mut().filter(|_| !is_first) {
                all.count = all.count.wrapping_mul(2);
            }
        }
        all
    }
}

#[derive(Debug)]
struct Note {
    span: Span,
    mended: Option<Mended>,
    /// How often it was raised, where that is told.
    times: u64,
}

/// The notes of one evaluation.
#[derive(Debug, Default)]
pub(super) struct Notes {
    // Warnings (false) before infos (true), each by text.
    notes: Mutex<BTreeMap<(bool, String), Note>>,
    source: Mutex<Vec<String>>,
    /// Of the samples that were read, the longest window out of which some were left, and the last time of the newest one.
    aggregates: Mutex<Option<(u32, i64)>>,
    raised: AtomicU64,
    /// While parts are evaluated together, what is raised.
    together: Mutex<Option<BTreeSet<Early>>>,
}

/// A note of a part that was evaluated before its turn.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Early {
    info: bool,
    text: String,
    start: usize,
    end: usize,
    is_counted: bool,
}

impl Early {
    /// Whether its place is in a part.
    pub(super) fn is_of(&self, part: Span) -> bool {
        part.start <= self.start && self.end <= part.end
    }
}

impl Notes {
    /// Something may be wrong with the result.
    pub(super) fn warn(&self, text: String, span: Span) {
        self.put(false, text, Note { span, mended: None, times: 0 });
    }

    /// Something may be wrong with the question.
    pub(super) fn inform(&self, text: String, span: Span) {
        self.put(true, text, Note { span, mended: None, times: 0 });
    }

    /// Buckets had to be mended, at some steps, of what stands at a place.
    pub(super) fn mended(&self, metric: &str, steps: &[Option<Mended>], span: Span) {
        let text = "input to histogram_quantile needed to be fixed for monotonicity \
            (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        let text = for_metric(text.to_owned(), metric);
        let before = self.place_of(true, &text);
        let is_within = before.is_some_and(|own| own != span && own.start >= span.start && own.end <= span.end);
        if let Some(mended) = Mended::over(steps, is_within) {
            self.put(true, text, Note { span, mended: Some(mended), times: 0 });
        }
    }

    fn place_of(&self, info: bool, text: &str) -> Option<Span> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.get(&(info, text.to_owned())).map(|note| note.span)
    }

    /// The counting of a sample began before the sample before it was taken.
    pub(super) fn overlap(&self, metric: &str, span: Span) {
        let text =
            format!("sample has start time that overlaps with previous sample timestamp for metric {}", quote(metric));
        self.put(false, text, Note { span, mended: None, times: 1 });
    }

    /// What the source wants the asker to know.
    pub(super) fn source(&self, warnings: Vec<String>) {
        let mut all = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        for warning in warnings {
            if all.len() < NOTES_MAX && !all.contains(&warning) {
                all.push(warning);
            }
        }
    }

    /// Samples were left out of windows of this length, the newest of which ends at this time.
    pub(super) fn aggregates(&self, resolution_ms: u32, end_ms: i64) {
        let mut all = self.aggregates.lock().unwrap_or_else(PoisonError::into_inner);
        let (longest, newest) = all.unwrap_or((resolution_ms, end_ms));
        *all = Some((longest.max(resolution_ms), newest.max(end_ms)));
    }

    /// Remembers what is raised from now on.
    pub(super) fn begin_together(&self) {
        *self.together.lock().unwrap_or_else(PoisonError::into_inner) = Some(BTreeSet::new());
    }

    /// What was raised since [`Notes::begin_together`].
    pub(super) fn end_together(&self) -> BTreeSet<Early> {
        self.together.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    /// Raises a note again when it is the turn of its part. What is counted was counted.
    pub(super) fn raise_again(&self, early: Early) {
        let Early { info, text, start, end, is_counted } = early;
        if is_counted {
            self.raised.fetch_add(1, Ordering::Relaxed);
        } else {
            self.put(info, text, Note { span: Span { start, end }, mended: None, times: 0 });
        }
    }

    /// How many notes of places were raised, each time one was.
    pub(super) fn raised(&self) -> u64 {
        self.raised.load(Ordering::Relaxed)
    }

    fn put(&self, info: bool, text: String, mut note: Note) {
        self.raised.fetch_add(1, Ordering::Relaxed);
        if let Some(early) = &mut *self.together.lock().unwrap_or_else(PoisonError::into_inner)
            && early.len() < NOTES_MAX
        {
            let is_counted = note.mended.is_some() || note.times > 0;
            early.insert(Early { info, text: text.clone(), start: note.span.start, end: note.span.end, is_counted });
        }
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (info, text);
        if let Some(before) = notes.get_mut(&key) {
            if let (Some(mended), Some(old)) = (&mut note.mended, &before.mended) {
                mended.join(old);
            }
            if note.mended.is_some() || note.times > 0 {
                // Of what is counted Prometheus tells the first place.
                note.span = before.span;
            }
            note.times += before.times;
            *before = note;
        } else if notes.len() < NOTES_MAX {
            notes.insert(key, note);
        }
    }

    /// Warnings and infos with their places in the query.
    pub(super) fn texts(self, query: &str) -> (Vec<String>, Vec<String>) {
        if let Some((resolution_ms, end_ms)) = *self.aggregates.lock().unwrap_or_else(PoisonError::into_inner) {
            let resolution = model::time::format_duration_ms(i64::from(resolution_ms));
            let end = model::timestamp::format_rfc3339(end_ms);
            self.inform(
                format!("aggregates of {resolution} were used for samples up to {end}"),
                Span { start: 0, end: 0 },
            );
        }
        let mut warnings = self.source.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut infos = Vec::new();
        for ((info, text), note) in self.notes.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let place = place(query, note.span.start);
            let detail = match note.mended {
                Some(mended) => detail(&mended),
                None if note.times > 1 => format!(" ({} occurrences)", note.times),
                None => String::new(),
            };
            if info {
                infos.push(format!("PromQL info: {text}{detail} ({place})"));
            } else {
                warnings.push(format!("PromQL warning: {text}{detail} ({place})"));
            }
        }
        (warnings, infos)
    }
}

/// Names the metric that a note is about, where it is known.
pub(super) fn for_metric(text: String, metric: &str) -> String {
    if metric.is_empty() { text } else { format!("{text} for metric name {}", quote(metric)) }
}

/// The warning of a quantile that is none.
pub(super) fn bad_quantile(q: f64) -> String {
    format!("quantile value should be between 0 and 1, got {}", general(q))
}

/// What is done with histograms.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Addition => "addition",
            Operation::Subtraction => "subtraction",
            Operation::Aggregation => "aggregation",
        }
    }
}

/// The warning of a range with both kinds of samples.
pub(super) fn mixed_floats(metric: &str) -> String {
    format!("encountered a mix of histograms and floats for metric name {}", quote(metric))
}

/// The warning of a group with both kinds of samples.
pub(super) fn mixed_in_group() -> String {
    "encountered a mix of histograms and floats for aggregation".to_owned()
}

/// The warning of histograms of which some have custom buckets.
pub(super) fn mixed_schemas(metric: &str) -> String {
    let text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
    format!("{text} {}", quote(metric))
}

/// The warning of a histogram that is a gauge where a counter belongs.
pub(super) fn not_counter(metric: &str) -> String {
    format!("this native histogram metric is not a counter: {}", quote(metric))
}

/// The warning of a histogram that is a counter where a gauge belongs.
pub(super) fn not_gauge(metric: &str) -> String {
    format!("this native histogram metric is not a gauge: {}", quote(metric))
}

/// The info of histograms that a function of floats passes over.
pub(super) fn ignored_in_range(metric: &str) -> String {
    format!("ignored histograms in a range containing both floats and histograms for metric name {}", quote(metric))
}

/// The info of histograms that an aggregation of floats passes over.
pub(super) fn ignored_in(aggregation: &str) -> String {
    format!("ignored histogram in {aggregation} aggregation")
}

/// The warning of histograms whose hints contradict each other.
pub(super) fn collision(operation: Operation) -> String {
    format!("conflicting counter resets during histogram {}", operation.name())
}

/// The info of custom bounds that differ.
pub(super) fn reconciled(operation: Operation) -> String {
    format!("mismatched custom buckets were reconciled during {}", operation.name())
}

/// The info of operands that do not go together; the kinds are `float` and `histogram`.
pub(super) fn mismatched_kinds(left: &str, operator: &str, right: &str) -> String {
    format!("incompatible sample types encountered for binary operator {operator:?}: {left} {operator} {right}")
}

/// The warning of operands of which one has custom buckets.
pub(super) fn mismatched_layouts(operator: &str) -> String {
    format!("incompatible bucket layout encountered for binary operator {operator}")
}

/// The warning of a rule of integration that there is not.
pub(super) fn bad_strategy(v: f64) -> String {
    format!("strategy should be 0, 1, or 2 (default), using 2, got {}", general(v))
}

fn detail(m: &Mended) -> String {
    format!(
        ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
        general(m.min_bucket),
        general(m.max_bucket),
        two_digits(m.max_diff),
        m.count.cast_signed(),
        super::call::dates::rfc3339(m.first_ms),
        super::call::dates::rfc3339(m.last_ms),
    )
}

/// Line and column of a byte, both from 1.
fn place(query: &str, byte: usize) -> String {
    let before = query.as_bytes().get(..byte).unwrap_or_default();
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = match before.iter().rposition(|b| *b == b'\n') {
        Some(at) => (byte - at).max(1),
        None => byte + 1,
    };
    format!("{line}:{column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_mended_is_counted_as_prometheus_counts_it() {
        let some =
            |count| Some(Mended { first_ms: 1, last_ms: 1, min_bucket: 1.0, max_bucket: 2.0, max_diff: 0.5, count });
        let count = |steps: &[Option<Mended>]| Mended::over(steps, false).map(|mended| mended.count);
        let within = |steps: &[Option<Mended>]| Mended::over(steps, true).map(|mended| mended.count);
        assert_eq!(count(&[None, None]), None);
        assert_eq!(count(&[some(3)]), Some(3));
        // 1, then (1 + 1) * 2, then that twice, then (8 + 2) * 2.
        assert_eq!(count(&[None, some(1), some(1), None, some(2)]), Some(20));
        assert_eq!(count(&[&[some(1)][..], &[None; 64]].concat()), Some(0));
        // Within another, 1, 2, 2 and 4 are added to what that one has.
        assert_eq!(within(&[None, some(1), some(1), None, some(2)]), Some(9));
    }

    #[test]
    fn places_have_line_and_column() {
        assert_eq!(place("rate(x[5m])", 5), "1:6");
        assert_eq!(place("", 5), "1:6");
        assert_eq!(place("a +\n rate(x)", 5), "2:2");
    }
}
