//! The six processes as they are installed, over a real API server: each is killed while an alert fires, and what people see stays right.

#[path = "../../../runtime/tests/support/sink.rs"]
mod sink;

use serde_json::{Value, json};

use crate::support::cluster::cluster;
use crate::support::followed::Followed;
use crate::support::processes::{COMPONENTS, Processes};
use crate::support::{channel, rule, until};
use sink::Sink;

/// One for the beginning, one for each kill, and one for the end.
const HOSTS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// The alerts of a notification: what each is (`firing`, `resolved`), and its host.
fn alerts(notification: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let alerts = notification["alerts"].as_array().expect("alerts");
    alerts.iter().map(|alert| (text(&alert["status"]), text(&alert["labels"]["host"]))).collect()
}

/// The series that query knows of the last minutes.
async fn queried(processes: &Processes) -> Result<usize, String> {
    let answer = processes.get("query", "/api/v1/query?query=temperature").await?;
    Ok(answer["data"]["result"].as_array().ok_or_else(|| answer.to_string())?.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_of_each_process_while_an_alert_fires_doubles_nothing_and_keeps_the_status_right() {
    let Some(cluster) =
        cluster("a_kill_of_each_process_while_an_alert_fires_doubles_nothing_and_keeps_the_status_right").await
    else {
        return;
    };
    let mut sink = Sink::start().await;
    let mut processes = Processes::start(&cluster, &COMPONENTS).await;
    until(async || cluster.apply(channel("hook", json!({"url": sink.url}))).await.map(drop)).await;
    let mut hot = rule("hot", "temperature > 30");
    hot["spec"]["channel"] = json!("hook");
    cluster.apply(hot).await.expect("admitted");
    cluster.ready("NotificationChannel", "hook", "True", "Ready").await;
    cluster.ready("AlertRule", "hot", "True", "Ready").await;
    let mut status = Followed::new(&cluster, "hot");
    status.wait("seen before it fires", |s| s["state"] == "NoData").await;
    let mut told = Vec::new();
    // Every turn sends all series, as who measures does, and one that was not there: it passes through all of the six.
    let at = |value: f64, count: usize| HOSTS[..count].iter().map(|host| (*host, value)).collect::<Vec<_>>();
    processes.send(&at(40.0, 1)).await;
    told.extend(alerts(&sink.next().await));
    status.fires(1).await;
    for (turn, name) in COMPONENTS.into_iter().enumerate() {
        // What was answered and not noted yet may be told again, as documented; so it is noted first.
        processes.outbox_is_empty().await;
        processes.kill(name);
        processes.start_one(name).await;
        let count = turn + 2;
        processes.send(&at(40.0, count)).await;
        while !told.contains(&("firing".to_owned(), HOSTS[count - 1].to_owned())) {
            told.extend(alerts(&sink.next().await));
        }
        status.fires(count).await;
        until(async || match queried(&processes).await? {
            series if series == count => Ok(()),
            series => Err(format!("{series} series of {count}")),
        })
        .await;
    }
    let count = COMPONENTS.len() + 1;
    processes.send(&at(20.0, count)).await;
    while told.len() < 2 * count {
        told.extend(alerts(&sink.next().await));
    }
    status.wait("resolved", |s| s["state"] == "Inactive" && s["firing"] == 0).await;
    assert_eq!(status.states.lock().expect("unpoisoned")[..], ["NoData", "Firing", "Inactive"], "and nothing between");
    // Behind all that went before: what was doubled would have come first.
    processes.outbox_is_empty().await;
    processes.send(&[(HOSTS[count], 40.0)]).await;
    told.extend(alerts(&sink.next().await));
    let own = |status: &str, hosts: &[&str]| {
        hosts.iter().map(|host| (status.to_owned(), (*host).to_owned())).collect::<Vec<_>>()
    };
    let mut expect = [own("firing", &HOSTS), own("resolved", &HOSTS[..count])].concat();
    expect.sort();
    told.sort();
    assert_eq!(told, expect, "each is told once");
    assert!(sink.is_quiet());
}
