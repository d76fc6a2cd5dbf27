//! The calls that Grafana's Prometheus data source makes, with the parameters that it sends.

use model::Sample;
use serde_json::json;

use crate::support::labels;
use crate::weir::{Launch, Weir};

const T: i64 = 1_790_000_000_000;

async fn with_data(dir: &std::path::Path) -> Weir {
    let weir = Launch::new(dir).args(&["--retention", "off"]).start().await;
    let series = |instance: &str, from: f64| {
        let samples = (0..40).map(|i| Sample { t: T + i * 15_000, v: from + i as f64 }).collect();
        (labels(&[("__name__", "http_requests_total"), ("job", "api"), ("instance", instance)]), samples)
    };
    let status = weir.remote_write(&[series("a:1", 0.0), series("b:1", 100.0)]).await.expect("sent");
    assert_eq!(status, 204);
    let text = "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\nhttp_requests_total{job=\"api\",instance=\"c:1\"} 7 1790000000000\n";
    let (status, answer) = weir.post_text("/api/v1/import/prometheus", text).await;
    assert!(status == 200 || status == 204, "{status}: {answer}");
    weir
}

#[tokio::test]
async fn grafana_tests_the_data_source_and_reads_its_kind() {
    let dir = tempfile::tempdir().expect("directory");
    let weir = with_data(dir.path()).await;
    let (status, answer) = weir.post_form("/api/v1/query", &[("query", "1+1"), ("time", "1790000000")]).await;
    assert_eq!(status, 200);
    assert_eq!(answer, json!({"status": "success", "data": {"resultType": "scalar", "result": [1_790_000_000, "2"]}}));
    let (status, build) = weir.get("/api/v1/status/buildinfo").await;
    assert_eq!((status, &build["status"]), (200, &json!("success")));
    assert!(build["data"]["version"].as_str().is_some_and(|v| v.split('.').count() == 3), "{build}");
}

#[tokio::test]
async fn grafana_fills_its_pickers() {
    let dir = tempfile::tempdir().expect("directory");
    let weir = with_data(dir.path()).await;
    let (start, end) = ("1790000000", "1790000600");
    let form = [("match[]", r#"{job="api"}"#), ("start", start), ("end", end), ("limit", "40000")];
    let (status, names) = weir.post_form("/api/v1/labels", &form).await;
    assert_eq!((status, names), (200, json!({"status": "success", "data": ["__name__", "instance", "job"]})));
    let path = format!("/api/v1/label/instance/values?start={start}&end={end}&match[]=http_requests_total&limit=40000");
    assert_eq!(weir.get(&path).await, (200, json!({"status": "success", "data": ["a:1", "b:1", "c:1"]})));
    let path = format!("/api/v1/label/__name__/values?start={start}&end={end}");
    assert_eq!(weir.get(&path).await.1["data"], json!(["http_requests_total"]));
    let form = [("match[]", r#"http_requests_total{instance="a:1"}"#), ("start", start), ("end", end)];
    let (status, series) = weir.post_form("/api/v1/series", &form).await;
    assert_eq!(status, 200);
    assert_eq!(series["data"], json!([{"__name__": "http_requests_total", "instance": "a:1", "job": "api"}]));
    let (status, metadata) = weir.get("/api/v1/metadata?limit_per_metric=1").await;
    assert_eq!(status, 200);
    let expect = json!([{"type": "counter", "help": "Requests.", "unit": ""}]);
    assert_eq!(metadata["data"]["http_requests_total"], expect);
}

#[tokio::test]
async fn grafana_draws_a_panel_and_lists_rules() {
    let dir = tempfile::tempdir().expect("directory");
    let weir = with_data(dir.path()).await;
    let form = [
        ("query", "sum by (job) (rate(http_requests_total[1m]))"),
        ("start", "1790000300"),
        ("end", "1790000330"),
        ("step", "15"),
    ];
    let (status, panel) = weir.post_form("/api/v1/query_range", &form).await;
    assert_eq!(status, 200);
    let value = "0.1333333333333333";
    let points = json!([[1_790_000_300, value], [1_790_000_315, value], [1_790_000_330, value]]);
    let data = json!({"resultType": "matrix", "result": [{"metric": {"job": "api"}, "values": points}]});
    assert_eq!(panel["data"], data, "{panel}");
    let (status, rules) = weir.get("/api/v1/rules").await;
    assert_eq!((status, rules), (200, json!({"status": "success", "data": {"groups": []}})));
    let (status, alerts) = weir.get("/api/v1/alerts").await;
    assert_eq!((status, alerts), (200, json!({"status": "success", "data": {"alerts": []}})));
}

#[tokio::test]
async fn errors_have_the_shape_and_the_status_of_prometheus() {
    let dir = tempfile::tempdir().expect("directory");
    let weir = with_data(dir.path()).await;
    let (status, answer) = weir.post_form("/api/v1/query", &[("query", "sum(")]).await;
    assert_eq!((status, &answer["status"], &answer["errorType"]), (400, &json!("error"), &json!("bad_data")));
    assert!(answer["error"].as_str().is_some_and(|e| e.contains("1:5: parse error:")), "{answer}");
    let (status, answer) =
        weir.post_form("/api/v1/query_range", &[("query", "1"), ("start", "2"), ("end", "1"), ("step", "1")]).await;
    assert_eq!((status, &answer["errorType"]), (400, &json!("bad_data")));
}
