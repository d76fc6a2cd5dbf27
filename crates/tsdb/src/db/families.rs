//! What is known of metric families, and when it goes.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use model::{Labels, METRIC_NAME, Metadata};

use super::{Db, lock};
use crate::families::names;
use crate::postings::LabelIndex as _;

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
            let gone = stale.into_iter().filter(|(m, is_outdated)| *is_outdated || !self.has_series_of(&m.family));
            let gone: Vec<Metadata> = gone.map(|(metadata, _)| metadata).collect();
            lock(&self.families).forget(&gone, floor);
        }
        lock(&self.families).told().clone()
    }

    /// Whether there are series that a family may have, in head or blocks.
    fn has_series_of(&self, family: &str) -> bool {
        let _one_moment = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let view = self.view();
        names(family).any(|name| {
            self.head.has_metric(view.frozen.as_deref(), &name)
                // What is in a block that cannot be read is not known.
                || !view.quarantined.is_empty()
                || view.blocks.iter().any(|(_, block)| !block.index.equal(METRIC_NAME, &name).is_empty())
        })
    }
}
