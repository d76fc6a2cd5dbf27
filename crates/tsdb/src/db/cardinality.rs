//! How many series there are, by the labels that they have. Only indexes are read. A flush or a merge changes nothing of the answer.

use model::{Cardinality, CardinalityRequest, SourceError};

use super::Db;
use super::read::unless_damaged;
use crate::deletes::Cuts;
use crate::postings::{LabelIndex as _, select_any};
use crate::tally::Counting;

impl Db {
    /// Counts the series that meet the request. One of which samples are deleted counts as long as a block has it, unless the deletion is of all of that block's time.
    pub fn cardinality(&self, request: &CardinalityRequest) -> Result<Cardinality, SourceError> {
        let request = CardinalityRequest { range: self.clamp(request.range), ..request.clone() };
        let mut counting = Counting::new(&request);
        let (view, in_head) = self.with_head(|frozen| self.head.tally(frozen, &mut counting))?;
        let by_labels = counting.has_classes();
        for labels in in_head {
            counting.labels(labels.as_ref(), 1, !by_labels)?;
        }
        for (entry, block) in view.readable(request.range) {
            let found = select_any(&block.index, &request.matcher_sets);
            let Some(ids) = unless_damaged(found)? else { continue };
            let Some(cuts) = unless_damaged(Cuts::new(&view.deletes, entry.number(), block))? else { continue };
            let ids = ids.unwrap_or_else(|| block.index.all()) - cuts.whole(block.range());
            if ids.is_empty() {
                continue;
            }
            // Of a block that turns out to be damaged the series up to there stay counted; the answer says that it is left out.
            unless_damaged(block.index.tally(&ids, &mut counting))?;
            counting.counted.widen(block.range());
        }
        counting.claim()?;
        Ok(Cardinality { warnings: view.warnings(), ..counting.counted })
    }
}
