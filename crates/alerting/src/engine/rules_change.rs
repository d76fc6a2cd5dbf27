//! Exchanges the rules of a running engine: what stays keeps its alerts, what goes owes its resolves, what is new is seeded from storage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Cancel, Columns, Labels, Sample, SelectRequest, SeriesSource, SourceError, TimeRange, Want};
use rules::{Loaded, Rule};

use super::{Engine, Entry, MARGIN_MS};
use crate::evaluate::LOOKBACK_MS;
use crate::needs;
use crate::state::{self, Change};
use crate::store::{Origin, RuleFacts, Stored};
use crate::text;
use crate::view::Picture;

/// Series of one selector that are read to seed a window.
const SEED_SERIES_MAX: usize = 1_000_000;

/// Whether what is kept for one rule serves the other.
fn is_same_window(old: &Rule, new: &Rule) -> bool {
    old.query == new.query && old.query_offset_ms == new.query_offset_ms
}

impl Engine {
    /// Takes the alerts that the database had at start. Those whose rule does not come with the first rules are ended then, but not those of
    /// a file that cannot be used: it may say the same as before once it is mended.
    pub(crate) fn restore(&mut self, stored: Stored) {
        self.orphans = stored;
    }

    /// Takes these rules in place of those before.
    pub(crate) fn set_rules(
        &mut self,
        loaded: &Loaded,
        now_ms: i64,
        storage: &dyn SeriesSource,
    ) -> Vec<(Origin, Change)> {
        let mut changes = Vec::new();
        let mut before: BTreeMap<String, Entry> =
            std::mem::take(&mut self.entries).into_iter().map(|e| (e.rule.uid.clone(), e)).collect();
        let mut fresh = Vec::new();
        for rule in &loaded.rules {
            let old = before.remove(&rule.uid);
            let same = old.as_ref().is_some_and(|old| is_same_window(&old.rule, rule) && old.kept);
            if !same {
                fresh.push(self.entries.len());
            }
            let mut entry = self.entry(rule, old, now_ms);
            if rule.alerting().is_none_or(|a| a.paused) {
                let ended = state::end(&mut entry.alerts, now_ms);
                changes.extend(ended.into_iter().map(|c| (Arc::clone(&entry.origin), c)));
            }
            self.entries.push(entry);
        }
        for mut entry in before.into_values() {
            let ended = state::end(&mut entry.alerts, now_ms);
            changes.extend(ended.into_iter().map(|c| (Arc::clone(&entry.origin), c)));
        }
        changes.extend(self.end_orphans(&loaded.bad_files(), now_ms));
        let overflowed = self.windows.is_overflowed();
        let kept = self.entries.iter().enumerate().filter(|(_, e)| e.kept);
        self.windows.set_rules(kept.flat_map(|(number, e)| e.needs.iter().map(move |need| (number, need))));
        if overflowed {
            fresh = (0..self.entries.len()).collect();
        }
        for number in fresh {
            self.seed(number, now_ms, storage);
        }
        changes
    }

    /// What is shown of all rules.
    pub(crate) fn picture(&self, loaded: &Loaded) -> Picture {
        let shown = |e: &Entry| Arc::new(e.show(e.rule.interval_ms.unwrap_or(self.interval_ms)));
        Picture { rules: self.entries.iter().map(shown).collect(), problems: Arc::new(loaded.problems.clone()) }
    }

    fn entry(&mut self, rule: &Rule, old: Option<Entry>, now_ms: i64) -> Entry {
        let needs = needs::needs(&rule.expr, LOOKBACK_MS);
        let fits = |back: i64| back.saturating_add(rule.query_offset_ms) <= self.window_max_ms;
        let kept = needs.iter().all(|n| n.back_ms.is_some_and(fits));
        let orphan = self.orphans.remove(&rule.uid).map(|(_, alerts)| alerts);
        let generator_url =
            format!("{}/graph?g0.expr={}&g0.tab=1", self.setting.external_url, text::query_escape(&rule.query));
        let (uid, file, name) = (rule.uid.clone(), rule.file.clone(), rule.name.clone());
        let recording = rule.alerting().is_none();
        let mut entry = Entry {
            rule: Arc::new(rule.clone()),
            origin: Arc::new(RuleFacts { uid, file, name, generator_url }),
            kept: kept && !recording,
            needs,
            alerts: orphan.unwrap_or_default(),
            reads: BTreeSet::new(),
            last_ms: i64::MIN,
            due_ms: if recording { i64::MAX } else { now_ms },
            touched_at_ms: None,
            health: "unknown",
            last_error: if recording { "recording rules are not evaluated yet".to_owned() } else { String::new() },
            no_data: false,
            evaluated_at_ms: None,
            took_seconds: 0.0,
            phase: Labels::empty().with("rule", &rule.uid).as_ref().hash64(),
        };
        if let Some(old) = old {
            entry.alerts = old.alerts;
            entry.last_ms = old.last_ms;
            entry.evaluated_at_ms = old.evaluated_at_ms;
            entry.took_seconds = old.took_seconds;
            if old.rule.query == rule.query {
                (entry.reads, entry.health, entry.last_error, entry.no_data) =
                    (old.reads, old.health, old.last_error, old.no_data);
            }
        }
        entry
    }

    fn end_orphans(&mut self, bad_files: &BTreeSet<&str>, now_ms: i64) -> Vec<(Origin, Change)> {
        // A folder that cannot be read stands for all files in it.
        let is_bad = |file: &str| {
            bad_files
                .iter()
                .any(|bad| file.strip_prefix(bad).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        };
        let (stay, go): (Stored, Stored) =
            std::mem::take(&mut self.orphans).into_iter().partition(|(_, (file, _))| is_bad(file));
        self.orphans = stay;
        let mut changes = Vec::new();
        for (uid, (file, mut alerts)) in go {
            let name = alerts.values().find_map(|a| a.labels.get("alertname")).unwrap_or_default().to_owned();
            let generator_url = format!("{}/graph", self.setting.external_url);
            let origin: Origin = Arc::new(RuleFacts { uid, file, name, generator_url });
            changes.extend(state::end(&mut alerts, now_ms).into_iter().map(|c| (Arc::clone(&origin), c)));
        }
        changes
    }

    /// Reads the windows of a rule from storage. If that fails the rule is evaluated over storage.
    fn seed(&mut self, number: usize, now_ms: i64, storage: &dyn SeriesSource) {
        if !self.entries[number].kept {
            return;
        }
        if let Err(e) = self.read_windows(number, now_ms, storage) {
            let rule = &self.entries[number].rule;
            tracing::warn!(rule = rule.uid, error = %e, "the windows of a rule cannot be read, it is evaluated over storage");
            self.entries[number].kept = false;
        }
    }

    fn read_windows(&mut self, number: usize, now_ms: i64, storage: &dyn SeriesSource) -> Result<(), SourceError> {
        let entry = &mut self.entries[number];
        let offset_ms = entry.rule.query_offset_ms;
        let mut columns = Columns::default();
        let mut samples: Vec<Sample> = Vec::new();
        for need in &entry.needs {
            let start_ms = now_ms - need.back_ms.unwrap_or(0) - offset_ms - MARGIN_MS;
            let range = TimeRange { start_ms, end_ms: i64::MAX };
            let request = SelectRequest {
                matchers: need.matchers.clone(),
                range,
                want: Want::Samples,
                series_max: SEED_SERIES_MAX,
                cancel: Cancel::default(),
            };
            for series in storage.select(&request)?.series {
                columns.clear();
                series.data.read(range, &mut columns)?;
                samples.clear();
                samples.extend(columns.t.iter().zip(&columns.v).map(|(t, v)| Sample { t: *t, v: *v }));
                if !samples.is_empty() {
                    entry.reads.insert(series.labels.as_ref().partition(self.partitions.len() as u32));
                    self.windows.seed(series.labels.as_ref(), &samples);
                }
            }
        }
        Ok(())
    }
}
