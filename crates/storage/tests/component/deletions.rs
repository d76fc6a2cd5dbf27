//! Deletions over the admin API, while storage runs.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use crate::support::{ADMIN, FORM, NO_RETENTION, Running, start};

fn request(method: Method, operation: &str, form: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(format!("/api/v1/admin/tsdb/{operation}"));
    request.header("content-type", FORM).body(Body::from(form.to_owned())).expect("a request")
}

async fn post(running: &Running, operation: &str, form: &str) -> (StatusCode, Value) {
    running.ask(request(Method::POST, operation, form)).await
}

const DONE: (StatusCode, Value) = (StatusCode::NO_CONTENT, Value::Null);

fn times(samples: &[(i64, f64)]) -> Vec<i64> {
    samples.iter().map(|(t, _)| *t).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_deletion_is_gone_and_what_comes_after_stays() {
    let dir = tempfile::tempdir().expect("directory");
    let running = start(dir.path(), ADMIN).await;
    // So many that they are not yet visible when they are acknowledged.
    running.write_at_once(0..20_000).await;
    assert_eq!(post(&running, "delete_series", "match[]=m&start=0.010&end=15").await, DONE);
    let mut expect: Vec<i64> = (0..10).chain(15_001..20_000).collect();
    assert_eq!(times(&running.read().await), expect);
    running.write(12_000, 1.0).await;
    expect.insert(10, 12_000);
    assert_eq!(times(&running.read().await), expect);
    running.stop().await;

    let running = start(dir.path(), ADMIN).await;
    assert_eq!(times(&running.read().await), expect, "nothing of it is read from the log again");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_block_has_what_is_deleted_once_it_is_cleaned() {
    let dir = tempfile::tempdir().expect("directory");
    let running = start(dir.path(), ADMIN).await;
    running.write_at_once(0..20_000).await;
    assert_eq!(post(&running, "delete_series", "match[]=m&end=9.999").await, DONE);
    assert_eq!(running.ask(request(Method::PUT, "clean_tombstones", "")).await, DONE);
    let snapshot = running.snapshot(dir.path(), "?skip_head=true").await;
    let report = tsdb::offline::inspect::inspect(&snapshot.join("storage"), 1).expect("inspects");
    assert_eq!((report.samples, report.deletions), (10_000, Vec::new()));
    assert_eq!(times(&running.read().await), (10_000..20_000).collect::<Vec<_>>());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_selector_is_a_deletion_and_times_are_those_of_prometheus() {
    let dir = tempfile::tempdir().expect("directory");
    let running = start(dir.path(), ADMIN).await;
    for t in 0..30 {
        running.write(t, t as f64).await;
    }
    // In the address, where braces and quotes have to be escaped.
    let uri = "delete_series?match[]=m%7Bt=%223%22%7D&match%5B%5D=%7Bt=~%221.%22%7D&end=1970-01-01T00:00:00.015Z";
    assert_eq!(running.ask(request(Method::PUT, uri, "")).await, DONE);
    assert_eq!(times(&running.read().await), (0..3).chain(4..10).chain(16..30).collect::<Vec<_>>());
    assert_eq!(post(&running, "delete_series", "match[]=m&start=0.02").await, DONE);
    assert_eq!(times(&running.read().await), (0..3).chain(4..10).chain(16..20).collect::<Vec<_>>());
    assert_eq!(post(&running, "delete_series", "match[]={__name__=~\".%2B\"}").await, DONE);
    assert_eq!(times(&running.read().await), [0; 0]);
    assert_eq!(running.metric("weir_storage_admin_requests_total"), 3.0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_are_in_the_language_that_is_switched_on() {
    let dir = tempfile::tempdir().expect("directory");
    let running = start(dir.path(), ADMIN).await;
    let (status, json) = post(&running, "delete_series", "match[]=http.größe").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{json}");
    running.stop().await;
    let flags = [ADMIN, &["--enable-feature", "promql-unquoted-utf8-names"]].concat();
    let running = start(dir.path(), &flags).await;
    assert_eq!(post(&running, "delete_series", "match[]=http.größe").await, DONE);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_as_prometheus_does_and_deletes_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    let running = start(dir.path(), ADMIN).await;
    running.write(1, 1.0).await;
    let many = "match[]=m&".repeat(101);
    for (form, reason) in [
        ("", "no match[] parameter provided"),
        ("start=1", "no match[] parameter provided"),
        ("match[]=m&match[]=m{", "invalid parameter \"match[]\": "),
        ("match[]={}", "must contain at least one non-empty matcher"),
        ("match[]=rate(m[1m])", "invalid parameter \"match[]\": "),
        ("match[]=m&start=x", "invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\""),
        ("match[]=m&end=2026-13-01T00:00:00Z", "invalid parameter \"end\": invalid time value for 'end': "),
        ("match[]=m&start=2&end=1", "end timestamp must not be before start timestamp"),
        ("match[]=%zz", "error parsing form values: "),
        (&many, "at most 100 selectors are allowed"),
    ] {
        let (status, json) = post(&running, "delete_series", form).await;
        assert_eq!((status, &json["errorType"]), (StatusCode::BAD_REQUEST, &json!("bad_data")), "{form}: {json}");
        assert!(json["error"].as_str().expect("a reason").contains(reason), "{form}: {json}");
    }
    let (status, _) = running.ask(request(Method::GET, "delete_series?match[]=m", "")).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(times(&running.read().await), [1]);
    running.stop().await;
    let running = start(dir.path(), NO_RETENTION).await;
    let disabled = json!({"status": "error", "errorType": "unavailable", "error": "admin APIs disabled"});
    for operation in ["delete_series", "clean_tombstones"] {
        let answer = post(&running, operation, "match[]=m").await;
        assert_eq!(answer, (StatusCode::SERVICE_UNAVAILABLE, disabled.clone()));
    }
    assert_eq!(times(&running.read().await), [1]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_of_a_kind_is_done_at_a_time() {
    let dir = tempfile::tempdir().expect("directory");
    let running = start(dir.path(), ADMIN).await;
    running.write(1, 1.0).await;
    // Begun, and not asked for its end until the second one was refused; one that has ended already is no good.
    let mut done = 0.0;
    let first = loop {
        assert!(done < 100.0, "none is under way when it was polled once");
        let mut first = Box::pin(post(&running, "delete_series", "match[]=m"));
        match (&mut first).now_or_never() {
            None => break first,
            Some(answer) => assert_eq!(answer, DONE),
        }
        done += 1.0;
    };
    let (status, json) = post(&running, "delete_series", "match[]=m").await;
    let refused =
        json!({"status": "error", "errorType": "unavailable", "error": "another delete_series is being done"});
    assert_eq!((status, json), (StatusCode::SERVICE_UNAVAILABLE, refused));
    assert_eq!(post(&running, "clean_tombstones", "").await, DONE, "is of another kind");
    assert_eq!(first.await, DONE);
    assert_eq!(post(&running, "delete_series", "match[]=m").await, DONE);
    assert_eq!(running.metric("weir_storage_admin_requests_total"), done + 4.0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exemplars_of_deleted_series_are_gone_for_good() {
    let dir = tempfile::tempdir().expect("directory");
    let running = start(dir.path(), ADMIN).await;
    for t in 0..6 {
        running.write_exemplar(t).await;
    }
    let selectors = "match[]=m{t=~\"[0-4]\"}&start=0.002&end=0.003&match[]=m{t=\"9\"}";
    assert_eq!(post(&running, "delete_series", selectors).await, DONE);
    assert_eq!(running.exemplars().await, [0, 1, 4, 5]);
    running.write_exemplar(2).await;
    running.stop().await;
    let running = start(dir.path(), ADMIN).await;
    assert_eq!(running.exemplars().await, [0, 1, 2, 4, 5], "what came later stays");
    assert_eq!(running.metric("weir_storage_failed_writes_total"), 0.0);
    running.stop().await;
}
