//! The evaluator from outside: scripts that any user of PromQL can read and extend (`testdata/*.test`), and properties
//! over random series.

mod aggregates;
mod explain;
mod outlines;
mod properties;
mod run;
mod script;
mod source;

use std::path::{Path, PathBuf};

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
