//! The words of `weir tsdb`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::{Server, duration};

#[derive(Debug, Subcommand)]
pub(crate) enum Tsdb {
    /// Check every byte of a stopped Weir's storage, or of a snapshot
    #[command(after_help = "Examples:\n  weir tsdb verify --data /var/lib/weir\n  \
                            weir tsdb verify --data /var/lib/weir/snapshots/20261125T170000Z-0011223344556677\n\n\
                            Exit status: 0 all is sound, 1 something is not: each fault with its file and place.")]
    Verify(Data),

    /// Show what is in a stopped Weir's storage, or in a snapshot, and what makes it large
    #[command(
        after_help = "Examples:\n  weir tsdb inspect --data /var/lib/weir\n  weir tsdb inspect --data /var/lib/weir --json --top 100"
    )]
    Inspect(InspectArgs),

    /// Take what can be read of damaged blocks to new ones; the originals stay beside them as *.damaged
    #[command(after_help = "Exit status: 0 nothing was lost, 1 something was: each series with its time.")]
    Repair(RepairArgs),

    /// Read the blocks of a Prometheus 2 or 3 into the storage of a stopped Weir
    #[command(after_help = IMPORT_HELP)]
    ImportPrometheus(ImportArgs),

    /// Write the samples of a stopped Weir, or of a snapshot, as blocks that Prometheus and promtool read
    #[command(after_help = EXPORT_HELP)]
    ExportPrometheus(ExportArgs),

    /// Have a running Weir make a snapshot, in its data directory; it needs --enable-admin-api
    #[command(
        after_help = "Examples:\n  weir tsdb snapshot\n  weir tsdb snapshot --url http://weir-storage-0:9360 --token-file token\n\n\
                            Prints the snapshot's name: it is the folder snapshots/NAME in the data directory."
    )]
    Snapshot(SnapshotArgs),

    /// Lay a snapshot out as the storage of a stopped Weir
    #[command(
        after_help = "Example:\n  weir tsdb restore /var/lib/weir/snapshots/20261125T170000Z-0011223344556677 --data /var/lib/weir\n\n\
                            What is restored reads the log from its beginning when it is started."
    )]
    Restore(RestoreArgs),
}

const IMPORT_HELP: &str = "Examples:
  weir tsdb import-prometheus /var/lib/prometheus --data /var/lib/weir
  weir tsdb import-prometheus /var/lib/prometheus/snapshots/20261125T170000Z-0011223344556677 --data /var/lib/weir

Its newest hours a Prometheus has in its write-ahead log and in no block: a snapshot of its own admin API has them too.
What is there already is not added again, so an import can be repeated. Samples older than --retention expire when Weir starts.
Exit status: 0 all was read, 1 something is damaged: it is named, and the rest was read.";

const EXPORT_HELP: &str = "Examples:
  weir tsdb export-prometheus --data /var/lib/weir --out blocks
  weir tsdb export-prometheus --data /var/lib/weir --out blocks --start 2026-11-01T00:00:00Z --match '{job=\"node\"}'
  promtool tsdb list blocks

Times are Unix seconds, RFC 3339, or how long ago: -90s, -1h30m.
Exit status: 0 all was written, 1 something is damaged: it is named, and the rest was written.";

/// Which directory is worked on.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Data {
    /// Data directory of Weir, or a snapshot: storage is its subfolder storage
    #[arg(long, env = "WEIR_DATA", default_value = "./data", value_name = "DIR")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) data: Data,

    /// How many metric names and labels are listed
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) top: usize,

    /// Print all of it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Span {
    /// As `weir run` has it: blocks are cut at multiples of this
    #[arg(long, env = "WEIR_STORAGE_BLOCK_SPAN", default_value = "1d", value_name = "DURATION", value_parser = longer_than_0)]
    pub(crate) storage_block_span: Duration,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    pub(crate) data: Data,

    #[command(flatten)]
    pub(crate) span: Span,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct ImportArgs {
    /// Data directory of a Prometheus that is stopped, or one of its snapshots
    #[arg(value_name = "PROMETHEUS_DIR")]
    pub(crate) from: PathBuf,

    #[command(flatten)]
    pub(crate) data: Data,

    #[command(flatten)]
    pub(crate) span: Span,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) data: Data,

    /// Folder for the blocks, created if absent
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Only samples from this time on
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) start: Option<String>,

    /// Only samples up to this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) end: Option<String>,

    /// Only series that this selector finds; may be given several times
    #[arg(long = "match", value_name = "SELECTOR")]
    pub(crate) matches: Vec<String>,

    /// Length of a block; blocks begin at multiples of it
    #[arg(long, default_value = "2h", value_name = "DURATION", value_parser = longer_than_0)]
    pub(crate) block_span: Duration,

    /// Leave start times out, for a Prometheus that does not know the encodings of chunks which have them
    #[arg(long)]
    pub(crate) no_start_times: bool,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    pub(crate) server: Server,

    /// File with the token, where storage is a process of its own and wants one
    #[arg(long, env = "WEIR_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Leave out what is in memory and not yet in blocks
    #[arg(long)]
    pub(crate) skip_head: bool,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct RestoreArgs {
    /// The snapshot: the folder that has the subfolder storage
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: PathBuf,

    /// Data directory of a Weir that is stopped; it has no storage yet
    #[arg(long, env = "WEIR_DATA", default_value = "./data", value_name = "DIR")]
    pub(crate) data: PathBuf,
}

fn longer_than_0(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    if length.is_zero() { Err("must be longer than 0".to_owned()) } else { Ok(length) }
}
