//! Writes a block, series by series.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use model::{LabelsRef, TimeRange, is_stale};

use super::index::Builder;
use super::times::Recent;
use super::{ChunkRef, END, Last, MAGIC, Place};
use crate::Error;
use crate::chunk::{Column, Piece, Pieces, Scratch, encode_times};
use crate::columns::View;
use crate::disk::{Disk, Output, io};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 20;
/// One of so many parts of the memory for writing may be columns of times.
const TIMES_SHARE: usize = 8;

/// Writes a block to a file. Series are given in the order of their canonical texts, each once.
pub(crate) struct Writer {
    path: PathBuf,
    out: BufWriter<Box<dyn Output>>,
    at: u64,
    index: Builder,
    samples: u64,
    range: TimeRange,
    scratch: Scratch,
    bytes: Vec<u8>,
    /// Those of the series that is being added.
    chunks: Vec<ChunkRef>,
    recent: Recent,
    times: Columns,
}

/// The times of the chunks of one series.
#[derive(Default)]
struct Columns {
    of: Vec<Times>,
    /// Those that go into the chunks, encoded, one after the other.
    within: Vec<u8>,
    /// Memory for those of histograms.
    scratch: Vec<i64>,
}

enum Times {
    /// So many bytes of what goes into the chunks.
    Within(usize),
    Beside(Place),
}

impl Writer {
    pub(crate) fn create(disk: &dyn Disk, name: &str) -> Result<Writer, Error> {
        let path = disk.path(name);
        let file = disk.create(name).map_err(io(format!("creating {}", path.display())))?;
        let mut writer = Writer {
            path,
            out: BufWriter::with_capacity(BUFFER, file),
            at: 0,
            index: Builder::new()?,
            samples: 0,
            range: TimeRange { start_ms: i64::MAX, end_ms: i64::MIN },
            scratch: Scratch::default(),
            bytes: Vec::new(),
            chunks: Vec::new(),
            recent: Recent::new(Recent::MEMORY_MAX),
            times: Columns::default(),
        };
        writer.write(MAGIC)?;
        Ok(writer)
    }

    /// Adds a series with samples that ascend; none add nothing.
    pub(crate) fn push(&mut self, labels: LabelsRef<'_>, samples: View<'_>) -> Result<(), Error> {
        let (Some(first), Some(last)) = (samples.first_t(), samples.last_t()) else { return Ok(()) };
        let mut times = std::mem::take(&mut self.times);
        self.write_times(samples.pieces(), &mut times)?;
        self.chunks.clear();
        let mut within = times.within.as_slice();
        for (piece, times) in samples.pieces().zip(&times.of) {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            let column = match times {
                Times::Within(size) => within.split_off(..*size).expect("it is there as many as it says"),
                Times::Beside(_) => &[],
            };
            piece.encode_with(Column::Ready(column), &mut self.scratch, &mut bytes);
            end_with_checksum(&mut bytes);
            self.chunks.push(ChunkRef {
                at: self.at,
                bytes: u32::try_from(bytes.len()).expect("a chunk has a bound of samples and buckets"),
                range: piece.range(),
                samples: piece.samples() as u32,
                last: last_of(&piece),
                times: if let Times::Beside(place) = times { Some(*place) } else { None },
                facts: piece.facts(),
            });
            self.write(&bytes)?;
            self.bytes = bytes;
        }
        self.times = times;
        self.index.push(labels, &self.chunks)?;
        self.samples += samples.samples() as u64;
        self.range.start_ms = self.range.start_ms.min(first);
        self.range.end_ms = self.range.end_ms.max(last);
        Ok(())
    }

    /// Keeps the columns of times that it knows within a part of these bytes.
    pub(crate) fn within(mut self, bytes_max: usize) -> Self {
        self.recent = Recent::new(Recent::MEMORY_MAX.min(bytes_max / TIMES_SHARE));
        self
    }

    /// The most memory that it holds until it is finished, about, in bytes.
    pub(crate) fn memory(&self) -> usize {
        BUFFER + self.recent.memory() + self.index.memory()
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.index.series() == 0
    }

    /// Writes index and footer; the file's content is durable when this returns, its directory entry is not. Returns how many columns of times were
    /// forgotten for want of memory, which may then be there twice.
    pub(crate) fn finish(mut self) -> Result<u64, Error> {
        let index = std::mem::replace(&mut self.index, Builder::new()?);
        let index_at = self.at;
        let top = index.finish(index_at, &mut |page| self.write(page))?;
        let mut footer = Vec::new();
        footer.extend_from_slice(&index_at.to_le_bytes());
        footer.extend_from_slice(&self.at.to_le_bytes());
        footer.extend_from_slice(&crc32c::crc32c(&top).to_le_bytes());
        footer.extend_from_slice(&self.samples.to_le_bytes());
        footer.extend_from_slice(&self.range.start_ms.to_le_bytes());
        footer.extend_from_slice(&self.range.end_ms.to_le_bytes());
        footer.extend_from_slice(&crc32c::crc32c(&footer).to_le_bytes());
        footer.extend_from_slice(END);
        self.write(&top)?;
        self.write(&footer)?;
        let context = || format!("writing {}", self.path.display());
        self.out.flush().and_then(|()| self.out.get_mut().sync()).map_err(io(context()))?;
        Ok(self.recent.forgotten)
    }

    /// Writes the times of a series' chunks that are worth a place of their own and have none yet.
    fn write_times(&mut self, pieces: Pieces<'_>, times: &mut Columns) -> Result<(), Error> {
        times.of.clear();
        times.within.clear();
        for piece in pieces {
            let t = piece.times(&mut times.scratch);
            if let Some(place) = self.recent.find(t) {
                times.of.push(Times::Beside(place));
                continue;
            }
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            let number = encode_times(t, &mut self.scratch, &mut bytes);
            if bytes.len() < Recent::BYTES_MIN {
                times.within.extend_from_slice(&bytes[number..]);
                times.of.push(Times::Within(bytes.len() - number));
            } else {
                let at = self.at;
                end_with_checksum(&mut bytes);
                self.write(&bytes)?;
                let place = Place { at, bytes: bytes.len() as u32 };
                bytes.truncate(bytes.len() - 4);
                self.recent.add(t, &bytes, place);
                times.of.push(Times::Beside(place));
            }
            self.bytes = bytes;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let context = || format!("writing {}", self.path.display());
        self.out.write_all(bytes).map_err(|error| io(context())(error))?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

fn last_of(piece: &Piece<'_>) -> Last {
    match piece {
        Piece::Histograms(_) => Last::Histogram,
        Piece::Aggregates(_) => Last::Aggregate,
        Piece::Floats(_, v, _) if v.last().is_some_and(|v| is_stale(*v)) => Last::StaleFloat,
        Piece::Floats(..) => Last::Float,
    }
}

fn end_with_checksum(bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
}
