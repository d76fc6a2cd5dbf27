//! Hands the rules and channels over to alerting: the whole set first, and what changed after that.
//!
//! What was sent is known by the stamps of the entries. Whenever alerting has something else than what was sent (it says 409, it was started
//! anew, or it lacks the secret values), the whole set is sent under a new generation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use rules::handover::{Accepted, HandedChannel, HandedRule, Held, RuleSet, RuleSetChange};
use runtime::{Backoff, Token};
use serde::Serialize;
use tokio::sync::Notify;

use crate::error::Error;
use crate::metrics::Metrics;
use crate::world::{Key, World};

/// Changes within this time are one call: `kubectl apply -f` of a folder is some calls and not hundreds.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// How long alerting may take over a set: ten thousand rules are some seconds of parsing.
const CALL: Duration = Duration::from_secs(60);

/// Alerting's API for rule sets.
pub(crate) struct Alerting {
    pub(crate) http: reqwest::Client,
    /// `http://alerting:9360/api/v1/rulesets/kubernetes`
    pub(crate) url: String,
    pub(crate) token: Option<Token>,
}

impl Alerting {
    pub(crate) fn new(http: reqwest::Client, url: &str, token: Option<Token>) -> Self {
        Alerting { http, url: format!("{}/api/v1/rulesets/kubernetes", url.trim_end_matches('/')), token }
    }

    pub(crate) fn request(&self, method: Method, url: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.header(reqwest::header::AUTHORIZATION, token.header()),
            None => request,
        }
    }

    /// `Ok(Err(…))` where alerting has another set than the call is for.
    async fn send<T: Serialize>(&self, method: Method, body: &T) -> Result<Result<Accepted, Held>, Error> {
        let failed = |e: reqwest::Error| Error::Alerting(runtime::error::chain(&e));
        let answer = self.request(method, &self.url).timeout(CALL).json(body).send().await.map_err(failed)?;
        match answer.status() {
            StatusCode::OK => Ok(Ok(answer.json().await.map_err(failed)?)),
            StatusCode::CONFLICT => Ok(Err(answer.json().await.map_err(failed)?)),
            status => {
                let text: String = answer.text().await.unwrap_or_default().chars().take(200).collect();
                Err(Error::Alerting(format!("{status}: {}", text.trim())))
            }
        }
    }
}

/// What this leader handed over, for those who compare it with what alerting has.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// The generation that alerting accepted under the epoch of this leader.
    pub(crate) accepted: std::sync::Mutex<Option<(String, i64)>>,
    /// Ring it to have everything sent again.
    pub(crate) again: Notify,
    pub(crate) all: AtomicBool,
}

/// Hands over for as long as it is polled, which is for as long as this replica leads. `epoch` is another for each term.
pub(crate) async fn run(alerting: &Alerting, world: &World, sent: &Sent, epoch: &str, metrics: &Metrics) {
    let mut bell = world.listen();
    let mut backoff =
        Backoff::new(Duration::from_millis(250), Duration::from_secs(15), runtime::clock::now_ms().unsigned_abs());
    let mut known = Known::default();
    let mut whole = true;
    let mut generation = 0;
    loop {
        bell.borrow_and_update();
        whole |= sent.all.swap(false, Ordering::Relaxed);
        if let Some(step) = known.compare(world, whole) {
            generation += 1;
            let (method, outcome) = if whole {
                (Method::PUT, alerting.send(Method::PUT, &step.set(epoch, generation)).await)
            } else {
                (Method::PATCH, alerting.send(Method::PATCH, &step.change(epoch, known.generation, generation)).await)
            };
            let said = match &outcome {
                Ok(Ok(_)) => "accepted",
                Ok(Err(_)) => "conflict",
                Err(_) => "failed",
            };
            metrics.handovers.with_label_values(&[method.as_str(), said]).inc();
            match outcome {
                Ok(Ok(accepted)) => {
                    backoff.reset();
                    whole = false;
                    *sent.accepted.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                        Some((epoch.to_owned(), generation));
                    known.took(world, step, generation, &accepted);
                    world.ring();
                }
                Ok(Err(held)) => {
                    tracing::info!(?held, "alerting has another rule set; sending all of it");
                    // A generation above the one that it has, should it be of this epoch.
                    generation = generation.max(held.generation);
                    whole = true;
                    tokio::time::sleep(backoff.pause()).await;
                    continue;
                }
                Err(error) => {
                    let attempts = backoff.attempts();
                    if attempts == 0 {
                        tracing::warn!(%error, "rules cannot be handed over; trying again");
                    }
                    // What arrived is not known.
                    whole = true;
                    tokio::time::sleep(backoff.pause()).await;
                    continue;
                }
            }
        }
        tokio::select! {
            _ = bell.changed() => {}
            () = sent.again.notified() => {}
        }
        tokio::time::sleep(DEBOUNCE).await;
    }
}

/// The stamps of what alerting has.
#[derive(Default)]
struct Known {
    generation: i64,
    rules: BTreeMap<String, u64>,
    channels: BTreeMap<String, u64>,
}

/// What is to be sent.
#[derive(Default)]
struct Step {
    rules: Vec<(u64, HandedRule)>,
    channels: Vec<(String, u64, HandedChannel)>,
    removed_rules: BTreeSet<String>,
    removed_channels: BTreeSet<String>,
}

impl Known {
    /// What differs from what alerting has, or everything. `None` where nothing is to be sent.
    fn compare(&self, world: &World, whole: bool) -> Option<Step> {
        let inner = world.lock();
        if !inner.is_complete() {
            return None;
        }
        let mut step = Step::default();
        let mut usable: BTreeMap<&str, u64> = BTreeMap::new();
        for (uid, rule) in &inner.rules {
            let Ok(handed) = &rule.verdict else { continue };
            if inner.left_to(rule).is_some() {
                continue;
            }
            usable.insert(uid, rule.stamp);
            if whole || self.rules.get(uid) != Some(&rule.stamp) {
                step.rules.push((rule.stamp, handed.clone()));
            }
        }
        step.removed_rules = self.rules.keys().filter(|uid| !usable.contains_key(uid.as_str())).cloned().collect();
        usable.clear();
        for (id, channel) in &inner.channels {
            if inner.left_to(channel).is_some() {
                continue;
            }
            if !whole && self.channels.get(id) == Some(&channel.stamp) {
                usable.insert(id, channel.stamp);
                continue;
            }
            let Ok(handed) = inner.usable(channel) else { continue };
            usable.insert(id, channel.stamp);
            step.channels.push((id.clone(), channel.stamp, handed));
        }
        step.removed_channels = self.channels.keys().filter(|id| !usable.contains_key(id.as_str())).cloned().collect();
        let empty = step.rules.is_empty()
            && step.channels.is_empty()
            && step.removed_rules.is_empty()
            && step.removed_channels.is_empty();
        (whole || !empty).then_some(step)
    }

    /// Alerting took a step.
    fn took(&mut self, world: &World, step: Step, generation: i64, accepted: &Accepted) {
        self.generation = generation;
        self.rules.retain(|uid, _| !step.removed_rules.contains(uid));
        self.channels.retain(|id, _| !step.removed_channels.contains(id));
        let mut inner = world.lock();
        for (stamp, rule) in step.rules {
            let uid = rule.document.metadata.uid.unwrap_or_default();
            if let Some(entry) = inner.rules.get_mut(&uid).filter(|entry| entry.stamp == stamp) {
                entry.accepted = stamp;
                entry.refused = accepted.refused.get(&uid).cloned();
            }
            inner.dirty.insert(Key::Rule(uid.clone()));
            self.rules.insert(uid, stamp);
        }
        for (id, stamp, _) in step.channels {
            if let Some(entry) = inner.channels.get_mut(&id).filter(|entry| entry.stamp == stamp) {
                entry.accepted = stamp;
                entry.refused = accepted.refused.get(&id).cloned();
            }
            inner.dirty.insert(Key::Channel(id.clone()));
            self.channels.insert(id, stamp);
        }
    }
}

impl Step {
    fn set(&self, epoch: &str, generation: i64) -> RuleSet {
        let rules = self.rules.iter().map(|(_, rule)| rule.clone()).collect();
        let channels = self.channels.iter().map(|(_, _, channel)| channel.clone()).collect();
        RuleSet { epoch: epoch.to_owned(), generation, rules, channels }
    }

    fn change(&self, epoch: &str, base: i64, generation: i64) -> RuleSetChange {
        let RuleSet { epoch, generation, rules, channels } = self.set(epoch, generation);
        let (removed_rules, removed_channels) =
            (self.removed_rules.iter().cloned().collect(), self.removed_channels.iter().cloned().collect());
        RuleSetChange { epoch, base, generation, rules, removed_rules, channels, removed_channels }
    }
}
