//! Large answers, which are made while they are sent.

use std::io::Read as _;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use model::Budget;
use tower::ServiceExt as _;

use super::support::{Behaviour, NOW_MS, Server};
use crate::stream::PIECE_BYTES;

/// Longer than any machine is busy; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(180);

/// Series of 10,001 samples each, of which a range query with a step of a second takes all: some 250 KB each as JSON.
const SERIES: usize = 40;
const RANGE: &str = "/api/v1/query_range?query=many&start=1699990000&end=1700000000&step=1";
/// What a series takes while it is evaluated and in a result.
const CELLS: usize = 10_001 * 8;

fn fill(server: &Server) {
    // Values of many digits, so that a coding does not make one piece of all.
    let samples: Vec<(i64, f64)> =
        (0..10_001).map(|n| (NOW_MS - 10_000_000 + n * 1000, f64::from(n as u32).sqrt())).collect();
    for n in 0..SERIES {
        server.memory.add(&[("__name__", "many"), ("host", &format!("{n:02}"))], &samples);
    }
}

async fn begin(server: &Server, path: &str, accept: &str) -> Response<Body> {
    let request = Request::get(path).header("accept-encoding", accept).body(Body::empty()).expect("a request");
    server.component.router.clone().oneshot(request).await.expect("an answer")
}

/// The pieces of an answer, each taken when the one before has been.
async fn pieces(server: &Server, path: &str, accept: &str) -> (StatusCode, HeaderMap, Vec<Vec<u8>>) {
    let (parts, mut body) = begin(server, path, accept).await.into_parts();
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.push(frame.expect("whole").into_data().expect("data").to_vec());
    }
    (parts.status, parts.headers, pieces)
}

fn unpack(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).expect("gzip"),
        "zstd" => zstd::Decoder::new(bytes).expect("a decoder").read_to_end(&mut out).expect("Zstandard"),
        _ => {
            out.extend_from_slice(bytes);
            0
        }
    };
    out
}

/// Waits until no query is left.
async fn no_query_is_left(server: &Server) {
    let ended = async {
        while server.get("/api/v1/status/active_queries").await.1 != "{\"status\":\"success\",\"data\":[]}" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("all end");
}

#[tokio::test]
async fn a_large_answer_comes_in_pieces_and_is_the_same_in_every_coding() {
    let server = Server::new();
    fill(&server);
    server.memory.behave(Behaviour::Warn);
    let (status, headers, plain) = pieces(&server, RANGE, "identity").await;
    assert_eq!((status, headers["content-type"].as_bytes()), (StatusCode::OK, &b"application/json"[..]));
    assert_eq!((headers.get("content-length"), headers.get("content-encoding")), (None, None));
    assert!(plain.len() > 30, "{} pieces", plain.len());
    let longest = plain.iter().map(Vec::len).max().expect("some");
    assert!(longest < PIECE_BYTES + 200, "{longest}");
    let told = server.metric("weir_query_answer_bytes_total{coding=\"identity\"}");
    let plain = plain.concat();
    assert_eq!(told, plain.len() as f64);
    // It is what the samples are, and what is to be said of it comes last.
    let answer: serde_json::Value = serde_json::from_slice(&plain).expect("JSON");
    let series = answer["data"]["result"].as_array().expect("series");
    assert_eq!(series.len(), SERIES);
    for one in series {
        assert_eq!(one["values"].as_array().expect("samples").len(), 10_001);
        assert_eq!(one["values"][10_000], serde_json::json!([NOW_MS / 1000, "100"]));
    }
    assert!(plain.ends_with(b"]}]},\"warnings\":[\"block 7 is in quarantine\"]}"));
    for coding in ["gzip", "zstd"] {
        server.memory.behave(Behaviour::Warn);
        let (status, headers, packed) = pieces(&server, &format!("{RANGE}&nocache=1"), coding).await;
        assert_eq!((status, headers["content-encoding"].as_bytes()), (StatusCode::OK, coding.as_bytes()));
        assert_eq!(headers.get("content-length"), None);
        assert!(packed.len() > 10, "{coding}: {} pieces", packed.len());
        let packed = packed.concat();
        let told = server.metric(&format!("weir_query_answer_bytes_total{{coding=\"{coding}\"}}"));
        assert_eq!(told, packed.len() as f64);
        assert!(packed.len() * 2 < plain.len(), "{coding}: {} of {}", packed.len(), plain.len());
        assert!(unpack(coding, &packed) == plain, "{coding}");
    }
    no_query_is_left(&server).await;
    assert_eq!(server.metric("weir_query_cancelled_total"), 0.0);
}

#[tokio::test]
async fn lists_of_series_and_of_values_and_lines_come_in_pieces_too() {
    let server = Server::new();
    let long = "<é>".repeat(100);
    for n in 0..2_000 {
        server.memory.add(&[("__name__", "s"), ("l", &format!("{long}{n:04}"))], &[(NOW_MS - 1, f64::from(n))]);
    }
    let labels = |n: usize| {
        let text = format!("{{\"__name__\":\"s\",\"l\":\"{long}{n:04}\"}}");
        let expect = serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
        assert_eq!(expect["l"], format!("{long}{n:04}"));
        text
    };
    let all = |one: &dyn Fn(usize) -> String| (0..2_000).map(one).collect::<Vec<_>>();
    let listed = |items: Vec<String>| format!("{{\"status\":\"success\",\"data\":[{}]}}", items.join(","));
    let values = all(&|n| format!("\"{}{n:04}\"", long.replace('<', "\\u003c").replace('>', "\\u003e")));
    let lines = all(&|n| format!("s{{l=\"{long}{n:04}\",instance=\"\"}} {n} {}\n", NOW_MS - 1)).concat();
    for (path, expect) in [
        ("/api/v1/series?match[]=s", listed(all(&labels))),
        ("/api/v1/label/l/values", listed(values)),
        ("/federate?match[]=s", format!("# TYPE s untyped\n{lines}")),
    ] {
        for coding in ["identity", "gzip"] {
            let (status, headers, pieces) = pieces(&server, path, coding).await;
            assert_eq!((status, headers.get("content-length")), (StatusCode::OK, None), "{path}");
            assert!(coding == "gzip" || pieces.len() > 2, "{path}: {} pieces", pieces.len());
            assert!(unpack(coding, &pieces.concat()) == expect.as_bytes(), "{path} {coding}");
        }
    }
    let request = "/api/v1/series?match[]=s&limit=1500";
    let cut = pieces(&server, request, "identity").await.2.concat();
    let expect = listed(all(&labels)[..1_500].to_vec());
    let warned = ",\"warnings\":[\"results truncated due to limit\"]}";
    assert!(cut == format!("{}{warned}", &expect[..expect.len() - 1]).as_bytes());
}

#[tokio::test]
async fn an_answer_below_a_piece_is_sent_with_its_length() {
    let server = Server::new();
    fill(&server);
    let (status, headers, pieces) = pieces(&server, "/api/v1/query?query=many", "identity").await;
    assert_eq!((status, pieces.len()), (StatusCode::OK, 1));
    assert_eq!(headers["content-length"].to_str().expect("text"), pieces[0].len().to_string());
}

#[tokio::test]
async fn what_is_encoded_ahead_of_a_slow_client_is_bounded_and_counted() {
    for coding in ["identity", "gzip", "zstd"] {
        // The result takes two thirds of it, as cells and as samples one after the other, and the whole answer would take as much again.
        let memory = Budget::new("queries", 14 << 20);
        let server = Server::with_memory(&["--query-cache-bytes", "0"], memory.clone());
        fill(&server);
        let mut body = begin(&server, RANGE, coding).await.into_body();
        let first = body.frame().await.expect("a piece").expect("whole").into_data().expect("data");
        // As many as go ahead are made before the queue of the runtime is empty.
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        while server.metric("weir_query_running_queries") > 0.0 {
            tokio::task::yield_now().await;
        }
        let told = format!("weir_query_answer_bytes_total{{coding=\"{coding}\"}}");
        let ahead = server.metric(&told) as usize;
        assert!(ahead <= 4 * (PIECE_BYTES + 200), "{coding}: {ahead} bytes");
        let result = SERIES * CELLS;
        assert!(memory.held() > 2 * result, "what it is made from is counted");
        assert!(memory.held() < 3 * result + 4 * PIECE_BYTES + (2 << 20), "{coding}: {}", memory.held());
        let mut all = first.to_vec();
        while let Some(frame) = body.frame().await {
            all.extend_from_slice(&frame.expect("whole").into_data().expect("data"));
        }
        assert!(server.metric(&told) as usize > ahead, "the last piece was not made when the first one came");
        drop((first, body));
        no_query_is_left(&server).await;
        let plain = unpack(coding, &all);
        assert!(plain.len() > 9 << 20, "{} bytes", plain.len());
        assert_eq!((memory.held(), memory.refused()), (0, 0), "{coding}");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_the_answer() {
    let memory = Budget::new("queries", 100 << 20);
    let server = Server::with_memory(&["--query-cache-bytes", "0"], memory.clone());
    fill(&server);
    for coding in ["identity", "zstd"] {
        let mut body = begin(&server, RANGE, coding).await.into_body();
        body.frame().await.expect("a piece").expect("whole");
        let listed = server.get("/api/v1/status/active_queries").await.1;
        assert!(listed.contains("\"kind\":\"query_range\""), "{listed}");
        drop(body);
        no_query_is_left(&server).await;
        // What counted it goes right after its place in the list, on the thread that ended it.
        let given_back = async {
            while memory.held() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, given_back).await.expect("all memory is given back");
    }
    assert_eq!(server.metric("weir_query_cancelled_total"), 2.0);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_no_place_of_a_query_but_counts_as_admitted() {
    let server = Server::with_arguments(&["--query-concurrency-max", "1", "--query-waiting-max", "1"]);
    fill(&server);
    let first = begin(&server, RANGE, "identity").await;
    server.check("/api/v1/series?match[]=nosuch", "[]").await;
    let second = begin(&server, RANGE, "identity").await;
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    let error = "too many queries: 1 run and 1 wait already";
    server.refused("/api/v1/series?match[]=nosuch", 429, "too_many_requests", error).await;
    drop((first, second));
    no_query_is_left(&server).await;
    server.check("/api/v1/series?match[]=nosuch", "[]").await;
}

#[tokio::test]
async fn an_answer_that_somebody_asks_to_stop_does_not_end_as_if_it_were_whole() {
    let server = Server::new();
    fill(&server);
    let body = begin(&server, RANGE, "identity").await.into_body();
    let listed: serde_json::Value =
        serde_json::from_str(&server.get("/api/v1/status/active_queries").await.1).expect("JSON");
    let id = listed["data"][0]["id"].as_str().expect("an id");
    let cancel = Request::delete(format!("/api/v1/status/active_queries/{id}")).body(Body::empty());
    assert_eq!(server.send(cancel.expect("a request")).await.0, 200);
    no_query_is_left(&server).await;
    let error = body.collect().await.expect_err("it is cut off");
    assert_eq!(error.to_string(), "query was canceled: the stream was cut off");
    assert_eq!(server.metric("weir_query_cancelled_by_request_total"), 1.0);
}

#[tokio::test]
async fn an_answer_that_is_on_its_way_needs_no_more_memory_than_it_has() {
    for coding in ["identity", "gzip", "zstd"] {
        let memory = Budget::new("queries", 100 << 20);
        let server = Server::with_memory(&["--query-cache-bytes", "0"], memory.clone());
        fill(&server);
        let mut body = begin(&server, RANGE, coding).await.into_body();
        let mut all = body.frame().await.expect("a piece").expect("whole").into_data().expect("data").to_vec();
        // Others have all that there is.
        let others = memory.claim();
        others.set(100 << 20);
        while let Some(frame) = body.frame().await {
            all.extend_from_slice(&frame.expect("whole").into_data().expect("data"));
        }
        let plain = unpack(coding, &all);
        assert!(plain.len() > 9 << 20 && plain.ends_with(b"}"), "{coding}: {} bytes", plain.len());
        no_query_is_left(&server).await;
        drop((others, body));
        assert_eq!((memory.held(), memory.refused()), (0, 0), "{coding}");
    }
}

#[tokio::test]
async fn pieces_are_counted_until_the_last_one_is_gone() {
    let memory = Budget::new("queries", 100 << 20);
    let server = Server::with_memory(&["--query-cache-bytes", "0"], memory.clone());
    fill(&server);
    let mut body = begin(&server, RANGE, "identity").await.into_body();
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        // What the connection has: the two that came last.
        kept.push(frame.expect("whole").into_data().expect("data"));
        kept.drain(..kept.len().saturating_sub(2));
    }
    drop(body);
    no_query_is_left(&server).await;
    assert!(kept[0].len() >= PIECE_BYTES);
    let bytes: usize = kept.iter().map(|piece| piece.len()).sum();
    assert!((bytes..bytes + 4 * PIECE_BYTES).contains(&memory.held()), "{bytes}: {}", memory.held());
    kept.pop();
    assert!(memory.held() >= kept[0].len());
    kept.pop();
    assert_eq!(memory.held(), 0);
}

#[tokio::test]
async fn who_has_no_room_for_pieces_is_told_to_ask_for_less_unless_others_have_it() {
    let room = 3 * SERIES * CELLS;
    let mut statuses = Vec::new();
    for more in 0..24 {
        let memory = Budget::new("queries", room + more * PIECE_BYTES);
        let server = Server::with_memory(&["--query-cache-bytes", "0"], memory.clone());
        fill(&server);
        // Of samples as they are stored, so that nothing is given back before the answer is made.
        let (status, body) = server.get("/api/v1/query?query=many[10001s]&time=1700000000").await;
        if status != StatusCode::OK {
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{more}: {body}");
            assert!(body.contains("ask for less at once"), "{body}");
        }
        statuses.push(status);
        no_query_is_left(&server).await;
        assert_eq!(memory.held(), 0);
    }
    // From some size on it is answered, and just below there is room for all but the pieces.
    let refused = statuses.iter().take_while(|status| **status != StatusCode::OK).count();
    assert!((4..20).contains(&refused), "{statuses:?}");
    assert!(statuses[refused..].iter().all(|status| *status == StatusCode::OK), "{statuses:?}");
}

#[tokio::test]
async fn an_element_that_is_longer_than_a_piece_is_counted_though_there_is_no_room() {
    let memory = Budget::new("queries", 100 << 20);
    let server = Server::with_memory(&["--query-cache-bytes", "0"], memory.clone());
    let long = "x".repeat(2 * PIECE_BYTES);
    for host in ["a", "b", "c"] {
        server.memory.add(&[("__name__", "long"), ("host", host), ("text", &long)], &[(NOW_MS - 1, 1.0)]);
    }
    let mut body = begin(&server, "/api/v1/query?query=long", "identity").await.into_body();
    let first = body.frame().await.expect("a piece").expect("whole").into_data().expect("data");
    let others = memory.claim();
    others.set(100 << 20);
    let mut pieces = vec![first];
    while let Some(frame) = body.frame().await {
        pieces.push(frame.expect("whole").into_data().expect("data"));
    }
    let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
    assert!(bytes > 6 * PIECE_BYTES, "{bytes}");
    assert!(memory.held() - (100 << 20) >= bytes, "{} held of {bytes}", memory.held() - (100 << 20));
    drop((others, pieces, body));
    no_query_is_left(&server).await;
    assert_eq!(memory.held(), 0);
}
