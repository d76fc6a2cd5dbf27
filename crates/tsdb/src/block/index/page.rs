//! What all pages of an index have in common: each is packed by itself, and has a checksum of its own.

use crate::block::{File, Place};
use crate::{Error, disk};

/// In the first byte: what follows is the content, or its length and the content compressed.
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// Of the levels the one from which on more costs much and gains little.
const LEVEL: i32 = 3;
/// The largest content of a page: the postings of one value among two thousand million series take so much.
const CONTENT_MAX: u64 = 256 << 20;

/// Packs one page after the other.
pub(super) struct Packer(zstd::bulk::Compressor<'static>);

impl Packer {
    pub(super) fn new() -> Result<Self, Error> {
        zstd::bulk::Compressor::new(LEVEL).map(Packer).map_err(disk::io("setting up the compression of an index"))
    }

    /// Packs content, without a checksum.
    pub(super) fn pack(&mut self, content: &[u8]) -> Result<Vec<u8>, Error> {
        if content.len() as u64 > CONTENT_MAX {
            return Err(Error::Limit(format!("a page of an index takes {} bytes", content.len())));
        }
        let mut out = vec![ZSTD];
        crate::chunk::bits::put_varint(&mut out, content.len() as u64);
        let packed = self.0.compress(content).map_err(disk::io("compressing a page of an index"))?;
        if out.len() + packed.len() > content.len() {
            out.clear();
            out.push(PLAIN);
            out.extend_from_slice(content);
        } else {
            out.extend_from_slice(&packed);
        }
        Ok(out)
    }

    /// Packs content, with a checksum.
    pub(super) fn page(&mut self, content: &[u8]) -> Result<Vec<u8>, Error> {
        let mut page = self.pack(content)?;
        page.extend_from_slice(&crc32c::crc32c(&page).to_le_bytes());
        Ok(page)
    }
}

/// The content of what was packed.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<u8>, &'static str> {
    match packed.split_first() {
        Some((&PLAIN, content)) => Ok(content.to_vec()),
        Some((&ZSTD, rest)) => {
            let mut at = 0;
            let size = crate::chunk::bits::varint(rest, &mut at)?;
            if size > CONTENT_MAX {
                return Err("size of a page");
            }
            let content = zstd::bulk::decompress(&rest[at..], size as usize).map_err(|_| "page cannot be unpacked")?;
            if content.len() as u64 == size { Ok(content) } else { Err("size of a page") }
        }
        _ => Err("how a page is packed"),
    }
}

/// Reads the content of the page at a place.
pub(super) fn read(file: &File, place: Place) -> Result<Vec<u8>, Error> {
    let bytes = file.read(place.at, u64::from(place.bytes))?;
    let Some((packed, checksum)) = bytes.split_last_chunk::<4>() else {
        return Err(file.corrupt(place.at, "page of the index is too short"));
    };
    if crc32c::crc32c(packed).to_le_bytes() != *checksum {
        return Err(file.corrupt(place.at, "checksum of a page of the index is wrong"));
    }
    unpack(packed).map_err(|reason| file.corrupt(place.at, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_packed_where_that_makes_it_smaller() {
        let mut packer = Packer::new().expect("sets up");
        for content in [&b""[..], b"ab", &[7; 1000], &(0..=255).collect::<Vec<u8>>()] {
            let packed = packer.pack(content).expect("packs");
            assert!(packed.len() <= content.len() + 1);
            assert_eq!(unpack(&packed).as_deref(), Ok(content));
        }
        assert_eq!(packer.pack(&[7; 1000]).expect("packs")[0], ZSTD);
        unpack(&[]).expect_err("nothing");
        unpack(&[9]).expect_err("not known");
        unpack(&[ZSTD, 0xff, 0xff, 0xff, 0xff, 0x7f]).expect_err("too large");
    }
}
