//! A block file, read as far as it can be trusted.

use std::sync::Arc;

use model::{Columns, Labels, Mark, TimeRange, is_stale};

use super::Faults;
use crate::Error;
use crate::block::{Cache, ChunkRef, FOOTER, File, Footer, Index, Last, MAGIC, Place};
use crate::chunk::{self, Facts, Times};
use crate::disk::Disk;

/// A block of which the top of the index is as it was written; of its pages and chunks nothing is known yet.
pub(super) struct Raw {
    file: Arc<File>,
    pub(super) bytes: u64,
    pub(super) index: Index,
    /// Where the chunks end and the index begins.
    pub(super) index_at: u64,
    pub(super) index_bytes: u64,
    /// Number of samples and their range, as the footer has it; `None` where that is damaged.
    pub(super) claimed: Option<(u64, TimeRange)>,
}

impl Raw {
    /// Opens a block. What is wrong is added to the faults; `None` if that leaves nothing to be read.
    ///
    /// A footer that is damaged may still lead to the index: its top has a checksum of its own, so it is believed if that is right.
    pub(super) fn open(disk: &dyn Disk, name: &str, faults: &mut Faults) -> Option<Raw> {
        match Raw::try_open(disk, name, faults) {
            Ok(raw) => Some(raw),
            Err((position, reason)) => {
                faults.push(name, position, reason);
                None
            }
        }
    }

    fn try_open(disk: &dyn Disk, name: &str, faults: &mut Faults) -> Result<Raw, (u64, String)> {
        let file = File::open(disk, name).map(Arc::new).map_err(|error| match &error {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                (0, "the manifest names it, and it is not there".to_owned())
            }
            _ => (0, format!("it cannot be opened: {error}")),
        })?;
        let bytes = file.bytes();
        let read = |at: u64, n: u64| file.read(at, n).map_err(|error| (at, reason_of(error).1));
        let footer_at = bytes.checked_sub(FOOTER as u64).filter(|at| *at >= MAGIC.len() as u64);
        let footer_at = footer_at.ok_or_else(|| (0, format!("{bytes} bytes are too few for a block")))?;
        if read(0, MAGIC.len() as u64)? != MAGIC {
            faults.push(name, 0, "the first bytes are not those of a block");
        }
        let footer = Footer::read(&read(footer_at, FOOTER as u64)?);
        let footer = footer.ok_or_else(|| (footer_at, "the footer is too short".to_owned()))?;
        if !footer.has_end {
            faults.push(name, bytes - 8, "the last bytes are not those of a block");
        }
        if !footer.is_sound {
            faults.push(name, footer_at, "checksum of the footer is wrong");
        }
        if !footer.is_before(footer_at) {
            return Err((footer_at, "the footer does not tell where the index is".to_owned()));
        }
        let top = read(footer.top_at, footer_at - footer.top_at)?;
        if crc32c::crc32c(&top).to_le_bytes() != footer.top_crc {
            let reason = "checksum of the index is wrong: the labels of its series are not known";
            return Err((footer.top_at, reason.to_owned()));
        }
        let index = Index::open(&file, &Cache::new(Cache::OFFLINE_BYTES), footer.index_at, &top);
        let index = index.map_err(|reason| (footer.top_at, reason.to_owned()))?;
        let claimed = footer.is_sound.then_some((footer.samples, footer.range));
        let index_bytes = footer_at - footer.index_at;
        Ok(Raw { file, bytes, index, index_at: footer.index_at, index_bytes, claimed })
    }

    /// Reads a chunk into `out`, which is emptied before, and holds it against what the index says of it. `bytes` is what is stored, without
    /// the checksum. The error says what is wrong; there is nothing in `out` then.
    pub(super) fn chunk(&self, at: &ChunkRef, bytes: &mut Vec<u8>, out: &mut Columns) -> Result<(), String> {
        out.clear();
        let checked = self.try_chunk(at, bytes, out);
        if checked.is_err() {
            out.clear();
        }
        checked
    }

    fn try_chunk(&self, at: &ChunkRef, bytes: &mut Vec<u8>, out: &mut Columns) -> Result<(), String> {
        let mut column = Vec::new();
        if let Some(place) = at.times {
            let stored = self.checked(place, "times that it shares")?;
            chunk::decode_times(&stored, &mut column)
                .map_err(|reason| format!("the times that it shares cannot be decoded: {reason}"))?;
        }
        *bytes = self.checked(Place { at: at.at, bytes: at.bytes }, "chunk")?;
        let times = if at.times.is_some() { Times::Beside(&column) } else { Times::Within };
        let length = chunk::decode_beside(bytes, times, out)
            .map_err(|reason| format!("the chunk cannot be decoded: {reason}"))?;
        if length != bytes.len() {
            return Err("there is more in the chunk than its samples".to_owned());
        }
        if !out.t.is_sorted_by(|a, b| a < b) || !out.histograms.is_sorted_by(|a, b| a.t < b.t) {
            return Err("times in the chunk do not ascend".to_owned());
        }
        if (out.range(Mark::default()), out.samples()) != (Some(at.range), at.samples as usize) {
            return Err("the chunk's times are not those that the index has".to_owned());
        }
        let last = match out.v.last() {
            _ if !out.histograms.is_empty() => Last::Histogram,
            _ if !out.aggregates.is_empty() => Last::Aggregate,
            Some(v) if is_stale(*v) => Last::StaleFloat,
            _ => Last::Float,
        };
        if last != at.last {
            return Err("the chunk's last sample is not what the index tells of".to_owned());
        }
        let is_of_it = |facts: Facts| out.histograms.is_empty() && facts.is_of(&out.v);
        if at.facts.is_some_and(|facts| !is_of_it(facts)) {
            return Err("the chunk's values are not those that the index tells of".to_owned());
        }
        Ok(())
    }

    /// What lies at a place among the chunks, without its checksum, which is right.
    fn checked(&self, place: Place, what: &str) -> Result<Vec<u8>, String> {
        if place.at < MAGIC.len() as u64 || place.end() > self.index_at || place.bytes <= 4 {
            return Err(format!("the {what} does not lie among the chunks"));
        }
        let bytes = self.file.read(place.at, u64::from(place.bytes));
        let mut bytes = bytes.map_err(|error| reason_of(error).1)?;
        let checksum = bytes.split_off(bytes.len() - 4);
        if crc32c::crc32c(&bytes).to_le_bytes() != *checksum {
            return Err(format!("checksum of the {what} is wrong"));
        }
        Ok(bytes)
    }
}

/// What is wrong with the labels of a series, if anything is.
pub(super) fn labels_fault(labels: &Labels) -> Option<String> {
    let pairs: Vec<_> = labels.iter().collect();
    match Labels::new(&pairs) {
        Ok(canonical) if canonical == *labels => None,
        Ok(_) => Some("its labels are not in their canonical form".to_owned()),
        Err(error) => Some(format!("its labels are invalid: {error}")),
    }
}

/// Where in a file something is wrong, as far as that is known, and what.
pub(super) fn reason_of(error: Error) -> (Option<u64>, String) {
    match error {
        Error::Corrupt { position, reason, .. } => (Some(position), reason),
        other => (None, other.to_string()),
    }
}
