//! Exemplars: all in memory, the oldest first over all series, and in one file beside the blocks.
//!
//! There are few of them and never more than a bound, so there is no index, no merging and no block of theirs: a question looks at those of
//! its time, and a flush that finds a change writes all of them anew. The price is a file of some hundred bytes an exemplar with such a flush.
//! The same one twice is one, and which ones stay when there are too many does not depend on the order in which they came, so reading
//! a part of the log again changes nothing.

pub(crate) mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use model::{Exemplar, ExemplarsRequest, Labels, LabelsRef, SeriesExemplars, TimeRange};

use crate::Error;
use crate::deletes::Delete;
use crate::retention::Floors;

/// After how many exemplars a question looks whether it is cancelled.
const LOOK_EVERY: usize = 1 << 12;

/// An exemplar with its series. The order is that of the exemplars.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) exemplar: Exemplar,
    pub(crate) series: Labels,
}

/// The exemplars of an engine.
#[derive(Debug, Default)]
pub(crate) struct Exemplars {
    max: usize,
    all: BTreeSet<Entry>,
    /// How many each series has: so its labels are in memory once.
    series: HashMap<Labels, usize>,
    /// Counts changes.
    version: u64,
    evicted: u64,
}

impl Exemplars {
    /// Keeps at most `max` of them, the newest; none where that is 0.
    pub(crate) fn new(max: usize) -> Self {
        Exemplars { max, ..Exemplars::default() }
    }

    /// Adds exemplars of a series. The oldest of all go where there are too many.
    pub(crate) fn add(&mut self, series: LabelsRef<'_>, exemplars: &[Exemplar]) {
        if self.max == 0 {
            return;
        }
        let series = series.to_labels();
        let series = self.series.get_key_value(&series).map_or(series, |(known, _)| known.clone());
        for exemplar in exemplars {
            if !self.all.insert(Entry { exemplar: exemplar.clone(), series: series.clone() }) {
                continue;
            }
            *self.series.entry(series.clone()).or_default() += 1;
            self.version += 1;
            if self.all.len() > self.max
                && let Some(oldest) = self.all.pop_first()
            {
                self.evicted += 1;
                self.forget(&oldest);
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Of how many series they are.
    pub(crate) fn series(&self) -> usize {
        self.series.len()
    }

    /// How many went since there were too many.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Differs after every change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// All of them, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.all.iter()
    }

    /// Removes those that are expired.
    pub(crate) fn expire(&mut self, floors: &Floors<'_>) {
        let mut known: HashMap<&str, i64> = HashMap::new();
        let mut old = Vec::new();
        for entry in self.all.iter().take_while(|entry| entry.exemplar.t < floors.highest()) {
            let floor = known.entry(entry.series.canonical()).or_insert_with(|| floors.of(entry.series.as_ref()));
            if entry.exemplar.t < *floor {
                old.push(entry.clone());
            }
        }
        drop(known);
        self.remove(&old);
    }

    /// What a deletion takes.
    pub(crate) fn touched(&self, delete: &Delete) -> Vec<Entry> {
        let mut known: HashMap<&str, bool> = HashMap::new();
        let mut touched = Vec::new();
        for entry in self.within(delete.range) {
            let met = known.entry(entry.series.canonical()).or_insert_with(|| delete.meets(entry.series.as_ref()));
            if *met {
                touched.push(entry.clone());
            }
        }
        touched
    }

    /// Removes these, where they are there.
    pub(crate) fn remove(&mut self, entries: &[Entry]) {
        for entry in entries {
            if self.all.remove(entry) {
                self.version += 1;
                self.forget(entry);
            }
        }
    }

    /// Answers a question, by series.
    pub(crate) fn select(
        &self,
        request: &ExemplarsRequest,
        floors: &Floors<'_>,
    ) -> Result<Vec<SeriesExemplars>, Error> {
        // From which time on those of a series are wanted, if they are.
        let mut known: HashMap<&str, Option<i64>> = HashMap::new();
        let mut found: BTreeMap<&Labels, Vec<Exemplar>> = BTreeMap::new();
        let mut count = 0;
        let range = TimeRange { start_ms: request.range.start_ms.max(floors.lowest()), ..request.range };
        for (at, entry) in self.within(range).enumerate() {
            if at % LOOK_EVERY == 0 && request.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let floor = known
                .entry(entry.series.canonical())
                .or_insert_with(|| request.is_of(&entry.series).then(|| floors.of(entry.series.as_ref())));
            if floor.is_none_or(|floor| entry.exemplar.t < floor) {
                continue;
            }
            count += 1;
            if count > request.exemplars_max {
                return Err(Error::Limit(format!("the query finds more than {} exemplars", request.exemplars_max)));
            }
            // With the room that lists have beyond what is in them. Labels are shared with what is kept.
            request.cancel.claim().take(2 * size_of::<Exemplar>())?;
            found.entry(&entry.series).or_default().push(entry.exemplar.clone());
        }
        let found = found.into_iter();
        Ok(found.map(|(series, exemplars)| SeriesExemplars { series: series.clone(), exemplars }).collect())
    }

    /// Those of a time.
    fn within(&self, range: TimeRange) -> impl Iterator<Item = &Entry> {
        // Nothing comes before this at its time.
        let lowest = f64::from_bits(u64::MAX);
        let exemplar = Exemplar { t: range.start_ms, v: lowest, labels: Labels::empty() };
        let from = Entry { exemplar, series: Labels::empty() };
        self.all.range(from..).take_while(move |entry| entry.exemplar.t <= range.end_ms)
    }

    fn forget(&mut self, entry: &Entry) {
        let Some(count) = self.series.get_mut(&entry.series) else { return };
        *count -= 1;
        if *count == 0 {
            self.series.remove(&entry.series);
        }
    }
}
