//! `/api/v1/read` in both flavours. Requests are written, and answers read, by hand, so that the code is not its own oracle.

use std::sync::mpsc;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use model::{Budget, Columns, TimeRange};
use tower::ServiceExt as _;

use super::support::{Behaviour, NOW_MS, Server};

const PATH: &str = "/api/v1/read";

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    varint(&mut out, content.len() as u64);
    out.extend_from_slice(content);
    out
}

fn number(field: u8, n: i64) -> Vec<u8> {
    let mut out = vec![field << 3];
    varint(&mut out, n as u64);
    out
}

fn matcher(op: i64, name: &str, value: &str) -> Vec<u8> {
    bytes(3, &[number(1, op), bytes(2, name.as_bytes()), bytes(3, value.as_bytes())].concat())
}

fn hints(function: &str, range: (i64, i64)) -> Vec<u8> {
    bytes(4, &[number(1, 15_000), bytes(2, function.as_bytes()), number(3, range.0), number(4, range.1)].concat())
}

fn query(range: (i64, i64), parts: &[Vec<u8>]) -> Vec<u8> {
    bytes(1, &[number(1, range.0), number(2, range.1), parts.concat()].concat())
}

/// Around all samples of the server.
const ALL: (i64, i64) = (NOW_MS - 1_000_000, NOW_MS + 1_000_000);

async fn ask(server: &Server, message: &[u8]) -> (StatusCode, HeaderMap, Vec<u8>) {
    let packed = snap::raw::Encoder::new().compress_vec(message).expect("packs");
    send(server, packed).await
}

async fn send(server: &Server, body: Vec<u8>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let request = Request::post(PATH).header("accept-encoding", "gzip, zstd").body(Body::from(body));
    let response = server.component.router.clone().oneshot(request.expect("a request")).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 30).await.expect("a body");
    (parts.status, parts.headers, body.to_vec())
}

/// The fields of a message: number, and the varint or the bytes.
fn fields(mut message: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
    fn take(message: &mut &[u8]) -> u64 {
        let (mut n, mut shift) = (0, 0);
        loop {
            let byte = message[0];
            *message = &message[1..];
            n |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return n;
            }
        }
    }
    let mut out = Vec::new();
    while !message.is_empty() {
        let tag = take(&mut message);
        let (value, length) = match tag & 7 {
            0 => (take(&mut message), 0),
            1 => (0, 8),
            2 => (0, take(&mut message) as usize),
            other => panic!("type {other}"),
        };
        out.push((tag >> 3, value, message[..length].to_vec()));
        message = &message[length..];
    }
    out
}

fn all_of(message: &[u8], field: u64) -> Vec<Vec<u8>> {
    fields(message).into_iter().filter(|f| f.0 == field).map(|f| f.2).collect()
}

fn number_of(message: &[u8], field: u64) -> i64 {
    fields(message).iter().find(|f| f.0 == field).map_or(0, |f| f.1 as i64)
}

fn double_of(message: &[u8], field: u64) -> f64 {
    let found = all_of(message, field);
    found.first().map_or(0.0, |bytes| f64::from_le_bytes(bytes[..].try_into().expect("eight bytes")))
}

/// `name=value` of each label, as they come.
fn labels(series: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let one = |label: Vec<u8>| format!("{}={}", text(&all_of(&label, 1)[0]), text(&all_of(&label, 2)[0]));
    all_of(series, 1).into_iter().map(one).collect::<Vec<_>>().join(",")
}

/// A series, with times and values.
type Told = (String, Vec<(i64, f64)>);

/// For each result its series.
fn samples(body: &[u8]) -> Vec<Vec<Told>> {
    let message = snap::raw::Decoder::new().decompress_vec(body).expect("unpacks");
    let series = |series: Vec<u8>| {
        let points = all_of(&series, 2).into_iter().map(|point| (number_of(&point, 2), double_of(&point, 1)));
        (labels(&series), points.collect())
    };
    all_of(&message, 1).into_iter().map(|result| all_of(&result, 1).into_iter().map(series).collect()).collect()
}

/// A chunk: its times, its encoding and its data.
type Chunk = (i64, i64, i64, Vec<u8>);

/// For each frame the number of its query, its labels and its chunks.
fn frames(mut body: &[u8]) -> Vec<(i64, String, Vec<Chunk>)> {
    let mut out = Vec::new();
    while !body.is_empty() {
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let byte = body[0];
            body = &body[1..];
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let checksum = u32::from_be_bytes(body[..4].try_into().expect("four bytes"));
        let message = &body[4..4 + length];
        assert_eq!(crc32c::crc32c(message), checksum);
        let series = all_of(message, 1);
        assert_eq!(series.len(), 1, "one series a frame");
        let chunk = |c: Vec<u8>| (number_of(&c, 1), number_of(&c, 2), number_of(&c, 3), all_of(&c, 4).remove(0));
        out.push((number_of(message, 2), labels(&series[0]), all_of(&series[0], 2).into_iter().map(chunk).collect()));
        body = &body[4 + length..];
    }
    out
}

/// What the encoder of blocks makes of samples; its own tests are in the engine.
fn encoded(samples: &[(i64, f64)]) -> Vec<Chunk> {
    let columns = Columns::floats(samples.iter().map(|s| s.0).collect(), samples.iter().map(|s| s.1).collect());
    let mut out = Vec::new();
    let each = &mut |chunk: storage::chunks::Chunk<'_>| {
        let TimeRange { start_ms, end_ms } = chunk.range;
        out.push((start_ms, end_ms, chunk.encoding as i64, chunk.data.to_vec()));
        Ok::<(), ()>(())
    };
    storage::chunks::encode(&columns, storage::chunks::StartTimes::LeftOut, each).expect("encodes");
    out
}

const A: &str = "__name__=up,instance=a:1,job=api";
const B: &str = "__name__=up,instance=b:1,job=<db>";

fn of_a() -> Vec<(i64, f64)> {
    vec![(NOW_MS - 60_000, 0.0), (NOW_MS - 1, 1.0)]
}

fn of_b() -> Vec<(i64, f64)> {
    vec![(NOW_MS - 1, 0.5)]
}

#[tokio::test]
async fn samples_are_one_packed_message_with_a_result_for_each_query() {
    let server = Server::new();
    let message = [
        query(ALL, &[matcher(0, "__name__", "up")]),
        query(ALL, &[matcher(0, "__name__", "nosuch")]),
        query((NOW_MS - 10, NOW_MS), &[matcher(2, "job", "a.*"), matcher(1, "instance", "b:1")]),
    ];
    let (status, headers, body) = ask(&server, &message.concat()).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    assert_eq!(
        (headers["content-type"].as_bytes(), headers["content-encoding"].as_bytes()),
        (&b"application/x-protobuf"[..], &b"snappy"[..])
    );
    let expect = vec![
        vec![(A.to_owned(), of_a()), (B.to_owned(), of_b())],
        vec![],
        vec![(A.to_owned(), vec![(NOW_MS - 1, 1.0)])],
    ];
    assert_eq!(samples(&body), expect);
    assert_eq!(server.metric("weir_query_samples_read_total"), 4.0);
    assert_eq!(server.metric("weir_query_requests_total{code=\"200\",endpoint=\"/api/v1/read\"}"), 1.0);
}

#[tokio::test]
async fn every_kind_of_matcher_and_no_matcher_at_all_is_understood() {
    let server = Server::new();
    let check = async |parts: &[Vec<u8>], expect: &[&str]| {
        let (status, _, body) = ask(&server, &query(ALL, parts)).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        let found: Vec<String> = samples(&body).remove(0).into_iter().map(|(labels, _)| labels).collect();
        assert_eq!(found, expect);
    };
    let disk = "__name__=disk.free,a.b=é\"";
    check(&[matcher(0, "job", "api")], &[A]).await;
    check(&[matcher(1, "job", "api")], &[disk, B]).await;
    check(&[matcher(2, "job", "api|<d.*")], &[A, B]).await;
    check(&[matcher(3, "job", "api|<d.*")], &[disk]).await;
    check(&[], &[disk, A, B]).await;
}

#[tokio::test]
async fn hints_narrow_the_time_and_may_say_that_labels_are_enough() {
    let server = Server::new();
    let up = || matcher(0, "__name__", "up");
    let check = async |hints: Vec<u8>, expect: Vec<Told>| {
        let (_, _, body) = ask(&server, &query(ALL, &[up(), hints])).await;
        assert_eq!(samples(&body), [expect]);
    };
    check(hints("rate", (NOW_MS - 60_000, NOW_MS - 60_000)), vec![(A.to_owned(), vec![of_a()[0]])]).await;
    check(hints("rate", (0, NOW_MS - 60_001)), vec![]).await;
    let both = vec![(A.to_owned(), of_a()), (B.to_owned(), of_b())];
    check(hints("rate", (0, 0)), both.clone()).await;
    check(hints("rate", (0, i64::MAX)), both).await;
    check(hints("series", ALL), vec![(A.to_owned(), vec![]), (B.to_owned(), vec![])]).await;
    let (_, _, body) = ask(&server, &[query(ALL, &[up(), hints("series", ALL)]), number(2, 1)].concat()).await;
    let told = [(0, A.to_owned(), encoded(&of_a())), (0, B.to_owned(), encoded(&of_b()))];
    assert_eq!(frames(&body), told, "a stream tells of series by their chunks");
    let (_, _, body) = ask(&server, &query((ALL.1, ALL.0), &[up()])).await;
    assert_eq!(samples(&body), [vec![]], "a range that ends before it starts");
}

#[tokio::test]
async fn chunks_are_a_stream_of_checked_frames_in_the_order_of_series() {
    let server = Server::new();
    let long: Vec<(i64, f64)> = (0..1000).map(|n| (NOW_MS - 500_000 + n * 500, f64::from(n as u32).sqrt())).collect();
    server.memory.add(&[("__name__", "long")], &long);
    server.memory.add_histogram(&[("__name__", "native")], NOW_MS);
    let message = [
        number(2, 1),
        query(ALL, &[matcher(0, "__name__", "up")]),
        query(ALL, &[matcher(2, "__name__", "long|native")]),
        query(ALL, &[matcher(0, "__name__", "nosuch")]),
    ];
    let (status, headers, body) = ask(&server, &message.concat()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["content-type"], "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse");
    assert_eq!(headers.get("content-encoding"), None, "chunks are small already");
    let got = frames(&body);
    let expect = [
        (0, A.to_owned(), encoded(&of_a())),
        (0, B.to_owned(), encoded(&of_b())),
        (1, "__name__=long".to_owned(), encoded(&long)),
    ];
    assert_eq!(got[..3], expect);
    assert_eq!(got[2].2.len(), 9, "120 samples a chunk");
    let (of, name, chunks) = &got[3];
    assert_eq!((*of, name.as_str(), chunks.len(), got.len()), (1, "__name__=native", 1, 4));
    assert_eq!((chunks[0].0, chunks[0].1, chunks[0].2), (NOW_MS, NOW_MS, 2), "a chunk of whole histograms");
    assert_eq!(server.metric("weir_query_samples_read_total"), 1004.0);
    assert_eq!(server.metric("weir_query_result_series_total"), 4.0);
    assert_eq!(server.metric("weir_query_remote_read_streams"), 0.0);
    assert_eq!(server.metric("weir_query_cancelled_total"), 0.0);
}

#[tokio::test]
async fn a_series_that_is_larger_than_a_frame_goes_on_in_the_next() {
    let server = Server::new();
    let long: Vec<(i64, f64)> =
        (0..300_000).map(|n| (NOW_MS - 900_000 + n * 3 + n % 2, f64::from(n as u32).sqrt())).collect();
    server.memory.add(&[("__name__", "long")], &long);
    let (_, _, body) = ask(&server, &[number(2, 1), query(ALL, &[matcher(0, "__name__", "long")])].concat()).await;
    let got = frames(&body);
    assert!(got.len() > 1 && body.len() > 2 << 20, "{} frames of {} bytes", got.len(), body.len());
    assert!(got.iter().all(|(_, name, chunks)| name == "__name__=long" && !chunks.is_empty()));
    let sizes = got.iter().map(|frame| frame.2.iter().map(|chunk| chunk.3.len()).sum::<usize>());
    assert!(sizes.clone().all(|size| size < (1 << 20) + 2000), "{:?}", sizes.collect::<Vec<_>>());
    let all: Vec<Chunk> = got.into_iter().flat_map(|frame| frame.2).collect();
    assert!(all == encoded(&long));
}

#[tokio::test]
async fn the_first_flavour_that_is_known_is_taken() {
    let server = Server::new();
    let up = query(ALL, &[matcher(0, "__name__", "up")]);
    let kind = async |accepted: Vec<u8>| {
        let (status, headers, body) = ask(&server, &[up.clone(), accepted].concat()).await;
        let kind = headers["content-type"].to_str().expect("text").split(';').next().expect("one").to_owned();
        (status.as_u16(), kind, String::from_utf8_lossy(&body).into_owned())
    };
    let (samples, chunks) = ("application/x-protobuf", "application/x-streamed-protobuf");
    for (accepted, expect) in [
        (vec![], samples),
        (number(2, 0), samples),
        (number(2, 1), chunks),
        (bytes(2, &[1, 0]), chunks),
        (bytes(2, &[0, 1]), samples),
        (bytes(2, &[7, 1]), chunks),
    ] {
        let (status, kind, _) = kind(accepted).await;
        assert_eq!((status, kind.as_str()), (200, expect));
    }
    let (status, kind, body) = kind(bytes(2, &[7])).await;
    assert_eq!((status, kind.as_str()), (400, "text/plain"));
    assert_eq!(
        body,
        "server does not support any of the requested response types: [7]; supported: SAMPLES, STREAMED_XOR_CHUNKS\n"
    );
}

#[tokio::test]
async fn histograms_are_told_in_full() {
    let server = Server::new();
    server.memory.add_histogram(&[("__name__", "native")], NOW_MS);
    let (_, _, body) = ask(&server, &query(ALL, &[matcher(0, "__name__", "native")])).await;
    let message = snap::raw::Decoder::new().decompress_vec(&body).expect("unpacks");
    let series = all_of(&all_of(&message, 1)[0], 1).remove(0);
    let one = all_of(&series, 4).remove(0);
    assert_eq!((number_of(&one, 1), number_of(&one, 6), number_of(&one, 15)), (4, 1, NOW_MS));
    assert_eq!((double_of(&one, 3), double_of(&one, 5)), (5.0, 0.25));
    // One span of two buckets from the first on; one more each, as deltas.
    assert_eq!(all_of(&one, 11), [vec![0x10, 2]]);
    assert_eq!(all_of(&one, 12), [vec![2, 2]]);
    assert!(all_of(&series, 2).is_empty());
}

#[tokio::test]
async fn what_cannot_be_read_or_met_has_a_status_and_a_reason_as_text() {
    let server = Server::new();
    let check = async |body: Vec<u8>, status: u16, reason: &str| {
        let (got, headers, text) = send(&server, body).await;
        assert_eq!((got.as_u16(), String::from_utf8_lossy(&text).as_ref()), (status, reason));
        assert_eq!(
            (headers["content-type"].as_bytes(), headers["x-content-type-options"].as_bytes()),
            (&b"text/plain; charset=utf-8"[..], &b"nosniff"[..])
        );
    };
    let pack = |message: &[u8]| snap::raw::Encoder::new().compress_vec(message).expect("packs");
    let up = || matcher(0, "__name__", "up");
    check(b"\xff".to_vec(), 400, "snappy: corrupt input (invalid header)\n").await;
    let mut bomb = Vec::new();
    varint(&mut bomb, (2 << 20) + 1);
    check(bomb, 400, "snappy: decoded length 2097153 exceeds limit 2097152\n").await;
    check(pack(&[0x0a, 9]), 400, "the request is no message of remote read: it ends within a field\n").await;
    check(pack(&number(1, 7)), 400, "the request is no message of remote read: the wrong type of a field\n").await;
    check(pack(&query(ALL, &[matcher(4, "a", "b")])), 400, "invalid matcher type\n").await;
    let (status, _, text) = send(&server, pack(&query(ALL, &[matcher(2, "a", "(")]))).await;
    assert!(status == 400 && text.starts_with(b"invalid regular expression"), "{}", String::from_utf8_lossy(&text));
    check(pack(&query(ALL, &[up()]).repeat(1001)), 400, "more than 1000 matchers in the queries of a request\n").await;
    check(pack(&query(ALL, &[]).repeat(1001)), 400, "more than 1000 queries in a request\n").await;
    let many = vec![up(); 501];
    let reason = "more than 1000 matchers in the queries of a request\n";
    check(pack(&query(ALL, &many).repeat(2)), 400, reason).await;
    check(pack(&number(2, 7).repeat(17)), 400, "more than 16 accepted response types\n").await;
    check(pack(&bytes(2, &[7; 17])), 400, "more than 16 accepted response types\n").await;
    for flavour in [vec![], number(2, 1)] {
        let ask = pack(&[query(ALL, &[up()]), flavour].concat());
        server.memory.behave(Behaviour::Fail(model::Kind::Corrupt));
        check(ask.clone(), 500, "block 7 is gone\n").await;
        server.memory.behave(Behaviour::Panic);
        check(ask, 500, "the evaluation panicked: a fault in the source\n").await;
    }
    assert_eq!(server.metric("weir_query_remote_read_streams"), 0.0);
}

#[tokio::test]
async fn samples_have_a_limit_and_chunks_have_none() {
    let server = Server::with_arguments(&["--query-samples-max", "2"]);
    let up = || query(ALL, &[matcher(0, "__name__", "up")]);
    let (status, _, text) = ask(&server, &up()).await;
    assert_eq!((status.as_u16(), text.as_slice()), (400, &b"exceeded sample limit (2)\n"[..]));
    let a = || query(ALL, &[matcher(0, "job", "api")]);
    assert_eq!(ask(&server, &[a(), a()].concat()).await.0, StatusCode::OK, "of each query");
    let (status, _, body) = ask(&server, &[up(), number(2, 1)].concat()).await;
    assert_eq!((status.as_u16(), frames(&body).len()), (200, 2));
}

#[tokio::test]
async fn memory_is_held_while_it_is_needed_and_no_longer() {
    let memory = Budget::new("queries", 3 << 20);
    let server = Server::with_memory(&[], memory.clone());
    let long: Vec<(i64, f64)> = (0..100_000).map(|n| (NOW_MS - 900_000 + n, f64::from(n as u32).sqrt())).collect();
    server.memory.add(&[("__name__", "long")], &long);
    let ask_for = |flavour: &[u8]| [query(ALL, &[matcher(0, "__name__", "long")]), flavour.to_vec()].concat();
    // A float takes some twenty bytes as a sample, and ten in a chunk.
    let (status, _, text) = ask(&server, &ask_for(&[])).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(text.starts_with(b"too little memory for queries"), "{}", String::from_utf8_lossy(&text));
    assert_eq!(memory.held(), 0);
    let (status, _, body) = ask(&server, &ask_for(&number(2, 1))).await;
    assert_eq!((status, frames(&body).len()), (StatusCode::OK, 1));
    assert_eq!(memory.held(), 0);
}

#[tokio::test]
async fn a_part_that_is_missing_is_told_in_a_header() {
    let server = Server::new();
    for flavour in [vec![], number(2, 1)] {
        server.memory.behave(Behaviour::Warn);
        let (_, headers, _) = ask(&server, &[query(ALL, &[matcher(0, "__name__", "up")]), flavour].concat()).await;
        assert_eq!(headers["x-weir-warning"], "block 7 is in quarantine");
    }
}

/// A request for chunks of two series of which each is a batch of frames.
async fn begun(server: &Server) -> axum::http::Response<Body> {
    for name in ["x", "y"] {
        let long: Vec<(i64, f64)> = (0..200_000).map(|n| (NOW_MS - 900_000 + n, f64::from(n as u32).sqrt())).collect();
        server.memory.add(&[("__name__", name)], &long);
    }
    let message = [query(ALL, &[matcher(2, "__name__", "x|y")]), number(2, 1)].concat();
    let packed = snap::raw::Encoder::new().compress_vec(&message).expect("packs");
    let request = Request::post(PATH).body(Body::from(packed)).expect("a request");
    server.component.router.clone().oneshot(request).await.expect("an answer")
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_no_place_of_a_query_and_ends_when_it_is_dropped() {
    let server = Server::with_arguments(&["--query-concurrency-max", "1"]);
    let response = begun(&server).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        (server.metric("weir_query_remote_read_streams"), server.metric("weir_query_running_queries")),
        (1.0, 0.0)
    );
    server.check("/api/v1/series?match[]=nosuch", "[]").await;
    // But another stream has to come later.
    let up = [query(ALL, &[matcher(0, "__name__", "up")]), number(2, 1)].concat();
    let (status, headers, text) = ask(&server, &up).await;
    assert_eq!((status, headers["retry-after"].as_bytes()), (StatusCode::SERVICE_UNAVAILABLE, &b"1"[..]));
    assert_eq!(text, b"1 remote reads are being answered already\n");
    assert_eq!(server.metric("weir_query_rejected_total"), 1.0);
    let mut body = response.into_body();
    let first = body.frame().await.expect("a frame").expect("whole").into_data().expect("data");
    assert!(frames(&first).iter().all(|frame| frame.1 == "__name__=x"));
    drop((first, body));
    no_stream_is_left(&server).await;
    assert_eq!(server.metric("weir_query_cancelled_total"), 1.0);
    assert_eq!(ask(&server, &up).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_stream_that_fails_in_the_middle_does_not_end_as_if_it_were_whole() {
    let server = Server::new();
    let up = || query(ALL, &[matcher(0, "__name__", "up")]);
    let long: Vec<(i64, f64)> = (0..200_000).map(|n| (NOW_MS - 900_000 + n, f64::from(n as u32).sqrt())).collect();
    server.memory.add(&[("__name__", "x")], &long);
    let message = [query(ALL, &[matcher(0, "__name__", "x")]), up(), number(2, 1)].concat();
    let packed = snap::raw::Encoder::new().compress_vec(&message).expect("packs");
    let request = Request::post(PATH).body(Body::from(packed)).expect("a request");
    let response = server.component.router.clone().oneshot(request).await.expect("an answer");
    // The second query is asked when the first one has been read.
    server.memory.behave(Behaviour::Fail(model::Kind::Corrupt));
    let mut body = response.into_body();
    body.frame().await.expect("a frame").expect("whole");
    let error = body.frame().await.expect("more").expect_err("it fails");
    assert_eq!(error.to_string(), "query was canceled: the stream was cut off");
    no_stream_is_left(&server).await;
    assert_eq!(server.metric("weir_query_cancelled_total"), 0.0);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_cut_off_by_whoever_asks_for_it() {
    let server = Server::new();
    let response = begun(&server).await;
    let listed = server.get("/api/v1/status/active_queries").await.1;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let id = listed["data"][0]["id"].as_str().expect("an id");
    let cancel = Request::delete(format!("/api/v1/status/active_queries/{id}")).body(Body::empty());
    assert_eq!(server.send(cancel.expect("a request")).await.0, 200);
    no_stream_is_left(&server).await;
    assert_eq!(server.metric("weir_query_cancelled_by_request_total"), 1.0);
    assert!(response.into_body().collect().await.is_err(), "it does not end as if it were whole");
}

/// Waits until every stream has given its place back.
async fn no_stream_is_left(server: &Server) {
    while server.metric("weir_query_remote_read_streams") > 0.0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_what_it_waits_for() {
    for flavour in [vec![], number(2, 1)] {
        let server = Server::new();
        let (sender, events) = mpsc::sync_channel(2);
        server.memory.behave(Behaviour::UntilCancelled(sender));
        let message = [query(ALL, &[matcher(0, "__name__", "up")]), flavour].concat();
        let packed = snap::raw::Encoder::new().compress_vec(&message).expect("packs");
        let request = Request::post(PATH).body(Body::from(packed)).expect("a request");
        let answer = tokio::spawn(server.component.router.clone().oneshot(request));
        let events = tokio::task::spawn_blocking(move || {
            assert_eq!(events.recv(), Ok("begun"));
            events
        });
        let events = events.await.expect("it began");
        answer.abort();
        let cancelled = tokio::task::spawn_blocking(move || events.recv());
        assert_eq!(cancelled.await.expect("joined"), Ok("cancelled"));
        assert!(answer.await.expect_err("aborted").is_cancelled());
        assert_eq!(server.metric("weir_query_cancelled_total"), 1.0);
    }
}
