//! `/federate`: the newest sample of each series that some selectors find, for a Prometheus to scrape.
//!
//! In protobuf where `Accept` asks for it, as bytes or as text, with native histograms; else in the text format, which has none, so that only those with custom buckets are there, as
//! the classic histograms that they stand for. That is so in protobuf too, as in Prometheus: its scrape makes of them what it is configured to.

mod format;
mod histogram;
mod message;
mod words;

use std::sync::Arc;

use model::histogram::CUSTOM_BUCKETS_SCHEMA;
use model::labels::is_legacy_metric_name;
use model::{Columns, Histogram, Labels, METRIC_NAME, ResetHint, SelectRequest, TimeRange, Want, is_stale};

pub(crate) use self::format::Format;
use self::format::{Encoding, Escaping};
use self::histogram::Floats;
use crate::api::Api;
use crate::api::query::parse_matches;
use crate::api::series::SELECTORS_MAX;
use crate::asked::Asked;
use crate::error::Error;
use crate::execute::Context;
use crate::number::write_float;
use crate::parts::{Lines, Text};
use crate::respond::Reply;
use crate::stream;

/// Bytes of a line beside its labels, about.
const LINE: usize = 64;

/// A sample of a series. Ordered by the metric's name and then by the labels.
struct Newest {
    labels: Labels,
    t: i64,
    value: Value,
}

enum Value {
    Float(f64),
    Histogram(Box<Histogram>),
}

/// What the series of a family have in common beside the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Untyped,
    Histogram,
    GaugeHistogram,
}

impl Newest {
    fn kind(&self) -> Kind {
        match &self.value {
            Value::Float(_) => Kind::Untyped,
            Value::Histogram(h) if h.hint == ResetHint::Gauge => Kind::GaugeHistogram,
            Value::Histogram(_) => Kind::Histogram,
        }
    }

    fn is_of_family(&self, other: &Newest) -> bool {
        self.labels.metric_name() == other.labels.metric_name() && self.kind() == other.kind()
    }

    fn buckets(&self) -> usize {
        match &self.value {
            Value::Float(_) => 0,
            Value::Histogram(h) => {
                let (positive, negative) = h.layout.buckets();
                positive + negative + h.layout.custom_values.len()
            }
        }
    }

    /// Bytes that it takes in an answer, about, and rather more.
    fn size(&self, format: Format) -> usize {
        let line = 2 * self.labels.canonical().len() + LINE;
        match (format.is_of_messages(), self.kind()) {
            (true, _) if format.encoding != Encoding::Delimited => 6 * line + 12 * LINE + 2 * LINE * self.buckets(),
            (_, Kind::Untyped) => line,
            (true, _) => line + LINE + 24 * self.buckets(),
            (false, _) => line * (self.buckets() + 3),
        }
    }
}

/// The samples in a format.
pub(crate) async fn federate(api: Arc<Api>, form: Asked, format: Format) -> Result<Reply, Error> {
    if form.all("match[]").count() > SELECTORS_MAX {
        return Err(Error::parameter("match[]", format_args!("at most {SELECTORS_MAX} selectors are allowed")));
    }
    let matcher_sets = parse_matches(&form, &api.args.features).map_err(|e| Error::parameter("match[]", e))?;
    let now_ms = (api.now_ms)();
    let range = TimeRange { start_ms: now_ms - api.args.query_lookback.as_millis() as i64, end_ms: now_ms };
    let subject = form.subject_of_selectors("federate", "");
    let shared = api.clone();
    let work = move |context: &Context| {
        let (mut found, mut held) = (Vec::new(), context.cancel.claim().hold());
        let mut columns = Columns::default();
        for matchers in matcher_sets {
            let set = api.reader.select(&SelectRequest {
                matchers,
                range,
                want: Want::Samples,
                series_max: api.args.query_series_max,
                cancel: context.cancel.clone(),
            })?;
            for series in set.series {
                if context.cancel.is_cancelled() {
                    return Err(Error::Canceled("nobody waits for it"));
                }
                columns.clear();
                series.data.read(range, &mut columns)?;
                context.cancel.count_read(columns.len() as u64);
                let is_named = !series.labels.metric_name().is_empty();
                if let Some((t, value)) = newest(&columns, format).filter(|_| is_named) {
                    let one = Newest { labels: series.labels, t, value };
                    let buckets = one.buckets() * size_of::<f64>();
                    held.grow(one.labels.canonical().len() + size_of::<Newest>() + buckets)?;
                    found.push(one);
                }
            }
        }
        found.sort_unstable_by(|a, b| (a.labels.metric_name(), &a.labels).cmp(&(b.labels.metric_name(), &b.labels)));
        // More than one selector may find a series.
        found.dedup_by(|a, b| a.labels == b.labels);
        api.metrics.series.inc_by(found.len() as u64);
        let size = found.iter().map(|one| one.size(format)).sum();
        // Until they are written.
        held.keep();
        Ok(match format.is_of_messages() {
            true => {
                let write = move |out: &mut Vec<u8>, family: Vec<Newest>| message::write_family(out, &family, format);
                Text::new(Vec::new(), Lines::new(families(found), write), Vec::new(), size)
            }
            false => Text::new(Vec::new(), Lines::new(found, text(format.escaping)), Vec::new(), size),
        })
    };
    stream::answer(shared, subject, None, form.accepted, work).await
}

/// The newest sample, unless it ends the series or the format has no such samples.
fn newest(columns: &Columns, format: Format) -> Option<(i64, Value)> {
    let float = columns.t.last().copied();
    match columns.histograms.last().filter(|last| float.is_none_or(|t| t < last.t)) {
        Some(last) => {
            let histogram = &last.histogram;
            let is_told = format.is_of_messages() || histogram.layout.schema == CUSTOM_BUCKETS_SCHEMA;
            (is_told && !histogram.is_stale()).then(|| (last.t, Value::Histogram(Box::new(histogram.clone()))))
        }
        None => {
            let (t, v) = (float?, *columns.v.last()?);
            (!is_stale(v)).then_some((t, Value::Float(v)))
        }
    }
}

/// Series of one name and kind together, as many as a message may have.
fn families(found: Vec<Newest>) -> impl Iterator<Item = Vec<Newest>> + Send + 'static {
    let mut found = found.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut family = vec![found.next()?];
        while family.len() < message::SERIES_MAX {
            match found.next_if(|next| next.is_of_family(&family[0])) {
                Some(next) => family.push(next),
                None => break,
            }
        }
        Some(family)
    })
}

/// Writes a series in the text format, after the head of its family where it is the first.
fn text(escaping: Escaping) -> impl FnMut(&mut Vec<u8>, Newest) + Send + 'static {
    let mut before: Option<Newest> = None;
    move |out, one| {
        if !before.as_ref().is_some_and(|before| one.is_of_family(before)) {
            out.extend_from_slice(b"# TYPE ");
            write_name(out, one.labels.metric_name(), escaping);
            // The format does not know of gauges among histograms.
            out.extend_from_slice(if one.kind() == Kind::Untyped { b" untyped\n" } else { b" histogram\n" });
        }
        match &one.value {
            Value::Float(v) => write_line(out, &one, "", None, *v, escaping),
            Value::Histogram(h) => {
                let floats = Floats::of(h);
                let buckets = floats.classic().unwrap_or_default();
                for (bound, count) in &buckets {
                    write_line(out, &one, "_bucket", Some(*bound), *count, escaping);
                }
                if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
                    write_line(out, &one, "_bucket", Some(f64::INFINITY), floats.count, escaping);
                }
                write_line(out, &one, "_sum", None, floats.sum, escaping);
                write_line(out, &one, "_count", None, floats.count, escaping);
            }
        }
        before = Some(one);
    }
}

fn write_line(out: &mut Vec<u8>, one: &Newest, suffix: &str, bound: Option<f64>, v: f64, escaping: Escaping) {
    // What is behind the name is not escaped with it.
    let name = format!("{}{suffix}", escaping.of(one.labels.metric_name()));
    let outside = escaping != Escaping::None || is_legacy_metric_name(&name);
    if outside {
        out.extend_from_slice(name.as_bytes());
    }
    out.push(b'{');
    if !outside {
        write_quoted(out, &name);
        out.push(b',');
    }
    for (label, value) in one.labels.iter().filter(|(label, _)| *label != METRIC_NAME) {
        write_name(out, label, escaping);
        out.push(b'=');
        write_quoted(out, value);
        out.push(b',');
    }
    // Else the scrape would give it the instance of Weir.
    if one.labels.get("instance").is_none() {
        out.extend_from_slice(b"instance=\"\",");
    }
    if let Some(bound) = bound {
        out.extend_from_slice(format!("le=\"{}\"", promql::general(bound)).as_bytes());
    }
    out.pop_if(|last| *last == b',');
    out.extend_from_slice(b"} ");
    write_float(out, v);
    out.extend_from_slice(format!(" {}\n", one.t).as_bytes());
}

/// A name, in quotes where it needs them.
fn write_name(out: &mut Vec<u8>, name: &str, escaping: Escaping) {
    if escaping == Escaping::None && !is_legacy_metric_name(name) {
        write_quoted(out, name);
    } else {
        out.extend_from_slice(escaping.of(name).as_bytes());
    }
}

fn write_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' => out.extend_from_slice(b"\\\""),
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}
