//! `GET /query`: the samples of one metric as a plain list, or their percentiles. Simpler than PromQL, for scripts and lessons.
//!
//! Parameters: `name`; `start` and `end` in Unix milliseconds, inclusive; `min_value`, `max_value`; `label.<name>=<value>`;
//! `percentile`, as often as wanted. The whole answer is made in memory, so it is bounded by [`LIST_MAX`], and the error says what to do.

use std::sync::Arc;

use bytes::Bytes;
use model::{Columns, Labels, METRIC_NAME, Matcher, SelectRequest, TimeRange, Want, is_stale};
use runtime::Form;

use crate::api::Api;
use crate::api::query::timeout;
use crate::asked::Asked;
use crate::encode::write_labels;
use crate::error::Error;
use crate::execute::Context;
use crate::number::{write_integer, write_json_number, write_label};
use crate::respond::{sent, write_list};

/// Samples in a list: at some sixty bytes each an answer of 60 MB.
const LIST_MAX: usize = 1_000_000;

/// What is said where a metric has samples that a plain number cannot show.
const LEFT_OUT: &str = "native histograms are left out";

/// `label.…` and `percentile` parameters of a request, each.
const PARAMETERS_MAX: usize = 64;

/// A request, understood.
#[derive(Debug)]
struct Question {
    matchers: Vec<Matcher>,
    range: TimeRange,
    min: f64,
    max: f64,
    percentiles: Vec<f64>,
}

/// A plain answer, which has no room for warnings; they become headers.
pub(crate) struct Plain {
    pub(crate) body: Bytes,
    pub(crate) warnings: Vec<String>,
}

/// `GET /query`.
pub(crate) async fn samples(api: Arc<Api>, form: Asked) -> Result<Plain, Error> {
    let question = Question::read(&form)?;
    let subject = form.subject("samples", &question.text());
    let shared = api.clone();
    let work = move |context: &Context| question.answer(&api, context);
    shared.executor.run(subject, timeout(&form)?, work).await
}

/// `GET /health`.
pub(crate) fn health(api: &Api) -> Bytes {
    let mut out = b"{\"status\":\"healthy\",\"queue_size\":".to_vec();
    write_integer(&mut out, api.reader.backlog());
    out.push(b'}');
    out.into()
}

impl Question {
    fn read(form: &Form) -> Result<Self, Error> {
        let name = form.get("name");
        if name.is_empty() {
            return Err(Error::parameter("name", "the metric's name is missing"));
        }
        let mut matchers = vec![Matcher::equal(METRIC_NAME, name)];
        for (label, value) in form.prefixed("label.").take(PARAMETERS_MAX) {
            if label.is_empty() {
                return Err(Error::parameter("label.", "the label's name is missing"));
            }
            matchers.push(Matcher::equal(label, value));
        }
        let start_ms = milliseconds(form, "start", i64::MIN)?;
        let end_ms = milliseconds(form, "end", i64::MAX)?;
        if end_ms < start_ms {
            return Err(Error::parameter("end", "must not be before start"));
        }
        let min = number(form, "min_value", f64::NEG_INFINITY)?;
        let max = number(form, "max_value", f64::INFINITY)?;
        if max < min {
            return Err(Error::parameter("max_value", "must not be below min_value"));
        }
        let percentiles = form.all("percentile").take(PARAMETERS_MAX).map(percentile).collect::<Result<_, _>>()?;
        Ok(Question { matchers, range: TimeRange { start_ms, end_ms }, min, max, percentiles })
    }

    /// As a selector.
    fn text(&self) -> String {
        let matchers: Vec<String> =
            self.matchers.iter().map(|m| format!("{}{}{:?}", m.name, m.op.as_str(), m.value)).collect();
        format!("{{{}}}", matchers.join(","))
    }

    fn answer(self, api: &Api, context: &Context) -> Result<Plain, Error> {
        let set = api.reader.select(&SelectRequest {
            matchers: self.matchers,
            range: self.range,
            want: Want::Samples,
            series_max: api.args.query_series_max,
            cancel: context.cancel.clone(),
        })?;
        let mut series = set.series;
        series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        let samples_max = if self.percentiles.is_empty() {
            LIST_MAX.min(api.args.query_samples_max)
        } else {
            api.args.query_samples_max
        };
        let (mut found, mut columns, mut warnings) = (Vec::<Found>::new(), Columns::default(), set.warnings);
        let (mut held, mut scratch) = (context.cancel.claim().hold(), context.cancel.claim().hold());
        for (n, one) in series.iter().enumerate() {
            if context.cancel.is_cancelled() {
                return Err(Error::Canceled("nobody waits for it"));
            }
            columns.clear();
            one.data.read(self.range, &mut columns)?;
            api.metrics.samples.inc_by(columns.len() as u64);
            context.cancel.count_read(columns.len() as u64);
            if !columns.histograms.is_empty() && !warnings.iter().any(|warning| warning == LEFT_OUT) {
                warnings.push(LEFT_OUT.to_owned());
            }
            scratch.grow_to(columns.memory())?;
            let needed = found.len() + columns.len();
            if needed > found.capacity() {
                let (before, room) = (found.capacity(), needed.max(2 * found.capacity()));
                // For a moment, what is there is there twice.
                held.grow(room * size_of::<Found>())?;
                found.reserve_exact(room - found.len());
                held.shrink_to(held.bytes() - before * size_of::<Found>());
            }
            let unbounded = self.min == f64::NEG_INFINITY && self.max == f64::INFINITY;
            let keep = |v: f64| !is_stale(v) && (unbounded || (self.min <= v && v <= self.max));
            let kept = columns.t.iter().zip(&columns.v).filter(|(_, v)| keep(**v));
            found.extend(kept.map(|(t, v)| Found { t: *t, series: n as u32, v: *v }));
            if found.len() > samples_max {
                return Err(Error::Request(format!(
                    "more than {samples_max} samples meet the request; narrow it with start, end or label.<name>"
                )));
            }
        }
        if !self.percentiles.is_empty() {
            let body = percentiles(&self.percentiles, found.into_iter().map(|sample| sample.v).collect());
            return Ok(Plain { body: sent(&context.memory, body), warnings });
        }
        // Stable: at the same time the series come in the order of their labels.
        found.sort_by_key(|sample| sample.t);
        let labels: Vec<&Labels> = series.iter().map(|one| &one.labels).collect();
        let frames: usize = labels.iter().map(|labels| 2 * labels.canonical().len()).sum();
        let written: usize = found.iter().map(|one| 64 + 2 * labels[one.series as usize].canonical().len()).sum();
        held.grow(frames + written)?;
        let body = list(&found, &labels, written);
        Ok(Plain { body: sent(&context.memory, body), warnings })
    }
}

struct Found {
    t: i64,
    v: f64,
    series: u32,
}

fn list(found: &[Found], series: &[&Labels], bytes: usize) -> Vec<u8> {
    // What stands before and after the value is the same for all samples of a series.
    let frames: Vec<(Vec<u8>, Vec<u8>)> = series.iter().map(|labels| frame(labels)).collect();
    let mut out = Vec::with_capacity(bytes);
    write_list(&mut out, found, |out, sample| {
        let (before, after) = &frames[sample.series as usize];
        out.extend_from_slice(before);
        write_json_number(out, sample.v);
        out.extend_from_slice(b",\"timestamp\":");
        if sample.t < 0 {
            out.push(b'-');
        }
        write_integer(out, sample.t.unsigned_abs());
        out.extend_from_slice(after);
    });
    out
}

fn frame(labels: &Labels) -> (Vec<u8>, Vec<u8>) {
    let mut before = b"{\"name\":".to_vec();
    write_label(&mut before, labels.metric_name());
    before.extend_from_slice(b",\"value\":");
    let (mut after, rest) = (Vec::new(), labels.without_metric_name());
    if !rest.is_empty() {
        after.extend_from_slice(b",\"labels\":");
        write_labels(&mut after, rest.as_ref());
    }
    after.push(b'}');
    (before, after)
}

fn percentiles(wanted: &[f64], mut values: Vec<f64>) -> Vec<u8> {
    // What is not a number has no rank.
    values.retain(|v| !v.is_nan());
    values.sort_unstable_by(f64::total_cmp);
    let mut out = b"{".to_vec();
    for p in wanted {
        out.extend_from_slice(b"\"p");
        write_json_number(&mut out, *p);
        out.extend_from_slice(b"\":");
        match nearest_rank(&values, *p) {
            Some(v) => write_json_number(&mut out, v),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b',');
    }
    out.extend_from_slice(b"\"count\":");
    write_integer(&mut out, values.len() as u64);
    out.push(b'}');
    out
}

/// The smallest of the sorted values that at least `p` percent of them do not exceed.
fn nearest_rank(sorted: &[f64], p: f64) -> Option<f64> {
    // The subtrahend keeps the rounding of the product, as in 64.4 of 250, from reaching the next rank.
    let rank = (p * sorted.len() as f64 / 100.0 - 1e-9).ceil().max(1.0) as usize;
    sorted.get(rank.min(sorted.len()).checked_sub(1)?).copied()
}

fn percentile(text: &str) -> Result<f64, Error> {
    let p: Option<f64> = text.parse().ok().filter(|p| (0.0..=100.0).contains(p));
    p.map(|p| p + 0.0)
        .ok_or_else(|| Error::parameter("percentile", format_args!("{text:?} is not a number from 0 to 100")))
}

fn milliseconds(form: &Form, name: &str, default: i64) -> Result<i64, Error> {
    match form.get(name) {
        "" => Ok(default),
        text => text.parse().map_err(|_| {
            Error::parameter(name, format_args!("{text:?} is not a whole number of milliseconds since 1970"))
        }),
    }
}

fn number(form: &Form, name: &str, default: f64) -> Result<f64, Error> {
    match form.get(name) {
        "" => Ok(default),
        text => {
            let number: Option<f64> = text.parse().ok().filter(|v: &f64| !v.is_nan());
            number.ok_or_else(|| Error::parameter(name, format_args!("{text:?} is not a number")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let values = [10.0, 12.0, 15.0, 18.0, 20.0, 25.0, 30.0, 35.0, 45.0, 60.0, 80.0, 100.0, 150.0, 200.0, 500.0];
        for (p, v) in
            [(0.0, 10.0), (1.0, 10.0), (50.0, 35.0), (90.0, 200.0), (95.0, 500.0), (99.0, 500.0), (100.0, 500.0)]
        {
            assert_eq!(nearest_rank(&values, p), Some(v), "p{p}");
        }
        let thousand: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert_eq!(nearest_rank(&thousand, 99.9), Some(999.0));
        assert_eq!(nearest_rank(&thousand, 0.1), Some(1.0));
        assert_eq!(nearest_rank(&thousand[..250], 64.4), Some(161.0));
        assert_eq!(nearest_rank(&[], 50.0), None);
        assert_eq!(percentiles(&[99.9, 50.0], vec![2.5, f64::NAN, 1.0]), br#"{"p99.9":2.5,"p50":1,"count":2}"#);
        assert_eq!(percentiles(&[50.0], Vec::new()), br#"{"p50":null,"count":0}"#);
    }
}
