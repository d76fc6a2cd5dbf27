//! `/api/v1/rules`: groups of rules as Prometheus lists them, by file and name, all at once or page by page.
//!
//! What is said of a group is of all its rules, whichever of them are asked for. A token for the next page is the digest of that page's first group, as in
//! Prometheus: pages stay whole while rules change around them, and a group that has gone is an error and not a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use ::rules::{Problem, Template};
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use model::{Kind, Matcher};
use ring::digest::{SHA256, digest};
use runtime::Form;
use serde_json::{Value, json};

use super::{Api, alert, failure};
use crate::text;
use crate::view::RuleView;

/// What a request asks for.
struct Filter {
    alerting: bool,
    recording: bool,
    exclude_alerts: bool,
    names: BTreeSet<String>,
    groups: BTreeSet<String>,
    files: BTreeSet<String>,
    /// Any of which has to be met by the labels of a rule; all rules where there is none.
    matcher_sets: Vec<Vec<Matcher>>,
    page: Option<Page>,
}

/// So many groups, from one on or from the first.
struct Page {
    limit: usize,
    token: Option<String>,
}

impl Filter {
    /// With the errors of Prometheus, in its order.
    fn read(form: &Form, features: &promql::Features) -> Result<Self, String> {
        let set = |name| form.all(name).map(str::to_owned).collect();
        let matcher_sets =
            form.all("match[]").map(|text| promql::parse_match(text, features)).collect::<Result<_, _>>()?;
        let (alerting, recording) = match form.get("type").to_lowercase().as_str() {
            "" => (true, true),
            "alert" => (true, false),
            "record" => (false, true),
            other => return Err(invalid("type", format_args!("not supported value {other:?}"))),
        };
        let exclude_alerts = exclude_alerts(form.get("exclude_alerts")).map_err(|e| invalid("exclude_alerts", e))?;
        let (names, groups, files) = (set("rule_name[]"), set("rule_group[]"), set("file[]"));
        let page = Page::read(form)?;
        Ok(Filter { alerting, recording, exclude_alerts, names, groups, files, matcher_sets, page })
    }

    fn takes_group(&self, file: &str, name: &str) -> bool {
        is_in(&self.files, file) && is_in(&self.groups, name)
    }

    fn takes(&self, view: &RuleView) -> bool {
        let rule = &view.rule;
        let kind = if rule.alerting().is_some() { self.alerting } else { self.recording };
        kind && is_in(&self.names, &rule.name) && self.meets(&rule.labels)
    }

    /// Labels are matched as they are written, templates too.
    fn meets(&self, labels: &[(String, Template)]) -> bool {
        let value = |name: &str| labels.iter().find(|(own, _)| own == name).map_or("", |(_, template)| template.text());
        let all = |matchers: &Vec<Matcher>| matchers.iter().all(|matcher| matcher.matches(value(&matcher.name)));
        self.matcher_sets.is_empty() || self.matcher_sets.iter().any(all)
    }
}

impl Page {
    fn read(form: &Form) -> Result<Option<Self>, String> {
        let (limit, token) = (form.get("group_limit"), form.get("group_next_token"));
        if limit.is_empty() {
            let alone = "group_limit needs to be present in order to paginate over the groups";
            return if token.is_empty() { Ok(None) } else { Err(invalid("group_next_token", alone)) };
        }
        let limit = match limit.parse::<i32>() {
            Ok(limit) => usize::try_from(limit).unwrap_or(0),
            Err(e) => {
                use std::num::IntErrorKind::{NegOverflow, PosOverflow};
                let is_far = matches!(e.kind(), NegOverflow | PosOverflow);
                let reason = if is_far { "value out of range" } else { "invalid syntax" };
                let reason =
                    format!("group_limit needs to be a valid number: strconv.ParseInt: parsing {limit:?}: {reason}");
                return Err(invalid("group_limit", reason));
            }
        };
        if limit == 0 {
            return Err(invalid("group_limit", "group_limit needs to be greater than 0"));
        }
        Ok(Some(Page { limit, token: Some(token.to_owned()).filter(|token| !token.is_empty()) }))
    }
}

fn invalid(name: &str, reason: impl std::fmt::Display) -> String {
    format!("invalid parameter {name:?}: {reason}")
}

fn exclude_alerts(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "" | "0" | "f" | "false" => Ok(false),
        "1" | "t" | "true" => Ok(true),
        other => Err(format!("error converting exclude_alerts: strconv.ParseBool: parsing {other:?}: invalid syntax")),
    }
}

fn is_in(set: &BTreeSet<String>, text: &str) -> bool {
    set.is_empty() || set.contains(text)
}

/// `GET /api/v1/rules`.
pub(super) async fn rules(State(api): State<Api>, request: Request) -> Response {
    // A request that gets something has no form in its body.
    let filter = match Form::read(request, 0)
        .await
        .map_err(|e| e.to_string())
        .and_then(|form| Filter::read(&form, &api.features))
    {
        Ok(filter) => filter,
        Err(message) => return failure(Kind::Invalid, &message),
    };
    let (views, problems) = (api.view.rules(), api.view.problems());
    let mut groups: BTreeMap<(&str, &str), Vec<&Arc<RuleView>>> = BTreeMap::new();
    for view in &views {
        groups.entry((&view.rule.file, &view.rule.group)).or_default().push(view);
    }
    let (groups, next) = match page(&groups, &problems, &filter) {
        Ok(page) => page,
        Err(message) => return failure(Kind::Invalid, &message),
    };
    let mut answer = json!({ "status": "success", "data": { "groups": groups } });
    if let Some(next) = next {
        answer["data"]["groupNextToken"] = Value::from(next);
    }
    let problems = problems.iter().map(ToString::to_string);
    let problems: Vec<String> = problems.chain(api.channels.doubled()).collect();
    if !problems.is_empty() {
        // Where Prometheus' clients show what is wrong with an answer.
        answer["warnings"] = Value::from(problems);
    }
    Json(answer).into_response()
}

/// The groups that are asked for, and the token of the one after them.
fn page(
    groups: &BTreeMap<(&str, &str), Vec<&Arc<RuleView>>>,
    problems: &[Problem],
    filter: &Filter,
) -> Result<(Vec<Value>, Option<String>), String> {
    let (limit, token) = filter.page.as_ref().map_or((usize::MAX, None), |page| (page.limit, page.token.as_deref()));
    let mut shown = Vec::new();
    let mut is_before = token.is_some();
    for ((file, name), views) in groups {
        is_before = is_before && token != Some(&token_of(file, name));
        if is_before || !filter.takes_group(file, name) {
            continue;
        }
        let taken: Vec<&RuleView> = views.iter().map(|view| &***view).filter(|view| filter.takes(view)).collect();
        if taken.is_empty() {
            continue;
        }
        if shown.len() == limit {
            return Ok((shown, Some(token_of(file, name))));
        }
        shown.push(group((file, name), views, &taken, problems, filter));
    }
    if is_before {
        let reason = format!("invalid group_next_token '{}'. were rule groups changed?", token.unwrap_or_default());
        return Err(invalid("group_next_token", reason));
    }
    Ok((shown, None))
}

fn token_of(file: &str, name: &str) -> String {
    let mut token = String::with_capacity(64);
    for byte in digest(&SHA256, format!("{file};{name}").as_bytes()).as_ref() {
        // Writing to a text cannot fail.
        let _ = write!(token, "{byte:02x}");
    }
    token
}

fn group(
    (file, name): (&str, &str),
    views: &[&Arc<RuleView>],
    taken: &[&RuleView],
    problems: &[Problem],
    filter: &Filter,
) -> Value {
    let interval_ms = views.iter().map(|v| v.interval_ms).min().unwrap_or(0);
    let last = views.iter().filter_map(|v| v.evaluated_at_ms).max();
    let took: f64 = views.iter().map(|v| v.took_seconds).sum();
    json!({
        "name": name,
        "file": file,
        "rules": taken.iter().map(|v| rule(v, problems, filter)).collect::<Vec<_>>(),
        "interval": seconds(interval_ms),
        "limit": views.first().map_or(0, |v| v.rule.limit),
        "evaluationTime": took,
        "lastEvaluation": last.map_or_else(|| text::TIME_ZERO.to_owned(), text::time),
    })
}

fn rule(view: &RuleView, problems: &[Problem], filter: &Filter) -> Value {
    let rule = &view.rule;
    let texts = |pairs: &[(String, Template)]| -> Value {
        pairs.iter().map(|(n, t)| (n.clone(), Value::from(t.text()))).collect()
    };
    let mut out = json!({
        "name": rule.name,
        "query": rule.expr.to_string(),
        "labels": texts(&rule.labels),
        "health": view.health,
        "evaluationTime": view.took_seconds,
        "lastEvaluation": view.evaluated_at_ms.map_or_else(|| text::TIME_ZERO.to_owned(), text::time),
    });
    // A rule that is as it was before its file became bad says so.
    let concerns = |p: &&Problem| p.file == rule.file && p.name.as_ref().is_none_or(|name| *name == rule.name);
    if !view.last_error.is_empty() {
        out["lastError"] = Value::from(view.last_error.as_str());
    } else if let Some(problem) = problems.iter().find(concerns) {
        out["lastError"] = Value::from(problem.to_string());
    }
    let Some(alerting) = rule.alerting() else {
        out["type"] = Value::from("recording");
        return out;
    };
    out["type"] = Value::from("alerting");
    out["state"] = Value::from(view.prometheus_state());
    out["duration"] = seconds(alerting.for_ms);
    out["keepFiringFor"] = seconds(alerting.keep_firing_for_ms);
    out["annotations"] = texts(&rule.annotations);
    out["alerts"] = match filter.exclude_alerts {
        // As Prometheus says it: they are not told, which is another thing than that there are none.
        true => Value::Null,
        false => view.alerts.iter().map(alert).collect(),
    };
    out
}

/// Whole seconds without a fraction, as Go writes them.
fn seconds(ms: i64) -> Value {
    if ms % 1000 == 0 { Value::from(ms / 1000) } else { Value::from(ms as f64 / 1e3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_digest_of_the_file_and_the_group() {
        // By `sha256sum` of `rules.yaml;b`.
        let expect = "6981382be166655ec11ac537661141286905cc4814243d2c9834c164548958ec";
        assert_eq!(token_of("rules.yaml", "b"), expect);
    }
}
