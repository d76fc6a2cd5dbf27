//! The documents `AlertRule` and `NotificationChannel` as they are written.
//!
//! They are the custom resources of the group `weir.dev`: what the API server adds to a resource is accepted and ignored, so that the
//! output of `kubectl get -o yaml` loads; anything else that is not known is refused, since a misspelt `keepFiringFor` must not be silent.

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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationChannelSpec {
    /// HTTP requests with Alertmanager's payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
    /// Not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<Value>,
    /// Not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagerduty: Option<Value>,
    /// Not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Value>,
}

/// A receiver of HTTP requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookSpec {
    /// `http://…` or `https://…`.
    pub url: String,
    /// Sent with every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
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
