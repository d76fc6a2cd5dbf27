//! One storage node that has everything.

use std::sync::Arc;
use std::time::Duration;

use model::{
    Cancel, Cardinality, CardinalityRequest, CountRequest, ExemplarsRequest, Kind, LabelsRequest, Listing, Metadata,
    Positions, SelectRequest, SeriesCounts, SeriesExemplars, SeriesSet, SeriesSource, SourceError,
};
use prometheus::Registry;
use queue::BoxFuture;
use runtime::Token;
use tokio::runtime::Handle;

use super::metrics::Metrics;
use super::node::{CHANGES_TIMEOUT, Fault, Node, block};
use super::outlined::Asked;
use super::poll::Poll;
use super::{Changes, ChangesRequest, Mark, Reader, merge, nodes};
use crate::Error;
use crate::wire::answer::Answer;
use crate::wire::question::{Counted, Question};

/// A storage component over the network. Its calls block; see [`super::connect`].
pub struct Remote {
    node: Arc<Node>,
    handle: Handle,
    poll: Poll,
}

impl Remote {
    /// A reader of the node at `url`; must be called on a runtime.
    pub fn new(url: &str, token: Option<Token>, registry: &Registry) -> Result<Remote, Error> {
        Self::with_changes_timeout(url, token, CHANGES_TIMEOUT, registry)
    }

    /// The same, where the node has so long to tell what changed.
    pub fn with_changes_timeout(
        url: &str,
        token: Option<Token>,
        changes_timeout: Duration,
        registry: &Registry,
    ) -> Result<Remote, Error> {
        let metrics = Metrics::new(registry).map_err(|e| Error::Start(e.to_string()))?;
        let mut nodes = nodes(&[url.to_owned()], 1, token, changes_timeout, &metrics)?;
        let handle = Handle::current();
        let poll = Poll::start(&nodes, &handle);
        Ok(Remote { node: nodes.remove(0), handle, poll })
    }

    async fn ask(&self, question: Question<'_>) -> Result<Answer, SourceError> {
        ask(&self.node, &question).await
    }

    fn call(&self, question: Question<'_>, cancel: &Cancel) -> Result<Answer, SourceError> {
        block(&self.handle, cancel, self.ask(question))
    }
}

/// The series of an answer, and how far the node was before it.
fn set(answer: Answer, asked: Option<&Arc<Asked>>) -> (SeriesSet, Option<Mark>) {
    let Answer { series, warnings, resolution_ms, changes, .. } = answer;
    let series = merge::series(vec![series], asked);
    (SeriesSet { series, warnings, resolution_ms }, changes.and_then(|changes| changes.mark))
}

async fn ask(node: &Node, question: &Question<'_>) -> Result<Answer, SourceError> {
    answered(node, node.ask(question).await)
}

fn answered(node: &Node, answer: Result<Answer, Fault>) -> Result<Answer, SourceError> {
    answer.map_err(|fault| match fault {
        Fault::Failed(error) => error,
        Fault::Unreachable(reason) | Fault::Unknown(reason) => {
            let message = format!("storage node {} is unreachable: {reason}", node.name);
            SourceError { kind: Kind::Unavailable, message }
        }
    })
}

impl SeriesSource for Remote {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        Ok(self.select_marked(request)?.0)
    }

    fn count(&self, request: &CountRequest) -> Result<Option<SeriesCounts>, SourceError> {
        let answer = block(&self.handle, &request.cancel, async {
            match self.node.ask(&Question::Count(request, Counted::Numbers)).await {
                Err(Fault::Unknown(_)) => Ok(Answer::default()),
                answer => answered(&self.node, answer),
            }
        })?;
        Ok(answer.counts.map(|groups| SeriesCounts { groups, warnings: answer.warnings }))
    }

    fn label_names(&self, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        let answer = self.call(Question::LabelNames(request), &request.cancel)?;
        Ok(Listing { items: answer.texts, warnings: answer.warnings })
    }

    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        let answer = self.call(Question::LabelValues(name, request), &request.cancel)?;
        Ok(Listing { items: answer.texts, warnings: answer.warnings })
    }

    fn metadata(&self, family: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        let answer = self.call(Question::Metadata(family), &Cancel::default())?;
        Ok(Listing { items: answer.metadata, warnings: answer.warnings })
    }
}

impl Reader for Remote {
    fn caught_up(&self, timeout: Duration) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move { self.ask(Question::CaughtUp(timeout, &Positions::default())).await.map(drop) })
    }

    fn reached<'a>(&'a self, positions: &'a Positions, timeout: Duration) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move { self.ask(Question::CaughtUp(timeout, positions)).await.map(drop) })
    }

    fn backlog(&self) -> u64 {
        self.poll.total()
    }

    fn cardinality(&self, request: &CardinalityRequest) -> Result<Cardinality, SourceError> {
        let answer = self.call(Question::Cardinality(request), &request.cancel)?;
        Ok(Cardinality { warnings: answer.warnings, ..answer.cardinality })
    }

    fn exemplars(&self, request: &ExemplarsRequest) -> Result<Listing<SeriesExemplars>, SourceError> {
        let answer = self.call(Question::Exemplars(request), &request.cancel)?;
        Ok(Listing { items: answer.exemplars, warnings: answer.warnings })
    }

    fn select_marked(&self, request: &SelectRequest) -> Result<(SeriesSet, Option<Mark>), SourceError> {
        let answer = self.call(Question::of(request), &request.cancel)?;
        let (node, handle) = (self.node.clone(), self.handle.clone());
        let asked = Asked::new(request, &answer.warnings, move |request| {
            let answer = block(&handle, &request.cancel, ask(&node, &Question::of(request)))?;
            Ok(set(answer, None).0)
        });
        Ok(set(answer, asked.as_ref()))
    }

    fn marks_reads(&self) -> bool {
        true
    }

    fn changes(&self, request: &ChangesRequest) -> Changes {
        let asked = block(&self.handle, &request.cancel, async { Ok(self.node.changes(request).await) });
        asked.unwrap_or_else(|_| Changes::unknown(request.range))
    }
}
