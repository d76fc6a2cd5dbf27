//! The states of alerts and the changes between them. Pure: the time is an argument, nothing is stored or sent here.
//!
//! ```text
//! (inactive) ──active──▶ Pending ──for──▶ Firing ──ends──▶ Recovering ──keepFiringFor──▶ (resolved)
//!                           └──ends──▶ (inactive)  ◀──active──┘
//! ```
//! An alert that is inactive or resolved is not kept. What a receiver was told last (the channel and the labels) is kept with a firing
//! alert, so that whatever ends it, the rule's deletion or a change of its labels included, owes exactly that receiver a resolve.

use std::collections::HashMap;

use model::Labels;
use rules::Alerting;

/// The state of an alert that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The condition holds, but not yet for long enough.
    Pending,
    /// The condition holds.
    Firing,
    /// The condition ended, and the alert goes on firing for a while.
    Recovering,
}

impl State {
    pub(crate) const ALL: [State; 3] = [State::Pending, State::Firing, State::Recovering];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Firing => "firing",
            State::Recovering => "recovering",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        State::ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// Whether a receiver was told of it.
    pub(crate) fn is_announced(self) -> bool {
        self != State::Pending
    }
}

/// An alert.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alert {
    pub(crate) state: State,
    /// Its labels: those of the series, of the rule, and its name.
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
    pub(crate) value: f64,
    /// Since when the condition holds.
    pub(crate) active_at_ms: i64,
    /// Since when it fires; zero while pending.
    pub(crate) fired_at_ms: i64,
    /// Since when it recovers; zero otherwise.
    pub(crate) recovering_since_ms: i64,
    /// The channel that was told that it fires.
    pub(crate) channel: Option<String>,
}

/// One element of a rule's result, with the labels and texts of its alert.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Active {
    /// The labels of the series, without its name: the identity of the alert within its rule.
    pub(crate) series: Labels,
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
    pub(crate) value: f64,
}

/// What a receiver is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Notice {
    pub(crate) channel: String,
    pub(crate) firing: bool,
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
    pub(crate) starts_at_ms: i64,
    /// Zero while it fires.
    pub(crate) ends_at_ms: i64,
    pub(crate) value: f64,
}

/// A change of one alert, to be stored as a whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) series: Labels,
    /// The alert from now on; `None` where it is not kept any more.
    pub(crate) alert: Option<Alert>,
    /// What is owed because of it, in this order.
    pub(crate) notices: Vec<Notice>,
    /// The name of the state that it is in from now on.
    pub(crate) to: &'static str,
}

/// The alerts of one rule, by the labels of their series.
pub(crate) type Alerts = HashMap<Labels, Alert>;

/// Takes the result of an evaluation at a time, and tells what changed.
pub(crate) fn advance(alerts: &mut Alerts, rule: &Alerting, at_ms: i64, active: Vec<Active>) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut seen = std::collections::HashSet::with_capacity(active.len());
    for one in active {
        seen.insert(one.series.clone());
        changes.extend(hold(alerts, rule, at_ms, one));
    }
    let gone: Vec<Labels> = alerts.keys().filter(|series| !seen.contains(*series)).cloned().collect();
    for series in gone {
        changes.extend(release(alerts, rule, at_ms, series));
    }
    changes
}

/// As [`advance`], of a rule with a limit. Over it there is no alert any more, as in Prometheus, and who was told of one is told its end, as by an Alertmanager that
/// hears no more of it. The error says how many there would be.
pub(crate) fn advance_within(
    alerts: &mut Alerts,
    rule: &Alerting,
    at_ms: i64,
    active: Vec<Active>,
    limit: usize,
) -> (Vec<Change>, Result<(), String>) {
    let within = check_limit(alerts, rule, at_ms, &active, limit);
    let changes = if within.is_ok() { advance(alerts, rule, at_ms, active) } else { end(alerts, at_ms) };
    (changes, within)
}

/// Whether an evaluation at a time leaves more alerts than a limit, of which 0 is none; the error says how many. Those that are kept firing count too.
pub(crate) fn check_limit(
    alerts: &Alerts,
    rule: &Alerting,
    at_ms: i64,
    active: &[Active],
    limit: usize,
) -> Result<(), String> {
    if limit == 0 {
        return Ok(());
    }
    let seen: std::collections::HashSet<&Labels> = active.iter().map(|one| &one.series).collect();
    let stays = |(series, alert): &(&Labels, &Alert)| !seen.contains(*series) && is_kept_firing(alert, rule, at_ms);
    let count = active.len() + alerts.iter().filter(stays).count();
    if count > limit { Err(format!("exceeded limit of {limit} with {count} alerts")) } else { Ok(()) }
}

/// Whether an alert whose condition does not hold fires nevertheless.
fn is_kept_firing(alert: &Alert, rule: &Alerting, at_ms: i64) -> bool {
    match alert.state {
        State::Pending => false,
        State::Firing => rule.keep_firing_for_ms > 0,
        State::Recovering => at_ms - alert.recovering_since_ms < rule.keep_firing_for_ms,
    }
}

/// Ends every alert, because its rule is deleted or paused, or has too many.
pub(crate) fn end(alerts: &mut Alerts, at_ms: i64) -> Vec<Change> {
    let mut ended: Vec<(Labels, Alert)> = alerts.drain().collect();
    ended.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    ended.into_iter().map(|(series, alert)| ending(series, alert, at_ms)).collect()
}

/// When time alone may change the state of an alert of the rule.
pub(crate) fn due_ms(alerts: &Alerts, rule: &Alerting) -> Option<i64> {
    let due = |alert: &Alert| match alert.state {
        State::Pending => Some(alert.active_at_ms + rule.for_ms),
        State::Recovering => Some(alert.recovering_since_ms + rule.keep_firing_for_ms),
        State::Firing => None,
    };
    alerts.values().filter_map(due).min()
}

/// The condition holds.
fn hold(alerts: &mut Alerts, rule: &Alerting, at_ms: i64, one: Active) -> Option<Change> {
    let Active { series, labels, annotations, value } = one;
    let alert = alerts.entry(series.clone()).or_insert_with(|| Alert {
        state: State::Pending,
        labels: Labels::empty(),
        annotations: Labels::empty(),
        value,
        active_at_ms: at_ms,
        fired_at_ms: 0,
        recovering_since_ms: 0,
        channel: None,
    });
    let before = alert.clone();
    (alert.labels, alert.annotations, alert.value) = (labels, annotations, value);
    let mut notices = Vec::new();
    match before.state {
        State::Pending if at_ms - before.active_at_ms >= rule.for_ms => {
            (alert.state, alert.fired_at_ms) = (State::Firing, at_ms);
            alert.channel.clone_from(&rule.channel);
            notices.extend(notice(alert, true, 0));
        }
        State::Pending => {}
        State::Firing | State::Recovering => {
            (alert.state, alert.recovering_since_ms) = (State::Firing, 0);
            if before.labels != alert.labels || before.channel != rule.channel {
                // To its receiver this is another alert.
                notices.extend(notice(&before, false, at_ms));
                alert.channel.clone_from(&rule.channel);
                notices.extend(notice(alert, true, 0));
            }
        }
    }
    // A new value or text alone is shown, and stored with the next change.
    let stored = before.labels != alert.labels || before.state != alert.state || before.channel != alert.channel;
    stored.then(|| Change { series, to: alert.state.as_str(), alert: Some(alert.clone()), notices })
}

/// The condition does not hold any more.
fn release(alerts: &mut Alerts, rule: &Alerting, at_ms: i64, series: Labels) -> Option<Change> {
    let alert = alerts.get_mut(&series)?;
    if is_kept_firing(alert, rule, at_ms) {
        if alert.state == State::Recovering {
            return None;
        }
        (alert.state, alert.recovering_since_ms) = (State::Recovering, at_ms);
        return Some(Change { series, to: alert.state.as_str(), alert: Some(alert.clone()), notices: Vec::new() });
    }
    let alert = alerts.remove(&series)?;
    Some(ending(series, alert, at_ms))
}

fn ending(series: Labels, alert: Alert, at_ms: i64) -> Change {
    let announced = alert.state.is_announced();
    let notices = if announced { notice(&alert, false, at_ms).into_iter().collect() } else { Vec::new() };
    Change { series, alert: None, notices, to: if announced { "resolved" } else { "inactive" } }
}

fn notice(alert: &Alert, firing: bool, ends_at_ms: i64) -> Option<Notice> {
    Some(Notice {
        channel: alert.channel.clone()?,
        firing,
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        starts_at_ms: alert.fired_at_ms,
        ends_at_ms,
        value: alert.value,
    })
}

#[cfg(test)]
mod tests;
