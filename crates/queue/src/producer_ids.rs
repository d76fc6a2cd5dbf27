//! Numbers for producers, each given once in the life of the log.
//!
//! A file tells up to which number they may have been given. It is moved on by a thousand at a time, and is durable before the
//! first of them is given; so a restart skips some and repeats none. No clock and no chance: a number that is given
//! twice would make the batches of one producer look like those of another that are sent again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::Error;
use crate::files::{io, replace};
use crate::segment::corrupt;

/// Numbers for each write of the file.
const BLOCK: i64 = 1000;
/// First line of the file.
const VERSION: &str = "weir-producers 1\n";

#[derive(Debug)]
pub(crate) struct ProducerIds {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: i64,
    /// All below may be given; the file says so.
    reserved: i64,
}

impl ProducerIds {
    /// Reads what was reserved; a file that cannot be read is refused with its name.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("producers");
        let next = match fs::read_to_string(&path) {
            Ok(text) => parse(&text).ok_or_else(|| corrupt(&path, 0, "not a file of producer ids"))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
            Err(e) => return Err(io(format!("reading {}", path.display()))(e)),
        };
        Ok(ProducerIds { path, state: Mutex::new(State { next, reserved: next }) })
    }

    /// A number that was never given before. Blocks on the disk once in a thousand times.
    pub(crate) fn give(&self) -> Result<i64, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.next == state.reserved {
            let reserved = state.reserved + BLOCK;
            replace(&self.path, format!("{VERSION}next {reserved}\n").as_bytes())?;
            state.reserved = reserved;
        }
        state.next += 1;
        Ok(state.next - 1)
    }
}

fn parse(text: &str) -> Option<i64> {
    let next = text.strip_prefix(VERSION)?.strip_prefix("next ")?.strip_suffix('\n')?.parse().ok()?;
    (0..i64::MAX - BLOCK).contains(&next).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producer_ids_are_golden() {
        let dir = tempfile::tempdir().expect("directory");
        let ids = ProducerIds::open(dir.path()).expect("opens");
        assert_eq!(ids.give().expect("given"), 0);
        let file = dir.path().join("producers");
        assert_eq!(fs::read_to_string(&file).expect("read"), "weir-producers 1\nnext 1000\n");
        fs::write(&file, "weir-producers 1\nnext 7000\n").expect("written");
        assert_eq!(ProducerIds::open(dir.path()).expect("opens").give().expect("given"), 7000);
    }

    #[test]
    fn no_number_is_given_twice_over_restarts_and_blocks() {
        let dir = tempfile::tempdir().expect("directory");
        let mut given = Vec::new();
        for _ in 0..3 {
            let ids = ProducerIds::open(dir.path()).expect("opens");
            given.extend((0..1500).map(|_| ids.give().expect("given")));
        }
        assert!(given.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_number_that_cannot_be_reserved_is_not_given() {
        let dir = tempfile::tempdir().expect("directory");
        let ids = ProducerIds::open(dir.path()).expect("opens");
        // Where a directory is in the way, nothing can be written.
        fs::create_dir(dir.path().join("producers.new")).expect("made");
        ids.give().expect_err("refused");
        fs::remove_dir(dir.path().join("producers.new")).expect("removed");
        assert_eq!(ids.give().expect("given"), 0);
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        for text in ["", "weir-producers 1\n", "weir-producers 1\nnext 5", "weir-producers 1\nnext -1\n"] {
            fs::write(dir.path().join("producers"), text).expect("written");
            assert!(matches!(ProducerIds::open(dir.path()), Err(Error::Corrupt { .. })), "{text:?}");
        }
    }
}
