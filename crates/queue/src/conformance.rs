//! What every implementation of [`Log`] must do. Each function is given an empty log with at least two partitions, and panics
//! where it does not hold.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{Bounds, Error, Log, RECORD_BYTES_MAX, Record};

/// Long enough that only a log that does not answer exceeds it.
const PATIENCE: Duration = Duration::from_secs(180);

/// Parts of the suite, and so logs that it asks for.
pub const PARTS: usize = 9;

/// Runs the whole suite, each part on a log that `make` gives.
pub async fn run<F: Future<Output = Arc<dyn Log>>>(mut make: impl FnMut() -> F) {
    appended_records_are_read_in_order(make().await).await;
    a_fetch_waits_for_the_first_record(make().await).await;
    offsets_outside_of_the_log_are_refused(make().await).await;
    a_fetch_is_bounded_and_makes_progress(make().await).await;
    commits_are_kept_by_group_and_partition(make().await).await;
    appends_at_once_each_get_an_offset_of_their_own(make().await).await;
    a_fetch_that_waits_holds_up_nothing(make().await).await;
    a_fetch_that_is_dropped_leaves_nothing_behind(make().await).await;
    the_largest_record_passes(make().await).await;
}

async fn appended_records_are_read_in_order(log: Arc<dyn Log>) {
    for i in 0..20u8 {
        let offset = log.append(1, Bytes::from(vec![i; usize::from(i)]), 1000 + i64::from(i)).await.expect("appended");
        assert_eq!(offset, i64::from(i));
    }
    let read = log.fetch(1, 5, usize::MAX, PATIENCE).await.expect("read");
    let expect: Vec<Record> = (5..20u8)
        .map(|i| Record {
            offset: i64::from(i),
            timestamp_ms: 1000 + i64::from(i),
            payload: Bytes::from(vec![i; usize::from(i)]),
        })
        .collect();
    assert_eq!(read, expect);
    assert_eq!(log.known_end(1), 20, "a fetch tells where the partition ends");
    assert_eq!(log.bounds(1).await.expect("bounds"), Bounds { start: 0, end: 20 });
    assert_eq!(log.bounds(0).await.expect("bounds"), Bounds { start: 0, end: 0 }, "partitions are apart");
}

async fn a_fetch_waits_for_the_first_record(log: Arc<dyn Log>) {
    assert_eq!(log.fetch(0, 0, 1, Duration::ZERO).await.expect("read"), []);
    let waiting = log.fetch(0, 0, usize::MAX, PATIENCE);
    let appended = log.append(0, Bytes::from_static(b"x"), 1);
    let (read, offset) = tokio::join!(waiting, appended);
    assert_eq!((read.expect("read").len(), offset.expect("appended")), (1, 0));
}

async fn offsets_outside_of_the_log_are_refused(log: Arc<dyn Log>) {
    let partitions = log.partitions();
    for from in [-1, 1] {
        let refused = log.fetch(0, from, 1, Duration::ZERO).await;
        assert!(matches!(refused, Err(Error::OutOfRange { start: 0, end: 0, .. })), "{refused:?}");
    }
    assert!(matches!(log.append(partitions, Bytes::new(), 0).await, Err(Error::Invalid(_))));
    assert!(matches!(log.fetch(partitions, 0, 1, Duration::ZERO).await, Err(Error::Invalid(_))));
    let large = Bytes::from(vec![0; RECORD_BYTES_MAX + 1]);
    assert!(matches!(log.append(0, large, 0).await, Err(Error::Invalid(_))));
}

async fn a_fetch_is_bounded_and_makes_progress(log: Arc<dyn Log>) {
    for _ in 0..10 {
        log.append(0, Bytes::from(vec![7; 1000]), 0).await.expect("appended");
    }
    let (mut next, beyond) = (0, log.partitions());
    assert_eq!(log.known_end(beyond), 0, "what is not there is not known of");
    while next < 10 {
        let read = log.fetch(0, next, 2500, Duration::ZERO).await.expect("read");
        assert!(!read.is_empty() && read.len() <= 3, "{} records", read.len());
        assert_eq!(log.known_end(0), 10, "of which a fetch gives a part");
        next += read.len() as i64;
    }
}

async fn appends_at_once_each_get_an_offset_of_their_own(log: Arc<dyn Log>) {
    const APPENDS: u32 = 200;
    let tasks: Vec<_> = (0..APPENDS)
        .map(|i| {
            let log = log.clone();
            tokio::spawn(async move { (log.append(0, Bytes::from(i.to_be_bytes().to_vec()), 0).await, i) })
        })
        .collect();
    let mut expect = vec![None; APPENDS as usize];
    for task in tasks {
        let (offset, i) = task.await.expect("ends");
        let place = &mut expect[offset.expect("appended") as usize];
        assert_eq!(place.replace(Bytes::from(i.to_be_bytes().to_vec())), None, "an offset is given once");
    }
    let read = log.fetch(0, 0, usize::MAX, PATIENCE).await.expect("read");
    assert_eq!(read.into_iter().map(|r| Some(r.payload)).collect::<Vec<_>>(), expect);
    // Also from the middle of what was written at once.
    for from in [1, 77, 198, 199] {
        let read = log.fetch(0, from, 1, PATIENCE).await.expect("read");
        assert_eq!(read.first().map(|r| r.offset), Some(from));
    }
}

async fn commits_are_kept_by_group_and_partition(log: Arc<dyn Log>) {
    log.commit("a", 0, 3).await.expect("committed");
    log.commit("a", 1, 4).await.expect("committed");
    log.commit("b", 0, 5).await.expect("committed");
    assert_eq!(log.committed("a", 0).await.expect("read"), Some(3));
    assert_eq!(log.committed("a", 1).await.expect("read"), Some(4));
    assert_eq!(log.committed("b", 1).await.expect("read"), None);
}

async fn a_fetch_that_waits_holds_up_nothing(log: Arc<dyn Log>) {
    let waiting = log.fetch(0, 0, usize::MAX, PATIENCE);
    let others = async {
        // The other partition first: what wakes the fetch comes last.
        log.append(1, Bytes::from_static(b"y"), 1).await.expect("appended");
        assert_eq!(log.fetch(1, 0, usize::MAX, PATIENCE).await.expect("read").len(), 1);
        assert_eq!(log.bounds(0).await.expect("bounds"), Bounds { start: 0, end: 0 });
        log.commit("a", 0, 0).await.expect("committed");
        log.append(0, Bytes::from_static(b"x"), 1).await.expect("appended")
    };
    let (read, offset) = tokio::join!(waiting, others);
    assert_eq!((read.expect("read").len(), offset), (1, 0));
}

async fn a_fetch_that_is_dropped_leaves_nothing_behind(log: Arc<dyn Log>) {
    for i in 0..5i64 {
        let waiting = log.fetch(0, i, usize::MAX, PATIENCE);
        let appended = log.append(1, Bytes::from_static(b"y"), 1);
        tokio::select! {
            biased;
            read = waiting => panic!("nothing is there: {read:?}"),
            offset = appended => assert_eq!(offset.expect("appended"), i),
        }
        assert_eq!(log.append(0, Bytes::from(i.to_be_bytes().to_vec()), 1).await.expect("appended"), i);
        let read = log.fetch(0, i, usize::MAX, PATIENCE).await.expect("read");
        assert_eq!(read.into_iter().map(|r| r.payload).collect::<Vec<_>>(), [i.to_be_bytes().to_vec()]);
    }
}

async fn the_largest_record_passes(log: Arc<dyn Log>) {
    let largest = Bytes::from(vec![7; RECORD_BYTES_MAX]);
    let appends = (0..3).map(|_| log.append(0, largest.clone(), 1));
    let offsets = futures_util::future::join_all(appends).await;
    assert!(offsets.into_iter().all(|offset| offset.is_ok()));
    let mut next = 0;
    while next < 3 {
        // However little is asked for.
        let read = log.fetch(0, next, 1, PATIENCE).await.expect("read");
        assert!(!read.is_empty() && read.iter().all(|record| record.payload == largest));
        next += read.len() as i64;
    }
}
