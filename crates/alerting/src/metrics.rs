//! The component's metrics.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, exponential_buckets,
};

use crate::delivery::Counted;

/// The metrics; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) rules: IntGaugeVec,
    pub(crate) alerts: IntGaugeVec,
    pub(crate) files_bad: IntGauge,
    pub(crate) reloads: IntCounterVec,
    pub(crate) documents_checked: IntCounter,
    pub(crate) documents_stored: IntCounter,
    pub(crate) windows_seeded: IntCounter,
    pub(crate) handovers: IntCounterVec,
    pub(crate) evaluations: IntCounter,
    pub(crate) evaluation_failures: IntCounter,
    pub(crate) evaluation_seconds: Histogram,
    pub(crate) delay_seconds: Histogram,
    pub(crate) records_refused: IntCounter,
    pub(crate) records_lost: IntCounter,
    pub(crate) window_series: IntGauge,
    pub(crate) window_samples: IntGauge,
    pub(crate) window_bytes: IntGauge,
    pub(crate) window_overflowed: IntGauge,
    pub(crate) outbox: IntGauge,
    pub(crate) outbox_age_seconds: IntGauge,
    pub(crate) outbox_refused: IntCounter,
    pub(crate) deliveries: Counted,
    pub(crate) dead_letters: IntCounter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let make = Make(registry);
        Ok(Metrics {
            rules: make.gauges("rules", "Rules, by their state.", "state")?,
            alerts: make.gauges("alerts", "Alerts, by their state.", "state")?,
            files_bad: make.gauge("rule_files_bad", "Rule files with something that cannot be used.")?,
            reloads: make.counters("reloads_total", "Times that the rules were read, by outcome.", &["outcome"])?,
            documents_checked: make.counter(
                "documents_checked_total",
                "Documents of rules and channels that were handed over and checked.",
            )?,
            documents_stored: make.counter(
                "documents_stored_total",
                "Documents of rules and channels that were handed over and stored.",
            )?,
            windows_seeded: make.counter("windows_seeded_total", "Rules whose windows were read from storage.")?,
            handovers: make.counters(
                "handovers_total",
                "Rule sets and changes of them that were handed over, by outcome: accepted, conflict, invalid.",
                &["outcome"],
            )?,
            evaluations: make.counter("evaluations_total", "Evaluations of rules.")?,
            evaluation_failures: make.counter("evaluation_failures_total", "Evaluations that failed.")?,
            evaluation_seconds: make.histogram(
                "evaluation_duration_seconds",
                "Duration of one evaluation.",
                0.000_05,
            )?,
            delay_seconds: make.histogram(
                "detection_delay_seconds",
                "Time from the append of a sample to the log to the evaluation that it caused.",
                0.002,
            )?,
            records_refused: make.counter("records_refused_total", "Records of the log that could not be read.")?,
            records_lost: make
                .counter("records_lost_total", "Records that were gone from the log before they were read.")?,
            window_series: make.gauge("window_series", "Series that rules look at, in memory.")?,
            window_samples: make.gauge("window_samples", "Samples that rules look at, in memory.")?,
            window_bytes: make.gauge("window_bytes", "Memory of the samples that rules look at.")?,
            window_overflowed: make
                .gauge("window_overflowed", "1 while the windows were dropped for want of memory.")?,
            outbox: make.gauge("outbox_notifications", "Notifications that are owed.")?,
            outbox_age_seconds: make
                .gauge("outbox_oldest_age_seconds", "Age of the oldest notification that is owed.")?,
            outbox_refused: make.counter("outbox_refused_total", "Notifications that found the outbox full.")?,
            deliveries: Counted::new(make.counters(
                "deliveries_total",
                "Attempts at delivery, by channel and outcome.",
                &["channel", "outcome"],
            )?),
            dead_letters: make.counter("dead_letters_total", "Notifications that were given up.")?,
        })
    }
}

struct Make<'a>(&'a Registry);

impl Make<'_> {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        let metric = IntCounter::new(format!("weir_alerting_{name}"), help)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        let metric = IntCounterVec::new(Opts::new(format!("weir_alerting_{name}"), help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let metric = IntGauge::new(format!("weir_alerting_{name}"), help)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> Result<IntGaugeVec, prometheus::Error> {
        let metric = IntGaugeVec::new(Opts::new(format!("weir_alerting_{name}"), help), &[label])?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn histogram(&self, name: &str, help: &str, first: f64) -> Result<Histogram, prometheus::Error> {
        let buckets = exponential_buckets(first, 4.0, 9)?;
        let metric = Histogram::with_opts(HistogramOpts::new(format!("weir_alerting_{name}"), help).buckets(buckets))?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}
