//! How far the consumers have read for good.
//!
//! Only a hint to retention: each consumer's own state is the truth. So a commit is written to disk within some seconds and not
//! before it is answered; what a crash loses keeps segments a little longer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::Error;
use crate::files::{io, replace};

/// Group and partition to offset.
type Offsets = BTreeMap<(String, u32), i64>;

/// Groups that may be known at once. Weir has two; a third party's are few.
const GROUPS_MAX: usize = 64;

pub(crate) struct Groups {
    path: PathBuf,
    state: Mutex<(Offsets, bool)>,
}

impl Groups {
    /// Reads what was stored; a file that cannot be read is refused with its name, since it decides what is deleted.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("groups");
        let offsets = match fs::read_to_string(&path) {
            Ok(text) => parse(&text).ok_or_else(|| crate::segment::corrupt(&path, 0, "not a file of group offsets"))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Offsets::new(),
            Err(e) => return Err(io(format!("reading {}", path.display()))(e)),
        };
        Ok(Groups { path, state: Mutex::new((offsets, false)) })
    }

    /// Notes a commit. An offset never goes back.
    pub(crate) fn commit(&self, group: &str, partition: u32, offset: i64) -> Result<(), Error> {
        if group.is_empty() || group.len() > 255 || group.chars().any(char::is_whitespace) {
            return Err(Error::Invalid(format!("group {group:?} is not a name")));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.0.keys().any(|(name, _)| name == group);
        if !known && state.0.keys().map(|(name, _)| name).collect::<std::collections::BTreeSet<_>>().len() >= GROUPS_MAX
        {
            return Err(Error::Full(format!("{GROUPS_MAX} groups are known already")));
        }
        let stored = state.0.entry((group.to_owned(), partition)).or_insert(i64::MIN);
        if offset > *stored {
            *stored = offset;
            state.1 = true;
        }
        Ok(())
    }

    /// The lowest offset that one of these groups has committed; a group that has none yet holds everything.
    pub(crate) fn lowest(&self, groups: &[String], partition: u32) -> i64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let committed = |group: &String| state.0.get(&(group.clone(), partition)).copied().unwrap_or(0);
        groups.iter().map(committed).min().unwrap_or(i64::MAX)
    }

    /// Every commit.
    pub(crate) fn all(&self) -> Offsets {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Makes the commits durable, if there were any since the last time.
    pub(crate) fn save(&self) -> Result<(), Error> {
        let (text, dirty) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (print(&state.0), std::mem::take(&mut state.1))
        };
        if dirty { replace(&self.path, text.as_bytes()) } else { Ok(()) }
    }
}

fn print(offsets: &Offsets) -> String {
    let mut text = "weir-groups 1\n".to_owned();
    for ((group, partition), offset) in offsets {
        let _ = writeln!(text, "{group} {partition} {offset}");
    }
    let _ = writeln!(text, "crc32c {:08x}", crc32c::crc32c(text.as_bytes()));
    text
}

fn parse(text: &str) -> Option<Offsets> {
    let (content, checksum) = text.rsplit_once("crc32c ")?;
    if format!("{:08x}\n", crc32c::crc32c(content.as_bytes())) != checksum {
        return None;
    }
    let lines = content.strip_prefix("weir-groups 1\n")?.lines();
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let (group, partition, offset) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Some(((group.to_owned(), partition), offset))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_survive_and_never_go_back() {
        let dir = tempfile::tempdir().expect("directory");
        let groups = Groups::open(dir.path()).expect("opens");
        let both = ["storage".to_owned(), "alerting".to_owned()];
        assert_eq!(groups.lowest(&both, 0), 0, "nothing is committed yet");
        groups.commit("storage", 0, 7).expect("noted");
        groups.commit("storage", 0, 5).expect("noted");
        assert_eq!(groups.lowest(&both, 0), 0, "alerting holds everything");
        groups.commit("alerting", 0, 6).expect("noted");
        groups.save().expect("written");
        let again = Groups::open(dir.path()).expect("opens");
        assert_eq!(again.lowest(&both, 0), 6);
        assert_eq!(again.lowest(&both[..1], 0), 7);
        assert_eq!(again.lowest(&[], 0), i64::MAX);
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("groups"), "weir-groups 1\nstorage 0 9\ncrc32c 00000000\n").expect("written");
        assert!(matches!(Groups::open(dir.path()), Err(Error::Corrupt { .. })));
    }
}
