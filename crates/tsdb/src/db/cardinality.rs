//! How many series there are, by the labels that they have: each once, whether it is in the head, in one block or in all.
//!
//! Series have no number that is the same everywhere, so they are told apart by the hash of their labels, which is kept of each while it is counted. Two of
//! ten million have the same one once in some hundred thousand answers. Only indexes are read. The price is that every block's labels are gone through, half a
//! microsecond a series; the gain is that a flush or a merge changes nothing of the answer.

use std::sync::Arc;

use hashbrown::HashSet;
use model::{Cardinality, CardinalityRequest, Labels, LabelsRef, Matcher, SelectRequest, SourceError, Want};

use super::read::unless_damaged;
use super::{Db, View};
use crate::Error;
use crate::deletes::Cuts;
use crate::head::too_many;
use crate::postings::{LabelIndex as _, select_any};

/// What is kept of a series that was counted.
const SERIES_BYTES: usize = 2 * size_of::<u64>();
/// Series between looks at whether anybody waits for the answer.
const LOOK_EVERY: usize = 1024;

/// Counts series.
struct Counting<'a> {
    request: &'a CardinalityRequest,
    seen: HashSet<u64>,
    counted: Cardinality,
    /// Bytes that are not claimed yet.
    bytes: usize,
    looked_at: usize,
}

impl Counting<'_> {
    fn add(&mut self, labels: LabelsRef<'_>, chunks: u64) -> Result<(), Error> {
        self.looked_at += 1;
        if self.looked_at.is_multiple_of(LOOK_EVERY) {
            self.claim()?;
            if self.request.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
        }
        let tally = self.counted.tallies.entry(self.request.classes.of(labels)).or_default();
        tally.chunks += chunks;
        if self.seen.insert(labels.hash64()) {
            self.bytes += SERIES_BYTES + tally.add(labels);
            if self.seen.len() > self.request.series_max {
                return Err(too_many(self.request.series_max));
            }
        }
        Ok(())
    }

    fn claim(&mut self) -> Result<(), Error> {
        Ok(self.request.cancel.claim().take(std::mem::take(&mut self.bytes))?)
    }
}

impl Db {
    /// Counts the series that meet the request. One of which samples are deleted counts as long as a block has it, unless the deletion is of all of that block's time.
    pub fn cardinality(&self, request: &CardinalityRequest) -> Result<Cardinality, SourceError> {
        let request = CardinalityRequest { range: self.clamp(request.range), ..request.clone() };
        let (view, in_head) = self.in_head(&request)?;
        let (seen, counted) = (HashSet::new(), Cardinality::default());
        let mut counting = Counting { request: &request, seen, counted, bytes: 0, looked_at: 0 };
        for labels in &in_head {
            counting.add(labels.as_ref(), 1)?;
        }
        if !in_head.is_empty() {
            let frozen = view.frozen.as_ref().and_then(|frozen| frozen.range());
            frozen.into_iter().chain(self.head.range()).for_each(|range| counting.counted.widen(range));
        }
        drop(in_head);
        for (entry, block) in view.readable(request.range) {
            let found = select_any(&block.index, &request.matcher_sets);
            let Some(ids) = unless_damaged(found)? else { continue };
            let Some(cuts) = unless_damaged(Cuts::new(&view.deletes, entry.number(), block))? else { continue };
            let ids = ids.unwrap_or_else(|| block.index.all()) - cuts.whole(block.range());
            if ids.is_empty() {
                continue;
            }
            // Of a block that turns out to be damaged the series up to there stay counted; the answer says that it is left out.
            unless_damaged(block.index.each_series(&ids, &mut |labels, chunks| counting.add(labels, chunks)))?;
            counting.counted.widen(block.range());
        }
        counting.claim()?;
        Ok(Cardinality { warnings: view.warnings(), ..counting.counted })
    }

    /// The labels of the series of the head that meet the request, some perhaps more than once.
    fn in_head(&self, request: &CardinalityRequest) -> Result<(Arc<View>, Vec<Labels>), Error> {
        let everything: [Vec<Matcher>; 1] = [Vec::new()];
        let sets = if request.matcher_sets.is_empty() { &everything[..] } else { &request.matcher_sets[..] };
        self.with_head(|frozen| {
            let (mut found, mut held) = (Vec::new(), request.cancel.claim().hold());
            for matchers in sets {
                let select = SelectRequest {
                    matchers: matchers.clone(),
                    range: request.range,
                    want: Want::LabelsOnly,
                    series_max: request.series_max,
                    cancel: request.cancel.clone(),
                };
                self.head.find(frozen, &select, &mut |one| {
                    found.push(one.labels);
                    Ok(held.grow(size_of::<Labels>())?)
                })?;
            }
            Ok(found)
        })
    }
}
