//! Which partitions a replica of storage owns, and that its directory is its own.
//!
//! Of N replicas with R copies, number n owns the partitions p with (p − n) mod N < R. What is on disk was read from the partitions owned
//! when it was written, so a directory belongs to one number of one N and R: a file says which, and a start with others is refused.
//! The price is that a change of N or R begins with empty directories, which hold again what the log still has; the gain is that no sample
//! is in two places of which only one is asked, or in none.

use std::io;

use tsdb::disk::{self, Disk};

use crate::Error;

/// The file in the directory of a replica.
pub(crate) const FILE: &str = "replica";
/// More replicas than partitions are of no use, and a log has at most this many.
const REPLICAS_MAX: u32 = 1024;

/// One of the replicas of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replica {
    /// From zero.
    pub number: u32,
    /// How many there are.
    pub of: u32,
    /// How many of them hold each partition.
    pub copies: u32,
}

impl Replica {
    /// The only one.
    pub const ALONE: Replica = Replica { number: 0, of: 1, copies: 1 };

    /// All that is wrong with the numbers, in the words of the flags.
    pub(crate) fn check(self) -> Result<(), Error> {
        let mut problems = Vec::new();
        if !(1..=REPLICAS_MAX).contains(&self.of) {
            problems.push(format!("--storage-replicas {} is not from 1 to {REPLICAS_MAX}", self.of));
        }
        if self.number >= self.of {
            problems.push(format!(
                "--storage-replica {} is not below --storage-replicas {}; the first is 0",
                self.number, self.of
            ));
        }
        if !(1..=self.of).contains(&self.copies) {
            problems.push(format!("--storage-copies {} is not from 1 to --storage-replicas {}", self.copies, self.of));
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Arguments(problems.join("; "))) }
    }

    /// Whether it holds a partition.
    pub fn owns(self, partition: u32) -> bool {
        (partition % self.of + self.of - self.number) % self.of < self.copies
    }

    /// The consumer group of the log. Each of several has its own, so that the log waits for the slowest of them.
    pub(crate) fn group(self) -> String {
        if self.of == 1 { "storage".to_owned() } else { format!("storage-{}", self.number) }
    }

    /// Makes an empty directory this replica's, and refuses one that belongs to another. `began` tells whether there is data in it, which
    /// without the file was written by one that was alone.
    pub(crate) fn claim(self, disk: &dyn Disk, began: bool) -> Result<(), Error> {
        let path = disk.path(FILE);
        let owner = match disk.read(FILE) {
            Ok(text) if text == self.text().as_bytes() => return Ok(()),
            Ok(text) => parse(&String::from_utf8_lossy(&text)).ok_or_else(|| {
                Error::Directory(format!("{} is not the description of a replica of storage", path.display()))
            })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound && began => Replica::ALONE,
            Err(e) if e.kind() == io::ErrorKind::NotFound => self,
            Err(e) => return Err(Error::Directory(format!("reading {}: {e}", path.display()))),
        };
        if owner != self {
            return Err(Error::Directory(format!(
                "{} holds the partitions of {owner}, and this is {self}: what it holds would be doubled or missed. Start with the former \
                 numbers, or with an empty directory, which is filled from what the log still has",
                disk.path("").display()
            )));
        }
        disk::replace_and_sync(disk, FILE, self.text().as_bytes())
            .map_err(|e| Error::Directory(format!("writing {}: {e}", path.display())))
    }

    fn text(self) -> String {
        format!("weir-storage 1\nreplica {} of {} copies {}\n", self.number, self.of, self.copies)
    }
}

fn parse(text: &str) -> Option<Replica> {
    let words: Vec<&str> = text.strip_prefix("weir-storage 1\n")?.split_whitespace().collect();
    let ["replica", number, "of", of, "copies", copies] = words.as_slice() else { return None };
    Some(Replica { number: number.parse().ok()?, of: of.parse().ok()?, copies: copies.parse().ok()? })
}

impl std::fmt::Display for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let copies = if self.copies == 1 { "copy" } else { "copies" };
        write!(f, "replica {} of {} with {} {copies}", self.number, self.of, self.copies)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tsdb::disk::Local;

    use super::*;

    #[test]
    fn each_partition_is_owned_by_as_many_replicas_as_there_are_copies() {
        for of in 1..=5 {
            for copies in 1..=of {
                for partition in 0..12 {
                    let owners = (0..of).filter(|number| Replica { number: *number, of, copies }.owns(partition));
                    assert_eq!(owners.count() as u32, copies, "{partition} of {of} with {copies}");
                }
            }
        }
        let owned = |number, of, copies| (0..4).filter(move |p| Replica { number, of, copies }.owns(*p));
        assert_eq!(owned(0, 3, 1).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(owned(2, 3, 2).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(owned(1, 2, 1).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn replica_is_golden() {
        let dir = tempfile::tempdir().expect("directory");
        let disk = Local::open(dir.path()).expect("opens");
        let replica = Replica { number: 1, of: 3, copies: 2 };
        replica.claim(&disk, false).expect("its own");
        let text = fs::read_to_string(dir.path().join("replica")).expect("read");
        assert_eq!(text, "weir-storage 1\nreplica 1 of 3 copies 2\n");
        assert_eq!(parse(&text), Some(replica));
    }

    #[test]
    fn wrong_numbers_are_refused_in_one_message() {
        Replica { number: 2, of: 3, copies: 3 }.check().expect("in order");
        let error = Replica { number: 3, of: 2, copies: 0 }.check().expect_err("refused").to_string();
        assert_eq!(
            error,
            "--storage-replica 3 is not below --storage-replicas 2; the first is 0; --storage-copies 0 is not from 1 to --storage-replicas 2"
        );
    }

    #[test]
    fn a_directory_belongs_to_the_replica_that_began_it() {
        let dir = tempfile::tempdir().expect("directory");
        let disk = Local::open(dir.path()).expect("opens");
        let first = Replica { number: 1, of: 3, copies: 2 };
        first.claim(&disk, false).expect("an empty directory is anybody's");
        first.claim(&disk, true).expect("it is still its own");
        let error = Replica { number: 1, of: 2, copies: 1 }.claim(&disk, true).expect_err("refused").to_string();
        assert!(
            error.contains(
                "holds the partitions of replica 1 of 3 with 2 copies, and this is replica 1 of 2 with 1 copy"
            ),
            "{error}"
        );
        fs::write(dir.path().join(FILE), "x").expect("written");
        let error = first.claim(&disk, true).expect_err("refused").to_string();
        assert!(error.ends_with("is not the description of a replica of storage"), "{error}");
    }

    #[test]
    fn a_directory_without_the_file_is_that_of_a_storage_that_was_alone() {
        let dir = tempfile::tempdir().expect("directory");
        let disk = Local::open(dir.path()).expect("opens");
        Replica { number: 0, of: 2, copies: 1 }.claim(&disk, true).expect_err("refused");
        Replica::ALONE.claim(&disk, true).expect("its own");
    }
}
