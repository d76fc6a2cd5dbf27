//! The calls that Grafana's Prometheus data source makes, with their real parameters.

use axum::http::StatusCode;

use super::support::Server;

#[tokio::test]
async fn the_data_source_is_saved_and_tested() {
    let server = Server::new();
    // The health check of the data source.
    let (status, body) = server.post("/api/v1/query", "query=1%2B1&time=1700000000.123").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body, r#"{"status":"success","data":{"resultType":"scalar","result":[1700000000.123,"2"]}}"#);
    // The version and the flavour: no `features` and no `application`, else it is taken for Mimir.
    let (_, body) = server.get("/api/v1/status/buildinfo").await;
    let expect = format!(
        r#"{{"status":"success","data":{{"version":"3.16.0","revision":"weir-{}","branch":"","buildUser":"","buildDate":"","goVersion":""}}}}"#,
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(body, expect);
}

#[tokio::test]
async fn the_metrics_browser_finds_names_labels_and_values() {
    let server = Server::new();
    server
        .check("/api/v1/label/__name__/values?start=1699996400&end=1700000000&limit=40000", r#"["disk.free","up"]"#)
        .await;
    server
        .check(
            "/api/v1/labels?start=1699996400&end=1700000000&match%5B%5D=up&limit=40000",
            r#"["__name__","instance","job"]"#,
        )
        .await;
    let (_, body) =
        server.post("/api/v1/labels", "start=1699996400&end=1700000000&match%5B%5D=%7B__name__%3D%22up%22%7D").await;
    assert_eq!(body, r#"{"status":"success","data":["__name__","instance","job"]}"#);
    server
        .check(
            "/api/v1/label/instance/values?match%5B%5D=up%7Bjob%3D%22api%22%7D&start=1699996400&end=1700000000",
            r#"["a:1"]"#,
        )
        .await;
    let (_, body) = server
        .post("/api/v1/series", "match%5B%5D=up%7Binstance%3D~%22a.%2B%22%7D&start=1699996400&end=1700000000")
        .await;
    assert_eq!(body, r#"{"status":"success","data":[{"__name__":"up","instance":"a:1","job":"api"}]}"#);
    server
        .check("/api/v1/metadata?limit_per_metric=1&metric=up", r#"{"up":[{"type":"gauge","unit":"","help":""}]}"#)
        .await;
}

#[tokio::test]
async fn a_panel_is_drawn() {
    let server = Server::new();
    let form = "query=sum+by+%28job%29+%28up%29&start=1699999985&end=1700000000&step=15";
    let (status, body) = server.post("/api/v1/query_range", form).await;
    assert_eq!(status, StatusCode::OK);
    let api = r#"{"metric":{"job":"api"},"values":[[1699999985,"0"],[1700000000,"1"]]}"#;
    let db = r#"{"metric":{"job":"<db>"},"values":[[1700000000,"0.5"]]}"#;
    assert_eq!(body, format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{db},{api}]}}}}"#));
}
