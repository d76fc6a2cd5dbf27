//! A file of a partition: record batches, one after the other.
//!
//! Beside a segment that is complete lies its sparse index, so that opening a log need not read all of it. The index is a help
//! and not a truth: it is checked (length of the segment, checksum) and made anew from the segment where it is not right.
//!
//! A crash leaves at most one write that was not synced, at the end of the last segment. So on opening, a last segment is
//! cut at the first batch that is not whole, *unless* a whole batch with a later offset follows: then it is not a torn
//! write but damage, and an error. In segments before the last, every batch that is not whole is an error.

mod batches;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{self, Header};
use crate::files::{io, is_full, sync_dir};
use crate::{Error, Record};

/// A place in the index every so many bytes: what a fetch from disk reads too much at most.
const INDEX_BYTES: u64 = 64 << 10;
/// First bytes of an index file.
const INDEX_MAGIC: &[u8; 8] = b"weirqix1";

/// A segment and what is known of it without reading it.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<File>,
    pub(crate) base: i64,
    pub(crate) next: i64,
    pub(crate) bytes: u64,
    /// Up to where this process took blocks of the disk, where that is more: beyond the end of the file.
    pub(crate) taken: u64,
    pub(crate) max_timestamp: i64,
    /// Offset and position of some batches, ascending.
    index: Vec<(i64, u64)>,
}

/// What was cut off when a log was opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TornTail {
    pub(crate) position: u64,
    pub(crate) bytes: u64,
    pub(crate) reason: &'static str,
}

impl Segment {
    /// Creates an empty segment; its directory entry is durable when this returns. [`Error::Full`] means that nothing was created.
    pub(crate) fn create(dir: &Path, base: i64) -> Result<Segment, Error> {
        let path = dir.join(format!("{base:020}.log"));
        let context = || format!("creating {}", path.display());
        let created = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = created.map_err(|e| if is_full(&e) { Error::Full(context()) } else { io(context())(e) })?;
        file.sync_all().map_err(io(context()))?;
        sync_dir(dir)?;
        Ok(Segment {
            path,
            file: Arc::new(file),
            base,
            next: base,
            bytes: 0,
            taken: 0,
            max_timestamp: i64::MIN,
            index: Vec::new(),
        })
    }

    /// Opens a segment; `last` says whether a torn tail is to be cut.
    pub(crate) fn open(path: &Path, last: bool) -> Result<(Segment, Option<TornTail>), Error> {
        let name = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
        let base = name.ok_or_else(|| corrupt(path, 0, "the file's name is not an offset"))?;
        let context = || format!("opening {}", path.display());
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io(context()))?;
        let bytes = file.metadata().map_err(io(context()))?.len();
        let mut segment = Segment {
            path: path.to_owned(),
            file: Arc::new(file),
            base,
            next: base,
            bytes: 0,
            taken: 0,
            max_timestamp: i64::MIN,
            index: Vec::new(),
        };
        if !last && segment.read_index(bytes) {
            return Ok((segment, None));
        }
        let torn = segment.scan(bytes, last)?;
        if !last {
            segment.write_index()?;
        }
        Ok((segment, torn))
    }

    /// Gives back the blocks beyond the end of the file. Where that fails they are lost until the segment is removed.
    pub(crate) fn give_back(&self) {
        if self.taken > self.bytes {
            let _ = self.file.set_len(self.bytes);
        }
    }

    /// Takes a batch that was written and synced into account.
    pub(crate) fn wrote(&mut self, header: Header) {
        if self.index.last().is_none_or(|(_, at)| self.bytes - at >= INDEX_BYTES) {
            self.index.push((header.base_offset, self.bytes));
        }
        self.bytes += header.bytes as u64;
        self.next = header.next_offset();
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
    }

    /// Reads records from `from` on, which must be in the segment, of about `bytes_max` bytes but at least one batch.
    pub(crate) fn read(&self, from: i64, bytes_max: usize) -> Result<Vec<Record>, Error> {
        let before = self.index.partition_point(|(offset, _)| *offset <= from).saturating_sub(1);
        let mut at = self.index.get(before).map_or(0, |(_, at)| *at);
        let (mut out, mut size) = (Vec::new(), 0);
        while at < self.bytes && (out.is_empty() || size < bytes_max) {
            let header = self.header_at(at, self.bytes)?;
            if header.next_offset() > from {
                let batch = Bytes::from(self.bytes_at(at, header.bytes)?);
                let records = batch::records(&batch).map_err(|reason| corrupt(&self.path, at, reason))?;
                size += header.bytes;
                out.extend(records.into_iter().filter(|r| r.offset >= from));
            }
            at += header.bytes as u64;
        }
        Ok(out)
    }

    fn bytes_at(&self, at: u64, n: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; n];
        let context = || format!("reading {n} bytes at {at} of {}", self.path.display());
        self.file.read_exact_at(&mut bytes, at).map_err(|error| io(context())(error))?;
        Ok(bytes)
    }

    fn header_at(&self, at: u64, end: u64) -> Result<Header, Error> {
        let n = usize::try_from(end - at).unwrap_or(usize::MAX).min(batch::HEADER);
        let header = batch::header(&self.bytes_at(at, n)?).map_err(|reason| corrupt(&self.path, at, reason))?;
        if header.bytes as u64 > end - at {
            return Err(corrupt(&self.path, at, "batch ends too late"));
        }
        Ok(header)
    }

    /// Reads the whole segment from its start, and cuts a torn tail where `last` allows it.
    fn scan(&mut self, end: u64, last: bool) -> Result<Option<TornTail>, Error> {
        while self.bytes < end {
            let at = self.bytes;
            let checked = self.header_at(at, end).and_then(|header| {
                let batch = self.bytes_at(at, header.bytes)?;
                batch::check(&batch).map_err(|reason| corrupt(&self.path, at, reason))
            });
            match checked {
                Ok(header) if header.base_offset == self.next => self.wrote(header),
                Ok(_) => return Err(corrupt(&self.path, at, "offset does not follow the one before")),
                Err(Error::Corrupt { position, .. }) if last && !self.whole_batch_after(at, end)? => {
                    self.cut(position)?;
                    let reason = "the last write was not complete";
                    return Ok(Some(TornTail { position, bytes: end - position, reason }));
                }
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    /// Whether a whole batch with an offset that could follow starts after `at`.
    fn whole_batch_after(&self, at: u64, end: u64) -> Result<bool, Error> {
        let rest = self.bytes_at(at, (end - at) as usize)?;
        Ok((1..rest.len().saturating_sub(batch::HEADER)).any(|i| {
            rest[i + 16] == 2
                && batch::header(&rest[i..]).is_ok_and(|h| h.base_offset > self.next)
                && batch::check(&rest[i..]).is_ok()
        }))
    }

    fn cut(&mut self, position: u64) -> Result<(), Error> {
        let context = || format!("cutting {} at {position}", self.path.display());
        self.file.set_len(position).and_then(|()| self.file.sync_all()).map_err(io(context()))
    }

    fn index_path(&self) -> PathBuf {
        self.path.with_extension("index")
    }

    /// Writes the index of a segment that is complete.
    pub(crate) fn write_index(&self) -> Result<(), Error> {
        let mut out = INDEX_MAGIC.to_vec();
        for n in [self.bytes as i64, self.next, self.max_timestamp, self.index.len() as i64] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for (offset, at) in &self.index {
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&at.to_le_bytes());
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        // Not synced: an index that is lost or torn is made anew.
        fs::write(self.index_path(), out).map_err(io(format!("writing {}", self.index_path().display())))
    }

    /// Takes over the index where it is right for a segment of so many bytes.
    fn read_index(&mut self, bytes: u64) -> bool {
        let Ok(stored) = fs::read(self.index_path()) else { return false };
        let Some((content, checksum)) = stored.split_last_chunk::<4>() else { return false };
        let Some(numbers) = content.strip_prefix(INDEX_MAGIC.as_slice()) else { return false };
        if crc32c::crc32c(content).to_le_bytes() != *checksum || numbers.len() % 8 != 0 {
            return false;
        }
        let mut numbers = numbers.chunks_exact(8).map(|n| i64::from_le_bytes(n.try_into().expect("eight bytes")));
        let mut next = || numbers.next();
        let (Some(size), Some(next_offset), Some(max_timestamp), Some(count)) = (next(), next(), next(), next()) else {
            return false;
        };
        if size as u64 != bytes {
            return false;
        }
        let mut index = Vec::new();
        while let (Some(offset), Some(at)) = (next(), next()) {
            index.push((offset, at as u64));
        }
        if index.len() as i64 != count {
            return false;
        }
        (self.bytes, self.next, self.max_timestamp, self.index) = (bytes, next_offset, max_timestamp, index);
        true
    }

    /// Makes what was found on opening durable: the process that wrote it may have been killed before it did, and what
    /// consumers are shown must not vanish with the power.
    ///
    /// After an fsync that failed the system takes what it was to save for written, so that a later one says yes and saves nothing. Each batch is written once
    /// the one before it is durable, so this can have become of the last one alone, and that is written again.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        let mut at = self.index.last().map_or(0, |(_, at)| *at);
        while at < self.bytes {
            let bytes = self.header_at(at, self.bytes)?.bytes;
            if at + bytes as u64 == self.bytes {
                let batch = self.bytes_at(at, bytes)?;
                self.file.write_all_at(&batch, at).map_err(io(format!("writing to {}", self.path.display())))?;
            }
            at += bytes as u64;
        }
        self.file.sync_all().map_err(io(format!("fsync of {}", self.path.display())))
    }

    /// Removes the files; durable when this returns, and may be called again where it failed. Those who read it still can.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        for path in [self.index_path(), self.path.clone()] {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io(format!("removing {}", path.display()))(e));
                }
                _ => {}
            }
        }
        sync_dir(self.path.parent().unwrap_or(Path::new(".")))
    }
}

pub(crate) fn corrupt(path: &Path, position: u64, reason: &str) -> Error {
    Error::Corrupt { file: path.display().to_string(), position, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a segment of three batches, two of which have a place in the index.
    const INDEX: &str = concat!(
        "7765697271697831",
        "b000020000000000",
        "6d00000000000000",
        "eb03000000000000",
        "0200000000000000",
        "6400000000000000",
        "0000000000000000",
        "6900000000000000",
        "a000010000000000",
        "437a16be"
    );

    fn batch(base_offset: i64, records: i64, max_timestamp: i64, bytes: usize) -> Header {
        Header { base_offset, records, max_timestamp, bytes, producer: None }
    }

    #[test]
    fn index_is_golden() {
        let dir = tempfile::tempdir().expect("directory");
        let mut segment = Segment::create(dir.path(), 100).expect("created");
        segment.wrote(batch(100, 3, 1000, 160));
        segment.wrote(batch(103, 2, 1003, 64 << 10));
        segment.wrote(batch(105, 4, 900, (64 << 10) + 16));
        segment.write_index().expect("written");
        let stored = fs::read(dir.path().join("00000000000000000100.index")).expect("read");
        let hex: String = stored.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, INDEX);
        let mut read = Segment { bytes: 0, next: 100, max_timestamp: i64::MIN, index: Vec::new(), ..segment.clone() };
        assert!(read.read_index(segment.bytes));
        assert_eq!((read.bytes, read.next, read.max_timestamp), (segment.bytes, 109, 1003));
        assert_eq!(read.index, [(100, 0), (105, 65_696)]);
    }
}
