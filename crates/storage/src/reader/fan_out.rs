//! Several storage nodes as one: every question goes to all of them at once, and the answers are merged.
//! Which answers are enough is told in [`super::gather`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use model::{
    Cancel, Cardinality, CardinalityRequest, Classes, CountRequest, ExemplarsRequest, Kind, LabelsRequest, Listing,
    Metadata, Positions, SelectRequest, SeriesCounts, SeriesExemplars, SeriesSet, SeriesSource, SourceError, Tally,
};
use prometheus::Registry;
use queue::BoxFuture;
use runtime::Token;
use tokio::runtime::Handle;

use super::gather::{Gathered, Nodes};
use super::metrics::Metrics;
use super::node::{CHANGES_TIMEOUT, Node, block};
use super::outlined::Asked;
use super::poll::Poll;
use super::{Changes, ChangesRequest, Mark, Reader, merge, nodes};
use crate::Error;
use crate::wire::question::{Counted, Question};

/// Storage nodes of which each has a share of the partitions. Its calls block; see [`super::connect`].
pub struct FanOut {
    nodes: Arc<Nodes>,
    copies: u32,
    handle: Handle,
    poll: Poll,
}

impl FanOut {
    /// A reader of the nodes at `urls`, in the order of their replica numbers, each partition on `copies` of them; must be called on a runtime.
    pub fn new(urls: &[String], copies: u32, token: Option<Token>, registry: &Registry) -> Result<FanOut, Error> {
        Self::with_changes_timeout(urls, copies, token, CHANGES_TIMEOUT, registry)
    }

    /// The same, where each node has so long to tell what changed.
    pub fn with_changes_timeout(
        urls: &[String],
        copies: u32,
        token: Option<Token>,
        changes_timeout: Duration,
        registry: &Registry,
    ) -> Result<FanOut, Error> {
        let metrics = Metrics::new(registry).map_err(|e| Error::Start(e.to_string()))?;
        let nodes = nodes(urls, copies, token, changes_timeout, &metrics)?;
        let handle = Handle::current();
        let poll = Poll::start(&nodes, &handle);
        Ok(FanOut { nodes: Arc::new(Nodes::new(nodes, metrics.partial)), copies, handle, poll })
    }

    /// How far the nodes were before they answered; `None` where one did not tell.
    fn mark(&self, gathered: &Gathered) -> Option<Mark> {
        let of = |number: usize| {
            let (_, answer) = gathered.answers.iter().find(|(at, _)| *at == number)?;
            answer.changes.as_ref()?.mark.as_ref()
        };
        let all: Option<Vec<&Mark>> = (0..self.nodes.all.len()).map(of).collect();
        Some(Mark(all?.into_iter().flat_map(|Mark(own)| own.iter().copied()).collect()))
    }

    fn call(&self, question: Question<'_>, cancel: &Cancel) -> Result<Gathered, SourceError> {
        block(&self.handle, cancel, self.nodes.answer(question))
    }
}

/// The series of all answers.
fn set(gathered: Gathered, series_max: usize, asked: Option<&Arc<Asked>>) -> Result<SeriesSet, SourceError> {
    let Gathered { answers, warnings } = gathered;
    let resolution_ms = answers.iter().map(|(_, answer)| answer.resolution_ms).max().unwrap_or(0);
    let series = merge::series(answers.into_iter().map(|(_, answer)| answer.series).collect(), asked);
    if series.len() > series_max {
        return Err(too_many(series_max, series.len() as u64));
    }
    Ok(SeriesSet { series, warnings, resolution_ms })
}

/// The error of a selector that finds so many series among all nodes.
fn too_many(max: usize, found: u64) -> SourceError {
    let message = format!("the selector finds more than {max} series: {found} at the least");
    SourceError { kind: Kind::Invalid, message }
}

impl SeriesSource for FanOut {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        Ok(self.select_marked(request)?.0)
    }

    /// Where each partition has one copy, each series is on one node, and numbers add up. With more a series is told apart by a hash of its labels, and counts
    /// once, by the newest sample that any node has of it.
    fn count(&self, request: &CountRequest) -> Result<Option<SeriesCounts>, SourceError> {
        let counted = if self.copies > 1 { Counted::Newest } else { Counted::Numbers };
        let gathered = self.call(Question::Count(request, counted), &request.cancel)?;
        let told: Option<Vec<_>> =
            gathered.answers.into_iter().map(|(_, answer)| Some((answer.counts?, answer.newest))).collect();
        let Some(told) = told.filter(|told| !told.is_empty()) else { return Ok(None) };
        let groups = match counted {
            Counted::Numbers => merge::counts(told.into_iter().flat_map(|(counts, _)| counts)),
            Counted::Newest => merge::newest(told, &request.cancel)?,
        };
        Ok(Some(SeriesCounts { groups, warnings: gathered.warnings }))
    }

    fn label_names(&self, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        let gathered = self.call(Question::LabelNames(request), &request.cancel)?;
        let items = merge::list(gathered.answers.into_iter().map(|(_, answer)| answer.texts));
        Ok(Listing { items, warnings: gathered.warnings })
    }

    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        let gathered = self.call(Question::LabelValues(name, request), &request.cancel)?;
        let items = merge::list(gathered.answers.into_iter().map(|(_, answer)| answer.texts));
        Ok(Listing { items, warnings: gathered.warnings })
    }

    fn metadata(&self, family: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        let gathered = self.call(Question::Metadata(family), &Cancel::default())?;
        let items = merge::list(gathered.answers.into_iter().map(|(_, answer)| answer.metadata));
        Ok(Listing { items, warnings: gathered.warnings })
    }
}

impl Reader for FanOut {
    /// Waits for one copy of each partition. Fails where a node is there and does not catch up, and no other has its partitions; a node that is
    /// unreachable is told of by the answers that lack it.
    fn caught_up(&self, timeout: Duration) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move { self.nodes.wait(&Positions::default(), timeout).await })
    }

    fn reached<'a>(&'a self, positions: &'a Positions, timeout: Duration) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(self.nodes.wait(positions, timeout))
    }

    /// Each record counts once for each copy that lacks it, divided by the number of copies.
    fn backlog(&self) -> u64 {
        self.poll.total().div_ceil(u64::from(self.copies))
    }

    /// The copies of a partition are counted apart from others, and those of one node are taken.
    fn cardinality(&self, request: &CardinalityRequest) -> Result<Cardinality, SourceError> {
        let modulus = if self.copies > 1 { self.nodes.all.len() as u32 } else { 1 };
        let asked = CardinalityRequest { classes: Classes { modulus, ..Classes::ONE }, ..request.clone() };
        let mut gathered = self.call(Question::Cardinality(&asked), &request.cancel)?;
        let mut tally = Tally::default();
        let mut all = Cardinality { warnings: std::mem::take(&mut gathered.warnings), ..Cardinality::default() };
        for class in 0..modulus {
            // Those which count more in doubt come later. Without copies all have a share of the only class.
            for (at, answer) in gathered.answers.iter_mut().rev() {
                let own = answer.cardinality.tallies.remove(&class);
                if modulus > 1 && !self.nodes.all[*at].replica.owns(class) {
                    continue;
                }
                tally.merge(own.unwrap_or_default());
                if modulus > 1 {
                    break;
                }
            }
        }
        gathered.answers.iter().filter_map(|(_, answer)| answer.cardinality.range).for_each(|range| all.widen(range));
        if tally.series > request.series_max as u64 {
            return Err(too_many(request.series_max, tally.series));
        }
        all.tallies.insert(0, tally);
        Ok(all)
    }

    fn exemplars(&self, request: &ExemplarsRequest) -> Result<Listing<SeriesExemplars>, SourceError> {
        let gathered = self.call(Question::Exemplars(request), &request.cancel)?;
        let items = merge::exemplars(gathered.answers.into_iter().map(|(_, answer)| answer.exemplars));
        if items.iter().map(|one| one.exemplars.len()).sum::<usize>() > request.exemplars_max {
            let message = format!("the query finds more than {} exemplars", request.exemplars_max);
            return Err(SourceError { kind: Kind::Invalid, message });
        }
        Ok(Listing { items, warnings: gathered.warnings })
    }

    fn select_marked(&self, request: &SelectRequest) -> Result<(SeriesSet, Option<Mark>), SourceError> {
        // Of nodes that share partitions with several others more than one has most series, and all samples of these would be needed.
        let shares = 1 < self.copies && self.copies < self.nodes.all.len() as u32;
        let question = if shares { Question::Select(request) } else { Question::of(request) };
        let gathered = self.call(question, &request.cancel)?;
        let mark = if self.marks_reads() { self.mark(&gathered) } else { None };
        let (nodes, handle) = (self.nodes.clone(), self.handle.clone());
        let asked = Asked::new(request, &gathered.warnings, move |request| {
            let gathered = block(&handle, &request.cancel, nodes.answer(Question::of(request)))?;
            set(gathered, request.series_max, None)
        });
        Ok((set(gathered, request.series_max, asked.as_ref())?, mark))
    }

    /// Where there are copies, not all of them are waited for.
    fn marks_reads(&self) -> bool {
        self.copies == 1
    }

    /// Of every copy, since each answer is of all that were there.
    fn changes(&self, request: &ChangesRequest) -> Changes {
        let of = self.nodes.all.len();
        let ask = async |(at, node): (usize, &Arc<Node>)| node.changes(&request.of_node(at, of)).await;
        let asked = block(&self.handle, &request.cancel, async {
            Ok(join_all(self.nodes.all.iter().enumerate().map(ask)).await)
        });
        asked.map_or_else(|_| Changes::unknown(request.range), |all| Changes::of_all(all, request.range))
    }
}
