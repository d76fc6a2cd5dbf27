//! The evaluator from outside: scripts that any user of PromQL can read and extend (`testdata/*.test`), and properties
//! over random series.

mod aggregates;
mod properties;
mod run;
mod script;
mod source;

use std::path::{Path, PathBuf};

use model::{Buckets, Columns, Counts, Histogram, HistogramSample, Labels};

fn scripts(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory of scripts");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "test"));
    paths.sort();
    paths
}

#[test]
fn scripts_hold() {
    let paths = scripts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"));
    assert!(!paths.is_empty());
    let mut failures = Vec::new();
    for path in paths {
        let report = run::run(&std::fs::read_to_string(&path).expect("readable"), run::EXACT);
        assert!(report.held + report.failures.len() > 0, "{} asks nothing", path.display());
        failures.extend(report.failures.into_iter().map(|failure| format!("{}:{failure}", path.display())));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn selectors_pass_native_histograms_over() {
    let labels = |name: &str| Labels::new(&[("__name__", name)]).expect("valid");
    let counts = Counts::Integer(Buckets { count: 1, zero: 1, ..Buckets::default() });
    let one = Histogram { layout: Default::default(), hint: Default::default(), sum: 1.0, counts };
    let histograms = |times: [i64; 2]| times.map(|t| HistogramSample { t, start: 1, histogram: one.clone() }).to_vec();
    let floats = Columns::floats(vec![1000, 2000, 5000], vec![1.0, 2.0, 5.0]);
    let (mut without, mut with) = (source::Memory::default(), source::Memory::default());
    without.series.insert(labels("m"), floats.clone());
    let mixed = Columns { histograms: histograms([3000, 4000]), starts: vec![0, 7, 8], ..floats };
    with.series.insert(labels("m"), mixed);
    with.series.insert(labels("h"), Columns { histograms: histograms([1000, 5000]), ..Columns::default() });
    for query in ["{__name__=~\".+\"}", "m[10s]", "sum_over_time({__name__=~\".+\"}[10s])", "rate(m[10s:1s])"] {
        let params = run::params(5000, 5000, 0);
        let evaluate = |source| run::evaluate(source, query, &params).expect(query);
        let (found, expect) = (evaluate(&with), evaluate(&without));
        assert_eq!(format!("{:?}", found.value), format!("{:?}", expect.value), "{query}");
        let said = |warning: &str| found.warnings.iter().any(|w| w == warning);
        assert!(said("native histograms of m are left out: they are not evaluated yet"), "{:?}", found.warnings);
        assert_eq!(expect.warnings, [""; 0]);
    }
}
