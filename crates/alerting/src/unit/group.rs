//! A group of rules, evaluated one after the other as Prometheus does: what a rule writes is there for the next one.
//!
//! Alerts come from [`evaluate`](crate::evaluate) and [`state`](crate::state), as in the engine. Weir evaluates no recording rules yet and writes no series
//! of alerts, so both are done here, for tests alone.

use std::collections::HashSet;

use model::{Labels, METRIC_NAME};
use promql::Element;
use rules::{Kind, Rule};

use super::bench::{Bench, stale};
use crate::evaluate::{self, Setting};
use crate::state::{self, Alerts, State};

/// A group.
pub(super) struct Group<'a> {
    pub(super) name: &'a str,
    pub(super) rules: Vec<Entry<'a>>,
}

/// A rule with what is known of it.
pub(super) struct Entry<'a> {
    pub(super) rule: &'a Rule,
    pub(super) alerts: Alerts,
    /// Why the last evaluation failed.
    pub(super) error: Option<String>,
    /// The series that the evaluation before wrote.
    written: HashSet<Labels>,
}

type Written = Vec<(Labels, Element)>;

impl<'a> Group<'a> {
    /// The groups of rules, in the order of the files and of the groups in them, and then in the order that is asked for: a group that is not named
    /// comes with the first.
    pub(super) fn all(rules: &'a [Rule], order: &std::collections::HashMap<&str, usize>) -> Vec<Group<'a>> {
        let mut groups: Vec<Group<'a>> = Vec::new();
        let mut file = "";
        for rule in rules {
            if file != rule.file || groups.last().is_none_or(|group| group.name != rule.group) {
                groups.push(Group { name: &rule.group, rules: Vec::new() });
                file = &rule.file;
            }
            if let Some(group) = groups.last_mut() {
                let (alerts, error, written) = (Alerts::new(), None, HashSet::new());
                group.rules.push(Entry { rule, alerts, error, written });
            }
        }
        groups.sort_by_key(|group| order.get(group.name).copied().unwrap_or(0));
        groups
    }

    /// Evaluates all rules at a time.
    pub(super) fn evaluate(&mut self, at_ms: i64, bench: &mut Bench, setting: &Setting) {
        for entry in &mut self.rules {
            entry.evaluate(at_ms, bench, setting);
        }
    }
}

impl Entry<'_> {
    fn evaluate(&mut self, at_ms: i64, bench: &mut Bench, setting: &Setting) {
        let asked_ms = at_ms - self.rule.query_offset_ms;
        let found = match &self.rule.kind {
            Kind::Alerting(alerting) if alerting.paused => return,
            Kind::Alerting(_) => self.alert(at_ms, bench, setting),
            Kind::Recording => record(self.rule, asked_ms, bench, setting),
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.error = Some(error);
                return;
            }
        };
        self.error = None;
        let mut written = HashSet::with_capacity(found.len());
        for (labels, element) in found {
            match bench.append(&labels, asked_ms, element) {
                Ok(()) => drop(written.insert(labels)),
                Err(error) => self.error = Some(error),
            }
        }
        for gone in self.written.difference(&written) {
            // Another rule may write the same series.
            let _ = bench.append(gone, asked_ms, stale());
        }
        self.written = written;
    }

    /// Advances the alerts; the series that tell of them.
    fn alert(&mut self, at_ms: i64, bench: &Bench, setting: &Setting) -> Result<Written, String> {
        let rule = self.rule;
        let Some(alerting) = rule.alerting() else { return Ok(Vec::new()) };
        let found = evaluate::evaluate(rule, at_ms - rule.query_offset_ms, bench.head(), setting)?;
        let within = state::check_limit(&self.alerts, alerting, at_ms, &found.active, rule.limit);
        // As in Prometheus, where nobody is owed the end of what fires.
        within.inspect_err(|_| self.alerts.clear())?;
        state::advance(&mut self.alerts, alerting, at_ms, found.active);
        let mut series = Vec::with_capacity(2 * self.alerts.len());
        for alert in self.alerts.values() {
            // The labels of the rule as they are written, where the alert has none of that name.
            let mut labels = Labels::empty();
            for (name, template) in &rule.labels {
                labels = labels.with(name, template.text());
            }
            for (name, value) in alert.labels.iter() {
                labels = labels.with(name, value);
            }
            labels = labels.with(METRIC_NAME, "ALERTS_FOR_STATE").with("alertname", &rule.name);
            let state = if alert.state == State::Pending { "pending" } else { "firing" };
            let now = labels.with(METRIC_NAME, "ALERTS").with("alertstate", state);
            series.push((now, Element::Float(1.0)));
            series.push((labels, Element::Float(alert.active_at_ms.div_euclid(1000) as f64)));
        }
        // A map has no order, and what is told of a test must have one.
        series.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(series)
    }
}

/// What a recording rule writes.
fn record(rule: &Rule, asked_ms: i64, bench: &Bench, setting: &Setting) -> Result<Written, String> {
    let (elements, _) = evaluate::elements(&rule.expr, &rule.query, asked_ms, bench.head(), setting)?;
    let mut written = Vec::with_capacity(elements.len());
    let mut seen = HashSet::with_capacity(elements.len());
    for (labels, element) in elements {
        let mut labels = labels.with(METRIC_NAME, &rule.name);
        for (name, value) in &rule.labels {
            labels = labels.with(name, value.text());
        }
        if !seen.insert(labels.clone()) {
            return Err("vector contains metrics with the same labelset after applying rule labels".to_owned());
        }
        written.push((labels, element));
    }
    if rule.limit > 0 && written.len() > rule.limit {
        return Err(format!("exceeded limit of {} with {} series", rule.limit, written.len()));
    }
    Ok(written)
}
