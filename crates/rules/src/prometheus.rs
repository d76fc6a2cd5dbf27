//! Rule files in Prometheus' own format, as they are written.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::yaml::Value;

/// A file.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// Its groups.
    #[serde(default)]
    pub groups: Vec<Group>,
}

/// Rules that Prometheus evaluates together; here they share an interval and labels.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The name, unique in the file.
    pub name: String,
    /// How often the rules are evaluated when no sample arrives.
    #[serde(default)]
    pub interval: Option<Text>,
    /// More alerts of one rule than this are an error.
    #[serde(default)]
    pub limit: usize,
    /// How far in the past the rules are evaluated.
    #[serde(default)]
    pub query_offset: Option<Text>,
    /// Labels of every rule of the group.
    #[serde(default)]
    pub labels: BTreeMap<String, Text>,
    /// The rules. Each is read on its own, so that a bad one stops only itself.
    #[serde(default)]
    pub rules: Vec<Value>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRule {
    /// Name of the alert.
    #[serde(default)]
    pub alert: Option<String>,
    /// Name of the recorded series.
    #[serde(default)]
    pub record: Option<String>,
    /// PromQL.
    pub expr: Text,
    /// How long the condition must hold.
    #[serde(default, rename = "for")]
    pub for_: Option<Text>,
    /// How long an alert goes on firing after its condition ended.
    #[serde(default)]
    pub keep_firing_for: Option<Text>,
    /// Labels; of an alert they are templates.
    #[serde(default)]
    pub labels: BTreeMap<String, Text>,
    /// Annotations; templates.
    #[serde(default)]
    pub annotations: BTreeMap<String, Text>,
}

/// Takes the fields away from the tree of a file that a file, a group and a rule do not have.
pub fn drop_unknown(file: &mut Value) {
    const GROUP: [&str; 6] = ["name", "interval", "limit", "query_offset", "labels", "rules"];
    const RULE: [&str; 7] = ["alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations"];
    keep(file, &["groups"]);
    for group in items(file, "groups") {
        keep(group, &GROUP);
        items(group, "rules").iter_mut().for_each(|rule| keep(rule, &RULE));
    }
}

fn keep(value: &mut Value, fields: &[&str]) {
    if let Value::Mapping(map) = value {
        map.retain(|key, _| key.as_str().is_none_or(|key| fields.contains(&key)));
    }
}

fn items<'a>(value: &'a mut Value, field: &str) -> &'a mut [Value] {
    match value.get_mut(field) {
        Some(Value::Sequence(items)) => items,
        _ => &mut [],
    }
}

/// A text that may be written as a whole number or a boolean without quotes, as Prometheus allows. A number with a
/// fraction needs quotes, since how it was written is lost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string (a number with a fraction needs quotes)")
            }

            fn visit_str<E: de::Error>(self, v: &str) -> Result<Text, E> {
                Ok(Text(v.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Text, E> {
                Ok(Text(v.to_string()))
            }

            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Text, E> {
                Ok(Text(v.to_string()))
            }

            fn visit_bool<E: de::Error>(self, v: bool) -> Result<Text, E> {
                Ok(Text(v.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
