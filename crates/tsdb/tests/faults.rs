//! What writes files past the seam to the disk, with each call that it makes going wrong: a repair, which keeps damaged files under second names, and an
//! export, which lays out the folders of a Prometheus. Snapshots are tested where they are made, in storage.

use std::fs;
use std::path::{Path, PathBuf};

use model::{Cancel, Sample, TimeRange};
use tsdb::offline::{repair, verify};
use tsdb::prometheus::{chunks::StartTimes, export, import};
use tsdb::{Db, Options};

#[path = "support/content.rs"]
mod content;
#[path = "../../runtime/tests/support/faults.rs"]
mod faults;

use content::{Floats, floats};
use faults::{child, each_call, folder, no_child_begins};

const SPAN_MS: i64 = 86_400_000;

fn write(dir: &Path) {
    let _no_child_has_its_lock = no_child_begins();
    let db = Db::open(dir, Options::default()).expect("opens");
    for block in 0..2 {
        let mut batch = db.begin();
        for series in 0..30 {
            let name = format!("s{series}");
            let labels = model::Labels::new(&[("__name__", name.as_str())]).expect("valid");
            batch.append(labels.as_ref(), &[Sample { t: 1000 + block, v: f64::from(series) }]);
        }
        batch.finish(0, block + 1);
        db.flush().expect("flushes");
    }
}

/// What is in a directory, of which nothing is damaged.
fn read(dir: &Path) -> Floats {
    let _no_child_has_its_lock = no_child_begins();
    assert_eq!(verify::verify(dir, &mut |_| {}).expect("verifies").faults(), 0);
    let db = Db::open(dir, Options::default()).expect("opens");
    floats(&db)
}

fn repaired(dir: &Path) -> Result<repair::Report, tsdb::Error> {
    repair::repair(dir, SPAN_MS, &mut |_| {})
}

#[test]
fn after_a_fault_at_any_call_of_a_repair_nothing_that_could_be_read_is_lost_and_it_can_be_done_again() {
    if let Some(child) = child() {
        child.begin();
        let done = repaired(&child.data).or_else(|_| repaired(&child.data));
        return child.tell(&done.map_or_else(|error| error.to_string(), |_| "repaired".to_owned()));
    }
    let dir = tempfile::tempdir().expect("directory");
    write(dir.path());
    let block = dir.path().join("0000000000.block");
    let mut bytes = fs::read(&block).expect("read");
    bytes[12] ^= 1;
    fs::write(&block, &bytes).expect("written");
    let expect = {
        let done = tempfile::tempdir().expect("directory");
        for entry in fs::read_dir(dir.path()).expect("read") {
            let name = entry.expect("entry").file_name();
            let content = fs::read(dir.path().join(&name)).expect("read");
            fs::write(done.path().join(&name), content).expect("written");
        }
        let begun = no_child_begins();
        assert_eq!(repaired(done.path()).expect("repairs").blocks.len(), 1);
        drop(begun);
        read(done.path())
    };
    assert!((30..60).contains(&expect.len()), "{}", expect.len());
    let own = "after_a_fault_at_any_call_of_a_repair_nothing_that_could_be_read_is_lost_and_it_can_be_done_again";
    let calls = each_call(own, dir.path(), false, |scene| {
        if scene.was_killed {
            scene.run(None);
        }
        assert_eq!(scene.told, ["repaired"]);
        scene.lose_power();
        let copy = scene.copy();
        let kept = fs::read(copy.path().join("0000000000.block.damaged")).expect("the original is there");
        assert!(kept == bytes);
        assert_eq!(read(copy.path()), expect);
    });
    assert!(calls > 30, "{calls}");
}

/// Blocks that a Prometheus would read; it removes what is not whole.
fn exported(out: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(out) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("entry").path());
    paths.filter(|path| path.extension().is_none() && !path.ends_with("wal")).collect()
}

#[test]
fn after_a_fault_at_any_call_of_an_export_each_block_is_whole_or_not_there() {
    let export = |data: &Path| {
        let options = export::Options {
            range: TimeRange::ALL,
            matcher_sets: Vec::new(),
            start_times: StartTimes::Written,
            span_ms: SPAN_MS,
            now_ms: 1_790_000_000_000,
            chance: 7,
        };
        let mut names = Vec::new();
        let done = export::export(&data.join("db"), &data.join("out"), &options, &Cancel::default(), &mut |block| {
            names.push(block.name.clone());
        });
        done.map(|summary| (summary, names))
    };
    if let Some(child) = child() {
        child.begin();
        match export(&child.data) {
            Ok((summary, names)) if summary.problems.is_empty() => names.iter().for_each(|name| child.tell(name)),
            _ => {}
        }
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    write(&dir.path().join("db"));
    let expect = read(&dir.path().join("db"));
    let own = "after_a_fault_at_any_call_of_an_export_each_block_is_whole_or_not_there";
    let calls = each_call(own, dir.path(), false, |scene| {
        let told = scene.told.clone();
        for power in [false, true] {
            if power {
                scene.lose_power();
            }
            let copy = scene.copy();
            assert_eq!(read(&copy.path().join("db")), expect, "the storage itself");
            let blocks = exported(&copy.path().join("out"));
            assert!(told.iter().all(|name| blocks.iter().any(|path| path.ends_with(name))), "{told:?} {blocks:?}");
            if !blocks.is_empty() {
                let _no_child_has_its_lock = no_child_begins();
                let to = folder();
                let db = Db::open(to.path(), Options::default()).expect("opens");
                import::import(&copy.path().join("out"), &db, &Cancel::default(), &mut |_| {}).expect("imports");
                let found = floats(&db);
                // What cannot be read is left out, and said.
                assert!(
                    found == expect || (told.is_empty() && found.iter().all(|(key, v)| expect.get(key) == Some(v)))
                );
            }
        }
    });
    assert!(calls > 30, "{calls}");
}
