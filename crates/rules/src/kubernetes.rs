//! The documents as custom resources: their status, and the manifests that make an API server know them.
//!
//! The specs are those of [`crate::document`], from which the schemas derive; here is what a schema says beyond the types: bounds, and
//! rules in CEL, which the API server checks before anybody is asked. They are written as a table of paths and not as attributes, so that
//! the documents read the same with and without Kubernetes; the price is that a path can name nothing, which [`manifests`] refuses.
//! What a schema cannot say, such as the syntax of an expression, is for the admission of the controller.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResourceExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use crate::document::{
    AlertRuleResource as AlertRule, AlertRuleSpec, NotificationChannelResource as NotificationChannel,
    NotificationChannelSpec,
};
use crate::{Error, yaml};

/// How a rule is; written by the controller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AlertRuleStatus {
    /// The generation that all of this is about; -1 before the controller saw the rule.
    pub observed_generation: i64,
    /// Inactive, Pending, Firing, Recovering, NoData, Error, Paused, or Invalid for a rule that is not in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Series that fire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firing: Option<i64>,
    /// Series that are pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<i64>,
    /// Since when: of the oldest firing series, else of the oldest pending one, else of the change to this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Value of that series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// When a notification was delivered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_notification: Option<String>,
    /// Streaming (evaluated as samples arrive) or Interval (evaluated over the storage).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// How long the last evaluation took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// Why the last evaluation or delivery failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The installation of Weir that evaluates it: namespace and name of its controller's lease. Others leave the rule alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
    /// Ready, with the reason where it is not.
    pub conditions: Vec<Condition>,
}

/// How a channel is; written by the controller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ChannelStatus {
    /// The generation that all of this is about; -1 before the controller saw the channel.
    pub observed_generation: i64,
    /// The kind of receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
    /// The host that is called, where it is not secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The installation of Weir that uses it: namespace and name of its controller's lease. Others leave the channel alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
    /// Ready, with the reason where it is not.
    pub conditions: Vec<Condition>,
}

/// Durations in Prometheus' notation, as `model::time` reads them.
const DURATION: &str = "^(0|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$";
/// Longest text of a duration.
const DURATION_CHARS: u32 = 40;

/// What the schema of a rule says beyond its types: a path below the schema's root, and keywords.
fn rule_bounds() -> Vec<(&'static str, Value)> {
    let duration = || json!({"minLength": 1, "maxLength": DURATION_CHARS, "pattern": DURATION});
    vec![
        // Half of what the parser takes, in characters, so that bytes are within it for most scripts; the rest is for admission.
        ("spec.expr", json!({"minLength": 1, "maxLength": 32768})),
        ("spec.for", duration()),
        ("spec.keepFiringFor", duration()),
        ("spec.interval", duration()),
        // Alertmanager's receivers show some dozens; a template that is longer than a page is a mistake.
        ("spec.labels", json!({"maxProperties": 64})),
        ("spec.labels.*", json!({"maxLength": 4096})),
        ("spec.annotations", json!({"maxProperties": 64})),
        ("spec.annotations.*", json!({"maxLength": 16384})),
        // Two names and a slash.
        (
            "spec.channel",
            json!({"minLength": 1, "maxLength": 317, "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"}),
        ),
        (
            "spec",
            json!({"x-kubernetes-validations": [
                {"rule": "!has(self.labels) || !('__name__' in self.labels)", "message": "the label __name__ cannot be set", "fieldPath": ".labels"},
            ]}),
        ),
        ("status", json!({"default": {"observedGeneration": -1}})),
        ("status.state", json!({"maxLength": 32})),
        ("status.since", json!({"format": "date-time", "maxLength": 64})),
        ("status.lastNotification", json!({"format": "date-time", "maxLength": 64})),
        ("status.value", json!({"maxLength": 64})),
        ("status.mode", json!({"maxLength": 32})),
        ("status.cost", json!({"maxLength": 32})),
        ("status.lastError", json!({"maxLength": 4096})),
        ("status.managedBy", json!({"maxLength": 317})),
        ("status.conditions", conditions()),
    ]
}

/// What the schema of a channel says beyond its types.
fn channel_bounds() -> Vec<(&'static str, Value)> {
    // Names of Secrets and of their keys, as the API server bounds them.
    let name = || json!({"minLength": 1, "maxLength": 253, "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"});
    let key = || json!({"minLength": 1, "maxLength": 253, "pattern": "^[-._a-zA-Z0-9]+$"});
    let names_of_headers = |field: &str| {
        json!({"maxProperties": 32, "x-kubernetes-validations": [{
            "rule": "self.all(name, name.size() <= 128 && name.matches('^[-!#$%&*+.^_`|~0-9a-zA-Z]+$'))",
            "message": format!("a name under {field} is not a header that HTTP allows"),
        }]})
    };
    vec![
        (
            "spec",
            json!({"x-kubernetes-validations": [
                {"rule": "[has(self.webhook)].exists_one(given, given)", "message": "exactly one receiver is needed: webhook"},
            ]}),
        ),
        (
            "spec.webhook",
            json!({"x-kubernetes-validations": [
                {"rule": "has(self.url) != has(self.urlFrom)", "message": "exactly one of url and urlFrom is needed"},
                {"rule": "!has(self.headers) || !has(self.headersFrom) || self.headersFrom.all(name, !(name in self.headers))",
                 "message": "a header stands under headers and headersFrom"},
            ]}),
        ),
        (
            "spec.webhook.url",
            json!({"maxLength": 2048, "x-kubernetes-validations": [{
                "rule": "isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''",
                "message": "must be http://HOST… or https://HOST…",
            }]}),
        ),
        ("spec.webhook.urlFrom.secretKeyRef.name", name()),
        ("spec.webhook.urlFrom.secretKeyRef.key", key()),
        ("spec.webhook.headers", names_of_headers("headers")),
        ("spec.webhook.headers.*", json!({"maxLength": 4096})),
        ("spec.webhook.headersFrom", names_of_headers("headersFrom")),
        ("spec.webhook.headersFrom.*.secretKeyRef.name", name()),
        ("spec.webhook.headersFrom.*.secretKeyRef.key", key()),
        ("spec.webhook.timeout", json!({"minLength": 1, "maxLength": DURATION_CHARS, "pattern": DURATION})),
        ("spec.webhook.maxAlerts", json!({"minimum": 1, "maximum": 10000})),
        ("status", json!({"default": {"observedGeneration": -1}})),
        ("status.receiver", json!({"maxLength": 32})),
        ("status.target", json!({"maxLength": 300})),
        ("status.conditions", conditions()),
    ]
}

/// As the conventions of the API have it: one condition of a type.
fn conditions() -> Value {
    json!({"maxItems": 8, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]})
}

/// The manifests of the custom resources, by file name.
pub fn manifests() -> Result<Vec<(&'static str, String)>, Error> {
    let all = definitions()?;
    all.into_iter().map(|(file, definition)| Ok((file, yaml::to_string(&definition)?))).collect()
}

/// The definitions of the custom resources as the API server takes them, by the name of their file.
pub fn definitions() -> Result<Vec<(&'static str, Value)>, Error> {
    Ok(vec![
        ("alertrules.yaml", definition(&AlertRule::crd(), &rule_bounds())?),
        ("notificationchannels.yaml", definition(&NotificationChannel::crd(), &channel_bounds())?),
    ])
}

fn definition<T: Serialize>(derived: &T, bounds: &[(&str, Value)]) -> Result<Value, Error> {
    let fault = |message: &str| Error::field("schema", message);
    let mut crd = serde_json::to_value(derived).map_err(|e| fault(&e.to_string()))?;
    let schema = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").ok_or_else(|| fault("is absent"))?;
    simplify(schema);
    for (path, keywords) in bounds {
        let place = at(schema, path).ok_or_else(|| Error::field(*path, "is not in the schema"))?;
        let Value::Object(keywords) = keywords else { continue };
        place.extend(keywords.clone());
    }
    Ok(crd)
}

/// The schema of the value at a path; `*` is any value of a map.
fn at<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Map<String, Value>> {
    let mut place = schema;
    for part in path.split('.') {
        place = if part == "*" {
            place.get_mut("additionalProperties")?
        } else {
            place.get_mut("properties")?.get_mut(part)?
        };
    }
    place.as_object_mut()
}

/// Takes out what a structural schema may not have, or what the API server does not know: unknown fields are pruned or refused by the
/// server itself, and its formats are fewer.
fn simplify(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    if fields.get("additionalProperties") == Some(&Value::Bool(false)) {
        fields.remove("additionalProperties");
    }
    if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        fields.insert("format".to_owned(), json!("int64"));
    }
    // A field that may be absent: absent and null are the same, and the server drops null.
    fields.remove("nullable");
    // What the types leave out when it is empty must not become a default that is stored.
    if fields.get("default").is_some_and(|d| d.is_null() || *d == json!({}) || *d == json!([])) {
        fields.remove("default");
    }
    for nested in ["additionalProperties", "items"] {
        fields.get_mut(nested).into_iter().for_each(simplify);
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(simplify);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(file: &str) -> Value {
        let all = definitions().expect("every path of the tables is in the schemas");
        all.into_iter().find(|(name, _)| *name == file).expect("known").1
    }

    /// Calls back for every schema below one, with its path.
    fn walk(schema: &Value, path: &str, look: &mut impl FnMut(&str, &Value)) {
        look(path, schema);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(property, &format!("{path}.{name}"), look);
        }
        for nested in ["items", "additionalProperties"] {
            if schema[nested].is_object() {
                walk(&schema[nested], &format!("{path}.*"), look);
            }
        }
    }

    #[test]
    fn every_text_map_and_list_of_a_spec_has_a_bound() {
        for file in ["alertrules.yaml", "notificationchannels.yaml"] {
            let crd = crd(file);
            let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
            let mut seen = 0;
            walk(schema, "spec", &mut |path, schema| {
                let bound = match (schema["type"].as_str(), schema.get("additionalProperties")) {
                    (Some("string"), _) => "maxLength",
                    (Some("array"), _) => "maxItems",
                    (Some("object"), Some(_)) => "maxProperties",
                    _ => return,
                };
                seen += 1;
                assert!(schema[bound].is_number(), "{file}: {path} has no {bound}");
            });
            assert!(seen >= 8, "{file}: {seen}");
        }
    }

    #[test]
    fn the_columns_are_those_that_a_person_reads_and_the_status_has_its_default() {
        let rules = crd("alertrules.yaml");
        let version = &rules["spec"]["versions"][0];
        let columns: Vec<&str> = version["additionalPrinterColumns"]
            .as_array()
            .expect("columns")
            .iter()
            .filter(|c| c["priority"].as_i64().unwrap_or(0) == 0)
            .map(|c| c["name"].as_str().expect("a name"))
            .collect();
        assert_eq!(columns, ["State", "Firing", "Value", "Since", "Channel", "Age"]);
        let properties = &version["schema"]["openAPIV3Schema"]["properties"];
        assert_eq!(properties["status"]["default"], json!({"observedGeneration": -1}));
        assert_eq!(version["subresources"], json!({"status": {}}));
        assert_eq!(rules["spec"]["names"]["categories"], json!(["weir"]));
        assert_eq!(rules["spec"]["scope"], json!("Namespaced"));
        assert!(properties["spec"]["properties"]["for"].is_object(), "fields have the names of the documents");
    }

    #[test]
    fn kinds_of_receivers_that_are_not_supported_are_not_in_the_schema() {
        let channels = crd("notificationchannels.yaml");
        let spec = &channels["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        let names: Vec<&String> = spec.as_object().expect("properties").keys().collect();
        assert_eq!(names, ["webhook"]);
    }
}
