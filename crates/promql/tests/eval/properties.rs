//! Properties over random series.

use std::collections::BTreeMap;

use model::{Columns, Labels, stale_nan};
use promql::Value;

use crate::run;
use crate::source::Memory;

const STEP_MS: i64 = 60_000;
const STEPS: i64 = 40;

/// Numbers that look drawn.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

/// Series that are described and series that describe. Those that describe come and go, so that at some steps there are two of one name, of which the newer
/// counts, or none is.
fn described(seed: u64, at_once: bool, conflicts: bool) -> Memory {
    let mut random = Random(seed);
    let mut source = Memory::default();
    for n in 0..60 {
        let (instance, job) = (random.pick(&["0", "1", "2", "3", ""]), random.pick(&["a", "b", ""]));
        let n = n.to_string();
        let labels = [("__name__", "m"), ("instance", instance), ("job", job), ("n", n.as_str())];
        let labels: Vec<_> = labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let columns = source.series.entry(Labels::new(&labels).expect("labels")).or_default();
        fill(columns, &mut random, 4);
    }
    for at in 0..60i64 {
        let name = random.pick(&["target_info", "build_info"]);
        let (instance, job) = (random.pick(&["0", "1", "2", "3", ""]), random.pick(&["a", "b", ""]));
        let version = at.to_string();
        let own = if conflicts { "version" } else { name };
        let labels = [
            ("__name__", name),
            ("instance", instance),
            ("job", job),
            (own, version.as_str()),
            ("zone", if conflicts { random.pick(&["x", "x", "x", "y"]) } else { "x" }),
        ];
        let labels: Vec<_> = labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let columns = source.series.entry(Labels::new(&labels).expect("labels")).or_default();
        // No two have samples at the same time, so that one is always the newest, but where that is wanted.
        let own = if at_once { 0 } else { at };
        let mut drawn = Columns::default();
        fill(&mut drawn, &mut random, 12);
        drawn.t.iter().zip(&drawn.v).for_each(|(t, v)| columns.push(t + own, *v));
    }
    source
}

fn fill(columns: &mut Columns, random: &mut Random, rare: u64) {
    let mut is_there = true;
    for step in 0..STEPS {
        let was_there = std::mem::replace(&mut is_there, random.below(rare) < 3);
        match (is_there, was_there) {
            (true, _) => columns.push(step * STEP_MS, step as f64),
            (false, true) => columns.push(step * STEP_MS, stale_nan()),
            (false, false) => {}
        }
    }
}

/// The newest sample of a series in the five minutes before a time, if it is a value.
fn newest(columns: &Columns, t: i64) -> Option<(i64, f64)> {
    let at = columns.t.iter().rposition(|at| *at <= t)?;
    let is_seen = columns.t[at] > t - 300_000 && !model::is_stale(columns.v[at]);
    is_seen.then_some((columns.t[at], columns.v[at]))
}

fn shown(labels: &Labels) -> String {
    let all: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", all.join(", "))
}

type Joined = BTreeMap<Labels, Vec<(i64, u64)>>;

/// What `info(m, {…})` is by its definition: at each step every series is looked up among all that describe it, by the texts of their labels.
fn joined(source: &Memory, names: &[&str], data: &[&str]) -> Result<Joined, String> {
    let identity = |labels: &Labels| ["instance", "job"].map(|name| labels.get(name).unwrap_or("").to_owned());
    let mut out = Joined::new();
    // Only those are read that a series of the base may be described by.
    let base = || source.series.iter().filter(|(labels, _)| labels.metric_name() == "m");
    let wanted: Vec<[bool; 2]> = base().map(|(labels, _)| identity(labels).map(|value| !value.is_empty())).collect();
    for step in 0..STEPS {
        let t = step * STEP_MS;
        let mut found: BTreeMap<(String, [String; 2]), (i64, &Labels)> = BTreeMap::new();
        // In the order in which they are read: those with a job alone, those with an instance alone, those with both.
        let mut infos: Vec<_> =
            source.series.iter().filter(|(labels, _)| names.contains(&labels.metric_name())).collect();
        infos.retain(|(labels, _)| {
            let present = identity(labels).map(|value| !value.is_empty());
            present != [false; 2] && wanted.contains(&present)
        });
        infos.sort_by_key(|(labels, _)| (identity(labels).map(|value| !value.is_empty()), *labels));
        for (labels, columns) in infos {
            let Some((at, _)) = newest(columns, t) else { continue };
            let key = (labels.metric_name().to_owned(), identity(labels));
            match found.get(&key) {
                Some((before, _)) if *before > at => continue,
                Some((before, existing)) if *before == at => {
                    return Err(format!(
                        "found duplicate series for info metric: existing {} @ {at}, new {} @ {at}",
                        shown(existing),
                        shown(labels)
                    ));
                }
                _ => found.insert(key, (at, labels)),
            };
        }
        let mut seen = std::collections::BTreeSet::new();
        for (labels, columns) in base() {
            let Some((_, v)) = newest(columns, t) else { continue };
            let mut added: BTreeMap<&str, &str> = BTreeMap::new();
            let mut any = false;
            for ((_, of), (_, info)) in &found {
                if *of != identity(labels) {
                    continue;
                }
                any = true;
                for (name, value) in info.iter().filter(|(name, _)| *name != "__name__") {
                    if !data.is_empty() && !data.contains(&name) {
                        continue;
                    }
                    if added.get(name).is_some_and(|before| *before != value) {
                        return Err(format!("conflicting label: {name}"));
                    }
                    if labels.get(name).is_none() {
                        added.insert(name, value);
                    }
                }
            }
            if !any && !data.is_empty() {
                continue;
            }
            let whole = added.iter().fold(labels.clone(), |labels, (name, value)| labels.with(name, value));
            if !seen.insert(whole.clone()) {
                return Err("vector cannot contain metrics with the same labelset".to_owned());
            }
            out.entry(whole).or_default().push((t, v.to_bits()));
        }
    }
    Ok(out)
}

#[test]
fn info_joins_many_series_at_many_steps_as_it_is_defined() {
    let queries: [(&str, &[&str], &[&str]); 4] = [
        ("info(m)", &["target_info"], &[]),
        ("info(m, {__name__=~\".+_info\"})", &["target_info", "build_info"], &[]),
        ("info(m, {__name__=~\".+_info\", zone=~\".+\"})", &["target_info", "build_info"], &["zone"]),
        ("info(m, {__name__=\"build_info\", zone=~\".+\"})", &["build_info"], &["zone"]),
    ];
    let params = run::params(0, (STEPS - 1) * STEP_MS, STEP_MS);
    let (mut values, mut conflicts, mut duplicates) = (0, 0, 0);
    for seed in 0..40 {
        let source = described(seed, seed % 4 == 1, seed % 4 == 3);
        for (query, names, data) in queries {
            let expected = joined(&source, names, data);
            let found = run::evaluate(&source, query, &params).map(|evaluation| {
                let Value::Matrix(series) = evaluation.value else { panic!("{query} is a matrix") };
                let bits =
                    |columns: &Columns| columns.t.iter().copied().zip(columns.v.iter().map(|v| v.to_bits())).collect();
                series.iter().map(|(labels, columns)| (labels.clone(), bits(columns))).collect::<Joined>()
            });
            assert_eq!(found, expected, "{query} with seed {seed}");
            match expected {
                Ok(series) => values += series.len(),
                Err(error) if error.starts_with("conflicting") => conflicts += 1,
                Err(_) => duplicates += 1,
            }
        }
    }
    // Else something is not tested.
    assert!(values > 1000 && conflicts > 5 && duplicates > 5, "{values} {conflicts} {duplicates}");
}
