//! The rule sets that are handed over, `rules::handover`: kept as the documents that they are, given to the engine as rules.
//!
//! A document is checked when it comes and when it is other than before, so that a change of one rule of ten thousand costs one. A
//! document that cannot be used stops only itself: what it said before stays in use. Documents are durable before the engine has the rules, so
//! that the next start begins with what was answered; values of secrets are in memory only, and a channel that misses one waits, with its
//! notifications in the outbox, until its source sends them again.
//!
//! One task does it all, one request after the other. The price is that two sources wait for each other.

mod api;
mod plan;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Bytes;
use promql::Features;
use rules::handover::{Accepted, Held};
use runtime::{Shutdown, clock};
use storage::Reader;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::Error;
use crate::delivery::Channels;
use crate::engine::{First, Message, RulesChange};
use crate::metrics::Metrics;
use crate::store::{RestoredSet, Store};
pub(crate) use plan::DOCUMENTS_MAX;
use plan::{Plan, Set};

pub(crate) use api::{Api, router};

/// Sources of rule sets; a cluster is one.
const SOURCES_MAX: usize = 8;
/// Rules that the engine takes at a time, between which it takes records and evaluates.
const CHUNK: usize = 256;
/// How long is waited until storage has read what the log has, so that windows are complete.
const CAUGHT_UP: Duration = Duration::from_secs(5);

/// How a request was decided.
#[derive(Debug)]
pub(crate) enum Answer {
    Accepted(Accepted),
    /// It is a change of something else than what is held.
    Conflict(Held),
    Invalid(String),
}

/// A request, and who wants to know.
#[derive(Debug)]
pub(crate) struct Asked {
    source: String,
    /// Whether the body is the whole set; otherwise it is a change of it.
    whole: bool,
    body: Bytes,
    answer: oneshot::Sender<Answer>,
}

/// What is held of each source, for whoever asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holdings(Arc<RwLock<BTreeMap<String, Held>>>);

impl Holdings {
    pub(crate) fn of(&self, source: &str) -> Held {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner).get(source).cloned();
        held.unwrap_or(Held { epoch: String::new(), generation: 0, has_secrets: false })
    }

    fn set(&self, source: &str, held: Held) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(source.to_owned(), held);
    }
}

/// The sets of all sources.
pub(crate) struct RuleSets {
    sets: BTreeMap<String, Set>,
    features: Features,
    metrics: Metrics,
    holdings: Holdings,
}

/// What the task needs of others.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) channels: Channels,
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) engine: mpsc::Sender<Message>,
    /// Told when more of the outbox can be delivered.
    pub(crate) more: Arc<Notify>,
}

impl RuleSets {
    /// The sets as they were stored, and adds what the engine begins with. Channels without references to secrets are in use at once. Blocks.
    pub(crate) fn restore(
        stored: BTreeMap<String, RestoredSet>,
        features: Features,
        metrics: Metrics,
        channels: &Channels,
        first: &mut First,
    ) -> Self {
        let mut this = RuleSets { sets: BTreeMap::new(), features, metrics, holdings: Holdings::default() };
        for (source, stored) in stored {
            let plan = plan::restored(&source, stored, &this.features);
            this.metrics.documents_checked.inc_by(plan.checked);
            for (document, reason) in &plan.refused {
                tracing::error!(source, document, reason, "a stored document cannot be used");
            }
            let mut set = Set::default();
            let (change, told) = set.take(plan, &source);
            first.handed.put.extend(change.put);
            channels.hand_over(told);
            this.holdings.set(&source, set.held());
            this.sets.insert(source, set);
        }
        first.default_channels = this.default_channels();
        this
    }

    pub(crate) fn holdings(&self) -> Holdings {
        self.holdings.clone()
    }

    /// The channels that are there for rules that name none.
    fn default_channels(&self) -> HashSet<String> {
        self.sets.values().flat_map(Set::default_channels).map(str::to_owned).collect()
    }

    /// What a request means for what is held. Blocks.
    fn plan(&mut self, source: &str, whole: bool, body: &[u8]) -> Result<Plan, Answer> {
        if !self.sets.contains_key(source) && self.sets.len() >= SOURCES_MAX {
            return Err(Answer::Invalid(format!("{SOURCES_MAX} sources have rule sets here already")));
        }
        let none = Set::default();
        let set = self.sets.get(source).unwrap_or(&none);
        // Those of other sources that are in use, with who has them.
        let others = self.sets.iter().filter(|(other, _)| *other != source);
        let taken = others.flat_map(|(other, set)| set.used_channels().map(move |id| (id, other.as_str()))).collect();
        let plan = set.plan(source, whole, body, &self.features, &taken)?;
        self.metrics.documents_checked.inc_by(plan.checked);
        Ok(plan)
    }
}

/// Takes rule sets until it is asked to stop.
pub(crate) async fn run(
    mut sets: RuleSets,
    mut asked: mpsc::Receiver<Asked>,
    parts: Parts,
    mut shutdown: Shutdown,
) -> Result<(), Error> {
    loop {
        let next = tokio::select! {
            () = shutdown.asked() => return Ok(()),
            next = asked.recv() => next,
        };
        let Some(Asked { source, whole, body, answer }) = next else { return Ok(()) };
        let planned = tokio::task::spawn_blocking(move || {
            let plan = sets.plan(&source, whole, &body);
            (sets, source, plan)
        });
        let (back, source, plan) = planned.await.map_err(|_| Error::Stopped("reading a rule set panicked"))?;
        sets = back;
        let decided = match plan {
            Ok(plan) => match take(&mut sets, &source, plan, &parts).await? {
                Some(accepted) => Answer::Accepted(accepted),
                // The engine ended, which is told by itself or was asked for.
                None => return if shutdown.is_asked() { Ok(()) } else { Err(Error::Stopped("the engine ended")) },
            },
            Err(refusal) => refusal,
        };
        let outcome = match &decided {
            Answer::Accepted(_) => "accepted",
            Answer::Conflict(_) => "conflict",
            Answer::Invalid(_) => "invalid",
        };
        sets.metrics.handovers.with_label_values(&[outcome]).inc();
        // Whoever asked may have gone; he asks again what is held.
        let _ = answer.send(decided);
    }
}

/// Makes a plan durable, then brings it into use. `None` where the engine has ended.
async fn take(sets: &mut RuleSets, source: &str, mut plan: Plan, parts: &Parts) -> Result<Option<Accepted>, Error> {
    if plan.has_rules()
        && let Err(error) = parts.reader.caught_up(CAUGHT_UP).await
    {
        tracing::warn!(%error, "storage has not read the whole log; windows of rules may begin late");
    }
    let (rows, mut refused) = (plan.rows(source), std::mem::take(&mut plan.refused));
    sets.metrics.documents_stored.inc_by((rows.rules.len() + rows.channels.len()) as u64);
    parts.store.hand_over(rows).await?;
    let set = sets.sets.entry(source.to_owned()).or_default();
    let (change, told) = set.take(plan, source);
    let held = set.held();
    sets.holdings.set(source, held.clone());
    let usable: Vec<String> =
        told.iter().filter(|(_, channel)| matches!(channel, Some(Ok(_)))).map(|(id, _)| id.clone()).collect();
    parts.channels.hand_over(told);
    if !usable.is_empty() {
        parts.store.hurry(usable, clock::now_ms()).await?;
        parts.more.notify_one();
    }
    let default_channels = sets.default_channels();
    let RulesChange { mut put, mut remove, source: owner } = change;
    loop {
        // At least once, for the channels.
        let rest = put.split_off(put.len().min(CHUNK));
        let change = RulesChange { put, remove: std::mem::take(&mut remove), source: owner.clone() };
        let (done, used) = oneshot::channel();
        let message = Message::Change { change, default_channels: default_channels.clone(), done };
        if parts.engine.send(message).await.is_err() {
            return Ok(None);
        }
        let Ok(not_taken) = used.await else { return Ok(None) };
        refused.extend(not_taken);
        put = rest;
        if put.is_empty() {
            break;
        }
    }
    tracing::info!(source, generation = held.generation, refused = refused.len(), "rule set taken");
    Ok(Some(Accepted { held, refused }))
}
