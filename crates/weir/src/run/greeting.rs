//! What `weir run` tells the person who started it, on standard output: where it listens, what to type next, and, once it has
//! monitored itself for a moment, that this works end to end.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use runtime::{Ended, Shutdown};
use serde_json::Value;

use crate::client::Client;
use crate::output::out;

/// How often is looked whether there is something to show, and how often at most.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const LOOKS_MAX: u32 = 30;

/// Says where; the first line is for programs too.
pub(super) fn listening(address: SocketAddr) -> io::Result<()> {
    let mut out = out();
    writeln!(out, "Weir {} listens on http://{address}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "  status page     http://{address}/")?;
    writeln!(out, "  remote write    http://{address}/api/v1/write        for Prometheus' remote_write")?;
    writeln!(
        out,
        "  PromQL          http://{address}/api/v1/query        for Grafana: data source Prometheus, http://{address}"
    )?;
    writeln!(out, "  first sample    curl http://{address}/metrics -d '{{\"name\":\"cpu_usage\",\"value\":85}}'")?;
    let url = if address.to_string() == "127.0.0.1:9360" { String::new() } else { format!(" --url http://{address}") };
    writeln!(out, "  first query     weir query cpu_usage{url}")?;
    out.flush()
}

/// Waits until Weir's own metrics have gone through all of it, and shows that. Resolves with no error in any case: this is a courtesy.
pub(super) async fn summary(address: SocketAddr, mut shutdown: Shutdown) -> Ended {
    let shown = async {
        let Ok(client) = Client::new(&format!("http://{address}")) else { return };
        for _ in 0..LOOKS_MAX {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(line) = look(&client).await {
                // A reader that has left does not want to know.
                let _ = writeln!(out(), "{line}");
                return;
            }
        }
        tracing::warn!("Weir's own metrics cannot be queried yet");
    };
    tokio::select! {
        () = shown => {}
        () = shutdown.asked() => return Ok(()),
    }
    // A part that ends is taken as a failure, so this one stays.
    shutdown.asked().await;
    Ok(())
}

/// One line, once there is something to tell.
async fn look(client: &Client) -> Option<String> {
    let count = |expr: &'static str| async move {
        let answer = client.call("/api/v1/query", &[("query", expr)]).await.ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse::<u64>().ok()
    };
    let series = count(r#"count({job=~"weir/.+"})"#).await?;
    let up = count(r#"sum(up{job=~"weir/.+"})"#).await?;
    let rules = client.call("/api/v1/rules", &[]).await.ok()?;
    Some(line(series, up, &rules))
}

fn line(series: u64, up: u64, rules: &Value) -> String {
    let all = || {
        rules["data"]["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|group| group["rules"].as_array().into_iter().flatten())
    };
    let state = |state: &str| all().filter(|rule| rule["state"] == state).count();
    let rules = match all().count() {
        0 => "no alert rules (--rules FILE)".to_owned(),
        n => format!("{n} alert rules watched, {} firing", state("firing")),
    };
    format!("Weir watches itself: {series} series of its own stored, `up` is 1 for {up} of its parts, {rules}.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_summary_counts_series_parts_and_rules() {
        let rules = json!({"data": {"groups": [
            {"rules": [{"state": "firing"}, {"state": "inactive"}]}, {"rules": [{"state": "inactive"}]},
        ]}});
        let expect = "Weir watches itself: 312 series of its own stored, `up` is 1 for 6 of its parts, \
                      3 alert rules watched, 1 firing.";
        assert_eq!(line(312, 6, &rules), expect);
        assert!(line(1, 1, &json!({"data": {"groups": []}})).ends_with("no alert rules (--rules FILE)."));
    }
}
