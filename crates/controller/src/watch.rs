//! Watches the resources. Each object is read by itself, so that one that is malformed stops only itself.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt as _;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use rules::document::{API_VERSION, AlertRule, AlertRuleSpec, Metadata, NotificationChannel, NotificationChannelSpec};
use rules::handover::HandedRule;
use rules::kubernetes::{AlertRuleStatus, ChannelStatus};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::Args;
use crate::metrics::Metrics;
use crate::world::{Bad, Identity, Seen, World, lines};

/// How the API server calls one of the kinds.
pub(crate) fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "weir.dev".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: API_VERSION.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

pub(crate) fn rules_resource() -> ApiResource {
    resource("AlertRule", "alertrules")
}

pub(crate) fn channels_resource() -> ApiResource {
    resource("NotificationChannel", "notificationchannels")
}

/// One watch for each namespace that is named, or one for all.
fn apis(client: &Client, args: &Args, resource: &ApiResource) -> Vec<(Option<String>, Api<DynamicObject>)> {
    let api = |namespace: &Option<String>| match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    };
    args.watched().into_iter().map(|namespace| (namespace.clone(), api(&namespace))).collect()
}

/// Watches rules for as long as it is polled.
pub(crate) async fn rules(client: Client, args: &Args, world: &World, metrics: &Metrics) {
    let gauge = metrics.resources.with_label_values(&["AlertRule"]);
    let apis = apis(&client, args, &rules_resource());
    let unlisted: Mutex<BTreeSet<Option<String>>> = Mutex::new(args.watched().into_iter().collect());
    let watches = apis.into_iter().map(|(namespace, api)| {
        let (gauge, unlisted) = (&gauge, &unlisted);
        follow(api, "AlertRule", metrics, move |step| {
            match step {
                Step::Seen(object) => world.rule_seen(read_rule(&object, args), runtime::clock::now_ms()),
                Step::Gone(object) => world.rule_gone(&object.uid().unwrap_or_default()),
                Step::Listed(uids) => {
                    let inner = world.lock();
                    let gone = inner.rules.iter().filter(|(uid, r)| r.is_in(&namespace) && !uids.contains(*uid));
                    let gone: Vec<String> = gone.map(|(uid, _)| uid.clone()).collect();
                    drop(inner);
                    gone.iter().for_each(|uid| world.rule_gone(uid));
                    world.lock().rules_listed = all_listed(unlisted, &namespace);
                    world.ring();
                }
            }
            gauge.set(world.lock().rules.len() as i64);
        })
    });
    futures_util::future::join_all(watches).await;
}

/// Watches channels for as long as it is polled.
pub(crate) async fn channels(client: Client, args: &Args, world: &World, metrics: &Metrics) {
    let gauge = metrics.resources.with_label_values(&["NotificationChannel"]);
    let apis = apis(&client, args, &channels_resource());
    let unlisted: Mutex<BTreeSet<Option<String>>> = Mutex::new(args.watched().into_iter().collect());
    let watches = apis.into_iter().map(|(namespace, api)| {
        let (gauge, unlisted) = (&gauge, &unlisted);
        follow(api, "NotificationChannel", metrics, move |step| {
            match step {
                Step::Seen(object) => world.channel_seen(read_channel(&object), runtime::clock::now_ms()),
                Step::Gone(object) => {
                    world.channel_gone(&format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any()));
                }
                Step::Listed(uids) => {
                    let inner = world.lock();
                    let own = inner.channels.iter().filter(|(_, c)| c.is_in(&namespace));
                    let gone = own.filter(|(_, c)| !uids.contains(&c.identity.uid));
                    let gone: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
                    drop(inner);
                    gone.iter().for_each(|id| world.channel_gone(id));
                    world.lock().channels_listed = all_listed(unlisted, &namespace);
                    world.ring();
                }
            }
            gauge.set(world.lock().channels.len() as i64);
        })
    });
    futures_util::future::join_all(watches).await;
}

/// A namespace has been read; whether all have.
fn all_listed(unlisted: &Mutex<BTreeSet<Option<String>>>, namespace: &Option<String>) -> bool {
    let mut unlisted = unlisted.lock().unwrap_or_else(PoisonError::into_inner);
    unlisted.remove(namespace);
    unlisted.is_empty()
}

enum Step {
    Seen(DynamicObject),
    Gone(DynamicObject),
    /// Everything was seen; the UIDs of it.
    Listed(BTreeSet<String>),
}

async fn follow(api: Api<DynamicObject>, kind: &str, metrics: &Metrics, mut step: impl FnMut(Step)) {
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(object)) => step(Step::Seen(object)),
            Ok(watcher::Event::Delete(object)) => step(Step::Gone(object)),
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(object.uid().unwrap_or_default());
                step(Step::Seen(object));
            }
            Ok(watcher::Event::InitDone) => step(Step::Listed(std::mem::take(&mut listed))),
            Err(error) => {
                metrics.watch_failures.with_label_values(&[kind]).inc();
                tracing::warn!(kind, %error, "watching failed; trying again");
            }
        }
    }
}

/// Reads and checks a rule.
pub(crate) fn read_rule(object: &DynamicObject, args: &Args) -> Seen<HandedRule, AlertRuleStatus> {
    let identity = identity(object);
    let scope = args.scope(&identity.namespace);
    let verdict = spec::<AlertRuleSpec>(object).and_then(|spec| {
        let document = AlertRule {
            api_version: API_VERSION.to_owned(),
            kind: "AlertRule".to_owned(),
            metadata: metadata(&identity),
            spec,
            status: None,
        };
        let handed = HandedRule { document, generation: identity.generation, scope };
        match rules::handover::rule(&handed, "kubernetes", &args.features) {
            Ok(_) => Ok(handed),
            Err(faults) => {
                let is_expr = faults.iter().any(|f| f.to_string().starts_with("spec.expr"));
                let reason = if is_expr { "InvalidExpression" } else { "InvalidSpec" };
                Err(Bad { reason, message: lines(&faults) })
            }
        }
    });
    Seen { identity, verdict, stored: status(object), version: version(object) }
}

/// Reads a channel and checks what can be checked without its secrets.
pub(crate) fn read_channel(object: &DynamicObject) -> Seen<NotificationChannel, ChannelStatus> {
    let identity = identity(object);
    let verdict = spec::<NotificationChannelSpec>(object).map(|spec| NotificationChannel {
        api_version: API_VERSION.to_owned(),
        kind: "NotificationChannel".to_owned(),
        metadata: metadata(&identity),
        spec,
        status: None,
    });
    Seen { identity, verdict, stored: status(object), version: version(object) }
}

fn spec<T: DeserializeOwned>(object: &DynamicObject) -> Result<T, Bad> {
    let spec = object.data.get("spec").cloned().unwrap_or(Value::Null);
    serde_json::from_value(spec).map_err(|e| Bad { reason: "Malformed", message: format!("spec: {e}") })
}

/// The status as far as it can be read; one of another version is written anew.
fn status<T: DeserializeOwned + Default>(object: &DynamicObject) -> T {
    object.data.get("status").and_then(|s| serde_json::from_value(s.clone()).ok()).unwrap_or_default()
}

fn identity(object: &DynamicObject) -> Identity {
    Identity {
        uid: object.uid().unwrap_or_default(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        generation: object.metadata.generation.unwrap_or(0),
    }
}

fn metadata(identity: &Identity) -> Metadata {
    Metadata {
        name: identity.name.clone(),
        namespace: Some(identity.namespace.clone()),
        uid: Some(identity.uid.clone()),
        ..Metadata::default()
    }
}

/// Versions of one kind ascend as numbers, which Kubernetes guarantees since 1.35 and etcd gave always.
pub(crate) fn version(object: &DynamicObject) -> u64 {
    object.resource_version().and_then(|v| v.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn rules_are_read_in_the_language_that_is_switched_on() {
        let mut args = Cli::parse_from(["test", "--alerting-url", "http://alerting"]).args;
        let object = json!({
            "apiVersion": API_VERSION,
            "kind": "AlertRule",
            "metadata": {"name": "slow", "namespace": "shop", "uid": "1", "generation": 1},
            "spec": {"expr": "mad_over_time(http.größe[5m]) > 1"},
        });
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        assert_eq!(read_rule(&object, &args).verdict.expect_err("off").reason, "InvalidExpression");
        args.features =
            rules::Features::from_names("promql-experimental-functions,promql-unquoted-utf8-names").expect("known");
        assert!(read_rule(&object, &args).verdict.is_ok());
    }
}
