//! What the server of the Kafka protocol tells of itself.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::request::APIS;

/// Why a connection was ended by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// A request that cannot be read, or is not served.
    Malformed,
    /// A frame above the bound.
    TooLarge,
    /// Another request before authentication.
    Unauthenticated,
    /// A wrong user or token.
    Denied,
    /// A produce that wants no answer and failed.
    Refused,
    /// No request for too long.
    Idle,
    /// A request that does not arrive, or an answer that is not taken.
    Slow,
}

impl Closed {
    const ALL: [Closed; 7] = [
        Closed::Malformed,
        Closed::TooLarge,
        Closed::Unauthenticated,
        Closed::Denied,
        Closed::Refused,
        Closed::Idle,
        Closed::Slow,
    ];

    fn label(self) -> &'static str {
        match self {
            Closed::Malformed => "malformed",
            Closed::TooLarge => "too_large",
            Closed::Unauthenticated => "unauthenticated",
            Closed::Denied => "denied",
            Closed::Refused => "refused",
            Closed::Idle => "idle",
            Closed::Slow => "slow",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub(super) connections: IntGauge,
    pub(super) connections_full: IntCounter,
    pub(super) memory_full: IntCounter,
    requests: IntCounterVec,
    closed: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics; fails where they are there already.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Metrics {
            connections: IntGauge::new("weir_queue_kafka_connections", "Connections of the Kafka protocol.")?,
            connections_full: IntCounter::new(
                "weir_queue_kafka_connection_limit_hits_total",
                "Times that the limit of connections of the Kafka protocol was reached.",
            )?,
            memory_full: IntCounter::new(
                "weir_queue_kafka_memory_limit_hits_total",
                "Requests and answers that waited, since those in flight took all the memory that they may.",
            )?,
            requests: IntCounterVec::new(
                Opts::new("weir_queue_kafka_requests_total", "Requests of the Kafka protocol."),
                &["api"],
            )?,
            closed: IntCounterVec::new(
                Opts::new("weir_queue_kafka_closed_connections_total", "Connections that the server ended, by reason."),
                &["reason"],
            )?,
        };
        let m = &metrics;
        registry.register(Box::new(m.connections.clone()))?;
        registry.register(Box::new(m.connections_full.clone()))?;
        registry.register(Box::new(m.memory_full.clone()))?;
        registry.register(Box::new(m.requests.clone()))?;
        registry.register(Box::new(m.closed.clone()))?;
        for api in APIS {
            m.requests.with_label_values(&[&format!("{:?}", api.key)]);
        }
        for closed in Closed::ALL {
            m.closed.with_label_values(&[closed.label()]);
        }
        Ok(metrics)
    }

    pub(super) fn request(&self, api: kafka_protocol::messages::ApiKey) {
        self.requests.with_label_values(&[&format!("{api:?}")]).inc();
    }

    pub(super) fn closed(&self, why: Closed) {
        self.closed.with_label_values(&[why.label()]).inc();
    }
}
