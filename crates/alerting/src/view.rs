//! What the HTTP API shows: a picture of the rules and their alerts as of the last evaluation of each, so that a reader never waits for
//! an evaluation.
//!
//! A change concerns the rules that changed and nobody else: what is counted over all rules is kept as a count, and who waits for changes of
//! states is given those since the last that he saw.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use model::Labels;
use rules::handover::RuleState;
use rules::{Problem, Rule};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use crate::state::{Alert, Alerts, State};
use crate::store::Told;

/// The states of a rule, as the label of a metric.
pub(crate) const RULE_STATES: [&str; 8] =
    ["inactive", "pending", "firing", "recovering", "nodata", "error", "paused", "recording"];
/// While a rule is pending or fires, a new value alone counts as a change of its state only so often; how fast its samples come is no
/// reason to write its status.
const VALUE_MS: i64 = 60_000;

/// A rule with its alerts.
#[derive(Debug, Clone)]
pub(crate) struct RuleView {
    pub(crate) rule: Arc<Rule>,
    /// Who handed it over; `None` for rules of files.
    pub(crate) source: Option<Arc<str>>,
    /// Its place among the rules of files.
    pub(crate) position: usize,
    /// That of the document in use; zero for rules of files.
    pub(crate) generation: i64,
    /// Whether this generation was evaluated, or needs not be.
    pub(crate) evaluated: bool,
    /// Whether it is evaluated as samples arrive; otherwise over storage.
    pub(crate) streaming: bool,
    /// One of [`RULE_STATES`].
    pub(crate) state: &'static str,
    /// Since when it is in that state; `None` before its first evaluation.
    pub(crate) since_ms: Option<i64>,
    pub(crate) interval_ms: i64,
    pub(crate) alerts: Vec<Alert>,
    /// `ok`, `err` or `unknown`.
    pub(crate) health: &'static str,
    pub(crate) last_error: String,
    /// When it was evaluated last, by the clock of this machine; `None` if never.
    pub(crate) evaluated_at_ms: Option<i64>,
    pub(crate) took_seconds: f64,
}

impl RuleView {
    /// The state as Prometheus tells it: the strongest of its alerts.
    pub(crate) fn prometheus_state(&self) -> &'static str {
        let any = |announced: bool| self.alerts.iter().any(|a| a.state.is_announced() == announced);
        match self.evaluated_at_ms {
            _ if any(true) => "firing",
            _ if any(false) => "pending",
            None => "unknown",
            Some(_) => "inactive",
        }
    }

    /// What a rule's status says of it, all but the notifications.
    fn told(&self) -> RuleState {
        let (firing, pending): (Vec<&Alert>, Vec<&Alert>) =
            self.alerts.iter().partition(|alert| alert.state.is_announced());
        let oldest_firing = firing.iter().min_by_key(|a| a.fired_at_ms).map(|a| (a.fired_at_ms, a.value));
        let oldest_pending = || pending.iter().min_by_key(|a| a.active_at_ms).map(|a| (a.active_at_ms, a.value));
        let oldest = oldest_firing.or_else(oldest_pending);
        RuleState {
            uid: self.rule.uid.clone(),
            generation: self.generation,
            evaluated: self.evaluated,
            state: spoken(self.state).to_owned(),
            firing: firing.len() as u64,
            pending: pending.len() as u64,
            since_ms: oldest.map(|(since, _)| since).or(self.since_ms),
            value: oldest.map(|(_, value)| number(value)),
            last_notification_ms: None,
            mode: if self.streaming { "Streaming" } else { "Interval" }.to_owned(),
            cost_us: (self.took_seconds * 1e6) as u64,
            last_error: self.last_error.clone(),
        }
    }
}

/// The state of a rule, by what is known of it.
pub(crate) fn state_of(rule: &Rule, health: &str, no_data: bool, alerts: &Alerts) -> &'static str {
    let any = |state: State| alerts.values().any(|a| a.state == state);
    match health {
        _ if rule.alerting().is_none() => "recording",
        _ if rule.alerting().is_some_and(|a| a.paused) => "paused",
        "err" => "error",
        _ if any(State::Firing) => "firing",
        _ if any(State::Recovering) => "recovering",
        _ if any(State::Pending) => "pending",
        _ if no_data => "nodata",
        _ => "inactive",
    }
}

/// A state as it is written in a resource's status.
fn spoken(state: &str) -> &'static str {
    match state {
        "pending" => "Pending",
        "firing" => "Firing",
        "recovering" => "Recovering",
        "nodata" => "NoData",
        "error" => "Error",
        "paused" => "Paused",
        _ => "Inactive",
    }
}

/// A value as PromQL writes it.
fn number(value: f64) -> String {
    if value == f64::INFINITY { "+Inf".to_owned() } else { format!("{value}").replace("inf", "Inf") }
}

/// The alerts of a rule, in the order of their labels.
pub(crate) fn sorted(alerts: &Alerts) -> Vec<Alert> {
    let mut sorted: Vec<(&Labels, &Alert)> = alerts.iter().collect();
    sorted.sort_unstable_by(|a, b| a.0.cmp(b.0));
    sorted.into_iter().map(|(_, alert)| alert.clone()).collect()
}

/// The picture; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    picture: Arc<RwLock<Picture>>,
    /// The newest change, for those who wait for one.
    newest: watch::Sender<u64>,
    /// Held while something is durable and not shown yet.
    showing: Arc<Mutex<()>>,
}

impl Default for View {
    fn default() -> Self {
        View { picture: Arc::default(), newest: watch::Sender::new(0), showing: Arc::default() }
    }
}

/// Everything that is shown.
#[derive(Debug, Default)]
struct Picture {
    rules: Vec<Option<Place>>,
    problems: Arc<Vec<Problem>>,
    by_uid: HashMap<String, usize>,
    counts: Counts,
    newest: u64,
    /// The numbers of the rules by the change that they saw last, each once.
    changed: BTreeMap<u64, usize>,
}

/// A rule's place in the picture.
#[derive(Debug)]
struct Place {
    view: Arc<RuleView>,
    /// What was told of it last.
    told: RuleState,
    told_at_ms: i64,
    /// The change that it saw last.
    change: u64,
    last_notification_ms: Option<i64>,
    delivery_error: String,
}

/// How many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Rules, by their state.
    pub(crate) rules: BTreeMap<&'static str, i64>,
    /// Alerts, by their state.
    pub(crate) alerts: BTreeMap<&'static str, i64>,
}

impl Counts {
    fn count(&mut self, view: &RuleView, by: i64) {
        *self.rules.entry(view.state).or_default() += by;
        for alert in &view.alerts {
            *self.alerts.entry(alert.state.as_str()).or_default() += by;
        }
    }
}

impl View {
    /// All rules: those of files as they were read, then those that were handed over by group and name.
    pub(crate) fn rules(&self) -> Vec<Arc<RuleView>> {
        let mut rules: Vec<Arc<RuleView>> = self.read().rules.iter().flatten().map(|p| Arc::clone(&p.view)).collect();
        rules.sort_by(|a, b| {
            let own = (a.source.as_deref(), a.position).cmp(&(b.source.as_deref(), b.position));
            own.then_with(|| (&a.rule.group, &a.rule.name).cmp(&(&b.rule.group, &b.rule.name)))
        });
        rules
    }

    /// What is wrong with the rules of files.
    pub(crate) fn problems(&self) -> Arc<Vec<Problem>> {
        Arc::clone(&self.read().problems)
    }

    pub(crate) fn set_problems(&self, problems: Vec<Problem>) {
        self.write().problems = Arc::new(problems);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.read().counts.clone()
    }

    /// Waits until all that became durable since the start is shown; until this is dropped, nothing becomes durable that has to be shown.
    pub(crate) async fn showing(&self) -> OwnedMutexGuard<()> {
        self.showing.clone().lock_owned().await
    }

    /// Exchanges some rules, by their numbers; `None` is gone.
    pub(crate) fn update(&self, changed: Vec<(usize, Option<RuleView>)>, now_ms: i64) {
        let newest = {
            let mut picture = self.write();
            changed.into_iter().for_each(|(number, view)| picture.exchange(number, view, now_ms));
            picture.newest
        };
        self.tell(newest);
    }

    /// A delivery because of a rule was answered, or failed for a reason.
    pub(crate) fn notified(&self, uid: &str, at_ms: i64, failure: Option<&str>) {
        let newest = {
            let mut picture = self.write();
            let Some(number) = picture.by_uid.get(uid).copied() else { return };
            picture.notified(number, at_ms, failure);
            picture.newest
        };
        self.tell(newest);
    }

    /// Takes what the ledger says of notifications before this start.
    pub(crate) fn restore(&self, told: HashMap<String, Told>) {
        let mut picture = self.write();
        for (uid, told) in told {
            let Some(number) = picture.by_uid.get(&uid).copied() else { continue };
            if let Some(Some(place)) = picture.rules.get_mut(number) {
                // What was sent since is newer.
                if place.last_notification_ms.is_none() && place.delivery_error.is_empty() {
                    (place.last_notification_ms, place.delivery_error) = (told.delivered_ms, told.error);
                }
            }
        }
    }

    /// The states of a source's rules that changed after a change, and the newest change.
    pub(crate) fn states(&self, source: &str, after: u64) -> (u64, Vec<RuleState>) {
        let picture = self.read();
        let changed = picture.changed.range(after.saturating_add(1)..);
        let places = changed.filter_map(|(_, number)| picture.rules.get(*number)?.as_ref());
        let of_source = places.filter(|place| place.view.source.as_deref() == Some(source));
        (picture.newest, of_source.map(Place::state).collect())
    }

    /// Tells the newest change whenever there is one.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn tell(&self, newest: u64) {
        self.newest.send_if_modified(|known| {
            let newer = newest > *known;
            *known = newest.max(*known);
            newer
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, Picture> {
        self.picture.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Picture> {
        self.picture.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Picture {
    fn exchange(&mut self, number: usize, view: Option<RuleView>, now_ms: i64) {
        if self.rules.len() <= number {
            self.rules.resize_with(number + 1, || None);
        }
        let before = self.rules[number].take();
        if let Some(before) = &before {
            self.counts.count(&before.view, -1);
            self.changed.remove(&before.change);
            self.by_uid.remove(&before.view.rule.uid);
        }
        let Some(view) = view else { return };
        self.counts.count(&view, 1);
        self.by_uid.insert(view.rule.uid.clone(), number);
        let told = view.told();
        let same_rule = before.filter(|before| before.view.rule.uid == view.rule.uid);
        let place = match same_rule {
            Some(before) => {
                let as_told = !differs(&before.told, &told, now_ms - before.told_at_ms);
                let (told, told_at_ms) = if as_told { (before.told, before.told_at_ms) } else { (told, now_ms) };
                let change = if as_told { before.change } else { self.next() };
                Place { view: Arc::new(view), told, told_at_ms, change, ..before }
            }
            None => Place {
                view: Arc::new(view),
                told,
                told_at_ms: now_ms,
                change: self.next(),
                last_notification_ms: None,
                delivery_error: String::new(),
            },
        };
        self.changed.insert(place.change, number);
        self.rules[number] = Some(place);
    }

    fn notified(&mut self, number: usize, at_ms: i64, failure: Option<&str>) {
        let next = self.newest + 1;
        let Some(Some(place)) = self.rules.get_mut(number) else { return };
        match failure {
            None => {
                place.last_notification_ms = place.last_notification_ms.max(Some(at_ms));
                place.delivery_error.clear();
            }
            // Tried again and failed in the same way: that is known.
            Some(reason) if place.delivery_error == reason => return,
            Some(reason) => reason.clone_into(&mut place.delivery_error),
        }
        self.changed.remove(&place.change);
        place.change = next;
        self.changed.insert(next, number);
        self.newest = next;
    }

    fn next(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }
}

impl Place {
    /// What is to be told of it now.
    fn state(&self) -> RuleState {
        let mut state = self.view.told();
        state.last_notification_ms = self.last_notification_ms;
        if state.last_error.is_empty() {
            state.last_error.clone_from(&self.delivery_error);
        }
        state
    }
}

/// Whether there is something to tell: a transition always, a value alone now and then, what an evaluation cost never.
fn differs(told: &RuleState, now: &RuleState, since_told_ms: i64) -> bool {
    let value = RuleState { cost_us: now.cost_us, ..told.clone() };
    let transition = RuleState { value: now.value.clone(), ..value.clone() };
    transition != *now || (value != *now && since_told_ms >= VALUE_MS)
}

#[cfg(test)]
mod tests;
