//! `explain=1` and `analyze=1`.

use serde_json::{Value, json};

use super::support::{Behaviour, Server};

async fn data(server: &Server, path: &str) -> Value {
    let (status, body) = server.get(path).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(answer["status"], "success");
    answer["data"].clone()
}

#[tokio::test]
async fn an_explanation_is_the_plan_and_nothing_is_evaluated() {
    let server = Server::new();
    // Whoever asks the source would be told.
    server.memory.behave(Behaviour::Panic);
    let found = data(&server, "/api/v1/query_range?query=sum(up)%2B1&start=0&end=60&step=15&explain=1").await;
    let expect = json!({"explain": {
        "node": "sum(up)+1", "type": "binaryExpr", "value_type": "vector", "strategy": "in place", "steps": 5,
        "children": [
            {
                "node": "sum(up)", "type": "aggregation", "value_type": "vector",
                "strategy": "groups in parallel, each series after series", "steps": 5,
                "children": [{
                    "node": "up", "type": "vectorSelector", "value_type": "vector",
                    "strategy": "one request for the whole range; newest sample at each step, series in parallel",
                    "steps": 5, "children": [],
                }],
            },
            {
                "node": "1", "type": "numberLiteral", "value_type": "scalar", "strategy": "constant", "steps": 1,
                "children": [],
            },
        ],
    }});
    assert_eq!(found, expect);
    assert_eq!(server.metric("weir_query_samples_read_total"), 0.0);
}

#[tokio::test]
async fn an_analysis_is_beside_the_answer_which_is_the_same() {
    let server = Server::new();
    let query = "/api/v1/query?query=count_over_time(up%5B5m%5D)";
    let plain = data(&server, query).await;
    let mut found = data(&server, &format!("{query}&analyze=true&stats=all")).await;
    let fields = found.as_object_mut().expect("an object");
    let (analysis, stats) = (fields.remove("analysis").expect("there"), fields.remove("stats").expect("there"));
    assert_eq!(found, plain);
    assert_eq!(
        (&analysis["type"], &analysis["series"], &analysis["samples_read"]),
        (&json!("call"), &json!(2), &json!(3))
    );
    assert_eq!(stats["samples"]["samplesRead"], 3);
    let selector = &analysis["children"][0];
    assert_eq!(
        (&selector["node"], &selector["series_found"], &selector["samples_read"]),
        (&json!("up[5m]"), &json!(2), &json!(3))
    );
    assert_eq!((&selector["parallel_tasks"], &selector["series_outlined"]), (&json!(1), &json!(0)));
    let seconds = |part: &Value, name: &str| part[name].as_f64().expect("seconds");
    assert!(seconds(&analysis, "wall_seconds") >= seconds(&analysis, "own_wall_seconds"));
    assert!(seconds(&analysis, "wall_seconds") > 0.0);
    assert!(analysis["memory_bytes"].as_u64().expect("bytes") >= 16);
}

#[tokio::test]
async fn only_one_of_both_is_asked_for_and_says_so() {
    let server = Server::new();
    assert!(data(&server, "/api/v1/query?query=up&explain=0&analyze=false").await.get("analysis").is_none());
    let both = "explain does not evaluate the query and analyze does: one of them at a time";
    let expect = format!("invalid parameter \\\"explain\\\": {both}");
    server.refused("/api/v1/query?query=up&explain=1&analyze=1", 400, "bad_data", &expect).await;
    for name in ["explain", "analyze"] {
        let expect = format!("invalid parameter \\\"{name}\\\": \\\"yes\\\" is neither 1 nor 0");
        server.refused(&format!("/api/v1/query?query=up&{name}=yes"), 400, "bad_data", &expect).await;
    }
    server
        .refused(
            "/api/v1/query?query=up%5B&explain=1",
            400,
            "bad_data",
            "invalid parameter \\\"query\\\": 1:4: parse error: unexpected end of input in duration expression",
        )
        .await;
    for explain in ["&explain=1", "&analyze=1", ""] {
        server
            .refused(
                &format!("/api/v1/query?query=rate(up%5Bstep()-1h%5D){explain}"),
                400,
                "bad_data",
                "invalid parameter \\\"query\\\": 8:17: duration must be greater than 0",
            )
            .await;
    }
}

#[tokio::test]
async fn a_query_may_read_all_samples_where_less_is_enough() {
    let server = Server::new();
    for (path, range) in [("query", ""), ("query_range", "&start=0&end=60&step=15")] {
        for (value, expect) in [
            (
                "",
                "one request for the whole range; what is known of chunks where it is enough (maximum), else their samples",
            ),
            ("1", "one request for the whole range; all samples"),
        ] {
            let path = format!("/api/v1/{path}?query=max_over_time(up%5B5m%5D){range}&explain=1&nooutline={value}");
            assert_eq!(data(&server, &path).await["explain"]["children"][0]["strategy"], expect, "{path}");
        }
    }
    let (status, body) = server.get("/api/v1/query?query=up&nooutline=yes").await;
    assert_eq!(status, 400);
    assert!(body.contains("invalid parameter \\\"nooutline\\\": \\\"yes\\\" is neither 1 nor 0"), "{body}");
}
