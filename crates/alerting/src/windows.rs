//! The samples that rules look at, in memory, and the index that tells which rules a series concerns.
//!
//! A selector with `__name__="…"` is found by that name, the others are tried on every series; then all matchers are tried. The
//! answer is remembered by the hash of the series, so that a series that comes again costs one look-up. Two series with the same 64
//! bits would share an answer; with a million series the odds are one in thirty million, and the price is a rule evaluated
//! without need, or on its interval instead of at once.
//!
//! Only series that a rule selects are kept. When they take more memory than they may, all are dropped and every rule is evaluated
//! over storage until the windows are begun again: slower, never wrong. A rule comes and goes without a look at the others; only what is
//! remembered of the metrics that it names is found out anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use model::{Claim, LabelsRef, METRIC_NAME, MatchOp, Matcher, Metadata, Samples};
use queue::payload::Visitor;
use tsdb::Head;

use crate::needs::Need;

/// Remembered answers; 40 bytes each. When it is full it is emptied.
const REMEMBERED_MAX: usize = 1 << 20;

/// What is kept for the rules.
pub(crate) struct Windows {
    head: Head,
    /// Selectors with the name of a metric, by that name.
    by_name: HashMap<String, Named>,
    /// Selectors without one.
    unnamed: Selectors,
    /// Answers for series of which no selector has the name.
    others: HashMap<u64, Arc<[usize]>>,
    /// How many answers are remembered in all.
    remembered: usize,
    nothing: Arc<[usize]>,
    bytes_max: usize,
    claim: Claim,
    overflowed: bool,
}

/// The matchers of the selectors of each rule, by its number.
type Selectors = BTreeMap<usize, Vec<Vec<Matcher>>>;

/// The selectors with one name of a metric, and the answers for the series that have it.
#[derive(Default)]
struct Named {
    selectors: Selectors,
    remembered: HashMap<u64, Arc<[usize]>>,
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
    /// Windows that may take so much memory, which `claim` holds.
    pub(crate) fn new(bytes_max: usize, claim: Claim) -> Self {
        Windows {
            head: Head::default(),
            by_name: HashMap::new(),
            unnamed: Selectors::new(),
            others: HashMap::new(),
            remembered: 0,
            nothing: Arc::from([]),
            bytes_max,
            claim,
            overflowed: false,
        }
    }

    /// Keeps what these selectors of a rule find from now on. What is remembered of other metrics stays.
    pub(crate) fn add(&mut self, rule: usize, needs: &[Need]) {
        for need in needs {
            match metric_name(need) {
                Some(name) => {
                    let named = self.by_name.entry(name.to_owned()).or_default();
                    self.remembered -= named.remembered.len();
                    named.remembered.clear();
                    named.selectors.entry(rule).or_default().push(need.matchers.clone());
                }
                None => {
                    self.unnamed.entry(rule).or_default().push(need.matchers.clone());
                    self.forget();
                }
            }
        }
    }

    /// Forgets the selectors of a rule. The samples stay; series that nobody selects any more go when they are older than the longest
    /// window.
    pub(crate) fn remove(&mut self, rule: usize, needs: &[Need]) {
        for need in needs {
            let Some(name) = metric_name(need) else {
                if self.unnamed.remove(&rule).is_some() {
                    self.forget();
                }
                continue;
            };
            let Some(named) = self.by_name.get_mut(name) else { continue };
            self.remembered -= named.remembered.len();
            named.remembered.clear();
            named.selectors.remove(&rule);
            if named.selectors.is_empty() {
                self.by_name.remove(name);
            }
        }
    }

    /// Keeps windows again after they were dropped; they are empty.
    pub(crate) fn begin_again(&mut self) {
        self.overflowed = false;
        self.head = Head::default();
    }

    /// Whether any series concerns any rule; without, records need not be read.
    pub(crate) fn has_rules(&self) -> bool {
        !self.by_name.is_empty() || !self.unnamed.is_empty()
    }

    /// The series that are kept.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Whether the windows took more memory than they may; nothing is kept then.
    pub(crate) fn is_overflowed(&self) -> bool {
        self.overflowed
    }

    /// Drops samples before a time.
    pub(crate) fn trim(&mut self, before_ms: i64) {
        self.head.truncate_before(before_ms);
        self.claim.set(self.bytes());
        if self.head.series() == 0 {
            self.forget();
        }
    }

    /// Adds samples of a series that was read from storage.
    pub(crate) fn seed(&mut self, labels: LabelsRef<'_>, samples: Samples<'_>) {
        if !self.overflowed {
            self.head.append(labels, samples);
            self.check_size();
            self.claim.set(self.bytes());
        }
    }

    /// What is shown a payload.
    pub(crate) fn visit<'a>(&'a mut self, touched: &'a mut Touched) -> impl Visitor + 'a {
        Visit { windows: self, touched }
    }

    fn forget(&mut self) {
        self.by_name.values_mut().for_each(|named| named.remembered.clear());
        self.others.clear();
        self.remembered = 0;
    }

    fn rules_of(&mut self, labels: LabelsRef<'_>) -> Arc<[usize]> {
        let named =
            if self.by_name.is_empty() { None } else { labels.get(METRIC_NAME).and_then(|n| self.by_name.get(n)) };
        if named.is_none() && self.unnamed.is_empty() {
            return Arc::clone(&self.nothing);
        }
        let hash = labels.hash64();
        if let Some(rules) = named.map_or(&self.others, |named| &named.remembered).get(&hash) {
            return Arc::clone(rules);
        }
        let meets = |matchers: &Vec<Matcher>| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")));
        let candidates = named.into_iter().flat_map(|named| &named.selectors).chain(&self.unnamed);
        let mut rules: Vec<usize> =
            candidates.filter(|(_, sets)| sets.iter().any(meets)).map(|(rule, _)| *rule).collect();
        rules.sort_unstable();
        rules.dedup();
        let rules: Arc<[usize]> = Arc::from(rules);
        if self.remembered >= REMEMBERED_MAX {
            self.forget();
        }
        let named = labels.get(METRIC_NAME).and_then(|n| self.by_name.get_mut(n));
        named.map_or(&mut self.others, |named| &mut named.remembered).insert(hash, Arc::clone(&rules));
        self.remembered += 1;
        rules
    }

    /// Memory of the samples and of what is known of their series, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.head.bytes() + self.head.registry_bytes()
    }

    fn check_size(&mut self) {
        if self.bytes() > self.bytes_max {
            self.overflowed = true;
            self.head = Head::default();
            tracing::warn!(
                bytes_max = self.bytes_max,
                "the windows of the rules take more memory than they may: rules are evaluated over storage, on their intervals"
            );
        }
    }
}

/// The name of the metric that a selector asks for.
fn metric_name(need: &Need) -> Option<&str> {
    need.matchers.iter().find(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal).map(|m| m.value.as_str())
}

struct Visit<'a> {
    windows: &'a mut Windows,
    touched: &'a mut Touched,
}

impl Visitor for Visit<'_> {
    fn series(&mut self, labels: LabelsRef<'_>, samples: Samples<'_>) {
        self.touched.newest_ms = self.touched.newest_ms.max(samples.newest_ms());
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
        self.windows.claim.set(self.windows.bytes());
        self.touched.rules.sort_unstable();
        self.touched.rules.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{
        Buckets, Cancel, Columns, Counts, Histogram, HistogramSample, Labels, Sample, SelectRequest, SeriesSource,
        TimeRange, Want,
    };

    fn needs(text: &str) -> Vec<Need> {
        let expr = promql::parse(text, &promql::Features::default()).expect(text);
        crate::needs::needs(&expr, 300_000)
    }

    fn windows(texts: &[&str], bytes_max: usize) -> Windows {
        let mut windows = Windows::new(bytes_max, Claim::default());
        texts.iter().enumerate().for_each(|(rule, text)| windows.add(rule, &needs(text)));
        windows
    }

    fn touch(windows: &mut Windows, pairs: &[(&str, &str)]) -> Vec<usize> {
        let labels = Labels::new(pairs).expect("valid");
        let mut touched = Touched::default();
        let samples = [Sample { t: 5, v: 1.0 }, Sample { t: 3, v: 1.0 }];
        windows.visit(&mut touched).series(labels.as_ref(), (&samples).into());
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
    fn starts_and_histograms_are_kept_as_they_come_from_the_log_and_from_storage() {
        let counts = Counts::Integer(Buckets::default());
        let histogram = Histogram { layout: Default::default(), hint: Default::default(), sum: 0.0, counts };
        let histograms = [HistogramSample { t: 9, start: 2, histogram }];
        let samples = Samples { floats: &[Sample { t: 5, v: 1.0 }], starts: &[3], histograms: &histograms };
        let (mut windows, mut touched) = (windows(&["up"], 1 << 20), Touched::default());
        let up = |job: &str| Labels::new(&[("__name__", "up"), ("job", job)]).expect("valid");
        windows.visit(&mut touched).series(up("a").as_ref(), samples);
        assert_eq!((touched.newest_ms, touched.samples), (Some(9), 2));
        windows.seed(up("b").as_ref(), samples);
        let request = SelectRequest {
            matchers: vec![Matcher::equal("__name__", "up")],
            range: TimeRange::ALL,
            want: Want::Samples,
            series_max: 2,
            cancel: Cancel::default(),
        };
        let found = windows.head().select(&request).expect("selects").series;
        assert_eq!(found.len(), 2);
        for series in found {
            let mut columns = Columns::default();
            series.data.read(TimeRange::ALL, &mut columns).expect("reads");
            assert_eq!((columns.starts.as_slice(), columns.histograms.as_slice()), (&[3][..], &histograms[..]));
        }
    }

    #[test]
    fn windows_that_are_too_large_are_dropped_and_still_tell_who_is_touched() {
        let mut windows = windows(&["up"], 1);
        assert_eq!(touch(&mut windows, &[("__name__", "up")]), [0]);
        assert!(windows.is_overflowed());
        assert_eq!(windows.head().series(), 0);
        assert_eq!(touch(&mut windows, &[("__name__", "up")]), [0]);
        windows.begin_again();
        assert!(!windows.is_overflowed());
    }

    #[test]
    fn a_rule_that_comes_or_goes_is_seen_by_series_that_were_there_before() {
        let mut windows = windows(&["up == 0", "{job=\"a\"}", "up + down"], 1 << 20);
        let up: &[(&str, &str)] = &[("__name__", "up"), ("job", "a")];
        let other: &[(&str, &str)] = &[("__name__", "other"), ("job", "a")];
        assert_eq!((touch(&mut windows, up), touch(&mut windows, other)), (vec![0, 1, 2], vec![1]));
        windows.add(3, &needs("up > other"));
        assert_eq!((touch(&mut windows, up), touch(&mut windows, other)), (vec![0, 1, 2, 3], vec![1, 3]));
        windows.remove(1, &needs("{job=\"a\"}"));
        assert_eq!((touch(&mut windows, up), touch(&mut windows, other)), (vec![0, 2, 3], vec![3]));
        windows.remove(3, &needs("up > other"));
        assert_eq!((touch(&mut windows, up), touch(&mut windows, other)), (vec![0, 2], vec![]));
        windows.remove(0, &needs("up == 0"));
        windows.remove(2, &needs("up + down"));
        assert!(!windows.has_rules());
        assert_eq!(windows.remembered, 0);
    }

    #[test]
    fn what_is_remembered_of_other_metrics_outlives_a_change_of_rules() {
        let mut windows = windows(&["up", "down"], 1 << 20);
        touch(&mut windows, &[("__name__", "up")]);
        touch(&mut windows, &[("__name__", "down")]);
        windows.add(2, &needs("up"));
        assert_eq!((windows.by_name["up"].remembered.len(), windows.by_name["down"].remembered.len()), (0, 1));
        assert_eq!(windows.remembered, 1);
    }
}
