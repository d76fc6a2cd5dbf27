//! Queries that run: listed and cancelled from outside, explained, and many at once.

use std::process::Command;

use model::{Labels, Sample};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::support::{encode_form, labels, run, until, weir_bin};
use crate::weir::{Launch, Weir};

const T0: i64 = 1_790_000_000_000;
const SERIES: usize = 200;
const PLACES: usize = 4;
const CLIENTS: usize = 64;

/// Works for long, and looks once a series whether it is still wanted: a window of an hour is sorted at each of many steps.
const ENDLESS: &str = "quantile_over_time(0.5, (x @ 1790000285)[1h:1s])";

async fn with_data(dir: &std::path::Path, args: &[&str]) -> Weir {
    let weir = Launch::new(dir).args(&["--retention", "off", "--query-timeout", "10m"]).args(args).start().await;
    let series: Vec<(Labels, Vec<Sample>)> = (0..SERIES)
        .map(|n| {
            let (zone, instance) = (format!("z{}", n % 7), format!("i{n}"));
            let samples = (0..20).map(|k| Sample { t: T0 + k * 15_000, v: (n as i64 * k % 97) as f64 });
            (labels(&[("__name__", "x"), ("zone", &zone), ("instance", &instance)]), samples.collect())
        })
        .collect();
    assert_eq!(weir.remote_write(&series).await.expect("answered"), 204);
    weir
}

/// Asks on a connection of its own.
fn ask(weir: &Weir, path: &str, form: &[(&str, &str)]) -> JoinHandle<(u16, Value)> {
    let request = weir.http.post(weir.url(path)).header("content-type", "application/x-www-form-urlencoded");
    let request = request.body(encode_form(form));
    tokio::spawn(async move {
        let answer = request.send().await.expect("answered");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    })
}

fn ask_endless(weir: &Weir) -> JoinHandle<(u16, Value)> {
    let seconds = |ms: i64| (ms / 1000).to_string();
    let (start, end) = (seconds(T0), seconds(T0 + 10_000_000));
    ask(weir, "/api/v1/query_range", &[("query", ENDLESS), ("start", &start), ("end", &end), ("step", "1")])
}

async fn active(weir: &Weir) -> Vec<Value> {
    let (status, answer) = weir.get("/api/v1/status/active_queries").await;
    assert_eq!(status, 200, "{answer}");
    answer["data"].as_array().expect("a list").clone()
}

/// Waits until so many are at this stage; all that are there then.
async fn until_active(weir: &Weir, stage: &str, number: usize) -> Vec<Value> {
    let mut all = Vec::new();
    until(async || {
        all = active(weir).await;
        let there = all.iter().filter(|one| one["stage"] == stage).count();
        if there == number { Ok(()) } else { Err(format!("{there} of {number} are {stage}")) }
    })
    .await;
    all
}

fn cli(weir: &Weir, args: &[&str]) -> Command {
    let mut command = Command::new(weir_bin());
    command.args(args).args(["--url", &format!("http://{}", weir.address("/api/v1/query"))]);
    command
}

#[tokio::test]
async fn queries_are_listed_and_cancelled_from_the_command_line() {
    let dir = tempfile::tempdir().expect("directory");
    let weir = with_data(dir.path(), &["--query-concurrency-max", "1"]).await;
    let endless = ask_endless(&weir);
    until_active(&weir, "evaluating", 1).await;
    let waits = ask(&weir, "/api/v1/query", &[("query", "sum(\n  x)")]);
    let all = until_active(&weir, "waiting for a place", 1).await;
    for one in &all {
        let from = one["remote_addr"].as_str().expect("an address");
        assert!(from.starts_with("127.0.0.1:"), "{one}");
    }
    let shown = run(&mut cli(&weir, &["queries"]));
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[0].ends_with("QUERY"), "{shown}");
    assert!(lines[1].contains("  evaluating  ") && lines[1].ends_with(ENDLESS), "{shown}");
    assert!(lines[2].contains("  waiting for a place  ") && lines[2].ends_with("sum( x)"), "{shown}");
    for (line, answer, text) in [(lines[2], waits, "sum( x)"), (lines[1], endless, ENDLESS)] {
        let id = line.split(' ').next().expect("an id");
        assert_eq!(run(&mut cli(&weir, &["queries", "cancel", id])), format!("cancelled {text}\n"));
        let (status, answer) = answer.await.expect("answered");
        assert_eq!((status, &answer["errorType"]), (499, &"canceled".into()));
        assert_eq!(answer["error"], "query was canceled: it was cancelled by request");
    }
    let unknown = cli(&weir, &["queries", "cancel", "0123456789abcdef"]).output().expect("runs");
    let reason = String::from_utf8_lossy(&unknown.stderr);
    assert!(!unknown.status.success() && reason.contains("there is no active query"), "{reason}");
    // The place is free again: it has noticed.
    assert_eq!(weir.query("1").await[1], "1");
    let top = run(&mut cli(&weir, &["queries", "--top", "-o", "csv"]));
    assert!(top.lines().any(|line| line.starts_with("total time,1,") && line.contains(ENDLESS)), "{top}");
}

#[tokio::test]
async fn a_plan_and_what_it_took_are_shown_as_a_tree() {
    let dir = tempfile::tempdir().expect("directory");
    let weir = with_data(dir.path(), &[]).await;
    let time = (T0 / 1000 + 285).to_string();
    let query = "max by (zone) (max_over_time(x[5m])) * 2";
    let plan = run(&mut cli(&weir, &["query", "--time", &time, "--explain", query]));
    let nodes: Vec<&str> = plan.lines().map(|line| line.split("  1  ").next().unwrap_or(line).trim_end()).collect();
    let expect = [
        "NODE                                      STEPS  STRATEGY",
        query,
        "  max by (zone) (max_over_time(x[5m]))",
        "    max_over_time(x[5m])",
        "      x[5m]",
        "  2",
    ];
    assert_eq!(nodes.len(), expect.len(), "{plan}");
    for (node, expect) in nodes.iter().zip(expect).skip(1) {
        assert!(node.starts_with(expect), "{plan}");
    }
    // All samples, also where they come from another process.
    let all = query.replace("max_over_time", "stddev_over_time");
    let took = run(&mut cli(&weir, &["query", "--time", &time, "--analyze", &all, "-o", "json"]));
    let took: Value = serde_json::from_str(&took).expect("JSON");
    assert_eq!(took["data"]["result"].as_array().map(Vec::len), Some(7));
    let window = &took["data"]["analysis"]["children"][0]["children"][0];
    assert_eq!((&window["series"], &window["samples_read"]), (&SERIES.into(), &(SERIES * 20).into()), "{window}");
    let took = run(&mut cli(&weir, &["query", "--time", &time, "--analyze", query]));
    assert!(
        took.lines().nth(4).is_some_and(|line| line.starts_with("      x[5m] ") && line.contains("maximum")),
        "{took}"
    );
}

/// The queries of so many clients, each another one.
fn questions() -> Vec<String> {
    let forms: [fn(usize) -> String; 4] = [
        |n| format!("sum by (zone) (x offset {n}s)"),
        |n| format!("topk({}, rate(x[{}s]))", n + 1, 60 + n),
        |n| format!("x{{instance=~\"i{n}.*\"}} / on (instance) (x + {n})"),
        |n| format!("max_over_time(sum(x)[{}s:15s])", 60 + n),
    ];
    (0..CLIENTS).map(|n| forms[n % forms.len()](n)).collect()
}

#[tokio::test]
async fn sixty_four_clients_at_once_get_the_answers_that_each_gets_alone() {
    let dir = tempfile::tempdir().expect("directory");
    let (places, samples_max) = (PLACES.to_string(), "6000000");
    let weir = with_data(dir.path(), &["--query-concurrency-max", &places, "--query-samples-max", samples_max]).await;
    let time = (T0 / 1000 + 285).to_string();
    let form = |query: &str| [("query".to_owned(), query.to_owned()), ("time".to_owned(), time.clone())];
    let ask_one = |query: &str| {
        let form = form(query);
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        ask(&weir, "/api/v1/query", &form)
    };
    let questions = questions();
    let mut alone = Vec::new();
    for question in &questions {
        let (status, answer) = ask_one(question).await.expect("answered");
        assert!(
            status == 200 && answer["data"]["result"].as_array().is_some_and(|all| !all.is_empty()),
            "{question}: {answer}"
        );
        alone.push(answer);
    }
    // All places are taken until all clients are there.
    let endless: Vec<_> = (0..PLACES).map(|_| ask_endless(&weir)).collect();
    let taken = until_active(&weir, "evaluating", PLACES).await;
    let answers: Vec<_> = questions.iter().map(|question| ask_one(question)).collect();
    // Two hundred series at each of 40,000 times.
    let too_much = ask_one("count_over_time(x[40000s:1s])");
    until_active(&weir, "waiting for a place", CLIENTS + 1).await;
    let metrics = weir.metrics().await;
    for line in [format!("weir_query_running_queries {PLACES}"), format!("weir_query_waiting_queries {}", CLIENTS + 1)]
    {
        assert!(metrics.lines().any(|one| one == line), "{line} is not in\n{metrics}");
    }
    for one in &taken {
        let id = one["id"].as_str().expect("an id");
        let path = format!("/api/v1/status/active_queries/{id}");
        assert_eq!(weir.http.delete(weir.url(&path)).send().await.expect("answered").status(), 200);
    }
    // Until the last has ended, no more have places than there are.
    until(async || {
        let metrics = weir.metrics().await;
        let running = metrics.lines().find_map(|line| line.strip_prefix("weir_query_running_queries ")?.parse().ok());
        assert!(running.is_some_and(|running: usize| running <= PLACES), "{running:?} run");
        let all = active(&weir).await;
        if all.is_empty() { Ok(()) } else { Err(format!("{} are there", all.len())) }
    })
    .await;
    for (question, (answer, alone)) in questions.iter().zip(answers.into_iter().zip(alone)) {
        assert_eq!(answer.await.expect("answered"), (200, alone), "{question}");
    }
    for one in endless {
        assert_eq!(one.await.expect("answered").0, 499);
    }
    let (status, answer) = too_much.await.expect("answered");
    assert_eq!((status, &answer["errorType"]), (422, &"execution".into()), "{answer}");
    let metrics = weir.metrics().await;
    for line in [
        "weir_query_running_queries 0".to_owned(),
        "weir_query_waiting_queries 0".to_owned(),
        format!("weir_query_running_queries_max {PLACES}"),
        format!("weir_query_cancelled_by_request_total {PLACES}"),
        "weir_query_rejected_total 0".to_owned(),
        "weir_query_timeouts_total 0".to_owned(),
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} is not in\n{metrics}");
    }
    weir.stop();
}

/// `runtime::memory::take_small_pages`, of which a process tells.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn every_process_takes_memory_in_small_pages() {
    let dir = tempfile::tempdir().expect("directory");
    let weir = Launch::new(dir.path()).start().await;
    for (name, process) in &weir.running {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).expect("it runs");
        let large = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
        assert_eq!(large.map(str::trim), Some("0"), "{name}");
    }
    weir.stop();
}
