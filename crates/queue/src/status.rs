//! `GET /api/v1/queue`: what is in the log and how much of it waits for whom. Only tells; nothing is changed here.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::local::LocalLog;

#[derive(Debug, Serialize)]
struct Status {
    partitions: Vec<PartitionStatus>,
    /// By the group's name.
    groups: BTreeMap<String, GroupStatus>,
}

#[derive(Debug, Serialize)]
struct PartitionStatus {
    partition: usize,
    start: i64,
    end: i64,
    bytes: u64,
    segments: usize,
    /// By the group's name; a group that has committed nothing yet is not listed.
    commits: BTreeMap<String, i64>,
    /// Why it stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    poisoned: Option<String>,
}

#[derive(Debug, Serialize)]
struct GroupStatus {
    depth: i64,
    peak: i64,
    processed: i64,
}

pub(crate) fn router(log: Arc<LocalLog>) -> Router {
    let queue = get(move || std::future::ready(Json(status(&log)))).options(runtime::options);
    Router::new().route("/api/v1/queue", queue)
}

fn status(log: &LocalLog) -> Status {
    let progress = log.groups.progress();
    let partitions = log.partitions.iter().enumerate().map(|(number, partition)| {
        let (bounds, (bytes, segments)) = (partition.bounds(), partition.size());
        let commits = progress.iter().filter_map(|p| Some((p.group.clone(), p.committed[number]?))).collect();
        let poisoned = partition.poisoned();
        PartitionStatus { partition: number, start: bounds.start, end: bounds.end, bytes, segments, commits, poisoned }
    });
    Status {
        partitions: partitions.collect(),
        groups: progress
            .iter()
            .map(|p| (p.group.clone(), GroupStatus { depth: p.depth, peak: p.peak, processed: p.processed }))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_prints_as_documented() {
        let status = Status {
            partitions: vec![PartitionStatus {
                partition: 0,
                start: 1,
                end: 9,
                bytes: 700,
                segments: 2,
                commits: [("storage".to_owned(), 4)].into(),
                poisoned: None,
            }],
            groups: [("storage".to_owned(), GroupStatus { depth: 5, peak: 8, processed: 4 })].into(),
        };
        let expect = r#"{"partitions":[{"partition":0,"start":1,"end":9,"bytes":700,"segments":2,"commits":{"storage":4}}],"groups":{"storage":{"depth":5,"peak":8,"processed":4}}}"#;
        assert_eq!(serde_json::to_string(&status).expect("serializes"), expect);
    }
}
