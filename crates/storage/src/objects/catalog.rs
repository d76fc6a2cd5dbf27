//! The one object that is ever replaced: whose the others are, which of them count, and the manifest that they are of.
//!
//! It is written on the condition that it is still the one that was read, so of two that would write one is refused. FORMAT.md has its text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use tsdb::manifest::Summary;

use crate::Replica;

/// Its name in the bucket.
pub(super) const KEY: &str = "catalog";
const VERSION: &str = "weir-catalog 1";

/// A block in object storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// Its name in the bucket, under [`super::BLOCKS`].
    pub(super) key: String,
    /// Its size.
    pub(super) bytes: u64,
    /// Size of its index and footer, at its end.
    pub(super) tail: u64,
}

/// What the catalog says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Catalog {
    /// The directory that writes here.
    pub(super) owner: String,
    /// The process that does.
    pub(super) session: String,
    /// Counts the processes that did. It is in the names of blocks, so that two of them never write the same object.
    pub(super) epoch: u64,
    /// Counts what this process wrote.
    pub(super) sequence: u64,
    pub(super) replica: Replica,
    /// By the name that they have in the manifest.
    pub(super) objects: BTreeMap<String, Object>,
    /// Empty until blocks were written.
    pub(super) manifest: String,
}

impl Catalog {
    pub(super) fn print(&self) -> Bytes {
        let Catalog { owner, session, epoch, sequence, replica, objects, manifest } = self;
        let mut out = format!("{VERSION}\nowner {owner}\nsession {session}\nepoch {epoch}\nsequence {sequence}\n");
        let _ = writeln!(out, "replica {} of {} copies {}", replica.number, replica.of, replica.copies);
        for (name, Object { key, bytes, tail }) in objects {
            let _ = writeln!(out, "object {name} {key} {bytes} {tail}");
        }
        let _ = writeln!(out, "manifest {}", manifest.len());
        let _ = writeln!(out, "crc32c {:08x}", crc32c::crc32c(out.as_bytes()));
        out.push_str(manifest);
        out.into()
    }

    /// Reads it; `None` where it is none, or not whole.
    pub(super) fn read(content: &[u8]) -> Option<Catalog> {
        let text = std::str::from_utf8(content).ok()?;
        let (head, rest) = text.split_at(text.find("\ncrc32c ")? + 1);
        let (checksum, manifest) = rest.split_once('\n')?;
        if checksum != format!("crc32c {:08x}", crc32c::crc32c(head.as_bytes())) {
            return None;
        }
        if !manifest.is_empty() {
            Summary::read(manifest)?;
        }
        let mut lines = head.lines();
        if lines.next()? != VERSION {
            return None;
        }
        let mut word = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let (owner, session) = (word("owner")?.to_owned(), word("session")?.to_owned());
        let (epoch, sequence) = (word("epoch")?.parse().ok()?, word("sequence")?.parse().ok()?);
        let replica = match *word("replica")?.split(' ').collect::<Vec<_>>() {
            [number, "of", of, "copies", copies] => {
                Replica { number: number.parse().ok()?, of: of.parse().ok()?, copies: copies.parse().ok()? }
            }
            _ => return None,
        };
        let mut objects = BTreeMap::new();
        for line in lines {
            match *line.split(' ').collect::<Vec<_>>() {
                ["object", name, key, bytes, tail] => {
                    let object = Object { key: key.to_owned(), bytes: bytes.parse().ok()?, tail: tail.parse().ok()? };
                    objects.insert(name.to_owned(), object);
                }
                ["manifest", bytes] if bytes.parse() == Ok(manifest.len()) => {}
                _ => return None,
            }
        }
        Some(Catalog { owner, session, epoch, sequence, replica, objects, manifest: manifest.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "weir-manifest 2\nnext-block 1\nposition 0 7\nblock 0 9 0000000000.block\n";

    fn example() -> Catalog {
        let object = Object { key: "0000000002-0000000000.block".to_owned(), bytes: 700, tail: 130 };
        Catalog {
            owner: "a0".to_owned(),
            session: "b1".to_owned(),
            epoch: 2,
            sequence: 5,
            replica: Replica { number: 1, of: 3, copies: 2 },
            objects: BTreeMap::from([("0000000000.block".to_owned(), object)]),
            manifest: format!("{MANIFEST}crc32c {:08x}\n", crc32c::crc32c(MANIFEST.as_bytes())),
        }
    }

    #[test]
    fn catalog_is_golden() {
        let head = "weir-catalog 1\nowner a0\nsession b1\nepoch 2\nsequence 5\nreplica 1 of 3 copies 2\n\
                    object 0000000000.block 0000000002-0000000000.block 700 130\nmanifest 85\n";
        let catalog = example();
        let text = format!("{head}crc32c {:08x}\n{}", crc32c::crc32c(head.as_bytes()), catalog.manifest);
        assert_eq!(catalog.print(), text);
        assert_eq!(Catalog::read(&catalog.print()), Some(catalog));
        let empty = Catalog { objects: BTreeMap::new(), manifest: String::new(), ..example() };
        assert_eq!(Catalog::read(&empty.print()), Some(empty));
    }

    #[test]
    fn every_flipped_byte_is_seen() {
        let text = example().print();
        for at in 0..text.len() {
            let mut bytes = text.to_vec();
            bytes[at] ^= 1;
            assert_eq!(Catalog::read(&bytes), None, "byte {at}");
        }
        for length in 0..text.len() {
            assert_eq!(Catalog::read(&text[..length]), None, "{length} bytes");
        }
    }
}
