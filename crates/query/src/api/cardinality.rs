//! `/api/v1/status/tsdb`: which metrics, labels and values have how many series.
//!
//! Prometheus tells it of its head alone; here it is told of everything that is stored, each series once. `match[]`, `start` and `end` narrow it
//! down, and `focusLabel` adds the values of one label, as VictoriaMetrics has it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use bytes::Bytes;
use model::{Cardinality, CardinalityRequest, Classes, METRIC_NAME, Tally, TimeRange};

use crate::api::Api;
use crate::api::query::{parse_matches, time_or, timeout};
use crate::api::series::SELECTORS_MAX;
use crate::asked::Asked;
use crate::encode::size_of_texts;
use crate::error::Error;
use crate::execute::Context;
use crate::number::{write_integer, write_string};
use crate::respond::{Answer, write_list};
use crate::time::parse_integer;

/// Elements of each list.
const LIMIT: i64 = 10;
const LIMIT_MAX: i64 = 10_000;

/// The elements of a list with the largest numbers.
struct Top {
    limit: usize,
    /// The smallest first; of the same number the last by name.
    held: BinaryHeap<Reverse<(u64, Reverse<String>)>>,
}

/// The lists of an answer.
struct Lists {
    metrics: Vec<(String, u64)>,
    values: Vec<(String, u64)>,
    bytes: Vec<(String, u64)>,
    pairs: Vec<(String, u64)>,
    focus: Option<Vec<(String, u64)>>,
    number_of_pairs: u64,
}

/// `/api/v1/status/tsdb`.
pub(crate) async fn tsdb(api: Arc<Api>, form: Asked) -> Result<Bytes, Error> {
    let limit = limit(form.get("limit"))?;
    let range = TimeRange { start_ms: time_or(&form, "start", i64::MIN)?, end_ms: time_or(&form, "end", i64::MAX)? };
    if form.all("match[]").count() > SELECTORS_MAX {
        return Err(Error::parameter("match[]", format_args!("at most {SELECTORS_MAX} selectors are allowed")));
    }
    let matcher_sets = parse_matches(&form, &api.args.features).map_err(|e| Error::parameter("match[]", e))?;
    let focus = Some(form.get("focusLabel").to_owned()).filter(|name| !name.is_empty());
    let timeout = timeout(&form)?;
    let shared = api.clone();
    let work = move |context: &Context| {
        let mut counted = api.reader.cardinality(&CardinalityRequest {
            matcher_sets,
            range,
            classes: Classes::ONE,
            series_max: api.args.query_series_max,
            cancel: context.cancel.clone(),
        })?;
        let tally = counted.tallies.remove(&0).unwrap_or_default();
        let lists = Lists::of(&tally, limit, focus.as_deref());
        answer(context, &tally, &lists, counted)
    };
    shared.executor.run(form.subject_of_selectors("tsdb", ""), timeout, work).await
}

fn limit(text: &str) -> Result<usize, Error> {
    let limit = if text.is_empty() { Ok(LIMIT) } else { parse_integer(text) };
    match limit {
        Ok(n) if n > LIMIT_MAX => Err(Error::Request(format!("limit must not exceed {LIMIT_MAX}"))),
        Ok(n) if n > 0 => Ok(n as usize),
        _ => Err(Error::Request("limit must be a positive number".to_owned())),
    }
}

impl Top {
    fn new(limit: usize) -> Self {
        Top { limit, held: BinaryHeap::new() }
    }

    /// Takes an element, whose name is made only where it is among the largest.
    fn push(&mut self, n: u64, name: impl FnOnce() -> String) {
        if self.held.len() < self.limit {
            self.held.push(Reverse((n, Reverse(name()))));
        } else if let Some(mut least) = self.held.peek_mut().filter(|least| least.0.0 <= n) {
            let own = Reverse((n, Reverse(name())));
            if own < *least {
                *least = own;
            }
        }
    }

    fn finish(self) -> Vec<(String, u64)> {
        self.held.into_sorted_vec().into_iter().map(|Reverse((n, Reverse(name)))| (name, n)).collect()
    }
}

impl Lists {
    fn of(tally: &Tally, limit: usize, focus: Option<&str>) -> Lists {
        let top = || Top::new(limit);
        let (mut metrics, mut values, mut bytes, mut pairs, mut focused) = (top(), top(), top(), top(), top());
        let mut number_of_pairs = 0;
        for (name, own) in &tally.labels {
            number_of_pairs += own.len() as u64;
            values.push(own.len() as u64, || name.clone());
            let mut text = 0;
            for (value, series) in own {
                text += series * label_bytes(name, value);
                pairs.push(*series, || format!("{name}={value}"));
                if name == METRIC_NAME {
                    metrics.push(*series, || value.clone());
                }
                if focus == Some(name.as_str()) {
                    focused.push(*series, || value.clone());
                }
            }
            bytes.push(text, || name.clone());
        }
        let focus = focus.map(|_| focused.finish());
        let (metrics, values, bytes, pairs) = (metrics.finish(), values.finish(), bytes.finish(), pairs.finish());
        Lists { metrics, values, bytes, pairs, focus, number_of_pairs }
    }
}

/// What a label takes in the labels of a series, which are one text of names and values, each with its length before it; as Prometheus counts it.
fn label_bytes(name: &str, value: &str) -> u64 {
    let length = |text: &str| if text.len() < 255 { 1 } else { 4 };
    (name.len() + length(name) + value.len() + length(value)) as u64
}

fn answer(context: &Context, tally: &Tally, lists: &Lists, counted: Cardinality) -> Result<Bytes, Error> {
    let named = [
        ("seriesCountByMetricName", Some(&lists.metrics)),
        ("labelValueCountByLabelName", Some(&lists.values)),
        ("memoryInBytesByLabelName", Some(&lists.bytes)),
        ("seriesCountByLabelValuePair", Some(&lists.pairs)),
        ("seriesCountByFocusLabelValue", lists.focus.as_ref()),
    ];
    let texts = named.iter().flat_map(|(_, list)| list.iter().flat_map(|list| list.iter()));
    // Beside the name each element has its key and its number.
    let numbers = 32 * texts.clone().count() + 512;
    let mut answer = Answer::with_room(context, size_of_texts(texts.map(|(name, _)| name.as_str())) + numbers)?;
    let out = &mut answer.out;
    // What Prometheus says of a head that is empty.
    let TimeRange { start_ms, end_ms } = counted.range.unwrap_or(TimeRange { start_ms: i64::MAX, end_ms: i64::MIN });
    let (series, pairs, chunks) = (tally.series, lists.number_of_pairs, tally.chunks);
    let stats = format!(
        "{{\"headStats\":{{\"numSeries\":{series},\"numLabelPairs\":{pairs},\"chunkCount\":{chunks},\"minTime\":{start_ms},\"maxTime\":{end_ms}}}"
    );
    out.extend_from_slice(stats.as_bytes());
    for (key, list) in named {
        let Some(list) = list else { continue };
        out.extend_from_slice(format!(",\"{key}\":").as_bytes());
        write_list(out, list, |out, (name, n)| {
            out.extend_from_slice(b"{\"name\":");
            write_string(out, name);
            out.extend_from_slice(b",\"value\":");
            write_integer(out, *n);
            out.push(b'}');
        });
    }
    out.push(b'}');
    answer.warnings = counted.warnings;
    Ok(answer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_kept_and_of_the_same_number_the_first_by_name() {
        let list = |limit| {
            let mut top = Top::new(limit);
            for (name, n) in [("c", 2), ("a", 1), ("e", 2), ("b", 2), ("d", 3), ("f", 0)] {
                top.push(n, || name.to_owned());
            }
            top.finish().into_iter().map(|(name, n)| format!("{name}{n}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(list(1), "d3");
        assert_eq!(list(3), "d3 b2 c2");
        assert_eq!(list(9), "d3 b2 c2 e2 a1 f0");
    }
}
