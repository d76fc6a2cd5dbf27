//! The queries that are there, the end of one of them, and the queries of late.

use std::pin::Pin;
use std::sync::mpsc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::support::{Behaviour, Server};

const ACTIVE: &str = "/api/v1/status/active_queries";

/// Longer than any machine is busy; only a test that fails waits for it.
const LONG: Duration = Duration::from_secs(60);

async fn is_pending<F: Future + ?Sized>(mut future: Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

async fn data(server: &Server, path: &str) -> Value {
    let (status, body) = server.get(path).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    answer["data"].clone()
}

async fn active(server: &Server) -> Vec<Value> {
    data(server, ACTIVE).await.as_array().expect("a list").clone()
}

async fn delete(server: &Server, id: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
    let request = Request::delete(format!("{ACTIVE}/{id}"));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    server.send(request.body(Body::empty()).expect("a request")).await
}

const CANCELED: &str =
    r#"{"status":"error","errorType":"canceled","error":"query was canceled: it was cancelled by request"}"#;

#[tokio::test]
async fn a_query_is_listed_at_each_stage_and_no_longer_than_it_is_there() {
    let server = Server::with_arguments(&["--query-concurrency-max", "1"]);
    let ((begun, has_begun), (release, released)) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
    server.memory.behave(Behaviour::Hold(begun, released));
    server.memory.caught_up.send_replace(false);
    let first = server.get("/api/v1/query_range?query=sum(up)&start=10&end=70.5&step=15");
    let second = server.post("/api/v1/series", "match[]=up&match[]=nosuch");
    tokio::pin!(first, second);
    assert!(is_pending(first.as_mut()).await);
    let one = active(&server).await.remove(0);
    assert_eq!(
        (&one["kind"], &one["query"], &one["stage"]),
        (&"query_range".into(), &"sum(up)".into(), &"waiting for storage".into())
    );
    assert_eq!((&one["start"], &one["end"], &one["step"]), (&10.0.into(), &70.5.into(), &15.0.into()));
    assert_eq!((&one["samples_read"], &one["memory_bytes"]), (&0.into(), &0.into()));
    assert!(one["duration_seconds"].as_f64().expect("a number") >= 0.0);
    assert!(one.get("remote_addr").is_none(), "nobody knows who sent it");
    server.memory.caught_up.send_replace(true);
    assert!(is_pending(first.as_mut()).await);
    has_begun.recv_timeout(LONG).expect("the first query runs");
    assert!(is_pending(second.as_mut()).await);
    let both = active(&server).await;
    assert_eq!((&both[0]["id"], &both[0]["stage"]), (&one["id"], &"evaluating".into()));
    assert_eq!(
        (&both[1]["kind"], &both[1]["query"], &both[1]["stage"]),
        (&"series".into(), &"up nosuch".into(), &"waiting for a place".into())
    );
    assert_ne!(both[0]["id"], both[1]["id"]);
    release.send(()).expect("the first query waits");
    assert_eq!((first.await.0, second.await.0), (StatusCode::OK, StatusCode::OK));
    assert!(active(&server).await.is_empty());
}

#[tokio::test]
async fn a_cancelled_query_tells_who_asked_for_it_and_stops() {
    let server = Server::new();
    let (events, happened) = mpsc::sync_channel(2);
    server.memory.behave(Behaviour::UntilCancelled(events));
    let query = server.get("/api/v1/query?query=up");
    tokio::pin!(query);
    assert!(is_pending(query.as_mut()).await);
    assert_eq!(happened.recv_timeout(LONG), Ok("begun"));
    let id = active(&server).await[0]["id"].as_str().expect("an id").to_owned();
    let (status, body) = delete(&server, &id, &[]).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&answer["data"]["id"], &answer["data"]["query"]), (&id.as_str().into(), &"up".into()));
    assert_eq!(query.await, (StatusCode::from_u16(499).expect("a status"), CANCELED.to_owned()));
    assert_eq!(happened.recv_timeout(LONG), Ok("cancelled"));
    assert_eq!(server.metric("weir_query_cancelled_by_request_total"), 1.0);
    assert_eq!(server.metric("weir_query_cancelled_total"), 0.0);
}

#[tokio::test]
async fn a_query_that_waits_is_cancelled_without_ever_running() {
    let server = Server::new();
    server.memory.caught_up.send_replace(false);
    let query = server.get("/api/v1/labels");
    tokio::pin!(query);
    assert!(is_pending(query.as_mut()).await);
    let id = active(&server).await[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(delete(&server, &id, &[("host", "weir:9360"), ("origin", "http://weir:9360")]).await.0, 200);
    assert_eq!(query.await.1, CANCELED);
    assert!(active(&server).await.is_empty());
    let (status, body) = delete(&server, &id, &[]).await;
    let expect = format!(r#"{{"status":"error","errorType":"not_found","error":"there is no active query \"{id}\""}}"#);
    assert_eq!((status, body), (StatusCode::NOT_FOUND, expect));
    assert!(data(&server, "/api/v1/status/top_queries").await["topByCount"].as_array().expect("a list").is_empty());
}

#[tokio::test]
async fn a_page_of_another_origin_cancels_nothing() {
    let server = Server::new();
    server.memory.caught_up.send_replace(false);
    let query = server.get("/api/v1/labels");
    tokio::pin!(query);
    assert!(is_pending(query.as_mut()).await);
    let id = active(&server).await[0]["id"].as_str().expect("an id").to_owned();
    let foreign = [("host", "weir:9360"), ("origin", "http://elsewhere")];
    let (status, body) = delete(&server, &id, &foreign).await;
    assert_eq!((status.as_u16(), body.contains(r#""errorType":"forbidden""#)), (403, true), "{body}");
    // What a browser asks before it sends a DELETE.
    let request = Request::options(format!("{ACTIVE}/{id}"))
        .header("origin", "http://elsewhere")
        .header("access-control-request-method", "DELETE");
    let answer = server.component.router.clone().oneshot(request.body(Body::empty()).expect("a request"));
    let answer = answer.await.expect("an answer");
    let allowed = answer.headers()["access-control-allow-methods"].to_str().expect("text");
    assert!(!allowed.contains("DELETE"), "{allowed}");
    for method in ["GET", "POST"] {
        let request = Request::builder().method(method).uri(format!("{ACTIVE}/{id}"));
        assert_eq!(server.send(request.body(Body::empty()).expect("a request")).await.0, 405, "{method}");
    }
    assert!(is_pending(query.as_mut()).await, "it is still there");
}

#[tokio::test]
async fn a_query_that_nobody_waits_for_is_listed_until_it_has_noticed() {
    let server = Server::new();
    let ((begun, has_begun), (release, released)) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
    server.memory.behave(Behaviour::Hold(begun, released));
    {
        let query = server.get("/api/v1/query?query=up");
        tokio::pin!(query);
        assert!(is_pending(query.as_mut()).await);
        has_begun.recv_timeout(LONG).expect("the query runs");
    }
    assert_eq!(active(&server).await[0]["stage"], "stopping");
    release.send(()).expect("the query waits");
    // It has ended once its place is free again, which a shutdown waits for.
    let Server { component, trigger, .. } = server;
    trigger.ask();
    component.drained.await.expect("drains");
    let request = Request::get(ACTIVE).body(Body::empty()).expect("a request");
    let answer = component.router.oneshot(request).await.expect("an answer");
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
    assert_eq!(body, r#"{"status":"success","data":[]}"#);
}

#[tokio::test]
async fn a_long_text_is_cut_which_is_counted() {
    let server = Server::new();
    server.memory.caught_up.send_replace(false);
    let query = server.get("/query?name=up&label.job=api");
    let long = format!("query=up{{job=\"{}\"}}", "x".repeat(5000));
    let long = server.post("/api/v1/query", &long);
    tokio::pin!(query, long);
    assert!(is_pending(query.as_mut()).await);
    assert_eq!(server.metric("weir_query_texts_cut_total"), 0.0);
    assert!(is_pending(long.as_mut()).await);
    let both = active(&server).await;
    assert_eq!(both[0]["query"], r#"{__name__="up",job="api"}"#);
    let text = both[1]["query"].as_str().expect("a text");
    assert!(text.starts_with("up{job=\"xx") && text.ends_with("xx…") && text.len() < 5000, "{text}");
    assert_eq!(server.metric("weir_query_texts_cut_total"), 1.0);
}

#[tokio::test]
async fn the_queries_of_late_are_listed_in_three_orders() {
    let server = Server::new();
    for _ in 0..2 {
        assert_eq!(server.get("/api/v1/query?query=up").await.0, 200);
    }
    assert_eq!(server.get("/api/v1/query_range?query=up&start=0&end=60&step=15").await.0, 200);
    // What was evaluated and failed took its time too; what is wrong was never evaluated.
    server.memory.behave(Behaviour::Panic);
    assert_eq!(server.get("/api/v1/series?match[]=up").await.0, 500);
    assert_eq!(server.get("/api/v1/query?query=(").await.0, 400);
    let all = data(&server, "/api/v1/status/top_queries").await;
    assert_eq!((&all["topN"], &all["maxLifetime"]), (&20.into(), &"10m".into()));
    let expect = json!([
        {"count": 2, "kind": "query", "query": "up", "timeRangeSeconds": 0},
        {"count": 1, "kind": "query_range", "query": "up", "timeRangeSeconds": 60},
        {"count": 1, "kind": "series", "query": "up", "timeRangeSeconds": 0},
    ]);
    assert_eq!(all["topByCount"], expect);
    for (list, figure) in [("topByAvgDuration", "avgDurationSeconds"), ("topBySumDuration", "sumDurationSeconds")] {
        let figures: Vec<f64> =
            all[list].as_array().expect("a list").iter().map(|one| one[figure].as_f64().expect("a number")).collect();
        assert_eq!(figures.len(), 3, "{list}");
        assert!(figures.is_sorted_by(|a, b| a >= b) && figures[2] > 0.0, "{list}: {figures:?}");
    }
    let few = data(&server, "/api/v1/status/top_queries?topN=1&maxLifetime=1h30m").await;
    assert_eq!(few["maxLifetime"], "1h30m");
    assert_eq!(few["topBySumDuration"].as_array().map(Vec::len), Some(1));
    assert_eq!(server.metric("weir_query_remembered_evaluations"), 4.0);
    for (bad, reason) in [
        ("topN=0", "topN\\\": must be from 1 to 1000"),
        ("topN=1001", "must be from 1 to 1000"),
        ("topN=x", "invalid syntax"),
        ("maxLifetime=0", "must be longer than zero"),
        ("maxLifetime=x", "valid duration"),
    ] {
        let (status, body) = server.get(&format!("/api/v1/status/top_queries?{bad}")).await;
        assert!(status == 400 && body.contains(reason), "{bad}: {body}");
    }
}

#[tokio::test]
async fn of_very_many_queries_those_that_are_there_longest_are_listed() {
    let server = Server::with_arguments(&["--query-waiting-max", "2000"]);
    server.memory.caught_up.send_replace(false);
    let path = |n: usize| format!("/api/v1/query?query={n}");
    let mut all: Vec<_> = (0..1002)
        .map(|n| {
            let server = &server;
            Box::pin(async move { server.get(&path(n)).await })
        })
        .collect();
    for one in &mut all {
        assert!(is_pending(one.as_mut()).await);
    }
    let (_, body) = server.get(ACTIVE).await;
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(answer["data"].as_array().map(Vec::len), Some(1000));
    assert_eq!(answer["data"][0]["query"], "0");
    assert_eq!(answer["warnings"], json!(["2 more active queries are not shown"]));
}
