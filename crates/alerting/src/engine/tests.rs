use super::*;
use model::{Labels, LabelsRequest, Listing, Metadata, Sample, SelectRequest, SeriesSet, SourceError};
use queue::payload::Visitor;
use rules::Loaded;
use tsdb::Head;

use crate::state::State;
use crate::store::{Commit, Store};

/// A second past a full one, so that nothing is zero by chance.
const T0: i64 = 1_700_000_000_000;

/// Storage of a test.
#[derive(Default)]
struct Fake(Head);

impl SeriesSource for Fake {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        self.0.select(request)
    }
    fn label_names(&self, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.0.label_names(request)
    }
    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        self.0.label_values(name, request)
    }
    fn metadata(&self, family: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        self.0.metadata(family)
    }
}

/// A storage that gives no series.
struct Refusing(model::Kind);

impl SeriesSource for Refusing {
    fn select(&self, _: &SelectRequest) -> Result<SeriesSet, SourceError> {
        Err(SourceError { kind: self.0, message: "refused".to_owned() })
    }
    fn label_names(&self, _: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        unreachable!("rules do not ask for names")
    }
    fn label_values(&self, _: &str, _: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        unreachable!("rules do not ask for values")
    }
    fn metadata(&self, _: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        unreachable!("rules do not ask for metadata")
    }
}

fn rule(name: &str, expr: &str, more: &str) -> String {
    format!(
        "---\napiVersion: weir.dev/v1alpha1\nkind: AlertRule\nmetadata: {{name: {name}}}\nspec: {{expr: '{expr}', channel: c{more}}}\n"
    )
}

fn load(text: &str) -> Loaded {
    let channel = "---\napiVersion: weir.dev/v1alpha1\nkind: NotificationChannel\nmetadata: {name: c}\nspec: {webhook: {url: 'http://h'}}\n";
    let loaded = rules::load_text(&format!("{text}{channel}"), "a.yaml", &promql::Features::default());
    assert_eq!(loaded.problems, [], "{text}");
    loaded
}

/// An engine with two partitions, over a storage that is empty unless a test says otherwise.
struct Rig {
    engine: Engine,
    storage: Fake,
}

impl Rig {
    fn new(rules: &str) -> Self {
        let mut rig = Rig::empty();
        rig.set(rules, T0);
        rig.round(T0);
        rig
    }

    fn empty() -> Self {
        let setting = Setting {
            features: promql::Features::default(),
            external_labels: Labels::empty(),
            external_url: "http://w".into(),
            memory: Default::default(),
            subquery_step_ms: crate::evaluate::SUBQUERY_STEP_MS,
        };
        Rig { engine: Engine::new(setting, 2, 15_000, 3_600_000, 64 << 20), storage: Fake::default() }
    }

    fn set(&mut self, rules: &str, now_ms: i64) -> Vec<String> {
        let changed = self.engine.set_files(&load(rules), now_ms, &self.storage);
        changed.changes.iter().map(shown).collect()
    }

    fn entry(&self, number: usize) -> &Entry {
        self.engine.entries.get(number).expect("a rule")
    }

    /// A record with one sample of `up{job=…}`.
    fn sample(&mut self, partition: u32, job: &str, t: i64, v: f64, now_ms: i64) {
        let labels = Labels::new(&[("__name__", "up"), ("job", job)]).expect("valid");
        let show = |visitor: &mut dyn Visitor| {
            visitor.series(labels.as_ref(), (&[Sample { t, v }]).into());
            Ok(())
        };
        self.engine.record(partition, now_ms, now_ms, show).expect("shown");
    }

    /// What changes in a round.
    fn round(&mut self, now_ms: i64) -> Vec<String> {
        let round = self.engine.round(now_ms, &self.storage, &|| 0.0);
        round.changes.iter().map(shown).collect()
    }

    /// How many rules a round evaluates.
    fn evaluated(&mut self, now_ms: i64) -> usize {
        self.engine.round(now_ms, &self.storage, &|| 0.0).shown.len()
    }
}

fn shown((origin, change): &(Origin, Change)) -> String {
    let sign = |n: &crate::state::Notice| if n.firing { '+' } else { '-' };
    let signs: String = change.notices.iter().map(sign).collect();
    format!("{} {} {}{signs}", origin.name, change.series.get("job").unwrap_or("?"), change.to)
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_sample_that_crosses_fires_after_the_debounce_and_the_next_one_resolves() {
    let mut rig = Rig::new(&rule("Down", "up == 0", ""));
    rig.sample(0, "a", T0 + 100, 1.0, T0 + 100);
    rig.sample(0, "a", T0 + 101, 0.0, T0 + 101);
    assert_eq!(rig.engine.due_ms(), Some(T0 + 120), "the debounce begins with the first");
    assert_eq!(rig.round(T0 + 119), NOTHING);
    assert_eq!(rig.round(T0 + 120), ["Down a firing+"]);
    assert_eq!(rig.evaluated(T0 + 121), 0);
    rig.sample(0, "a", T0 + 1000, 1.0, T0 + 1001);
    assert_eq!(rig.round(T0 + 1021), ["Down a resolved-"]);
}

#[test]
fn a_sample_touches_only_the_rules_that_select_it() {
    let mut rig = Rig::new(&(rule("A", "up == 0", "") + &rule("B", "down", "") + &rule("C", "{job=\"a\"}", "")));
    rig.sample(0, "a", T0 + 100, 0.0, T0 + 100);
    assert_eq!(rig.evaluated(T0 + 120), 2);
    rig.sample(0, "b", T0 + 200, 0.0, T0 + 200);
    assert_eq!(rig.evaluated(T0 + 220), 1);
}

#[test]
fn a_thousand_idle_rules_are_evaluated_in_rounds_that_they_share() {
    let mut rig = Rig::new(&(0..1000).map(|n| rule(&format!("r{n}"), "up == 0", "")).collect::<String>());
    let (mut rounds, mut evaluations) = (0, 0);
    while let Some(due_ms) = rig.engine.due_ms().filter(|due_ms| *due_ms <= T0 + 15_000) {
        rounds += 1;
        evaluations += rig.evaluated(due_ms);
    }
    assert_eq!(evaluations, 1000, "each once an interval");
    assert!(rounds <= 15_000 / DEBOUNCE_MS, "{rounds}");
}

#[test]
fn a_rule_whose_expression_changes_is_not_touched_by_what_it_read_before() {
    let mut rig = Rig::new(&rule("A", "up == 0", ""));
    rig.set(&rule("A", "down == 0", ""), T0 + 10);
    assert_eq!(rig.evaluated(T0 + 10), 1, "at once, since it is another");
    rig.sample(0, "a", T0 + 100, 0.0, T0 + 100);
    assert_eq!(rig.evaluated(T0 + 120), 0);
    rig.set("", T0 + 200);
    assert!(!rig.engine.windows().has_rules());
    assert_eq!(rig.engine.due_ms(), None);
}

#[test]
fn windows_that_storage_does_not_give_are_read_again_later() {
    let mut rig = Rig::empty();
    let labels = Labels::new(&[("__name__", "up"), ("job", "a")]).expect("valid");
    let changed = rig.engine.set_files(
        &load(&rule("Max", "max_over_time(up[1m]) > 4", "")),
        T0,
        &Refusing(model::Kind::Unavailable),
    );
    assert_eq!((changed.seeded, rig.entry(0).kept), (0, false));
    rig.storage.0.append(labels.as_ref(), &[Sample { t: T0 - 10_000, v: 5.0 }]);
    assert_eq!(rig.round(T0 + 1), ["Max a firing+"], "over storage");
    assert!(!rig.entry(0).kept, "storage is left alone for a while");
    rig.round(T0 + 15_000);
    assert!(rig.entry(0).kept);
    rig.sample(0, "a", T0 + 55_000, 1.0, T0 + 55_000);
    assert_eq!(rig.round(T0 + 55_020), ["Max a resolved-"], "by the sample");
}

#[test]
fn windows_that_storage_will_never_give_are_not_asked_for_again() {
    let mut rig = Rig::empty();
    rig.engine.set_files(&load(&rule("All", "{job=~\".+\"} > 4", "")), T0, &Refusing(model::Kind::Invalid));
    rig.round(T0);
    rig.round(T0 + 15_000);
    assert!(!rig.entry(0).kept && !rig.entry(0).unread);
}

#[test]
fn a_rule_is_evaluated_at_the_newest_time_that_all_its_partitions_reached() {
    let mut rig = Rig::new(&rule("Sum", "sum(up) == 1", ""));
    rig.sample(0, "a", T0 + 10, 1.0, T0 + 10);
    rig.sample(1, "b", T0 + 10, 0.0, T0 + 10);
    assert_eq!(rig.round(T0 + 30), ["Sum ? firing+"]);
    // The scrape moves the one to b; its half is not seen.
    rig.sample(0, "a", T0 + 1010, 0.0, T0 + 1010);
    assert_eq!(rig.round(T0 + 1030), NOTHING);
    rig.sample(1, "b", T0 + 1010, 1.0, T0 + 1040);
    assert_eq!(rig.round(T0 + 1060), NOTHING);
    // A half without the other is seen once the other is silent.
    rig.sample(0, "a", T0 + 2010, 1.0, T0 + 2010);
    assert_eq!(rig.round(T0 + 2030), NOTHING);
    assert_eq!(rig.engine.due_ms(), Some(T0 + 1040 + 2000));
    assert_eq!(rig.round(T0 + 3040), ["Sum ? resolved-"]);
}

#[test]
fn evaluation_never_goes_back_and_never_into_the_future() {
    let mut rig = Rig::new(&rule("Down", "up == 0", ""));
    rig.sample(0, "a", T0 + 500, 0.0, T0 + 100);
    assert_eq!(rig.round(T0 + 120), NOTHING, "the sample is of the future");
    assert_eq!(rig.engine.due_ms(), Some(T0 + 500));
    assert_eq!(rig.round(T0 + 500), ["Down a firing+"]);
    assert_eq!(rig.entry(0).last_ms, T0 + 500);
    rig.sample(0, "a", T0 + 300, 1.0, T0 + 600);
    assert_eq!(rig.round(T0 + 620), NOTHING, "an older sample does not change what is now");
    assert_eq!(rig.entry(0).last_ms, T0 + 500);
}

#[test]
fn a_sample_that_comes_late_does_not_turn_the_time_back() {
    let mut rig = Rig::new(&rule("Down", "up == 0", ""));
    rig.sample(0, "a", T0 + 100, 0.0, T0 + 100);
    rig.round(T0 + 120);
    rig.round(T0 + 20_000);
    assert_eq!(rig.entry(0).last_ms, T0 + 20_000, "all are silent: it is now");
    rig.sample(0, "a", T0 + 19_000, 0.0, T0 + 20_100);
    rig.round(T0 + 20_120);
    assert_eq!(rig.entry(0).last_ms, T0 + 20_000);
}

#[test]
fn a_sender_with_a_wrong_clock_holds_nobody_back() {
    let mut rig = Rig::new(&rule("Down", "up == 0", ""));
    rig.sample(1, "late", T0 - 60_000, 1.0, T0 + 90);
    rig.sample(0, "a", T0 + 100, 0.0, T0 + 100);
    assert_eq!(rig.round(T0 + 120), ["Down a firing+"]);
    rig.sample(1, "early", T0 + 3_600_000, 1.0, T0 + 200);
    rig.sample(0, "a", T0 + 210, 1.0, T0 + 210);
    assert_eq!(rig.round(T0 + 230), ["Down a resolved-"]);
    assert!(rig.entry(0).last_ms <= T0 + 230);
}

#[test]
fn a_rule_that_takes_long_rests_between_evaluations() {
    let mut rig = Rig::new(&rule("Down", "up == 0", ""));
    rig.engine.entries.get_mut(0).expect("there").took_seconds = 0.01;
    rig.sample(0, "a", T0 + 100, 0.0, T0 + 100);
    assert_eq!(rig.engine.due_ms(), Some(T0 + 200), "twenty times its ten milliseconds after the last");
    rig.engine.entries.set_due(0, T0 + 15_000);
    rig.engine.entries.get_mut(0).expect("there").took_seconds = 3.0;
    rig.sample(0, "a", T0 + 101, 0.0, T0 + 101);
    assert_eq!(rig.engine.due_ms(), Some(T0 + 500), "and never longer than half a second");
}

#[test]
fn the_end_of_for_needs_no_sample() {
    let mut rig = Rig::new(&rule("Down", "up == 0", ", for: 10s"));
    rig.sample(0, "a", T0 + 100, 0.0, T0 + 100);
    assert_eq!(rig.round(T0 + 120), ["Down a pending"]);
    assert_eq!(rig.engine.due_ms(), Some(T0 + 120 + 10_000));
    assert_eq!(rig.round(T0 + 10_120), ["Down a firing+"]);
}

#[test]
fn absence_and_staleness_are_seen_on_the_interval() {
    let mut rig = Rig::new(&(rule("Gone", "absent(up)", "") + &rule("Up", "up", "")));
    assert_eq!(rig.entry(0).alerts.len(), 1, "absent from the first evaluation on");
    rig.sample(0, "a", T0 + 100, 1.0, T0 + 100);
    assert_eq!(rig.round(T0 + 120), ["Gone ? resolved-", "Up a firing+"]);
    let mut now = T0 + 120;
    while now < T0 + 300_000 {
        now += 15_000;
        assert_eq!(rig.round(now).len(), usize::from(now > T0 + 300_100) * 2, "at {}", now - T0);
    }
}

#[test]
fn keep_firing_for_ends_without_a_sample() {
    let mut rig = Rig::new(&rule("Down", "up == 0", ", keepFiringFor: 5s"));
    rig.sample(0, "a", T0 + 100, 0.0, T0 + 100);
    assert_eq!(rig.round(T0 + 120), ["Down a firing+"]);
    rig.sample(0, "a", T0 + 200, 1.0, T0 + 200);
    assert_eq!(rig.round(T0 + 220), ["Down a recovering"]);
    assert_eq!(rig.engine.due_ms(), Some(T0 + 5_220));
    assert_eq!(rig.round(T0 + 5_220), ["Down a resolved-"]);
}

#[test]
fn a_long_window_is_evaluated_over_storage_on_the_interval() {
    let mut rig = Rig::empty();
    let labels = Labels::new(&[("__name__", "up"), ("job", "a")]).expect("valid");
    rig.storage.0.append(labels.as_ref(), &[Sample { t: T0 - 7_000_000, v: 5.0 }]);
    rig.set(&rule("Long", "max_over_time(up[2h]) > 4", ""), T0);
    assert_eq!(rig.round(T0), ["Long a firing+"]);
    rig.sample(0, "a", T0 + 100, 0.0, T0 + 100);
    assert!(rig.engine.due_ms() > Some(T0 + 120), "samples do not touch it");
    assert_eq!(rig.engine.windows().head().series(), 0);
}

#[test]
fn windows_are_seeded_from_storage() {
    let mut rig = Rig::empty();
    let labels = Labels::new(&[("__name__", "up"), ("job", "a")]).expect("valid");
    rig.storage.0.append(labels.as_ref(), &[Sample { t: T0 - 50_000, v: 5.0 }, Sample { t: T0 - 10_000, v: 1.0 }]);
    rig.set(&rule("Max", "max_over_time(up[1m]) > 4", ""), T0);
    rig.storage = Fake::default();
    assert_eq!(rig.round(T0), ["Max a firing+"]);
    assert_eq!(rig.entry(0).reads.len(), 1);
    assert_eq!(rig.round(T0 + 15_000), ["Max a resolved-"], "the window slid past the sample");
}

#[test]
fn a_rule_that_goes_or_is_paused_owes_a_resolve_and_one_that_changes_keeps_its_alerts() {
    let mut rig = Rig::new(&(rule("A", "up == 0", "") + &rule("B", "up == 0", "")));
    rig.sample(0, "a", T0 + 100, 0.0, T0 + 100);
    rig.round(T0 + 120);
    let both = rule("A", "up < 1", ", labels: {severity: page}") + &rule("B", "up == 0", "");
    assert_eq!(rig.set(&both, T0 + 200), NOTHING);
    assert_eq!(rig.round(T0 + 200), ["A a firing-+"], "relabelled");
    assert_eq!(rig.set(&rule("B", "up == 0", ", paused: true"), T0 + 300), ["B a resolved-", "A a resolved-"]);
    assert_eq!(rig.round(T0 + 20_000), NOTHING);
}

#[test]
fn an_evaluation_that_fails_keeps_the_alerts() {
    let mut rig = Rig::new(&rule("Join", "up * on () group_left other == 0", ""));
    let labels = Labels::new(&[("__name__", "other"), ("x", "1")]).expect("valid");
    let other = |rig: &mut Rig, labels: &Labels, now_ms: i64| {
        let show = |visitor: &mut dyn Visitor| {
            visitor.series(labels.as_ref(), (&[Sample { t: now_ms, v: 1.0 }]).into());
            Ok(())
        };
        rig.engine.record(0, now_ms, now_ms, show).expect("shown");
    };
    other(&mut rig, &labels, T0 + 100);
    rig.sample(0, "a", T0 + 100, 0.0, T0 + 100);
    assert_eq!(rig.round(T0 + 120), ["Join a firing+"]);
    other(&mut rig, &labels.with("x", "2"), T0 + 200);
    assert_eq!(rig.round(T0 + 220), NOTHING);
    let entry = rig.entry(0);
    assert_eq!((entry.health, entry.alerts.len()), ("err", 1));
    assert!(entry.last_error.contains("duplicate"), "{}", entry.last_error);
}

#[test]
fn equal_labels_of_two_alerts_are_an_error() {
    let mut rig = Rig::new(&rule("Same", "up", ", labels: {job: x}"));
    rig.sample(0, "a", T0 + 100, 1.0, T0 + 100);
    assert_eq!(rig.round(T0 + 120).len(), 1);
    rig.sample(0, "b", T0 + 200, 1.0, T0 + 200);
    assert_eq!(rig.round(T0 + 220), NOTHING);
    let error = "vector contains metrics with the same labelset after applying alert labels";
    assert_eq!(rig.entry(0).last_error, error);
}

#[tokio::test]
async fn a_restart_in_the_middle_of_for_keeps_its_beginning() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("x/alerting")).expect("opened");
    let text = rule("Down", "up == 0", ", for: 10s");
    let mut rig = Rig::new(&text);
    rig.sample(0, "a", T0 + 100, 0.0, T0 + 100);
    let changes = rig.engine.round(T0 + 120, &rig.storage, &|| 0.0).changes;
    store
        .commit(Commit { now_ms: T0 + 120, positions: [(0, 7)].into(), changes, ..Commit::default() })
        .await
        .expect("written");
    store.close().await;

    let store = Store::open(&dir.path().join("x/alerting")).expect("opened again");
    let (positions, stored) = store.restore().await.expect("read");
    assert_eq!(positions, [(0, 7)].into());
    let mut rig = Rig::empty();
    rig.engine.restore(stored);
    assert_eq!(rig.set(&text, T0 + 5000), NOTHING);
    rig.sample(0, "a", T0 + 100, 0.0, T0 + 5000);
    assert_eq!(rig.round(T0 + 8000), NOTHING);
    let pending = rig.entry(0).alerts.values().next().expect("kept");
    assert_eq!((pending.state, pending.active_at_ms), (State::Pending, T0 + 100));
    assert_eq!(rig.round(T0 + 10_120), ["Down a firing+"]);
}

#[tokio::test]
async fn at_start_the_alerts_of_a_rule_that_is_gone_end_but_not_those_of_a_bad_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("opened");
    let mut rig = Rig::new(&rule("Down", "up == 0", ""));
    rig.sample(0, "a", T0 + 100, 0.0, T0 + 100);
    let changes = rig.engine.round(T0 + 120, &rig.storage, &|| 0.0).changes;
    store
        .commit(Commit { now_ms: T0 + 120, positions: Default::default(), changes, ..Commit::default() })
        .await
        .expect("written");
    let bad = rules::load_text("a: [", "a.yaml", &promql::Features::default());
    assert_eq!(bad.bad_files().len(), 1);
    for (loaded, expect) in [(&bad, vec![]), (&Loaded::default(), vec!["Down a resolved-"])] {
        let mut rig = Rig::empty();
        rig.engine.restore(store.restore().await.expect("read").1);
        let mut changes = rig.engine.set_files(loaded, T0 + 200, &rig.storage).changes;
        changes.extend(rig.engine.end_orphans(&loaded.bad_files(), T0 + 200).changes);
        assert_eq!(changes.iter().map(shown).collect::<Vec<_>>(), expect);
    }
}

#[tokio::test]
async fn the_state_of_a_rule_and_its_beginning_outlive_a_restart_but_not_the_rule() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("opened");
    let text = rule("Down", "up == 0", "");
    let mut rig = Rig::empty();
    rig.set(&text, T0);
    let states = rig.engine.round(T0, &rig.storage, &|| 0.0).states;
    assert_eq!(states.iter().map(|s| (s.state, s.since_ms)).collect::<Vec<_>>(), [("nodata", T0)]);
    store.commit(Commit { now_ms: T0, states, ..Commit::default() }).await.expect("written");
    let again = async |text: &str| {
        let mut rig = Rig::empty();
        rig.engine.restore(store.restore().await.expect("read").1);
        rig.set(text, T0 + 5000);
        let gone = rig.engine.end_orphans(&Default::default(), T0 + 5000).gone;
        store.commit(Commit { now_ms: T0, gone, ..Commit::default() }).await.expect("written");
        rig.engine.round(T0 + 5000, &rig.storage, &|| 0.0).states.len()
    };
    assert_eq!(again(&text).await, 0, "nothing new");
    assert_eq!(again("").await, 0, "the rule is gone");
    assert_eq!(again(&text).await, 1, "a rule that comes again begins anew");
}
