//! A storage that is an engine without a log.

use std::sync::Arc;
use std::time::Duration;

use model::{
    Cardinality, CardinalityRequest, ExemplarsRequest, LabelsRequest, Listing, Metadata, Positions, SelectRequest,
    SeriesExemplars, SeriesSet, SeriesSource, SourceError,
};
use queue::BoxFuture;
use storage::serve::Node;
use storage::{Reader, Replica};
use tsdb::Db;

/// An engine without a log.
pub(crate) struct Engine(pub(crate) Db);

impl SeriesSource for Engine {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        self.0.select(request)
    }

    fn label_names(&self, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.0.label_names(request)
    }

    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.0.label_values(name, request)
    }

    fn metadata(&self, family: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        self.0.metadata(family)
    }
}

impl Reader for Engine {
    fn caught_up(&self, _: Duration) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }

    fn reached<'a>(&'a self, _: &'a Positions, timeout: Duration) -> BoxFuture<'a, Result<(), SourceError>> {
        self.caught_up(timeout)
    }

    fn backlog(&self) -> u64 {
        0
    }

    fn cardinality(&self, request: &CardinalityRequest) -> Result<Cardinality, SourceError> {
        self.0.cardinality(request)
    }

    fn exemplars(&self, request: &ExemplarsRequest) -> Result<Listing<SeriesExemplars>, SourceError> {
        self.0.exemplars(request)
    }
}

/// It, to be served as this replica.
pub(crate) fn node(engine: &Arc<Engine>, replica: Replica) -> Node {
    Node { reader: engine.clone(), replica, partitions: 4, memory: Default::default() }
}
