//! Which log this is.
//!
//! Offsets mean nothing without it: a log that takes the place of another one has others under the same numbers, and a consumer that goes on at its position
//! would skip them without a word. So a log is given a random number when it is made, and tells it; clients of the Kafka protocol know it as the id of the topic.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

use crate::Error;
use crate::files::{io, replace};
use crate::segment::corrupt;

/// First line of the file.
const VERSION: &str = "weir-log 1\n";

/// The number of the log in a directory, which is given one where it has none; durable when this returns.
pub(crate) fn open(dir: &Path) -> Result<u128, Error> {
    let path = dir.join("identity");
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text).ok_or_else(|| corrupt(&path, 0, "not the identity of a log")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let half = || u128::from(RandomState::new().hash_one(0));
            // Zero is how the Kafka protocol says that there is none.
            let id = (half() << 64 | half()).max(1);
            replace(&path, print(id).as_bytes())?;
            Ok(id)
        }
        Err(e) => Err(io(format!("reading {}", path.display()))(e)),
    }
}

fn print(id: u128) -> String {
    format!("{VERSION}id {id:032x}\n")
}

fn parse(text: &str) -> Option<u128> {
    let id = u128::from_str_radix(text.strip_prefix(VERSION)?.strip_prefix("id ")?.strip_suffix('\n')?, 16).ok()?;
    (id > 0 && print(id) == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_of_a_log_is_golden_and_stays() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("identity");
        let id = open(dir.path()).expect("is made");
        assert_eq!(open(dir.path()).expect("is read"), id);
        assert_eq!(fs::read_to_string(&path).expect("read"), format!("weir-log 1\nid {id:032x}\n"));
        let other = tempfile::tempdir().expect("directory");
        assert_ne!(open(other.path()).expect("is made"), id);
        fs::write(&path, "weir-log 1\nid 000000000000000000000000000000ff\n").expect("written");
        assert_eq!(open(dir.path()).expect("is read"), 255);
        for text in ["", "weir-log 2\nid 000000000000000000000000000000ff\n", "weir-log 1\nid ff\n"] {
            fs::write(&path, text).expect("written");
            let error = open(dir.path()).expect_err("refused").to_string();
            assert!(error.contains("identity is corrupt"), "{error}");
        }
    }
}
