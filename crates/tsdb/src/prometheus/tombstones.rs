//! Which samples of a block are deleted: ranges of time by series. The samples are still in the chunks.

use std::path::Path;

use hashbrown::HashMap;
use model::TimeRange;

use super::{Cursor, Reason};
use crate::Error;
use crate::disk::io;

/// The file's name in the folder of a block.
pub(super) const FILE: &str = "tombstones";
const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;

/// Reference of a series to the ranges of it that are deleted.
pub(super) type Tombstones = HashMap<u64, Vec<TimeRange>>;

/// Reads the file of a block's folder. A block without it has none.
pub(super) fn read(block: &Path) -> Result<Tombstones, Error> {
    let path = block.join(FILE);
    let name = path.display().to_string();
    match std::fs::read(&path) {
        Ok(bytes) => parse(&bytes).map_err(|reason| Error::corrupt(&name, 0, reason)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Tombstones::new()),
        Err(e) => Err(io(format!("reading {name}"))(e)),
    }
}

/// The file of a block in which nothing is deleted.
pub(super) fn none() -> Vec<u8> {
    let mut bytes = MAGIC.to_be_bytes().to_vec();
    bytes.push(VERSION);
    bytes.extend_from_slice(&crc32c::crc32c(&[]).to_be_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Result<Tombstones, Reason> {
    let (content, checksum) = bytes.split_last_chunk::<4>().ok_or("too short for tombstones")?;
    let mut cursor = Cursor::new(content);
    if cursor.u32()? != MAGIC {
        return Err("not a file of tombstones");
    }
    if cursor.u8()? != VERSION {
        return Err("a version of tombstones that is not known");
    }
    // The checksum is of what is after the version.
    if crc32c::crc32c(&content[cursor.at..]).to_be_bytes() != *checksum {
        return Err("checksum of the tombstones is wrong");
    }
    let mut stones = Tombstones::new();
    while cursor.left() > 0 {
        let series = cursor.uvarint()?;
        let range = TimeRange { start_ms: cursor.varint()?, end_ms: cursor.varint()? };
        stones.entry(series).or_default().push(range);
    }
    Ok(stones)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stones_are_read_and_damage_is_seen() {
        assert_eq!(parse(&none()), Ok(Tombstones::new()));
        let stones = [0x04, 0x02, 0x0a, 0x04, 0x0b, 0x0c];
        let mut bytes = none();
        bytes.truncate(5);
        bytes.extend_from_slice(&stones);
        bytes.extend_from_slice(&crc32c::crc32c(&stones).to_be_bytes());
        let range = |start_ms, end_ms| TimeRange { start_ms, end_ms };
        let expect = Tombstones::from_iter([(4, vec![range(1, 5), range(-6, 6)])]);
        assert_eq!(parse(&bytes), Ok(expect));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            assert!(parse(&damaged).is_err(), "byte {at}");
        }
    }
}
