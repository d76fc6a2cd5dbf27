//! The status page, as far as it can be judged without a browser.

use axum::body::Body;
use axum::http::Request;
use tower::ServiceExt;

use super::support::Server;

const PAGE: &str = include_str!("../ui/index.html");

#[tokio::test]
async fn the_page_is_served_with_a_policy_that_lets_it_reach_this_server_only() {
    let server = Server::new();
    let request = Request::get("/").body(Body::empty()).expect("a request");
    let response = server.component.router.clone().oneshot(request).await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    let policy = response.headers()["content-security-policy"].to_str().expect("ASCII");
    assert!(policy.starts_with("default-src 'none'; ") && policy.contains("connect-src 'self'"), "{policy}");
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    assert_eq!(body, PAGE);
}

#[test]
fn the_page_loads_nothing_and_puts_no_markup_together() {
    // The names of the two namespaces of SVG are no addresses that are loaded.
    let page = PAGE.replace("http://www.w3.org/2000/svg", "");
    for forbidden in [
        "http:",
        "https:",
        "src=",
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "<link rel=\"stylesheet",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(PAGE.len() < 30_000, "{} bytes", PAGE.len());
}
