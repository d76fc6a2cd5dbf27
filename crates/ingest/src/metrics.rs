//! What the ingest component tells of itself. Every label has a closed set of values, resolved once here and never a request.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};

use runtime::memory::{Part, Told, register_part};
use runtime::metrics::register_bounds;

use crate::Args;
use crate::outcome::{NoExemplar, Outcome, Reason};
use crate::writer::WRITES_MAX;

/// All metrics of the component.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) remote_write: Protocol,
    pub(crate) text: Protocol,
    pub(crate) json: Protocol,
    pub(crate) internal: Protocol,
    exemplars: IntCounter,
    rejected_exemplars: [IntCounter; NoExemplar::ALL.len()],
    pub(crate) inflight_bytes: IntGauge,
    pub(crate) overloaded: IntCounter,
}

/// The metrics of one protocol.
#[derive(Debug)]
pub(crate) struct Protocol {
    ok: IntCounter,
    client_error: IntCounter,
    server_error: IntCounter,
    pub(crate) samples: IntCounter,
    pub(crate) body_bytes: IntCounter,
    pub(crate) seconds: Histogram,
    rejected: [IntCounter; Reason::ALL.len()],
}

impl Protocol {
    pub(crate) fn answered(&self, status: u16) {
        match status {
            0..400 => self.ok.inc(),
            400..500 => self.client_error.inc(),
            _ => self.server_error.inc(),
        }
    }

    pub(crate) fn rejected(&self, reason: Reason, samples: u64) {
        self.rejected[reason as usize].inc_by(samples);
    }
}

fn bounds(registry: &Registry, args: &Args) -> Result<(), prometheus::Error> {
    let memory = args.memory.clone();
    register_part(registry, Part::Ingest, move || Told {
        bytes_max: memory.bytes_max(),
        held: memory.held(),
        peak: memory.peak(),
        refused: memory.refused(),
    })?;
    register_bounds(
        registry,
        &[
            (
                "weir_ingest_inflight_bytes_max",
                "Bound of weir_ingest_inflight_bytes; a write that does not fit is refused.",
                args.inflight_bytes_max() as u64,
            ),
            (
                "weir_ingest_inflight_writes_max",
                "Writes that may be in flight; further ones are refused.",
                u64::from(WRITES_MAX),
            ),
            (
                "weir_ingest_body_bytes_max",
                "Size of a body above which it is refused.",
                args.ingest_body_bytes_max as u64,
            ),
        ],
    )
}

impl Metrics {
    /// Counts exemplars, those that were not taken by reason.
    pub(crate) fn count_exemplars(&self, outcome: &Outcome) {
        self.exemplars.inc_by(outcome.exemplars);
        for (counter, refused) in self.rejected_exemplars.iter().zip(outcome.refused_exemplars) {
            counter.inc_by(refused);
        }
    }

    /// Registers the metrics; fails where they are there already.
    pub(crate) fn register(registry: &Registry, args: &Args) -> Result<Self, prometheus::Error> {
        bounds(registry, args)?;
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok(vec)
        };
        let requests = counters(
            "weir_ingest_requests_total",
            "Write requests answered, by protocol and class of the status.",
            &["protocol", "code"],
        )?;
        let samples = counters(
            "weir_ingest_samples_total",
            "Samples that were made durable and acknowledged, by protocol.",
            &["protocol"],
        )?;
        let rejected = counters(
            "weir_ingest_rejected_samples_total",
            "Samples that were refused, by protocol and reason.",
            &["protocol", "reason"],
        )?;
        let body = counters(
            "weir_ingest_body_bytes_total",
            "Bytes of request bodies as they came, by protocol.",
            &["protocol"],
        )?;
        let exemplars =
            IntCounter::new("weir_ingest_exemplars_total", "Exemplars that were made durable and acknowledged.")?;
        registry.register(Box::new(exemplars.clone()))?;
        let rejected_exemplars =
            counters("weir_ingest_rejected_exemplars_total", "Exemplars that were not taken, by reason.", &["reason"])?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "weir_ingest_request_duration_seconds",
                "Time from the headers of a write request to its answer, the fsync included.",
            )
            .buckets(exponential_buckets(0.000_5, 2.5, 11)?),
            &["protocol"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let inflight_bytes =
            IntGauge::new("weir_ingest_inflight_bytes", "Bytes of bodies of requests that are not yet answered.")?;
        registry.register(Box::new(inflight_bytes.clone()))?;
        let overloaded = IntCounter::new(
            "weir_ingest_overloaded_total",
            "Writes refused because a bound of what is in flight was hit.",
        )?;
        registry.register(Box::new(overloaded.clone()))?;
        let protocol = |name: &str| Protocol {
            ok: requests.with_label_values(&[name, "2xx"]),
            client_error: requests.with_label_values(&[name, "4xx"]),
            server_error: requests.with_label_values(&[name, "5xx"]),
            samples: samples.with_label_values(&[name]),
            body_bytes: body.with_label_values(&[name]),
            seconds: seconds.with_label_values(&[name]),
            rejected: Reason::ALL.map(|reason| rejected.with_label_values(&[name, reason.as_str()])),
        };
        Ok(Metrics {
            remote_write: protocol("remote_write"),
            text: protocol("text"),
            json: protocol("json"),
            internal: protocol("internal"),
            exemplars,
            rejected_exemplars: NoExemplar::ALL.map(|reason| rejected_exemplars.with_label_values(&[reason.as_str()])),
            inflight_bytes,
            overloaded,
        })
    }
}
