//! `GET /query` and `GET /health`.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use tower::ServiceExt;

use super::support::{Behaviour, NOW_MS, Server};

async fn check(server: &Server, path: &str, expect: &str) {
    assert_eq!(server.get(path).await, (StatusCode::OK, expect.to_owned()), "{path}");
}

#[tokio::test]
async fn samples_are_listed_by_time_with_the_labels_that_there_are() {
    let server = Server::new();
    server.memory.add(&[("__name__", "cpu"), ("job", "x")], &[(1, 85.0), (3, -0.5)]);
    server.memory.add(&[("__name__", "cpu")], &[(2, f64::NAN), (3, 1e21), (4, model::stale_nan())]);
    let first = r#"{"name":"cpu","value":85,"timestamp":1,"labels":{"job":"x"}}"#;
    let second = r#"{"name":"cpu","value":"NaN","timestamp":2}"#;
    let third = r#"{"name":"cpu","value":1e+21,"timestamp":3}"#;
    let fourth = r#"{"name":"cpu","value":-0.5,"timestamp":3,"labels":{"job":"x"}}"#;
    check(&server, "/query?name=cpu", &format!("[{first},{second},{third},{fourth}]")).await;
    check(&server, "/query?name=cpu&start=1&end=2", &format!("[{first},{second}]")).await;
    check(&server, "/query?name=cpu&start=3&end=3&label.job=x", &format!("[{fourth}]")).await;
    check(&server, "/query?name=cpu&min_value=-0.5&max_value=85", &format!("[{first},{fourth}]")).await;
    check(&server, "/query?name=cpu&min_value=86", &format!("[{third}]")).await;
    check(&server, "/query?name=nosuch", "[]").await;
}

#[tokio::test]
async fn percentiles_are_by_nearest_rank() {
    let server = Server::new();
    let values = [10.0, 12.0, 15.0, 18.0, 20.0, 25.0, 30.0, 35.0, 45.0, 60.0, 80.0, 100.0, 150.0, 200.0, 500.0];
    let samples: Vec<(i64, f64)> = values.iter().rev().enumerate().map(|(t, v)| (t as i64, *v)).collect();
    server.memory.add(&[("__name__", "latency")], &samples);
    check(&server, "/query?name=latency&percentile=50", r#"{"p50":35,"count":15}"#).await;
    check(&server, "/query?name=latency&percentile=99", r#"{"p99":500,"count":15}"#).await;
    check(&server, "/query?name=latency&percentile=0&percentile=99.9", r#"{"p0":10,"p99.9":500,"count":15}"#).await;
    check(&server, "/query?name=latency&percentile=50&max_value=20", r#"{"p50":15,"count":5}"#).await;
    check(&server, "/query?name=latency&percentile=50&start=100", r#"{"p50":null,"count":0}"#).await;
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let server = Server::new();
    for (query, name) in [
        ("", "name"),
        ("name=", "name"),
        ("name=x&start=1.5", "start"),
        ("name=x&end=now", "end"),
        ("name=x&start=2&end=1", "end"),
        ("name=x&min_value=low", "min_value"),
        ("name=x&max_value=NaN", "max_value"),
        ("name=x&min_value=2&max_value=1", "max_value"),
        ("name=x&percentile=101", "percentile"),
        ("name=x&percentile=-1", "percentile"),
        ("name=x&percentile=NaN", "percentile"),
        ("name=x&percentile=", "percentile"),
        ("name=x&label.=1", "label."),
        ("name=x&timeout=never", "timeout"),
    ] {
        let (status, body) = server.get(&format!("/query?{query}")).await;
        let begin = format!(r#"{{"status":"error","errorType":"bad_data","error":"invalid parameter \"{name}\": "#);
        assert!(status == StatusCode::BAD_REQUEST && body.starts_with(&begin), "{query}: {body}");
    }
}

#[tokio::test]
async fn more_samples_than_a_list_may_have_are_refused() {
    let server = Server::with_arguments(&["--query-samples-max", "1"]);
    let (status, body) = server.get("/query?name=up&label.job=api").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("more than 1 samples meet the request; narrow it"), "{body}");
    check(
        &server,
        "/query?name=up&label.job=api&start=1699999999999",
        r#"[{"name":"up","value":1,"timestamp":1699999999999,"labels":{"instance":"a:1","job":"api"}}]"#,
    )
    .await;
}

#[tokio::test]
async fn health_tells_the_depth_of_the_queue() {
    let server = Server::new();
    server.memory.backlog.store(17, Ordering::Relaxed);
    check(&server, "/health", r#"{"status":"healthy","queue_size":17}"#).await;
}

#[tokio::test]
async fn what_is_missing_from_an_answer_is_said() {
    let server = Server::new();
    server.memory.behave(Behaviour::Warn);
    let request = Request::get("/query?name=up&start=1800000000000").body(Body::empty()).expect("a request");
    let response = server.component.router.clone().oneshot(request).await.expect("an answer");
    assert_eq!(response.headers()["x-weir-warning"], "block 7 is in quarantine");
    let expect = r#"{"status":"success","data":[],"warnings":["block 7 is in quarantine"]}"#;
    for path in ["series?match[]=nosuch", "label/nosuch/values"] {
        server.memory.behave(Behaviour::Warn);
        check(&server, &format!("/api/v1/{path}"), expect).await;
    }
    server.memory.behave(Behaviour::Warn);
    let expect = r#"{"status":"success","data":{},"warnings":["block 7 is in quarantine"]}"#;
    check(&server, "/api/v1/metadata?metric=nosuch", expect).await;
}

#[tokio::test]
async fn native_histograms_are_answered_with_their_buckets() {
    let server = Server::new();
    for (instance, t) in [("a", NOW_MS - 1), ("b", NOW_MS - 2)] {
        server.memory.add_histogram(&[("__name__", "h"), ("instance", instance)], t);
    }
    let request = Request::get("/query?name=h").body(Body::empty()).expect("a request");
    let response = server.component.router.clone().oneshot(request).await.expect("an answer");
    let warnings: Vec<_> = response.headers().get_all("x-weir-warning").iter().collect();
    assert_eq!(warnings, ["native histograms are left out"]);
    let buckets = r#"{"count":"4","sum":"5","buckets":[[3,"-0.25","0.25","1"],[0,"0.5","1","1"],[0,"1","2","2"]]}"#;
    let one = |instance: &str| {
        format!(r#"{{"metric":{{"__name__":"h","instance":"{instance}"}},"histogram":[{},{buckets}]}}"#, NOW_MS / 1000)
    };
    let expect =
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{},{}]}}}}"#, one("a"), one("b"));
    check(&server, "/api/v1/query?query=h", &expect).await;
    let expect = format!(
        r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{}},"histograms":[[{},{}]]}}]}}}}"#,
        NOW_MS / 1000,
        buckets
            .replace(r#""4""#, r#""8""#)
            .replace(r#""5""#, r#""10""#)
            .replace(r#""2"]"#, r#""4"]"#)
            .replace(r#""1"]"#, r#""2"]"#)
    );
    let range = format!("start={0}&end={0}&step=1", NOW_MS / 1000);
    check(&server, &format!("/api/v1/query_range?query=sum(h)&{range}"), &expect).await;
}
