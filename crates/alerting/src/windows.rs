//! The samples that rules look at, in memory, and the index that tells which rules a series concerns.
//!
//! A selector with `__name__="…"` is found by that name, the others are tried on every series; then all matchers are tried. The
//! answer is remembered by the hash of the series, so that a series that comes again costs one look-up. Two series with the same 64
//! bits would share an answer; with a million series the odds are one in thirty million, and the price is a rule evaluated
//! without need, or on its interval instead of at once.
//!
//! Only series that a rule selects are kept. When they take more memory than they may, all are dropped and every rule is evaluated
//! over storage until the rules change: slower, never wrong.

use std::collections::HashMap;
use std::sync::Arc;

use model::{LabelsRef, METRIC_NAME, MatchOp, Matcher, Metadata, Sample};
use queue::payload::Visitor;
use tsdb::Head;

use crate::needs::Need;

/// Remembered answers; 40 bytes each. When it is full it is emptied.
const REMEMBERED_MAX: usize = 1 << 20;

/// What is kept for the rules.
pub(crate) struct Windows {
    head: Head,
    selectors: Vec<Selector>,
    by_name: HashMap<String, Vec<usize>>,
    /// Selectors without the name of a metric.
    unnamed: Vec<usize>,
    remembered: HashMap<u64, Arc<[usize]>>,
    nothing: Arc<[usize]>,
    bytes_max: usize,
    overflowed: bool,
}

struct Selector {
    rule: usize,
    matchers: Vec<Matcher>,
}

/// What a batch of records did.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Rules that it concerns, each once, in no order.
    pub(crate) rules: Vec<usize>,
    /// The newest sample in it, of any series.
    pub(crate) newest_ms: Option<i64>,
    /// Samples kept.
    pub(crate) samples: u64,
}

impl Windows {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Windows {
            head: Head::default(),
            selectors: Vec::new(),
            by_name: HashMap::new(),
            unnamed: Vec::new(),
            remembered: HashMap::new(),
            nothing: Arc::from([]),
            bytes_max,
            overflowed: false,
        }
    }

    /// Takes the selectors of all rules whose windows are kept, each with the number of its rule. The samples stay; series that nobody
    /// selects any more go when they are older than the longest window.
    pub(crate) fn set_rules<'a>(&mut self, needs: impl Iterator<Item = (usize, &'a Need)>) {
        (self.selectors, self.unnamed) = (Vec::new(), Vec::new());
        self.by_name.clear();
        self.remembered.clear();
        for (rule, need) in needs {
            let number = self.selectors.len();
            self.selectors.push(Selector { rule, matchers: need.matchers.clone() });
            match need.matchers.iter().find(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal) {
                Some(name) => self.by_name.entry(name.value.clone()).or_default().push(number),
                None => self.unnamed.push(number),
            }
        }
        if std::mem::take(&mut self.overflowed) {
            self.head = Head::default();
        }
    }

    /// Whether any series concerns any rule; without, records need not be read.
    pub(crate) fn has_rules(&self) -> bool {
        !self.selectors.is_empty()
    }

    /// The series that are kept.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Whether the windows took more memory than they may; nothing is kept until the rules change.
    pub(crate) fn is_overflowed(&self) -> bool {
        self.overflowed
    }

    /// Drops samples before a time.
    pub(crate) fn trim(&mut self, before_ms: i64) {
        self.head.truncate_before(before_ms);
        if self.head.series() == 0 {
            self.remembered.clear();
        }
    }

    /// Adds samples of a series that was read from storage.
    pub(crate) fn seed(&mut self, labels: LabelsRef<'_>, samples: &[Sample]) {
        if !self.overflowed {
            self.head.append(labels, samples);
            self.check_size();
        }
    }

    /// What is shown a payload.
    pub(crate) fn visit<'a>(&'a mut self, touched: &'a mut Touched) -> impl Visitor + 'a {
        Visit { windows: self, touched }
    }

    fn rules_of(&mut self, labels: LabelsRef<'_>) -> Arc<[usize]> {
        let named =
            if self.by_name.is_empty() { None } else { labels.get(METRIC_NAME).and_then(|n| self.by_name.get(n)) };
        if named.is_none() && self.unnamed.is_empty() {
            return Arc::clone(&self.nothing);
        }
        let hash = labels.hash64();
        if let Some(rules) = self.remembered.get(&hash) {
            return Arc::clone(rules);
        }
        let candidates = named.into_iter().flatten().chain(&self.unnamed);
        let meets =
            |n: &&usize| self.selectors[**n].matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")));
        let mut rules: Vec<usize> = candidates.filter(meets).map(|n| self.selectors[*n].rule).collect();
        rules.sort_unstable();
        rules.dedup();
        let rules: Arc<[usize]> = Arc::from(rules);
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.clear();
        }
        self.remembered.insert(hash, Arc::clone(&rules));
        rules
    }

    fn check_size(&mut self) {
        if self.head.bytes() > self.bytes_max {
            self.overflowed = true;
            self.head = Head::default();
            tracing::warn!(
                bytes_max = self.bytes_max,
                "the windows of the rules take more memory than they may: rules are evaluated over storage, on their intervals"
            );
        }
    }
}

struct Visit<'a> {
    windows: &'a mut Windows,
    touched: &'a mut Touched,
}

impl Visitor for Visit<'_> {
    fn series(&mut self, labels: LabelsRef<'_>, samples: &[Sample]) {
        let newest = samples.iter().map(|s| s.t).max();
        self.touched.newest_ms = self.touched.newest_ms.max(newest);
        let rules = self.windows.rules_of(labels);
        if rules.is_empty() {
            return;
        }
        self.touched.rules.extend_from_slice(&rules);
        if !self.windows.overflowed {
            self.windows.head.append(labels, samples);
            self.touched.samples += samples.len() as u64;
            self.windows.check_size();
        }
    }

    fn metadata(&mut self, _: &Metadata) {}
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.touched.rules.sort_unstable();
        self.touched.rules.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Labels;

    fn windows(texts: &[&str], bytes_max: usize) -> Windows {
        let needs: Vec<(usize, Need)> = texts
            .iter()
            .enumerate()
            .flat_map(|(n, text)| {
                let expr = promql::parse(text, &promql::Features::default()).expect(text);
                crate::needs::needs(&expr, 300_000).into_iter().map(move |need| (n, need))
            })
            .collect();
        let mut windows = Windows::new(bytes_max);
        windows.set_rules(needs.iter().map(|(n, need)| (*n, need)));
        windows
    }

    fn touch(windows: &mut Windows, pairs: &[(&str, &str)]) -> Vec<usize> {
        let labels = Labels::new(pairs).expect("valid");
        let mut touched = Touched::default();
        windows.visit(&mut touched).series(labels.as_ref(), &[Sample { t: 5, v: 1.0 }, Sample { t: 3, v: 1.0 }]);
        assert_eq!(touched.newest_ms, Some(5));
        touched.rules
    }

    #[test]
    fn a_series_touches_the_rules_that_select_it_and_only_those_are_kept() {
        let mut windows = windows(
            &["up == 0", "up{job=\"a\"} + up{job=~\"a|b\"}", "{job=\"b\"}", "down", "{__name__=~\"u.*\"}"],
            1 << 20,
        );
        for _ in 0..2 {
            assert_eq!(touch(&mut windows, &[("__name__", "up"), ("job", "a")]), [0, 1, 4]);
            assert_eq!(touch(&mut windows, &[("__name__", "up"), ("job", "b")]), [0, 1, 2, 4]);
            assert_eq!(touch(&mut windows, &[("__name__", "other"), ("job", "c")]), [0usize; 0]);
            assert_eq!(touch(&mut windows, &[("job", "b")]), [2]);
        }
        assert_eq!(windows.head().series(), 3);
        windows.trim(1_000_000);
        assert_eq!(windows.head().series(), 0);
    }

    #[test]
    fn windows_that_are_too_large_are_dropped_and_still_tell_who_is_touched() {
        let mut windows = windows(&["up"], 1);
        assert_eq!(touch(&mut windows, &[("__name__", "up")]), [0]);
        assert!(windows.is_overflowed());
        assert_eq!(windows.head().series(), 0);
        assert_eq!(touch(&mut windows, &[("__name__", "up")]), [0]);
        windows.set_rules(std::iter::empty());
        assert!(!windows.is_overflowed());
    }
}
