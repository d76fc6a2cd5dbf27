//! Series of which a node sent an outline, and all of their samples where these are needed after all.
//!
//! Mostly they are not: a node sends all samples of a series where an outline of it would not be enough. They are where another node has the series too, since
//! outlines of copies that may differ cannot be merged, or where something else is asked than was told. Then the whole question is asked once more, for all
//! series at once. The price is an answer of a later moment, and that whoever needs all of one series waits for those of all.

use std::sync::{Arc, LazyLock};

use model::{
    Aspect, Columns, Edges, Kind, Labels, Outline, OutlineRequest, SelectRequest, Series, SeriesData, SeriesSet,
    SourceError, TimeRange, Want,
};

use crate::wire::series::Encoded;

/// The series of an answer with all samples, ascending by canonical text, asked for when the first of them is needed; who else needs them waits. Whoever asks must not wait for
/// other threads of an evaluation, since these may wait for it.
type Whole = LazyLock<Result<Vec<Series>, SourceError>, Box<dyn FnOnce() -> Result<Vec<Series>, SourceError> + Send>>;

/// What was asked, and the same with all samples.
pub(super) struct Asked {
    range: TimeRange,
    aspect: Aspect,
    edges: Vec<Edges>,
    whole: Whole,
}

impl Asked {
    /// `None` where all samples were asked for. `whole` asks for them after an answer that told these warnings; what it has to warn of beside them is an
    /// error, since nobody is told any more.
    pub(super) fn new(
        request: &SelectRequest,
        warnings: &[String],
        whole: impl FnOnce(&SelectRequest) -> Result<SeriesSet, SourceError> + Send + 'static,
    ) -> Option<Arc<Asked>> {
        let Want::Outline { aspect, edges } = request.want.clone() else { return None };
        let (range, request) = (request.range, SelectRequest { want: Want::Samples, ..request.clone() });
        let told = warnings.to_vec();
        let ask = move || {
            let set = whole(&request)?;
            match set.warnings.into_iter().find(|warning| !told.contains(warning)) {
                Some(message) => Err(SourceError { kind: Kind::Unavailable, message }),
                None => Ok(set.series),
            }
        };
        Some(Arc::new(Asked { range, aspect, edges, whole: LazyLock::new(Box::new(ask)) }))
    }

    /// Whether an outline of what was asked for is one of this too.
    fn covers(&self, request: &OutlineRequest<'_>) -> bool {
        (self.range, self.aspect) == (request.range, request.aspect)
            && request.edges.iter().all(|edges| self.edges.contains(edges))
    }
}

/// A series of which not all samples were sent.
pub(super) struct Outlined {
    labels: Labels,
    /// `None` where it is of no use.
    outline: Option<Encoded>,
    asked: Arc<Asked>,
}

impl Outlined {
    pub(super) fn new(labels: Labels, outline: Option<Encoded>, asked: Arc<Asked>) -> Self {
        Outlined { labels, outline, asked }
    }
}

impl SeriesData for Outlined {
    fn read(&self, range: TimeRange, out: &mut Columns) -> Result<(), SourceError> {
        let series = self.asked.whole.as_ref().map_err(SourceError::clone)?;
        let place = series.binary_search_by(|one| one.labels.canonical().cmp(self.labels.canonical()));
        // One that is gone by then has no samples.
        place.map_or(Ok(()), |place| series[place].data.read(range, out))
    }

    fn outline(&self, request: &OutlineRequest<'_>, out: &mut Outline) -> Result<(), SourceError> {
        if let Some(outline) = self.outline.as_ref().filter(|_| self.asked.covers(request)) {
            return outline.outline(out);
        }
        self.read(request.range, &mut out.columns)?;
        out.pad();
        Ok(())
    }
}
