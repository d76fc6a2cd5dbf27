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
use prometheus::Registry;
use runtime::metrics::Page;
use runtime::self_monitoring::{Counters, Kind, Sink, read};
use runtime::{Ended, Shutdown};

/// Reads the registries of this process and stores what they say.
pub(crate) struct SelfMonitoring {
    page: Page,
    writer: Arc<Writer>,
    instance: String,
    counters: Counters,
}

impl SelfMonitoring {
    /// `registry` takes what this counts.
    pub(crate) fn new(
        page: Page,
        writer: Arc<Writer>,
        address: SocketAddr,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(SelfMonitoring { page, writer, instance: address.to_string(), counters: Counters::new(registry)? })
    }

    /// Reads and stores every `interval`, until it is asked to stop.
    pub(crate) async fn run(mut self, interval: Duration, mut shutdown: Shutdown) -> Ended {
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
            let read = tokio::task::spawn_blocking(move || {
                let mut reading = Reading { batch: Batch::default(), now_ms: runtime::clock::now_ms() };
                read(&page.gather(), &instance, &mut reading);
                reading.batch
            });
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
                    self.counters.stored(reading.series.len());
                    with_metadata = false;
                }
                Ok(Err(error)) => self.counters.failed(&error.to_string(), runtime::clock::now_ms()),
                Err(_) => self.counters.failed("not written within the interval", runtime::clock::now_ms()),
            }
        }
    }
}

/// What is read, as ingest's writer takes it.
struct Reading {
    batch: Batch,
    now_ms: i64,
}

impl Sink for Reading {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let (family, help) = (name.to_owned(), help.to_owned());
        self.batch.metadata.push(Metadata { family, kind, help, unit: String::new() });
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        match Labels::new(labels) {
            Ok(labels) => self.batch.series.push((labels, vec![Sample { t: self.now_ms, v: value }])),
            // A component with a label called job or instance: a mistake in the program, which its tests find.
            Err(error) => tracing::error!(%error, ?labels, "a metric of Weir's own has labels that cannot be stored"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_becomes_series_and_metadata() {
        let mut reading = Reading { batch: Batch::default(), now_ms: 99 };
        reading.family("depth", Kind::Gauge, "How deep.");
        reading.sample(&[("__name__", "depth"), ("job", "weir/queue")], 7.0);
        reading.sample(&[("job", "twice"), ("job", "weir/queue")], 1.0);
        let Batch { series, metadata, .. } = &reading.batch;
        assert_eq!((metadata[0].family.as_str(), metadata[0].kind), ("depth", MetricType::Gauge));
        assert_eq!(metadata[0].help, "How deep.");
        assert_eq!(format!("{:?}", series[0].0), r#"depth{job="weir/queue"}"#);
        assert_eq!((series[0].1[0].t, series[0].1[0].v, series.len()), (99, 7.0, 1));
    }
}
