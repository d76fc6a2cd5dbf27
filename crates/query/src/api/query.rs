//! `/api/v1/query` and `/api/v1/query_range`, and what only looks at the text of a query.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{Matcher, SeriesSource, timestamp};
use promql::{Consumed, Evaluation, Explanation, Features, Value};
use runtime::Form;

use crate::api::Api;
use crate::api::explain::{flag, write_tree};
use crate::asked::Asked;
use crate::encode::{begin_value, size_of_value};
use crate::error::Error;
use crate::evaluate::{Times, Wanted, consumed, evaluate, explain, parse};
use crate::execute::{Context, Stopwatch};
use crate::number::{write_float, write_integer, write_string};
use crate::parts::Text;
use crate::respond::{Answer, Reply, TRUNCATED};
use crate::stream;
use crate::time::{go_duration, parse_duration_ms, parse_duration_ns, parse_limit};

/// Steps of a range query, the first not counted: 60 s over a week, an hour over a year.
const STEPS_MAX: i64 = 11_000;

/// `/api/v1/query`.
pub(crate) async fn instant(api: Arc<Api>, form: Asked) -> Result<Reply, Error> {
    let limit = parse_limit(form.get("limit")).map_err(|e| Error::parameter("limit", e))?;
    let time = time_or(&form, "time", (api.now_ms)())?;
    let timeout = timeout(&form)?;
    let times = Times { start_ms: time, end_ms: time, step_ms: 0, lookback_ms: lookback_ms(&api, &form)? };
    run(api, "query", form, times, timeout, limit).await
}

/// `/api/v1/query_range`.
pub(crate) async fn range(api: Arc<Api>, form: Asked) -> Result<Reply, Error> {
    let limit = parse_limit(form.get("limit")).map_err(|e| Error::parameter("limit", e))?;
    let start_ms = timestamp::parse_ms(form.get("start")).map_err(|e| Error::parameter("start", e))?;
    let end_ms = timestamp::parse_ms(form.get("end")).map_err(|e| Error::parameter("end", e))?;
    if end_ms < start_ms {
        return Err(Error::parameter("end", "end timestamp must not be before start time"));
    }
    let step_ms = parse_duration_ms(form.get("step")).map_err(|e| Error::parameter("step", e))?;
    if step_ms <= 0 {
        let reason = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(Error::parameter("step", reason));
    }
    // No overflow: both ends are within a quarter of the range of 64 bits.
    if (end_ms - start_ms) / step_ms > STEPS_MAX {
        return Err(Error::Request(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"
                .to_owned(),
        ));
    }
    let timeout = timeout(&form)?;
    let times = Times { start_ms, end_ms, step_ms, lookback_ms: lookback_ms(&api, &form)? };
    run(api, "query_range", form, times, timeout, limit).await
}

/// `/api/v1/format_query`.
pub(crate) async fn format(api: Arc<Api>, form: Asked) -> Result<Bytes, Error> {
    let expr = parse(form.get("query"), &api.args, false)?;
    let mut answer = Answer::new();
    write_string(&mut answer.out, &expr.to_lines());
    Ok(answer.finish())
}

/// `/api/v1/parse_query`.
pub(crate) async fn tree(api: Arc<Api>, form: Asked) -> Result<Bytes, Error> {
    let expr = parse(form.get("query"), &api.args, false)?;
    let mut answer = Answer::new();
    answer.out.extend_from_slice(super::tree::tree(&expr).to_string().as_bytes());
    Ok(answer.finish())
}

/// A time that may be left out.
pub(crate) fn time_or(form: &Form, name: &str, default_ms: i64) -> Result<i64, Error> {
    match form.get(name) {
        "" => Ok(default_ms),
        text => timestamp::parse_ms(text)
            .map_err(|e| Error::parameter(name, format_args!("invalid time value for '{name}': {e}"))),
    }
}

/// Every `match[]`.
pub(crate) fn parse_matches(form: &Form, features: &Features) -> Result<Vec<Vec<Matcher>>, String> {
    form.all("match[]").map(|text| promql::parse_match(text, features)).collect()
}

/// `timeout`, where it is given. One that could only have passed already is refused.
pub(crate) fn timeout(form: &Form) -> Result<Option<Duration>, Error> {
    match form.get("timeout") {
        "" => Ok(None),
        text => match parse_duration_ns(text).map_err(|e| Error::parameter("timeout", e))? {
            ns @ 1.. => Ok(Some(Duration::from_nanos(ns.unsigned_abs()))),
            ns => {
                let reason = format!("timeout must be positive, got {}", go_duration(ns));
                Err(Error::parameter("timeout", reason))
            }
        },
    }
}

fn lookback_ms(api: &Api, form: &Form) -> Result<i64, Error> {
    let default = api.args.query_lookback.as_millis() as i64;
    match form.get("lookback_delta") {
        "" => Ok(default),
        text => match parse_duration_ms(text) {
            Ok(ms) if ms > 0 => Ok(ms),
            Ok(_) => Ok(default),
            Err(e) => Err(Error::Request(format!("error parsing lookback delta duration: {e}"))),
        },
    }
}

async fn run(
    api: Arc<Api>,
    kind: &'static str,
    form: Asked,
    times: Times,
    timeout: Option<Duration>,
    limit: Option<usize>,
) -> Result<Reply, Error> {
    let starts = form.starts()?;
    let text = form.get("query").to_owned();
    let expr = parse(&text, &api.args, times.step_ms > 0)?;
    let (explains, analyzes) = (flag(&form, "explain")?, flag(&form, "analyze")?);
    let wanted = Wanted { analysis: analyzes, all_samples: flag(&form, "nooutline")?, starts };
    if explains {
        if analyzes {
            let reason = "explain does not evaluate the query and analyze does: one of them at a time";
            return Err(Error::parameter("explain", reason));
        }
        let tree = explain(&text, &expr, (times, wanted), &api.args)?;
        let mut answer = Answer::new();
        answer.out.extend_from_slice(b"{\"explain\":");
        write_tree(&mut answer.out, &tree);
        answer.out.push(b'}');
        return Ok(answer.finish().into());
    }
    let stats = form.get("stats").to_owned();
    // Figures are of all that an answer takes.
    let may_be_kept = times.step_ms > 0
        && stats.is_empty()
        && !(analyzes || wanted.all_samples || starts.is_some())
        && matches!(form.get("nocache"), "" | "0" | "false");
    let subject = form.subject(kind, &text).at(times.start_ms, times.end_ms, times.step_ms);
    let shared = api.clone();
    let work = move |context: &Context| {
        let clock = Stopwatch::start();
        let of = |times, source: &dyn SeriesSource| evaluate(&text, &expr, (times, wanted), &api.args, context, source);
        let (mut evaluation, analysis) = match may_be_kept {
            true => {
                let of = |times, source: &dyn SeriesSource| Ok(of(times, source)?.0);
                (api.cache.evaluate((&text, &expr), times, &*api.reader, &context.cancel, &of)?, None)
            }
            false => of(times, &*api.reader)?,
        };
        let took = clock.elapsed();
        api.metrics.samples.inc_by(evaluation.stats.samples_read);
        let consumed = match stats.is_empty() {
            true => None,
            false => Some(consumed(&expr, (times, wanted), &api.args, context, &*api.reader)?),
        };
        let truncated = limit.is_some_and(|limit| truncate(&mut evaluation.value, limit));
        let timings = Timings { waited: context.waited, evaluated: took };
        let beside = Beside { truncated, analysis, stats: &stats, consumed, timings };
        Ok(answer(&api, evaluation, &beside))
    };
    stream::answer(shared, subject, timeout, form.accepted, work).await
}

struct Timings {
    waited: Duration,
    evaluated: Duration,
}

/// What is told beside a value.
struct Beside<'a> {
    truncated: bool,
    analysis: Option<Explanation>,
    stats: &'a str,
    /// Where statistics are asked for.
    consumed: Option<Consumed>,
    timings: Timings,
}

fn answer(api: &Api, evaluation: Evaluation, beside: &Beside) -> Text {
    let Beside { truncated, analysis, stats, consumed, timings } = beside;
    let size = size_of_value(&evaluation.value);
    api.metrics.series.inc_by(match &evaluation.value {
        Value::Vector(vector) => vector.len() as u64,
        Value::Matrix(matrix) => matrix.len() as u64,
        Value::Scalar(_) | Value::String(_) => 1,
    });
    let (mut answer, mut after) = (Answer::new(), Vec::new());
    if let Some(consumed) = consumed {
        let steps = *stats == "all" && api.args.features.per_step_stats;
        write_stats(&mut after, &evaluation, (consumed, steps), timings);
    }
    if let Some(analysis) = analysis {
        after.extend_from_slice(b",\"analysis\":");
        write_tree(&mut after, analysis);
    }
    after.push(b'}');
    answer.warnings = evaluation.warnings;
    answer.infos = evaluation.infos;
    if *truncated {
        answer.warnings.push(TRUNCATED.to_owned());
    }
    if !matches!(*stats, "" | "true" | "all") {
        answer.warnings.push(format!(
            "value {stats:?} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\""
        ));
    }
    let value = begin_value(&mut answer.out, evaluation.value);
    answer.finish_with(value, size, after)
}

/// What is not measured apart is zero: results come sorted out of the evaluation, and preparing a query is part of it.
///
/// `steps` tells what each step consumed, too.
fn write_stats(out: &mut Vec<u8>, evaluation: &Evaluation, (consumed, steps): (&Consumed, bool), timings: &Timings) {
    let (waited, evaluated) = (timings.waited.as_secs_f64(), timings.evaluated.as_secs_f64());
    out.extend_from_slice(b",\"stats\":{\"timings\":{");
    let timings = [
        ("evalTotalTime", evaluated),
        ("resultSortTime", 0.0),
        ("queryPreparationTime", 0.0),
        ("innerEvalTime", evaluated),
        ("execQueueTime", waited),
        ("execTotalTime", waited + evaluated),
    ];
    for (at, (name, seconds)) in timings.into_iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write_float(out, seconds);
    }
    let stats = &evaluation.stats;
    out.extend_from_slice(b"},\"samples\":{");
    let sum = |of: &[u64]| of.iter().sum::<u64>();
    let counts = [
        ("totalQueryableSamples", sum(&consumed.total), consumed.total.as_slice()),
        ("samplesRead", sum(&consumed.read), &consumed.read),
        ("seriesTouched", consumed.series, &[]),
        ("peakSamples", stats.samples_peak, &[]),
    ];
    for (at, (name, count, of_steps)) in counts.into_iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
        if steps && !of_steps.is_empty() {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"PerStep\":[");
            write_steps(out, &consumed.times, of_steps);
            out.extend_from_slice(b"],\"");
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write_integer(out, count);
    }
    out.extend_from_slice(b"}}");
}

/// Pairs of a time in seconds and a count.
fn write_steps(out: &mut Vec<u8>, times: &[i64], counts: &[u64]) {
    for (at, (t, count)) in times.iter().zip(counts).enumerate() {
        out.extend_from_slice(if at == 0 { b"[" } else { b",[" });
        out.extend_from_slice((*t as f64 / 1000.0).to_string().as_bytes());
        out.push(b',');
        write_integer(out, *count);
        out.push(b']');
    }
}

/// Keeps the first `limit` series, and says whether there were more.
fn truncate(value: &mut Value, limit: usize) -> bool {
    let before = match value {
        Value::Vector(vector) => {
            let before = vector.len();
            vector.truncate(limit);
            before
        }
        Value::Matrix(matrix) => {
            let before = matrix.len();
            matrix.truncate(limit);
            before
        }
        Value::Scalar(_) | Value::String(_) => 0,
    };
    before > limit
}
