//! The seam between those who ask for series (the language, rules) and those who have them (the engine
//! in process, a storage over the network).
//!
//! A call is made once a selector, never once a sample. It blocks: evaluation runs on threads of its own,
//! and a source behind a network waits on the runtime that it was made with. The price is one parked
//! thread a waiting selector, bounded by the query concurrency; the gain is that the evaluator and every
//! test of it are free of futures. Samples are decoded by [`SeriesData::read`], which evaluators call
//! from many threads at once, so decoding is as parallel as evaluation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{Aspect, Claim, Columns, Edges, Kind, Labels, Matcher, Metadata, Outline, OutlineRequest, TimeRange};

/// Tells work in progress that nobody waits for it any more, and what memory it may hold, and is told how much it has read: all of it has to reach whatever
/// works for it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Work>);

#[derive(Debug, Default)]
struct Work {
    cancelled: AtomicBool,
    claim: Claim,
    samples_read: AtomicU64,
}

impl Cancel {
    /// For work that holds what this claim allows. The default allows everything.
    pub fn with(claim: Claim) -> Self {
        Cancel(Arc::new(Work { claim, ..Work::default() }))
    }

    /// Asks the work to stop.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to. Sources and evaluators look once a series or once a thousand samples.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// The memory that it holds.
    pub fn claim(&self) -> &Claim {
        &self.0.claim
    }

    /// The work has read so many samples more.
    pub fn count_read(&self, samples: u64) {
        self.0.samples_read.fetch_add(samples, Ordering::Relaxed);
    }

    /// Samples that the work has read so far, for who watches it.
    pub fn samples_read(&self) -> u64 {
        self.0.samples_read.load(Ordering::Relaxed)
    }
}

/// What the asker will read of each series; a source may save itself the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// The samples in the range.
    Samples,
    /// What [`SeriesData::outline`] yields for this aspect, these edges or some of them, and the whole range. All samples can be read as well, and other
    /// outlines; but a source that is far away may have to be asked once more for them.
    Outline {
        /// What has to be the same as of the samples.
        aspect: Aspect,
        /// Samples between which one of these is have no sample that stands for both.
        edges: Vec<Edges>,
    },
    /// Only the labels: [`SeriesData::read`] is not called, and may yield nothing.
    LabelsOnly,
}

/// Asks for the series that meet all matchers and may have a sample in the range.
#[derive(Debug, Clone)]
pub struct SelectRequest {
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// Of the samples wanted.
    pub range: TimeRange,
    /// What will be read.
    pub want: Want,
    /// More series than this are an error of kind [`Kind::Invalid`] that says so.
    pub series_max: usize,
    /// Looked at while the answer is made.
    pub cancel: Cancel,
}

/// Asks for label names or values.
#[derive(Debug, Clone)]
pub struct LabelsRequest {
    /// A series counts if it meets all matchers of one of these sets; none at all means every series.
    pub matcher_sets: Vec<Vec<Matcher>>,
    /// Only series that may have a sample here.
    pub range: TimeRange,
    /// Looked at while the answer is made.
    pub cancel: Cancel,
}

/// Asks how many series that meet all matchers have a newest sample in the range, and one that is no stale marker.
#[derive(Debug, Clone)]
pub struct CountRequest {
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// Of the samples that count.
    pub range: TimeRange,
    /// The label for each of whose values it is asked.
    pub by: Option<String>,
    /// Looked at while the answer is made.
    pub cancel: Cancel,
}

/// The answer to a count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeriesCounts {
    /// The value of the label, empty for those without it, with how many series there are, at least one; each value once, in no order.
    pub groups: Vec<(String, u64)>,
    /// As in [`SeriesSet::warnings`].
    pub warnings: Vec<String>,
}

/// The samples of one series, perhaps still encoded.
pub trait SeriesData: Send + Sync {
    /// Appends the samples in the range to `out`, floats and histograms, each ascending, each time once over both.
    fn read(&self, range: TimeRange, out: &mut Columns) -> Result<(), SourceError>;

    /// Appends to `out` what is enough of the samples in the range for what is asked of them: all, or less where that spares decoding them.
    ///
    /// A sample may stand for floats of which none is a NaN, and between which none of the edges is. For [`Aspect::Min`] and the like it is one with the
    /// value that is asked for, for a sum the sum; else two, the first and the last of them, where there is nothing to tell of those in between. Starts may be left out.
    ///
    /// [`Aspect::Min`]: crate::Aspect::Min
    fn outline(&self, request: &OutlineRequest<'_>, out: &mut Outline) -> Result<(), SourceError> {
        self.read(request.range, &mut out.columns)?;
        out.pad();
        Ok(())
    }
}

/// One series of an answer.
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Its samples.
    pub data: Box<dyn SeriesData>,
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.labels.fmt(f)
    }
}

/// The answer to a select: each label set once, in no particular order.
#[derive(Debug, Default)]
pub struct SeriesSet {
    /// The series.
    pub series: Vec<Series>,
    /// What the asker should know of the answer: a block in quarantine, a node that was not reached.
    pub warnings: Vec<String>,
    /// Length in milliseconds of the longest windows that samples in the range, or up to as long before it, may have been left out of; 0 where none were.
    /// Whoever looks for the newest sample of a series may have to look back as far.
    pub resolution_ms: i64,
}

/// The answer to a question for names, values or metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// What was found.
    pub items: Vec<T>,
    /// As in [`SeriesSet::warnings`].
    pub warnings: Vec<String>,
}

/// A list of which there is nothing more to know.
impl<T> From<Vec<T>> for Listing<T> {
    fn from(items: Vec<T>) -> Self {
        Listing { items, warnings: Vec::new() }
    }
}

/// Why a source could not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What the caller can do about it.
    pub kind: Kind,
    /// What failed and where.
    pub message: String,
}

impl SourceError {
    /// The request was cancelled.
    pub fn cancelled() -> Self {
        SourceError { kind: Kind::Unavailable, message: "cancelled".to_owned() }
    }
}

/// Something that has series. Calls block; see the module's documentation.
pub trait SeriesSource: Send + Sync {
    /// The series that meet the request.
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError>;

    /// Counts series by what an index knows of them. `None` where it cannot tell, and the series have to be read: where deletions wait,
    /// series expire at different times, histograms are among the samples, or the source has no such index.
    fn count(&self, request: &CountRequest) -> Result<Option<SeriesCounts>, SourceError> {
        let _ = request;
        Ok(None)
    }

    /// The names of the labels of the series that meet the request, ascending.
    fn label_names(&self, request: &LabelsRequest) -> Result<Listing<String>, SourceError>;

    /// The values of one label over the series that meet the request, ascending.
    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Listing<String>, SourceError>;

    /// What is known of one metric family, or of all, ascending by family. A family of which clients say different
    /// things is there more than once.
    fn metadata(&self, family: Option<&str>) -> Result<Listing<Metadata>, SourceError>;
}
