//! `weir demo`: drives a running Weir like a newcomer would, in a minute: normal load, high load, queries, an alert that fires and
//! resolves at a webhook. Everything goes over the APIs that anyone has; nothing is arranged inside.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::cli::DemoArgs;
use crate::client::Client;
use crate::commands::sink::Sink;
use crate::output::out;

/// The rule of manifests/examples/demo.yaml that the load makes fire.
const RULE: &str = "demo-cpu-high";
/// The load comes from so many hosts, ten requests a second.
const HOSTS: usize = 20;
const TICK: Duration = Duration::from_millis(100);
/// Seconds of load before the next thing is shown.
const NORMAL_TICKS: u32 = 50;
/// How long a notification may take; the rule waits two seconds before it fires.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends load, shows what comes of it.
pub(crate) async fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server.url)?;
    match client.get("/ready").await {
        Ok(answer) if answer.status == 200 => say("1", &format!("Weir is ready at {}", client.url()))?,
        Ok(answer) => bail!("Weir at {} is not ready yet: {}", client.url(), answer.text.trim()),
        Err(_) => bail!("no Weir at {}; run `make run` in another terminal first", client.url()),
    }
    let rules = client.call("/api/v1/rules", &[]).await.context("asking for the rules")?;
    if !rules.to_string().contains(&format!("\"{RULE}\"")) {
        bail!(
            "Weir at {} does not have the rule {RULE}; start it with `make run`, or with --rules manifests/examples",
            client.url()
        );
    }
    let mut sink = Sink::start(&args.webhook).await?;
    say("2", &format!("a webhook listens at http://{}/, where the rule's channel sends notifications", sink.address))?;

    let mut load = Load { client: &client, random: Random(runtime::clock::now_ms().unsigned_abs()), sent: 0 };
    say("3", &format!("normal load: {HOSTS} hosts, 20 to 60 % busy, for {} s", NORMAL_TICKS / 10))?;
    for _ in 0..NORMAL_TICKS {
        load.send(20.0, 60.0).await?;
        tokio::time::sleep(TICK).await;
    }
    show(&client, "avg(demo_cpu_usage_percent)").await?;
    show(&client, "rate(demo_requests_total{host=\"host-1\"}[10s])").await?;

    say("4", "high load: 85 to 99 % busy; the rule asks for more than 80 % over two seconds")?;
    let firing = load.until(&mut sink, "firing", 85.0, 99.0).await?;
    notification(&firing)?;
    show(&client, "max(demo_cpu_usage_percent)").await?;
    show(&client, "topk(3, demo_cpu_usage_percent)").await?;

    say("5", "normal load again: the alert resolves")?;
    let resolved = load.until(&mut sink, "resolved", 20.0, 60.0).await?;
    notification(&resolved)?;
    show(&client, "histogram_quantile(0.99, sum by (le) (rate(weir_queue_fsync_duration_seconds_bucket[1m])))").await?;

    writeln!(out(), "\nThat was {} samples, each on disk before it was acknowledged. Now yours:", load.sent)?;
    writeln!(out(), "  curl {}/metrics -d '{{\"name\":\"cpu_usage\",\"value\":85}}'", client.url())?;
    writeln!(out(), "  weir query cpu_usage\n  weir rules\n  {}/ in a browser", client.url())?;
    Ok(ExitCode::SUCCESS)
}

fn say(number: &str, text: &str) -> io::Result<()> {
    let mut out = out();
    writeln!(out, "\n[{number}/5] {text}")?;
    out.flush()
}

/// What the demo sends.
struct Load<'a> {
    client: &'a Client,
    random: Random,
    sent: u64,
}

impl Load<'_> {
    /// One request with two samples a host.
    async fn send(&mut self, low: f64, high: f64) -> anyhow::Result<()> {
        let mut entries = Vec::with_capacity(2 * HOSTS);
        for host in 1..=HOSTS {
            let labels = json!({"host": format!("host-{host}")});
            let cpu = (low + (high - low) * self.random.next()) * 10.0;
            entries.push(json!({"name": "demo_cpu_usage_percent", "value": cpu.round() / 10.0, "labels": labels}));
            let requests = self.sent / (2 * HOSTS as u64) * (low as u64 / 10);
            entries.push(json!({"name": "demo_requests_total", "value": requests, "labels": labels}));
        }
        let body = json!({ "metrics": entries }).to_string();
        let answer = self.client.post("/metrics", "application/json", body.into_bytes()).await?;
        // Told to slow down: the next tick tries again, as a client should.
        if answer.status != 202 && answer.status != 429 {
            bail!("sending samples: status {}: {}", answer.status, answer.text.trim());
        }
        self.sent += answer.json().and_then(|body| body["count"].as_u64()).unwrap_or(0);
        Ok(())
    }

    /// Load until a notification says that the alert is in the state.
    async fn until(&mut self, sink: &mut Sink, state: &str, low: f64, high: f64) -> anyhow::Result<Value> {
        let loaded = async {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                tokio::select! {
                    biased;
                    received = sink.next() => if received["status"] == state { return Ok(received) },
                    _ = ticks.tick() => self.send(low, high).await?,
                }
            }
        };
        match tokio::time::timeout(PATIENCE, loaded).await {
            Ok(ended) => ended,
            Err(_) => bail!(
                "no notification that the alert is {state} came within {} s; see `weir rules`",
                PATIENCE.as_secs()
            ),
        }
    }
}

/// xorshift64*; the load only has to look alive.
struct Random(u64);

impl Random {
    /// From 0 to below 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A query with its answer, as `weir query` would show it.
async fn show(client: &Client, expr: &str) -> anyhow::Result<()> {
    let answer = client.call("/api/v1/query", &[("query", expr)]).await.with_context(|| expr.to_owned())?;
    let mut out = out();
    writeln!(out, "      $ weir query '{expr}'")?;
    let mut text = Vec::new();
    super::query::table(&answer["data"])?.write_aligned(&mut text)?;
    for line in String::from_utf8_lossy(&text).lines() {
        writeln!(out, "        {line}")?;
    }
    Ok(())
}

fn notification(received: &Value) -> io::Result<()> {
    let mut out = out();
    let alerts = received["alerts"].as_array().map_or(&[][..], Vec::as_slice);
    let status = received["status"].as_str().unwrap_or_default().to_uppercase();
    writeln!(out, "      => the webhook was told {status}, {} alert(s):", alerts.len())?;
    for alert in alerts.iter().take(3) {
        let summary = alert["annotations"]["summary"].as_str().unwrap_or_default();
        writeln!(out, "         {}: {summary}", alert["labels"]["alertname"].as_str().unwrap_or_default())?;
    }
    Ok(())
}
