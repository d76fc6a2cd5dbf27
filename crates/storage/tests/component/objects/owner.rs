//! One process writes to a prefix.

use std::path::Path;

use super::support::{LONG, World, until};
use crate::support::{NO_RETENTION, PATIENCE, start, try_start};

async fn refused(world: &World, dir: &Path) -> String {
    match world.try_start(dir, LONG, &[]).await {
        Ok(_) => panic!("it starts"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_data_of_its_own_is_refused_beside_the_prefix_of_another() {
    let Some(world) = World::new("objects_other_directory").await else { return };
    let running = world.start(&[]).await;
    running.write(1, 1.0).await;
    running.read().await;
    let other = tempfile::tempdir().expect("directory");
    let alone = start(other.path(), NO_RETENTION).await;
    alone.write(2, 2.0).await;
    alone.read().await;
    alone.stop().await;
    let error = refused(&world, other.path()).await;
    assert!(error.contains("belongs to another storage (owner ") && error.contains("epoch 1"), "{error}");
    // The first one has noticed nothing.
    running.write(3, 3.0).await;
    assert_eq!(running.read().await, [(1, 1.0), (3, 3.0)]);
    running.stop().await;
    let running = world.start(&[]).await;
    assert_eq!(running.read().await, [(1, 1.0), (3, 3.0)]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_directory_takes_a_prefix_over_and_the_process_that_had_it_stops() {
    let Some(world) = World::new("objects_taken_over").await else { return };
    let flags = ["--storage-flush-interval", "20ms"];
    let first = world.start(&flags).await;
    first.write(1, 1.0).await;
    first.read().await;
    until("uploaded and named", async || world.catalog().await.contains("\nobject ")).await;
    let other = tempfile::tempdir().expect("directory");
    let second = world.start_with(other.path(), LONG, &[]).await;
    assert_eq!(second.read().await, [(1, 1.0)]);
    // It writes again, and is refused.
    first.write(2, 2.0).await;
    let ended = tokio::time::timeout(PATIENCE, first.storage.1.drained).await.expect("it ends");
    let error = ended.expect_err("it fails").to_string();
    assert!(error.contains("was taken by another process of storage") && error.contains("epoch 2"), "{error}");
    second.write(3, 3.0).await;
    second.read().await;
    second.stop().await;
    let second = world.start_with(other.path(), LONG, &[]).await;
    assert_eq!(second.read().await, [(1, 1.0), (3, 3.0)]);
    second.stop().await;
    // What the first one has is no reason to begin again.
    let copy = tempfile::tempdir().expect("directory");
    std::fs::create_dir(copy.path().join("storage")).expect("made");
    for name in ["manifest", "objects", "replica"] {
        let file = std::fs::read(world.dir.path().join("storage").join(name)).expect("read");
        std::fs::write(copy.path().join("storage").join(name), file).expect("written");
    }
    let error = refused(&world, copy.path()).await;
    assert!(error.contains("belongs to another storage"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_older_than_the_bucket_is_refused_and_so_is_an_empty_bucket() {
    let Some(world) = World::new("objects_old_directory").await else { return };
    let running = world.start(&[]).await;
    running.write(1, 1.0).await;
    running.read().await;
    running.stop().await;
    let storage = world.dir.path().join("storage");
    let manifest = std::fs::read(storage.join("manifest")).expect("read");
    let running = world.start(&[]).await;
    running.write(2, 2.0).await;
    running.read().await;
    running.stop().await;
    std::fs::write(storage.join("manifest"), manifest).expect("written");
    let error = refused(&world, world.dir.path()).await;
    assert!(error.contains("is older than what"), "{error}");
    world.remove_all().await;
    let error = refused(&world, world.dir.path()).await;
    assert!(error.contains("there is nothing at s3://"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_whose_blocks_may_be_elsewhere_is_not_started_without_object_storage() {
    let Some(world) = World::new("objects_forgotten_flag").await else { return };
    world.start(&[]).await.stop().await;
    let started = try_start(world.dir.path(), NO_RETENTION, None, None).await;
    let error = started.err().expect("refused").to_string();
    assert!(error.contains("may be in object storage alone: give --storage-objects"), "{error}");
    world.start(&[]).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_s_prefix_is_refused() {
    let Some(world) = World::new("objects_other_replica").await else { return };
    world.start(&[]).await.stop().await;
    let other = tempfile::tempdir().expect("directory");
    let started = world.try_start(other.path(), LONG, &["--storage-replicas", "2"]).await;
    let error = started.err().expect("refused").to_string();
    assert!(
        error.contains("holds the partitions of replica 0 of 1 with 1 copy, and this is replica 0 of 2"),
        "{error}"
    );
}
