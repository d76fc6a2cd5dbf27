//! The metrics of a process, sent to ingest by Prometheus remote write like anyone else's samples.
//!
//! Every interval the registries are read and sent as `job="weir/<component>"` with `up`, as if Prometheus had scraped the process. One request is
//! in flight at a time; what is not taken within the interval is counted and left out, and the next reading goes on from there: a platform that
//! is busy must not be made busier by watching itself. So a gap in these series is a gap in the watching, not in the component.

mod reading;
mod write_request;

use std::time::Duration;

use prometheus::{IntCounter, Registry};
use reqwest::Url;

use crate::error::chain;
use crate::listener::CLIENT_IDLE;
use crate::metrics::Page;
use crate::{Ended, Error, Shutdown, clock};

pub use reading::{Kind, Sink, read};
use write_request::WriteRequest;

/// How long sending may fail before that is a warning: as long as a process that is sent to, or the log behind it, takes to start.
const STARTING_MS: i64 = 60_000;
/// How much of a refusal is logged.
const REASON_CHARS_MAX: usize = 200;

/// What is counted about the sending, whichever way it goes.
#[derive(Debug, Clone)]
pub struct Counters {
    samples: IntCounter,
    failures: IntCounter,
    failing: Failing,
}

impl Counters {
    /// Registers them.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let samples =
            IntCounter::new("weir_self_monitoring_samples_total", "Samples of Weir's own metrics that it stored.")?;
        let failures = IntCounter::new(
            "weir_self_monitoring_failures_total",
            "Readings of Weir's own metrics that could not be stored.",
        )?;
        registry.register(Box::new(samples.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        Ok(Counters { samples, failures, failing: Failing::default() })
    }

    /// A reading was stored.
    pub fn stored(&mut self, samples: usize) {
        self.samples.inc_by(samples as u64);
        if self.failing.ended() {
            tracing::info!("Weir's own metrics are stored again");
        }
    }

    /// A reading was not stored at this time. Said the first time, as a warning once it has lasted, and else only counted until it goes well again.
    pub fn failed(&mut self, reason: &str, now_ms: i64) {
        self.failures.inc();
        match self.failing.failed(now_ms) {
            Some(Said::Waiting) => {
                tracing::info!(reason, "Weir's own metrics are not stored yet; it is tried again on every interval");
            }
            Some(Said::Lasting) => {
                let seconds = STARTING_MS / 1000;
                tracing::warn!(
                    reason,
                    "Weir's own metrics have not been stored for {seconds} s; it is tried again on every interval"
                );
            }
            None => {}
        }
    }
}

/// Since when it has been failing, and what was said of that.
#[derive(Debug, Clone, Default)]
struct Failing {
    since_ms: Option<i64>,
    warned: bool,
}

/// What is to be said of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// The first: whoever is sent to may be starting.
    Waiting,
    /// It is longer than a start takes.
    Lasting,
}

impl Failing {
    fn failed(&mut self, now_ms: i64) -> Option<Said> {
        let Some(since_ms) = self.since_ms else {
            self.since_ms = Some(now_ms);
            return Some(Said::Waiting);
        };
        let lasts = !self.warned && now_ms.saturating_sub(since_ms) >= STARTING_MS;
        self.warned |= lasts;
        lasts.then_some(Said::Lasting)
    }

    /// Whether it was failing until now.
    fn ended(&mut self) -> bool {
        std::mem::take(self).since_ms.is_some()
    }
}

/// Reads the registries of this process and sends what they say.
#[derive(Debug)]
pub struct SelfMonitoring {
    page: Page,
    url: Url,
    http: reqwest::Client,
    instance: String,
    interval: Duration,
    counters: Counters,
}

impl SelfMonitoring {
    /// To the URL of a remote-write endpoint. `registry` takes what this counts. A TLS provider must be installed in the process.
    pub fn new(
        page: Page,
        url: &str,
        instance: String,
        interval: Duration,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let refused = |reason: String| Error::Argument { flag: "self-monitoring-url", value: url.to_owned(), reason };
        let parsed = Url::parse(url).map_err(|e| refused(e.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(refused("must begin with http:// or https://".to_owned()));
        }
        // Between the components of one Weir there is no proxy.
        let http = reqwest::Client::builder().timeout(interval).pool_idle_timeout(CLIENT_IDLE).no_proxy().build();
        let http = http.map_err(|e| refused(chain(&e)))?;
        Ok(SelfMonitoring { page, url: parsed, http, instance, interval, counters: Counters::new(registry)? })
    }

    /// Reads and sends every interval, until it is asked to stop.
    pub async fn run(mut self, mut shutdown: Shutdown) -> Ended {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        // Metadata changes only with the program; said once, it is stored for good.
        let mut with_metadata = true;
        loop {
            tokio::select! {
                () = shutdown.asked() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let (page, instance) = (self.page.clone(), self.instance.clone());
            // Some collectors read files of the kernel.
            let written = tokio::task::spawn_blocking(move || {
                let mut request = WriteRequest::new(clock::now_ms(), with_metadata);
                read(&page.gather(), &instance, &mut request);
                request
            });
            let request = written.await?;
            let samples = request.samples();
            let sent = tokio::select! {
                () = shutdown.asked() => return Ok(()),
                sent = self.send(request) => sent,
            };
            match sent {
                Ok(()) => {
                    self.counters.stored(samples);
                    with_metadata = false;
                }
                Err(reason) => self.counters.failed(&reason, clock::now_ms()),
            }
        }
    }

    async fn send(&self, request: WriteRequest) -> Result<(), String> {
        let body = request.compressed().map_err(|e| format!("compressing: {e}"))?;
        let request = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "snappy")
            .header("user-agent", concat!("weir/", env!("CARGO_PKG_VERSION")))
            .header("x-prometheus-remote-write-version", "0.1.0");
        let answer = request.body(body).send().await.map_err(|e| chain(&e))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|e| chain(&e))?;
        if status.is_success() {
            return Ok(());
        }
        let reason: String = text.trim().chars().take(REASON_CHARS_MAX).collect();
        Err(format!("{}: status {}: {reason}", self.url, status.as_u16()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_warning_once_it_has_lasted_longer_than_a_start() {
        let mut failing = Failing::default();
        assert!(!failing.ended());
        let said = [0, 5_000, STARTING_MS - 1, STARTING_MS, STARTING_MS + 5_000].map(|ms| failing.failed(1_000 + ms));
        assert_eq!(said, [Some(Said::Waiting), None, None, Some(Said::Lasting), None]);
        assert!(failing.ended() && !failing.ended());
        assert_eq!(failing.failed(9 * STARTING_MS), Some(Said::Waiting), "what ended begins anew");
        assert_eq!(failing.failed(9 * STARTING_MS + 1), None);
    }
}
