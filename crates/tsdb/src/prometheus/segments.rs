//! The files in which the chunks of a block lie one after the other.
//!
//! A chunk is found by a number whose upper half is that of its file, from 0, and whose lower half is its place in it.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::chunk::bits::{put_varint, varint};
use crate::disk::{io, sync_dir};

/// The folder in that of a block.
pub(super) const FOLDER: &str = "chunks";
const MAGIC: u32 = 0x85BD_40DD;
const VERSION: u8 = 1;
/// Magic number, version, three bytes that are zero.
const HEADER: u64 = 8;
/// Size at which a file that is written ends.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// What is read at once; most chunks of 120 samples are smaller.
const GUESS: usize = 1 << 10;

/// The files of one block.
pub(super) struct Segments {
    files: Vec<(PathBuf, File, u64)>,
}

impl Segments {
    pub(super) fn open(block: &Path) -> Result<Segments, Error> {
        let dir = block.join(FOLDER);
        let context = || format!("reading {}", dir.display());
        let mut paths = Vec::new();
        for entry in fs::read_dir(&dir).map_err(io(context()))? {
            let path = entry.map_err(io(context()))?.path();
            let is_segment = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.parse::<u64>().is_ok());
            paths.extend(is_segment.then_some(path));
        }
        paths.sort_unstable();
        let files = paths.into_iter().map(|path| {
            let name = path.display().to_string();
            let file = File::open(&path).map_err(io(format!("opening {name}")))?;
            let bytes = file.metadata().map_err(io(format!("opening {name}")))?.len();
            let mut header = [0; HEADER as usize];
            file.read_exact_at(&mut header, 0).map_err(io(format!("reading {name}")))?;
            if header[..4] != MAGIC.to_be_bytes() || header[4] != VERSION {
                return Err(Error::corrupt(&name, 0, "not a file of chunks, or of a version that is not known"));
            }
            Ok((path, file, bytes))
        });
        Ok(Segments { files: files.collect::<Result<_, _>>()? })
    }

    /// Size of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, _, bytes)| bytes).sum()
    }

    /// Reads a chunk: the number of its encoding, and its data in `buffer`.
    pub(super) fn read<'b>(&self, reference: u64, buffer: &'b mut Vec<u8>) -> Result<(u8, &'b [u8]), Error> {
        let (number, at) = (reference >> 32, reference & u64::from(u32::MAX));
        let Some((path, file, bytes)) = self.files.get(number as usize) else {
            let reason = format!("the index names chunks in file {} of {FOLDER}, which is not there", number + 1);
            return Err(Error::Invalid(reason));
        };
        let corrupt = |reason: &str| Error::corrupt(&path.display().to_string(), at as usize, reason);
        let left = bytes.checked_sub(at).filter(|_| at >= HEADER).ok_or_else(|| corrupt("a chunk lies here"))?;
        let fill = |buffer: &mut Vec<u8>, n: u64| {
            buffer.resize(n as usize, 0);
            file.read_exact_at(buffer, at).map_err(io(format!("reading {n} bytes at {at} of {}", path.display())))
        };
        fill(buffer, left.min(GUESS as u64))?;
        let mut start = 0;
        let length = varint(buffer, &mut start).map_err(&corrupt)?;
        // The encoding before it and the checksum after it.
        let whole = length.checked_add(start as u64 + 5).filter(|whole| *whole <= left);
        let whole = whole.ok_or_else(|| corrupt("length of the chunk"))?;
        if whole > buffer.len() as u64 {
            fill(buffer, whole)?;
        }
        let (chunk, checksum) =
            buffer[start..whole as usize].split_last_chunk::<4>().ok_or_else(|| corrupt("too short for a chunk"))?;
        if crc32c::crc32c(chunk).to_be_bytes() != *checksum {
            return Err(corrupt("checksum of the chunk is wrong"));
        }
        let (encoding, data) = chunk.split_first().ok_or_else(|| corrupt("too short for a chunk"))?;
        Ok((*encoding, data))
    }
}

/// Writes the files of a block.
pub(super) struct SegmentWriter {
    dir: PathBuf,
    /// Number of files begun.
    count: u64,
    open: Option<(PathBuf, BufWriter<File>, u64)>,
}

impl SegmentWriter {
    pub(super) fn create(block: &Path) -> Result<SegmentWriter, Error> {
        let dir = block.join(FOLDER);
        fs::create_dir(&dir).map_err(io(format!("creating {}", dir.display())))?;
        Ok(SegmentWriter { dir, count: 0, open: None })
    }

    /// Appends a chunk, and returns the number by which it is found.
    pub(super) fn push(&mut self, encoding: u8, data: &[u8]) -> Result<u64, Error> {
        if self.open.as_ref().is_none_or(|(_, _, at)| at + data.len() as u64 > FILE_BYTES_MAX) {
            self.finish_file()?;
            self.count += 1;
            let path = self.dir.join(format!("{:06}", self.count));
            let file = File::create(&path).map_err(io(format!("creating {}", path.display())))?;
            let mut header = MAGIC.to_be_bytes().to_vec();
            header.extend_from_slice(&[VERSION, 0, 0, 0]);
            self.open = Some((path, BufWriter::with_capacity(1 << 20, file), 0));
            self.write(&header)?;
        }
        let mut bytes = Vec::with_capacity(data.len() + 16);
        put_varint(&mut bytes, data.len() as u64);
        let start = bytes.len();
        bytes.push(encoding);
        bytes.extend_from_slice(data);
        let checksum = crc32c::crc32c(&bytes[start..]);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        let at = self.open.as_ref().map_or(0, |(_, _, at)| *at);
        self.write(&bytes)?;
        Ok((self.count - 1) << 32 | at)
    }

    /// All is durable when this returns.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.finish_file()?;
        sync_dir(&self.dir)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some((path, out, at)) = &mut self.open else { return Ok(()) };
        out.write_all(bytes).map_err(io(format!("writing {}", path.display())))?;
        *at += bytes.len() as u64;
        Ok(())
    }

    fn finish_file(&mut self) -> Result<(), Error> {
        let Some((path, mut out, _)) = self.open.take() else { return Ok(()) };
        out.flush().and_then(|()| out.get_ref().sync_all()).map_err(io(format!("writing {}", path.display())))
    }
}
