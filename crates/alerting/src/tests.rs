//! The whole component, over a log and a storage in memory, with a real receiver on a port of its own.

mod listing;
mod rulesets;
mod support;

use std::time::Duration;

use runtime::clock;
use serde_json::{Value, json};

use support::{CHANNEL, Rig, rule};

const PATIENCE: Duration = Duration::from_secs(180);

/// Looks until it is so.
async fn until(mut is: impl FnMut() -> bool) {
    let looks = async {
        while !is() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looks).await.expect("in time");
}

fn pairs(payload: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().expect("a text").to_owned();
    let alerts = payload["alerts"].as_array().expect("alerts").iter();
    alerts.map(|a| (text(&a["status"]), text(&a["labels"]["job"]))).collect()
}

fn one(status: &str, job: &str) -> Vec<(String, String)> {
    vec![(status.to_owned(), job.to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_fires_on_the_sample_that_crosses_and_resolves_exactly_once() {
    let mut rig =
        Rig::new(&rule("Down", "up == 0", ", annotations: {summary: \"{{ $labels.job }} is {{ $value }}\"}")).await;
    rig.write("a", 1.0).await;
    rig.write("a", 0.0).await;
    let firing = rig.payload().await;
    assert_eq!(pairs(&firing), one("firing", "a"));
    assert_eq!(firing["alerts"][0]["annotations"]["summary"], "a is 0");
    assert_eq!(firing["alerts"][0]["labels"]["alertname"], "Down");
    assert_eq!((&firing["status"], &firing["receiver"]), (&json!("firing"), &json!("hook")));
    let alerts = rig.get("/api/v1/alerts").await;
    let alert = &alerts["data"]["alerts"][0];
    assert_eq!((&alert["state"], &alert["value"]), (&json!("firing"), &json!("0e+00")));
    rig.write("a", 1.0).await;
    let resolved = rig.payload().await;
    assert_eq!(pairs(&resolved), one("resolved", "a"));
    assert_eq!(resolved["alerts"][0]["fingerprint"], firing["alerts"][0]["fingerprint"]);
    assert_eq!(resolved["alerts"][0]["startsAt"], firing["alerts"][0]["startsAt"]);
    // Another alert comes after everything that was owed before.
    rig.write("b", 0.0).await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "b"));
    rig.stop().await;
    let more = rig.sink.try_recv();
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_is_tried_again_in_order() {
    let mut rig = Rig::new(&rule("Down", "up == 0", "")).await;
    rig.answers(&[500, 429, 503]);
    rig.write("a", 0.0).await;
    for _ in 0..4 {
        assert_eq!(pairs(&rig.payload().await)[0], one("firing", "a")[0], "never the end before the beginning");
    }
    rig.write("a", 1.0).await;
    assert_eq!(pairs(&rig.payload().await), one("resolved", "a"));
    rig.stop().await;
    rig.start().await;
    let ledger = rig.get("/api/v1/notifications").await;
    let outcomes: Vec<&str> = ledger["data"]["attempts"]
        .as_array()
        .expect("attempts")
        .iter()
        .rev()
        .filter_map(|a| a["outcome"].as_str())
        .collect();
    assert_eq!(outcomes, ["retried", "retried", "retried", "delivered", "delivered"]);
    assert_eq!(ledger["data"]["outbox"]["size"], 0);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_beginning_and_the_end_of_an_alert_are_two_requests_in_order() {
    let mut rig = Rig::new(&rule("Down", "up == 0", "")).await;
    rig.answers(&[500; 10_000]);
    rig.write("a", 0.0).await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "a"));
    rig.write("a", 1.0).await;
    while rig.get("/api/v1/notifications").await["data"]["outbox"]["size"] != 2 {
        // Each attempt is an event after which the resolve may have been found.
        assert_eq!(pairs(&rig.payload().await), one("firing", "a"));
    }
    rig.answers(&[]);
    let mut last = one("firing", "a");
    while last == one("firing", "a") {
        last = pairs(&rig.payload().await);
    }
    assert_eq!(last, one("resolved", "a"));
    rig.stop().await;
    assert!(rig.sink.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_does_not_want_ends_is_not_told_them() {
    let mut rig = Rig::new("").await;
    let channel = CHANNEL.replace("hook'}", "hook', sendResolved: false}");
    rig.rules(&format!("{}{channel}", rule("Down", "up == 0", "")));
    assert_eq!(rig.reload().await.0, 200);
    rig.write("a", 0.0).await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "a"));
    rig.write("a", 1.0).await;
    rig.write("b", 0.0).await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "b"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_a_dead_letter_and_does_not_stop_what_follows() {
    let mut rig = Rig::new(&rule("Down", "up == 0", "")).await;
    rig.answers(&[400]);
    rig.write("a", 0.0).await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "a"));
    rig.write("a", 1.0).await;
    assert_eq!(pairs(&rig.payload().await), one("resolved", "a"));
    rig.stop().await;
    rig.start().await;
    assert_eq!(rig.get("/api/v1/notifications").await["data"]["deadLetters"], 1);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_owed_when_the_process_ended_is_delivered_by_the_next() {
    let mut rig = Rig::new(&rule("Down", "up == 0", "")).await;
    rig.answers(&[500; 10_000]);
    rig.write("a", 0.0).await;
    rig.payload().await;
    rig.stop().await;
    rig.answers(&[]);
    while rig.sink.try_recv().is_ok() {}
    rig.start().await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "a"));
    // What happens while nothing runs is seen by the next start.
    rig.stop().await;
    rig.write("a", 1.0).await;
    rig.start().await;
    assert_eq!(pairs(&rig.payload().await), one("resolved", "a"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_read_again_and_a_bad_file_keeps_what_it_had() {
    let mut rig = Rig::new(&rule("Down", "up == 0", "")).await;
    rig.write("a", 0.0).await;
    rig.payload().await;
    rig.rules(&format!("{}{CHANNEL}", rule("Down", "up ==", "")));
    let (status, answer) = rig.reload().await;
    assert_eq!(status, 500);
    assert!(answer["error"].as_str().is_some_and(|e| e.contains("spec.expr: 1:")), "{answer}");
    let shown = rig.get("/api/v1/rules").await;
    let rule_shown = &shown["data"]["groups"][0]["rules"][0];
    assert_eq!((&rule_shown["query"], &rule_shown["state"]), (&json!("up == 0"), &json!("firing")));
    assert!(rule_shown["lastError"].as_str().is_some_and(|e| e.contains("parse error")), "{rule_shown}");
    // Deleting the rule owes the resolve.
    rig.rules(CHANNEL);
    assert_eq!(rig.reload().await.0, 200);
    assert_eq!(pairs(&rig.payload().await), one("resolved", "a"));
    assert_eq!(rig.get("/api/v1/rules").await["data"]["groups"], json!([]));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_file_is_seen_without_being_asked() {
    let mut rig = Rig::new("").await;
    rig.write("a", 0.0).await;
    rig.rules(&format!("{}{CHANNEL}", rule("Down", "up == 0", "")));
    assert_eq!(pairs(&rig.payload().await), one("firing", "a"), "from the window that was read from storage");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_alerts_have_the_shape_of_prometheus() {
    let file = "---\ngroups:\n- name: g\n  interval: 30s\n  rules:\n  - record: a:b\n    expr: sum(up)\n  - alert: Up\n    expr: up == 1\n    for: 1h\n    labels: {severity: page}\n";
    let mut rig = Rig::new(&format!("{}{file}", rule("Down", "up == 0", ""))).await;
    rig.write("a", 0.0).await;
    rig.payload().await;
    let shown = rig.get("/api/v1/rules?type=alert&rule_name[]=Down").await;
    let group = &shown["data"]["groups"][0];
    assert_eq!(shown["status"], "success");
    assert_eq!((&group["name"], &group["interval"], &group["limit"]), (&json!("Down"), &json!(15), &json!(0)));
    let mut down = group["rules"][0].clone();
    for volatile in ["evaluationTime", "lastEvaluation"] {
        assert!(down.as_object_mut().expect("an object").remove(volatile).is_some(), "{volatile}");
    }
    assert!(down["alerts"][0].as_object_mut().expect("an object").remove("activeAt").is_some());
    let expect = json!({
        "state": "firing", "name": "Down", "query": "up == 0", "duration": 0, "keepFiringFor": 0, "labels": {}, "annotations": {},
        "alerts": [{"labels": {"alertname": "Down", "job": "a"}, "annotations": {}, "state": "firing", "value": "0e+00"}],
        "health": "ok", "type": "alerting"
    });
    assert_eq!(down, expect);
    let records = rig.get("/api/v1/rules?type=record").await;
    let record = &records["data"]["groups"][0]["rules"][0];
    assert_eq!(
        (&record["type"], &record["name"], &record["health"]),
        (&json!("recording"), &json!("a:b"), &json!("unknown"))
    );
    assert_eq!(record["lastError"], "recording rules are not evaluated yet");
    assert_eq!(records["data"]["groups"][0]["interval"], 30);
    assert_eq!(
        rig.get("/api/v1/rules?exclude_alerts=true&rule_name[]=Down").await["data"]["groups"][0]["rules"][0]["alerts"],
        Value::Null
    );
    assert_eq!(rig.get("/api/v1/rules?type=x").await["errorType"], "bad_data");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_stands_still_falls_behind_and_catches_up() {
    let mut rig = Rig::new(&rule("Down", "up == 0", "")).await;
    let behind = |rig: &Rig| rig.gauge("weir_alerting_lag_seconds");
    assert_eq!(behind(&rig), 0.0);
    rig.hold(true);
    let router = rig.router();
    let reload = tokio::spawn(Rig::reload_of(router));
    until(|| rig.is_held()).await;
    rig.append(clock::now_ms() - 3_600_000).await;
    until(|| behind(&rig) >= 3600.0).await;
    rig.hold(false);
    assert_eq!(reload.await.expect("answered"), 200);
    until(|| behind(&rig) == 0.0).await;
    let disk = ["size", "free"].map(|of| rig.gauge(&format!("weir_alerting_disk_{of}_bytes")));
    assert!(disk[0] > disk[1] && disk[1] >= 0.0, "{disk:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_counted_by_channel_from_zero_for_as_long_as_it_is_there() {
    let told = |delivered: f64, retried: f64| {
        let of = [("delivered", delivered), ("expired", 0.0), ("refused", 0.0), ("retried", retried), ("skipped", 0.0)];
        of.map(|(outcome, count)| (outcome.to_owned(), count)).to_vec()
    };
    let rules = rule("Down", "up == 0", "");
    let mut rig = Rig::new(&rules).await;
    assert_eq!(rig.deliveries("hook"), told(0.0, 0.0));
    rig.answers(&[500]);
    rig.write("a", 0.0).await;
    for _ in 0..2 {
        rig.payload().await;
    }
    until(|| rig.deliveries("hook") == told(1.0, 1.0)).await;
    assert_eq!(rig.deliveries("other"), told(0.0, 0.0));
    rig.rules(&rules);
    rig.reload().await;
    assert_eq!(rig.deliveries("hook"), [], "the channel is gone");
    rig.rules(&format!("{rules}{CHANNEL}"));
    rig.reload().await;
    assert_eq!(rig.deliveries("hook"), told(0.0, 0.0));
    rig.stop().await;
}
