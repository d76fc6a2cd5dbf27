//! One evaluation of one rule: the expression over its source, and the labels and texts of the alerts that come out.

use std::collections::HashSet;

use model::{
    Budget, Cancel, Columns, Labels, METRIC_NAME, MatchOp, Matcher, SelectRequest, SeriesSource, TimeRange, Want,
    is_stale,
};
use promql::ast::Expr;
use promql::{Element, Params, Value};
use rules::{Data, Rule, Template};

use crate::state::Active;

/// For how long a sample counts as the current value; Prometheus' default.
pub(crate) const LOOKBACK_MS: i64 = 300_000;
/// Alerts of one rule. Beyond it the rule is wrong: nobody reads ten thousand notifications.
const ALERTS_MAX: usize = 10_000;
/// Samples that one evaluation may hold: 160 MB.
const SAMPLES_MAX: usize = 10_000_000;
/// Series of one selector of a rule.
const SERIES_MAX: usize = 1_000_000;
/// Step of a subquery that names none; Prometheus' default for its evaluation interval.
pub(crate) const SUBQUERY_STEP_MS: i64 = 60_000;

/// What every evaluation needs beside the rule.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) features: promql::Features,
    pub(crate) external_labels: Labels,
    pub(crate) external_url: String,
    /// Of evaluations, beside the windows.
    pub(crate) memory: Budget,
    /// Step of a subquery that names none.
    pub(crate) subquery_step_ms: i64,
}

/// What an evaluation found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) active: Vec<Active>,
    /// Whether the selectors found no series at all.
    pub(crate) no_data: bool,
}

/// Evaluates an expression at a time: the elements of its value, and whether the selectors found no series at all. `text` is what it was parsed from.
pub(crate) fn elements(
    expr: &Expr,
    text: &str,
    at_ms: i64,
    source: &dyn SeriesSource,
    setting: &Setting,
) -> Result<(Vec<(Labels, Element)>, bool), String> {
    let params = Params {
        start_ms: at_ms,
        end_ms: at_ms,
        step_ms: 0,
        lookback_ms: LOOKBACK_MS,
        samples_max: SAMPLES_MAX,
        series_max: SERIES_MAX,
        cancel: Cancel::with(setting.memory.claim()),
        features: setting.features,
        default_subquery_step_ms: setting.subquery_step_ms,
        reads_all_samples: false,
    };
    let evaluation = promql::evaluate_text(text, expr, &params, source).map_err(|e| e.to_string())?;
    let no_data = evaluation.stats.series == 0;
    let elements = match evaluation.value {
        Value::Vector(elements) => elements.into_iter().map(|(labels, point)| (labels, point.v)).collect(),
        Value::Scalar(sample) => vec![(Labels::empty(), Element::Float(sample.v))],
        Value::String(_) | Value::Matrix(_) => return Err("rule result is not a vector or scalar".to_owned()),
    };
    Ok((elements, no_data))
}

/// All samples of all series in a range.
pub(crate) fn samples(
    range: TimeRange,
    source: &dyn SeriesSource,
    setting: &Setting,
) -> Result<Vec<(Labels, Columns)>, String> {
    let any = Matcher::new(MatchOp::Regex, METRIC_NAME, ".+").map_err(|e| e.to_string())?;
    let cancel = Cancel::with(setting.memory.claim());
    let request = SelectRequest { matchers: vec![any], range, want: Want::Samples, series_max: SERIES_MAX, cancel };
    let set = source.select(&request).map_err(|e| e.to_string())?;
    let mut all = Vec::with_capacity(set.series.len());
    for series in set.series {
        let mut columns = Columns::default();
        series.data.read(range, &mut columns).map_err(|e| e.to_string())?;
        // A range has no stale markers.
        let floats = columns.t.iter().zip(&columns.v).filter(|(_, v)| !is_stale(**v));
        let (t, v): (Vec<i64>, Vec<f64>) = floats.map(|(t, v)| (*t, *v)).unzip();
        let mut histograms = columns.histograms;
        histograms.retain(|one| !one.histogram.is_stale());
        if !t.is_empty() || !histograms.is_empty() {
            all.push((series.labels, Columns { histograms, ..Columns::floats(t, v) }));
        }
    }
    Ok(all)
}

/// Evaluates a rule at a time. Its own limit is of the alerts that come of it ([`crate::state::check_limit`]).
pub(crate) fn evaluate(rule: &Rule, at_ms: i64, source: &dyn SeriesSource, setting: &Setting) -> Result<Found, String> {
    let (elements, no_data) = elements(&rule.expr, &rule.query, at_ms, source, setting)?;
    if elements.len() > ALERTS_MAX {
        return Err(format!("exceeded limit of {ALERTS_MAX} with {} alerts", elements.len()));
    }
    let active: Vec<Active> =
        elements.into_iter().map(|(labels, value)| alert(rule, &labels, number(&value), setting)).collect();
    let mut labels = HashSet::with_capacity(active.len());
    if !active.iter().all(|a| labels.insert(&a.labels)) {
        return Err("vector contains metrics with the same labelset after applying alert labels".to_owned());
    }
    Ok(Found { active, no_data })
}

/// The value of an alert, which is a number: of a histogram zero, as in Prometheus.
fn number(element: &Element) -> f64 {
    match element {
        Element::Float(v) => *v,
        Element::Histogram(_) => 0.0,
    }
}

fn alert(rule: &Rule, found: &Labels, value: f64, setting: &Setting) -> Active {
    let series = found.without_metric_name();
    let constant = rule.labels.iter().chain(&rule.annotations).all(|(_, t)| t.is_constant());
    let data = (!constant).then(|| Data::new(found, value, &setting.external_labels, &setting.external_url));
    // Prometheus shows the fault in the place of the text, so that an alert is told even with a bad text.
    let expand = |template: &Template| match &data {
        Some(data) => template.expand(data).unwrap_or_else(|e| format!("<error expanding template: {e}>")),
        None => template.text().to_owned(),
    };
    let mut labels = series.clone();
    for (name, template) in rule.labels.iter().filter(|(name, _)| name != METRIC_NAME) {
        labels = labels.with(name, &expand(template));
    }
    labels = labels.with("alertname", &rule.name);
    let texts: Vec<(&str, String)> = rule.annotations.iter().map(|(n, t)| (n.as_str(), expand(t))).collect();
    let annotations = Labels::new(&texts).unwrap_or_else(|_| Labels::empty());
    Active { series, labels, annotations, value }
}
