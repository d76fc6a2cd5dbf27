//! The series of a test: those that are given, which come as time goes by, and those that rules write.
//!
//! They are in a head, as in storage. What Prometheus' head refuses is refused here as well, and a histogram gets the hint that Prometheus gives it when
//! it is read, since tests say it: the first one has none, one after another is no reset unless it is one. Not followed is where Prometheus begins
//! a new chunk for its size, of which the first histogram has no hint either.

use std::collections::HashMap;
use std::sync::Arc;

use model::{HistogramSample, Labels, ResetHint, Sample, Samples};
use promql::general;
use promql::notation::{Item, parse_series};
use promql::{Element, FloatHistogram};
use tsdb::Head;

use super::file::{Test, TestFile};

/// Samples that the series of one test may amount to: 160 MB.
const SAMPLES_MAX: usize = 10_000_000;

pub(super) struct Bench {
    head: Head,
    /// The newest sample of each series.
    newest: HashMap<Labels, (i64, Element)>,
    /// What is still to come.
    coming: Vec<Coming>,
}

/// A series whose values come one after the other.
struct Coming {
    labels: Labels,
    first_ms: i64,
    step_ms: i64,
    items: std::vec::IntoIter<Item>,
    /// The number of the next item.
    at: i64,
}

impl Bench {
    /// With the series of a test, of which nothing has come yet.
    pub(super) fn new(test: &Test, file: &TestFile) -> Result<Self, String> {
        let mut coming: Vec<Coming> = Vec::new();
        let mut room = SAMPLES_MAX;
        for (number, series) in test.input_series.iter().enumerate() {
            let text = format!("{} {}", series.series.trim(), series.values.trim());
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (pairs, items) = parse_series(text, room).map_err(|mut error| {
                // As if each series were a line below a first one, which is how Prometheus counts.
                error.line += number + 1;
                error.to_string()
            })?;
            room -= items.len();
            let labels = Labels::new(&pairs).map_err(|e| format!("{text}: {e}"))?;
            // Of two series with the same labels the last one counts.
            coming.retain(|other| other.labels != labels);
            let (first_ms, step_ms) = (test.start_timestamp.0, test.interval_ms(file));
            coming.push(Coming { labels, first_ms, step_ms, items: items.into_iter(), at: 0 });
        }
        Ok(Bench { head: Head::new(), newest: HashMap::new(), coming })
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Lets the values come that are not later than a time.
    pub(super) fn advance(&mut self, at_ms: i64) -> Result<(), String> {
        let mut coming = std::mem::take(&mut self.coming);
        let advanced = coming.iter_mut().try_for_each(|series| {
            loop {
                let t = series.first_ms.saturating_add(series.step_ms.saturating_mul(series.at));
                if t > at_ms {
                    return Ok(());
                }
                series.at += 1;
                let element = match series.items.next() {
                    None => return Ok(()),
                    Some(Item::Gap) => continue,
                    Some(Item::Float(v)) => Element::Float(v),
                    Some(Item::Histogram(histogram)) => Element::Histogram(histogram),
                };
                self.append(&series.labels, t, element).map_err(|e| format!("{}: {e}", series.labels))?;
            }
        });
        self.coming = coming;
        advanced
    }

    /// Adds a sample, which has to be later than those of its series before it, or the same as the newest.
    pub(super) fn append(&mut self, labels: &Labels, t: i64, element: Element) -> Result<(), String> {
        let newest = self.newest.get(labels);
        match newest {
            Some((last, _)) if t < *last => return Err("out of order sample".to_owned()),
            Some((last, before)) if t == *last => {
                return if same(before, &element) { Ok(()) } else { Err(duplicate(t, before, &element)) };
            }
            _ => {}
        }
        let element = match element {
            Element::Histogram(histogram) => {
                let hint = hint(&histogram, newest.map(|(_, before)| before));
                let stored = model::Histogram { hint, ..histogram.to_model() };
                stored.validate().map_err(|e| e.to_string())?;
                let histograms = [HistogramSample { t, start: 0, histogram: stored }];
                self.head.append(labels.as_ref(), Samples { floats: &[], starts: &[], histograms: &histograms });
                Element::Histogram(histogram)
            }
            Element::Float(v) => {
                self.head.append(labels.as_ref(), &[Sample { t, v }]);
                Element::Float(v)
            }
        };
        self.newest.insert(labels.clone(), (t, element));
        Ok(())
    }
}

fn same(a: &Element, b: &Element) -> bool {
    match (a, b) {
        (Element::Float(a), Element::Float(b)) => a.to_bits() == b.to_bits(),
        (Element::Histogram(a), Element::Histogram(b)) => a == b,
        _ => false,
    }
}

fn duplicate(t: i64, before: &Element, now: &Element) -> String {
    let Element::Float(now) = now else { return "duplicate sample for timestamp".to_owned() };
    let existing = match before {
        Element::Float(before) => general(*before),
        Element::Histogram(_) => "is a histogram".to_owned(),
    };
    let now = general(*now);
    format!("duplicate sample for timestamp {t}; overrides not allowed: existing {existing}, new value {now}")
}

/// The hint that Prometheus gives a histogram which follows another sample: that there was no reset where both are of one chunk, which a gauge, a reset or
/// another layout begins anew. That there was one is not said.
fn hint(histogram: &FloatHistogram, before: Option<&Element>) -> ResetHint {
    let now = histogram.to_model();
    let before = match (now.hint, before) {
        (ResetHint::Gauge, _) => return ResetHint::Gauge,
        (ResetHint::Unknown | ResetHint::NotReset, Some(Element::Histogram(before))) => before,
        _ => return ResetHint::Unknown,
    };
    let then = before.to_model();
    let layouts = [&now.layout, &then.layout];
    let alike = layouts[0].schema == layouts[1].schema
        && layouts[0].zero_threshold == layouts[1].zero_threshold
        && layouts[0].custom_values == layouts[1].custom_values;
    // What it says of itself does not count.
    let unsaid = FloatHistogram::new(&model::Histogram { hint: ResetHint::Unknown, ..now.clone() });
    let same_chunk = then.hint != ResetHint::Gauge && alike && !unsaid.is_reset_since(before);
    if same_chunk { ResetHint::NotReset } else { ResetHint::Unknown }
}

/// A sample that ends a series.
pub(super) fn stale() -> Element {
    Element::Float(model::stale_nan())
}

/// The element of a histogram with what is told of it.
pub(super) fn notation(element: &Element) -> (f64, String) {
    match element {
        Element::Float(v) => (*v, String::new()),
        Element::Histogram(histogram) => (0.0, Arc::as_ref(histogram).notation()),
    }
}
