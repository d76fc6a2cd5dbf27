//! One test: time goes from interval to interval, and what is expected is compared on the way.

use std::collections::{BTreeMap, HashMap};

use model::Labels;
use rules::Rule;

use super::Options;
use super::bench::Bench;
use super::check::{self, Alert, Pairs, Sample};
use super::dump::dump;
use super::file::{AlertTest, ExprTest, Test, TestFile};
use super::group::Group;
use crate::evaluate::{self, Setting};

/// What the tests of a file have in common.
pub(super) struct Suite<'a> {
    pub(super) file: &'a TestFile,
    pub(super) rules: &'a [Rule],
    /// What is wrong with the files of rules.
    pub(super) problems: &'a [String],
    pub(super) order: &'a HashMap<&'a str, usize>,
    pub(super) options: &'a Options,
}

impl Suite<'_> {
    /// What is not as it should be; and where that is asked for, a dump of all that there is in the end.
    pub(super) fn test(&self, test: &Test, dumped: &mut Option<String>) -> Vec<String> {
        let mut bench = match Bench::new(test, self.file) {
            Ok(bench) => bench,
            Err(error) => return vec![error],
        };
        if !self.problems.is_empty() {
            return self.problems.to_vec();
        }
        let setting = match self.setting(test) {
            Ok(setting) => setting,
            Err(error) => return vec![error],
        };
        if let Some(unnamed) = test.alert_rule_test.iter().find(|t| t.alertname.is_empty()) {
            let at = unnamed.eval_time;
            let group = if test.name.is_empty() { String::new() } else { format!(" (in TestGroup {})", test.name) };
            let text = "an item under alert_rule_test misses required attribute alertname at eval_time";
            return vec![format!("{text} {at}{group}")];
        }
        let mut groups = Group::all(self.rules, self.order);
        let mut failures = Vec::new();
        let (interval_ms, start_ms) = (self.file.interval_ms(), test.start_timestamp.0);
        // By the evaluation after which they are compared.
        let mut due: BTreeMap<i64, Vec<&AlertTest>> = BTreeMap::new();
        for one in &test.alert_rule_test {
            due.entry(one.eval_time.0.div_euclid(interval_ms)).or_default().push(one);
        }
        due.values_mut().for_each(|tests| tests.sort_by_key(|one| one.eval_time));
        for turn in 0..=test.length_ms().div_euclid(interval_ms) {
            let at_ms = start_ms + turn * interval_ms;
            if let Err(error) = bench.advance(at_ms) {
                failures.push(error);
                return failures;
            }
            let errors = evaluate_all(&mut groups, at_ms, &mut bench, &setting);
            if !errors.is_empty() {
                failures.extend(errors);
                return failures;
            }
            for one in due.remove(&turn).unwrap_or_default() {
                failures.extend(self.alerts(test, one, &groups));
            }
        }
        for one in &test.promql_expr_test {
            failures.extend(self.expression(one, start_ms, &bench, &setting));
        }
        if self.options.debug.is_some() {
            *dumped = Some(dump(test, start_ms, &bench, &setting));
        }
        failures
    }

    fn setting(&self, test: &Test) -> Result<Setting, String> {
        let labels: Vec<(&String, &String)> = test.external_labels.iter().filter(|(_, v)| !v.is_empty()).collect();
        let external_labels = if labels.is_empty() { Ok(Labels::empty()) } else { Labels::new(&labels) };
        Ok(Setting {
            features: self.options.features,
            external_labels: external_labels.map_err(|e| format!("external_labels: {e}"))?,
            external_url: test.external_url.clone(),
            memory: model::Budget::default(),
            subquery_step_ms: self.file.interval_ms(),
        })
    }

    /// Compares the alerts that fire with those that should.
    fn alerts(&self, test: &Test, one: &AlertTest, groups: &[Group<'_>]) -> Option<String> {
        let entries = groups.iter().flat_map(|group| &group.rules);
        let named = entries.filter(|entry| entry.rule.alerting().is_some() && entry.rule.name == one.alertname);
        let mut got = Vec::new();
        for entry in named {
            for alert in entry.alerts.values().filter(|alert| alert.state.is_announced()) {
                // An annotation that is empty is there.
                let annotation = |(name, _): &(String, rules::Template)| {
                    (name.clone(), alert.annotations.get(name).unwrap_or("").to_owned())
                };
                let labels = alert.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                got.push(Alert { labels, annotations: entry.rule.annotations.iter().map(annotation).collect() });
            }
        }
        let expected = one.exp_alerts.iter().map(|alert| {
            let mut labels = alert.exp_labels.clone();
            labels.insert("alertname".to_owned(), one.alertname.clone());
            let annotations = alert.exp_annotations.clone();
            Alert { labels: labels.into_iter().collect(), annotations: annotations.into_iter().collect() }
        });
        let mut expected: Vec<Alert> = expected.collect();
        got.sort_unstable();
        expected.sort_unstable();
        let told = check::alerts(&expected, &got, self.options.diff)?;
        let name = if test.name.is_empty() { String::new() } else { format!("    name: {},\n", test.name) };
        Some(format!("{name}    alertname: {}, time: {}, \n        {told}", one.alertname, one.eval_time))
    }

    /// Compares what an expression is worth with what it should be.
    fn expression(&self, one: &ExprTest, start_ms: i64, bench: &Bench, setting: &Setting) -> Option<String> {
        let (expr, time) = (promql::quote(&one.expr), one.eval_time);
        let failed = |error: &dyn std::fmt::Display| Some(format!("    expr: {expr}, time: {time}, err: {error}"));
        let parsed = match promql::parse(&one.expr, &setting.features) {
            Ok(parsed) => parsed,
            Err(error) => return failed(&error),
        };
        let at_ms = start_ms + one.eval_time.0;
        let elements = match evaluate::elements(&parsed, &one.expr, at_ms, bench.head(), setting) {
            Ok((elements, _)) => elements,
            Err(error) => return failed(&error),
        };
        let mut got: Vec<Sample> = elements.iter().map(|(labels, element)| Sample::new(labels, element)).collect();
        let mut expected = Vec::with_capacity(one.exp_samples.len());
        for sample in &one.exp_samples {
            let histogram = match sample.histogram.as_str() {
                "" => Ok(String::new()),
                text => promql::notation::parse_histogram(text).map(|histogram| histogram.notation()),
            };
            let labels = promql::notation::parse_metric(&sample.labels).map_err(|e| e.to_string());
            match labels.and_then(|labels| Ok((labels, histogram?))) {
                Ok((mut labels, histogram)) => {
                    labels.sort_unstable();
                    expected.push(Sample { labels: Pairs(labels), value: sample.value.unwrap_or(0.0), histogram });
                }
                Err(error) => return failed(&format!("labels {}: {error}", promql::quote(&sample.labels))),
            }
        }
        got.sort_by(|a, b| a.labels.cmp(&b.labels));
        expected.sort_by(|a, b| a.labels.cmp(&b.labels));
        if check::samples(&expected, &got, self.file.fuzzy_compare) {
            return None;
        }
        let (expected, got) = (check::show(&expected), check::show(&got));
        Some(format!("    expr: {expr}, time: {time},\n        exp: {expected}\n        got: {got}"))
    }
}

/// Evaluates all groups at a time; what went wrong.
fn evaluate_all(groups: &mut [Group<'_>], at_ms: i64, bench: &mut Bench, setting: &Setting) -> Vec<String> {
    let mut errors = Vec::new();
    for group in groups {
        group.evaluate(at_ms, bench, setting);
        for entry in &group.rules {
            if let Some(error) = &entry.error {
                let (name, time) = (&entry.rule.name, check::go_duration(at_ms));
                errors.push(format!("    rule: {name}, time: {time}, err: {error}"));
            }
        }
    }
    errors
}
