//! The index of a block: pages that are read when they are needed, and a top that says where they are.
//!
//! Labels are columns: for each name its values in order, and for each series the number of its value. So every text is there once. Values of a name are pages
//! in which each says what differs from the one before it; beside each lies a page of postings. Series are in groups, of which one page has the labels and one the
//! places of chunks. Pages are packed one by one, each with a checksum, and come through a cache of all blocks, so memory is the cache's bound and the tops. The
//! price: what finds bytes that are not what was written is the query that needs them, and no longer the start.

mod ahead;
mod build;
mod expect;
mod group;
mod hashes;
mod order;
mod packed;
mod page;
mod places;
mod postings;
mod tally;
#[cfg(test)]
mod tests;
mod top;
mod values;

use std::sync::Arc;

use bytes::Bytes;
use model::{Labels, LabelsRef, Matcher, push_piece};
use roaring::{MultiOps as _, RoaringBitmap};

use self::ahead::Ahead;
use self::group::{Chunks, each_column};
use self::packed::Packed;
use self::postings::Postings;
use self::top::{Name, NamePage, Top};
use super::cache::{Cache, Page};
use super::{ChunkRef, File, Place};
use crate::Error;
use crate::postings::{Accept, LabelIndex};
pub(super) use build::Builder;
pub(super) use expect::Chunks as Expected;
pub(crate) use group::GROUP;
pub(crate) use order::Order;
pub(crate) use places::Places;
pub(crate) use top::Newest;
pub(crate) use values::Values;

/// Numbers of series after which they are put together to a bitmap, which takes less.
const IDS_MAX: usize = 1 << 20;

/// An index that is open.
pub(crate) struct Index {
    file: Arc<File>,
    cache: Arc<Cache>,
    top: Top,
}

/// What the index says of one series.
pub(crate) struct Entry {
    pub(crate) labels: Labels,
    pub(crate) chunks: Vec<ChunkRef>,
}

/// What is kept from one series to the next while many are read: neighbours share pages and most labels.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    group: Option<Near>,
    /// By the number of the name.
    values: Vec<Known>,
    ahead: Option<Ahead>,
    text: String,
}

/// The pages of a group.
#[derive(Debug)]
struct Near {
    group: usize,
    /// By the numbers of the names.
    labels: Vec<(usize, Packed<Bytes>)>,
    chunks: Chunks,
}

/// A value that was looked up.
#[derive(Debug, Default)]
struct Known {
    number: Option<u32>,
    piece: String,
    /// The page that it was in, by its place among those of the name.
    page: Option<(usize, Arc<Values>)>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({} series, {} bytes in memory)", self.top.series, self.top.bytes())
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.cache.forget(self.file.number);
    }
}

impl Index {
    /// Opens an index of which the top is given as it lies in the file, its checksum right; its pages begin at `at`.
    pub(crate) fn open(file: &Arc<File>, cache: &Arc<Cache>, at: u64, top: &[u8]) -> Result<Index, &'static str> {
        let top = Top::read(&page::unpack(top)?, at)?;
        Ok(Index { file: file.clone(), cache: cache.clone(), top })
    }

    pub(crate) fn series(&self) -> usize {
        self.top.series as usize
    }

    /// The times of a column of the block, which are read if they are not in the cache.
    pub(super) fn times(
        &self,
        place: Place,
        read: impl FnOnce() -> Result<Vec<i64>, Error>,
    ) -> Result<Arc<Vec<i64>>, Error> {
        self.cache.times(self.file.number, place.at, read)
    }

    /// Memory that it takes beside the cache, about.
    pub(crate) fn bytes(&self) -> usize {
        self.top.bytes()
    }

    /// Labels and chunks of a series.
    pub(crate) fn entry(&self, id: u32, memo: &mut Memo) -> Result<Entry, Error> {
        self.put_labels(id, memo)?;
        let labels = LabelsRef::from_canonical(&memo.text).to_labels();
        Ok(Entry { labels, chunks: self.chunks(id, memo)? })
    }

    /// Puts the canonical text of the labels of a series into the memo.
    fn put_labels(&self, id: u32, memo: &mut Memo) -> Result<(), Error> {
        let Memo { group, values, ahead, text } = memo;
        let Near { group, labels, .. } = self.group(id, group)?;
        if let Some(ahead) = ahead {
            self.look_ahead(id, ahead)?;
        }
        let place = &self.top.groups[*group];
        values.resize_with(self.top.names.len(), Known::default);
        text.clear();
        let mut failed = None;
        let read = group::each_label(labels, id as usize % GROUP, |name, number| {
            let found = ahead.as_ref().and_then(|ahead| ahead.get(name, number));
            let (Some(name), Some(known)) = (self.top.names.get(name), values.get_mut(name)) else {
                return Err("number of a label name");
            };
            if let Some(piece) = found {
                text.push_str(&name.piece);
                text.push_str(piece);
                return Ok(());
            }
            if known.number != Some(number)
                && let Err(error) = self.look_up(name, number, known)
            {
                failed = Some(error);
                return Err("a value cannot be read");
            }
            text.push_str(&name.piece);
            text.push_str(&known.piece);
            Ok(())
        });
        if let Some(error) = failed {
            return Err(error);
        }
        read.map_err(|reason| self.file.corrupt(place.labels.at, reason))?;
        Ok(())
    }

    /// The chunks of a series.
    pub(crate) fn chunks(&self, id: u32, memo: &mut Memo) -> Result<Vec<ChunkRef>, Error> {
        let Near { group, chunks, .. } = self.group(id, &mut memo.group)?;
        let chunks = chunks.of(id as usize % GROUP);
        chunks.map_err(|reason| self.file.corrupt(self.top.groups[*group].chunks.at, reason))
    }

    /// The pages of labels and chunks of the group of a series.
    fn group<'m>(&self, id: u32, near: &'m mut Option<Near>) -> Result<&'m Near, Error> {
        let group = id as usize / GROUP;
        let own = match near.take().filter(|near| near.group == group) {
            Some(own) => own,
            None => {
                let places = self.top.groups.get(group).ok_or_else(|| self.file.corrupt(0, "number of a series"))?;
                let (series, mut labels) = (self.group_series(id), Vec::new());
                let was_kept = self.cache.has(self.file.number, places.labels.at);
                let page = self.columns(places.labels)?;
                each_column(&page, series, |name, column| labels.push((name, column.own(&page))))
                    .map_err(|reason| self.file.corrupt(places.labels.at, reason))?;
                let chunks = Chunks::read(&self.columns(places.chunks)?, series)
                    .map_err(|reason| self.file.corrupt(places.chunks.at, reason))?;
                let near = Near { group, labels, chunks };
                if !was_kept {
                    self.expect_labels(&near, id);
                }
                near
            }
        };
        Ok(near.insert(own))
    }

    /// Series of the group of a series.
    fn group_series(&self, id: u32) -> usize {
        (self.series() - id as usize / GROUP * GROUP).min(GROUP)
    }

    /// Gets the value of a number as a piece of a canonical text.
    fn look_up(&self, name: &Name, number: u32, known: &mut Known) -> Result<(), Error> {
        known.number = None;
        let at = name.page_of_number(number);
        let Some(page) = name.pages.get(at).filter(|_| number < name.values) else {
            return Err(self.file.corrupt(0, "number of a label value"));
        };
        let values = match known.page.take().filter(|(place, _)| *place == at) {
            Some((_, values)) => values,
            None => self.values(name, at)?,
        };
        known.piece.clear();
        push_piece(&mut known.piece, values.get((number - page.first) as usize));
        (known.number, known.page) = (Some(number), Some((at, values)));
        Ok(())
    }

    /// What is known of the last samples of series in groups.
    pub(crate) fn newest(&self) -> &[Newest] {
        &self.top.newest
    }

    /// Every label name, with how many values it has, and how many bytes those take with the postings.
    pub(crate) fn label_names(&self) -> impl Iterator<Item = (&str, u32, u64)> {
        let bytes = |page: &NamePage| u64::from(page.values.bytes) + u64::from(page.postings.bytes);
        self.top.names.iter().map(move |n| (n.name.as_str(), n.values, n.pages.iter().map(bytes).sum()))
    }

    /// The values of a label one after the other.
    pub(crate) fn walk(&self, name: &str) -> Walk<'_> {
        Walk { index: self, name: self.name(name), page: 0, values: None, at: 0 }
    }

    /// Every page, as the index says.
    #[cfg(test)]
    pub(crate) fn pages(&self) -> Vec<Place> {
        let groups = self.top.groups.iter().flat_map(|group| [group.labels, group.chunks]);
        let pages = self.top.names.iter().flat_map(|name| &name.pages);
        groups.chain(pages.flat_map(|page| [page.values, page.postings])).collect()
    }

    /// Reads every page.
    #[cfg(test)]
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.pages().into_iter().try_for_each(|place| page::read(&self.file, place).map(drop))
    }

    fn name(&self, name: &str) -> Option<&Name> {
        self.top.names.binary_search_by(|n| n.name.as_str().cmp(name)).ok().map(|at| &self.top.names[at])
    }

    fn columns(&self, place: Place) -> Result<Bytes, Error> {
        let read = || Ok(Page::Columns(page::read(&self.file, place)?.into_boxed_slice().into()));
        match self.cache.get(self.file.number, place.at, read)? {
            Page::Columns(columns) => Ok(columns),
            Page::Values(_) => Err(self.file.corrupt(place.at, "two pages at the same place")),
        }
    }

    fn values(&self, name: &Name, page: usize) -> Result<Arc<Values>, Error> {
        let place = name.pages[page].values;
        let read = || {
            let content = page::read(&self.file, place)?;
            let values = Values::read(&content, name.count(page));
            Ok(Page::Values(Arc::new(values.map_err(|reason| self.file.corrupt(place.at, reason))?)))
        };
        match self.cache.get(self.file.number, place.at, read)? {
            Page::Values(values) => Ok(values),
            Page::Columns(_) => Err(self.file.corrupt(place.at, "two pages at the same place")),
        }
    }

    /// Lets `look` see the postings of a page.
    fn postings<T>(
        &self,
        name: &Name,
        page: usize,
        look: impl FnOnce(&Postings<'_>) -> Result<T, &'static str>,
    ) -> Result<T, Error> {
        let place = name.pages[page].postings;
        let content = self.columns(place)?;
        let found = Postings::read(&content, name.count(page)).and_then(|postings| look(&postings));
        found.map_err(|reason| self.file.corrupt(place.at, reason))
    }
}

/// Goes through the values of a label.
pub(crate) struct Walk<'a> {
    index: &'a Index,
    name: Option<&'a Name>,
    page: usize,
    values: Option<Arc<Values>>,
    at: usize,
}

impl Walk<'_> {
    /// The value that was the next one last; `None` before the first and behind the last.
    fn current(&self) -> Option<&str> {
        let values = self.values.as_ref().filter(|values| 0 < self.at && self.at <= values.len())?;
        Some(values.get(self.at - 1))
    }

    /// The next value.
    pub(crate) fn next(&mut self) -> Result<Option<&str>, Error> {
        let Some(name) = self.name else { return Ok(None) };
        while self.values.as_ref().is_none_or(|values| self.at >= values.len()) {
            if self.page >= name.pages.len() {
                self.values = None;
                return Ok(None);
            }
            self.values = Some(self.index.values(name, self.page)?);
            (self.page, self.at) = (self.page + 1, 0);
        }
        self.at += 1;
        Ok(self.values.as_ref().map(|values| values.get(self.at - 1)))
    }
}

impl LabelIndex for Index {
    fn expect(&self, matchers: &[Matcher]) {
        self.expect_values(matchers);
    }

    fn all(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.top.series);
        all
    }

    fn equal(&self, name: &str, value: &str) -> Result<RoaringBitmap, Error> {
        let Some(name) = self.name(name).filter(|name| !name.pages.is_empty()) else { return Ok(RoaringBitmap::new()) };
        let page = name.page_of(value.as_bytes());
        let Some(at) = self.values(name, page)?.find(value) else { return Ok(RoaringBitmap::new()) };
        self.postings(name, page, |postings| postings.of(at)?.bitmap())
    }

    fn accepted(
        &self,
        name: &str,
        prefix: &str,
        accept: &mut Accept<'_>,
        among: Option<&RoaringBitmap>,
    ) -> Result<RoaringBitmap, Error> {
        let Some(name) = self.name(name) else { return Ok(RoaringBitmap::new()) };
        accept.expect(name.values as usize);
        // Series of one name lie together, so of those of a value mostly few are between the first and the last that are needed.
        let range = among.map_or(0..=u32::MAX, |among| among.min().unwrap_or(0)..=among.max().unwrap_or(0));
        let (mut ids, mut many, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for page in name.page_of(prefix.as_bytes())..name.pages.len() {
            let values = self.values(name, page)?;
            let mut at = values.from(prefix);
            places.clear();
            accept.begin();
            while at < values.len() && values.get(at).starts_with(prefix) {
                if accept.accepts(values.get(at), values.shared(at)) {
                    places.push(at);
                }
                at += 1;
            }
            if !places.is_empty() {
                self.postings(name, page, |postings| {
                    places.iter().try_for_each(|place| postings.of(*place)?.put(range.clone(), &mut ids, &mut many))
                })?;
            }
            if ids.len() >= IDS_MAX {
                many.push(ids.drain(..).collect());
            }
            if at < values.len() {
                break;
            }
        }
        ids.sort_unstable();
        many.push(ids.into_iter().collect());
        Ok(many.union())
    }

    fn names(&self, see: &mut dyn FnMut(&str) -> Result<(), Error>) -> Result<(), Error> {
        self.top.names.iter().try_for_each(|n| see(&n.name))
    }

    fn counts(&self, name: &str, of: &RoaringBitmap, see: &mut dyn FnMut(&str, u64)) -> Result<(), Error> {
        let Some(name) = self.name(name) else { return Ok(()) };
        for page in 0..name.pages.len() {
            let values = self.values(name, page)?;
            self.postings(name, page, |postings| {
                for (at, posted) in postings.each(values.len()).enumerate() {
                    see(values.get(at), posted?.count_among(of)?);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn values(
        &self,
        name: &str,
        among: Option<&RoaringBitmap>,
        wanted: &mut dyn FnMut(&str) -> bool,
        see: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), Error> {
        let Some(name) = self.name(name) else { return Ok(()) };
        for page in 0..name.pages.len() {
            let values = self.values(name, page)?;
            let goes_on = match among {
                None => (0..values.len()).map(|at| values.get(at)).filter(|value| wanted(value)).all(&mut *see),
                Some(among) => self.postings(name, page, |postings| {
                    for at in 0..values.len() {
                        let value = values.get(at);
                        if wanted(value) && postings.has_any(at, among)? && !see(value) {
                            return Ok(false);
                        }
                    }
                    Ok(true)
                })?,
            };
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }
}
