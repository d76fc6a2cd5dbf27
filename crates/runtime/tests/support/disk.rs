//! A disk that loses power and lets calls fail, for the processes of all components, whose tests include this file. `power_loss.c`, which is preloaded
//! into the process, keeps what survives and counts the calls; this lays it out anew.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The shim, compiled once a test run with the C compiler that linking Rust needs anyway.
fn shim() -> &'static Path {
    static SHIM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = SHIM.get_or_init(|| {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("power_loss.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/tests/support/power_loss.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&path).arg(source);
        assert!(compiler.status().expect("runs").success(), "{compiler:?}");
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
    /// With what is in a directory, all of it durable.
    pub(crate) fn of(from: &Path) -> Disk {
        let disk = Disk { dir: folder(), life: 0 };
        fs::create_dir(disk.data()).expect("created");
        copy_all(from, &disk.data());
        disk.begin_shadow();
        disk
    }

    /// Where the processes see it.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().canonicalize().expect("exists").join(format!("data-{}", self.life))
    }

    pub(crate) fn shadow(&self) -> PathBuf {
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
        lay_out(&shadow, &root, &self.data(), &mut HashMap::new());
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

/// An empty folder, in memory where the system has a place for that: what is durable is told by the shim, so that the disk need not be waited for.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("directory")
}

/// Copies what is in a directory.
pub(crate) fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("readable") {
        let from = entry.expect("entry").path();
        let to = to.join(from.file_name().expect("a name"));
        if from.is_dir() {
            fs::create_dir(&to).expect("created");
            copy_all(&from, &to);
        } else {
            copy(&from, &to);
        }
    }
}

/// Files by their ids are given a second name where they have one.
fn lay_out(shadow: &Path, id: &str, to: &Path, files: &mut HashMap<String, PathBuf>) {
    fs::create_dir(to).expect("created");
    // A directory that was never synced is there, by its parent's entry, and empty.
    let listing = fs::read_to_string(shadow.join("dirs").join(id)).unwrap_or_default();
    for line in listing.lines() {
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().expect("type, id, name");
        let (kind, id, name) = (part(), part(), part());
        let path = to.join(name);
        match (kind, files.get(id)) {
            ("d", _) => lay_out(shadow, id, &path, files),
            (_, Some(first)) => fs::hard_link(first, &path).expect("linked"),
            (_, None) => {
                copy(&shadow.join("files").join(id), &path);
                files.insert(id.to_owned(), path);
            }
        }
    }
}

/// A file that was never synced is there, by its directory's entry, and empty.
fn copy(from: &Path, to: &Path) {
    fs::write(to, fs::read(from).unwrap_or_default()).expect("written");
}
