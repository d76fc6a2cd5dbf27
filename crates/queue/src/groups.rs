//! How far the consumers have read for good, and so how much waits for each of them.
//!
//! A commit is only a hint to retention: each consumer's own state is the truth. So a commit is written to disk within some
//! seconds and not before it is answered; what a crash loses keeps segments a little longer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::{IntCounter, IntGauge};

use crate::files::{io, replace};
use crate::metrics::Metrics;
use crate::{Bounds, Error};

/// Groups that may be known at once. Weir has two; a third party's are few.
pub(crate) const GROUPS_MAX: usize = 64;

pub(crate) struct Groups {
    path: PathBuf,
    /// Groups without whose commit nothing is removed.
    holding: Vec<String>,
    metrics: Metrics,
    state: Mutex<State>,
}

struct State {
    bounds: Vec<Bounds>,
    groups: BTreeMap<String, Group>,
    /// Whether there are commits that are not on disk.
    dirty: bool,
}

struct Group {
    committed: Vec<Option<i64>>,
    depth: i64,
    peak: i64,
    depth_records: IntGauge,
    peak_depth_records: IntGauge,
    processed_records: IntCounter,
}

/// What is to be told of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) group: String,
    pub(crate) committed: Vec<Option<i64>>,
    /// Records that are in the log and not committed.
    pub(crate) depth: i64,
    /// Largest depth since the log was opened.
    pub(crate) peak: i64,
    /// Records committed since the log was created.
    pub(crate) processed: i64,
}

impl Groups {
    /// Reads what was stored; a file that cannot be read is refused with its name, since it decides what is deleted.
    pub(crate) fn open(dir: &Path, partitions: u32, holding: &[String], metrics: Metrics) -> Result<Self, Error> {
        let path = dir.join("groups");
        let stored = match fs::read_to_string(&path) {
            Ok(text) => parse(&text, partitions)
                .ok_or_else(|| crate::segment::corrupt(&path, 0, "not a file of group offsets of this log"))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(io(format!("reading {}", path.display()))(e)),
        };
        let bounds = vec![Bounds { start: 0, end: 0 }; partitions as usize];
        let mut state = State { bounds, groups: BTreeMap::new(), dirty: false };
        for group in holding {
            state.group(group, &metrics);
        }
        for (group, partition, offset) in stored {
            state.group(&group, &metrics).committed[partition as usize] = Some(offset);
        }
        Ok(Groups { path, holding: holding.to_vec(), metrics, state: Mutex::new(state) })
    }

    /// Takes the bounds of a partition into account, after an append or a removal.
    pub(crate) fn moved(&self, partition: u32, bounds: Bounds) {
        let mut state = self.state();
        let state = &mut *state;
        // The writer and retention come here in any order; neither bound ever goes back.
        let known = &mut state.bounds[partition as usize];
        *known = Bounds { start: known.start.max(bounds.start), end: known.end.max(bounds.end) };
        state.groups.values_mut().for_each(|group| group.measure(&state.bounds));
    }

    /// Notes a commit to a partition that exists. An offset never goes back.
    pub(crate) fn commit(&self, group: &str, partition: u32, offset: i64) -> Result<(), Error> {
        if group.is_empty() || group.len() > 255 || group.chars().any(char::is_whitespace) {
            return Err(Error::Invalid(format!("group {group:?} is not a name")));
        }
        let mut state = self.state();
        let state = &mut *state;
        if !state.groups.contains_key(group) && state.groups.len() >= GROUPS_MAX {
            return Err(Error::Full(format!("{GROUPS_MAX} groups are known already")));
        }
        let bounds = state.bounds.clone();
        let group = state.group(group, &self.metrics);
        let stored = &mut group.committed[partition as usize];
        if stored.is_none_or(|stored| offset > stored) {
            group.processed_records.inc_by((offset - stored.unwrap_or(0)).try_into().unwrap_or(0));
            *stored = Some(offset);
            group.measure(&bounds);
            state.dirty = true;
        }
        Ok(())
    }

    /// What a group committed to a partition last.
    pub(crate) fn committed(&self, group: &str, partition: u32) -> Option<i64> {
        self.state().groups.get(group)?.committed[partition as usize]
    }

    /// The lowest offset that a group which holds records back has committed; one that has none yet holds everything.
    pub(crate) fn lowest(&self, partition: u32) -> i64 {
        let state = self.state();
        let committed =
            |name: &String| state.groups.get(name).and_then(|g| g.committed[partition as usize]).unwrap_or(0);
        self.holding.iter().map(committed).min().unwrap_or(i64::MAX)
    }

    /// Every group, by name.
    pub(crate) fn progress(&self) -> Vec<Progress> {
        let progress = |(name, group): (&String, &Group)| Progress {
            group: name.clone(),
            committed: group.committed.clone(),
            depth: group.depth,
            peak: group.peak,
            processed: group.committed.iter().flatten().sum(),
        };
        self.state().groups.iter().map(progress).collect()
    }

    /// Makes the commits durable, if there were any since the last time.
    pub(crate) fn save(&self) -> Result<(), Error> {
        let text = {
            let mut state = self.state();
            if !std::mem::take(&mut state.dirty) {
                return Ok(());
            }
            print(&state.groups)
        };
        replace(&self.path, text.as_bytes()).inspect_err(|_| self.state().dirty = true)
    }

    /// Keeps the writers from telling how far they are while `held` runs.
    #[cfg(test)]
    pub(crate) fn hold<T>(&self, held: impl FnOnce() -> T) -> T {
        let _state = self.state();
        held()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one step, so that a thread that panicked left it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn group(&mut self, name: &str, metrics: &Metrics) -> &mut Group {
        if !self.groups.contains_key(name) {
            let mut group = Group {
                committed: vec![None; self.bounds.len()],
                depth: 0,
                peak: 0,
                depth_records: metrics.depth_records.with_label_values(&[name]),
                peak_depth_records: metrics.peak_depth_records.with_label_values(&[name]),
                processed_records: metrics.processed_records.with_label_values(&[name]),
            };
            group.measure(&self.bounds);
            self.groups.insert(name.to_owned(), group);
        }
        self.groups.get_mut(name).expect("inserted above where it was not there")
    }
}

impl Group {
    fn measure(&mut self, bounds: &[Bounds]) {
        let waits = |(committed, bounds): (&Option<i64>, &Bounds)| {
            (bounds.end - committed.unwrap_or(0).clamp(bounds.start, bounds.end)).max(0)
        };
        self.depth = self.committed.iter().zip(bounds).map(waits).sum();
        self.peak = self.peak.max(self.depth);
        self.depth_records.set(self.depth);
        self.peak_depth_records.set(self.peak);
    }
}

fn print(groups: &BTreeMap<String, Group>) -> String {
    let mut text = "weir-groups 1\n".to_owned();
    for (name, group) in groups {
        for (partition, offset) in group.committed.iter().enumerate() {
            if let Some(offset) = offset {
                let _ = writeln!(text, "{name} {partition} {offset}");
            }
        }
    }
    let _ = writeln!(text, "crc32c {:08x}", crc32c::crc32c(text.as_bytes()));
    text
}

fn parse(text: &str, partitions: u32) -> Option<Vec<(String, u32, i64)>> {
    let (content, checksum) = text.rsplit_once("crc32c ")?;
    if format!("{:08x}\n", crc32c::crc32c(content.as_bytes())) != checksum {
        return None;
    }
    let lines = content.strip_prefix("weir-groups 1\n")?.lines();
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let (group, partition, offset) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            (partition < partitions).then(|| (group.to_owned(), partition, offset))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path, holding: &[&str]) -> Result<Groups, Error> {
        let metrics = Metrics::new(&prometheus::Registry::new()).expect("registers");
        let holding: Vec<String> = holding.iter().map(|&name| name.to_owned()).collect();
        Groups::open(dir, 2, &holding, metrics)
    }

    #[test]
    fn groups_are_golden() {
        let dir = tempfile::tempdir().expect("directory");
        let groups = open(dir.path(), &["storage"]).expect("opens");
        for (group, partition, offset) in [("storage", 0, 4700), ("alerting", 1, 12), ("alerting", 0, 4711)] {
            groups.commit(group, partition, offset).expect("noted");
        }
        groups.save().expect("written");
        let golden = "weir-groups 1\nalerting 0 4711\nalerting 1 12\nstorage 0 4700\ncrc32c f61eabcb\n";
        assert_eq!(fs::read_to_string(dir.path().join("groups")).expect("read"), golden);
        let other = tempfile::tempdir().expect("directory");
        fs::write(other.path().join("groups"), golden).expect("written");
        let groups = open(other.path(), &[]).expect("opens");
        let committed = |group| [0, 1].map(|partition| groups.committed(group, partition));
        assert_eq!((committed("alerting"), committed("storage")), ([Some(4711), Some(12)], [Some(4700), None]));
    }

    #[test]
    fn commits_survive_and_never_go_back() {
        let dir = tempfile::tempdir().expect("directory");
        let groups = open(dir.path(), &["storage", "alerting"]).expect("opens");
        assert_eq!(groups.lowest(0), 0, "nothing is committed yet");
        groups.commit("storage", 0, 7).expect("noted");
        groups.commit("storage", 0, 5).expect("noted");
        assert_eq!(groups.lowest(0), 0, "alerting holds everything");
        groups.commit("alerting", 0, 6).expect("noted");
        groups.save().expect("written");
        assert_eq!(open(dir.path(), &["storage", "alerting"]).expect("opens").lowest(0), 6);
        assert_eq!(open(dir.path(), &["storage"]).expect("opens").lowest(0), 7);
        assert_eq!(open(dir.path(), &[]).expect("opens").lowest(0), i64::MAX);
    }

    #[test]
    fn depth_peak_and_processed_follow_appends_commits_and_removals() {
        let dir = tempfile::tempdir().expect("directory");
        let groups = open(dir.path(), &["storage"]).expect("opens");
        let check = |depth, peak, processed| {
            let seen: Vec<_> = groups.progress().iter().map(|p| (p.depth, p.peak, p.processed)).collect();
            assert_eq!(seen, [(depth, peak, processed)]);
        };
        groups.moved(0, Bounds { start: 0, end: 10 });
        groups.moved(1, Bounds { start: 0, end: 5 });
        check(15, 15, 0);
        groups.commit("storage", 0, 8).expect("noted");
        check(7, 15, 8);
        groups.moved(1, Bounds { start: 3, end: 5 });
        check(4, 15, 8);
        groups.commit("storage", 1, 99).expect("noted");
        check(2, 15, 107);
    }

    #[test]
    fn commits_that_could_not_be_written_are_written_later() {
        let dir = tempfile::tempdir().expect("directory");
        let groups = open(dir.path(), &[]).expect("opens");
        groups.commit("a", 0, 7).expect("noted");
        // Where a directory is in the way, nothing can be written.
        fs::create_dir(dir.path().join("groups.new")).expect("made");
        groups.save().expect_err("refused");
        fs::remove_dir(dir.path().join("groups.new")).expect("removed");
        groups.save().expect("written");
        assert_eq!(open(dir.path(), &[]).expect("opens").committed("a", 0), Some(7));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("groups"), "weir-groups 1\nstorage 0 9\ncrc32c 00000000\n").expect("written");
        assert!(matches!(open(dir.path(), &[]), Err(Error::Corrupt { .. })));
    }

    #[test]
    fn groups_are_bounded_in_number_and_name() {
        let dir = tempfile::tempdir().expect("directory");
        let groups = open(dir.path(), &[]).expect("opens");
        for n in 0..GROUPS_MAX {
            groups.commit(&format!("g{n}"), 0, 1).expect("noted");
        }
        assert!(matches!(groups.commit("one-more", 0, 1), Err(Error::Full(_))));
        for name in ["", "a b", "a\n"] {
            assert!(matches!(groups.commit(name, 0, 1), Err(Error::Invalid(_))), "{name:?}");
        }
    }
}
