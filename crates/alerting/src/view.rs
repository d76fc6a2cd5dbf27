//! What the HTTP API shows: a picture of the rules and their alerts as of the last evaluation of each, exchanged as a whole, so that
//! a reader never waits for an evaluation.

use std::sync::{Arc, PoisonError, RwLock};

use model::Labels;
use rules::{Problem, Rule};

use crate::state::{Alert, Alerts, State};

/// A rule with its alerts.
#[derive(Debug, Clone)]
pub(crate) struct RuleView {
    pub(crate) rule: Arc<Rule>,
    pub(crate) interval_ms: i64,
    pub(crate) alerts: Vec<Alert>,
    /// `ok`, `err` or `unknown`.
    pub(crate) health: &'static str,
    pub(crate) last_error: String,
    /// Whether its selectors found nothing at all.
    pub(crate) no_data: bool,
    /// When it was evaluated last, by the clock of this machine; `None` if never.
    pub(crate) evaluated_at_ms: Option<i64>,
    pub(crate) took_seconds: f64,
}

impl RuleView {
    /// The state as Prometheus tells it: the strongest of its alerts.
    pub(crate) fn state(&self) -> &'static str {
        let any = |announced: bool| self.alerts.iter().any(|a| a.state.is_announced() == announced);
        match self.evaluated_at_ms {
            _ if any(true) => "firing",
            _ if any(false) => "pending",
            None => "unknown",
            Some(_) => "inactive",
        }
    }

    /// The state in Weir's own words, which are more; the label of a metric.
    pub(crate) fn detail(&self) -> &'static str {
        let any = |state: State| self.alerts.iter().any(|a| a.state == state);
        match self.health {
            _ if self.rule.alerting().is_none() => "recording",
            _ if self.rule.alerting().is_some_and(|a| a.paused) => "paused",
            "err" => "error",
            _ if any(State::Firing) => "firing",
            _ if any(State::Recovering) => "recovering",
            _ if any(State::Pending) => "pending",
            _ if self.no_data => "nodata",
            _ => "inactive",
        }
    }
}

/// The alerts of a rule, in the order of their labels.
pub(crate) fn sorted(alerts: &Alerts) -> Vec<Alert> {
    let mut sorted: Vec<(&Labels, &Alert)> = alerts.iter().collect();
    sorted.sort_unstable_by(|a, b| a.0.cmp(b.0));
    sorted.into_iter().map(|(_, alert)| alert.clone()).collect()
}

/// The picture; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct View(Arc<RwLock<Picture>>);

/// Everything that is shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Picture {
    pub(crate) rules: Vec<Arc<RuleView>>,
    pub(crate) problems: Arc<Vec<Problem>>,
}

impl View {
    pub(crate) fn picture(&self) -> Picture {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Exchanges everything.
    pub(crate) fn replace(&self, picture: Picture) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = picture;
    }

    /// Exchanges some rules, by their numbers.
    pub(crate) fn update(&self, changed: Vec<(usize, RuleView)>) {
        let mut picture = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (number, view) in changed {
            if let Some(place) = picture.rules.get_mut(number) {
                *place = Arc::new(view);
            }
        }
    }
}
