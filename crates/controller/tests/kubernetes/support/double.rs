//! An alerting that speaks the protocol of the hand-over and says of rules what the test tells it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use rules::handover::{Accepted, HandedChannel, HandedRule, Held, RuleSet, RuleSetChange, RuleState, States};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::TOKEN;

/// What alerting has, and what it says.
#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) epoch: String,
    pub(crate) generation: i64,
    pub(crate) has_secrets: bool,
    pub(crate) rules: BTreeMap<String, HandedRule>,
    pub(crate) channels: BTreeMap<String, HandedChannel>,
    pub(crate) states: BTreeMap<String, (u64, RuleState)>,
    pub(crate) puts: usize,
    pub(crate) patches: usize,
    /// The epochs that sets came with.
    pub(crate) epochs: Vec<String>,
    run: u64,
    change: u64,
}

/// An alerting that implements the protocol and evaluates nothing: every rule is inactive at once, until the test says otherwise.
#[derive(Clone)]
pub(crate) struct Alerting {
    pub(crate) url: String,
    pub(crate) inner: Arc<Mutex<Inner>>,
    bell: watch::Sender<u64>,
}

fn state(rule: &HandedRule, state: &str, firing: u64, value: Option<&str>) -> RuleState {
    RuleState {
        uid: rule.document.metadata.uid.clone().expect("a uid"),
        generation: rule.generation,
        evaluated: true,
        state: state.to_owned(),
        firing,
        pending: 0,
        since_ms: Some(1_700_000_000_000),
        value: value.map(str::to_owned),
        last_notification_ms: None,
        mode: "Streaming".to_owned(),
        cost_us: 312,
        last_error: String::new(),
    }
}

impl Inner {
    fn held(&self) -> Held {
        Held { epoch: self.epoch.clone(), generation: self.generation, has_secrets: self.has_secrets }
    }

    fn take(&mut self, rules: Vec<HandedRule>, channels: Vec<HandedChannel>) {
        for rule in rules {
            self.change += 1;
            let new = state(&rule, "Inactive", 0, None);
            // As alerting does it: a rule that is the same stays as it is.
            let same = self.states.get(&new.uid).map(|(_, known)| known).filter(|k| k.generation == new.generation);
            let new = same.cloned().unwrap_or(new);
            self.states.insert(new.uid.clone(), (self.change, new.clone()));
            self.rules.insert(new.uid, rule);
        }
        for channel in channels {
            let metadata = &channel.document.metadata;
            let id = format!("{}/{}", metadata.namespace.as_deref().unwrap_or_default(), metadata.name);
            self.channels.insert(id, channel);
        }
    }
}

type Shared = State<Alerting>;

async fn put_set(
    State(alerting): Shared,
    Json(set): Json<RuleSet>,
) -> Result<Json<Accepted>, (StatusCode, Json<Held>)> {
    let mut inner = alerting.inner.lock().expect("unpoisoned");
    if inner.epoch == set.epoch && inner.generation >= set.generation {
        return Err((StatusCode::CONFLICT, Json(inner.held())));
    }
    let is_left = |uid: &String| set.rules.iter().any(|rule| rule.document.metadata.uid.as_ref() == Some(uid));
    inner.states.retain(|uid, _| is_left(uid));
    (inner.rules, inner.channels) = Default::default();
    inner.take(set.rules, set.channels);
    inner.puts += 1;
    inner.epochs.push(set.epoch.clone());
    (inner.epoch, inner.generation, inner.has_secrets) = (set.epoch, set.generation, true);
    let accepted = Accepted { held: inner.held(), refused: BTreeMap::new() };
    drop(inner);
    alerting.ring();
    Ok(Json(accepted))
}

async fn patch_set(
    State(alerting): Shared,
    Json(change): Json<RuleSetChange>,
) -> Result<Json<Accepted>, (StatusCode, Json<Held>)> {
    let mut inner = alerting.inner.lock().expect("unpoisoned");
    if inner.epoch != change.epoch || inner.generation != change.base {
        return Err((StatusCode::CONFLICT, Json(inner.held())));
    }
    for uid in &change.removed_rules {
        inner.rules.remove(uid);
        inner.states.remove(uid);
    }
    for id in &change.removed_channels {
        inner.channels.remove(id);
    }
    inner.take(change.rules, change.channels);
    inner.patches += 1;
    inner.epochs.push(change.epoch);
    inner.generation = change.generation;
    let accepted = Accepted { held: inner.held(), refused: BTreeMap::new() };
    drop(inner);
    alerting.ring();
    Ok(Json(accepted))
}

#[derive(Deserialize)]
struct Asked {
    epoch: String,
    after: u64,
    wait_ms: u64,
}

async fn get_states(State(alerting): Shared, Query(asked): Query<Asked>) -> Json<States> {
    let mut bell = alerting.bell.subscribe();
    let changed = async {
        loop {
            bell.borrow_and_update();
            {
                let inner = alerting.inner.lock().expect("unpoisoned");
                if inner.run.to_string() != asked.epoch || inner.change > asked.after {
                    return;
                }
            }
            bell.changed().await.expect("rings");
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(asked.wait_ms), changed).await;
    let inner = alerting.inner.lock().expect("unpoisoned");
    let all = inner.run.to_string() != asked.epoch;
    let states = inner.states.values().filter(|(change, _)| all || *change > asked.after).map(|(_, s)| s.clone());
    Json(States { epoch: inner.run.to_string(), after: inner.change, held: inner.held(), states: states.collect() })
}

/// Query's answer: nothing matches what is called absent.
async fn series(Query(asked): Query<BTreeMap<String, String>>) -> Json<Value> {
    let absent = asked["match[]"].contains("absent");
    Json(json!({"status": "success", "data": if absent { json!([]) } else { json!([{"__name__": "x"}]) }}))
}

impl Alerting {
    pub(crate) async fn start() -> Alerting {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let alerting = Alerting { url, inner: Arc::default(), bell: watch::Sender::new(0) };
        let inner = Router::new()
            .route("/api/v1/rulesets/kubernetes", put(put_set).patch(patch_set))
            .route("/api/v1/rulesets/kubernetes/states", get(get_states))
            .layer(axum::extract::DefaultBodyLimit::max(64 << 20))
            .with_state(alerting.clone());
        let guarded = runtime::token::require(Some(runtime::Token::fixed(TOKEN).expect("a token")), inner);
        let router = guarded.route("/api/v1/series", get(series));
        // Ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, router).await });
        alerting
    }

    fn ring(&self) {
        self.bell.send_modify(|n| *n += 1);
    }

    pub(crate) fn uid(&self, name: &str) -> Option<String> {
        let inner = self.inner.lock().expect("unpoisoned");
        inner.rules.iter().find(|(_, r)| r.document.metadata.name == name).map(|(uid, _)| uid.clone())
    }

    /// A rule is in another state now.
    pub(crate) fn say(&self, name: &str, is: &str, firing: u64, value: Option<&str>) {
        let uid = self.uid(name).expect("handed over");
        let mut inner = self.inner.lock().expect("unpoisoned");
        inner.change += 1;
        let (change, new) = (inner.change, state(&inner.rules[&uid], is, firing, value));
        inner.states.insert(uid, (change, new));
        drop(inner);
        self.ring();
    }

    /// As after a start: another run, without the secrets, which are in memory only.
    pub(crate) fn restart(&self) {
        let mut inner = self.inner.lock().expect("unpoisoned");
        inner.run += 1;
        inner.has_secrets = false;
        inner.channels.values_mut().for_each(|c| c.secrets.clear());
        drop(inner);
        self.ring();
    }
}
