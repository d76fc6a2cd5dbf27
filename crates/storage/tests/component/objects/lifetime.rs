//! Objects go when no manifest names them any more.

use axum::body::Body;
use axum::http::{Request, StatusCode};

use super::support::{World, until};
use crate::support::{FORM, Running};

/// The blocks that the catalog names are the objects that there are.
async fn is_tidy(world: &World) -> bool {
    let catalog = world.catalog().await;
    let named = catalog.lines().filter_map(|line| line.strip_prefix("object ")?.split(' ').nth(1).map(str::to_owned));
    let named: Vec<String> = named.map(|key| format!("blocks/{key}")).chain(["catalog".to_owned()]).collect();
    world.objects().await == named
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_merged_or_deleted_leaves_the_bucket() {
    let Some(world) = World::new("objects_merged").await else { return };
    let flags = ["--storage-head-bytes-max", "2000", "--storage-cache-bytes", "0", "--enable-admin-api"];
    let running = world.start(&flags).await;
    for t in 0..300 {
        running.write(t, t as f64).await;
    }
    let expect: Vec<(i64, f64)> = (0..300).map(|t| (t, t as f64)).collect();
    assert_eq!(running.read().await, expect);
    let ask = async |operation: &str, form: &'static str| {
        let request = Request::post(format!("/api/v1/admin/tsdb/{operation}"));
        let request = request.header("content-type", FORM).body(Body::from(form));
        assert_eq!(running.ask(request.expect("a request")).await.0, StatusCode::NO_CONTENT);
    };
    ask("delete_series", "match[]=m&end=0.099").await;
    ask("clean_tombstones", "").await;
    assert_eq!(running.read().await, expect[100..]);
    until("tidy", async || running.metric("weir_storage_objects_pending_blocks") == 0.0 && is_tidy(&world).await).await;
    running.stop().await;
    assert!(is_tidy(&world).await, "{:?}", world.objects().await);
    world.empty_storage();
    let running = world.start(&flags).await;
    assert_eq!(running.read().await, expect[100..]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_began_before_reads_on_what_no_catalog_names_any_more() {
    let Some(world) = World::new("objects_still_read").await else { return };
    let running = world.start(&["--storage-cache-bytes", "0", "--enable-admin-api"]).await;
    running.write_noise(10, 100).await;
    running.read().await;
    running.stop().await;
    let running = world.start(&["--storage-cache-bytes", "0", "--enable-admin-api"]).await;
    let (before, objects) = (running.read().await, world.objects().await);
    let began = running.select().expect("selects");
    for (operation, form) in [("delete_series", "match[]=m&end=0.049"), ("clean_tombstones", "")] {
        let request = Request::post(format!("/api/v1/admin/tsdb/{operation}")).header("content-type", FORM);
        let (status, _) = running.ask(request.body(Body::from(form)).expect("a request")).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    until("written anew", async || !world.catalog().await.contains(&objects[0]["blocks/".len()..])).await;
    assert!(world.objects().await.contains(&objects[0]), "somebody reads it");
    assert_eq!(Running::samples_of(began).expect("reads"), before);
    until("tidy", async || is_tidy(&world).await).await;
    assert_eq!(running.read().await.len(), 500);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_leaves_the_bucket() {
    let Some(world) = World::new("objects_expired").await else { return };
    let running = world.start(&["--storage-cache-bytes", "0"]).await;
    running.write(1, 1.0).await;
    running.read().await;
    running.stop().await;
    assert_eq!(world.objects().await.len(), 2);
    let running = world.start(&["--storage-cache-bytes", "0", "--retention", "1d"]).await;
    until("gone", async || world.objects().await == ["catalog"]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_no_catalog_names_are_swept_at_the_start_but_for_those_of_later_processes() {
    let Some(world) = World::new("objects_orphans").await else { return };
    let running = world.start(&[]).await;
    running.write(1, 1.0).await;
    running.read().await;
    running.stop().await;
    world.put("blocks/0000000001-0000000077.block", b"left by a crash").await;
    world.put("blocks/0000000099-0000000000.block", b"of somebody who comes later").await;
    let running = world.start(&[]).await;
    until("swept", async || world.objects().await.len() == 3).await;
    let objects = world.objects().await;
    assert!(objects.contains(&"blocks/0000000099-0000000000.block".to_owned()), "{objects:?}");
    assert_eq!(running.read().await, [(1, 1.0)]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_has_the_blocks_that_are_in_the_bucket_alone() {
    let Some(world) = World::new("objects_snapshot").await else { return };
    let flags = ["--storage-cache-bytes", "0", "--enable-admin-api"];
    let running = world.start(&flags).await;
    running.write_at_once(0..200).await;
    let before = running.read().await;
    running.stop().await;
    assert_eq!(world.local_blocks(), 0);
    let inspected = tsdb::offline::inspect::inspect(&world.dir.path().join("storage"), 1);
    let error = inspected.expect_err("is not all of it").to_string();
    assert!(error.contains("are in object storage and not on this disk"), "{error}");
    let running = world.start(&flags).await;
    let request = Request::post("/api/v1/admin/tsdb/snapshot").body(Body::empty()).expect("a request");
    let (status, answer) = running.ask(request).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    running.stop().await;
    let name = answer["data"]["name"].as_str().expect("a name");
    let snapshot = world.dir.path().join("snapshots").join(name).join("storage");
    let report = tsdb::offline::inspect::inspect(&snapshot, 1).expect("is whole");
    assert_eq!(report.samples, before.len() as u64);
}
