//! Weir's own alert rules, `charts/weir/rules`: each fires on the history that it is for and not on one that is near to it.
//!
//! Not a test of alerting: `for` and delivery are tested where they are made. Here the rules' expressions are asked over stored history, at the
//! end of twenty minutes that are written for each case alone, so that nothing waits for time to pass.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize as _;
use serde_json::Value;

use crate::support::at;
use crate::weir::{Launch, Weir};

/// A series, its first value, and by how much it grows every [`STEP_MS`].
type Line = (&'static str, f64, f64);

/// The end of the first history.
const T: i64 = 1_790_000_000_000;
const STEP_MS: i64 = 15_000;
/// Twenty minutes.
const STEPS: i64 = 80;
/// Between the ends of two histories: longer than any rule looks back, so that they do not see each other.
const APART_MS: i64 = 3 * 3_600_000;
const DAY: f64 = 86_400.0;
/// [`T`] in seconds.
const NOW: f64 = T as f64 / 1000.0;

/// What a rule fires on, with how many series, and what it does not fire on.
struct Case {
    rule: &'static str,
    fires: &'static [Line],
    alerts: usize,
    quiet: &'static [Line],
}

const CASES: &[Case] = &[
    // The first one, as its history has to end at the time that it says.
    Case {
        rule: "weir-webhook-certificate-old",
        fires: &[(r#"weir_controller_certificate_expiry_timestamp_seconds{instance="a:1"}"#, NOW + 10.0 * DAY, 0.0)],
        alerts: 1,
        // One has been renewed, one has no certificate yet.
        quiet: &[
            (r#"weir_controller_certificate_expiry_timestamp_seconds{instance="a:1"}"#, NOW + 40.0 * DAY, 0.0),
            (r#"weir_controller_certificate_expiry_timestamp_seconds{instance="b:1"}"#, 0.0, 0.0),
        ],
    },
    Case {
        rule: "weir-component-silent",
        fires: &[
            (r#"up{job="weir/ingest"}"#, 1.0, 0.0),
            (r#"up{job="weir/queue"}"#, 1.0, 0.0),
            (r#"up{job="weir/storage"}"#, 1.0, 0.0),
            (r#"up{job="weir/runtime"}"#, 1.0, 0.0),
        ],
        alerts: 2,
        quiet: &[
            (r#"up{job="weir/ingest"}"#, 1.0, 0.0),
            (r#"up{job="weir/queue"}"#, 1.0, 0.0),
            (r#"up{job="weir/storage"}"#, 1.0, 0.0),
            (r#"up{job="weir/query"}"#, 1.0, 0.0),
            (r#"up{job="weir/alerting"}"#, 1.0, 0.0),
        ],
    },
    Case {
        rule: "weir-samples-rejected",
        fires: &[
            (r#"weir_ingest_rejected_samples_total{protocol="json",reason="syntax"}"#, 0.0, 3.0),
            (r#"weir_ingest_rejected_samples_total{protocol="json",reason="labels"}"#, 0.0, 0.0),
        ],
        alerts: 1,
        quiet: &[(r#"weir_ingest_rejected_samples_total{protocol="json",reason="syntax"}"#, 1000.0, 1.0)],
    },
    Case {
        rule: "weir-writes-fail",
        fires: &[
            (r#"weir_ingest_requests_total{protocol="json",code="2xx"}"#, 0.0, 97.0),
            (r#"weir_ingest_requests_total{protocol="json",code="5xx"}"#, 0.0, 3.0),
        ],
        alerts: 1,
        quiet: &[
            (r#"weir_ingest_requests_total{protocol="json",code="2xx"}"#, 0.0, 900.0),
            (r#"weir_ingest_requests_total{protocol="json",code="4xx"}"#, 0.0, 95.0),
            (r#"weir_ingest_requests_total{protocol="json",code="5xx"}"#, 0.0, 5.0),
        ],
    },
    Case {
        rule: "weir-writes-overloaded",
        fires: &[(r#"weir_ingest_overloaded_total{job="weir/ingest",instance="a:1"}"#, 0.0, 3.0)],
        alerts: 1,
        quiet: &[(r#"weir_ingest_overloaded_total{job="weir/ingest",instance="a:1"}"#, 500.0, 1.0)],
    },
    Case {
        rule: "weir-log-poisoned",
        fires: &[(r#"weir_queue_poisoned{job="weir/queue",instance="a:1"}"#, 1.0, 0.0)],
        alerts: 1,
        quiet: &[(r#"weir_queue_poisoned{job="weir/queue",instance="a:1"}"#, 0.0, 0.0)],
    },
    Case {
        rule: "weir-disk-full",
        fires: &[(r#"weir_queue_rejected_appends_total{instance="a:1",reason="disk_full"}"#, 0.0, 1.0)],
        alerts: 1,
        quiet: &[
            (r#"weir_queue_rejected_appends_total{instance="a:1",reason="disk_full"}"#, 9.0, 0.0),
            (r#"weir_queue_rejected_appends_total{instance="a:1",reason="waiting"}"#, 0.0, 1.0),
        ],
    },
    Case {
        rule: "weir-disk-filling",
        // One has little room; one has some, which ends within four hours. Both share a disk with another component.
        fires: &[
            (r#"weir_queue_disk_free_bytes{job="weir/queue",instance="a:1"}"#, 90e9, 0.0),
            (r#"weir_queue_disk_size_bytes{job="weir/queue",instance="a:1"}"#, 1000e9, 0.0),
            (r#"weir_storage_disk_free_bytes{job="weir/storage",instance="a:1"}"#, 90e9, 0.0),
            (r#"weir_storage_disk_size_bytes{job="weir/storage",instance="a:1"}"#, 1000e9, 0.0),
            (r#"weir_alerting_disk_free_bytes{job="weir/alerting",instance="b:1"}"#, 500e9, -0.5e9),
            (r#"weir_alerting_disk_size_bytes{job="weir/alerting",instance="b:1"}"#, 1000e9, 0.0),
        ],
        alerts: 2,
        // One is half full and grows slowly; one fills up fast, and is nearly empty.
        quiet: &[
            (r#"weir_queue_disk_free_bytes{job="weir/queue",instance="a:1"}"#, 500e9, -0.4e9),
            (r#"weir_queue_disk_size_bytes{job="weir/queue",instance="a:1"}"#, 1000e9, 0.0),
            (r#"weir_storage_disk_free_bytes{job="weir/storage",instance="b:1"}"#, 900e9, -2e9),
            (r#"weir_storage_disk_size_bytes{job="weir/storage",instance="b:1"}"#, 1000e9, 0.0),
        ],
    },
    Case {
        rule: "weir-log-removed-unread",
        fires: &[(r#"weir_queue_forced_removals_total{instance="a:1"}"#, 0.0, 1.0)],
        alerts: 1,
        quiet: &[(r#"weir_queue_forced_removals_total{instance="a:1"}"#, 3.0, 0.0)],
    },
    Case {
        rule: "weir-storage-lags",
        fires: &[(r#"weir_storage_lag_seconds{instance="a:1"}"#, 31.0, 0.0)],
        alerts: 1,
        // It has come back from far behind.
        quiet: &[(r#"weir_storage_lag_seconds{instance="a:1"}"#, 109.0, -1.0)],
    },
    Case {
        rule: "weir-storage-writes-fail",
        fires: &[(r#"weir_storage_failed_writes_total{instance="a:1",operation="flush"}"#, 0.0, 1.0)],
        alerts: 1,
        quiet: &[(r#"weir_storage_failed_writes_total{instance="a:1",operation="flush"}"#, 8.0, 0.0)],
    },
    Case {
        rule: "weir-object-storage-behind",
        fires: &[(r#"weir_storage_objects_failing{instance="a:1"}"#, 1.0, 0.0)],
        alerts: 1,
        quiet: &[(r#"weir_storage_objects_failing{instance="a:1"}"#, 0.0, 0.0)],
    },
    Case {
        rule: "weir-storage-lost-records",
        fires: &[(r#"weir_storage_lost_positions_total{instance="a:1"}"#, 0.0, 1.0)],
        alerts: 1,
        quiet: &[(r#"weir_storage_lost_positions_total{instance="a:1"}"#, 2.0, 0.0)],
    },
    Case {
        rule: "weir-storage-replica-down",
        fires: &[
            (r#"weir_storage_reader_node_up{job="weir/query",node="http://a"}"#, 1.0, 0.0),
            (r#"weir_storage_reader_node_up{job="weir/query",node="http://b"}"#, 0.0, 0.0),
            (r#"weir_storage_reader_node_up{job="weir/alerting",node="http://b"}"#, 1.0, 0.0),
        ],
        alerts: 1,
        quiet: &[
            (r#"weir_storage_reader_node_up{job="weir/query",node="http://a"}"#, 1.0, 0.0),
            (r#"weir_storage_reader_node_up{job="weir/query",node="http://b"}"#, 1.0, 0.0),
        ],
    },
    Case {
        rule: "weir-blocks-quarantined",
        fires: &[(r#"weir_storage_quarantined_blocks{instance="a:1"}"#, 1.0, 0.0)],
        alerts: 1,
        quiet: &[(r#"weir_storage_quarantined_blocks{instance="a:1"}"#, 0.0, 0.0)],
    },
    Case {
        rule: "weir-alerting-lags",
        fires: &[(r#"weir_alerting_lag_seconds{instance="a:1"}"#, 61.0, 0.0)],
        alerts: 1,
        quiet: &[
            (r#"weir_alerting_lag_seconds{instance="a:1"}"#, 139.0, -1.0),
            (r#"weir_storage_lag_seconds{instance="a:1"}"#, 900.0, 0.0),
        ],
    },
    Case {
        rule: "weir-detection-slow",
        fires: &[
            (r#"weir_alerting_detection_delay_seconds_bucket{le="0.512"}"#, 0.0, 90.0),
            (r#"weir_alerting_detection_delay_seconds_bucket{le="8.192"}"#, 0.0, 100.0),
            (r#"weir_alerting_detection_delay_seconds_bucket{le="+Inf"}"#, 0.0, 100.0),
        ],
        alerts: 1,
        quiet: &[
            (r#"weir_alerting_detection_delay_seconds_bucket{le="2.048"}"#, 0.0, 100.0),
            (r#"weir_alerting_detection_delay_seconds_bucket{le="8.192"}"#, 0.0, 100.0),
            (r#"weir_alerting_detection_delay_seconds_bucket{le="+Inf"}"#, 0.0, 100.0),
        ],
    },
    Case {
        rule: "weir-evaluation-slow",
        fires: &[
            (r#"weir_alerting_evaluation_duration_seconds_bucket{le="0.8192"}"#, 0.0, 90.0),
            (r#"weir_alerting_evaluation_duration_seconds_bucket{le="3.2768"}"#, 0.0, 100.0),
            (r#"weir_alerting_evaluation_duration_seconds_bucket{le="+Inf"}"#, 0.0, 100.0),
        ],
        alerts: 1,
        quiet: &[
            (r#"weir_alerting_evaluation_duration_seconds_bucket{le="0.8192"}"#, 0.0, 100.0),
            (r#"weir_alerting_evaluation_duration_seconds_bucket{le="3.2768"}"#, 0.0, 100.0),
            (r#"weir_alerting_evaluation_duration_seconds_bucket{le="+Inf"}"#, 0.0, 100.0),
        ],
    },
    Case {
        rule: "weir-evaluations-fail",
        fires: &[(r#"weir_alerting_evaluation_failures_total{instance="a:1"}"#, 0.0, 1.0)],
        alerts: 1,
        quiet: &[(r#"weir_alerting_evaluation_failures_total{instance="a:1"}"#, 6.0, 0.0)],
    },
    Case {
        rule: "weir-memory-exhausted",
        fires: &[
            (r#"weir_memory_refused_total{instance="a:1",part="queries"}"#, 0.0, 1.0),
            (r#"weir_memory_refused_total{instance="a:1",part="head"}"#, 0.0, 1.0),
            (r#"weir_memory_refused_total{instance="a:1",part="ingest"}"#, 9.0, 0.0),
        ],
        alerts: 2,
        quiet: &[
            (r#"weir_memory_refused_total{instance="a:1",part="queries"}"#, 7.0, 0.0),
            (r#"weir_memory_held_bytes{instance="a:1",part="queries"}"#, 0.0, 1.0),
        ],
    },
    Case {
        rule: "weir-windows-overflowed",
        fires: &[(r#"weir_alerting_window_overflowed{instance="a:1"}"#, 1.0, 0.0)],
        alerts: 1,
        quiet: &[(r#"weir_alerting_window_overflowed{instance="a:1"}"#, 0.0, 0.0)],
    },
    Case {
        rule: "weir-notifications-late",
        fires: &[(r#"weir_alerting_outbox_oldest_age_seconds{instance="a:1"}"#, 301.0, 0.0)],
        alerts: 1,
        quiet: &[(r#"weir_alerting_outbox_oldest_age_seconds{instance="a:1"}"#, 299.0, 0.0)],
    },
    Case {
        rule: "weir-channel-fails",
        // Most of all succeed; it is one channel that fails.
        fires: &[
            (r#"weir_alerting_deliveries_total{channel="team/hook",outcome="delivered"}"#, 0.0, 1.0),
            (r#"weir_alerting_deliveries_total{channel="team/hook",outcome="retried"}"#, 0.0, 2.0),
            (r#"weir_alerting_deliveries_total{channel="team/other",outcome="delivered"}"#, 0.0, 9.0),
        ],
        alerts: 1,
        // What is skipped was asked to be, and says nothing of the receiver.
        quiet: &[
            (r#"weir_alerting_deliveries_total{channel="team/hook",outcome="delivered"}"#, 0.0, 2.0),
            (r#"weir_alerting_deliveries_total{channel="team/hook",outcome="retried"}"#, 0.0, 1.0),
            (r#"weir_alerting_deliveries_total{channel="team/hook",outcome="skipped"}"#, 0.0, 9.0),
        ],
    },
    Case {
        rule: "weir-dead-letters",
        fires: &[(r#"weir_alerting_dead_letters_total{instance="a:1"}"#, 0.0, 1.0)],
        alerts: 1,
        quiet: &[(r#"weir_alerting_dead_letters_total{instance="a:1"}"#, 5.0, 0.0)],
    },
    Case {
        rule: "weir-controller-without-leader",
        fires: &[
            (r#"weir_controller_leading{instance="a:1"}"#, 0.0, 0.0),
            (r#"weir_controller_leading{instance="b:1"}"#, 0.0, 0.0),
        ],
        alerts: 1,
        quiet: &[
            (r#"weir_controller_leading{instance="a:1"}"#, 0.0, 0.0),
            (r#"weir_controller_leading{instance="b:1"}"#, 1.0, 0.0),
        ],
    },
    Case {
        rule: "weir-resources-managed-elsewhere",
        // Both replicas count them.
        fires: &[
            (r#"weir_controller_foreign_resources{kind="AlertRule",instance="a:1"}"#, 3.0, 0.0),
            (r#"weir_controller_foreign_resources{kind="AlertRule",instance="b:1"}"#, 3.0, 0.0),
            (r#"weir_controller_foreign_resources{kind="NotificationChannel",instance="a:1"}"#, 0.0, 0.0),
        ],
        alerts: 1,
        quiet: &[
            (r#"weir_controller_foreign_resources{kind="AlertRule",instance="a:1"}"#, 0.0, 0.0),
            (r#"weir_controller_resources{kind="AlertRule",instance="a:1"}"#, 9.0, 0.0),
        ],
    },
];

/// The documents of the chart's rules, by name.
pub(crate) fn rules() -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(at("charts/weir/rules")).expect("the folder of the rules") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("text");
        for document in serde_yaml::Deserializer::from_str(&text) {
            let rule = Value::deserialize(document).expect("YAML");
            assert_eq!(rule["kind"], "AlertRule", "{}", path.display());
            let name = rule["metadata"]["name"].as_str().expect("a name").to_owned();
            assert!(found.insert(name, rule).is_none(), "{}: a name is there twice", path.display());
        }
    }
    found
}

/// Twenty minutes of the lines, up to `end_ms`.
fn history(lines: &[Line], end_ms: i64) -> String {
    let mut text = String::new();
    for (series, first, grows) in lines {
        for step in 0..=STEPS {
            let (value, t) = (first + grows * step as f64, end_ms - (STEPS - step) * STEP_MS);
            text.push_str(&format!("{series} {value} {t}\n"));
        }
    }
    text
}

/// How many alerts the expression has at the end of a history of these lines.
async fn alerts(weir: &Weir, expr: &str, lines: &[Line], end_ms: i64) -> usize {
    let (status, answer) = weir.post_text("/api/v1/import/prometheus", &history(lines, end_ms)).await;
    assert_eq!(status, 204, "{answer}");
    let time = format!("{}", end_ms / 1000);
    let (status, answer) = weir.post_form("/api/v1/query", &[("query", expr), ("time", &time)]).await;
    assert_eq!(status, 200, "{expr}: {answer}");
    answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expr}: {answer}")).len()
}

#[tokio::test]
async fn every_rule_of_the_chart_fires_on_what_it_is_for_and_not_on_what_is_near() {
    let rules = rules();
    let tested: BTreeSet<&str> = CASES.iter().map(|case| case.rule).collect();
    assert_eq!(tested, rules.keys().map(String::as_str).collect(), "each rule has a case, and each case a rule");
    let dir = tempfile::tempdir().expect("directory");
    let weir = Launch::new(dir.path()).args(&["--retention", "off"]).start().await;
    // Into the past, so that no clock calls them too new.
    for (number, case) in CASES.iter().enumerate() {
        let expr = rules[case.rule]["spec"]["expr"].as_str().expect("an expression");
        let end_ms = T - 2 * number as i64 * APART_MS;
        assert_eq!(alerts(&weir, expr, case.fires, end_ms).await, case.alerts, "{} fires: {expr}", case.rule);
        assert_eq!(alerts(&weir, expr, case.quiet, end_ms - APART_MS).await, 0, "{} is quiet: {expr}", case.rule);
    }
}
