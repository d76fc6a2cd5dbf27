//! Values of the series that come next, for whoever reads all series one after the other.
//!
//! Series that lie together have values of a label that lie apart, where each has its own, and the pages of those need not fit into the cache. So they are looked
//! up for many series at once, in the order of the values: each page is read once for all of them. The price is memory for their text.

use super::group::{self, GROUP};
use super::top::Name;
use super::{Index, Memo};
use crate::Error;

/// Groups whose values are looked up at once: of a million series with values of their own each page is read thirty times, of which one takes some ten
/// microseconds, and the text is two megabytes for each such label.
const GROUPS: usize = 32;
/// Text that is kept; what is beyond is looked up when it is needed.
const TEXT_MAX: usize = 64 << 20;
/// Of fewer values the one that was looked up last is mostly the one that is needed next.
const VALUES_MIN: usize = 256;

/// Values that were looked up ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The group after the last one that is looked up.
    end: usize,
    /// For each name the numbers of values in ascending order, each with its place in the text.
    names: Vec<Vec<(u32, u32, u32)>>,
    /// Pieces of canonical texts.
    text: String,
}

impl Ahead {
    /// What it takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        let names = self.names.iter().map(|values| values.capacity() * size_of::<(u32, u32, u32)>());
        self.text.capacity() + names.sum::<usize>()
    }

    /// A value of a name, if it was looked up.
    pub(super) fn get(&self, name: usize, number: u32) -> Option<&str> {
        let values = self.names.get(name)?;
        let (_, from, to) = values[values.binary_search_by_key(&number, |(number, ..)| *number).ok()?];
        self.text.get(from as usize..to as usize)
    }
}

impl Memo {
    /// For reading all series one after the other.
    pub(crate) fn ahead() -> Memo {
        Memo { ahead: Some(Ahead::default()), ..Memo::default() }
    }

    /// What it takes beside pages that a cache has too, about, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let pieces = self.values.iter().map(|known| known.piece.capacity()).sum::<usize>();
        self.text.capacity() + pieces + self.ahead.as_ref().map_or(0, Ahead::memory)
    }
}

impl Index {
    /// Looks up what the series needs and those after it, unless that was done.
    pub(super) fn look_ahead(&self, id: u32, ahead: &mut Ahead) -> Result<(), Error> {
        let from = id as usize / GROUP;
        if from < ahead.end && from + GROUPS >= ahead.end {
            return Ok(());
        }
        let groups = self.top.groups.get(from..).unwrap_or_default();
        let groups = &groups[..groups.len().min(GROUPS)];
        let mut numbers: Vec<Vec<u32>> = vec![Vec::new(); self.top.names.len()];
        for (group, at) in groups.iter().zip(from..) {
            let content = self.columns(group.labels)?;
            let series = self.group_series((at * GROUP) as u32);
            let mut columns = Vec::new();
            let read = group::each_column(&content, series, |name, column| columns.push((name, column)));
            let read = read.and_then(|()| {
                (0..series).try_for_each(|one| {
                    group::each_label(&columns, one, |name, number| {
                        let own = numbers.get_mut(name).ok_or("number of a label name")?;
                        if own.last() != Some(&number) {
                            own.push(number);
                        }
                        Ok(())
                    })
                })
            });
            read.map_err(|reason| self.file.corrupt(group.labels.at, reason))?;
        }
        ahead.text.clear();
        ahead.names.clear();
        for (name, mut own) in self.top.names.iter().zip(numbers) {
            own.sort_unstable();
            own.dedup();
            let is_many = own.len() >= VALUES_MIN;
            ahead.names.push(if is_many { self.texts(name, &own, &mut ahead.text)? } else { Vec::new() });
        }
        ahead.end = from + groups.len();
        Ok(())
    }

    /// Appends the values of these numbers, which ascend.
    fn texts(&self, name: &Name, numbers: &[u32], text: &mut String) -> Result<Vec<(u32, u32, u32)>, Error> {
        let mut out = Vec::with_capacity(numbers.len());
        let mut page = None;
        for number in numbers {
            if text.len() >= TEXT_MAX {
                break;
            }
            let at = name.page_of_number(*number);
            if page.as_ref().is_none_or(|(known, _)| *known != at) {
                if *number >= name.values {
                    return Err(self.file.corrupt(0, "number of a label value"));
                }
                page = Some((at, self.values(name, at)?));
            }
            let Some((at, values)) = &page else { continue };
            let from = text.len() as u32;
            model::push_piece(text, values.get((*number - name.pages[*at].first) as usize));
            out.push((*number, from, text.len() as u32));
        }
        Ok(out)
    }
}
