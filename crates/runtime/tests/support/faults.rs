//! Each call that a process makes of the disk going wrong in turn, for the tests of all components, which include this file. The process is the program of
//! the test itself, which runs one test of it: what that does when it finds itself to be the [`child`] is what meets the fault.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[path = "disk.rs"]
mod disk;

use disk::Disk;
pub(crate) use disk::folder;

static BEGINNING: Mutex<()> = Mutex::new(());

/// As long as this is held no child begins. One that begins has all files of its parent open for a moment, and so the locks of what was closed meanwhile.
pub(crate) fn no_child_begins() -> MutexGuard<'static, ()> {
    BEGINNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What goes wrong with a call, in the words of `power_loss.c`, and whether power is lost when the process ended.
const FAULTS: [(&str, bool); 6] =
    [("error", false), ("killed", true), ("short", false), ("full", false), ("killed", false), ("died", true)];
/// How many of them are tried where files have no second names: what differs are a few calls.
const FAULTS_APART: usize = 3;
/// Scenes at a time.
const THREADS: usize = 3;

/// Where the child works and what it tells, if this process is one.
pub(crate) struct Child {
    pub(crate) data: PathBuf,
    tells: PathBuf,
}

/// Says that this process is to do the work, under the shim.
pub(crate) fn child() -> Option<Child> {
    let var = |name| std::env::var_os(name).map(PathBuf::from);
    Some(Child { data: var("POWERLOSS_ROOT")?, tells: var("FAULTS_TELLS")? })
}

impl Child {
    /// Calls are counted from here on.
    pub(crate) fn begin(&self) {
        let _ = fs::File::open(self.data.join("begin"));
    }

    /// Tells the test something: a line.
    pub(crate) fn tell(&self, line: &str) {
        let told = fs::read_to_string(&self.tells).unwrap_or_default();
        fs::write(&self.tells, told + line + "\n").expect("is not on the disk that fails");
    }
}

/// A disk, and what a child told of its work on it.
pub(crate) struct Scene {
    test: &'static str,
    apart: bool,
    pub(crate) disk: Disk,
    pub(crate) told: Vec<String>,
    pub(crate) was_killed: bool,
    /// What the fault met.
    pub(crate) met: Option<String>,
}

impl Scene {
    fn new(test: &'static str, from: &Path, apart: bool) -> Scene {
        let (disk, told) = (Disk::of(from), Vec::new());
        Scene { test, apart, disk, told, was_killed: false, met: None }
    }

    /// Lets a child work, without a fault if none is given.
    pub(crate) fn run(&mut self, fault: Option<(u32, &str)>) {
        let tells = tempfile::tempdir().expect("directory");
        let file = tells.path().join("tells");
        let begun = no_child_begins();
        let mut command = Command::new(std::env::current_exe().expect("is known"));
        command.args(["--exact", self.test, "--test-threads=1"]).envs(self.disk.env()).env("FAULTS_TELLS", &file);
        if self.apart {
            command.env("POWERLOSS_APART", "1");
        }
        if let Some((call, kind)) = fault {
            command.env("POWERLOSS_FAULT", format!("{call} {kind}")).env("POWERLOSS_FAULT_FROM", "/begin");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("runs");
        drop(begun);
        let output = child.wait_with_output().expect("runs");
        self.was_killed = output.status.code().is_none();
        self.met = fs::read_to_string(self.disk.shadow().join("fault")).ok();
        self.told = fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect();
        let is_well = output.status.success() || (self.was_killed && self.met.is_some());
        assert!(is_well, "{:?}: {} {output:?}", self.met, self.told.join("\n"));
    }

    /// The power is gone: what was durable is the disk.
    pub(crate) fn lose_power(&mut self) {
        self.disk.lose_power();
    }

    /// A copy of what the processes see, which can be changed.
    pub(crate) fn copy(&self) -> tempfile::TempDir {
        let to = disk::folder();
        disk::copy_all(&self.disk.data(), to.path());
        to
    }
}

/// Runs a test of this program as a child on copies of a directory, each time with another call going wrong, until there is none left; `check` looks at
/// what that left. With `apart` no file has a second name. Returns how many calls there are.
pub(crate) fn each_call(test: &'static str, from: &Path, apart: bool, check: impl Fn(&mut Scene) + Sync) -> u32 {
    let faults = if apart { &FAULTS[..FAULTS_APART] } else { &FAULTS };
    let calls = AtomicU32::new(0);
    // Children wait more than they work.
    let (next, check) = (AtomicUsize::new(0), &check);
    std::thread::scope(|scope| {
        for _ in 0..faults.len().min(THREADS) {
            scope.spawn(|| {
                while let Some((fault, power)) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for call in 0.. {
                        let mut scene = Scene::new(test, from, apart);
                        scene.run(Some((call, fault)));
                        let Some(met) = scene.met.clone() else {
                            calls.fetch_max(call, Ordering::Relaxed);
                            break;
                        };
                        let _told = Context(format!("call {call}, {met}: {fault}, power lost: {power}"));
                        if *power {
                            scene.lose_power();
                        }
                        check(&mut scene);
                    }
                }
            });
        }
    });
    calls.into_inner()
}

/// Says at which call it was when a test fails.
struct Context(String);

impl Drop for Context {
    #[allow(clippy::print_stderr, reason = "what a test says goes to whoever runs it; some crates let tests do so")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}
