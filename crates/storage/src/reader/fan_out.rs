//! Several storage nodes as one: every question goes to all of them at once, and the answers are merged.
//!
//! An answer is enough as soon as each partition was answered for by a copy that is fresh and has nothing to warn of; who has not answered
//! by then is not waited for. So with two copies a slow node costs nothing; the price is that the copies' work is done twice. What no
//! node answered for is said in the answer's warnings; where no node answers at all there is no answer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use model::{
    Cancel, Cardinality, CardinalityRequest, Classes, CountRequest, ExemplarsRequest, Kind, LabelsRequest, Listing,
    Metadata, Positions, SelectRequest, SeriesCounts, SeriesExemplars, SeriesSet, SeriesSource, SourceError, Tally,
};
use prometheus::{IntCounter, Registry};
use queue::BoxFuture;
use runtime::Token;
use tokio::runtime::Handle;

use super::freshness::Freshness;
use super::metrics::Metrics;
use super::node::{CHANGES_TIMEOUT, Fault, Node, block};
use super::poll::Poll;
use super::{Changes, ChangesRequest, Mark, Reader, merge, nodes};
use crate::Error;
use crate::wire::answer::Answer;
use crate::wire::question::{Counted, Question};

/// How long a copy is waited for that has to answer for one which went away in the middle of a query.
const LATE: Duration = Duration::from_secs(2);

/// Storage nodes of which each has a share of the partitions. Its calls block; see [`super::connect`].
pub struct FanOut {
    nodes: Vec<Arc<Node>>,
    copies: u32,
    freshness: Freshness,
    handle: Handle,
    poll: Poll,
    partial: IntCounter,
}

/// What the nodes answered.
struct Gathered {
    /// By node, none where one of them does not know the question. Those which count more in doubt come later.
    answers: Vec<(usize, Answer)>,
    warnings: Vec<String>,
}

/// While answers come in.
#[derive(Default)]
struct Gathering {
    partitions: Option<u32>,
    answers: Vec<(usize, Answer)>,
    /// The nodes that are not there, and how.
    down: Vec<(usize, String)>,
    failed: Option<SourceError>,
    /// A node does not know the question.
    is_unknown: bool,
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
        let (freshness, handle) = (Freshness::new(nodes.len()), Handle::current());
        let poll = Poll::start(&nodes, &handle);
        Ok(FanOut { nodes, copies, freshness, handle, poll, partial: metrics.partial })
    }

    /// Asks every node until the answers are enough; `must_be_fresh` tells whether those of nodes that may be behind are.
    async fn gather(&self, question: &Question<'_>, must_be_fresh: bool) -> Result<Gathering, SourceError> {
        let ask = async |at: usize| (at, self.nodes[at].ask(question).await);
        let mut asked: FuturesUnordered<_> = (0..self.nodes.len()).map(ask).collect();
        let mut gathering = Gathering::default();
        while let Some((at, answered)) = asked.next().await {
            match answered {
                Ok(answer) => {
                    let partitions = answer.begin.map(|begin| begin.partitions);
                    if gathering.partitions.is_some() && gathering.partitions != partitions {
                        return Err(self.differ(at, &gathering));
                    }
                    gathering.partitions = partitions;
                    gathering.answers.push((at, answer));
                }
                Err(Fault::Unreachable(reason)) => gathering.down.push((at, reason)),
                Err(Fault::Unknown(_)) => return Ok(Gathering { is_unknown: true, ..Gathering::default() }),
                // It would be as wrong for the others.
                Err(Fault::Failed(error)) if error.kind == Kind::Invalid => return Err(error),
                Err(Fault::Failed(error)) => {
                    tracing::debug!(error = error.message, "a storage node failed");
                    gathering.failed = Some(error);
                }
            }
            let is_enough = |(at, answer): &&(usize, Answer)| {
                !must_be_fresh || answer.warnings.is_empty() && self.freshness.is_fresh(*at)
            };
            let enough = gathering.answers.iter().filter(is_enough).map(|(at, _)| *at);
            if gathering.partitions.is_some() && self.missing(&gathering, enough).is_empty() {
                break;
            }
        }
        if gathering.answers.is_empty() {
            return Err(gathering.failed.take().unwrap_or_else(|| self.all_down(&gathering)));
        }
        Ok(gathering)
    }

    /// The partitions that none of these nodes has.
    fn missing(&self, gathering: &Gathering, nodes: impl Iterator<Item = usize> + Clone) -> Vec<u32> {
        let held = |partition: &u32| nodes.clone().any(|at| self.nodes[at].replica.owns(*partition));
        (0..gathering.partitions.unwrap_or(0)).filter(|partition| !held(partition)).collect()
    }

    /// The partitions that only nodes answered for which may be behind.
    fn behind(&self, gathering: &Gathering, missing: &[u32]) -> Vec<u32> {
        let fresh = gathering.answers.iter().map(|(at, _)| *at).filter(|at| self.freshness.is_fresh(*at));
        self.missing(gathering, fresh).into_iter().filter(|partition| !missing.contains(partition)).collect()
    }

    /// Gathers; and once more where a copy that nobody waited for answers alone, after waiting for it.
    async fn answer(&self, question: Question<'_>) -> Result<Gathered, SourceError> {
        let gathering = self.gather(&question, true).await?;
        if gathering.is_unknown {
            return Ok(Gathered { answers: Vec::new(), warnings: Vec::new() });
        }
        let answered = || gathering.answers.iter().map(|(at, _)| *at);
        if self.behind(&gathering, &self.missing(&gathering, answered())).is_empty() {
            return self.conclude(gathering);
        }
        let wait = self.freshness.begin();
        join_all(answered().map(async |at| {
            if self.nodes[at].ask(&Question::CaughtUp(LATE, &Positions::default())).await.is_ok() {
                self.freshness.meet(wait, at);
            }
        }))
        .await;
        self.conclude(self.gather(&question, true).await?)
    }

    /// The answers, and what is to be said of those that are not there.
    fn conclude(&self, mut gathering: Gathering) -> Result<Gathered, SourceError> {
        let missing = self.missing(&gathering, gathering.answers.iter().map(|(at, _)| *at));
        if !missing.is_empty()
            && let Some(error) = gathering.failed
        {
            return Err(error);
        }
        let behind = self.behind(&gathering, &missing);
        let mut warnings = Vec::new();
        for (at, _) in &gathering.down {
            if let Some(list) = self.owned(*at, &missing) {
                let name = &self.nodes[*at].name;
                warnings.push(format!("storage node {name} is unreachable: {list} missing from this answer"));
            }
        }
        for (at, _) in &gathering.answers {
            if let Some(list) = self.owned(*at, &behind) {
                let name = &self.nodes[*at].name;
                warnings.push(format!(
                    "storage node {name} may be behind: the newest samples of {list} perhaps missing from this answer"
                ));
            }
        }
        if !warnings.is_empty() {
            self.partial.inc();
        }
        gathering.answers.sort_by_key(|(at, _)| (self.freshness.is_fresh(*at), *at));
        for (_, answer) in &mut gathering.answers {
            warnings.append(&mut answer.warnings);
        }
        Ok(Gathered { answers: gathering.answers, warnings })
    }

    /// Those of the partitions that the node owns, in words; `None` where it owns none.
    fn owned(&self, at: usize, partitions: &[u32]) -> Option<String> {
        let owned: Vec<String> =
            partitions.iter().filter(|p| self.nodes[at].replica.owns(**p)).map(u32::to_string).collect();
        match owned.as_slice() {
            [] => None,
            [one] => Some(format!("partition {one} is")),
            all => Some(format!("partitions {} are", all.join(", "))),
        }
    }

    fn all_down(&self, gathering: &Gathering) -> SourceError {
        let each = gathering.down.iter().map(|(at, reason)| format!("{}: {reason}", self.nodes[*at].name));
        let message = format!("no storage node is reachable: {}", each.collect::<Vec<_>>().join("; "));
        SourceError { kind: Kind::Unavailable, message }
    }

    fn differ(&self, at: usize, gathering: &Gathering) -> SourceError {
        let other = gathering.answers.first().map_or("", |(at, _)| self.nodes[*at].name.as_str());
        let message = format!(
            "storage nodes {} and {other} read logs with different numbers of partitions: they do not belong together",
            self.nodes[at].name
        );
        SourceError { kind: Kind::Unavailable, message }
    }

    /// How far the nodes were before they answered; `None` where one did not tell.
    fn mark(&self, gathered: &Gathered) -> Option<Mark> {
        let of = |number: usize| {
            let (_, answer) = gathered.answers.iter().find(|(at, _)| *at == number)?;
            answer.changes.as_ref()?.mark.as_ref()
        };
        let all: Option<Vec<&Mark>> = (0..self.nodes.len()).map(of).collect();
        Some(Mark(all?.into_iter().flat_map(|Mark(own)| own.iter().copied()).collect()))
    }

    fn call(&self, question: Question<'_>, cancel: &Cancel) -> Result<Gathered, SourceError> {
        block(&self.handle, cancel, self.answer(question))
    }

    async fn wait(&self, positions: &Positions, timeout: Duration) -> Result<(), SourceError> {
        let wait = self.freshness.begin();
        let gathered = self.gather(&Question::CaughtUp(timeout, positions), false).await;
        let met = |at| gathered.as_ref().is_ok_and(|g| g.answers.iter().any(|(answered, _)| *answered == at));
        self.freshness.end(wait, met);
        let gathering = gathered?;
        // A node that is not there is told of by the answer that lacks it; one that is there and behind must be waited for.
        let missing = self.missing(&gathering, gathering.answers.iter().map(|(at, _)| *at));
        match gathering.failed {
            Some(error) if !missing.is_empty() => Err(error),
            _ => Ok(()),
        }
    }
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
        Box::pin(async move { self.wait(&Positions::default(), timeout).await })
    }

    fn reached<'a>(&'a self, positions: &'a Positions, timeout: Duration) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(self.wait(positions, timeout))
    }

    /// Each record counts once for each copy that lacks it, divided by the number of copies.
    fn backlog(&self) -> u64 {
        self.poll.total().div_ceil(u64::from(self.copies))
    }

    /// The copies of a partition are counted apart from others, and those of one node are taken.
    fn cardinality(&self, request: &CardinalityRequest) -> Result<Cardinality, SourceError> {
        let modulus = if self.copies > 1 { self.nodes.len() as u32 } else { 1 };
        let asked = CardinalityRequest { classes: Classes { modulus, ..Classes::ONE }, ..request.clone() };
        let mut gathered = self.call(Question::Cardinality(&asked), &request.cancel)?;
        let mut tally = Tally::default();
        let mut all = Cardinality { warnings: std::mem::take(&mut gathered.warnings), ..Cardinality::default() };
        for class in 0..modulus {
            // Those which count more in doubt come later. Without copies all have a share of the only class.
            for (at, answer) in gathered.answers.iter_mut().rev() {
                let own = answer.cardinality.tallies.remove(&class);
                if modulus > 1 && !self.nodes[*at].replica.owns(class) {
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
        let gathered = self.call(Question::Select(request), &request.cancel)?;
        let resolution_ms = gathered.answers.iter().map(|(_, answer)| answer.resolution_ms).max().unwrap_or(0);
        let mark = if self.marks_reads() { self.mark(&gathered) } else { None };
        let series = merge::series(gathered.answers.into_iter().map(|(_, answer)| answer.series).collect());
        if series.len() > request.series_max {
            return Err(too_many(request.series_max, series.len() as u64));
        }
        Ok((SeriesSet { series, warnings: gathered.warnings, resolution_ms }, mark))
    }

    /// Where there are copies, not all of them are waited for.
    fn marks_reads(&self) -> bool {
        self.copies == 1
    }

    /// Of every copy, since each answer is of all that were there.
    fn changes(&self, request: &ChangesRequest) -> Changes {
        let of = self.nodes.len();
        let ask = async |(at, node): (usize, &Arc<Node>)| node.changes(&request.of_node(at, of)).await;
        let asked =
            block(&self.handle, &request.cancel, async { Ok(join_all(self.nodes.iter().enumerate().map(ask)).await) });
        asked.map_or_else(|_| Changes::unknown(request.range), |all| Changes::of_all(all, request.range))
    }
}
