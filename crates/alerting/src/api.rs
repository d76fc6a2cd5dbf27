//! The HTTP API: rules and alerts in Prometheus' JSON, the ledger of notifications, and reload.

mod rules;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use model::Kind;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::delivery::Channels;
use crate::reload::Asked;
use crate::state::{Alert, State as AlertState};
use crate::store::Store;
use crate::text;
use crate::view::View;

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
    pub(crate) features: promql::Features,
}

/// The routes.
pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/api/v1/rules", get(rules::rules).options(runtime::options))
        .route("/api/v1/alerts", get(alerts).options(runtime::options))
        .route("/api/v1/notifications", get(notifications).options(runtime::options))
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
