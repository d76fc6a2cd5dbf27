//! The component over a real log in a directory: what was acknowledged is visible, before and after restarts of every kind.

mod deletions;
mod objects;
mod snapshots;
mod support;

use crate::support::{NO_RETENTION, PATIENCE, start};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_visible_to_a_reader_that_caught_up() {
    let dir = tempfile::tempdir().expect("directory");
    let running = start(dir.path(), NO_RETENTION).await;
    for t in 0..50 {
        running.write(t, t as f64).await;
        assert_eq!(running.read().await.len(), t as usize + 1);
    }
    assert_eq!(running.reader.backlog(), 0);
    assert_eq!(running.metric("weir_storage_applied_records_total"), 50.0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_flushes_and_the_next_start_reads_nothing_again() {
    let dir = tempfile::tempdir().expect("directory");
    let running = start(dir.path(), NO_RETENTION).await;
    for t in 0..20 {
        running.write(t, 1.0).await;
    }
    let before = running.read().await;
    running.stop().await;
    let running = start(dir.path(), NO_RETENTION).await;
    assert_eq!(running.read().await, before);
    assert_eq!(running.metric("weir_storage_applied_records_total"), 0.0);
    running.write(100, 2.0).await;
    assert_eq!(running.read().await.len(), 21);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_that_lost_its_directory_rebuilds_from_the_log() {
    let dir = tempfile::tempdir().expect("directory");
    let running = start(dir.path(), NO_RETENTION).await;
    for t in 0..20 {
        running.write(t, 1.0).await;
    }
    let before = running.read().await;
    running.stop().await;
    std::fs::remove_dir_all(dir.path().join("storage")).expect("removed");
    let running = start(dir.path(), NO_RETENTION).await;
    assert_eq!(running.read().await, before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_directory_is_read_from_its_new_start() {
    let dir = tempfile::tempdir().expect("directory");
    let running = start(dir.path(), NO_RETENTION).await;
    for t in 0..20 {
        running.write(t, 1.0).await;
    }
    running.read().await;
    running.stop().await;
    std::fs::remove_dir_all(dir.path().join("queue")).expect("removed");
    let running = start(dir.path(), NO_RETENTION).await;
    running.write(100, 1.0).await;
    assert_eq!(running.read().await.len(), 21);
    assert!(running.metric("weir_storage_lost_positions_total") >= 1.0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_log_in_the_place_of_another_is_read_from_its_start() {
    let (dir, other) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
    let running = start(dir.path(), NO_RETENTION).await;
    for t in 0..20 {
        running.write(t, t as f64).await;
    }
    assert_eq!(running.read().await.len(), 20);
    running.stop().await;
    let running = start(other.path(), NO_RETENTION).await;
    // More records in each partition than the log before it has altogether.
    for t in 1000..1200 {
        running.write(t, t as f64).await;
    }
    running.stop().await;
    std::fs::remove_dir_all(dir.path().join("queue")).expect("removed");
    std::fs::rename(other.path().join("queue"), dir.path().join("queue")).expect("moved");
    let expect: Vec<(i64, f64)> = (0..20).chain(1000..1200).map(|t| (t, t as f64)).collect();
    let running = start(dir.path(), NO_RETENTION).await;
    assert_eq!(running.read().await, expect);
    let lost = running.metric("weir_storage_lost_positions_total");
    assert!((1.0..=4.0).contains(&lost), "{lost}: each partition that had a position");
    running.stop().await;
    // It is the one that is read now.
    let running = start(dir.path(), NO_RETENTION).await;
    assert_eq!(running.read().await, expect);
    let told = ["weir_storage_lost_positions_total", "weir_storage_applied_records_total"];
    assert_eq!(told.map(|name| running.metric(name)), [0.0, 0.0]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_head_is_flushed_and_merged_while_writing() {
    let dir = tempfile::tempdir().expect("directory");
    let flags = ["--retention", "off", "--storage-head-bytes-max", "2000"];
    let running = start(dir.path(), &flags).await;
    for t in 0..300 {
        running.write(t, t as f64).await;
    }
    let expect: Vec<(i64, f64)> = (0..300).map(|t| (t, t as f64)).collect();
    assert_eq!(running.read().await, expect);
    running.stop().await;
    let running = start(dir.path(), &flags).await;
    assert_eq!(running.read().await, expect);
    assert!(running.metric("weir_storage_blocks") >= 1.0 || dir.path().join("storage/manifest").exists());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_that_cannot_go_on_says_how_far_it_is_behind_though_nobody_asks_it() {
    const HOUR_MS: i64 = 3_600_000;
    let dir = tempfile::tempdir().expect("directory");
    let running = start(dir.path(), &["--retention", "off", "--storage-head-bytes-max", "1"]).await;
    let behind = || (running.metric("weir_storage_queue_depth_records"), running.metric("weir_storage_lag_seconds"));
    assert_eq!(behind(), (0.0, 0.0));
    // Nothing can be flushed, so that reading waits for room.
    let obstacle = dir.path().join("storage/manifest.new");
    std::fs::create_dir(&obstacle).expect("made");
    let hour_ago = runtime::clock::now_ms() - HOUR_MS;
    let mut written = 0;
    let waited = tokio::time::timeout(PATIENCE, async {
        while running.metric("weir_storage_throttled_total") < 1.0 {
            running.write(hour_ago + written, 1.0).await;
            written += 1;
        }
    });
    waited.await.expect("storage waits");
    let (records, seconds) = behind();
    assert!(records >= 1.0 && seconds >= 3599.0, "{records} records, {seconds} s");
    std::fs::remove_dir(&obstacle).expect("removed");
    assert_eq!(running.read().await.len(), written as usize);
    assert_eq!(behind(), (0.0, 0.0));
    let disk = ["size", "free"].map(|of| running.metric(&format!("weir_storage_disk_{of}_bytes")));
    assert!(disk[0] > disk[1] && disk[1] >= 0.0, "{disk:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_fails_is_tried_again_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("directory");
    let flags = ["--retention", "off", "--storage-flush-interval", "10ms"];
    let running = start(dir.path(), &flags).await;
    // A directory in the place of the file that a commit writes first: the flush fails until it is gone.
    let obstacle = dir.path().join("storage/manifest.new");
    while std::fs::create_dir(&obstacle).is_err() {
        tokio::task::yield_now().await;
    }
    running.write(1, 1.0).await;
    let failures = || running.metric("weir_storage_failed_writes_total");
    let waited = tokio::time::timeout(PATIENCE, async {
        while failures() < 2.0 {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("the flush fails");
    assert_eq!(running.read().await, [(1, 1.0)], "what could not be written is still read");
    std::fs::remove_dir(&obstacle).expect("removed");
    running.stop().await;
    let running = start(dir.path(), NO_RETENTION).await;
    assert_eq!(running.read().await, [(1, 1.0)]);
    assert_eq!(running.metric("weir_storage_applied_records_total"), 0.0, "it was flushed in the end");
    running.stop().await;
}
