//! Writes one status, and tells in an Event what became of the resource with it.
//!
//! A merge patch that names the UID, so that a resource that was deleted and made again does not get the status of its predecessor. The first
//! one names the version too: of two installations that take the same resource one is refused, and leaves it to the other. Events
//! are told within a rate: beyond it they are left out and counted, as the status says the same.

use std::sync::Mutex;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use rules::kubernetes::AlertRuleStatus;
use serde_json::{Value, json};

use crate::error::code;
use crate::metrics::Metrics;
use crate::wanted;
use crate::watch::{channels_resource, rules_resource, version};
use crate::world::{Identity, Key, World};

/// Events a second, and how many at once: a fifth of the rate of transitions, each of which the status tells too.
const EVENTS_PER_SECOND: i64 = 5;
const EVENTS_BURST: i64 = 25;
/// Characters of an event's note; the API server takes 1024 bytes.
const NOTE_CHARS_MAX: usize = 250;

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Written,
    /// The status is as it should be, or the resource is gone.
    Needless,
    Failed,
}

impl Outcome {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Outcome::Written => "written",
            Outcome::Needless => "needless",
            Outcome::Failed => "failed",
        }
    }
}

/// Writes statuses and events.
pub(crate) struct Writer {
    client: Client,
    recorder: Recorder,
    metrics: Metrics,
    /// Thousandths of events that may be told, and since when.
    budget: Mutex<(i64, i64)>,
}

/// A status to be written.
struct Job {
    kind: &'static str,
    identity: Identity,
    /// The version that nobody may have changed, where this status takes the resource for this installation.
    claims: Option<u64>,
    status: Value,
    event: Option<Event>,
}

impl Writer {
    pub(crate) fn new(client: Client, identity: &str, metrics: Metrics) -> Self {
        let reporter = Reporter { controller: "weir.dev/controller".to_owned(), instance: Some(identity.to_owned()) };
        let recorder = Recorder::new(client.clone(), reporter);
        Writer { client, recorder, metrics, budget: Mutex::new((EVENTS_BURST * 1000, 0)) }
    }

    /// Writes the status that a resource should have now. Where this future is dropped, the write may have happened or not.
    pub(crate) async fn write(&self, world: &World, key: &Key, now_ms: i64) -> Outcome {
        let Some(job) = job(world, key, now_ms) else { return Outcome::Needless };
        let resource = if job.kind == "AlertRule" { rules_resource() } else { channels_resource() };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &job.identity.namespace, &resource);
        let mut patch = json!({"metadata": {"uid": job.identity.uid}, "status": job.status});
        if let Some(version) = job.claims.filter(|version| *version > 0) {
            patch["metadata"]["resourceVersion"] = json!(version.to_string());
        }
        let params = PatchParams { field_manager: Some("weir-controller".to_owned()), ..PatchParams::default() };
        match api.patch_status(&job.identity.name, &params, &Patch::Merge(&patch)).await {
            Ok(object) => {
                written(world, key, &object, now_ms);
                if let Some(event) = &job.event {
                    self.tell(event, &job, now_ms).await;
                }
                Outcome::Written
            }
            // It changed meanwhile; what it is now decides, once the watch tells.
            Err(error) if code(&error) == 409 && job.claims.is_some() => Outcome::Failed,
            // Gone, or another one of the same name.
            Err(error) if matches!(code(&error), 404 | 409) => Outcome::Needless,
            Err(error) => {
                let Identity { namespace, name, .. } = &job.identity;
                tracing::warn!(kind = job.kind, namespace, name, %error, "a status cannot be written");
                Outcome::Failed
            }
        }
    }

    async fn tell(&self, event: &Event, job: &Job, now_ms: i64) {
        if !self.may_tell(now_ms) {
            self.metrics.events.with_label_values(&["left_out"]).inc();
            return;
        }
        let regarding = ObjectReference {
            api_version: Some(rules::document::API_VERSION.to_owned()),
            kind: Some(job.kind.to_owned()),
            namespace: Some(job.identity.namespace.clone()),
            name: Some(job.identity.name.clone()),
            uid: Some(job.identity.uid.clone()),
            ..ObjectReference::default()
        };
        let outcome = match self.recorder.publish(event, &regarding).await {
            Ok(()) => "written",
            Err(error) => {
                tracing::debug!(%error, "an event cannot be written");
                "failed"
            }
        };
        self.metrics.events.with_label_values(&[outcome]).inc();
    }

    fn may_tell(&self, now_ms: i64) -> bool {
        let mut budget = self.budget.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let passed = (now_ms - budget.1).clamp(0, 1_000_000);
        *budget = ((budget.0 + passed * EVENTS_PER_SECOND).min(EVENTS_BURST * 1000), now_ms.max(budget.1));
        let may = budget.0 >= 1000;
        budget.0 -= if may { 1000 } else { 0 };
        may
    }
}

/// What is to be written of a resource; `None` where its status is as it should be.
fn job(world: &World, key: &Key, now_ms: i64) -> Option<Job> {
    let inner = world.lock();
    match key {
        Key::Rule(uid) => {
            let rule = inner.rules.get(uid)?;
            let wanted = wanted::rule(&inner, rule, now_ms)?;
            wanted::rule_class(&rule.stored, &wanted, rule.written_ms, now_ms)?;
            let event = rule_event(&rule.stored, &wanted);
            let fields =
                ["state", "firing", "pending", "since", "value", "lastNotification", "mode", "cost", "lastError"];
            let status = merge(&wanted, &fields)?;
            let claims = (rule.stored.managed_by != wanted.managed_by).then_some(rule.version);
            Some(Job { kind: "AlertRule", identity: rule.identity.clone(), claims, status, event })
        }
        Key::Channel(id) => {
            let channel = inner.channels.get(id)?;
            let wanted = wanted::channel(&inner, channel, now_ms)?;
            wanted::channel_class(&channel.stored, &wanted)?;
            let status = merge(&wanted, &["receiver", "target"])?;
            let ready = |conditions: &[_]| readiness(conditions);
            let event = not_ready(ready(&channel.stored.conditions), ready(&wanted.conditions));
            let claims = (channel.stored.managed_by != wanted.managed_by).then_some(channel.version);
            Some(Job { kind: "NotificationChannel", identity: channel.identity.clone(), claims, status, event })
        }
    }
}

/// The status as a merge patch: what it does not have is null, or what was there before would stay.
fn merge<T: serde::Serialize>(status: &T, fields: &[&str]) -> Option<Value> {
    let mut value = serde_json::to_value(status).ok()?;
    let object = value.as_object_mut()?;
    for field in fields {
        object.entry(*field).or_insert(Value::Null);
    }
    Some(value)
}

fn written(world: &World, key: &Key, object: &DynamicObject, now_ms: i64) {
    let mut inner = world.lock();
    let status = object.data.get("status").cloned().unwrap_or_default();
    match key {
        Key::Rule(uid) => {
            if let Some(rule) = inner.rules.get_mut(uid) {
                rule.stored = serde_json::from_value(status).unwrap_or_default();
                (rule.version, rule.written_ms) = (version(object), now_ms);
            }
        }
        Key::Channel(id) => {
            if let Some(channel) = inner.channels.get_mut(id) {
                channel.stored = serde_json::from_value(status).unwrap_or_default();
                (channel.version, channel.written_ms) = (version(object), now_ms);
            }
        }
    }
}

type Conditions = [k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition];

fn readiness(conditions: &Conditions) -> Option<(String, String, String)> {
    let ready = conditions.iter().find(|c| c.type_ == "Ready")?;
    Some((ready.status.clone(), ready.reason.clone(), ready.message.clone()))
}

fn event(type_: EventType, reason: &str, action: &str, note: &str) -> Event {
    let note = Some(note.chars().take(NOTE_CHARS_MAX).collect());
    Event { type_, reason: reason.to_owned(), note, action: action.to_owned(), secondary: None }
}

fn not_ready(before: Option<(String, String, String)>, after: Option<(String, String, String)>) -> Option<Event> {
    let (status, reason, message) = after?;
    let same = before.is_some_and(|(_, before, text)| before == reason && text == message);
    (status == "False" && !same).then(|| event(EventType::Warning, &reason, "Checking", &message))
}

/// What a person is told of a change: refused, firing, resolved.
fn rule_event(stored: &AlertRuleStatus, wanted: &AlertRuleStatus) -> Option<Event> {
    if let Some(event) = not_ready(readiness(&stored.conditions), readiness(&wanted.conditions)) {
        return Some(event);
    }
    let fires = |status: &AlertRuleStatus| matches!(status.state.as_deref(), Some("Firing" | "Recovering"));
    match (fires(stored), fires(wanted)) {
        (false, true) => {
            let value = wanted.value.as_deref().unwrap_or("unknown");
            let note = format!("{} series fire; the oldest has the value {value}", wanted.firing.unwrap_or(0));
            Some(event(EventType::Warning, "Firing", "Evaluating", &note))
        }
        (true, false) if wanted.state.as_deref() == Some("Inactive") => {
            Some(event(EventType::Normal, "Resolved", "Evaluating", "no series fires any more"))
        }
        _ => None,
    }
}
