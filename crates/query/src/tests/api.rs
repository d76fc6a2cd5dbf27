//! `/api/v1`: answers and errors in the bytes of Prometheus.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use model::Kind;

use serde_json::json;

use super::support::{Behaviour, NOW_MS, Server};
use crate::About;

#[tokio::test]
async fn an_instant_query_answers_with_each_type_of_value() {
    let server = Server::new();
    server
        .check(
            "/api/v1/query?query=1e21&time=5.25",
            r#"{"resultType":"scalar","result":[5.25,"1000000000000000000000"]}"#,
        )
        .await;
    server
        .check(
            "/api/v1/query?query=vector(1e21)&time=-1.5",
            r#"{"resultType":"vector","result":[{"metric":{},"value":[-1.500,"1e+21"]}]}"#,
        )
        .await;
    server
        .check(
            "/api/v1/query?query=%22%3Ca%3E%22&time=5.25",
            r#"{"resultType":"string","result":[5.25,"\u003ca\u003e"]}"#,
        )
        .await;
    server.check("/api/v1/query?query=up%7Bjob=%22api%22%7D", r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","instance":"a:1","job":"api"},"value":[1700000000,"1"]}]}"#).await;
    server.check("/api/v1/query?query=up%7Bjob!=%22api%22%7D%5B1m%5D", r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","instance":"b:1","job":"<db>"},"values":[[1699999999.999,"0.5"]]}]}"#).await;
    server.check("/api/v1/query?query=nosuch", r#"{"resultType":"vector","result":[]}"#).await;
    server.check("/api/v1/query?query=%7B%22disk.free%22%7D", r#"{"resultType":"vector","result":[{"metric":{"__name__":"disk.free","a.b":"é\""},"value":[1700000000,"+Inf"]}]}"#).await;
}

#[tokio::test]
async fn a_range_query_answers_with_a_matrix() {
    let server = Server::new();
    server
        .check(
            "/api/v1/query_range?query=up%7Bjob=%22api%22%7D&start=1699999940&end=1700000000&step=30&nocache=1",
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","instance":"a:1","job":"api"},"values":[[1699999940,"0"],[1699999970,"0"],[1700000000,"1"]]}]}"#,
        )
        .await;
    server
        .check(
            "/api/v1/query_range?query=2&start=2023-11-14T22:13:20Z&end=1700000000.5&step=250ms",
            r#"{"resultType":"matrix","result":[{"metric":{},"values":[[1700000000,"2"],[1700000000.250,"2"],[1700000000.500,"2"]]}]}"#,
        )
        .await;
}

#[tokio::test]
async fn negative_and_far_times_are_times_like_others() {
    let server = Server::new();
    server.memory.add(&[("__name__", "old")], &[(-60_000, -1.0), (864_000_000_000, 2.5)]);
    server
        .check(
            "/api/v1/query?query=old&time=-59.999",
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"old"},"value":[-59.999,"-1"]}]}"#,
        )
        .await;
    server
        .check(
            "/api/v1/query?query=old&time=864000000",
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"old"},"value":[864000000,"2.5"]}]}"#,
        )
        .await;
    for time in ["1e300", "-1e300", "Inf", "-292273086-05-16T16:47:06Z"] {
        server.check(&format!("/api/v1/query?query=old&time={time}"), r#"{"resultType":"vector","result":[]}"#).await;
        server
            .check(
                &format!("/api/v1/query_range?query=rate(old%5B1y%5D)&start={time}&end={time}&step=1"),
                r#"{"resultType":"matrix","result":[]}"#,
            )
            .await;
    }
}

/// Requests below `/api/v1` that are refused, and the error of each.
const BAD: &[(&str, &str)] = &[
    (
        "query?query=up&time=x",
        r#"invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp"#,
    ),
    ("query?query=up&limit=x", r#"invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"#),
    ("query?query=up&limit=-1", r#"invalid parameter \"limit\": limit must be non-negative"#),
    ("query?query=up&limit=1.5", r#"invalid parameter \"limit\": strconv.Atoi: parsing \"1.5\": invalid syntax"#),
    (
        "query?query=up&time=1e400",
        r#"invalid parameter \"time\": invalid time value for 'time': cannot parse \"1e400\" to a valid timestamp"#,
    ),
    ("query?query=up&timeout=0", r#"invalid parameter \"timeout\": timeout must be positive, got 0s"#),
    ("query?query=up&timeout=1e-10", r#"invalid parameter \"timeout\": timeout must be positive, got 0s"#),
    ("query?query=up&timeout=-1", r#"invalid parameter \"timeout\": timeout must be positive, got -1s"#),
    (
        "query_range?query=up&start=1&end=5&step=1&timeout=-90.5",
        r#"invalid parameter \"timeout\": timeout must be positive, got -1m30.5s"#,
    ),
    ("labels?timeout=0s", r#"invalid parameter \"timeout\": timeout must be positive, got 0s"#),
    (
        "query?query=up&timeout=nan",
        r#"invalid parameter \"timeout\": cannot parse \"nan\" to a valid duration. It overflows int64"#,
    ),
    (
        "query?query=up&lookback_delta=NaN",
        r#"error parsing lookback delta duration: cannot parse \"NaN\" to a valid duration. It overflows int64"#,
    ),
    (
        "query_range?query=up&start=1&end=5&step=NaN",
        r#"invalid parameter \"step\": cannot parse \"NaN\" to a valid duration. It overflows int64"#,
    ),
    (
        "query_range?query=up&start=1&end=5&step=1e10",
        r#"invalid parameter \"step\": cannot parse \"1e10\" to a valid duration. It overflows int64"#,
    ),
    // The first that is wrong is told.
    ("query_range?limit=x&start=x", r#"invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"#),
    (
        "query_range?start=1&end=2&step=-1&timeout=0",
        r#"invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer"#,
    ),
    (
        "query_range?start=1&end=2&step=1&timeout=0&lookback_delta=x",
        r#"invalid parameter \"timeout\": timeout must be positive, got 0s"#,
    ),
    ("query?query=up&timeout=-1s", r#"invalid parameter \"timeout\": cannot parse \"-1s\" to a valid duration"#),
    (
        "query?query=up&lookback_delta=abc",
        r#"error parsing lookback delta duration: cannot parse \"abc\" to a valid duration"#,
    ),
    ("query?query=sum(", r#"invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis"#),
    ("query_range?query=up", r#"invalid parameter \"start\": cannot parse \"\" to a valid timestamp"#),
    (
        "query_range?query=up&start=5&end=1&step=1",
        r#"invalid parameter \"end\": end timestamp must not be before start time"#,
    ),
    ("query_range?query=up&start=1&end=5", r#"invalid parameter \"step\": cannot parse \"\" to a valid duration"#),
    (
        "query_range?query=up&start=1&end=5&step=0",
        r#"invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer"#,
    ),
    (
        "query_range?query=up&start=1&end=11002&step=1",
        "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
    ),
    (
        "query_range?query=up%5B5m%5D&start=1&end=5&step=1",
        r#"invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"#,
    ),
    ("series", "no match[] parameter provided"),
    ("series?match[]=%7B%7D", r#"invalid parameter \"match[]\": match[] must contain at least one non-empty matcher"#),
    ("labels?match[]=%7Ba=~%22.*%22%7D", "match[] must contain at least one non-empty matcher"),
    ("labels?match[]=foo%7B", "1:5: parse error: unexpected end of input inside braces"),
    (
        "labels?start=x",
        r#"invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp"#,
    ),
    ("label/%ff/values", r#"invalid label name: \"\\xff\""#),
    ("metadata?limit=x", "limit must be a number"),
    ("metadata?limit_per_metric=x", "limit_per_metric must be a number"),
];

#[tokio::test]
async fn bad_parameters_are_refused_in_the_words_of_prometheus() {
    let server = Server::new();
    for (path, error) in BAD {
        server.refused(&format!("/api/v1/{path}"), 400, "bad_data", error).await;
    }
    server
        .check("/api/v1/query_range?query=nosuch&start=1&end=11001&step=1", r#"{"resultType":"matrix","result":[]}"#)
        .await;
}

#[tokio::test]
async fn a_selector_that_is_more_than_a_selector_is_refused() {
    let server = Server::new();
    for selector in ["sum(up)", "up%5B5m%5D", "up%20offset%205m", "1", "up%20@%205"] {
        let (status, body) = server.get(&format!("/api/v1/series?match[]={selector}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{selector}");
        assert!(body.contains(r#"invalid parameter \"match[]\": 1:"#), "{body}");
    }
}

#[tokio::test]
async fn series_are_found_once_and_in_order() {
    let server = Server::new();
    let (a, b) =
        (r#"{"__name__":"up","instance":"a:1","job":"api"}"#, r#"{"__name__":"up","instance":"b:1","job":"<db>"}"#);
    server.check("/api/v1/series?match[]=up&match[]=%7Bjob=%22api%22%7D", &format!("[{a},{b}]")).await;
    server.check("/api/v1/series?match[]=up&end=1699999940", &format!("[{a}]")).await;
    let (_, body) = server.get("/api/v1/series?match[]=up&limit=1").await;
    assert_eq!(body, format!(r#"{{"status":"success","data":[{a}],"warnings":["results truncated due to limit"]}}"#));
    server.check("/api/v1/series?match[]=nosuch", "[]").await;
}

#[tokio::test]
async fn label_names_and_values_are_listed_with_their_odd_characters() {
    let server = Server::new();
    server.check("/api/v1/labels", r#"["__name__","a.b","instance","job"]"#).await;
    server.check("/api/v1/labels?match[]=up&match[]=nosuch", r#"["__name__","instance","job"]"#).await;
    server.check("/api/v1/label/job/values", r#"["\u003cdb\u003e","api"]"#).await;
    server.check("/api/v1/label/U__a_2e_b/values", r#"["é\""]"#).await;
    server.check("/api/v1/label/a.b/values", r#"["é\""]"#).await;
    server.check("/api/v1/label/a%2Eb/values?match[]=up", "[]").await;
    server.check("/api/v1/label/__name__/values?start=1699999999.999", r#"["disk.free","up"]"#).await;
    let (_, body) = server.get("/api/v1/label/job/values?limit=1").await;
    assert_eq!(body, r#"{"status":"success","data":["\u003cdb\u003e"],"warnings":["results truncated due to limit"]}"#);
}

#[tokio::test]
async fn metadata_is_listed_by_family() {
    let server = Server::new();
    let counter = r#"{"type":"counter","unit":"","help":"Requests \u003call\u003e"}"#;
    let gauge = r#"{"type":"gauge","unit":"requests","help":"Requests"}"#;
    let up = r#""up":[{"type":"gauge","unit":"","help":""}]"#;
    server.check("/api/v1/metadata", &format!(r#"{{"http_requests":[{counter},{gauge}],{up}}}"#)).await;
    server.check("/api/v1/metadata?limit_per_metric=1&limit=1", &format!(r#"{{"http_requests":[{counter}]}}"#)).await;
    server.check("/api/v1/metadata?metric=up&limit=-1", &format!("{{{up}}}")).await;
    server.check("/api/v1/metadata?metric=nosuch", "{}").await;
    server.check("/api/v1/metadata?limit=0", "{}").await;
}

#[tokio::test]
async fn a_limit_cuts_the_result_and_says_so() {
    let server = Server::new();
    let (_, body) = server.get("/api/v1/query?query=count(up)%20by%20(job)&limit=1").await;
    assert!(body.ends_with(r#"]},"warnings":["results truncated due to limit"]}"#), "{body}");
    assert_eq!(body.matches("\"metric\"").count(), 1, "{body}");
    let (_, body) = server.get("/api/v1/query?query=up&limit=2").await;
    assert!(!body.contains("warnings"), "{body}");
}

#[tokio::test]
async fn what_a_limit_cuts_off_is_told_of_every_list() {
    let server = Server::new();
    let truncated = r#","warnings":["results truncated due to limit"]}"#;
    let range = "/api/v1/query_range?query=up&start=1700000000&end=1700000000&step=1";
    for (path, first) in [
        (range, r#"{"metric":{"__name__":"up","instance":"a:1","job":"api"},"values":[[1700000000,"1"]]}"#),
        ("/api/v1/labels?", r#""__name__""#),
        ("/api/v1/label/__name__/values?", r#""disk.free""#),
        ("/api/v1/series?match[]=up", r#"{"__name__":"up","instance":"a:1","job":"api"}"#),
    ] {
        let (status, body) = server.get(&format!("{path}&limit=1")).await;
        assert_eq!(status, 200, "{path}");
        assert!(body.contains(&format!("[{first}]")) && body.ends_with(truncated), "{path}: {body}");
        for limit in ["0", "9"] {
            let (_, body) = server.get(&format!("{path}&limit={limit}")).await;
            assert!(body.contains(&format!("[{first},")) && !body.contains("warnings"), "{path}: {body}");
        }
    }
}

#[tokio::test]
async fn how_far_is_looked_back_is_what_the_request_says() {
    let server = Server::new();
    server.memory.add(&[("__name__", "rare")], &[(NOW_MS - 90_000, 7.0)]);
    let found = r#"{"resultType":"vector","result":[{"metric":{"__name__":"rare"},"value":[1700000000,"7"]}]}"#;
    let nothing = r#"{"resultType":"vector","result":[]}"#;
    for (lookback, data) in
        [("", found), ("0", found), ("-1", found), ("91", found), ("2m", found), ("90", nothing), ("1m", nothing)]
    {
        server.check(&format!("/api/v1/query?query=rare&lookback_delta={lookback}"), data).await;
    }
    let range = "/api/v1/query_range?query=rare&start=1699999970&end=1700000000&step=15";
    let matrix = |values: &str| {
        format!(r#"{{"resultType":"matrix","result":[{{"metric":{{"__name__":"rare"}},"values":[{values}]}}]}}"#)
    };
    let all = r#"[1699999970,"7"],[1699999985,"7"],[1700000000,"7"]"#;
    server.check(range, &matrix(all)).await;
    server.check(&format!("{range}&lookback_delta=61s"), &matrix(r#"[1699999970,"7"]"#)).await;
}

#[tokio::test]
async fn statistics_follow_the_result_when_asked_for() {
    let server = Server::new();
    let (_, body) = server.get("/api/v1/query?query=up&stats=all").await;
    assert!(
        body.contains(r#"]}],"stats":{"timings":{"evalTotalTime":"#)
            || body.contains(r#""stats":{"timings":{"evalTotalTime":"#),
        "{body}"
    );
    assert!(body.contains(r#""samples":{"totalQueryableSamples":"#) && body.ends_with("}}}}"), "{body}");
    let (_, body) = server.get("/api/v1/query?query=1&stats=yes").await;
    assert!(body.contains(r#""warnings":["value \"yes\" for parameter \"stats\" is deprecated"#), "{body}");
}

#[tokio::test]
async fn what_each_step_consumes_is_told_where_that_is_switched_on_and_asked_for() {
    let samples: Vec<(i64, f64)> = (0..10).map(|n| (NOW_MS - n * 10_000, 1.0)).rev().collect();
    let ask = async |server: &Server, stats: &str| {
        server.memory.add(&[("__name__", "m")], &samples);
        let (start, end) = (NOW_MS as f64 / 1000.0 - 20.0, NOW_MS as f64 / 1000.0);
        let path = format!(
            "/api/v1/query_range?query=sum_over_time(m%5B30s%5D)&start={start}&end={end}&step=20&stats={stats}"
        );
        let (_, body) = server.get(&path).await;
        body[body.find("\"samples\":").expect("there")..body.find(",\"seriesTouched\"").expect("there")].to_owned()
    };
    let on = Server::with_features("promql-per-step-stats");
    let (first, last) = (NOW_MS as f64 / 1000.0 - 20.0, NOW_MS as f64 / 1000.0);
    let expect = format!(
        "\"samples\":{{\"totalQueryableSamplesPerStep\":[[{first},3],[{last},3]],\"totalQueryableSamples\":6,\
         \"samplesReadPerStep\":[[{first},3],[{last},2]],\"samplesRead\":5"
    );
    assert_eq!(ask(&on, "all").await, expect);
    let totals = "\"samples\":{\"totalQueryableSamples\":6,\"samplesRead\":5";
    let on = Server::with_features("promql-per-step-stats");
    assert_eq!(ask(&on, "true").await, totals);
    assert_eq!(ask(&Server::new(), "all").await, totals);
}

#[tokio::test]
async fn a_header_says_whether_start_times_are_looked_at() {
    let server = Server::new();
    // Counted from anew at each sample.
    let samples = [2, 1, 0].map(|n| (NOW_MS - n * 10_000, 5.0, NOW_MS - n * 10_000 - 5_000));
    server.memory.add_with_starts(&[("__name__", "c_total")], &samples);
    let ask = async |header: &str| {
        let path = "/api/v1/query?query=resets(c_total%5B1m%5D)";
        let request = Request::get(path).header("X-Prometheus-Use-Start-Timestamps", header);
        server.send(request.body(Body::empty()).expect("a request")).await
    };
    for (header, resets) in [("true", 2), ("1", 2), ("false", 0), ("F", 0), ("", 0)] {
        let (status, body) = ask(header).await;
        assert!(status == 200 && body.contains(&format!(",\"{resets}\"]")), "{header}: {body}");
    }
    let (status, body) = ask("yes").await;
    let error = r#"{"status":"error","errorType":"bad_data","error":"error parsing X-Prometheus-Use-Start-Timestamps header: strconv.ParseBool: parsing \"yes\": invalid syntax"}"#;
    assert_eq!((status.as_u16(), body.as_str()), (400, error));
}

#[tokio::test]
async fn what_fails_below_is_an_error_of_its_kind_and_the_next_query_works() {
    let server = Server::new();
    for (kind, status, word) in
        [(Kind::Invalid, 422, "execution"), (Kind::Corrupt, 500, "internal"), (Kind::Unavailable, 503, "unavailable")]
    {
        server.memory.behave(Behaviour::Fail(kind));
        server.refused("/api/v1/series?match[]=up", status, word, "block 7 is gone").await;
    }
    server.memory.behave(Behaviour::Panic);
    server
        .refused("/api/v1/series?match[]=up", 500, "internal", "the evaluation panicked: a fault in the source")
        .await;
    server.check("/api/v1/series?match[]=nosuch", "[]").await;
}

#[tokio::test]
async fn a_path_that_is_not_there_is_404_and_a_browser_may_ask() {
    let server = Server::new();
    server.refused("/api/v1/nope", 404, "not_found", "404 page not found").await;
    let request =
        Request::options("/api/v1/query").header("Origin", "http://x").body(Body::empty()).expect("a request");
    let response = tower::ServiceExt::oneshot(server.component.router.clone(), request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn what_there_is_none_of_is_an_empty_list() {
    let server = Server::new();
    server.check("/api/v1/targets", r#"{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}"#).await;
    server.check("/api/v1/alertmanagers", r#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#).await;
    server.check("/api/v1/scrape_pools", r#"{"scrapePools":[]}"#).await;
    server.check("/api/v1/status/config", r#"{"yaml":"{}\n"}"#).await;
    server
        .check(
            "/api/v1/status/flags",
            r#"{"query.lookback-delta":"5m","query.max-concurrency":"20","query.max-samples":"50000000","query.timeout":"2m"}"#,
        )
        .await;
}

#[tokio::test]
async fn what_is_known_of_the_process_has_all_fields_of_prometheus() {
    let info = async |server: &Server| -> serde_json::Value {
        let (_, body) = server.get("/api/v1/status/runtimeinfo").await;
        serde_json::from_str::<serde_json::Value>(&body).expect("JSON")["data"].clone()
    };
    let about = About { retention: "15d or 10GiB".to_owned(), memory_bytes_max: 1 << 30, admin_api: false };
    let mut told = info(&Server::with_about(about)).await;
    // Of the machine and the moment.
    let tasks = told["goroutineCount"].take();
    assert!(tasks.is_u64(), "{tasks}");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux tells it");
    let directory = std::env::current_dir().expect("a directory");
    let expect = json!({
        "startTime": "2023-11-14T22:13:20Z",
        "CWD": directory.to_str().expect("UTF-8"),
        "hostname": host.trim_end(),
        "serverTime": "2023-11-14T22:13:20Z",
        "reloadConfigSuccess": true,
        "lastConfigTime": "2023-11-14T22:13:20Z",
        "corruptionCount": 0,
        "goroutineCount": null,
        "GOMAXPROCS": 2,
        "GOMEMLIMIT": 1 << 30,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": "15d or 10GiB",
    });
    assert_eq!(told, expect);
    let told = info(&Server::new()).await;
    assert_eq!((&told["GOMEMLIMIT"], &told["storageRetention"]), (&i64::MAX.into(), &"".into()));
}

#[tokio::test]
async fn there_is_no_scrape_pool_and_of_no_target_is_anything_known() {
    let server = Server::new();
    server.check("/api/v1/targets/metadata?match_target=%7Bjob=%22a%22%7D&metric=x&limit=5", "[]").await;
    let refused = async |path: &str, error: &str| {
        server.refused(&format!("/api/v1/{path}"), 400, "bad_data", error).await;
    };
    refused("targets/metadata?limit=x", "limit must be a number").await;
    let reason = r#"invalid parameter \"match_target\": 1:3: parse error: unexpected end of input inside braces"#;
    refused("targets/metadata?match_target=x%7B", reason).await;
    let none = r#"error retrieving scrape config: scrape pool \"x\" not found"#;
    refused("scrape_pools/config", "no scrapePool parameter provided").await;
    refused("scrape_pools/config?scrapePool=x", none).await;
    refused("targets/relabel_steps", "no scrapePool parameter provided").await;
    refused("targets/relabel_steps?scrapePool=x", "no labels parameter provided").await;
    refused("targets/relabel_steps?scrapePool=x&labels=x", "error parsing labels: expected value at line 1 column 1")
        .await;
    refused("targets/relabel_steps?scrapePool=x&labels=%7B%22a%22:%22b%22%7D", none).await;
    server.check("/api/v1/status/walreplay", r#"{"min":0,"max":0,"current":0}"#).await;
}

#[tokio::test]
async fn features_are_told_by_the_names_of_prometheus() {
    let about = About { admin_api: true, ..About::default() };
    let (_, body) = Server::with_about(about).get("/api/v1/features").await;
    assert!(body.starts_with(r#"{"status":"success","data":{"api":{"admin":true,"#), "{body}");
    let (_, body) = Server::new().get("/api/v1/features").await;
    assert!(body.starts_with(r#"{"status":"success","data":{"api":{"admin":false,"#), "{body}");
    for part in
        [r#""fill":false,"#, r#""rate":true,"#, r#""limitk":false,"#, r#""mad_over_time":false,"#, r#""</":true,"#]
    {
        assert!(body.contains(&part.replace('<', "\\u003c")), "{part}: {body}");
    }
    let names = "promql-unquoted-utf8-names,promql-per-step-stats";
    for (server, is_on) in [(Server::new(), false), (Server::with_features(names), true)] {
        let (_, body) = server.get("/api/v1/features").await;
        for name in ["unquoted_utf8_names", "per_step_stats"] {
            assert!(body.contains(&format!("\"{name}\":{is_on}")), "{name}: {body}");
        }
    }
}

#[tokio::test]
async fn the_description_of_the_api_names_the_version_that_is_asked_for() {
    let server = Server::new();
    for (query, version) in [
        ("", "3.1.0"),
        ("?openapi_version=3.1", "3.1.0"),
        ("?openapi_version=3.2.0", "3.2.0"),
        ("?openapi_version=9", "3.1.0"),
    ] {
        let request = Request::get(format!("/api/v1/openapi.yaml{query}")).body(Body::empty()).expect("a request");
        let answer = tower::ServiceExt::oneshot(server.component.router.clone(), request).await.expect("an answer");
        assert_eq!(answer.headers()["content-type"], "application/yaml; charset=utf-8");
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
        let document: serde_json::Value = serde_yaml::from_slice(&body).expect("YAML");
        assert_eq!(document["openapi"], version, "{query}");
        assert!(document["paths"]["/api/v1/query_range"]["get"]["parameters"].is_array());
    }
}

#[tokio::test]
async fn a_query_is_formatted() {
    let server = Server::new();
    server.check("/api/v1/format_query?query=sum(up)%2b1", r#""sum(up) + 1""#).await;
    let tree = r#"{"expr":{"type":"numberLiteral","val":"300"},"op":"-","type":"unaryExpr"}"#;
    let tree = tree.replace(
        r#"{"type":"numberLiteral","val":"300"}"#,
        r#"{"expr":{"type":"numberLiteral","val":"300"},"type":"parenExpr"}"#,
    );
    server.check("/api/v1/parse_query?query=-(5m)", &tree).await;
}

#[tokio::test]
async fn exemplars_are_those_of_every_selector_in_the_form_of_prometheus() {
    let server = Server::new();
    let up = r#"{"seriesLabels":{"__name__":"up","job":"api"},"exemplars":[{"labels":{"span":"<\"7\">","trace_id":"4bf9"},"value":"0.5","timestamp":1699999998.500},{"labels":{},"value":"1e+21","timestamp":1700000000}]}"#;
    let disk = r#"{"seriesLabels":{"__name__":"disk.free","a.b":"é\""},"exemplars":[{"labels":{},"value":"+Inf","timestamp":1700000000}]}"#;
    let path = |query: &str| format!("/api/v1/query_exemplars?query={query}");
    server.check(&path("up"), &format!("[{up}]")).await;
    server.check(&path("sum(rate(up[5m]))+/+on()+{%22disk.free%22}"), &format!("[{disk},{up}]")).await;
    let last = r#"[{"seriesLabels":{"__name__":"up","job":"api"},"exemplars":[{"labels":{},"value":"1e+21","timestamp":1700000000}]}]"#;
    server.check(&path("up+offset+1h&start=1700000000"), last).await;
    server.check(&path("up&start=1&end=2"), "[]").await;
    server.check(&path("absent(down)"), "[]").await;
    let form = "query=up%7Bjob%3D%22api%22%7D";
    assert_eq!(server.post("/api/v1/query_exemplars", form).await, server.get(&path("up")).await);
    for none in ["1", "%22a%22", "time()"] {
        assert_eq!(server.get(&path(none)).await, (StatusCode::NO_CONTENT, String::new()), "{none}");
    }
}

#[tokio::test]
async fn questions_for_exemplars_are_refused_as_by_prometheus_and_held_to_the_limits() {
    let server = Server::with_arguments(&["--query-samples-max", "1"]);
    let refused = async |query: &str, error: &str| {
        server.refused(&format!("/api/v1/query_exemplars?{query}"), 400, "bad_data", error).await;
    };
    refused("query=up&start=2&end=1", "end timestamp must not be before start timestamp").await;
    let invalid = |name: &str| {
        format!(
            "invalid parameter \\\"{name}\\\": invalid time value for '{name}': cannot parse \\\"x\\\" to a valid timestamp"
        )
    };
    refused("query=up&start=x", &invalid("start")).await;
    refused("query=up&end=x", &invalid("end")).await;
    refused("query=absent(", "1:8: parse error: unclosed left parenthesis").await;
    refused("", "unknown position: parse error: no expression found in input").await;
    server.refused("/api/v1/query_exemplars?query=up", 422, "execution", "too many exemplars").await;
    server.memory.behave(Behaviour::Warn);
    let (_, body) = server.get("/api/v1/query_exemplars?query=down").await;
    assert_eq!(body, r#"{"status":"success","data":[],"warnings":["block 7 is in quarantine"]}"#);
    server.memory.caught_up.send_replace(false);
    let (status, body) = server.get("/api/v1/query_exemplars?query=up&timeout=1ms").await;
    assert_eq!((status.as_u16(), body.contains("storage catch-up")), (503, true), "{body}");
}
