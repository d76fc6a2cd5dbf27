//! Sends what is owed.
//!
//! What one channel is owed because of one rule is a lane. A lane is sent in order, one request at a time, so that the end of an alert
//! never arrives before its beginning; lanes do not wait for each other. A request carries as many notifications as the channel allows, but
//! never two of the same alert. A notification leaves the outbox with the answer of its receiver; when the process dies between
//! the answer and the transaction, it is sent again: at least once, once on the normal path.

mod counted;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rules::{Channel, Webhook};
use runtime::{Shutdown, clock};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::Error;
use crate::metrics::Metrics;
use crate::store::{Attempt, Lane, Owed, Store};
use crate::text;
use crate::view::View;
use crate::webhook::{self, Answer};

pub(crate) use counted::{CHANNELS_MAX, Counted};

/// Lanes that are looked at in one round; more than can be under way at once.
const LANES_MAX: usize = 2048;
/// How often the outbox is looked at when nothing calls for it.
const IDLE: Duration = Duration::from_secs(5);

/// How long requests under way are waited for when the process stops; the usual grace of a pod is thirty seconds.
const GRACE: Duration = Duration::from_secs(10);
/// The pause of what waits for a channel that is not loaded does not grow further than after this many attempts: about a minute.
const MISSING_ATTEMPTS: u32 = 6;

/// When a notification is tried again, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The bound of the first pause; doubles with every attempt.
    pub(crate) first: Duration,
    /// The bound of every pause.
    pub(crate) most: Duration,
    /// After this it is a dead letter.
    pub(crate) horizon: Duration,
}

impl Pace {
    /// A second at first, five minutes at most, for a day.
    pub(crate) const DEFAULT: Pace =
        Pace { first: Duration::from_secs(1), most: Duration::from_secs(300), horizon: Duration::from_secs(86_400) };

    /// The pause after a number of attempts: anything from zero to its bound (full jitter).
    fn pause(&self, attempts: u32, random: f64) -> Duration {
        self.first.saturating_mul(1u32.checked_shl(attempts).unwrap_or(u32::MAX)).min(self.most).mul_f64(random)
    }
}

/// The channels by their ids; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Channels(Arc<RwLock<Known>>);

#[derive(Debug)]
struct Known {
    counted: Counted,
    of_files: BTreeMap<String, Channel>,
    /// Those that were handed over; the reason where one cannot be used yet.
    handed: BTreeMap<String, Result<Channel, String>>,
}

impl Known {
    fn count(&self) {
        self.counted.set(self.of_files.keys().chain(self.handed.keys()));
    }
}

impl Channels {
    /// None yet; `counted` is told of those that come and go.
    pub(crate) fn new(counted: Counted) -> Self {
        Channels(Arc::new(RwLock::new(Known { counted, of_files: BTreeMap::new(), handed: BTreeMap::new() })))
    }

    /// Takes the channels of files in place of those before.
    pub(crate) fn set_files(&self, channels: &[Channel]) {
        let map = channels.iter().map(|c| (c.id.clone(), c.clone())).collect();
        {
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            known.of_files = map;
            known.count();
        }
        for problem in self.doubled() {
            tracing::warn!("{problem}");
        }
    }

    /// What is to be said of channels of files whose id is that of one that was handed over: that one is used, whichever came first, so
    /// that a restart changes nothing.
    pub(crate) fn doubled(&self) -> Vec<String> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let doubled = known.of_files.values().filter(|channel| known.handed.contains_key(&channel.id));
        doubled
            .map(|Channel { id, file, .. }| {
                format!(
                    "{file}: channel {id:?} is handed over too, and that one is used; this one is not until it is gone"
                )
            })
            .collect()
    }

    /// Takes channels that were handed over, or the reason why one cannot be used yet; `None` is gone.
    pub(crate) fn hand_over(&self, channels: Vec<(String, Option<Result<Channel, String>>)>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (id, channel) in channels {
            match channel {
                Some(channel) => drop(known.handed.insert(id, channel)),
                None => drop(known.handed.remove(&id)),
            }
        }
        known.count();
    }

    /// How the channel is reached, or why it is not.
    fn webhook(&self, id: &str) -> Result<Webhook, String> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match (known.handed.get(id), known.of_files.get(id)) {
            (Some(Ok(channel)), _) | (None, Some(channel)) => Ok(channel.webhook.clone()),
            (Some(Err(reason)), _) => Err(format!("channel {id:?} {reason}")),
            (None, None) => Err(format!("channel {id:?} is not loaded")),
        }
    }
}

/// What delivery needs.
#[derive(Clone)]
pub(crate) struct Delivery {
    pub(crate) store: Store,
    pub(crate) channels: Channels,
    /// Where what became of a notification is shown.
    pub(crate) view: View,
    pub(crate) client: reqwest::Client,
    pub(crate) external_url: Arc<str>,
    pub(crate) pace: Pace,
    pub(crate) seed: u64,
    pub(crate) metrics: Metrics,
    /// Told when there is more in the outbox.
    pub(crate) more: Arc<Notify>,
    pub(crate) at_once_max: usize,
}

/// Delivers until it is asked to stop; what is under way then is given a grace.
pub(crate) async fn run(delivery: Delivery, mut shutdown: Shutdown) -> Result<(), Error> {
    let mut under_way: JoinSet<Result<Lane, Error>> = JoinSet::new();
    let mut busy: HashSet<Lane> = HashSet::new();
    let mut random = fastrand::Rng::with_seed(delivery.seed);
    while !shutdown.is_asked() {
        let now_ms = clock::now_ms();
        let mut wait = IDLE;
        for (lane, due_ms) in delivery.store.lanes(LANES_MAX).await? {
            if due_ms > now_ms {
                wait = wait.min(Duration::from_millis((due_ms - now_ms).unsigned_abs()));
            } else if busy.len() < delivery.at_once_max && busy.insert(lane.clone()) {
                under_way.spawn(one(delivery.clone(), lane, random.f64()));
            }
        }
        delivery.show(now_ms).await?;
        tokio::select! {
            () = shutdown.asked() => {}
            () = delivery.more.notified() => {}
            Some(done) = under_way.join_next() => drop(busy.remove(&finished(done)?)),
            () = tokio::time::sleep(wait) => {}
        }
    }
    let end = async {
        while let Some(done) = under_way.join_next().await {
            finished(done)?;
        }
        Ok(())
    };
    // What is not answered by then is sent again by the next start.
    tokio::time::timeout(GRACE, end).await.unwrap_or(Ok(()))
}

fn finished(done: Result<Result<Lane, Error>, tokio::task::JoinError>) -> Result<Lane, Error> {
    done.map_err(|_| Error::Stopped("a delivery panicked"))?
}

impl Delivery {
    async fn show(&self, now_ms: i64) -> Result<(), Error> {
        let summary = self.store.summary().await?;
        self.metrics.outbox.set(summary.outbox);
        self.metrics.outbox_age_seconds.set(summary.oldest_ms.map_or(0, |ms| (now_ms - ms).max(0) / 1000));
        Ok(())
    }
}

/// Sends what one lane is owed first.
async fn one(delivery: Delivery, lane: Lane, random: f64) -> Result<Lane, Error> {
    let webhook = delivery.channels.webhook(&lane.channel);
    // Who is told finds what he looks for.
    let shown = delivery.view.showing().await;
    let owed = delivery.store.owed(lane.clone(), webhook.as_ref().map_or(1, |w| w.alerts_max)).await?;
    drop(shown);
    let now_ms = clock::now_ms();
    let oldest = now_ms - delivery.pace.horizon.as_millis() as i64;
    let expired: Vec<Owed> = owed.iter().filter(|o| o.created_at_ms <= oldest).cloned().collect();
    let mut attempt = Attempt {
        at_ms: now_ms,
        lane: lane.clone(),
        ids: Vec::new(),
        firing: 0,
        resolved: 0,
        attempt: owed.first().map_or(0, |o| o.attempts) + 1,
        outcome: "delivered",
        status: None,
        error: String::new(),
        duration_ms: 0,
        alerts: String::new(),
        next_at_ms: None,
    };
    let (mut pause, mut attempts) = (None, attempt.attempt - 1);
    if !expired.is_empty() {
        attempt.covers(&expired);
        (attempt.outcome, attempt.error) = ("expired", "not delivered within its horizon".to_owned());
    } else {
        match webhook {
            Ok(webhook) => pause = deliver(&delivery, &webhook, owed, &mut attempt).await,
            Err(reason) => {
                attempt.covers(&owed);
                (attempt.outcome, attempt.error) = ("retried", reason);
                attempts = attempts.min(MISSING_ATTEMPTS);
            }
        }
    }
    if attempt.outcome == "retried" {
        let wait = delivery.pace.pause(attempts, random).max(pause.unwrap_or_default());
        attempt.next_at_ms = Some(clock::now_ms() + wait.min(delivery.pace.horizon).as_millis() as i64 + 1);
    }
    if !attempt.ids.is_empty() {
        delivery.tell(&attempt);
        let failure = (!matches!(attempt.outcome, "delivered" | "skipped")).then(|| attempt.error.clone());
        let (at_ms, skipped) = (attempt.at_ms, attempt.outcome == "skipped");
        delivery.store.attempted(attempt).await?;
        if !skipped {
            delivery.view.notified(&lane.rule, at_ms, failure.as_deref());
        }
    }
    Ok(lane)
}

/// Sends one request. Returns the pause that the receiver asks for.
#[expect(clippy::disallowed_methods, reason = "the duration of a request is measured here")]
async fn deliver(delivery: &Delivery, webhook: &Webhook, owed: Vec<Owed>, attempt: &mut Attempt) -> Option<Duration> {
    if !webhook.send_resolved && owed.first().is_some_and(|o| !o.firing) {
        let skipped: Vec<Owed> = owed.into_iter().take_while(|o| !o.firing).collect();
        attempt.covers(&skipped);
        attempt.outcome = "skipped";
        return None;
    }
    // Up to the second notification of the same alert, or one that is not to be told.
    let mut seen = HashSet::new();
    let told = |o: &Owed| (o.firing || webhook.send_resolved) && seen.insert(o.labels.clone());
    let owed: Vec<Owed> = owed.into_iter().take_while(told).collect();
    attempt.covers(&owed);
    if owed.is_empty() {
        return None;
    }
    let payload = webhook::payload(&attempt.lane, &owed, &delivery.external_url);
    let began = std::time::Instant::now();
    let answer = webhook::send(&delivery.client, webhook, &payload, attempt.at_ms).await;
    attempt.duration_ms = began.elapsed().as_millis() as i64;
    match answer {
        Answer::Delivered(status) => {
            attempt.status = Some(status);
            None
        }
        Answer::Later { status, reason, pause } => {
            (attempt.outcome, attempt.status, attempt.error) = ("retried", status, reason);
            pause
        }
        Answer::Refused { status, reason } => {
            (attempt.outcome, attempt.status, attempt.error) = ("refused", status, reason);
            None
        }
    }
}

impl Attempt {
    fn covers(&mut self, owed: &[Owed]) {
        self.ids = owed.iter().map(|o| o.id).collect();
        self.firing = owed.iter().filter(|o| o.firing).count();
        self.resolved = owed.len() - self.firing;
        let alerts: Vec<serde_json::Value> = owed.iter().map(|o| text::labels(&o.labels)).collect();
        self.alerts = serde_json::Value::from(alerts).to_string();
    }
}

impl Delivery {
    fn tell(&self, attempt: &Attempt) {
        self.metrics.deliveries.count(&attempt.lane.channel, attempt.outcome);
        let Attempt { lane, outcome, error, .. } = attempt;
        match *outcome {
            "delivered" | "skipped" => {
                tracing::debug!(
                    channel = lane.channel,
                    rule = lane.rule,
                    firing = attempt.firing,
                    resolved = attempt.resolved,
                    outcome,
                    "notification"
                );
            }
            "retried" => {
                tracing::warn!(
                    channel = lane.channel,
                    rule = lane.rule,
                    attempt = attempt.attempt,
                    error,
                    "notification failed, will be tried again"
                );
            }
            _ => {
                self.metrics.dead_letters.inc_by(attempt.ids.len() as u64);
                tracing::error!(channel = lane.channel, rule = lane.rule, outcome, error, "notification given up");
            }
        }
    }
}

#[cfg(test)]
mod tests;
