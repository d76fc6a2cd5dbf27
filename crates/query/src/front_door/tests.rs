//! What the front door does with headers, and when there is no answer. With real components it is tested in `tests/front_door.rs`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use tower::ServiceExt as _;

use super::*;

async fn served(router: Router) -> (Authority, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let authority = listener.local_addr().expect("an address").to_string().parse().expect("an authority");
    (authority, tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") }))
}

fn door(alerting: Authority, registry: &Registry, timeout: Duration) -> Router {
    let args = Args { alerting_url: Some(alerting), ingest_url: None };
    let token = Some(Token::fixed("s3cret").expect("a token"));
    FrontDoor { args, token }.router_within(registry, timeout).expect("a router")
}

async fn ask(door: &Router, request: Request<Body>) -> (u16, HeaderMap, String) {
    let answer = door.clone().oneshot(request).await.expect("answered");
    let (parts, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

fn get_rules() -> Request<Body> {
    Request::get("/api/v1/rules?type=alert").body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn headers_of_one_connection_stay_on_it_and_the_token_is_weirs_own() {
    let echo = |request: Request<Body>| async move {
        let names: Vec<String> =
            request.headers().iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
        let headers = [("connection", "x-hop, close"), ("x-hop", "1"), ("keep-alive", "timeout=5"), ("x-end", "2")];
        (headers, format!("{} {}", request.uri(), names.join(" ")))
    };
    let (authority, serving) = served(Router::new().fallback(echo)).await;
    let door = door(authority.clone(), &Registry::new(), ANSWER_TIMEOUT);
    let request = Request::get("/api/v1/rules?type=alert&x=%20")
        .header("authorization", "Basic abc")
        .header("connection", "keep-alive, x-private")
        .header("x-private", "1")
        .header("te", "trailers")
        .header("host", "grafana.example")
        .header("accept", "application/json");
    let (status, headers, body) = ask(&door, request.body(Body::empty()).expect("a request")).await;
    assert_eq!(status, 200);
    let expect =
        format!("/api/v1/rules?type=alert&x=%20 accept=application/json authorization=Bearer s3cret host={authority}");
    assert_eq!(body, expect);
    assert_eq!(headers.get("x-end").expect("forwarded"), "2");
    for name in ["connection", "x-hop", "keep-alive"] {
        assert_eq!(headers.get(name), None, "{name}");
    }
    serving.abort();
}

#[tokio::test]
async fn a_component_that_is_not_there_is_a_bad_gateway_with_the_reason() {
    // Nobody else gets the port, and nobody listens on it.
    let bound = tokio::net::TcpSocket::new_v4().expect("a socket");
    bound.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let authority: Authority = bound.local_addr().expect("an address").to_string().parse().expect("an authority");
    let registry = Registry::new();
    let door = door(authority.clone(), &registry, ANSWER_TIMEOUT);
    let (status, headers, body) = ask(&door, get_rules()).await;
    assert_eq!(status, 502);
    assert_eq!(headers.get("retry-after").expect("told"), "1");
    let error = format!("alerting at {authority} does not answer: ");
    assert!(body.starts_with(r#"{"status":"error","errorType":"unavailable","error":"alerting at "#), "{body}");
    assert!(body.contains(&error) && body.contains("Connection refused"), "{body}");
    let metrics = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("metrics");
    assert!(
        metrics.contains(r#"weir_query_forwarded_total{outcome="unreachable",upstream="alerting"} 1"#),
        "{metrics}"
    );
    assert!(metrics.contains(r#"weir_query_forwarding_requests{upstream="alerting"} 0"#), "{metrics}");
}

#[tokio::test]
async fn a_component_that_does_not_answer_in_time_is_a_gateway_timeout() {
    let slow = Router::new().fallback(std::future::pending::<()>);
    let (authority, serving) = served(slow).await;
    let door = door(authority, &Registry::new(), Duration::from_millis(100));
    let (status, _, body) = ask(&door, get_rules()).await;
    assert_eq!(status, 504, "{body}");
    assert!(body.contains(r#""errorType":"timeout""#) && body.contains("did not answer within 100ms"), "{body}");
    serving.abort();
}

#[tokio::test]
async fn a_request_too_many_is_told_to_come_again() {
    let entered = Arc::new(tokio::sync::Semaphore::new(0));
    let told = entered.clone();
    let hold = Router::new().fallback(move || {
        let told = told.clone();
        async move {
            told.add_permits(1);
            std::future::pending::<()>().await;
        }
    });
    let (authority, serving) = served(hold).await;
    let metrics = Metrics::register(&Registry::new()).expect("new");
    let upstream = Arc::new(Upstream::new("alerting", authority, None, ANSWER_TIMEOUT, &metrics).with_requests_max(1));
    let first = tokio::spawn({
        let upstream = upstream.clone();
        async move { upstream.forward(get_rules()).await }
    });
    let _entered = entered.acquire().await.expect("open");
    let refused = upstream.forward(get_rules()).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()), (503, &b"1"[..]));
    first.abort();
    serving.abort();
}

#[tokio::test]
async fn a_body_that_claims_to_be_too_large_is_refused_unread() {
    let (authority, serving) = served(Router::new()).await;
    let metrics = Metrics::register(&Registry::new()).expect("new");
    let upstream = Upstream::new("ingest", authority, None, ANSWER_TIMEOUT, &metrics).with_body_bytes_max(3);
    let post = |body: Body| Request::post("/metrics").body(body).expect("a request");
    assert_eq!(upstream.forward(post(Body::from("four"))).await.status(), 413);
    // One that does not say how large it is.
    let stream = futures_util::stream::iter(["aa", "bb"].map(Ok::<_, std::convert::Infallible>));
    assert_eq!(upstream.forward(post(Body::from_stream(stream))).await.status(), 413);
    serving.abort();
}

#[test]
fn addresses_are_http_without_a_path() {
    assert_eq!(address("http://weir-alerting:9360/").map(|a| a.to_string()), Ok("weir-alerting:9360".to_owned()));
    for bad in ["weir:1", "https://a:1", "http://a/x", "http://a?x", "a", ""] {
        assert!(address(bad).is_err(), "{bad}");
    }
}
