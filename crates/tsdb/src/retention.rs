//! How long samples are kept: an age for all, and other ages for series that meet matchers.
//!
//! Whether a sample is expired is decided when it is read, so that it is gone at its time for every query; its bytes go when their block is
//! dropped or written anew.

use model::{LabelsRef, Matcher};
use roaring::RoaringBitmap;

use crate::Error;
use crate::block::Block;
use crate::postings::{self, LabelIndex as _};

/// An age for the series that meet all matchers.
#[derive(Debug, Clone)]
pub struct RetentionRule {
    /// The conditions, all of which must be met.
    pub matchers: Vec<Matcher>,
    /// Age at which samples expire, in milliseconds; `None` keeps them.
    pub age_ms: Option<i64>,
}

/// The times before which samples are expired.
#[derive(Debug)]
pub(crate) struct Floors<'a> {
    rules: Vec<(&'a [Matcher], i64)>,
    others: i64,
}

impl<'a> Floors<'a> {
    /// As of a time, in milliseconds; `None` where it is not known yet: nothing is expired.
    pub(crate) fn new(now_ms: Option<i64>, age_ms: Option<i64>, rules: &'a [RetentionRule]) -> Self {
        let floor = |age: Option<i64>| now_ms.zip(age).map_or(i64::MIN, |(now, age)| now.saturating_sub(age));
        let rules = rules.iter().map(|rule| (rule.matchers.as_slice(), floor(rule.age_ms))).collect();
        Floors { rules, others: floor(age_ms) }
    }

    /// Nothing is expired.
    #[cfg(test)]
    pub(crate) const fn nothing_expired() -> Self {
        Floors { rules: Vec::new(), others: i64::MIN }
    }

    /// That of a series: of the first rule that it meets.
    pub(crate) fn of(&self, labels: LabelsRef<'_>) -> i64 {
        let meets = |matchers: &[Matcher]| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")));
        self.rules.iter().find(|(matchers, _)| meets(matchers)).map_or(self.others, |(_, floor)| *floor)
    }

    /// Whether it is the same for all series.
    pub(crate) fn is_one(&self) -> bool {
        self.rules.is_empty()
    }

    /// The time before which the samples of all series are expired.
    pub(crate) fn lowest(&self) -> i64 {
        self.rules.iter().map(|(_, floor)| *floor).chain([self.others]).min().unwrap_or(i64::MIN)
    }

    /// The time from which on no sample is expired.
    pub(crate) fn highest(&self) -> i64 {
        self.rules.iter().map(|(_, floor)| *floor).chain([self.others]).max().unwrap_or(i64::MIN)
    }

    /// Whether a block has series of which it has expired samples only, which are worth to be rid of.
    pub(crate) fn leave_behind(&self, block: &Block) -> Result<bool, Error> {
        let end_ms = block.range().end_ms;
        if self.rules.is_empty() || self.rules.iter().map(|(_, floor)| *floor).chain([self.others]).all(|f| f <= end_ms)
        {
            return Ok(false);
        }
        let mut others = block.index.all();
        for (matchers, floor) in &self.rules {
            let own: RoaringBitmap = &others & postings::select(&block.index, matchers)?;
            if end_ms < *floor && !own.is_empty() {
                return Ok(true);
            }
            others -= own;
        }
        Ok(end_ms < self.others && !others.is_empty())
    }
}
