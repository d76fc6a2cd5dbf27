//! The vocabulary that every other crate speaks: labels, samples, histograms, matchers, time, error kinds, and
//! the seam through which the language and the rules read series.
//!
//! Architecture invariant: this crate does no input or output, reads no clock, starts no thread and
//! depends on no other crate of the workspace.

pub mod aggregate;
pub mod budget;
pub mod cardinality;
pub mod columns;
pub mod error;
pub mod exemplar;
pub mod histogram;
pub mod labels;
pub mod matcher;
pub mod metadata;
pub mod outline;
mod positions;
pub mod sample;
pub mod source;
pub mod time;
pub mod timestamp;

pub use aggregate::Aggregate;
pub use budget::{Budget, Claim, Exceeded, Held};
pub use cardinality::{Cardinality, CardinalityRequest, Classes, Tally};
pub use columns::{Columns, Mark, Samples};
pub use error::Kind;
pub use exemplar::{Exemplar, ExemplarsRequest, InvalidExemplar, SeriesExemplars};
pub use histogram::{Buckets, Counts, Histogram, HistogramSample, InvalidHistogram, Layout, ResetHint, Span};
pub use labels::{InvalidLabels, Labels, LabelsRef, LabelsWriter, METRIC_NAME, piece_text, push_piece};
pub use matcher::{InvalidRegex, MatchOp, Matcher, Shape};
pub use metadata::{Metadata, MetricType};
pub use outline::{Aspect, Edges, Outline, OutlineRequest};
pub use positions::{OFFSETS_HEADER, Positions};
pub use sample::{STALE_NAN_BITS, Sample, is_stale, stale_nan};
pub use source::{
    Cancel, CountRequest, LabelsRequest, Listing, SelectRequest, Series, SeriesCounts, SeriesData, SeriesSet,
    SeriesSource, SourceError, Want,
};
pub use time::{InvalidDuration, TimeRange};
