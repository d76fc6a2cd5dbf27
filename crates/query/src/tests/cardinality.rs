//! `/api/v1/status/tsdb`, in the shape of Prometheus.

use axum::http::StatusCode;

use super::support::{Behaviour, Server};

const STATS: &str =
    r#"{"headStats":{"numSeries":3,"numLabelPairs":7,"chunkCount":6,"minTime":1699999940000,"maxTime":1699999999999}"#;

#[tokio::test]
async fn series_are_counted_by_name_label_and_value() {
    let server = Server::new();
    let names = r#""seriesCountByMetricName":[{"name":"up","value":2},{"name":"disk.free","value":1}]"#;
    let values = r#""labelValueCountByLabelName":[{"name":"__name__","value":2},{"name":"instance","value":2},{"name":"job","value":2},{"name":"a.b","value":1}]"#;
    // Twice (1+8+1+2) and once (1+8+1+9); twice (1+8+1+3); (1+3+1+3) and (1+3+1+4); (1+3+1+3).
    let bytes = r#""memoryInBytesByLabelName":[{"name":"__name__","value":43},{"name":"instance","value":26},{"name":"job","value":17},{"name":"a.b","value":8}]"#;
    let pairs = r#""seriesCountByLabelValuePair":[{"name":"__name__=up","value":2},{"name":"__name__=disk.free","value":1},{"name":"a.b=é\"","value":1},{"name":"instance=a:1","value":1},{"name":"instance=b:1","value":1},{"name":"job=\u003cdb\u003e","value":1},{"name":"job=api","value":1}]"#;
    server.check("/api/v1/status/tsdb", &format!("{STATS},{names},{values},{bytes},{pairs}}}")).await;
    let first = |list: &str| format!("{}]", &list[..=list.find('}').expect("an element")]);
    let short = [names, values, bytes, pairs].map(first).join(",");
    server.check("/api/v1/status/tsdb?limit=1", &format!("{STATS},{short}}}")).await;
}

#[tokio::test]
async fn selectors_narrow_it_down_and_a_label_can_be_looked_at() {
    let server = Server::new();
    let stats = r#"{"headStats":{"numSeries":1,"numLabelPairs":3,"chunkCount":2,"minTime":1699999940000,"maxTime":1699999999999}"#;
    let one = |key: &str, elements: &str| format!("\"{key}\":[{elements}]");
    let lists = [
        one("seriesCountByMetricName", r#"{"name":"up","value":1}"#),
        one("labelValueCountByLabelName", r#"{"name":"__name__","value":1}"#),
        one("memoryInBytesByLabelName", r#"{"name":"instance","value":13}"#),
        one("seriesCountByLabelValuePair", r#"{"name":"__name__=up","value":1}"#),
        one("seriesCountByFocusLabelValue", r#"{"name":"api","value":1}"#),
    ];
    let path = "/api/v1/status/tsdb?limit=1&match[]=up%7Bjob=%22api%22%7D&match[]=nosuch&focusLabel=job";
    server.check(path, &format!("{stats},{}}}", lists.join(","))).await;
    // Nothing that is older than the only sample of the other target.
    let (_, body) = server.get("/api/v1/status/tsdb?end=1699999940").await;
    assert!(body.contains(r#""numSeries":1,"#), "{body}");
    let none = r#"{"headStats":{"numSeries":0,"numLabelPairs":0,"chunkCount":0,"minTime":9223372036854775807,"maxTime":-9223372036854775808},"seriesCountByMetricName":[],"labelValueCountByLabelName":[],"memoryInBytesByLabelName":[],"seriesCountByLabelValuePair":[]}"#;
    server.check("/api/v1/status/tsdb?match[]=nosuch", none).await;
}

#[tokio::test]
async fn bad_parameters_are_refused_and_a_part_that_is_missing_is_told_of() {
    let server = Server::with_arguments(&["--query-series-max", "2"]);
    let refused = async |query: &str, error: &str| {
        server.refused(&format!("/api/v1/status/tsdb?{query}"), 400, "bad_data", error).await;
    };
    for bad in ["limit=0", "limit=-1", "limit=x", "limit=1.5"] {
        refused(bad, "limit must be a positive number").await;
    }
    refused("limit=10001", "limit must not exceed 10000").await;
    refused("match[]=%7B%7D", r#"invalid parameter \"match[]\": match[] must contain at least one non-empty matcher"#)
        .await;
    refused(
        "start=x",
        r#"invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp"#,
    )
    .await;
    server.refused("/api/v1/status/tsdb", 422, "execution", "too many series").await;
    server.memory.behave(Behaviour::Warn);
    let (status, body) = server.get("/api/v1/status/tsdb?match[]=up").await;
    assert!(status == StatusCode::OK && body.ends_with(r#","warnings":["block 7 is in quarantine"]}"#), "{body}");
}
