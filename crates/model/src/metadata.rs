//! What a metric family says of itself.

/// The type of a metric family, in the words of the exposition formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum MetricType {
    /// Not known.
    #[default]
    Unknown,
    /// Only rises, but for resets.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, count and sum.
    Histogram,
    /// Buckets of a gauge.
    GaugeHistogram,
    /// Quantiles, count and sum.
    Summary,
    /// A constant 1 with labels that inform.
    Info,
    /// One of a set of states.
    StateSet,
}

impl MetricType {
    /// The lower-case name that the HTTP API and the exposition formats use.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricType::Unknown => "unknown",
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::GaugeHistogram => "gaugehistogram",
            MetricType::Summary => "summary",
            MetricType::Info => "info",
            MetricType::StateSet => "stateset",
        }
    }

    /// The type for a name of the exposition formats; `untyped` is the old word for unknown.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "unknown" | "untyped" => MetricType::Unknown,
            "counter" => MetricType::Counter,
            "gauge" => MetricType::Gauge,
            "histogram" => MetricType::Histogram,
            "gaugehistogram" => MetricType::GaugeHistogram,
            "summary" => MetricType::Summary,
            "info" => MetricType::Info,
            "stateset" => MetricType::StateSet,
            _ => return None,
        })
    }
}

/// Type, help and unit of a metric family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Metadata {
    /// The family's name, without `_bucket`, `_count` or `_sum`.
    pub family: String,
    /// Its type.
    pub kind: MetricType,
    /// Free text; may be empty.
    pub help: String,
    /// The unit's name; may be empty.
    pub unit: String,
}
