//! A question to several nodes, and which of their answers are enough.
//!
//! An answer is enough as soon as each partition was answered for by a copy that is fresh and has nothing to warn of; who has not answered
//! by then is not waited for. So with two copies a slow node costs nothing; the price is that the copies' work is done twice. What no
//! node answered for is said in the answer's warnings; where no node answers at all there is no answer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use model::{Kind, Positions, SourceError};
use prometheus::IntCounter;

use super::freshness::Freshness;
use super::node::{Fault, Node};
use crate::wire::answer::Answer;
use crate::wire::question::Question;

/// How long a copy is waited for that has to answer for one which went away in the middle of a query.
const LATE: Duration = Duration::from_secs(2);

/// The nodes, and how far each is known to be.
pub(super) struct Nodes {
    pub(super) all: Vec<Arc<Node>>,
    freshness: Freshness,
    partial: IntCounter,
}

/// What the nodes answered.
pub(super) struct Gathered {
    /// By node, none where one of them does not know the question. Those which count more in doubt come later.
    pub(super) answers: Vec<(usize, Answer)>,
    pub(super) warnings: Vec<String>,
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

impl Nodes {
    /// `partial` counts answers that lack something.
    pub(super) fn new(all: Vec<Arc<Node>>, partial: IntCounter) -> Nodes {
        Nodes { freshness: Freshness::new(all.len()), all, partial }
    }

    /// Asks every node until the answers are enough; `must_be_fresh` tells whether those of nodes that may be behind are.
    async fn gather(&self, question: &Question<'_>, must_be_fresh: bool) -> Result<Gathering, SourceError> {
        let ask = async |at: usize| (at, self.all[at].ask(question).await);
        let mut asked: FuturesUnordered<_> = (0..self.all.len()).map(ask).collect();
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
        let held = |partition: &u32| nodes.clone().any(|at| self.all[at].replica.owns(*partition));
        (0..gathering.partitions.unwrap_or(0)).filter(|partition| !held(partition)).collect()
    }

    /// The partitions that only nodes answered for which may be behind.
    fn behind(&self, gathering: &Gathering, missing: &[u32]) -> Vec<u32> {
        let fresh = gathering.answers.iter().map(|(at, _)| *at).filter(|at| self.freshness.is_fresh(*at));
        self.missing(gathering, fresh).into_iter().filter(|partition| !missing.contains(partition)).collect()
    }

    /// Gathers; and once more where a copy that nobody waited for answers alone, after waiting for it.
    pub(super) async fn answer(&self, question: Question<'_>) -> Result<Gathered, SourceError> {
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
            if self.all[at].ask(&Question::CaughtUp(LATE, &Positions::default())).await.is_ok() {
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
                let name = &self.all[*at].name;
                warnings.push(format!("storage node {name} is unreachable: {list} missing from this answer"));
            }
        }
        for (at, _) in &gathering.answers {
            if let Some(list) = self.owned(*at, &behind) {
                let name = &self.all[*at].name;
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
            partitions.iter().filter(|p| self.all[at].replica.owns(**p)).map(u32::to_string).collect();
        match owned.as_slice() {
            [] => None,
            [one] => Some(format!("partition {one} is")),
            all => Some(format!("partitions {} are", all.join(", "))),
        }
    }

    fn all_down(&self, gathering: &Gathering) -> SourceError {
        let each = gathering.down.iter().map(|(at, reason)| format!("{}: {reason}", self.all[*at].name));
        let message = format!("no storage node is reachable: {}", each.collect::<Vec<_>>().join("; "));
        SourceError { kind: Kind::Unavailable, message }
    }

    fn differ(&self, at: usize, gathering: &Gathering) -> SourceError {
        let other = gathering.answers.first().map_or("", |(at, _)| self.all[*at].name.as_str());
        let message = format!(
            "storage nodes {} and {other} read logs with different numbers of partitions: they do not belong together",
            self.all[at].name
        );
        SourceError { kind: Kind::Unavailable, message }
    }

    /// Waits until a copy of each partition has these records and all that were acknowledged.
    pub(super) async fn wait(&self, positions: &Positions, timeout: Duration) -> Result<(), SourceError> {
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
