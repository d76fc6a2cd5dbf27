//! Compressed answers as clients get them, and what happens to the work when one goes away.

use std::io::Read as _;
use std::sync::mpsc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use tower::ServiceExt as _;

use super::support::{Behaviour, NOW_MS, Server};

const LARGE: &str = "/api/v1/query_range?query=many&start=1699990000&end=1700000000&step=1";

fn many() -> Server {
    let server = Server::new();
    let samples: Vec<(i64, f64)> = (0..10_001).map(|n| (NOW_MS - 10_000_000 + n * 1000, n as f64)).collect();
    server.memory.add(&[("__name__", "many"), ("host", "a")], &samples);
    server
}

async fn ask(server: &Server, path: &str, accept: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
    let request = Request::get(path).header("accept-encoding", accept).header("origin", "http://x");
    let response = server.component.router.clone().oneshot(request.body(Body::empty()).expect("a request"));
    let (parts, body) = response.await.expect("an answer").into_parts();
    let body = axum::body::to_bytes(body, 1 << 30).await.expect("a body");
    (parts.status, parts.headers, body.to_vec())
}

pub(super) fn unpack(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).expect("gzip"),
        "zstd" => zstd::Decoder::new(bytes).expect("a decoder").read_to_end(&mut out).expect("Zstandard"),
        other => panic!("{other}"),
    };
    out
}

#[tokio::test]
async fn a_large_answer_is_the_same_in_every_coding() {
    let server = many();
    let (status, headers, plain) = ask(&server, LARGE, "identity").await;
    assert_eq!((status, headers.get("content-encoding")), (StatusCode::OK, None));
    assert!(plain.len() > 150_000, "{} bytes", plain.len());
    let varies: Vec<_> = headers.get_all("vary").iter().collect();
    assert_eq!(varies, ["Accept-Encoding", "Origin"]);
    for coding in ["gzip", "zstd"] {
        let (status, headers, packed) = ask(&server, LARGE, coding).await;
        assert_eq!((status, &headers["content-encoding"]), (StatusCode::OK, &HeaderValue::from_static(coding)));
        assert_eq!(headers["content-length"].to_str().expect("text"), packed.len().to_string());
        assert_eq!(headers["content-type"], "application/json");
        assert!(packed.len() * 3 < plain.len(), "{coding}: {} of {}", packed.len(), plain.len());
        assert_eq!(unpack(coding, &packed), plain);
        let told = format!("weir_query_answer_bytes_total{{coding=\"{coding}\"}}");
        assert_eq!(server.metric(&told), packed.len() as f64);
    }
    assert_eq!(server.metric("weir_query_requests_total{code=\"200\",endpoint=\"/api/v1/query_range\"}"), 3.0);
}

#[tokio::test]
async fn the_status_page_is_compressed_and_small_answers_are_not() {
    let server = Server::new();
    let (_, headers, packed) = ask(&server, "/", "gzip").await;
    assert_eq!(headers["content-encoding"], "gzip");
    assert_eq!(unpack("gzip", &packed), include_bytes!("../ui/index.html"));
    let (status, headers, body) = ask(&server, "/api/v1/query?query=1", "gzip").await;
    assert_eq!((status, headers.get("content-encoding")), (StatusCode::OK, None));
    assert!(body.starts_with(b"{\"status\":\"success\""));
    // But where nothing else is accepted.
    let (_, headers, small) = ask(&server, "/api/v1/query?query=1&time=0", "gzip, identity;q=0").await;
    assert_eq!(headers["content-encoding"], "gzip");
    assert_eq!(unpack("gzip", &small), br#"{"status":"success","data":{"resultType":"scalar","result":[0,"1"]}}"#);
}

#[tokio::test]
async fn who_takes_nothing_that_there_is_is_told_so() {
    let server = Server::new();
    for accept in ["*;q=0", "br, identity;q=0"] {
        let (status, headers, body) = ask(&server, "/api/v1/query?query=1", accept).await;
        assert_eq!(status, StatusCode::NOT_ACCEPTABLE);
        assert_eq!(headers.get_all("vary").iter().collect::<Vec<_>>(), ["Accept-Encoding", "Origin"]);
        assert!(body.starts_with(b"{\"status\":\"error\",\"errorType\":\"not_acceptable\","), "{accept}");
    }
    assert_eq!(server.metric("weir_query_requests_total{code=\"406\",endpoint=\"/api/v1/query\"}"), 2.0);
}

#[tokio::test]
async fn errors_have_their_status_in_every_coding_and_answers_without_content_none() {
    let server = Server::new();
    let (status, headers, body) = ask(&server, "/api/v1/query?query=sum(", "gzip, identity;q=0").await;
    assert_eq!((status, &headers["content-encoding"]), (StatusCode::BAD_REQUEST, &HeaderValue::from_static("gzip")));
    assert!(unpack("gzip", &body).starts_with(b"{\"status\":\"error\",\"errorType\":\"bad_data\""));
    let (status, headers, body) = ask(&server, "/api/v1/query_exemplars?query=1", "gzip, identity;q=0").await;
    assert_eq!((status, headers.get("content-encoding"), body.len()), (StatusCode::NO_CONTENT, None, 0));
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_query() {
    let server = Server::new();
    let (sender, events) = mpsc::sync_channel(2);
    server.memory.behave(Behaviour::UntilCancelled(sender));
    let request = Request::get("/api/v1/series?match[]=up").header("accept-encoding", "gzip");
    let answer = server.component.router.clone().oneshot(request.body(Body::empty()).expect("a request"));
    let answer = tokio::spawn(answer);
    let events = tokio::task::spawn_blocking(move || {
        assert_eq!(events.recv(), Ok("begun"));
        events
    });
    let events = events.await.expect("it began");
    answer.abort();
    let cancelled = tokio::task::spawn_blocking(move || events.recv());
    assert_eq!(cancelled.await.expect("joined"), Ok("cancelled"));
}
