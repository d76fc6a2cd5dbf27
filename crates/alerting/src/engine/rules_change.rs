//! Exchanges rules of a running engine: what stays keeps its alerts, what goes owes its resolves, what is new is seeded from storage.
//! A rule that does not change is not looked at.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use model::{
    Cancel, Columns, Labels, Matcher, Sample, Samples, SelectRequest, SeriesSource, SourceError, TimeRange, Want,
};
use rules::{Loaded, Rule};

use super::{Engine, Entry, MARGIN_MS, OVERFLOW_MS, SEED_AGAIN_MS};
use crate::evaluate::LOOKBACK_MS;
use crate::needs;
use crate::state;
use crate::store::{Origin, RuleFacts, StateChange, Stored};
use crate::text;
use crate::view::RuleView;

/// Series of one selector that are read to seed a window.
const SEED_SERIES_MAX: usize = 1_000_000;

/// A rule that is new, or takes the place of the one with its identity.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) rule: Rule,
    /// Who handed it over; `None` for rules of files.
    pub(crate) source: Option<Arc<str>>,
    /// That of its document.
    pub(crate) generation: i64,
    /// Its place among the rules of files.
    pub(crate) position: usize,
    /// The channel that is told where the rule names none, if it is there.
    pub(crate) default_channel: Option<String>,
}

/// What changes.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) put: Vec<Incoming>,
    /// Identities of rules of a source that go; `None` for rules of files.
    pub(crate) remove: Vec<String>,
    pub(crate) source: Option<Arc<str>>,
}

/// What a change did.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// What is to be stored.
    pub(crate) changes: Vec<(Origin, state::Change)>,
    pub(crate) states: Vec<StateChange>,
    /// Rules that are gone.
    pub(crate) gone: Vec<String>,
    /// What is to be shown, by number; `None` is gone.
    pub(crate) shown: Vec<(usize, Option<RuleView>)>,
    /// Rules whose windows were read from storage.
    pub(crate) seeded: u64,
    /// Rules that were not taken, by identity.
    pub(crate) refused: Vec<(String, String)>,
}

/// What was read already: the series of some matchers, how far back, and the partitions that they are in.
type Read = HashMap<String, (i64, BTreeSet<u32>)>;

fn key(matchers: &[Matcher]) -> String {
    let shown: Vec<(&str, model::MatchOp, &str)> =
        matchers.iter().map(|m| (m.name.as_str(), m.op, m.value.as_str())).collect();
    format!("{shown:?}")
}

/// Whether what is kept for one rule serves the other.
fn is_same_window(old: &Rule, new: &Rule) -> bool {
    old.query == new.query && old.query_offset_ms == new.query_offset_ms
}

impl Engine {
    /// Takes what the database had at start. The alerts of rules that have not come when [`Engine::end_orphans`] is called end then.
    pub(crate) fn restore(&mut self, stored: Stored) {
        self.stored = stored;
    }

    /// Takes the ids of the channels that rules tell which name none.
    pub(crate) fn set_default_channels(&mut self, ids: HashSet<String>) {
        self.default_channels = ids;
    }

    /// Takes these rules in place of those that files had before. Alerts whose rule is nowhere end, but not those of a file that cannot be used: it
    /// may say the same as before once it is mended.
    pub(crate) fn set_files(&mut self, loaded: &Loaded, now_ms: i64, storage: &dyn SeriesSource) -> Changed {
        let uids: HashSet<&str> = loaded.rules.iter().map(|r| r.uid.as_str()).collect();
        let of_files = self.entries.iter().filter(|(_, e)| e.source.is_none());
        let gone = of_files.map(|(_, e)| e.rule.uid.clone()).filter(|uid| !uids.contains(uid.as_str()));
        let mut remove: Vec<String> = gone.collect();
        remove.sort_unstable();
        let put = loaded.rules.iter().enumerate().map(|(position, rule)| Incoming {
            rule: rule.clone(),
            source: None,
            generation: 0,
            position,
            default_channel: None,
        });
        self.change(Change { put: put.collect(), remove, source: None }, now_ms, storage)
    }

    /// Takes some rules, and lets some go.
    pub(crate) fn change(&mut self, change: Change, now_ms: i64, storage: &dyn SeriesSource) -> Changed {
        let (mut changed, mut fresh, mut read) = (Changed::default(), Vec::new(), Read::new());
        let mut touched = Vec::new();
        if self.windows.is_overflowed() && now_ms.saturating_sub(self.begun_at_ms) >= OVERFLOW_MS {
            self.windows.begin_again();
            self.begun_at_ms = now_ms;
            fresh.extend(self.entries.iter().filter(|(_, e)| e.kept).map(|(number, _)| number));
        }
        for incoming in change.put {
            if let Some((number, is_fresh)) = self.put(incoming, now_ms, &mut changed) {
                touched.push(number);
                if is_fresh {
                    fresh.push(number);
                }
            }
        }
        for uid in change.remove {
            self.remove(&uid, change.source.as_deref(), now_ms, &mut changed);
        }
        fresh.sort_unstable();
        fresh.dedup();
        for number in fresh {
            changed.seeded += u64::from(self.seed(number, now_ms, storage, &mut read));
        }
        let overflowed = self.windows.is_overflowed();
        for number in touched {
            let Some(entry) = self.entries.get(number) else { continue };
            let interval_ms = entry.rule.interval_ms.unwrap_or(self.interval_ms);
            changed.shown.push((number, Some(entry.show(interval_ms, entry.kept && !overflowed))));
        }
        changed
    }

    /// Takes one rule; its number, and whether its windows are to be read.
    fn put(&mut self, incoming: Incoming, now_ms: i64, changed: &mut Changed) -> Option<(usize, bool)> {
        let known = self.entries.number(&incoming.rule.uid);
        if let Some(other) = known.and_then(|n| self.entries.get(n)).filter(|old| old.source != incoming.source) {
            let from = other.source.as_deref().unwrap_or(&other.rule.file);
            tracing::error!(rule = incoming.rule.uid, from, "a rule with this uid is there already and stays");
            changed.refused.push((incoming.rule.uid, format!("a rule with this uid comes from {from} already")));
            return None;
        }
        let old = known.and_then(|number| self.entries.remove(number));
        let before = old.as_ref().filter(|old| old.kept);
        let before = before.map(|old| (old.needs.clone(), is_same_window(&old.rule, &incoming.rule)));
        let mut entry = self.entry(incoming, old);
        let same = entry.kept && before.as_ref().is_some_and(|(_, same)| *same);
        if let (Some(number), Some((needs, _))) = (known, before.filter(|_| !same)) {
            self.windows.remove(number, &needs);
        }
        let kept = entry.kept;
        let idle = entry.rule.alerting().is_none_or(|a| a.paused);
        if idle {
            let ended = state::end(&mut entry.alerts, now_ms);
            changed.changes.extend(ended.into_iter().map(|c| (Arc::clone(&entry.origin), c)));
            changed.states.extend(entry.note(now_ms));
        }
        let needs = if kept && !same { entry.needs.clone() } else { Vec::new() };
        // A number that was given back is the next that is taken, so this is the one from before.
        let number = self.entries.put(entry);
        self.windows.add(number, &needs);
        self.entries.set_due(number, if idle { i64::MAX } else { now_ms });
        Some((number, kept && !same))
    }

    fn remove(&mut self, uid: &str, source: Option<&str>, now_ms: i64, changed: &mut Changed) {
        let number = self.entries.number(uid);
        let own = number.filter(|n| self.entries.get(*n).is_some_and(|entry| entry.source.as_deref() == source));
        let Some((number, mut entry)) = own.and_then(|n| Some((n, self.entries.remove(n)?))) else { return };
        if entry.kept {
            self.windows.remove(number, &entry.needs);
        }
        let ended = state::end(&mut entry.alerts, now_ms);
        changed.changes.extend(ended.into_iter().map(|c| (Arc::clone(&entry.origin), c)));
        changed.gone.push(uid.to_owned());
        changed.shown.push((number, None));
    }

    fn entry(&mut self, incoming: Incoming, old: Option<Entry>) -> Entry {
        let Incoming { rule, source, generation, position, default_channel } = incoming;
        let needs = needs::needs(&rule.expr, LOOKBACK_MS);
        let fits = |back: i64| back.saturating_add(rule.query_offset_ms) <= self.window_max_ms;
        let kept = needs.iter().all(|n| n.back_ms.is_some_and(fits));
        let stored = self.stored.alerts.remove(&rule.uid).map(|(_, alerts)| alerts);
        let generator_url =
            format!("{}/graph?g0.expr={}&g0.tab=1", self.setting.external_url, text::query_escape(&rule.query));
        let (uid, file, name) = (rule.uid.clone(), rule.file.clone(), rule.name.clone());
        let recording = rule.alerting().is_none();
        let mut entry = Entry {
            origin: Arc::new(RuleFacts { uid, file, name, generator_url }),
            source,
            position,
            generation,
            evaluated: false,
            default_channel,
            kept: kept && !recording,
            unread: false,
            needs,
            alerts: stored.unwrap_or_default(),
            reads: BTreeSet::new(),
            last_ms: i64::MIN,
            touched_at_ms: None,
            health: "unknown",
            last_error: if recording { "recording rules are not evaluated yet".to_owned() } else { String::new() },
            no_data: false,
            evaluated_at_ms: None,
            took_seconds: 0.0,
            noted: self.stored.states.remove(&rule.uid),
            phase: Labels::empty().with("rule", &rule.uid).as_ref().hash64(),
            rule: Arc::new(rule),
        };
        if let Some(old) = old {
            entry.alerts = old.alerts;
            entry.last_ms = old.last_ms;
            entry.evaluated_at_ms = old.evaluated_at_ms;
            entry.took_seconds = old.took_seconds;
            entry.noted = old.noted;
            if old.rule.query == entry.rule.query {
                (entry.reads, entry.health, entry.last_error, entry.no_data) =
                    (old.reads, old.health, old.last_error, old.no_data);
            }
        }
        entry
    }

    /// Ends the alerts that the database had at start of rules that are nowhere.
    pub(crate) fn end_orphans(&mut self, bad_files: &BTreeSet<&str>, now_ms: i64) -> Changed {
        // A folder that cannot be read stands for all files in it.
        let is_bad = |file: &str| {
            bad_files
                .iter()
                .any(|bad| file.strip_prefix(bad).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        };
        let (stay, go) = std::mem::take(&mut self.stored.alerts).into_iter().partition(|(_, (file, _))| is_bad(file));
        self.stored.alerts = stay;
        let go: std::collections::BTreeMap<_, _> = go;
        // Of those whose file is bad only the time goes since when they are as they are.
        let mut changed =
            Changed { gone: self.stored.states.drain().map(|(uid, _)| uid).collect(), ..Changed::default() };
        for (uid, (file, mut alerts)) in go {
            let name = alerts.values().find_map(|a| a.labels.get("alertname")).unwrap_or_default().to_owned();
            let generator_url = format!("{}/graph", self.setting.external_url);
            let origin: Origin = Arc::new(RuleFacts { uid, file, name, generator_url });
            changed.changes.extend(state::end(&mut alerts, now_ms).into_iter().map(|c| (Arc::clone(&origin), c)));
        }
        changed
    }

    /// Reads the windows of a rule once more that could not be read before, when it is time.
    pub(super) fn read_again(&mut self, number: usize, now_ms: i64, storage: &dyn SeriesSource) {
        let Some(entry) = self.entries.get_mut(number).filter(|e| e.unread && now_ms >= self.seed_again_ms) else {
            return;
        };
        (entry.kept, entry.unread) = (true, false);
        let needs = entry.needs.clone();
        self.windows.add(number, &needs);
        self.seed(number, now_ms, storage, &mut Read::new());
    }

    /// Reads the windows of a rule from storage; whether it could. If not, the rule is evaluated over storage, for the time being where
    /// storage may give them later.
    fn seed(&mut self, number: usize, now_ms: i64, storage: &dyn SeriesSource, read: &mut Read) -> bool {
        let wait = now_ms < self.seed_again_ms;
        let outcome = if wait { None } else { Some(self.read_windows(number, now_ms, storage, read)) };
        if let Some(Ok(())) = outcome {
            return true;
        }
        // What storage will never give is not asked for again.
        let later = outcome.as_ref().is_none_or(|o| o.as_ref().is_err_and(|error| error.kind.is_retryable()));
        let Some(entry) = self.entries.get_mut(number) else { return false };
        (entry.kept, entry.unread) = (false, later);
        let (needs, uid) = (entry.needs.clone(), entry.rule.uid.clone());
        self.windows.remove(number, &needs);
        if let Some(Err(error)) = outcome {
            tracing::warn!(rule = uid, %error, "the windows of a rule cannot be read, it is evaluated over storage");
            // Others would find the same; one tries again.
            if later {
                self.seed_again_ms = now_ms + SEED_AGAIN_MS;
            }
        }
        false
    }

    fn read_windows(
        &mut self,
        number: usize,
        now_ms: i64,
        storage: &dyn SeriesSource,
        read: &mut Read,
    ) -> Result<(), SourceError> {
        let Some(entry) = self.entries.get_mut(number) else { return Ok(()) };
        let offset_ms = entry.rule.query_offset_ms;
        let mut columns = Columns::default();
        let mut samples: Vec<Sample> = Vec::new();
        for need in &entry.needs {
            let start_ms = now_ms - need.back_ms.unwrap_or(0) - offset_ms - MARGIN_MS;
            if let Some((_, reads)) = read.get(&key(&need.matchers)).filter(|(from_ms, _)| *from_ms <= start_ms) {
                entry.reads.extend(reads);
                continue;
            }
            let range = TimeRange { start_ms, end_ms: i64::MAX };
            let request = SelectRequest {
                matchers: need.matchers.clone(),
                range,
                want: Want::Samples,
                series_max: SEED_SERIES_MAX,
                cancel: Cancel::default(),
            };
            let mut reads = BTreeSet::new();
            for series in storage.select(&request)?.series {
                columns.clear();
                series.data.read(range, &mut columns)?;
                samples.clear();
                samples.extend(columns.t.iter().zip(&columns.v).map(|(t, v)| Sample { t: *t, v: *v }));
                let samples = Samples { floats: &samples, starts: &columns.starts, histograms: &columns.histograms };
                if !samples.is_empty() {
                    reads.insert(series.labels.as_ref().partition(self.partitions.len() as u32));
                    self.windows.seed(series.labels.as_ref(), samples);
                }
            }
            entry.reads.extend(&reads);
            read.insert(key(&need.matchers), (start_ms, reads));
        }
        Ok(())
    }
}
