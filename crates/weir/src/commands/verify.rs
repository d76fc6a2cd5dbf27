//! `weir verify`: one sample's way through a running Weir, from the acknowledgement to a notification received here and its resolve.
//!
//! Says whether an installation works, and where it does not; `helm test` runs it. Not a load test, and it makes no rule: whoever runs it
//! has one, with a channel that leads here. Its price is that it sends the sample once a second until the alert comes, since the rule may
//! be younger than the first.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use crate::cli::VerifyArgs;
use crate::client::Client;
use crate::commands::sink::Sink;
use crate::output::out;

/// The metric that the rule looks at.
const METRIC: &str = "weir_verify";
/// Between two samples, and two questions.
const TICK: Duration = Duration::from_secs(1);

/// Sends, asks, and waits to be told.
pub(crate) async fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let mut probe = Probe::start(args).await?;
    let mut step = "starting";
    match tokio::time::timeout(args.timeout, probe.all(&mut step)).await {
        Ok(ended) => ended.with_context(|| step.to_owned())?,
        Err(_) => match probe.reason {
            Some(reason) => bail!("{step}: not within {:?}; the last reason: {reason}", args.timeout),
            None => bail!("{step}: not within {:?}", args.timeout),
        },
    }
    Ok(ExitCode::SUCCESS)
}

struct Probe {
    ingest: Client,
    query: Client,
    sink: Sink,
    labels: Map<String, Value>,
    /// Tells this run's alert from those of others.
    run: String,
    /// Why the last attempt did not go well.
    reason: Option<String>,
}

impl Probe {
    async fn start(args: &VerifyArgs) -> anyhow::Result<Self> {
        let run = format!("{:x}", runtime::clock::now_ms());
        let mut labels: Map<String, Value> =
            args.labels.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect();
        labels.insert("run".to_owned(), Value::from(run.clone()));
        Ok(Probe {
            ingest: Client::new(&args.ingest_url)?,
            query: Client::new(&args.query_url)?,
            sink: Sink::start(&args.webhook).await?,
            labels,
            run,
            reason: None,
        })
    }

    async fn all(&mut self, step: &mut &'static str) -> anyhow::Result<()> {
        *step = "a sample is acknowledged";
        self.acknowledged(1).await;
        say(step, self.ingest.url())?;
        *step = "it can be queried";
        self.queried().await;
        say(step, self.query.url())?;
        *step = "its alert is received as firing";
        let summary = self.told("firing", 1).await;
        say(step, &summary)?;
        *step = "and as resolved";
        let summary = self.told("resolved", 0).await;
        say(step, &summary)?;
        Ok(())
    }

    /// Until a sample is acknowledged; a Weir that is starting answers later.
    async fn acknowledged(&mut self, value: i64) {
        let body = json!({"name": METRIC, "value": value, "labels": self.labels}).to_string();
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            self.reason = match self.ingest.post("/metrics", "application/json", body.clone().into_bytes()).await {
                Ok(answer) if answer.status == 202 => return,
                Ok(answer) => Some(format!("status {}: {}", answer.status, answer.text.trim())),
                Err(error) => Some(format!("{error:#}")),
            };
        }
    }

    /// Until the answer is the sample.
    async fn queried(&mut self) {
        let expr = format!("{METRIC}{{run=\"{}\"}}", self.run);
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            self.reason = match self.query.call("/api/v1/query", &[("query", &expr)]).await {
                Ok(answer) if answer["data"]["result"][0]["value"][1] == "1" => return,
                Ok(answer) => Some(format!("{expr} is {}", answer["data"]["result"])),
                Err(error) => Some(format!("{error:#}")),
            };
        }
    }

    /// Sends the value until this run's alert is told to be in the state; its summary.
    async fn told(&mut self, state: &str, value: i64) -> String {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                biased;
                received = self.sink.next() => if let Some(summary) = self.mine(&received, state) { return summary },
                _ = ticks.tick() => self.acknowledged(value).await,
            }
        }
    }

    /// The summary of this run's alert, where the notification has it in the state.
    fn mine(&self, received: &Value, state: &str) -> Option<String> {
        let alerts = received["alerts"].as_array()?;
        let alert =
            alerts.iter().find(|alert| alert["status"] == state && alert["labels"]["run"] == self.run.as_str())?;
        Some(alert["annotations"]["summary"].as_str().unwrap_or_default().to_owned())
    }
}

fn say(step: &str, detail: &str) -> anyhow::Result<()> {
    let mut out = out();
    writeln!(out, "ok: {step} ({detail})")?;
    Ok(out.flush()?)
}
