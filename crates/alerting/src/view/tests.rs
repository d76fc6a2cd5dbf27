use super::*;

/// A second past a full one, so that nothing is zero by chance.
const T0: i64 = 1_700_000_000_000;

fn view(uid: &str, state: &'static str, value: f64) -> RuleView {
    let text = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: AlertRule\nmetadata: {{name: {uid}, uid: {uid}}}\nspec: {{expr: up}}\n"
    );
    let rule = rules::load_text(&text, "a.yaml", &promql::Features::default()).rules.remove(0);
    let alert = Alert {
        state: State::Firing,
        labels: Labels::empty(),
        annotations: Labels::empty(),
        value,
        active_at_ms: T0 - 20,
        fired_at_ms: T0 - 10,
        recovering_since_ms: 0,
        channel: None,
    };
    RuleView {
        rule: Arc::new(rule),
        source: Some(Arc::from("kubernetes")),
        position: 0,
        generation: 1,
        evaluated: true,
        streaming: true,
        state,
        since_ms: Some(T0 - 30),
        interval_ms: 15_000,
        alerts: if state == "firing" { vec![alert] } else { Vec::new() },
        health: "ok",
        last_error: String::new(),
        evaluated_at_ms: Some(T0),
        took_seconds: 0.000_25,
    }
}

/// The rules whose states changed after a change, with the newest one.
fn told(shown: &View, after: u64) -> (u64, Vec<String>) {
    let (newest, states) = shown.states("kubernetes", after);
    (newest, states.into_iter().map(|state| format!("{} {} {:?}", state.uid, state.state, state.value)).collect())
}

#[test]
fn a_transition_is_told_at_once_a_value_now_and_then_and_the_cost_never() {
    let shown = View::default();
    shown.update(vec![(0, Some(view("a", "inactive", 0.0))), (1, Some(view("b", "inactive", 0.0)))], T0);
    assert_eq!(told(&shown, 0), (2, vec!["a Inactive None".to_owned(), "b Inactive None".to_owned()]));
    assert_eq!(told(&shown, 2).1, [""; 0]);
    shown.update(vec![(0, Some(view("a", "firing", 0.5)))], T0);
    assert_eq!(told(&shown, 2), (3, vec!["a Firing Some(\"0.5\")".to_owned()]));
    shown.update(vec![(0, Some(view("a", "firing", 0.75)))], T0 + VALUE_MS - 1);
    assert_eq!(told(&shown, 3).1, [""; 0], "a value alone waits");
    shown.update(vec![(0, Some(view("a", "firing", 0.75)))], T0 + VALUE_MS);
    assert_eq!(told(&shown, 3), (4, vec!["a Firing Some(\"0.75\")".to_owned()]));
    let dear = RuleView { took_seconds: 1.0, ..view("a", "firing", 0.75) };
    shown.update(vec![(0, Some(dear))], T0 + 3 * VALUE_MS);
    assert_eq!(told(&shown, 4).1, [""; 0]);
    assert_eq!(shown.states("other", 0).1, []);
}

#[test]
fn the_value_is_that_of_the_oldest_firing_series_else_of_the_oldest_pending_one() {
    let told = |alerts: &[(State, f64, i64, i64)]| {
        let mut view = view("a", "firing", 0.0);
        let one = view.alerts.remove(0);
        let alert = |(state, value, active_at_ms, fired_at_ms): &(State, f64, i64, i64)| Alert {
            state: *state,
            value: *value,
            active_at_ms: *active_at_ms,
            fired_at_ms: *fired_at_ms,
            ..one.clone()
        };
        view.alerts = alerts.iter().map(alert).collect();
        let RuleState { firing, pending, since_ms, value, .. } = view.told();
        (firing, pending, since_ms, value)
    };
    // Pending for longer does not count beside one that fires, nor does how long the condition of that one held before.
    let (older, newer) = ((State::Firing, 1.0, T0 - 50, T0 - 9), (State::Recovering, 2.0, T0 - 60, T0 - 8));
    let (waits, waits_less) = ((State::Pending, 3.0, T0 - 90, 0), (State::Pending, 4.0, T0 - 80, 0));
    assert_eq!(told(&[newer, waits, older]), (2, 1, Some(T0 - 9), Some("1".to_owned())));
    assert_eq!(told(&[waits_less, waits]), (0, 2, Some(T0 - 90), Some("3".to_owned())));
    assert_eq!(told(&[]), (0, 0, Some(T0 - 30), None), "since the change to this state");
}

#[test]
fn what_became_of_a_notification_is_told_once() {
    let shown = View::default();
    shown.update(vec![(0, Some(view("a", "firing", 1.0)))], T0);
    shown.notified("a", T0 + 5, Some("status 500"));
    shown.notified("a", T0 + 6, Some("status 500"));
    let (newest, states) = shown.states("kubernetes", 1);
    assert_eq!((newest, states[0].last_error.as_str(), states[0].last_notification_ms), (2, "status 500", None));
    shown.notified("a", T0 + 7, None);
    let (newest, states) = shown.states("kubernetes", 2);
    assert_eq!((newest, states[0].last_error.as_str(), states[0].last_notification_ms), (3, "", Some(T0 + 7)));
    // An evaluation that fails matters more than a delivery that did.
    shown.notified("a", T0 + 8, Some("status 500"));
    let failed = RuleView { last_error: "duplicate series".to_owned(), state: "error", ..view("a", "firing", 1.0) };
    shown.update(vec![(0, Some(failed))], T0 + 9);
    assert_eq!(shown.states("kubernetes", 4).1[0].last_error, "duplicate series");
    shown.notified("nobody", T0, None);
}

#[test]
fn counts_follow_rules_that_change_and_go_and_numbers_are_used_again() {
    let shown = View::default();
    shown.update(vec![(0, Some(view("a", "firing", 1.0))), (1, Some(view("b", "nodata", 1.0)))], T0);
    let counted = |shown: &View| {
        let Counts { rules, alerts } = shown.counts();
        let some = |counts: BTreeMap<&str, i64>| {
            counts.into_iter().filter(|(_, n)| *n != 0).map(|(s, n)| format!("{s} {n}")).collect()
        };
        let (rules, alerts): (Vec<String>, Vec<String>) = (some(rules), some(alerts));
        [rules, alerts].concat()
    };
    assert_eq!(counted(&shown), ["firing 1", "nodata 1", "firing 1"]);
    shown.update(vec![(0, None)], T0);
    assert_eq!(counted(&shown), ["nodata 1"]);
    shown.update(vec![(0, Some(view("c", "inactive", 1.0)))], T0);
    assert_eq!(counted(&shown), ["inactive 1", "nodata 1"]);
    assert_eq!(told(&shown, 2).1, ["c Inactive None"], "and nothing is left of the one before");
    assert_eq!(shown.rules().iter().map(|v| v.rule.uid.as_str()).collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn values_are_written_as_promql_does() {
    for (value, text) in
        [(1.0, "1"), (0.5, "0.5"), (f64::INFINITY, "+Inf"), (f64::NEG_INFINITY, "-Inf"), (f64::NAN, "NaN")]
    {
        assert_eq!(number(value), text);
    }
}
