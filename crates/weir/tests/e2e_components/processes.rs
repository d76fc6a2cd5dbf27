//! Each process is killed in turn under load, and what `weir run` promises holds.

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

/// Ends one process as a failure would, and starts it again at the address that it had.
async fn kill_and_start(weir: &mut Weir, name: &'static str) {
    let Weir { layout, running, http } = weir;
    let at = running.iter().position(|(running, _)| *running == name).expect("runs");
    drop(running.remove(at));
    running.insert(at, (name, Process::spawn(name, &mut layout.command(name))));
    running[at].1.ready(http).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_of_each_component_in_turn_under_load_loses_nothing_acknowledged() {
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
        kill_and_start(&mut weir, name).await;
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
