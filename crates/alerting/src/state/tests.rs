use super::*;

fn labels(text: &str) -> Labels {
    Labels::new(&[("a", text)]).expect("valid")
}

fn active(series: &str, value: f64) -> Active {
    let series = labels(series);
    Active { labels: series.with("alertname", "X"), annotations: Labels::empty(), series, value }
}

fn rule(for_ms: i64, keep_firing_for_ms: i64) -> Alerting {
    Alerting { for_ms, keep_firing_for_ms, channel: Some("c".to_owned()), paused: false }
}

/// `to` of each change, with `+` for a firing and `-` for a resolve that is owed.
fn shown(changes: &[Change]) -> Vec<String> {
    let sign = |n: &Notice| if n.firing { '+' } else { '-' };
    changes.iter().map(|c| format!("{}{}", c.to, c.notices.iter().map(sign).collect::<String>())).collect()
}

/// Evaluates at each time with these series active, and expects these changes.
fn check(rule: &Alerting, steps: &[(i64, &[&str], &[&str])]) -> Alerts {
    let mut alerts = Alerts::new();
    for (at_ms, series, expect) in steps {
        let active = series.iter().map(|s| active(s, 1.0)).collect();
        assert_eq!(shown(&advance(&mut alerts, rule, *at_ms, active)), *expect, "at {at_ms}");
    }
    alerts
}

#[test]
fn without_for_it_fires_at_once_and_resolves_once() {
    check(&rule(0, 0), &[(10, &["x"], &["firing+"]), (20, &["x"], &[]), (30, &[], &["resolved-"]), (40, &[], &[])]);
}

#[test]
fn for_is_waited_for_and_begins_anew_after_a_gap() {
    let steps: &[(i64, &[&str], &[&str])] = &[
        (0, &["x"], &["pending"]),
        (99, &["x"], &[]),
        (100, &[], &["inactive"]),
        (110, &["x"], &["pending"]),
        (209, &["x"], &[]),
        (210, &["x"], &["firing+"]),
    ];
    let alerts = check(&rule(100, 0), steps);
    assert_eq!((alerts[&labels("x")].active_at_ms, alerts[&labels("x")].fired_at_ms), (110, 210));
}

#[test]
fn it_goes_on_firing_while_it_recovers() {
    let steps: &[(i64, &[&str], &[&str])] = &[
        (0, &["x"], &["firing+"]),
        (10, &[], &["recovering"]),
        (50, &["x"], &["firing"]),
        (60, &[], &["recovering"]),
        (159, &[], &[]),
        (160, &[], &["resolved-"]),
    ];
    check(&rule(0, 100), steps);
}

#[test]
fn each_series_is_an_alert_of_its_own() {
    check(&rule(0, 0), &[(0, &["x", "y"], &["firing+", "firing+"]), (1, &["y", "z"], &["firing+", "resolved-"])]);
}

#[test]
fn new_labels_of_a_firing_alert_resolve_the_old_ones_and_keep_its_start() {
    let (rule, mut alerts) = (rule(0, 0), Alerts::new());
    advance(&mut alerts, &rule, 5, vec![active("x", 1.0)]);
    let mut changed = active("x", 2.0);
    changed.labels = changed.labels.with("severity", "page");
    let changes = advance(&mut alerts, &rule, 10, vec![changed]);
    assert_eq!(shown(&changes), ["firing-+"]);
    assert_eq!(changes[0].notices[0].labels.get("severity"), None);
    assert_eq!(changes[0].notices[1].labels.get("severity"), Some("page"));
    assert_eq!(changes[0].notices[1].starts_at_ms, 5);
}

#[test]
fn a_new_channel_is_told_and_the_old_one_is_told_the_end() {
    let (mut rule, mut alerts) = (rule(0, 0), Alerts::new());
    advance(&mut alerts, &rule, 5, vec![active("x", 1.0)]);
    rule.channel = Some("d".to_owned());
    let changes = advance(&mut alerts, &rule, 10, vec![active("x", 1.0)]);
    let told: Vec<(&str, bool)> = changes[0].notices.iter().map(|n| (n.channel.as_str(), n.firing)).collect();
    assert_eq!(told, [("c", false), ("d", true)]);
}

#[test]
fn the_end_of_a_rule_owes_a_resolve_for_what_fires_and_nothing_for_what_is_pending() {
    let (rule, mut alerts) = (rule(100, 100), Alerts::new());
    advance(&mut alerts, &rule, 0, vec![active("fires", 1.0), active("recovers", 1.0)]);
    advance(&mut alerts, &rule, 100, vec![active("fires", 1.0), active("recovers", 1.0)]);
    advance(&mut alerts, &rule, 110, vec![active("fires", 1.0), active("waits", 1.0)]);
    assert_eq!(due_ms(&alerts, &rule), Some(210));
    assert_eq!(shown(&end(&mut alerts, 120)), ["resolved-", "resolved-", "inactive"]);
    assert!(alerts.is_empty());
    assert_eq!(due_ms(&alerts, &rule), None);
}

#[test]
fn what_is_kept_firing_counts_for_the_limit() {
    let rule = rule(0, 100);
    let alerts = check(&rule, &[(0, &["x", "y"], &["firing+", "firing+"]), (10, &["y"], &["recovering"])]);
    let over = |at_ms, series: &[&str], limit| {
        let active: Vec<Active> = series.iter().map(|s| active(s, 1.0)).collect();
        check_limit(&alerts, &rule, at_ms, &active, limit).err()
    };
    let told = |limit, count| Some(format!("exceeded limit of {limit} with {count} alerts"));
    assert_eq!(over(20, &["y"], 2), None);
    assert_eq!(over(20, &["y"], 1), told(1, 2));
    assert_eq!(over(20, &["y", "z"], 2), told(2, 3));
    assert_eq!(over(20, &["x", "y"], 2), None, "it is not counted twice");
    assert_eq!(over(20, &[], 1), told(1, 2), "one that fires begins to be kept firing");
    assert_eq!(over(110, &["y"], 1), None, "for so long and no longer");
    assert_eq!(over(20, &["a", "b", "c"], 0), None, "zero is no limit");
    let not_kept = self::rule(0, 0);
    assert_eq!(check_limit(&alerts, &not_kept, 20, &[active("z", 1.0)], 1), Ok(()));
    let pending = check(&self::rule(50, 100), &[(0, &["x"], &["pending"])]);
    assert_eq!(
        check_limit(&pending, &self::rule(50, 100), 10, &[active("z", 1.0)], 1),
        Ok(()),
        "what only waited is gone"
    );
}

#[test]
fn over_the_limit_what_fires_ends_and_begins_anew_within_it() {
    let (rule, mut alerts) = (rule(0, 100), Alerts::new());
    let mut at = |at_ms, series: &[&str]| {
        let active = series.iter().map(|s| active(s, 1.0)).collect();
        let (changes, within) = advance_within(&mut alerts, &rule, at_ms, active, 1);
        (shown(&changes).join(" "), within.is_ok())
    };
    assert_eq!(at(0, &["x"]), ("firing+".to_owned(), true));
    // One ends as another begins: both are one too many, since the first would be kept.
    assert_eq!(at(10, &["y"]), ("resolved-".to_owned(), false));
    assert_eq!(at(50, &["y"]), ("firing+".to_owned(), true));
    assert_eq!(at(60, &["x", "y"]), ("resolved-".to_owned(), false));
    assert_eq!(at(70, &["x", "y"]), (String::new(), false));
    assert_eq!(at(170, &["x"]), ("firing+".to_owned(), true));
}

#[test]
fn over_the_limit_what_waits_is_forgotten() {
    let (rule, mut alerts) = (rule(50, 0), Alerts::new());
    let mut at = |at_ms, series: &[&str]| {
        let active = series.iter().map(|s| active(s, 1.0)).collect();
        let (changes, within) = advance_within(&mut alerts, &rule, at_ms, active, 1);
        (shown(&changes).join(" "), within.is_ok())
    };
    assert_eq!(at(0, &["x"]), ("pending".to_owned(), true));
    assert_eq!(at(40, &["x", "y"]), ("inactive".to_owned(), false));
    assert_eq!(at(60, &["x"]), ("pending".to_owned(), true));
    assert_eq!(at(110, &["x"]), ("firing+".to_owned(), true));
}
