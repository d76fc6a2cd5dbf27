//! Unit tests of rules, in the format of Prometheus' `promtool test rules`: series are given, rules are evaluated over them at the times of an interval,
//! and what fires, or what an expression is worth, is compared with what is expected.
//!
//! The rules are evaluated as they are while Weir runs: the same engine, the same states, over the same head. What only Prometheus has is
//! added here, since the tests are written for it: recording rules, the series `ALERTS` and `ALERTS_FOR_STATE`, the order of groups, and series that
//! become stale when a rule does not yield them any more ([`group`]).
//!
//! Deliberately not here: clocks, and the output, which is `weir test rules`.

mod bench;
mod check;
mod diff;
mod dump;
mod file;
mod glob;
mod group;
mod junit;
mod run;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use promql::Features;
use rules::Severity;

pub use junit::junit;

/// Largest file of tests, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// How files are tested.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The experimental parts of the language.
    pub features: Features,
    /// Only tests with a name that matches; `None` is all.
    pub run: Option<regex::Regex>,
    /// Whether alerts that differ are shown as one text with marks.
    pub diff: bool,
    /// Whether rule files in Prometheus' format may have fields that are not known.
    pub ignore_unknown_fields: bool,
    /// Whether each test tells when it begins, what it has in the end and how long it took, by this clock: the time since some moment.
    pub debug: Option<fn() -> Duration>,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// The file.
    pub file: String,
    /// What does not make it fail.
    pub warnings: Vec<String>,
    /// Why nothing was tested.
    pub aborted: Option<String>,
    /// The tests that were run.
    pub cases: Vec<Case>,
}

/// What became of one test.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Its name; `unnamed#N` where it has none.
    pub name: String,
    /// What is not as it should be, each a text of some lines.
    pub failures: Vec<String>,
    /// What is told on the way.
    pub debug: Vec<String>,
}

impl Report {
    /// What is not as it should be.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        self.aborted.iter().chain(self.cases.iter().flat_map(|case| &case.failures)).map(String::as_str)
    }
}

/// The pattern of `--run`, which may be given several times; `None` where it is not.
pub fn pattern(patterns: &[String]) -> Result<Option<regex::Regex>, crate::Error> {
    if patterns.is_empty() {
        return Ok(None);
    }
    regex::Regex::new(&patterns.join("|")).map(Some).map_err(|e| crate::Error::Invalid(format!("--run: {e}")))
}

/// Runs the tests of a file.
pub fn test(path: &Path, options: &Options) -> Report {
    let mut report = Report { file: path.display().to_string(), ..Report::default() };
    if let Err(why) = tested(path, options, &mut report) {
        report.aborted = Some(why);
    }
    report
}

fn tested(path: &Path, options: &Options, report: &mut Report) -> Result<(), String> {
    let file = file::read(path)?;
    let mut order = std::collections::HashMap::new();
    for (place, name) in file.group_eval_order.iter().enumerate() {
        if order.insert(name.as_str(), place).is_some() {
            return Err(format!("group name repeated in evaluation order: {name}"));
        }
    }
    let paths = rule_files(path, &file.rule_files, &mut report.warnings)?;
    let (mut rules, mut problems) = (Vec::new(), Vec::new());
    for path in &paths {
        let loaded = rules::load_for_tests(path, &options.features, options.ignore_unknown_fields);
        let errors = loaded.problems.iter().filter(|p| p.severity == Severity::Error);
        problems.extend(errors.map(ToString::to_string));
        rules.extend(loaded.rules);
    }
    let suite = run::Suite { file: &file, rules: &rules, problems: &problems, order: &order, options };
    for (number, test) in file.tests.iter().enumerate() {
        if options.run.as_ref().is_some_and(|run| !run.is_match(&test.name)) {
            continue;
        }
        let name = if test.name.is_empty() { format!("unnamed#{number}") } else { test.name.clone() };
        let began = options.debug.map(|clock| clock());
        let (mut debug, mut dump) = (Vec::new(), None);
        let failures = suite.test(test, &mut dump);
        if let (Some(clock), Some(began)) = (options.debug, began) {
            debug.push(format!("Starting test {name}"));
            debug.extend(dump);
            debug.push(format!("Test {name} finished, took {:?}", clock().saturating_sub(began)));
        }
        report.cases.push(Case { name, failures, debug });
    }
    Ok(())
}

/// The files of rules, each once, in the order in which they are named.
fn rule_files(path: &Path, named: &[String], warnings: &mut Vec<String>) -> Result<Vec<std::path::PathBuf>, String> {
    let mut paths = Vec::new();
    for pattern in named {
        let whole = path.parent().unwrap_or(Path::new("")).join(pattern);
        let found = glob::find(&whole).map_err(|e| format!("{pattern}: {e}"))?;
        if found.is_empty() {
            warnings.push(format!("no file match pattern {}", whole.display()));
        }
        for path in found {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    Ok(paths)
}
