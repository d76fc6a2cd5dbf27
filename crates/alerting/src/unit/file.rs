//! A file of tests, as it is written.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Deserializer};

use super::FILE_BYTES_MAX;

/// How often rules are evaluated where nothing is said.
const INTERVAL: Duration = Duration(60_000);

/// A file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TestFile {
    #[serde(default, deserialize_with = "list")]
    pub(super) rule_files: Vec<String>,
    #[serde(default)]
    evaluation_interval: Option<Duration>,
    #[serde(default, deserialize_with = "list")]
    pub(super) group_eval_order: Vec<String>,
    #[serde(default)]
    pub(super) fuzzy_compare: bool,
    #[serde(default, deserialize_with = "list")]
    pub(super) tests: Vec<Test>,
}

/// A set of series with what is expected of them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    #[serde(default)]
    pub(super) name: String,
    /// Between two values of a series.
    #[serde(default)]
    interval: Option<Duration>,
    #[serde(default, deserialize_with = "list")]
    pub(super) input_series: Vec<InputSeries>,
    #[serde(default, deserialize_with = "list")]
    pub(super) alert_rule_test: Vec<AlertTest>,
    #[serde(default, deserialize_with = "list")]
    pub(super) promql_expr_test: Vec<ExprTest>,
    #[serde(default, deserialize_with = "map")]
    pub(super) external_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) external_url: String,
    #[serde(default)]
    pub(super) start_timestamp: Timestamp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputSeries {
    #[serde(default)]
    pub(super) series: String,
    /// A text, also where it looks like a number: `0x10` is a zero and ten more.
    #[serde(default)]
    pub(super) values: String,
}

/// What is expected of the alerts of a name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertTest {
    #[serde(default)]
    pub(super) eval_time: Duration,
    #[serde(default)]
    pub(super) alertname: String,
    #[serde(default, deserialize_with = "list")]
    pub(super) exp_alerts: Vec<ExpAlert>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpAlert {
    #[serde(default, deserialize_with = "map")]
    pub(super) exp_labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "map")]
    pub(super) exp_annotations: BTreeMap<String, String>,
}

/// What is expected of an expression.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExprTest {
    #[serde(default)]
    pub(super) expr: String,
    #[serde(default)]
    pub(super) eval_time: Duration,
    #[serde(default, deserialize_with = "list")]
    pub(super) exp_samples: Vec<ExpSample>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpSample {
    #[serde(default)]
    pub(super) labels: String,
    #[serde(default)]
    pub(super) value: Option<f64>,
    /// A native histogram; then it has no value.
    #[serde(default)]
    pub(super) histogram: String,
}

impl TestFile {
    /// Between two evaluations, in milliseconds.
    pub(super) fn interval_ms(&self) -> i64 {
        self.evaluation_interval.filter(|d| d.0 > 0).unwrap_or(INTERVAL).0
    }
}

impl Test {
    /// Between two values of a series, in milliseconds; that of evaluations where it is not said.
    pub(super) fn interval_ms(&self, file: &TestFile) -> i64 {
        self.interval.filter(|d| d.0 > 0).map_or(file.interval_ms(), |d| d.0)
    }

    /// The latest time, after the start, at which something is expected.
    pub(super) fn length_ms(&self) -> i64 {
        let alerts = self.alert_rule_test.iter().map(|test| test.eval_time.0);
        alerts.chain(self.promql_expr_test.iter().map(|test| test.eval_time.0)).max().unwrap_or(0)
    }
}

/// Milliseconds, written as `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Duration(pub(super) i64);

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        model::time::parse_duration_ms(&text).map(Duration).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&model::time::format_duration_ms(self.0))
    }
}

/// Milliseconds since the epoch, written in RFC 3339 or as seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timestamp(pub(super) i64);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        model::timestamp::parse_ms(&text).map(Timestamp).map_err(serde::de::Error::custom)
    }
}

/// A list; one that is left empty is there and has nothing in it.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

fn map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::<BTreeMap<String, String>>::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a file. The error says what is wrong, with the line where it is known.
pub(super) fn read(path: &Path) -> Result<TestFile, String> {
    let name = path.display();
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    let length = read.map_err(|e| format!("{name}: cannot be read: {e}"))?;
    if length as u64 > FILE_BYTES_MAX {
        return Err(format!("{name}: larger than {FILE_BYTES_MAX} bytes"));
    }
    let documents = rules::yaml::documents(text.strip_prefix('\u{feff}').unwrap_or(&text));
    let Some(document) = documents.first() else { return Ok(TestFile::default()) };
    // All else that is no map or list is a text.
    let is_text = |key: &str| !matches!(key, "value" | "fuzzy_compare");
    rules::yaml::from_str_with_merges(document.text, &is_text).map_err(|error| {
        let place = match &error {
            rules::Error::Yaml { line: Some(line), .. } => format!(":{}", line + document.first_line - 1),
            _ => String::new(),
        };
        let path = match &error {
            rules::Error::Yaml { path: Some(path), .. } => format!(": {path}"),
            _ => String::new(),
        };
        format!("{name}{place}{path}: {error}")
    })
}
