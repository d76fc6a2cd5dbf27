//! The documents `AlertRule` and `NotificationChannel` as they are written.
//!
//! They are the custom resources of the group `weir.dev`: what the API server adds to a resource is accepted and ignored, so that the
//! output of `kubectl get -o yaml` loads; anything else that is not known is refused, since a misspelt `keepFiringFor` must not be silent.
//!
//! With the feature `kubernetes` the same specs are also the schema of the resources: what their descriptions say is what `kubectl
//! explain` shows, and their bounds are in [`crate::kubernetes`]. There is no second definition.
#![cfg_attr(
    feature = "kubernetes",
    allow(
        clippy::duplicated_attributes,
        reason = "two columns of one type are two columns; the lint takes them for one"
    )
)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::yaml::Value;

/// `apiVersion` of the documents.
pub const API_VERSION: &str = "weir.dev/v1alpha1";

/// A rule that raises alerts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlertRule {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `AlertRule`.
    pub kind: String,
    /// Its name and more.
    pub metadata: Metadata,
    /// What it is.
    pub spec: AlertRuleSpec,
    /// What the controller wrote; not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
}

/// When an alert fires, what it says, and who is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(kube::CustomResource, schemars::JsonSchema))]
#[cfg_attr(
    feature = "kubernetes",
    kube(
        group = "weir.dev",
        version = "v1alpha1",
        kind = "AlertRule",
        root = "AlertRuleResource",
        doc = "A rule that raises alerts.",
        namespaced,
        status = "crate::kubernetes::AlertRuleStatus",
        shortname = "wrule",
        category = "weir",
        printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
        printcolumn(name = "Firing", type_ = "integer", json_path = ".status.firing"),
        printcolumn(name = "Value", type_ = "string", json_path = ".status.value"),
        printcolumn(name = "Since", type_ = "date", json_path = ".status.since"),
        printcolumn(name = "Channel", type_ = "string", json_path = ".spec.channel"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        printcolumn(
            name = "Ready",
            type_ = "string",
            priority = 1,
            json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
        ),
        printcolumn(name = "Managed By", type_ = "string", priority = 1, json_path = ".status.managedBy"),
        printcolumn(name = "Expr", type_ = "string", priority = 1, json_path = ".spec.expr")
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlertRuleSpec {
    /// PromQL; an alert for each series of its result.
    pub expr: String,
    /// How long the condition must hold: `5m`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub for_: Option<String>,
    /// How long an alert goes on firing after its condition ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_firing_for: Option<String>,
    /// Labels of its alerts; values are templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Texts of its alerts; values are templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the NotificationChannel in the same namespace, or `namespace/name`. Without it, the channel `default` if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// How often it is evaluated when no sample arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Whether it is not evaluated for now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// Where notifications go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationChannel {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `NotificationChannel`.
    pub kind: String,
    /// Its name and more.
    pub metadata: Metadata,
    /// What it is.
    pub spec: NotificationChannelSpec,
    /// What the controller wrote; not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
}

/// Exactly one kind of receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(kube::CustomResource, schemars::JsonSchema))]
#[cfg_attr(
    feature = "kubernetes",
    kube(
        group = "weir.dev",
        version = "v1alpha1",
        kind = "NotificationChannel",
        root = "NotificationChannelResource",
        doc = "Where notifications go.",
        namespaced,
        status = "crate::kubernetes::ChannelStatus",
        shortname = "wchannel",
        category = "weir",
        printcolumn(name = "Receiver", type_ = "string", json_path = ".status.receiver"),
        printcolumn(name = "Target", type_ = "string", json_path = ".status.target"),
        printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
        printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        printcolumn(name = "Managed By", type_ = "string", priority = 1, json_path = ".status.managedBy")
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationChannelSpec {
    /// HTTP requests with Alertmanager's payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
    /// Not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "kubernetes", schemars(skip))]
    pub slack: Option<Value>,
    /// Not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "kubernetes", schemars(skip))]
    pub pagerduty: Option<Value>,
    /// Not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "kubernetes", schemars(skip))]
    pub email: Option<Value>,
}

/// A receiver of HTTP requests. Exactly one of url and urlFrom says where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookSpec {
    /// `http://…` or `https://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where the URL is, if it is secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretSource>,
    /// Sent with every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Sent with every request, with secret values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers_from: BTreeMap<String, SecretSource>,
    /// Whether the end of an alert is told; yes unless it says no.
    #[serde(default = "yes")]
    pub send_resolved: bool,
    /// How long one request may take; `10s` unless it says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// How many alerts one request carries at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_alerts: Option<usize>,
}

/// Where a secret value is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretSource {
    /// A key of a Secret in the namespace of the channel.
    pub secret_key_ref: SecretKeyRef,
}

/// A key of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    pub name: String,
    /// Key in its data.
    pub key: String,
}

impl WebhookSpec {
    /// The references to secrets, with the paths at which they stand.
    pub fn references(&self) -> impl Iterator<Item = (String, &SecretKeyRef)> {
        let url = self.url_from.iter().map(|from| ("spec.webhook.urlFrom".to_owned(), &from.secret_key_ref));
        let at = |(name, from)| (format!("spec.webhook.headersFrom.{name}"), from);
        url.chain(self.headers_from.iter().map(|(name, from)| (name, &from.secret_key_ref)).map(at))
    }
}

/// `secret/key`, by which values are found.
impl std::fmt::Display for SecretKeyRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.name, self.key)
    }
}

fn yes() -> bool {
    true
}

/// Name, namespace and what the API server adds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// The name.
    pub name: String,
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// For selecting documents; not labels of alerts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Given by the API server; the identity of a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Given by the API server; not read.
    #[serde(default, skip_serializing)]
    pub creation_timestamp: Option<Value>,
    /// Given by the API server; not read.
    #[serde(default, skip_serializing)]
    pub deletion_grace_period_seconds: Option<Value>,
    /// What the API server made the name of; not read.
    #[serde(default, skip_serializing)]
    pub generate_name: Option<Value>,
    /// Given by the API server; not read.
    #[serde(default, skip_serializing)]
    pub self_link: Option<Value>,
    /// Given by the API server; not read.
    #[serde(default, skip_serializing)]
    pub deletion_timestamp: Option<Value>,
    /// Given by the API server; not read.
    #[serde(default, skip_serializing)]
    pub generation: Option<Value>,
    /// Given by the API server; not read.
    #[serde(default, skip_serializing)]
    pub resource_version: Option<Value>,
    /// Given by the API server; not read.
    #[serde(default, skip_serializing)]
    pub managed_fields: Option<Value>,
    /// Given by the API server; not read.
    #[serde(default, skip_serializing)]
    pub owner_references: Option<Value>,
    /// Given by the API server; not read.
    #[serde(default, skip_serializing)]
    pub finalizers: Option<Value>,
}
