//! Decides which rule is evaluated when, at which time, and over what. It owns the rules' alerts and windows, and no clock: the loop in
//! [`run`](run::run) reads it.
//!
//! A rule that a sample touches is evaluated after a short debounce, at the newest time that every partition it reads has reached, so that
//! it never sees half of a scrape; a partition that is silent does not hold it back. What no sample announces is evaluated when it
//! is due: the end of `for` and of `keepFiringFor`, and on the rule's interval absence, staleness and the sliding of windows.

mod entries;
mod rules_change;
mod run;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use model::SeriesSource;
use rules::{Alerting, Rule};

use crate::evaluate::{self, Setting};
use crate::needs::Need;
use crate::state::{self, Alerts, Change};
use crate::store::{Origin, StateChange, Stored};
use crate::view::{self, RuleView};
use crate::windows::{Touched, Windows};
use entries::Entries;

pub(crate) use rules_change::{Change as RulesChange, Changed, Incoming};
pub(crate) use run::{First, Message, Parts, run};

/// After an evaluation, samples do not cause another one before this many times its duration, so that one rule takes no more than a
/// twentieth of a core …
const REST_FACTOR: f64 = 20.0;
/// … nor, however long it takes, are they seen later than this: half of the second within which an alert should fire.
const REST_MS_MAX: f64 = 500.0;
/// A sample whose time is so far from that of its append comes from a clock that is wrong, or from a backlog of its sender: it holds no rule
/// back. Twice the time for which Prometheus collects samples before it sends them.
const SKEW_MS: i64 = 10_000;
/// How long the engine waits for more samples of the same scrape before it evaluates: one round of group commits.
const DEBOUNCE_MS: i64 = 20;
/// A partition without a record for this long does not hold a rule back (design: 2 s).
const SILENT_MS: i64 = 2_000;
/// Shortest wait for a time that is due, so that a clock that stands still does not make the engine spin.
const WAIT_MS: i64 = 10;
/// How much longer than the longest look-back samples are kept: evaluations after a restart are as late as the log was.
const MARGIN_MS: i64 = 300_000;
/// How long storage is left alone after it could not be read for the windows of a rule; until then such rules are evaluated over it.
const SEED_AGAIN_MS: i64 = 10_000;
/// How long after windows were dropped for want of memory they are begun again, if the rules change.
const OVERFLOW_MS: i64 = 60_000;
/// How often old samples are dropped.
const TRIM_MS: i64 = 10_000;

/// The engine.
pub(crate) struct Engine {
    setting: Setting,
    interval_ms: i64,
    window_max_ms: i64,
    windows: Windows,
    entries: Entries,
    partitions: Vec<Partition>,
    /// The channels that are there for rules that name none.
    default_channels: HashSet<String>,
    /// What the database had at start of rules that did not come yet, by the identity of the rule.
    stored: Stored,
    /// Until when storage is not asked for windows.
    seed_again_ms: i64,
    /// When windows were begun last.
    begun_at_ms: i64,
    trimmed_at_ms: i64,
}

/// A rule with what is known of it.
struct Entry {
    rule: Arc<Rule>,
    origin: Origin,
    /// Who handed it over; `None` for rules of files.
    source: Option<Arc<str>>,
    position: usize,
    generation: i64,
    /// Whether this generation was evaluated.
    evaluated: bool,
    /// The channel that is told, where the rule names none and that one is there.
    default_channel: Option<String>,
    needs: Vec<Need>,
    /// Whether its windows are kept; otherwise it is evaluated over storage.
    kept: bool,
    /// Whether its windows could not be read from storage yet, though they are short enough to be kept.
    unread: bool,
    alerts: Alerts,
    /// Partitions that have a series of it.
    reads: BTreeSet<u32>,
    /// The latest time at which it was evaluated.
    last_ms: i64,
    /// When the oldest record that touched it since was appended.
    touched_at_ms: Option<i64>,
    health: &'static str,
    last_error: String,
    no_data: bool,
    evaluated_at_ms: Option<i64>,
    took_seconds: f64,
    /// Its state in Weir's own words, and since when, as it was noted last; `None` before the first evaluation.
    noted: Option<(&'static str, i64)>,
    /// Spreads the evaluations of rules with the same interval.
    phase: u64,
}

/// How far a partition has come.
#[derive(Debug, Clone, Copy)]
struct Partition {
    newest_ms: i64,
    /// When its newest record was appended.
    appended_ms: i64,
    /// When its newest record was read, by the clock of this machine.
    heard_ms: i64,
}

/// What one round of evaluations did.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) changes: Vec<(Origin, Change)>,
    pub(crate) states: Vec<StateChange>,
    /// The rules that were evaluated, with what is to be shown.
    pub(crate) shown: Vec<(usize, Option<RuleView>)>,
    pub(crate) failures: u64,
    /// From the append of the oldest sample that touched a rule to its evaluation.
    pub(crate) delays_ms: Vec<i64>,
    pub(crate) took_seconds: Vec<f64>,
}

impl Engine {
    pub(crate) fn new(
        setting: Setting,
        partitions: u32,
        interval_ms: i64,
        window_max_ms: i64,
        window_bytes: usize,
    ) -> Self {
        let windows = Windows::new(window_bytes, setting.memory.claim());
        let silent = Partition { newest_ms: i64::MIN, appended_ms: i64::MIN, heard_ms: i64::MIN };
        Engine {
            setting,
            interval_ms,
            window_max_ms,
            windows,
            entries: Entries::default(),
            partitions: vec![silent; partitions as usize],
            default_channels: HashSet::new(),
            stored: Stored::default(),
            seed_again_ms: i64::MIN,
            begun_at_ms: i64::MIN,
            trimmed_at_ms: 0,
        }
    }

    /// The series that are kept.
    pub(crate) fn windows(&self) -> &Windows {
        &self.windows
    }

    /// Takes the samples of a record. `show` decodes it.
    pub(crate) fn record(
        &mut self,
        partition: u32,
        appended_ms: i64,
        now_ms: i64,
        show: impl FnOnce(&mut dyn queue::payload::Visitor) -> Result<(), queue::Error>,
    ) -> Result<(), queue::Error> {
        let mut touched = Touched::default();
        show(&mut self.windows.visit(&mut touched))?;
        if let (Some(place), Some(newest_ms)) = (self.partitions.get_mut(partition as usize), touched.newest_ms) {
            let newest_ms = place.newest_ms.max(newest_ms.min(appended_ms + SKEW_MS));
            *place = Partition { newest_ms, appended_ms, heard_ms: now_ms };
        }
        let immediate = !self.windows.is_overflowed();
        for number in touched.rules {
            let Some(entry) = self.entries.get_mut(number) else { continue };
            entry.reads.insert(partition);
            if immediate {
                let rest_ms = (entry.took_seconds * 1e3 * REST_FACTOR).min(REST_MS_MAX) as i64;
                let rested_ms = entry.evaluated_at_ms.map_or(0, |at| at + rest_ms);
                entry.touched_at_ms = Some(entry.touched_at_ms.map_or(appended_ms, |t| t.min(appended_ms)));
                let due_ms = self.entries.due_of(number).min(rested_ms.max(now_ms + DEBOUNCE_MS));
                self.entries.set_due(number, due_ms);
            }
        }
        Ok(())
    }

    /// When the next rule is due.
    pub(crate) fn due_ms(&self) -> Option<i64> {
        self.entries.due_ms()
    }

    /// Evaluates every rule that is due. `clock` measures; it is not asked for the time of anything.
    pub(crate) fn round(&mut self, now_ms: i64, storage: &dyn SeriesSource, clock: &dyn Fn() -> f64) -> Round {
        let mut round = Round::default();
        for number in self.entries.due(now_ms) {
            self.evaluate(number, now_ms, storage, clock, &mut round);
        }
        if now_ms - self.trimmed_at_ms >= TRIM_MS {
            self.trimmed_at_ms = now_ms;
            self.windows.trim(now_ms - self.longest_ms() - MARGIN_MS);
        }
        round
    }

    fn evaluate(
        &mut self,
        number: usize,
        now_ms: i64,
        storage: &dyn SeriesSource,
        clock: &dyn Fn() -> f64,
        round: &mut Round,
    ) {
        self.read_again(number, now_ms, storage);
        let Some((at_ms, again_ms)) = self.entries.get(number).map(|entry| self.time_of(entry, now_ms)) else { return };
        let Some(entry) = self.entries.get_mut(number) else { return };
        let interval_ms = entry.rule.interval_ms.unwrap_or(self.interval_ms);
        let Some(alerting) = entry.rule.alerting().filter(|a| !a.paused) else {
            self.entries.set_due(number, i64::MAX);
            return;
        };
        let default = entry.default_channel.as_ref().filter(|id| self.default_channels.contains(*id));
        let alerting = Alerting { channel: alerting.channel.as_ref().or(default).cloned(), ..alerting.clone() };
        let kept = entry.kept && !self.windows.is_overflowed();
        let source: &dyn SeriesSource = if kept { self.windows.head() } else { storage };
        let began = clock();
        let found = evaluate::evaluate(&entry.rule, at_ms - entry.rule.query_offset_ms, source, &self.setting);
        entry.took_seconds = clock() - began;
        let found = found.and_then(|found| {
            let limit = entry.rule.limit;
            let (changes, within) = state::advance_within(&mut entry.alerts, &alerting, at_ms, found.active, limit);
            round.changes.extend(changes.into_iter().map(|c| (Arc::clone(&entry.origin), c)));
            within.map(|()| found.no_data)
        });
        match found {
            Ok(no_data) => {
                (entry.health, entry.no_data) = ("ok", no_data);
                entry.last_error.clear();
            }
            Err(error) => {
                if entry.health != "err" {
                    tracing::warn!(rule = entry.rule.uid, error, "a rule cannot be evaluated");
                }
                (entry.health, entry.last_error) = ("err", error);
                round.failures += 1;
            }
        }
        entry.last_ms = at_ms;
        (entry.evaluated, entry.evaluated_at_ms) = (true, Some(now_ms));
        round.states.extend(entry.note(now_ms));
        let due = state::due_ms(&entry.alerts, &alerting).map(|due| now_ms + (due - at_ms).max(WAIT_MS));
        // On a grid, so that ten thousand rules are fifty rounds a second and not a round each.
        let phase_ms = (entry.phase % interval_ms.unsigned_abs()).cast_signed();
        let phase_ms = phase_ms - phase_ms % DEBOUNCE_MS;
        let regular_ms = now_ms + interval_ms - (now_ms - phase_ms).rem_euclid(interval_ms);
        let next = [due, again_ms].into_iter().flatten().fold(regular_ms, i64::min);
        round.delays_ms.extend(entry.touched_at_ms.take().map(|touched| now_ms - touched));
        round.took_seconds.push(entry.took_seconds);
        round.shown.push((number, Some(entry.show(interval_ms, kept))));
        self.entries.set_due(number, next.max(now_ms + 1));
    }

    /// The time at which a rule is evaluated now, and when it is to be evaluated again because it was held back.
    fn time_of(&self, entry: &Entry, now_ms: i64) -> (i64, Option<i64>) {
        let read = entry.reads.iter().filter_map(|p| self.partitions.get(*p as usize));
        let holds = |p: &&Partition| {
            now_ms.saturating_sub(p.heard_ms) < SILENT_MS && p.appended_ms.saturating_sub(p.newest_ms) <= SKEW_MS
        };
        let heard: Vec<&Partition> = read.filter(holds).collect();
        let reached = heard.iter().map(|p| p.newest_ms).min().unwrap_or(now_ms);
        let newest = heard.iter().map(|p| p.newest_ms).max().unwrap_or(now_ms);
        let at_ms = reached.min(now_ms).max(entry.last_ms);
        // Held back by a partition that may fall silent, or by samples of the future.
        let silent_ms = heard.iter().filter(|p| p.newest_ms <= at_ms).map(|p| p.heard_ms + SILENT_MS).min();
        let again_ms = if newest > at_ms { if reached > now_ms { Some(reached) } else { silent_ms } } else { None };
        (at_ms, again_ms)
    }

    fn longest_ms(&self) -> i64 {
        let kept = self.entries.iter().map(|(_, e)| e).filter(|e| e.kept);
        let backs = kept.flat_map(|e| e.needs.iter().filter_map(|n| n.back_ms.map(|ms| ms + e.rule.query_offset_ms)));
        backs.max().unwrap_or(0)
    }
}

impl Entry {
    /// Notes a state other than before, which is then to be stored.
    fn note(&mut self, now_ms: i64) -> Option<StateChange> {
        let state = view::state_of(&self.rule, self.health, self.no_data, &self.alerts);
        if self.noted.is_some_and(|(before, _)| before == state) {
            return None;
        }
        self.noted = Some((state, now_ms));
        Some(StateChange { rule: self.rule.uid.clone(), state, since_ms: now_ms })
    }

    fn show(&self, interval_ms: i64, streaming: bool) -> RuleView {
        RuleView {
            rule: Arc::clone(&self.rule),
            source: self.source.clone(),
            position: self.position,
            generation: self.generation,
            evaluated: self.evaluated || self.rule.alerting().is_none_or(|a| a.paused),
            streaming,
            state: view::state_of(&self.rule, self.health, self.no_data, &self.alerts),
            since_ms: self.noted.map(|(_, since_ms)| since_ms),
            interval_ms,
            alerts: view::sorted(&self.alerts),
            health: self.health,
            last_error: self.last_error.clone(),
            evaluated_at_ms: self.evaluated_at_ms,
            took_seconds: self.took_seconds,
        }
    }
}
