//! Storage as a process of its own, which reads a log over the Kafka protocol and serves series to query and alerting. Everything but the
//! wiring is in the library.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use model::Budget;
use queue::kafka;
use runtime::memory::Part;
use runtime::process;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

/// Keeps the samples of a share of the log, and serves them to query and alerting
#[derive(Debug, Parser)]
#[command(name = "weir-storage", version)]
struct Command {
    /// Folder for the blocks, which are in its subfolder storage
    #[arg(long, env = "WEIR_DATA", value_name = "DIR")]
    data: PathBuf,

    #[command(flatten)]
    process: process::Args,

    #[command(flatten, next_help_heading = "Log")]
    queue: kafka::Args,

    #[command(flatten, next_help_heading = "Storage")]
    storage: storage::Args,

    /// Experimental features of Prometheus to switch on, by its names, separated by commas
    #[arg(long, env = "WEIR_ENABLE_FEATURE", value_name = "A,B", default_value = "", hide_default_value = true)]
    enable_feature: String,
}

/// Among which the memory of the process is shared.
const PARTS: [Part; 5] = [Part::Head, Part::Writing, Part::Index, Part::Log, Part::Queries];

fn main() -> ExitCode {
    let args = Command::parse();
    process::run("storage", env!("CARGO_PKG_VERSION"), args.process, async |starting| {
        let features = promql::Features::from_names(&args.enable_feature)?;
        let (registry, token) = (starting.registry.clone(), starting.token.clone());
        let config = kafka::Config::new(args.queue, token.clone());
        let log = Arc::new(kafka::Client::connect(config, &registry).await?);
        let shares = starting.memory.shares(&storage::memory_parts(&PARTS, &args.storage));
        let memory = storage::Memory::of(&Budget::new("the process", shares.all()), &shares);
        let storage_args = storage::Args { dir: args.data.join("storage"), features, memory, ..args.storage };
        let storage = storage::start(storage_args, storage::Deps { log }, &registry, starting.shutdown()).await?;
        starting.push(storage.serve(token, &registry)?);
        Ok(())
    })
}
