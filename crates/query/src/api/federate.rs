//! `/federate`: the newest sample of each series that some selectors find, in the text format, for a Prometheus to scrape.

use std::sync::Arc;

use model::labels::is_legacy_metric_name;
use model::{Columns, Labels, METRIC_NAME, Mark, SelectRequest, TimeRange, Want, is_stale};

use crate::api::Api;
use crate::api::series::SELECTORS_MAX;
use crate::asked::Asked;
use crate::error::Error;
use crate::execute::Context;
use crate::number::write_float;
use crate::parts::{Lines, Text};
use crate::respond::Reply;
use crate::selectors;
use crate::stream;

/// Bytes of a line beside its labels, about.
const LINE: usize = 64;

/// A sample of a series. Ordered by the metric's name and then by the labels.
struct Newest {
    labels: Labels,
    t: i64,
    v: f64,
}

/// The lines. `utf8` tells whether who asks takes names of any characters; else others than those of old are written as `_`.
pub(crate) async fn federate(api: Arc<Api>, form: Asked, utf8: bool) -> Result<Reply, Error> {
    if form.all("match[]").count() > SELECTORS_MAX {
        return Err(Error::parameter("match[]", format_args!("at most {SELECTORS_MAX} selectors are allowed")));
    }
    let matcher_sets =
        selectors::parse(form.all("match[]"), &api.args.features).map_err(|e| Error::parameter("match[]", e))?;
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
                if let Some((t, v)) = newest(&columns).filter(|_| !series.labels.metric_name().is_empty()) {
                    held.grow(series.labels.canonical().len() + size_of::<Newest>())?;
                    found.push(Newest { labels: series.labels, t, v });
                }
            }
        }
        found.sort_unstable_by(|a, b| (a.labels.metric_name(), &a.labels).cmp(&(b.labels.metric_name(), &b.labels)));
        // More than one selector may find a series.
        found.dedup_by(|a, b| a.labels == b.labels);
        api.metrics.series.inc_by(found.len() as u64);
        let size = found.iter().map(|one| 2 * one.labels.canonical().len() + LINE).sum();
        // Until they are written.
        held.keep();
        let mut before = None;
        let lines = Lines::new(found, move |out: &mut Vec<u8>, one: Newest| {
            let name = one.labels.metric_name();
            if before.as_deref() != Some(name) {
                out.extend_from_slice(b"# TYPE ");
                write_name(out, name, utf8);
                out.extend_from_slice(b" untyped\n");
                before = Some(name.to_owned());
            }
            write_line(out, &one, utf8);
        });
        Ok(Text::new(Vec::new(), lines, Vec::new(), size))
    };
    stream::answer(shared, subject, None, form.accepted, work).await
}

/// The newest sample where it is a float that is no stale marker. The text format has no native histograms.
fn newest(columns: &Columns) -> Option<(i64, f64)> {
    let (t, v) = (*columns.t.last()?, *columns.v.last()?);
    let is_last = columns.range(Mark::default()).is_some_and(|range| range.end_ms == t);
    (is_last && !is_stale(v)).then_some((t, v))
}

fn write_line(out: &mut Vec<u8>, one: &Newest, utf8: bool) {
    let name = one.labels.metric_name();
    let outside = !utf8 || is_legacy_metric_name(name);
    if outside {
        write_name(out, name, utf8);
    }
    out.push(b'{');
    if !outside {
        write_quoted(out, name);
        out.push(b',');
    }
    for (label, value) in one.labels.iter().filter(|(label, _)| *label != METRIC_NAME) {
        write_name(out, label, utf8);
        out.push(b'=');
        write_quoted(out, value);
        out.push(b',');
    }
    // Else the scrape would give it the instance of Weir.
    if one.labels.get("instance").is_none() {
        out.extend_from_slice(b"instance=\"\",");
    }
    out.pop_if(|last| *last == b',');
    out.extend_from_slice(b"} ");
    write_float(out, one.v);
    out.extend_from_slice(format!(" {}\n", one.t).as_bytes());
}

/// A name as it is, in quotes where it needs them, or with `_` for what it may not have.
fn write_name(out: &mut Vec<u8>, name: &str, utf8: bool) {
    // As Prometheus does it, a label too may have what the name of a metric may have.
    if is_legacy_metric_name(name) {
        out.extend_from_slice(name.as_bytes());
    } else if utf8 {
        write_quoted(out, name);
    } else {
        let mut escaped = String::with_capacity(name.len());
        for c in name.chars() {
            escaped.push(c);
            if !is_legacy_metric_name(&escaped) {
                escaped.pop();
                escaped.push('_');
            }
        }
        out.extend_from_slice(escaped.as_bytes());
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
