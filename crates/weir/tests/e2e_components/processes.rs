//! Each process is killed or stopped in turn under load, and what `weir run` promises holds; and what answers while one of them is down.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::alerts::{SPEC, Sink, send as send_temperature, write_rules};
use crate::components::PROCESSES;
use crate::crash::{Key, Notes, assert_none, differences, launch, logged, queried, send};
use crate::process::Process;
use crate::support::PATIENCE;
use crate::weir::Weir;

const WRITERS: u64 = 4;
const SERIES: u64 = 10;
/// Acknowledged requests before each kill, and after each start.
const ACKS: u64 = 30;

/// Takes one process out of those that run.
fn take(weir: &mut Weir, name: &str) -> Process {
    let at = weir.running.iter().position(|(running, _)| *running == name).expect("runs");
    weir.running.remove(at).1
}

/// Starts it again, at the address that it had.
async fn start_again(weir: &mut Weir, name: &'static str) {
    let mut process = Process::spawn(name, &mut weir.layout.command(name));
    process.ready(&weir.http).await;
    let at = PROCESSES.iter().position(|known| *known == name).expect("known");
    weir.running.insert(at, (name, process));
}

/// Writes until it is told to stop. A request that is not acknowledged is not sent again: its samples may be there once, or not at all.
async fn write(
    writer: u64,
    http: reqwest::Client,
    address: String,
    stop: watch::Receiver<bool>,
    acks: Arc<watch::Sender<u64>>,
) -> Notes {
    let mut notes = Notes::default();
    for t in 0.. {
        if *stop.borrow() {
            break;
        }
        let keys: Vec<Key> = (0..SERIES).map(|series| (writer, series, t)).collect();
        notes.sent.extend(&keys);
        match send(&http, &address, &keys).await {
            Ok(200..300) => {
                notes.acknowledged.extend(keys);
                acks.send_modify(|n| *n += 1);
            }
            Ok(status @ (400..=499)) => panic!("status {status}"),
            // A client waits a moment before it comes again.
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    notes
}

async fn acknowledged(acks: &watch::Sender<u64>, more: u64) {
    let mut seen = acks.subscribe();
    let enough = *seen.borrow() + more;
    tokio::time::timeout(PATIENCE, seen.wait_for(|n| *n >= enough))
        .await
        .expect("writes are acknowledged")
        .expect("open");
}

/// Ends each process in turn while writers write, starts it again, and looks whether everything is there once.
async fn each_in_turn(end: impl Fn(&'static str, Process)) {
    let dir = tempfile::tempdir().expect("directory");
    let mut sink = Sink::start().await;
    let (rules, data) = (dir.path().join("rules"), dir.path().join("data"));
    write_rules(&rules, &sink.url, SPEC);
    let mut weir = launch(&data).args(&["--rules", &rules.display().to_string()]).start().await;
    let (stop, stopped) = watch::channel(false);
    let acks = Arc::new(watch::Sender::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            // The last one writes through the front door.
            let at = weir.address(if writer + 1 == WRITERS { "/query" } else { "/api/v1/write" }).to_owned();
            tokio::spawn(write(writer, weir.http.clone(), at, stopped.clone(), acks.clone()))
        })
        .collect();
    for name in PROCESSES {
        acknowledged(&acks, ACKS).await;
        end(name, take(&mut weir, name));
        start_again(&mut weir, name).await;
        acknowledged(&acks, ACKS).await;
    }
    stop.send_replace(true);
    let mut notes = Notes::default();
    for writer in writers {
        let one = writer.await.expect("writer ends");
        notes.sent.extend(one.sent);
        notes.acknowledged.extend(one.acknowledged);
    }
    assert_none(&differences(&notes, &queried(&weir).await), "by query", 0);
    for (value, status) in [(40.0, "firing"), (20.0, "resolved")] {
        send_temperature(&weir, value).await;
        assert_eq!(sink.next().await["status"], status);
    }
    let (status, rules) = weir.get("/api/v1/rules").await;
    let name = &rules["data"]["groups"][0]["rules"][0]["name"];
    assert_eq!((status, name), (200, &serde_json::json!("TooHot")), "{rules}");
    let past_the_door = format!("http://{}/api/v1/rules", weir.address("/api/v1/rulesets/kubernetes"));
    let refused = weir.http.get(past_the_door).send().await.expect("answered");
    assert_eq!(refused.status(), 401, "alerting answers nobody without the token");
    weir.stop();
    assert_none(&differences(&notes, &logged(&data).await), "in the log", 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_of_each_component_in_turn_under_load_loses_nothing_acknowledged() {
    // The drop is a kill, and waits for the end.
    each_in_turn(|_, process| drop(process)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_of_each_component_in_turn_under_load_drains_it_and_loses_nothing_acknowledged() {
    each_in_turn(|name, mut process| {
        let status = process.terminate();
        assert!(status.success(), "{name}: {status}");
    })
    .await;
}

/// What the front door answers to a query, a question about rules, and a write while a component is down. A write without the log is left out:
/// it is held until the log has had time to come back.
const DOWN: [(&str, u16, u16, Option<u16>); 4] = [
    ("queue", 503, 200, None),
    ("storage", 503, 200, Some(202)),
    ("alerting", 200, 502, Some(202)),
    ("ingest", 200, 200, Some(502)),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_component_is_down_the_others_answer_and_nothing_that_is_missing_is_passed_over() {
    let dir = tempfile::tempdir().expect("directory");
    let mut weir = launch(dir.path()).start().await;
    let mut written = 0;
    for (name, query, rules, write) in DOWN {
        drop(take(&mut weir, name));
        assert_eq!(weir.get("/api/v1/query?query=m").await.0, query, "a query without {name}");
        assert_eq!(weir.get("/api/v1/rules").await.0, rules, "rules without {name}");
        if let Some(expect) = write {
            let through_the_door = format!("http://{}/metrics", weir.address("/query"));
            let sample = format!(r#"{{"name": "m", "value": 1, "labels": {{"without": "{name}"}}}}"#);
            let answer = weir.http.post(through_the_door).body(sample).send().await.expect("answered");
            assert_eq!(answer.status(), expect, "a write without {name}");
            written += u32::from(answer.status().is_success());
        }
        start_again(&mut weir, name).await;
    }
    assert_eq!(weir.query("count(m)").await[0]["value"][1], written.to_string());
}
