//! Reading a segment batch by batch, without making records of it.

use bytes::Bytes;

use super::{Segment, corrupt};
use crate::Error;
use crate::batch::{self, Header};

impl Segment {
    /// Whole batches from the one with `from` on, of `bytes_max` bytes at most; where `progress` is asked for, the first one even
    /// if it is larger. As they lie on disk: who reads them checks them.
    pub(crate) fn read_batches(&self, from: i64, bytes_max: usize, progress: bool) -> Result<Vec<u8>, Error> {
        let Some((at, first)) = self.find(from, |h| h.next_offset() > from)? else { return Ok(Vec::new()) };
        if first.bytes > bytes_max {
            return if progress { self.bytes_at(at, first.bytes) } else { Ok(Vec::new()) };
        }
        let rest = usize::try_from(self.bytes - at).unwrap_or(usize::MAX);
        let mut bytes = self.bytes_at(at, rest.min(bytes_max))?;
        let mut end = 0;
        while bytes.len() - end >= batch::HEADER {
            let header = batch::header(&bytes[end..]).map_err(|r| corrupt(&self.path, at + end as u64, r))?;
            match end + header.bytes {
                next if next <= bytes.len() => end = next,
                _ => break,
            }
        }
        bytes.truncate(end);
        Ok(bytes)
    }

    /// The first record that is at least as new as `timestamp_ms`, as offset and time.
    pub(crate) fn find_time(&self, timestamp_ms: i64) -> Result<Option<(i64, i64)>, Error> {
        let Some((at, header)) = self.find(self.base, |h| h.max_timestamp >= timestamp_ms)? else { return Ok(None) };
        let batch = Bytes::from(self.bytes_at(at, header.bytes)?);
        let records = batch::records(&batch).map_err(|reason| corrupt(&self.path, at, reason))?;
        Ok(records.iter().find(|r| r.timestamp_ms >= timestamp_ms).map(|r| (r.offset, r.timestamp_ms)))
    }

    /// Shows the header of every batch, in order.
    pub(crate) fn each_header(&self, mut show: impl FnMut(&Header)) -> Result<(), Error> {
        self.find(self.base, |header| {
            show(header);
            false
        })
        .map(|_| ())
    }

    /// The first batch that is wanted, from about `from` on, with its position.
    fn find(&self, from: i64, mut wanted: impl FnMut(&Header) -> bool) -> Result<Option<(u64, Header)>, Error> {
        let before = self.index.partition_point(|(offset, _)| *offset <= from).saturating_sub(1);
        let mut at = self.index.get(before).map_or(0, |(_, at)| *at);
        while at < self.bytes {
            let header = self.header_at(at, self.bytes)?;
            if wanted(&header) {
                return Ok(Some((at, header)));
            }
            at += header.bytes as u64;
        }
        Ok(None)
    }
}
