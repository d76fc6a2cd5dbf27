//! Requests that fail, answers that stay away, and answers that get lost.

use super::proxy::Fault;
use super::support::{LONG, SHORT, World, until};
use crate::support::Running;

async fn uploaded(running: &Running) {
    until("uploaded", async || {
        running.metric("weir_storage_objects_pending_blocks") == 0.0
            && running.metric("weir_storage_objects_failing") == 0.0
    })
    .await;
}

/// What is in the bucket is what was written: a storage that begins from it alone has it.
async fn check_bucket(world: &World, expect: &[(i64, f64)]) {
    world.empty_storage();
    std::fs::remove_dir_all(world.dir.path().join("queue")).expect("removed");
    let running = world.start(&["--storage-cache-bytes", "0"]).await;
    assert_eq!(running.read().await, expect);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_refused_for_a_while_are_sent_again() {
    let Some(world) = World::new("objects_refused").await else { return };
    world.proxy.plan("GET", "/catalog", 2, Fault::Refuse);
    world.proxy.plan("PUT", "/catalog", 2, Fault::Refuse);
    world.proxy.plan("PUT", "/blocks/", 3, Fault::Refuse);
    let running = world.start(&[]).await;
    running.write_at_once(0..1000).await;
    let before = running.read().await;
    running.stop().await;
    assert_eq!(world.proxy.left(), 0);
    world.empty_storage();
    world.proxy.plan("GET", "/blocks/", 3, Fault::Refuse);
    let running = world.start(&["--storage-cache-bytes", "0"]).await;
    assert_eq!(running.read().await, before);
    assert_eq!(world.proxy.left(), 0);
    assert!(running.metric("weir_storage_objects_requests_total") > 3.0);
    running.stop().await;
    check_bucket(&world, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_stay_away_are_waited_for_no_longer_than_the_time_out() {
    let Some(world) = World::new("objects_silent").await else { return };
    world.proxy.plan("GET", "/catalog", 1, Fault::Silence);
    world.proxy.plan("PUT", "/catalog", 1, Fault::Silence);
    world.proxy.plan("PUT", "/blocks/", 1, Fault::Silence);
    let running = world.start_with(world.dir.path(), SHORT, &[]).await;
    running.write_at_once(0..1000).await;
    let before = running.read().await;
    running.stop().await;
    assert_eq!(world.proxy.left(), 0);
    world.empty_storage();
    world.proxy.plan("GET", "/blocks/", 2, Fault::Silence);
    let running = world.start_with(world.dir.path(), SHORT, &[]).await;
    assert_eq!(running.read().await, before);
    assert_eq!(world.proxy.left(), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_put_whose_answer_is_lost_is_recognised() {
    let Some(world) = World::new("objects_lost_answer").await else { return };
    // Of the put that creates the catalog, and of the one that replaces it.
    world.proxy.plan("PUT", "/catalog", 1, Fault::LoseAnswer);
    let running = world.start(&["--storage-flush-interval", "20ms"]).await;
    assert_eq!(world.proxy.left(), 0);
    world.proxy.plan("PUT", "/catalog", 1, Fault::LoseAnswer);
    running.write_at_once(0..100).await;
    let before = running.read().await;
    until("told", async || running.log.committed("storage", 0).await.expect("answers") == Some(5)).await;
    running.stop().await;
    assert_eq!(world.proxy.left(), 0);
    let puts =
        world.proxy.seen().iter().filter(|request| request.starts_with("PUT") && request.contains("/catalog")).count();
    let catalog = world.catalog().await;
    let sequence: Option<usize> = catalog.lines().find_map(|line| line.strip_prefix("sequence ")?.parse().ok());
    assert!(catalog.contains("\nepoch 1\n"), "{catalog}");
    assert_eq!(sequence, Some(puts - 1), "each was sent once: {catalog}");
    check_bucket(&world, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_was_written_by_a_pass_that_never_learned_of_it_is_one_s_own() {
    let Some(world) = World::new("objects_lost_for_long").await else { return };
    let flags = ["--storage-flush-interval", "20ms"];
    let running = world.start(&flags).await;
    // The put is done, and neither its answer nor what is there can be read, so often that the pass gives up.
    world.proxy.plan("PUT", "/catalog", 1, Fault::LoseAnswer);
    world.proxy.plan("GET", "/catalog", 4, Fault::Refuse);
    world.proxy.plan("PUT", "/catalog", 3, Fault::Refuse);
    world.proxy.plan("GET", "/catalog", 12, Fault::Refuse);
    running.write(1, 1.0).await;
    until("given up", async || running.metric("weir_storage_objects_failing") == 1.0).await;
    running.write(2, 2.0).await;
    let before = running.read().await;
    world.proxy.mend();
    uploaded(&running).await;
    running.stop().await;
    check_bucket(&world, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_goes_on_while_the_bucket_is_down_and_says_so() {
    let Some(world) = World::new("objects_down").await else { return };
    let flags = ["--storage-flush-interval", "20ms"];
    let running = world.start(&flags).await;
    world.proxy.plan("PUT", "/", usize::MAX, Fault::Refuse);
    for t in 0..20 {
        running.write(t, 1.0).await;
    }
    let before = running.read().await;
    assert_eq!(before.len(), 20);
    until("told", async || {
        running.metric("weir_storage_objects_failing") == 1.0
            && running.metric("weir_storage_objects_pending_blocks") > 0.0
    })
    .await;
    world.proxy.mend();
    uploaded(&running).await;
    running.stop().await;
    check_bucket(&world, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_over_a_bucket_that_is_down_fails_and_loses_nothing() {
    let Some(world) = World::new("objects_down_for_queries").await else { return };
    let running = world.start(&["--storage-cache-bytes", "0"]).await;
    running.write_noise(200, 1000).await;
    let before = running.read().await;
    running.stop().await;
    let running = world.start(&["--storage-cache-bytes", "0"]).await;
    world.proxy.plan("GET", "/blocks/", usize::MAX, Fault::Refuse);
    let failed = running.try_read().await.expect_err("it fails");
    assert!(failed.message.contains("reading bytes"), "{failed:?}");
    world.proxy.mend();
    assert_eq!(running.read().await, before);
    assert_eq!(running.metric("weir_storage_quarantined_blocks"), 0.0);
    running.stop().await;
    // A start that cannot ask for its blocks is no start, and takes none of them for damaged.
    world.proxy.plan("GET", "/blocks/", usize::MAX, Fault::Refuse);
    let failed = world.try_start(world.dir.path(), LONG, &["--storage-cache-bytes", "0"]).await;
    assert!(failed.is_err());
    world.proxy.mend();
    check_bucket(&world, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_block_goes_in_parts_each_of_which_may_fail_for_a_while() {
    let Some(world) = World::new("objects_parts").await else { return };
    for (method, path) in [("POST", "?uploads"), ("PUT", "partNumber=2"), ("POST", "?uploadId")] {
        world.proxy.plan(method, path, 1, Fault::Refuse);
    }
    let running = world.start(&["--storage-cache-bytes", "0"]).await;
    running.write_noise(1200, 1000).await;
    let before = running.read().await;
    running.stop().await;
    assert_eq!(world.proxy.left(), 0);
    let bytes = world.object_bytes().await;
    assert!(bytes.len() == 1 && bytes[0] > 8 << 20, "{bytes:?}: one block of two parts");
    check_bucket(&world, &before).await;
}
