//! Tells the API server of the webhook, and keeps its certificate.
//!
//! The configuration is written by the controller once it serves, and not by who installs it: before that, every rule would be refused. An
//! owner, the ClusterRole of the installation, makes it go with that. It matches Weir's resources and nothing else, and not their
//! status, which the controller itself writes.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::args::Args;
use crate::certificate::{self, Material};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::tls::Certificate;

/// How often the Secret is read: a replica follows the certificate that another one made within this time.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long the API server waits for an answer.
const TIMEOUT_SECONDS: i64 = 5;

/// Where the API server finds the webhook.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Service { name: String, namespace: String },
    Url(String),
}

impl Place {
    /// `None` where the arguments name no place: then there is no admission.
    pub(crate) fn new(args: &Args, port: u16) -> Option<Place> {
        if let Some(url) = &args.webhook_url {
            return Some(Place::Url(url.replace(":0/", &format!(":{port}/"))));
        }
        let name = args.webhook_service.clone()?;
        Some(Place::Service { name, namespace: args.namespace.clone() })
    }

    /// What the certificate must be for.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Place::Service { name, namespace } => vec![format!("{name}.{namespace}.svc")],
            Place::Url(url) => {
                let authority = url.split('/').nth(2).unwrap_or_default();
                vec![authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_owned()]
            }
        }
    }

    fn client_config(&self, authorities: &str) -> Value {
        let bundle = ByteString(authorities.as_bytes().to_vec());
        match self {
            Place::Service { name, namespace } => json!({
                "caBundle": bundle,
                "service": {"name": name, "namespace": namespace, "path": "/validate", "port": 443},
            }),
            Place::Url(url) => json!({"caBundle": bundle, "url": url}),
        }
    }
}

/// Keeps the certificate and the configuration for as long as it is polled.
pub(crate) async fn run(client: Client, args: &Args, place: &Place, serving: &Certificate, metrics: &Metrics) {
    let mut used: Option<Material> = None;
    loop {
        match step(&client, args, place, serving, used.as_ref()).await {
            Ok(material) => {
                metrics.certificate_expiry.set(material.expires_ms / 1000);
                used = Some(material);
            }
            Err(error) => tracing::warn!(%error, "the admission webhook is not up to date; trying again"),
        }
        let pause = if used.is_some() { LOOK_EVERY } else { Duration::from_secs(1) };
        tokio::time::sleep(pause).await;
    }
}

/// The authority is believed before its certificate is served.
async fn step(
    client: &Client,
    args: &Args,
    place: &Place,
    serving: &Certificate,
    used: Option<&Material>,
) -> Result<Material, Error> {
    let name = format!("{}-webhook", args.controller_name);
    let now_ms = runtime::clock::now_ms();
    let material = certificate::shared(client, &args.namespace, &name, &place.names(), now_ms).await?;
    if used.is_none() {
        // The first one: nobody asks before the configuration is there, and whoever asks then must find it.
        serving.set(&material)?;
    }
    configure(client, args, place, &material.authorities).await?;
    if used.is_some_and(|used| *used != material) {
        serving.set(&material)?;
        tracing::info!("the certificate of the webhook was exchanged");
    }
    Ok(material)
}

async fn configure(client: &Client, args: &Args, place: &Place, authorities: &str) -> Result<(), Error> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let name = &args.controller_name;
    let mut wanted = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "weir", "app.kubernetes.io/component": "controller"}},
        "webhooks": [{
            "name": "validate.weir.dev",
            "admissionReviewVersions": ["v1"],
            "clientConfig": place.client_config(authorities),
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "sideEffects": "None",
            "timeoutSeconds": TIMEOUT_SECONDS,
            "rules": [{
                "apiGroups": ["weir.dev"],
                "apiVersions": ["v1alpha1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["alertrules", "notificationchannels"],
                "scope": "Namespaced",
            }],
        }],
    });
    if !args.watch_namespaces.is_empty() {
        // The label that the API server gives every namespace.
        wanted["webhooks"][0]["namespaceSelector"] = json!({"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": args.watch_namespaces},
        ]});
    }
    if let Some(role) = &args.owner_cluster_role {
        let roles: Api<ClusterRole> = Api::all(client.clone());
        let owner = roles.get(role).await.map_err(Error::kubernetes(format!("reading ClusterRole {role}")))?;
        wanted["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "name": role,
            "uid": owner.metadata.uid,
        }]);
    }
    // An apply that changes nothing writes nothing, but is a call; so it is read first.
    let found = api.get_opt(name).await.map_err(Error::kubernetes("reading the webhook configuration"))?;
    if found.is_some_and(|found| is_as(&found, &wanted)) {
        return Ok(());
    }
    let params = PatchParams::apply("weir-controller").force();
    api.patch(name, &params, &Patch::Apply(&wanted))
        .await
        .map_err(Error::kubernetes("applying the webhook configuration"))?;
    Ok(())
}

/// Whether everything that is wanted is there; what the API server adds does not matter.
fn is_as(found: &ValidatingWebhookConfiguration, wanted: &Value) -> bool {
    fn within(wanted: &Value, found: &Value) -> bool {
        match (wanted, found) {
            (Value::Object(w), Value::Object(f)) => w.iter().all(|(k, v)| f.get(k).is_some_and(|f| within(v, f))),
            (Value::Array(w), Value::Array(f)) => w.len() == f.len() && w.iter().zip(f).all(|(w, f)| within(w, f)),
            (w, f) => w == f,
        }
    }
    serde_json::to_value(found).is_ok_and(|found| within(wanted, &found))
}
