//! What is known of metric families, and when it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use model::{Cancel, Labels, LabelsRequest, METRIC_NAME, Metadata, SeriesSource as _, TimeRange};

use super::{Db, lock};
use crate::families::names;

impl Db {
    /// Forgets what was not said for as long as samples are kept, unless it is the last word on a family of which there are series; returns what is left.
    pub(super) fn prune_families(&self) -> BTreeMap<Metadata, i64> {
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        let floors = self.floors();
        let floor = |family: &str| {
            Labels::new(&[(METRIC_NAME, family)]).map_or_else(|_| floors.lowest(), |labels| floors.of(labels.as_ref()))
        };
        if now_ms > i64::MIN {
            let stale = lock(&self.families).stale(now_ms, floor);
            // Whoever appends has the head and then the families: so not both at once here.
            let there = if stale.iter().all(|(_, is_outdated)| *is_outdated) { None } else { self.metric_names() };
            let has_series =
                |family: &str| there.as_ref().is_none_or(|there| names(family).any(|name| there.contains(&name)));
            let gone = stale.into_iter().filter(|(m, is_outdated)| *is_outdated || !has_series(&m.family));
            let gone: Vec<Metadata> = gone.map(|(metadata, _)| metadata).collect();
            lock(&self.families).forget(&gone, floor);
        }
        lock(&self.families).told().clone()
    }

    /// The names of the series that may have samples which are not expired; `None` where that is not known, as a block cannot be read.
    fn metric_names(&self) -> Option<BTreeSet<String>> {
        let all = LabelsRequest { matcher_sets: Vec::new(), range: TimeRange::ALL, cancel: Cancel::default() };
        let names = self.label_values(METRIC_NAME, &all).ok().filter(|names| names.warnings.is_empty());
        names.map(|names| names.items.into_iter().collect())
    }
}
