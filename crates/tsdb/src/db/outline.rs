//! Outlines: chunks of blocks that are not decoded, since what their index tells is enough of them.
//!
//! A chunk stands for itself if it lies in the range and no edge in it, nothing of it is deleted, and no other part of the series has a sample among its
//! times: of equal times one counts, and in between values would not follow each other. Nor does one at whose time there are samples that stand for others.
//! All else is read and merged as ever.

use model::{Aspect, Columns, Outline, OutlineRequest, SeriesData, SourceError, TimeRange};

use super::read::{Part, Parts};
use crate::Error;
use crate::block::{ChunkRef, Piece};
use crate::columns::{View, append, read_newer};

/// A part of a series, decoded where that costs no reading.
enum Source<'a> {
    /// With the time from its first to its last chunk of samples that stand for others.
    Block(&'a Piece, Option<TimeRange>),
    Memory(Columns),
}

impl<'a> Source<'a> {
    fn of(part: &'a Part, range: TimeRange) -> Result<Self, Error> {
        if let Part::Block(piece) = part {
            return Ok(Source::Block(piece, piece.aggregated()));
        }
        let mut columns = Columns::default();
        part.read_into(range, &mut columns)?;
        Ok(Source::Memory(columns))
    }

    fn overlaps(&self, range: TimeRange) -> bool {
        self.first_ms(range).is_some()
    }

    /// A time that is not after its first sample in the range; `None` where there is none.
    fn first_ms(&self, range: TimeRange) -> Option<i64> {
        match self {
            Source::Block(piece, _) => piece.first_ms(range),
            Source::Memory(columns) => View::of(columns).within(range).first_t(),
        }
    }

    /// Whether samples at these times may be some that others stand for: which do is seen when all of them are merged.
    fn may_stand_for(&self, range: TimeRange) -> bool {
        matches!(self, Source::Block(_, Some(aggregated)) if aggregated.overlaps(&range))
    }

    fn read_into(&self, range: TimeRange, out: &mut Columns) -> Result<(), Error> {
        match self {
            Source::Block(piece, _) => piece.read_into(range, out),
            Source::Memory(columns) => {
                append(out, View::of(columns).within(range));
                Ok(())
            }
        }
    }
}

impl Parts {
    /// Appends to `out` what [`SeriesData::outline`] says.
    pub(super) fn outline_into(&self, request: &OutlineRequest<'_>, out: &mut Outline) -> Result<(), SourceError> {
        let range = TimeRange { start_ms: request.range.start_ms.max(self.floor_ms), ..request.range };
        let request = OutlineRequest { range, ..*request };
        let is_enough = |c: &ChunkRef| may_stand(c, &request);
        let pieces = self.parts.iter().filter_map(Part::block);
        if !pieces.flat_map(|piece| &piece.chunks).any(is_enough) {
            self.read(range, &mut out.columns)?;
            out.pad();
            return Ok(());
        }
        let sources: Vec<Source<'_>> =
            self.parts.iter().map(|part| Source::of(part, range)).collect::<Result<_, _>>()?;
        let standing = standing(&sources, &request);
        let mut from = Some(range.start_ms);
        for chunk in standing {
            if let (Some(start_ms), Some(end_ms)) = (from, chunk.range.start_ms.checked_sub(1)) {
                read_between(&sources, TimeRange { start_ms, end_ms }, out)?;
            }
            stand_for(chunk, request.aspect, out);
            from = chunk.range.end_ms.checked_add(1);
        }
        if let Some(start_ms) = from {
            read_between(&sources, TimeRange { start_ms, end_ms: range.end_ms }, out)?;
        }
        Ok(())
    }
}

/// Whether what is known of a chunk is enough, as far as that is seen without other parts of the series.
fn may_stand(chunk: &ChunkRef, request: &OutlineRequest<'_>) -> bool {
    let Some(facts) = chunk.facts else { return false };
    let TimeRange { start_ms, end_ms } = request.range;
    let tells = match request.aspect {
        Aspect::Ends | Aspect::Min | Aspect::Max => true,
        Aspect::Falls => !facts.falls,
        Aspect::Changes => facts.min == facts.max,
        Aspect::Sum => facts.sum.is_some(),
    };
    tells
        && start_ms <= chunk.range.start_ms
        && chunk.range.end_ms <= end_ms
        && !request.edges.iter().any(|edges| edges.part(chunk.range))
}

/// The chunks that stand for themselves, in the order of their times.
fn standing<'a>(sources: &'a [Source<'_>], request: &OutlineRequest<'_>) -> Vec<&'a ChunkRef> {
    let mut all: Vec<&ChunkRef> = Vec::new();
    for (n, source) in sources.iter().enumerate() {
        let Source::Block(piece, _) = source else { continue };
        let others = || sources.iter().enumerate().filter(|(other, _)| *other != n);
        all.extend(piece.chunks.iter().filter(|chunk| {
            may_stand(chunk, request)
                && !piece.cuts.iter().any(|cut| cut.overlaps(&chunk.range))
                && !others().any(|(_, other)| other.overlaps(chunk.range))
                && !sources.iter().any(|source| source.may_stand_for(chunk.range))
        }));
    }
    all.sort_by_key(|chunk| chunk.range.start_ms);
    all
}

/// Appends the samples in a range in which no chunk stands for itself; it may end before it begins.
fn read_between(sources: &[Source<'_>], range: TimeRange, out: &mut Outline) -> Result<(), Error> {
    if range.start_ms > range.end_ms {
        return Ok(());
    }
    let (start, mut scratch) = (out.columns.mark(), Columns::default());
    for source in sources {
        if let Some(first_ms) = source.first_ms(range) {
            read_newer(&mut out.columns, start, Some(first_ms), &mut scratch, |out| source.read_into(range, out))?;
        }
    }
    out.pad();
    Ok(())
}

/// Appends what stands for a chunk.
fn stand_for(chunk: &ChunkRef, asked: Aspect, out: &mut Outline) {
    let (Some(facts), TimeRange { start_ms, end_ms }) = (chunk.facts, chunk.range) else { return };
    let samples = u64::from(chunk.samples);
    let one = match asked {
        Aspect::Min => Some(facts.min),
        Aspect::Max => Some(facts.max),
        Aspect::Sum => facts.sum,
        Aspect::Ends | Aspect::Falls | Aspect::Changes => None,
    };
    if let Some(v) = one {
        out.push(start_ms, v, samples.saturating_sub(1));
    } else if samples == 1 {
        out.push(start_ms, facts.first, 0);
    } else {
        out.push(start_ms, facts.first, samples.saturating_sub(2));
        out.push(end_ms, facts.last, 0);
    }
}
