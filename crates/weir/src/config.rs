//! The file of `--config`: its keys and values become arguments before those of the command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::{CommandFactory as _, parser::ValueSource};
use serde_yaml::Value;

use crate::cli::Cli;

/// The largest file that is read; a configuration has some tens of lines.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The arguments with those of the file that they, or the environment, name. Arguments that clap will refuse are returned as they are.
pub(crate) fn expand(arguments: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
    expand_with(arguments, |name| std::env::var_os(name).is_some())
}

fn expand_with(mut arguments: Vec<OsString>, is_set: impl Fn(&str) -> bool) -> anyhow::Result<Vec<OsString>> {
    let command = Cli::command();
    let Ok(matches) = command.clone().try_get_matches_from(&arguments) else { return Ok(arguments) };
    let (name, matches) = match matches.subcommand() {
        Some(("run", run)) => (vec!["run"], run.clone()),
        Some(("check", check)) => match check.subcommand() {
            Some(("config", config)) => (vec!["check", "config"], config.clone()),
            _ => return Ok(arguments),
        },
        _ => return Ok(arguments),
    };
    let Some(file) = matches.get_one::<PathBuf>("config") else { return Ok(arguments) };
    let run = command.find_subcommand("run").context("there is no command run")?;
    let own = |arg: &&clap::Arg| !matches!(arg.get_id().as_str(), "config" | "help" | "version");
    let flags: Vec<&clap::Arg> = run.get_arguments().filter(own).collect();
    let known: Vec<String> = flags.iter().filter_map(|a| a.get_long()).map(str::to_owned).collect();
    let in_file = |problem: String| {
        anyhow!("{}", problem.lines().map(|l| format!("{}: {l}", file.display())).collect::<Vec<_>>().join("\n"))
    };
    let entries = read(file)?;
    let given = runtime::config::arguments(&entries, &known, is_set).map_err(in_file)?;
    // Each on its own, so that the error names the file and not the command line.
    let refusals: Vec<String> = given.iter().filter_map(|one| refusal(&command, &name, one)).collect();
    if !refusals.is_empty() {
        return Err(in_file(refusals.join("\n")));
    }
    // A flag that the command line has too would be there twice.
    let on_command_line = |argument: &String| {
        let long = argument.trim_start_matches("--").split('=').next().unwrap_or_default();
        let flag = flags.iter().find(|a| a.get_long() == Some(long));
        flag.is_some_and(|a| matches.value_source(a.get_id().as_str()) == Some(ValueSource::CommandLine))
    };
    let kept = given.into_iter().filter(|argument| !on_command_line(argument));
    arguments.extend(kept.map(OsString::from));
    Ok(arguments)
}

/// What clap has to say against one argument, in a line.
fn refusal(command: &clap::Command, name: &[&str], argument: &str) -> Option<String> {
    let all = std::iter::once("weir").chain(name.iter().copied()).chain([argument]);
    let text = command.clone().try_get_matches_from(all).err()?.to_string();
    let line = text.lines().next().unwrap_or_default();
    Some(line.strip_prefix("error: ").unwrap_or(line).to_owned())
}

fn read(file: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let name = file.display();
    let size = std::fs::metadata(file).with_context(|| format!("reading {name}"))?.len();
    if size > FILE_BYTES_MAX {
        bail!("{name}: {size} bytes; a configuration has at most {FILE_BYTES_MAX}");
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {name}"))?;
    let document: Value = serde_yaml::from_str(&text).with_context(|| name.to_string())?;
    let entries = match document {
        Value::Mapping(entries) => entries,
        Value::Null => return Ok(Vec::new()),
        _ => bail!("{name}: not a list of `flag: value`"),
    };
    let mut read = Vec::new();
    for (key, value) in entries {
        let key = scalar(&key).with_context(|| format!("{name}: a key that is no flag: {key:?}"))?;
        let value = match &value {
            Value::Sequence(values) => values.iter().map(scalar).collect::<Option<Vec<_>>>().map(|all| all.join(",")),
            value => scalar(value),
        };
        let value = value.with_context(|| format!("{name}: {key} takes a value, or a list of them"))?;
        read.push((key, value));
    }
    Ok(read)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Command, RunArgs};

    fn run(file: &str, more: &[&str], set: &str) -> Result<RunArgs, String> {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("weir.yaml");
        std::fs::write(&path, file).expect("written");
        let mut arguments = vec![OsString::from("weir"), "run".into(), "--config".into(), path.into()];
        arguments.extend(more.iter().map(OsString::from));
        let arguments = expand_with(arguments, |name| name == set).map_err(|e| format!("{e:#}"))?;
        match Cli::try_parse_from(arguments).map_err(|e| e.to_string())?.command {
            Command::Run(run) => Ok(*run),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = "data: /d\nqueue-partitions: 8\nlisten: 0.0.0.0:1\nenable-feature: [a, b]\n";
        let args = run(file, &["--listen", "127.0.0.1:2"], "WEIR_DATA").expect("valid");
        assert_eq!((args.queue.queue_partitions, args.listen.as_str()), (8, "127.0.0.1:2"));
        assert_eq!(
            args.data,
            PathBuf::from("./data"),
            "the environment was said to have one, so the file's is not taken"
        );
        assert_eq!(args.enable_feature, "a,b");
        assert_eq!(run("", &[], "").expect("an empty file").listen, "127.0.0.1:9360");
    }

    #[test]
    fn every_unknown_key_is_named_with_the_file_and_what_was_meant() {
        let error = run("retentoin: 1d\nqueue-partition: 1\n", &[], "").expect_err("refused");
        let lines: Vec<&str> =
            error.lines().filter_map(|line| line.split_once("weir.yaml: ")).map(|(_, rest)| rest).collect();
        assert_eq!(
            lines,
            [
                "unknown key \"retentoin\"; did you mean \"retention\"?",
                "unknown key \"queue-partition\"; did you mean \"queue-partitions\"?"
            ]
        );
    }

    #[test]
    fn a_value_that_a_flag_does_not_take_is_told_with_the_file() {
        let error = run("queue-partitions: many\n", &[], "").expect_err("refused");
        assert!(error.contains("weir.yaml: invalid value 'many' for '--queue-partitions <N>'"), "{error}");
        assert!(run("- a\n", &[], "").expect_err("a list").ends_with("weir.yaml: not a list of `flag: value`"));
        assert!(run("data: {a: b}\n", &[], "").expect_err("a map").ends_with("data takes a value, or a list of them"));
    }
}
