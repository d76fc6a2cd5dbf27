//! Loss of power: like the crash test, but after each kill every byte that was not fsynced is dropped, and every directory
//! entry whose directory was not. `power_loss.c` keeps what survives; this lays it out anew.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::crash::{Plan, assert_none, differences, logged, survive};
use crate::support::run;
use crate::weir::Launch;

/// The shim, compiled once a test run with the C compiler that linking Rust needs anyway.
fn shim() -> &'static Path {
    static SHIM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = SHIM.get_or_init(|| {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("power_loss.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/power_loss.c");
        run(Command::new("cc").args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&path).arg(source));
        (dir, path)
    });
    path
}

/// A directory for the disk as the process sees it, and for the disk as it would be found.
pub(crate) struct Disk {
    dir: tempfile::TempDir,
    life: u32,
}

impl Disk {
    pub(crate) fn new() -> Disk {
        let disk = Disk { dir: tempfile::tempdir().expect("directory"), life: 0 };
        fs::create_dir(disk.data()).expect("created");
        disk.begin_shadow();
        disk
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().canonicalize().expect("exists").join(format!("data-{}", self.life))
    }

    fn shadow(&self) -> PathBuf {
        self.dir.path().canonicalize().expect("exists").join(format!("shadow-{}", self.life))
    }

    /// All that is there now is durable.
    fn begin_shadow(&self) {
        for part in ["files", "dirs"] {
            fs::create_dir_all(self.shadow().join(part)).expect("created");
        }
        self.copy_to_shadow(&self.data());
    }

    fn copy_to_shadow(&self, dir: &Path) {
        let mut listing = String::new();
        for entry in fs::read_dir(dir).expect("readable") {
            let entry = entry.expect("entry");
            let meta = entry.metadata().expect("metadata");
            let id = format!("{}.0", meta.ino());
            let name = entry.file_name().into_string().expect("UTF-8");
            if meta.is_dir() {
                self.copy_to_shadow(&entry.path());
            } else {
                copy(&entry.path(), &self.shadow().join("files").join(&id));
            }
            listing.push_str(&format!("{} {id} {name}\n", if meta.is_dir() { 'd' } else { 'f' }));
        }
        let id = format!("{}.0", fs::metadata(dir).expect("metadata").ino());
        fs::write(self.shadow().join("dirs").join(id), listing).expect("written");
    }

    /// The power is gone: what was durable becomes the disk.
    pub(crate) fn lose_power(&mut self) -> PathBuf {
        let shadow = self.shadow();
        let root = format!("{}.0", fs::metadata(self.data()).expect("metadata").ino());
        let before = self.data();
        self.life += 1;
        lay_out(&shadow, &root, &self.data());
        fs::remove_dir_all(before).expect("removed");
        fs::remove_dir_all(shadow).expect("removed");
        self.begin_shadow();
        self.data()
    }

    pub(crate) fn env(&self) -> HashMap<&'static str, String> {
        HashMap::from([
            ("LD_PRELOAD", shim().display().to_string()),
            ("POWERLOSS_ROOT", self.data().display().to_string()),
            ("POWERLOSS_SHADOW", self.shadow().display().to_string()),
        ])
    }
}

fn lay_out(shadow: &Path, id: &str, to: &Path) {
    fs::create_dir(to).expect("created");
    // A directory that was never synced is there, by its parent's entry, and empty.
    let listing = fs::read_to_string(shadow.join("dirs").join(id)).unwrap_or_default();
    for line in listing.lines() {
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().expect("type, id, name");
        let (kind, id, name) = (part(), part(), part());
        match kind {
            "d" => lay_out(shadow, id, &to.join(name)),
            _ => copy(&shadow.join("files").join(id), &to.join(name)),
        }
    }
}

/// A file that was never synced is there, by its directory's entry, and empty.
fn copy(from: &Path, to: &Path) {
    fs::write(to, fs::read(from).unwrap_or_default()).expect("written");
}

fn under<'a>(mut launch: Launch<'a>, disk: &Disk, lie: &str) -> Launch<'a> {
    for (name, value) in disk.env() {
        launch = launch.env(name, value);
    }
    launch.env("POWERLOSS_LIE", lie)
}

async fn differences_after(plan: &Plan, lie: &str) -> (Vec<String>, Vec<String>) {
    let disk = std::cell::RefCell::new(Disk::new());
    let first = disk.borrow().data();
    let (notes, data, found) =
        survive(plan, first, |launch| under(launch, &disk.borrow(), lie), |_| disk.borrow_mut().lose_power()).await;
    assert!(!notes.acknowledged.is_empty());
    (differences(&notes, &found), differences(&notes, &logged(&data).await))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_of_power_under_load_loses_nothing_acknowledged_and_doubles_nothing() {
    let plan = Plan::from_env(20);
    let (queried, logged) = differences_after(&plan, "").await;
    assert_none(&queried, "by query", plan.seed);
    assert_none(&logged, "in the log", plan.seed);
}

/// The test of the test: with the log's fsync answered and not done, the loss is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_fsync_of_the_log_is_seen() {
    let plan = Plan { seed: 1, rounds: 2 };
    let (_, logged) = differences_after(&plan, ".log").await;
    assert!(!logged.is_empty(), "acknowledged samples that were never synced survived the loss of power");
}
