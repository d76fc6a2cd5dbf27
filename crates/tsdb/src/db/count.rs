//! Counting series by indexes alone.
//!
//! Where no series can be in two places that have samples in the range, the postings of each place are counted. Series of several blocks are told apart by
//! their order ([`super::orders`]) where it is worth to have one; else, as those of the head are from those of blocks, by hashes of their labels, as in
//! [`crate::tally`]. Of each its newest sample counts; only of those that ended in one of the places are times compared. Whoever counts over several storages,
//! of which more than one may have a series, is given these hashes and the newest samples ([`Db::newest`]) and does the same between them.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::{CountRequest, Held, LabelsRef, SeriesCounts, SourceError};
use rayon::prelude::*;
use roaring::{MultiOps as _, RoaringBitmap};

use super::orders::Ordered;
use super::read::unless_damaged;
use super::{Db, Named, View};
use crate::Error;
use crate::block::{Block, Memo};
use crate::deletes::Cuts;
use crate::manifest::BlockEntry;
use crate::postings::{add_counts, select};
use crate::tally::labels_hash;

/// What is kept of a series.
const SERIES_BYTES: usize = 2 * size_of::<(u64, Known)>();
/// Series between looks at whether anybody waits for the answer.
const LOOK_EVERY: usize = 1024;

/// The newest samples of series that meet a count, each series once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewestSamples {
    /// The values of the label by which it is counted, each once; empty for series without it.
    pub groups: Vec<String>,
    /// In no order.
    pub series: Vec<Newest>,
    /// As in [`model::SeriesSet::warnings`].
    pub warnings: Vec<String>,
}

/// The newest sample of a series in the range of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// The sum of the hashes of its labels, the same in every storage.
    pub hash: u64,
    /// Unix milliseconds.
    pub t: i64,
    /// The place of its value among the groups.
    pub group: u32,
    /// Whether it is no stale marker.
    pub is_live: bool,
}

/// The newest sample of a series that is known.
#[derive(Debug, Clone, Copy)]
struct Known {
    t: i64,
    group: u32,
    is_live: bool,
    /// What the head has was written later.
    is_of_head: bool,
}

/// Of which series it has to be known when their newest samples are, and not only that these are in the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    /// Of none, unless some have ended. Where some series are in the head it was not looked yet whether blocks have an order.
    WhereSeriesEnded {
        in_head: bool,
    },
    OfAll,
}

/// The series that were met.
struct Apart<'a> {
    request: &'a CountRequest,
    series: HashMap<u64, Known>,
    groups: Vec<String>,
    numbers: HashMap<String, u32>,
    held: Held,
}

impl Apart<'_> {
    /// The number of a value of the label.
    fn group(groups: &mut Vec<String>, numbers: &mut HashMap<String, u32>, value: &str) -> u32 {
        if let Some(number) = numbers.get(value) {
            return *number;
        }
        let number = groups.len() as u32;
        groups.push(value.to_owned());
        numbers.insert(value.to_owned(), number);
        number
    }

    fn see(series: &mut HashMap<u64, Known>, hash: u64, new: Known) {
        match series.entry(hash) {
            Entry::Vacant(slot) => {
                slot.insert(new);
            }
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                if new.t > known.t || new.t == known.t && !known.is_of_head {
                    *known = new;
                }
            }
        }
    }

    fn see_labels(&mut self, labels: LabelsRef<'_>, t: i64, is_live: bool) -> Result<(), Error> {
        let value = self.request.by.as_deref().and_then(|name| labels.get(name)).unwrap_or("");
        let group = Self::group(&mut self.groups, &mut self.numbers, value);
        Self::see(&mut self.series, labels_hash(labels), Known { t, group, is_live, is_of_head: true });
        self.look()
    }

    /// Holds what was met, and looks whether anybody waits.
    fn look(&mut self) -> Result<(), Error> {
        if self.series.len().is_multiple_of(LOOK_EVERY) {
            self.held.grow_to(self.series.len() * SERIES_BYTES)?;
            if self.request.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }

    /// Meets the series of a block. Whether their newest samples are known.
    fn block(&mut self, of: &InBlock, is_exact: bool) -> Result<bool, Error> {
        let ids = if is_exact { &of.live | &of.ended } else { of.live.clone() };
        let (range, mut memo, mut is_known) = (self.request.range, Memo::default(), true);
        let claim = self.request.cancel.claim().clone();
        let Apart { request, series, groups, numbers, held } = self;
        let mut seen = 0usize;
        of.block.index.each_hash(
            &ids,
            request.by.as_deref(),
            &claim,
            &mut |value| Self::group(groups, numbers, value),
            &mut |id, hash, group| {
                let newest = match is_exact {
                    true => of.block.newest(id, range, &mut memo)?,
                    false => Some(Some((range.start_ms, true))),
                };
                match newest {
                    Some(Some((t, is_live))) => {
                        Self::see(series, hash, Known { t, group, is_live, is_of_head: false });
                    }
                    Some(None) => {}
                    None => is_known = false,
                }
                seen += 1;
                if seen.is_multiple_of(LOOK_EVERY) {
                    held.grow_to(series.len() * SERIES_BYTES)?;
                    if request.cancel.is_cancelled() {
                        return Err(Error::Cancelled);
                    }
                }
                Ok(())
            },
        )?;
        Ok(is_known)
    }

    fn counts(self) -> Vec<(String, u64)> {
        let mut counts = vec![0u64; self.groups.len()];
        for known in self.series.values().filter(|known| known.is_live) {
            counts[known.group as usize] += 1;
        }
        self.groups.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}

/// The series of a block that meet the request and have samples in the range: those of which the newest is no stale marker, and the others.
struct InBlock {
    number: u64,
    block: Arc<Block>,
    live: RoaringBitmap,
    ended: RoaringBitmap,
}

impl Db {
    /// How many series have a newest sample in the range, as [`model::SeriesSource::count`]; `None` where they have to be read.
    pub(super) fn count_series(&self, request: &CountRequest) -> Result<Option<SeriesCounts>, SourceError> {
        let Some(request) = self.countable(request)? else { return Ok(None) };
        let mut counts = HashMap::new();
        let (view, in_head) = self.with_head(|frozen| self.head.count(frozen, &request, &mut counts))?;
        let Some(in_head) = in_head else { return Ok(None) };
        let Some(blocks) = in_blocks(&view, &request)? else { return Ok(None) };
        if in_head && !blocks.is_empty() {
            return Ok(self.count_apart(&request, in_head)?);
        }
        let Some(lives) = unless_damaged(self.each_once(&blocks, &request))? else { return Ok(None) };
        let Some(lives) = lives else { return Ok(self.count_apart(&request, in_head)?) };
        for (own, live) in blocks.iter().zip(lives) {
            let added = add_counts(&own.block.index, request.by.as_deref(), &live, &mut counts);
            if unless_damaged(added)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(SeriesCounts { groups: counts.into_iter().collect(), warnings: view.warnings() }))
    }

    /// Of each block the series that are live, each of them of one block only; `None` where that is not known.
    fn each_once(&self, blocks: &[InBlock], request: &CountRequest) -> Result<Option<Vec<RoaringBitmap>>, Error> {
        if blocks.len() < 2 {
            return Ok(Some(blocks.iter().map(|own| own.live.clone()).collect()));
        }
        let asked = blocks.iter().map(|own| own.live.len() + own.ended.len()).sum();
        let of: Vec<(u64, &Block)> = blocks.iter().map(|own| (own.number, &*own.block)).collect();
        let ordered = self.orders.of(&of, asked, &request.cancel)?;
        ordered.map_or(Ok(None), |ordered| in_one_block(blocks, &ordered, request))
    }

    /// The newest samples in the range of the series that meet a count, told apart by hashes of their labels; `None` where [`model::SeriesSource::count`] is.
    pub fn newest(&self, request: &CountRequest) -> Result<Option<NewestSamples>, SourceError> {
        let Some(request) = self.countable(request)? else { return Ok(None) };
        let Some((apart, warnings)) = self.apart(&request, Times::OfAll)? else { return Ok(None) };
        let Apart { series, groups, held, .. } = apart;
        // Until the answer is done with.
        held.keep();
        let newest = |(hash, Known { t, group, is_live, .. })| Newest { hash, t, group, is_live };
        Ok(Some(NewestSamples { groups, series: series.into_iter().map(newest).collect(), warnings }))
    }

    /// The request over what has not expired; `None` where that is not the same for all series.
    fn countable(&self, request: &CountRequest) -> Result<Option<CountRequest>, Error> {
        if request.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let range = self.clamp(request.range);
        Ok(self.floors().is_one().then(|| CountRequest { range, ..request.clone() }))
    }

    /// Counts series that may be in several places, each once. Where some are in the head it is not known yet whether blocks have an order.
    fn count_apart(&self, request: &CountRequest, in_head: bool) -> Result<Option<SeriesCounts>, Error> {
        let apart = self.apart(request, Times::WhereSeriesEnded { in_head })?;
        Ok(apart.map(|(apart, warnings)| SeriesCounts { groups: apart.counts(), warnings }))
    }

    /// The series that may be in several places, and warnings.
    fn apart<'a>(&self, request: &'a CountRequest, times: Times) -> Result<Option<(Apart<'a>, Vec<String>)>, Error> {
        let held = request.cancel.claim().hold();
        let (series, groups, numbers) = (HashMap::new(), Vec::new(), HashMap::new());
        let mut apart = Apart { request, series, groups, numbers, held };
        let mut is_exact = times == Times::OfAll;
        let (view, is_told) = self.with_head(|frozen| {
            self.head.newest(frozen, request, &mut |labels, t, is_live| {
                is_exact |= !is_live;
                apart.see_labels(labels, t, is_live)
            })
        })?;
        let Some(blocks) = in_blocks(&view, request)?.filter(|_| is_told) else { return Ok(None) };
        let mut blocks = blocks;
        is_exact |= blocks.iter().any(|own| !own.ended.is_empty());
        if times == (Times::WhereSeriesEnded { in_head: true }) && !is_exact {
            let Some(lives) = unless_damaged(self.each_once(&blocks, request))? else { return Ok(None) };
            blocks.iter_mut().zip(lives.into_iter().flatten()).for_each(|(own, live)| own.live = live);
        }
        for own in blocks {
            if unless_damaged(apart.block(&own, is_exact))? != Some(true) {
                return Ok(None);
            }
        }
        Ok(Some((apart, view.warnings())))
    }
}

/// Of each block, from the oldest to the newest, the series that are live, each of them of one block only. `None` where series have to be read.
fn in_one_block(
    blocks: &[InBlock],
    ordered: &Ordered,
    request: &CountRequest,
) -> Result<Option<Vec<RoaringBitmap>>, Error> {
    let widened = |of: fn(&InBlock) -> &RoaringBitmap| -> Vec<RoaringBitmap> {
        blocks.iter().enumerate().map(|(at, own)| ordered.places(at).widen(of(own))).collect()
    };
    let (lives, ended) = (widened(|own| &own.live), widened(|own| &own.ended).union());
    let mut rest = lives.as_slice().union();
    let mut memos: Vec<Memo> = blocks.iter().map(|_| Memo::default()).collect();
    // What ended in a block and is live in another one, or not: the newest sample tells.
    for (n, place) in (&rest & &ended).iter().enumerate() {
        if n.is_multiple_of(LOOK_EVERY) && request.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let mut newest = None;
        for (at, own) in blocks.iter().enumerate() {
            let id = ordered.places(at).find(place).filter(|id| own.live.contains(*id) || own.ended.contains(*id));
            let Some(id) = id else { continue };
            match own.block.newest(id, request.range, &mut memos[at])? {
                Some(Some((t, is_live))) if newest.is_none_or(|(known, _)| t >= known) => newest = Some((t, is_live)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
        if newest.is_none_or(|(_, is_live)| !is_live) {
            rest.remove(place);
        }
    }
    let own = |(at, live): (usize, RoaringBitmap)| {
        let own = &rest & live;
        rest -= &own;
        ordered.places(at).narrow(&own)
    };
    Ok(Some(lives.into_iter().enumerate().map(own).collect()))
}

/// What the blocks have of the request, those that have anything. `None` where series have to be read. On a thread of a pool the others of it help.
fn in_blocks(view: &View, request: &CountRequest) -> Result<Option<Vec<InBlock>>, Error> {
    // What was left out of windows that are longer than the range may be the newest.
    if view.resolution_ms(request.range) > request.range.end_ms.saturating_sub(request.range.start_ms) {
        return Ok(None);
    }
    let readable: Vec<&Named> = view.readable(request.range).collect();
    // One that cannot tell ends it, as an error does.
    let look = |(entry, block): &&Named| {
        let told = unless_damaged(in_block(entry, block, view, request)).map_err(Some)?;
        told.flatten().ok_or(None)
    };
    let told: Result<Vec<InBlock>, Option<Error>> = match rayon::current_thread_index() {
        Some(_) => readable.par_iter().map(look).collect(),
        None => readable.iter().map(look).collect(),
    };
    match told {
        Ok(all) => Ok(Some(all.into_iter().filter(|own| !own.live.is_empty() || !own.ended.is_empty()).collect())),
        Err(None) => Ok(None),
        Err(Some(error)) => Err(error),
    }
}

/// What a block has of the request. `None` where its series have to be read.
fn in_block(
    entry: &BlockEntry,
    block: &Arc<Block>,
    view: &View,
    request: &CountRequest,
) -> Result<Option<InBlock>, Error> {
    let ids = select(&block.index, &request.matchers)?;
    if !Cuts::new(&view.deletes, entry.number(), block)?.is_empty() {
        return Ok(None);
    }
    let told = block.live(ids, request.range, &request.cancel)?;
    Ok(told.map(|(live, ended)| InBlock { number: entry.number(), block: block.clone(), live, ended }))
}
