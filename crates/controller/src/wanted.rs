//! What the status of a resource should be, and how urgent it is to write that. Nothing but comparisons; time is an argument.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use rules::handover::RuleState;
use rules::kubernetes::{AlertRuleStatus, ChannelStatus};

use crate::world::{Bad, Channel, Identity, Inner, Rule};

/// How long alerting may be silent before rules say so: longer than its restart.
const UNREACHABLE_AFTER_MS: i64 = 30_000;
/// How long a new generation may go without an evaluation before its rule says so.
const NOT_EVALUATED_AFTER_MS: i64 = 30_000;
/// What is not a change of state is written this often.
const REFRESH_EVERY_MS: i64 = 300_000;
/// Characters of a message; the API server takes 32768.
const MESSAGE_CHARS_MAX: usize = 2048;

/// How urgent a write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// The first answer to a new generation.
    Ready,
    /// A change of state.
    Transition,
    /// All else.
    Refresh,
}

impl Class {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Class::Ready => "ready",
            Class::Transition => "transition",
            Class::Refresh => "refresh",
        }
    }
}

/// Ready, as it should be.
struct Readiness {
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// The status that a rule should have; `None` while nothing can be said.
pub(crate) fn rule(inner: &Inner, rule: &Rule, now_ms: i64) -> Option<AlertRuleStatus> {
    if inner.left_to(rule).is_some() {
        return None;
    }
    let generation = rule.identity.generation;
    let state = rule.state.as_ref().filter(|state| state.generation == generation && state.evaluated);
    let readiness = rule_readiness(inner, rule, state.is_some(), now_ms)?;
    let conditions = vec![condition(&readiness, &rule.stored.conditions, &rule.identity, now_ms)];
    let managed_by = Some(inner.instance.clone());
    let bare =
        AlertRuleStatus { observed_generation: generation, conditions, managed_by, ..AlertRuleStatus::default() };
    Some(match (state, readiness.reason) {
        _ if readiness.status == "False" && (rule.verdict.is_err() || rule.refused.is_some()) => {
            AlertRuleStatus { state: Some("Invalid".to_owned()), firing: Some(0), pending: Some(0), ..bare }
        }
        // What is shown is what was known last.
        (_, "AlertingUnreachable") | (None, _) => {
            let AlertRuleStatus { observed_generation, conditions, managed_by, .. } = bare;
            AlertRuleStatus { observed_generation, conditions, managed_by, ..rule.stored.clone() }
        }
        (Some(state), _) => live(state, bare),
    })
}

fn rule_readiness(inner: &Inner, rule: &Rule, evaluated: bool, now_ms: i64) -> Option<Readiness> {
    let no = |reason, message: String| Some(Readiness { status: "False", reason, message });
    let handed = match &rule.verdict {
        Ok(handed) => handed,
        Err(bad) => return no(bad.reason, bad.message.clone()),
    };
    if let Some(reason) = &rule.refused {
        return no("RefusedByAlerting", reason.clone());
    }
    let unknown = |reason, message: &str| Some(Readiness { status: "Unknown", reason, message: message.to_owned() });
    if inner.unreachable_ms.is_some_and(|since| now_ms - since >= UNREACHABLE_AFTER_MS) {
        return unknown("AlertingUnreachable", "alerting does not answer; what is shown is what was known last");
    }
    if !evaluated {
        let late = now_ms - rule.seen_ms >= NOT_EVALUATED_AFTER_MS;
        return if late { unknown("NotEvaluated", "alerting has not evaluated this generation yet") } else { None };
    }
    let wanted = handed.document.spec.channel.as_deref();
    let id = rules::handover::channel_id(&rule.identity.namespace, wanted);
    match inner.channels.get(&id) {
        Some(channel) => {
            if let Err(bad) = inner.usable(channel) {
                return no("ChannelNotReady", format!("channel {id}: {}", bad.message));
            }
        }
        None if wanted.is_some() && inner.channels_listed => {
            return no("ChannelNotFound", format!("there is no NotificationChannel {id}; notifications wait for it"));
        }
        None => {}
    }
    Some(Readiness { status: "True", reason: "Ready", message: "evaluated by alerting".to_owned() })
}

fn live(state: &RuleState, bare: AlertRuleStatus) -> AlertRuleStatus {
    AlertRuleStatus {
        state: Some(state.state.clone()),
        firing: i64::try_from(state.firing).ok(),
        pending: i64::try_from(state.pending).ok(),
        since: state.since_ms.and_then(seconds),
        value: state.value.clone().map(|v| short(&v, 64)),
        last_notification: state.last_notification_ms.and_then(seconds),
        mode: Some(state.mode.clone()),
        cost: Some(format!("{}us", state.cost_us)),
        last_error: (!state.last_error.is_empty()).then(|| short(&state.last_error, MESSAGE_CHARS_MAX)),
        ..bare
    }
}

/// The status that a channel should have.
pub(crate) fn channel(inner: &Inner, channel: &Channel, now_ms: i64) -> Option<ChannelStatus> {
    if inner.left_to(channel).is_some() {
        return None;
    }
    let readiness = match (&channel.refused, inner.usable(channel)) {
        (_, Err(Bad { reason, message })) => {
            // A Secret that was not read yet is not one that is absent.
            if reason == "SecretNotFound" && !inner.secrets_read {
                return None;
            }
            Readiness { status: "False", reason, message }
        }
        (Some(reason), Ok(_)) => Readiness { status: "False", reason: "RefusedByAlerting", message: reason.clone() },
        (None, Ok(_)) if channel.accepted == channel.stamp => {
            Readiness { status: "True", reason: "Ready", message: "in use by alerting".to_owned() }
        }
        (None, Ok(_)) => return None,
    };
    let url = channel.verdict.as_ref().ok().and_then(|d| d.spec.webhook.as_ref()).and_then(|w| w.url.as_deref());
    let host = url.and_then(|url| url.split('/').nth(2)).map(|host| host.rsplit('@').next().unwrap_or(host));
    Some(ChannelStatus {
        observed_generation: channel.identity.generation,
        receiver: channel.verdict.is_ok().then(|| "webhook".to_owned()),
        target: host.map(|host| short(host, 300)),
        managed_by: Some(inner.instance.clone()),
        conditions: vec![condition(&readiness, &channel.stored.conditions, &channel.identity, now_ms)],
    })
}

/// How urgent it is to write a rule's status; `None` where it can stay as it is.
pub(crate) fn rule_class(
    stored: &AlertRuleStatus,
    wanted: &AlertRuleStatus,
    written_ms: i64,
    now_ms: i64,
) -> Option<Class> {
    if stored.observed_generation != wanted.observed_generation {
        return Some(Class::Ready);
    }
    let moved = stored.state != wanted.state
        || stored.firing != wanted.firing
        || stored.last_error.is_some() != wanted.last_error.is_some()
        || differ(&stored.conditions, &wanted.conditions);
    if moved {
        return Some(Class::Transition);
    }
    if stored.managed_by != wanted.managed_by {
        return Some(Class::Refresh);
    }
    let lives = matches!(wanted.state.as_deref(), Some("Pending" | "Firing" | "Recovering"));
    (lives && stored != wanted && now_ms - written_ms >= REFRESH_EVERY_MS).then_some(Class::Refresh)
}

/// How urgent it is to write a channel's status.
pub(crate) fn channel_class(stored: &ChannelStatus, wanted: &ChannelStatus) -> Option<Class> {
    if stored.observed_generation != wanted.observed_generation {
        return Some(Class::Ready);
    }
    if differ(&stored.conditions, &wanted.conditions) || stored.target != wanted.target {
        return Some(Class::Transition);
    }
    (stored.managed_by != wanted.managed_by).then_some(Class::Refresh)
}

fn differ(stored: &[Condition], wanted: &[Condition]) -> bool {
    let facts = |c: &Condition| (c.type_.clone(), c.status.clone(), c.reason.clone(), c.message.clone());
    stored.iter().map(facts).ne(wanted.iter().map(facts))
}

/// The time of the transition stays while the status does.
fn condition(readiness: &Readiness, stored: &[Condition], identity: &Identity, now_ms: i64) -> Condition {
    let before = stored.iter().find(|c| c.type_ == "Ready" && c.status == readiness.status);
    let now = Time(Timestamp::from_second(now_ms.div_euclid(1000)).unwrap_or_default());
    Condition {
        type_: "Ready".to_owned(),
        status: readiness.status.to_owned(),
        reason: readiness.reason.to_owned(),
        message: short(&readiness.message, MESSAGE_CHARS_MAX),
        observed_generation: Some(identity.generation),
        last_transition_time: before.map_or(now, |c| c.last_transition_time.clone()),
    }
}

/// RFC 3339, in whole seconds, as the API server writes times.
fn seconds(ms: i64) -> Option<String> {
    Timestamp::from_second(ms.div_euclid(1000)).ok().map(|time| time.to_string())
}

fn short(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, value: &str) -> AlertRuleStatus {
        let (state, value) = (Some(state.to_owned()), Some(value.to_owned()));
        AlertRuleStatus { observed_generation: 1, state, firing: Some(1), value, ..AlertRuleStatus::default() }
    }

    #[test]
    fn what_changes_along_is_written_every_five_minutes_while_there_is_an_alert_and_only_if_it_changed() {
        let after = |stored: &AlertRuleStatus, wanted: &AlertRuleStatus, ms| rule_class(stored, wanted, 0, ms);
        for state in ["Pending", "Firing", "Recovering"] {
            let (stored, wanted) = (status(state, "1"), status(state, "2"));
            assert_eq!(after(&stored, &wanted, REFRESH_EVERY_MS - 1), None, "{state}");
            assert_eq!(after(&stored, &wanted, REFRESH_EVERY_MS), Some(Class::Refresh), "{state}");
            assert_eq!(after(&stored, &stored, 10 * REFRESH_EVERY_MS), None, "{state}, unchanged");
        }
        assert_eq!(after(&status("Inactive", "1"), &status("Inactive", "2"), 10 * REFRESH_EVERY_MS), None);
    }

    #[test]
    fn a_new_generation_goes_before_a_transition_and_that_before_the_rest() {
        let stored = status("Pending", "1");
        let check = |change: &dyn Fn(&mut AlertRuleStatus), expect| {
            let mut wanted = stored.clone();
            change(&mut wanted);
            assert_eq!(rule_class(&stored, &wanted, 0, 1), expect, "{wanted:?}");
        };
        check(&|s| s.state = Some("Firing".to_owned()), Some(Class::Transition));
        check(&|s| s.firing = Some(2), Some(Class::Transition));
        check(&|s| s.last_error = Some("status 500".to_owned()), Some(Class::Transition));
        check(&|s| (s.observed_generation, s.firing) = (2, Some(2)), Some(Class::Ready));
        check(&|s| s.managed_by = Some("weir/other".to_owned()), Some(Class::Refresh));
        check(&|s| s.cost = Some("7us".to_owned()), None);
    }
}
