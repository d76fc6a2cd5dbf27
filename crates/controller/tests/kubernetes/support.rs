//! A controller against the real API server that WEIR_TEST_KUBECONFIG names, and an alerting that speaks the protocol of the hand-over
//! and says of rules what the test tells it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rules::handover::{Accepted, HandedChannel, HandedRule, Held, RuleSet, RuleSetChange, RuleState, States};
use runtime::{Shutdown, ShutdownTrigger};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{MutexGuard, watch};

/// How long anything may take before the test gives up. Nothing here is measured; on a machine that is busy it is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// One at a time: the definitions and the webhook configuration belong to the whole cluster.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The cluster, emptied of what tests before left.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    config: Config,
    _one: MutexGuard<'static, ()>,
}

/// The cluster, or a report that there is none.
pub(crate) async fn cluster(test: &str) -> Option<Cluster> {
    let Some(path) = std::env::var_os("WEIR_TEST_KUBECONFIG").map(PathBuf::from).filter(|p| p.is_file()) else {
        if let Some(report) = std::env::var_os("WEIR_SKIPS").map(PathBuf::from) {
            std::fs::create_dir_all(&report).expect("created");
            std::fs::write(report.join(test), "WEIR_TEST_KUBECONFIG names no file").expect("written");
        }
        eprintln!("skipped: {test}: WEIR_TEST_KUBECONFIG names no file (see CONTRIBUTING.md)");
        return None;
    };
    let one = ONE.lock().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(path).expect("a kubeconfig");
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a configuration");
    let client = Client::try_from(config.clone()).expect("a client");
    let cluster = Cluster { client, config, _one: one };
    cluster.clean().await;
    Some(cluster)
}

pub(crate) fn resource(kind: &str, plural: &str, group: &str, version: &str) -> ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource { group: group.into(), version: version.into(), api_version, kind: kind.into(), plural: plural.into() }
}

fn plural(kind: &str) -> String {
    format!("{}s", kind.to_lowercase())
}

impl Cluster {
    async fn clean(&self) {
        let hooks = resource(
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
            "admissionregistration.k8s.io",
            "v1",
        );
        let hooks: Api<DynamicObject> = Api::all_with(self.client.clone(), &hooks);
        let _ = hooks.delete("weir-controller", &DeleteParams::default()).await;
        controller::crds::apply(self.client.clone()).await.expect("the API server takes the definitions");
        for name in ["weir", "shop"] {
            self.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
                .await
                .expect("made");
        }
        for document in include_str!("../../../../manifests/controller/rbac.yaml").split("\n---\n") {
            self.apply(rules::yaml::from_str(document).expect("YAML")).await.expect("applied");
        }
        for kind in ["AlertRule", "NotificationChannel"] {
            until(async || {
                let api: Api<DynamicObject> = Api::namespaced_with(
                    self.client.clone(),
                    "shop",
                    &resource(kind, &plural(kind), "weir.dev", "v1alpha1"),
                );
                let _ = api.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
                let left = api.list(&ListParams::default()).await.map_err(|e| e.to_string())?.items.len();
                if left == 0 { Ok(()) } else { Err(format!("{left} of {kind}")) }
            })
            .await;
        }
        let leases = resource("Lease", "leases", "coordination.k8s.io", "v1");
        let leases: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), "weir", &leases);
        let _ = leases.delete("weir-controller", &DeleteParams::default()).await;
    }

    pub(crate) fn api(&self, object: &Value) -> Api<DynamicObject> {
        let (group, version) = match object["apiVersion"].as_str().expect("apiVersion").split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", object["apiVersion"].as_str().expect("apiVersion")),
        };
        let kind = object["kind"].as_str().expect("kind");
        let resource = resource(kind, &plural(kind), group, version);
        match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// As `kubectl apply` would; the message of the refusal otherwise.
    pub(crate) async fn apply(&self, object: Value) -> Result<DynamicObject, String> {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let params = PatchParams::apply("test").force();
        let applied = self.api(&object).patch(name, &params, &Patch::Apply(&object)).await;
        applied.map_err(|e| match e {
            kube::Error::Api(status) => status.message,
            other => other.to_string(),
        })
    }

    pub(crate) async fn status(&self, kind: &str, name: &str) -> Value {
        let object = json!({"apiVersion": "weir.dev/v1alpha1", "kind": kind, "metadata": {"namespace": "shop"}});
        let found = self.api(&object).get(name).await.expect("found");
        let mut status = found.data["status"].clone();
        // For the tests' convenience.
        status["generation"] = json!(found.metadata.generation);
        status
    }

    /// Waits until Ready has this status and reason for the newest generation.
    pub(crate) async fn ready(&self, kind: &str, name: &str, status: &str, reason: &str) -> Value {
        let seen = Mutex::new(Value::Null);
        until(async || {
            let found = self.status(kind, name).await;
            let ready = &found["conditions"][0];
            let is = found["observedGeneration"] == found["generation"]
                && ready["status"] == status
                && ready["reason"] == reason;
            *seen.lock().expect("unpoisoned") = found.clone();
            if is { Ok(()) } else { Err(format!("{name}: {found}")) }
        })
        .await;
        seen.into_inner().expect("unpoisoned")
    }

    /// A controller that has the rights of its own manifest and no others. It is ready, and admission serves.
    pub(crate) async fn controller(&self, alerting: &Alerting, identity: &str) -> Controller {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some("system:serviceaccount:weir:weir-controller".to_owned());
        config.auth_info.impersonate_groups =
            Some(vec!["system:serviceaccounts".to_owned(), "system:authenticated".to_owned()]);
        let client = Client::try_from(config).expect("a client");
        let args = controller::Args {
            alerting_url: alerting.url.clone(),
            query_url: Some(alerting.url.clone()),
            namespace_label: "namespace".to_owned(),
            global_rule_namespaces: vec!["weir".to_owned()],
            namespace: "weir".to_owned(),
            controller_name: "weir-controller".to_owned(),
            webhook_listen: "127.0.0.1:0".to_owned(),
            webhook_service: None,
            webhook_url: Some("https://127.0.0.1:0/validate".to_owned()),
            owner_cluster_role: Some("weir-controller".to_owned()),
        };
        let (trigger, shutdown) = Shutdown::new();
        let registry = prometheus::Registry::new();
        let token = runtime::Token::fixed(TOKEN).expect("a token");
        let deps = controller::Deps { client, token: Some(token), identity: identity.to_owned() };
        let started = controller::start(args, deps, &registry, shutdown).await.expect("starts");
        let drained = tokio::spawn(started.component.drained);
        let controller = Controller { trigger, drained, registry, port: started.webhook.port() };
        let port = controller.port;
        until(async || {
            let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {}});
            let found = self.api(&object).get("weir-controller").await.map_err(|e| e.to_string())?;
            let url = found.data["webhooks"][0]["clientConfig"]["url"].as_str().unwrap_or_default().to_owned();
            if url.contains(&port.to_string()) { Ok(()) } else { Err(format!("the webhook is at {url}")) }
        })
        .await;
        controller
    }
}

/// The token between components.
pub(crate) const TOKEN: &str = "t0ken";

pub(crate) struct Controller {
    trigger: ShutdownTrigger,
    drained: tokio::task::JoinHandle<runtime::Ended>,
    pub(crate) registry: prometheus::Registry,
    pub(crate) port: u16,
}

impl Controller {
    pub(crate) async fn stop(self) {
        self.trigger.ask();
        self.drained.await.expect("ended").expect("well");
    }

    /// As if the process was killed: it neither ends its calls nor gives its lease back.
    pub(crate) fn kill(self) {
        self.drained.abort();
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        // One with labels is absent until it is counted.
        let metrics = families.iter().filter(|f| f.name() == name).flat_map(|f| f.get_metric());
        metrics.map(|m| m.get_gauge().get_value() + m.get_counter().get_value()).sum()
    }
}

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
    (inner.rules, inner.channels, inner.states) = Default::default();
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

/// Asks again until the answer is there: for servers that cannot tell when something becomes so. `ask` says what it saw instead.
pub(crate) async fn until(mut ask: impl AsyncFnMut() -> Result<(), String>) {
    let mut seen = String::new();
    let asking = async {
        while let Err(instead) = ask().await {
            seen = instead;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, asking).await;
    assert!(in_time.is_ok(), "not within {PATIENCE:?}: {seen}");
}

pub(crate) fn rule(name: &str, expr: &str) -> Value {
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": "AlertRule", "metadata": {"name": name, "namespace": "shop"}, "spec": {"expr": expr}})
}

pub(crate) fn channel(name: &str, webhook: Value) -> Value {
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": "NotificationChannel", "metadata": {"name": name, "namespace": "shop"}, "spec": {"webhook": webhook}})
}
