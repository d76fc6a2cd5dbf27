//! The commands and their words. What a flag of a component means is said in that component.

mod tsdb;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

pub(crate) use tsdb::{Data, ExportArgs, ImportArgs, InspectArgs, RepairArgs, RestoreArgs, SnapshotArgs, Tsdb};

/// Where a client command looks for Weir when nothing else is said.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:9360";

/// A metrics platform in one program: takes samples in, keeps them, answers PromQL, watches alert rules.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Begin with `weir run`; then, in another terminal, `weir query up`.\n\n\
                  Exit status: 0 it went well, 1 it did not, 2 the command line cannot be read."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process, in the foreground, until SIGTERM
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),

    /// Check a configuration or rules without running anything
    #[command(subcommand)]
    Check(Check),

    /// Test rules over series that are given, without running anything
    #[command(subcommand)]
    Test(Test),

    /// Ask a running Weir with PromQL
    #[command(after_help = QUERY_EXAMPLES)]
    Query(QueryArgs),

    /// Show the queries that a running Weir answers now, those of late, or cancel one
    #[command(after_help = QUERIES_EXAMPLES, args_conflicts_with_subcommands = true)]
    Queries(QueriesArgs),

    /// Send samples from a file to a running Weir
    #[command(after_help = SEND_EXAMPLES)]
    Send(SendArgs),

    /// Show the alert rules of a running Weir and their states
    #[command(after_help = "Examples:\n  weir rules\n  weir rules -o json --url http://weir.example:9360")]
    Rules(RulesArgs),

    /// Drive a running Weir like a newcomer: load, queries, an alert that fires and resolves
    #[command(
        after_help = "Start one first, with the rule that the demo makes fire:\n  weir run --rules manifests/examples"
    )]
    Demo(DemoArgs),

    /// Send a sample, and wait until the alert that it fires has been received and resolved
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyArgs),

    /// Check, inspect, repair, import, export, snapshot and restore what storage keeps
    #[command(subcommand)]
    Tsdb(Tsdb),

    /// Print the version
    Version,

    /// Print docs/cli.md
    #[command(hide = true)]
    DocsCli,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Check {
    /// Check the flags, environment and file that `weir run` would be given, and show what they amount to
    #[command(
        after_help = "Examples:\n  weir check config --config weir.yaml\n  weir check config --data /var/lib/weir --retention 30d"
    )]
    Config(Box<RunArgs>),

    /// Check rule files: AlertRule and NotificationChannel documents, and Prometheus' own
    #[command(after_help = "Examples:\n  weir check rules manifests/examples\n  weir check rules rules.yml\n\n\
                            Exit status: 0 all rules are good, 1 at least one is not.")]
    Rules(CheckRulesArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Test {
    /// Run unit tests of rules, in the format of promtool test rules; docs/rule-tests.md
    #[command(
        after_help = "Examples:\n  weir test rules tests/*.yml\n  weir test rules --run 'disk|memory' --junit report.xml tests.yml\n\n\
                            Exit status: 0 all tests pass, 1 at least one does not."
    )]
    Rules(TestRulesArgs),
}

const RUN_EXAMPLES: &str = "Examples:
  weir run
  weir run --data /var/lib/weir --retention 30d --rules /etc/weir/rules
  weir run --listen 0.0.0.0:9360 --config /etc/weir.yaml

A configuration file has a flag's name without its dashes as key:
  data: /var/lib/weir
  retention: 30d

A flag wins over its environment variable, and that over the file.

Once it runs:
  curl http://127.0.0.1:9360/metrics -d '{\"name\":\"cpu_usage\",\"value\":85}'
  weir query cpu_usage";

const QUERY_EXAMPLES: &str = "Examples:
  weir query up
  weir query 'sum by (job) (rate(weir_http_requests_total[5m]))'
  weir query --start -1h --step 5m 'cpu_usage'
  weir query -o csv --time 2026-11-24T12:00:00Z 'count({__name__=~\".+\"})'
  weir query --analyze --start -1d 'sum by (job) (rate(weir_http_requests_total[5m]))'

Times are Unix seconds, RFC 3339, or how long ago: -90s, -1h30m.";

const QUERIES_EXAMPLES: &str = "Examples:
  weir queries
  weir queries --top
  weir queries cancel 9b1c0f27d4a8e635

AGE is the time since a query came. --top shows the queries of the last ten minutes: those that are asked most often, those that take longest,
and those that took longest altogether.";

const SEND_EXAMPLES: &str = "Examples:
  curl -s http://localhost:9100/metrics | weir send -
  weir send samples.jsonl
  echo '{\"name\":\"cpu_usage\",\"value\":85,\"labels\":{\"host\":\"a\"}}' | weir send -

A file holds Prometheus' text exposition format, or Weir's JSON: one object, {\"metrics\":[…]}, or one object a line.
Exit status: 0 every sample was accepted, 1 at least one was not.";

const VERIFY_HELP: &str = "What `helm test` runs. Weir has to have a rule `weir_verify{…} > 0`, the labels being those of --label, whose channel
leads to --webhook.

Example:
  weir verify --webhook 0.0.0.0:9361 --label release=weir

Exit status: 0 the sample was acknowledged, queried, and told as firing and as resolved; 1 it was not, with the step that failed.";

/// `weir run`. Flags of the process are here; each component brings its own.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct RunArgs {
    /// Address of every HTTP API; port 0 takes one that is free
    #[arg(long, env = "WEIR_LISTEN", default_value = "127.0.0.1:9360", value_name = "HOST:PORT")]
    pub(crate) listen: String,

    /// Directory of all state, created if absent; one process at a time
    #[arg(long, env = "WEIR_DATA", default_value = "./data", value_name = "DIR")]
    pub(crate) data: PathBuf,

    /// File of flags: YAML, with the names of flags as keys
    #[arg(long, env = "WEIR_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Experimental features of Prometheus to switch on, by its names, separated by commas
    #[arg(long, env = "WEIR_ENABLE_FEATURE", value_name = "A,B", default_value = "", hide_default_value = true)]
    pub(crate) enable_feature: String,

    /// File with the token that a controller in Kubernetes must show to hand rules over, read again when it changes; anyone may without it
    #[arg(long, env = "WEIR_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// How often Weir stores its own metrics, as job="weir/…"; 0s stores none
    #[arg(long, env = "WEIR_SELF_MONITORING_INTERVAL", value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) self_monitoring_interval: Duration,

    #[command(flatten)]
    pub(crate) memory: runtime::memory::Args,

    #[command(flatten, next_help_heading = "Logs")]
    pub(crate) logs: runtime::logs::Args,

    #[command(flatten, next_help_heading = "Ingest")]
    pub(crate) ingest: ingest::Args,

    #[command(flatten, next_help_heading = "Queue")]
    pub(crate) queue: queue::Args,

    #[command(flatten, next_help_heading = "Storage")]
    pub(crate) storage: storage::Args,

    #[command(flatten, next_help_heading = "Query")]
    pub(crate) query: query::Args,

    #[command(flatten, next_help_heading = "Alerting")]
    pub(crate) alerting: alerting::Args,

    /// Whether the address in notifications was given; it is that of the listener otherwise.
    #[arg(skip)]
    pub(crate) alerting_external_url_is_given: bool,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct CheckRulesArgs {
    /// Rule files, and folders of them
    #[arg(required = true, value_name = "FILE|DIR")]
    pub(crate) paths: Vec<PathBuf>,

    /// Experimental features of Prometheus that `weir run` will have, by its names, separated by commas
    #[arg(long, env = "WEIR_ENABLE_FEATURE", value_name = "A,B", default_value = "", hide_default_value = true)]
    pub(crate) enable_feature: String,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct TestRulesArgs {
    /// Files of tests
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Run only tests whose names match the regular expression; may be given several times
    #[arg(long, value_name = "REGEX")]
    pub(crate) run: Vec<String>,

    /// Show alerts that differ as one text, in colours: red is missing, green was not expected, yellow is another value
    #[arg(long)]
    pub(crate) diff: bool,
    /// Tell when each test begins, all series that it has in the end, and how long it took
    #[arg(long)]
    pub(crate) debug: bool,

    /// Write the results as JUnit's XML
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,

    /// Let rule files in Prometheus' format have fields that are not known
    #[arg(long)]
    pub(crate) ignore_unknown_fields: bool,

    /// Experimental features of Prometheus that `weir run` will have, by its names, separated by commas
    #[arg(long, env = "WEIR_ENABLE_FEATURE", value_name = "A,B", default_value = "", hide_default_value = true)]
    pub(crate) enable_feature: String,
}

/// Which Weir a client command talks to.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Server {
    /// Address of a running Weir
    #[arg(long, env = "WEIR_URL", default_value = DEFAULT_URL, value_name = "URL")]
    pub(crate) url: String,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    Table,
    /// The server's answer as it came.
    Json,
    /// Comma-separated values with a header.
    Csv,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct QueryArgs {
    /// A PromQL expression
    #[arg(value_name = "EXPR")]
    pub(crate) expr: String,

    /// Evaluate at this time instead of now
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with_all = ["start", "end", "step"])]
    pub(crate) time: Option<String>,

    /// Evaluate over a range that begins here
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) start: Option<String>,

    /// End of the range; now where it is not given
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, requires = "start")]
    pub(crate) end: Option<String>,

    /// Distance between two evaluations of the range
    #[arg(long, value_name = "DURATION", default_value = "1m", requires = "start")]
    pub(crate) step: String,

    /// Show how each part would be evaluated, and do not evaluate it
    #[arg(long, conflicts_with = "analyze")]
    pub(crate) explain: bool,

    /// Evaluate it, and show what each part took instead of the answer, which is beside it in JSON
    #[arg(long)]
    pub(crate) analyze: bool,

    /// How the answer is written
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Format,

    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct QueriesArgs {
    #[command(subcommand)]
    pub(crate) action: Option<QueriesAction>,

    /// Show the queries of late that are asked most often or take longest, instead of those that are there now
    #[arg(long)]
    pub(crate) top: bool,

    /// How the answer is written
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Format,

    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum QueriesAction {
    /// Cancel a query that is there now
    #[command(after_help = "Who asked for the query is told that it was cancelled by request.")]
    Cancel {
        /// The ID that `weir queries` shows
        #[arg(value_name = "ID")]
        id: String,

        #[command(flatten)]
        server: Server,
    },
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Content {
    /// JSON where the first character is { or [, else text.
    Auto,
    /// Prometheus' text exposition format.
    Text,
    /// Weir's JSON, whole or one object a line.
    Json,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct SendArgs {
    /// The file; - reads standard input
    #[arg(value_name = "FILE|-")]
    pub(crate) file: PathBuf,

    /// What the file holds
    #[arg(long, value_enum, default_value = "auto", value_name = "FORMAT")]
    pub(crate) format: Content,

    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct RulesArgs {
    /// How the answer is written
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Format,

    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct DemoArgs {
    /// Where the demo listens for notifications; the channel in manifests/examples/demo.yaml sends them here
    #[arg(long, default_value = "127.0.0.1:9361", value_name = "HOST:PORT")]
    pub(crate) webhook: String,

    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct VerifyArgs {
    /// Where samples are sent
    #[arg(long, env = "WEIR_INGEST_URL", default_value = DEFAULT_URL, value_name = "URL")]
    pub(crate) ingest_url: String,

    /// Where they are asked for
    #[arg(long, env = "WEIR_QUERY_URL", default_value = DEFAULT_URL, value_name = "URL")]
    pub(crate) query_url: String,

    /// Where notifications are listened for
    #[arg(long, default_value = "127.0.0.1:9361", value_name = "HOST:PORT")]
    pub(crate) webhook: String,

    /// A label of the sample, as the rule selects it; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,

    /// How long all of it may take
    #[arg(long, default_value = "2m", value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Duration,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("not NAME=VALUE".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let ms = model::time::parse_duration_ms(text).map_err(|e| e.to_string())?;
    Ok(Duration::from_millis(ms.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_agree_with_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_run_has_its_environment_variable() {
        let command = Cli::command();
        let run = command.find_subcommand("run").expect("there");
        for arg in run.get_arguments().filter(|a| !matches!(a.get_id().as_str(), "help" | "version")) {
            let long = arg.get_long().expect("no positional arguments");
            let variable = format!("WEIR_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().and_then(|v| v.to_str()), Some(variable.as_str()), "--{long}");
            assert!(arg.get_help().is_some(), "--{long} has no help");
        }
    }

    #[test]
    fn a_flag_that_weir_does_not_have_is_refused_by_name() {
        let error = Cli::try_parse_from(["weir", "run", "--scrape-config=x"]).expect_err("unknown").to_string();
        assert!(error.contains("unexpected argument '--scrape-config'"), "{error}");
    }
}
