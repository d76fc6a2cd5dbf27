//! What the query component tells of itself.

use model::Budget;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use runtime::memory::{Part, Told, register_part};
use runtime::metrics::register_bounds;

use crate::{Args, Error, top};

/// From a tenth of a millisecond, which an answer from memory takes, to the longest default timeout.
const DURATION_BUCKETS: [f64; 14] =
    [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

/// The metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// By endpoint, which is the route's pattern, and status code.
    pub(crate) requests: IntCounterVec,
    durations: HistogramVec,
    /// Bytes of bodies as they are sent, by coding.
    pub(crate) answer_bytes: IntCounterVec,
    /// Samples that evaluation read.
    pub(crate) samples: IntCounter,
    /// Series in answers.
    pub(crate) series: IntCounter,
    pub(crate) running: IntGauge,
    pub(crate) streams: IntGauge,
    pub(crate) waiting: IntGauge,
    pub(crate) rejected: IntCounter,
    pub(crate) timeouts: IntCounter,
    pub(crate) cancelled: IntCounter,
    pub(crate) cancelled_by_request: IntCounter,
    /// Texts of queries that are shown shorter than they are.
    pub(crate) texts_cut: IntCounter,
    /// Evaluations that are remembered, and bytes of their texts; and evaluations that made room for others.
    pub(crate) remembered: IntGauge,
    pub(crate) remembered_bytes: IntGauge,
    pub(crate) forgotten: IntCounter,
}

fn told(memory: &Budget) -> Told {
    let (bytes_max, held, peak) = (memory.bytes_max(), memory.held(), memory.peak());
    Told { bytes_max, held, peak, refused: memory.refused() }
}

fn bounds(registry: &Registry, args: &Args) -> Result<(), prometheus::Error> {
    register_bounds(
        registry,
        &[
            (
                "weir_query_running_queries_max",
                "Bound of weir_query_running_queries; more wait.",
                args.query_concurrency_max as u64,
            ),
            (
                "weir_query_remote_read_streams_max",
                "Bound of weir_query_remote_read_streams; more are refused.",
                args.query_concurrency_max as u64,
            ),
            (
                "weir_query_waiting_queries_max",
                "Bound of weir_query_waiting_queries; more are refused.",
                args.query_waiting_max as u64,
            ),
            (
                "weir_query_samples_max",
                "Samples that one query may hold in memory; one that needs more fails.",
                args.query_samples_max as u64,
            ),
            (
                "weir_query_series_max",
                "Series that one selector may find; a query that finds more fails.",
                args.query_series_max as u64,
            ),
            (
                "weir_query_remembered_evaluations_max",
                "Bound of weir_query_remembered_evaluations; the oldest make room.",
                top::EVALUATIONS_MAX as u64,
            ),
            (
                "weir_query_remembered_text_bytes_max",
                "Bound of weir_query_remembered_text_bytes; the oldest make room.",
                top::TEXT_BYTES_MAX as u64,
            ),
        ],
    )
}

impl Metrics {
    /// Registers all.
    pub(crate) fn register(registry: &Registry, args: &Args) -> Result<Self, Error> {
        let failed = |e: prometheus::Error| Error::Internal(format!("a metric cannot be registered: {e}"));
        let memory = args.memory.clone();
        let part = register_part(registry, Part::Queries, move || told(&memory));
        part.and_then(|()| bounds(registry, args)).and_then(|()| Self::try_register(registry)).map_err(failed)
    }

    pub(crate) fn try_register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let requests = IntCounterVec::new(
            Opts::new(
                "weir_query_requests_total",
                "Requests to the query API, by their status; 499 also where the client went away before.",
            ),
            &["endpoint", "code"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        let durations = HistogramVec::new(
            prometheus::HistogramOpts::new(
                "weir_query_request_duration_seconds",
                "How long requests to the query API took.",
            )
            .buckets(DURATION_BUCKETS.to_vec()),
            &["endpoint"],
        )?;
        registry.register(Box::new(durations.clone()))?;
        let answer_bytes = IntCounterVec::new(
            Opts::new("weir_query_answer_bytes_total", "Bytes of the answers of the query API, as they are sent."),
            &["coding"],
        )?;
        registry.register(Box::new(answer_bytes.clone()))?;
        Ok(Metrics {
            requests,
            durations,
            answer_bytes,
            samples: counter("weir_query_samples_read_total", "Samples that queries read.")?,
            series: counter("weir_query_result_series_total", "Series in the answers to queries.")?,
            running: gauge("weir_query_running_queries", "Queries that are being evaluated.")?,
            streams: gauge("weir_query_remote_read_streams", "Remote reads that are being answered in chunks.")?,
            waiting: gauge("weir_query_waiting_queries", "Queries that wait for storage or for others.")?,
            rejected: counter("weir_query_rejected_total", "Queries refused because too many waited.")?,
            timeouts: counter("weir_query_timeouts_total", "Queries whose time ran out.")?,
            cancelled: counter(
                "weir_query_cancelled_total",
                "Queries whose client went away, or that a shutdown stopped.",
            )?,
            cancelled_by_request: counter(
                "weir_query_cancelled_by_request_total",
                "Queries that somebody asked to cancel.",
            )?,
            texts_cut: counter(
                "weir_query_texts_cut_total",
                "Queries whose text is shown shorter than it is among those that run and of late.",
            )?,
            remembered: gauge(
                "weir_query_remembered_evaluations",
                "Evaluations that /api/v1/status/top_queries knows of.",
            )?,
            remembered_bytes: gauge("weir_query_remembered_text_bytes", "Bytes of the texts of these.")?,
            forgotten: counter(
                "weir_query_forgotten_evaluations_total",
                "Evaluations that made room for later ones in /api/v1/status/top_queries.",
            )?,
        })
    }

    /// The durations of an endpoint.
    pub(crate) fn duration(&self, endpoint: &str) -> Histogram {
        self.durations.with_label_values(&[endpoint])
    }
}

/// Holds a gauge one higher for as long as it lives.
#[derive(Debug)]
pub(crate) struct Held(IntGauge);

impl Held {
    pub(crate) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Held(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
