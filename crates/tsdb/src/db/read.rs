//! Reading: head, frozen head and blocks as one source of series.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::{
    Columns, CountRequest, Held, Labels, LabelsRequest, Listing, Metadata, Outline, OutlineRequest, SelectRequest,
    Series, SeriesCounts, SeriesData, SeriesSet, SeriesSource, SourceError, TimeRange,
};

use super::{Db, Named, View, lock};
use crate::Error;
use crate::block::Piece;
use crate::changes::Changed;
use crate::columns::read_newer;
use crate::deletes::Cuts;
use crate::head::{Found, Frozen, Generation, Snapshot, too_many};
use crate::postings::{add_names, each_value};

/// What one source has of a series.
#[derive(Debug)]
pub(super) enum Part {
    Block(Piece),
    Frozen(Arc<Generation>, u32),
    Head(Snapshot),
}

/// A series with its parts, from the oldest written to the newest.
type Assembled = (Labels, Vec<Part>);

impl Part {
    /// If it is one of a block.
    pub(super) fn block(&self) -> Option<&Piece> {
        if let Part::Block(piece) = self { Some(piece) } else { None }
    }

    pub(super) fn read_into(&self, range: TimeRange, out: &mut Columns) -> Result<(), Error> {
        match self {
            Part::Block(piece) => piece.read_into(range, out),
            Part::Frozen(generation, id) => generation.get(*id).map_or(Ok(()), |buffer| buffer.read_into(range, out)),
            Part::Head(snapshot) => snapshot.read_into(range, out),
        }
    }
}

/// The parts of a series, from the oldest written to the newest.
pub(super) struct Parts {
    pub(super) parts: Vec<Part>,
    pub(super) floor_ms: i64,
    /// The memory of all series of the answer.
    _held: Arc<Held>,
}

/// What a series costs an answer beside its parts: its entries in the table and the list, and its data.
const SERIES_BYTES: usize = 160;

impl SeriesData for Parts {
    fn read(&self, range: TimeRange, out: &mut Columns) -> Result<(), SourceError> {
        let range = TimeRange { start_ms: range.start_ms.max(self.floor_ms), end_ms: range.end_ms };
        let start = out.mark();
        let mut scratch = Columns::default();
        for part in &self.parts {
            let first_ms = part.block().and_then(|piece| piece.first_ms(range));
            read_newer(out, start, first_ms, &mut scratch, |out| part.read_into(range, out))?;
        }
        Ok(())
    }

    fn outline(&self, request: &OutlineRequest<'_>, out: &mut Outline) -> Result<(), SourceError> {
        self.outline_into(request, out)
    }
}

fn check(request: &LabelsRequest) -> Result<(), Error> {
    if request.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
}

/// What was read of a block's index; `None` where that turned out to be damaged: answers are given without the block and say so.
pub(super) fn unless_damaged<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Err(Error::Corrupt { .. }) => Ok(None),
        read => read.map(Some),
    }
}

impl View {
    /// The blocks that may have a sample in the range and are not found damaged, from the oldest written to the newest.
    pub(super) fn readable(&self, range: TimeRange) -> impl Iterator<Item = &Named> {
        self.blocks.iter().filter(move |(_, block)| !block.is_damaged() && block.range().overlaps(&range))
    }

    /// The longest windows out of which samples of a range were left, or of as long before it.
    pub(super) fn resolution_ms(&self, range: TimeRange) -> i64 {
        let of = |(entry, block): &Named| {
            let length = i64::from(entry.resolution_ms);
            let since = TimeRange { start_ms: range.start_ms.saturating_sub(length), end_ms: range.end_ms };
            if block.range().overlaps(&since) { length } else { 0 }
        };
        self.blocks.iter().map(of).max().unwrap_or(0)
    }

    /// What an answer says of the blocks that it leaves out.
    pub(super) fn warnings(&self) -> Vec<String> {
        let damaged = self.blocks.iter().filter(|(_, block)| block.is_damaged());
        let damaged = damaged.map(|(entry, _)| format!("block {} is damaged and left out", entry.name));
        self.quarantined.iter().map(|(_, warning)| warning.clone()).chain(damaged).collect()
    }
}

impl Db {
    /// What of a range changed after a version of it, of the series of some names, or of all: samples that were appended, deleted, expired, brought from
    /// elsewhere or left out. A version is of this engine alone, since it was opened.
    pub fn changed_since(&self, version: u64, names: Option<&[String]>, range: TimeRange) -> Changed {
        self.changes.since(version, names, range)
    }

    pub(super) fn clamp(&self, range: TimeRange) -> TimeRange {
        TimeRange { start_ms: range.start_ms.max(self.floors().lowest()), end_ms: range.end_ms }
    }

    /// What is seen of one moment: the view, and what `look` finds in the head while no generation begins.
    pub(super) fn with_head<T>(
        &self,
        look: impl FnOnce(Option<&Frozen>) -> Result<T, Error>,
    ) -> Result<(Arc<View>, T), Error> {
        let _one_moment = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let view = self.view();
        let found = look(view.frozen.as_deref())?;
        Ok((view, found))
    }

    /// Series with what is known of them, and the memory that this takes.
    fn find(&self, request: &SelectRequest) -> Result<(Arc<View>, Vec<Assembled>, Held), Error> {
        let mut held = request.cancel.claim().hold();
        let (view, in_head) = self.with_head(|frozen| {
            let mut found = Vec::new();
            self.head.find(frozen, request, &mut |one| {
                held.grow(SERIES_BYTES + size_of::<Found>() + one.current.as_ref().map_or(0, Snapshot::heap_bytes))?;
                found.push(one);
                if found.len() > request.series_max { Err(too_many(request.series_max)) } else { Ok(()) }
            })?;
            Ok(found)
        })?;
        let mut out: Vec<Assembled> = Vec::with_capacity(in_head.len());
        // What is in one place only needs not be put together.
        let is_one_place = in_head.is_empty() && view.readable(request.range).nth(1).is_none();
        let mut known: HashMap<Labels, usize> = HashMap::with_capacity(in_head.len());
        let mut add = |labels: Labels, part: Part| {
            if is_one_place {
                out.push((labels, vec![part]));
                return Ok(());
            }
            match known.entry(labels) {
                Entry::Occupied(at) => out[*at.get()].1.push(part),
                Entry::Vacant(slot) => {
                    out.push((slot.key().clone(), vec![part]));
                    slot.insert(out.len() - 1);
                }
            }
            if out.len() > request.series_max { Err(too_many(request.series_max)) } else { Ok(()) }
        };
        for (entry, block) in view.readable(request.range) {
            let cuts = Cuts::new(&view.deletes, entry.number(), block);
            let pieces = cuts.and_then(|cuts| block.pieces(request, &cuts, &mut held));
            for (labels, piece) in unless_damaged(pieces)?.into_iter().flatten() {
                held.grow(SERIES_BYTES)?;
                add(labels, Part::Block(piece))?;
            }
        }
        for Found { labels, frozen, current } in in_head {
            if let Some((generation, id)) = frozen {
                add(labels.clone(), Part::Frozen(generation, id))?;
            }
            if let Some(snapshot) = current {
                add(labels, Part::Head(snapshot))?;
            }
        }
        Ok((view, out, held))
    }
}

impl SeriesSource for Db {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        let floors = self.floors();
        let request = SelectRequest { range: self.clamp(request.range), ..request.clone() };
        let (view, found, held) = self.find(&request)?;
        let held = Arc::new(held);
        let series = found.into_iter().filter_map(|(labels, parts)| {
            let floor_ms = floors.of(labels.as_ref());
            (floor_ms <= request.range.end_ms)
                .then(|| Series { labels, data: Box::new(Parts { parts, floor_ms, _held: held.clone() }) })
        });
        let resolution_ms = view.resolution_ms(request.range);
        Ok(SeriesSet { series: series.collect(), warnings: view.warnings(), resolution_ms })
    }

    fn count(&self, request: &CountRequest) -> Result<Option<SeriesCounts>, SourceError> {
        self.count_series(request)
    }

    fn label_names(&self, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        let request = LabelsRequest { range: self.clamp(request.range), ..request.clone() };
        let (view, mut names) = self.with_head(|frozen| {
            let mut names = BTreeSet::new();
            self.head.add_label_names(frozen, &request, &mut names)?;
            Ok(names)
        })?;
        for (_, block) in view.readable(request.range) {
            check(&request)?;
            unless_damaged(add_names(&block.index, &request.matcher_sets, &mut names))?;
        }
        Ok(Listing { items: names.into_iter().collect(), warnings: view.warnings() })
    }

    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        let request = LabelsRequest { range: self.clamp(request.range), ..request.clone() };
        let (view, in_head) = self.with_head(|frozen| self.head.label_values_of(name, frozen, &request))?;
        let mut values: Vec<String> = in_head.into_iter().collect();
        values.sort_unstable();
        for (_, block) in view.readable(request.range) {
            check(&request)?;
            let (mut new, mut enough, mut known) = (Vec::new(), Ok(()), values.iter().peekable());
            // A block lists them in order, and most are those that were found before.
            let mut wanted = |value: &str| {
                while known.next_if(|known| known.as_str() < value).is_some() {}
                known.peek().is_none_or(|known| *known != value)
            };
            let mut see = |value: &str| {
                if enough.is_ok() {
                    enough = request.cancel.claim().take(value.len() + size_of::<String>());
                    new.push(value.to_owned());
                }
            };
            let found = each_value(&block.index, name, &request.matcher_sets, &mut wanted, &mut see);
            let is_whole = unless_damaged(found)?.is_some();
            enough.map_err(Error::from)?;
            if is_whole && values.is_empty() {
                values = new;
            } else if is_whole && !new.is_empty() {
                // Two runs, which are merged.
                values.append(&mut new);
                values.sort();
            }
        }
        Ok(Listing { items: values, warnings: view.warnings() })
    }

    fn metadata(&self, family: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        Ok(lock(&self.families).of(family).into())
    }
}
