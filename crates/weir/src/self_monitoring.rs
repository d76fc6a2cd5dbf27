//! Weir's own metrics, stored by Weir: what each component registered, written through ingest like anyone else's samples.
//!
//! Every interval the registries are read and written as `job="weir/<component>"`, `instance="<address>"`, with `up` for each, as if
//! Prometheus had scraped each component. No HTTP and no text on the way. What cannot be written in its time is counted and left out: a
//! platform that is busy must not be made busier by watching itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ingest::{Batch, Writer};
use model::{Labels, Metadata, MetricType, Sample};
use prometheus::proto::{self, MetricFamily};
use prometheus::{IntCounter, Registry};
use runtime::Shutdown;
use runtime::metrics::Page;

/// Reads the registries of this process and stores what they say.
pub(crate) struct SelfMonitoring {
    page: Page,
    writer: Arc<Writer>,
    instance: String,
    samples: IntCounter,
    failures: IntCounter,
}

impl SelfMonitoring {
    /// `registry` takes what this counts.
    pub(crate) fn new(
        page: Page,
        writer: Arc<Writer>,
        address: SocketAddr,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let samples =
            IntCounter::new("weir_self_monitoring_samples_total", "Samples of Weir's own metrics that it stored.")?;
        let failures = IntCounter::new(
            "weir_self_monitoring_failures_total",
            "Readings of Weir's own metrics that could not be stored.",
        )?;
        registry.register(Box::new(samples.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        Ok(SelfMonitoring { page, writer, instance: address.to_string(), samples, failures })
    }

    /// Reads and stores every `interval`, until it is asked to stop.
    pub(crate) async fn run(self, interval: Duration, mut shutdown: Shutdown) -> crate::run::Ended {
        let mut ticks = tokio::time::interval(interval);
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
            let read = tokio::task::spawn_blocking(move || read(&page.gather(), &instance, runtime::clock::now_ms()));
            let mut reading = read.await?;
            if !with_metadata {
                reading.metadata.clear();
            }
            let stored = tokio::select! {
                () = shutdown.asked() => return Ok(()),
                stored = tokio::time::timeout(interval, self.writer.write(&reading)) => stored,
            };
            match stored {
                Ok(Ok(())) => {
                    self.samples.inc_by(reading.series.len() as u64);
                    with_metadata = false;
                }
                Ok(Err(error)) => self.failed(&error.to_string()),
                Err(_) => self.failed("not written within the interval"),
            }
        }
    }

    fn failed(&self, reason: &str) {
        self.failures.inc();
        tracing::warn!(reason, "Weir's own metrics were not stored this time");
    }
}

/// The samples of all components at one time.
fn read(gathered: &[(&'static str, Vec<MetricFamily>)], instance: &str, now_ms: i64) -> Batch {
    let mut reading = Batch::default();
    for (component, families) in gathered {
        let job = format!("weir/{component}");
        let mut sink = Sink { reading: &mut reading, job: &job, instance, now_ms };
        sink.push("up", &[], None, 1.0);
        for family in families {
            sink.family(family);
        }
    }
    reading
}

struct Sink<'a> {
    reading: &'a mut Batch,
    job: &'a str,
    instance: &'a str,
    now_ms: i64,
}

impl Sink<'_> {
    fn family(&mut self, family: &MetricFamily) {
        let name = family.name();
        let kind = match family.get_field_type() {
            proto::MetricType::COUNTER => MetricType::Counter,
            proto::MetricType::GAUGE => MetricType::Gauge,
            proto::MetricType::HISTOGRAM => MetricType::Histogram,
            proto::MetricType::SUMMARY => MetricType::Summary,
            proto::MetricType::UNTYPED => MetricType::Unknown,
        };
        self.reading.metadata.push(Metadata {
            family: name.to_owned(),
            kind,
            help: family.help().to_owned(),
            unit: String::new(),
        });
        for metric in family.get_metric() {
            let labels = metric.get_label();
            match kind {
                MetricType::Counter => self.push(name, labels, None, metric.get_counter().get_value()),
                MetricType::Gauge => self.push(name, labels, None, metric.get_gauge().get_value()),
                MetricType::Histogram => self.histogram(name, labels, metric.get_histogram()),
                // The library that components count with has neither of the others.
                _ => {}
            }
        }
    }

    fn histogram(&mut self, name: &str, labels: &[proto::LabelPair], histogram: &proto::Histogram) {
        let bucket = format!("{name}_bucket");
        for one in histogram.get_bucket().iter().filter(|b| b.upper_bound().is_finite()) {
            let le = one.upper_bound().to_string();
            self.push(&bucket, labels, Some(&le), one.cumulative_count() as f64);
        }
        let count = histogram.get_sample_count() as f64;
        self.push(&bucket, labels, Some("+Inf"), count);
        self.push(&format!("{name}_sum"), labels, None, histogram.get_sample_sum());
        self.push(&format!("{name}_count"), labels, None, count);
    }

    fn push(&mut self, name: &str, labels: &[proto::LabelPair], le: Option<&str>, value: f64) {
        let own = labels.iter().map(|label| (label.name(), label.value()));
        let more = [(model::labels::METRIC_NAME, name), ("job", self.job), ("instance", self.instance)];
        let pairs: Vec<(&str, &str)> = own.chain(more).chain(le.map(|le| ("le", le))).collect();
        match Labels::new(&pairs) {
            Ok(labels) => self.reading.series.push((labels, vec![Sample { t: self.now_ms, v: value }])),
            // A component with a label called job or instance: a mistake in the program, which its tests find.
            Err(error) => tracing::error!(%error, name, "a metric of Weir's own has labels that cannot be stored"),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Histogram, HistogramOpts, IntGaugeVec, Opts};

    use super::*;

    fn lines(reading: &Batch) -> Vec<String> {
        reading
            .series
            .iter()
            .map(|(labels, samples)| format!("{labels:?} {} @{}", samples[0].v, samples[0].t))
            .collect()
    }

    #[test]
    fn each_component_is_a_job_with_up_and_histograms_are_expanded() {
        let mut page = Page::default();
        let queue = page.add("queue");
        let depth = IntGaugeVec::new(Opts::new("depth", "How deep."), &["group"]).expect("valid");
        depth.with_label_values(&["storage"]).set(7);
        queue.register(Box::new(depth)).expect("new");
        let query = page.add("query");
        let seconds = HistogramOpts::new("seconds", "How long.").buckets(vec![0.5, 1.0]);
        let seconds = Histogram::with_opts(seconds).expect("valid");
        seconds.observe(0.75);
        seconds.observe(3.0);
        query.register(Box::new(seconds)).expect("new");

        let reading = read(&page.gather(), "127.0.0.1:1", 99);
        let expect = [
            r#"up{instance="127.0.0.1:1", job="weir/queue"} 1 @99"#,
            r#"depth{group="storage", instance="127.0.0.1:1", job="weir/queue"} 7 @99"#,
            r#"up{instance="127.0.0.1:1", job="weir/query"} 1 @99"#,
            r#"seconds_bucket{instance="127.0.0.1:1", job="weir/query", le="0.5"} 0 @99"#,
            r#"seconds_bucket{instance="127.0.0.1:1", job="weir/query", le="1"} 1 @99"#,
            r#"seconds_bucket{instance="127.0.0.1:1", job="weir/query", le="+Inf"} 2 @99"#,
            r#"seconds_sum{instance="127.0.0.1:1", job="weir/query"} 3.75 @99"#,
            r#"seconds_count{instance="127.0.0.1:1", job="weir/query"} 2 @99"#,
        ];
        assert_eq!(lines(&reading), expect);
        let kinds: Vec<(&str, MetricType)> = reading.metadata.iter().map(|m| (m.family.as_str(), m.kind)).collect();
        assert_eq!(kinds, [("depth", MetricType::Gauge), ("seconds", MetricType::Histogram)]);
        assert_eq!(reading.metadata[0].help, "How deep.");
    }
}
