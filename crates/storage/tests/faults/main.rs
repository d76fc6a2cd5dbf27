//! A snapshot and its restoration, with each call that they make of the disk going wrong.

use std::fs;
use std::path::{Path, PathBuf};

use model::{Cancel, Exemplar, ExemplarsRequest, Matcher, Sample, TimeRange};
use storage::snapshot::{folder, make, remove_left_over, restore};
use tsdb::offline::verify::verify;
use tsdb::{Db, Options};

#[path = "../../../tsdb/tests/support/content.rs"]
mod content;
#[path = "../../../runtime/tests/support/faults.rs"]
mod faults;

use content::{Floats, floats};
use faults::{Scene, child, each_call, folder as folder_in_memory, no_child_begins};

/// The storage in a data directory.
const STORAGE: &str = "storage";

/// The file that says which replica a storage is.
const REPLICA: &str = "replica";
const NOW_MS: i64 = 1_790_000_000_000;

/// What is in a storage: samples, how many exemplars, and what it knows of itself.
type Content = (Floats, usize, String);

fn open(storage: &Path) -> Db {
    Db::open(storage, Options::default()).expect("opens")
}

/// A data directory with a storage of two blocks, exemplars, a deletion and a number of its own; and what is in it.
fn data() -> (tempfile::TempDir, Content) {
    let dir = tempfile::tempdir().expect("directory");
    let _no_child_has_its_lock = no_child_begins();
    let db = open(&dir.path().join(STORAGE));
    for block in 0..2 {
        let mut batch = db.begin();
        for series in 0..30 {
            let name = format!("s{series}");
            let labels = model::Labels::new(&[("__name__", name.as_str())]).expect("valid");
            batch.append(labels.as_ref(), &[Sample { t: NOW_MS + block, v: f64::from(series) }]);
            batch.exemplars(labels.as_ref(), &[Exemplar::new(NOW_MS, 0.5, &[("trace", &name)]).expect("valid")]);
        }
        batch.finish(0, block + 1);
        db.flush().expect("flushes");
    }
    let range = TimeRange { start_ms: NOW_MS, end_ms: NOW_MS };
    db.delete(&[Matcher::equal("__name__", "s7")], range).expect("deletes");
    drop(db);
    fs::write(dir.path().join(STORAGE).join(REPLICA), "weir-storage 1\nreplica 1 of 2 copies 1\n").expect("written");
    let content = content(&dir.path().join(STORAGE));
    (dir, content)
}

/// All that a copy of a storage has, of which nothing is damaged.
fn content(storage: &Path) -> Content {
    assert_eq!(verify(storage, &mut |_| {}).expect("verifies").faults(), 0);
    let db = open(storage);
    let samples = floats(&db);
    let matcher_sets = vec![vec![Matcher::equal("", "")]];
    let asked = ExemplarsRequest { matcher_sets, range: TimeRange::ALL, exemplars_max: 100, cancel: Cancel::default() };
    let exemplars = db.exemplars(&asked).expect("answers").items.iter().map(|one| one.exemplars.len()).sum();
    (samples, exemplars, fs::read_to_string(storage.join(REPLICA)).unwrap_or_default())
}

/// The folders in the place of snapshots.
fn snapshots(data: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(data.join("snapshots")) else { return Vec::new() };
    entries.map(|entry| entry.expect("entry").path()).collect()
}

/// What is there under the name of a snapshot is whole, what is not yet whole passes for none and is removed by a start, and the storage is as it was.
fn check(scene: &Scene, expect: &Content, at_least: usize) {
    let _no_child_has_its_lock = no_child_begins();
    let copy = scene.copy();
    assert_eq!(content(&copy.path().join(STORAGE)), *expect, "the storage itself");
    for path in snapshots(copy.path()) {
        let to = folder_in_memory();
        let restored = restore(&path, to.path());
        if path.extension().is_some() {
            assert!(restored.is_err() && !to.path().join(STORAGE).exists(), "{}: {restored:?}", path.display());
        } else {
            restored.expect("restores");
            assert_eq!(content(&to.path().join(STORAGE)), *expect, "{}", path.display());
        }
    }
    remove_left_over(&folder(&copy.path().join(STORAGE))).expect("removes");
    let left = snapshots(copy.path());
    assert!(left.len() >= at_least && left.iter().all(|path| path.extension().is_none()), "{left:?}, not {at_least}");
}

/// Makes a snapshot; where that fails, as somebody would who asks again.
fn make_as_child(child: &faults::Child) {
    let storage = child.data.join(STORAGE);
    // As a start does.
    remove_left_over(&folder(&storage)).expect("removes");
    let db = open(&storage);
    child.begin();
    for again in 0..2 {
        match make(&db, &storage, NOW_MS + again) {
            Ok(name) => return child.tell(&name),
            Err(error) => child.tell(&format!("failed: {error}")),
        }
    }
}

fn each_call_of_making_one(test: &'static str, apart: bool) {
    if let Some(child) = child() {
        return make_as_child(&child);
    }
    let (data, expect) = data();
    assert_eq!((expect.0.len(), expect.1, expect.2.is_empty()), (59, 29, false));
    let calls = each_call(test, data.path(), apart, |scene| {
        check(scene, &expect, 0);
        if scene.was_killed {
            scene.run(None);
        }
        let name = scene.told.last().expect("it told").clone();
        assert!(!name.starts_with("failed"), "{:?}", scene.told);
        scene.lose_power();
        assert!(scene.disk.data().join("snapshots").join(&name).is_dir(), "{:?}", snapshots(&scene.disk.data()));
        check(scene, &expect, 1);
    });
    assert!(calls > 30, "{calls}");
}

#[test]
fn after_a_fault_at_any_call_of_a_snapshot_none_is_half_there_and_it_can_be_taken_again() {
    each_call_of_making_one(
        "after_a_fault_at_any_call_of_a_snapshot_none_is_half_there_and_it_can_be_taken_again",
        false,
    );
}

#[test]
fn after_a_fault_at_any_call_of_a_snapshot_that_copies_none_is_half_there() {
    let own = "after_a_fault_at_any_call_of_a_snapshot_that_copies_none_is_half_there";
    each_call_of_making_one(own, true);
}

/// Restores a snapshot; where that fails, as somebody would who tries again.
fn restore_as_child(child: &faults::Child) {
    let snapshot = child.data.join("snapshots/x");
    child.begin();
    for _ in 0..2 {
        match restore(&snapshot, &child.data) {
            Ok(()) => return child.tell("restored"),
            Err(error) => child.tell(&format!("failed: {error}")),
        }
    }
}

fn each_call_of_restoring(test: &'static str, apart: bool) {
    if let Some(child) = child() {
        return restore_as_child(&child);
    }
    let (data, expect) = data();
    let storage = data.path().join(STORAGE);
    let snapshot = data.path().join("snapshots/x");
    fs::create_dir_all(&snapshot).expect("created");
    fs::rename(&storage, snapshot.join(STORAGE)).expect("renamed");
    let check = |scene: &Scene, is_there: bool| {
        let _no_child_has_its_lock = no_child_begins();
        let copy = scene.copy();
        assert_eq!(content(&copy.path().join("snapshots/x").join(STORAGE)), expect, "the snapshot itself");
        let restored = copy.path().join(STORAGE);
        assert!(restored.exists() || !is_there, "{:?}", scene.told);
        if restored.exists() {
            assert_eq!(content(&restored), expect);
        }
    };
    let calls = each_call(test, data.path(), apart, |scene| {
        check(scene, false);
        if scene.was_killed {
            scene.run(None);
        }
        // What has its name is whole, though perhaps not durable.
        let told = scene.told.last().expect("it told");
        assert!(told == "restored" || told.contains("is there already"), "{:?}", scene.told);
        let is_done = told == "restored";
        assert!(scene.disk.data().join(STORAGE).exists());
        scene.lose_power();
        check(scene, is_done);
    });
    assert!(calls > 30, "{calls}");
}

#[test]
fn after_a_fault_at_any_call_a_restored_storage_is_whole_or_not_there_and_it_can_be_done_again() {
    each_call_of_restoring(
        "after_a_fault_at_any_call_a_restored_storage_is_whole_or_not_there_and_it_can_be_done_again",
        false,
    );
}

#[test]
fn after_a_fault_at_any_call_a_storage_that_is_copied_is_whole_or_not_there() {
    let own = "after_a_fault_at_any_call_a_storage_that_is_copied_is_whole_or_not_there";
    each_call_of_restoring(own, true);
}
