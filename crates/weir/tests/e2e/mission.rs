//! One test for each row of the table of interfaces that Weir keeps from the proof of concept it grew out of.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::until;
use crate::weir::Launch;

#[expect(clippy::disallowed_methods, reason = "the test is the client, whose clock this is")]
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

#[tokio::test]
async fn row_1_ingestion_accepts_single_metrics_and_batches_and_names_each_bad_entry() {
    let dir = tempfile::tempdir().expect("directory");
    let weir = Launch::new(dir.path()).start().await;
    let before = now_ms();

    let (status, answer) = weir.post_json("/metrics", &json!({"name": "cpu_usage", "value": 85})).await;
    assert_eq!((status, answer), (202, json!({"status": "accepted", "count": 1})));
    let (_, stored) = weir.get(&format!("/query?name=cpu_usage&start={before}&end={}", now_ms())).await;
    assert_eq!(stored[0]["value"], 85.0, "stored at the time of arrival: {stored}");

    let t = before - 1000;
    let batch = json!({"metrics": [
        {"name": "mem_usage", "value": 1.5, "timestamp": t, "labels": {"host": "a"}},
        {"name": "mem_usage", "value": 2.5, "timestamp": t, "labels": {"host": "b"}},
    ]});
    assert_eq!(weir.post_json("/metrics", &batch).await, (202, json!({"status": "accepted", "count": 2})));

    let batch = json!({"metrics": [
        {"name": "good", "value": 1, "timestamp": t},
        {"name": "bad", "value": "not a number"},
        {"value": 3},
        {"name": "good", "value": 2, "timestamp": t + 1},
    ]});
    let (status, answer) = weir.post_json("/metrics", &batch).await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(answer["count"], 2, "the good entries are kept and counted: {answer}");
    let errors = answer["errors"].as_array().expect("errors");
    assert_eq!(errors.iter().map(|e| e["index"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(2)], "{answer}");
    assert!(errors[0]["reason"].as_str().is_some_and(|r| r.contains("value")), "{answer}");
    assert!(errors[1]["reason"].as_str().is_some_and(|r| r.contains("name")), "{answer}");
    let (_, stored) = weir.get(&format!("/query?name=good&start={t}&end={}", t + 1)).await;
    assert_eq!(stored.as_array().map(Vec::len), Some(2), "{stored}");

    let (status, _) = weir.post_json("/metrics", &json!([1, 2])).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn row_2_queue_shows_depth_peak_and_total_processed() {
    let dir = tempfile::tempdir().expect("directory");
    let weir = Launch::new(dir.path()).start().await;
    for i in 0..5 {
        let (status, _) = weir.post_json("/metrics", &json!({"name": "m", "value": i})).await;
        assert_eq!(status, 202);
    }
    weir.query("m").await; // which waits until storage has read all
    let metrics = weir.metrics().await;
    let metric = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).expect("a number")
    };
    assert_eq!(metric("weir_storage_queue_depth_records "), 0.0, "storage has read everything");
    assert!((1.0..=5.0).contains(&metric("weir_storage_queue_depth_peak_records ")));
    assert_eq!(metric("weir_storage_applied_records_total "), 5.0);
    assert_eq!(metric("weir_queue_records_total "), 5.0);
    let (status, queue) = weir.get("/api/v1/queue").await;
    assert_eq!(status, 200);
    let ends: i64 = queue["partitions"].as_array().expect("partitions").iter().filter_map(|p| p["end"].as_i64()).sum();
    assert_eq!(ends, 5, "{queue}");
}

#[tokio::test]
async fn row_3_storage_expires_old_samples() {
    let dir = tempfile::tempdir().expect("directory");
    let now = now_ms();
    let hour = 3_600_000;
    {
        let weir = Launch::new(dir.path()).args(&["--retention", "off"]).start().await;
        for (t, value) in [(now - 50 * hour, 1), (now - hour, 2)] {
            let (status, answer) =
                weir.post_json("/metrics", &json!({"name": "m", "value": value, "timestamp": t})).await;
            assert_eq!(status, 202, "{answer}");
        }
        let (_, all) = weir.get(&format!("/query?name=m&start={}&end={now}", now - 100 * hour)).await;
        assert_eq!(all.as_array().map(Vec::len), Some(2), "nothing expires with retention off: {all}");
        weir.stop();
    }
    let weir = Launch::new(dir.path()).args(&["--retention", "1d"]).start().await;
    let (_, kept) = weir.get(&format!("/query?name=m&start={}&end={now}", now - 100 * hour)).await;
    assert_eq!(kept, json!([{"name": "m", "value": 2, "timestamp": now - hour}]));
    let (status, refused) =
        weir.post_json("/metrics", &json!({"name": "m", "value": 3, "timestamp": now - 50 * hour})).await;
    assert_eq!(status, 400, "{refused}");
}

#[tokio::test]
async fn row_4_query_filters_by_range_value_and_label_and_computes_percentiles() {
    let dir = tempfile::tempdir().expect("directory");
    let weir = Launch::new(dir.path()).start().await;
    let t0 = now_ms() - 60_000;
    let values = [10, 12, 15, 18, 20, 25, 30, 35, 45, 60, 80, 100, 150, 200, 500];
    let entries: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(i, v)| {
            let job = if i % 2 == 0 { "even" } else { "odd" };
            json!({"name": "latency_ms", "value": v, "timestamp": t0 + i as i64, "labels": {"job": job}})
        })
        .collect();
    assert_eq!(weir.post_json("/metrics", &json!({"metrics": entries})).await.0, 202);
    let range = format!("name=latency_ms&start={t0}&end={}", t0 + 14);

    let (_, all) = weir.get(&format!("/query?{range}")).await;
    let read: Vec<_> = all.as_array().expect("array").iter().map(|s| s["value"].as_f64().expect("number")).collect();
    assert_eq!(read, values.map(f64::from), "start and end are inclusive");
    let (_, one) = weir.get(&format!("/query?name=latency_ms&start={t0}&end={t0}")).await;
    assert_eq!(one.as_array().map(Vec::len), Some(1), "{one}");

    for (percentile, key, value) in [("50", "p50", 35), ("99", "p99", 500), ("95", "p95", 500)] {
        let (status, answer) = weir.get(&format!("/query?{range}&percentile={percentile}")).await;
        assert_eq!((status, answer), (200, json!({key: value, "count": 15})));
    }
    let (_, middle) = weir.get(&format!("/query?{range}&min_value=20&max_value=45")).await;
    assert_eq!(middle.as_array().map(Vec::len), Some(5), "{middle}");
    let (_, even) = weir.get(&format!("/query?{range}&label.job=even")).await;
    assert_eq!(even.as_array().map(Vec::len), Some(8), "{even}");
    let (status, refused) = weir.get("/query?name=latency_ms&start=x&end=1").await;
    assert_eq!(status, 400);
    assert!(refused.to_string().contains("start"), "{refused}");
}

#[tokio::test]
async fn row_6_health_tells_the_depth_of_the_queue() {
    let dir = tempfile::tempdir().expect("directory");
    let weir = Launch::new(dir.path()).start().await;
    weir.post_json("/metrics", &json!({"name": "m", "value": 1})).await;
    weir.query("m").await;
    // Over the network it is what storage said last, once a second.
    until(async || match weir.get("/health").await {
        (200, told) if told == json!({"status": "healthy", "queue_size": 0}) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
