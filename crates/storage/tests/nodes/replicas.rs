//! What a replica reads of the log, what it tells the log, and whose directory it takes.

use model::{Kind, Sample};
use storage::Replica;

use crate::support::{Bed, PARTITIONS, PATIENCE, holding_groups, metric, select, series};

async fn fill(bed: &Bed) -> Vec<u32> {
    let mut number = vec![0; PARTITIONS as usize];
    for n in 0..40 {
        bed.write(&series(n), &[Sample { t: 1, v: 1.0 }]).await;
        number[series(n).as_ref().partition(PARTITIONS) as usize] += 1;
    }
    number
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_reads_only_what_it_owns_and_holds_nothing_else_back() {
    let bed = Bed::new().await;
    let number = fill(&bed).await;
    let replica = Replica { number: 1, of: 3, copies: 2 };
    let storage = bed.storage(replica).await.expect("starts");
    let (got, _) = select(&storage.reader).await.expect("answers");
    let owned = |labels: &model::Labels| replica.owns(labels.as_ref().partition(PARTITIONS));
    assert_eq!(got.len() as u32, number[1] + number[2]);
    assert!(got.keys().all(owned), "only partitions 1 and 2");
    assert_eq!(metric(&storage.registry, "weir_storage_applied_records_total"), f64::from(number[1] + number[2]));
    let passed_over = async {
        for partition in [0, 3] {
            while bed.log.committed("storage-1", partition).await.expect("answers")
                != Some(i64::from(number[partition as usize]))
            {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, passed_over).await.expect("the log is told of what is not read");
    assert_eq!(bed.log.committed("storage-1", 1).await.expect("answers"), None, "nothing is in a block yet");
    storage.stop().await;
    for partition in 0..PARTITIONS {
        let committed = bed.log.committed("storage-1", partition).await.expect("answers");
        assert_eq!(committed, Some(i64::from(number[partition as usize])), "partition {partition}");
    }
    assert_eq!(bed.log.committed("storage", 0).await.expect("answers"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_other_numbers_is_refused_and_left_alone() {
    let bed = Bed::new().await;
    fill(&bed).await;
    let alone = bed.storage_in("one", Replica::ALONE).await.expect("starts");
    let before = select(&alone.reader).await.expect("answers");
    alone.stop().await;
    for other in [Replica { number: 0, of: 2, copies: 1 }, Replica { number: 0, of: 2, copies: 2 }] {
        let error = bed.storage_in("one", other).await.err().expect("refused");
        assert_eq!(error.kind(), Kind::Invalid);
        let text = error.to_string();
        assert!(
            text.contains("holds the partitions of replica 0 of 1 with 1 copy, and this is replica 0 of 2"),
            "{text}"
        );
    }
    let alone = bed.storage_in("one", Replica::ALONE).await.expect("starts");
    assert_eq!(select(&alone.reader).await.expect("answers"), before);
    alone.stop().await;
    let error = bed.storage_in("two", Replica { number: 5, of: 2, copies: 1 }).await.err().expect("refused");
    assert_eq!(error.to_string(), "--storage-replica 5 is not below --storage-replicas 2; the first is 0");
}

#[test]
fn the_log_can_be_told_to_wait_for_every_replica() {
    assert_eq!(holding_groups("--retention=off").expect("the default"), ["storage", "alerting"]);
    let flag = "--queue-holding-groups=storage-0,storage-1,alerting";
    assert_eq!(holding_groups(flag).expect("names"), ["storage-0", "storage-1", "alerting"]);
    for bad in ["", "a,,b", "a b"] {
        holding_groups(&format!("--queue-holding-groups={bad}")).expect_err(bad);
    }
}
