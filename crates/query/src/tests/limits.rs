//! Freshness, time limits, bounds, cancellation, shutdown.

use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use model::Budget;
use tower::ServiceExt;

use super::support::{Behaviour, NOW_MS, Server};

const SERIES: &str = "/api/v1/series?match[]=up";

async fn is_pending<F: Future + ?Sized>(mut future: Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

/// Longer than any machine is busy; only a test that fails waits for it.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_storage_that_cannot_be_reached_is_no_timeout() {
    let server = Server::new();
    server.memory.unreachable.store(true, Ordering::Relaxed);
    server.refused("/api/v1/query?query=1", 503, "unavailable", "no storage node is reachable").await;
}

#[tokio::test]
async fn a_query_waits_until_it_sees_what_was_acknowledged_before() {
    let server = Server::new();
    server.memory.caught_up.send_replace(false);
    let query = server.get("/api/v1/series?match[]=late");
    tokio::pin!(query);
    assert!(is_pending(query.as_mut()).await);
    assert_eq!(server.metric("weir_query_waiting_queries"), 1.0);
    server.memory.add(&[("__name__", "late")], &[(1, 1.0)]);
    server.memory.caught_up.send_replace(true);
    assert_eq!(query.await.1, r#"{"status":"success","data":[{"__name__":"late"}]}"#);
    assert_eq!(server.metric("weir_query_waiting_queries"), 0.0);
}

#[tokio::test]
async fn a_query_that_storage_is_too_late_for_says_how_far_it_is_behind() {
    let server = Server::new();
    server.memory.caught_up.send_replace(false);
    server.memory.backlog.store(12_345, Ordering::Relaxed);
    let error = "query timed out in storage catch-up: storage is 12345 records behind what was acknowledged before the query arrived; it was given up after its limit of ";
    server.refused(&format!("{SERIES}&timeout=5ms"), 503, "timeout", &format!("{error}5ms")).await;
    server.refused("/query?name=up&timeout=1e-9", 503, "timeout", &format!("{error}1ns")).await;
    assert_eq!(server.metric("weir_query_timeouts_total"), 2.0);
}

#[tokio::test]
async fn storage_says_how_far_named_records_are_and_has_time_to_say_so() {
    let server = Server::new();
    let ask = async |timeout: &str| {
        let path = format!("{SERIES}&timeout={timeout}");
        let request = Request::get(path).header("X-Weir-Offsets", "0=7").body(Body::empty()).expect("a request");
        server.send(request).await
    };
    server.memory.caught_up.send_replace(false);
    let (status, answer) = ask("50ms").await;
    let error = r#"{"status":"error","errorType":"unavailable","error":"not caught up"}"#;
    assert_eq!((status.as_u16(), answer.as_str()), (503, error));
    assert_eq!(server.metric("weir_query_timeouts_total"), 0.0);
    // In time there, and here too late.
    server.memory.caught_up.send_replace(true);
    let (status, answer) = ask("20ms").await;
    assert!(status == 503 && answer.contains("query timed out in storage catch-up"), "{status} {answer}");
    assert_eq!(ask("60s").await.0, 200);
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_told_and_stopped() {
    let server = Server::new();
    let (events, happened) = mpsc::sync_channel(2);
    server.memory.behave(Behaviour::UntilCancelled(events));
    let path = format!("{SERIES}&timeout=1s");
    let mut query = pin!(server.refused(
        &path,
        503,
        "timeout",
        "query timed out in expression evaluation: it was given up after its limit of 1s"
    ));
    // Nobody looks at the time before it has begun.
    assert!(is_pending(query.as_mut()).await);
    assert_eq!(happened.recv_timeout(LONG), Ok("begun"));
    query.await;
    assert_eq!(happened.recv_timeout(LONG), Ok("cancelled"));
    assert_eq!(server.metric("weir_query_timeouts_total"), 1.0);
    assert_eq!(server.metric("weir_query_cancelled_total"), 0.0);
}

#[tokio::test]
async fn the_timeout_of_the_server_cannot_be_raised() {
    let server = Server::with_arguments(&["--query-timeout", "20ms"]);
    let (events, _happened) = mpsc::sync_channel(2);
    server.memory.behave(Behaviour::UntilCancelled(events));
    server
        .refused(
            &format!("{SERIES}&timeout=1h"),
            503,
            "timeout",
            "query timed out in expression evaluation: it was given up after its limit of 20ms",
        )
        .await;
}

#[tokio::test]
async fn a_query_stops_when_its_client_goes_away() {
    let server = Server::new();
    let (events, happened) = mpsc::sync_channel(2);
    server.memory.behave(Behaviour::UntilCancelled(events));
    let request = Request::get(SERIES).body(Body::empty()).expect("a request");
    let client = tokio::spawn(server.component.router.clone().oneshot(request));
    let happened = tokio::task::spawn_blocking(move || (happened.recv_timeout(LONG), happened)).await.expect("runs");
    assert_eq!(happened.0, Ok("begun"));
    client.abort();
    assert!(client.await.expect_err("was aborted").is_cancelled());
    assert_eq!(happened.1.recv_timeout(LONG), Ok("cancelled"));
    assert_eq!(server.metric("weir_query_cancelled_total"), 1.0);
    assert_eq!(server.metric("weir_query_requests_total{code=\"499\",endpoint=\"/api/v1/series\"}"), 1.0);
}

#[tokio::test]
async fn queries_beyond_the_waiting_queue_are_refused_at_once() {
    let server = Server::with_arguments(&["--query-concurrency-max", "1", "--query-waiting-max", "1"]);
    let ((begun, has_begun), (release, released)) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
    server.memory.behave(Behaviour::Hold(begun, released));
    let (first, second) = (server.get(SERIES), server.get("/api/v1/series?match[]=nosuch"));
    tokio::pin!(first, second);
    assert!(is_pending(first.as_mut()).await);
    has_begun.recv_timeout(LONG).expect("the first query runs");
    assert!(is_pending(second.as_mut()).await);
    server.refused(SERIES, 429, "too_many_requests", "too many queries: 1 run and 1 wait already").await;
    assert_eq!(server.metric("weir_query_rejected_total"), 1.0);
    assert_eq!(server.metric("weir_query_running_queries"), 1.0);
    assert_eq!(server.metric("weir_query_waiting_queries"), 1.0);
    release.send(()).expect("the first query waits");
    assert!(first.await.1.contains("a:1"));
    assert_eq!(second.await.1, r#"{"status":"success","data":[]}"#);
    assert_eq!(server.metric("weir_query_running_queries"), 0.0);
}

#[tokio::test]
async fn a_shutdown_waits_for_queries_and_takes_no_new_ones() {
    let mut server = Server::new();
    let ((begun, has_begun), (release, released)) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
    server.memory.behave(Behaviour::Hold(begun, released));
    let request = Request::get(SERIES).body(Body::empty()).expect("a request");
    let first = tokio::spawn(server.component.router.clone().oneshot(request));
    tokio::task::spawn_blocking(move || has_begun.recv_timeout(LONG))
        .await
        .expect("runs")
        .expect("the first query runs");
    server.trigger.ask();
    assert!(is_pending(server.component.drained.as_mut()).await);
    server.refused(SERIES, 503, "canceled", "query was canceled: the server is shutting down").await;
    release.send(()).expect("the first query waits");
    assert_eq!(first.await.expect("no panic").expect("an answer").status(), 200);
    server.component.drained.await.expect("drains");
}

#[tokio::test]
async fn samples_and_series_of_a_query_are_bounded() {
    let server = Server::with_arguments(&["--query-samples-max", "1"]);
    let (status, body) = server.get("/api/v1/query?query=up").await;
    assert_eq!(status, 422, "{body}");
    let error = "query processing would load too many samples into memory in query execution: 2 at once, which is 1 more than the limit of 1";
    assert!(body.contains(r#""errorType":"execution""#) && body.contains(error), "{body}");
}

#[tokio::test]
async fn a_query_that_takes_too_much_memory_fails_alone_and_says_what_to_do() {
    let memory = Budget::new("queries", 160_000);
    let server = Server::with_memory(&[], memory.clone());
    let range = |steps: i64| {
        format!("/api/v1/query_range?query=up&start={0}&end={1}&step=1", NOW_MS / 1000 - steps, NOW_MS / 1000)
    };
    // Two series of so many cells.
    let (status, body) = server.get(&range(11_000)).await;
    assert_eq!(status, 422, "{body}");
    for part in
        [r#""errorType":"execution""#, "too little memory for queries", "of 160000", "--memory-limit", "ask for less"]
    {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert_eq!(memory.held(), 0, "what failed holds nothing");
    assert_eq!(server.get(&range(100)).await.0, 200);
    assert_eq!(memory.held(), 0, "what is sent is given back");
    let others = memory.claim();
    others.take(160_000).expect("there is so much");
    let (status, body) = server.get(&range(100)).await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains(r#""errorType":"unavailable""#) && body.contains("try again later"), "{body}");
    assert_eq!(server.get("/api/v1/series?match[]=up").await.0, 503);
    assert_eq!(server.get("/api/v1/query?query=count(up)").await.0, 503);
    drop(others);
    assert_eq!(server.get(&range(100)).await.0, 200);
    assert_eq!(server.metric("weir_memory_refused_total{part=\"queries\"}"), memory.refused() as f64);
    assert!(memory.peak() <= 160_000);
}

#[tokio::test]
async fn an_answer_holds_its_memory_until_it_is_sent() {
    for path in ["query?query=up", "query_exemplars?query=up", "metadata"] {
        let memory = Budget::new("queries", 10 << 20);
        let server = Server::with_memory(&[], memory.clone());
        let request = Request::get(format!("/api/v1/{path}")).body(Body::empty()).expect("a request");
        let response = server.component.router.clone().oneshot(request).await.expect("an answer");
        assert!(memory.held() > 0, "{path}");
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        assert_eq!(memory.held(), bytes.len(), "{path}: that and nothing of the query");
        drop(bytes);
        assert_eq!(memory.held(), 0, "{path}");
    }
}

#[tokio::test]
async fn exemplars_and_metadata_that_take_too_much_memory_are_refused() {
    let memory = Budget::new("queries", 100);
    let server = Server::with_memory(&[], memory.clone());
    for path in ["query_exemplars?query=up", "metadata"] {
        let (status, body) = server.get(&format!("/api/v1/{path}")).await;
        assert_eq!(status, 422, "{path}: {body}");
        assert!(body.contains("too little memory for queries"), "{path}: {body}");
        assert_eq!(memory.held(), 0, "{path}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status() {
    let server = Server::new();
    server.get("/api/v1/label/a/values").await;
    server.get("/api/v1/label/b/values?limit=x").await;
    let count = |code| {
        server
            .metric(&format!("weir_query_requests_total{{code=\"{code}\",endpoint=\"/api/v1/label/{{name}}/values\"}}"))
    };
    assert_eq!((count(200), count(400)), (1.0, 1.0));
    let timed = "weir_query_request_duration_seconds_count{endpoint=\"/api/v1/label/{name}/values\"}";
    assert_eq!(server.metric(timed), 2.0);
}
