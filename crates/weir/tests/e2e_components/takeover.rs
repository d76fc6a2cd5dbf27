//! The directory of `weir run` is that of the components and the other way round: who has outgrown one process takes the data along.

use std::path::Path;
use std::process::Command;

use model::Sample;
use serde_json::{Value, json};

use crate::alerts::{SPEC, Sink, send, write_rules};
use crate::process::Process;
use crate::support::{install_tls, labels, remote_write, weir_bin};
use crate::weir::Launch;

const T: i64 = 1_790_000_000_000;

/// `weir run` on a directory, ready.
async fn all_in_one(data: &Path, rules: &Path, http: &reqwest::Client) -> Process {
    let mut command = Command::new(weir_bin());
    command.args(["run", "--listen", "127.0.0.1:0", "--retention", "off", "--self-monitoring-interval", "0s"]);
    command.arg("--data").arg(data).arg("--rules").arg(rules);
    let mut process = Process::spawn("weir", &mut command);
    process.ready(http).await;
    process
}

/// The values of the test's series, in the order of their times.
async fn values(http: &reqwest::Client, address: &str) -> Value {
    let url = format!("http://{address}/query?name=moved&start={T}&end={}", T + 1000);
    let answer = http.get(url).send().await.expect("answered").text().await.expect("text");
    let samples: Vec<Value> = serde_json::from_str(&answer).expect(&answer);
    samples.into_iter().map(|sample| sample["value"].clone()).collect()
}

async fn write(http: &reqwest::Client, address: &str, v: f64) {
    let series = (labels(&[("__name__", "moved")]), vec![Sample { t: T + v as i64, v }]);
    assert_eq!(remote_write(http, address, &[series]).await.expect("sent"), 204);
}

#[tokio::test]
async fn components_take_over_the_data_of_one_process_and_give_it_back() {
    let dir = tempfile::tempdir().expect("directory");
    let mut sink = Sink::start().await;
    let (rules, data) = (dir.path().join("rules"), dir.path().join("data"));
    write_rules(&rules, &sink.url, SPEC);
    install_tls();
    let http = reqwest::Client::new();

    let mut one = all_in_one(&data, &rules, &http).await;
    write(&http, &one.address, 1.0).await;
    let hot = json!({"name": "temperature", "value": 40, "labels": {"room": "a"}}).to_string();
    let answer = http.post(format!("http://{}/metrics", one.address)).body(hot).send().await.expect("answered");
    assert_eq!(answer.status(), 202);
    let firing = sink.next().await;
    assert_eq!(firing["status"], "firing");
    assert!(one.terminate().success());

    let launch = Launch::new(&data).args(&["--retention", "off", "--rules", &rules.display().to_string()]);
    let weir = launch.start().await;
    write(&weir.http, weir.address("/api/v1/write"), 2.0).await;
    assert_eq!(values(&weir.http, weir.address("/query")).await, json!([1, 2]));
    assert_eq!(weir.get("/api/v1/alerts").await.1["data"]["alerts"][0]["state"], "firing");
    send(&weir, 10.0).await;
    let resolved = sink.next().await;
    assert_eq!(resolved["status"], "resolved", "and nothing was told twice before: {resolved}");
    assert_eq!(resolved["alerts"][0]["startsAt"], firing["alerts"][0]["startsAt"]);
    weir.stop();

    let one = all_in_one(&data, &rules, &http).await;
    write(&http, &one.address, 3.0).await;
    assert_eq!(values(&http, &one.address).await, json!([1, 2, 3]));
    assert!(sink.is_quiet());
}
