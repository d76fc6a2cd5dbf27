//! Weir: the all-in-one process and the command-line tool. Wiring and words only: no logic that a component could hold.
//!
//! Exit status: 0 it went well, 1 it did not (the reason is on standard error), 2 the command line cannot be read, 130 a second
//! signal cut the drain short.

mod cli;
mod client;
mod commands;
mod config;
mod output;
mod run;
mod self_monitoring;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::cli::{Check, Cli, Command, Test, Tsdb};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long threads that still work are waited for after everything was drained or given up.
const LAST_THREADS: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    runtime::memory::take_small_pages();
    // Fails only where one is installed, and nothing was before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = match config::expand(std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        Err(error) => return output::failure(&error),
    };
    let parsed = Cli::command().try_get_matches_from(arguments);
    let (cli, matches) = match parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches))) {
        Ok(parsed) => parsed,
        Err(error) => return output::usage(&error),
    };
    match execute(cli.command, &matches) {
        Ok(code) => code,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => output::failure(&error),
    }
}

fn execute(command: Command, matches: &clap::ArgMatches) -> anyhow::Result<ExitCode> {
    let client = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build()
    };
    match command {
        Command::Run(mut args) => {
            let source = leaf(matches).value_source("alerting_external_url");
            args.alerting_external_url_is_given = source != Some(clap::parser::ValueSource::DefaultValue);
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let ended = runtime.block_on(run::run(*args));
            runtime.shutdown_timeout(LAST_THREADS);
            ended
        }
        Command::Check(Check::Config(args)) => commands::check::config(&args, leaf(matches)),
        Command::Check(Check::Rules(args)) => commands::check::rules(&args),
        Command::Test(Test::Rules(args)) => commands::test::rules(&args),
        Command::Query(args) => client()?.block_on(commands::query::query(&args)),
        Command::Queries(args) => client()?.block_on(commands::queries::queries(&args)),
        Command::Send(args) => client()?.block_on(commands::send::send(&args)),
        Command::Rules(args) => client()?.block_on(commands::rules::rules(&args)),
        Command::Demo(args) => client()?.block_on(commands::demo::demo(&args)),
        Command::Verify(args) => client()?.block_on(commands::verify::verify(&args)),
        Command::Tsdb(Tsdb::Snapshot(args)) => client()?.block_on(commands::tsdb::snapshot(&args)),
        Command::Tsdb(command) => commands::tsdb::offline(command),
        Command::Version => commands::version(),
        Command::DocsCli => commands::docs::docs(),
    }
}

/// The matches of the innermost command.
fn leaf(matches: &clap::ArgMatches) -> &clap::ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| leaf(inner))
}
