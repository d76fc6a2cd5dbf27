//! What is refused, and how: one address takes writes, queries and questions about alerts, and answers the same whether the component that
//! refuses is in the same process or behind the front door.

use std::io::Read as _;

use crate::weir::{Launch, Weir};

/// A request, the status of its answer, and what the answer says among other things.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static [u8], u16, &'static str);

const SNAPPY: (&str, &str) = ("content-encoding", "snappy");
const VERSION_9: (&str, &str) = ("content-type", "application/x-protobuf;proto=io.prometheus.write.v9.Request");

const CASES: &[Case] = &[
    ("GET", "/ready", &[], b"", 200, "ready"),
    ("HEAD", "/api/v1/rules", &[], b"", 200, ""),
    ("GET", "/unknown", &[], b"", 404, ""),
    ("GET", "/api/v1/unknown", &[], b"", 404, "not_found"),
    ("POST", "/api/v1/rules", &[], b"", 405, ""),
    ("DELETE", "/api/v1/query", &[], b"", 405, ""),
    ("GET", "/api/v1/write", &[], b"", 405, ""),
    ("PUT", "/metrics", &[], b"{}", 405, ""),
    ("GET", "/-/reload", &[], b"", 405, ""),
    ("POST", "/-/reload", &[], b"", 200, ""),
    ("GET", "/query", &[], b"", 400, "name"),
    ("GET", "/api/v1/query", &[], b"", 400, "bad_data"),
    ("GET", "/api/v1/rules?type=x", &[], b"", 400, "bad_data"),
    ("GET", "/api/v1/notifications?limit=x", &[], b"", 400, "limit"),
    ("POST", "/api/v1/write", &[SNAPPY], b"no snappy", 400, "snappy"),
    ("POST", "/api/v1/write", &[SNAPPY, VERSION_9], b"", 415, "remote write 1.0 and 2.0"),
    ("POST", "/api/v1/import/prometheus", &[], b"good 1\nbad{ 1\n", 400, "2:"),
    ("POST", "/metrics", &[], b"{", 400, "error"),
    // A caller's own credentials are nothing to Weir.
    ("POST", "/metrics", &[("authorization", "Bearer guessed")], br#"{"name":"a","value":1}"#, 202, "accepted"),
];

/// A rule whose text is longer than what stays as it is.
const RULES: &str = "groups: [{name: g, rules: [{alert: Long, expr: up, annotations: {summary: TEXT}}]}]";

const PATHS: &[&str] = &[
    "query",
    "query_range",
    "series",
    "labels",
    "label/job/values",
    "metadata",
    "status/buildinfo",
    "status/config",
    "targets",
    "features",
    "rules",
    "alerts",
    "notifications",
    "read",
    "write",
    "import/prometheus",
    "nosuch",
];

/// The headers of an answer to a page of another origin, and its bytes as they are sent.
async fn ask_as_a_page(weir: &Weir, method: &str, path: &str) -> (u16, reqwest::header::HeaderMap, Vec<u8>) {
    let url = format!("http://{}/api/v1/{path}", weir.address("/query"));
    let request = weir.http.request(method.parse().expect("a method"), url);
    let answer = request.header("origin", "http://elsewhere.example").header("accept-encoding", "gzip").send().await;
    let answer = answer.expect("answered");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, answer.bytes().await.expect("a body").to_vec())
}

#[tokio::test]
async fn a_page_of_another_origin_may_ask_for_everything_that_people_ask_for() {
    let dir = tempfile::tempdir().expect("directory");
    let rules = dir.path().join("rules.yaml");
    std::fs::write(&rules, RULES.replace("TEXT", &"x".repeat(5000))).expect("written");
    let data = dir.path().join("data");
    let weir = Launch::new(&data).args(&["--rules", rules.to_str().expect("UTF-8")]).start().await;
    for path in PATHS {
        let (status, headers, _) = ask_as_a_page(&weir, "OPTIONS", path).await;
        assert_eq!(status, 204, "{path}");
        let is_shown = !["write", "import/prometheus"].contains(path);
        assert_eq!(headers.contains_key("access-control-allow-origin"), is_shown, "{path}");
    }
    for path in ["rules", "alerts", "notifications", "labels"] {
        let (status, headers, body) = ask_as_a_page(&weir, "GET", path).await;
        assert_eq!((status, headers["access-control-allow-origin"].as_bytes()), (200, &b"*"[..]), "{path}");
        let is_packed = headers.get("content-encoding").is_some_and(|coding| coding == "gzip");
        assert_eq!(is_packed, path == "rules", "{path}");
        let mut text = String::new();
        match is_packed {
            true => {
                assert!(body.len() < 2000, "{} bytes", body.len());
                flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).expect("gzip");
                assert!(text.contains(&"x".repeat(5000)), "{text}");
            }
            false => text = String::from_utf8(body).expect("UTF-8"),
        }
        assert!(text.starts_with('{') && text.contains("\"success\""), "{path}: {text}");
    }
}

async fn ask(weir: &Weir, case: &Case) -> (u16, String) {
    let (method, path, headers, body, ..) = *case;
    let url = format!("http://{}{path}", weir.address("/query"));
    let request = weir.http.request(method.parse().expect("a method"), url).body(body);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = request.send().await.unwrap_or_else(|e| panic!("{method} {path}: {e:?}"));
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

#[tokio::test]
async fn what_is_wrong_is_told_with_the_same_words_at_one_address() {
    let dir = tempfile::tempdir().expect("directory");
    let weir = Launch::new(dir.path()).start().await;
    for case in CASES {
        let (status, answer) = ask(&weir, case).await;
        let (method, path, .., expect, words) = case;
        assert!(status == *expect && answer.contains(words), "{method} {path}: {status} {answer}");
    }
}

/// A sender that is told so drops what it has; one that sees a broken connection, or 502, sends the same again for ever.
#[tokio::test]
async fn a_body_that_is_too_large_is_told_so_however_far_it_has_come() {
    const MORE_THAN_IS_TAKEN: &[u8] = &[b'a'; 40 << 20];
    let dir = tempfile::tempdir().expect("directory");
    let weir = Launch::new(dir.path()).start().await;
    for path in ["/api/v1/write", "/api/v1/import/prometheus", "/metrics"] {
        let (status, answer) = ask(&weir, &("POST", path, &[], MORE_THAN_IS_TAKEN, 413, "")).await;
        assert!(status == 413 && answer.contains("--ingest-body-bytes-max"), "{path}: {status} {answer}");
    }
}
