//! A group of processes whose memory the system bounds, without swap: of either kind of control groups, where this process may make one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a process may be put.
pub(crate) enum Group {
    /// A group of its own, removed when this is dropped, with the file that tells how many of it were killed for want of memory.
    Own { dir: PathBuf, kills: &'static str },
    /// None could be made; this is why.
    Nowhere(String),
}

impl Group {
    /// A group that may have so much memory, below the group of this process or beside it.
    pub(crate) fn new(name: &str, limit: u64) -> Group {
        let mut reasons = Vec::new();
        for (parent, legacy) in parents() {
            let dir = parent.join(format!("{name}-{}", std::process::id()));
            match make(&dir, legacy, limit) {
                Ok(()) => {
                    return Group::Own { dir, kills: if legacy { "memory.oom_control" } else { "memory.events" } };
                }
                Err(reason) => reasons.push(format!("{}: {reason}", dir.display())),
            }
        }
        Group::Nowhere(reasons.join("; "))
    }

    /// The same command, in the group from its first moment on.
    pub(crate) fn command(&self, command: Command) -> Command {
        let Group::Own { dir, .. } = self else { return command };
        // The process becomes the command, so it keeps its number.
        let mut within = Command::new("sh");
        within.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(dir.join("cgroup.procs"));
        within.arg(command.get_program()).args(command.get_args());
        within.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        within
    }

    /// How many of its processes were killed for want of memory.
    pub(crate) fn kills(&self) -> u64 {
        let Group::Own { dir, kills } = self else { return 0 };
        let text = fs::read_to_string(dir.join(kills)).expect("the group tells of kills");
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.unwrap_or_else(|| panic!("no oom_kill in {text}")).trim().parse().expect("a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Group::Own { dir, .. } = self {
            // Its processes have ended and were waited for.
            let removed = fs::remove_dir(&*dir);
            assert!(removed.is_ok() || std::thread::panicking(), "{}: {removed:?}", dir.display());
        }
    }
}

/// The groups below which one may be made, and whether they are of the older kind.
fn parents() -> Vec<(PathBuf, bool)> {
    let (groups, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
    let mut found = Vec::new();
    for line in groups.lines() {
        let [number, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { continue };
        let legacy = number != "0";
        if legacy && !controllers.split(',').any(|controller| controller == "memory") {
            continue;
        }
        for mount in mounts.lines() {
            let Some((before, after)) = mount.split_once(" - ") else { continue };
            let (before, after) = (before.split(' ').collect::<Vec<_>>(), after.split(' ').collect::<Vec<_>>());
            let ([_, _, _, top, point, ..], [kind, _, options, ..]) = (&before[..], &after[..]) else { continue };
            let fits = match legacy {
                true => *kind == "cgroup" && options.split(',').any(|option| option == "memory"),
                false => *kind == "cgroup2",
            };
            if fits {
                let below = path.strip_prefix(top.trim_end_matches('/')).unwrap_or("").trim_start_matches('/');
                let own = Path::new(point).join(below);
                // Of the newer kind a group with processes has none below it that bounds memory, so the one beside is tried too.
                found
                    .extend([own.clone()].into_iter().chain(own.parent().map(Path::to_owned)).map(|dir| (dir, legacy)));
            }
        }
    }
    found
}

fn make(dir: &Path, legacy: bool, limit: u64) -> Result<(), String> {
    fs::create_dir(dir).map_err(|e| e.to_string())?;
    let bounds: &[(&str, u64, bool)] = if legacy {
        &[("memory.limit_in_bytes", limit, true), ("memory.memsw.limit_in_bytes", limit, false)]
    } else {
        &[("memory.max", limit, true), ("memory.swap.max", 0, false)]
    };
    for (file, value, needed) in bounds {
        let written = fs::write(dir.join(file), value.to_string());
        // A system without swap has no bound of it.
        if let Err(error) = written.or_else(|e| if *needed { Err(e) } else { Ok(()) }) {
            let _ = fs::remove_dir(dir);
            return Err(format!("{file}: {error}"));
        }
    }
    Ok(())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
