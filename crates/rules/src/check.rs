//! From documents to checked rules and channels. Every fault of a document is told, not only the first.

use std::collections::BTreeMap;

use promql::Features;
use promql::ast::{Expr, ValueType};

use crate::document::{API_VERSION, AlertRule, Metadata, NotificationChannel, SecretKeyRef, WebhookSpec};
use crate::prometheus::{FileRule, Group, Text};
use crate::{Alerting, Channel, Error, Kind, Rule, Template, Webhook, name, target};

/// Alerts of one webhook request, where the channel does not say. At some kilobyte each half a megabyte, which receivers accept.
const ALERTS_MAX_DEFAULT: usize = 500;
/// Timeout of one request, where the channel does not say; Alertmanager's own for a webhook.
const TIMEOUT_MS_DEFAULT: i64 = 10_000;
/// Largest expression; a parsed one takes some fifty times its text.
const EXPR_BYTES_MAX: usize = 64 << 10;

/// Collects the faults of one document.
#[derive(Default)]
struct Faults(Vec<Error>);

impl Faults {
    fn add(&mut self, path: &str, message: impl std::fmt::Display) {
        self.0.push(Error::field(path, message));
    }

    fn duration(&mut self, path: &str, text: Option<&str>) -> Option<i64> {
        let parsed = model::time::parse_duration_ms(text?);
        parsed.map_err(|e| self.add(path, e)).ok()
    }

    /// The expression, where it can be evaluated to alerts or samples.
    fn expr(&mut self, path: &str, text: &str, features: &Features) -> Option<Expr> {
        if text.len() > EXPR_BYTES_MAX {
            self.add(path, format!("longer than {EXPR_BYTES_MAX} bytes"));
            return None;
        }
        let expr = promql::parse(text, features)
            .map_err(|e| {
                let hint = e.did_you_mean().map_or_else(String::new, |name| format!("; did you mean {name:?}?"));
                self.add(path, format!("{e}{hint}{}", caret(text, e.span.start)));
            })
            .ok()?;
        match expr.value_type() {
            ValueType::InstantVector | ValueType::Scalar => Some(expr),
            other => {
                let name = if other == ValueType::String { "string" } else { "range vector" };
                self.add(path, format!("1:1: a rule needs an instant vector or a scalar, not a {name}"));
                None
            }
        }
    }

    fn templates<'a>(
        &mut self,
        path: &str,
        texts: impl Iterator<Item = (&'a str, &'a str)>,
        labels: bool,
    ) -> Vec<(String, Template)> {
        let mut out = Vec::new();
        for (name, text) in texts {
            let path = format!("{path}.{name}");
            if name.is_empty() || (labels && name == model::METRIC_NAME) {
                self.add(&path, format!("invalid label name {name:?}"));
            }
            match Template::parse(text) {
                Ok(template) => out.push((name.to_owned(), template)),
                Err(e) => self.add(&path, format!("template: {e}")),
            }
        }
        out
    }

    fn constants<'a>(
        &mut self,
        path: &str,
        texts: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Vec<(String, Template)> {
        let mut out = Vec::new();
        for (name, text) in texts {
            if name.is_empty() || name == model::METRIC_NAME {
                self.add(&format!("{path}.{name}"), format!("invalid label name {name:?}"));
            }
            out.push((name.to_owned(), Template::constant(text)));
        }
        out
    }

    fn metadata(&mut self, metadata: &Metadata) {
        for (path, name) in
            [("metadata.name", Some(&metadata.name)), ("metadata.namespace", metadata.namespace.as_ref())]
        {
            let Some(name) = name else { continue };
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            if name.is_empty() || name.len() > 253 || !name.chars().all(allowed) {
                self.add(path, format!("{name:?} is not a name: 1 to 253 of the characters a-z A-Z 0-9 - . _"));
            }
        }
    }

    /// The value of a secret, without the line end that files have.
    fn secret(&mut self, path: &str, key: &SecretKeyRef, secrets: Option<&BTreeMap<String, String>>) -> Option<String> {
        let Some(secrets) = secrets else {
            self.add(path, "refers to a Secret, which only Kubernetes has; a file gives the value itself");
            return None;
        };
        let value = secrets.get(&key.to_string()).map(|value| value.trim_end_matches(['\r', '\n']).to_owned());
        if value.is_none() {
            self.add(path, format!("there is no key {:?} in a Secret {:?} of this namespace", key.key, key.name));
        }
        value
    }

    fn header(&mut self, path: &str, name: &str, value: &str) {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) || value.chars().any(|c| c.is_control() && c != '\t') {
            self.add(path, "is not a header that HTTP allows");
        }
    }

    fn version(&mut self, version: &str) {
        if version != API_VERSION {
            self.add("apiVersion", format!("{version:?} is not known, only {API_VERSION:?}"));
        }
    }

    fn done<T>(self, value: Option<T>) -> Result<T, Vec<Error>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}

/// What Kubernetes would refuse of what a document is called.
pub(crate) fn names(metadata: &Metadata) -> Vec<Error> {
    let mut faults = Faults::default();
    let mut add = |path: String, checked: Result<(), String>| {
        if let Err(message) = checked {
            faults.add(&path, message);
        }
    };
    add("metadata.name".to_owned(), name::check_subdomain(&metadata.name));
    if let Some(namespace) = &metadata.namespace {
        add("metadata.namespace".to_owned(), name::check_label(namespace));
    }
    for (key, value) in &metadata.labels {
        let path = format!("metadata.labels.{key}");
        add(path, name::check_key(key).and_then(|()| name::check_value(value)));
    }
    for key in metadata.annotations.keys() {
        // As the API server does, which takes capitals in these keys.
        add(format!("metadata.annotations.{key}"), name::check_key(&key.to_lowercase()));
    }
    faults.0
}

/// The line of an expression and a caret under the byte.
pub(crate) fn caret(text: &str, at: usize) -> String {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |n| n + 1);
    let line = text[start..].lines().next().unwrap_or("");
    let column = before[start..].chars().count();
    // A tab is as wide in the line below as in the line.
    let indent: String = line.chars().take(column).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    format!("\n  {line}\n  {indent}{}^", " ".repeat(column.saturating_sub(line.chars().count())))
}

/// Checks a rule document. `file` is where it came from, `origin` that path as part of an identity.
pub(crate) fn alert_rule(
    document: &AlertRule,
    file: &str,
    origin: &str,
    features: &Features,
) -> Result<Rule, Vec<Error>> {
    let mut faults = Faults::default();
    faults.version(&document.api_version);
    faults.metadata(&document.metadata);
    let (metadata, spec) = (&document.metadata, &document.spec);
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let expr = faults.expr("spec.expr", &spec.expr, features);
    let for_ms = faults.duration("spec.for", spec.for_.as_deref());
    let keep_ms = faults.duration("spec.keepFiringFor", spec.keep_firing_for.as_deref());
    let interval_ms = faults.duration("spec.interval", spec.interval.as_deref());
    if interval_ms == Some(0) {
        faults.add("spec.interval", "must be longer than zero");
    }
    let labels = faults.templates("spec.labels", pairs(&spec.labels), true);
    let annotations = faults.templates("spec.annotations", pairs(&spec.annotations), false);
    if spec.channel.as_deref() == Some("") {
        faults.add("spec.channel", "is empty; leave it out for the channel \"default\"");
    }
    let group = if namespace.is_empty() { metadata.name.clone() } else { namespace.clone() };
    let uid = metadata.uid.clone().unwrap_or_else(|| identity(origin, &group, &metadata.name));
    let rule = expr.map(|expr| Rule {
        uid,
        name: metadata.name.clone(),
        group,
        namespace,
        file: file.to_owned(),
        query: spec.expr.clone(),
        expr,
        interval_ms,
        query_offset_ms: 0,
        limit: 0,
        labels,
        annotations,
        kind: Kind::Alerting(Alerting {
            for_ms: for_ms.unwrap_or(0),
            keep_firing_for_ms: keep_ms.unwrap_or(0),
            channel: spec.channel.clone(),
            paused: spec.paused,
        }),
    });
    faults.done(rule)
}

/// Checks a channel document. `secrets` has the values of what it refers to, by `secret/key`; `None` where there are no secrets, which
/// is so for files.
pub(crate) fn channel(
    document: &NotificationChannel,
    file: &str,
    secrets: Option<&BTreeMap<String, String>>,
) -> Result<Channel, Vec<Error>> {
    let mut faults = Faults::default();
    faults.version(&document.api_version);
    faults.metadata(&document.metadata);
    let spec = &document.spec;
    for (kind, value) in [("slack", &spec.slack), ("pagerduty", &spec.pagerduty), ("email", &spec.email)] {
        if value.is_some() {
            faults.add(&format!("spec.{kind}"), "channels of this kind are not supported yet, only webhook");
        }
    }
    let webhook = match &spec.webhook {
        Some(webhook) => check_webhook(webhook, secrets, &mut faults),
        None if faults.0.is_empty() => {
            faults.add("spec", "needs a receiver: webhook");
            None
        }
        None => None,
    };
    let metadata = &document.metadata;
    let id = match &metadata.namespace {
        Some(namespace) => format!("{namespace}/{}", metadata.name),
        None => metadata.name.clone(),
    };
    faults.done(webhook.map(|webhook| Channel { id, file: file.to_owned(), webhook }))
}

fn check_webhook(
    spec: &WebhookSpec,
    secrets: Option<&BTreeMap<String, String>>,
    faults: &mut Faults,
) -> Option<Webhook> {
    let (path, url) = match (&spec.url, &spec.url_from) {
        (Some(url), None) => ("spec.webhook.url", Some(url.clone())),
        (None, Some(from)) => {
            let path = "spec.webhook.urlFrom";
            (path, faults.secret(path, &from.secret_key_ref, secrets))
        }
        _ => {
            faults.add("spec.webhook", "needs exactly one of url and urlFrom");
            ("spec.webhook.url", None)
        }
    };
    if let Some(Err(reason)) = url.as_deref().map(target::check_url) {
        // Without the text, which may hold a secret.
        faults.add(path, reason);
    }
    let mut headers = Vec::new();
    for (name, value) in &spec.headers {
        faults.header(&format!("spec.webhook.headers.{name}"), name, value);
        headers.push((name.clone(), value.clone()));
    }
    for (name, from) in &spec.headers_from {
        let path = format!("spec.webhook.headersFrom.{name}");
        if spec.headers.keys().any(|other| other.eq_ignore_ascii_case(name)) {
            faults.add(&path, "stands under headers too");
        }
        if let Some(value) = faults.secret(&path, &from.secret_key_ref, secrets) {
            faults.header(&path, name, &value);
            headers.push((name.clone(), value));
        }
    }
    let timeout_ms = faults.duration("spec.webhook.timeout", spec.timeout.as_deref());
    if timeout_ms.is_some_and(|ms| ms == 0 || ms > 300_000) {
        faults.add("spec.webhook.timeout", "must be longer than zero and at most 5m");
    }
    if spec.max_alerts.is_some_and(|n| n == 0 || n > 10_000) {
        faults.add("spec.webhook.maxAlerts", "must be from 1 to 10000");
    }
    Some(Webhook {
        url: url?,
        headers,
        send_resolved: spec.send_resolved,
        timeout_ms: timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT),
        alerts_max: spec.max_alerts.unwrap_or(ALERTS_MAX_DEFAULT),
    })
}

/// What a group says of all its rules.
pub(crate) struct GroupFacts<'a> {
    group: &'a Group,
    interval_ms: Option<i64>,
    query_offset_ms: i64,
}

/// Checks what a group says of all its rules. `path` is `groups[n]`.
pub(crate) fn group<'a>(group: &'a Group, path: &str) -> Result<GroupFacts<'a>, Vec<Error>> {
    let mut faults = Faults::default();
    if group.name.is_empty() {
        faults.add(&format!("{path}.name"), "groupname must not be empty");
    }
    let text = |text: &'a Option<Text>| text.as_ref().map(|t| t.0.as_str());
    let interval_ms = faults.duration(&format!("{path}.interval"), text(&group.interval)).filter(|ms| *ms > 0);
    let query_offset_ms = faults.duration(&format!("{path}.query_offset"), text(&group.query_offset)).unwrap_or(0);
    faults.done(Some(GroupFacts { group, interval_ms, query_offset_ms }))
}

/// Checks a rule of a file in Prometheus' format. `path` is `groups[n].rules[m]`.
pub(crate) fn file_rule(
    rule: &FileRule,
    facts: &GroupFacts<'_>,
    path: &str,
    file: &str,
    origin: &str,
    features: &Features,
) -> Result<Rule, Vec<Error>> {
    let mut faults = Faults::default();
    let at = |field: &str| format!("{path}.{field}");
    let expr = faults.expr(&at("expr"), &rule.expr.0, features);
    let text = |text: &Option<Text>| text.as_ref().map(|t| t.0.clone());
    let for_ms = faults.duration(&at("for"), text(&rule.for_).as_deref());
    let keep_ms = faults.duration(&at("keep_firing_for"), text(&rule.keep_firing_for).as_deref());
    let mut labels: BTreeMap<&str, &str> = facts.group.labels.iter().map(|(n, t)| (n.as_str(), t.0.as_str())).collect();
    labels.extend(rule.labels.iter().map(|(n, t)| (n.as_str(), t.0.as_str())));
    let labels = match rule.record {
        // What is recorded is not told of one alert, so its labels are no templates.
        Some(_) => faults.constants(&at("labels"), labels.into_iter()),
        None => faults.templates(&at("labels"), labels.into_iter(), true),
    };
    let annotations = rule.annotations.iter().map(|(n, t)| (n.as_str(), t.0.as_str()));
    let annotations = faults.templates(&at("annotations"), annotations, false);
    let (name, kind) = match (&rule.alert, &rule.record) {
        (Some(alert), None) => {
            let (for_ms, keep_firing_for_ms) = (for_ms.unwrap_or(0), keep_ms.unwrap_or(0));
            (alert, Kind::Alerting(Alerting { for_ms, keep_firing_for_ms, channel: None, paused: false }))
        }
        (None, Some(record)) => {
            if for_ms.is_some() || keep_ms.is_some() || !rule.annotations.is_empty() {
                faults.add(path, "a recording rule has no for, keep_firing_for or annotations");
            }
            (record, Kind::Recording)
        }
        (None, None) => {
            faults.add(path, "one of 'record' or 'alert' must be set");
            return Err(faults.0);
        }
        (Some(_), Some(_)) => {
            faults.add(path, "only one of 'record' and 'alert' must be set");
            return Err(faults.0);
        }
    };
    if name.is_empty() {
        faults.add(path, "the name must not be empty");
    }
    let rule = expr.map(|expr| Rule {
        uid: identity(origin, &facts.group.name, name),
        name: name.clone(),
        group: facts.group.name.clone(),
        namespace: String::new(),
        file: file.to_owned(),
        query: rule.expr.0.clone(),
        expr,
        interval_ms: facts.interval_ms,
        query_offset_ms: facts.query_offset_ms,
        limit: facts.group.limit,
        labels,
        annotations,
        kind,
    });
    faults.done(rule)
}

fn pairs(map: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    map.iter().map(|(name, text)| (name.as_str(), text.as_str()))
}

fn identity(origin: &str, group: &str, name: &str) -> String {
    format!("{origin};{group};{name}")
}
