//! Blocks that are in object storage alone.

use axum::body::Body;
use axum::http::{Request, StatusCode};

use super::proxy::Fault;
use super::support::{World, until};

/// Everything leaves the local disk.
const NOTHING_LOCAL: &[&str] = &["--storage-cache-bytes", "0"];

fn gets(seen: &[String]) -> usize {
    seen.iter().filter(|request| request.starts_with("GET") && request.contains("/blocks/")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_lost_begins_again_from_the_bucket_and_the_log() {
    let Some(world) = World::new("objects_lost_directory").await else { return };
    let running = world.start(&[]).await;
    running.write_at_once(0..500).await;
    running.write_exemplar(7).await;
    let before = running.read().await;
    assert_eq!(before.len(), 500);
    running.stop().await;

    world.empty_storage();
    let running = world.start(&[]).await;
    assert_eq!(running.read().await, before);
    assert_eq!(running.exemplars().await, [7]);
    assert_eq!(running.metric("weir_storage_applied_records_total"), 0.0, "its positions are those of the bucket");
    running.write_at_once(500..600).await;
    let before = running.read().await;
    running.stop().await;

    world.empty_storage();
    std::fs::remove_dir_all(world.dir.path().join("queue")).expect("removed");
    let running = world.start(&[]).await;
    assert_eq!(running.read().await, before, "what was flushed is in the bucket");
    assert_eq!(running.exemplars().await, [7]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_keeps_what_the_bucket_lacks() {
    let Some(world) = World::new("objects_log_keeps").await else { return };
    let flags = ["--storage-flush-interval", "20ms"];
    let running = world.start(&flags).await;
    let committed = async || running.log.committed("storage", 0).await.expect("answers").unwrap_or(0);
    running.write_at_once(0..100).await;
    until("told", async || committed().await == 5).await;
    world.proxy.plan("PUT", "/", usize::MAX, Fault::Refuse);
    running.write_at_once(100..200).await;
    until("failing", async || running.metric("weir_storage_objects_failing") == 1.0).await;
    // That the bucket lacks them is known sooner than the figures of the flush.
    until("flushed", async || running.metric("weir_storage_head_samples") == 0.0).await;
    assert_eq!(committed().await, 5);
    let before = running.read().await;
    running.stop().await;
    // The disk is lost while the bucket is behind.
    world.empty_storage();
    world.proxy.mend();
    let running = world.start(&flags).await;
    assert_eq!(running.read().await, before);
    assert_eq!(running.metric("weir_storage_applied_records_total"), 5.0, "what the bucket lacked is read again");
    until("told", async || running.log.committed("storage", 0).await.expect("answers") == Some(10)).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_answered_with_the_local_disk_emptied_by_few_requests() {
    let Some(world) = World::new("objects_cold").await else { return };
    let running = world.start(NOTHING_LOCAL).await;
    running.write_noise(800, 1000).await;
    let before = running.read().await;
    running.stop().await;
    assert_eq!(world.local_blocks(), 0);
    world.proxy.seen();

    let running = world.start(NOTHING_LOCAL).await;
    let bytes = world.object_bytes().await;
    assert!(bytes.len() == 1 && bytes[0] > 5_000_000, "{bytes:?}: one block of several pages");
    let opened = gets(&world.proxy.seen());
    assert!((1..=2).contains(&opened), "{opened} requests to open a block");
    assert_eq!(running.read().await, before);
    let read = gets(&world.proxy.seen());
    assert!((1..=4).contains(&read), "{read} requests for 800 series");
    assert_eq!(running.read().await, before);
    assert_eq!(gets(&world.proxy.seen()), 0, "they are in memory");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_with_a_large_index_is_opened_by_one_request_and_read_by_few() {
    let Some(world) = World::new("objects_large_index").await else { return };
    let running = world.start(NOTHING_LOCAL).await;
    running.write_at_once(0..50_000).await;
    let before = running.read().await;
    running.stop().await;
    let bytes = world.object_bytes().await;
    assert!(bytes.len() == 1 && bytes[0] > 1_000_000, "{bytes:?}: one block of several pages");
    world.proxy.seen();
    let running = world.start(NOTHING_LOCAL).await;
    let opened = gets(&world.proxy.seen());
    assert!((1..=2).contains(&opened), "{opened} requests to open a block");
    assert_eq!(running.read().await, before);
    let read = gets(&world.proxy.seen());
    assert!((1..=3).contains(&read), "{read} requests for 50,000 series");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_are_in_the_bucket_alone_are_merged_by_few_requests_and_read_once() {
    let Some(world) = World::new("objects_cold_merge").await else { return };
    let flags = ["--storage-cache-bytes", "0", "--enable-admin-api"];
    for series in [400, 401, 402, 403] {
        let running = world.start(&flags).await;
        running.write_noise(series, 1000).await;
        // Which writes a block.
        running.stop().await;
    }
    let bytes = world.object_bytes().await;
    assert!(bytes.len() == 4 && bytes.iter().all(|bytes| *bytes > 3 << 19), "{bytes:?}: blocks of several pages");
    let running = world.start(&flags).await;
    let before = running.read().await;
    running.stop().await;

    let running = world.start(&flags).await;
    world.proxy.seen();
    let received = running.metric("weir_storage_objects_received_bytes_total");
    let asked = Request::post("/api/v1/admin/tsdb/clean_tombstones").body(Body::empty()).expect("a request");
    assert_eq!(running.ask(asked).await.0, StatusCode::NO_CONTENT);
    assert_eq!(running.metric("weir_storage_blocks"), 1.0, "they were merged");
    let requests = gets(&world.proxy.seen());
    let received = running.metric("weir_storage_objects_received_bytes_total") - received;
    let all = bytes.iter().sum::<u64>() as f64;
    assert!((4..=4 * 3).contains(&requests), "{requests} requests for blocks of {bytes:?}");
    assert!(received <= all * 1.05, "{received} bytes of {all}: each once");
    assert_eq!(running.read().await, before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_blocks_leave_the_disk_beyond_its_bound() {
    let Some(world) = World::new("objects_bound").await else { return };
    const DAY_MS: i64 = 86_400_000;
    let bound = ["--storage-cache-bytes", "33000"];
    let running = world.start(&bound).await;
    let day = |day: i64| day * DAY_MS..day * DAY_MS + 600;
    for n in 0..4 {
        running.write_at_once(day(n)).await;
    }
    let expect: Vec<(i64, f64)> = (0..4).flat_map(day).map(|t| (t, t as f64)).collect();
    assert_eq!(running.read().await, expect);
    // Which writes a block a day.
    running.stop().await;
    let is_local = world.blocks_from_old_to_new();
    assert!(is_local.len() == 4 && is_local.is_sorted(), "{is_local:?}");
    assert!(is_local.contains(&true) && is_local.contains(&false), "{is_local:?}");
    let running = world.start(&bound).await;
    assert_eq!(running.read().await, expect);
    running.write_at_once(day(4)).await;
    running.read().await;
    running.stop().await;
    let later = world.blocks_from_old_to_new();
    let gone = |is_local: &[bool]| is_local.iter().filter(|is_local| !**is_local).count();
    assert!(later.is_sorted() && gone(&later) > gone(&is_local), "{later:?} after {is_local:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_leaves_the_disk_while_storage_runs() {
    let Some(world) = World::new("objects_evicted").await else { return };
    let running = world.start(&["--storage-cache-bytes", "0", "--storage-flush-interval", "20ms"]).await;
    running.write_at_once(0..200).await;
    let before = running.read().await;
    until("evicted", async || {
        let told = running.log.committed("storage", 0).await.expect("answers");
        told == Some(10) && world.local_blocks() == 0
    })
    .await;
    assert_eq!(running.read().await, before);
    assert!(running.metric("weir_storage_objects_evicted_blocks_total") >= 1.0);
    assert!(running.metric("weir_storage_objects_page_misses_total") >= 1.0, "it was read from the bucket");
    running.stop().await;
}
