//! Reading: head, frozen head and blocks as one source of series.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use hashbrown::HashMap;
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
use crate::postings::{LabelIndex as _, add_names, each_value};

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

/// Puts the parts of series together, of one source after the other.
struct Assembly<P> {
    series: Vec<(Labels, Vec<P>)>,
    series_max: usize,
    /// Series beyond that.
    over: usize,
    /// How many series there were before this source: those are looked for, and none of a source itself, which has each once.
    before: usize,
    /// Behind the series that was found last. Blocks have them in the same order, and mostly the same ones, so the next of one is the next here too.
    next: usize,
    /// Where series are, by their labels: once one was not the next.
    known: Option<HashMap<Labels, usize>>,
}

impl<P> Assembly<P> {
    fn new(series_max: usize) -> Self {
        Assembly { series: Vec::new(), series_max, over: 0, before: 0, next: 0, known: None }
    }

    fn begin_source(&mut self) {
        (self.before, self.next) = (self.series.len(), 0);
        // With those that the last source was the first to have.
        if let Some(known) = &mut self.known {
            let new = self.series.iter().enumerate().skip(known.len());
            known.extend(new.map(|(at, (labels, _))| (labels.clone(), at)));
        }
    }

    /// Adds parts of a series, newer than all of it that are there.
    fn add(&mut self, labels: Labels, parts: impl IntoIterator<Item = P>) {
        match self.find(&labels) {
            Some(at) => {
                self.series[at].1.extend(parts);
                self.next = at + 1;
            }
            // What there is no room for is only counted.
            None if self.series.len() >= self.series_max => self.over += 1,
            None => self.series.push((labels, parts.into_iter().collect())),
        }
    }

    /// Whether there was room for all so far.
    fn check(&self) -> Result<(), Error> {
        let found = (self.series.len() + self.over) as u64;
        if self.over > 0 { Err(too_many(self.series_max, found)) } else { Ok(()) }
    }

    fn find(&mut self, labels: &Labels) -> Option<usize> {
        if self.before == 0 {
            return None;
        }
        if self.series[..self.before].get(self.next).is_some_and(|(own, _)| own == labels) {
            return Some(self.next);
        }
        let all =
            || self.series[..self.before].iter().enumerate().map(|(at, (labels, _))| (labels.clone(), at)).collect();
        self.known.get_or_insert_with(all).get(labels).copied()
    }
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
                let own = one.labels.canonical().len() + one.current.as_ref().map_or(0, Snapshot::heap_bytes);
                held.grow(SERIES_BYTES + size_of::<Found>() + own)?;
                found.push(one);
                Ok(found.len() <= request.series_max)
            })?;
            Ok(found)
        })?;
        let mut assembly = Assembly::new(request.series_max);
        view.readable(request.range).for_each(|(_, block)| block.index.expect(&request.matchers));
        for (entry, block) in view.readable(request.range) {
            let cuts = Cuts::new(&view.deletes, entry.number(), block);
            let pieces = cuts.and_then(|cuts| block.pieces(request, &cuts, &mut held));
            assembly.begin_source();
            for (labels, piece) in unless_damaged(pieces)?.into_iter().flatten() {
                held.grow(SERIES_BYTES)?;
                assembly.add(labels, [Part::Block(piece)]);
            }
            assembly.check()?;
        }
        assembly.begin_source();
        for Found { labels, frozen, current } in in_head {
            let frozen = frozen.map(|(generation, id)| Part::Frozen(generation, id));
            assembly.add(labels, frozen.into_iter().chain(current.map(Part::Head)));
        }
        assembly.check()?;
        Ok((view, assembly.series, held))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn parts_of_the_same_series_are_together_in_whatever_order_sources_have_them() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut assembly, mut expect) = (Assembly::new(usize::MAX), BTreeMap::<Labels, Vec<usize>>::new());
            for source in 0..random.usize(1..6) {
                let mut own: Vec<usize> = (0..30).filter(|_| random.u8(..4) > 0).collect();
                if random.u8(..3) == 0 {
                    random.shuffle(&mut own);
                }
                assembly.begin_source();
                for n in own {
                    let labels = Labels::new(&[("n", &n.to_string())]).expect("valid");
                    let parts = [source, source + 100];
                    let parts = &parts[..random.usize(1..=2)];
                    expect.entry(labels.clone()).or_default().extend(parts);
                    assembly.add(labels, parts.iter().copied());
                }
            }
            assert_eq!(assembly.series.len(), expect.len(), "{seed}");
            assert_eq!(assembly.series.into_iter().collect::<BTreeMap<_, _>>(), expect, "{seed}");
        }
    }

    #[test]
    fn more_series_than_there_may_be_are_refused() {
        let mut assembly = Assembly::new(2);
        for source in 0..2 {
            assembly.begin_source();
            for n in ["a", "b"] {
                assembly.add(Labels::new(&[("n", n)]).expect("valid"), [source]);
            }
        }
        assembly.add(Labels::new(&[("n", "c")]).expect("valid"), [2]);
        assert!(assembly.check().expect_err("a third one").to_string().contains("more than 2 series: 3 at the least"));
    }
}
