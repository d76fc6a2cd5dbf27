//! What a request changes of what is held of a source: pure, so that nothing has changed when it cannot be made durable.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use promql::Features;
use rules::Channel;
use rules::document::{Metadata, NotificationChannel};
use rules::handover::{self, HandedChannel, HandedRule, Held};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Answer;
use crate::engine::{Incoming, RulesChange};
use crate::store::{HandedRows, RestoredSet};

/// Rules, and channels, of one set. Ten times what was measured.
pub(crate) const DOCUMENTS_MAX: usize = 100_000;

/// What is held of a source.
#[derive(Debug, Default)]
pub(super) struct Set {
    epoch: String,
    generation: i64,
    /// Whether the values of secrets came too: with a whole set, not from the database.
    has_secrets: bool,
    rules: HashMap<String, HeldRule>,
    channels: BTreeMap<String, HeldChannel>,
}

/// A rule's document.
#[derive(Debug)]
struct HeldRule {
    latest: HandedRule,
    /// Why the latest is not in use; empty if it is.
    refused: String,
    /// The one before, where the latest is not in use.
    good: Option<HandedRule>,
}

/// A channel's document and the values of its secrets.
#[derive(Debug)]
struct HeldChannel {
    latest: HandedChannel,
    /// Why it is not in use; empty if it is, or waits for the values of secrets.
    refused: String,
    /// Whether that is because another source has one of this id.
    is_taken: bool,
}

/// A channel as delivery is told of it: usable, or the reason why not; `None` is gone.
pub(super) type Told = (String, Option<Result<Channel, String>>);

/// Channels of other sources by their ids, with who has them.
pub(super) type Taken<'a> = BTreeMap<&'a str, &'a str>;

/// What changes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    epoch: String,
    generation: i64,
    has_secrets: bool,
    rules: Vec<(String, HeldRule)>,
    removed_rules: Vec<String>,
    channels: Vec<(String, HeldChannel)>,
    /// Of the channels, those whose document is other than the stored one.
    stored_channels: BTreeSet<String>,
    removed_channels: Vec<String>,
    put: Vec<Incoming>,
    told: Vec<Told>,
    /// Documents of the request that are not in use, by uid or id, with the reason.
    pub(super) refused: BTreeMap<String, String>,
    /// Documents that were checked.
    pub(super) checked: u64,
}

/// A set or a change of one as it comes: its documents are read one by one, so that one that cannot be read stops only itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    epoch: String,
    base: Option<i64>,
    generation: i64,
    #[serde(default)]
    rules: Vec<Value>,
    #[serde(default)]
    removed_rules: Vec<String>,
    #[serde(default)]
    channels: Vec<Value>,
    #[serde(default)]
    removed_channels: Vec<String>,
}

impl Set {
    /// What is held, as its source is told.
    pub(super) fn held(&self) -> Held {
        Held { epoch: self.epoch.clone(), generation: self.generation, has_secrets: self.has_secrets }
    }

    /// The ids of channels that rules tell which name none.
    pub(super) fn default_channels(&self) -> impl Iterator<Item = &str> {
        let suffix = format!("/{}", rules::load::DEFAULT_CHANNEL);
        self.channels.keys().map(String::as_str).filter(move |id| id.ends_with(&suffix) || *id == &suffix[1..])
    }

    /// The ids of channels that are in use, or wait for the values of secrets.
    pub(super) fn used_channels(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().filter(|(_, held)| held.refused.is_empty()).map(|(id, _)| id.as_str())
    }

    /// What a request changes. `taken` are the channels of other sources, which keep them. Says why where it is refused as a whole.
    pub(super) fn plan(
        &self,
        source: &str,
        whole: bool,
        body: &[u8],
        features: &Features,
        taken: &Taken<'_>,
    ) -> Result<Plan, Answer> {
        let request: Request = serde_json::from_slice(body).map_err(|e| Answer::Invalid(e.to_string()))?;
        self.admit(&request, whole)?;
        let Request { epoch, generation, rules, removed_rules, channels, removed_channels, .. } = request;
        let mut plan = Plan { epoch, generation, has_secrets: whole || self.has_secrets, ..Plan::default() };
        let (mut uids, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for value in rules {
            uids.extend(self.plan_rule(source, value, features, &mut plan));
        }
        for value in channels {
            ids.extend(self.plan_channel(source, value, taken, &mut plan));
        }
        if whole {
            let gone = self.rules.keys().filter(|uid| !uids.contains(*uid));
            plan.removed_rules = gone.cloned().collect();
            plan.removed_rules.sort_unstable();
            plan.removed_channels = self.channels.keys().filter(|id| !ids.contains(*id)).cloned().collect();
        } else {
            // What the same change brings stays.
            plan.removed_rules = removed_rules.into_iter().filter(|uid| !uids.contains(uid)).collect();
            plan.removed_channels = removed_channels.into_iter().filter(|id| !ids.contains(id)).collect();
        }
        // One that was refused because another source has it is not taken from that one.
        let own = plan.removed_channels.iter().filter(|id| !taken.contains_key(id.as_str()));
        plan.told.extend(own.map(|id| (id.clone(), None)));
        Ok(plan)
    }

    fn admit(&self, request: &Request, whole: bool) -> Result<(), Answer> {
        let invalid = |message: String| Err(Answer::Invalid(message));
        if request.epoch.is_empty() {
            return invalid("epoch is empty".to_owned());
        }
        if request.rules.len().max(request.channels.len()) > DOCUMENTS_MAX {
            return invalid(format!("more than {DOCUMENTS_MAX} documents"));
        }
        let same_epoch = request.epoch == self.epoch;
        if whole {
            if request.base.is_some() || !request.removed_rules.is_empty() || !request.removed_channels.is_empty() {
                return invalid("base, removedRules and removedChannels are for PATCH".to_owned());
            }
            let later = same_epoch && self.generation > request.generation;
            return if later { Err(Answer::Conflict(self.held())) } else { Ok(()) };
        }
        let Some(base) = request.base else { return invalid("base is missing".to_owned()) };
        if request.generation <= base {
            return invalid(format!("generation {} does not follow base {base}", request.generation));
        }
        if same_epoch && base == self.generation { Ok(()) } else { Err(Answer::Conflict(self.held())) }
    }

    /// Its uid, if it has one.
    fn plan_rule(&self, source: &str, value: Value, features: &Features, plan: &mut Plan) -> Option<String> {
        let handed = match read::<HandedRule>(value) {
            Ok(mut handed) => {
                (handed.document.metadata, handed.document.status) = (bare(handed.document.metadata), None);
                handed
            }
            Err((name, uid, reason)) => {
                plan.refused.insert(uid.clone().unwrap_or(name), reason);
                // What it said before stays in use.
                return uid.filter(|uid| self.rules.contains_key(uid));
            }
        };
        let Some(uid) = handed.document.metadata.uid.clone().filter(|uid| !uid.is_empty()) else {
            let metadata = &handed.document.metadata;
            let name = id(metadata.namespace.as_deref(), &metadata.name);
            plan.refused.insert(name, "metadata.uid: is needed where a rule is handed over".to_owned());
            return None;
        };
        let before = self.rules.get(&uid);
        if let Some(before) = before.filter(|before| before.latest == handed) {
            if !before.refused.is_empty() {
                plan.refused.insert(uid.clone(), before.refused.clone());
            }
            return Some(uid);
        }
        plan.checked += 1;
        let held = match incoming(&handed, source, features) {
            Ok(incoming) => {
                plan.put.push(incoming);
                HeldRule { latest: handed, refused: String::new(), good: None }
            }
            Err(reason) => {
                plan.refused.insert(uid.clone(), reason.clone());
                let good = before.and_then(|before| match before.refused.as_str() {
                    "" => Some(before.latest.clone()),
                    _ => before.good.clone(),
                });
                HeldRule { latest: handed, refused: reason, good }
            }
        };
        plan.rules.push((uid.clone(), held));
        Some(uid)
    }

    /// Its id, if it has one.
    fn plan_channel(&self, source: &str, value: Value, taken: &Taken<'_>, plan: &mut Plan) -> Option<String> {
        let handed = match read::<HandedChannel>(value) {
            Ok(mut handed) => {
                (handed.document.metadata, handed.document.status) = (bare(handed.document.metadata), None);
                handed
            }
            Err((name, _, reason)) => {
                plan.refused.insert(name.clone(), reason);
                return self.channels.contains_key(&name).then_some(name);
            }
        };
        let metadata = &handed.document.metadata;
        let id = id(metadata.namespace.as_deref(), &metadata.name);
        if let Some(other) = taken.get(id.as_str()) {
            let refused = format!("the source {other:?} has handed over a channel {id:?} already, which stays in use");
            plan.refused.insert(id.clone(), refused.clone());
            plan.channels.push((id.clone(), HeldChannel { latest: handed, refused, is_taken: true }));
            return Some(id);
        }
        // One that another source had may be free now.
        let before = self.channels.get(&id).filter(|before| !before.is_taken);
        if let Some(before) = before.filter(|before| before.latest == handed) {
            if !before.refused.is_empty() {
                plan.refused.insert(id.clone(), before.refused.clone());
            }
            return Some(id);
        }
        plan.checked += 1;
        if before.is_none_or(|before| before.latest.document != handed.document) {
            plan.stored_channels.insert(id.clone());
        }
        plan.add_channel(source, id.clone(), handed);
        Some(id)
    }

    /// Brings a plan about, once it is durable: what the engine and delivery are told.
    pub(super) fn take(&mut self, plan: Plan, source: &str) -> (RulesChange, Vec<Told>) {
        (self.epoch, self.generation, self.has_secrets) = (plan.epoch, plan.generation, plan.has_secrets);
        self.rules.extend(plan.rules);
        self.channels.extend(plan.channels);
        plan.removed_rules.iter().for_each(|uid| drop(self.rules.remove(uid)));
        plan.removed_channels.iter().for_each(|id| drop(self.channels.remove(id)));
        let source = Some(Arc::from(source));
        (RulesChange { put: plan.put, remove: plan.removed_rules, source }, plan.told)
    }
}

impl Plan {
    /// Whether windows may have to be read for it.
    pub(super) fn has_rules(&self) -> bool {
        !self.put.is_empty()
    }

    /// What is to be stored.
    pub(super) fn rows(&self, source: &str) -> HandedRows {
        let json = |document: &HandedRule| serde_json::to_string(document).expect("what was read from JSON is JSON");
        let rule = |(uid, held): &(String, HeldRule)| (uid.clone(), json(&held.latest), held.good.as_ref().map(json));
        let stored = self.channels.iter().filter(|(id, _)| self.stored_channels.contains(id));
        let channel = |(id, held): &(String, HeldChannel)| {
            // The document alone: values of secrets are never stored.
            (id.clone(), serde_json::to_string(&held.latest.document).expect("what was read from JSON is JSON"))
        };
        HandedRows {
            source: source.to_owned(),
            epoch: self.epoch.clone(),
            generation: self.generation,
            rules: self.rules.iter().map(rule).collect(),
            removed_rules: self.removed_rules.clone(),
            channels: stored.map(channel).collect(),
            removed_channels: self.removed_channels.clone(),
        }
    }

    /// Whether it waits for the values of secrets.
    fn add_channel(&mut self, source: &str, id: String, handed: HandedChannel) -> bool {
        let references = handed.document.spec.webhook.iter().flat_map(|webhook| webhook.references());
        let missing: Vec<String> =
            references.map(|(_, key)| key.to_string()).filter(|key| !handed.secrets.contains_key(key)).collect();
        let mut refused = String::new();
        match handover::channel(&handed, source) {
            Ok(channel) => self.told.push((id.clone(), Some(Ok(channel)))),
            Err(_) if !missing.is_empty() => {
                let reason = format!("waits for the values of secrets: {}", missing.join(", "));
                self.told.push((id.clone(), Some(Err(reason))));
            }
            Err(errors) => {
                // What it said before stays in use, and stored.
                refused = lines(&errors);
                self.refused.insert(id.clone(), refused.clone());
                self.stored_channels.remove(&id);
            }
        }
        let waits = refused.is_empty() && !missing.is_empty();
        self.channels.push((id, HeldChannel { latest: handed, refused, is_taken: false }));
        waits
    }
}

/// A set as it was stored.
pub(super) fn restored(source: &str, stored: RestoredSet, features: &Features) -> Plan {
    let RestoredSet { epoch, generation, rules, channels } = stored;
    let mut plan = Plan { epoch, generation, has_secrets: true, ..Plan::default() };
    for (uid, latest, good) in rules {
        let latest: HandedRule = match serde_json::from_str(&latest) {
            Ok(latest) => latest,
            Err(error) => {
                plan.refused.insert(uid, error.to_string());
                continue;
            }
        };
        let good: Option<HandedRule> = good.and_then(|good| serde_json::from_str(&good).ok());
        plan.checked += 1;
        let refused = match incoming(&latest, source, features) {
            Ok(incoming) => {
                plan.put.push(incoming);
                String::new()
            }
            Err(reason) => {
                plan.put.extend(good.as_ref().and_then(|good| incoming(good, source, features).ok()));
                reason
            }
        };
        plan.rules.push((uid, HeldRule { latest, refused, good }));
    }
    for (id, document) in channels {
        match serde_json::from_str::<NotificationChannel>(&document) {
            Ok(document) => {
                plan.checked += 1;
                let waits = plan.add_channel(source, id, HandedChannel { document, secrets: BTreeMap::new() });
                plan.has_secrets &= !waits;
            }
            Err(error) => drop(plan.refused.insert(id, error.to_string())),
        }
    }
    plan
}

/// The rule of a document, with its channels by their ids.
fn incoming(handed: &HandedRule, source: &str, features: &Features) -> Result<Incoming, String> {
    let mut rule = handover::rule(handed, source, features).map_err(|errors| lines(&errors))?;
    let default_channel = Some(handover::channel_id(&rule.namespace, None));
    if let rules::Kind::Alerting(alerting) = &mut rule.kind
        && let Some(name) = alerting.channel.take()
    {
        alerting.channel = Some(handover::channel_id(&rule.namespace, Some(&name)));
    }
    Ok(Incoming { rule, source: Some(Arc::from(source)), generation: handed.generation, position: 0, default_channel })
}

/// A document, or what it is called, its uid and why it cannot be read.
fn read<T: DeserializeOwned>(value: Value) -> Result<T, (String, Option<String>, String)> {
    let text = |name: &str| value["document"]["metadata"][name].as_str().map(str::to_owned);
    let (namespace, name, uid) = (text("namespace"), text("name"), text("uid"));
    serde_json::from_value(value)
        .map_err(|error| (id(namespace.as_deref(), name.as_deref().unwrap_or("?")), uid, error.to_string()))
}

/// Without what changes whenever the resource is touched.
fn bare(metadata: Metadata) -> Metadata {
    let Metadata { name, namespace, labels, annotations, uid, .. } = metadata;
    Metadata { name, namespace, labels, annotations, uid, ..Metadata::default() }
}

fn id(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

fn lines(errors: &[rules::Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
