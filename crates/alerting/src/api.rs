//! The HTTP API: rules and alerts in Prometheus' JSON, the ledger of notifications, and reload.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use model::Kind;
use rules::Problem;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::delivery::Channels;
use crate::reload::Asked;
use crate::state::{Alert, State as AlertState};
use crate::store::Store;
use crate::text;
use crate::view::{RuleView, View};

/// Rows of the ledger in one answer, unless the request asks for another number.
const LEDGER_DEFAULT: usize = 100;
/// Rows of the ledger in one answer at most.
const LEDGER_MAX: usize = 10_000;

/// What the handlers need.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) view: View,
    pub(crate) channels: Channels,
    pub(crate) store: Store,
    pub(crate) reload: mpsc::Sender<Asked>,
}

/// The routes.
pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/api/v1/rules", get(rules))
        .route("/api/v1/alerts", get(alerts))
        .route("/api/v1/notifications", get(notifications))
        .route("/-/reload", post(reload).put(reload))
        .with_state(api)
}

type Pairs = Query<Vec<(String, String)>>;

fn success(data: Value) -> Response {
    Json(json!({ "status": "success", "data": data })).into_response()
}

fn failure(kind: Kind, message: &str) -> Response {
    let kind_name = if kind == Kind::Invalid { "bad_data" } else { "internal" };
    let status = StatusCode::from_u16(kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(json!({ "status": "error", "errorType": kind_name, "error": message }))).into_response()
}

/// What a request for rules asks for.
#[derive(Default)]
struct Filter {
    alerting: bool,
    recording: bool,
    exclude_alerts: bool,
    names: BTreeSet<String>,
    groups: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Filter {
    fn read(pairs: Vec<(String, String)>) -> Result<Self, String> {
        let mut filter = Filter { alerting: true, recording: true, ..Filter::default() };
        for (name, value) in pairs {
            match (name.as_str(), value.as_str()) {
                ("type", "") => {}
                ("type", "alert") => filter.recording = false,
                ("type", "record") => filter.alerting = false,
                ("type", other) => return Err(format!("not supported value {other:?}")),
                ("exclude_alerts", text) => {
                    filter.exclude_alerts = match text {
                        "" | "0" | "f" | "F" | "false" | "False" | "FALSE" => false,
                        "1" | "t" | "T" | "true" | "True" | "TRUE" => true,
                        other => return Err(format!("error converting exclude_alerts: invalid syntax {other:?}")),
                    }
                }
                ("rule_name[]", _) => drop(filter.names.insert(value)),
                ("rule_group[]", _) => drop(filter.groups.insert(value)),
                ("file[]", _) => drop(filter.files.insert(value)),
                ("match[]" | "group_limit" | "group_next_token", _) => {
                    return Err(format!("the parameter {name:?} is not supported yet"));
                }
                _ => {}
            }
        }
        Ok(filter)
    }

    fn takes(&self, view: &RuleView) -> bool {
        let any = |set: &BTreeSet<String>, text: &str| set.is_empty() || set.contains(text);
        let rule = &view.rule;
        let kind = if rule.alerting().is_some() { self.alerting } else { self.recording };
        kind && any(&self.names, &rule.name) && any(&self.groups, &rule.group) && any(&self.files, &rule.file)
    }
}

async fn rules(State(api): State<Api>, Query(pairs): Pairs) -> Response {
    let filter = match Filter::read(pairs) {
        Ok(filter) => filter,
        Err(message) => return failure(Kind::Invalid, &message),
    };
    let (views, problems) = (api.view.rules(), api.view.problems());
    let mut groups: Vec<(&str, &str, Vec<&Arc<RuleView>>)> = Vec::new();
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    for view in views.iter().filter(|v| filter.takes(v)) {
        let (file, name) = (view.rule.file.as_str(), view.rule.group.as_str());
        let place = *places.entry((file, name)).or_insert_with(|| {
            groups.push((file, name, Vec::new()));
            groups.len() - 1
        });
        groups[place].2.push(view);
    }
    let groups: Vec<Value> =
        groups.into_iter().map(|(file, name, rules)| group(file, name, &rules, &problems, &filter)).collect();
    let problems = problems.iter().map(ToString::to_string);
    let problems: Vec<String> = problems.chain(api.channels.doubled()).collect();
    let mut answer = json!({ "status": "success", "data": { "groups": groups } });
    if !problems.is_empty() {
        // Where Prometheus' clients show what is wrong with an answer.
        answer["warnings"] = Value::from(problems);
    }
    Json(answer).into_response()
}

fn group(file: &str, name: &str, views: &[&Arc<RuleView>], problems: &[Problem], filter: &Filter) -> Value {
    let interval_ms = views.iter().map(|v| v.interval_ms).min().unwrap_or(0);
    let last = views.iter().filter_map(|v| v.evaluated_at_ms).max();
    let took: f64 = views.iter().map(|v| v.took_seconds).sum();
    json!({
        "name": name,
        "file": file,
        "rules": views.iter().map(|v| rule(v, problems, filter)).collect::<Vec<_>>(),
        "interval": seconds(interval_ms),
        "limit": views.first().map_or(0, |v| v.rule.limit),
        "evaluationTime": took,
        "lastEvaluation": last.map_or_else(|| text::TIME_ZERO.to_owned(), text::time),
    })
}

fn rule(view: &RuleView, problems: &[Problem], filter: &Filter) -> Value {
    let rule = &view.rule;
    let texts = |pairs: &[(String, rules::Template)]| -> Value {
        pairs.iter().map(|(n, t)| (n.clone(), Value::from(t.text()))).collect()
    };
    let mut out = json!({
        "name": rule.name,
        "query": rule.query,
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
    let shown = if filter.exclude_alerts { Vec::new() } else { view.alerts.iter().map(alert).collect() };
    out["alerts"] = Value::from(shown);
    out
}

fn alert(alert: &Alert) -> Value {
    let mut out = json!({
        "labels": text::labels(&alert.labels),
        "annotations": text::labels(&alert.annotations),
        "state": if alert.state.is_announced() { "firing" } else { "pending" },
        "activeAt": text::time(alert.active_at_ms),
        "value": text::value(alert.value),
    });
    if alert.state == AlertState::Recovering {
        out["keepFiringSince"] = Value::from(text::time(alert.recovering_since_ms));
    }
    out
}

/// Whole seconds without a fraction, as Go writes them.
fn seconds(ms: i64) -> Value {
    if ms % 1000 == 0 { Value::from(ms / 1000) } else { Value::from(ms as f64 / 1e3) }
}

async fn alerts(State(api): State<Api>) -> Response {
    let alerts: Vec<Value> = api.view.rules().iter().flat_map(|r| &r.alerts).map(alert).collect();
    success(json!({ "alerts": alerts }))
}

async fn notifications(State(api): State<Api>, Query(pairs): Pairs) -> Response {
    let limit = pairs.iter().find(|(name, _)| name == "limit").map(|(_, value)| value.parse::<usize>());
    let limit = match limit {
        None => LEDGER_DEFAULT,
        Some(Ok(n)) if (1..=LEDGER_MAX).contains(&n) => n,
        Some(_) => return failure(Kind::Invalid, &format!("limit must be from 1 to {LEDGER_MAX}")),
    };
    match ledger(&api.store, limit).await {
        Ok(data) => success(data),
        Err(e) => failure(e.kind(), &e.to_string()),
    }
}

async fn ledger(store: &Store, limit: usize) -> Result<Value, Error> {
    let (attempts, summary) = (store.ledger(limit).await?, store.summary().await?);
    let oldest = summary.oldest_ms.map(text::time);
    Ok(json!({
        "attempts": attempts,
        "outbox": { "size": summary.outbox, "oldest": oldest },
        "deadLetters": summary.dead,
    }))
}

async fn reload(State(api): State<Api>) -> Response {
    let (wants, told) = oneshot::channel();
    if api.reload.send(wants).await.is_err() {
        return failure(Kind::Unavailable, "alerting is stopping");
    }
    match told.await {
        Ok(problems) if problems.is_empty() => success(json!({ "problems": [] })),
        Ok(problems) => failure(Kind::Internal, &format!("failed to reload config: {}", problems.join("\n"))),
        Err(_) => failure(Kind::Unavailable, "alerting is stopping"),
    }
}
