//! What browsers ask before they ask, and what other components answer at the same address: in a coding, and for pages of other origins.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::get;
use http_body_util::BodyExt as _;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use super::compression::unpack;
use super::support::Server;
use crate::{FrontDoor, front_door};

/// Longer than a piece that is compressed at once, and than what a connection reads at once.
const LONG: usize = 3_000_000;

fn long() -> Vec<u8> {
    (0..LONG).map(|n| b'a' + (n / 7 % 26) as u8).collect()
}

/// A query component in front of such an alerting.
async fn in_front_of(alerting: Router) -> (Server, JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = Some(listener.local_addr().expect("an address").to_string().parse().expect("an authority"));
    let serving = tokio::spawn(async move { axum::serve(listener, alerting).await.expect("serves") });
    let args = front_door::Args { alerting_url: address.clone(), ingest_url: address };
    (Server::with_front_door(FrontDoor { args, token: None }), serving)
}

async fn ask(
    router: &Router,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, HeaderMap, Vec<u8>) {
    let request = Request::builder().method(method).uri(path);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = router.clone().oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer");
    let (parts, body) = answer.into_parts();
    (parts.status, parts.headers, body.collect().await.expect("a body").to_bytes().to_vec())
}

const FOREIGN: (&str, &str) = ("origin", "http://x");

#[tokio::test]
async fn every_path_of_the_api_says_that_a_browser_may_ask() {
    let (server, serving) = in_front_of(Router::new()).await;
    for path in [
        "query",
        "query_range",
        "query_exemplars",
        "format_query",
        "parse_query",
        "series",
        "labels",
        "label/a/values",
        "metadata",
        "status/buildinfo",
        "status/runtimeinfo",
        "status/flags",
        "status/tsdb",
        "status/walreplay",
        "status/config",
        "openapi.yaml",
        "status/active_queries",
        "status/active_queries/7",
        "status/top_queries",
        "features",
        "targets",
        "targets/metadata",
        "targets/relabel_steps",
        "scrape_pools",
        "scrape_pools/config",
        "alertmanagers",
        "read",
        "rules",
        "alerts",
        "notifications",
        "nosuch",
    ] {
        let path = format!("/api/v1/{path}");
        let (status, headers, body) = ask(&server.component.router, Method::OPTIONS, &path, &[FOREIGN]).await;
        assert_eq!((status, body.len()), (StatusCode::NO_CONTENT, 0), "{path}");
        assert_eq!(headers["access-control-allow-origin"], "*", "{path}");
        assert_eq!(headers["access-control-allow-methods"], "GET, POST, OPTIONS", "{path}");
        let (status, headers, _) = ask(&server.component.router, Method::OPTIONS, &path, &[]).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{path}");
        assert_eq!(headers.get("access-control-allow-origin"), None, "{path}");
    }
    // Pages of other origins write nothing here.
    for path in ["write", "import/prometheus"] {
        let (status, headers, _) =
            ask(&server.component.router, Method::OPTIONS, &format!("/api/v1/{path}"), &[FOREIGN]).await;
        assert_eq!((status, headers.get("access-control-allow-origin")), (StatusCode::NO_CONTENT, None), "{path}");
    }
    serving.abort();
}

#[tokio::test]
async fn what_is_read_can_be_asked_for_its_headers_alone() {
    let server = Server::new();
    for path in [
        "/api/v1/query?query=1&time=0",
        "/api/v1/labels",
        "/api/v1/label/job/values",
        "/api/v1/metadata",
        "/api/v1/status/flags",
        "/federate?match[]=up",
        "/",
    ] {
        let (status, headers, body) = ask(&server.component.router, Method::GET, path, &[]).await;
        let (head_status, head_headers, nothing) = ask(&server.component.router, Method::HEAD, path, &[]).await;
        assert_eq!((head_status, nothing.len()), (status, 0), "{path}");
        assert_eq!(head_headers["content-type"], headers["content-type"], "{path}");
        assert_eq!(head_headers["content-length"], body.len().to_string(), "{path}");
    }
    let (status, ..) = ask(&server.component.router, Method::HEAD, "/api/v1/query", &[]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_passes_the_front_door_is_compressed_and_once_only() {
    let alerting = Router::new()
        .route("/api/v1/rules", get(async || long()))
        .route("/api/v1/alerts", get(async || ([("content-encoding", "gzip")], "y".repeat(5000))))
        .route("/api/v1/notifications", get(async || "short"));
    let (server, serving) = in_front_of(alerting).await;
    let router = &server.component.router;
    for coding in ["gzip", "zstd"] {
        let (status, headers, body) =
            ask(router, Method::GET, "/api/v1/rules", &[("accept-encoding", coding), FOREIGN]).await;
        assert_eq!((status, headers["content-encoding"].as_bytes()), (StatusCode::OK, coding.as_bytes()));
        assert_eq!(headers.get("content-length"), None);
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert_eq!(headers.get_all("vary").iter().collect::<Vec<_>>(), ["Accept-Encoding", "Origin"]);
        assert!(body.len() * 10 < LONG, "{} bytes", body.len());
        assert!(unpack(coding, &body) == long(), "{coding}");
        let sent = server.metric(&format!("weir_query_answer_bytes_total{{coding=\"{coding}\"}}"));
        assert_eq!(sent, body.len() as f64);
    }
    let (_, headers, body) = ask(router, Method::GET, "/api/v1/rules", &[]).await;
    assert_eq!((headers.get("content-encoding"), headers.get("access-control-allow-origin")), (None, None));
    assert!(body == long());
    let (_, headers, body) = ask(router, Method::GET, "/api/v1/alerts", &[("accept-encoding", "gzip")]).await;
    assert_eq!((headers["content-encoding"].as_bytes(), body), (&b"gzip"[..], vec![b'y'; 5000]));
    let (_, headers, body) = ask(router, Method::GET, "/api/v1/notifications", &[("accept-encoding", "gzip")]).await;
    assert_eq!((headers.get("content-encoding"), body), (None, b"short".to_vec()));
    let only = [("accept-encoding", "gzip, identity;q=0")];
    let (_, headers, body) = ask(router, Method::GET, "/api/v1/notifications", &only).await;
    assert_eq!((headers["content-encoding"].as_bytes(), unpack("gzip", &body)), (&b"gzip"[..], b"short".to_vec()));
    let (status, headers, body) = ask(router, Method::HEAD, "/api/v1/rules", &[("accept-encoding", "gzip")]).await;
    assert_eq!((status, headers["content-length"].as_bytes()), (StatusCode::OK, LONG.to_string().as_bytes()));
    assert!(body.is_empty());
    serving.abort();
}

#[tokio::test]
async fn a_body_that_breaks_off_on_its_way_has_no_end_in_its_coding_either() {
    let broken = async || {
        let pieces = [Ok(bytes::Bytes::from(long())), Err(std::io::Error::other("the process died"))];
        Body::from_stream(futures_util::stream::iter(pieces)).into_response()
    };
    let (server, serving) = in_front_of(Router::new().route("/api/v1/rules", get(broken))).await;
    let request = Request::get("/api/v1/rules").header("accept-encoding", "gzip").body(Body::empty());
    let answer = server.component.router.clone().oneshot(request.expect("a request")).await.expect("an answer");
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert!(answer.into_body().collect().await.is_err());
    serving.abort();
}

#[tokio::test]
async fn what_another_component_answers_in_this_process_is_presented_where_people_ask_for_it() {
    let server = Server::new();
    let alerting = Router::new().route("/api/v1/rules", get(async || long())).route("/-/reload", get(async || long()));
    let router = server.presentation.of(alerting);
    let headers = [("accept-encoding", "zstd"), FOREIGN];
    let (_, told, body) = ask(&router, Method::GET, "/api/v1/rules", &headers).await;
    assert_eq!(
        (told["content-encoding"].as_bytes(), told["access-control-allow-origin"].as_bytes()),
        (&b"zstd"[..], &b"*"[..])
    );
    assert!(unpack("zstd", &body) == long());
    let (_, told, body) = ask(&router, Method::GET, "/-/reload", &headers).await;
    assert_eq!((told.get("content-encoding"), told.get("access-control-allow-origin")), (None, None));
    assert!(body == long());
}
