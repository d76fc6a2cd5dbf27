//! The component's metrics.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::secrets::SECRETS_MAX;
use crate::tls::CONNECTIONS_MAX;

/// The metrics; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) resources: IntGaugeVec,
    pub(crate) foreign: IntGaugeVec,
    pub(crate) leading: IntGauge,
    pub(crate) backlog: IntGaugeVec,
    pub(crate) writes: IntCounterVec,
    pub(crate) events: IntCounterVec,
    pub(crate) handovers: IntCounterVec,
    pub(crate) watch_failures: IntCounterVec,
    pub(crate) admissions: IntCounterVec,
    pub(crate) certificate_expiry: IntGauge,
    pub(crate) secrets_left_out: IntCounter,
    pub(crate) connections_refused: IntCounter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let name = |name: &str| format!("weir_controller_{name}");
        let counters = |at: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name(at), help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauges = |at: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name(at), help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let counter = |at: &str, help: &str| {
            let made = IntCounter::new(name(at), help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauge = |at: &str, help: &str| {
            let made = IntGauge::new(name(at), help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        gauge("secrets_max", "Secrets that are read; references to more are left out.")?.set(SECRETS_MAX as i64);
        gauge("webhook_connections_max", "TLS connections of the webhook at once; more are refused.")?
            .set(CONNECTIONS_MAX as i64);
        Ok(Metrics {
            resources: gauges("resources", "Resources that are watched, by kind.", &["kind"])?,
            foreign: gauges(
                "foreign_resources",
                "Resources that another installation of Weir manages and this one leaves alone, by kind.",
                &["kind"],
            )?,
            leading: gauge("leading", "1 while this replica holds the lease.")?,
            backlog: gauges("status_backlog", "Statuses that wait to be written, by class.", &["class"])?,
            writes: counters(
                "status_writes_total",
                "Writes of statuses, by class and outcome.",
                &["class", "outcome"],
            )?,
            events: counters("events_total", "Events that were written or left out, by outcome.", &["outcome"])?,
            handovers: counters(
                "handovers_total",
                "Rule sets handed over, by method and outcome.",
                &["method", "outcome"],
            )?,
            watch_failures: counters("watch_failures_total", "Failures of watches, by kind.", &["kind"])?,
            admissions: counters("admissions_total", "Admission reviews, by kind and outcome.", &["kind", "outcome"])?,
            certificate_expiry: gauge(
                "certificate_expiry_timestamp_seconds",
                "When the certificate of the webhook expires, Unix seconds.",
            )?,
            secrets_left_out: counter("secrets_left_out_total", "References to Secrets beyond the bound, left out.")?,
            connections_refused: counter("webhook_connections_refused_total", "TLS connections beyond the bound.")?,
        })
    }
}
