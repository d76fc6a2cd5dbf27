//! What is not tested where something is missing, for the tests of all components, which include this file.

#![expect(clippy::print_stderr, reason = "what a test says goes to whoever runs it")]

use std::path::PathBuf;

/// Says that something is not tested here, and why.
pub(crate) fn skipped(test: &str, reason: &str) {
    // `.ci/run` reads this file: a skip that is not in the committed list fails the run.
    if let Some(report) = std::env::var_os("WEIR_SKIPS").map(PathBuf::from) {
        std::fs::create_dir_all(&report).expect("created");
        std::fs::write(report.join(test), reason).expect("written");
    }
    eprintln!("skipped: {test}: {reason} (see CONTRIBUTING.md)");
}

/// The file that a variable names, which a test needs and which may be absent: then the skip is reported.
pub(crate) fn file_of(test: &str, variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_file());
    if path.is_none() {
        skipped(test, &format!("{variable} names no file"));
    }
    path
}
