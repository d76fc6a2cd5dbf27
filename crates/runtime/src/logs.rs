//! Logs to standard error, for people or for machines.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Configuration of logs.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// What is logged: error, warn, info, debug or trace, also by module, such as info,queue=debug
    #[arg(long, env = "WEIR_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,

    /// How it is logged
    #[arg(long, env = "WEIR_LOG_FORMAT", default_value = "human", value_name = "FORMAT")]
    pub log_format: Format,
}

/// Starts logging; once a process. Fails where the level cannot be read.
pub fn init(args: &Args) -> Result<(), String> {
    let filter = EnvFilter::try_new(&args.log_level).map_err(|e| format!("--log-level {:?}: {e}", args.log_level))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    let set = match args.log_format {
        Format::Human => logs.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        Format::Json => logs.json().flatten_event(true).try_init(),
    };
    set.map_err(|e| e.to_string())
}
