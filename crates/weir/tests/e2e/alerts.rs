//! From a sample to a webhook, with documents from a folder.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

pub(crate) use crate::support::Sink;
use crate::support::until;
use crate::weir::{Launch, Weir};

pub(crate) fn write_rules(dir: &Path, url: &str, spec: &str) {
    let documents = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: NotificationChannel\nmetadata: {{name: hook}}\nspec:\n  webhook: {{url: \"{url}\"}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: AlertRule\nmetadata: {{name: TooHot}}\nspec:\n{spec}"
    );
    std::fs::create_dir_all(dir).expect("created");
    std::fs::write(dir.join("rules.yaml"), documents).expect("written");
}

#[expect(clippy::disallowed_methods, reason = "the test is the client, whose clock this is")]
pub(crate) async fn send(weir: &Weir, value: f64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let body = json!({"name": "temperature", "value": value, "timestamp": now, "labels": {"room": "a"}});
    assert_eq!(weir.post_json("/metrics", &body).await.0, 202);
}

/// Waits until every notification that is owed has been delivered and noted.
async fn outbox_is_empty(weir: &Weir) {
    until(async || {
        let (status, ledger) = weir.get("/api/v1/notifications").await;
        assert_eq!(status, 200, "{ledger}");
        if ledger["data"]["outbox"]["size"] == 0 { Ok(()) } else { Err(ledger.to_string()) }
    })
    .await;
}

pub(crate) const SPEC: &str = r#"  expr: temperature > 30
  channel: hook
  labels: {severity: page}
  annotations: {summary: "{{ $labels.room }} is at {{ $value }}"}
"#;

#[tokio::test]
async fn row_5_a_rule_fires_on_the_sample_that_crosses_and_resolves_and_each_is_told_once() {
    let dir = tempfile::tempdir().expect("directory");
    let mut sink = Sink::start().await;
    let rules = dir.path().join("rules");
    write_rules(&rules, &sink.url, SPEC);
    let weir = Launch::new(&dir.path().join("data")).args(&["--rules", rules.to_str().expect("UTF-8")]).start().await;
    // Twice round: a notification that was doubled in the first turn would be read in the second.
    for turn in 0..2 {
        send(&weir, 20.0).await;
        for value in [31.0 + f64::from(turn), 35.0, 36.0] {
            send(&weir, value).await;
        }
        let firing = sink.next().await;
        assert_eq!((&firing["version"], &firing["status"]), (&json!("4"), &json!("firing")), "{firing}");
        assert_eq!(firing["receiver"], "hook");
        let alert = &firing["alerts"][0];
        assert_eq!(alert["labels"], json!({"alertname": "TooHot", "room": "a", "severity": "page"}));
        assert!(alert["annotations"]["summary"].as_str().is_some_and(|s| s.starts_with("a is at 3")), "{alert}");
        let (_, alerts) = weir.get("/api/v1/alerts").await;
        assert_eq!(alerts["data"]["alerts"][0]["state"], "firing", "{alerts}");
        send(&weir, 20.0).await;
        let resolved = sink.next().await;
        assert_eq!((&resolved["status"], &resolved["alerts"][0]["status"]), (&json!("resolved"), &json!("resolved")));
        assert_eq!(resolved["alerts"][0]["startsAt"], alert["startsAt"]);
    }
    assert!(sink.is_quiet());
    let (status, rules) = weir.get("/api/v1/rules").await;
    assert_eq!(status, 200);
    let rule = &rules["data"]["groups"][0]["rules"][0];
    assert_eq!((&rule["name"], &rule["state"], &rule["health"]), (&json!("TooHot"), &json!("inactive"), &json!("ok")));
    assert_eq!(rule["type"], "alerting");
}

#[tokio::test]
async fn a_firing_alert_is_still_firing_after_kill_9_and_is_told_once() {
    let dir = tempfile::tempdir().expect("directory");
    let mut sink = Sink::start().await;
    let rules = dir.path().join("rules");
    write_rules(&rules, &sink.url, SPEC);
    let data = dir.path().join("data");
    let launch = || Launch::new(&data).args(&["--rules", rules.to_str().expect("UTF-8")]);
    let mut weir = launch().start().await;
    send(&weir, 40.0).await;
    let firing = sink.next().await;
    // A kill between the answer of the webhook and the ledger's commit owes a repetition, which is no fault; this is the other case.
    outbox_is_empty(&weir).await;
    weir.kill();
    let weir = launch().start().await;
    let (_, alerts) = weir.get("/api/v1/alerts").await;
    assert_eq!(alerts["data"]["alerts"][0]["state"], "firing", "{alerts}");
    send(&weir, 10.0).await;
    let resolved = sink.next().await;
    assert_eq!(resolved["status"], "resolved", "{resolved}");
    assert_eq!(resolved["alerts"][0]["startsAt"], firing["alerts"][0]["startsAt"]);
    assert_eq!(resolved["alerts"][0]["fingerprint"], firing["alerts"][0]["fingerprint"]);
    assert!(sink.is_quiet());
}

#[tokio::test]
async fn rule_files_of_prometheus_load_and_a_changed_file_is_read_again() {
    let dir = tempfile::tempdir().expect("directory");
    let rules = dir.path().join("rules.yml");
    let text = |threshold: u32| {
        format!(
            "groups:\n- name: heat\n  rules:\n  - alert: Hot\n    expr: temperature > {threshold}\n    labels: {{severity: page}}\n"
        )
    };
    std::fs::write(&rules, text(30)).expect("written");
    let weir = Launch::new(&dir.path().join("data")).args(&["--rules", rules.to_str().expect("UTF-8")]).start().await;
    let expr = |rules: &Value| rules["data"]["groups"][0]["rules"][0]["query"].as_str().map(str::to_owned);
    let (_, loaded) = weir.get("/api/v1/rules").await;
    assert_eq!(expr(&loaded).as_deref(), Some("temperature > 30"), "{loaded}");
    std::fs::write(&rules, text(40)).expect("written");
    until(async || {
        let (_, loaded) = weir.get("/api/v1/rules").await;
        if expr(&loaded).as_deref() == Some("temperature > 40") { Ok(()) } else { Err(loaded.to_string()) }
    })
    .await;
}
