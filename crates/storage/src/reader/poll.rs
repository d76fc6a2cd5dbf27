//! Asks the nodes each second how far behind they are, so that [`super::Reader::backlog`] need not wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::node::Node;
use crate::wire::question::Question;

/// How often, and how long an answer may take.
const EVERY: Duration = Duration::from_secs(1);

/// The backlog of each node, as told last.
pub(super) struct Poll {
    known: Arc<Vec<AtomicU64>>,
    task: JoinHandle<()>,
}

impl Poll {
    pub(super) fn start(nodes: &[Arc<Node>], handle: &Handle) -> Poll {
        let known: Arc<Vec<AtomicU64>> = Arc::new(nodes.iter().map(|_| AtomicU64::new(0)).collect());
        let (nodes, told) = (nodes.to_vec(), known.clone());
        let task = handle.spawn(async move {
            loop {
                join_all(nodes.iter().zip(told.iter()).map(|(node, told)| ask(node, told))).await;
                tokio::time::sleep(EVERY).await;
            }
        });
        Poll { known, task }
    }

    /// Of all nodes together.
    pub(super) fn total(&self) -> u64 {
        self.known.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }
}

/// The task ends with its reader.
impl Drop for Poll {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A node that does not answer keeps the number that it told last.
async fn ask(node: &Node, told: &AtomicU64) {
    if let Ok(Ok(answer)) = tokio::time::timeout(EVERY, node.ask(&Question::Backlog)).await
        && let Some(backlog) = answer.backlog
    {
        told.store(backlog, Ordering::Relaxed);
    }
}
