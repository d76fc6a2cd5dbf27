//! `weir test rules`: unit tests of rules. What is written and the exit status are those of `promtool test rules`, so that scripts go on working.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use alerting::unit;
use anyhow::Context as _;

use crate::cli::TestRulesArgs;
use crate::output::out;

/// Runs the files one after the other. Results go to standard output, what fails to standard error.
pub(crate) fn rules(args: &TestRulesArgs) -> anyhow::Result<ExitCode> {
    let features = promql::Features::from_names(&args.enable_feature);
    let options = unit::Options {
        features: features.map_err(|e| anyhow::anyhow!("--enable-feature: {e}"))?,
        run: unit::pattern(&args.run)?,
        diff: args.diff,
        ignore_unknown_fields: args.ignore_unknown_fields,
        debug: args.debug.then_some(elapsed),
    };
    let mut reports = Vec::with_capacity(args.files.len());
    for file in &args.files {
        writeln!(out(), "Processing test file: {}", file.display())?;
        let began_ms = runtime::clock::now_ms();
        let report = unit::test(file, &options);
        show(&report)?;
        reports.push((began_ms, report));
    }
    if let Some(path) = &args.junit {
        let written = std::fs::write(path, unit::junit(&reports));
        written.with_context(|| format!("--junit {}", path.display()))?;
    }
    let failed = reports.iter().any(|(_, report)| report.failures().next().is_some());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The time since it was asked for first.
#[expect(clippy::disallowed_methods, reason = "measures how long a test takes; nothing depends on it")]
fn elapsed() -> Duration {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}

fn show(report: &unit::Report) -> io::Result<()> {
    for warning in &report.warnings {
        writeln!(io::stderr(), "  WARNING: {warning}")?;
    }
    for told in report.cases.iter().flat_map(|case| &case.debug) {
        writeln!(io::stderr(), "DEBUG: {told}")?;
    }
    let mut failures = report.failures().peekable();
    if failures.peek().is_none() {
        writeln!(out(), "  SUCCESS")?;
    } else {
        writeln!(io::stderr(), "  FAILED:")?;
    }
    for failure in failures {
        writeln!(io::stderr(), "{failure}")?;
        writeln!(out())?;
    }
    writeln!(out())
}
