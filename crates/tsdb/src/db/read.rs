//! Reading: head, frozen head and blocks as one source of series.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::{
    Columns, Labels, LabelsRequest, Metadata, SelectRequest, Series, SeriesData, SeriesSet, SeriesSource, SourceError,
    TimeRange,
};

use super::{Db, View, lock};
use crate::Error;
use crate::block::Piece;
use crate::head::{Head, Snapshot, merge_newer, too_many};
use crate::postings::{add_names, add_values};

/// What one source has of a series.
#[derive(Debug)]
enum Part {
    Block(Piece),
    Head(Snapshot),
}

impl Part {
    fn read_into(&self, range: TimeRange, out: &mut Columns) -> Result<(), Error> {
        match self {
            Part::Block(piece) => piece.read_into(range, out),
            Part::Head(snapshot) => snapshot.read_into(range, out),
        }
    }
}

/// The parts of a series, from the oldest written to the newest.
struct Parts {
    parts: Vec<Part>,
    floor_ms: i64,
}

impl SeriesData for Parts {
    fn read(&self, range: TimeRange, out: &mut Columns) -> Result<(), SourceError> {
        let range = TimeRange { start_ms: range.start_ms.max(self.floor_ms), end_ms: range.end_ms };
        let start = out.len();
        let mut piece = Columns::default();
        for (n, part) in self.parts.iter().enumerate() {
            if n == 0 {
                part.read_into(range, out)?;
                continue;
            }
            piece.clear();
            part.read_into(range, &mut piece)?;
            merge_newer(out, start, &piece);
        }
        Ok(())
    }
}

impl Db {
    /// The head and what is beside it, as of one moment.
    fn sources(&self) -> (Arc<Head>, Arc<View>) {
        // The head is held while the view is taken, so that no flush comes in between and nothing is seen twice or not at all.
        let head = self.head.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        (head.clone(), self.view())
    }

    fn clamp(&self, range: TimeRange) -> TimeRange {
        TimeRange { start_ms: range.start_ms.max(self.floor_ms.load(Ordering::Relaxed)), end_ms: range.end_ms }
    }

    fn find(&self, request: &SelectRequest, view: &View, head: &Head) -> Result<Vec<(Labels, Vec<Part>)>, Error> {
        let mut found: HashMap<Labels, usize> = HashMap::new();
        let mut out: Vec<(Labels, Vec<Part>)> = Vec::new();
        let mut add = |labels: Labels, part: Part| {
            match found.entry(labels) {
                Entry::Occupied(at) => out[*at.get()].1.push(part),
                Entry::Vacant(slot) => {
                    out.push((slot.key().clone(), vec![part]));
                    slot.insert(out.len() - 1);
                }
            }
            if out.len() > request.series_max { Err(too_many(request.series_max)) } else { Ok(()) }
        };
        for (_, block) in view.blocks.iter().filter(|(_, b)| b.range().overlaps(&request.range)) {
            for (labels, piece) in block.pieces(request)? {
                add(labels, Part::Block(piece))?;
            }
        }
        for head in view.frozen.as_deref().into_iter().chain([head]) {
            for (labels, snapshot) in head.snapshots(request)? {
                add(labels, Part::Head(snapshot))?;
            }
        }
        Ok(out)
    }
}

impl SeriesSource for Db {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        let (head, view) = self.sources();
        let floor_ms = self.floor_ms.load(Ordering::Relaxed);
        let request = SelectRequest { range: self.clamp(request.range), ..request.clone() };
        let found = self.find(&request, &view, &head)?;
        let series =
            found.into_iter().map(|(labels, parts)| Series { labels, data: Box::new(Parts { parts, floor_ms }) });
        Ok(SeriesSet { series: series.collect(), warnings: view.warnings.clone() })
    }

    fn label_names(&self, request: &LabelsRequest) -> Result<Vec<String>, SourceError> {
        let (head, view) = self.sources();
        let request = LabelsRequest { range: self.clamp(request.range), ..request.clone() };
        let mut names = BTreeSet::new();
        for (_, block) in view.blocks.iter().filter(|(_, b)| b.range().overlaps(&request.range)) {
            add_names(&block.index, &request.matcher_sets, &mut names);
        }
        for head in view.frozen.as_deref().into_iter().chain([&*head]) {
            head.add_label_names(&request, &mut names);
        }
        Ok(names.into_iter().collect())
    }

    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Vec<String>, SourceError> {
        let (head, view) = self.sources();
        let request = LabelsRequest { range: self.clamp(request.range), ..request.clone() };
        let mut values = BTreeSet::new();
        for (_, block) in view.blocks.iter().filter(|(_, b)| b.range().overlaps(&request.range)) {
            add_values(&block.index, name, &request.matcher_sets, &mut values);
        }
        for head in view.frozen.as_deref().into_iter().chain([&*head]) {
            head.add_label_values(name, &request, &mut values);
        }
        Ok(values.into_iter().collect())
    }

    fn metadata(&self, family: Option<&str>) -> Result<Vec<Metadata>, SourceError> {
        let known = lock(&self.metadata);
        Ok(known.iter().filter(|m| family.is_none_or(|family| m.family == family)).cloned().collect())
    }
}
