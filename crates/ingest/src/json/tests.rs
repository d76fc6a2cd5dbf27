//! Weir's JSON: what is taken, and what is told of the rest.

use crate::tests::{NOW_MS, Rig};
use model::Sample;

async fn check(body: &str, status: u16, answer: &str) -> Rig {
    let rig = Rig::new(|_| {});
    let (got_status, got) = rig.post("/metrics", body.to_owned()).await;
    assert_eq!((got_status, got.as_str()), (status, answer), "{body}");
    rig
}

async fn refused(entry: &str, reason: &str) {
    let quoted = serde_json::to_string(reason).unwrap();
    let error = serde_json::to_string(&format!("1 of 1 entries rejected: {reason}")).unwrap();
    let answer = format!(
        r#"{{"status":"error","error":{error},"count":0,"rejected":1,"errors":[{{"index":0,"reason":{quoted}}}]}}"#
    );
    assert_eq!(check(entry, 400, &answer).await.content().samples(), 0);
    check(&format!(r#"{{"metrics":[{entry}]}}"#), 400, &answer).await;
}

#[tokio::test]
async fn one_sample_is_accepted_at_its_time_or_that_of_its_arrival() {
    let accepted = r#"{"status":"accepted","count":1}"#;
    let rig = check(r#"{"name":"cpu_usage","value":85}"#, 202, accepted).await;
    assert_eq!(rig.content().series["cpu_usage"], [Sample { t: NOW_MS, v: 85.0 }]);
    let body =
        r#" {"labels":{"b":"\u00e9\"","a":"1","empty":""},"timestamp":12,"extra":[{}],"value":-0.1,"name":"x.y"} "#;
    let rig = check(body, 202, accepted).await;
    assert_eq!(rig.content().series[r#"{__name__="x.y", a="1", b="é\""}"#], [Sample { t: 12, v: -0.1 }]);
    let body = r#"{"name":"a","value":"+Inf","timestamp":1.0,"labels":null}"#;
    assert_eq!(check(body, 202, accepted).await.content().series["a"], [Sample { t: 1, v: f64::INFINITY }]);
    let body = r#"{"name":"a","value":5e-324,"timestamp":null}"#;
    assert_eq!(check(body, 202, accepted).await.content().series["a"], [Sample { t: NOW_MS, v: 5e-324 }]);
    let body = r#"{"name":"a","value":18446744073709551615}"#;
    assert_eq!(check(body, 202, accepted).await.content().series["a"][0].v, 18_446_744_073_709_551_615.0);
}

#[tokio::test]
async fn floats_keep_their_last_bit() {
    let rig = Rig::new(|_| {});
    for text in ["0.1", "9007199254740993.5", "2.2250738585072011e-308", "123456789.12345678", "8.41e21"] {
        rig.post("/metrics", format!(r#"{{"name":"a","value":{text}}}"#)).await;
        let content = rig.content();
        assert_eq!(content.series["a"].last().unwrap().v.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
    }
}

#[tokio::test]
async fn a_batch_keeps_its_good_entries_and_tells_the_bad() {
    check(r#"{"metrics":[]}"#, 202, r#"{"status":"accepted","count":0}"#).await;
    let body = r#"{"metrics":[{"name":"a","value":1},{"value":2},{"name":"b","value":"x"},{"name":"c","value":3}]}"#;
    let answer = concat!(
        r#"{"status":"partial","error":"2 of 4 entries rejected: name is missing","count":2,"rejected":2,"errors":["#,
        r#"{"index":1,"reason":"name is missing"},"#,
        r#"{"index":2,"reason":"value must be a number, or \"NaN\", \"+Inf\", \"-Inf\""}]}"#
    );
    let rig = check(body, 400, answer).await;
    assert_eq!(rig.content().series.keys().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(rig.metric("weir_ingest_samples_total", &["json"]), 2.0);
    assert_eq!(rig.metric("weir_ingest_rejected_samples_total", &["json", "syntax"]), 2.0);
    assert_eq!(rig.metric("weir_ingest_requests_total", &["4xx", "json"]), 1.0);
}

#[tokio::test]
async fn every_bad_entry_has_its_reason() {
    for (entry, reason) in [
        ("{}", "name is missing"),
        (r#"{"name":"","value":1}"#, "name is empty"),
        (r#"{"name":7,"value":1}"#, "name must be a string, not an integer"),
        (r#"{"name":"a"}"#, "value is missing"),
        (r#"{"name":"a","value":null}"#, "value must be a number, not null"),
        (r#"{"name":"a","value":true}"#, "value must be a number, not a boolean"),
        (
            r#"{"name":"a","value":1,"timestamp":"now"}"#,
            "timestamp must be an integer, Unix milliseconds, not a string",
        ),
        (
            r#"{"name":"a","value":1,"timestamp":1.5}"#,
            "timestamp must be an integer, Unix milliseconds, not a number with a fraction",
        ),
        (r#"{"name":"a","value":1,"labels":[]}"#, "labels must be an object of strings"),
        (r#"{"name":"a","value":1,"labels":{"x":1}}"#, "label \"x\" must be a string, not an integer"),
        (r#"{"name":"a","value":1,"labels":{"":"1"}}"#, "label with an empty name"),
        (r#"{"name":"a","value":1,"labels":{"x":"1","x":"2"}}"#, "duplicate label name \"x\""),
        (r#"{"name":"a","value":1,"labels":{"__name__":"b"}}"#, "label \"__name__\" is not allowed; use \"name\""),
    ] {
        refused(entry, reason).await;
    }
    let body = r#"{"metrics":[1,"x",null,[]]}"#;
    let rig = Rig::new(|_| {});
    let (status, text) = rig.post("/metrics", body).await;
    assert_eq!((status, text.matches("an entry must be an object").count()), (400, 5), "{text}");
}

#[tokio::test]
async fn what_is_not_json_is_refused_with_its_place() {
    for (body, error) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{\"name\":\"a\",\n\"value\":}", "expected value at line 2 column 9"),
        ("{\"name\":\"a\",\"value\":1}x", "trailing characters at line 1 column 23"),
        (
            "[]",
            "invalid type: sequence, expected an object with \\\"name\\\" and \\\"value\\\", or with \\\"metrics\\\" at line 1 column 2",
        ),
        (
            "{\"metrics\":5}",
            "invalid type: integer `5`, expected \\\"metrics\\\" to be an array of entries at line 1 column 12",
        ),
        (
            "{\"name\":\"a\",\"metrics\":[{\"name\":\"a\",\"value\":1}]}",
            "\\\"metrics\\\" stands beside the fields of a single entry at line 1 column 47",
        ),
    ] {
        let rig = check(body, 400, &format!(r#"{{"status":"error","error":"{error}","count":0}}"#)).await;
        assert_eq!(rig.content().samples(), 0);
    }
}

#[tokio::test]
async fn samples_out_of_the_window_are_refused_only_where_something_expires() {
    let rig = Rig::new(|args| args.sample_age_max_ms = Some(1000));
    let entry = |t: i64| format!(r#"{{"name":"a","value":1,"timestamp":{t}}}"#);
    assert_eq!(rig.post("/metrics", entry(NOW_MS - 1000)).await.0, 202);
    assert_eq!(rig.post("/metrics", entry(NOW_MS - 1001)).await.0, 400);
    assert_eq!(rig.post("/metrics", entry(NOW_MS + 600_000)).await.0, 202);
    assert_eq!(rig.post("/metrics", entry(NOW_MS + 600_001)).await.0, 400);
    assert_eq!(rig.metric("weir_ingest_rejected_samples_total", &["json", "too_old"]), 1.0);
    assert_eq!(rig.metric("weir_ingest_rejected_samples_total", &["json", "too_new"]), 1.0);
    let rig = Rig::new(|_| {});
    assert_eq!(rig.post("/metrics", entry(i64::MIN)).await.0, 202);
    assert_eq!(rig.post("/metrics", entry(i64::MAX)).await.0, 202);
}

#[tokio::test]
async fn bad_entries_beyond_a_thousand_are_only_counted() {
    let rig = Rig::new(|_| {});
    let (status, text) = rig.post("/metrics", format!(r#"{{"metrics":[{}0]}}"#, "0,".repeat(4999))).await;
    assert_eq!((status, text.matches("index").count()), (400, 1000));
    assert!(text.contains(r#""rejected":5000"#));
}
