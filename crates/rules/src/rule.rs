//! A rule that was checked, whichever kind of document it came from.

use promql::ast::Expr;

use crate::Template;

/// A rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its identity, which outlives changes of its text: the UID of the resource, or for files the file, group and name.
    pub uid: String,
    /// Name of the alert or of the recorded series.
    pub name: String,
    /// Group of a rule file; the namespace of a resource, or its name where it has none.
    pub group: String,
    /// Namespace of the resource; empty for others.
    pub namespace: String,
    /// The file it came from.
    pub file: String,
    /// The expression as it was written.
    pub query: String,
    /// The expression.
    pub expr: Expr,
    /// How often it is evaluated when nothing happens, in milliseconds; `None` takes the default.
    pub interval_ms: Option<i64>,
    /// How far in the past it is evaluated, in milliseconds.
    pub query_offset_ms: i64,
    /// More alerts than this are an error; zero is no limit.
    pub limit: usize,
    /// Labels that are added, in the order of their names.
    pub labels: Vec<(String, Template)>,
    /// Annotations, in the order of their names.
    pub annotations: Vec<(String, Template)>,
    /// What it does.
    pub kind: Kind,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// It raises alerts.
    Alerting(Alerting),
    /// It records a series. Loaded and shown; not evaluated yet.
    Recording,
}

/// What an alerting rule has of its own. Durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alerting {
    /// How long the condition must hold before the alert fires.
    pub for_ms: i64,
    /// How long an alert goes on firing after its condition ended.
    pub keep_firing_for_ms: i64,
    /// Id of the channel that is notified; `None` notifies nobody.
    pub channel: Option<String>,
    /// Whether it is not evaluated.
    pub paused: bool,
}

impl Rule {
    /// What an alerting rule has of its own; `None` for a recording rule.
    pub fn alerting(&self) -> Option<&Alerting> {
        match &self.kind {
            Kind::Alerting(alerting) => Some(alerting),
            Kind::Recording => None,
        }
    }
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms").
pub fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}
