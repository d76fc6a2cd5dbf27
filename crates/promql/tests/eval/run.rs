//! Runs a script and says what did not hold.

use model::{Columns, HistogramSample, Labels, SeriesSource};
use promql::{Element, EvalError, Evaluation, Features, FloatHistogram, Params, Point, Value};

use crate::script::{Command, Eval, Item, parse};
use crate::source::{Counting, Memory};

/// Relative difference that is let pass in scripts of this repository: what decimal notation costs.
pub(crate) const EXACT: f64 = 1e-13;

/// What held, and what did not, with line and reason.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) held: usize,
    pub(crate) failures: Vec<String>,
}

/// The parameters of most tests.
pub(crate) fn params(start_ms: i64, end_ms: i64, step_ms: i64) -> Params {
    Params {
        start_ms,
        end_ms,
        step_ms,
        lookback_ms: 300_000,
        samples_max: 1_000_000,
        series_max: 10_000,
        cancel: model::Cancel::default(),
        // With types as labels, what is a counter is told by them and no more by names.
        features: Features { type_and_unit_labels: false, ..Features::all() },
        default_subquery_step_ms: 60_000,
        reads_all_samples: false,
    }
}

/// Parses and evaluates.
pub(crate) fn evaluate(source: &dyn SeriesSource, query: &str, params: &Params) -> Result<Evaluation, String> {
    let expr = promql::parse(query, &params.features).map_err(|e| e.to_string())?;
    promql::evaluate_text(query, &expr, params, source).map_err(|e: EvalError| e.to_string())
}

/// Runs a script.
pub(crate) fn run(text: &str, tolerance: f64) -> Report {
    let mut source = Memory::default();
    let mut report = Report::default();
    for command in parse(text) {
        match command {
            Command::Clear => source = Memory::default(),
            Command::Load { step_ms, series } => {
                for (labels, items) in series {
                    load(&mut source, labels, &items, step_ms);
                }
            }
            // Once with a source whose series have to be read to be counted, once with one that counts them itself.
            Command::Eval(eval) => match check(&source, &eval, tolerance)
                .and_then(|()| check(&Counting(&source), &eval, tolerance).map_err(|e| format!("counted: {e}")))
            {
                Ok(()) => report.held += 1,
                Err(reason) => report.failures.push(format!("{}: {}: {reason}", eval.line, eval.query)),
            },
        }
    }
    report
}

fn load(source: &mut Memory, labels: Labels, items: &[Item], step_ms: i64) {
    let columns = source.series.entry(labels).or_default();
    for (at, item) in items.iter().enumerate() {
        push(columns, at as i64 * step_ms, item);
    }
}

fn push(columns: &mut Columns, t: i64, item: &Item) {
    match item {
        Item::Gap => {}
        Item::Value(v) => columns.push(t, *v),
        Item::Histogram(native) => {
            columns.histograms.push(HistogramSample { t, start: 0, histogram: native.to_model() });
        }
    }
}

fn check(source: &dyn SeriesSource, eval: &Eval, tolerance: f64) -> Result<(), String> {
    let params = params(eval.start_ms, eval.end_ms, eval.step_ms);
    let fails = eval.expect.notes.iter().find(|(kind, _)| kind == "fail");
    let found = match (evaluate(source, &eval.query, &params), fails) {
        (Err(error), Some((_, text))) if error.ends_with("is not evaluated yet") => {
            return Err(format!("{error} (expected {text:?})"));
        }
        (Err(error), Some((_, text))) if text.holds(&error) => return Ok(()),
        (Err(error), _) => return Err(error),
        (Ok(_), Some(_)) => return Err("did not fail".to_owned()),
        (Ok(found), None) => found,
    };
    check_notes(eval, &found)?;
    check_value(eval, &found.value, tolerance)
}

fn check_notes(eval: &Eval, found: &Evaluation) -> Result<(), String> {
    for (kind, text) in &eval.expect.notes {
        let (notes, wanted) = match kind.as_str() {
            "warn" => (&found.warnings, true),
            "no_warn" => (&found.warnings, false),
            "info" => (&found.infos, true),
            "no_info" => (&found.infos, false),
            _ => continue,
        };
        if notes.iter().any(|note| text.holds(note)) != wanted {
            return Err(format!("expected {kind} {text:?}, got {notes:?}"));
        }
    }
    Ok(())
}

fn check_value(eval: &Eval, value: &Value, tolerance: f64) -> Result<(), String> {
    let expect = &eval.expect;
    let same = |a: f64, b: f64| nearly(a, b, tolerance);
    let mut found: Vec<(Labels, Columns)> = match value {
        Value::Scalar(sample) => {
            let expect = expect.scalar.ok_or_else(|| format!("got the number {}", sample.v))?;
            return if same(expect, sample.v) { Ok(()) } else { Err(format!("got {}", sample.v)) };
        }
        Value::String(text) => {
            return if expect.string.as_ref() == Some(&text.text) { Ok(()) } else { Err(format!("got {text:?}")) };
        }
        Value::Vector(vector) => {
            let columns = |point: &Point| match &point.v {
                Element::Float(v) => Columns::floats(vec![point.t], vec![*v]),
                Element::Histogram(histogram) => Columns {
                    histograms: vec![HistogramSample { t: point.t, start: 0, histogram: histogram.to_model() }],
                    ..Columns::default()
                },
            };
            vector.iter().map(|(labels, point)| (labels.clone(), columns(point))).collect()
        }
        Value::Matrix(matrix) => matrix.clone(),
    };
    let mut wanted: Vec<(Labels, Columns)> = Vec::new();
    if let Some(v) = expect.scalar {
        let steps = if eval.step_ms == 0 { 1 } else { (eval.end_ms - eval.start_ms) / eval.step_ms + 1 };
        wanted.push((Labels::empty(), columns(&vec![Item::Value(v); steps as usize], eval.start_ms, eval.step_ms)));
    }
    let (start, step) = expect.range.unwrap_or((eval.start_ms, eval.step_ms));
    for (labels, items) in &expect.series {
        wanted.push((labels.clone(), columns(items, start, step)));
    }
    if !expect.ordered {
        found.sort_by(|a, b| a.0.cmp(&b.0));
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
    }
    let equal = found.len() == wanted.len()
        && found
            .iter()
            .zip(&wanted)
            .all(|(f, w)| f.0 == w.0 && f.1.t == w.1.t && f.1.v.iter().zip(&w.1.v).all(|(a, b)| same(*a, *b)))
        && found.iter().zip(&wanted).all(|(f, w)| same_histograms(&f.1, &w.1, same));
    if equal { Ok(()) } else { Err(format!("got {}, expected {}", show(&found), show(&wanted))) }
}

/// Whether the histograms are the same but for empty buckets and hints.
fn same_histograms(a: &Columns, b: &Columns, same: impl Fn(f64, f64) -> bool + Copy) -> bool {
    let numbers = |sample: &HistogramSample| {
        let histogram = FloatHistogram::new(&sample.histogram);
        let buckets = histogram.buckets().filter(|bucket| bucket.count != 0.0);
        let buckets: Vec<[f64; 3]> = buckets.map(|bucket| [bucket.lower, bucket.upper, bucket.count]).collect();
        [vec![histogram.count(), histogram.sum()], buckets.concat()].concat()
    };
    let pairs = || a.histograms.iter().zip(&b.histograms);
    a.histograms.len() == b.histograms.len()
        && pairs().all(|(a, b)| {
            let (x, y) = (numbers(a), numbers(b));
            a.t == b.t && x.len() == y.len() && x.iter().zip(&y).all(|(x, y)| same(*x, *y))
        })
}

fn columns(items: &[Item], start: i64, step: i64) -> Columns {
    let mut columns = Columns::default();
    for (at, item) in items.iter().enumerate() {
        push(&mut columns, start + at as i64 * step, item);
    }
    columns
}

fn show(series: &[(Labels, Columns)]) -> String {
    let one = |(labels, columns): &(Labels, Columns)| {
        let floats = columns.t.iter().zip(&columns.v).map(|(t, v)| format!("{v}@{t}"));
        let histograms =
            columns.histograms.iter().map(|sample| format!("{}@{}", FloatHistogram::new(&sample.histogram), sample.t));
        let values: Vec<String> = floats.chain(histograms).collect();
        format!("{labels} {}", values.join(" "))
    };
    let all: Vec<String> = series.iter().map(one).collect();
    format!("[{}]", all.join("; "))
}

/// Whether two values are the same but for what rounding makes of them.
pub(crate) fn nearly(a: f64, b: f64, tolerance: f64) -> bool {
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    if a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < tolerance * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < tolerance
}
