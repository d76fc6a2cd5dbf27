//! The real API server that WEIR_TEST_KUBECONFIG names, and a controller in it with the rights of its own manifest and no others.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use runtime::{Shutdown, ShutdownTrigger};
use serde_json::{Value, json};
use tokio::sync::MutexGuard;

use super::double::Alerting;
use super::skips::file_of;
use super::{TOKEN, until};

/// Those that the tests own: of the controller, and of who uses it.
const NAMESPACES: [&str; 2] = ["weir", "shop"];
/// Who the controller is, by its manifest.
pub(crate) const ACCOUNT: &str = "system:serviceaccount:weir:weir-controller";
const GROUPS: [&str; 2] = ["system:serviceaccounts", "system:authenticated"];
/// One at a time: the definitions and the webhook configuration belong to the whole cluster.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The cluster, emptied of what tests before left.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    config: Config,
    path: PathBuf,
    _one: MutexGuard<'static, ()>,
}

/// The cluster, or a report that there is none.
pub(crate) async fn cluster(test: &str) -> Option<Cluster> {
    let path = file_of(test, "WEIR_TEST_KUBECONFIG")?;
    let one = ONE.lock().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(&path).expect("a kubeconfig");
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a configuration");
    let client = Client::try_from(config.clone()).expect("a client");
    let cluster = Cluster { client, config, path, _one: one };
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
        for name in NAMESPACES {
            self.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
                .await
                .expect("made");
        }
        for document in include_str!("../../../../../manifests/controller/rbac.yaml").split("\n---\n") {
            self.apply(rules::yaml::from_str(document).expect("YAML")).await.expect("applied");
        }
        for (kind, namespace) in ["AlertRule", "NotificationChannel"].iter().flat_map(|k| NAMESPACES.map(|n| (*k, n))) {
            until(async || {
                let resource = resource(kind, &plural(kind), "weir.dev", "v1alpha1");
                let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
                let _ = api.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
                let left = api.list(&ListParams::default()).await.map_err(|e| e.to_string())?.items.len();
                if left == 0 { Ok(()) } else { Err(format!("{left} of {kind}")) }
            })
            .await;
        }
        let leases = resource("Lease", "leases", "coordination.k8s.io", "v1");
        let leases: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), "weir", &leases);
        for name in ["weir-controller", "weir-other"] {
            let _ = leases.delete(name, &DeleteParams::default()).await;
        }
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

    /// As `kubectl apply` would, once the API server reaches the webhook where it is now, which it hears of a little later than who changes that;
    /// the message of the refusal otherwise.
    pub(crate) async fn apply(&self, object: Value) -> Result<DynamicObject, String> {
        let answer = Mutex::new(None);
        until(async || match self.apply_once(&object).await {
            Err(unreached) if unreached.contains("failed calling webhook") => Err(unreached),
            other => {
                *answer.lock().expect("unpoisoned") = Some(other);
                Ok(())
            }
        })
        .await;
        answer.into_inner().expect("unpoisoned").expect("answered")
    }

    /// The same, whether the webhook is reached or not.
    pub(crate) async fn apply_once(&self, object: &Value) -> Result<DynamicObject, String> {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let params = PatchParams::apply("test").force();
        let applied = self.api(object).patch(name, &params, &Patch::Apply(object)).await;
        applied.map_err(|e| match e {
            kube::Error::Api(status) => status.message,
            other => other.to_string(),
        })
    }

    pub(crate) async fn status(&self, kind: &str, name: &str) -> Value {
        let object = json!({"apiVersion": "weir.dev/v1alpha1", "kind": kind, "metadata": {"namespace": "shop"}});
        let status = Mutex::new(Value::Null);
        until(async || {
            let found = self.api(&object).get(name).await.map_err(|e| e.to_string())?;
            let mut status = status.lock().expect("unpoisoned");
            *status = found.data["status"].clone();
            // For the tests' convenience.
            status["generation"] = json!(found.metadata.generation);
            Ok(())
        })
        .await;
        status.into_inner().expect("unpoisoned")
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

    /// Writes a configuration with which a process has the rights of the controller's manifest and no others.
    pub(crate) fn kubeconfig_of_the_controller(&self, to: &Path) {
        let text = std::fs::read_to_string(&self.path).expect("read");
        let mut config: Value = rules::yaml::from_str(&text).expect("YAML");
        for user in config["users"].as_array_mut().expect("users") {
            user["user"]["as"] = json!(ACCOUNT);
            user["user"]["as-groups"] = json!(GROUPS);
        }
        std::fs::write(to, config.to_string()).expect("written");
    }

    /// A controller that has the rights of its own manifest and no others. It is ready, and admission serves.
    pub(crate) async fn controller(&self, alerting: &Alerting, identity: &str) -> Controller {
        let controller = self.controller_of(self.args(alerting), ACCOUNT, identity).await;
        let port = controller.port;
        until(async || {
            let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {}});
            let found = self.api(&object).get("weir-controller").await.map_err(|e| e.to_string())?;
            let url = found.data["webhooks"][0]["clientConfig"]["url"].as_str().unwrap_or_default().to_owned();
            if url.contains(&port.to_string()) { Ok(()) } else { Err(format!("the webhook is at {url}")) }
        })
        .await;
        // The API server hears of it a little later.
        until(async || {
            let probe = super::rule("probe", "up ==");
            match self.apply_once(&probe).await {
                Err(refused) if refused.contains("spec.expr: 1:6: parse error") => Ok(()),
                Err(other) => Err(other),
                Ok(_) => {
                    let _ = self.api(&probe).delete("probe", &DeleteParams::default()).await;
                    Err("nobody checks rules yet".to_owned())
                }
            }
        })
        .await;
        controller
    }

    /// The arguments of that controller.
    pub(crate) fn args(&self, alerting: &Alerting) -> controller::Args {
        controller::Args {
            alerting_url: alerting.url.clone(),
            query_url: Some(alerting.url.clone()),
            namespace_label: "namespace".to_owned(),
            global_rule_namespaces: vec!["weir".to_owned()],
            watch_namespaces: Vec::new(),
            namespace: "weir".to_owned(),
            controller_name: "weir-controller".to_owned(),
            webhook_listen: "127.0.0.1:0".to_owned(),
            webhook_service: None,
            webhook_url: Some("https://127.0.0.1:0/validate".to_owned()),
            owner_cluster_role: Some("weir-controller".to_owned()),
            features: rules::Features::default(),
        }
    }

    /// A controller with the rights of an account. It is ready.
    pub(crate) async fn controller_of(&self, args: controller::Args, account: &str, identity: &str) -> Controller {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(account.to_owned());
        config.auth_info.impersonate_groups = Some(GROUPS.map(str::to_owned).to_vec());
        let (trigger, shutdown) = Shutdown::new();
        let registry = prometheus::Registry::new();
        let (identity, metrics) = (identity.to_owned(), registry.clone());
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let threads = threads.expect("a runtime");
        let starting = threads.spawn(async move {
            let client = Client::try_from(config).expect("a client");
            let token = runtime::Token::fixed(TOKEN).expect("a token");
            let deps = controller::Deps { client, token: Some(token), identity };
            controller::start(args, deps, &metrics, shutdown).await.expect("starts")
        });
        let started = starting.await.expect("starts");
        let drained = threads.spawn(started.component.drained);
        Controller { trigger, drained, registry, port: started.webhook.port(), threads: Some(threads) }
    }
}

pub(crate) struct Controller {
    trigger: ShutdownTrigger,
    drained: tokio::task::JoinHandle<runtime::Ended>,
    pub(crate) registry: prometheus::Registry,
    pub(crate) port: u16,
    /// Of its own, which end with it as those of a process do.
    threads: Option<tokio::runtime::Runtime>,
}

impl Drop for Controller {
    fn drop(&mut self) {
        // A runtime that is dropped waits, which nothing that is polled may do.
        self.threads.take().into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
    }
}

impl Controller {
    pub(crate) async fn stop(mut self) {
        self.trigger.ask();
        (&mut self.drained).await.expect("ended").expect("well");
    }

    /// As if the process was killed: it neither ends its calls nor gives its lease back.
    pub(crate) fn kill(mut self) {
        self.threads.take().expect("it runs").shutdown_background();
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        // One with labels is absent until it is counted.
        let metrics = families.iter().filter(|f| f.name() == name).flat_map(|f| f.get_metric());
        metrics.map(|m| m.get_gauge().get_value() + m.get_counter().get_value()).sum()
    }
}
