//! Snapshots that are made while storage runs, started and restored beside every kind of log.

use std::fs;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use runtime::Token;
use serde_json::json;
use storage::snapshot::restore;

use crate::support::{ADMIN, FORM, NO_RETENTION, Running, start, start_as};

impl Running {
    pub(crate) async fn snapshot(&self, dir: &Path, query: &str) -> PathBuf {
        let request = Request::post(format!("/api/v1/admin/tsdb/snapshot{query}")).body(Body::empty());
        let (status, json) = self.ask(request.expect("a request")).await;
        assert_eq!((status, &json["status"]), (StatusCode::OK, &json!("success")), "{json}");
        dir.join("snapshots").join(json["data"]["name"].as_str().expect("a name"))
    }
}

fn expect(times: impl IntoIterator<Item = i64>) -> Vec<(i64, f64)> {
    times.into_iter().map(|t| (t, t as f64)).collect()
}

fn faults(snapshot: &Path) -> u64 {
    tsdb::offline::verify::verify(&snapshot.join("storage"), &mut |_| {}).expect("verifies").faults()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_has_what_was_acknowledged_before_and_can_be_started() {
    let dir = tempfile::tempdir().expect("directory");
    let running = start(dir.path(), ADMIN).await;
    for t in 0..20 {
        running.write(t, t as f64).await;
    }
    let without_head = running.snapshot(dir.path(), "?skip_head=true").await;
    // So many that they are not yet visible when they are acknowledged.
    running.write_at_once(20..20_000).await;
    let snapshot = running.snapshot(dir.path(), "").await;
    running.write(20_000, 20_000.0).await;
    running.stop().await;
    assert_eq!((faults(&without_head), faults(&snapshot)), (0, 0));
    for (snapshot, before) in [(&without_head, 0), (&snapshot, 20_000)] {
        // With a log of its own, which is empty.
        let running = start(snapshot, NO_RETENTION).await;
        assert_eq!(running.read().await, expect(0..before));
        running.write(99_999, 99_999.0).await;
        assert_eq!(running.read().await, expect((0..before).chain([99_999])));
        assert_eq!(running.metric("weir_storage_lost_positions_total"), 0.0);
        running.stop().await;
    }
    let running = start(dir.path(), ADMIN).await;
    assert_eq!(running.read().await, expect(0..20_001), "what runs is not changed by what is done to its snapshots");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_restored_has_what_its_log_has_beyond_it() {
    let dir = tempfile::tempdir().expect("directory");
    let running = start(dir.path(), ADMIN).await;
    for t in 0..20 {
        running.write(t, t as f64).await;
    }
    let snapshot = running.snapshot(dir.path(), "").await;
    for t in 20..30 {
        running.write(t, t as f64).await;
    }
    running.stop().await;
    let error = restore(&snapshot, dir.path()).expect_err("refused").to_string();
    assert!(error.contains("storage is there already; move it away: mv "), "{error}");
    fs::remove_dir_all(dir.path().join("storage")).expect("removed");
    // What a restore that was ended left behind.
    fs::create_dir_all(dir.path().join("storage.restored/x")).expect("created");
    restore(&snapshot, dir.path()).expect("restores");
    let running = start(dir.path(), NO_RETENTION).await;
    assert_eq!(running.read().await, expect(0..30));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_another_log_is_skipped() {
    let (dir, other) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
    let running = start(dir.path(), ADMIN).await;
    for t in 0..20 {
        running.write(t, t as f64).await;
    }
    let snapshot = running.snapshot(dir.path(), "").await;
    running.stop().await;
    let running = start(other.path(), NO_RETENTION).await;
    // More records in each partition than the other log has altogether.
    for t in 1000..1200 {
        running.write(t, t as f64).await;
    }
    running.stop().await;
    fs::remove_dir_all(other.path().join("storage")).expect("removed");
    restore(&snapshot, other.path()).expect("restores");
    let running = start(other.path(), NO_RETENTION).await;
    assert_eq!(running.read().await, expect((0..20).chain(1000..1200)));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_made_only_where_that_is_enabled_and_parameters_make_sense() {
    let dir = tempfile::tempdir().expect("directory");
    let path = "/api/v1/admin/tsdb/snapshot";
    let running = start(dir.path(), NO_RETENTION).await;
    let answer = running.ask(Request::post(path).body(Body::empty()).expect("a request")).await;
    let disabled = json!({"status": "error", "errorType": "unavailable", "error": "admin APIs disabled"});
    assert_eq!(answer, (StatusCode::SERVICE_UNAVAILABLE, disabled));
    running.stop().await;
    assert!(!dir.path().join("snapshots").exists());
    // Half made when a crash came.
    fs::create_dir_all(dir.path().join("snapshots/x.new/storage")).expect("created");
    let running = start(dir.path(), ADMIN).await;
    assert!(!dir.path().join("snapshots/x.new").exists());
    let form =
        Request::put(path).header("content-type", FORM).body(Body::from("skip_head=perhaps")).expect("a request");
    let (status, json) = running.ask(form).await;
    assert_eq!((status, &json["errorType"]), (StatusCode::BAD_REQUEST, &json!("bad_data")));
    // Nothing can be laid out where a file is.
    fs::remove_dir(dir.path().join("snapshots")).expect("removed");
    fs::write(dir.path().join("snapshots"), b"").expect("written");
    let (status, json) = running.ask(Request::post(path).body(Body::empty()).expect("a request")).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{json}");
    assert!(json["error"].as_str().expect("a reason").contains("snapshots"), "{json}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_belongs_to_the_replica_that_made_it() {
    let dir = tempfile::tempdir().expect("directory");
    let own = ["--retention", "off", "--enable-admin-api=true", "--storage-replica=1", "--storage-replicas=2"];
    let running = start(dir.path(), &own).await;
    let snapshot = running.snapshot(dir.path(), "").await;
    running.stop().await;
    let to = tempfile::tempdir().expect("directory");
    restore(&snapshot, to.path()).expect("restores");
    let replica = fs::read_to_string(to.path().join("storage/replica")).expect("read");
    assert_eq!(replica, "weir-storage 1\nreplica 1 of 2 copies 1\n");
    assert!(restore(dir.path().join("snapshots").as_path(), to.path()).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_has_a_token_wants_it_for_a_snapshot_too() {
    let dir = tempfile::tempdir().expect("directory");
    let token = Token::fixed("secret").expect("a token");
    let running = start_as(dir.path(), ADMIN, Some(token.clone())).await;
    let request = || Request::post("/api/v1/admin/tsdb/snapshot");
    let (status, _) = running.ask(request().body(Body::empty()).expect("a request")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let shown = request().header("authorization", token.header()).body(Body::empty()).expect("a request");
    let (status, json) = running.ask(shown).await;
    assert_eq!((status, &json["status"]), (StatusCode::OK, &json!("success")));
    assert_eq!(running.metric("weir_storage_admin_requests_total"), 1.0);
    running.stop().await;
}
