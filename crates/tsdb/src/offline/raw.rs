//! A block file, read as far as it can be trusted.

use std::sync::Arc;

use model::{Columns, Labels, Mark, TimeRange};

use super::Faults;
use crate::block::{ChunkRef, END, FOOTER, Index, Last, MAGIC, Place};
use crate::chunk::{self, Facts, Times};
use crate::deletes::{Cuts, Delete};
use crate::disk::{Disk, Input};

/// A block whose index is as it was written; of its chunks nothing is known yet.
pub(super) struct Raw {
    file: Box<dyn Input>,
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
    /// A footer that is damaged may still lead to the index: it has a checksum of its own, so it is believed if that is right.
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
        let file = disk.open(name).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => (0, "the manifest names it, and it is not there".to_owned()),
            _ => (0, format!("it cannot be opened: {e}")),
        })?;
        let bytes = file.bytes();
        let read = |at: u64, n: usize| read(&*file, at, n).map_err(|reason| (at, reason));
        let footer_at = bytes.checked_sub(FOOTER as u64).filter(|at| *at >= MAGIC.len() as u64);
        let footer_at = footer_at.ok_or_else(|| (0, format!("{bytes} bytes are too few for a block")))?;
        if read(0, MAGIC.len())? != MAGIC {
            faults.push(name, 0, "the first bytes are not those of a block");
        }
        let footer = read(footer_at, FOOTER)?;
        let (content, rest) = footer.split_at(FOOTER - 12);
        let sound = crc32c::crc32c(content).to_le_bytes() == rest[..4];
        if &rest[4..] != END {
            faults.push(name, bytes - 8, "the last bytes are not those of a block");
        }
        if !sound {
            faults.push(name, footer_at, "checksum of the footer is wrong");
        }
        let u64_at = |at: usize| u64::from_le_bytes(content[at..at + 8].try_into().expect("eight bytes"));
        let (index_at, index_bytes) = (u64_at(0), u64_at(8));
        if index_at < MAGIC.len() as u64 || index_at.checked_add(index_bytes) != Some(footer_at) {
            return Err((footer_at, "the footer does not tell where the index is".to_owned()));
        }
        let stored = read(index_at, index_bytes as usize)?;
        if crc32c::crc32c(&stored).to_le_bytes() != content[16..20] {
            return Err((
                index_at,
                "checksum of the index is wrong: the labels of its series are not known".to_owned(),
            ));
        }
        let index = Index::read(stored).map_err(|reason| (index_at, reason.to_owned()))?;
        let range = TimeRange { start_ms: u64_at(28) as i64, end_ms: u64_at(36) as i64 };
        let claimed = sound.then(|| (u64_at(20), range));
        Ok(Raw { file, bytes, index, index_at, index_bytes, claimed })
    }

    /// What deletions take from it, given with its number.
    pub(super) fn cuts(&self, deletes: &[Arc<Delete>], number: u64) -> Cuts {
        Cuts::of_index(deletes, number, &self.index, self.claimed.map_or(TimeRange::ALL, |(_, range)| range))
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
        if out.aggregates.is_empty() == (at.last == Last::Aggregate) {
            return Err("the index has it of another kind".to_owned());
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
        let mut bytes = read(&*self.file, place.at, place.bytes as usize)?;
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

fn read(file: &dyn Input, at: u64, n: usize) -> Result<Vec<u8>, String> {
    let mut buffer = vec![0; n];
    file.read_exact_at(&mut buffer, at).map_err(|e| format!("{n} bytes cannot be read: {e}"))?;
    Ok(buffer)
}
