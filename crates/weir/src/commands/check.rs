//! `weir check`: what would be refused or warned of at start, without starting.

use std::io::Write as _;
use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::process::ExitCode;

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::cli::{CheckRulesArgs, RunArgs};
use crate::output::{Table, out};

/// Checks a configuration; tells all problems at once, or what it amounts to.
pub(crate) fn config(args: &RunArgs, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let problems = problems(args);
    let mut out = out();
    for problem in &problems {
        writeln!(out, "{problem}")?;
    }
    if !problems.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    let table = settings(matches);
    if table.is_empty() {
        writeln!(out, "ok: every flag has its default")?;
    } else {
        writeln!(out, "ok; every flag has its default but these:")?;
        table.write_aligned(&mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What clap cannot know to be wrong.
fn problems(args: &RunArgs) -> Vec<String> {
    let mut problems = Vec::new();
    problems.extend(runtime::logs::init(&args.logs).err());
    let features = promql::Features::from_names(&args.enable_feature);
    problems.extend(features.as_ref().err().map(|e| format!("--enable-feature: {e}")));
    problems.extend(args.listen.to_socket_addrs().err().map(|e| format!("--listen {}: {e}", args.listen)));
    if args.data.exists() && !args.data.is_dir() {
        problems.push(format!("--data {}: is not a directory", args.data.display()));
    }
    if let Some(path) = &args.alerting.rules {
        let loaded = ::rules::load(path, &features.unwrap_or_else(|_| promql::Features::all()));
        problems
            .extend(loaded.problems.iter().filter(|p| p.severity == ::rules::Severity::Error).map(ToString::to_string));
    }
    problems
}

/// The flags that do not have their defaults, in the order of their names.
fn settings(matches: &ArgMatches) -> Table {
    let mut rows = Vec::new();
    for id in matches.ids().map(clap::Id::as_str) {
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => "flag or file",
            Some(ValueSource::EnvVariable) => "environment",
            _ => continue,
        };
        let values = matches.get_raw(id).into_iter().flatten().map(|v| v.to_string_lossy().into_owned());
        rows.push(vec![id.replace('_', "-"), values.collect::<Vec<_>>().join(","), source.to_owned()]);
    }
    rows.sort();
    let mut table = Table::new(["FLAG", "VALUE", "FROM"]);
    rows.into_iter().for_each(|row| table.push(row));
    table
}

/// Checks rule files: a line for each rule and channel, and every problem with its place.
pub(crate) fn rules(args: &CheckRulesArgs) -> anyhow::Result<ExitCode> {
    let mut out = out();
    let features = promql::Features::from_names(&args.enable_feature).map_err(anyhow::Error::msg)?;
    let mut bad = 0;
    for path in &args.paths {
        bad += check_path(path, &features, &mut out)?;
    }
    match bad {
        0 => Ok(ExitCode::SUCCESS),
        n => {
            writeln!(out, "{n} {}", if n == 1 { "error" } else { "errors" })?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Writes what is in a file or folder; the number of errors.
fn check_path(path: &Path, features: &promql::Features, out: &mut impl std::io::Write) -> anyhow::Result<usize> {
    let loaded = ::rules::load_strictly(path, features);
    for rule in &loaded.rules {
        let kind = if rule.alerting().is_some() { "alert" } else { "record" };
        writeln!(out, "ok       {}: {kind} {}", rule.file, rule.name)?;
    }
    for channel in &loaded.channels {
        writeln!(out, "ok       {}: channel {}", channel.file, channel.id)?;
    }
    for problem in &loaded.problems {
        let word = match problem.severity {
            ::rules::Severity::Warning => "warning",
            ::rules::Severity::Error => "ERROR",
        };
        // A message may have more lines: the expression and a mark under the place.
        writeln!(out, "{word:<8} {}", problem.to_string().replace('\n', "\n         "))?;
    }
    if loaded.rules.is_empty() && loaded.channels.is_empty() && loaded.problems.is_empty() {
        writeln!(out, "warning  {}: no rules", path.display())?;
    }
    Ok(loaded.problems.iter().filter(|p| p.severity == ::rules::Severity::Error).count())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::cli::{Check, Cli, Command};

    fn check(args: &[&str]) -> (Vec<String>, String) {
        let all = ["weir", "check", "config"].iter().chain(args);
        let matches = Cli::command().try_get_matches_from(all).expect("parses");
        let Ok(Cli { command: Command::Check(Check::Config(run)) }) = Cli::from_arg_matches(&matches) else {
            panic!("another command")
        };
        let (_, matches) = matches.subcommand().and_then(|(_, check)| check.subcommand()).expect("check config");
        let mut text = Vec::new();
        settings(matches).write_csv(&mut text).expect("written");
        (problems(&run), String::from_utf8(text).expect("text"))
    }

    #[test]
    fn every_problem_of_a_configuration_is_told_at_once() {
        let (problems, _) = check(&[
            "--log-level",
            "a=loud",
            "--enable-feature",
            "flying",
            "--listen",
            "nowhere",
            "--data",
            "/dev/null",
        ]);
        assert_eq!(problems.len(), 4, "{problems:?}");
        for (problem, flag) in problems.iter().zip(["--log-level", "--enable-feature", "--listen", "--data"]) {
            assert!(problem.starts_with(flag), "{problem}");
        }
    }

    #[test]
    fn what_was_set_is_shown_and_defaults_are_not() {
        let (problems, settings) = check(&["--retention", "30d", "--data", "/tmp"]);
        assert_eq!(
            (problems, settings.as_str()),
            (vec![], "FLAG,VALUE,FROM\ndata,/tmp,flag or file\nretention,30d,flag or file\n")
        );
    }

    #[test]
    fn good_rules_are_listed_and_bad_ones_told_with_their_place() {
        let dir = tempfile::tempdir().expect("directory");
        let good = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up == 0\n  - record: b\n    expr: sum(up)\n";
        std::fs::write(dir.path().join("good.yml"), good).expect("written");
        let bad = "groups:\n- name: g\n  rules:\n  - alert: C\n    expr: up ==\n";
        std::fs::write(dir.path().join("bad.yml"), bad).expect("written");
        let mut text = Vec::new();
        assert_eq!(check_path(dir.path(), &promql::Features::default(), &mut text).expect("written"), 1);
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("good.yml: alert A\n") && text.contains("good.yml: record b\n"), "{text}");
        let error = text.lines().find(|line| line.starts_with("ERROR")).expect("told");
        assert!(error.contains("bad.yml:") && error.contains("parse error"), "{text}");
    }
}
