//! The listener over a real socket: before and after it is ready, a panic, and the drain.

use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures_util::{FutureExt as _, StreamExt as _};
use runtime::listener::Peer;
use runtime::metrics::Page;
use runtime::{Routes, Shutdown, listener};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

struct Served {
    url: String,
    routes: Routes,
    page: Page,
    trigger: runtime::ShutdownTrigger,
    done: tokio::task::JoinHandle<()>,
}

async fn served() -> Served {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut page = Page::default();
    let registry = page.add("process");
    let routes = Routes::starting(&page);
    let (trigger, shutdown) = Shutdown::new();
    let (socket, address) = listener::bind("127.0.0.1:0").await.expect("bound");
    let (serving, own) = (routes.clone(), registry.clone());
    let done = tokio::spawn(async move { listener::serve(socket, serving, &own, shutdown).await.expect("serves") });
    Served { url: format!("http://{address}"), routes, page, trigger, done }
}

async fn get_text(url: &str) -> (u16, String) {
    let answer = reqwest::get(url).await.expect("answered");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

#[tokio::test]
async fn a_process_lives_before_it_is_ready() {
    let mut served = served().await;
    let url = served.url.clone();
    assert_eq!(get_text(&format!("{url}/live")).await.0, 200);
    assert_eq!(get_text(&format!("{url}/ready")).await.0, 503);
    assert_eq!(get_text(&format!("{url}/hello")).await.0, 503);
    // Samples, which a client drops where it is told that the method is wrong.
    let posted = reqwest::Client::new().post(format!("{url}/metrics")).body("{}").send().await.expect("answered");
    assert_eq!(posted.status(), 503);
    let registry = served.page.add("hello");
    let router = Router::new().route("/hello", get(|| async { "hello" }));
    served.routes.ready(&served.page, router, &registry).expect("ready");
    assert_eq!(get_text(&format!("{url}/hello")).await, (200, "hello".to_owned()));
    assert_eq!(get_text(&format!("{url}/-/ready")).await.0, 200);
    assert_eq!(get_text(&format!("{url}/absent")).await.0, 404);
    let metrics = String::from_utf8(served.page.text()).expect("text");
    assert!(metrics.contains(r#"weir_http_requests_total{code="200",method="GET",route="/hello"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"route="unmatched"} 1"#), "{metrics}");
}

#[tokio::test]
async fn a_handler_that_panics_answers_500_and_ends_nothing_else() {
    let mut served = served().await;
    let registry = served.page.add("x");
    async fn panics() -> &'static str {
        panic!("on purpose")
    }
    let router = Router::new().route("/panic", get(panics));
    served.routes.ready(&served.page, router, &registry).expect("ready");
    assert_eq!(get_text(&format!("{}/panic", served.url)).await.0, 500);
    assert_eq!(get_text(&format!("{}/ready", served.url)).await.0, 200);
}

#[tokio::test]
async fn a_handler_is_told_who_sent_a_request() {
    let mut served = served().await;
    let registry = served.page.add("peer");
    let router =
        Router::new().route("/peer", get(|Extension(peer): Extension<Peer>| async move { peer.0.to_string() }));
    served.routes.ready(&served.page, router, &registry).expect("ready");
    let address = served.url.strip_prefix("http://").expect("a URL");
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let own = stream.local_addr().expect("an address").to_string();
    let request = format!("GET /peer HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.ends_with(&own), "{own}: {answer}");
}

/// Sends as a client does that looks at the answer when it has sent everything; the answer.
async fn sent(url: &str, headers: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").expect("HTTP")).await.expect("connected");
    let head = format!("POST /refused HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(body).await.expect("the connection holds until everything is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

#[tokio::test]
async fn a_request_that_is_refused_unread_gets_its_answer() {
    let mut served = served().await;
    let registry = served.page.add("x");
    let refuse = post(async || (StatusCode::PAYLOAD_TOO_LARGE, "too large"));
    served.routes.ready(&served.page, Router::new().route("/refused", refuse), &registry).expect("ready");
    // More than the buffers of both ends hold.
    let body = vec![b'x'; 32 << 20];
    let length = format!("content-length: {}\r\n", body.len());
    let answer = sent(&served.url, &length, &body).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("too large"), "{answer}");
    // This one asked first, and is told at once.
    let answer = sent(&served.url, &format!("{length}expect: 100-continue\r\n"), b"").await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("too large"), "{answer}");
}

#[tokio::test]
async fn a_client_that_was_too_slow_is_told_so_without_another_wait() {
    let mut served = served().await;
    let registry = served.page.add("x");
    let refuse = post(async |body: Body| {
        // Looked at, and dropped before it came.
        let _ = body.into_data_stream().next().now_or_never();
        (StatusCode::REQUEST_TIMEOUT, "too slow")
    });
    served.routes.ready(&served.page, Router::new().route("/refused", refuse), &registry).expect("ready");
    let answer = sent(&served.url, "content-length: 10\r\n", b"12345").await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.ends_with("too slow"), "{answer}");
    let metrics = String::from_utf8(served.page.text()).expect("text");
    assert!(metrics.contains("weir_http_bodies_cut_total 0"), "{metrics}");
}

#[tokio::test]
async fn requests_in_flight_end_before_the_listener_does() {
    let mut served = served().await;
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (e, r) = (entered.clone(), release.clone());
    let slow = move || {
        let (e, r) = (e.clone(), r.clone());
        async move {
            e.notify_one();
            r.notified().await;
            "done"
        }
    };
    let registry = served.page.add("x");
    served.routes.ready(&served.page, Router::new().route("/slow", get(slow)), &registry).expect("ready");
    let url = format!("{}/slow", served.url);
    let asked = tokio::spawn(async move { get_text(&url).await });
    entered.notified().await;
    served.trigger.ask();
    release.notify_one();
    assert_eq!(asked.await.expect("asked"), (200, "done".to_owned()));
    served.done.await.expect("ended");
}

#[tokio::test]
async fn a_request_that_waits_is_told_when_the_listener_drains() {
    let mut served = served().await;
    let entered = Arc::new(Notify::new());
    let told = entered.clone();
    let wait = move |mut draining: Extension<Shutdown>| {
        let told = told.clone();
        async move {
            told.notify_one();
            draining.asked().await;
            "drained"
        }
    };
    let registry = served.page.add("x");
    served.routes.ready(&served.page, Router::new().route("/wait", get(wait)), &registry).expect("ready");
    let url = format!("{}/wait", served.url);
    let asked = tokio::spawn(async move { get_text(&url).await });
    entered.notified().await;
    served.trigger.ask();
    assert_eq!(asked.await.expect("asked"), (200, "drained".to_owned()));
    served.done.await.expect("ended");
}
