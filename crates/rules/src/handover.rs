//! What the controller and alerting say to each other: rule sets one way, the states of their rules the other.
//!
//! A rule set belongs to a source (`kubernetes`), and has a generation that ascends. It is sent whole where the receiver has another
//! generation than the one that a change is made to, and as the change otherwise, so that one rule of ten thousand is one rule on the
//! wire. Secret values are apart from the documents: whoever keeps a rule set keeps the documents only.
//!
//! | call | answer |
//! |---|---|
//! | `PUT /api/v1/rulesets/{source}` with a [`RuleSet`] | 200 with an [`Accepted`]; 409 with [`Held`] where it has a later generation of the same epoch |
//! | `PATCH /api/v1/rulesets/{source}` with a [`RuleSetChange`] | 200 with an [`Accepted`]; 409 with [`Held`] where `base` is not what it has |
//! | `GET /api/v1/rulesets/{source}/states?epoch=&after=&wait_ms=` | 200 with [`States`]; waits for a change up to `wait_ms` |

use std::collections::BTreeMap;

use promql::Features;
use serde::{Deserialize, Serialize};

use crate::document::{AlertRule, NotificationChannel};
use crate::{Channel, Error, Rule, check};

/// Labels that a rule's selectors must have, by name: the namespace that a rule is confined to.
pub type Scope = BTreeMap<String, String>;

/// A rule as it is handed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandedRule {
    /// The document; its `metadata.uid` is the rule's identity and must be there.
    pub document: AlertRule,
    /// `metadata.generation` of the resource, told back in [`RuleState::generation`].
    pub generation: i64,
    /// Added to every selector of the expression; empty for rules that see everything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scope: Scope,
}

/// A channel as it is handed over.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandedChannel {
    /// The document, with references to secrets and none of their values.
    pub document: NotificationChannel,
    /// Values of the keys that the document refers to, by `secret/key`. Kept in memory only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
}

/// Without the secrets.
impl std::fmt::Debug for HandedChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<&String> = self.secrets.keys().collect();
        f.debug_struct("HandedChannel").field("document", &self.document.metadata).field("secrets", &keys).finish()
    }
}

/// Everything of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleSet {
    /// Chosen anew by each leader; generations of different epochs are not compared.
    pub epoch: String,
    /// Ascends within an epoch.
    pub generation: i64,
    /// All rules.
    pub rules: Vec<HandedRule>,
    /// All channels.
    pub channels: Vec<HandedChannel>,
}

/// What differs from the generation `base` of the same epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleSetChange {
    /// That of the set that is changed.
    pub epoch: String,
    /// The generation that is changed.
    pub base: i64,
    /// The generation that this makes.
    pub generation: i64,
    /// Rules that are new or other than before, by their UID.
    #[serde(default)]
    pub rules: Vec<HandedRule>,
    /// UIDs of rules that are gone.
    #[serde(default)]
    pub removed_rules: Vec<String>,
    /// Channels that are new or other than before, by namespace and name.
    #[serde(default)]
    pub channels: Vec<HandedChannel>,
    /// `namespace/name` of channels that are gone.
    #[serde(default)]
    pub removed_channels: Vec<String>,
}

/// What alerting has of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Of the set it has; empty where it has none.
    pub epoch: String,
    /// Of the set it has.
    pub generation: i64,
    /// Whether it has the secret values too: not after it was started anew, if a channel refers to any.
    pub has_secrets: bool,
}

/// A rule set was taken into use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// What alerting has now.
    pub held: Held,
    /// Documents of the request that it refused, by UID of the rule or `namespace/name` of the channel, with the reason; of these, what
    /// they said before stays in use. All others are in use.
    pub refused: BTreeMap<String, String>,
}

/// How a rule is, for its status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleState {
    /// UID of the rule.
    pub uid: String,
    /// Generation of the document that is in use.
    pub generation: i64,
    /// Whether that generation was evaluated at least once, or is paused and so needs not be.
    pub evaluated: bool,
    /// `Inactive`, `Pending`, `Firing`, `Recovering`, `NoData`, `Error` or `Paused`.
    pub state: String,
    /// Series that fire.
    pub firing: u64,
    /// Series that are pending.
    pub pending: u64,
    /// Since when it is in this state, Unix milliseconds: of the oldest firing series, else the oldest pending one, else of the change.
    pub since_ms: Option<i64>,
    /// Value of that series, as PromQL writes it.
    pub value: Option<String>,
    /// When a notification was delivered last, Unix milliseconds.
    pub last_notification_ms: Option<i64>,
    /// `Streaming` (evaluated as samples arrive) or `Interval` (over storage).
    pub mode: String,
    /// Duration of the last evaluation in microseconds.
    pub cost_us: u64,
    /// Why the last evaluation or delivery failed; empty if it did not.
    pub last_error: String,
}

/// States that changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct States {
    /// Of this run of alerting; where it is another than asked with, the states are those of all rules.
    pub epoch: String,
    /// To ask with the next time.
    pub after: u64,
    /// What it has of the source.
    pub held: Held,
    /// Rules whose state changed after what was asked with.
    pub states: Vec<RuleState>,
}

/// Checks a rule that was handed over, and confines it to its scope. Its file is `source`.
pub fn rule(handed: &HandedRule, source: &str, features: &Features) -> Result<Rule, Vec<Error>> {
    let mut rule = check::alert_rule(&handed.document, source, source, features)?;
    if handed.document.metadata.uid.as_deref().unwrap_or_default().is_empty() {
        return Err(vec![Error::field("metadata.uid", "is needed where a rule is handed over")]);
    }
    confine(&mut rule, &handed.scope)?;
    Ok(rule)
}

/// Checks a channel that was handed over, with the values of its secrets. Its file is `source`.
pub fn channel(handed: &HandedChannel, source: &str) -> Result<Channel, Vec<Error>> {
    check::channel(&handed.document, source, Some(&handed.secrets))
}

/// The selectors of a rule as PromQL writes them, each once, such as `{__name__="http_requests_total",namespace="shop"}`.
pub fn selectors(rule: &Rule) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for selector in promql::selectors(&rule.expr) {
        let matchers: Vec<String> = selector.matchers.iter().map(ToString::to_string).collect();
        let text = format!("{{{}}}", matchers.join(","));
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

/// The id of the channel of a rule: as `namespace/name` says, else that of the name in the rule's own namespace. Without a name, that of the
/// default channel there.
pub fn channel_id(namespace: &str, channel: Option<&str>) -> String {
    let wanted = channel.unwrap_or(crate::load::DEFAULT_CHANNEL);
    if namespace.is_empty() || wanted.contains('/') { wanted.to_owned() } else { format!("{namespace}/{wanted}") }
}

/// Adds the labels of a scope to every selector. A selector with another matcher for one of them is refused: it asks for what it may not see.
pub fn confine(rule: &mut Rule, scope: &Scope) -> Result<(), Vec<Error>> {
    let refused = promql::confine(&mut rule.expr, scope);
    let fault = |span: promql::ast::Span, label: &String| {
        let place =
            promql::ParseError::new(&rule.query, span, format!("label {label:?} must be {:?} here", scope[label]));
        Error::field("spec.expr", format!("{place}{}", check::caret(&rule.query, span.start)))
    };
    let faults: Vec<Error> = refused.iter().map(|(span, label)| fault(*span, label)).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed(expr: &str) -> HandedRule {
        let text = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: AlertRule\nmetadata: {{name: a, namespace: shop, uid: u1}}\nspec: {{expr: '{expr}'}}\n"
        );
        let document = serde_yaml::from_str(&text).expect("a document");
        HandedRule { document, generation: 3, scope: Scope::from([("namespace".to_owned(), "shop".to_owned())]) }
    }

    #[test]
    fn every_selector_is_confined_and_a_conflicting_one_is_refused_with_its_place() {
        let rule =
            rule(&handed("sum(rate(a[5m])) / on() b{namespace=\"shop\"} > 1"), "kubernetes", &Features::default());
        let rule = rule.expect("valid");
        assert_eq!(rule.uid, "u1");
        for selector in promql::selectors(&rule.expr) {
            let of_namespace = selector.matchers.iter().filter(|m| m.name == "namespace" && m.value == "shop");
            assert_eq!(of_namespace.count(), 1, "{:?}", selector.matchers);
        }
        let faults = super::rule(&handed("a + b{namespace=~\"sh.*\"}"), "kubernetes", &Features::default());
        let texts: Vec<String> = faults.expect_err("refused").iter().map(ToString::to_string).collect();
        let expect = "spec.expr: 1:5: parse error: label \"namespace\" must be \"shop\" here\n  a + b{namespace=~\"sh.*\"}\n      ^";
        assert_eq!(texts, [expect]);
    }

    #[test]
    fn a_channel_gets_the_values_of_its_secrets_and_tells_which_are_absent() {
        let text = "apiVersion: weir.dev/v1alpha1\nkind: NotificationChannel\nmetadata: {name: c, namespace: shop}\nspec: {webhook: {urlFrom: {secretKeyRef: {name: s, key: url}}, headersFrom: {Authorization: {secretKeyRef: {name: s, key: token}}}}}\n";
        let document: NotificationChannel = serde_yaml::from_str(text).expect("a document");
        let value = |key: &str, value: &str| (format!("s/{key}"), value.to_owned());
        let secrets = BTreeMap::from([value("url", "http://h/x\n"), value("token", "Bearer t")]);
        let resolved = channel(&HandedChannel { document: document.clone(), secrets }, "kubernetes").expect("valid");
        assert_eq!((resolved.id.as_str(), resolved.webhook.url.as_str()), ("shop/c", "http://h/x"));
        assert_eq!(resolved.webhook.headers, [("Authorization".to_owned(), "Bearer t".to_owned())]);
        let fault = |secrets| {
            let faults =
                channel(&HandedChannel { document: document.clone(), secrets }, "kubernetes").expect_err("refused");
            faults.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            fault(BTreeMap::from([value("url", "http://h")])),
            ["spec.webhook.headersFrom.Authorization: there is no key \"token\" in a Secret \"s\" of this namespace"]
        );
        let secret = fault(BTreeMap::from([value("url", "http://169.254.169.254/hunter2"), value("token", "t")]));
        assert!(secret.len() == 1 && !secret[0].contains("hunter2"), "{secret:?}");
    }

    #[test]
    fn a_channel_is_one_of_the_own_namespace_unless_it_says_of_which() {
        assert_eq!(channel_id("shop", Some("pager")), "shop/pager");
        assert_eq!(channel_id("shop", Some("ops/pager")), "ops/pager");
        assert_eq!(channel_id("shop", None), "shop/default");
        assert_eq!(channel_id("", Some("pager")), "pager");
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "apiVersion: weir.dev/v1alpha1\nkind: NotificationChannel\nmetadata: {name: c}\nspec: {webhook: {url: 'http://h'}}\n";
        let document = serde_yaml::from_str(text).expect("a document");
        let channel = HandedChannel { document, secrets: BTreeMap::from([("s/k".to_owned(), "hunter2".to_owned())]) };
        let shown = format!("{channel:?}");
        assert!(shown.contains("s/k") && !shown.contains("hunter2"), "{shown}");
    }
}
